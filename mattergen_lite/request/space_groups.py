"""Reads a demand on symmetry: parse_space_group("225"), ("cubic"), ("any"), ("none")."""

from dataclasses import dataclass

from mattergen_lite.crystal_systems import CRYSTAL_SYSTEMS, space_groups_of
from mattergen_lite.request.protocol import Constraint
from mattergen_lite.request.texts import parse_range
from mattergen_lite.symmetry.space_groups import NUM_SPACE_GROUPS, space_group_number


@dataclass(frozen=True, kw_only=True)
class Symmetry(Constraint):
    """Space groups that a sample may have, and how they were asked for."""

    text: str
    space_groups: frozenset[int] | None = None
    is_free: bool = False

    def __str__(self) -> str:
        return f"space-group {self.text}"


def parse_space_group(text: str | None) -> Symmetry | None:
    """Which symmetry samples take; None where it is that of known crystals.

    Args:
        text: A number such as "225", a symbol such as "Fm-3m", a range such as "195..230", a
            crystal system, "any" (also if None: as known crystals have it) or "none" (no symmetry
            is prescribed); in any case.

    Raises:
        ValueError: If it is none of these.
    """
    word = "any" if text is None else text.strip().casefold()
    if word == "any":
        return None
    if word == "none":
        return Symmetry(text=word, is_free=True)
    if word in CRYSTAL_SYSTEMS:
        numbers = space_groups_of(word)
    else:
        low, high = _parse_numbers(text)
        numbers = range(low, high + 1)
    return Symmetry(text=text, space_groups=frozenset(numbers))


def _parse_numbers(text: str) -> tuple[int, int]:
    try:
        low, high = parse_range(text) if ".." in text else [space_group_number(text)] * 2
    except ValueError:
        low, high = 0, 0
    if not 1 <= low <= high <= NUM_SPACE_GROUPS:
        raise ValueError(
            f"space-group {text!r}: expected any, none, a number from 1 to 230, a symbol such as "
            f"Fm-3m, a range such as 195..230 or one of {', '.join(CRYSTAL_SYSTEMS)}"
        )
    return low, high
