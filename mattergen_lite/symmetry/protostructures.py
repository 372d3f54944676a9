"""Protostructures: space group, Wyckoff positions, and which of them hold the same element.

Two crystals of one protostructure differ in elements, free coordinates and cell only. Descriptions
that an affine normaliser relates are one: each protostructure is kept in the form that sorts first.
The labels of AFLOW (Hicks et al., Comput. Mater. Sci. 199, 110450, 2021) without prototype names
are the same classes.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b

import numpy as np

from mattergen_lite.symmetry.orbits import Orbits
from mattergen_lite.symmetry.wyckoff import wyckoff_positions
from mattergen_lite.tensors.shapes import Int


@dataclass(frozen=True, order=True)
class Protostructure:
    """A space group and the Wyckoff positions of each element, in canonical form."""

    space_group: int
    # For each element ascending numbers in `wyckoff_positions`, one an orbit.
    classes: tuple[tuple[int, ...], ...]

    @classmethod
    def canonical(cls, space_group: int, classes: Iterable[Sequence[int]]) -> "Protostructure":
        """The form that sorts first among all that the normaliser relates."""
        return _canonical(space_group, tuple(sorted(tuple(sorted(sites)) for sites in classes)))

    def __str__(self) -> str:
        return f"{self.space_group}:" + "|".join(
            ".".join(map(str, sites)) for sites in self.classes
        )

    @property
    def digest(self) -> int:
        """63 bits that name the protostructure in files."""
        return short_digest(str(self))


@lru_cache(maxsize=100_000)
def _canonical(space_group: int, classes: tuple[tuple[int, ...], ...]) -> Protostructure:
    exchanges = wyckoff_positions(space_group).exchanges
    rows = [list(sites) for sites in classes]
    forms = (
        sorted(tuple(sorted(exchange[row].tolist())) for row in rows) for exchange in exchanges
    )
    return Protostructure(space_group, tuple(min(forms)))


def short_digest(text: str) -> int:
    """63 bits that name a text."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest()) >> 1


def positions_of(orbits: Orbits) -> Int[np.ndarray, "O"]:
    """Number of the Wyckoff position of each orbit.

    Raises:
        ValueError: If an orbit is on none.
    """
    positions = wyckoff_positions(orbits.space_group)
    return positions.identify(orbits.frac_coords, orbits.multiplicities)


def protostructure(orbits: Orbits) -> Protostructure:
    """The protostructure of a crystal.

    Raises:
        ValueError: If an orbit is on no Wyckoff position.
    """
    positions, numbers = positions_of(orbits), orbits.atomic_numbers
    classes = [positions[numbers == number].tolist() for number in np.unique(numbers)]
    return Protostructure.canonical(orbits.space_group, classes)
