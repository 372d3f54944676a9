"""Reads magnetic moments from CHGNet, which was trained on those of DFT (magnetic charges)."""

import numpy as np
from pymatgen.core import Structure

from mattergen_lite.scoring.energy.potentials.base import check_elements
from mattergen_lite.scoring.energy.potentials.sources import load_potential
from mattergen_lite.tensors.shapes import Float


def magnetic_moments(structure: Structure) -> Float[np.ndarray, "N"]:
    """Magnitude of the moment of every atom in µB.

    Raises:
        ValueError: If CHGNet does not know an element, or an atom has no neighbour.
    """
    potential = load_potential("chgnet")  # that of the relaxer, loaded once a process
    check_elements(potential, structure.symbol_set)
    return potential.moments(structure.to_ase_atoms(msonable=False))


def magnetic_density(structure: Structure) -> float:
    """Sum of the moments over the volume in µB/Å³: that of the ferromagnetic order.

    The Materials Project's calculations start ferromagnetic, and so do the labels.

    Raises:
        ValueError: If CHGNet does not know an element, or an atom has no neighbour.
    """
    return float(magnetic_moments(structure).sum()) / structure.volume
