"""Samples around what is known: fixed orbits and a fixed cell beside orbits still to be found.

Where something is known, the denoised estimate is the truth. The reverse SDE then carries the known
part along as correctly noised truth, which is the replacement that RePaint makes by hand (Lugmayr
et al. 2022, arXiv 2201.09865). A known orbit has a single allowed element.

Along polar axes the network knows no origin: its displacements have zero mean over a crystal's
atoms there. Known orbits say where the crystal is: their true displacements minus the predicted
ones, on average over their atoms, are the translation to add to unknown orbits.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mattergen_lite.diffusion import coordinates
from mattergen_lite.diffusion.joint import State, Step
from mattergen_lite.symmetry.templates import Templates
from mattergen_lite.tensors.geometry import wrapped_normal_displacement
from mattergen_lite.tensors.shapes import Bool, Float


@dataclass(frozen=True, kw_only=True)
class KnownSites:
    """Fixed positions and cells of B crystals; a fixed orbit has free coordinates of 0."""

    templates: Templates
    orbits: Bool[Tensor, "B O"]  # True = fixed positions
    cell: Float[Tensor, "B 6"]  # free numbers of the cell; meaningless where not `fixed_cell`
    fixed_cell: Bool[Tensor, "B"]

    def corrected(self, step: Step, noisy: State, sigma: float) -> Step:
        """Replace the fixed part of a denoising step by the step that ends at its known value."""
        cell = torch.where(self.fixed_cell.unsqueeze(-1), self.cell - noisy.cell, step.cell)
        return replace(step, free_coords=self._free_coords(step, noisy, sigma), cell=cell)

    def _free_coords(self, step: Step, noisy: State, sigma: float) -> Float[Tensor, "B O 3"]:
        templates = self.templates
        level = noisy.cell.new_full((len(noisy.cell),), sigma)
        std = torch.where(templates.free, coordinates.spread(templates, level), 1.0)
        true = wrapped_normal_displacement(-noisy.free_coords, std) * templates.free
        missing = templates.to_fractional(true - step.free_coords)
        weights = templates.multiplicity * self.orbits
        mean = (weights.unsqueeze(-1) * missing).sum(1) / weights.sum(-1, keepdim=True).clamp(min=1)
        translation = (templates.invariant @ mean.unsqueeze(-1)).squeeze(-1).unsqueeze(1)
        moved = step.free_coords + templates.to_free(translation.expand_as(step.free_coords))
        return torch.where(self.orbits.unsqueeze(-1), true, moved * templates.free)
