"""Recognises labels that grow with the cell, and scales them to another cell of the crystal.

ASE, VASP and the Materials Project call the energy of a whole cell `energy`: a table of primitive
cells cannot keep the number of a conventional one.
"""

import re
from collections.abc import Mapping

_ENERGIES = (
    *("energy", "total energy", "energy total", "final energy", "free energy", "toten", "etot"),
    *("e tot", "e0", "dft energy", "energy dft", "ref energy", "corrected energy"),
    *("uncorrected energy", "corrected total energy", "uncorrected total energy", "raw energy"),
)
_MOMENTS = (
    *("total magnetization", "total magnetisation", "total magnetic moment", "total magmom"),
    *("total moment", "total spin", "magmom", "magnetic moment"),
)
_SIZES = (
    *("volume", "cell volume", "unit cell volume", "total volume", "mass", "total mass"),
    *("nsites", "num sites", "n sites", "natoms", "n atoms", "number of atoms", "nelect"),
    *("nelectrons", "n electrons", "num electrons"),
)
TOTALS = frozenset((*_ENERGIES, *_MOMENTS, *_SIZES))
_UNIT = re.compile(
    r"[(\[](?P<bracket>[^)\]]*)[)\]]$|[\s_-](?:ev|a3|ang3|mub|muB|ry|hartree)$", re.I
)


def is_total(name: str) -> bool:
    """Whether a column holds a value of the whole cell: "energy", "Total_Energy (eV)" or "magmom".

    "energy_per_atom" and "energy [eV/atom]" are none.
    """
    unit = _UNIT.search(name)
    if unit and re.search(r"/|per|atom|\^-1", unit["bracket"] or ""):
        return False
    bare = name[: unit.start()] if unit else name
    return " ".join(re.split(r"[\s_-]+", bare.strip().casefold())) in TOTALS


def scaled_totals(labels: Mapping[str, float], ratio: float) -> dict[str, float]:
    """Labels of a cell with `ratio` times as many atoms."""
    return {name: value * ratio if is_total(name) else value for name, value in labels.items()}
