"""Own DFT energies: they decide, on the right frame, or are refused with a reason."""

import pytest
from crystals import nacl, nacl_primitive, rutile
from pymatgen.core import Lattice, Structure

from mattergen_lite import judge
from mattergen_lite.scoring.energy.dft_energies import read_energies
from mattergen_lite.scoring.energy.potentials.acceptance_test import acceptance_of
from mattergen_lite.scoring.energy.potentials.mp2020 import mp2020_correction
from mattergen_lite.scoring.energy.stability import Stability


def table(tmp_path, text):
    path = tmp_path / "energies.csv"
    path.write_text(text)
    return path


def wustite():
    return Structure.from_spacegroup(
        "Fm-3m", Lattice.cubic(4.3), ["Fe", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]]
    )


def test_a_formation_energy_decides_and_the_potential_is_the_second_opinion(tmp_path):
    path = table(tmp_path, "name,formation_energy_per_atom\nsalt,-2.0\n")
    before = Stability(potential="chgnet", e_above_hull_raw=0.02, relaxed_with="chgnet")
    found = read_energies(path).stability("salt", nacl(), before)
    assert found.e_above_hull == pytest.approx(-2.0 + 2.11, abs=0.02)
    assert (found.potential, found.calibration) == ("DFT", "DFT")
    assert found.second_opinion == "chgnet"
    assert found.second_e_above_hull_raw == 0.02
    assert found.e_above_hull_std < 0.01
    assert read_energies(path).stability("other", nacl(), before) is before


def test_raw_energies_are_corrected_and_referred_to_the_elements(tmp_path):
    """An energy made of the references and the correction has the formation energy that went in."""
    references = acceptance_of("7net-l3i5").references
    correction = mp2020_correction(nacl()) / 8
    raw = -1.5 + (references["Na"] + references["Cl"]) / 2 - correction
    path = table(tmp_path, f"name,energy,num_atoms,functional\nsalt,{2 * raw},2,PBE\n")
    found = read_energies(path).stability("salt", nacl_primitive(), None)
    assert found.formation_energy_per_atom == pytest.approx(-1.5, abs=1e-4)
    own = (
        "name,formula,energy_per_atom,functional\n"
        f"salt,NaCl,{raw},PBE\nsodium,Na,{references['Na'] + 0.1},PBE\nchlorine,Cl2,-1.9,PBE\n"
    )
    found = read_energies(table(tmp_path, own)).stability("salt", nacl_primitive(), None)
    expected = raw + correction - (references["Na"] + 0.1 - 1.9) / 2
    assert found.formation_energy_per_atom == pytest.approx(expected, abs=1e-6)
    assert found.e_above_hull_std < 0.01


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("x,,-5,PBE,", r"U of Fe is 0 eV: expected the Materials Project's 5\.3 in FeO"),
        ("x,,-5,PBE+U,Fe:4", "U of Fe is 4 eV: expected the Materials Project's 5"),
        ("x,,-5,r2SCAN,", "functional 'r2SCAN' is not on this hull: expected PBE or PBE"),
        ("x,FeO2,-5,PBE,", "it is of FeO2, the crystal is FeO"),
    ],
)
def test_what_does_not_belong_on_the_hull_is_an_error_of_that_crystal(tmp_path, row, reason):
    path = table(tmp_path, f"name,formula,energy_per_atom,functional,hubbards\n{row}\n")
    found = read_energies(path).stability("x", wustite(), None)
    with pytest.raises(ValueError, match=reason):
        raise ValueError(found.stability_error)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a,b\n1,2\n", "has columns a, b: expected name and formation_energy_per_atom"),
        ("name,energy_per_atom\nx,much\n", "row 1: energy_per_atom is 'much': expected a finite"),
        ("name,energy_per_atom\nx,inf\n", "row 1: energy_per_atom is 'inf': expected a finite"),
        ("name,energy_per_atom\nx,\n", "row 1 has no energy"),
        ("name,energy\nx,-3\n", "num_atoms is nan: expected the atoms"),
        ("name,energy_per_atom\nx,-3\nx,-4\n", "has 'x' twice"),
        ("name,formula,energy_per_atom\nx,Qq,-3\n", "row 1: formula is 'Qq'"),
        ("name,energy_per_atom,hubbards\nx,-3,Fe=5\n", "hubbards is 'Fe=5': expected such as"),
    ],
)
def test_bad_tables_are_refused(tmp_path, text, reason):
    with pytest.raises(ValueError, match=reason):
        read_energies(table(tmp_path, text))


def test_the_judge_uses_them_without_relaxing(tmp_path):
    path = table(tmp_path, "name,formation_energy_per_atom\na,-3.0\n")
    judged = judge({"a": rutile(), "b": nacl()}, relax=False, energies=path, num_workers=0)
    by_name = {one.raw.name: one.stability for one in judged}
    assert by_name["a"].potential == "DFT"
    assert by_name["a"].e_above_hull > 0.3
    assert by_name["b"] is None
