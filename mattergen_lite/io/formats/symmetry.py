"""Symmetry as CIFs state it: operations, or the name of a setting, and the atoms these generate.

A name stands for operations only if it names one setting. Hermann-Mauguin symbols of groups with
two origins or two sets of axes name two, and an unknown symbol none: neither is taken for P1.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import gemmi

MAX_OPERATIONS = 192  # of the largest space group
MAX_IMAGES = 200_000  # operations times sites, more than any cell that is accepted needs
# Å. Images of one site that are closer are one atom: coordinates of special positions are often
# rounded to two or three decimals. No two atoms of a crystal are that close.
MERGE_DISTANCE = 0.2
FEWEST_DISTANCE = 0.4  # Å, below which images that are not merged cannot be two atoms
METRIC_TOLERANCE = 0.02  # relative, within which operations keep the cell as it is

_TRIPLET = re.compile(r"(?!.*[0-9]{9})[-+*/.,xyzXYZ0-9\s]{5,60}")
MAX_SYMBOL = 60  # characters of a Hall symbol


@dataclass(frozen=True, kw_only=True)
class Operations:
    """Symmetry operations x -> R x + t on fractional coordinates."""

    rotations: np.ndarray  # M x 3 x 3, whole numbers
    translations: np.ndarray  # M x 3, [0, 1)

    def __len__(self) -> int:
        return len(self.rotations)

    @classmethod
    def of(cls, operations: Sequence["gemmi.Op"]) -> "Operations":
        """What gemmi has read, in its units of 1/24."""
        rotations, translations = zip(*((part.rot, part.tran) for part in operations), strict=True)
        unit = operations[0].DEN
        return cls(
            rotations=np.array(rotations) // unit, translations=np.array(translations) / unit % 1.0
        )

    def keep(self, lattice: np.ndarray) -> bool:
        """Whether every operation maps the lattice (rows a, b, c) onto itself, nearly."""
        metric = lattice @ lattice.T
        moved = np.einsum("mki,kl,mlj->mij", self.rotations, metric, self.rotations)
        return bool(np.abs(moved - metric).max() <= METRIC_TOLERANCE * np.abs(metric).max())

    def space_group(self) -> int | None:
        """International number of the group; None if the operations form none."""
        if len({*map(bytes, self._rounded())}) != len(self):
            return None
        if not self._closed():
            return None
        import spglib

        found = spglib.get_spacegroup_type_from_symmetry(
            self.rotations.astype("intc"), self.translations
        )
        return None if found is None else int(found.number)

    def _rounded(self) -> np.ndarray:
        """One row of whole numbers an operation, equal for equal operations."""
        shifts = np.rint(self.translations * 24).astype(int) % 24
        return np.hstack([self.rotations.reshape(-1, 9).astype(int), shifts])

    def _closed(self) -> bool:
        """Whether every product of two operations is one of them."""
        known = {*map(tuple, self._rounded().tolist())}
        for rotation, shift in zip(self.rotations, self.translations, strict=True):
            products = Operations(
                rotations=np.einsum("ij,mjk->mik", rotation, self.rotations),
                translations=(self.translations @ rotation.T + shift) % 1.0,
            )
            if not {*map(tuple, products._rounded().tolist())} <= known:
                return False
        return True


IDENTITY = Operations(rotations=np.eye(3, dtype=int)[None], translations=np.zeros((1, 3)))


def parse_operations(texts: Sequence[str]) -> Operations:
    """Operations from triplets such as "-y,x-y,z+1/3".

    Raises:
        ValueError: If one cannot be read, or there are more than the largest space group has.
    """
    if len(texts) > MAX_OPERATIONS:
        raise ValueError(f"{len(texts)} symmetry operations: expected at most {MAX_OPERATIONS}")
    return Operations.of([_parse_operation(text) for text in texts])


def _parse_operation(text: str) -> "gemmi.Op":
    import gemmi

    try:
        if not _TRIPLET.fullmatch(text):  # gemmi also reads other notations, and any length
            raise ValueError("expected the form x,y,z")
        operation = gemmi.Op(text)
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"symmetry operation {text[:40]!r}: {error}") from None
    whole = all(factor % operation.DEN == 0 for row in operation.rot for factor in row)
    if not whole or abs(operation.det_rot()) != operation.DEN**3:
        raise ValueError(f"symmetry operation {text[:40]!r} is no rotation or reflection")
    return operation


def hall_operations(symbol: str) -> Operations:
    """Operations of a Hall symbol, of any setting.

    Raises:
        ValueError: If it is none.
    """
    import gemmi

    try:
        return Operations.of(list(gemmi.symops_from_hall(symbol[:MAX_SYMBOL])))
    except RuntimeError:
        raise ValueError(
            f"symmetry not understood: {symbol[:40]!r} is no space group known here"
        ) from None


# Sites -> atoms


def equivalent_positions(
    frac: np.ndarray, operations: Operations, lattice: np.ndarray, where: str
) -> np.ndarray:
    """The atoms that the operations make of one site, each once.

    Images within `MERGE_DISTANCE` of each other are one atom, in their middle: that is the special
    position whose coordinates the file has rounded.

    Args:
        frac: Fractional coordinates of the site.
        operations: All symmetry operations of the cell.
        lattice: Rows a, b, c in Å.
        where: The site, for messages.

    Raises:
        ValueError: If images are neither one atom nor far enough apart to be two.
    """
    images = operations.rotations @ frac + operations.translations
    differences = images[:, None] - images[None]
    shifts = np.rint(differences)
    distances = np.linalg.norm((differences - shifts) @ lattice, axis=-1)
    same = distances < MERGE_DISTANCE
    sizes = same.sum(axis=1)
    apart = distances[~same].min(initial=np.inf)
    ambiguous = len(set(sizes.tolist())) > 1 or not _is_equivalence(same)
    if ambiguous or apart < FEWEST_DISTANCE:
        raise ValueError(
            f"symmetry puts atoms {where} within {min(apart, FEWEST_DISTANCE):.2f} Å of each "
            "other: its coordinates do not fit the symmetry, or have too few digits"
        )
    first = same.argmax(axis=1)  # of the images that are the same atom
    members = [np.flatnonzero(same[index]) for index in sorted(set(first.tolist()))]
    return np.array([(images[group] + shifts[group[0], group]).mean(axis=0) for group in members])


def _is_equivalence(same: np.ndarray) -> bool:
    """Whether what is near to one is near to all that this is near to."""
    return bool(((same.astype(int) @ same.astype(int) > 0) == same).all())
