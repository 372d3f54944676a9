"""Reads what is asked of a property, by the property's definition: a value, a range, elements.

Needs no model: the definitions stand in its configuration, too.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol, TypeVar, runtime_checkable

from mattergen_lite.crystal_systems import CRYSTAL_SYSTEMS
from mattergen_lite.elements import parse_system
from mattergen_lite.request.texts import is_whole, parse_number
from mattergen_lite.symmetry.space_groups import space_group_number


@runtime_checkable
class Definition(Protocol):
    """A property as a model or its configuration defines it."""

    name: str
    unit: str
    kind: str
    num_categories: int


AnyDefinition = TypeVar("AnyDefinition", bound=Definition)


class Values(NamedTuple):
    """What a property should be; only the fields of its kind are filled in."""

    low: float = math.nan  # physical units, or the number of a category; may be infinite
    high: float = math.nan
    elements: tuple[str, ...] = ()


def known_property(name: str, properties: Sequence[AnyDefinition]) -> AnyDefinition:
    """Look a property up by name.

    Raises:
        ValueError: If no property has that name; the message lists those that exist.
    """
    for candidate in properties:
        if candidate.name == name:
            return candidate
    known = ", ".join(p.name for p in properties) or "none"
    raise ValueError(f"unknown property {name!r}: this model knows {known}")


def parse_values(prop: Definition, sign: str, text: str) -> Values:
    """Values of any kind of property.

    Args:
        prop: The property.
        sign: "=", "<" or ">".
        text: "2.0", "1.5..2.5", "cubic", "Li-P-S".

    Raises:
        ValueError: If the text does not fit the kind, or the range is empty.
    """
    if prop.kind != "real" and sign != "=":
        raise ValueError(f"{prop.name}{sign}{text}: {prop.name} has no order, only = makes sense")
    if prop.kind == "elements":
        return Values(elements=parse_system(text))
    if prop.kind == "category":
        return Values(*_parse_category(prop, text))
    return Values(*_parse_real(prop, sign, text))


def _parse_category(prop: Definition, text: str) -> tuple[float, float]:
    number = text
    if prop.name == "crystal_system":
        names = {system: str(i) for i, system in enumerate(CRYSTAL_SYSTEMS, start=1)}
        number = names.get(text.casefold(), text)
    elif prop.name == "space_group":
        number = str(space_group_number(text))
    if not is_whole(number) or not 1 <= int(number) <= prop.num_categories:
        raise ValueError(
            f"{prop.name}={text}: expected a whole number from 1 to {prop.num_categories}"
        )
    return float(number), float(number)


def _parse_real(prop: Definition, sign: str, text: str) -> tuple[float, float]:
    """Lowest and highest value: equal for a single one, infinite on an open side."""
    first, dots, last = text.partition("..")
    low, high = parse_number(first), parse_number(last if dots else first)
    if not (math.isfinite(low) and math.isfinite(high)) or (dots and sign != "="):
        unit = f" in {prop.unit}" if prop.unit else ""
        raise ValueError(
            f"{prop.name}{sign}{text}: expected a number{unit}, or a range such as 1.5..2.5 after ="
        )
    if low > high:
        raise ValueError(f"{prop.name}={text}: the range ends before it begins")
    return (-math.inf if sign == "<" else low), (math.inf if sign == ">" else high)
