"""From noise to crystals: two flat solvers and the loop that feeds them.

Sample i is a function of (seed, i) alone: it draws its atom count and all of its noise from a
generator of its own, so batch size, order and neighbours do not matter, and any one sample of a
large run can be made again by itself.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from mattergen_lite.crystal import CrystalBatch, concatenate, node_mask
from mattergen_lite.diffusion.joint import Latent
from mattergen_lite.elements import DESCRIPTOR_DIM
from mattergen_lite.geometry import wrap_difference
from mattergen_lite.model import CrystalDiffusion
from mattergen_lite.properties import Conditions
from mattergen_lite.shapes import Bool, Float, Int

Solver = Literal["multistep", "heun"]
Displacement = Callable[[Latent, float], Latent]  # (noisy crystals, sigma) -> denoised minus noisy
NoiseSource = Callable[[], Latent]
# (noisy crystals, sigma of each, the model's displacement) -> steered displacement
Steering = Callable[[Latent, Float[Tensor, "B"], Latent], Latent]


@dataclass(frozen=True, kw_only=True)
class SamplerOptions:
    """How the reverse process is solved: `steps` network calls (multistep) or 2 `steps` - 1."""

    solver: Solver = "multistep"
    steps: int = 50
    churn: float = 4.0  # noise put back at each step: 0 = none, 1 = the plain reverse diffusion
    batch_size: int = 64  # crystals denoised together

    def __post_init__(self) -> None:
        if self.steps < 2:
            raise ValueError(f"steps is {self.steps}: expected at least 2")
        if self.churn < 0:
            raise ValueError(f"churn is {self.churn}: expected 0 or more")
        if self.batch_size < 1:
            raise ValueError(f"batch_size is {self.batch_size}: expected at least 1")


@dataclass(frozen=True, kw_only=True)
class Target:
    """What is asked of every sample: properties are guided, elements and sizes are exact."""

    conditions: Conditions | None = None  # of one crystal (B = 1)
    guidance: float = 1.0  # 0 = unconditional, 1 = conditional, above = exaggerated
    allowed: Bool[Tensor, "Z"] | None = None  # elements by atomic number; None = all seen
    num_atoms: tuple[int, int] | None = None  # smallest, largest; None = as in the training set
    steering: tuple[Steering, ...] = ()  # by probes, added to the model's displacement


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
    displacement: Displacement, x: Latent, sigmas: Sequence[float], noise: NoiseSource, churn: float
) -> Iterator[Latent]:
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
                difference(denoised, last_denoised), 0.5 * (1 - decay) * h / last_h
            )
        x = moved.shifted(noise(), sigma_next * (1 - np.exp(-2 * churn * h)) ** 0.5)
        last_denoised, last_h = denoised, h
        yield x


def difference(a: Latent, b: Latent) -> Latent:
    """a - b, the short way round for coordinates."""
    return replace(
        a,
        types=a.types - b.types,
        coords=wrap_difference(a.coords - b.coords),
        shape=a.shape - b.shape,
    )


class SampleNoise:
    """Standard normal noise for a padded batch, each crystal from its own generator."""

    def __init__(self, rngs: Sequence[torch.Generator], mask: Bool[Tensor, "B N"]) -> None:
        self.rngs = rngs
        self.mask = mask
        self.num_atoms = mask.sum(-1).tolist()

    def __call__(self) -> Latent:
        """Draw the next noise of every crystal."""
        batch, width = self.mask.shape
        atoms = torch.zeros(batch, width, DESCRIPTOR_DIM + 3)
        shape = torch.zeros(batch, 6)
        for i, (rng, count) in enumerate(zip(self.rngs, self.num_atoms, strict=True)):
            values = torch.randn(count * (DESCRIPTOR_DIM + 3) + 6, generator=rng)
            shape[i] = values[:6]
            atoms[i, :count] = values[6:].view(count, -1)
        atoms = atoms.to(self.mask.device)
        return Latent(
            types=atoms[..., :DESCRIPTOR_DIM],
            coords=atoms[..., DESCRIPTOR_DIM:],
            shape=shape.to(self.mask.device),
            mask=self.mask,
        )


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


def guided_displacement(model: CrystalDiffusion, target: Target) -> Displacement:
    """The model as solvers see it, with classifier-free guidance (Ho and Salimans 2022).

    Predictions are mixed as `uncond + guidance (cond - uncond)`; the mix happens on element logits,
    so that types remain a distribution over allowed elements.
    """
    diffusion = model.diffusion
    allowed = diffusion.allowed_elements if target.allowed is None else target.allowed
    allowed = allowed.to(diffusion.allowed_elements.device)
    conditions = None if target.guidance == 0 else target.conditions

    def displacement(x: Latent, sigma: float) -> Latent:
        level = x.shape.new_full((len(x.mask),), sigma)
        asked = None if conditions is None else conditions[x.mask.new_zeros(len(level)).long()]
        prediction = model.predict(x, level, asked)
        if asked is not None and target.guidance != 1:
            prediction = model.predict(x, level, None).towards(prediction, target.guidance)
        step = diffusion.displacement(prediction, x, level, allowed)
        for steered in target.steering:
            step = steered(x, level, step)
        return step

    return displacement


@torch.no_grad()  # not inference_mode: steering takes gradients of what is computed here
def sample_batch(
    model: CrystalDiffusion,
    rngs: Sequence[torch.Generator],
    num_atoms: Int[Tensor, "B"],
    options: SamplerOptions,
    target: Target,
) -> Iterator[CrystalBatch]:
    """Denoise one batch; yields what the crystals look like after each step, the result last."""
    noise = SampleNoise(rngs, node_mask(num_atoms).to(model.diffusion.lattice.mean.device))
    sigmas = model.schedule.grid(options.steps).tolist()
    start = model.diffusion.prior(noise(), sigmas[0])
    solve = solve_heun if options.solver == "heun" else solve_multistep
    denoiser = guided_displacement(model, target)
    for state in solve(denoiser, start, sigmas, noise, options.churn):
        yield model.diffusion.decode(state, target.allowed)


def sample(
    model: CrystalDiffusion,
    indices: Sequence[int],
    *,
    seed: int,
    options: SamplerOptions,
    target: Target,
) -> CrystalBatch:
    """Generate the samples with the given indices, in their order.

    Args:
        model: A trained model, on the device to use.
        indices: Sample numbers; with `seed` they fix each crystal.
        seed: Seed of the whole run.
        options: Solver settings.
        target: What the samples should be.

    Raises:
        ValueError: If no samples are asked for or the atom counts are out of the model's range.
    """
    if len(indices) < 1:
        raise ValueError(f"{len(indices)} samples: expected at least 1")
    rngs = sample_rngs(seed, indices)
    histogram = restrict_histogram(model.config.atom_count_histogram, target.num_atoms)
    num_atoms = draw_num_atoms(histogram, rngs)
    # Crystals of similar size share a batch, which saves padding.
    order = torch.argsort(num_atoms, stable=True)
    finished: list[CrystalBatch] = []
    with tqdm(total=len(order) * options.steps, unit="step", desc="sampling", disable=None) as bar:
        for part in order.split(options.batch_size):
            batch_rngs = [rngs[i] for i in part]
            for state in sample_batch(model, batch_rngs, num_atoms[part], options, target):
                bar.update(len(part))
                result = state
            finished.append(result.to("cpu"))
    return concatenate(finished)[torch.argsort(order)]


def restrict_histogram(histogram: Sequence[int], num_atoms: tuple[int, int] | None) -> list[int]:
    """The atom-count histogram within [smallest, largest]; uniform there if nothing was seen.

    Raises:
        ValueError: If the range is empty or exceeds what the model can hold.
    """
    if num_atoms is None:
        return list(histogram)
    low, high = num_atoms
    if not 1 <= low <= high <= len(histogram):
        raise ValueError(f"number of atoms {low}..{high}: this model makes 1..{len(histogram)}")
    inside = [count if low <= n <= high else 0 for n, count in enumerate(histogram, start=1)]
    return inside if any(inside) else [int(low <= n <= high) for n in range(1, len(histogram) + 1)]


def parse_range(text: str | None) -> tuple[int, int] | None:
    """A whole number or an inclusive range: "8" or "4..12".

    Raises:
        ValueError: If it is neither.
    """
    if text is None:
        return None
    low, _, high = text.partition("..")
    if not low.isdecimal() or not (high or low).isdecimal():
        raise ValueError(f"{text!r} is no whole number such as 8 and no range such as 4..12")
    return int(low), int(high or low)
