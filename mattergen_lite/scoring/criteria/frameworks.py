"""Tells whether the framework of a crystal, which is what is left without elements, is known.

Four classes, each within the one before it:

1. *known*: a known crystal, elements included (`novelty`);
2. *known framework*: the protostructure is that of an embedded crystal at a usual tolerance;
3. *distortion*: it is so at a loose tolerance, or `StructureMatcher` fits the crystal, all elements
   taken as one, to a known crystal of the same stoichiometry; crystals without symmetry beyond P-1
   are counted here, for their protostructures tell nothing;
4. *new framework*: none of these.
"""

from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
from pymatgen.core import Structure

from mattergen_lite.scoring.known.reference import Reference
from mattergen_lite.symmetry.detection import SYMPREC_GENERATED, SYMPREC_RELAXED
from mattergen_lite.symmetry.frameworks import (
    LEAST_SYMMETRY,
    average_minimum_distances,
    known_frameworks,
)
from mattergen_lite.symmetry.orbits import find_orbits
from mattergen_lite.symmetry.protostructures import protostructure

FrameworkClass = Literal["known framework", "distortion", "new framework"]
# Å; at these a crystal has lost no symmetry that a relaxation leaves it.
LOOSE_TOLERANCES = (0.2, 0.3)
NUM_COMPARED = 12  # known crystals of the same stoichiometry that a crystal is fitted to


@dataclass(frozen=True, kw_only=True)
class Framework:
    """What is known of the framework of a crystal."""

    protostructure: str = ""  # space group and Wyckoff positions by element
    framework_class: FrameworkClass | None = None
    nearest_framework: str | None = None  # known crystal that it fits, whatever the elements


def framework(structure: Structure, *, thorough: bool) -> Framework:
    """Classify the framework of an ordered crystal, raw or relaxed.

    If `thorough` it is fitted to known crystals, too, which takes a tenth of a second; without,
    what is called new may be a distortion.
    """
    crystal = np.array(structure.atomic_numbers), structure.frac_coords, structure.lattice.matrix
    label = protostructure(find_orbits(*crystal, SYMPREC_GENERATED))

    def is_known(symprec: float) -> bool:
        return protostructure(find_orbits(*crystal, symprec)) in known_frameworks()

    if label in known_frameworks() or is_known(SYMPREC_RELAXED):
        return Framework(protostructure=str(label), framework_class="known framework")
    if label.space_group <= LEAST_SYMMETRY or any(map(is_known, LOOSE_TOLERANCES)):
        return Framework(protostructure=str(label), framework_class="distortion")
    nearest = _fitting_crystal(structure) if thorough else None
    return Framework(
        protostructure=str(label),
        framework_class="new framework" if nearest is None else "distortion",
        nearest_framework=nearest,
    )


def _fitting_crystal(structure: Structure) -> str | None:
    """The known crystal of the same stoichiometry that fits best, elements aside; None if none."""
    from pymatgen.analysis.structure_matcher import FrameworkComparator, StructureMatcher

    sizes = np.unique(structure.atomic_numbers, return_counts=True)[1].tolist()
    fingerprint = average_minimum_distances(structure.frac_coords, structure.lattice.matrix)
    matcher = StructureMatcher(comparator=FrameworkComparator())
    embedded = _embedded()
    for row in known_frameworks().nearest(sizes, fingerprint, NUM_COMPARED):
        if matcher.fit(structure, embedded.crystal(row).structure()):
            return embedded.material_ids[row]
    return None


@cache
def _embedded() -> Reference:
    return Reference.embedded()
