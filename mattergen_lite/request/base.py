"""Defines the questions that every constraint answers, and combines constraints.

Elements and space groups meet as sets, sizes as common numbers, atoms as the fewest that contain
those of every demand. `partial_crystals` puts these on orbits, whose posterior over the elements
has a single entry: nothing is rejected after sampling.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import TYPE_CHECKING

from mattergen_lite.chemistry.elements import atomic_number, element_mask, symbols

if TYPE_CHECKING:
    from torch import Tensor

EVERY_ELEMENT = frozenset(symbols()[1:])


class Constraint:
    """One demand on every sample, in words as `str`; what it does not override it leaves open."""

    needed: frozenset[str] = frozenset()  # elements that occur
    allowed: frozenset[str] = EVERY_ELEMENT  # that may occur
    named: frozenset[str] = frozenset()  # that the model must know beside those needed
    fixed_elements: tuple[str, ...] = ()  # of known sites
    spares_fixed: bool = False  # `allowed` is about other sites only
    space_groups: frozenset[int] | None = None  # of the templates; None = any
    is_free: bool = False  # samples take no template of a known crystal
    is_sized: bool = False  # says how many atoms there are; otherwise as many as usual
    is_complete: bool = False  # `required_atoms` names every atom

    def counts(self, max_atoms: int) -> Sequence[int]:
        """Numbers of atoms that are possible, up to the most that a model makes."""
        return range(1, max_atoms + 1)

    def required_atoms(self, num_atoms: int) -> Counter[str]:
        """Fewest atoms of each element in a sample of this size."""
        return Counter(self.fixed_elements or self.needed)

    def accepts(self, atoms: Counter[str]) -> bool:
        """Whether a cell of these atoms fulfils the demand; asked before any noise."""
        return True


@dataclass(frozen=True, kw_only=True)
class Constraints:
    """Exact demands on every sample; by default there are none.

    Raises:
        ValueError: If one rules out what another one needs; the message names both.
    """

    parts: tuple[Constraint, ...] = ()

    # As `Constraint` has them, of all parts together.
    needed = property(lambda self: frozenset().union(*(part.needed for part in self.parts)))
    is_free = property(lambda self: any(part.is_free for part in self.parts))
    is_sized = property(lambda self: any(part.is_sized for part in self.parts))
    is_complete = property(lambda self: any(part.is_complete for part in self.parts))
    allowed = property(lambda self: EVERY_ELEMENT.intersection(*(p.allowed for p in self.parts)))
    is_selective = property(
        lambda self: any(type(part).accepts is not Constraint.accepts for part in self.parts)
    )

    def __post_init__(self) -> None:
        for part, other in permutations(self.parts, 2):
            missing = part.needed - other.allowed
            if missing and not (part.fixed_elements and other.spares_fixed):
                raise ValueError(f"{part} contains {listed(missing)}, ruled out by {other}")
        if not self.allowed:
            raise ValueError(f"no element is left of {len(EVERY_ELEMENT)} that are known: {self}")

    def __str__(self) -> str:
        return "; ".join(map(str, self.parts))

    def find(self, kind: type[Constraint]) -> Constraint | None:
        """The first demand of a kind, for what is particular to it."""
        return next((part for part in self.parts if isinstance(part, kind)), None)

    @property
    def space_groups(self) -> frozenset[int] | None:
        """Space groups that templates may have; None = any."""
        named = [part.space_groups for part in self.parts if part.space_groups is not None]
        return frozenset.intersection(*named) if named else None

    def named_elements(self) -> "Tensor":
        """Elements that were asked for by name, bool [101]: the model must know them."""
        return element_mask(self.needed.union(*(part.named for part in self.parts)))

    def open_elements(self, seen: "Tensor") -> "Tensor":
        """Find the elements that an atom may have where no demand names one; bool [101].

        Raises:
            ValueError: If nothing that the model has seen is left.
        """
        wanted = seen.cpu() & element_mask(self.allowed)
        if not wanted.any():
            raise ValueError(f"no element is left of {int(seen.sum())} that are known: {self}")
        return wanted

    def required_atoms(self, num_atoms: int) -> Counter[int]:
        """Fewest atoms of each atomic number, ascending, that fulfil every demand."""
        atoms = Counter[str]()
        for part in self.parts:
            atoms |= part.required_atoms(num_atoms)
        return Counter(dict(sorted((atomic_number(symbol), atoms[symbol]) for symbol in atoms)))

    def accepts(self, atoms: Counter[str]) -> bool:
        """Whether every demand accepts a cell of these atoms."""
        return all(part.accepts(atoms) for part in self.parts)

    def atom_counts(self, max_atoms: int) -> list[int]:
        """Numbers of atoms a sample may have, ascending.

        Raises:
            ValueError: If a demand goes beyond `max_atoms`, or no number satisfies all of them.
        """
        common = set(range(1, max_atoms + 1))
        for part in self.parts:
            counts = part.counts(max_atoms)
            if max(counts, default=0) > max_atoms:
                raise ValueError(f"{part}: this model makes 1..{max_atoms} atoms")
            common &= set(counts)
        fewest = {n: self.required_atoms(n).total() for n in sorted(common)}
        roomy = [n for n, total in fewest.items() if total <= n]
        if not roomy:
            least = min(fewest.values(), default=0)
            taken = f"; {listed(self.needed)} take at least {least} atoms" if least else ""
            raise ValueError(
                f"no number of atoms is possible: {self}{taken}; this model makes 1..{max_atoms}"
            )
        return roomy


def listed(elements: Iterable[str]) -> str:
    """Symbols in the order of the periodic table."""
    return ", ".join(sorted(elements, key=atomic_number))
