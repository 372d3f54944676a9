"""Ions of known crystals, and those that could take their places: same charge, similar radius.

Oxidation states are guessed from compositions by pymatgen, likeliest first by what the ICSD has.
Radii are Shannon's (Acta Cryst. 1976, A32, 751) for six neighbours, of high-spin ions where there
are two; where six are not listed, those of the nearest number of neighbours that is.
"""

from collections import Counter
from functools import cache, lru_cache

from pymatgen.core import Composition, Element
from torch import Tensor

from mattergen_lite.elements import symbols
from mattergen_lite.shapes import Bool
from mattergen_lite.symmetry.orbits import Orbits

USUAL_NEIGHBOURS = 6
# Numbers of neighbours as Shannon writes them; a letter behind one means another shape than usual.
_NUMERALS = ("I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII")
_NEIGHBOURS = {numeral: number for number, numeral in enumerate(_NUMERALS, start=1)}


def oxidation_states(crystal: Orbits) -> dict[int, int] | None:
    """Likeliest oxidation state of each element that balances the charges of a crystal.

    Returns:
        States by atomic number; None if nothing balances, or only with two states of one element.
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
    found = {
        number: _radius(Element(symbol).data.get("Shannon radii") or {}, str(state))
        for number, symbol in enumerate(symbols()[1:], start=1)
    }
    # Bare protons have negative radii: nothing can take their places.
    return {number: radius for number, radius in found.items() if radius and radius > 0}


def _radius(table: dict[str, dict[str, dict[str, dict[str, float]]]], state: str) -> float | None:
    listed = {
        _NEIGHBOURS[name]: spins
        for name, spins in table.get(state, {}).items()
        if name in _NEIGHBOURS
    }
    if not listed:
        return None
    spins = listed[min(listed, key=lambda number: (abs(number - USUAL_NEIGHBOURS), number))]
    spin = spins.get("High Spin") or next(iter(spins.values()))
    return spin["ionic_radius"]


def nearest_ions(number: int, state: int, allowed: Bool[Tensor, "Z"], count: int) -> list[int]:
    """The allowed elements whose ions of this charge have the most similar radii, nearest first.

    Args:
        number: Atomic number of the ion that is replaced.
        state: Its oxidation state.
        allowed: Elements that may stand in for it.
        count: How many, at most; fewer, or none, where not so many have this oxidation state.
    """
    radii = ionic_radii(state)
    if number not in radii:
        return []
    others = [z for z in radii if z != number and bool(allowed[z])]
    return sorted(others, key=lambda z: (abs(radii[z] - radii[number]), z))[:count]
