"""Potentials: the same numbers as their authors' code, and forces that are gradients."""

import numpy as np
import pytest
from crystals import nacl, quartz, rutile, single_atom, triclinic
from pymatgen.core import Lattice, Structure

from mattergen_lite.scoring.energy import potentials
from mattergen_lite.scoring.energy.potentials.mp2020 import mp2020_correction
from mattergen_lite.scoring.energy.potentials.potential import check_elements
from mattergen_lite.scoring.energy.potentials.sources import load_potential


@pytest.fixture(scope="module")
def chgnet():
    return load_potential("chgnet")


def numeric_force(potential, atoms, atom, axis, step=0.01):
    energies = []
    for sign in (1, -1):
        moved = atoms.copy()
        moved.positions[atom, axis] += sign * step
        energies.append(potential.energy(moved))
    return -(energies[0] - energies[1]) / (2 * step)


def numeric_stress(potential, atoms, row, column, step=0.005):
    energies = []
    for sign in (1, -1):
        strain = np.eye(3)
        strain[row, column] += sign * step / 2
        strain[column, row] += sign * step / 2
        strained = atoms.copy()
        strained.set_cell(atoms.cell.array @ strain, scale_atoms=True)
        energies.append(potential.energy(strained))
    return (energies[0] - energies[1]) / (2 * step * atoms.get_volume())


def assert_gradients(potential, atoms):
    [point] = potential.single_points([atoms])
    assert point.energy == pytest.approx(potential.energy(atoms), abs=1e-4)
    for atom, axis in [(0, 0), (1, 1), (2, 2), (3, 0)]:
        expected = numeric_force(potential, atoms, atom, axis)
        assert point.forces[atom, axis] == pytest.approx(expected, abs=0.01)
    for row, column in [(0, 0), (1, 2), (0, 1)]:
        expected = numeric_stress(potential, atoms, row, column)
        assert point.stress[row, column] == pytest.approx(expected, abs=1e-3)


def test_chgnet_forces_and_stress_are_gradients_in_a_triclinic_cell(chgnet):
    assert_gradients(chgnet, triclinic().to_ase_atoms())


@pytest.mark.parametrize("crystal", [nacl, quartz, rutile, triclinic, single_atom])
def test_chgnet_agrees_with_its_authors_code(chgnet, crystal):
    structure = crystal().perturb(0.05)
    [point] = chgnet.single_points([structure.to_ase_atoms()])
    chgnet.model.requires_grad_(True)
    theirs = chgnet.model.predict_structure(structure, task="efs")
    chgnet.model.requires_grad_(False)
    assert point.energy / len(structure) == pytest.approx(float(theirs["e"]), abs=1e-5)
    np.testing.assert_allclose(point.forces, theirs["f"], atol=1e-4)
    np.testing.assert_allclose(point.stress * 160.2177, theirs["s"], atol=1e-2)


def test_crystals_do_not_influence_each_other_in_a_batch(chgnet):
    batch = [crystal().to_ase_atoms() for crystal in (triclinic, quartz, single_atom)]
    for atoms, together in zip(batch, chgnet.single_points(batch), strict=True):
        [alone] = chgnet.single_points([atoms])
        assert together.energy == pytest.approx(alone.energy, abs=1e-4)
        np.testing.assert_allclose(together.forces, alone.forces, atol=1e-4)
        np.testing.assert_allclose(together.stress, alone.stress, atol=1e-4)


def test_energy_does_not_depend_on_the_choice_of_cell(chgnet):
    energy = chgnet.energy(triclinic().to_ase_atoms())
    supercell = triclinic().make_supercell([[1, 1, 0], [0, 1, 0], [0, 0, 2]])
    assert chgnet.energy(supercell.to_ase_atoms()) == pytest.approx(2 * energy, abs=1e-3)


def test_isolated_and_coinciding_atoms_are_refused(chgnet):
    alone = Structure(Lattice.cubic(20), ["Ar"], [[0, 0, 0]])
    with pytest.raises(ValueError, match="no neighbour within 6 Å"):
        chgnet.single_points([alone.to_ase_atoms()])
    double = Structure(Lattice.cubic(4), ["Na", "Cl"], [[0, 0, 0], [0.01, 0, 0]])
    with pytest.raises(ValueError, match="coincide"):
        chgnet.single_points([double.to_ase_atoms()])


def test_unsupported_elements_are_named(chgnet):
    with pytest.raises(ValueError, match="Po, Rn unsupported by chgnet: expected its 89"):
        check_elements(chgnet, ["Rn", "O", "Po"])


def test_unknown_potential_names_the_known_ones():
    with pytest.raises(ValueError, match=r"unknown potential 'mace'.*chgnet, 7net-l3i5"):
        load_potential("mace")


def test_missing_package_says_what_to_install(monkeypatch):
    monkeypatch.setattr(potentials, "find_spec", lambda package: None)
    with pytest.raises(ValueError, match=r"sevenn is not installed.*pip install sevenn"):
        potentials.check_potential("7net-l3i5")


def test_mp2020_correction_values():
    """Wang et al. 2021, table: O -0.687, Cl -0.614, Fe in oxides -2.256 eV per atom."""
    iron_oxide = Structure.from_spacegroup(
        "Fm-3m", Lattice.cubic(4.3), ["Fe", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]]
    )
    assert mp2020_correction(iron_oxide) == pytest.approx(4 * (-2.256 - 0.687), abs=1e-3)
    assert mp2020_correction(nacl()) == pytest.approx(4 * -0.614, abs=1e-3)
    assert mp2020_correction(single_atom()) == 0.0


@pytest.mark.slow
def test_sevennet_gradients_and_frame():
    pytest.importorskip("sevenn")
    potential = load_potential("7net-l3i5")
    assert_gradients(potential, triclinic().to_ase_atoms())
    structure = rutile()
    corrected = potential.energy(structure.to_ase_atoms()) + potential.correction(structure)
    chgnet = load_potential("chgnet").energy(structure.to_ase_atoms())
    assert corrected / 6 == pytest.approx(chgnet / 6, abs=0.03)
