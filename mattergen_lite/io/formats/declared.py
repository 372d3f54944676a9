"""Reads what a CIF declares beside its atoms: formula, formula units, volume, modulation.

Said twice and differently, one of the two is a mistake, and nobody can tell which.
"""

import re
from collections import Counter
from collections.abc import Callable

import numpy as np

from mattergen_lite.chemistry.elements import symbols
from mattergen_lite.io.formats.structures import parse_finite

COMPOSITION_TOLERANCE = 0.01  # of the declared amount of an element, per formula unit
VOLUME_TOLERANCE = 0.02  # relative; volumes are often rounded, and cells measured anew

# What has one of these does not repeat with its cell: the atoms of the list are an average.
_MODULATION = (
    "_cell_modulation_dimension",
    "_cell_wave_vector_x",
    "_space_group_ssg_name",
    "_space_group_ssg_name_it",
    "_space_group_symop_ssg_operation_algebraic",
)
_PART = re.compile(r"([A-Z][a-z]?)(\d*\.?\d*)")

Lookup = Callable[[str], str | None]  # the value of a data name


def check_declared(given: Lookup, lattice: np.ndarray, numbers: Counter[int]) -> None:
    """Refuse atoms (by atomic number) or a cell (rows in Å) other than the file declares.

    Raises:
        ValueError: If the composition, the number of formula units or the volume differs, or the
            crystal is modulated.
    """
    for name in _MODULATION:
        if (value := given(name)) not in (None, "0"):
            raise ValueError(f"{name} is {value[:40]!r}: modulated crystals are not accepted")
    text = given("_chemical_formula_sum") or ""
    if re.search(r"\s\d*[+-]$", text):
        raise ValueError(f"the file's formula is {text[:60]}: only neutral cells are accepted")
    declared = formula(text)
    if declared:
        units = _check_composition(declared, text, numbers)
        _check_units(given("_cell_formula_units_z"), units)
    _check_volume(given("_cell_volume"), lattice)


def parse_measured(text: str, what: str) -> float:
    """A number without its standard uncertainty: 1.234 of 1.234(5); otherwise as `parse_finite`."""
    return parse_finite(re.sub(r"\(\d+\)$", "", text), what)


def formula(text: str) -> dict[str, float]:
    """Amounts of a sum formula; empty if it cannot be read."""
    text = text.replace(" ", "").replace("\n", "")
    parts = _PART.findall(text)
    if len(text) > 2000 or "".join(symbol + number for symbol, number in parts) != text:
        return {}
    amounts: dict[str, float] = {}
    for symbol, number in parts:
        if number == ".":
            return {}
        amounts[symbol] = amounts.get(symbol, 0.0) + float(number or 1)
    return {symbol: amount for symbol, amount in amounts.items() if amount > 0}


def _check_composition(declared: dict[str, float], text: str, numbers: Counter[int]) -> float:
    """Count how many times the declared sum formula the atoms contain."""
    counts = {symbols()[number]: count for number, count in numbers.items()}
    units = sum(counts.values()) / sum(declared.values())
    differs = [
        symbol
        for symbol in sorted({*counts, *declared})
        if abs(counts.get(symbol, 0) / units - declared.get(symbol, 0.0)) > COMPOSITION_TOLERANCE
    ]
    if differs:
        listed = " ".join(f"{symbol}{counts[symbol]}" for symbol in sorted(counts))
        raise ValueError(
            f"the atoms are {listed}, the file's formula is {text[:60]}: {differs[0]} differs"
        )
    return units


def _check_units(text: str | None, units: float) -> None:
    """Some programs write the sum formula of the whole cell, and its formula units all the same."""
    if text is None or not text.isdecimal() or len(text) > 6:
        return
    if abs(units - int(text)) > COMPOSITION_TOLERANCE and abs(units - 1) > COMPOSITION_TOLERANCE:
        raise ValueError(
            f"the atoms are {units:g} formula units, the file says {text}: some are missing or too "
            "many"
        )


def _check_volume(text: str | None, lattice: np.ndarray) -> None:
    if text is None:
        return
    try:
        declared = parse_measured(text, "_cell_volume")
    except ValueError:
        return  # no number, which contradicts nothing
    volume = abs(np.linalg.det(lattice))
    if abs(volume - declared) > VOLUME_TOLERANCE * volume:
        raise ValueError(f"the cell has {volume:.2f} Å³, the file says {declared:g} Å³")
