"""Reads a demand on symmetry: parse_space_group("225"), ("cubic"), ("any"), ("none")."""

from dataclasses import dataclass

from mattergen_lite.options.texts import Interval, parse_range_or_name
from mattergen_lite.request.base import Constraint
from mattergen_lite.symmetry.crystal_systems import CRYSTAL_SYSTEMS, space_groups_of
from mattergen_lite.symmetry.space_groups import NUM_SPACE_GROUPS, space_group_number


@dataclass(frozen=True, kw_only=True)
class SpaceGroups(Constraint):
    """Space groups that a sample may have, and how they were asked for."""

    text: str
    space_groups: frozenset[int] | None = None
    is_free: bool = False

    def __str__(self) -> str:
        return f"space-group {self.text}"


def parse_space_group(value: Interval | str | None) -> SpaceGroups | None:
    """Which symmetry samples take; None where it is that of known crystals.

    Args:
        value: Numbers such as "225" or "195..230", a symbol such as "Fm-3m", a crystal system,
            "any" (also if None: as known crystals have it) or "none" (no symmetry is prescribed);
            in any case.

    Raises:
        ValueError: If it is none of these.
    """
    asked = parse_range_or_name("any" if value is None else value)
    word = str(asked).strip().casefold()
    if word == "any":
        return None
    if word == "none":
        return SpaceGroups(text=word, is_free=True)
    if word in CRYSTAL_SYSTEMS:
        numbers = space_groups_of(word)
    else:
        low, high = asked if isinstance(asked, Interval) else _numbers_of(asked)
        if not 1 <= low <= high <= NUM_SPACE_GROUPS:
            raise ValueError(
                f"space-group {str(asked)!r}: expected any, none, a number from 1 to 230, a symbol "
                f"such as Fm-3m, a range such as 195..230 or one of {', '.join(CRYSTAL_SYSTEMS)}"
            )
        numbers = range(low, high + 1)
    return SpaceGroups(text=str(asked), space_groups=frozenset(numbers))


def _numbers_of(symbol: str) -> tuple[int, int]:
    """Lowest and highest number of a group; zeros where there is none of that symbol."""
    try:
        return (space_group_number(symbol),) * 2
    except ValueError:
        return 0, 0
