"""The reference convex hull: what a composition decomposes into, and at what energy.

The 34,669 stable compounds of `assets/hull.parquet` (Materials Project, CC BY 4.0; formation
energies with MP2020 corrections, elements at zero) span the hull. The lowest energy that any
mixture of them reaches at a composition is a linear programme over the few that lie in its chemical
system.
"""

import re
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
from pymatgen.core import Composition
from scipy.optimize import linprog

from mattergen_lite.data.materials import hull_table
from mattergen_lite.tensors.shapes import Float

MIN_FRACTION = 1e-6  # of a decomposition product; less is rounding


@dataclass(frozen=True)
class Competitors:
    """The stable compounds of one chemical system, elements included."""

    elements: tuple[str, ...]
    formulas: tuple[str, ...]  # reduced
    fractions: Float[np.ndarray, "E C"]  # atomic fraction of each element in each compound
    energies: Float[np.ndarray, "C"]  # formation energies, eV/atom


@dataclass(frozen=True)
class Decomposition:
    """The stable mixture at a composition."""

    energy_per_atom: float  # formation energy, eV/atom: the height of the hull
    products: tuple[tuple[str, float], ...]  # reduced formula, share of the atoms; largest first

    def __str__(self) -> str:
        """Products with their share of the atoms, "0.625 Li2S + 0.375 P2S5"."""
        return " + ".join(f"{share:.3g} {formula}" for formula, share in self.products)


class ReferenceHull:
    """A convex hull over known compounds, built one chemical system at a time.

    It takes reduced formulas and formation energies in eV/atom; elements are at zero, listed or
    not.
    """

    def __init__(self, formulas: list[str], energies: Float[np.ndarray, "C"]) -> None:
        self.formulas = formulas
        self.energies = energies
        symbols = [frozenset(re.findall("[A-Z][a-z]?", formula)) for formula in formulas]
        self.elements = frozenset().union(*symbols)
        # By element, so that the compounds of a chemical system are found by adding a few rows.
        self._contains = {element: np.zeros(len(formulas), dtype=bool) for element in self.elements}
        for row, present in enumerate(symbols):
            for symbol in present:
                self._contains[symbol][row] = True
        self._num_elements = np.array([len(present) for present in symbols])
        self.competitors = lru_cache(maxsize=10_000)(self._competitors)

    def _competitors(self, elements: frozenset[str]) -> Competitors:
        """Compounds made of nothing but these elements.

        Raises:
            ValueError: If the reference lacks an element.
        """
        missing = elements - self.elements
        if missing:
            raise ValueError(f"{', '.join(sorted(missing))} not in the reference hull")
        ordered = sorted(elements)
        num_present = np.sum([self._contains[symbol] for symbol in ordered], axis=0)
        rows = np.flatnonzero((num_present == self._num_elements) & (self._num_elements > 1))
        # Elements are at zero by definition; the table's own may be polymorphs a little above.
        formulas = [*ordered, *(self.formulas[row] for row in rows)]
        compositions = [Composition(formula) for formula in formulas]
        return Competitors(
            elements=tuple(ordered),
            formulas=tuple(composition.reduced_formula for composition in compositions),
            fractions=np.array(
                [
                    [composition.get_atomic_fraction(symbol) for composition in compositions]
                    for symbol in ordered
                ]
            ),
            energies=np.concatenate([np.zeros(len(ordered)), self.energies[rows]]),
        )

    def decompose(self, composition: Composition) -> Decomposition:
        """The mixture of known compounds of lowest energy at a composition.

        Raises:
            ValueError: If the reference lacks an element of the composition.
        """
        known = self.competitors(frozenset(element.symbol for element in composition.elements))
        target = [composition.get_atomic_fraction(symbol) for symbol in known.elements]
        solution = linprog(known.energies, A_eq=known.fractions, b_eq=target, method="highs")
        if not solution.success:
            raise ValueError(f"no decomposition of {composition.formula}: {solution.message}")
        shares = zip(known.formulas, solution.x.tolist(), strict=True)
        products = [(formula, share) for formula, share in shares if share > MIN_FRACTION]
        products.sort(key=lambda product: -product[1])
        return Decomposition(float(solution.fun), tuple(products))


@cache
def reference_hull() -> ReferenceHull:
    """The embedded hull of the Materials Project."""
    table = hull_table(["formula", "formation_energy_per_atom"], is_stable=True)
    energies = table["formation_energy_per_atom"].to_numpy().astype(float)
    return ReferenceHull(table["formula"].to_pylist(), energies)
