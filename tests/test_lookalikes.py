"""New crystals beside a known one of the same raw energy: the verdict says that they may be one."""

import pytest

from mattergen_lite.scoring.candidate import Candidate
from mattergen_lite.scoring.criteria.novelty import Novelty
from mattergen_lite.scoring.energy.stability import Stability
from mattergen_lite.scoring.lookalikes import mark_lookalikes
from mattergen_lite.scoring.score import Score


def candidate(name, raw, known="", formula="LiCoO2"):
    novelty = Novelty(
        is_unique=True, duplicate_of="", is_novel=not known, nearest_known=known,
        rms_distance=0.01 if known else None, num_known_polymorphs=1, known_chemical_system=True,
        is_novel_with_disorder=not known, disordered_form_of="", mixed_elements="",
    )  # fmt: skip
    return Candidate(
        raw=Score(name=name, formula=formula, novelty=novelty),
        structure=None,
        stability=Stability(e_above_hull=raw, e_above_hull_raw=raw),
    )


@pytest.mark.parametrize(
    ("raw", "formula", "is_alike"),
    [
        (0.0104, "LiCoO2", True),
        (0.0056, "LiCoO2", True),
        (0.0204, "LiCoO2", False),
        (0.0104, "NaCoO2", False),
    ],
)
def test_only_what_a_potential_cannot_tell_apart_is_marked(raw, formula, is_alike):
    known = candidate("known", 0.01, "mp-22526")
    new = candidate("new", raw, formula=formula)
    for order in ([new, known], [known, new]):
        found = {one.raw.name: one for one in mark_lookalikes(order)}
        assert found["known"].lookalike is None
        assert (found["new"].lookalike is not None) == is_alike
        assert ("mp-22526" in found["new"].verdict) == is_alike


def test_the_nearest_known_one_is_named_with_the_difference():
    known = [candidate("a", 0.01, "mp-1"), candidate("b", 0.0122, "mp-2")]
    new, *_ = mark_lookalikes([candidate("new", 0.0118), *known])
    assert new.lookalike.known == "mp-2"
    assert "-0.4 meV/atom from the known mp-2 (b)" in new.verdict


def test_nothing_is_said_where_nothing_is_known_or_nothing_was_relaxed():
    raw = Candidate(raw=Score(name="x", formula="LiCoO2"), structure=None)
    alone = candidate("new", 0.01)
    assert mark_lookalikes([raw, alone]) == [raw, alone]
