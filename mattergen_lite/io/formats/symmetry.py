"""Reads the symmetry operations that CIFs state, and generates the atoms of a site by them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
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
        rotations, shifts = self.rotations.astype(int), self.translations.astype(float)
        return _group_number(rotations.tobytes(), shifts.tobytes())


def _rows(rotations: np.ndarray, translations: np.ndarray) -> np.ndarray:
    """One row of whole numbers an operation, equal for equal operations."""
    shifts = np.rint(translations.reshape(-1, 3) * 24).astype(int) % 24
    return np.hstack([rotations.reshape(-1, 9).astype(int), shifts])


@lru_cache(1024)
def _group_number(rotation_bytes: bytes, shift_bytes: bytes) -> int | None:
    """`Operations.space_group` of arrays, which many files share."""
    import spglib

    rotations = np.frombuffer(rotation_bytes, dtype=int).reshape(-1, 3, 3)
    shifts = np.frombuffer(shift_bytes).reshape(-1, 3)
    products = rotations[:, None] @ rotations
    moved = np.einsum("aij,bj->abi", rotations, shifts) + shifts[:, None]
    rows = np.vstack([_rows(rotations, shifts), _rows(products, moved)])
    if any(
        len(np.unique(part, axis=0)) != len(rotations) for part in (rows, rows[: len(rotations)])
    ):
        return None  # one is listed twice, or a product of two is none of them
    group = spglib.get_spacegroup_type_from_symmetry(rotations.astype("intc"), shifts)
    return None if group is None else int(group.number)


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
        raise unknown_group(symbol) from None


def not_understood(reason: str) -> ValueError:
    """The error of a symmetry that a file states wrongly, or in words that are not known here."""
    return ValueError(f"symmetry not understood: {reason}")


def unknown_group(symbol: str) -> ValueError:
    """The error of a name that stands for no space group."""
    return not_understood(f"{symbol[:40]!r} is no space group known here")


def equivalent_positions(
    frac: np.ndarray, operations: Operations, lattice: np.ndarray, where: str
) -> np.ndarray:
    """The atoms that symmetry operations make of one site, each once; fractional coordinates.

    Images within `MERGE_DISTANCE` of each other are one atom, in their middle: that is the special
    position whose coordinates the file has rounded.

    Raises:
        ValueError: If images are neither one atom nor far enough apart to be two; names the site.
    """
    images = operations.rotations @ frac + operations.translations
    differences = images[:, None] - images[None]
    shifts = np.rint(differences)
    distances = np.linalg.norm((differences - shifts) @ lattice, axis=-1)
    same = distances < MERGE_DISTANCE
    sizes = same.sum(axis=1)
    apart = distances[~same].min(initial=np.inf)
    is_transitive = ((same.astype(int) @ same.astype(int) > 0) == same).all()
    ambiguous = len(set(sizes.tolist())) > 1 or not is_transitive
    if ambiguous or apart < FEWEST_DISTANCE:
        raise ValueError(
            f"symmetry puts atoms {where} within {min(apart, FEWEST_DISTANCE):.2f} Å of each "
            "other: its coordinates do not fit the symmetry, or have too few digits"
        )
    first = same.argmax(axis=1)  # of the images that are the same atom
    members = [np.flatnonzero(same[index]) for index in sorted(set(first.tolist()))]
    return np.array([(images[group] + shifts[group[0], group]).mean(axis=0) for group in members])
