"""Shares are of all structures, errors included, and unknown without a reference."""

import pytest
from crystals import nacl, nacl_primitive, rutile, triclinic
from pymatgen.core import Lattice, Structure
from test_scoring_novelty import reference_of

from mattergen_lite.io import StructureRecord
from mattergen_lite.scoring.score import score
from mattergen_lite.scoring.summary import PROTOCOL, Summary, summary


def records() -> list[StructureRecord]:
    overlapping = Structure(Lattice.cubic(4), ["Na", "Na"], [[0, 0, 0], [0.001, 0, 0]])
    structures = [nacl(), nacl_primitive(), rutile(), triclinic(), overlapping]
    named = [StructureRecord(str(i), structure, None) for i, structure in enumerate(structures)]
    return [*named, StructureRecord("broken", None, "cannot parse")]


def test_shares_are_of_all_structures():
    found = summary(score(records(), reference=reference_of({"salt": nacl()}), num_workers=0))
    assert found.num_structures == 6
    assert found.readable == pytest.approx(4 / 6)
    assert found.structure_valid == pytest.approx(4 / 6)
    assert found.valid == pytest.approx(4 / 6)
    assert found.neutral == pytest.approx(4 / 6)
    assert found.unique == pytest.approx(4 / 6)
    assert found.novel == pytest.approx(3 / 6)
    assert found.unique_and_novel == pytest.approx(3 / 6)


def test_without_reference():
    found = summary(score(records()[:3], num_workers=0))
    assert found.novel is None
    assert found.unique == pytest.approx(2 / 3)
    assert "not judged" in found.text()


def test_every_figure_has_its_protocol():
    assert set(PROTOCOL) == set(Summary.__dataclass_fields__) - {"num_structures"}


def test_nothing_to_summarise():
    with pytest.raises(ValueError, match="no scores"):
        summary([])
