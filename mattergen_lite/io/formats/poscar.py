"""POSCAR and CONTCAR (VASP) -> a checked structure."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mattergen_lite.chemistry.elements import symbols
from mattergen_lite.io.formats.structures import (
    build_structure,
    check_count,
    check_lattice,
    number_of,
    parse_finite,
)

if TYPE_CHECKING:
    from pymatgen.core import Structure

_MAX_COUNT_DIGITS = 12
_POTENTIAL = re.compile(
    r"(?P<symbol>[A-Za-z]+)(?P<kind>(?:_[A-Za-z0-9.]+)*)(?:/[0-9a-f]*)?"
)  # hash


def parse_poscar(text: str) -> "Structure":
    """The crystal of a POSCAR of VASP 5 or later, or of VASP 4 with a symbol behind every atom.

    A negative scale is the volume of the cell, and scales Cartesian coordinates like the cell.

    Raises:
        ValueError: If a line is missing or is not what its place asks for, or elements are unknown.
    """
    lines = [line.split() for line in text.split("\n")]  # not at form feeds and the like
    while lines and not lines[-1]:
        lines.pop()
    if len(lines) < 8:
        raise ValueError(f"POSCAR has {len(lines)} lines: expected at least 8")
    raw = np.array([_numbers(lines[row], 3, f"lattice vector {row - 1}") for row in (2, 3, 4)])
    scale = _scale(lines[1], raw)
    lattice = raw * scale
    check_lattice(lattice)
    named = not (lines[5] and lines[5][0].lstrip("+").isdecimal())
    names = lines[5] if named else []
    counts = _counts(lines[6 if named else 5])
    if named and len(names) != len(counts):
        raise ValueError(f"POSCAR has {len(names)} elements and {len(counts)} counts")
    num_atoms = sum(counts)
    check_count(num_atoms)
    if 0 in counts:
        raise ValueError(f"POSCAR has the counts {counts}: expected whole numbers above 0")
    mode, rows = _coordinates(lines, 7 if named else 6, num_atoms)
    numbers = _elements(names, counts) if named else _elements_behind(rows)
    if named:
        _check_symbols_behind(rows, numbers)
    coords = np.array([_numbers(row, 3, f"atom {i}") for i, row in enumerate(rows, start=1)])
    if mode in "ck":
        coords = (coords * scale) @ np.linalg.inv(lattice)
    return build_structure(lattice, numbers, coords)


def _numbers(words: Sequence[str], count: int, what: str) -> list[float]:
    if len(words) < count:
        raise ValueError(f"POSCAR: {what} has {len(words)} numbers: expected {count}")
    return [parse_finite(word, f"a number of {what}") for word in words[:count]]


def _scale(words: Sequence[str], raw: np.ndarray) -> np.ndarray:
    """Factors of the x, y and z components."""
    three = len(words) >= 3 and all(word[:1] in "+-.0123456789" for word in words[:3])
    factors = np.array(_numbers(words, 3 if three else 1, "the scale"))
    if three and not (factors > 0).all():
        raise ValueError(f"POSCAR scales {factors.tolist()}: expected above 0")
    if not factors.all():
        raise ValueError("POSCAR scale is 0: expected a factor, or minus the volume in Å³")
    volume = abs(np.linalg.det(raw))
    if not three and factors[0] < 0:
        if not volume > 0:
            raise ValueError(f"lattice is singular: {raw.tolist()}")
        factors = np.cbrt(-factors / volume)
    return np.broadcast_to(factors, 3)


def _counts(words: Sequence[str]) -> list[int]:
    end = next((i for i, word in enumerate(words) if word[0] in "!#"), len(words))
    for word in words[:end]:
        if not word.isdecimal() or len(word) > _MAX_COUNT_DIGITS:
            raise ValueError(f"POSCAR has the count {word[:40]!r}: expected a whole number")
    return [int(word) for word in words[:end]]


def _coordinates(
    lines: Sequence[Sequence[str]], start: int, num_atoms: int
) -> tuple[str, list[list[str]]]:
    """First letter of the coordinates' kind, and one list of words an atom."""
    selective = start < len(lines) and lines[start] and lines[start][0][0] in "sS"
    start += bool(selective)
    mode = lines[start][0][0].lower() if start < len(lines) and lines[start] else ""
    if mode not in {"d", "c", "k"}:
        raise ValueError(f"POSCAR has coordinates of kind {mode!r}: expected Direct or Cartesian")
    rows = [list(row) for row in lines[start + 1 : start + 1 + num_atoms]]
    if len(rows) < num_atoms or not all(rows):
        raise ValueError(
            f"POSCAR announces {num_atoms} atoms, lists {sum(map(bool, rows))}: expected all"
        )
    if selective:  # three flags behind the coordinates
        rows = [row[:3] + row[6:] for row in rows]
    after = lines[start + 1 + num_atoms : start + 2 + num_atoms]
    if after and after[0] and _looks_like_an_atom(after[0]):
        raise ValueError(f"POSCAR announces {num_atoms} atoms and lists more")
    return mode, rows


def _looks_like_an_atom(words: Sequence[str]) -> bool:
    """Velocities and other blocks come after an empty line or a keyword, atoms do not."""
    try:
        return len(_numbers(words, 3, "")) == 3
    except ValueError:
        return False


def _elements(names: Sequence[str], counts: Sequence[int]) -> list[int]:
    """Atomic numbers in the order of the atoms; Fe_pv and Fe/0123 are pseudopotentials of Fe.

    Nb_Zr and Nb/Zr are not.
    """
    numbers = []
    for name, count in zip(names, counts, strict=True):
        match = _POTENTIAL.fullmatch(name)
        is_mixed = match and not {*symbols()[1:]}.isdisjoint(match["kind"].split("_"))
        symbol = name if match is None or is_mixed else match["symbol"]
        numbers += [number_of(symbol, f"the element line ({name[:20]})")] * count
    return numbers


def _elements_behind(rows: Sequence[Sequence[str]]) -> list[int]:
    if not all(len(row) > 3 for row in rows):
        raise ValueError("POSCAR names no elements: they cannot be determined")
    return [number_of(row[3], f"atom {place}") for place, row in enumerate(rows, start=1)]


def _check_symbols_behind(rows: Sequence[Sequence[str]], numbers: Sequence[int]) -> None:
    """Refuse symbols behind the coordinates that contradict the element line."""
    for place, (row, number) in enumerate(zip(rows, numbers, strict=True), start=1):
        told = row[3] if len(row) > 3 else symbols()[number]
        if told in symbols()[1:] and told != symbols()[number]:
            raise ValueError(
                f"atom {place} is {symbols()[number]} by the element line and {told} by its own"
            )
