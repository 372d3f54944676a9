"""Labels of a loop: chosen where they teach, kept, and learnt from by other rounds only."""

from dataclasses import replace

import pytest
from pymatgen.core import Composition, Lattice, Structure
from test_first_principles import TableEngine

from mattergen_lite import judge, load
from mattergen_lite.options.verification import VerifyOptions
from mattergen_lite.processes import Pool
from mattergen_lite.runs.folder import RunFolder
from mattergen_lite.runs.verifying import VerifyingRun
from mattergen_lite.scoring.energy.calibration import (
    calibration,
    calibrations_as_json,
    error_traits,
    read_calibrations,
)
from mattergen_lite.scoring.energy.stability import Stability
from mattergen_lite.workflows.labelling import (
    Label,
    Labelling,
    before_and_after,
    find_calibrations,
    label_run,
    most_instructive,
    recalibrated,
    write_calibrations,
)

POTENTIAL = "7net-l3i5"
PROBABILITIES = {"sure": 0.99, "likely": 0.7, "open": 0.5, "no": 0.01, "again": 0.3}
PAIRS = {
    "sure": ("Na", "Mg"),
    "likely": ("Li", "Na"),
    "open": ("Sr", "Li"),
    "no": ("Ti", "Na"),
    "again": ("Li", "Na"),
}


@pytest.fixture(scope="module")
def judged():
    """Crystals that no table knows, with the probabilities of `PROBABILITIES`."""
    crystals = {
        name: Structure.from_spacegroup(
            "F-43m" if name == "again" else "Fd-3m",
            Lattice.cubic(6.4 + i / 5),
            pair,
            [[0, 0, 0], [0.25, 0.25, 0.25] if name == "again" else [0.5, 0.5, 0.5]],
        )
        for i, (name, pair) in enumerate(PAIRS.items())
    }
    found = judge(crystals, relax=False, num_workers=0)
    stated = {
        name: Stability(e_above_hull=0.1, e_above_hull_raw=0.05, probability_metastable=p)
        for name, p in PROBABILITIES.items()
    }
    return found.with_candidates(
        [
            replace(
                one,
                relaxed=one.raw,
                relaxed_structure=one.structure,
                stability=replace(stated[one.raw.name], potential=POTENTIAL),
            )
            for one in found
        ]
    )


def test_uncertain_and_promising_crystals_come_first_each_system_once(judged):
    order = [one.raw.name for one in most_instructive(judged)]
    assert order == ["likely", "open", "sure", "no", "again"]


def test_a_run_is_labelled_once_and_its_energies_decide(judged, tmp_path):
    folder = RunFolder(judged.save(tmp_path / "run", num_workers=0).folder)
    engine = f"{TableEngine.__module__}:TableEngine"
    options = VerifyOptions(top=2, engine=engine, cache=tmp_path / "cache")
    with Pool(0) as pool:
        run = VerifyingRun(options=options, pool=pool)
        labels = label_run(folder, run, tmp_path / "labels.json")
        written = (folder.path / "run.json").stat().st_mtime_ns
        assert label_run(folder, run, tmp_path / "labels.json") == labels
    assert {one.name for one in labels} == {"likely", "open"}
    assert {one.raw for one in labels} == {0.05}
    assert [one.e_above_hull for one in labels] == pytest.approx([0.3, 0.3], abs=2e-3)
    decided = {one.raw.name: one for one in load(folder.path)}
    assert decided["likely"].checks["metastable"] is False
    assert decided["sure"].checks["metastable"] is True
    assert (folder.path / "run.json").stat().st_mtime_ns == written


def label(formula, error, traits=None):
    return Label(
        name=formula,
        formula=formula,
        e_above_hull=0.1 + error,
        raw=0.1,
        judged=0.1,
        probability=0.5,
        traits=traits or error_traits(0.1),
    )


def no_labels(folder, path):
    return []


def test_the_judge_is_compared_on_labels_of_other_rounds(tmp_path):
    base = calibration(POTENTIAL)
    rounds = [[label("NaMg", -0.15), label("LiNa", -0.13)], [label("SrLi", -0.14)]]
    before, after = before_and_after(base, rounds)
    assert after.mean_error < before.mean_error
    assert abs(after.bias) < abs(before.bias)
    assert before.num_crystals == after.num_crystals == 3
    assert before_and_after(base, rounds[:1]) is None
    labelling = Labelling(label=no_labels, potential=POTENTIAL, known={POTENTIAL: base})
    path = write_calibrations(labelling, rounds[0], tmp_path / "calibration.json")
    seen = find_calibrations(POTENTIAL, path)[POTENTIAL]
    assert seen.novel.offset < base.novel.offset
    assert seen.known == base.known
    assert seen.references == base.references
    assert {*read_calibrations(path)} == {POTENTIAL}


def test_a_potential_without_calibration_cannot_be_recalibrated():
    with pytest.raises(ValueError, match="uncalibrated"):
        find_calibrations("orb:new", None)


def test_the_users_other_calibrations_stay(tmp_path):
    own = {"mine": calibration("chgnet"), POTENTIAL: calibration(POTENTIAL)}
    path = tmp_path / "own.json"
    path.write_text(calibrations_as_json(own, "mine", {}))
    labelling = Labelling(
        label=no_labels, potential=POTENTIAL, known=find_calibrations(POTENTIAL, path)
    )
    seen = read_calibrations(write_calibrations(labelling, [label("NaMg", -0.15)], path))
    assert seen["mine"].novel == calibration("chgnet").novel
    assert seen[POTENTIAL].novel.offset < calibration(POTENTIAL).novel.offset


def test_what_traits_explain_moves_no_offset():
    """Labels that err just as the trends say teach nothing new."""
    base = calibration(POTENTIAL)
    assert base.novel.trends
    apart = error_traits(0.1, -0.3, 1.0)
    error = base.novel.at(Composition("NaMg"), apart).location
    after = recalibrated(base, [label("NaMg", error, apart)] * 5).novel
    assert after.offset == pytest.approx(base.novel.offset, abs=1e-9)


def test_a_kill_between_labels_and_run_verifies_no_others(judged, tmp_path, monkeypatch):
    folder = RunFolder(judged.save(tmp_path / "run", num_workers=0).folder)
    engine = f"{TableEngine.__module__}:TableEngine"
    options = VerifyOptions(top=2, engine=engine, cache=tmp_path / "cache")
    path = tmp_path / "labels.json"
    with Pool(0) as pool:
        run = VerifyingRun(options=options, pool=pool)
        with monkeypatch.context() as patch:
            patch.setattr("mattergen_lite.workflows.labelling.rewrite_run", _killed)
            with pytest.raises(RuntimeError, match="killed"):
                label_run(folder, run, path)
        labels = label_run(folder, run, path)
    assert {one.name for one in labels} == {"likely", "open"}
    assert {one.judged for one in labels} == {0.1}
    verified = [one.raw.name for one in load(folder.path) if one.first_principles is not None]
    assert {*verified} == {"likely", "open"}


def _killed(*arguments):
    raise RuntimeError("killed")
