"""Writes inputs for the crystals that are worth a DFT calculation: of VASP, or of other codes.

What is calculated are the recipes of `runs.recipes`. Pseudopotentials are licensed: `POTCAR.spec`
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

from mattergen_lite.files.folders import write_text
from mattergen_lite.io.formats.structures import build_structure
from mattergen_lite.io.write import file_names
from mattergen_lite.runs.dft_codes import RUN, VASP, write_code_inputs
from mattergen_lite.runs.recipes import DEFAULT_RECIPES, RECIPES, Recipe, parse_recipes, template
from mattergen_lite.scoring.criteria.symmetrization import symmetrized
from mattergen_lite.symmetry.detection import SYMPREC_RELAXED

if TYPE_CHECKING:
    from atomate2.vasp.jobs.base import BaseVaspMaker
    from pymatgen.core import Structure
    from pymatgen.io.vasp.sets import VaspInputSet

README = "README.txt"
JOBS, ARRAY, FLOW = "jobs.txt", "array.sbatch", "flow.json"


@dataclass(frozen=True, kw_only=True)
class DftInputs:
    """What was written for one crystal."""

    name: str
    folder: Path | None = None  # None if there is an error
    pseudopotentials: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    error: str | None = None


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
    set uses KSPACING. Settings of `incar` win over those of the set. Returns the names of the
    pseudopotentials in the order of POSCAR.

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
        write_text(text, Path(folder) / name)
    return tuple(inputs.potcar_symbols)


def _input_set(structure: "Structure", recipe: str, incar: Mapping[str, object]) -> "VaspInputSet":
    from pymatgen.io.vasp import sets

    (recipe,) = parse_recipes(recipe)
    how = RECIPES[recipe]
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


def write_other_inputs(structure: "Structure", folder: Path, codes: Sequence[str]) -> None:
    """Write relaxations for codes other than VASP, with the k points and moments of `mp-relax`.

    Raises:
        ValueError: If `MPRelaxSet` cannot describe the crystal.
    """
    from pymatgen.io.vasp.inputs import Kpoints

    others = [code for code in codes if code != VASP]
    if not others:
        return
    with warnings.catch_warnings(action="ignore"):
        inputs = _input_set(structure, "mp-relax", {})
        ordered, moments = inputs.poscar.structure, inputs.incar["MAGMOM"]
    density = inputs.CONFIG["KPOINTS"]["reciprocal_density"]
    mesh = Kpoints.automatic_density_by_vol(ordered, density, force_gamma=True).kpts[0]
    atoms = ordered.to_ase_atoms(msonable=False)
    if atoms.cell.handedness < 0:  # ABINIT refuses it; POSCAR is turned in the same way
        atoms.set_cell(-atoms.cell.array, scale_atoms=True)
    atoms.set_initial_magnetic_moments([float(moment) for moment in moments])
    for code in others:
        write_code_inputs(atoms, mesh, folder / code, code)


# Shortlists


def write_shortlist_inputs(
    structures: Mapping[str, "Structure"],
    folder: str | Path,
    *,
    codes: Sequence[str] = (VASP,),
    recipes: Sequence[str] = DEFAULT_RECIPES,
    incar: Mapping[str, object] | None = None,
    verdicts: Mapping[str, str] | None = None,
) -> list[DftInputs]:
    """Write the inputs of several crystals, in primitive symmetrised cells, and how to go on.

    That is README.txt and, for VASP, a job array and, where atomate2 is installed, its flow as
    JSON. A crystal has a folder, in which there is one a recipe of VASP and one a code. README.txt
    repeats the verdicts. What was written is returned in the order of the crystals; one that cannot
    be done has an error.
    """
    folder = Path(folder)
    places = file_names(structures, reserved=[README, JOBS, ARRAY, FLOW])
    recipes = recipes if VASP in codes else ()
    exact = {name: _primitive(structure) for name, structure in structures.items()}
    written = [
        _write_candidate(name, structure, folder / place, codes, recipes, incar or {})
        for place, (name, structure) in zip(places, exact.items(), strict=True)
    ]
    text = _readme(written, codes, recipes, incar or {}, verdicts or {})
    write_text(text, folder / README)
    if not recipes:
        return written
    prepared = [entry.folder.name for entry in written if entry.folder is not None]
    write_text("".join(f"{place}\n" for place in prepared), folder / JOBS)
    steps = [f'run {recipe} "{_start_of(recipe, recipes)}"' for recipe in in_order(recipes)]
    script = template("array.sbatch").format(
        count=max(len(prepared), 1), jobs=JOBS, steps="\n".join(steps)
    )
    write_text(script, folder / ARRAY)
    done = {entry.name: exact[entry.name] for entry in written if entry.folder is not None}
    if find_spec("atomate2") is not None and find_spec("jobflow") is not None:
        write_text(flow_as_json(done, recipes, incar or {}), folder / FLOW)
    return written


def in_order(recipes: Sequence[str]) -> list[str]:
    """Recipes, relaxations first; what comes after another one has none after it."""
    return sorted(dict.fromkeys(recipes), key=lambda recipe: bool(RECIPES[recipe].after))


def _start_of(recipe: str, recipes: Sequence[str]) -> str:
    """The relaxation that a calculation starts from; empty where it is not among the recipes."""
    before = RECIPES[recipe].after
    return before if before in recipes else ""


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
    codes: Sequence[str],
    recipes: Sequence[str],
    incar: Mapping[str, object],
) -> DftInputs:
    """All calculations of one crystal, or the reason why one cannot be done."""
    try:
        pseudopotentials = {
            recipe: write_dft_inputs(structure, folder / recipe, recipe=recipe, incar=incar)
            for recipe in recipes
        }
        write_other_inputs(structure, folder, codes)
    except ValueError as error:
        return DftInputs(name=name, error=str(error))
    return DftInputs(name=name, folder=folder, pseudopotentials=pseudopotentials)


def _readme(
    written: Sequence[DftInputs],
    codes: Sequence[str],
    recipes: Sequence[str],
    incar: Mapping[str, object],
    verdicts: Mapping[str, str],
) -> str:
    """What there is, what number belongs on which hull, and how to run it."""
    lines = [template("guide.txt")]
    lines += [f"{code}/\n  {RUN[code]}\n" for code in codes if code != VASP]
    if len(codes) > (VASP in codes):
        lines.append(template("not_on_the_hull.txt"))
    for name in recipes:
        recipe = RECIPES[name]
        needed = set().union(*(inputs.pseudopotentials.get(name, ()) for inputs in written))
        lines += [
            f"{name}/",
            f"  {recipe.what}{recipe.order} (pymatgen's {recipe.input_set}.)",
            f"  Pseudopotentials: set {recipe.pseudopotentials}.",
            f"  {name}: {' '.join(sorted(needed)) or 'none'}",
            f"  To compare: {recipe.compare}\n",
        ]
    if recipes and incar:
        told = ", ".join(f"{tag} = {value}" for tag, value in incar.items())
        lines.append(
            f"INCAR settings of yours that win over the sets': {told}. What they change may"
        )
        lines.append("make the energies incomparable with those named above.\n")
    lines += [template("how_to_run.txt")] * bool(recipes) + ["Crystals:"]
    for inputs in written:
        state = f"{inputs.folder.name}/" if inputs.folder else f"not written: {inputs.error}"
        lines.append(f"  {inputs.name}: {state} {verdicts.get(inputs.name, '')}".rstrip())
    return "\n".join(lines) + "\n"


# atomate2


def flow_as_json(
    structures: Mapping[str, "Structure"], recipes: Sequence[str], incar: Mapping[str, object]
) -> str:
    """A jobflow Flow of atomate2 jobs, one a crystal and recipe, as JSON.

    A single point takes the crystal of the relaxation that it is to come after, where both are
    asked for. Read it with `jobflow.Flow.from_dict(json.load(file))`.
    """
    from jobflow import Flow
    from monty.json import MontyEncoder

    order = in_order(recipes)
    jobs = []
    for name, structure in structures.items():
        relaxed = {}
        for recipe in order:
            start = relaxed.get(RECIPES[recipe].after, structure)
            job = _maker(f"{name} {recipe}", RECIPES[recipe], incar).make(start)
            relaxed[recipe] = job.output.structure
            jobs.append(job)
    return json.dumps(Flow(jobs, name="mattergen_lite").as_dict(), cls=MontyEncoder) + "\n"


def _maker(name: str, recipe: Recipe, incar: Mapping[str, object]) -> "BaseVaspMaker":
    """What makes atomate2's job of one calculation."""
    from atomate2.vasp.jobs.base import BaseVaspMaker
    from pymatgen.io.vasp import sets

    with warnings.catch_warnings(action="ignore"):
        inputs = getattr(sets, recipe.input_set)(user_incar_settings=dict(incar), **recipe.settings)
        return BaseVaspMaker(name=name, input_set_generator=inputs)
