"""From noise to crystals: two flat solvers and the loop that feeds them.

Sample i is a function of (seed, i) alone: it draws its atom count, its targets and all of its
noise from a generator of its own, so batch size, order and neighbours do not matter, and any one
sample of a large run can be made again by itself.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from mattergen_lite.crystal import CrystalBatch, Prediction, concatenate
from mattergen_lite.diffusion.joint import State
from mattergen_lite.drafting.draft import Draft, DraftBatch
from mattergen_lite.drafting.drafting import Drafting
from mattergen_lite.elements import DESCRIPTOR_DIM
from mattergen_lite.geometry import wrap_difference
from mattergen_lite.io.records import LearnedValue, StructureRecord, to_structures
from mattergen_lite.model import CrystalDiffusion
from mattergen_lite.options.sampler import SamplerOptions
from mattergen_lite.probe.probe import Oracle
from mattergen_lite.properties import Conditions
from mattergen_lite.request.targets import (
    PropertyTarget,
    TargetValue,
    draw_conditions,
    target_cells,
)
from mattergen_lite.sampling.inpainting import Known
from mattergen_lite.shapes import Bool, Float, Int
from mattergen_lite.symmetry.templates import OrbitCrystals, Templates

STEPS_AHEAD = 16  # of which noise is drawn at once

Displacement = Callable[[State, float], State]  # (noisy crystals, sigma) -> denoised minus noisy
NoiseSource = Callable[[], State]


@runtime_checkable
class Steering(Protocol):
    """Something that bends the model's displacement towards a target, such as a probe."""

    property: str
    target: float  # in the unit of the property

    def __call__(
        self, noisy: State, sigma: Float[Tensor, "B"], templates: Templates, step: State
    ) -> State:
        """The model's displacement `step` from `noisy`, steered."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """What is asked of every sample: properties are guided, what drafts say is exact."""

    properties: tuple[PropertyTarget, ...] = ()
    wishes: tuple[PropertyTarget, ...] = ()  # guided too; samples are not measured by them
    drafting: Drafting = field(default_factory=Drafting)  # elements, sizes, templates, known sites
    steering: tuple[Steering, ...] = ()  # by probes, added to the model's displacement


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Crystals and what each was asked to be."""

    crystals: CrystalBatch  # double precision, in the host's cell, if there is a host
    orbits: list[OrbitCrystals]  # the same as orbits, one batch each
    targets: list[dict[str, TargetValue]]  # one a crystal: property -> value it was conditioned on

    def __len__(self) -> int:
        return len(self.crystals)


@dataclass(frozen=True, kw_only=True)
class Starts:
    """What each of B samples has drawn before any noise."""

    rngs: Sequence[torch.Generator]
    drafts: Sequence[Draft]
    conditions: Conditions | None

    def __getitem__(self, index: Int[Tensor, "I"]) -> "Starts":
        return Starts(
            rngs=[self.rngs[i] for i in index],
            drafts=[self.drafts[i] for i in index],
            conditions=None if self.conditions is None else self.conditions[index],
        )


def short_way(a: State, b: State) -> State:
    """a - b, the short way round for coordinates."""
    return State(
        types=a.types - b.types,
        free_coords=wrap_difference(a.free_coords - b.free_coords),
        cell=a.cell - b.cell,
    )


def solve_heun(
    displacement: Displacement, x: State, sigmas: Sequence[float], noise: NoiseSource, churn: float
) -> Iterator[State]:
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
    x: State,
    sigmas: Sequence[float],
    noise: NoiseSource,
    churn: float,
) -> Iterator[State]:
    """DPM-Solver++(2M) for the reverse SDE: Lu et al. (2022), arXiv 2211.01095, eq. 14.

    One network call a step, second order by remembering the last denoised estimate. `churn` scales
    the noise of the SDE: 1 is the reverse diffusion, 0 the probability-flow ODE. Yields the state
    after each step.
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
                short_way(denoised, last_denoised), 0.5 * (1 - decay) * h / last_h
            )
        x = moved.shifted(noise(), sigma_next * (1 - np.exp(-2 * churn * h)) ** 0.5)
        last_denoised, last_h = denoised, h
        yield x


class SampleNoise:
    """Standard normal numbers for a padded batch, each crystal from its own generator."""

    def __init__(self, rngs: Sequence[torch.Generator], mask: Bool[Tensor, "B O"]) -> None:
        self.rngs = rngs
        self.mask = mask
        self.num_orbits = mask.sum(-1).tolist()
        self.values = self._drawn()

    def __call__(self) -> State:
        """The next numbers of every crystal."""
        values = next(self.values)
        orbits = values[:, 6:].unflatten(-1, (-1, DESCRIPTOR_DIM + 3))
        return State(
            types=orbits[..., :DESCRIPTOR_DIM],
            free_coords=orbits[..., DESCRIPTOR_DIM:],
            cell=values[:, :6],
        )

    def _drawn(self) -> Iterator[Float[Tensor, "B F"]]:
        """Numbers step by step, drawn for several at once: the generators are slow to ask."""
        batch, width = self.mask.shape
        while True:
            values = torch.zeros(STEPS_AHEAD, batch, 6 + width * (DESCRIPTOR_DIM + 3))
            for i, (rng, count) in enumerate(zip(self.rngs, self.num_orbits, strict=True)):
                size = 6 + count * (DESCRIPTOR_DIM + 3)
                values[:, i, :size] = torch.randn(STEPS_AHEAD, size, generator=rng)
            yield from values.to(self.mask.device)


def tempered(noise: NoiseSource, temperature: float) -> NoiseSource:
    """The same noise with another spread in coordinates and cell; elements keep their variety."""

    def draw() -> State:
        drawn = noise()
        return replace(
            drawn,
            free_coords=temperature * drawn.free_coords,
            cell=temperature * drawn.cell,
        )

    return draw


def sample_rngs(seed: int, indices: Sequence[int]) -> list[torch.Generator]:
    """One generator per sample, a function of (seed, index)."""
    states = [
        np.random.SeedSequence([seed, index]).generate_state(1, np.uint64)[0] for index in indices
    ]
    return [torch.Generator().manual_seed(int(state >> 1)) for state in states]


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
    batch: DraftBatch,
    calls: Sequence[tuple[float, Conditions | None]],
    steering: Sequence[Steering],
) -> Displacement:
    """The model as solvers see it: guided, within the allowed elements, true where it is known.

    Predictions are mixed as they leave the network, on element logits, so that types remain a
    distribution over allowed elements.
    """
    templates = batch.crystals.templates
    known = known_parts(model, batch)

    def displacement(x: State, sigma: float) -> State:
        level = x.cell.new_full((len(x.cell),), sigma)
        weights, asked = zip(*calls, strict=True)
        predictions = model.predict_each(x, level, templates, asked)
        combined = Prediction.combined(list(zip(weights, predictions, strict=True)))
        step = model.diffusion.displacement(combined, x, level, batch.allowed, templates)
        for steer in steering:
            step = steer(x, level, templates, step)
        return known.corrected(step, x, sigma) if known else step

    return displacement


def known_parts(model: CrystalDiffusion, batch: DraftBatch) -> Known | None:
    """Which positions and cells the drafts fix; None if they fix nothing."""
    if not (batch.known.any() or batch.fixed_cell.any()):
        return None
    return Known(
        templates=batch.crystals.templates,
        orbits=batch.known,
        cell=model.diffusion.encode(batch.crystals).cell,
        fixed_cell=batch.fixed_cell,
    )


@torch.no_grad()  # not inference_mode: steering takes gradients of what is computed here
def sample_batch(
    model: CrystalDiffusion, starts: Starts, options: SamplerOptions, target: Target
) -> Iterator[OrbitCrystals]:
    """Denoise one batch; yields what the crystals look like after each step, the result last.

    Args:
        model: A trained model.
        starts: What the samples have drawn.
        options: Solver settings.
        target: What the samples should be.
    """
    seen = model.diffusion.allowed_elements
    open_elements = target.drafting.constraints.open_elements(seen)
    batch = DraftBatch.of(starts.drafts, open_elements).to(model.device)
    conditions = None if starts.conditions is None else starts.conditions.to(model.device)
    templates = batch.crystals.templates
    normal = SampleNoise(starts.rngs, templates.mask)

    def noise() -> State:
        return model.diffusion.noise(normal(), templates)

    sigmas = model.schedule.grid(options.steps).tolist()
    sigmas = sigmas[round((1 - options.strength) * options.steps) :]
    start = model.diffusion.prior(noise(), sigmas[0])
    if options.strength < 1:
        start = model.diffusion.encode(batch.crystals).shifted(start, 1.0)
    denoiser = guided_displacement(
        model,
        batch,
        guided_calls((*target.properties, *target.wishes), conditions),
        target.steering,
    )
    solve = solve_heun if options.solver == "heun" else solve_multistep
    cooler = tempered(noise, options.temperature)
    for state in solve(denoiser, start, sigmas, cooler, options.churn):
        yield model.diffusion.decode(state, templates, batch.allowed)


def starting_points(
    model: CrystalDiffusion, indices: Sequence[int], *, seed: int, target: Target
) -> Starts:
    """What each sample draws before any noise: its template, and its targets.

    Raises:
        ValueError: If no samples are asked for, or the model cannot fulfil the constraints.
    """
    if len(indices) < 1:
        raise ValueError(f"{len(indices)} samples: expected at least 1")
    model.allowed(target.drafting.constraints.named_elements())
    rngs = sample_rngs(seed, indices)
    return Starts(
        rngs=rngs,
        drafts=target.drafting.draw(model.config, rngs),
        conditions=draw_conditions((*target.properties, *target.wishes), rngs),
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
    for state in sample_batch(model, starts, options, target):
        yield starts.drafts[0].restored(state.to("cpu"))


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
    # Crystals of similar size share a batch, which saves padding.
    size = torch.tensor([draft.size for draft in starts.drafts])
    order = torch.argsort(size, stable=True)
    orbits: list[OrbitCrystals] = []
    with tqdm(total=len(order) * options.steps, unit="step", desc="sampling", disable=None) as bar:
        for part in order.split(options.batch_size):
            for state in sample_batch(model, starts[part], options, target):
                bar.update(len(part))
                result = state
            orbits.extend(result.to("cpu")[row : row + 1] for row in range(len(part)))
    orbits = [orbits[place] for place in torch.argsort(order).tolist()]
    steered = {steer.property: steer.target for steer in target.steering}
    asked = target_cells(target.properties, starts.conditions) if target.properties else []
    drawn = asked or [{} for _ in indices]
    restored = [
        draft.restored(crystal) for draft, crystal in zip(starts.drafts, orbits, strict=True)
    ]
    return Samples(
        crystals=concatenate(restored), orbits=orbits, targets=[row | steered for row in drawn]
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
            learned_values(oracles, samples.orbits),
            strict=True,
        )
        yield [
            StructureRecord(f"{index:06d}", structure, targets=asked, learned=learned)
            for index, structure, asked, learned in rows
        ]


def learned_values(
    oracles: Sequence[Oracle], crystals: Sequence[OrbitCrystals]
) -> list[dict[str, LearnedValue]]:
    """What each oracle reads from every crystal, and how far it is wrong on average."""
    everything = OrbitCrystals.concatenate(crystals)
    columns = {
        oracle.probe.definition.name: [
            LearnedValue(value, oracle.probe.held_out.mae)
            for value in oracle.probe.predict(oracle.model, everything).tolist()
        ]
        for oracle in oracles
    }
    return [{name: values[row] for name, values in columns.items()} for row in range(len(crystals))]
