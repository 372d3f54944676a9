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


def test_files_that_would_be_the_same_are_taken_over(tmp_path, monkeypatch):
    """Inputs of DFT are asked for: no crystal is symmetrised and no figure drawn again."""
    quick = {"relax": False, "num_workers": 0}
    crystals = [nacl_primitive(), rutile(), perovskite()]
    first = judge(crystals, **quick).save(tmp_path / "first", num_workers=0)

    def fail(*args, **keywords):
        raise AssertionError("a file is made again")

    with monkeypatch.context() as patch:
        patch.setattr("mattergen_lite.runs.crystals.to_cif", fail)
        patch.setattr("mattergen_lite.runs.report.write_figures", fail)
        score(first.folder, out=tmp_path / "again", audit=True, **quick)
    for pattern in ("cifs/*", "figures/*", "candidates.csv"):
        files = sorted(first.folder.glob(pattern))
        assert files
        for path in files:
            again = tmp_path / "again" / path.relative_to(first.folder)
            assert again.read_bytes() == path.read_bytes()
    # With one crystal less the figures are others, and the CIFs are not.
    monkeypatch.setattr("mattergen_lite.runs.crystals.to_cif", fail)
    fewer = score(first.folder, out=tmp_path / "fewer", limit=2, **quick)
    assert len([*(fewer.folder / "cifs").iterdir()]) == 2
    one = "figures/density.svg"
    assert (fewer.folder / one).read_bytes() != (first.folder / one).read_bytes()


def test_all_is_relaxed_where_it_is_asked_for(screened):
    again = score(screened.folder, keep=1.0, **CHEAP)
    assert relaxed(again) == {one.raw.name for one in again}


def test_a_run_that_relaxed_nothing_is_relaxed_whole(tmp_path):
    quick = {**CHEAP, "relax": False}
    judged = judge([nacl_primitive(), rutile()], **quick).save(tmp_path / "raw", num_workers=0)
    assert len(relaxed(score(judged.folder, **CHEAP))) == 2
