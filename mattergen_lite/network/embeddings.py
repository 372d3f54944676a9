"""Embeddings of what is known beside the noisy state: site symmetry, cell, size, properties."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mattergen_lite.chemistry.elements import MAX_ATOMIC_NUMBER
from mattergen_lite.properties import Conditions, Property, crystal_system_index
from mattergen_lite.symmetry.crystal_systems import CRYSTAL_SYSTEMS
from mattergen_lite.symmetry.orbits import NUM_ROTATION_TYPES
from mattergen_lite.symmetry.space_groups import NUM_SPACE_GROUPS
from mattergen_lite.symmetry.templates import Templates
from mattergen_lite.tensors.shapes import Float

NUM_FREQUENCIES = 16
_LARGEST = 6.0  # standard deviations


def _fourier_features(
    value: Float[Tensor, "*B"], num_frequencies: int = NUM_FREQUENCIES
) -> Float[Tensor, "*B F"]:
    """The value itself with its sines and cosines at geometrically spaced frequencies 1/4 to 16."""
    exponents = torch.linspace(-2, 4, num_frequencies, device=value.device)
    phase = value.unsqueeze(-1) * (2.0**exponents) * math.pi / 2
    return torch.cat([value.unsqueeze(-1), phase.sin(), phase.cos()], dim=-1)


class SiteEmbedding(nn.Module):
    """What an orbit is before anything is known of its element and place: its site symmetry.

    The kinds of operations that leave a site in place tell its point group; the projection onto
    its free directions tells how that group is oriented. No list of symbols has to be kept.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.project = nn.Linear(NUM_ROTATION_TYPES + 9 + 2 * NUM_FREQUENCIES + 1, dim)

    def forward(self, templates: Templates) -> Float[Tensor, "B O D"]:
        """Embedding of every orbit."""
        directions = (templates.dual @ templates.basis).flatten(2)
        size = _fourier_features(templates.multiplicity.clamp(min=1).log() / 2)
        return self.project(torch.cat([templates.rotation_types, directions, size], dim=-1))


class GlobalEmbedding(nn.Module):
    """One vector per crystal that modulates every block (adaptive layer norm)."""

    def __init__(self, dim: int, properties: Sequence[Property]) -> None:
        super().__init__()
        width = 2 * NUM_FREQUENCIES + 1
        self.noise_level = nn.Linear(width, dim)
        self.size = nn.Linear(width, dim)
        self.num_orbits = nn.Linear(width, dim)
        self.cell = nn.Linear(6, dim)
        self.space_group = nn.Embedding(NUM_SPACE_GROUPS + 1, dim)
        self.crystal_system = nn.Embedding(len(CRYSTAL_SYSTEMS) + 1, dim)
        self.properties = nn.ModuleDict({p.name: PropertyEmbedding(p, dim) for p in properties})
        self.mix = nn.Sequential(nn.SiLU(), nn.Linear(dim, dim), nn.SiLU(), nn.Linear(dim, dim))

    def forward(
        self,
        noise_level: Float[Tensor, "B"],
        cell: Float[Tensor, "B 6"],
        templates: Templates,
        conditions: Conditions | None,
    ) -> Float[Tensor, "B D"]:
        """Sum of the parts, mixed. Without conditions no property contributes."""
        total = (
            self.noise_level(_fourier_features(noise_level))
            + self.size(_fourier_features(templates.num_atoms.log()))
            + self.num_orbits(_fourier_features(templates.mask.sum(-1).log()))
            + self.cell(cell)
            + self.space_group(templates.space_group)
            + self.crystal_system(crystal_system_index(templates.space_group))
        )
        if conditions is not None:
            for name, present in conditions.present.items():
                total = total + self.properties[name](conditions.values[name]) * present[:, None]
        return self.mix(total)


class PropertyEmbedding(nn.Module):
    """Embedding of one property, zero at the start: adding a property leaves a model as it was.

    An absent property contributes nothing; a present one has a bias of its own, so no value can be
    mistaken for absence.
    """

    def __init__(self, definition: Property, dim: int) -> None:
        super().__init__()
        self.definition = definition
        sizes = {
            "real": 2 * NUM_FREQUENCIES + 1,
            "category": definition.num_categories + 1,
            "elements": MAX_ATOMIC_NUMBER + 1,
        }
        self.project = nn.Linear(sizes[definition.kind], dim)
        nn.init.zeros_(self.project.weight)
        nn.init.zeros_(self.project.bias)

    def forward(self, value: Tensor) -> Float[Tensor, "B D"]:
        """Physical values [B], category numbers [B] or element sets [B, 101]."""
        return self.project(self._features(value))

    def _features(self, value: Tensor) -> Float[Tensor, "B F"]:
        match self.definition.kind:
            case "real":
                # Bounded: an outlier must not leave what the network saw most of.
                standard = self.definition.normalise(value).clamp(-_LARGEST, _LARGEST)
                return _fourier_features(standard)
            case "category":
                return nn.functional.one_hot(
                    value.long(), self.definition.num_categories + 1
                ).float()
            case "elements":
                return value
