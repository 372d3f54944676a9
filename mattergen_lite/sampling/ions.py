"""Ions of known crystals, and those that could take their places: same charge, similar radius.

Oxidation states are guessed from compositions by pymatgen, likeliest first by what the ICSD has.
"""

from collections import Counter
from functools import cache, lru_cache

from pymatgen.core import Composition, Element
from torch import Tensor

from mattergen_lite.chemistry.elements import symbols
from mattergen_lite.chemistry.oxidation import ion_radius
from mattergen_lite.symmetry.orbits import Orbits
from mattergen_lite.tensors.shapes import Bool


def oxidation_states(crystal: Orbits) -> dict[int, int] | None:
    """Likeliest oxidation states that balance the charges of a crystal, by atomic number.

    None if nothing balances, or only with two states of one element.
    """
    counts: Counter[str] = Counter()
    for number, size in zip(crystal.atomic_numbers, crystal.multiplicities, strict=True):
        counts[symbols()[int(number)]] += int(size)
    states = _guessed_states(Composition(counts).reduced_formula)
    return None if states is None else {Element(name).Z: state for name, state in states}


@lru_cache(maxsize=100_000)
def _guessed_states(formula: str) -> tuple[tuple[str, int], ...] | None:
    guesses = Composition(formula).oxi_state_guesses()
    if not guesses or any(state != round(state) for state in guesses[0].values()):
        return None
    return tuple((name, round(state)) for name, state in guesses[0].items())


@cache
def ionic_radii(state: int) -> dict[int, float]:
    """Radii in Å of all ions of one oxidation state, by atomic number."""
    radii = {z: ion_radius(symbol, state) for z, symbol in enumerate(symbols()[1:], start=1)}
    # Bare protons have negative radii: nothing can take their places.
    return {number: radius for number, radius in radii.items() if radius and radius > 0}


def nearest_ions(number: int, state: int, allowed: Bool[Tensor, "Z"], count: int) -> list[int]:
    """The allowed elements whose ions of a charge have the radii most similar to an element's.

    Nearest first, at most `count`; fewer, or none, where fewer have this oxidation state.
    """
    radii = ionic_radii(state)
    if number not in radii:
        return []
    others = [z for z in radii if z != number and bool(allowed[z])]
    return sorted(others, key=lambda z: (abs(radii[z] - radii[number]), z))[:count]
