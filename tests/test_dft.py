"""VASP inputs: the published settings, the same crystal, and no pseudopotential."""

import numpy as np
import pytest
from crystals import nacl_primitive, perovskite, rutile, triclinic
from pymatgen.core import Lattice, Structure
from pymatgen.io.vasp import Incar, Kpoints, Poscar

from mattergen_lite.runs.vasp import write_dft_inputs, write_shortlist_inputs

CONTENT = {"relax": {"INCAR", "KPOINTS", "POSCAR", "POTCAR.spec"}}
CONTENT["static"] = CONTENT["relax"] - {"KPOINTS"}


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


@pytest.mark.parametrize("recipe", ["relax", "static"])
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
    symbols = write_dft_inputs(wustite(), tmp_path, recipe="relax")
    incar = Incar.from_file(tmp_path / "INCAR")
    assert (incar["ENCUT"], incar["ISIF"], incar["IBRION"]) == (520, 3, 2)
    assert (incar["LDAU"], incar["LDAUU"], incar["LDAUL"]) == (True, [5.3, 0], [2, 0])
    assert incar["MAGMOM"] == [5.0] * 4 + [0.6] * 4
    assert symbols == ("Fe_pv", "O")


def test_static_has_the_settings_of_matpes(tmp_path):
    write_dft_inputs(wustite(), tmp_path, recipe="static")
    incar = Incar.from_file(tmp_path / "INCAR")
    assert (incar["ENCUT"], incar["NSW"], incar["KSPACING"]) == (680, 0, 0.22)
    assert incar["GGA"].upper() == "PE"
    assert "LDAU" not in incar
    assert incar["MAGMOM"] == [5.0] * 4 + [0.6] * 4


def test_without_transition_metal_oxide_there_is_no_hubbard_u(tmp_path):
    write_dft_inputs(nacl_primitive(), tmp_path, recipe="relax")
    assert not [key for key in Incar.from_file(tmp_path / "INCAR") if key.startswith("LDAU")]


@pytest.mark.parametrize("crystal", [perovskite, triclinic, wustite])
def test_kpoints_have_the_density_of_the_materials_project(tmp_path, crystal):
    write_dft_inputs(crystal(), tmp_path, recipe="relax")
    mesh = np.array(Kpoints.from_file(tmp_path / "KPOINTS").kpts[0])
    # 64 points per Å⁻³ of reciprocal space, numbers along the axes rounded down.
    density = np.prod(mesh) / crystal().lattice.reciprocal_lattice.volume
    assert 0.5 * 64 < density < 1.1 * 64


def test_recipe_is_written_over_another_and_no_kpoints_stay_behind(tmp_path):
    write_dft_inputs(rutile(), tmp_path, recipe="relax")
    write_dft_inputs(rutile(), tmp_path, recipe="static")
    assert files(tmp_path) == CONTENT["static"]


def disordered():
    return Structure(Lattice.cubic(3), [{"Na": 0.5, "K": 0.5}], [[0, 0, 0]])


def radon():
    return Structure(Lattice.cubic(4), ["Rn"], [[0, 0, 0]])


def nowhere():
    return Structure(Lattice.cubic(3), ["Na"], [[np.nan, 0, 0]])


@pytest.mark.parametrize(
    ("crystal", "recipe", "reason"),
    [
        (disordered, "relax", "partly occupied"),
        (radon, "relax", "MPRelaxSet has no pseudopotential for Rn"),
        (nowhere, "static", "not finite"),
        (rutile, "band structure", "unknown recipe 'band structure': expected one of relax, stat"),
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
    assert "relax: O Sr_sv Ti_pv" in readme
    assert "radon: not written: MPRelaxSet has no pseudopotential for Rn" in readme
    assert best.pseudopotentials["relax"] == ("Ti_pv", "O")


def test_names_that_become_the_same_folder_get_different_ones(tmp_path):
    names = ["a/b", "a:b", "a_b", "README.txt", "..."]
    written = write_shortlist_inputs(
        dict.fromkeys(names, nacl_primitive()), tmp_path, recipes=["static"]
    )
    folders = [inputs.folder.name for inputs in written]
    assert folders == ["a_b", "a_b_2", "a_b_3", "README.txt_2", "unnamed"]


def test_no_pseudopotential_is_ever_written(tmp_path):
    write_shortlist_inputs({"iron oxide": wustite()}, tmp_path)
    assert not list(tmp_path.rglob("POTCAR"))
    assert max(path.stat().st_size for path in tmp_path.rglob("POTCAR.spec")) < 20
