"""VASP inputs for the crystals that are worth a DFT calculation.

Calculations are pymatgen's input sets, by the name of who publishes with them; `RECIPES` says
which, and what number of each belongs on which hull. Pseudopotentials are licensed: `POTCAR.spec`
names them, and nothing here reads or writes any.
"""

import json
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from mattergen_lite.folders import atomic_path
from mattergen_lite.io.formats.structures import build_structure
from mattergen_lite.io.write import file_names
from mattergen_lite.scoring.criteria.symmetrization import symmetrized
from mattergen_lite.scoring.criteria.symmetry import SYMPREC_RELAXED

if TYPE_CHECKING:
    from pymatgen.core import Structure
    from pymatgen.io.vasp.sets import VaspInputSet

README = "README.txt"
JOBS, ARRAY, FLOW = "jobs.txt", "array.sbatch", "flow.json"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One kind of calculation."""

    input_set: str  # of pymatgen
    settings: Mapping[str, str] = field(default_factory=dict)
    pseudopotentials: str  # the set and pymatgen's folder of it
    what: str
    compare: str  # which number, with which hull


_MP_HULL = (
    "The last energy without entropy (E0 of OSZICAR; final_energy of pymatgen's Vasprun). It "
    "belongs on the Materials Project's GGA/GGA+U hull, which is this program's, after MP2020 "
    "corrections: `mattergen-lite score ... --energies table.csv` does both, with columns name, "
    "energy, num_atoms, functional and hubbards. By hand: MaterialsProject2020Compatibility on "
    "entries of the crystal and of its competitors from the same scheme."
)
_R2SCAN_HULL = (
    "r2SCAN, without corrections: on the Materials Project's r2SCAN hull (thermo_type R2SCAN) or "
    "against the competing phases calculated the same way. Never on the GGA/GGA+U hull of this "
    "program."
)
RECIPES = {
    "mp-relax": Recipe(
        input_set="MPRelaxSet",
        pseudopotentials="PBE (pymatgen's folder POT_GGA_PAW_PBE, the first release)",
        what="Materials Project relaxation, PBE or PBE+U. Yb is Yb_2, as in the Materials Project, "
        "and wrong for most compounds of Yb(III).",
        compare=_MP_HULL,
    ),
    "mp-static": Recipe(
        input_set="MPStaticSet",
        pseudopotentials="PBE (POT_GGA_PAW_PBE)",
        what="Materials Project single point, PBE or PBE+U. After mp-relax: replace POSCAR by "
        "../mp-relax/CONTCAR.",
        compare=_MP_HULL,
    ),
    "matpes-pbe": Recipe(
        input_set="MatPESStaticSet",
        settings={"xc_functional": "PBE"},
        pseudopotentials="PBE_64 (POT_PAW_PBE_64)",
        what="MatPES single point, PBE without U (Kaplan et al., arXiv:2503.04070), for forces and "
        "stress. No KPOINTS: INCAR has KSPACING. After mp-relax: replace POSCAR by "
        "../mp-relax/CONTCAR.",
        compare="Forces and stress, to compare with potentials. Its energy has other "
        "pseudopotentials and no U: against competing phases calculated the same way only, never "
        "on this program's hull.",
    ),
    "matpes-r2scan": Recipe(
        input_set="MatPESStaticSet",
        settings={"xc_functional": "R2SCAN"},
        pseudopotentials="PBE_64 (POT_PAW_PBE_64)",
        what="MatPES single point, r2SCAN, for forces and stress. No KPOINTS: INCAR has KSPACING.",
        compare="Forces and stress. Its energy: against competing phases calculated the same way "
        "only.",
    ),
    "mp24-relax": Recipe(
        input_set="MP24RelaxSet",
        pseudopotentials="PBE_64 (POT_PAW_PBE_64)",
        what="Materials Project relaxation since 2024, r2SCAN. No KPOINTS: INCAR has KSPACING.",
        compare=_R2SCAN_HULL,
    ),
    "mp24-static": Recipe(
        input_set="MP24StaticSet",
        pseudopotentials="PBE_64 (POT_PAW_PBE_64)",
        what="Materials Project single point since 2024, r2SCAN. After mp24-relax: replace POSCAR "
        "by ../mp24-relax/CONTCAR.",
        compare=_R2SCAN_HULL,
    ),
}
DEFAULT_RECIPES = ("mp-relax", "matpes-pbe")

_GUIDE = """\
VASP inputs, one folder a crystal, one subfolder a calculation. Cells are primitive and symmetrised.
"""

_HOW_TO_RUN = f"""\
Magnetic moments start ferromagnetic, as the sets have them; edit MAGMOM to try other orders.

Pseudopotentials are licensed and not included. With your own in $SET, in each subfolder:

  for symbol in $(cat POTCAR.spec); do cat "$SET/$symbol/POTCAR"; done > POTCAR

{ARRAY} runs one calculation a task of a SLURM array, from the lines of {JOBS}; add account, time
and modules, and say how VASP is called (VASP="srun vasp_std"). A calculation that takes the CONTCAR
of another one is to be run after it.
"""

_ARRAY = """\
#!/bin/bash
#SBATCH --job-name=vasp
#SBATCH --array=1-{count}
#SBATCH --ntasks=16
#SBATCH --time=24:00:00
set -euo pipefail
cd "$SLURM_SUBMIT_DIR/$(sed -n "${{SLURM_ARRAY_TASK_ID}}p" "$SLURM_SUBMIT_DIR/{jobs}")"
[ -f POTCAR ] || {{ echo "no POTCAR in $PWD: see README.txt" >&2; exit 2; }}
${{VASP:-srun vasp_std}}
"""


@dataclass(frozen=True, kw_only=True)
class DftInputs:
    """What was written for one crystal."""

    name: str
    folder: Path | None = None  # None if there is an error
    pseudopotentials: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    error: str | None = None


def parse_recipes(text: str) -> tuple[str, ...]:
    """Names of recipes from text such as "mp-relax,matpes-r2scan".

    Raises:
        ValueError: For an unknown one.
    """
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    for name in names:
        _recipe(name)
    return names


def parse_incar(settings: Sequence[str]) -> dict[str, object]:
    """INCAR settings from texts such as "ENCUT=600", which win over those of the sets.

    Raises:
        ValueError: If one is not of that form, or names no tag that VASP knows.
    """
    from pymatgen.io.vasp.inputs import Incar

    parsed: dict[str, object] = {}
    for text in settings:
        tag, equals, value = (part.strip() for part in text.partition("="))
        if not equals or not value or not re.fullmatch(r"[^;#!\n\r\\\\]+", value):
            raise ValueError(f"incar is {text!r}: expected such as ENCUT=600")
        if tag.upper() not in _known_tags():
            raise ValueError(f"incar has {tag!r}: expected a tag that VASP knows, such as ENCUT")
        parsed[tag.upper()] = Incar.proc_val(tag.upper(), value)
    return parsed


def _known_tags() -> set[str]:
    """Names of INCAR tags, from pymatgen's list."""
    from pymatgen.io import vasp

    path = Path(vasp.__file__).parent / "incar_parameters.json"
    return set(json.loads(path.read_text(encoding="utf-8")))


def write_dft_inputs(
    structure: "Structure",
    folder: str | Path,
    *,
    recipe: str,
    incar: Mapping[str, object] | None = None,
) -> tuple[str, ...]:
    """Write INCAR, KPOINTS, POSCAR and POTCAR.spec of one calculation, replacing earlier ones.

    The cell is kept and the atoms are sorted by electronegativity. There is no KPOINTS where the
    set uses KSPACING.

    Args:
        structure: Ordered crystal.
        folder: Made if it does not exist.
        recipe: One of `RECIPES`.
        incar: Settings that win over those of the set.

    Returns:
        Names of the pseudopotentials in the order of POSCAR.

    Raises:
        ValueError: If the recipe is unknown, the crystal is not ordered or broken, or the set has
            no pseudopotential for an element.
    """
    with warnings.catch_warnings(action="ignore"):  # about Yb and Co: see the guide
        inputs = _input_set(structure, recipe, incar or {})
        settings, kpoints = inputs.incar, inputs.kpoints
    texts = {
        "INCAR": str(settings),
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


def _recipe(name: str) -> Recipe:
    """A recipe by its name.

    Raises:
        ValueError: If it is unknown.
    """
    if name not in RECIPES:
        raise ValueError(f"unknown recipe {name!r}: expected one of {', '.join(RECIPES)}")
    return RECIPES[name]


def _input_set(structure: "Structure", recipe: str, incar: Mapping[str, object]) -> "VaspInputSet":
    """The input set of a crystal that it can describe.

    Raises:
        ValueError: If the recipe is unknown or the set cannot describe the crystal.
    """
    from pymatgen.io.vasp import sets

    how = _recipe(recipe)
    chosen = getattr(sets, how.input_set)
    if not structure.is_ordered:
        raise ValueError(f"partly occupied sites in {structure.formula}: expected full ones")
    missing = sorted(set(structure.symbol_set) - set(chosen.CONFIG["POTCAR"]))
    if missing:
        raise ValueError(f"{how.input_set} has no pseudopotential for {', '.join(missing)}")
    return chosen(
        build_structure(structure.lattice.matrix, structure.atomic_numbers, structure.frac_coords),
        user_incar_settings=dict(incar),
        **how.settings,
    )


def _write(text: str, path: Path) -> None:
    """Write a text file, all at once."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


# Shortlists


def write_shortlist_inputs(
    structures: Mapping[str, "Structure"],
    folder: str | Path,
    *,
    recipes: Sequence[str] = DEFAULT_RECIPES,
    incar: Mapping[str, object] | None = None,
) -> list[DftInputs]:
    """Write the inputs of several crystals, in primitive symmetrised cells, and how to go on.

    That is README.txt, a job array and, where atomate2 is installed, its flow as JSON.

    Args:
        structures: Ordered crystals by name.
        folder: Gets one folder a crystal, in which there is one a recipe.
        recipes: Calculations to prepare.
        incar: Settings that win over those of the sets.

    Returns:
        What was written, in the order of `structures`; a crystal that cannot be done has an error.
    """
    folder = Path(folder)
    places = file_names(structures, reserved=[README, JOBS, ARRAY, FLOW])
    exact = {name: _primitive(structure) for name, structure in structures.items()}
    written = [
        _write_candidate(name, structure, folder / place, recipes, incar or {})
        for place, (name, structure) in zip(places, exact.items(), strict=True)
    ]
    there = [one.folder.name for one in written if one.folder is not None]
    jobs = [f"{place}/{recipe}" for place in there for recipe in recipes]
    _write(_readme(written, recipes, incar or {}), folder / README)
    _write("".join(f"{job}\n" for job in jobs), folder / JOBS)
    _write(_ARRAY.format(count=max(len(jobs), 1), jobs=JOBS), folder / ARRAY)
    done = {one.name: exact[one.name] for one in written if one.folder is not None}
    if find_spec("atomate2") is not None and find_spec("jobflow") is not None:
        _write(flow_as_json(done, recipes, incar or {}), folder / FLOW)
    return written


def _primitive(structure: "Structure") -> "Structure":
    """The primitive cell on exact positions; a crystal that has none stays as it is."""
    if not structure.is_ordered:
        return structure
    try:
        return symmetrized(structure, symprec=SYMPREC_RELAXED).structure
    except (ValueError, ArithmeticError):
        return structure  # what is wrong with it is said where its inputs are made


def _write_candidate(
    name: str,
    structure: "Structure",
    folder: Path,
    recipes: Sequence[str],
    incar: Mapping[str, object],
) -> DftInputs:
    """All calculations of one crystal, or the reason why one cannot be done."""
    try:
        pseudopotentials = {
            recipe: write_dft_inputs(structure, folder / recipe, recipe=recipe, incar=incar)
            for recipe in recipes
        }
    except ValueError as error:
        return DftInputs(name=name, error=str(error))
    return DftInputs(name=name, folder=folder, pseudopotentials=pseudopotentials)


def _readme(
    written: Sequence[DftInputs], recipes: Sequence[str], incar: Mapping[str, object]
) -> str:
    """What there is, what number belongs on which hull, and how to run it."""
    lines = [_GUIDE]
    for name in recipes:
        recipe = RECIPES[name]
        needed = set().union(*(inputs.pseudopotentials.get(name, ()) for inputs in written))
        lines += [
            f"{name}/",
            f"  {recipe.what} (pymatgen's {recipe.input_set}.)",
            f"  Pseudopotentials: set {recipe.pseudopotentials}.",
            f"  {name}: {' '.join(sorted(needed)) or 'none'}",
            f"  To compare: {recipe.compare}\n",
        ]
    if incar:
        told = ", ".join(f"{tag} = {value}" for tag, value in incar.items())
        lines.append(
            f"INCAR settings of yours that win over the sets': {told}. What they change may"
        )
        lines.append("make the energies incomparable with those named above.\n")
    lines += [_HOW_TO_RUN, "Crystals:"]
    for inputs in written:
        state = f"{inputs.folder.name}/" if inputs.folder else f"not written: {inputs.error}"
        lines.append(f"  {inputs.name}: {state}")
    return "\n".join(lines) + "\n"


# atomate2


def flow_as_json(
    structures: Mapping[str, "Structure"], recipes: Sequence[str], incar: Mapping[str, object]
) -> str:
    """A jobflow Flow of atomate2 jobs, one a crystal and recipe, as JSON.

    Read it with `jobflow.Flow.from_dict(json.load(file))`.

    Args:
        structures: By name of a crystal.
        recipes: Names of `RECIPES`.
        incar: Settings that win over those of the sets.
    """
    from atomate2.vasp.jobs.base import BaseVaspMaker
    from jobflow import Flow
    from monty.json import MontyEncoder
    from pymatgen.io.vasp import sets

    jobs = []
    for recipe in recipes:
        how = RECIPES[recipe]
        for name, structure in structures.items():
            with warnings.catch_warnings(action="ignore"):
                inputs = getattr(sets, how.input_set)(
                    user_incar_settings=dict(incar), **how.settings
                )
                maker = BaseVaspMaker(name=f"{name} {recipe}", input_set_generator=inputs)
                jobs.append(maker.make(structure))
    return json.dumps(Flow(jobs, name="mattergen_lite").as_dict(), cls=MontyEncoder) + "\n"
