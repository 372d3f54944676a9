"""From noise to crystals: what each sample draws, and the loop that denoises them.

Sample i is a function of (seed, i) alone: it draws its atom count, its targets and all of its
noise from a generator of its own, so batch size, order and neighbours do not matter, and any one
sample of a large run can be made again by itself.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mattergen_lite.console import ProgressBar
from mattergen_lite.io.records import LearnedValue, StructureRecord
from mattergen_lite.io.tensors import to_structures
from mattergen_lite.model import CrystalDiffusion
from mattergen_lite.options.sampler import SamplerOptions
from mattergen_lite.partial_crystals.choice import partial_crystal_sampler
from mattergen_lite.partial_crystals.partial_crystal import (
    PartialCrystal,
    PartialCrystalBatch,
    PartialCrystalSampler,
)
from mattergen_lite.probe.predictors import Predictor
from mattergen_lite.properties import Conditions
from mattergen_lite.request.base import Constraints
from mattergen_lite.request.host import Host
from mattergen_lite.request.targets import (
    PropertyTarget,
    TargetValue,
    draw_conditions,
    target_cells,
)
from mattergen_lite.sampling.guidance import Steering, guided_calls_by_level, guided_displacement
from mattergen_lite.sampling.noise import crystal_noise, sample_rngs, scaled
from mattergen_lite.sampling.solvers import solve_heun, solve_multistep
from mattergen_lite.symmetry.templates import OrbitCrystals
from mattergen_lite.tensors.crystal import CrystalBatch, concatenate
from mattergen_lite.tensors.shapes import Int

# Of the noise, where samples start from known crystals: as good as all of it, with fewer steps
# (benchmarks/yield.py).
STRENGTH_FROM_CRYSTALS = 0.6


@dataclass(frozen=True, kw_only=True)
class Target:
    """What is asked of every sample: properties are guided, constraints are exact."""

    properties: tuple[PropertyTarget, ...] = ()
    auxiliary_targets: tuple[PropertyTarget, ...] = ()  # guided; samples are not measured by them
    constraints: Constraints = field(default_factory=Constraints)
    steering: tuple[Steering, ...] = ()  # by probes, added to the model's displacement


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Crystals and what each was asked to be."""

    crystals: CrystalBatch  # double precision, in the host's cell, if there is a host
    orbits: list[OrbitCrystals]  # the same as orbits, one batch each
    targets: list[dict[str, TargetValue]]  # one a crystal: property -> value it was conditioned on

    def __len__(self) -> int:
        return len(self.crystals)

    def records(
        self, numbers: Sequence[int], predictors: Sequence[Predictor] = ()
    ) -> list[StructureRecord]:
        """The samples as structures, named by their numbers, with what each predictor reads."""
        rows = zip(
            numbers,
            to_structures(self.crystals),
            self.targets,
            learned_values(predictors, self.orbits),
            strict=True,
        )
        return [
            StructureRecord(f"{number:06d}", structure, targets=asked, learned=learned)
            for number, structure, asked, learned in rows
        ]


@dataclass(frozen=True, kw_only=True)
class Starts:
    """Random generators, partial crystals and conditions of B samples before any noise."""

    rngs: Sequence[torch.Generator]
    partial_crystals: Sequence[PartialCrystal]
    conditions: Conditions | None

    def __getitem__(self, index: Int[Tensor, "I"]) -> "Starts":
        return Starts(
            rngs=[self.rngs[i] for i in index],
            partial_crystals=[self.partial_crystals[i] for i in index],
            conditions=None if self.conditions is None else self.conditions[index],
        )


@torch.no_grad()  # not inference_mode: steering takes gradients of what is computed here
def sample_batch(
    model: CrystalDiffusion, starts: Starts, options: SamplerOptions, target: Target
) -> Iterator[OrbitCrystals]:
    """Denoise one batch; yields the crystals after each step, the result last."""
    seen = model.diffusion.allowed_elements
    open_elements = target.constraints.open_elements(seen)
    batch = PartialCrystalBatch.of(starts.partial_crystals, open_elements).to(model.device)
    conditions = None if starts.conditions is None else starts.conditions.to(model.device)
    templates = batch.crystals.templates
    noise = crystal_noise(starts.rngs, model.diffusion, templates)
    sigmas = noise_levels(model, starts.partial_crystals, options)
    if len(sigmas) <= options.steps:  # the noisiest levels are skipped
        start = model.diffusion.encode(batch.crystals).shifted(noise(), sigmas[0])
    else:
        start = model.diffusion.prior(noise(), sigmas[0])
    denoiser = guided_displacement(
        model,
        batch,
        guided_calls_by_level(target.properties, target.auxiliary_targets, conditions),
        target.steering,
    )
    put_back = scaled(noise, options.s_noise)
    if options.solver == "heun":
        states = solve_heun(denoiser, start, sigmas, put_back, options.s_churn)
    else:
        states = solve_multistep(denoiser, start, sigmas, put_back, options.eta)
    for state in states:
        yield model.diffusion.decode(state, templates, batch.allowed)


def noise_levels(
    model: CrystalDiffusion, partial_crystals: Sequence[PartialCrystal], options: SamplerOptions
) -> list[float]:
    """Find the noise levels between the solver's steps, from where samples start down to 0."""
    levels = model.schedule.grid(options.steps).tolist()
    from_crystals = all(partial_crystal.is_crystal for partial_crystal in partial_crystals)
    strength = (options.strength or STRENGTH_FROM_CRYSTALS) if from_crystals else 1.0
    return levels[min(round((1 - strength) * options.steps), options.steps - 1) :]


def _check_crystals(constraints: Constraints, options: SamplerOptions) -> None:
    """Refuse a strength where no sample starts from a known crystal."""
    if constraints.is_free or constraints.find(Host) or options.frameworks == "drawn":
        raise ValueError(
            f"strength {options.strength}: around a host, with space-group none and on generated "
            "frameworks there is no known crystal to start from; leave it out"
        )


def starting_points(
    model: CrystalDiffusion,
    indices: Sequence[int],
    *,
    seed: int,
    target: Target,
    options: SamplerOptions,
    source: PartialCrystalSampler | None = None,
) -> Starts:
    """What each sample draws before any noise: its template, and its targets.

    Without a source the constraints and options choose one (`partial_crystal_sampler`).

    Raises:
        ValueError: If no samples are asked for, the model cannot fulfil the constraints, or known
            crystals to start from are missing.
    """
    if len(indices) < 1:
        raise ValueError(f"{len(indices)} samples: expected at least 1")
    if (options.strength or 1.0) < 1:
        _check_crystals(target.constraints, options)
    model.allowed(target.constraints.named_elements())
    # A weight of 0 ignores a target.
    guiding = tuple(prop for prop in target.properties if prop.guidance != 0)
    source = source or partial_crystal_sampler(
        target.constraints,
        model.config,
        options.template_bias,
        guiding,
        options.frameworks,
        model.diffusion.allowed_elements.cpu(),
    )
    rngs = sample_rngs(seed, indices)
    return Starts(
        rngs=rngs,
        partial_crystals=source.draw_each(rngs),
        conditions=draw_conditions((*target.properties, *target.auxiliary_targets), rngs),
    )


def follow(
    model: CrystalDiffusion, index: int, *, seed: int, options: SamplerOptions, target: Target
) -> Iterator[CrystalBatch]:
    """Generate one sample; yields its state after each step, the last as `sample` has it.

    Raises:
        ValueError: If the model cannot fulfil the constraints.
    """
    starts = starting_points(model, [index], seed=seed, target=target, options=options)
    for state in sample_batch(model, starts, options, target):
        yield starts.partial_crystals[0].restored(state.to("cpu"))


def sample(
    model: CrystalDiffusion,
    indices: Sequence[int],
    *,
    seed: int,
    options: SamplerOptions,
    target: Target,
    source: PartialCrystalSampler | None = None,
) -> Samples:
    """Generate the samples of these numbers, in their order; with `seed` they fix each crystal.

    Args:
        source: Makes the partial crystals; by default the constraints and options choose it.

    Raises:
        ValueError: If no samples are asked for, the model cannot fulfil the constraints, or known
            crystals to start from are missing; nothing has been sampled then.
    """
    starts = starting_points(
        model, indices, seed=seed, target=target, options=options, source=source
    )
    # Crystals of similar size share a batch, which saves padding; all start from the same noise.
    size = torch.tensor([partial_crystal.size for partial_crystal in starts.partial_crystals])
    from_crystals = torch.tensor(
        [partial_crystal.is_crystal for partial_crystal in starts.partial_crystals]
    )
    parts = [
        part
        for kind in (from_crystals, ~from_crystals)
        for part in kind.nonzero()
        .flatten()[size[kind].argsort(stable=True)]
        .split(options.batch_size)
        if len(part)
    ]
    order = torch.cat(parts)
    orbits: list[OrbitCrystals] = []
    steps = sum(
        len(part) * (len(noise_levels(model, starts[part].partial_crystals, options)) - 1)
        for part in parts
    )
    with ProgressBar(total=steps, unit="step", desc="sampling") as bar:
        for part in parts:
            for state in sample_batch(model, starts[part], options, target):
                bar.update(len(part))
                result = state
            orbits.extend(result.to("cpu")[row : row + 1] for row in range(len(part)))
    orbits = [orbits[place] for place in torch.argsort(order).tolist()]
    steered = {steer.property: steer.target for steer in target.steering}
    asked = target_cells(target.properties, starts.conditions) if target.properties else []
    drawn = asked or [{} for _ in indices]
    restored = [
        partial_crystal.restored(crystal)
        for partial_crystal, crystal in zip(starts.partial_crystals, orbits, strict=True)
    ]
    return Samples(
        crystals=concatenate(restored), orbits=orbits, targets=[row | steered for row in drawn]
    )


def learned_values(
    predictors: Sequence[Predictor], crystals: Sequence[OrbitCrystals]
) -> list[dict[str, LearnedValue]]:
    """What each predictor reads from every crystal."""
    everything = OrbitCrystals.concatenate(crystals)
    columns = {predictor.definition.name: predictor.read(everything) for predictor in predictors}
    return [{name: values[row] for name, values in columns.items()} for row in range(len(crystals))]
