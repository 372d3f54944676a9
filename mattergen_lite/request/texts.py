"""Reads the texts of a request that need no model: ranges, conditions and weights of guidance."""

import math
import re
from collections.abc import Collection, Iterable

DEFAULT_GUIDANCE = 3.0  # which more samples meet than 1: docs/explanation/hits.md
MAX_GUIDANCE = 100.0  # beyond which samples are no crystals any more
MAX_COUNT = 10_000  # of a range of whole numbers
MAX_DIGITS = 9

_FORM = re.compile(r"(?P<name>\w+)(?P<sign>=|[<>]=?)(?P<value>.*)")


def parse_conditions(texts: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Sign ("=", "<" or ">") and value of each condition, by name of its property.

    Raises:
        ValueError: If a text has another form, or a property is given twice.
    """
    asked: dict[str, tuple[str, str]] = {}
    for text in texts:
        match = _FORM.fullmatch(text.strip())
        if match is None:
            raise ValueError(
                f"condition {text!r} is not of the form property=value, such as band_gap=2.0, "
                "band_gap=1.5..2.5, 'bulk_modulus>300' or 'e_above_hull<0.05'"
            )
        name, sign, value = match.groups()
        if name in asked:
            raise ValueError(f"condition {name!r} is given twice")
        asked[name] = sign[0], value.strip()
    return asked


def parse_guidance(texts: Iterable[str], names: Collection[str]) -> dict[str, float]:
    """Weight of every property that has a target, the default where nothing is said.

    Raises:
        ValueError: If a weight is out of bounds, given twice or of no target.
    """
    given: dict[str, float] = {}
    for text in texts:
        name, _, value = text.rpartition("=")
        if name in given:
            raise ValueError(f"guidance {text!r} is given twice{f' for {name}' if name else ''}")
        given[name] = _parse_weight(text, value)
    stray = sorted(set(given) - {""} - set(names))
    if stray:
        raise ValueError(f"guidance of {stray[0]!r} without a condition on it")
    if given and not names:
        raise ValueError(
            f"guidance {given['']:g} without a condition: expected something to guide to"
        )
    return {name: given.get(name, given.get("", DEFAULT_GUIDANCE)) for name in names}


def _parse_weight(text: str, value: str) -> float:
    weight = parse_number(value)
    if not 0 <= weight <= MAX_GUIDANCE:
        raise ValueError(
            f"guidance {text!r}: expected a weight of 0 to {MAX_GUIDANCE:g}, such as 2 or "
            "band_gap=2"
        )
    return weight


def parse_number(text: str) -> float:
    """A number, NaN if it is none."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def parse_range(text: str | None) -> tuple[int, int] | None:
    """A whole number or an inclusive range: "8" or "4..12".

    Raises:
        ValueError: If it is neither, the range ends before it begins, or it ends beyond
            `MAX_COUNT`.
    """
    if text is None:
        return None
    low, dots, high = (part.strip() for part in text.partition(".."))
    if not dots:
        high = low
    if not is_whole(low) or not is_whole(high):
        raise ValueError(f"{text[:60]!r} is no whole number such as 8 and no range such as 4..12")
    if not int(low) <= int(high) <= MAX_COUNT:
        raise ValueError(
            f"{text[:60]!r}: expected a range that rises and ends at most at {MAX_COUNT}"
        )
    return int(low), int(high)


def is_whole(text: str) -> bool:
    """Tell whether a text is a whole number of few digits."""
    return text.isascii() and text.isdecimal() and len(text) <= MAX_DIGITS
