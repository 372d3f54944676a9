"""Reads constraints on elements, composition and size.

parse_constraints(Request(chemical_system="Li-P-S", exclude="toxic", num_atoms="4..12"))
"""

import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mattergen_lite.chemistry.elements import atomic_number, parse_elements, parse_system
from mattergen_lite.options.request import Request
from mattergen_lite.request.base import EVERY_ELEMENT, Constraint, Constraints, listed
from mattergen_lite.request.space_groups import parse_space_group

if TYPE_CHECKING:
    from mattergen_lite.request.host import Host

_FORMULA_PART = re.compile(r"([A-Z][a-z]?)([0-9]{0,6})")
SHARE_TOLERANCE = 1e-3  # of a share that is said: 0.333 is a third
_MAX_FORMULA_ATOMS = 10_000  # more is a slip of the keyboard, and would only fill memory


@dataclass(frozen=True, kw_only=True)
class Elements(Constraint):
    """Elements that occur, or that may, as an option says it."""

    text: str
    needed: frozenset[str] = frozenset()
    allowed: frozenset[str] = EVERY_ELEMENT
    named: frozenset[str] = frozenset()
    spares_fixed: bool = False

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, kw_only=True)
class ChemicalSystem(Constraint):
    """Elements of which every sample has each and no other."""

    needed: frozenset[str]
    allowed = property(lambda self: self.needed)

    def __str__(self) -> str:
        return f"chemical system {'-'.join(sorted(self.needed))}"


@dataclass(frozen=True, kw_only=True)
class Fraction(Constraint):
    """The share of the atoms that an element has."""

    symbol: str
    low: float
    high: float
    needed = property(lambda self: frozenset({self.symbol} if self.low > 0 else ()))

    def __str__(self) -> str:
        return f"fraction {self.symbol}={self.low:g}..{self.high:g}"

    def required_atoms(self, num_atoms: int) -> Counter[str]:
        """Fewest atoms of the element."""
        fewest = math.ceil(self.low * num_atoms - SHARE_TOLERANCE)
        return Counter({self.symbol: fewest} if fewest > 0 else ())

    def accepts(self, atoms: Counter[str]) -> bool:
        """Whether the share is within the bounds."""
        share = atoms[self.symbol] / atoms.total()
        return self.low - SHARE_TOLERANCE <= share <= self.high + SHARE_TOLERANCE


@dataclass(frozen=True, kw_only=True)
class Formula(Constraint):
    """The composition of every sample, in whole formula units."""

    atoms: tuple[str, ...]  # elements of one formula unit, with repeats
    units: tuple[int, int] | None = None  # fewest, most; None = as many as there is room for
    needed = allowed = property(lambda self: frozenset(self.atoms))
    is_sized = is_complete = True

    def __str__(self) -> str:
        counts = Counter(self.atoms).items()
        formula = "".join(f"{symbol}{number if number > 1 else ''}" for symbol, number in counts)
        number = "{}..{} ".format(*self.units) if self.units else ""
        return f"formula {formula} ({number}units of {len(self.atoms)})"

    def counts(self, max_atoms: int) -> range:
        """Numbers of atoms of whole formula units."""
        size = len(self.atoms)
        low, high = self.units or (1, max(1, max_atoms // size))
        return range(low * size, high * size + 1, size)

    def required_atoms(self, num_atoms: int) -> Counter[str]:
        """All atoms."""
        return Counter(self.atoms * (num_atoms // len(self.atoms)))


@dataclass(frozen=True, kw_only=True)
class NumAtoms(Constraint):
    """How many atoms a sample has in its primitive cell."""

    fewest: int
    most: int
    is_sized = True

    def __str__(self) -> str:
        return f"number of atoms {self.fewest}..{self.most}"

    def counts(self, max_atoms: int) -> range:
        """Numbers from the fewest to the most."""
        return range(self.fewest, self.most + 1)


def parse_constraints(request: Request, host: "Host | None" = None) -> Constraints:
    """Read the exact constraints of a request.

    Raises:
        ValueError: If a text cannot be read or two of them contradict each other.
    """
    parts = check_texts(request).parts
    host = host or _read_host(request)
    if host is None:
        return Constraints(parts=parts)
    is_sized = request.formula_units or request.num_atoms or host.num_placed
    if not is_sized:
        host = replace(host, num_placed=(host.num_freed, host.num_freed))
    return Constraints(parts=(*parts, host))


def check_texts(request: Request) -> Constraints:
    """Read the constraints that are texts, without the seed structure.

    Raises:
        ValueError: If a text cannot be read, two of them contradict each other, or the seed
            structure does not exist.
    """
    seed = request.seed_structure
    if seed is not None and not seed.exists():
        raise ValueError(f"seed-structure {seed} does not exist")
    symmetry = parse_space_group(request.space_group)
    if seed is not None and symmetry and symmetry.space_groups:
        raise ValueError(
            f"{symmetry} with a seed-structure: a host brings its own; only none can be said, to "
            "ignore it"
        )
    units, size = request.formula_units, request.num_atoms
    if units and request.formula is None:
        raise ValueError(f"formula-units {str(units)!r} without a formula")
    system = request.chemical_system and frozenset(parse_system(request.chemical_system))
    parts = (
        *_element_demands(request),
        *_fractions(request),
        request.formula and Formula(atoms=parse_formula(request.formula), units=units),
        system and ChemicalSystem(needed=system),
        size and NumAtoms(fewest=size.low, most=size.high),
        symmetry,
    )
    return Constraints(parts=tuple(filter(None, parts)))


def _element_demands(request: Request) -> Iterator[Elements]:
    """Which elements have to occur, which may and which may not."""
    must = parse_elements(request.must_contain or ())
    may = parse_elements(request.elements or ()) | must
    out = parse_elements(request.exclude or ())
    if must:
        yield Elements(text=f"must-contain {listed(must)}", needed=must)
    if request.elements:
        yield Elements(text=f"elements {listed(may)}", allowed=may, named=may, spares_fixed=True)
    if out:
        yield Elements(text=f"exclude {listed(out)}", allowed=EVERY_ELEMENT - out)


def _fractions(request: Request) -> Iterator[Fraction]:
    """Shares of the atoms that elements have."""
    for condition in request.fraction:
        atomic_number(condition.name)
        low, high = max(condition.low, 0.0), min(condition.high, 1.0)
        if not low <= high:
            raise ValueError(
                f"fraction {condition}: expected a share of the atoms from 0 to 1, such as "
                "Li=0.2..0.4, Li=0.25 or 'Li>0.3'"
            )
        yield Fraction(symbol=condition.name, low=low, high=high)
    if sum(max(condition.low, 0.0) for condition in request.fraction) > 1 + SHARE_TOLERANCE:
        told = ", ".join(map(str, request.fraction))
        raise ValueError(f"fraction {told}: more than all atoms")


def _read_host(request: Request) -> "Host | None":
    host = request.seed_structure, request.fix_sites, request.fix_lattice, request.insert
    if not any(host):  # the module loads slowly
        return None
    from mattergen_lite.request.host import parse_host

    return parse_host(*host)


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
