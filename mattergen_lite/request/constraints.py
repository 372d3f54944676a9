"""What holds for every sample by construction: elements, composition, size, known sites and cell.

    parse_constraints(Request(chemical_system="Li-P-S", exclude="toxic", num_atoms="4..12"))

Nothing is rejected after sampling: `drafts` puts the elements that must occur on orbits, and the
posterior over the elements of such an orbit has a single entry.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from torch import Tensor

from mattergen_lite.elements import atomic_number, element_mask, parse_elements, parse_system
from mattergen_lite.options.request import Request
from mattergen_lite.request.host import Host
from mattergen_lite.request.targets import parse_range
from mattergen_lite.shapes import Bool

_FORMULA_PART = re.compile(r"([A-Z][a-z]?)([0-9]{0,6})")
_MAX_FORMULA_ATOMS = 10_000  # more is a slip of the keyboard, and would only fill memory


@dataclass(frozen=True, kw_only=True)
class CountRule:
    """Numbers of atoms that one constraint allows, and this constraint in words."""

    text: str
    counts: range


@dataclass(frozen=True, kw_only=True)
class Constraints:
    """Exact demands on every sample; by default there are none."""

    elements: frozenset[str] | None = None  # that may occur, fixed sites aside; None = all seen
    excluded: frozenset[str] = frozenset()
    required: frozenset[str] = frozenset()  # that occur at least once each
    formula: tuple[str, ...] = ()  # elements of one formula unit, with repeats; () = free
    formula_units: tuple[int, int] | None = None  # fewest, most; None = what else allows
    num_atoms: tuple[int, int] | None = None  # smallest, largest; None = as in the training set
    host: Host | None = None  # known sites, which come first among a sample's atoms

    def named_elements(self) -> Bool[Tensor, "Z"]:
        """Elements that were asked for by name: the model must know them."""
        return element_mask({*(self.elements or ()), *self.required, *self.formula, *self._fixed})

    def atom_counts(self, max_atoms: int) -> list[int]:
        """Numbers of atoms a sample may have, ascending.

        Raises:
            ValueError: If a demand goes beyond `max_atoms`, or no number satisfies all of them.
        """
        rules = list(self._count_rules(max_atoms))
        for rule in rules:
            if max(rule.counts, default=0) > max_atoms:
                raise ValueError(f"{rule.text}: this model makes 1..{max_atoms}")
        counts = [n for n in range(1, max_atoms + 1) if all(n in rule.counts for rule in rules)]
        if not counts:
            demands = "; ".join(rule.text for rule in rules)
            raise ValueError(f"no number of atoms is possible: {demands}")
        return counts

    def pinned(self, num_atoms: int) -> list[int]:
        """Atomic numbers that must occur in a sample of this size, fixed sites first.

        All of them with a formula; otherwise one atom of each required element.
        """
        if self.formula:
            units = num_atoms // len(self.formula)
            rest = Counter(list(self.formula) * units) - Counter(self._fixed)
        else:
            rest = Counter(self.required - set(self._fixed))
        return [*map(atomic_number, self._fixed), *sorted(map(atomic_number, rest.elements()))]

    @property
    def formula_text(self) -> str:
        """Formula of one unit, "LiFePO4"."""
        counts = Counter(self.formula).items()
        return "".join(f"{symbol}{number if number > 1 else ''}" for symbol, number in counts)

    @property
    def _fixed(self) -> tuple[str, ...]:
        return self.host.fixed_elements if self.host else ()

    def open_elements(self, seen: Bool[Tensor, "Z"]) -> Bool[Tensor, "Z"]:
        """Find the elements that an atom may have where no constraint names one.

        Raises:
            ValueError: If nothing that the model has seen is left.
        """
        wanted = seen.cpu() & ~element_mask(self.excluded)
        if self.elements is not None:
            wanted &= element_mask(self.elements)
        if not wanted.any():
            raise ValueError(
                f"no element is left once {_listed(self.excluded)} are excluded from those that "
                "this model has seen"
            )
        return wanted

    def _count_rules(self, max_atoms: int) -> Iterator[CountRule]:
        """Yield for each constraint the numbers of atoms that it allows."""
        if self.num_atoms is not None:
            low, high = self.num_atoms
            yield CountRule(text=f"number of atoms {low}..{high}", counts=range(low, high + 1))
        if self.formula:
            yield self._formula_rule(max_atoms)
        if self.host is not None:
            yield self._host_rule(max_atoms)
        if self.required and not self.formula:
            fewest = len(self._fixed) + len(self.required - set(self._fixed))
            text = f"{_listed(self.required)} take at least {fewest} atoms"
            yield CountRule(text=text, counts=range(fewest, max(fewest, max_atoms) + 1))

    def _formula_rule(self, max_atoms: int) -> CountRule:
        size = len(self.formula)
        low, high = self.formula_units or (1, max(1, max_atoms // size))
        while low < high and self._without_room(low):
            low += 1
        if without := self._without_room(low):
            raise ValueError(
                f"{high} formula units of {self.formula_text} have no room for fixed "
                f"{_listed(without)} of {self.host.name}"
            )
        text = f"{low}..{high} formula units of {self.formula_text} are {low * size}..{high * size}"
        return CountRule(text=f"{text} atoms", counts=range(low * size, high * size + 1, size))

    def _without_room(self, units: int) -> set[str]:
        """Elements with more fixed sites than so many formula units have atoms."""
        return set(Counter(self._fixed) - Counter(list(self.formula) * units))

    def _host_rule(self, max_atoms: int) -> CountRule:
        fixed, placed = len(self._fixed), self.host.num_placed
        if placed is None and (self.formula_units or self.num_atoms):
            placed = 0, max(0, max_atoms - fixed)
        elif placed is None:
            placed = self.host.num_freed, self.host.num_freed
        low, high = (fixed + number for number in placed)
        if high == fixed and self.host.fix_lattice:
            raise ValueError(
                f"{self.host.name}: with all of its {fixed} sites and its lattice fixed nothing is "
                "left to sample; fix fewer sites or say how many atoms to insert"
            )
        text = (
            f"{fixed} fixed sites of {self.host.name} and {placed[0]}..{placed[1]} atoms to place"
        )
        return CountRule(text=text, counts=range(low, high + 1))


def parse_constraints(request: Request, host: Host | None = None) -> Constraints:
    """Read the exact constraints of a request.

    Args:
        request: Its texts are read as `Request` explains them.
        host: What `parse_host` made of the seed structure.

    Raises:
        ValueError: If a text cannot be read or two of them contradict each other.
    """
    system = frozenset(parse_system(request.chemical_system) if request.chemical_system else ())
    listed = parse_elements(request.elements) if request.elements else None
    if request.formula_units is not None and request.formula is None:
        raise ValueError(f"formula-units {request.formula_units!r} without a formula")
    constraints = Constraints(
        elements=system or listed,
        excluded=parse_elements(request.exclude) if request.exclude else frozenset(),
        required=system,
        formula=parse_formula(request.formula) if request.formula else (),
        formula_units=parse_range(request.formula_units),
        num_atoms=parse_range(request.num_atoms),
        host=host,
    )
    _check_consistent(constraints, listed)
    return constraints


def _check_consistent(constraints: Constraints, listed: frozenset[str] | None) -> None:
    """Refuse elements that one demand needs and another one rules out."""
    system, formula = constraints.required, frozenset(constraints.formula)
    fixed = frozenset(constraints.host.fixed_elements) if constraints.host else frozenset()
    system_text = f"chemical system {'-'.join(sorted(system))}"
    formula_text = f"formula {constraints.formula_text}"
    fixed_text = f"seed-structure {constraints.host.name}" if constraints.host else ""
    for text, needed in ((system_text, system), (formula_text, formula), (fixed_text, fixed)):
        _refuse(text, needed & constraints.excluded, "excluded")
        if system:
            _refuse(text, needed - system, f"not in {system_text}")
    if listed is not None:
        _refuse(system_text, system - listed, f"not among elements {_listed(listed)}")
        _refuse(formula_text, formula - listed, f"not among elements {_listed(listed)}")
        if not listed - constraints.excluded:
            raise ValueError(f"elements {_listed(listed)} are all excluded")
    if formula and system - formula:
        raise ValueError(f"{formula_text} lacks {_listed(system - formula)} of {system_text}")


def _refuse(text: str, elements: frozenset[str], reason: str) -> None:
    if elements:
        raise ValueError(f"{text} contains {_listed(elements)}, {reason}")


def _listed(elements: Iterable[str]) -> str:
    """Symbols in the order of the periodic table."""
    return ", ".join(sorted(elements, key=atomic_number))


def parse_formula(text: str) -> tuple[str, ...]:
    """Elements of one formula unit, with repeats: "Li2O" is Li, Li, O.

    Raises:
        ValueError: If it is not symbols, each followed by a whole number or nothing.
    """
    parts = _FORMULA_PART.findall(text)
    if not parts or "".join(symbol + number for symbol, number in parts) != text:
        raise ValueError(f"formula {text!r} is not of the form LiFePO4: symbols and whole numbers")
    counts = Counter[str]()
    for symbol, number in parts:
        atomic_number(symbol)
        counts[symbol] += int(number or 1)
    if 0 in counts.values() or counts.total() > _MAX_FORMULA_ATOMS:
        raise ValueError(f"formula {text!r}: expected 1 to {_MAX_FORMULA_ATOMS} atoms")
    return tuple(counts.elements())
