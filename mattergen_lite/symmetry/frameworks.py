"""Frameworks of all embedded known crystals: protostructures, and a fingerprint of each.

A framework is a crystal without its elements. Fingerprints, which do not jump when symmetry is
lost, find what to compare: average minimum distances (Widdowson et al., MATCH Commun. Math. Comput.
Chem. 87, 529, 2022). `scripts/build_known_frameworks.py` writes the table.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import as_file, files
from math import gcd

import numpy as np

from mattergen_lite.symmetry.protostructures import Protostructure, short_digest
from mattergen_lite.tensors.shapes import Float, Int

NUM_NEIGHBOURS = 16  # of the fingerprint
# P1 and P-1, in which any arrangement of atoms is possible, tell no framework from another.
LEAST_SYMMETRY = 2


@dataclass(frozen=True, kw_only=True)
class KnownFrameworks:
    """Protostructures of known crystals, and a known crystal of each."""

    digests: Int[np.ndarray, "D"]  # of every crystal at two tolerances
    rows: Int[np.ndarray, "K"]  # in the embedded table: one crystal for each protostructure
    stoichiometries: Int[np.ndarray, "K"]  # digest of each of them, such as of A2BX4
    fingerprints: Float[np.ndarray, "K F"]

    def __contains__(self, label: Protostructure) -> bool:
        return label.digest in self._digests

    @cached_property
    def _digests(self) -> frozenset[int]:
        return frozenset(self.digests.tolist())

    def nearest(
        self, sizes: Sequence[int], fingerprint: Float[np.ndarray, "F"], count: int
    ) -> list[int]:
        """Rows of known crystals of a stoichiometry, those of closest fingerprint first."""
        alike = np.flatnonzero(self.stoichiometries == stoichiometry_digest(sizes))
        distance = np.abs(self.fingerprints[alike] - fingerprint).max(-1)
        return self.rows[alike[distance.argsort(kind="stable")[:count]]].tolist()


@cache
def known_frameworks() -> KnownFrameworks:
    """The frameworks of the embedded table."""
    with as_file(files("mattergen_lite") / "assets" / "known_frameworks.npz") as path:
        table = dict(np.load(path))
    return KnownFrameworks(**table | {"fingerprints": table["fingerprints"].astype(float)})


def stoichiometry_digest(sizes: Sequence[int]) -> int:
    """63 bits that name the numbers of atoms of the elements, without common factor and order."""
    common = gcd(*map(int, sizes))
    return short_digest(".".join(str(int(size) // common) for size in sorted(sizes)))


def average_minimum_distances(
    frac_coords: Float[np.ndarray, "N 3"], lattice: Float[np.ndarray, "3 3"]
) -> Float[np.ndarray, "F"]:
    """Mean distance of an atom to its first, second, ... neighbour, whatever the elements.

    The unit is the cube root of the volume per atom.
    """
    from pymatgen.optimization.neighbors import find_points_in_spheres

    edge = float(abs(np.linalg.det(lattice)) / len(frac_coords)) ** (1 / 3)
    coords = np.ascontiguousarray(frac_coords @ lattice)
    radius = 2.0 * edge
    while True:
        centres, _, _, distances = find_points_in_spheres(
            coords, coords, radius, np.ones(3, np.int64), np.ascontiguousarray(lattice), 1e-3
        )
        counts = np.bincount(centres[distances > 1e-3], minlength=len(coords))
        if counts.min() >= NUM_NEIGHBOURS:
            break
        radius *= 1.3
    nearest = [
        np.sort(distances[(centres == atom) & (distances > 1e-3)])[:NUM_NEIGHBOURS]
        for atom in range(len(coords))
    ]
    return np.mean(nearest, axis=0) / edge
