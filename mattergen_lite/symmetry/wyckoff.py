"""Wyckoff positions of the 230 space groups, in the primitive cells of `space_groups`.

A position is a point, line, plane or all of space (a flat) in which a representative atom may lie.
Positions of a group are numbered by rising freedom, multiplicity and coordinates.
`scripts/build_wyckoff_positions.py` writes the table.

The affine normaliser of a group (International Tables A, chapter 3.5) maps its positions onto each
other: an origin shift by half a cell exchanges the two sites of rock salt. Choices that it relates
describe the same crystals; `WyckoffPositions.exchanges` lists them.
"""

from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import as_file, files
from itertools import product

import numpy as np

from mattergen_lite.symmetry.orbits import site_symmetry
from mattergen_lite.symmetry.space_groups import SpaceGroup, space_group
from mattergen_lite.tensors.shapes import Float, Int

_GENERIC = np.array([0.1327, 0.3119, 0.0871])  # free coordinates that fulfil no further symmetry
_TOLERANCE = 2e-3  # cell fractions within which a point lies on a flat
_NEIGHBOURS = np.array(list(product((-1, 0, 1), repeat=3)))


@dataclass(frozen=True, kw_only=True)
class WyckoffPositions:
    """The W Wyckoff positions of one space group."""

    group: SpaceGroup
    offset: Float[np.ndarray, "W 3"]  # a point of the representative's flat
    basis: Int[np.ndarray, "W 3 3"]  # rows: its directions; rows of zeros where not free
    exchanges: Int[np.ndarray, "P W"]  # permutations by the normaliser, the identity first

    def __len__(self) -> int:
        return len(self.offset)

    @cached_property
    def freedom(self) -> Int[np.ndarray, "W"]:
        """Number of free coordinates."""
        return np.abs(self.basis).any(-1).sum(-1)

    @cached_property
    def multiplicity(self) -> Int[np.ndarray, "W"]:
        """Atoms of an orbit in the primitive cell."""
        return np.array([len(site) for site in self.operations])

    @cached_property
    def operations(self) -> tuple[Int[np.ndarray, "_"], ...]:
        """For each position one operation an atom, the identity first."""
        points = self.at(np.tile(_GENERIC, (len(self), 1)))
        keys = np.rint(self.group.images(points) * 1e4).astype(int) % 10_000  # [G, W, 3]
        firsts = (np.unique(keys[:, w], axis=0, return_index=True)[1] for w in range(len(self)))
        return tuple(np.sort(first) for first in firsts)

    @cached_property
    def rotation_types(self) -> Int[np.ndarray, "W T"]:
        """How many operations of each kind leave the position where it is."""
        points = self.at(np.tile(_GENERIC, (len(self), 1)))
        return site_symmetry(self.group.number, points)[1]

    def at(self, free: Float[np.ndarray, "W 3"]) -> Float[np.ndarray, "W 3"]:
        """Points on the flats of all positions, at given free coordinates."""
        return self.offset + (free[:, None] @ self.basis)[:, 0]

    def identify(
        self, frac_coords: Float[np.ndarray, "O 3"], multiplicity: Int[np.ndarray, "O"]
    ) -> Int[np.ndarray, "O"]:
        """Find the positions of O orbits by any of their atoms and how many they have.

        Raises:
            ValueError: If a representative is on no position of its multiplicity.
        """
        apart = self.group.images(frac_coords)[:, :, None] - self.offset  # [G, O, W, 3]
        apart -= np.rint(apart)
        distance = np.full(apart.shape[1:-1], np.inf)
        for shift in _NEIGHBOURS:
            across = ((apart + shift)[..., None, :] @ self._across)[..., 0, :]
            distance = np.minimum(distance, np.abs(across).max(-1).min(0))
        distance[multiplicity[:, None] != self.multiplicity] = np.inf
        nearest = distance.argmin(-1)
        if distance[np.arange(len(nearest)), nearest].max(initial=0) > _TOLERANCE:
            raise ValueError(f"a point is on no position of space group {self.group.number}")
        return nearest

    @cached_property
    def _across(self) -> Float[np.ndarray, "W 3 3"]:
        """Projections onto what is across each flat."""
        return np.stack([np.eye(3) - _along(rows) for rows in self.basis])


def _along(basis: Int[np.ndarray, "3 3"]) -> Float[np.ndarray, "3 3"]:
    """Projection onto the rows of a basis that may have rows of zeros."""
    rows = basis[np.abs(basis).any(-1)].astype(float)
    return np.linalg.pinv(rows) @ rows if len(rows) else np.zeros((3, 3))


@cache
def wyckoff_positions(number: int) -> WyckoffPositions:
    """The Wyckoff positions of a space group.

    Raises:
        ValueError: If there is no such group.
    """
    group, tables = space_group(number), _tables()
    rows = tables["group_of_position"] == number
    count = int(rows.sum())
    exchanges = tables["exchanges"][tables["group_of_exchange"] == number, :count]
    return WyckoffPositions(
        group=group,
        offset=tables["offset"][rows],
        basis=tables["basis"][rows].astype(int),
        exchanges=exchanges.astype(int),
    )


@cache
def _tables() -> dict[str, np.ndarray]:
    with as_file(files("mattergen_lite") / "assets" / "wyckoff_positions.npz") as path:
        return dict(np.load(path))
