"""VASP inputs: the published settings, the same crystal, and no pseudopotential."""

import json
import os
import subprocess

import numpy as np
import pytest
from crystals import nacl_primitive, perovskite, rutile, triclinic
from pymatgen.core import Lattice, Structure
from pymatgen.io.vasp import Incar, Kpoints, Poscar

from mattergen_lite.runs.recipes import RECIPES, parse_recipes
from mattergen_lite.runs.vasp import (
    flow_as_json,
    parse_incar,
    write_dft_inputs,
    write_shortlist_inputs,
)

CONTENT = {"mp-relax": {"INCAR", "KPOINTS", "POSCAR", "POTCAR.spec"}}
CONTENT["matpes-pbe"] = CONTENT["mp-relax"] - {"KPOINTS"}


@pytest.fixture(autouse=True)
def no_pseudopotentials(monkeypatch):
    from pymatgen.core import SETTINGS

    monkeypatch.delenv("PMG_VASP_PSP_DIR", raising=False)
    monkeypatch.delitem(SETTINGS, "PMG_VASP_PSP_DIR", raising=False)


def wustite():
    return Structure.from_spacegroup(
        "Fm-3m", Lattice.cubic(4.3), ["Fe", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]]
    )


def files(folder):
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("recipe", ["mp-relax", "matpes-pbe"])
@pytest.mark.parametrize("crystal", [triclinic, rutile, nacl_primitive])
def test_poscar_is_the_same_crystal(tmp_path, crystal, recipe):
    symbols = write_dft_inputs(crystal(), tmp_path, recipe=recipe)
    assert files(tmp_path) == CONTENT[recipe]
    poscar = Poscar.from_file(tmp_path / "POSCAR", check_for_potcar=False)
    read, expected = poscar.structure, crystal().get_sorted_structure()
    np.testing.assert_allclose(read.lattice.matrix, expected.lattice.matrix, atol=1e-9)
    assert read.species == expected.species
    np.testing.assert_allclose(read.frac_coords, expected.frac_coords % 1, atol=1e-9)
    assert (tmp_path / "POTCAR.spec").read_text().split() == list(symbols)
    assert [symbol.split("_")[0] for symbol in symbols] == poscar.site_symbols


def test_relaxation_has_the_settings_of_the_materials_project(tmp_path):
    symbols = write_dft_inputs(wustite(), tmp_path, recipe="mp-relax")
    incar = Incar.from_file(tmp_path / "INCAR")
    assert (incar["ENCUT"], incar["ISIF"], incar["IBRION"]) == (520, 3, 2)
    assert (incar["LDAU"], incar["LDAUU"], incar["LDAUL"]) == (True, [5.3, 0], [2, 0])
    assert incar["MAGMOM"] == [5.0] * 4 + [0.6] * 4
    assert symbols == ("Fe_pv", "O")


def test_static_has_the_settings_of_matpes(tmp_path):
    write_dft_inputs(wustite(), tmp_path, recipe="matpes-pbe")
    incar = Incar.from_file(tmp_path / "INCAR")
    assert (incar["ENCUT"], incar["NSW"], incar["KSPACING"]) == (680, 0, 0.22)
    assert incar["GGA"].upper() == "PE"
    assert "LDAU" not in incar
    assert incar["MAGMOM"] == [5.0] * 4 + [0.6] * 4


def test_without_transition_metal_oxide_there_is_no_hubbard_u(tmp_path):
    write_dft_inputs(nacl_primitive(), tmp_path, recipe="mp-relax")
    assert not [key for key in Incar.from_file(tmp_path / "INCAR") if key.startswith("LDAU")]


@pytest.mark.parametrize("crystal", [perovskite, triclinic, wustite])
def test_kpoints_have_the_density_of_the_materials_project(tmp_path, crystal):
    write_dft_inputs(crystal(), tmp_path, recipe="mp-relax")
    mesh = np.array(Kpoints.from_file(tmp_path / "KPOINTS").kpts[0])
    # 64 points per Å⁻³ of reciprocal space, numbers along the axes rounded down.
    density = np.prod(mesh) / crystal().lattice.reciprocal_lattice.volume
    assert 0.5 * 64 < density < 1.1 * 64


def test_recipe_is_written_over_another_and_no_kpoints_stay_behind(tmp_path):
    write_dft_inputs(rutile(), tmp_path, recipe="mp-relax")
    write_dft_inputs(rutile(), tmp_path, recipe="matpes-pbe")
    assert files(tmp_path) == CONTENT["matpes-pbe"]


def disordered():
    return Structure(Lattice.cubic(3), [{"Na": 0.5, "K": 0.5}], [[0, 0, 0]])


def radon():
    return Structure(Lattice.cubic(4), ["Rn"], [[0, 0, 0]])


def nowhere():
    return Structure(Lattice.cubic(3), ["Na"], [[np.nan, 0, 0]])


@pytest.mark.parametrize(
    ("crystal", "recipe", "reason"),
    [
        (disordered, "mp-relax", "partly occupied"),
        (radon, "mp-relax", "MPRelaxSet has no pseudopotential for Rn"),
        (nowhere, "matpes-pbe", "not finite"),
        (rutile, "band structure", "unknown recipe 'band structure': expected some of mp-relax"),
    ],
)
def test_bad_input_is_refused_with_a_reason(tmp_path, crystal, recipe, reason):
    with pytest.raises(ValueError, match=reason):
        write_dft_inputs(crystal(), tmp_path / "new", recipe=recipe)
    assert not (tmp_path / "new").exists()


def test_shortlist_loses_only_the_broken_and_says_what_to_assemble(tmp_path):
    structures = {"best": rutile(), "radon": radon(), "../../etc/x y": perovskite()}
    best, failed, escaped = write_shortlist_inputs(structures, tmp_path / "dft")
    assert best.folder == tmp_path / "dft" / "best"
    for recipe, content in CONTENT.items():
        assert files(best.folder / recipe) == content
        assert files(escaped.folder / recipe) == content
    assert escaped.folder.parent == tmp_path / "dft"
    assert files(tmp_path) == {"dft"}
    assert failed.folder is None
    assert "Rn" in failed.error
    readme = (tmp_path / "dft" / "README.txt").read_text()
    assert "mp-relax: O Sr_sv Ti_pv" in readme
    assert "radon: not written: MPRelaxSet has no pseudopotential for Rn" in readme
    assert best.pseudopotentials["mp-relax"] == ("Ti_pv", "O")


def test_names_that_become_the_same_folder_get_different_ones(tmp_path):
    names = ["a/b", "a:b", "a_b", "README.txt", "..."]
    written = write_shortlist_inputs(
        dict.fromkeys(names, nacl_primitive()), tmp_path, recipes=["matpes-pbe"]
    )
    folders = [inputs.folder.name for inputs in written]
    assert folders == ["a_b", "a_b_2", "a_b_3", "README.txt_2", "unnamed"]


def test_no_pseudopotential_is_ever_written(tmp_path):
    write_shortlist_inputs({"iron oxide": wustite()}, tmp_path)
    assert not list(tmp_path.rglob("POTCAR"))
    assert max(path.stat().st_size for path in tmp_path.rglob("POTCAR.spec")) < 20


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_set_writes_what_it_is_named_after(tmp_path, recipe):
    write_dft_inputs(wustite(), tmp_path, recipe=recipe)
    incar = Incar.from_file(tmp_path / "INCAR")
    is_r2scan = "r2scan" in recipe or recipe.startswith("mp24")
    assert (str(incar.get("METAGGA", "")).upper() == "R2SCAN") == is_r2scan
    assert (incar.get("NSW", 0) > 0) == recipe.endswith("relax")
    assert ("LDAUU" in incar) == recipe.startswith("mp-")


def test_settings_of_the_user_win_and_are_told(tmp_path):
    incar = parse_incar(["ENCUT=700", "ediff = 1e-7"])
    assert incar == {"ENCUT": 700, "EDIFF": 1e-7}
    write_shortlist_inputs({"a": wustite()}, tmp_path, recipes=["mp-relax"], incar=incar)
    written = Incar.from_file(tmp_path / "a" / "mp-relax" / "INCAR")
    assert (written["ENCUT"], written["EDIFF"]) == (700, 1e-7)
    assert "ENCUT = 700" in (tmp_path / "README.txt").read_text()
    for text, reason in {
        "ENCUT": "expected such as ENCUT=600",
        "ENCUTT=600": "expected a tag that VASP knows",
        "SYSTEM=a; GGA = PS": "expected such as",
    }.items():
        with pytest.raises(ValueError, match=reason):
            parse_incar([text])
    with pytest.raises(ValueError, match="unknown recipe 'pbe': expected some of mp-relax"):
        parse_recipes("mp-relax,pbe")


VASP = """#!/bin/bash
head -n 1 POSCAR | tee -a "$LOG"
echo "relaxed in ${PWD##*/}" > CONTCAR
"""


def test_an_array_runs_the_calculations_of_a_crystal_in_order(tmp_path):
    """A static calculation starts from what the relaxation wrote; a second run repeats nothing."""
    recipes = ["mp-static", "mp-relax", "matpes-r2scan"]
    write_shortlist_inputs({"salt": nacl_primitive()}, tmp_path, recipes=recipes)
    for recipe in recipes:
        (tmp_path / "salt" / recipe / "POTCAR").touch()
    program, log = tmp_path / "vasp", tmp_path / "log"
    program.write_text(VASP)
    program.chmod(0o755)
    environment = os.environ | {
        "VASP": str(program), "LOG": str(log), "SLURM_ARRAY_TASK_ID": "1",
        "SLURM_SUBMIT_DIR": str(tmp_path),
    }  # fmt: skip
    for _ in range(2):
        subprocess.run(["bash", tmp_path / "array.sbatch"], env=environment, check=True)
    lines = log.read_text().splitlines()
    assert len(lines) == 3
    assert lines[2] == "relaxed in mp-relax"
    assert "relaxed" not in "".join(lines[:2])


def test_cells_are_primitive_and_an_array_runs_every_crystal(tmp_path):
    doubled = nacl_primitive().make_supercell([2, 1, 1], in_place=False)
    cells = {"salt": doubled, "iron oxide": wustite()}
    write_shortlist_inputs(cells, tmp_path, recipes=["mp-relax", "mp24-static"])
    poscar = Poscar.from_file(tmp_path / "salt" / "mp-relax" / "POSCAR", check_for_potcar=False)
    assert len(poscar.structure) == 2
    jobs = (tmp_path / "jobs.txt").read_text().splitlines()
    assert jobs == ["salt", "iron_oxide"]
    assert all((tmp_path / job / "mp-relax" / "INCAR").exists() for job in jobs)
    assert "--array=1-2" in (tmp_path / "array.sbatch").read_text()
    readme = (tmp_path / "README.txt").read_text()
    assert "--energies table.csv" in readme
    assert "Never on the GGA/GGA+U hull" in readme


def test_flow_of_atomate2(tmp_path, monkeypatch):
    pytest.importorskip("atomate2")
    from atomate2.vasp.files import write_vasp_input_set

    flow = pytest.importorskip("jobflow").Flow
    recipes = ["matpes-pbe", "mp-relax", "matpes-r2scan"]
    incar = {"ENCUT": 700}
    text = flow_as_json({"a": wustite(), "b": rutile()}, recipes, incar)
    jobs = {job.name: job for job in flow.from_dict(json.loads(text)).jobs}
    assert list(jobs)[:3] == ["a mp-relax", "a matpes-r2scan", "a matpes-pbe"]
    assert len(jobs) == 6
    static = jobs["a matpes-pbe"]  # of what the relaxation finds
    assert static.function_args[0].uuid == jobs["a mp-relax"].uuid
    assert [list(one) for one in static.function_args[0].attributes] == [["a", "structure"]]
    for recipe in ("mp-relax", "matpes-r2scan"):  # its files are ours
        job, ours = jobs[f"a {recipe}"], tmp_path / "ours" / recipe
        write_dft_inputs(wustite(), ours, recipe=recipe, incar=incar)
        theirs = tmp_path / "theirs" / recipe
        theirs.mkdir(parents=True)
        inputs = job.maker.input_set_generator
        write_vasp_input_set(job.function_args[0], inputs, directory=theirs, potcar_spec=True)
        assert files(theirs) == files(ours)
        assert Incar.from_file(theirs / "INCAR") == Incar.from_file(ours / "INCAR")


def test_an_order_of_recipes_is_told_and_ends():
    """A single point comes after a relaxation that comes after nothing."""
    assert {one.after for one in RECIPES.values() if one.after} == {"mp-relax", "mp24-relax"}
    assert not any(RECIPES[one.after].after for one in RECIPES.values() if one.after)
    assert "../mp24-relax/CONTCAR" in RECIPES["mp24-static"].order
