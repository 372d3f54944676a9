"""Noise of samples: each crystal draws from a generator of its own, whatever its neighbours."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from mattergen_lite.chemistry.elements import DESCRIPTOR_DIM
from mattergen_lite.diffusion.joint import JointDiffusion, Step
from mattergen_lite.sampling.solvers import NoiseSource
from mattergen_lite.symmetry.templates import Templates
from mattergen_lite.tensors.shapes import Bool, Float

STEPS_AHEAD = 16  # of which noise is drawn at once


class SampleNoise:
    """Standard normal numbers for a padded batch, each crystal from its own generator."""

    def __init__(self, rngs: Sequence[torch.Generator], mask: Bool[Tensor, "B O"]) -> None:
        self.rngs = rngs
        self.mask = mask
        self.num_orbits = mask.sum(-1).tolist()
        self.values = self._drawn()

    def __call__(self) -> Step:
        """The next numbers of every crystal."""
        values = next(self.values)
        orbits = values[:, 6:].unflatten(-1, (-1, DESCRIPTOR_DIM + 3))
        return Step(
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


def crystal_noise(
    rngs: Sequence[torch.Generator], diffusion: JointDiffusion, templates: Templates
) -> NoiseSource:
    """Noise of unit size in what the templates leave free."""
    normal = SampleNoise(rngs, templates.mask)
    return lambda: diffusion.noise(normal(), templates)


def scaled(noise: NoiseSource, s_noise: float) -> NoiseSource:
    """The same noise, scaled in coordinates and cell; elements keep their variety."""

    def draw() -> Step:
        drawn = noise()
        return replace(
            drawn,
            free_coords=s_noise * drawn.free_coords,
            cell=s_noise * drawn.cell,
        )

    return draw


def sample_rngs(seed: int, indices: Sequence[int]) -> list[torch.Generator]:
    """One generator per sample, a function of (seed, index)."""
    states = [
        np.random.SeedSequence([seed, index]).generate_state(1, np.uint64)[0] for index in indices
    ]
    return [torch.Generator().manual_seed(int(state >> 1)) for state in states]
