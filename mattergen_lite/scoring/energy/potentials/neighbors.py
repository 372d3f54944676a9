"""Finds the neighbours of atoms in crystals."""

from typing import TYPE_CHECKING

import numpy as np

from mattergen_lite.tensors.shapes import Float, Int

if TYPE_CHECKING:
    from ase import Atoms

MIN_DISTANCE = 0.1  # Å; below it a potential divides by zero


def neighbor_edges(
    atoms: "Atoms", cutoff: float
) -> tuple[Int[np.ndarray, "E 2"], Int[np.ndarray, "E 3"], Float[np.ndarray, "E"]]:
    """Return directed edges (centre, neighbour), cells of the neighbours and lengths, all in Å.

    Raises:
        ValueError: If two atoms coincide or one has no neighbour.
    """
    from pymatgen.optimization.neighbors import find_points_in_spheres

    positions = np.ascontiguousarray(atoms.positions, dtype=float)
    lattice = np.ascontiguousarray(atoms.cell.array, dtype=float)
    periodic = np.ones(3, dtype=np.int64)
    centres, neighbours, images, lengths = find_points_in_spheres(
        positions, positions, cutoff, periodic, lattice, 1e-8
    )
    images = np.rint(images).astype(np.int64)
    is_self = (centres == neighbours) & ~images.any(axis=1)
    edges = np.stack([centres, neighbours], axis=1).astype(np.int64)[~is_self]
    if len(np.unique(edges[:, 0])) < len(atoms):
        raise ValueError(f"an atom has no neighbour within {cutoff:g} Å")
    if lengths[~is_self].min() < MIN_DISTANCE:
        raise ValueError(f"two atoms coincide: {lengths[~is_self].min():.3f} Å apart")
    return edges, images[~is_self], lengths[~is_self]
