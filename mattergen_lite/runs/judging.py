"""One run of the judge: crystals from anywhere are judged, and written where a folder is given."""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf, isfinite
from pathlib import Path
from time import perf_counter

from mattergen_lite.console import ProgressBar
from mattergen_lite.data.crystals import embedded_crystals
from mattergen_lite.dft.engines import find_engine
from mattergen_lite.io.records import StructureRecord
from mattergen_lite.options.budget import FILES_PER_SAMPLING, Budget
from mattergen_lite.options.judge import ShortlistOptions
from mattergen_lite.options.verification import VerifyOptions
from mattergen_lite.processes import Pool
from mattergen_lite.runs.dft_codes import parse_codes
from mattergen_lite.runs.folder import RunFolder
from mattergen_lite.runs.judgements import Judgements
from mattergen_lite.runs.recipes import parse_recipes
from mattergen_lite.runs.vasp import parse_incar
from mattergen_lite.runs.verifying import VerifyingRun
from mattergen_lite.runs.writing import write_run
from mattergen_lite.scoring.candidate import Candidate, ranked
from mattergen_lite.scoring.execution.result_cache import ResultCache
from mattergen_lite.scoring.execution.stopwatch import Stopwatch
from mattergen_lite.scoring.judge import Judge
from mattergen_lite.scoring.metrics.audit import audit
from mattergen_lite.scoring.metrics.funnel import funnel
from mattergen_lite.scoring.metrics.hits import hit_rates
from mattergen_lite.scoring.metrics.screening_loss import ScreeningTally
from mattergen_lite.scoring.shortlist_checks import deepen


@dataclass(frozen=True, kw_only=True)
class JudgingRun:
    """Judge, processes, folder and earlier results of one run.

    An interrupted run leaves a result cache in the folder, from which the same command goes on.
    """

    judge: Judge
    pool: Pool
    place: RunFolder | None = None  # folder to write, which this process holds
    shortlist: ShortlistOptions = field(default_factory=ShortlistOptions)  # done for the best
    audit: bool = False  # compare the whole set with the known materials
    earlier: Sequence[Path] = ()  # files of answers, which are not worked out again
    source: Judgements | None = None  # where the crystals come from, if that is a run
    remembered: Sequence[str] = ()  # lines of such answers
    watch: Stopwatch = field(default_factory=Stopwatch)
    deadline: float = inf  # of `perf_counter`, after which no stage begins anything costly

    def __post_init__(self) -> None:
        if self.shortlist.dft_inputs:  # refused before the work, not after it
            parse_codes(self.shortlist.dft_codes)
            parse_recipes(self.shortlist.dft_sets)
            parse_incar(self.shortlist.incar)
        if self.shortlist.verify:
            find_engine(VerifyOptions().engine).check_installed()

    def execute(
        self,
        rounds: Iterable[Sequence[StructureRecord]],
        provenance: Mapping[str, object],
        budget: Budget | None = None,
    ) -> Judgements:
        """Judge structures and, where there is a folder, write it.

        Args:
            rounds: Structures to judge; later rounds only if too few candidates have passed.
            provenance: What the record says of where the structures come from.
            budget: When to stop; None judges the first round.

        Raises:
            ValueError: If there is no structure, or whatever making the first round raises.
        """
        result_cache = self.result_cache()
        candidates = self._judge_rounds(iter(rounds), budget, result_cache)
        return self.finish(self.deepen(candidates, result_cache), provenance, result_cache, budget)

    def result_cache(self) -> ResultCache:
        """Answers of earlier runs and of this one, which are not worked out again."""
        place = self.place
        return ResultCache(
            self.pool,
            None if place is None else place.result_cache,
            earlier=[*self.earlier, *([] if place is None else [place.answers])],
            memory=self.remembered,
            deadline=self.deadline,
        )

    def finish(
        self,
        candidates: Sequence[Candidate],
        provenance: Mapping[str, object],
        result_cache: ResultCache,
        budget: Budget | None = None,
        checks: Sequence[str] | None = None,
        screened: ScreeningTally | None = None,
    ) -> Judgements:
        """Judgements of candidates that are judged already, written where there is a folder.

        Args:
            checks: Those that a candidate has to pass; None: those of the judge.
            screened: What was screened in a larger set, of which the candidates are the best.
        """
        judge = self.judge
        readable = [candidate.structure for candidate in candidates if candidate.raw.error is None]
        compositions = [structure.composition for structure in readable]
        training = embedded_crystals("train") if judge.targets else None
        judged = Judgements(
            candidates=tuple(candidates),
            checks=tuple(judge.checks if checks is None else checks),
            reference=judge.reference.name,
            provenance=provenance,
            seconds=self.watch.seconds,
            shortlist=self.shortlist,
            hits=() if training is None else hit_rates(candidates, judge.targets, training),
            audit=audit(compositions, judge.reference) if self.audit and readable else None,
            asked_for=None if budget is None else budget.num_candidates,
            screened=screened,
            result_cache=result_cache,
        )
        if self.place is None:
            return judged
        written = write_run(self.place.path, judged, self.pool, self.watch, self.source)
        result_cache.forget()
        return written

    def _judge_rounds(
        self,
        rounds: Iterator[Sequence[StructureRecord]],
        budget: Budget | None,
        result_cache: ResultCache,
    ) -> list[Candidate]:
        """Judge round after round until enough candidates pass; returns all of them, best first."""
        records: list[StructureRecord] = []
        candidates: list[Candidate] = []
        ends: list[int] = []
        while True:
            started = perf_counter()
            with self.watch.stage("structures"):
                batch = next(rounds, None)
            if batch is None:
                break
            files = FILES_PER_SAMPLING * self.watch.seconds["structures"]
            result_cache.deadline = self.deadline - files
            records += batch
            ends.append(len(records))
            candidates = self.judge.judge(records, result_cache, self.watch, ends)
            passed = funnel(candidates, self.judge.checks)
            now = perf_counter()  # late: most of another round would be cut off
            is_late = now + (now - started) / 2 > result_cache.deadline
            if budget is None or budget.is_met(passed.num_passed) or is_late:
                break
            ProgressBar.write(passed.text(), file=sys.stderr)
        return candidates

    def deepen(
        self,
        candidates: Sequence[Candidate],
        result_cache: ResultCache,
        required: Sequence[str] | None = None,
    ) -> list[Candidate]:
        """Add the deeper checks of the best candidates, if any are asked for.

        Required checks come before all others in the ranks; None: those of the judge.
        """
        deeper = list(candidates)
        if self.shortlist.phonons or self.shortlist.bulk_modulus:
            with self.watch.stage("deeper checks"):
                deeper = deepen(
                    candidates,
                    self.shortlist,
                    potential=self.judge.potential_set.decider,
                    result_cache=result_cache,
                    needs_stability="metastable" in self.judge.checks,
                )
        if self.shortlist.verify:
            with self.watch.stage("first principles"):
                left = max(self.deadline - perf_counter(), 1.0) / 60
                budget = left if isfinite(left) else None  # minutes
                options = VerifyOptions(top=self.shortlist.verify, time_budget=budget)
                verified = VerifyingRun(options=options, pool=self.pool).verify(deeper)
                deeper = ranked(verified, self.judge.required if required is None else required)
        return deeper
