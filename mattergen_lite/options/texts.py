"""Reads options that people write as text: ranges, words, conditions, weights of guidance.

Objects of Python pass, and so does what has been read: every function takes its own result.
"""

import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Annotated, NamedTuple

from pydantic import PlainSerializer, PlainValidator

DEFAULT_GUIDANCE = 3.0  # which more samples meet than 1: docs/explanation/hits.md
MAX_GUIDANCE = 100.0  # beyond which samples are no crystals any more
MAX_COUNT = 10_000  # of a range of whole numbers
MAX_DIGITS = 9

_FORM = re.compile(r"(?P<name>\w+)(?P<sign>=|[<>]=?)(?P<value>.*)")


class Interval(NamedTuple):
    """Whole numbers from a lowest to a highest, which counts."""

    low: int
    high: int

    def __str__(self) -> str:
        return str(self.low) if self.low == self.high else f"{self.low}..{self.high}"


class Condition(NamedTuple):
    """What a property should be."""

    name: str
    sign: str  # "=", "<" or ">"
    text: str  # such as "1.5..2.5" or "cubic"
    low: float  # infinite on an open side; NaN where the text is no number
    high: float

    def __str__(self) -> str:
        return f"{self.name}{self.sign}{self.text}"


class Weight(NamedTuple):
    """Weight of the guidance towards the target of a property, or of all properties."""

    name: str  # "" for all
    value: float

    def __str__(self) -> str:
        return f"{self.name}={self.value:g}" if self.name else f"{self.value:g}"


def parse_range(value: object) -> Interval | None:
    """Read "8", "4..12", range(4, 13) or (4, 12); None stays None.

    Raises:
        ValueError: If it is neither a whole number nor a range, or the range ends before it begins
            or beyond `MAX_COUNT`.
    """
    if value is None or isinstance(value, Interval):
        return value
    if isinstance(value, str):
        first, dots, last = (part.strip() for part in value.partition(".."))
        ends = [int(end) if is_whole(end) else None for end in (first, last if dots else first)]
    else:
        ends = list(value) if isinstance(value, range | list | tuple) else [value]
        ends = [ends[0], ends[-1]] if ends and (len(ends) < 3 or isinstance(value, range)) else []
    if not ends or not all(type(end) is int for end in ends):
        text = str(value)[:60]
        raise ValueError(f"{text!r} is no whole number such as 8 and no range such as 4..12")
    if not 0 <= ends[0] <= ends[1] <= MAX_COUNT:
        raise ValueError(
            f"{str(value)[:60]!r}: expected a range that rises and ends at most at {MAX_COUNT}"
        )
    return Interval(*ends)


def parse_range_or_name(value: object) -> Interval | str:
    """Read whole numbers such as "4..7"; all else stays a text."""
    try:
        return parse_range(value)
    except ValueError:
        return str(value)


def parse_words(value: object, separator: str = ",") -> tuple[str, ...]:
    """Read words such as "Li,P,S", a list or a set of them."""
    words = value.split(separator) if isinstance(value, str) else value
    words = sorted(words, key=str) if isinstance(words, set | frozenset) else words
    if not isinstance(words, Iterable):
        raise ValueError(f"{value!r}: expected words such as Li{separator}P{separator}S")
    return tuple(str(word).strip() for word in words)


def split_system(value: object) -> tuple[str, ...]:
    """Read the elements of a chemical system such as "Li-P-S"."""
    return parse_words(value, "-")


def parse_sites(value: object) -> tuple[Interval | str, ...]:
    """Read sites such as "0,1,4..7" or "Fe,O"."""
    words = value.split(",") if isinstance(value, str) else value
    words = words if isinstance(words, Iterable) and not isinstance(words, Interval) else [words]
    return tuple(parse_range_or_name(w.strip() if isinstance(w, str) else w) for w in words)


def parse_conditions(value: object) -> tuple[Condition, ...]:
    """Read "band_gap=1.5..2.5", several of such texts, or {"band_gap": (1.5, 2.5)}.

    Raises:
        ValueError: If a text has another form, or a property is given twice.
    """
    if isinstance(value, Mapping):
        conditions = [_condition(name, "=", text) for name, text in value.items()]
    else:
        texts = value if type(value) in (list, tuple) else [value]
        conditions = [text if isinstance(text, Condition) else _split(text) for text in texts]
    names = [condition.name for condition in conditions]
    for name in (name for name in names if names.count(name) > 1):
        raise ValueError(f"condition {name!r} is given twice")
    return tuple(conditions)


def _split(text: object) -> Condition:
    match = _FORM.fullmatch(str(text).strip())
    if match is None:
        raise ValueError(
            f"condition {text!r} is not of the form property=value, such as band_gap=2.0, "
            "band_gap=1.5..2.5, 'bulk_modulus>300' or 'e_above_hull<0.05'"
        )
    name, sign, value = match.groups()
    return _condition(name, sign[0], value.strip())


def _condition(name: str, sign: str, value: object) -> Condition:
    if isinstance(value, str):
        first, dots, last = value.partition("..")
        low, high = parse_number(first), parse_number(last if dots and sign == "=" else value)
    else:
        pair = value if isinstance(value, list | tuple) and len(value) == 2 else (value, value)
        low, high = map(parse_number, pair)
        value = str(value) if pair[0] is value else "{}..{}".format(*value)
    if sign != "=":
        low, high = (-math.inf, high) if sign == "<" else (high, math.inf)
    return Condition(name, sign, value, low, high)


def parse_guidance(value: object) -> tuple[Weight, ...]:
    """Read "2" for all properties, "band_gap=3" for one, several of them, or {"band_gap": 3}.

    Raises:
        ValueError: If a weight is out of bounds or given twice.
    """
    if isinstance(value, Mapping):
        weights = [Weight(name, parse_number(number)) for name, number in value.items()]
    else:
        weights = [_weight(text) for text in (value if type(value) in (list, tuple) else [value])]
    names = [weight.name for weight in weights]
    for weight in weights:
        if names.count(weight.name) > 1:
            raise ValueError(f"guidance {str(weight)!r} is given twice")
        if not 0 <= weight.value <= MAX_GUIDANCE:
            raise ValueError(
                f"guidance {str(weight)!r}: expected a weight of 0 to {MAX_GUIDANCE:g}, such as 2 "
                "or band_gap=2"
            )
    return tuple(weights)


def _weight(value: object) -> Weight:
    if isinstance(value, Weight):
        return value
    name, _, number = value.rpartition("=") if isinstance(value, str) else ("", "", value)
    return Weight(name, parse_number(number))


def weights_of(guidance: Iterable[Weight], names: Collection[str]) -> dict[str, float]:
    """Weight of every property that has a target, the default where nothing is said.

    Raises:
        ValueError: If there is a weight of no target.
    """
    given = dict(guidance)
    if stray := sorted(set(given) - {""} - set(names)):
        raise ValueError(f"guidance of {stray[0]!r} without a condition on it")
    if given and not names:
        raise ValueError(
            f"guidance {given['']:g} without a condition: expected something to guide to"
        )
    return {name: given.get(name, given.get("", DEFAULT_GUIDANCE)) for name in names}


def parse_number(value: object) -> float:
    """A finite number, NaN if it is none."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return math.nan
    return number if math.isfinite(number) else math.nan


def is_whole(text: str) -> bool:
    """Tell whether a text is a whole number of few digits."""
    return text.isascii() and text.isdecimal() and len(text) <= MAX_DIGITS


def written(kind: object, read: Callable, write: Callable, given: object = str) -> object:
    """A type whose values are read from text, and written so into records."""
    return Annotated[
        kind, PlainValidator(read, json_schema_input_type=given), PlainSerializer(write)
    ]


def _joined(parts: Iterable[object]) -> str:
    return ",".join(map(str, parts))


def _listed(parts: Iterable[object]) -> list[str]:
    return list(map(str, parts))


SEVERAL = tuple[str, ...]
Range = written(Interval, parse_range, str)
RangeOrName = written(Interval | str, parse_range_or_name, str)
Words = written(tuple[str, ...], parse_words, _joined)
System = written(tuple[str, ...], split_system, "-".join)
Sites = written(tuple[Interval | str, ...], parse_sites, _joined)
Conditions = written(tuple[Condition, ...], parse_conditions, _listed, SEVERAL)
Guidance = written(tuple[Weight, ...], parse_guidance, _listed, SEVERAL)
