"""Reads what is asked of a property, by the property's definition: a value, a range, elements.

Needs no model: the definitions stand in its configuration, too.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from mattergen_lite.chemistry.elements import parse_system
from mattergen_lite.config import PropertyConfig
from mattergen_lite.options.texts import Condition, is_whole
from mattergen_lite.symmetry.crystal_systems import CRYSTAL_SYSTEMS
from mattergen_lite.symmetry.space_groups import space_group_number


class Values(NamedTuple):
    """What a property should be; only the fields of its kind are filled in."""

    low: float = math.nan  # physical units, or the number of a category; may be infinite
    high: float = math.nan
    elements: tuple[str, ...] = ()


def known_property(name: str, properties: Sequence[PropertyConfig]) -> PropertyConfig:
    """Look a property up by name.

    Raises:
        ValueError: If no property has that name; the message lists those that exist.
    """
    for candidate in properties:
        if candidate.name == name:
            return candidate
    known = ", ".join(p.name for p in properties) or "none"
    raise ValueError(f"unknown property {name!r}: this model knows {known}")


def parse_values(prop: PropertyConfig, asked: Condition) -> Values:
    """Values of any kind of property.

    Raises:
        ValueError: If the condition does not fit the kind, or the range is empty.
    """
    if prop.kind != "real" and asked.sign != "=":
        raise ValueError(f"{asked}: {prop.name} has no order, only = makes sense")
    if prop.kind == "elements":
        return Values(elements=parse_system(asked.text))
    if prop.kind == "category":
        number = _category(prop, asked.text)
        return Values(number, number)
    if math.isnan(asked.low) or math.isnan(asked.high):
        unit = f" in {prop.unit}" if prop.unit else ""
        raise ValueError(f"{asked}: expected a number{unit}, or a range such as 1.5..2.5 after =")
    if asked.low > asked.high:
        raise ValueError(f"{asked}: the range ends before it begins")
    return Values(asked.low, asked.high)


def _category(prop: PropertyConfig, text: str) -> float:
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
    return float(number)
