"""Sampling around what is known: fixed sites and a fixed cell beside atoms still to be found.

Where something is known, the denoised estimate is the truth. The reverse SDE then carries the known
part along as correctly noised truth at every noise level, which is the replacement that RePaint
makes by hand (Lugmayr et al. 2022, arXiv 2201.09865); the churn of the solver plays the part of its
resampling, since it lets the unknown part settle around the known one at every level. Elements need
no word here: a known atom is one that a single element is allowed for.

The network knows no origin: its displacements have zero mean over a crystal's atoms, so it says
where atoms are relative to each other. Known sites say where the crystal is: their true
displacements minus the predicted ones, on average, are the translation to add to unknown atoms.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mattergen_lite.crystal import masked_mean
from mattergen_lite.diffusion.joint import Latent
from mattergen_lite.geometry import wrapped_normal_displacement
from mattergen_lite.shapes import Bool, Float


@dataclass(frozen=True, kw_only=True)
class Known:
    """The known part of B crystals in the coordinates that are diffused."""

    coords: Float[Tensor, "B N 3"]  # fractional; meaningless where not `sites`
    sites: Bool[Tensor, "B N"]  # True = fixed atom
    shape: Float[Tensor, "B 6"] | None  # lattice shape; None = free

    def corrected(self, step: Latent, noisy: Latent, sigma: float) -> Latent:
        """A step from noisy to denoised as it is once the known part has had its say."""
        shape = step.shape if self.shape is None else self.shape - noisy.shape
        return replace(step, coords=self._coords(step, noisy, sigma), shape=shape)

    def _coords(self, step: Latent, noisy: Latent, sigma: float) -> Float[Tensor, "B N 3"]:
        towards_truth = self.coords - noisy.coords
        true = wrapped_normal_displacement(towards_truth, torch.full_like(towards_truth, sigma))
        translation = masked_mean(true - step.coords, self.sites).unsqueeze(1)
        moved = (step.coords + translation) * noisy.mask.unsqueeze(-1)
        return torch.where(self.sites.unsqueeze(-1), true, moved)
