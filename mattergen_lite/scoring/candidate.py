"""Holds one candidate: a crystal as it came and as it relaxed, its checks and its verdict.

Uniqueness, novelty and geometry are those of the relaxed crystal where it is relaxed.
"""

import hashlib
import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from typing import Literal

from pymatgen.core import Structure

from mattergen_lite.options.judge import OPTIONAL_CHECKS, Goal
from mattergen_lite.scoring.criteria.symmetry import SYMPREC_GENERATED
from mattergen_lite.scoring.energy.accuracy import METASTABLE, WORTH_COMPUTING
from mattergen_lite.scoring.energy.elasticity import Elasticity
from mattergen_lite.scoring.energy.first_principles import FirstPrinciples
from mattergen_lite.scoring.energy.phonons import Phonons
from mattergen_lite.scoring.energy.relaxation import StoredStructure
from mattergen_lite.scoring.energy.screening import Screening
from mattergen_lite.scoring.energy.stability import Stability
from mattergen_lite.scoring.property_result import Confirmed, PropertyResult
from mattergen_lite.scoring.ranking import RANKINGS, Ranking
from mattergen_lite.scoring.score import Cell, Score, flatten
from mattergen_lite.symmetry.space_groups import space_group

# Columns of a `Score` that the table has of the relaxed crystal, too, as `relaxed_...`.
RELAXED_COLUMNS = (
    "space_group",
    "space_group_symbol",
    "crystal_system",
    "wyckoff_letters",
    "protostructure",
    "framework_class",
    "nearest_framework",
    "density",
    "volume_per_atom",
    "min_distance",
    "physical_problem",
    "is_unique",
    "duplicate_of",
    "is_novel",
    "nearest_known",
    "known_composition",
    "is_novel_with_disorder",
    "disordered_form_of",
    "not_compared",
)

# Flags that say that nature would mix the elements which the crystal orders.
DISORDER_FLAGS = {"ordered_approximant", "known_disordered_phase"}

SymmetryChange = Literal["raised", "kept", "lowered"]


@dataclass(frozen=True, kw_only=True)
class Lookalike:
    """A known crystal of the same composition that a potential cannot tell from a new one."""

    known: str  # material_id
    name: str  # of the known crystal in the set
    difference: float  # eV/atom that the new one lies above it, as the potential says

    @property
    def words(self) -> str:
        """What that means for the stated energies."""
        return (
            f"{1000 * self.difference:+z.1f} meV/atom from the known {self.known} ({self.name}) as "
            "the potential says: perhaps the same phase; stated energies differ since errors of "
            "new and known crystals do"
        )


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """Everything known about one crystal."""

    raw: Score
    structure: StoredStructure | None  # as it came; None if it could not be read
    screening: Screening | None = None  # None where there was no cut, or it did not come so far
    relaxed: Score | None = None
    relaxed_structure: StoredStructure | None = None
    stability: Stability | None = None
    phonons: Phonons | None = None
    elasticity: Elasticity | None = None
    first_principles: FirstPrinciples | None = None  # None where nothing was calculated
    dft_structure: StoredStructure | None = None  # relaxed by first principles
    outcomes: tuple[PropertyResult, ...] = ()
    confirmed: dict[str, Confirmed] = field(default_factory=dict)  # by property
    lookalike: Lookalike | None = None  # None where a potential can tell it from known crystals
    goal: Goal = "discover"  # what it was made for
    required: tuple[str, ...] = ()  # checks that the user named
    space_groups: frozenset[int] | None = None  # that were asked for; None where none were
    rank: int = 0  # 1 is the best

    def __repr__(self) -> str:
        """Rank, formula and verdict: what was judged fills a page."""
        return f"Candidate({self.rank}, {self.raw.name!r}, {self.raw.formula}: {self.verdict})"

    @property
    def final(self) -> Score:
        """The score of the relaxed crystal where there is one."""
        return self.relaxed or self.raw

    @property
    def final_structure(self) -> Structure | None:
        """The relaxed crystal where there is one."""
        return self.relaxed_structure or self.structure

    @property
    def has_new_framework(self) -> bool:
        """Whether no known crystal has the framework, once relaxed where it is relaxed."""
        judged = self.final.framework
        return judged is not None and judged.framework_class == "new framework"

    @property
    def is_relaxed(self) -> bool:
        """Whether a potential has relaxed it, or has tried to."""
        return self.stability is not None and bool(self.stability.relaxed_with)

    @property
    def ranking(self) -> Ranking:
        """How it is compared with others that were made for the same goal."""
        return RANKINGS[self.goal]

    @property
    def checks(self) -> dict[str, bool]:
        """Outcome of every check that was made; of some only where they are required."""
        unasked = set(OPTIONAL_CHECKS) - set(self.required)
        return {
            name: passed
            for name, passed in self.all_checks.items()
            if passed is not None and name not in unasked
        }

    @property
    def all_checks(self) -> dict[str, bool | None]:
        """Outcome of each of `CHECKS`, None where it was not made."""
        novelty = self.final.novelty
        return {
            "readable": self.raw.error is None,
            "physical": is_physical(self.final),
            "neutral": self.raw.neutrality and self.raw.neutrality.is_neutral,
            "unique": novelty and novelty.is_unique,
            "novel": novelty.is_novel if novelty and self.ranking.wants_new else None,
            "new_composition": novelty and novelty.is_new_composition,
            "new_framework": self.final.framework and self.has_new_framework,
            "credible": is_credible(self.final) if self.final.credibility else None,
            "on_target": self.on_target,
            "screened": self.screening and self.screening.screening_decision != "reject",
            "kept_symmetry": self.kept_symmetry,
            "metastable": _is_metastable(self.stability),
        }

    @property
    def on_target(self) -> bool | None:
        """Whether every property that can be measured is what was asked for."""
        known = [outcome.on_target for outcome in self.outcomes if outcome.on_target is not None]
        return all(known) if known else None

    @property
    def kept_symmetry(self) -> bool | None:
        """Whether the relaxed crystal has a symmetry that was asked for."""
        if self.space_groups is None or self.relaxed is None or self.relaxed.symmetry is None:
            return None
        return self.relaxed.symmetry.space_group in self.space_groups

    @property
    def failed(self) -> list[str]:
        """Names of the checks that were not passed."""
        return [name for name, passed in self.checks.items() if not passed]

    def misses(self, check: str) -> bool:
        """Tell whether a required check was failed or not made.

        Unassigned charges neither pass nor fail `neutral`: the verdict says so, and of equals the
        crystal comes last.
        """
        unassigned = check == "neutral" and _is_unassigned(self.raw)
        return not unassigned and not self.all_checks[check]

    @property
    def energy(self) -> float | None:
        """Energy of the relaxed crystal above the hull, as the potential says, eV/atom.

        Differences between crystals of one composition are free of the error model, which knows
        more of known crystals than of others.
        """
        energy = self.stability.e_above_hull_raw if self.stability else math.nan
        return energy if math.isfinite(energy) else None

    @property
    def is_uncalibrated(self) -> bool:
        """Whether its stability is a statement of a potential whose errors nobody knows."""
        return self.stability is not None and self.stability.is_uncalibrated

    def sort_key(self, required: Collection[str] = ()) -> tuple[float | int, ...]:
        """Sorts the best first: required checks, which fail if not made, come before all others."""
        return (
            self.raw.error is not None,
            sum(map(self.misses, required)),
            bool(self.outcomes) and self.on_target is None,
            *self.ranking.merit(self),
            self._num_doubts,
        )

    @property
    def _num_doubts(self) -> int:
        """Credibility flags, rare oxidation states, and charges that are unassigned."""
        unassigned = int(_is_unassigned(self.raw))
        return len(self.flags) + len(_doubtful_states(self.raw)) + unassigned

    @property
    def flags(self) -> Collection[str]:
        """Names of the credibility flags of the crystal as it came."""
        return self.raw.credibility.flags if self.raw.credibility else ()

    @property
    def symmetry_change(self) -> SymmetryChange | None:
        """What relaxation did to the point group, both seen at the tolerance of raw crystals."""
        if not (self.relaxed and self.relaxed.symmetry and self.raw.symmetry):
            return None
        before, after = (
            len(space_group(score.symmetry.space_groups[SYMPREC_GENERATED]).rotations)
            for score in (self.raw, self.relaxed)
        )
        return "kept" if before == after else "raised" if after > before else "lowered"

    @property
    def verdict(self) -> str:
        """The judgement in words."""
        if self.raw.error is not None:
            return f"not judged: {self.raw.error}"
        words = [
            _words_on_checks(self),
            self.final.validity and self.final.validity.physical_problem,
            *(outcome.words for outcome in self.outcomes),
            _words_on_symmetry(self),
            _words_on_charge(self.raw),
            _words_on_screening(self.screening),
            _words_on_stability(self.stability),
            self.final.novelty and self.final.novelty.words,
            self.lookalike and self.lookalike.words,
        ]
        parts = [part for part in words if part]
        if self.phonons and self.phonons.dynamically_stable is False:
            parts.append(f"imaginary phonons down to {self.phonons.min_frequency:.1f} THz")
        if self.flags:
            parts.append(f"flags: {', '.join(self.flags)}")
        return "; ".join(parts)

    @property
    def is_credible(self) -> bool:
        """Whether it is above P-1 after relaxing and nature is not expected to mix its elements."""
        return self.relaxed is not None and is_credible(self.relaxed)

    def row(self) -> dict[str, Cell]:
        """One table row; the same columns for every candidate."""
        relaxed = self.relaxed.row() if self.relaxed else {}
        return {
            "rank": self.rank,
            "name": self.raw.name,
            "formula": self.raw.formula,
            "verdict": self.verdict,
            "failed_checks": "; ".join(self.failed),
            **self.raw.row(),
            **flatten(self.screening, Screening),
            **flatten(self.stability, Stability),
            **{f"relaxed_{name}": relaxed.get(name) for name in RELAXED_COLUMNS},
            "symmetry_change": self.symmetry_change,
            "kept_symmetry": self.kept_symmetry,
            **flatten(self.phonons, Phonons),
            **flatten(self.elasticity, Elasticity),
            **flatten(self.first_principles, FirstPrinciples),
            **{name: cell for outcome in self.outcomes for name, cell in outcome.columns().items()},
            "on_target": self.on_target,
        }


def is_credible(judged: Score) -> bool:
    """Tell whether a crystal is above P-1 and nature is not expected to mix its elements."""
    if judged.symmetry is None or judged.credibility is None:
        return False
    return judged.symmetry.space_group > 2 and not DISORDER_FLAGS & set(judged.credibility.flags)


def is_physical(score: Score) -> bool | None:
    """Tell whether the geometry can be that of a crystal; None where it was not judged."""
    return score.validity and score.validity.structure_valid and not score.validity.physical_problem


def _is_metastable(stability: Stability | None) -> bool | None:
    """Whether it is probable; None without a probability."""
    if stability is None or math.isnan(stability.probability_metastable):
        return None
    return stability.probability_metastable >= WORTH_COMPUTING


def _is_unassigned(score: Score) -> bool:
    return score.neutrality is not None and score.neutrality.charge_verdict == "unassigned"


def _words_on_checks(candidate: Candidate) -> str:
    """Name the failed checks or, if there are none, the checks that were not made."""
    checks = candidate.checks
    if candidate.failed:
        return f"fails: {', '.join(candidate.failed)}"
    targets = ["on_target"] if candidate.outcomes else []
    asked = dict.fromkeys([*candidate.ranking.checks, *targets, *candidate.required])
    told = {"neutral"} if _is_unassigned(candidate.raw) else set()  # by `_words_on_charge`
    if missing := [name for name in asked if name not in checks and name not in told]:
        return f"passes the {len(checks)} checks made (not made: {', '.join(missing)})"
    return "passes every check"


def _words_on_symmetry(candidate: Candidate) -> str | None:
    if candidate.kept_symmetry is not False:
        return None
    symmetry = candidate.relaxed.symmetry
    group = f"{symmetry.space_group_symbol} ({symmetry.space_group})"
    return f"relaxed to {group}, not the symmetry asked for"


def _doubtful_states(score: Score) -> list[str]:
    """Oxidation states that are rare, such as "Fe+5 (0.1% of Fe)"."""
    text = score.neutrality.doubtful_oxidation_states if score.neutrality else ""
    return text.split("; ") if text else []


def _words_on_charge(score: Score) -> str | None:
    if score.neutrality and score.neutrality.charge_reason:
        verdict = "charges unassigned" if _is_unassigned(score) else "charged"
        return f"{verdict}: {score.neutrality.charge_reason}"
    doubtful = _doubtful_states(score)
    return f"doubtful charges: {', '.join(doubtful)}" if doubtful else None


def _words_on_screening(screening: Screening | None) -> str | None:
    if screening is None or screening.screening_decision != "reject":
        return None
    if screening.screening_error is not None:
        return f"not relaxed: {screening.screening_error}"
    return (
        f"not relaxed: probability of being metastable {screening.screening_probability:.2f} "
        f"from its raw energy, {screening.screening_e_above_hull:.2f} eV/atom above the hull"
    )


def _words_on_stability(stability: Stability | None) -> str | None:
    if stability is None:
        return None
    if stability.stability_error is not None:
        return f"stability unknown ({stability.stability_error})"
    words = (
        f"{stability.stated_energy} above the hull, "
        f"within {METASTABLE} with probability {stability.probability_metastable:.2f}, "
        f"against {stability.decomposition}"
    )
    return (
        f"{words} ({stability.second_opinion} disagrees)" if stability.opinions_disagree else words
    )


def ranked(candidates: Iterable[Candidate], required: Collection[str] = ()) -> list[Candidate]:
    """The candidates with their ranks, best first; equals by what they are, not as they came."""
    order = sorted(
        candidates, key=lambda candidate: (candidate.sort_key(required), _content(candidate))
    )
    return [replace(candidate, rank=place) for place, candidate in enumerate(order, start=1)]


def _content(candidate: Candidate) -> tuple[str, str, str]:
    """Orders equally good candidates, whatever the order and the number of their files."""
    structure = candidate.structure
    cell = (
        b""
        if structure is None
        else structure.lattice.matrix.tobytes() + structure.frac_coords.tobytes()
    )
    return candidate.raw.formula, hashlib.sha256(cell).hexdigest(), candidate.raw.name
