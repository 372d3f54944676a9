"""Shares are of all structures, errors included, and unknown without a reference."""

from dataclasses import replace

import pytest
from crystals import nacl, nacl_primitive, rutile, triclinic
from pymatgen.core import Lattice, Structure
from test_scoring_novelty import reference_of

from mattergen_lite.io.records import StructureRecord
from mattergen_lite.processes import Pool
from mattergen_lite.scoring.candidate import Candidate
from mattergen_lite.scoring.criteria.credibility import Credibility
from mattergen_lite.scoring.criteria.novelty import Novelty
from mattergen_lite.scoring.criteria.symmetry import Symmetry
from mattergen_lite.scoring.energy.stability import Stability
from mattergen_lite.scoring.execution.result_cache import ResultCache
from mattergen_lite.scoring.known.reference import Reference
from mattergen_lite.scoring.metrics.summary import (
    PROTOCOL,
    STABILITY_PROTOCOL,
    Shares,
    StabilityShares,
    protocol,
    shares,
    summary,
)
from mattergen_lite.scoring.score import Score, score


def records() -> list[StructureRecord]:
    overlapping = Structure(Lattice.cubic(4), ["Na", "Na"], [[0, 0, 0], [0.001, 0, 0]])
    structures = [nacl(), nacl_primitive(), rutile(), triclinic(), overlapping]
    named = [StructureRecord(str(i), structure, None) for i, structure in enumerate(structures)]
    return [*named, StructureRecord("broken", None, "cannot parse")]


def judged(records: list[StructureRecord], reference: Reference | None = None) -> list[Score]:
    with Pool(0) as pool:
        return score(records, result_cache=ResultCache(pool), reference=reference)


def test_shares_are_of_all_structures():
    found = shares(judged(records(), reference_of({"salt": nacl()})), 6)
    assert found.readable == pytest.approx(5 / 6)  # overlapping atoms can be read
    assert found.structure_valid == pytest.approx(4 / 6)
    assert found.valid == pytest.approx(4 / 6)
    assert found.neutral == pytest.approx(5 / 6)  # the funnel's check: sodium alone passes
    assert found.physical == pytest.approx(4 / 6)
    assert found.alloy_or_element == pytest.approx(1 / 6)
    assert found.unique == pytest.approx(4 / 6)
    assert found.novel == pytest.approx(3 / 6)
    assert found.unique_and_novel == pytest.approx(3 / 6)


def test_without_reference():
    found = summary([Candidate(raw=one, structure=None) for one in judged(records()[:3])])
    assert found.raw.novel is None
    assert found.raw.unique == pytest.approx(2 / 3)
    assert found.relaxed is None
    assert found.stability is None
    assert "unknown" in found.text()


def test_every_figure_has_its_protocol():
    assert set(PROTOCOL) == set(Shares.__dataclass_fields__)
    assert set(STABILITY_PROTOCOL) == set(StabilityShares.__dataclass_fields__)


def assessed(e_above_hull: float, *, novel: bool = True, unique: bool = True) -> Candidate:
    """A relaxed candidate about which the potential is sure to within a coin flip."""
    novelty = Novelty(
        is_unique=unique,
        duplicate_of="",
        is_novel=novel,
        nearest_known="",
        rms_distance=None,
        num_known_polymorphs=0,
        known_chemical_system=True,
        is_novel_with_disorder=novel,
        disordered_form_of="",
        mixed_elements="",
    )
    return Candidate(
        raw=Score(name="", novelty=novelty),
        structure=None,
        relaxed=Score(name="", novelty=novelty),
        stability=Stability(
            e_above_hull=e_above_hull,
            e_above_hull_raw=e_above_hull - 0.08,
            probability_stable=0.25,
            probability_metastable=0.5,
            rmsd=0.2,
            relaxation_converged=True,
        ),
    )


def test_stable_unique_novel_hard_and_expected():
    unassessed = Candidate(raw=Score(name="", error="broken"), structure=None)
    failed = Candidate(
        raw=Score(name=""), structure=None, stability=Stability(stability_error="exploded")
    )
    found = summary(
        [
            assessed(-0.01),
            assessed(0.05, novel=False),
            assessed(0.15),
            assessed(0.05, unique=False),
            failed,
            unassessed,
        ]
    )
    stability = found.stability
    assert stability.stable == pytest.approx(1 / 6)
    assert stability.metastable == pytest.approx(3 / 6)
    assert stability.metastable_uncalibrated == pytest.approx(4 / 6)
    assert stability.expected_metastable == pytest.approx(4 * 0.5 / 6)
    assert stability.sun == pytest.approx(1 / 6)
    assert stability.msun == pytest.approx(1 / 6)
    assert stability.msun_uncalibrated == pytest.approx(2 / 6)
    assert stability.expected_msun == pytest.approx(2 * 0.5 / 6)
    assert stability.expected_sun == pytest.approx(2 * 0.25 / 6)
    assert stability.relaxed == pytest.approx(4 / 6)
    assert stability.median_rmsd == pytest.approx(0.2)
    assert set(protocol(found)) == set(PROTOCOL) | set(STABILITY_PROTOCOL)
    assert "expected_msun" in found.text()


def test_credible_crystals_are_above_p_minus_1_and_ordered():
    """Of four alike but for their space group and flags, one counts."""
    probable = assessed(0.05)

    def with_symmetry(number: int, *flags: str) -> Candidate:
        symmetry = Symmetry(
            space_group=number,
            space_group_symbol="",
            crystal_system="",
            point_group="",
            wyckoff_letters="",
            num_atoms_primitive=2,
            num_atoms_conventional=2,
            symprec=0.1,
            space_groups={0.1: number},
        )
        credibility = Credibility(
            flags=flags,
            flag_reasons=flags,
            smallest_element_fraction=0.5,
            rarest_abundance=None,
            hhi_production=None,
            hhi_reserve=None,
        )
        relaxed = replace(probable.relaxed, symmetry=symmetry, credibility=credibility)
        return replace(probable, relaxed=relaxed)

    found = summary(
        [
            with_symmetry(225),
            with_symmetry(2),
            with_symmetry(225, "ordered_approximant"),
            probable,  # its symmetry is not known
        ]
    )
    assert found.stability.expected_msun == pytest.approx(0.5)
    assert found.stability.expected_credible_msun == pytest.approx(0.5 / 4)
    assert found.relaxed.credible == pytest.approx(1 / 4)
    assert found.relaxed.unflagged == pytest.approx(2 / 4)


def test_nothing_to_summarise():
    with pytest.raises(ValueError, match="no candidates"):
        summary([])


def test_what_was_not_compared_is_left_out_of_the_shares_that_need_it():
    """Of four stable crystals one is not compared: two of three are new, not two of four."""
    unknown = assessed(-0.01)
    missing = Novelty(is_unique=None, is_novel=None, not_compared="took too long")
    unknown = replace(
        unknown,
        raw=replace(unknown.raw, novelty=missing),
        relaxed=replace(unknown.relaxed, novelty=missing),
    )
    found = summary([assessed(-0.01), assessed(-0.01), assessed(-0.01, novel=False), unknown])
    assert found.raw.not_compared == pytest.approx(1 / 4)
    assert found.raw.unique == pytest.approx(3 / 3)
    assert found.raw.novel == found.raw.unique_and_novel == pytest.approx(2 / 3)
    assert found.stability.sun == pytest.approx(2 / 3)
    assert found.stability.expected_msun == pytest.approx(2 * 0.5 / 3)
    assert found.stability.stable == 1.0
    nothing = summary([unknown])
    assert nothing.raw.unique is None
    assert nothing.raw.novel is None
