"""First principles: reactions balance, cells are cheap, energies agree, failures stay in a row."""

import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import spglib
from crystals import nacl, nacl_primitive, perovskite, quartz, rutile
from pymatgen.core import Composition, Lattice, Structure

from mattergen_lite import judge, score, verify
from mattergen_lite.dft import engine as engines
from mattergen_lite.dft import gpaw as gpaw_engine
from mattergen_lite.dft.cache import ResultFolder
from mattergen_lite.dft.cells import choose_cell, count_irreducible, fourier_grid, kpoint_divisions
from mattergen_lite.dft.cost import FEWEST, MOST, estimate_seconds
from mattergen_lite.dft.engine import JobLimits
from mattergen_lite.dft.gpaw import Gpaw
from mattergen_lite.dft.phases import (
    MOLECULAR,
    known_phases,
    metastable_phases,
    phase_by_id,
)
from mattergen_lite.dft.reactions import balanced_reactions, energy_of_reaction
from mattergen_lite.dft.result import DftResult
from mattergen_lite.dft.settings import Calculation, DftSettings
from mattergen_lite.dft.spin import starting_moments
from mattergen_lite.dft.verification import Verification, Verifier
from mattergen_lite.options.judge import JudgeOptions
from mattergen_lite.options.verification import VerifyOptions
from mattergen_lite.processes import Pool
from mattergen_lite.runs.verifying import VerifyingRun
from mattergen_lite.runs.writing import rewrite_run
from mattergen_lite.scoring.earlier_run import EarlierRun
from mattergen_lite.scoring.energy.calibration import ElementOffset, ErrorModel
from mattergen_lite.scoring.energy.fitting import update_error_model
from mattergen_lite.scoring.energy.potentials.mp2020 import mp2020_correction
from mattergen_lite.scoring.known.hull import reference_hull

sys.path.append(str(Path(__file__).parents[1] / "scripts"))

from dft_labels import (
    label_table,
    read_labels,
    reliability,
    share_of_pool,
    split_of,
    structure_of,
)

SETTINGS = DftSettings()
ELEMENTS = {"Na": -1.3, "Cl": -1.9, "Mg": -1.6, "O": -4.9, "Ti": -7.8, "Li": -1.9, "Sr": -1.7}


class TableEngine(Gpaw):
    """Has the table's energies with other references: elements at `ELEMENTS`, no corrections.

    Of crystals that the table lacks it says that they lie `above` the hull.
    """

    versions = "energies of the table"  # not that of the energies that the package ships

    def __init__(self, above: float = 0.3) -> None:
        self.above = above
        self.jobs = []

    def check_installed(self):
        pass

    def calculate(self, calculation, result, limits):
        self.jobs.append(calculation)
        structure = Structure(
            calculation.cell, calculation.numbers.tolist(), calculation.frac_coords
        )
        composition = structure.composition
        formation = reference_hull().decompose(composition).energy_per_atom + self.above
        for phase in known_phases(composition):
            if is_same(phase.structure, structure):
                formation = phase.formation_energy_per_atom
        elements = sum(ELEMENTS[s] * n for s, n in composition.get_el_amt_dict().items())
        energy = formation * len(structure) + elements - mp2020_correction(structure)
        data = {"energy": energy, "num_atoms": len(structure), "band_gap": 1.0, "moment": 0.0}
        result.parent.mkdir(parents=True, exist_ok=True)
        result.write_text(json.dumps(data))
        return DftResult.of(data)


def is_same(one: Structure, other: Structure) -> bool:
    return (
        one.composition.reduced_formula == other.composition.reduced_formula
        and abs(one.volume / len(one) - other.volume / len(other)) < 1e-4
    )


def verifier(tmp_path, engine=None, **options):
    return Verifier(engine=engine or TableEngine(), results=ResultFolder(tmp_path), **options)


def verification_of(verifier, structure):
    """Plan a crystal and calculate it; refusals are results."""
    try:
        return verifier.carry_out(verifier.plan(structure))
    except ValueError as error:
        return Verification(formula="", method=verifier.method, error=str(error))


# Reactions


@pytest.mark.parametrize("seed", range(5))
def test_reactions_balance_exactly_with_positive_shares(seed):
    rng = np.random.default_rng(seed)
    counts = np.vstack([np.eye(3, dtype=int), rng.integers(1, 4, size=(9, 3))])
    fractions = counts / counts.sum(1, keepdims=True)
    target = np.array([0.2, 0.3, 0.5])
    costs = rng.uniform(1, 9, len(fractions)).tolist()
    reactions = balanced_reactions(target, fractions, costs, num=100)
    assert reactions
    for one in reactions:
        assert min(one.shares) > 0
        assert sum(one.shares) == pytest.approx(1.0, abs=1e-9)
        assert np.abs(np.dot(one.shares, fractions[list(one.phases)]) - target).max() < 1e-9
        assert one.cost == pytest.approx(sum(costs[phase] for phase in one.phases))
    assert [one.cost for one in reactions] == sorted(one.cost for one in reactions)
    assert len({one.phases for one in reactions}) == len(reactions)


def test_the_order_of_phases_does_not_matter():
    fractions = np.array([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5], [0.25, 0.75]])
    costs = [3.0, 4.1, 1.0, 2.3]
    target = np.array([0.4, 0.6])
    first = balanced_reactions(target, fractions, costs, num=9)
    order = [2, 0, 3, 1]
    second = balanced_reactions(target, fractions[order], [costs[i] for i in order], num=9)
    named = [{order[phase] for phase in one.phases} for one in second]
    assert [set(one.phases) for one in first] == named
    assert first[0].phases == (2, 3)
    assert first[0].shares == pytest.approx((0.6, 0.4))


def test_a_phase_of_the_same_composition_is_a_reaction_of_its_own():
    fractions = np.array([[0.5, 0.5], [1.0, 0.0], [0.0, 1.0]])
    reactions = balanced_reactions(np.array([0.5, 0.5]), fractions, [9.0, 1.0, 1.0])
    assert [one.phases for one in reactions] == [(1, 2), (0,)]
    assert energy_of_reaction(-3.0, [-1.0, -2.0], (0.5, 0.5)) == pytest.approx(-1.5)


def test_nothing_balances_an_element_that_no_phase_has():
    assert balanced_reactions(np.array([0.5, 0.5]), np.array([[1.0, 0.0]]), [1.0]) == []


def test_reference_phases_are_no_molecules_and_not_magnetic():
    phases = known_phases(Composition("Na2TiO3"))
    assert {"Na", "Ti"} <= {one.formula for one in phases}
    assert not MOLECULAR & {
        str(one.structure.composition.elements[0])
        for one in phases
        if len(one.structure.composition) == 1
    }
    assert all(set(one.structure.symbol_set) <= {"Na", "Ti", "O"} for one in phases)
    excluded = phases[0].material_id
    others = known_phases(Composition("Na2TiO3"), exclude=(excluded,))
    assert excluded not in {one.material_id for one in others}
    assert len(others) == len(phases) - 1


# Cells


@pytest.mark.parametrize("crystal", [nacl, rutile, perovskite, quartz])
def test_the_cell_does_not_depend_on_how_the_crystal_was_given(crystal):
    structure = crystal()
    chosen = choose_cell(structure, SETTINGS)
    moved = structure.copy()
    moved.translate_sites(range(len(moved)), [0.13, 0.27, 0.41])
    larger = structure.copy()
    larger.make_supercell([[1, 1, 0], [0, 1, 0], [0, 0, 2]])
    for other in (moved, larger):
        again = choose_cell(other, SETTINGS)
        assert len(again.numbers) == len(chosen.numbers)
        assert again.volume == pytest.approx(chosen.volume, rel=1e-4)
        assert again.num_irreducible == chosen.num_irreducible
        assert again.grid == chosen.grid


def test_a_conventional_cell_is_made_primitive():
    assert len(choose_cell(nacl(), SETTINGS).numbers) == 2


def test_crystals_of_metals_alone_take_denser_meshes():
    lithium = Structure(Lattice.cubic(3.44), ["Li", "Li"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    chosen = choose_cell(lithium, SETTINGS)
    assert chosen.kpoints == kpoint_divisions(chosen.cell, 1.6 * SETTINGS.kpoint_density)
    salt = choose_cell(nacl(), SETTINGS)
    assert salt.kpoints == kpoint_divisions(salt.cell, SETTINGS.kpoint_density)


def test_an_oblique_primitive_cell_is_turned():
    """A rhombohedral layer with an angle of 11 degrees needs no grid along three long vectors."""
    layer = Structure(
        Lattice.rhombohedral(16.7, 11.0), ["Ti", "S", "S"], [[0.0] * 3, [0.03] * 3, [0.97] * 3]
    )
    chosen = choose_cell(layer, SETTINGS)
    assert chosen.volume == pytest.approx(layer.volume, rel=1e-3)
    assert np.prod(chosen.grid) < 0.1 * (16.7 / 0.22) ** 3


@pytest.mark.parametrize("crystal", [nacl_primitive, rutile, perovskite])
def test_irreducible_k_points_are_those_of_spglib(crystal):
    structure = crystal()
    setting = (structure.lattice.matrix, structure.frac_coords, structure.atomic_numbers)
    divisions = kpoint_divisions(structure.lattice.matrix, 2.5)
    _, grid = spglib.get_ir_reciprocal_mesh(divisions, setting)
    rotations = spglib.get_symmetry(setting)["rotations"]
    mapping, _ = spglib.get_ir_reciprocal_mesh(divisions, setting)
    assert count_irreducible(divisions, rotations) == len(np.unique(mapping))
    assert count_irreducible((1, 1, 1), rotations) == 1
    assert len(grid) == math.prod(divisions)


def test_k_points_follow_the_reciprocal_lattice():
    assert kpoint_divisions(np.diag([4.0, 4.0, 8.0]), 2.5) == (4, 4, 2)
    assert kpoint_divisions(np.diag([40.0, 40.0, 40.0]), 2.5) == (1, 1, 1)


def test_the_grid_maps_onto_itself():
    structure = nacl_primitive()
    setting = (structure.lattice.matrix, structure.frac_coords, structure.atomic_numbers)
    rotations = spglib.get_symmetry(setting)["rotations"]
    grid = np.array(fourier_grid(structure.lattice.matrix, 400.0, rotations))
    for rotation in rotations:
        assert not ((grid * rotation).T % grid).any()
    finer = fourier_grid(structure.lattice.matrix, 800.0, rotations)
    assert np.prod(finer) > np.prod(grid)


def test_the_cost_grows_with_the_cell_and_with_spin():
    valence = Gpaw().valence_electrons
    small = choose_cell(nacl(), SETTINGS)
    larger = choose_cell(quartz(), SETTINGS)
    costs = [estimate_seconds(one, valence, is_polarised=False) for one in (small, larger)]
    assert costs[0] < costs[1]
    assert estimate_seconds(small, valence, is_polarised=True) > costs[0]


@pytest.mark.parametrize(
    ("kpoints", "electrons", "grid", "measured"),
    [
        (10, 17, (21, 21, 21), 4.9),
        (6, 76, (40, 40, 40), 32.9),
        (14, 32, (30, 30, 30), 22.8),
        (10, 88, (54, 54, 54), 184.0),
        (33, 16, (25, 25, 25), 9.0),
    ],
)
def test_measured_core_seconds_lie_in_the_range_of_the_estimate(kpoints, electrons, grid, measured):
    """GPAW 26.7 on an idle core; a hydrogen atom for every electron stands for any elements."""
    cell = replace(
        choose_cell(nacl(), SETTINGS),
        numbers=np.ones(electrons, dtype=int),
        frac_coords=np.zeros((electrons, 3)),
        num_irreducible=kpoints,
        grid=grid,
    )
    estimate = estimate_seconds(cell, {"H": 1}, is_polarised=False)
    assert FEWEST * estimate < measured < MOST * estimate


def test_open_shells_start_twice():
    assert starting_moments([11, 17]) == [None]
    assert starting_moments([26, 14]) == [None, (3.0, 0.0)]


# Keys and results


def calculation(structure, **options):
    cell = choose_cell(structure, SETTINGS)
    return Calculation(
        numbers=cell.numbers,
        cell=cell.cell,
        frac_coords=cell.frac_coords,
        kpoints=cell.kpoints,
        **options,
    )


def test_a_key_stands_for_crystal_settings_and_engine():
    key = calculation(nacl()).key("a")
    assert calculation(nacl()).key("a") == key
    others = {
        calculation(nacl()).key("b"),
        calculation(nacl(), settings=DftSettings(cutoff=500.0)).key("a"),
        calculation(nacl(), moments=(1.0, 0.0)).key("a"),
        calculation(rutile()).key("a"),
    }
    assert key not in others
    assert len(others) == 4
    almost = replace(calculation(nacl()), frac_coords=calculation(nacl()).frac_coords - 1e-9)
    assert almost.key("a") == key


def test_results_are_calculated_once_and_damage_is_repaired(tmp_path):
    folder = ResultFolder(tmp_path)
    engine = TableEngine()
    calculate = lambda path: engine.calculate(calculation(nacl()), path, JobLimits())  # noqa: E731
    first = folder.obtain("key", calculate)
    assert folder.obtain("key", calculate) == first
    assert len(engine.jobs) == 1
    folder.file("key").write_text("{half")
    assert folder.lookup("key") is None
    assert folder.obtain("key", calculate) == first
    assert len(engine.jobs) == 2


@pytest.mark.parametrize("text", ["[]", "{}", "nonsense", '{"energy": 1, "grid": 3}'])
def test_a_file_that_is_no_result_is_refused(tmp_path, text):
    path = tmp_path / "result.json"
    path.write_text(text)
    with pytest.raises(ValueError, match="result"):
        DftResult.read(path)


# Verification


@pytest.mark.parametrize("seed", [0, 1])
def test_known_energies_above_the_hull_come_back(tmp_path, seed):
    """Whatever the references of an engine, corrections and reactions give the table's energies."""
    known = [
        one
        for one in metastable_phases(0.01, 0.1, max_atoms=8, seed=seed)
        if {*one.structure.symbol_set} <= ELEMENTS.keys()
    ][:4]
    assert known
    for phase in known:
        engine = TableEngine(above=phase.e_above_hull)
        one = verifier(tmp_path / phase.material_id, engine, exclude=(phase.material_id,))
        found = verification_of(one, phase.structure)
        assert found.error is None
        assert found.e_above_hull == pytest.approx(phase.e_above_hull, abs=2e-3)
        assert found.formation_energy_per_atom == pytest.approx(
            phase.formation_energy_per_atom, abs=2e-3
        )
        assert found.method.startswith("PBE, GPAW ")
        assert found.method.endswith(", 400 eV")


def cscl_type() -> Structure:
    return Structure(Lattice.cubic(3.4), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])


def test_a_failure_is_confirmed_by_other_phases(tmp_path):
    found = verification_of(verifier(tmp_path / "a", TableEngine(above=0.3)), cscl_type())
    assert found.e_above_hull == pytest.approx(0.3, abs=2e-3)
    assert len(found.reactions) == 2
    assert {*found.reactions[0].material_ids} != {*found.reactions[1].material_ids}
    fine = verification_of(verifier(tmp_path / "b", TableEngine(above=0.05)), cscl_type())
    assert len(fine.reactions) == 1


class SecondReactionFails(TableEngine):
    """Fails for all but the crystal and the phases that it has calculated first."""

    def calculate(self, calculation, result, limits):
        if len(self.jobs) > self.allowed:
            return DftResult(error="out of memory")
        return super().calculate(calculation, result, limits)


def test_a_second_reaction_that_fails_leaves_the_first(tmp_path):
    engine = SecondReactionFails(above=0.3)
    one = verifier(tmp_path, engine)
    plan = one.plan(cscl_type())
    engine.allowed = sum(len(work.starts) for work in plan.reactions[0].works)
    found = one.carry_out(plan)
    assert found.error is None
    assert len(found.reactions) == 1
    assert found.e_above_hull == pytest.approx(0.3, abs=2e-3)


def test_what_is_cached_costs_nothing_more(tmp_path):
    one = verifier(tmp_path)
    plan = one.plan(cscl_type())
    works = [plan.candidate, *(work for reaction in plan.reactions for work in reaction.works)]
    assert plan.seconds_range[0] > 0
    for work in works:
        one.lowest(work)
    assert one.plan(cscl_type()).seconds_range == (0.0, 0.0)


def test_nothing_is_calculated_twice(tmp_path):
    engine = TableEngine()
    one = verifier(tmp_path, engine)
    plan = one.plan(cscl_type())
    first_works, second_works = (reaction.works for reaction in plan.reactions)
    low, high = plan.seconds_range
    seconds = sum(map(one.seconds_left, [plan.candidate, *first_works]))
    assert 0 < low < seconds < high
    assert high / MOST == pytest.approx(seconds + sum(map(one.seconds_left, second_works)))
    first = one.carry_out(plan)
    num_jobs = len(engine.jobs)
    again = one.plan(cscl_type())
    assert one.carry_out(again).e_above_hull == first.e_above_hull
    assert len(engine.jobs) == num_jobs
    assert again.estimated_seconds == 0


@pytest.mark.parametrize(
    ("symbols", "reason"),
    [
        (["Tc", "Cl"], "no suitable pseudopotential of Tc"),
        (["Nd", "Cl"], "no suitable pseudopotential of Nd"),
        (["Fe", "O"], "adds U to Fe in oxides and fluorides"),
    ],
)
def test_what_cannot_be_calculated_is_refused_before_the_work(tmp_path, symbols, reason):
    engine = TableEngine()
    structure = Structure(Lattice.cubic(4.0), symbols, [[0, 0, 0], [0.5, 0.5, 0.5]])
    assert reason in verification_of(verifier(tmp_path, engine), structure).error
    assert engine.jobs == []


class FailingEngine(TableEngine):
    """Fails for one element."""

    def calculate(self, calculation, result, limits):
        if 12 in calculation.numbers:
            return DftResult(error="the density has not converged")
        return super().calculate(calculation, result, limits)


def test_a_phase_that_fails_is_named(tmp_path):
    structure = Structure(Lattice.cubic(2.6), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    assert verification_of(verifier(tmp_path, FailingEngine()), structure).error == (
        "the density has not converged"
    )


# The program


def test_a_program_that_hangs_or_dies_is_an_error(tmp_path):
    slow = [sys.executable, "-c", "import time; time.sleep(60)"]
    assert engines._run(slow, str(tmp_path), 0.2) == "no result within 0.2 s"
    broken = [sys.executable, "-c", "raise SystemExit('no room')"]
    assert engines._run(broken, str(tmp_path), 60.0) == "its program ended with code 1: no room"
    assert engines._run([sys.executable, "-c", ""], str(tmp_path), 60.0) is None


def test_without_gpaw_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(gpaw_engine, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"conda-forge gpaw.*pip install gpaw gpaw-data"):
        verify(judge({"a": nacl()}, relax=False, num_workers=0), num_workers=0)


# The run


@pytest.fixture
def judged():
    crystals = {"salt": nacl(), "dense": cscl_type(), "ti": rutile(), "neodymium": neodymium()}
    return judge(crystals, relax=False, num_workers=0)


def neodymium() -> Structure:
    return Structure(Lattice.cubic(4.4), ["Nd", "N"], [[0, 0, 0], [0.5, 0.5, 0.5]])


def by_name(judged):
    return {one.raw.name: one for one in judged}


def verified(judged, tmp_path, **options):
    engine = f"{__name__}:TableEngine"
    options = VerifyOptions(cache=tmp_path / "cache", engine=engine, **options)
    with Pool(0) as pool:
        run = VerifyingRun(options=options, pool=pool)
        return judged.with_candidates(run.verify(judged.candidates))


def test_energies_decide_and_refusals_stay_in_their_row(judged, tmp_path):
    found = by_name(verified(judged, tmp_path, names="dense,salt,neodymium"))
    assert found["dense"].stability.e_above_hull == pytest.approx(0.3, abs=2e-3)
    assert found["dense"].stability.potential == found["dense"].first_principles.dft_method
    assert found["dense"].stability.potential.startswith("PBE, GPAW")
    assert found["dense"].checks["metastable"] is False
    assert found["neodymium"].stability is None
    assert "Nd" in found["neodymium"].first_principles.dft_error
    assert found["ti"].first_principles is None
    row = found["dense"].row()
    assert row["e_above_hull_std"] == pytest.approx(row["dft_e_above_hull_std"])
    assert row["dft_e_above_hull"] == pytest.approx(0.3, abs=2e-3)
    assert row["dft_reactions"]
    assert found["dense"].rank > found["ti"].rank


def test_the_next_best_is_taken_where_one_cannot_be_calculated(judged, tmp_path):
    assert all(one.first_principles.dft_error for one in verified(judged, tmp_path, top=1))
    relaxed = [replace(one, relaxed_structure=one.structure) for one in judged]
    found = verified(judged.with_candidates(relaxed), tmp_path, top=3)
    calculated = [one for one in found if one.first_principles is not None]
    assert sum(one.first_principles.dft_error is None for one in calculated) == 3


def test_what_is_too_dear_or_too_late_is_an_error(judged, tmp_path):
    found = by_name(verified(judged, tmp_path, names="dense", max_minutes=0.001))
    assert "--max-minutes is 0.001" in found["dense"].first_principles.dft_error
    found = by_name(verified(judged, tmp_path, names="dense", time_budget=1e-9))
    assert found["dense"].first_principles.dft_error == "no time left for it"
    with pytest.raises(ValueError, match="no candidate 'pepper'"):
        verified(judged, tmp_path, names="pepper")


def test_a_run_is_written_again(judged, tmp_path):
    from mattergen_lite import load

    folder = tmp_path / "run"
    judged.save(folder, num_workers=0)
    before = {one.name for one in folder.iterdir()}
    new = verified(load(folder), tmp_path, names="dense")
    with Pool(0) as pool:
        rewrite_run(folder, new, pool)
    assert {one.name for one in folder.iterdir()} == before
    again = by_name(load(folder))
    assert again["dense"].first_principles.dft_e_above_hull == pytest.approx(0.3, abs=2e-3)
    assert "dft_e_above_hull" in (folder / "candidates.csv").read_text().splitlines()[0]


def test_a_run_that_is_scored_again_keeps_its_verifications(judged, tmp_path):
    folder = tmp_path / "run"
    verified(judged, tmp_path, names="dense").save(folder, num_workers=0)
    again = by_name(score(folder, relax=False, num_workers=0, out=None))
    assert again["dense"].first_principles.dft_e_above_hull == pytest.approx(0.3, abs=2e-3)
    assert again["dense"].stability.potential.startswith("PBE, GPAW")
    assert again["salt"].stability is None


def test_an_energy_of_another_structure_is_not_kept(judged, tmp_path):
    crystals = verified(judged, tmp_path, names="dense")
    earlier = EarlierRun.of(crystals)
    dense = by_name(judged)["dense"]
    assert earlier.recall(dense).stability.e_above_hull == pytest.approx(0.3, abs=2e-3)
    assert earlier.recall(replace(dense, relaxed_structure=nacl())).stability is None


def test_a_failure_leaves_an_earlier_energy(judged, tmp_path):
    once = verified(judged, tmp_path, names="dense")
    again = by_name(verified(once, tmp_path, names="dense", time_budget=1e-9))["dense"]
    assert again.first_principles == by_name(once)["dense"].first_principles
    assert again.stability == by_name(once)["dense"].stability


def test_required_checks_still_come_first_once_verified(tmp_path):
    """Of a set of which `neutral` is required, a verified failure of it stays last."""
    options = {"relax": False, "num_workers": 0}
    charged = Structure(Lattice.cubic(3.4), ["Na", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    crystals = {"charged": charged, "dense": cscl_type()}
    required = verified(judge(crystals, require="neutral", **options), tmp_path, names="charged")
    assert [one.raw.name for one in required] == ["dense", "charged"]


@pytest.mark.parametrize("goal", ["predict", "complete"])
def test_energies_of_dft_and_of_a_potential_are_not_ranked_together(goal, tmp_path):
    with pytest.raises(ValueError, match=f"energies: to {goal}, one potential has to decide"):
        JudgeOptions(energies=tmp_path / "energies.csv").checks(has_targets=False, goal=goal)


# Real calculations


@pytest.fixture
def gpaw(tmp_path):
    pytest.importorskip("gpaw")
    return Verifier(engine=Gpaw(), results=ResultFolder(tmp_path), limits=JobLimits(seconds=900.0))


def silicon() -> Structure:
    return Structure.from_spacegroup("Fd-3m", Lattice.cubic(5.469), ["Si"], [[0, 0, 0]])


@pytest.mark.dft
def test_silicon(gpaw):
    found = gpaw.lowest(gpaw.work(silicon()))
    assert found.band_gap == pytest.approx(0.61, abs=0.1)  # PBE
    assert found.num_kpoints == choose_cell(silicon(), SETTINGS).num_irreducible
    assert found.moment == 0


@pytest.mark.dft
def test_two_forms_of_salt_differ_as_in_the_materials_project(gpaw):
    salt, dense = (phase_by_id(one) for one in ("mp-22862", "mp-22851"))
    results = [gpaw.lowest(gpaw.work(one.structure)) for one in (salt, dense)]
    known = dense.formation_energy_per_atom - salt.formation_energy_per_atom
    assert known > 0.03
    difference = results[1].energy_per_atom - results[0].energy_per_atom
    assert difference == pytest.approx(known, abs=0.01)
    assert results[0].band_gap == pytest.approx(5.0, abs=0.2)


@pytest.mark.dft
def test_magnesia_lies_on_the_hull(gpaw):
    magnesia = Structure.from_spacegroup(
        "Fm-3m", Lattice.cubic(4.25), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]]
    )
    found = verification_of(gpaw, magnesia)
    assert found.error is None
    assert found.e_above_hull == pytest.approx(0.0, abs=0.03)
    assert found.method == f"PBE, {gpaw.engine.label}, 400 eV"


def cscl(first: str, second: str, length: float) -> Structure:
    return Structure(Lattice.cubic(length), [first, second], [[0, 0, 0], [0.5, 0.5, 0.5]])


@pytest.mark.dft
def test_a_ferromagnet_has_moments_and_a_paired_crystal_has_none(gpaw):
    """FeCo has 4.5 µB a cell by experiment; CoAl is paired, whatever the start."""
    start, magnet = gpaw._lowest_start(gpaw.work(cscl("Fe", "Co", 2.84)))
    assert start.moments is not None
    assert magnet.moment == pytest.approx(4.6, abs=0.3)
    work = gpaw.work(cscl("Co", "Al", 2.854))
    paired, polarised = (gpaw._result(one) for one in work.starts)
    assert polarised.energy == pytest.approx(paired.energy, abs=1e-3)
    assert gpaw.lowest(work).moment == pytest.approx(0.0, abs=0.01)


@pytest.mark.dft
def test_stretched_silicon_relaxes_to_its_lattice_constant(gpaw):
    stretched = Structure.from_spacegroup("Fd-3m", Lattice.cubic(5.55), ["Si"], [[0, 0, 0]])
    energy, relaxed = gpaw._relaxed(gpaw.work(stretched))
    assert (4 * relaxed.volume) ** (1 / 3) == pytest.approx(5.469, abs=0.02)  # PBE
    assert energy.energy_per_atom < gpaw.lowest(gpaw.work(stretched)).energy_per_atom


# Labels


def label(name, probability, energy, error=None, numbers=(11, 17)):
    cell = {"cell": (np.eye(3) * 4).tolist(), "atomic_numbers": list(numbers)}
    cell["frac_coords"] = [[0, 0, 0], [0.5, 0.5, 0.5]]
    return {
        "pool": "pools/a",
        "name": name,
        "seed": 1,
        "weights": "",
        "stratum": 0,
        "judged": {"probability_metastable": probability, "e_above_hull": energy + 0.02},
        "structure": cell,
        "relaxed": cell,
        "e_above_hull": energy,
        "reactions": [],
        "error": error,
        "time": "",
        "method": "",
    }


def test_labels_come_back_and_the_last_line_counts(tmp_path):
    rows = [label("1", 0.9, 0.3), label("1", 0.9, 0.05), label("2", 0.5, math.nan, "too dear")]
    label_table(rows).to_parquet(tmp_path / "labels.parquet")
    table = read_labels(tmp_path / "labels.parquet")
    assert table.e_above_hull[0] == 0.05
    assert list(table.error.isna()) == [True, False]
    assert structure_of(table.iloc[0]).composition.reduced_formula == "NaCl"
    assert {*table.split} == {split_of("Cl-Na")}
    with pytest.raises(ValueError, match="cannot read labels"):
        read_labels(tmp_path / "none.parquet")


def test_the_share_of_a_pool_weighs_the_strata():
    """Three quarters of the pool lie in the stratum of which half holds, the rest where all do."""
    known = pd.DataFrame({"stratum": [0, 0, 4, 4], "e_above_hull": [0.0, 0.5, 0.0, 0.1]})
    share, error = share_of_pool(known, np.array([0.1, 0.1, 0.05, 1.0]))
    assert share == pytest.approx(0.75 * 0.5 + 0.25)
    assert 0 < error < 0.5


def test_reliability_counts_what_holds():
    rows = [label(str(i), 0.9, 0.05 if i < 3 else 0.2) for i in range(4)]
    found = reliability(label_table([*rows, label("x", 0.9, math.nan, "no")])).iloc[0]
    assert (found.number, found.share_within) == (4, 0.75)
    assert found.bias == pytest.approx(0.02)
    assert found.mae == pytest.approx(0.02)


def test_splits_are_of_chemical_systems():
    splits = [split_of(f"{a}-{b}") for a in ELEMENTS for b in ELEMENTS]
    assert {*splits} == {"train", "val", "test"}


# Error models that see a few labels more


def error_model(**options):
    elements = {"Na": ElementOffset(mean=0.02, std=0.05)}
    given = {"offset": 0.05, "scale": 0.04, "elements": elements, "element_prior": 0.05}
    return ErrorModel(**(given | options))


def test_labels_move_an_error_model_towards_what_they_say():
    """Far as a prior when there are few, all the way when there are many."""
    model, salt = error_model(), Composition("NaCl")
    errors = np.random.default_rng(0).normal(-0.1, 0.02, size=200)
    places = [
        update_error_model(model, [salt] * n, errors[:n]).at(salt).location for n in (0, 1, 5, 200)
    ]
    assert places[0] == pytest.approx(0.06)
    assert places == sorted(places, reverse=True)
    assert places[-1] == pytest.approx(-0.1, abs=0.01)
    assert update_error_model(model, [salt] * 200, errors).scale < model.scale


def test_labels_of_other_elements_move_only_what_is_common():
    model = error_model()
    updated = update_error_model(model, [Composition("LiF")] * 3, np.full(3, -0.1))
    assert updated.elements["Na"] == model.elements["Na"]
    assert updated.offset < model.offset
    assert updated.elements["Li"].std < model.element_prior
    order = update_error_model(
        model,
        [Composition("LiF"), Composition("KCl")],
        np.array([-0.1, 0.2]),
    )
    same = update_error_model(
        model, [Composition("KCl"), Composition("LiF")], np.array([0.2, -0.1])
    )
    assert order.offset == pytest.approx(same.offset, abs=1e-12)


def test_an_outlier_moves_less_than_a_label_that_fits():
    model, salt = error_model(), Composition("NaCl")

    def moved(error):
        return update_error_model(model, [salt], np.array([error])).offset - model.offset

    assert 0 < moved(1.0) < moved(0.2)
