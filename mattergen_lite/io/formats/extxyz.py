"""One frame of extended XYZ -> a checked structure and the values of its comment line."""

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from mattergen_lite.io.formats.structures import (
    INITIAL_CHARGES,
    OCCUPANCIES,
    build_structure,
    check_initial_charges,
    check_lattice,
    check_periodic,
    check_stated,
    number_of,
    parse_finite,
)

if TYPE_CHECKING:
    from pymatgen.core import Structure

_PAIR = re.compile(
    r"""(?:^|\s)(?P<key>[^\s="']+)\s*=\s*"""
    r"""(?:"(?P<double>(?:[^"\\]|\\.)*)"|'(?P<single>[^']*)'|(?P<bare>[^\s"']\S*))"""
)
_DEFAULT_COLUMNS = "species:S:1:pos:R:3"
_FLAGS = {"T": True, "True": True, "F": False, "False": False}
_RESERVED = {"lattice", "properties", "pbc"}
_TRUTH = {"t": True, "true": True, "1": True, "f": False, "false": False, "0": False}


def comment_values(comment: str) -> dict[str, str]:
    """Values of a comment line as text, quotes removed: 000012 stays 000012."""
    return {match["key"]: _text(match) for match in _PAIR.finditer(comment)}


def _text(match: re.Match) -> str:
    text = match[match.lastgroup]
    return re.sub(r"\\(.)", r"\1", text) if match.lastgroup == "double" else text


def parse_extxyz(frame: str) -> tuple["Structure", Mapping[str, str | bool]]:
    """The crystal of a frame, and what else its comment line says.

    Raises:
        ValueError: If there is no cell, no column of positions or elements, a direction is not
            periodic, or an atom is not a known element at a finite place.
    """
    lines = frame.removesuffix("\n").split("\n")  # not at form feeds and the like
    values = comment_values(lines[1])
    keys = _keys(lines[1])
    lattice = _lattice(keys.get("lattice"))
    check_periodic(_pbc(keys.get("pbc", "T T T")))
    columns = _columns(keys.get("properties", _DEFAULT_COLUMNS))
    rows = [line.split() for line in lines[2:]]
    numbers = _elements(columns, rows)
    positions = np.array(
        [_position(row, columns["pos"], f"atom {i}") for i, row in enumerate(rows, start=1)]
    ).reshape(-1, 3)
    for name in columns.keys() & OCCUPANCIES:
        check_stated({name: [row[columns[name]] for row in rows]})
    if INITIAL_CHARGES in columns:
        check_initial_charges([charge for row in rows for charge in row[columns[INITIAL_CHARGES]]])
    structure = build_structure(lattice, numbers, positions @ np.linalg.inv(lattice))
    others = {key: text for key, text in values.items() if key.lower() not in _RESERVED}
    return structure, {key: _FLAGS.get(text, text) for key, text in others.items()}


def _keys(comment: str) -> dict[str, str]:
    """Values by key in lower case; what says what a crystal is may be said once."""
    words: dict[str, str] = {}
    for match in _PAIR.finditer(comment):
        key, text = match["key"].lower(), _text(match)
        if key in _RESERVED and words.get(key, text) != text:
            raise ValueError(f"{key} is {words[key][:60]!r} and {text[:60]!r}: expected it once")
        words[key] = text
    return words


def _lattice(text: str | None) -> np.ndarray:
    if text is None:
        raise ValueError("lattice is singular: the frame has no Lattice")
    words = _words(text)
    if len(words) not in (3, 9):
        raise ValueError(f"Lattice has {len(words)} numbers: expected 9")
    numbers = [parse_finite(word, "a number of Lattice") for word in words]
    lattice = np.diag(numbers) if len(words) == 3 else np.reshape(numbers, (3, 3))
    check_lattice(lattice)
    return lattice


def _words(text: str) -> list[str]:
    return re.sub(r"[,\[\]]", " ", text).split()


def _pbc(text: str) -> list[bool]:
    words = _words(text.lower())
    if not all(word in _TRUTH for word in words):
        raise ValueError(f"pbc is {text[:40]!r}: expected T T T")
    flags = [_TRUTH[word] for word in words]
    return flags * 3 if len(flags) == 1 else flags


def _columns(text: str) -> dict[str, slice]:
    """Place of every column by its name."""
    parts = text.split(":")
    if len(parts) % 3 or not all(width.isdecimal() and len(width) < 4 for width in parts[2::3]):
        raise ValueError(f"Properties {text[:60]!r}: expected name:type:columns, repeated")
    columns, start = {}, 0
    for name, width in zip(parts[::3], map(int, parts[2::3]), strict=True):
        if name in columns:
            raise ValueError(f"column {name[:40]!r} twice in Properties {text[:60]!r}")
        columns[name] = slice(start, start + width)
        start += width
    if "pos" not in columns:
        raise ValueError(f"no column pos in Properties {text[:60]!r}: where are the atoms?")
    if not columns.keys() & {"species", "Z"}:
        raise ValueError(f"no column species or Z in Properties {text[:60]!r}")
    return columns


def _elements(columns: Mapping[str, slice], rows: Sequence[Sequence[str]]) -> list[int]:
    by_symbol = "species" in columns
    place = columns["species" if by_symbol else "Z"].start
    numbers = []
    for atom, row in enumerate(rows, start=1):
        if len(row) <= place:
            raise ValueError(f"atom {atom} has {len(row)} values: expected more")
        word = row[place]
        if by_symbol and word.isdecimal():  # 1 may be hydrogen, or the first type of LAMMPS
            raise ValueError(
                f"atom {atom} has the species {word[:20]!r}: expected a symbol; atomic numbers "
                "stand in a column Z:I:1"
            )
        if by_symbol:
            numbers.append(number_of(word, f"atom {atom}"))
        elif word.isdecimal() and len(word) < 4:
            numbers.append(int(word))
        else:
            raise ValueError(f"atom {atom} has Z = {word[:20]!r}: expected 1 to 100")
    return numbers


def _position(row: Sequence[str], place: slice, what: str) -> list[float]:
    words = row[place]
    if len(words) != 3 or len(row) < place.stop:
        raise ValueError(f"{what} has {len(row)} values: expected {place.stop} or more")
    return [parse_finite(word, f"a coordinate of {what}") for word in words]
