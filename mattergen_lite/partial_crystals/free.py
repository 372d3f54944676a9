"""Samples without prescribed symmetry."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mattergen_lite.config import ModelConfig
from mattergen_lite.partial_crystals.partial_crystal import (
    PartialCrystal,
    PartialCrystalSampler,
    size_weights,
)
from mattergen_lite.request.base import Constraints
from mattergen_lite.symmetry.orbits import p1_orbits
from mattergen_lite.tensors.shapes import Float


@dataclass(frozen=True, kw_only=True)
class FreeSampler(PartialCrystalSampler):
    """Samples without prescribed symmetry: every atom is an orbit."""

    constraints: Constraints
    histogram: Float[Tensor, "N"]  # weight of 1, 2, ... atoms

    @classmethod
    def of(
        cls, constraints: Constraints, counts: Sequence[int], model: ModelConfig
    ) -> PartialCrystalSampler:
        """Sizes with the frequencies of the training set, uniform where none was ever seen.

        Raises:
            ValueError: If all sizes have more atoms than the model makes orbits.
        """
        counts = [count for count in counts if count <= model.max_orbits]
        if not counts:
            raise ValueError(
                f"space-group none: this model makes at most {model.max_orbits} atoms without "
                "symmetry; with it, more"
            )
        weights = torch.zeros(max(counts))
        weights[[count - 1 for count in counts]] = torch.tensor(size_weights(counts, model))
        return cls(constraints=constraints, histogram=weights)

    def draw(self, rng: torch.Generator) -> PartialCrystal:
        """One partial crystal."""
        count = int(torch.multinomial(self.histogram, 1, generator=rng)) + 1
        required = list(self.constraints.required_atoms(count).elements())
        return PartialCrystal(
            orbits=p1_orbits(np.ones(count, int), np.zeros((count, 3)), np.eye(3)),
            elements=(*required, *[0] * (count - len(required))),
            known=(False,) * count,
            prescribed=False,
        )
