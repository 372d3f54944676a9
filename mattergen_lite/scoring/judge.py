"""The judge: score, screen, relax, release, score again, assess, confirm targets, rank.

Every step asks its questions through a journal, which spreads them over processes of one thread
each (what potentials want on a CPU) and remembers the answers of an interrupted or earlier run.
"""

from bisect import bisect_left
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from math import inf

import numpy as np
from pymatgen.core import Structure

from mattergen_lite.data.materials import row_numbers
from mattergen_lite.io.formats.structures import ordered
from mattergen_lite.io.records import StructureRecord
from mattergen_lite.options.judge import Goal, JudgeOptions, ShortlistOptions
from mattergen_lite.request.targets import PropertyTarget
from mattergen_lite.scoring.candidate import Candidate, is_credible, ranked
from mattergen_lite.scoring.confirmation.confirming import confirm
from mattergen_lite.scoring.earlier_run import EarlierRun
from mattergen_lite.scoring.energy.deciders import Deciders
from mattergen_lite.scoring.energy.dft_energies import DftEnergies, read_energies
from mattergen_lite.scoring.energy.phonons import require_phonopy
from mattergen_lite.scoring.energy.potentials.sources import potential_name
from mattergen_lite.scoring.energy.screening import DOUBTFUL_WEIGHT, Cut, Screening, screen
from mattergen_lite.scoring.energy.stability import Measurement
from mattergen_lite.scoring.execution.journal import Journal, structure_identity
from mattergen_lite.scoring.execution.stopwatch import Stopwatch
from mattergen_lite.scoring.known.reference import Reference, known_structures
from mattergen_lite.scoring.lookalikes import mark_lookalikes
from mattergen_lite.scoring.measuring import Laboratory
from mattergen_lite.scoring.outcomes import cannot_be_on_target, outcomes
from mattergen_lite.scoring.score import TIME_LIMIT, Score, compare, score, score_each


@dataclass(frozen=True, kw_only=True)
class Found:
    """Scores, screening and relaxation of one crystal, before its stability is assessed."""

    raw: Score
    is_off_target: bool = False  # of a target that is required, and relaxing will not change that
    is_left_out: bool = False  # by an earlier run, which did not relax it
    screening: Screening | None = None
    measured: Measurement | None = None
    relaxed: Score | None = None


@dataclass(frozen=True, kw_only=True)
class Judge:
    """How crystals are judged, with all that is needed for it at hand.

    Args:
        reference: Known structures.
        deciders: Potentials; None where nothing is relaxed.
        energies: Of DFT, which decide where they exist.
        targets: What every crystal was asked to be.
        space_groups: Those that crystals may have; None where no symmetry was asked for.
        goal: What crystals are made for, which says what a success is and what comes first.
        device: Of the potentials.
        selective: Relax only what passes the cheap checks; screening implies it.
        earlier: Decisions that hold unless the options screen anew.
    """

    options: JudgeOptions
    reference: Reference
    deciders: Deciders | None = None
    energies: DftEnergies | None = None
    targets: Sequence[PropertyTarget] = ()
    space_groups: frozenset[int] | None = None
    goal: Goal = "discover"
    device: str = "cpu"
    selective: bool = False
    earlier: EarlierRun = field(default_factory=EarlierRun)

    @classmethod
    def of(
        cls,
        options: JudgeOptions,
        shortlist: ShortlistOptions | None = None,
        *,
        targets: Sequence[PropertyTarget] = (),
        space_groups: frozenset[int] | None = None,
        goal: Goal = "discover",
        device: str = "cpu",
        selective: bool = False,
    ) -> "Judge":
        """A judge with the known structures that the options name.

        Raises:
            ValueError: If options contradict each other, phonopy is not installed, a potential
                cannot be had or fails its exam, or a reference is missing or not readable.
        """
        check_possible(
            options,
            shortlist or ShortlistOptions(),
            has_targets=bool(targets),
            has_symmetry=space_groups is not None,
            goal=goal,
        )
        return cls(
            options=options,
            reference=known_structures(options.reference),
            deciders=Deciders.of(options, device) if options.relax else None,
            energies=None if options.energies is None else read_energies(options.energies),
            targets=targets,
            space_groups=space_groups,
            goal=goal,
            device=device,
            selective=selective,
        )

    @property
    def checks(self) -> tuple[str, ...]:
        """Names of the checks that a candidate has to pass."""
        return self.options.checks(
            has_targets=bool(self.targets),
            has_symmetry=self.space_groups is not None,
            goal=self.goal,
            is_screened=self.options.is_screened or bool(self.earlier.screening),
        )

    @property
    def required(self) -> tuple[str, ...]:
        """Checks that come before all others where candidates are ranked."""
        return self.options.require or () if self.goal == "discover" else self.checks

    def judge(
        self,
        records: Sequence[StructureRecord],
        journal: Journal,
        watch: Stopwatch,
        ends: Sequence[int] = (),
    ) -> list[Candidate]:
        """Judge crystals; one candidate a record, best first.

        Args:
            records: Structures to judge.
            journal: Processes to work in, and what they have found before.
            watch: Takes the time of every stage.
            ends: Where each round ends among the records, for the screen; default one round.
        """
        found = [Found(raw=one) for one in self._score(records, journal, watch)]
        found = self._mark_off_target(records, found)
        if self.options.is_screened:
            with watch.stage("screening"):
                found = self._screen(records, found, ends or [len(records)], journal)
        else:
            found = self._recall(records, found)
        if self.options.relax:
            found = self._relax(records, found, journal, watch)
        candidates = [self._assess(record, one) for record, one in zip(records, found, strict=True)]
        if self.options.relax and self.targets:
            with watch.stage("confirming"):
                candidates = confirm(candidates, self.deciders.decider, self.checks, journal)
        return ranked(mark_lookalikes(candidates), self.required)

    def _score(
        self, records: Sequence[StructureRecord], journal: Journal, watch: Stopwatch
    ) -> list[Score]:
        """Scores of the crystals as they came."""
        with watch.stage("judging"):
            quick = min(self.options.time_limit, TIME_LIMIT)
            raw = score_each(records, journal=journal, time_limit=quick)
        with watch.stage("comparing"):
            return compare(
                raw,
                records,
                journal=journal,
                reference=self.reference,
                polymorphs=self.goal != "discover",
            )

    @property
    def _is_selective(self) -> bool:
        """Whether a crystal has to pass the cheap checks before it is relaxed."""
        return self.selective or self.options.is_screened

    def _mark_off_target(
        self, records: Sequence[StructureRecord], found: Sequence[Found]
    ) -> list[Found]:
        """Mark what passes the cheap checks, but misses a required target, relaxed or not.

        A structure that is predicted or completed is not: the lowest in energy is wanted.
        """
        marked = list(found)
        if self.goal == "discover" and self._is_selective and "on_target" in self.checks:
            for index in self._passing(found):
                is_off = cannot_be_on_target(found[index].raw, records[index], self.targets)
                marked[index] = replace(found[index], is_off_target=is_off)
        return marked

    def _passing(self, found: Sequence[Found]) -> list[int]:
        """Positions of the crystals that pass the cheap checks, if they have to."""
        return worth_relaxing([one.raw for one in found], self.checks if self._is_selective else ())

    def _worth_relaxing(self, found: Sequence[Found]) -> list[int]:
        """Positions of the crystals that are relaxed, as far as it does not take a potential."""
        return [index for index in self._passing(found) if not found[index].is_off_target]

    def _screen(
        self,
        records: Sequence[StructureRecord],
        found: Sequence[Found],
        ends: Sequence[int],
        journal: Journal,
    ) -> list[Found]:
        """Screen the crystals that are worth relaxing by their raw energies.

        The share that is kept is one of all that pass the cheap checks: where few of these are on
        target, what is relaxed is a larger share of the few.
        """
        worth, options = self._worth_relaxing(found), self.options
        passing = sorted([*worth, *(i for i, one in enumerate(found) if one.is_off_target)])
        keep = 1.0 if options.keep is None else options.keep
        screened = screen(
            [ordered(records[index].structure) for index in worth],
            [bisect_left(worth, end) for end in ends],
            [self._weight(found[index]) for index in worth],
            Cut(keep=keep, at_most=options.relax_at_most, control=options.control),
            journal,
            num_passing=np.diff([bisect_left(passing, end) for end in [0, *ends]]).tolist(),
        )
        seen = list(found)
        for index, one in zip(worth, screened, strict=True):
            seen[index] = replace(seen[index], screening=one)
        return seen

    def _recall(self, records: Sequence[StructureRecord], found: Sequence[Found]) -> list[Found]:
        """Take over what the screen of an earlier run decided."""
        keys = [one.structure and structure_identity(one.structure) for one in records]
        return [
            replace(
                one,
                screening=self.earlier.screening.get(key),
                is_left_out=key in self.earlier.not_relaxed,
            )
            for key, one in zip(keys, found, strict=True)
        ]

    def _weight(self, found: Found) -> float:
        """How much a crystal counts in the screen; of one composition the energy alone does."""
        if self.goal != "discover" or is_credible(found.raw):
            return 1.0
        return DOUBTFUL_WEIGHT

    def _relax(
        self,
        records: Sequence[StructureRecord],
        found: Sequence[Found],
        journal: Journal,
        watch: Stopwatch,
    ) -> list[Found]:
        """Relax and release what is worth it and passed the screen, and score it again."""
        options = self.options
        laboratory = Laboratory(
            deciders=self.deciders,
            journal=journal,
            device=self.device,
            time_limit=options.time_limit,
        )
        chosen = [index for index in self._worth_relaxing(found) if passes_screen(found[index])]
        chosen.sort(key=lambda index: _likelihood(found[index]), reverse=True)
        structures = [ordered(records[index].structure) for index in chosen]
        with watch.stage("relaxing"):
            measured = laboratory.measure(structures)
        with watch.stage("releasing"):
            measured = laboratory.release(measured)
        with watch.stage("judging relaxed"):
            names = [records[index].name for index in chosen]
            relaxed = self._score_relaxed(names, measured, journal)
        after = list(found)
        for index, energies, again in zip(chosen, measured, relaxed, strict=True):
            after[index] = replace(found[index], measured=energies, relaxed=again)
        return after

    def _score_relaxed(
        self, names: Sequence[str], measured: Sequence[Measurement], journal: Journal
    ) -> list[Score | None]:
        """Scores of what crystals relaxed to.

        Where the lowest energy is wanted, of equal crystals the lowest is the one that counts.
        """
        order = range(len(measured))
        if self.goal != "discover":
            decider = potential_name(self.deciders.decider)
            order = sorted(order, key=lambda i: measured[i].energies_per_atom.get(decider, inf))
        found = score_relaxed(
            [names[i] for i in order],
            [measured[i] for i in order],
            self.reference,
            journal,
            polymorphs=self.goal != "discover",
        )
        scores: list[Score | None] = [None] * len(measured)
        for index, one in zip(order, found, strict=True):
            scores[index] = one
        return scores

    def _assess(self, record: StructureRecord, found: Found) -> Candidate:
        """Put together what was found of one crystal, and assess its stability."""
        candidate = Candidate(
            raw=found.raw,
            structure=record.structure,
            screening=found.screening,
            goal=self.goal,
            space_groups=self.space_groups,
        )
        if found.measured is not None:
            novelty = (found.relaxed or found.raw).novelty
            candidate = replace(
                candidate,
                relaxed=found.relaxed,
                relaxed_structure=found.measured.judged.structure,
                # Crystals of a reference of one's own are not novel, but new to the potentials.
                stability=self.deciders.assess(
                    found.measured,
                    known=novelty is not None and novelty.nearest_known in row_numbers(),
                ),
            )
        candidate = self.earlier.recall(candidate)
        if self.energies is not None and candidate.raw.error is None:
            structure = ordered(candidate.final_structure)
            decided = self.energies.stability(record.name, structure, candidate.stability)
            candidate = replace(candidate, stability=decided)
        return replace(candidate, outcomes=outcomes(candidate, record, self.targets))


def check_possible(
    options: JudgeOptions,
    shortlist: ShortlistOptions,
    *,
    has_targets: bool = False,
    has_symmetry: bool = False,
    goal: Goal = "discover",
) -> None:
    """Refuse what cannot be done, before anything is done.

    Raises:
        ValueError: If options contradict each other, phonopy is not installed, or a reference is
            missing.
    """
    shortlist.check(options)
    options.checks(has_targets=has_targets, has_symmetry=has_symmetry, goal=goal)
    if shortlist.phonons:
        require_phonopy()
    for path in options.reference:
        if not path.exists():
            raise ValueError(f"reference {path} does not exist")


def worth_relaxing(scores: Sequence[Score], required: Collection[str] = ()) -> list[int]:
    """Positions of the structurally valid crystals that pass the cheap checks required."""
    return [
        index
        for index, one in enumerate(scores)
        if one.validity is not None
        and one.validity.structure_valid
        and False not in map(Candidate(raw=one, structure=None).all_checks.get, required)
    ]


def passes_screen(found: Found) -> bool:
    """Tell whether a crystal is relaxed: all are where nothing is screened or left out."""
    is_rejected = found.screening and found.screening.screening_decision == "reject"
    return not (is_rejected or found.is_left_out)


def _likelihood(found: Found) -> float:
    """Probability of being metastable by the raw energy: what is likely is relaxed first."""
    screening = found.screening
    return 0.0 if screening is None else np.nan_to_num(screening.screening_probability)


def score_relaxed(
    names: Sequence[str],
    measured: Sequence[Measurement],
    reference: Reference | None,
    journal: Journal,
    *,
    polymorphs: bool = False,
) -> list[Score | None]:
    """Score what crystals relaxed to, at the tolerance of raw crystals; None where nothing."""
    structures: list[Structure | None] = [one.judged.structure for one in measured]
    relaxed = [
        StructureRecord(name, structure)
        for name, structure in zip(names, structures, strict=True)
        if structure is not None
    ]
    found = iter(
        score(relaxed, journal=journal, reference=reference, polymorphs=polymorphs, relaxed=True)
    )
    return [None if structure is None else next(found) for structure in structures]
