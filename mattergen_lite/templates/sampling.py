"""Draws templates token by token, within what a request demands.

What is drawn is legal by construction: every draw is among what the rules of Wyckoff positions and
the request leave. A sequence that ends where nothing is left starts again, from its own random
numbers, so that a template depends on its generator alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial

import numpy as np
import torch
from torch import Tensor

from mattergen_lite.symmetry.space_groups import NUM_SPACE_GROUPS
from mattergen_lite.templates.network import MAX_ATOMS, TemplateNetwork
from mattergen_lite.templates.tokens import (
    UNKNOWN,
    PositionRules,
    SequenceWriter,
    Template,
    TemplateClass,
    TemplateConditions,
    completing_positions,
    pack,
)
from mattergen_lite.tensors.shapes import Bool, Float

Drawn = Callable[[Callable[[Tensor], Tensor], np.ndarray], int | None]

TRIES = 60  # sequences of one template before it is given up


@dataclass(frozen=True, kw_only=True)
class TemplateRequest:
    """What one template has to be."""

    num_atoms: int  # in the primitive cell
    space_groups: frozenset[int] | None = None  # that are possible; None = all
    classes: tuple[tuple[int, int], ...] | None = None  # atoms and element of each, if given
    elements: frozenset[int] | None = None  # that may be drawn; None leaves all open
    needed: frozenset[int] = frozenset()  # elements that must be among them
    max_orbits: int = 20  # of all classes together


class _TemplateSequence:
    """A template that is being drawn."""

    def __init__(
        self, ask: Callable[[torch.Generator], TemplateRequest], rng: torch.Generator
    ) -> None:
        self.ask, self.rng, self.tries = ask, rng, 0
        self.restart()

    def restart(self) -> None:
        """Forget what has been drawn, and ask for another template."""
        self.tries += 1
        self.request = self.ask(self.rng)
        self.template: Template | None = None
        self.rules: PositionRules | None = None
        self.classes: list[tuple[int, int]] = []  # atoms, element
        self.sites: list[list[int]] = []
        self.space_group, self.writer = 0, SequenceWriter()
        self.writer.add(kind=0)
        if self.request.classes is not None:
            order = torch.randperm(len(self.request.classes), generator=self.rng).tolist()
            shuffled = [self.request.classes[index] for index in order]
            for size, element in sorted(shuffled, key=lambda pair: pair[0]):
                self.add_class(size, element)

    @property
    def remaining(self) -> int:
        """Atoms that no class has yet, or that the present class lacks."""
        if self.rules is None:
            return self.request.num_atoms - sum(size for size, _ in self.classes)
        filled = sum(int(self.rules.multiplicity[site]) for site in self.sites[-1])
        return self.classes[len(self.sites) - 1][0] - filled

    def add_class(self, size: int, element: int) -> None:
        """Take a class."""
        self.classes.append((size, element))
        self.writer.add(kind=1, size=size, element=element)

    def choose_group(self, number: int) -> None:
        """Take a space group."""
        self.space_group, self.rules, self.sites = number, PositionRules(number), [[]]
        self._write_orbit(kind=2, position=0)

    def take(self, site: int) -> None:
        """Take a Wyckoff position; begin the next class when this one is complete."""
        self.rules.take(site)
        self.sites[-1].append(site)
        if self.remaining == 0:
            if len(self.sites) == len(self.classes):
                self.template = self._finished()
                return
            self.sites.append([])
            self.rules.lowest = 0
        self._write_orbit(kind=3, position=site)

    def _write_orbit(self, *, kind: int, position: int) -> None:
        current = len(self.sites) - 1
        self.writer.add(
            kind=kind,
            space_group=self.space_group,
            position=position,
            element=self.classes[current][1],
            remaining=self.remaining,
            last=current,
        )

    def _finished(self) -> Template:
        return Template(
            space_group=self.space_group,
            classes=tuple(
                TemplateClass(positions=tuple(sites), size=size, element=element)
                for sites, (size, element) in zip(self.sites, self.classes, strict=True)
            ),
        )

    def possible_sizes(self) -> Bool[np.ndarray, "S"]:
        """Numbers of atoms of the next class; 0: there is none."""
        mask, left = np.zeros(MAX_ATOMS + 1, bool), self.remaining
        lowest = self.classes[-1][0] if self.classes else 1
        elements = self.request.elements
        missing = len(self.request.needed - {element for _, element in self.classes})
        room = MAX_ATOMS if elements is None else len(elements) - len(self.classes)
        mask[0] = left == 0 and missing == 0
        if room > 0 and left:
            mask[lowest : left // 2 + 1] = room > 1
            if lowest <= left and missing <= 1:
                mask[left] = True
        return mask

    def possible_elements(self, size: int) -> Bool[np.ndarray, "Z"]:
        """Elements that the next class, of `size` atoms, may have."""
        mask = np.zeros(101, bool)
        used = {element for _, element in self.classes}
        missing = self.request.needed - used
        # Of a class that is not the last one the elements that must occur are left some room.
        is_last = self.remaining == size
        open_ = missing if missing and is_last else self.request.elements - used
        mask[sorted(open_)] = True
        return mask

    def possible_groups(self) -> Bool[np.ndarray, "G"]:
        """Space groups whose positions can hold every class."""
        mask = np.logical_and.reduce([_groups_holding(size) for size, _ in self.classes])
        if self.request.space_groups is None:
            return mask
        return mask & np.isin(np.arange(len(mask)), sorted(self.request.space_groups))

    def possible_positions(self) -> Bool[np.ndarray, "W"]:
        """Wyckoff positions of the next orbit."""
        mask = self.rules.possible(self.remaining)
        taken = sum(map(len, self.sites))
        return mask if taken < self.request.max_orbits else np.zeros_like(mask)


@cache
def _groups_holding(size: int) -> Bool[np.ndarray, "G"]:
    """Space groups with positions for a number of atoms of an element."""
    return np.array(
        [
            number > 0 and bool(completing_positions(number, frozenset(), 0, size).any())
            for number in range(NUM_SPACE_GROUPS + 1)
        ]
    )


def draw_templates(
    network: TemplateNetwork,
    ask: Callable[[torch.Generator], TemplateRequest],
    rngs: Sequence[torch.Generator],
    accept: Callable[[Template], bool] = lambda template: True,
) -> list[Template | None]:
    """Draw one template a generator; None where no sequence fulfilled its request.

    `ask` draws what a template has to be, again for every sequence of it; one that `accept` refuses
    is drawn again.
    """
    sequences = [_TemplateSequence(ask, rng) for rng in rngs]
    active = list(sequences)
    while active:
        for sequence, stuck in zip(active, _advance(network, active), strict=True):
            if stuck or (sequence.template is not None and not accept(sequence.template)):
                sequence.restart()
        active = [
            candidate
            for candidate in active
            if candidate.template is None and candidate.tries <= TRIES
        ]
    return [sequence.template for sequence in sequences]


@torch.no_grad()
def _advance(network: TemplateNetwork, sequences: Sequence[_TemplateSequence]) -> list[bool]:
    """Draw the next token of every sequence; True where none is possible."""
    requests = [sequence.request for sequence in sequences]
    groups = [request.space_groups or () for request in requests]
    told = replace(
        TemplateConditions.none(len(sequences)),
        num_atoms=torch.tensor([request.num_atoms for request in requests]),
        space_group=torch.tensor(
            [min(numbers) if len(numbers) == 1 else UNKNOWN for numbers in groups]
        ),
    )
    ends = torch.tensor([len(sequence.writer.possible) - 1 for sequence in sequences])
    tokens = pack([sequence.writer for sequence in sequences])
    hidden = network(tokens, told)[torch.arange(len(sequences)), ends]

    def drawn(row: int, head: Callable[[Tensor], Tensor], possible: np.ndarray) -> int | None:
        return _draw(head(hidden[row]), possible, sequences[row].rng)

    return [
        _draw_next(network, sequence, partial(drawn, row)) for row, sequence in enumerate(sequences)
    ]


def _draw_next(network: TemplateNetwork, sequence: _TemplateSequence, drawn: Drawn) -> bool:
    """Draw the next token of one sequence; True where none is possible."""
    if sequence.rules is not None:
        return _draw_position(network, sequence, drawn)
    is_given = sequence.request.classes is not None
    size = 0 if is_given else drawn(network.size_logits, sequence.possible_sizes())
    if size is None:
        return True
    if size > 0:
        return _draw_class(network, sequence, drawn, size)
    group = drawn(network.group_logits, sequence.possible_groups())
    if group is not None:
        sequence.choose_group(group)
    return group is None


def _draw_position(network: TemplateNetwork, sequence: _TemplateSequence, drawn: Drawn) -> bool:
    """Draw a Wyckoff position; True where none is possible."""
    group = torch.tensor(sequence.space_group)
    site = drawn(
        lambda hidden: network.position_logits(hidden, group), sequence.possible_positions()
    )
    if site is not None:
        sequence.take(site)
    return site is None


def _draw_class(
    network: TemplateNetwork, sequence: _TemplateSequence, drawn: Drawn, size: int
) -> bool:
    """Draw the element of a class, where elements are drawn; True where none is possible."""
    element: int | None = UNKNOWN
    if sequence.request.elements is not None:
        atoms, possible = torch.tensor(size), sequence.possible_elements(size)
        element = drawn(lambda hidden: network.element_logits(hidden, atoms), possible)
    if element is not None:
        sequence.add_class(size, element)
    return element is None


def _draw(
    logits: Float[Tensor, "K"], possible: Bool[np.ndarray, "K"], rng: torch.Generator
) -> int | None:
    """One of the possible values, by its probability; None if there is none."""
    if not possible.any():
        return None
    masked = logits.double().masked_fill(~torch.from_numpy(possible), -torch.inf)
    point = torch.rand((), generator=rng, dtype=torch.float64)
    total = masked.softmax(0).cumsum(0)
    chosen = int(torch.searchsorted(total, point * total[-1], right=True))
    return min(chosen, int(np.flatnonzero(possible)[-1]))
