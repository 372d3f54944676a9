"""Potentials: the same numbers as their authors' code, and forces that are gradients."""

from dataclasses import dataclass, replace
from importlib.util import find_spec

import numpy as np
import pytest
from ase.calculators.emt import EMT
from crystals import nacl, quartz, rutile, single_atom, triclinic
from pymatgen.core import Lattice, Structure

from mattergen_lite import judge
from mattergen_lite.data.materials import known_compound, labelled_compounds
from mattergen_lite.scoring.energy.potentials import acceptance_test, sources
from mattergen_lite.scoring.energy.potentials.acceptance_test import (
    acceptance_of,
    accepted_potential,
    run_acceptance_test,
)
from mattergen_lite.scoring.energy.potentials.base import AsePotential, check_elements
from mattergen_lite.scoring.energy.potentials.chgnet import ChgnetPotential
from mattergen_lite.scoring.energy.potentials.mp2020 import hubbard_u, mp2020_correction
from mattergen_lite.scoring.energy.potentials.sources import load_potential, potential_source
from mattergen_lite.scoring.known.compounds import spread_compounds


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
    with pytest.raises(ValueError, match=r"unknown potential 'emt'.*chgnet, 7net-0.*mace:\.\.\."):
        load_potential("emt")


def test_missing_package_says_what_to_install(monkeypatch):
    monkeypatch.setattr(sources, "find_spec", lambda package: None)
    with pytest.raises(ValueError, match=r"sevenn is not installed: expected `pip install sevenn`"):
        sources.check_potential("7net-l3i5")
    with pytest.raises(
        ValueError, match=r"expected `pip install '\.\[mace\]'` in the source folder"
    ):
        sources.check_potential("mace:medium-mpa-0")


def test_mp2020_correction_values():
    """Wang et al. 2021, table: O -0.687, Cl -0.614, Fe in oxides -2.256 eV per atom."""
    iron_oxide = Structure.from_spacegroup(
        "Fm-3m", Lattice.cubic(4.3), ["Fe", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]]
    )
    assert mp2020_correction(iron_oxide) == pytest.approx(4 * (-2.256 - 0.687), abs=1e-3)
    assert mp2020_correction(nacl()) == pytest.approx(4 * -0.614, abs=1e-3)
    assert mp2020_correction(single_atom()) == 0.0


# Compounds of the embedded table with atoms whose correction is known, and its kind.
CORRECTED = {
    "mp-4406": {"oxide": 8},  # CaSO4, a sulfate: sulfur is no anion
    "mp-4770": {"oxide": 8},  # Na2SO4
    "mp-23526": {"oxide": 16},  # KClO4
    "mp-22939": {"oxide": 2, "Cl": 2},  # BiOCl
    "mp-27863": {"oxide": 2, "Cl": 2},  # AlOCl
    "mp-540828": {"oxide": 2, "Cl": 2, "Fe": 2},  # FeOCl, of PBE+U
    "mp-643273": {},  # NaH2Pd3: H and Pd tie
    "mp-1018133": {},  # LiHPd
    "mp-24161": {"H": 2},  # TiH2
    "mp-23703": {"H": 1},  # LiH
    "mp-841": {"peroxide": 4},  # Li2O2
    "mp-1866": {"superoxide": 2},  # KO2
    "mp-23856": {"oxide": 2},  # LiOH
    "mp-1522": {"S": 4},  # FeS2, a polysulfide
    "mp-2065": {"S": 1},  # MnS, of PBE
    "mp-19770": {"oxide": 6, "Fe": 4},  # Fe2O3
    "mp-804": {"N": 2},  # GaN
    "mp-22003": {"N": 3},  # NaN3: -1/3 each
    "mp-31002": {"Te": 5},  # Rb2Te5: -2/5 each
    "mp-19953": {"Si": 4},  # ZrCuSi2: Cu and Si tie
    "mp-1071625": {"Se": 4},  # CSe2: C and Se tie
    "mp-22885": {"F": 2},  # XeF2
    "mp-1143773": {"oxide": 8},  # SiO2He, without an electronegativity of He
}
PER_ATOM = {  # eV, Wang et al. 2021
    **{"oxide": -0.687, "peroxide": -0.465, "superoxide": -0.161, "S": -0.503, "F": -0.462},
    **{"Cl": -0.614, "N": -0.361, "Se": -0.472, "Si": 0.071, "Te": -0.422, "H": -0.179},
    "Fe": -2.256,
}


def test_mp2020_correction_is_that_of_the_labels_for_any_order_of_atoms():
    table = labelled_compounds().set_index("material_id", drop=False)
    rng = np.random.default_rng(0)
    for material_id, atoms in CORRECTED.items():
        crystal = known_compound(table.loc[material_id].to_dict()).structure
        correction = mp2020_correction(crystal)
        expected = sum(PER_ATOM[kind] * number for kind, number in atoms.items())
        assert correction == pytest.approx(expected, abs=1e-6), crystal.formula
        for _ in range(3):
            order = rng.permutation(len(crystal))
            shuffled = Structure.from_sites([crystal[int(index)] for index in order])
            assert mp2020_correction(shuffled) == pytest.approx(correction, abs=1e-9)
            assert hubbard_u(shuffled.composition) == hubbard_u(crystal.composition)
        doubled = crystal.make_supercell([1, 1, 2], in_place=False)
        assert mp2020_correction(doubled) == pytest.approx(2 * correction, abs=1e-6)


@pytest.mark.slow
def test_sevennet_gradients_and_frame():
    pytest.importorskip("sevenn")
    potential = load_potential("7net-l3i5")
    assert_gradients(potential, triclinic().to_ase_atoms())
    structure = rutile()
    corrected = potential.energy(structure.to_ase_atoms()) + potential.correction(structure)
    chgnet = load_potential("chgnet").energy(structure.to_ase_atoms())
    assert corrected / 6 == pytest.approx(chgnet / 6, abs=0.03)


# Any potential


def test_a_calculator_and_a_factory_become_potentials():
    made = load_potential("ase.calculators.emt:EMT")
    own = load_potential(potential_source(EMT()))
    copper = Structure.from_spacegroup("Fm-3m", Lattice.cubic(3.6), ["Cu"], [[0, 0, 0]])
    assert made.energy(copper.to_ase_atoms(msonable=False)) == own.energy(
        copper.to_ase_atoms(msonable=False)
    )
    assert made.name == "ase.calculators.emt:EMT"
    assert own.name == "EMT"
    with pytest.raises(ValueError, match=r"int is no potential: expected a name, a path, an ASE"):
        potential_source(3)
    with pytest.raises(ValueError, match="has no 'Nothing': expected a function"):
        load_potential("ase.calculators.emt:Nothing")


def test_nothing_is_imported_from_the_current_folder(tmp_path, monkeypatch):
    for name in ("mace.py", "my_calculator.py"):
        (tmp_path / name).write_text("raise SystemExit('a stranger ran code')")
    (tmp_path / "evil-1.dist-info").mkdir()
    (tmp_path / "evil-1.dist-info" / "METADATA").write_text("Name: evil\nVersion: 1\n")
    points = "[mattergen_lite.potentials]\nevil = my_calculator:load\n"
    (tmp_path / "evil-1.dist-info" / "entry_points.txt").write_text(points)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ValueError, match="no installed module 'my_calculator'"):
        load_potential("my_calculator:emt")
    with pytest.raises(ValueError, match="unknown potential 'evil'"):
        load_potential("evil")
    if find_spec("mace_torch") is None:
        with pytest.raises(ValueError, match="mace"):
            load_potential("mace:medium-mpa-0")


def test_published_families_are_found(tmp_path, monkeypatch):
    (tmp_path / "kind-1.dist-info").mkdir()
    (tmp_path / "kind-1.dist-info" / "METADATA").write_text("Name: kind\nVersion: 1\n")
    points = "[mattergen_lite.potentials]\nkind = kind_adapter:load\n"
    (tmp_path / "kind-1.dist-info" / "entry_points.txt").write_text(points)
    (tmp_path / "kind_adapter.py").write_text(
        "from ase.calculators.emt import EMT\n"
        "from mattergen_lite.scoring.energy.potentials.base import AsePotential\n"
        "def load(model, device):\n"
        "    return AsePotential(f'kind:{model}', EMT(), frozenset({'Cu'}))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert load_potential("kind:small").supported_elements == {"Cu"}
    sources.check_potential("kind:large")


def test_weights_are_known_by_their_suffix(tmp_path):
    for name, problem in (
        ("mine.pth", r"expected one of 7net:.*mine.pth, mattersim:.*mine.pth"),
        ("mine.xyz", "weights of which family"),
    ):
        (tmp_path / name).touch()
        with pytest.raises(ValueError, match=problem):
            load_potential(str(tmp_path / name))


def test_other_sevennet_models_agree_with_their_authors_code():
    pytest.importorskip("sevenn")
    from sevenn.calculator import SevenNetCalculator

    atoms = triclinic().to_ase_atoms()
    for name, task in (("7net-0", None), ("7net-mf-0", "PBE")):
        potential = load_potential(name)
        theirs = SevenNetCalculator(name, device="cpu", modal=task)
        assert potential.energy(atoms) == pytest.approx(
            theirs.get_potential_energy(atoms), abs=1e-3
        )
        assert potential.correction(nacl()) == pytest.approx(4 * -0.614, abs=1e-3)


# The acceptance test


def test_the_compounds_of_the_exam_have_the_periodic_table_in_them():
    compounds = spread_compounds(64)
    assert len({one.material_id for one in compounds}) == 64
    assert len(set().union(*(one.structure.symbol_set for one in compounds))) > 80
    assert sum("O" in one.structure.symbol_set for one in compounds) >= 8
    assert max(len(one.structure) for one in compounds) <= 8


def test_chgnet_passes_and_its_exam_is_in_the_package(chgnet):
    found = run_acceptance_test(chgnet)
    assert found.problems == []
    assert found.energy_scheme == "corrected"
    shipped = acceptance_of("chgnet")
    assert shipped.mean_error == pytest.approx(found.mean_error, abs=1e-3)
    assert shipped.references["Na"] == pytest.approx(found.references["Na"], abs=1e-3)


@dataclass(frozen=True)
class Broken:
    """CHGNet, with something wrong as it is when weights meet the wrong version of their code."""

    right: ChgnetPotential
    name: str = "broken"
    energy_factor: float = 1.0
    force_factor: float = 1.0
    stress_factor: float = 1.0

    @property
    def supported_elements(self):
        return self.right.supported_elements

    def energy(self, atoms):
        return self.energy_factor * self.right.energy(atoms)

    def single_points(self, batch):
        return [
            replace(
                point,
                energy=self.energy_factor * point.energy,
                forces=self.force_factor * point.forces,
                stress=self.stress_factor * point.stress,
            )
            for point in self.right.single_points(batch)
        ]

    def correction(self, structure):
        return 0.0


@pytest.mark.parametrize(
    ("fault", "problem"),
    [
        ({"energy_factor": 23.06}, "formation energies are off by"),
        ({"force_factor": -1.0}, "forces differ from the energy's gradient by 200%"),
        ({"stress_factor": 160.2}, "stress differs from it by"),
    ],
)
def test_wrong_units_and_signs_fail_the_exam(chgnet, fault, problem):
    acceptance = run_acceptance_test(Broken(chgnet, **fault))
    assert any(problem in one for one in acceptance.problems)
    with pytest.raises(
        ValueError, match=r"broken fails the acceptance test on known compounds: .*at"
    ):
        acceptance.check()


def test_a_calculator_of_a_few_elements_may_judge_those_that_it_describes():
    """EMT is fitted to six metals; its aluminides and oxides are known to be wrong."""
    acceptance = run_acceptance_test(AsePotential("emt", EMT()))
    acceptance.check()
    assert acceptance.references.keys() == {"Ag", "Au", "Cu", "Ni", "Pd", "Pt"}
    assert acceptance.left_out.keys() == {"Al", "C", "H", "N", "O"}
    assert acceptance.num_spread < 16 <= acceptance.num_compounds
    assert acceptance.mean_error < acceptance.mean_formation


class ScaledEmt(EMT):
    """EMT in other units, with another sign, or without any energy."""

    factor = 0.0

    def calculate(self, *args):
        super().calculate(*args)
        self.results = {name: self.factor * value for name, value in self.results.items()}


@pytest.mark.parametrize("factor", [23.06, -1.0, 0.0])
def test_a_wrong_calculator_of_a_few_elements_is_refused(factor):
    calculator = ScaledEmt()
    calculator.factor = factor
    metals = frozenset(["Ag", "Au", "Cu", "Ni", "Pd", "Pt"])
    with pytest.raises(ValueError, match=r"(too few elements|no better than zero).*expected a pot"):
        run_acceptance_test(AsePotential("scaled", calculator, metals)).check()


def test_a_calculator_of_too_few_compounds_is_refused_with_their_number():
    acceptance = run_acceptance_test(AsePotential("emt", EMT(), frozenset(["Cu", "Au"])))
    with pytest.raises(ValueError, match=r"0 of 64 compounds, and \d of the compounds of") as error:
        acceptance.check()
    assert "other weights" not in str(error.value)


def test_a_few_elements_judge_their_crystals_and_no_others():
    gold = Structure(Lattice.tetragonal(2.8, 3.7), ["Cu", "Au"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    emt = EMT()
    potentials = {"potential": emt, "second_opinion": None, "relaxer": emt}
    judged = judge({"alloy": gold, "salt": nacl()}, num_workers=0, **potentials)
    alloy, salt = (one.stability for one in judged)
    assert alloy.calibration == "uncalibrated"
    assert abs(alloy.e_above_hull_raw) < 0.2
    assert "Na unsupported by EMT: expected Ag, Au, Cu, Ni, Pd, Pt" in salt.stability_error


def test_the_exam_finds_the_frame_and_a_pass_is_remembered(chgnet, tmp_path, monkeypatch):
    """Energies of an unknown calculator: here CHGNet's, which are corrected already."""
    from chgnet.model.dynamics import CHGNetCalculator

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    calculator = CHGNetCalculator(use_device="cpu", on_isolated_atoms="ignore")
    source = potential_source(calculator)
    potential = accepted_potential(source)
    assert potential.energy_scheme == "corrected"
    [kept] = (tmp_path / "mattergen_lite" / "acceptance_tests").iterdir()
    monkeypatch.setattr(
        acceptance_test, "run_acceptance_test", lambda potential: pytest.fail("asked twice")
    )
    assert acceptance_of(source).energy_scheme == "corrected"
    kept.write_text("{}")  # damaged: asked again
    with pytest.raises(pytest.fail.Exception, match="asked twice"):
        acceptance_of(source)
