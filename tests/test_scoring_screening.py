"""Screening: energies comparable to the hull, monotonic probabilities, cuts that rounds keep."""

import importlib
import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from crystals import nacl, nacl_primitive, perovskite, quartz, rutile, simple_compounds
from pymatgen.core import Composition, Lattice, Structure

from mattergen_lite.io.records import LearnedValue, StructureRecord
from mattergen_lite.options.judge import JudgeOptions
from mattergen_lite.processes import Pool
from mattergen_lite.properties import Property
from mattergen_lite.request.targets import parse_targets
from mattergen_lite.scoring.candidate import Candidate
from mattergen_lite.scoring.computed_properties import measure, tolerance
from mattergen_lite.scoring.confirmation.gap_network import predict_band_gap
from mattergen_lite.scoring.energy.potentials.sources import load_potential
from mattergen_lite.scoring.energy.relaxation import relax
from mattergen_lite.scoring.energy.screening import (
    Screening,
    ScreeningModel,
    ask_raw_energies,
    content_draw,
    raw_energies,
    screen,
    screening_model,
)
from mattergen_lite.scoring.energy.stability import Stability, assess, measurement
from mattergen_lite.scoring.execution.result_cache import ResultCache
from mattergen_lite.scoring.execution.stopwatch import Stopwatch
from mattergen_lite.scoring.judge import Judge
from mattergen_lite.scoring.metrics.funnel import funnel
from mattergen_lite.scoring.metrics.screening_loss import ScreeningTally
from mattergen_lite.scoring.property_results import is_off_target
from mattergen_lite.scoring.score import Score
from mattergen_lite.symmetry.detection import SYMPREC_GENERATED

SITES = [[0, 0, 0], [0.5] * 3, [0.5, 0.5, 0]]  # of a cubic perovskite
RADON = Structure(Lattice.cubic(4), ["Rn"], [[0, 0, 0]])


def screened(structures, ends, cut, weights=None):
    with Pool(0) as pool:
        weights = weights or [1.0] * len(structures)
        sizes = np.diff([0, *ends]).tolist()
        return screen(structures, ends, weights, cut, ResultCache(pool), num_passing=sizes)


def test_energy_of_a_relaxed_crystal_is_that_of_the_judge():
    relaxation = relax(nacl(), load_potential("chgnet"), symprec=SYMPREC_GENERATED)
    measured = measurement(relaxation, nacl().composition, "chgnet")
    (raw,) = raw_energies([measured.relaxation.structure])
    stability = assess(measured, decider="chgnet")
    assert raw.e_above_hull == pytest.approx(stability.e_above_hull_raw, abs=1e-5)
    assert raw.num_atoms == 2


def test_batches_give_the_energies_of_single_crystals_and_lose_only_the_broken():
    overlap = Structure(Lattice.cubic(6), ["Na", "Cl"], [[0, 0, 0], [0.001, 0, 0]])
    crystals = [nacl(), RADON, rutile(), overlap, quartz()]
    together = raw_energies(crystals)
    for crystal, one in zip(crystals, together, strict=True):
        (alone,) = raw_energies([crystal])
        assert one.error == alone.error
        assert one.e_above_hull == pytest.approx(alone.e_above_hull, abs=1e-5, nan_ok=True)
    assert "Rn unsupported" in together[1].error
    assert together[3].error.startswith("chgnet: ")


def test_noise_within_the_tolerance_does_not_count_as_energy():
    clean, noisy = raw_energies([perovskite(), perovskite().perturb(0.03, seed=0)])
    assert noisy.e_above_hull < clean.e_above_hull + 0.03


def test_probability_falls_with_energy_and_stays_one():
    model = screening_model()
    energies = np.linspace(-0.5, 50, 200)
    salt = Composition("NaCl")
    found = [model.probability(energy, 8, salt) for energy in energies]
    assert all(0 <= one <= 1 for one in found)
    assert all(later <= one for one, later in pairwise(found))
    assert found[0] > 0.5 > found[-1]
    assert model.probability(math.nan, 8, salt) == 0.0


def test_fit_recovers_the_model_that_drew_the_outcomes(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    fit_screening = importlib.import_module("screening").fit_screening
    truth = ScreeningModel(
        intercept=1.0, energy=-2.0, log_atoms=-0.3, scale=0.1, elements={"Na": 1.5, "Cs": -1.5}
    )
    rng = np.random.default_rng(0)
    energies, atoms = rng.exponential(0.5, 5000) - 0.05, rng.integers(1, 20, 5000)
    compositions = [Composition(text) for text in rng.choice(["NaCl", "CsCl", "KCl"], 5000)]
    rows = zip(energies, atoms.tolist(), compositions, strict=True)
    drawn = [truth.probability(*row) for row in rows]
    outcomes = (rng.random(5000) < drawn).astype(float)
    found = fit_screening(energies, atoms, compositions, outcomes)
    assert found.energy == pytest.approx(truth.energy, abs=0.15)
    assert found.log_atoms == pytest.approx(truth.log_atoms, abs=0.15)
    # Each composition has half of one element and half of another: only their sums are determined.
    for model in (truth, found):
        weights = {"Na": 0.0, "Cs": 0.0, "K": 0.0, "Cl": 0.0} | dict(model.elements)
        levels = [model.intercept + (weights[one] + weights["Cl"]) / 2 for one in ("Na", "Cs", "K")]
        assert levels == pytest.approx([1.75, 0.25, 1.0], abs=0.3)
    likelier = found.elements["Na"] - found.elements["Cs"]
    assert likelier == pytest.approx(3.0, abs=0.6)


def test_elements_shift_the_probability_by_their_share():
    model = ScreeningModel(
        intercept=0.0, energy=-1.0, log_atoms=0.0, scale=0.1, elements={"Na": 2.0}
    )
    assert model.probability(0.0, 1, Composition("KCl")) == pytest.approx(0.5)
    half = model.probability(0.0, 1, Composition("NaCl"))
    assert math.log(half / (1 - half)) == pytest.approx(1.0)


def test_the_likeliest_are_kept_and_each_round_is_decided_alone():
    salts = simple_compounds()[:18]
    cut = JudgeOptions(keep=1 / 3, control=0.0)
    alone, together = screened(salts[:9], [9], cut), screened(salts, [9, 18], cut)
    assert together[:9] == alone
    for of_round in (together[:9], together[9:]):
        order = sorted(of_round, key=lambda one: -one.screening_probability)
        assert [one.screening_decision for one in order] == ["keep"] * 3 + ["reject"] * 6
        assert order[2].screening_probability > order[3].screening_probability
    model = screening_model()
    for salt, one in zip(salts, together, strict=True):  # the energy counts, and the elements
        num_atoms = len(salt.get_primitive_structure())
        expected = model.probability(one.screening_e_above_hull, num_atoms, salt.composition)
        assert one.screening_probability == pytest.approx(expected)


def test_what_would_be_worth_less_is_kept_later():
    salts = simple_compounds()[:6]
    cut = JudgeOptions(relax_at_most=3, control=0.0)
    chances = [one.screening_probability for one in screened(salts, [6], cut)]
    best = int(np.argmax(chances))
    weights = [1.0 if index != best else 1e-6 for index in range(6)]
    found = screened(salts, [6], cut, weights)
    assert found[best].screening_decision == "reject"
    assert [one.screening_probability for one in found] == chances


def test_no_more_are_kept_than_allowed_in_all_rounds_together():
    salts = simple_compounds()[:12]
    found = screened(salts, [6, 12], JudgeOptions(relax_at_most=8, control=0.0))
    kept = [one.screening_decision == "keep" for one in found]
    assert sum(kept[:6]) == 6
    assert sum(kept[6:]) == 2


def test_controls_are_drawn_by_content():
    salts = simple_compounds()
    cut = JudgeOptions(keep=0.1, control=0.5)
    found = screened(salts, [len(salts)], cut)
    for salt, one in zip(salts, found, strict=True):
        if one.screening_decision != "keep":
            assert (one.screening_decision == "control") == (content_draw(salt) < 0.5)
    draws = [content_draw(salt) for salt in salts]
    assert 0.3 < np.mean(draws) < 0.7
    assert len(set(draws)) == len(draws)


def test_what_the_potential_does_not_know_is_neither_kept_nor_a_control():
    (radon, salt) = screened([RADON, nacl_primitive()], [2], JudgeOptions(control=1.0))
    assert radon.screening_decision == "reject"
    assert "Rn unsupported" in radon.screening_error
    assert salt.screening_decision == "keep"


def test_energies_are_asked_once(tmp_path, monkeypatch):
    salts = simple_compounds()[:10]
    with Pool(0) as pool:
        result_cache = ResultCache(pool, tmp_path / "journal.jsonl")
        first = ask_raw_energies(salts, result_cache)
        monkeypatch.setattr("mattergen_lite.scoring.energy.screening.load_potential", None)
        assert ask_raw_energies(salts, result_cache) == first


def test_loss_is_estimated_from_the_controls():
    def one(decision, probability=None):
        return Candidate(
            raw=Score(name=""),
            structure=None,
            screening=Screening(screening_probability=0.5, screening_decision=decision),
            stability=None
            if probability is None
            else Stability(probability_metastable=probability),
        )

    candidates = [
        *(one("keep", 0.9), one("keep", 0.5), one("keep", math.nan), one("control", 0.1)),
        *(one("control", 0.3), *[one("reject")] * 6, Candidate(raw=Score(name=""), structure=None)),
    ]
    found = ScreeningTally.of(candidates).loss()
    assert (found.num_screened, found.num_kept, found.num_controls) == (11, 3, 2)
    assert found.expected_kept == pytest.approx(1.4)
    assert found.expected_lost == pytest.approx(8 * 0.2)
    assert found.expected_lost_std == pytest.approx(8 * 0.1)
    assert found.share_lost == pytest.approx(1.6 / 3.0)
    little = 1e-6  # by the derivative of lost / (kept + lost)
    slope = ((1.6 + little) / (3.0 + little) - 1.6 / 3.0) / little
    assert found.share_lost_std == pytest.approx(0.8 * slope, rel=1e-4)
    assert found.predicted_kept == pytest.approx(1.5)
    halves = ScreeningTally.of(candidates[:4]) + ScreeningTally.of(candidates[4:])
    assert halves.loss() == found
    assert ScreeningTally.of(candidates[-1:]).loss() is None
    assert math.isnan(ScreeningTally.of(candidates[:4]).loss().expected_lost_std)


HHI = Property(name="hhi", mean=4000.0, std=2000.0)
GAP = Property(name="band_gap", unit="eV", mean=0.6, std=1.3)
SHEAR = Property(name="shear_modulus", unit="GPa", mean=40.0, std=40.0)
VOLUMES = (Property(name="density", unit="g/cm³"), Property(name="volume_per_atom", unit="Å³"))


def judged(records, targets, goal="discover", **options):
    options = JudgeOptions(potential="chgnet", require="readable,on_target", control=0.0, **options)
    judge = Judge.of(options, targets=parse_targets(targets, [], [HHI, GAP, SHEAR]), goal=goal)
    with Pool(0) as pool:
        found = judge.judge(records, ResultCache(pool), Stopwatch())
    return {one.raw.name: one for one in found}


def test_what_relaxing_leaves_off_target_is_not_relaxed():
    salts = [one for one in simple_compounds() if len(one.composition) == 2][:6]
    indices = [measure(one, symprec=SYMPREC_GENERATED)["hhi"] for one in salts]
    target = sorted(indices)[2]
    is_met = [abs(one - target) <= tolerance("hhi").absolute for one in indices]
    assert 0 < sum(is_met) < len(salts)
    records = [StructureRecord(str(i), one, targets={"hhi": target}) for i, one in enumerate(salts)]
    found = judged(records, [f"hhi={target}"], keep=0.5)
    # Half of all six are relaxed, as far as so many are on target.
    assert sum(one.stability is not None for one in found.values()) == min(3, sum(is_met))
    for i, met in enumerate(is_met):
        one = found[str(i)]
        assert one.on_target == met
        assert (one.screening is not None) == met
        assert met or one.stability is None
    # What is off target is not counted as lost by the screen.
    left = funnel(list(found.values()), ["readable", "screened", "on_target"]).left
    assert list(left) == ["readable", "on_target", "screened"]
    assert list(left.values()) == [len(salts), sum(is_met), min(3, sum(is_met))]


@pytest.mark.parametrize(
    ("asked", "is_missed"),
    [
        ("density={:.4f}", False),
        ("density={:.4f}..99", False),
        ("density=0.1..0.2", True),
        ("density>90", True),
        ("volume_per_atom=500", True),
    ],
)
def test_densities_within_the_reach_of_relaxing_are_not_missed_yet(asked, is_missed):
    salt = nacl()
    for share in (1.1, 0.9):
        text = asked.format(share * float(salt.density))
        (target,) = parse_targets([text], [], VOLUMES)
        record = StructureRecord("salt", salt, targets={target.definition.name: target.low})
        assert is_off_target(Score(name="salt"), record, [target]) == is_missed


def test_a_regression_is_not_read_again_so_its_misses_are_not_relaxed():
    readings = {"hit": (105.0, True), "miss": (10.0, True), "unsure": (10.0, False)}
    records = [
        _asked(name, iodide(), "shear_modulus", 100.0, LearnedValue(value, 5.0, is_inside))
        for name, (value, is_inside) in readings.items()
    ]
    found = judged(records, ["shear_modulus=100"], keep=1.0)
    assert [found[name].screening is None for name in readings] == [False, True, False]
    everything = judged(records[1:2], ["shear_modulus=100"])  # without a screen all are relaxed
    assert everything["miss"].stability is not None
    predicted = judged(records[1:2], ["shear_modulus=100"], goal="predict", keep=1.0)
    assert predicted["miss"].stability is not None  # the lowest in energy is wanted


def test_what_confirms_a_gap_decides_what_is_relaxed():
    """Whatever the guide says, the network sees a metal and an insulator."""
    chloride = Structure.from_spacegroup("Pm-3m", Lattice.cubic(5.1), ["Rb", "Mg", "Cl"], SITES)
    guide = {"metal": LearnedValue(5.0, 0.3, True), "insulator": LearnedValue(0.0, 0.3, True)}
    crystals = {"metal": iodide(), "insulator": chloride}
    assert predict_band_gap(crystals["metal"]) == 0
    assert predict_band_gap(chloride) > 3
    records = [_asked(name, crystals[name], "band_gap", 5.0, guide[name]) for name in crystals]
    found = judged(records, ["band_gap>3"], keep=1.0)
    assert found["metal"].screening is None
    assert found["metal"].on_target is False
    assert found["metal"].row()["confirmed_band_gap"] == 0
    assert found["insulator"].screening is not None
    assert found["insulator"].on_target


def iodide() -> Structure:
    """A crystal that is not known, a metal by the network of gaps."""
    return Structure.from_spacegroup("Pm-3m", Lattice.cubic(6), ["Rb", "Pm", "I"], SITES)


def _asked(
    name: str, crystal: Structure, asked: str, value: float, learned: LearnedValue
) -> StructureRecord:
    """A crystal that was conditioned on a value, with what the guide reads."""
    return StructureRecord(name, crystal, targets={asked: value}, learned={asked: learned})
