"""From noise to crystals: two flat solvers and the loop that feeds them.

Sample i of a seed is a function of (seed, i) alone: it draws its atom count and all of its noise from
a generator of its own, so batch size, order and neighbours do not matter, and any one sample of a
large run can be made again by itself.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from mattergen_lite.crystal import CrystalBatch, node_mask
from mattergen_lite.diffusion.joint import Latent
from mattergen_lite.elements import DESCRIPTOR_DIM
from mattergen_lite.geometry import wrap_difference
from mattergen_lite.model import CrystalDiffusion
from mattergen_lite.properties import Conditions
from mattergen_lite.shapes import Bool, Float, Int

Solver = Literal["multistep", "heun"]
Displacement = Callable[[Latent, float], Latent]  # (noisy crystals, sigma) -> denoised minus noisy
NoiseSource = Callable[[], Latent]


@dataclass(frozen=True, kw_only=True)
class SamplerOptions:
    """How the reverse process is solved. Network calls: `steps` (multistep) or 2 `steps` - 1 (heun)."""

    solver: Solver = "multistep"
    steps: int = 50
    churn: float = 1.0  # 0 = deterministic; noise put back per step, as eta (multistep) or gamma (heun)
    guidance: float = 1.0  # 0 = unconditional, 1 = conditional, above = exaggerated

    def __post_init__(self) -> None:
        if self.steps < 2:
            raise ValueError(f"steps is {self.steps}: expected at least 2")
        if self.churn < 0:
            raise ValueError(f"churn is {self.churn}: expected 0 or more")


def solve_heun(
    displacement: Displacement, x: Latent, sigmas: Sequence[float], noise: NoiseSource, churn: float
) -> Iterator[Latent]:
    """EDM stochastic sampler: algorithm 2 of Karras et al. (2022), S_noise = 1.003.

    Noise is raised by a factor 1 + churn before each step, then a second-order Heun step is taken.
    Yields the state after each step.
    """
    for sigma, sigma_next in zip(sigmas, sigmas[1:], strict=False):
        raised = sigma * (1 + churn)
        x = x.shifted(noise(), 1.003 * (raised**2 - sigma**2) ** 0.5)
        slope = displacement(x, raised)
        step = (raised - sigma_next) / raised
        proposal = x.shifted(slope, step)
        if sigma_next > 0:
            correction = displacement(proposal, sigma_next)
            x = x.shifted(slope, step / 2).shifted(correction, (raised - sigma_next) / sigma_next / 2)
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
    for sigma, sigma_next in zip(sigmas, sigmas[1:], strict=False):
        step = displacement(x, sigma)
        denoised = x.shifted(step, 1.0)
        if sigma_next == 0:
            yield denoised
            return
        h = np.log(sigma / sigma_next)
        decay = np.exp(-(1 + churn) * h)
        moved = x.shifted(step, 1 - decay)
        if last_denoised is not None:
            moved = moved.shifted(difference(denoised, last_denoised), 0.5 * (1 - decay) * h / last_h)
        x = moved.shifted(noise(), sigma_next * (1 - np.exp(-2 * churn * h)) ** 0.5)
        last_denoised, last_h = denoised, h
        yield x


def difference(a: Latent, b: Latent) -> Latent:
    """a - b, the short way round for coordinates."""
    return replace(
        a, types=a.types - b.types, coords=wrap_difference(a.coords - b.coords), shape=a.shape - b.shape
    )


SOLVERS = {"multistep": solve_multistep, "heun": solve_heun}


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
    states = [np.random.SeedSequence([seed, index]).generate_state(1, np.uint64)[0] for index in indices]
    return [torch.Generator().manual_seed(int(state >> 1)) for state in states]


def draw_num_atoms(histogram: Sequence[int], rngs: Sequence[torch.Generator]) -> Int[Tensor, "B"]:
    """Atom counts with the frequencies of the training set, one draw from each sample's generator."""
    weights = torch.tensor(histogram, dtype=torch.float)
    draws = [torch.multinomial(weights, 1, generator=rng) for rng in rngs]
    return torch.cat(draws) + 1


def guided_displacement(
    model: CrystalDiffusion, conditions: Conditions | None, guidance: float, allowed: Bool[Tensor, "*#B Z"]
) -> Displacement:
    """The model as solvers see it, with classifier-free guidance (Ho and Salimans 2022).

    Predictions are mixed as `uncond + guidance (cond - uncond)`; the mix happens on element logits,
    so that types remain a distribution over allowed elements.
    """

    def displacement(x: Latent, sigma: float) -> Latent:
        level = x.shape.new_full((len(x.mask),), sigma)
        needed = conditions if guidance != 0 else None
        prediction = model.predict(x, level, needed)
        if needed is not None and guidance != 1:
            free = model.predict(x, level, None)
            prediction = type(prediction)(
                **{name: torch.lerp(getattr(free, name), getattr(prediction, name), guidance) for name in vars(free)}
            )
        return model.diffusion.displacement(prediction, x, level, allowed)

    return displacement


@torch.inference_mode()
def sample_batch(
    model: CrystalDiffusion,
    rngs: Sequence[torch.Generator],
    num_atoms: Int[Tensor, "B"],
    *,
    options: SamplerOptions,
    conditions: Conditions | None = None,
    allowed: Bool[Tensor, "*#B Z"] | None = None,
) -> Iterator[CrystalBatch]:
    """Denoise one batch; yields what the crystals look like after each step, the result last."""
    device = model.diffusion.lattice.mean.device
    mask = node_mask(num_atoms).to(device)
    allowed = model.diffusion.allowed_elements if allowed is None else allowed.to(device)
    noise = SampleNoise(rngs, mask)
    sigmas = model.schedule.grid(options.steps).tolist()
    x = model.diffusion.prior(noise(), sigmas[0])
    displacement = guided_displacement(model, conditions, options.guidance, allowed)
    for x in SOLVERS[options.solver](displacement, x, sigmas, noise, options.churn):
        yield model.diffusion.decode(x, allowed)
