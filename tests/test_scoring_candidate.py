"""Ranks follow the checks, then the odds; verdicts say why."""

from dataclasses import replace

import pytest
from crystals import nacl, perovskite
from pymatgen.core import Composition, Lattice, Structure

from mattergen_lite.data.materials import known_value
from mattergen_lite.io.records import LearnedValue, StructureRecord
from mattergen_lite.options.judge import JudgeOptions
from mattergen_lite.processes import Pool
from mattergen_lite.scoring.candidate import Candidate, ranked
from mattergen_lite.scoring.computed_properties import is_possible
from mattergen_lite.scoring.criteria.symmetry import symmetry
from mattergen_lite.scoring.energy.screening import Screening
from mattergen_lite.scoring.energy.stability import Stability
from mattergen_lite.scoring.execution.result_cache import ResultCache
from mattergen_lite.scoring.judge import is_worth_relaxing
from mattergen_lite.scoring.known.reference import Reference
from mattergen_lite.scoring.metrics.funnel import funnel
from mattergen_lite.scoring.property_result import PropertyResult
from mattergen_lite.scoring.score import Score, score
from mattergen_lite.symmetry.detection import SYMPREC_RELAXED


def judged(structure: Structure, symprec: float = 0.1) -> Score:
    with Pool(0) as pool:
        (one,) = score([StructureRecord("one", structure)], result_cache=ResultCache(pool))
    return replace(one, symmetry=symmetry(structure, symprec=symprec))


@pytest.fixture(scope="module")
def salt():
    return judged(nacl())


def stability(probability: float) -> Stability:
    return Stability(
        e_above_hull=0.05,
        e_above_hull_std=0.03,
        probability_metastable=probability,
        decomposition="1 NaCl",
    )


def test_checks_come_before_odds_and_errors_last(salt):
    charged = judged(Structure(nacl().lattice, ["Na"] * 6 + ["Cl"] * 2, nacl().frac_coords))
    broken = Score(name="broken", error="cannot parse")
    likely, unlikely, wrong = (
        Candidate(raw=raw, structure=nacl(), stability=stability(probability))
        for raw, probability in ((salt, 0.9), (salt, 0.5), (charged, 0.99))
    )
    unread = Candidate(raw=broken, structure=None)
    order = ranked([unread, wrong, unlikely, likely])
    assert [one.rank for one in order] == [1, 2, 3, 4]
    assert [one.stability for one in order[:3]] == [
        likely.stability,
        unlikely.stability,
        wrong.stability,
    ]
    assert order[2].failed == ["neutral"]
    assert order[3].verdict == "not judged: cannot parse"


def test_what_has_no_stable_isotope_comes_after_what_can_be_made(salt):
    actinium = nacl().replace_species({"Na": "Ac", "Cl": "N"})
    likely, unlikely = (
        Candidate(raw=raw, structure=structure, stability=stability(probability))
        for raw, structure, probability in (
            (judged(actinium), actinium, 0.99),
            (salt, nacl(), 0.5),
        )
    )
    assert likely.failed == unlikely.failed == []
    assert [one.stability for one in ranked([likely, unlikely])] == [
        unlikely.stability,
        likely.stability,
    ]


def test_a_probability_that_is_no_number_ranks_last(salt):
    known, unknown = (
        Candidate(raw=salt, structure=nacl(), stability=found)
        for found in (stability(0.1), Stability(stability_error="Rn unsupported"))
    )
    assert [one.stability for one in ranked([unknown, known])] == [
        known.stability,
        unknown.stability,
    ]
    assert "stability unknown (Rn unsupported)" in unknown.verdict


def test_verdict_gives_the_uncertainty_and_the_competitors(salt):
    words = Candidate(raw=salt, structure=nacl(), stability=stability(0.8)).verdict
    expected = "passes the 5 checks made (not made: novel); 0.050 ± 0.030 eV/atom above the hull"
    assert words.startswith(expected)  # there is no reference
    assert "probability 0.80, against 1 NaCl" in words


def test_symmetry_raised_by_relaxation(salt):
    distorted = judged(nacl().perturb(0.3))
    relaxed = judged(nacl(), symprec=SYMPREC_RELAXED)
    raised = Candidate(raw=distorted, structure=None, relaxed=relaxed)
    kept = Candidate(raw=salt, structure=None, relaxed=relaxed)
    lowered = Candidate(raw=salt, structure=None, relaxed=distorted)
    changes = [one.symmetry_change for one in (raised, kept, lowered)]
    assert changes == ["raised", "kept", "lowered"]


def test_rows_have_the_same_columns(salt):
    empty = Candidate(raw=Score(name=""), structure=None)
    full = Candidate(raw=salt, structure=nacl(), relaxed=salt, stability=stability(0.5))
    assert list(empty.row()) == list(full.row())
    assert full.row()["relaxed_space_group"] == 225


@pytest.mark.parametrize(
    ("formula", "doubtful"),
    [
        ("FePO5", "Fe+5 (0.1% of Fe)"),
        ("FePO4", ""),
        ("Na2O", ""),
    ],
)
def test_rare_oxidation_states_are_doubtful(formula, doubtful):
    symbols = [e.symbol for e, n in Composition(formula).items() for _ in range(int(n))]
    coords = [[i / len(symbols), 0, 0] for i in range(len(symbols))]
    far_apart = Structure(Lattice.orthorhombic(20 * len(symbols), 20, 20), symbols, coords)
    one = Candidate(raw=judged(far_apart), structure=far_apart)
    assert one.row()["doubtful_oxidation_states"] == doubtful
    assert ("doubtful charges: Fe+5" in one.verdict) == bool(doubtful)


def outcome(method, value):
    return PropertyResult(
        property="band_gap", target=2.0, value=value, method=method, error=None, on_target=None
    )


def test_measured_and_predicted_never_share_a_column():
    guide = LearnedValue(2.4, 0.5, False)
    known = outcome("known", 0.0).columns()
    predicted = replace(outcome("outside domain", 2.4), guide=guide).columns()
    assert (known["measured_band_gap"], known["predicted_band_gap"]) == (0.0, None)
    assert (predicted["measured_band_gap"], predicted["predicted_band_gap"]) == (None, 2.4)


@pytest.mark.parametrize(
    ("value", "method", "error", "words"),
    [
        (2.3193, "regression", 0.4987, "band_gap 2.32 ± 0.5 eV predicted"),
        (
            0.0,
            "outside domain",
            0.036,
            "band_gap 0 ± 0.036 eV predicted, outside the regression's domain",
        ),
        (5.0, "known", None, "band_gap 5 eV known"),
        (None, "", None, "band_gap unknown"),
    ],
)
def test_a_verdict_says_what_a_property_is_and_how_that_is_known(value, method, error, words):
    found = replace(outcome(method, value), error=error, unit="eV")
    salt = Candidate(raw=judged(nacl()), structure=nacl(), outcomes=(found,))
    assert words in salt.verdict.split("; ")


def test_known_values_and_the_domain_of_regressions():
    assert known_value("mp-22862", "band_gap") > 4  # NaCl, eV
    assert known_value("mp-135", "band_gap") == 0  # lithium
    assert known_value("mp-22862", "no_such") is None
    assert known_value("own-1", "band_gap") is None
    lithium = Structure(Lattice.cubic(3.5), ["Li", "Li"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    assert not is_possible("band_gap", 1.0, lithium)
    assert is_possible("band_gap", 0.0, lithium)
    assert is_possible("bulk_modulus", 11.0, lithium)
    assert is_possible("band_gap", 1.0, nacl())


def distorted_perovskite() -> Structure:
    """Barium titanate with titanium moved along c: P4mm."""
    cell = Lattice.tetragonal(3.99, 4.03)
    places = [[0, 0, 0], [0.5, 0.5, 0.52], [0.5, 0.5, -0.03], [0.5, 0, 0.49], [0, 0.5, 0.49]]
    return Structure(cell, ["Ba", "Ti", "O", "O", "O"], places)


@pytest.mark.parametrize(
    ("space_groups", "kept"),
    [(range(195, 231), False), ([221], False), (range(75, 143), True), ([99], True)],
)
def test_a_symmetry_that_was_asked_for_is_a_check_of_the_relaxed_crystal(space_groups, kept):
    raw = judged(perovskite())
    relaxed = judged(distorted_perovskite(), symprec=0.01)
    candidate = Candidate(
        raw=raw,
        structure=perovskite(),
        relaxed=relaxed,
        relaxed_structure=distorted_perovskite(),
        stability=stability(0.9),
        space_groups=frozenset(space_groups),
    )
    assert candidate.checks["kept_symmetry"] is kept
    assert ("kept_symmetry" in candidate.failed) is not kept
    assert ("relaxed to P4mm (99), not the symmetry asked for" in candidate.verdict) is not kept
    assert candidate.row()["kept_symmetry"] is kept


def test_where_no_symmetry_was_asked_for_or_nothing_relaxed_none_is_checked(salt):
    asked = Candidate(raw=salt, structure=nacl(), space_groups=frozenset([225]))
    assert "kept_symmetry" not in asked.checks
    assert "kept_symmetry" not in Candidate(raw=salt, structure=nacl(), relaxed=salt).checks
    options = JudgeOptions()
    assert "kept_symmetry" in options.checks(has_targets=False, has_symmetry=True)
    assert "kept_symmetry" not in options.checks(has_targets=False)
    with pytest.raises(ValueError, match="require kept_symmetry: expected --space-group"):
        JudgeOptions(require="kept_symmetry").checks(has_targets=False)
    with pytest.raises(ValueError, match="kept_symmetry needs relaxed crystals"):
        JudgeOptions(require="kept_symmetry", relax=False)


def test_what_the_screen_leaves_out_is_not_said_to_have_lost_its_symmetry(salt):
    """Symmetry is that of the relaxed crystal: in the funnel the screen comes before it."""
    checks = JudgeOptions(keep=0.3).checks(has_targets=False, has_symmetry=True)
    rejected = Candidate(
        raw=salt,
        structure=nacl(),
        screening=Screening(screening_decision="reject"),
        space_groups=frozenset([225]),
    )
    left = funnel([rejected], [name for name in checks if name != "novel"]).left
    assert (left["unique"], left["screened"]) == (1, 0)
    assert list(left).index("screened") < list(left).index("kept_symmetry")


def test_a_known_framework_fails_only_where_a_new_one_is_required(salt):
    candidate = Candidate(raw=salt, structure=nacl())
    assert not candidate.has_new_framework
    assert "new_framework" not in candidate.failed
    assert candidate.misses("new_framework")
    required = replace(candidate, required=("new_framework",))
    assert required.failed == [*candidate.failed, "new_framework"]
    assert "new_framework" in required.verdict
    assert "new_framework" not in JudgeOptions().checks(has_targets=False)
    assert JudgeOptions(require="new_framework").require == ("new_framework",)
    assert is_worth_relaxing(salt, ["physical"])
    assert not is_worth_relaxing(salt, ["physical", "new_framework"])


def test_an_ordered_alloy_is_not_credible_where_that_is_required(salt):
    """FeCo in the CsCl structure is bcc with a mixed site; rock salt mixes nothing."""
    b2 = Structure.from_spacegroup("Pm-3m", Lattice.cubic(2.85), ["Fe", "Co"], [[0] * 3, [0.5] * 3])
    raw = judged(b2)
    assert not is_worth_relaxing(raw, ["physical", "credible"])
    assert is_worth_relaxing(salt, ["physical", "credible"])
    candidate = Candidate(raw=raw, structure=b2)
    assert "credible" not in candidate.failed
    assert "fails: credible" in replace(candidate, required=("credible",)).verdict


def test_a_polymorph_of_a_known_salt_is_no_new_composition():
    """Rock salt is known, zincblende of LiCl is another structure, LiKCl2 another compound."""
    zincblende = Structure.from_spacegroup(
        "F-43m", Lattice.cubic(5.6), ["Li", "Cl"], [[0, 0, 0], [0.25, 0.25, 0.25]]
    )
    unheard_of = Structure.from_spacegroup(
        "P4/mmm", Lattice.tetragonal(3.9, 5.9), ["Li", "K", "Cl", "Cl"],
        [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0, 0, 0.5]],
    )  # fmt: skip
    records = [StructureRecord("a", zincblende), StructureRecord("b", unheard_of)]
    salt = Structure.from_spacegroup(
        "Fm-3m", Lattice.cubic(5.1), ["Li", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]
    )
    known = Reference.from_records([StructureRecord("rock salt", salt)], name="known")
    with Pool(0) as pool:
        scores = score(records, result_cache=ResultCache(pool), reference=known)
    form, new = (Candidate(raw=raw, structure=nacl()) for raw in scores)
    assert [candidate.checks["novel"] for candidate in (form, new)] == [True, True]
    assert "new_composition" not in form.checks
    assert "a polymorph: 1 known of this composition" in form.verdict
    assert "polymorph" not in new.verdict
    wanted = ("new_composition",)
    assert replace(form, required=wanted).failed == [*form.failed, "new_composition"]
    assert replace(new, required=wanted).failed == new.failed
    assert not is_worth_relaxing(form.raw, wanted)
    assert is_worth_relaxing(new.raw, wanted)


def test_what_was_not_compared_is_unknown_in_the_verdict_and_no_failure(salt):
    missing = replace(
        salt.novelty, is_unique=None, is_novel=None, not_compared="uniqueness: 3 of 9 took too long"
    )
    candidate = Candidate(raw=replace(salt, novelty=missing), structure=nacl())
    assert candidate.failed == []
    assert {"unique", "novel"}.isdisjoint(candidate.checks)
    assert "novelty unknown: uniqueness: 3 of 9 took too long" in candidate.verdict
    assert "not made: unique, novel" in candidate.verdict
