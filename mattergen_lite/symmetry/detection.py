"""The symmetry that spglib finds in a crystal, and the tolerances at which it is asked."""

import os
from typing import TYPE_CHECKING

import numpy as np

from mattergen_lite.tensors.shapes import Float, Int

if TYPE_CHECKING:
    from pymatgen.core import Structure
    from spglib import SpglibDataset  # its base class has annotations that beartype cannot check

SYMPREC_GENERATED = 0.1  # Å; for generated crystals, and for equivalent atoms of known ones
SYMPREC_RELAXED = 0.01  # Å; for relaxed crystals, those of the table among them
ANGLE_TOLERANCE = 5.0  # degrees, the default of pymatgen's SpacegroupAnalyzer


def find_symmetry(
    lattice: Float[np.ndarray, "3 3"],
    frac_coords: Float[np.ndarray, "N 3"],
    atomic_numbers: Int[np.ndarray, "N"],
    symprec: float,
    angle_tolerance: float = -1.0,
) -> "SpglibDataset | None":
    """Find the space group of a crystal; None where spglib finds nothing, as in overlapping atoms.

    `symprec` is the tolerance of positions in Å, `angle_tolerance` that of the cell in degrees; -1
    lets spglib derive it.
    """
    import spglib

    # Symmetry that it sees and cannot refine ends in the result, not on the terminal.
    os.environ.setdefault("SPGLIB_WARNING", "OFF")
    try:
        return spglib.get_symmetry_dataset(
            (lattice, frac_coords, atomic_numbers), symprec, angle_tolerance
        )
    except spglib.SpglibError:  # or None: which of the two is a global switch, which phonopy sets
        return None


def symmetry_dataset(structure: "Structure", symprec: float) -> "SpglibDataset":
    """Find the symmetry of a crystal at a tolerance in Å.

    Raises:
        ValueError: If spglib finds nothing, which it does when atoms are closer than `symprec`, or
            a number is not finite.
    """
    if not (
        np.isfinite(structure.lattice.matrix).all() and np.isfinite(structure.frac_coords).all()
    ):
        raise ValueError("a cell or coordinates that are not finite have no symmetry")  # or a crash
    dataset = find_symmetry(
        structure.lattice.matrix,
        structure.frac_coords,
        np.array(structure.atomic_numbers),
        symprec,
        ANGLE_TOLERANCE,
    )
    if dataset is None:
        raise ValueError(f"spglib finds no symmetry at symprec {symprec} Å: do atoms overlap?")
    return dataset
