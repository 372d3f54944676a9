"""Corrections that put raw PBE and PBE+U energies on the frame of the Materials Project's hull.

MP2020 (Wang et al., Sci. Rep. 2021, 11, 15496): a correction per atom of an anion, which depends on
what it is bonded to, and per atom of a transition metal whose oxides or fluorides are calculated
with a Hubbard U.
"""

import warnings
from functools import cache
from typing import TYPE_CHECKING

from pymatgen.core import Composition, Structure

if TYPE_CHECKING:
    from pymatgen.entries.compatibility import MaterialsProject2020Compatibility


def mp2020_correction(structure: Structure) -> float:
    """Return the MP2020 correction in eV of a cell, for a raw energy as the MP calculates it.

    That is PBE, with the Materials Project's U where O or F meets Co, Cr, Fe, Mn, Mo, Ni, V or W.

    Raises:
        ValueError: If the scheme does not apply to the composition.
    """
    from pymatgen.entries.compatibility import CompatibilityError
    from pymatgen.entries.computed_entries import ComputedStructureEntry

    scheme = _mp2020()
    hubbards = hubbard_u(structure.composition)
    run_type = "GGA+U" if any(hubbards.values()) else "GGA"
    parameters = {"run_type": run_type, "hubbards": hubbards}
    entry = ComputedStructureEntry(structure, 0.0, parameters=parameters)
    try:
        with warnings.catch_warnings(action="ignore"):
            return float(sum(change.value for change in scheme.get_adjustments(entry)))
    except CompatibilityError as error:
        raise ValueError(f"no MP2020 correction for {structure.formula}: {error}") from None


def hubbard_u(composition: Composition) -> dict[str, float]:
    """U in eV that the Materials Project gives each element of a composition; 0 without."""
    settings = _mp2020().u_settings
    anion = max(composition.elements, key=lambda element: element.X).symbol
    return {
        element.symbol: settings.get(anion, {}).get(element.symbol, 0.0)
        for element in composition.elements
    }


@cache
def _mp2020() -> "MaterialsProject2020Compatibility":
    """The published scheme, without checks on VASP inputs, of which there are none."""
    from pymatgen.entries.compatibility import MaterialsProject2020Compatibility

    return MaterialsProject2020Compatibility(check_potcar=False)
