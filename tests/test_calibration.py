"""Calibration of a potential: files, the command, and what an uncalibrated one says."""

import json
import math

import numpy as np
import pytest
from crystals import nacl_primitive, rutile
from pymatgen.core import Composition
from scipy import stats

from mattergen_lite import calibrate
from mattergen_lite.io.write import write_extxyz
from mattergen_lite.options.judge import JudgeOptions
from mattergen_lite.scoring.energy.accuracy import accuracy
from mattergen_lite.scoring.energy.calibration import (
    DEGREES_OF_FREEDOM,
    UNCALIBRATED,
    ErrorDistribution,
    calibrations,
    calibrations_as_json,
    read_calibrations,
)
from mattergen_lite.scoring.energy.potential_set import PotentialSet
from mattergen_lite.scoring.known.compounds import known_compounds


def test_figures_of_a_perfectly_stated_error():
    rng = np.random.default_rng(0)
    raw = rng.uniform(-0.1, 0.4, 4000)
    error = stats.t.rvs(DEGREES_OF_FREEDOM, size=4000, random_state=rng)
    truth = raw + 0.05 + 0.04 * error
    found = accuracy([ErrorDistribution(location=0.05, scale=0.04)] * 4000, raw, truth)
    assert found.bias == pytest.approx(0, abs=0.005)
    assert found.within_68 == pytest.approx(0.68, abs=0.03)
    assert found.within_95 == pytest.approx(0.95, abs=0.02)
    assert found.expected_metastable == pytest.approx(found.num_metastable, rel=0.05)
    assert found.brier < found.brier_base_rate / 2
    wrong = accuracy([ErrorDistribution(location=0.0, scale=0.01)] * 4000, raw, truth)
    assert wrong.bias == pytest.approx(-0.05, abs=0.005)
    assert wrong.within_95 < 0.5


def test_files_come_back_as_they_were(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(calibrations_as_json(calibrations(), "test", {}))
    for name, one in read_calibrations(path).items():
        assert one.source == "mine.json"
        assert one.novel.at(Composition("NaCl")).std == pytest.approx(
            calibrations()[name].novel.at(Composition("NaCl")).std, abs=1e-3
        )


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("{", "is no calibration"),
        ('{"potentials": {"a": {"references": {"Na": "x"}, "novel": null}}}', "is no calibration"),
        (
            '{"potentials": {}}',
            "format 1, this version reads 3: give the command `calibrate` again",
        ),
        ('{"format": 9, "potentials": {}}', "format 9, this version reads up to 3"),
        (
            '{"format": 2, "potentials": {"a": {"references": {}, "known": null, "novel": '
            '{"offset": 0, "scale": 0, "elements": {}, "element_prior": 0.1}}}}',
            "a scale of 'a' is not positive",
        ),
        (
            '{"potentials": {"a": {"references": {"Na": NaN}, "known": null, "novel": null}}}',
            "is no calibration",
        ),
    ],
)
def test_files_of_strangers_are_refused_with_a_reason(tmp_path, change, problem):
    path = tmp_path / "theirs.json"
    path.write_text(change)
    with pytest.raises(ValueError, match=problem):
        read_calibrations(path)


def test_files_of_the_version_before_are_read(tmp_path):
    path = tmp_path / "older.json"
    path.write_text(
        '{"format": 2, "potentials": {"a": {"references": {"Na": -1.0}, "known": null, "novel": '
        '{"offset": 0.1, "scale": 0.02, "elements": {"Na": [0.03, 0.01]}, "element_prior": 0.1}}}}'
    )
    model = read_calibrations(path)["a"].novel
    assert not model.trends
    error = model.at(Composition("Na"), {"disagreement": 0.5})
    assert error.location == pytest.approx(0.13)
    assert error.scale == pytest.approx(math.hypot(0.02, 0.01))


def test_the_shipped_calibration_is_of_the_geometries_of_its_relaxer():
    shipped = calibrations()["7net-l3i5"]
    assert shipped.error_model(known=False, relaxer="chgnet")[1] == "shipped"
    model, source = shipped.error_model(known=False, relaxer="7net-0")
    assert source == UNCALIBRATED
    assert model.scale > shipped.novel.scale


def test_a_potential_without_calibration_has_its_own_references():
    potential_set = PotentialSet.of(JudgeOptions(potential="7net-0"))
    assert potential_set.calibrated["7net-0"].source == UNCALIBRATED
    assert len(potential_set.calibrated["7net-0"].references) == 89
    with pytest.raises(ValueError, match="unknown potential 'nothing'"):
        PotentialSet.of(JudgeOptions(relaxer="nothing"))


@pytest.mark.slow
def test_the_command_fits_what_the_judge_then_uses(tmp_path):
    """Known compounds stand in for labelled crystals; CHGNet relaxes and decides, for speed."""
    compounds = known_compounds("val", max_atoms=2, num=24, seed=3)
    labels = [{"e_above_hull_dft": one.e_above_hull} for one in compounds]
    structures = [one.structure for one in compounds]
    write_extxyz(structures[:14], tmp_path / "some.extxyz", labels[:14])
    write_extxyz(structures[14:], tmp_path / "more.extxyz", labels[14:])
    out = tmp_path / "mine.json"
    done = calibrate(
        labels=[tmp_path / "some.extxyz", tmp_path / "more.extxyz"],
        limit=12,  # of every file
        potential="chgnet",
        out=out,
        num_references=30,
        num_known=20,
        max_atoms=2,
        num_workers=0,
    )
    assert 20 <= done.held_out["chgnet"]["novel"].num_crystals <= 22
    assert done.held_out["chgnet"]["novel"].mean_error < 0.1
    assert "22 crystals" in done.text()
    assert json.loads(out.read_text())["held_out"]["chgnet"]["known"]["brier"] >= 0
    potential_set = PotentialSet.of(
        JudgeOptions(potential="chgnet", second_opinion=None, calibration=out)
    )
    model, source = potential_set.calibrated["chgnet"].error_model(known=False, relaxer="chgnet")
    assert source == "mine.json"
    assert model.at(nacl_primitive().composition).std < 0.2
    assert rutile().composition.elements[0].symbol in potential_set.calibrated["chgnet"].references
    assert not list(tmp_path.glob("*.journal*"))


def test_labels_that_are_none_are_refused(tmp_path):
    write_extxyz([nacl_primitive()], tmp_path / "bare.extxyz", [{"density": 1.0}])
    with pytest.raises(ValueError, match="no crystal has a label: expected numbers in a column"):
        calibrate(
            labels=[tmp_path / "bare.extxyz"],
            potential="chgnet",
            out=tmp_path / "x.json",
            num_workers=0,
        )
    assert not (tmp_path / "x.json").exists()
