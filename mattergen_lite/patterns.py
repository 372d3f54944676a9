"""Which known crystal each sample takes its symmetry from.

    parse_space_group("225"), parse_space_group("cubic"), parse_space_group("any")

A sample takes the pattern of a crystal of MP-20's training split, drawn at random among those with
the space group and the number of atoms that were asked for; "any" is as often cubic as that split.
Elements that a constraint demands are put on whole orbits: a formula on orbits whose sizes add up,
of a crystal with the same stoichiometry if there is one.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch

from mattergen_lite.data import CrystalDataset, embedded_crystals
from mattergen_lite.properties import CRYSTAL_SYSTEMS, crystal_system
from mattergen_lite.targets import parse_range
from mattergen_lite.wyckoff import WyckoffPattern

NUM_SPACE_GROUPS = 230
_TRIES = 300  # crystals looked at before it is said that none has room for what is asked


@cache
def known_crystals() -> CrystalDataset:
    """The crystals whose patterns samples take."""
    return embedded_crystals("train")


@dataclass(frozen=True, kw_only=True)
class SpaceGroups:
    """Space groups that a sample may have, and how they were asked for."""

    text: str
    numbers: frozenset[int]

    def crystals(self, counts: Sequence[int]) -> list[int]:
        """Rows of the known crystals with these space groups and numbers of atoms.

        Raises:
            ValueError: If there is none.
        """
        known = known_crystals()
        fits = torch.isin(known.num_atoms, torch.tensor(counts))
        fits &= torch.isin(known.columns["space_group"].long(), torch.tensor(sorted(self.numbers)))
        if not fits.any():
            raise ValueError(
                f"space-group {self.text}: MP-20's training split has no such crystal with "
                f"{_listed(counts)} atoms in its primitive cell, whose symmetry a sample could take"
            )
        return fits.nonzero().flatten().tolist()

    def draw(
        self,
        counts: Sequence[int],
        pinned: Callable[[int], Sequence[int]],
        rngs: Sequence[torch.Generator],
    ) -> list[WyckoffPattern]:
        """One pattern from each generator, its atoms in an order that suits the pinned elements.

        Args:
            counts: Numbers of atoms that are possible.
            pinned: Number of atoms -> atomic numbers of the first atoms, those that are settled.
            rngs: One generator a sample.

        Raises:
            ValueError: If no known crystal has such a pattern, or none that was drawn has orbits
                for the pinned elements.
        """
        rows = self.crystals(counts)
        rows = [row for row in rows if has_stoichiometry(row, pinned)] or rows
        return [self._draw_one(rows, pinned, rng) for rng in rngs]

    def _draw_one(
        self, rows: Sequence[int], pinned: Callable[[int], Sequence[int]], rng: torch.Generator
    ) -> WyckoffPattern:
        for _ in range(_TRIES):
            pattern = pattern_of(rows[int(torch.randint(len(rows), (), generator=rng))])
            order = suitable_order(pattern.orbits, pinned(len(pattern.frac_coords)), rng)
            if pattern.space_group in self.numbers and order is not None:
                return pattern.permuted(np.array(order))
        raise ValueError(
            f"space-group {self.text}: none of {_TRIES} known crystals that were tried has sites "
            "for the elements that are asked for; allow more numbers of atoms or space groups"
        )


@cache
def pattern_of(row: int) -> WyckoffPattern:
    """Pattern of a known crystal."""
    crystal = known_crystals().crystals(torch.tensor([row]))
    return WyckoffPattern.of(
        crystal.atomic_numbers[0].numpy(),
        crystal.frac_coords[0].double().numpy(),
        crystal.lattice[0].double().numpy(),
    )


def has_stoichiometry(row: int, pinned: Callable[[int], Sequence[int]]) -> bool:
    """Whether a known crystal has as many atoms of its elements as the pinned ones have of theirs.

    Always if not all of its atoms are pinned.
    """
    known = known_crystals()
    first, count = int(known.first_atom[row]), int(known.num_atoms[row])
    wanted = pinned(count)
    if len(wanted) < count:
        return True
    found = Counter(known.atomic_numbers[first : first + count].tolist())
    return sorted(found.values()) == sorted(Counter(wanted).values())


def parse_space_group(text: str | None) -> SpaceGroups | None:
    """Space groups from text; None leaves symmetry to the model.

    Args:
        text: "any", a number such as "225", a range such as "195..230", or a crystal system.

    Raises:
        ValueError: If it is none of these.
    """
    if text is None:
        return None
    numbers = torch.arange(1, NUM_SPACE_GROUPS + 1)
    if text in CRYSTAL_SYSTEMS:
        numbers = numbers[crystal_system(numbers) == CRYSTAL_SYSTEMS.index(text) + 1]
    elif text != "any":
        low, high = _parse_numbers(text)
        numbers = torch.arange(low, high + 1)
    return SpaceGroups(text=text, numbers=frozenset(numbers.tolist()))


def _parse_numbers(text: str) -> tuple[int, int]:
    try:
        low, high = parse_range(text)
    except ValueError:
        low, high = 0, 0
    if not 1 <= low <= high <= NUM_SPACE_GROUPS:
        raise ValueError(
            f"space-group {text!r}: expected any, a number from 1 to 230, a range such as 195..230 "
            f"or one of {', '.join(CRYSTAL_SYSTEMS)}"
        )
    return low, high


def suitable_order(
    orbits: Sequence[Sequence[int]], pinned: Sequence[int], rng: torch.Generator
) -> list[int] | None:
    """An order of atoms in which the first ones may be the pinned elements; None if there is none.

    If all atoms are pinned, each element takes whole orbits. Otherwise each pinned atom takes an
    orbit of its own, and the other atoms of that orbit are what it is.
    """
    shuffled = [orbits[i] for i in torch.randperm(len(orbits), generator=rng).tolist()]
    if len(pinned) < sum(map(len, orbits)):
        if len(pinned) > len(orbits):
            return None
        first = [orbit[0] for orbit in shuffled[: len(pinned)]]
        return first + [atom for orbit in orbits for atom in orbit if atom not in first]
    by_size = sorted(shuffled, key=len, reverse=True)
    room = Counter(pinned)
    shares = _share_out([len(orbit) for orbit in by_size], room, rng)
    if shares is None:
        return None
    places = sorted(range(len(by_size)), key=lambda place: shares[place])
    return [atom for place in places for atom in by_size[place]]


def _share_out(sizes: Sequence[int], room: Counter[int], rng: torch.Generator) -> list[int] | None:
    """An element for every orbit so that each element's sizes add up to its room; largest first."""
    if not sizes:
        return []
    fitting = sorted(element for element, count in room.items() if count >= sizes[0])
    for index in torch.randperm(len(fitting), generator=rng).tolist():
        chosen = fitting[index]
        rest = _share_out(sizes[1:], room - Counter({chosen: sizes[0]}), rng)
        if rest is not None:
            return [chosen, *rest]
    return None


def _listed(counts: Sequence[int]) -> str:
    """Ascending numbers, as a range if there are no gaps."""
    if len(counts) > 1 and counts[-1] - counts[0] == len(counts) - 1:
        return f"{counts[0]}..{counts[-1]}"
    return ", ".join(map(str, counts))
