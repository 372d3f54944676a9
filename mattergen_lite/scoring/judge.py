"""Judges crystals: score, screen, relax, release, score again, assess, confirm targets, rank.

Every step works through a result cache, which spreads it over processes of one thread each and
remembers the results of an interrupted or earlier run.
"""

from bisect import bisect_left
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from mattergen_lite.data.materials import row_numbers
from mattergen_lite.io.formats.structures import ordered
from mattergen_lite.io.records import StructureRecord
from mattergen_lite.options.judge import Goal, JudgeOptions, ShortlistOptions
from mattergen_lite.request.targets import PropertyTarget
from mattergen_lite.scoring.candidate import Candidate, is_credible, ranked
from mattergen_lite.scoring.checking import check_judging
from mattergen_lite.scoring.confirmation.confirming import confirm, confirm_as_sampled
from mattergen_lite.scoring.earlier_run import EarlierRun
from mattergen_lite.scoring.energy.dft_energies import DftEnergies, read_energies
from mattergen_lite.scoring.energy.potential_set import PotentialSet
from mattergen_lite.scoring.energy.screening import DOUBTFUL_WEIGHT, Screening, screen
from mattergen_lite.scoring.energy.stability import Measurement
from mattergen_lite.scoring.execution.result_cache import ResultCache, structure_identity
from mattergen_lite.scoring.execution.stopwatch import Stopwatch
from mattergen_lite.scoring.known.reference import Reference, known_structures
from mattergen_lite.scoring.lookalikes import mark_lookalikes
from mattergen_lite.scoring.potential_runner import PotentialRunner
from mattergen_lite.scoring.property_result import Confirmed
from mattergen_lite.scoring.property_results import decide_targets, is_off_target, outcomes
from mattergen_lite.scoring.ranking import RANKINGS, Ranking
from mattergen_lite.scoring.score import TIME_LIMIT, Score, compare, score, score_each

LeftOut = Literal["check", "target", "screen", "earlier run"]


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Scores, screening and relaxation of one crystal, before its stability is assessed."""

    raw: Score
    confirmed: dict[str, Confirmed] = field(default_factory=dict)  # of the crystal as it came
    left_out: LeftOut | None = None  # what decided that it is not relaxed; None: it is
    screening: Screening | None = None
    measured: Measurement | None = None
    relaxed: Score | None = None

    @property
    def likelihood(self) -> float:
        """Probability of being metastable by the raw energy."""
        screening = self.screening
        return 0.0 if screening is None else np.nan_to_num(screening.screening_probability)


@dataclass(frozen=True, kw_only=True)
class Judge:
    """How crystals are judged, with all that is needed for it at hand.

    Args:
        potential_set: Potentials; None where nothing is relaxed.
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
    potential_set: PotentialSet | None = None
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
                cannot be had or is not accepted, or a reference is missing or not readable.
        """
        check_judging(
            options,
            shortlist,
            has_targets=bool(targets),
            has_symmetry=space_groups is not None,
            goal=goal,
        )
        return cls(
            options=options,
            reference=known_structures(options.reference),
            potential_set=PotentialSet.of(options, device) if options.relax else None,
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
    def ranking(self) -> Ranking:
        """How candidates are compared."""
        return RANKINGS[self.goal]

    @property
    def required(self) -> tuple[str, ...]:
        """Checks that come before all others where candidates are ranked."""
        return self.options.require or () if self.ranking.wants_new else self.checks

    def judge(
        self,
        records: Sequence[StructureRecord],
        result_cache: ResultCache,
        watch: Stopwatch,
        ends: Sequence[int] = (),
    ) -> list[Candidate]:
        """Judge crystals; one candidate a record, best first.

        Args:
            result_cache: Processes to work in, and what they have found before.
            ends: Where each round ends among the records, for the screen; default one round.
        """
        scores = self._score(records, result_cache, watch)
        with watch.stage("confirming"):
            progress = self._leave_out(records, scores, result_cache)
        if self.options.is_screened:
            with watch.stage("screening"):
                progress = self._screen(records, progress, ends or [len(records)], result_cache)
        else:
            progress = self._recall(records, progress)
        if self.options.relax:
            progress = self._relax(records, progress, result_cache, watch)
        candidates = [self._assess(*pair) for pair in zip(records, progress, strict=True)]
        if self.options.relax and self.targets:
            with watch.stage("confirming"):
                candidates = confirm(
                    candidates, self.potential_set.decider, self.checks, result_cache
                )
        return ranked(mark_lookalikes(candidates), self.required)

    def _score(
        self, records: Sequence[StructureRecord], result_cache: ResultCache, watch: Stopwatch
    ) -> list[Score]:
        with watch.stage("judging"):
            quick = min(self.options.time_limit, TIME_LIMIT)
            raw = score_each(records, result_cache=result_cache, time_limit=quick)
        with watch.stage("comparing"):
            return compare(
                raw,
                records,
                result_cache=result_cache,
                reference=self.reference,
                polymorphs=not self.ranking.wants_new,
            )

    def _leave_out(
        self,
        records: Sequence[StructureRecord],
        scores: Sequence[Score],
        result_cache: ResultCache,
    ) -> list[Progress]:
        """Leave out what is no crystal and, if selective, what fails a cheap check or target."""
        # What is predicted may miss a target: the lowest in energy is wanted.
        is_selective = self.selective or self.options.is_screened
        required = self.checks if is_selective else ()
        worth = [is_worth_relaxing(raw, required) for raw in scores]
        progress = [
            Progress(raw=raw, left_out=None if is_worth else "check")
            for raw, is_worth in zip(scores, worth, strict=True)
        ]
        if not (self.ranking.wants_new and "on_target" in required):
            return progress
        structures = [
            ordered(record.structure) if is_worth else None
            for record, is_worth in zip(records, worth, strict=True)
        ]
        names = {target.definition.name for target in self.targets}
        confirmed = confirm_as_sampled(structures, names, result_cache)
        after = []
        for state, record, values in zip(progress, records, confirmed, strict=True):
            is_off = state.left_out is None and is_off_target(
                state.raw, record, self.targets, values
            )
            left_out = "target" if is_off else state.left_out
            after.append(replace(state, confirmed=values, left_out=left_out))
        return after

    def _screen(
        self,
        records: Sequence[StructureRecord],
        progress: Sequence[Progress],
        ends: Sequence[int],
        result_cache: ResultCache,
    ) -> list[Progress]:
        """Screen by raw energies; the cut is a share of all that pass the cheap checks."""
        worth = [i for i, state in enumerate(progress) if state.left_out is None]
        passing = [i for i, state in enumerate(progress) if state.left_out in (None, "target")]
        screened = screen(
            [ordered(records[index].structure) for index in worth],
            [bisect_left(worth, end) for end in ends],
            [self._weight(progress[index].raw) for index in worth],
            self.options,
            result_cache,
            num_passing=np.diff([bisect_left(passing, end) for end in [0, *ends]]).tolist(),
        )
        after = list(progress)
        for index, screening in zip(worth, screened, strict=True):
            left_out = "screen" if screening.screening_decision == "reject" else None
            after[index] = replace(after[index], screening=screening, left_out=left_out)
        return after

    def _recall(
        self, records: Sequence[StructureRecord], progress: Sequence[Progress]
    ) -> list[Progress]:
        """Take over what the screen of an earlier run decided."""
        after = []
        for record, state in zip(records, progress, strict=True):
            key = record.structure and structure_identity(record.structure)
            screening = self.earlier.screening.get(key)
            is_rejected = screening is not None and screening.screening_decision == "reject"
            is_left_out = is_rejected or key in self.earlier.not_relaxed
            left_out = state.left_out or ("earlier run" if is_left_out else None)
            after.append(replace(state, screening=screening, left_out=left_out))
        return after

    def _weight(self, raw: Score) -> float:
        """How much a crystal counts in the screen; of one composition the energy alone does."""
        return 1.0 if not self.ranking.wants_new or is_credible(raw) else DOUBTFUL_WEIGHT

    def _relax(
        self,
        records: Sequence[StructureRecord],
        progress: Sequence[Progress],
        result_cache: ResultCache,
        watch: Stopwatch,
    ) -> list[Progress]:
        """Relax and release what is not left out, the likeliest first, and score it again."""
        runner = PotentialRunner(
            potential_set=self.potential_set,
            result_cache=result_cache,
            device=self.device,
            time_limit=self.options.time_limit,
        )
        chosen = [index for index, state in enumerate(progress) if state.left_out is None]
        chosen.sort(key=lambda index: progress[index].likelihood, reverse=True)
        structures = [ordered(records[index].structure) for index in chosen]
        with watch.stage("relaxing"):
            measured = runner.measure(structures)
        with watch.stage("releasing"):
            measured = runner.release(measured)
        with watch.stage("judging relaxed"):
            names = [records[index].name for index in chosen]
            relaxed = self._score_relaxed(names, measured, result_cache)
        after = list(progress)
        for index, energies, again in zip(chosen, measured, relaxed, strict=True):
            after[index] = replace(progress[index], measured=energies, relaxed=again)
        return after

    def _score_relaxed(
        self, names: Sequence[str], measured: Sequence[Measurement], result_cache: ResultCache
    ) -> list[Score | None]:
        """Scores of what crystals relaxed to, at the tolerance of raw crystals."""
        structures = [measurement.judged.structure for measurement in measured]
        records = [StructureRecord(*pair) for pair in zip(names, structures, strict=True)]
        scores = iter(
            score(
                [record for record in records if record.structure is not None],
                result_cache=result_cache,
                reference=self.reference,
                polymorphs=not self.ranking.wants_new,
                relaxed=True,
            )
        )
        return [None if structure is None else next(scores) for structure in structures]

    def _assess(self, record: StructureRecord, progress: Progress) -> Candidate:
        """Put together what is known of one crystal, and assess its stability."""
        candidate = Candidate(
            raw=progress.raw,
            structure=record.structure,
            screening=progress.screening,
            confirmed=progress.confirmed,
            goal=self.goal,
            required=self.options.require or (),
            space_groups=self.space_groups,
        )
        if progress.measured is not None:
            novelty = (progress.relaxed or progress.raw).novelty
            candidate = replace(
                candidate,
                relaxed=progress.relaxed,
                relaxed_structure=progress.measured.judged.structure,
                # Crystals of a reference of one's own are not novel, but new to the potentials.
                stability=self.potential_set.assess(
                    progress.measured,
                    known=novelty is not None and novelty.nearest_known in row_numbers(),
                ),
            )
        candidate = self.earlier.recall(candidate)
        if self.energies is not None and candidate.raw.error is None:
            structure = ordered(candidate.final_structure)
            decided = self.energies.stability(record.name, structure, candidate.stability)
            candidate = replace(candidate, stability=decided)
        return decide_targets(
            replace(candidate, outcomes=outcomes(candidate, record, self.targets))
        )


def is_worth_relaxing(raw: Score, required: Collection[str] = ()) -> bool:
    """Tell whether a crystal is structurally valid and fails none of the required checks."""
    if raw.validity is None or not raw.validity.structure_valid:
        return False
    return False not in map(Candidate(raw=raw, structure=None).all_checks.get, required)
