"""Checks every option, of whichever command: finite, within bounds, not empty.

A number has its bounds in its annotation, `batch_size: BatchSize = 64`; all else holds for every
option by its type, so that a new one is safe by default. `check` looks at values, `check_word` at
the words of a command line, which conversion might change.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, get_args, get_origin, get_type_hints

# How pydantic reads options from YAML; numbers may stand for texts, as on a command line.
IN_YAML = {"extra": "forbid", "coerce_numbers_to_str": True}
MAX_TEXT = 10_000  # characters
LARGEST = 2**63 - 1

_WHOLE = re.compile(r"[-+]?[0-9]{1,19}")


@dataclass(frozen=True)
class Bounds:
    """Lowest and highest value of a number."""

    low: int | float
    high: int | float
    below: bool = False  # the highest value itself is not allowed

    def check(self, name: str, value: int | float) -> None:
        """Refuse what is outside.

        Raises:
            ValueError: If it is.
        """
        if not self.low <= value <= self.high or (self.below and value == self.high):
            end = "below" if self.below else "to"
            raise ValueError(f"{name} is {value}: expected {self.low} {end} {self.high}")


Count = Annotated[int, Bounds(1, 10**9)]
Length = Annotated[int, Bounds(0, 10**6)]  # of a list that may be empty
Seed = Annotated[int, Bounds(0, 2**63 - 1)]
Number = Annotated[int, Bounds(0, 2**53)]  # of a sample
Workers = Annotated[int, Bounds(0, 4096)]
OptimizerSteps = Annotated[int, Bounds(1, 10**8)]
BatchSize = Annotated[int, Bounds(1, 65_536)]
Atoms = Annotated[int, Bounds(1, 10_000)]
Minutes = Annotated[float, Bounds(1e-9, 10**6)]
LearningRate = Annotated[float, Bounds(1e-12, 1)]
Share = Annotated[float, Bounds(0, 1)]
ShareBelowOne = Annotated[float, Bounds(0, 1, below=True)]


def check_fields(options: object) -> None:
    """Refuse options of a frozen dataclass that no option may have; defaults may be empty.

    Raises:
        ValueError: If there is one; names the field.
    """
    hints = get_type_hints(type(options), include_extras=True)
    for field in fields(options):
        value = getattr(options, field.name)
        if value is not field.default:
            check(field.name, value, hints[field.name])


def check(name: str, value: object, annotation: object) -> None:
    """Refuse a value that no option may have.

    Args:
        name: Of the option.
        value: To be checked; parts of a sequence one by one.
        annotation: Of the option.

    Raises:
        ValueError: If it is empty, not finite, out of bounds or no whole number where one is due.
    """
    if _is_path(annotation) and not isinstance(value, Path | str | None):
        raise ValueError(f"{name} is of type {type(value).__name__}: expected a path")
    if isinstance(value, str):
        _check_text(name, value)
    elif isinstance(value, Path):
        _check_text(name, str(value))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        _check_number(name, value, annotation)
    elif isinstance(value, Sequence):
        for part in value:
            check(name, part, annotation)


def _is_path(annotation: object) -> bool:
    """Whether a type is a path, or a path or None; several paths are another type."""
    return annotation is Path or {Path, type(None)} == {*get_args(annotation)}


def _check_text(name: str, text: str) -> None:
    """Refuse a text that is empty, as that of a shell variable that is not set, or is no text.

    Raises:
        ValueError: If it is.
    """
    if not text.strip():
        raise ValueError(f"{name} is empty: expected a value, or leave the option out")
    if len(text) > MAX_TEXT or "\0" in text:
        raise ValueError(f"{name} has {len(text)} characters: expected at most {MAX_TEXT} of text")


def _check_number(name: str, value: int | float, annotation: object) -> None:
    if not math.isfinite(value) or abs(value) > LARGEST:
        raise ValueError(f"{name} is {value:g}: expected a finite number")
    if isinstance(value, float) and _mentions(annotation, int):
        raise ValueError(f"{name} is {value:g}: expected a whole number")
    for bounds in _bounds(annotation):
        bounds.check(name, value)


def _mentions(annotation: object, kind: type) -> bool:
    """Whether a type is, or has among its alternatives or parts, another one."""
    return annotation is kind or any(_mentions(part, kind) for part in get_args(annotation))


def _bounds(annotation: object) -> list[Bounds]:
    """All bounds in an annotation, those of its parts included."""
    if get_origin(annotation) is Annotated:
        return [one for one in annotation.__metadata__ if isinstance(one, Bounds)]
    return [one for part in get_args(annotation) for one in _bounds(part)]


def check_word(word: str, annotation: object) -> None:
    """Refuse a word of a command line before it is converted, which might change its meaning.

    Raises:
        ValueError: If it is empty, or no whole number where one is due.
    """
    if not word.strip():
        raise ValueError("it is empty: expected a value, or leave the option out")
    if len(word) > MAX_TEXT:
        raise ValueError(f"it has {len(word)} characters: expected at most {MAX_TEXT}")
    if _mentions(annotation, int) and not _WHOLE.fullmatch(word):
        raise ValueError(f"it is {word[:60]!r}: expected a whole number")
