"""Chooses the cells of the samples of a composition: smallest first, as in known crystals.

Cells of Z formula units get a share of the samples ~ sqrt(number of templates with Z) / Z, where a
template is a known crystal near the hull with the same stoichiometry: small cells are more often
right and cost less.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from mattergen_lite.config import ModelConfig
from mattergen_lite.partial_crystals.library import template_library
from mattergen_lite.request.base import Constraints
from mattergen_lite.request.constraints import Formula


@dataclass(frozen=True, kw_only=True)
class CellSize:
    """Samples of one number of formula units."""

    units: int
    num_atoms: int
    num_templates: int  # known crystals of this stoichiometry and size; 0: on any sites that fit
    num_samples: int

    def text(self) -> str:
        """Such as "24 samples of 2 formula units (14 atoms) on 31 templates"."""
        where = f"{self.num_templates} templates" if self.num_templates else "any sites that fit"
        units = "formula unit" if self.units == 1 else "formula units"
        samples = "sample" if self.num_samples == 1 else "samples"
        cell = f"{self.units} {units} ({self.num_atoms} atoms)"
        return f"{self.num_samples} {samples} of {cell}, on {where}"


def plan_cells(
    constraints: Constraints, model: ModelConfig, num_samples: int
) -> tuple[CellSize, ...]:
    """Share samples out to numbers of formula units, smallest first.

    Raises:
        ValueError: If no number of formula units is possible.
    """
    size = len(constraints.find(Formula).atoms)
    possible = constraints.atom_counts(model.max_atoms)
    counts = {} if constraints.is_free else _num_templates(constraints, model)
    weights = {n: math.sqrt(counts[n]) / (n // size) for n in possible if counts.get(n)}
    if not weights:  # an unusual stoichiometry: the smallest cells, on any sites
        weights = {n: 1.0 / (n // size) for n in possible[:3]}
    shares = in_proportion(list(weights.values()), num_samples)
    return tuple(
        CellSize(units=n // size, num_atoms=n, num_templates=counts.get(n, 0), num_samples=number)
        for n, number in zip(weights, shares, strict=True)
        if number
    )


def _num_templates(constraints: Constraints, model: ModelConfig) -> Counter[int]:
    """Known crystals of a stoichiometry by their number of atoms."""
    library = template_library(model.max_orbits, model.max_atoms)
    rows = library.rows(constraints.space_groups)
    return Counter(library.num_atoms[library.holding(rows, constraints)].tolist())


def in_proportion(weights: Sequence[float], total: int) -> list[int]:
    """Whole numbers in proportion to weights that add up to a total; rests go to the first."""
    whole = sum(weights)
    shares = [int(total * weight / whole) for weight in weights]
    for place in range(total - sum(shares)):
        shares[place % len(shares)] += 1
    return shares
