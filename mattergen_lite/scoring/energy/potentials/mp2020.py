"""Corrects raw PBE and PBE+U energies to those of the Materials Project's hull.

MP2020 (Wang et al., Sci. Rep. 2021, 11, 15496) corrects atoms of anions and of transition metals
with a Hubbard U. pymatgen applies it; two accidents are mended here:

- The anion among elements of equal electronegativity (H, Ru, Pd, Os and Ir; C and Se; Si, Cu, Tc
  and Re) depends on the order of the atoms, which are sorted first as pymatgen sorts elements.
- Since May 2024 its default corrects no element with a guessed oxidation state between -1 and 0.
  The published scheme does (`strict_anions="no_check"`), as do the labels of the embedded table.
"""

import math
import warnings
from functools import cache
from typing import TYPE_CHECKING, Literal

from pymatgen.core import Composition, Element, Structure

if TYPE_CHECKING:
    from pymatgen.entries.compatibility import MaterialsProject2020Compatibility

STRICT_ANIONS: Literal["no_check"] = "no_check"  # see the module


def mp2020_correction(structure: Structure) -> float:
    """Return the MP2020 correction in eV of a cell, for a raw energy as the MP calculates it.

    That is PBE, with the Materials Project's U where O or F meets Co, Cr, Fe, Mn, Mo, Ni, V or W.
    It does not depend on the order of the atoms.

    Raises:
        ValueError: If the scheme does not apply to the composition.
    """
    from pymatgen.entries.compatibility import CompatibilityError
    from pymatgen.entries.computed_entries import ComputedStructureEntry

    hubbards = hubbard_u(structure.composition)
    run_type = "GGA+U" if any(hubbards.values()) else "GGA"
    parameters = {"run_type": run_type, "hubbards": hubbards}
    ordered = structure.get_sorted_structure(key=lambda site: _anion_order(site.specie))
    entry = ComputedStructureEntry(ordered, 0.0, parameters=parameters)
    try:
        with warnings.catch_warnings(action="ignore"):
            return float(sum(change.value for change in _mp2020().get_adjustments(entry)))
    except CompatibilityError as error:
        raise ValueError(f"no MP2020 correction for {structure.formula}: {error}") from None


def hubbard_u(composition: Composition) -> dict[str, float]:
    """U in eV that the Materials Project gives each element of a composition; 0 without."""
    settings = _mp2020().u_settings
    anion = max(composition.elements, key=_anion_order).symbol
    return {
        element.symbol: settings.get(anion, {}).get(element.symbol, 0.0)
        for element in composition.elements
    }


def _anion_order(element: Element) -> tuple[float, str]:
    """Sort key of elements, the anion last; the same for every order of the atoms."""
    with warnings.catch_warnings(action="ignore"):  # that helium, neon and argon have none
        electronegativity = float(element.X)
    return (-1.0 if math.isnan(electronegativity) else electronegativity), element.symbol


@cache
def _mp2020() -> "MaterialsProject2020Compatibility":
    """The published scheme, without checks on VASP inputs, of which there are none."""
    from pymatgen.entries.compatibility import MaterialsProject2020Compatibility

    return MaterialsProject2020Compatibility(check_potcar=False, strict_anions=STRICT_ANIONS)
