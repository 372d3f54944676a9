"""Symmetry as CIFs state it: operations, or the name of a setting, and the atoms these generate.

A name stands for operations only if it names one setting. Hermann-Mauguin symbols of groups with
two origins or two sets of axes name two, and an unknown symbol none: neither is taken for P1.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache

import numpy as np

NUM_SETTINGS = 530  # of the 230 space groups, in the order of Hall numbers
MAX_OPERATIONS = 192  # of the largest space group
MAX_IMAGES = 200_000  # operations times sites, more than any cell that is accepted needs
# Å. Images of one site that are closer are one atom: coordinates of special positions are often
# rounded to two or three decimals. No two atoms of a crystal are that close.
MERGE_DISTANCE = 0.2
FEWEST_DISTANCE = 0.4  # Å, below which images that are not merged cannot be two atoms
METRIC_TOLERANCE = 0.02  # relative, within which operations keep the cell as it is

_TERM = re.compile(r"([+-]?)(?:(\d+(?:\.\d*)?|\.\d+)(?:/(\d+))?)?\*?([xyz]?)")
_CHOICES = re.compile(r"(?:\s*:\s*|\s+)([12HRSZhrsz])$")


@dataclass(frozen=True, kw_only=True)
class Operations:
    """Symmetry operations x -> R x + t on fractional coordinates."""

    rotations: np.ndarray  # M x 3 x 3, whole numbers
    translations: np.ndarray  # M x 3, [0, 1)

    def __len__(self) -> int:
        return len(self.rotations)

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
    parsed = [_parse_operation(text) for text in texts]
    return Operations(
        rotations=np.array([rotation for rotation, _ in parsed]),
        translations=np.array([shift for _, shift in parsed]) % 1.0,
    )


def _parse_operation(text: str) -> tuple[np.ndarray, np.ndarray]:
    rotation, shift = np.zeros((3, 3), dtype=int), np.zeros(3)
    parts = text.lower().replace(" ", "").split(",")
    if len(text) > 100 or len(parts) != 3 or not all(parts):
        raise ValueError(f"symmetry operation {text[:40]!r}: expected the form x,y,z")
    for row, part in enumerate(parts):
        end = 0
        for match in _TERM.finditer(part):
            sign, number, divisor, axis = match.groups()
            if match.start() != end or not (number or axis):
                break
            end = match.end()
            value = (-1 if sign == "-" else 1) * _ratio(number, divisor, text)
            if axis:
                rotation[row, "xyz".index(axis)] += round(value)
            else:
                shift[row] += value
        if end != len(part):
            raise ValueError(f"symmetry operation {text[:40]!r}: expected the form x,y,z")
    if abs(round(np.linalg.det(rotation))) != 1:
        raise ValueError(f"symmetry operation {text[:40]!r} is no rotation or reflection")
    return rotation, shift


def _ratio(number: str | None, divisor: str | None, text: str) -> float:
    """A term's factor, 1/3 for 0.3333: shifts of space groups are multiples of 1/24."""
    if divisor is not None and int(divisor) == 0:
        raise ValueError(f"symmetry operation {text[:40]!r} divides by zero")
    value = float(number or 1) / float(divisor or 1)
    exact = float(Fraction(round(24 * value), 24))
    return exact if abs(exact - value) < 5e-3 else value


# Names of settings


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One of the 530 settings of the space groups."""

    hall_number: int
    number: int  # international
    choice: str  # of origin, axes or cell
    hall: str
    names: tuple[str, ...]  # Hermann-Mauguin, the full one first

    @property
    def operations(self) -> Operations:
        """Its operations."""
        import spglib

        found = spglib.get_symmetry_from_database(self.hall_number)
        return Operations(rotations=found["rotations"], translations=found["translations"] % 1.0)


@cache
def settings() -> tuple[Setting, ...]:
    """All settings that spglib knows."""
    import spglib

    found = []
    for hall_number in range(1, NUM_SETTINGS + 1):
        one = spglib.get_spacegroup_type(hall_number)
        names = [one.international_full, *one.international.split("="), one.international_short]
        found.append(
            Setting(
                hall_number=hall_number,
                number=one.number,
                choice=one.choice,
                hall=_plain(one.hall_symbol),
                names=tuple(map(_plain, names)),
            )
        )
    return tuple(found)


def _plain(name: str) -> str:
    """A symbol without blanks, underscores and capitals."""
    return re.sub(r"[\s_()]", "", name).lower()


def named_settings(
    *, hall: str | None = None, name: str | None = None, number: int | None = None
) -> tuple[list[Setting], str]:
    """Settings that a Hall symbol, else a Hermann-Mauguin name, else a number may stand for.

    Returns:
        The settings, none if the symbols are unknown, and the symbol that was looked up.
    """
    if hall is not None:
        return [one for one in settings() if one.hall == _plain(hall)], hall
    if name is not None:
        return _named(name), name
    return [one for one in settings() if one.number == number], str(number)


def _named(name: str) -> list[Setting]:
    """Settings with a Hermann-Mauguin name: by its full form if it is one, else by any."""
    match = _CHOICES.search(name)
    exact = _with_name(name)
    if exact or match is None:
        return exact
    # ICSD: S and Z are first and second origin.
    choice = {"S": "1", "Z": "2"}.get(match[1].upper(), match[1].upper())
    return [one for one in _with_name(name[: match.start()]) if one.choice == choice]


def _with_name(name: str) -> list[Setting]:
    plain = _plain(name)
    full = [one for one in settings() if one.names[0] == plain]
    if full:
        return full
    found = [one for one in settings() if plain in one.names]
    # A short monoclinic name such as P2_1/c means the standard setting, unique axis b, cell 1.
    standard = [one for one in found if one.choice in ("b", "b1") and one.number <= 15]
    return standard or found


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
