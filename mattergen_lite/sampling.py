"""From noise to crystals: two flat solvers and the loop that feeds them.

Sample i is a function of (seed, i) alone: it draws its atom count, its targets and all of its
noise from a generator of its own, so batch size, order and neighbours do not matter, and any one
sample of a large run can be made again by itself.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from mattergen_lite.constraints import Constraints
from mattergen_lite.crystal import CrystalBatch, Prediction, concatenate, node_mask
from mattergen_lite.diffusion.joint import Latent
from mattergen_lite.elements import DESCRIPTOR_DIM
from mattergen_lite.geometry import wrap_difference
from mattergen_lite.inpainting import Known
from mattergen_lite.io import LearnedValue, StructureRecord, to_structures
from mattergen_lite.model import CrystalDiffusion
from mattergen_lite.patterns import SpaceGroups
from mattergen_lite.probe import Oracle
from mattergen_lite.properties import Conditions
from mattergen_lite.shapes import Bool, Float, Int
from mattergen_lite.targets import PropertyTarget, TargetValue, draw_conditions, target_cells
from mattergen_lite.wyckoff import Symmetry, WyckoffPattern

Solver = Literal["multistep", "heun"]
STEPS_AHEAD = 16  # of which noise is drawn at once

Displacement = Callable[[Latent, float], Latent]  # (noisy crystals, sigma) -> denoised minus noisy
NoiseSource = Callable[[], Latent]


@runtime_checkable
class Steering(Protocol):
    """Something that bends the model's displacement towards a target, such as a probe."""

    property: str
    target: float  # in the unit of the property

    def __call__(self, noisy: Latent, sigma: Float[Tensor, "B"], step: Latent) -> Latent:
        """The model's displacement `step` from `noisy`, steered."""


@dataclass(frozen=True, kw_only=True)
class SamplerOptions:
    """How the reverse process is solved: `steps` network calls (multistep) or 2 `steps` - 1."""

    solver: Solver = "multistep"
    steps: int = 50
    churn: float = 8.0  # noise put back at each step: 0 = none, 1 = the plain reverse diffusion
    temperature: float = 0.5  # of that noise in coordinates and cell: < 1 is likelier, less varied
    batch_size: int = 64  # crystals denoised together

    def __post_init__(self) -> None:
        if self.steps < 2:
            raise ValueError(f"steps is {self.steps}: expected at least 2")
        if self.churn < 0:
            raise ValueError(f"churn is {self.churn}: expected 0 or more")
        if self.temperature < 0:
            raise ValueError(f"temperature is {self.temperature}: expected 0 or more")
        if self.batch_size < 1:
            raise ValueError(f"batch_size is {self.batch_size}: expected at least 1")


@dataclass(frozen=True, kw_only=True)
class Target:
    """What is asked of every sample: properties are guided, constraints are exact."""

    properties: tuple[PropertyTarget, ...] = ()
    constraints: Constraints = field(default_factory=Constraints)
    space_groups: SpaceGroups | None = None  # of the patterns that samples keep; None = as it comes
    steering: tuple[Steering, ...] = ()  # by probes, added to the model's displacement


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Crystals and what each was asked to be."""

    crystals: CrystalBatch  # double precision, in the host's cell, if there is a host
    targets: list[dict[str, TargetValue]]  # one a crystal: property -> value it was conditioned on

    def __len__(self) -> int:
        return len(self.crystals)


@dataclass(frozen=True, kw_only=True)
class Starts:
    """What each of B samples has drawn before any noise."""

    rngs: Sequence[torch.Generator]
    num_atoms: Int[Tensor, "B"]
    conditions: Conditions | None
    patterns: Sequence[WyckoffPattern] | None  # None: symmetry as it comes

    def __getitem__(self, index: Int[Tensor, "I"]) -> "Starts":
        return Starts(
            rngs=[self.rngs[i] for i in index],
            num_atoms=self.num_atoms[index],
            conditions=None if self.conditions is None else self.conditions[index],
            patterns=None if self.patterns is None else [self.patterns[i] for i in index],
        )


def short_way(a: Latent, b: Latent) -> Latent:
    """a - b, the short way round for coordinates."""
    return replace(
        a,
        types=a.types - b.types,
        coords=wrap_difference(a.coords - b.coords),
        shape=a.shape - b.shape,
    )


def solve_heun(
    displacement: Displacement, x: Latent, sigmas: Sequence[float], noise: NoiseSource, churn: float
) -> Iterator[Latent]:
    """EDM stochastic sampler: algorithm 2 of Karras et al. (2022), S_noise = 1.003.

    Noise is raised by a factor 1 + 0.1 churn before each step, then a second-order Heun step is
    taken. Yields the state after each step.
    """
    for sigma, sigma_next in pairwise(sigmas):
        raised = sigma * (1 + 0.1 * churn)
        x = x.shifted(noise(), 1.003 * (raised**2 - sigma**2) ** 0.5)
        slope = displacement(x, raised)
        step = (raised - sigma_next) / raised
        proposal = x.shifted(slope, step)
        if sigma_next > 0:
            correction = displacement(proposal, sigma_next)
            x = x.shifted(slope, step / 2).shifted(
                correction, (raised - sigma_next) / sigma_next / 2
            )
        else:
            x = proposal
        yield x


def solve_multistep(
    displacement: Displacement,
    x: Latent,
    sigmas: Sequence[float],
    noise: NoiseSource,
    churn: float,
    difference: Callable[[Latent, Latent], Latent] = short_way,
) -> Iterator[Latent]:
    """DPM-Solver++(2M) for the reverse SDE: Lu et al. (2022), arXiv 2211.01095, eq. 14.

    One network call a step, second order by remembering the last denoised estimate. `churn` scales
    the noise of the SDE: 1 is the reverse diffusion, 0 the probability-flow ODE. `difference` says
    how two denoised estimates differ. Yields the state after each step.
    """
    last_denoised, last_h = None, None
    for sigma, sigma_next in pairwise(sigmas):
        step = displacement(x, sigma)
        denoised = x.shifted(step, 1.0)
        if sigma_next == 0:
            yield denoised
            return
        h = np.log(sigma / sigma_next)
        decay = np.exp(-(1 + churn) * h)
        moved = x.shifted(step, 1 - decay)
        if last_denoised is not None:
            moved = moved.shifted(
                difference(denoised, last_denoised), 0.5 * (1 - decay) * h / last_h
            )
        x = moved.shifted(noise(), sigma_next * (1 - np.exp(-2 * churn * h)) ** 0.5)
        last_denoised, last_h = denoised, h
        yield x


class SampleNoise:
    """Standard normal noise for a padded batch, each crystal from its own generator."""

    def __init__(self, rngs: Sequence[torch.Generator], mask: Bool[Tensor, "B N"]) -> None:
        self.rngs = rngs
        self.mask = mask
        self.num_atoms = mask.sum(-1).tolist()
        self.values = self._drawn()

    def __call__(self) -> Latent:
        """The next noise of every crystal."""
        values = next(self.values)
        atoms = values[:, 6:].unflatten(-1, (-1, DESCRIPTOR_DIM + 3))
        return Latent(
            types=atoms[..., :DESCRIPTOR_DIM],
            coords=atoms[..., DESCRIPTOR_DIM:],
            shape=values[:, :6],
            mask=self.mask,
        )

    def _drawn(self) -> Iterator[Float[Tensor, "B F"]]:
        """Noise step by step, drawn for several at once: the generators are slow to ask."""
        batch, width = self.mask.shape
        while True:
            values = torch.zeros(STEPS_AHEAD, batch, 6 + width * (DESCRIPTOR_DIM + 3))
            for i, (rng, count) in enumerate(zip(self.rngs, self.num_atoms, strict=True)):
                size = 6 + count * (DESCRIPTOR_DIM + 3)
                values[:, i, :size] = torch.randn(STEPS_AHEAD, size, generator=rng)
            yield from values.to(self.mask.device)


def tempered(noise: NoiseSource, temperature: float) -> NoiseSource:
    """The same noise with another spread in coordinates and cell; elements keep their variety."""

    def draw() -> Latent:
        drawn = noise()
        return replace(drawn, coords=temperature * drawn.coords, shape=temperature * drawn.shape)

    return draw


def sample_rngs(seed: int, indices: Sequence[int]) -> list[torch.Generator]:
    """One generator per sample, a function of (seed, index)."""
    states = [
        np.random.SeedSequence([seed, index]).generate_state(1, np.uint64)[0] for index in indices
    ]
    return [torch.Generator().manual_seed(int(state >> 1)) for state in states]


def draw_num_atoms(histogram: Sequence[int], rngs: Sequence[torch.Generator]) -> Int[Tensor, "B"]:
    """Atom counts with the frequencies of the histogram, one draw from each generator."""
    weights = torch.tensor(histogram, dtype=torch.float)
    draws = [torch.multinomial(weights, 1, generator=rng) for rng in rngs]
    return torch.cat(draws) + 1


def guided_calls(
    targets: Sequence[PropertyTarget], conditions: Conditions | None
) -> list[tuple[float, Conditions | None]]:
    """Weights and conditions of the network calls whose weighted sum is the guided prediction.

    Classifier-free guidance (Ho and Salimans 2022, arXiv 2207.12598) composed over properties (Liu
    et al. 2022, arXiv 2206.01714, eq. 11): `uncond + sum_g w_g (cond_g - uncond)`, where g are the
    groups of properties that share a weight. One weight is one joint call beside the unconditional
    one; a call whose weight is 0 is not made, so guidance 1 takes a single call, and so does 0.
    """
    weights = sorted({target.guidance for target in targets} - {0.0})
    groups = {w: [t.definition.name for t in targets if t.guidance == w] for w in weights}
    calls = [(weight, conditions.only(names)) for weight, names in groups.items()]
    unconditional = 1.0 - sum(weights)
    return calls if calls and abs(unconditional) < 1e-9 else [*calls, (unconditional, None)]


def guided_displacement(
    model: CrystalDiffusion,
    calls: Sequence[tuple[float, Conditions | None]],
    allowed: Bool[Tensor, "B N Z"],
    steering: Sequence[Steering],
    known: Known | Symmetry | None,
) -> Displacement:
    """The model as solvers see it: guided, within the allowed elements, true where it is known.

    Predictions are mixed as they leave the network, on element logits, so that types remain a
    distribution over allowed elements.
    """

    def displacement(x: Latent, sigma: float) -> Latent:
        level = x.shape.new_full((len(x.mask),), sigma)
        parts = [(weight, model.predict(x, level, asked)) for weight, asked in calls]
        step = model.diffusion.displacement(Prediction.combined(parts), x, level, allowed)
        for steer in steering:
            step = steer(x, level, step)
        return step if known is None else known.corrected(step, x, sigma)

    return displacement


@torch.no_grad()  # not inference_mode: steering takes gradients of what is computed here
def sample_batch(
    model: CrystalDiffusion, starts: Starts, options: SamplerOptions, target: Target
) -> Iterator[CrystalBatch]:
    """Denoise one batch; yields what the crystals look like after each step, the result last.

    Args:
        model: A trained model.
        starts: What the samples have drawn; their sizes are ones that the constraints allow.
        options: Solver settings.
        target: What the samples should be.
    """
    device = model.diffusion.lattice.mean.device
    conditions = None if starts.conditions is None else starts.conditions.to(device)
    calls = guided_calls(target.properties, conditions)
    num_atoms = starts.num_atoms
    allowed = target.constraints.allowed(num_atoms, model.diffusion.allowed_elements).to(device)
    noise: NoiseSource = SampleNoise(starts.rngs, node_mask(num_atoms).to(device))
    known: Known | Symmetry | None = known_parts(model, target, num_atoms)
    sigmas = model.schedule.grid(options.steps).tolist()
    if starts.patterns is None:
        start, difference = model.diffusion.prior(noise(), sigmas[0]), short_way
    else:
        known = Symmetry.of(starts.patterns, model.diffusion.lattice)
        noise, allowed = known.noise(noise), known.allowed(allowed)
        start = known.start(model.diffusion.prior(noise(), sigmas[0]))
        difference = known.difference(short_way)
    denoiser = guided_displacement(model, calls, allowed, target.steering, known)
    multistep = partial(solve_multistep, difference=difference)
    solve = solve_heun if options.solver == "heun" else multistep
    cooler = tempered(noise, options.temperature)
    for state in solve(denoiser, start, sigmas, cooler, options.churn):
        yield model.diffusion.decode(state, allowed)


def known_parts(
    model: CrystalDiffusion, target: Target, num_atoms: Int[Tensor, "B"]
) -> Known | None:
    """What a host says about samples of these sizes; None without a host."""
    host = target.constraints.host
    if host is None:
        return None
    crystals = host.crystals(num_atoms).to(model.diffusion.lattice.mean.device)
    clean = model.diffusion.encode(crystals)
    return Known(
        coords=clean.coords,
        sites=crystals.atomic_numbers > 0,
        shape=clean.shape if host.fix_lattice else None,
    )


def starting_points(
    model: CrystalDiffusion, indices: Sequence[int], *, seed: int, target: Target
) -> Starts:
    """What each sample draws before any noise: its size or pattern, and its targets.

    Raises:
        ValueError: If no samples are asked for, or the model cannot fulfil the constraints.
    """
    if len(indices) < 1:
        raise ValueError(f"{len(indices)} samples: expected at least 1")
    constraints = target.constraints
    model.allowed(constraints.named_elements())
    histogram = model.config.atom_count_histogram
    counts = constraints.atom_counts(len(histogram))
    rngs = sample_rngs(seed, indices)
    patterns = None
    if target.space_groups is None:
        num_atoms = draw_num_atoms(restrict_histogram(histogram, counts), rngs)
    else:
        patterns = target.space_groups.draw(counts, constraints.pinned, rngs)
        num_atoms = torch.tensor([len(pattern.frac_coords) for pattern in patterns])
    return Starts(
        rngs=rngs,
        num_atoms=num_atoms,
        conditions=draw_conditions(target.properties, rngs),
        patterns=patterns,
    )


def follow(
    model: CrystalDiffusion, index: int, *, seed: int, options: SamplerOptions, target: Target
) -> Iterator[CrystalBatch]:
    """Generate one sample; yields what it looks like after each step, the last as `sample` has it.

    Args:
        model: A trained model, on the device to use.
        index: Number of the sample; with `seed` it fixes the crystal.
        seed: Seed of the whole run.
        options: Solver settings.
        target: What the sample should be.

    Raises:
        ValueError: If the model cannot fulfil the constraints.
    """
    starts = starting_points(model, [index], seed=seed, target=target)
    host = target.constraints.host
    for state in sample_batch(model, starts, options, target):
        crystal = state.to("cpu")
        yield crystal if host is None else host.restored(crystal)


def sample(
    model: CrystalDiffusion,
    indices: Sequence[int],
    *,
    seed: int,
    options: SamplerOptions,
    target: Target,
) -> Samples:
    """Generate the samples with the given indices, in their order.

    Args:
        model: A trained model, on the device to use.
        indices: Sample numbers; with `seed` they fix each crystal.
        seed: Seed of the whole run.
        options: Solver settings.
        target: What the samples should be.

    Raises:
        ValueError: If no samples are asked for, or the model cannot fulfil the constraints; nothing
            has been sampled then.
    """
    starts = starting_points(model, indices, seed=seed, target=target)
    constraints = target.constraints
    # Crystals of similar size share a batch, which saves padding.
    order = torch.argsort(starts.num_atoms, stable=True)
    finished: list[CrystalBatch] = []
    with tqdm(total=len(order) * options.steps, unit="step", desc="sampling", disable=None) as bar:
        for part in order.split(options.batch_size):
            for state in sample_batch(model, starts[part], options, target):
                bar.update(len(part))
                result = state
            finished.append(result.to("cpu"))
    crystals = concatenate(finished)[torch.argsort(order)]
    steered = {steer.property: steer.target for steer in target.steering}
    drawn = target_cells(target.properties, starts.conditions) or [{} for _ in indices]
    return Samples(
        crystals=crystals if constraints.host is None else constraints.host.restored(crystals),
        targets=[row | steered for row in drawn],
    )


def sample_records(
    model: CrystalDiffusion,
    indices: Sequence[int],
    num_at_once: int,
    *,
    seed: int,
    options: SamplerOptions,
    target: Target,
    oracles: Sequence[Oracle] = (),
) -> Iterator[list[StructureRecord]]:
    """Generate samples as named structures, so many at once, until the indices end.

    Args:
        model: A trained model, on the device to use.
        indices: Sample numbers, by which the samples are named.
        num_at_once: Length of each list but the last.
        seed: Seed of the whole run.
        options: Solver settings.
        target: What the samples should be.
        oracles: What measures properties of every sample.

    Raises:
        ValueError: As `sample` does, before anything has been sampled.
    """
    for start in range(0, max(len(indices), 1), max(num_at_once, 1)):
        part = indices[start : start + num_at_once]
        samples = sample(model, part, seed=seed, options=options, target=target)
        rows = zip(
            part,
            to_structures(samples.crystals),
            samples.targets,
            learned_values(oracles, samples.crystals),
            strict=True,
        )
        yield [
            StructureRecord(f"{index:06d}", structure, targets=asked, learned=learned)
            for index, structure, asked, learned in rows
        ]


def learned_values(
    oracles: Sequence[Oracle], crystals: CrystalBatch
) -> list[dict[str, LearnedValue]]:
    """What each oracle reads from every crystal, and how far it is wrong on average."""
    columns = {
        oracle.probe.definition.name: [
            LearnedValue(value, oracle.probe.held_out.mae)
            for value in oracle.probe.predict(oracle.model, crystals).tolist()
        ]
        for oracle in oracles
    }
    return [{name: values[row] for name, values in columns.items()} for row in range(len(crystals))]


def restrict_histogram(histogram: Sequence[int], counts: Collection[int]) -> list[int]:
    """The atom-count histogram at the given counts only; uniform there if none was ever seen."""
    inside = [seen if n in counts else 0 for n, seen in enumerate(histogram, start=1)]
    return inside if any(inside) else [int(n in counts) for n in range(1, len(histogram) + 1)]
