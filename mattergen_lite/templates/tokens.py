"""Turns crystals into the sequences that the template model reads, and back into templates.

A sequence has three parts: the *classes* of the crystal, (atoms, element), one an element, by
rising number of atoms; the space group; the Wyckoff positions of the first class by rising number,
then those of the second, and so on. A class is complete when its orbits add up to its size.
Elements can be hidden, so that one model serves open elements and given compositions.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from mattergen_lite.symmetry.protostructures import Protostructure
from mattergen_lite.symmetry.wyckoff import wyckoff_positions
from mattergen_lite.tensors.crystal import Batch
from mattergen_lite.tensors.shapes import Bool, Float, Int

MAX_POSITIONS = 27  # Wyckoff positions of the group that has most, Pmmm
UNKNOWN = 0  # of elements, numbers of atoms and space groups


@dataclass(frozen=True, kw_only=True)
class TemplateClass:
    """The orbits that hold one element."""

    positions: tuple[int, ...]  # ascending numbers in `wyckoff_positions`
    size: int  # atoms in the primitive cell
    element: int = UNKNOWN  # atomic number


@dataclass(frozen=True, kw_only=True)
class Template:
    """A protostructure whose classes have an order, and elements where they are known."""

    space_group: int
    classes: tuple[TemplateClass, ...]

    @property
    def protostructure(self) -> Protostructure:
        """What is left without elements and order."""
        return Protostructure.canonical(
            self.space_group, [orbits.positions for orbits in self.classes]
        )

    @property
    def num_atoms(self) -> int:
        """Atoms in the primitive cell."""
        return sum(orbits.size for orbits in self.classes)


@dataclass(frozen=True, kw_only=True)
class TemplateConditions:
    """What is known of B templates before anything is drawn; 0 or NaN where nothing is."""

    num_atoms: Int[Tensor, "B"]
    space_group: Int[Tensor, "B"]
    e_above_hull: Float[Tensor, "B"]  # eV/atom

    @classmethod
    def none(cls, count: int) -> "TemplateConditions":
        """No condition for any template of a batch."""
        zeros = torch.zeros(count, dtype=torch.long)
        return cls(num_atoms=zeros, space_group=zeros, e_above_hull=torch.full((count,), torch.nan))


@dataclass(frozen=True, kw_only=True)
class TokenBatch(Batch):
    """B sequences of at most T tokens: the start, C classes, the space group, and the orbits.

    A token says what has been placed, and what is to be filled next.
    """

    kind: Int[Tensor, "B T"]  # 0 start, 1 class, 2 space group, 3 orbit, 4 padding
    size: Int[Tensor, "B T"]  # atoms of the class that was named
    element: Int[Tensor, "B T"]  # of the class that was named or is filled next
    space_group: Int[Tensor, "B T"]  # once it is known
    position: Int[Tensor, "B T"]  # that was taken last
    remaining: Int[Tensor, "B T"]  # atoms to add to the class that is filled next
    last: Int[Tensor, "B T"]  # number of the class that is filled next

    next_size: Int[Tensor, "B T"]  # of the next class; 0 = there is none; -1 = not predicted
    next_element: Int[Tensor, "B T"]  # -1 = not predicted
    next_group: Int[Tensor, "B T"]  # -1 = not predicted
    next_position: Int[Tensor, "B T"]  # -1 = not predicted
    possible: Bool[Tensor, "B T W"]  # positions that may come next


class SequenceWriter:
    """Writes the tokens of one template; `possible` holds what the rules of templates allow."""

    def __init__(self) -> None:
        self.rows: dict[str, list] = {name: [] for name in _COLUMNS}
        self.possible: list[np.ndarray] = []

    def add(self, possible: np.ndarray | None = None, **values: int) -> None:
        """Append a token; what is not said is 0, and -1 for what is predicted."""
        for name, column in self.rows.items():
            column.append(values.get(name, -1 if name.startswith("next_") else 0))
        empty = np.zeros(MAX_POSITIONS, bool)
        self.possible.append(empty if possible is None else possible)


_COLUMNS = tuple(field.name for field in fields(TokenBatch) if field.name != "possible")


class PositionRules:
    """Which Wyckoff positions of a group may still be taken.

    A position without freedom is taken once; those of a class come by rising number, and never
    hold more atoms than the class has left.
    """

    def __init__(self, space_group: int) -> None:
        table = wyckoff_positions(space_group)
        self.space_group = space_group
        self.multiplicity, self.is_rigid = table.multiplicity, table.freedom == 0
        self.closed: frozenset[int] = frozenset()  # positions without freedom that are taken
        self.lowest = 0  # number of the position that the class took last

    def possible(self, remaining: int) -> Bool[np.ndarray, "W"]:
        """Positions that can be taken so that the class can be completed."""
        return completing_positions(self.space_group, self.closed, self.lowest, remaining)

    def take(self, site: int) -> None:
        """Take a position."""
        self.lowest = site
        if self.is_rigid[site]:
            self.closed |= {site}


@lru_cache(maxsize=500_000)
def completing_positions(
    space_group: int, closed: frozenset[int], lowest: int, remaining: int
) -> Bool[np.ndarray, "W"]:
    """Positions that can be taken next so that a class can be completed by `remaining` atoms.

    Positions that are closed or of a lower number than `lowest` cannot be taken.
    """
    table = wyckoff_positions(space_group)
    sums = 1  # bit n: the positions after the present one can add n atoms
    within = (1 << (remaining + 1)) - 1
    mask = np.zeros(MAX_POSITIONS, bool)
    for site in range(len(table) - 1, lowest - 1, -1):
        step = int(table.multiplicity[site])
        if site in closed or step > remaining:
            continue
        before = sums
        if table.freedom[site] == 0:
            sums |= sums << step & within
        else:
            for _ in range(remaining // step):
                sums |= sums << step & within
            before = sums
        mask[site] = bool(before >> (remaining - step) & 1)
    return mask


def pack(writers: Sequence[SequenceWriter]) -> TokenBatch:
    """Pad sequences into one batch."""
    longest = max(len(writer.possible) for writer in writers)

    def column(name: str) -> Tensor:
        fill = 4 if name == "kind" else -1 if name.startswith("next_") else 0
        table = np.full((len(writers), longest), fill, np.int64)
        for row, writer in zip(table, writers, strict=True):
            row[: len(writer.rows[name])] = writer.rows[name]
        return torch.from_numpy(table)

    possible = np.zeros((len(writers), longest, MAX_POSITIONS), bool)
    for row, writer in zip(possible, writers, strict=True):
        row[: len(writer.possible)] = writer.possible
    return TokenBatch(
        **{name: column(name) for name in _COLUMNS}, possible=torch.from_numpy(possible)
    )
