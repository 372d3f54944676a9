"""VASP inputs for the crystals that are worth a DFT calculation.

Two calculations a crystal, with pymatgen's input sets. "relax" is the Materials Project's GGA or
GGA+U relaxation, whose energies belong on the hull that `scoring` uses; "static" is MatPES's PBE
single point (Kaplan et al., arXiv:2503.04070), for forces and stress. Pseudopotentials are
licensed: `POTCAR.spec` names them, and nothing here reads or writes any.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mattergen_lite.folders import atomic_path
from mattergen_lite.io.formats.structures import build_structure
from mattergen_lite.io.write import file_names

if TYPE_CHECKING:
    from pymatgen.core import Structure
    from pymatgen.io.vasp.sets import VaspInputSet

RECIPES = ("relax", "static")
README = "README.txt"

_GUIDE = """\
VASP inputs, one folder a crystal, one subfolder a calculation:

  relax/   Materials Project relaxation (pymatgen's MPRelaxSet, PBE or PBE+U).
           Pseudopotentials: set "PBE" (pymatgen's folder POT_GGA_PAW_PBE, the first release).
           Yb is Yb_2, as in the Materials Project, and wrong for most compounds of Yb(III).
  static/  MatPES single point (pymatgen's MatPESStaticSet, PBE without U).
           Pseudopotentials: set "PBE_64" (POT_PAW_PBE_64). No KPOINTS: INCAR has KSPACING.
           To follow the relaxation, replace POSCAR by relax/CONTCAR and keep the rest.

Magnetic moments start ferromagnetic, as the sets have them; edit MAGMOM to try other orders.

Pseudopotentials are licensed and not included. With your own in $SET, in each subfolder:

  for symbol in $(cat POTCAR.spec); do cat "$SET/$symbol/POTCAR"; done > POTCAR
"""


@dataclass(frozen=True, kw_only=True)
class DftInputs:
    """What was written for one crystal."""

    name: str
    folder: Path | None = None  # None if there is an error
    pseudopotentials: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    error: str | None = None


def write_dft_inputs(structure: "Structure", folder: str | Path, *, recipe: str) -> tuple[str, ...]:
    """Write INCAR, KPOINTS, POSCAR and POTCAR.spec of one calculation, replacing earlier ones.

    The cell is kept and the atoms are sorted by electronegativity. There is no KPOINTS where the
    set uses KSPACING.

    Args:
        structure: Ordered crystal.
        folder: Made if it does not exist.
        recipe: "relax" or "static", see the module.

    Returns:
        Names of the pseudopotentials in the order of POSCAR.

    Raises:
        ValueError: If the recipe is unknown, the crystal is not ordered or broken, or the set has
            no pseudopotential for an element.
    """
    with warnings.catch_warnings(action="ignore"):  # about Yb and Co: see the guide
        inputs = _input_set(structure, recipe)
        incar, kpoints = inputs.incar, inputs.kpoints
    texts = {
        "INCAR": str(incar),
        "POSCAR": inputs.poscar.get_str(significant_figures=12),
        "POTCAR.spec": "\n".join(inputs.potcar_symbols) + "\n",
    }
    if kpoints is None:  # an earlier one would win against KSPACING
        (Path(folder) / "KPOINTS").unlink(missing_ok=True)
    else:
        texts["KPOINTS"] = str(kpoints)
    for name, text in texts.items():
        _write(text, Path(folder) / name)
    return tuple(inputs.potcar_symbols)


def _input_set(structure: "Structure", recipe: str) -> "VaspInputSet":
    """The input set of a crystal that it can describe.

    Raises:
        ValueError: If the recipe is unknown or the set cannot describe the crystal.
    """
    from pymatgen.io.vasp.sets import MatPESStaticSet, MPRelaxSet

    if recipe not in RECIPES:
        raise ValueError(f"unknown recipe {recipe!r}: expected one of {', '.join(RECIPES)}")
    chosen = MPRelaxSet if recipe == "relax" else MatPESStaticSet
    if not structure.is_ordered:
        raise ValueError(f"partly occupied sites in {structure.formula}: expected full ones")
    missing = sorted(set(structure.symbol_set) - set(chosen.CONFIG["POTCAR"]))
    if missing:
        raise ValueError(f"{chosen.__name__} has no pseudopotential for {', '.join(missing)}")
    return chosen(
        build_structure(structure.lattice.matrix, structure.atomic_numbers, structure.frac_coords)
    )


def _write(text: str, path: Path) -> None:
    """Write a text file, all at once."""
    with atomic_path(path) as temporary:
        temporary.write_text(text)


# Shortlists


def write_shortlist_inputs(
    structures: Mapping[str, "Structure"],
    folder: str | Path,
    *,
    recipes: Sequence[str] = RECIPES,
) -> list[DftInputs]:
    """Write the inputs of several crystals and a README.txt on how to complete them.

    Args:
        structures: Ordered crystals by name.
        folder: Gets one folder a crystal, in which there is one a recipe.
        recipes: Calculations to prepare.

    Returns:
        What was written, in the order of `structures`; a crystal that cannot be done has an error.
    """
    folder = Path(folder)
    places = file_names(structures, reserved=[README])
    written = [
        _write_candidate(name, structure, folder / place, recipes)
        for place, (name, structure) in zip(places, structures.items(), strict=True)
    ]
    _write(_readme(written, recipes), folder / README)
    return written


def _write_candidate(
    name: str, structure: "Structure", folder: Path, recipes: Sequence[str]
) -> DftInputs:
    """All calculations of one crystal, or the reason why one cannot be done."""
    try:
        pseudopotentials = {
            recipe: write_dft_inputs(structure, folder / recipe, recipe=recipe)
            for recipe in recipes
        }
    except ValueError as error:
        return DftInputs(name=name, error=str(error))
    return DftInputs(name=name, folder=folder, pseudopotentials=pseudopotentials)


def _readme(written: Sequence[DftInputs], recipes: Sequence[str]) -> str:
    """The guide, the pseudopotentials to have, and what there is for each crystal."""
    lines = [_GUIDE, "Pseudopotentials needed:"]
    for recipe in recipes:
        needed = set().union(*(inputs.pseudopotentials.get(recipe, ()) for inputs in written))
        lines.append(f"  {recipe}: {' '.join(sorted(needed)) or 'none'}")
    lines.append("\nCrystals:")
    for inputs in written:
        state = f"{inputs.folder.name}/" if inputs.folder else f"not written: {inputs.error}"
        lines.append(f"  {inputs.name}: {state}")
    return "\n".join(lines) + "\n"
