"""What a run says: candidates first, the funnel, and why nothing passes; six figures of it."""

import pytest
from crystals import nacl
from pymatgen.core import Lattice, Structure

from mattergen_lite.runs.headline import Headline, duration
from mattergen_lite.runs.terminal import brief
from mattergen_lite.scoring.candidate import Candidate, ranked
from mattergen_lite.scoring.criteria.novelty import Novelty
from mattergen_lite.scoring.criteria.validity import validity
from mattergen_lite.scoring.energy.calibration import UNCALIBRATED
from mattergen_lite.scoring.energy.stability import Stability
from mattergen_lite.scoring.metrics.expectation import expectation
from mattergen_lite.scoring.metrics.funnel import funnel
from mattergen_lite.scoring.score import Score

CHECKS = ("readable", "novel", "metastable")


def candidate(
    name: str, probability: float, novel: bool = True, calibration: str = "shipped"
) -> Candidate:
    novelty = Novelty(
        is_unique=True,
        duplicate_of="",
        is_novel=novel,
        nearest_known="" if novel else "mp-22862",
        rms_distance=None if novel else 0.0,
        num_known_polymorphs=None,
        known_chemical_system=None,
        is_novel_with_disorder=novel,
        disordered_form_of="",
        mixed_elements="",
    )
    stability = Stability(
        e_above_hull=0.05, e_above_hull_std=0.03, probability_metastable=probability,
        decomposition="1 NaCl", calibration=calibration,
    )  # fmt: skip
    return Candidate(
        raw=Score(name=name, formula="NaCl", novelty=novelty), structure=nacl(), stability=stability
    )


def headline(candidates, is_sampled=True, **arguments) -> Headline:
    return Headline.of(
        candidates,
        funnel(candidates, CHECKS),
        arguments=arguments,
        seconds={"sampling": 100.0, "judging": 110.0},
        is_sampled=is_sampled,
        asked_for=arguments.get("num_candidates"),
    )


def said(candidates, is_sampled=True, **arguments) -> list[str]:
    return list(
        brief(
            candidates,
            headline(candidates, is_sampled, **arguments),
            is_sampled=is_sampled,
            asked_for=arguments.get("num_candidates"),
        )
    )


@pytest.fixture
def eight():
    return ranked([candidate(f"{n:06d}", 0.1 + 0.1 * n) for n in range(8)])


def test_the_best_come_first_and_ten_lines_are_enough(eight):
    lines = said(eight, num_samples=8)
    assert len(lines) <= 10
    assert [line.split()[:2] for line in lines[:5]] == [
        [str(n + 1), f"{7 - n:06d}"] for n in range(5)
    ]
    assert "0.050 ± 0.030 eV/atom, P 0.80" in lines[0]
    assert lines[5] == "8 sampled -> 8 readable -> 8 novel -> 5 metastable"
    assert lines[6] == (
        "5 of 8 pass every required check; 3.6 expected metastable, unique and novel; 3.5 min"
    )


def test_an_uncalibrated_potential_says_so_wherever_its_energies_count():
    doubtful = ranked([candidate("a", 0.6, calibration=UNCALIBRATED), candidate("b", 0.5)])
    lines = said(doubtful)
    assert "0.050 ± 0.030 eV/atom (uncalibrated), P 0.60" in lines[0]
    assert "uncalibrated" not in lines[1]
    assert "unique and novel (uncalibrated)" in lines[3]
    assert "(uncalibrated)" in doubtful[0].verdict
    figures = {one["label"]: one["more"] for one in headline(doubtful).figures()}
    assert figures["Expected M.S.U.N."].endswith("; uncalibrated")
    assert "(uncalibrated)" in figures["Best"]
    assert "by their relaxed, uncalibrated energies" in expectation(doubtful).text()
    sure = [candidate("a", 0.6)]
    assert "uncalibrated" not in "".join([*said(sure), expectation(sure).text()])


def test_nothing_passes_for_a_reason_and_with_a_next_step():
    unlikely = ranked([candidate("a", 0.1), candidate("b", 0.1)])
    assert said(unlikely)[-1] == (
        "nothing passes: none of 2 is metastable; sample until enough pass: --num-candidates "
        "(at this rate one takes about 10 samples)"
    )
    known = ranked([candidate("a", 0.9, novel=False)])
    assert said(known)[-1].startswith("nothing passes: none of 1 is novel; all are known")
    assert "column failed_checks" in said(unlikely, is_sampled=False)[-1]


def test_the_reason_of_an_impossible_geometry_is_said():
    overlapping = Structure(Lattice.cubic(5.69), ["Na", "Cl"], [[0, 0, 0], [0.2, 0, 0]])
    judged = Candidate(
        raw=Score(name="a", formula="NaCl", validity=validity(overlapping)), structure=overlapping
    )
    assert said([judged])[0].endswith(
        "fails: physical; Cl-Na overlap: 1.14 Å, 0.42 of their covalent radii (atoms 1 and 2)"
    )


def test_a_search_that_fell_short_says_what_to_raise(eight):
    assert said(eight, num_candidates=7)[-1].startswith("5 of 7 candidates found: raise")


def test_six_figures(eight):
    found = headline(eight, num_samples=8, elements="Li,P,S", condition=("density=4",), seed=0)
    figures = found.figures()
    assert [one["label"] for one in figures] == [
        "Delivered", "Sampled", "Expected M.S.U.N.", "Best", "Chemical systems", "Time"
    ]  # fmt: skip
    assert [one["value"] for one in figures] == [
        "5", "8", "3.6", "NaCl", "1", "3.5 min"
    ]  # fmt: skip
    assert found.asked == "8 samples, condition density=4, elements Li,P,S"
    assert figures[0]["more"] == "62% of all pass every required check"
    asked = headline(eight, num_candidates=4).figures()
    assert (asked[0]["label"], asked[0]["value"]) == ("Delivered (4 asked)", "5")


def test_no_zero_has_a_sign():
    assert Stability(e_above_hull=-0.0001, e_above_hull_std=0.05).stated_energy.startswith("0.000")


def test_what_was_given_is_not_sampled(eight):
    lines = said(eight, is_sampled=False, source="their.zip")
    assert lines[5] == "8 given -> 8 readable -> 8 novel -> 5 metastable"


def test_durations():
    assert [duration(s) for s in (3.2, 89.0, 600.0, 7200.0)] == ["3 s", "89 s", "10.0 min", "2.0 h"]
