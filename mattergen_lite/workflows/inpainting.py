"""Finds what is missing in a host, and writes the request that puts it back."""

import math
from collections import Counter
from dataclasses import dataclass, replace

from pymatgen.core import Composition

from mattergen_lite.options.request import Request
from mattergen_lite.request.host import parse_host, read_one
from mattergen_lite.workflows.csp import TargetStructure


@dataclass(frozen=True, kw_only=True)
class Completion:
    """A host, what was taken out of it and what samples are asked for."""

    whole: TargetStructure  # the seed structure before anything was taken out
    removed: Counter[str]  # atoms of each element that was taken out
    request: Request

    @classmethod
    def of(cls, request: Request) -> "Completion":
        """The completion that a request means.

        Where nothing is said of what to place, the composition of the whole seed structure is asked
        for: what was taken out and nothing else. Where a number of atoms is said but no elements,
        they are of the elements that were taken out.

        Raises:
            ValueError: If the seed structure cannot be read, or nothing is left to place.
        """
        path = request.seed_structure
        structure = read_one(path)
        host = parse_host(path, request.fix_sites, request.fix_lattice, request.insert)
        elements = Counter(site.specie.symbol for site in structure)
        removed = elements - Counter(host.fixed_elements)
        said = (request.elements, request.chemical_system, request.formula, request.insert)
        if not removed and all(option is None for option in said):
            raise ValueError(
                f"all sites of {path.name} stay: say which do with fix-sites, such as "
                f"{','.join(list(elements)[:-1]) or 'none'}, or what to add with insert and "
                "elements"
            )
        return cls(
            whole=TargetStructure(name=path.name, structure=structure, is_given=True),
            removed=removed,
            request=_asking(request, elements, removed),
        )

    def text(self) -> str:
        """One line such as "LiFePO4.cif without Li4 completed to LiFePO4"."""
        name, request = self.whole.name, self.request
        out = _formula(self.removed)
        placed = request.formula or "-".join(request.chemical_system or ())
        placed = placed or ",".join(request.elements or ["any element"])
        without = f" without {out}" if out else ""
        if request.formula is not None:
            return f"{name}{without} completed to {placed}"
        number = request.insert or self.removed.total()
        return f"{name}{without} completed with {number} atoms of {placed}"


def _asking(request: Request, elements: Counter[str], removed: Counter[str]) -> Request:
    """The request with what it leaves open filled in."""
    if request.formula or request.chemical_system or request.elements or not removed:
        return request
    if request.insert is not None or request.num_atoms is not None:
        return replace(request, elements=tuple(removed))
    units = math.gcd(*elements.values())
    unit = Counter({symbol: number // units for symbol, number in elements.items()})
    return replace(request, formula=_formula(unit), formula_units=units)


def _formula(counts: Counter[str]) -> str:
    """Write a formula such as LiFePO4, electropositive elements first."""
    ordered = Composition(counts).formula.split()  # "Li1 Fe1 P1 O4"
    symbols = [part.rstrip("0123456789") for part in ordered]
    return "".join(f"{symbol}{counts[symbol] if counts[symbol] > 1 else ''}" for symbol in symbols)
