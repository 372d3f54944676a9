"""Scoring the folder of an earlier run: what it did not relax stays unrelaxed unless asked for."""

import pytest
from crystals import nacl_primitive, perovskite, rutile

from mattergen_lite import judge, score

CHEAP = {"potential": "chgnet", "second_opinion": None, "num_workers": 0, "require": "physical"}


@pytest.fixture(scope="module")
def screened(tmp_path_factory):
    """Three crystals, of which the screen left the likeliest."""
    folder = tmp_path_factory.mktemp("run") / "screened"
    crystals = [nacl_primitive(), rutile(), perovskite()]
    judged = judge(crystals, relax_at_most=1, control=0.0, **CHEAP).save(folder, num_workers=0)
    assert sum(one.is_relaxed for one in judged) == 1
    return judged


def relaxed(judged):
    return {one.raw.name for one in judged if one.is_relaxed}


def test_what_a_screen_left_out_is_not_relaxed_later(screened, tmp_path, monkeypatch):
    def fail(*args, **keywords):
        raise AssertionError("a crystal is relaxed again")

    monkeypatch.setattr("mattergen_lite.scoring.potential_runner.relax", fail)
    again = score(screened.folder, out=tmp_path / "out", dft_inputs=True, **CHEAP)
    assert relaxed(again) == relaxed(screened)
    assert {one.raw.name: one.screening for one in again if one.screening} == {
        one.raw.name: one.screening for one in screened if one.screening
    }
    assert [path.name for path in (tmp_path / "out/dft").iterdir() if path.is_dir()] == [
        *relaxed(screened)
    ]
    default = {**CHEAP, "require": None}
    assert "screened" in score(screened.folder, **default).checks


def test_all_is_relaxed_where_it_is_asked_for(screened):
    again = score(screened.folder, keep=1.0, **CHEAP)
    assert relaxed(again) == {one.raw.name for one in again}


def test_a_run_that_relaxed_nothing_is_relaxed_whole(tmp_path):
    quick = {**CHEAP, "relax": False}
    judged = judge([nacl_primitive(), rutile()], **quick).save(tmp_path / "raw", num_workers=0)
    assert len(relaxed(score(judged.folder, **CHEAP))) == 2
