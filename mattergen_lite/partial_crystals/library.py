"""Known crystals whose templates samples take."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import pairwise
from operator import le

import numpy as np
import torch
from torch import Tensor

from mattergen_lite.chemistry.elements import MAX_ATOMIC_NUMBER
from mattergen_lite.data.dataset import OrbitDataset, shipped_orbits
from mattergen_lite.data.table import EMBEDDED
from mattergen_lite.partial_crystals.placement import match_elements, place_on_orbits
from mattergen_lite.partial_crystals.property_weights import closeness
from mattergen_lite.partial_crystals.success_rates import (
    TemplateSuccessRates,
    template_success_rates,
)
from mattergen_lite.request.base import Constraints
from mattergen_lite.request.targets import PropertyTarget
from mattergen_lite.tensors.shapes import Bool, Float, Int

MAX_TEMPLATE_ENERGY = 0.1  # eV/atom above the hull of the crystals whose templates are taken


@dataclass(frozen=True, kw_only=True)
class PlacedTemplate:
    """A template with elements put where they must be."""

    row: int
    elements: tuple[int, ...]
    dissimilarity: float  # of elements put there and those in the known crystal, mean over atoms


@cache
def template_library(max_orbits: int, max_atoms: int, table: str = EMBEDDED) -> "TemplateLibrary":
    """Crystals of a table near the hull, outside MP-20's test split, of few enough orbits.

    Raises:
        ValueError: If none is so small.
    """
    return TemplateLibrary(
        shipped_orbits(
            table, max_orbits=max_orbits, max_atoms=max_atoms, max_e_above_hull=MAX_TEMPLATE_ENERGY
        ),
        template_success_rates(table),
    )


class TemplateLibrary:
    """Known crystals whose templates samples take."""

    def __init__(self, crystals: OrbitDataset, yields: TemplateSuccessRates) -> None:
        self.crystals = crystals
        self.template_success_rates = yields
        self.num_atoms = crystals.num_atoms.numpy()
        self.space_groups = crystals.space_group.numpy()

    @cached_property
    def elements(self) -> Bool[Tensor, "Z"]:
        """Which elements occur."""
        counts = torch.bincount(self.crystals.atomic_numbers, minlength=MAX_ATOMIC_NUMBER + 1)
        return counts > 0

    @cached_property
    def class_sizes(self) -> list[tuple[int, ...]]:
        """For each crystal how many atoms it has of each of its elements, ascending."""
        owner = np.repeat(np.arange(len(self.crystals)), self.crystals.num_orbits.numpy())
        keys, inverse = np.unique(
            owner * 128 + self.crystals.atomic_numbers.numpy(), return_inverse=True
        )
        sizes = np.bincount(inverse, self.crystals.multiplicity.numpy()).astype(int)
        starts = np.searchsorted(keys // 128, np.arange(len(self.crystals) + 1)).tolist()
        return [tuple(sorted(sizes[a:b].tolist())) for a, b in pairwise(starts)]

    @cached_property
    def yields(self) -> Float[np.ndarray, "R"]:
        """For each crystal what share of earlier samples on its template was worth having."""
        pairs = zip(self.space_groups.tolist(), self.class_sizes, strict=True)
        return np.array([self.template_success_rates.of(group, sizes) for group, sizes in pairs])

    def closeness(self, targets: Sequence[PropertyTarget]) -> Float[np.ndarray, "R"]:
        """For each crystal how close it is to all that is asked of properties, 1 if to nothing."""
        weights = torch.ones(len(self.crystals), dtype=torch.float64)
        for target in targets:
            values = self.crystals.columns.get(target.definition.name)
            if values is not None and target.definition.kind == "real":
                weights *= closeness(values, target)
        return weights.numpy()

    def rows(self, space_groups: frozenset[int] | None) -> Int[np.ndarray, "R"]:
        """Crystals of some space groups; of any if None."""
        if space_groups is None:
            return np.arange(len(self.crystals))
        return np.flatnonzero(np.isin(self.space_groups, sorted(space_groups)))

    def holding(self, rows: Int[np.ndarray, "R"], constraints: Constraints) -> list[int]:
        """Crystals in which each element that must occur can take the place of another one."""
        sizes, complete = self.num_atoms[rows].tolist(), constraints.is_complete
        wanted = {n: tuple(sorted(constraints.required_atoms(n).values())) for n in set(sizes)}
        return [
            row
            for row, n in zip(rows.tolist(), sizes, strict=True)
            if _fits(wanted[n], self.class_sizes[row], complete)
        ]

    def place(
        self, row: int, constraints: Constraints, prescribed: bool, rng: torch.Generator
    ) -> PlacedTemplate | None:
        """Put the elements that must occur on a template; None if they do not fit.

        Where classes are prescribed, each takes one element, so that the elements resemble those
        of the known crystal as much as can be; otherwise orbits take elements at random.
        """
        orbits, complete = self.crystals.orbits(row), constraints.is_complete
        wanted = constraints.required_atoms(int(self.num_atoms[row]))
        if not prescribed:
            elements = place_on_orbits(orbits.multiplicities, wanted, complete, rng)
            if elements is None:
                return None
            return PlacedTemplate(row=row, elements=elements, dissimilarity=1.0)
        classes = Counter()
        for number, size in zip(orbits.atomic_numbers, orbits.multiplicities, strict=True):
            classes[int(number)] += int(size)
        match = match_elements(classes, wanted, complete)
        if match is None:
            return None
        elements, dissimilarity = match
        return PlacedTemplate(
            row=row,
            elements=tuple(elements.get(int(number), 0) for number in orbits.atomic_numbers),
            dissimilarity=dissimilarity,
        )


def _fits(wanted: tuple[int, ...], sizes: tuple[int, ...], complete: bool) -> bool:
    """Whether ascending numbers of atoms are those of all classes, or at most those of some."""
    if complete:
        return wanted == sizes
    return len(wanted) <= len(sizes) and all(map(le, wanted, sizes[-len(wanted) :]))
