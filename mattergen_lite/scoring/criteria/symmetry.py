"""Finds space group, Wyckoff letters and standard cells of a crystal by spglib.

A space group is a statement at a tolerance, `symprec` in Å. Crystals are judged at 0.1; the groups
at 0.01, 0.03 and 0.1 are given beside it.
"""

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import spglib
from pymatgen.core import Structure

from mattergen_lite.symmetry.crystal_systems import LAST_SPACE_GROUP
from mattergen_lite.symmetry.detection import SYMPREC_GENERATED, symmetry_dataset

if TYPE_CHECKING:
    from spglib import SpglibDataset  # its base class has annotations that beartype cannot check

SYMPRECS = (0.01, 0.03, 0.1)  # Å
# Å, at which polymorphs are told apart: the cubic, tetragonal, orthorhombic and rhombohedral BaTiO3
# have their own groups from 0.001 to 0.1, and relaxations end within 0.01 of each other.
SYMPREC_POLYMORPHS = 0.03
# Space groups of a pair of mirror images -> the first of the pair.
MIRROR_IMAGES = {
    78: 76, 95: 91, 96: 92, 145: 144, 153: 151, 154: 152, 170: 169, 172: 171, 179: 178, 181: 180,
    213: 212,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Symmetry:
    """Symmetry of one crystal at `symprec`."""

    space_group: int  # international number, 1..230
    space_group_symbol: str  # Hermann-Mauguin, "Fm-3m"
    crystal_system: str
    point_group: str  # "m-3m"
    wyckoff_letters: str  # one element and Wyckoff position per orbit, "Na:4a Cl:4b"
    num_atoms_primitive: int
    num_atoms_conventional: int
    symprec: float  # Å
    space_groups: dict[float, int]  # symprec in Å -> space group number


def crystal_system(space_group: int) -> str:
    """Crystal system of a space group number.

    Raises:
        ValueError: If the number is not in 1..230.
    """
    if not 1 <= space_group <= 230:
        raise ValueError(f"space group {space_group} does not exist: expected 1 to 230")
    return next(name for name, last in LAST_SPACE_GROUP.items() if space_group <= last)


def space_group_of(structure: Structure, symprec: float) -> int:
    """Find the number of the space group at a tolerance in Å; 1, no symmetry, if none is found."""
    try:
        return int(symmetry_dataset(structure, symprec).number)
    except ValueError:
        return 1


def polymorph(structure: Structure) -> int:
    """Space group that tells polymorphs apart: of mirror images the first, 1 if none is found."""
    return achiral(space_group_of(structure, SYMPREC_POLYMORPHS))


def achiral(space_group: int) -> int:
    """Number of a space group, of the eleven pairs of mirror images the first."""
    return MIRROR_IMAGES.get(space_group, space_group)


def _wyckoff_letters(structure: Structure, dataset: "SpglibDataset") -> str:
    """One Wyckoff position per orbit, in the order of the atoms."""
    # Multiplicities count the conventional cell, whatever cell was given.
    cells = len(dataset.std_types) / len(structure)
    orbits = Counter(dataset.crystallographic_orbits.tolist())
    return " ".join(
        f"{structure[first].specie.symbol}:{round(size * cells)}{dataset.wyckoffs[first]}"
        for first, size in orbits.items()
    )


def symmetry(structure: Structure, *, symprec: float = SYMPREC_GENERATED) -> Symmetry:
    """Space group and Wyckoff letters of an ordered crystal at `symprec` (Å).

    Raises:
        ValueError: If spglib finds no symmetry at all, as for overlapping atoms.
    """
    dataset = symmetry_dataset(structure, symprec)
    number = int(dataset.number)
    return Symmetry(
        space_group=number,
        space_group_symbol=dataset.international,
        crystal_system=crystal_system(number),
        point_group=dataset.pointgroup.strip(),
        wyckoff_letters=_wyckoff_letters(structure, dataset),
        num_atoms_primitive=len(set(dataset.mapping_to_primitive.tolist())),
        num_atoms_conventional=len(dataset.std_types),
        symprec=symprec,
        space_groups={
            tolerance: number if tolerance == symprec else space_group_of(structure, tolerance)
            for tolerance in SYMPRECS
        },
    )


def conventional_structure(structure: Structure, *, symprec: float) -> Structure:
    """Conventional standard cell with atoms moved onto their exact symmetric positions.

    Raises:
        ValueError: If spglib finds no symmetry at `symprec` (Å).
    """
    dataset = symmetry_dataset(structure, symprec)
    return Structure(
        dataset.std_lattice, dataset.std_types, dataset.std_positions, to_unit_cell=True
    )


def primitive_structure(structure: Structure, *, symprec: float) -> Structure:
    """Standard primitive cell with atoms moved onto their exact symmetric positions.

    Raises:
        ValueError: If spglib finds no symmetry at `symprec` (Å).
    """
    conventional = conventional_structure(structure, symprec=symprec)
    cell = (conventional.lattice.matrix, conventional.frac_coords, conventional.atomic_numbers)
    lattice, frac_coords, numbers = spglib.find_primitive(cell, symprec=symprec)
    return Structure(lattice, numbers, frac_coords, to_unit_cell=True)
