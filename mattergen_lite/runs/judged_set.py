"""Sums up judged crystals: what they have in common, their figures, and what to say of them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import overload

from mattergen_lite.options.judge import ShortlistOptions, parse_checks
from mattergen_lite.runs.folder import AUDIT, DFT, REPORT, TABLE
from mattergen_lite.runs.headline import Headline
from mattergen_lite.runs.terminal import brief
from mattergen_lite.scoring.candidate import Candidate, ranked
from mattergen_lite.scoring.execution.result_cache import ResultCache
from mattergen_lite.scoring.metrics import summary as sets
from mattergen_lite.scoring.metrics.audit import Audit
from mattergen_lite.scoring.metrics.expectation import Expectation, expectation
from mattergen_lite.scoring.metrics.funnel import Funnel, Stage, funnel, stages
from mattergen_lite.scoring.metrics.hits import HOW_UNCONDITIONAL, HitRate, recounted
from mattergen_lite.scoring.metrics.hits import PROTOCOL as HITS_PROTOCOL
from mattergen_lite.scoring.metrics.screening_loss import ScreeningLoss, ScreeningTally
from mattergen_lite.scoring.metrics.summary import Summary


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """Checks, provenance, times and figures of a run, beside its crystals."""

    checks: tuple[str, ...]  # names of those that a candidate has to pass
    reference: str  # name of the known structures that crystals were compared with
    provenance: Mapping[str, object]  # where the crystals come from and how they were judged
    seconds: Mapping[str, float]  # spent in each stage
    shortlist: ShortlistOptions = field(default_factory=ShortlistOptions)  # done for the best
    hits: tuple[HitRate, ...] = ()  # of every target
    audit: Audit | None = None  # the whole set beside the known materials
    asked_for: int | None = None  # candidates; None if a number of samples was asked for
    screened: ScreeningTally | None = None  # in a larger set, of which these are the best


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class JudgedSet(RunFacts, Sequence[Candidate]):
    """The candidates and what they have in common."""

    candidates: tuple[Candidate, ...]  # best first
    folder: Path | None = None  # where the files are; None if nothing was written
    result_cache: ResultCache | None = None  # what was worked out; None if the folder has it

    def __len__(self) -> int:
        return len(self.candidates)

    @overload
    def __getitem__(self, index: int) -> Candidate: ...

    @overload
    def __getitem__(self, index: slice) -> "JudgedSet": ...

    def __getitem__(self, index: int | slice) -> "Candidate | JudgedSet":
        """A candidate, or the judgements of some of them; ranks stay those in the whole set."""
        if isinstance(index, slice):
            return self._with(self.candidates[index])
        return self.candidates[index]

    def summary(self) -> Summary:
        """Shares of the whole set.

        Raises:
            ValueError: If it is empty.
        """
        return sets.summary(self.candidates)

    @cached_property
    def funnel(self) -> Funnel:
        """How many candidates pass each required check and those before it."""
        return funnel(self.candidates, self.checks)

    @property
    def passed(self) -> list[Candidate]:
        """The candidates that pass every required check, best first."""
        names = set(self.funnel.passed)
        return [candidate for candidate in self.candidates if candidate.raw.name in names]

    @cached_property
    def expected(self) -> Expectation | None:
        """Expected number of successes among the candidates; None where no energy is known."""
        return expectation(self.candidates)

    @cached_property
    def stages(self) -> tuple[Stage, ...]:
        """What enters and what passes every stage of the judge."""
        return tuple(stages(self.candidates, self.seconds))

    @cached_property
    def screening(self) -> ScreeningLoss | None:
        """What the screen kept and lost; None where nothing was screened."""
        return (self.screened or ScreeningTally.of(self.candidates)).loss()

    @property
    def protocol(self) -> dict[str, str]:
        """How each figure of the set is measured."""
        how = sets.protocol(self.summary()) | {"reference": self.reference}
        return how | (HITS_PROTOCOL if self.hits else {})

    def figures(self) -> dict[str, object]:
        """Figures of the whole set as plain data, with their protocol."""
        loss = self.screening
        return {
            "figures": asdict(self.summary()),
            "funnel": asdict(self.funnel),
            "stages": [stage.figures() for stage in self.stages],
            "screening": loss and loss.figures(),
            "targets": [hit.figures() for hit in self.hits],
            "expected": self.expected and self.expected.figures(),
            "protocol": self.protocol,
        }

    @cached_property
    def headline(self) -> Headline:
        """What came of the run, in six figures."""
        return Headline.of(
            self.candidates,
            self.funnel,
            arguments=self.provenance.get("arguments") or {},
            seconds=self.seconds,
            is_sampled=self.is_sampled,
            asked_for=self.asked_for,
        )

    @property
    def is_sampled(self) -> bool:
        """Whether the crystals were generated; else somebody gave them."""
        return self.provenance.get("verb") in ("generate", "predict", "complete")

    def text(self, *, verbose: bool = False) -> str:
        """The best candidates, the funnel and where the files are, in ten lines or so.

        Args:
            verbose: Every share with its protocol, hit rates and times as well.
        """
        asked, sampled = self.asked_for, self.is_sampled
        lines = [
            *brief(self.candidates, self.headline, is_sampled=sampled, asked_for=asked),
            *(hit.text() for hit in self.hits),
            *(self._more() if verbose else ()),
        ]
        if self.folder is not None:
            hint = "" if verbose else " (--verbose: shares, protocol, times)"
            more = [AUDIT] * (self.audit is not None) + [f"{DFT}/"] * self.shortlist.dft_inputs
            lines.append(f"-> {self.folder / TABLE}, {', '.join([REPORT, *more])}{hint}")
        return "\n".join(lines)

    def _more(self) -> Iterator[str]:
        """Shares of the whole set, what the screen cost, and times."""
        yield self.summary().text()
        if self.audit:
            yield self.audit.text()
        if self.hits:
            yield HOW_UNCONDITIONAL
        if self.screening is not None:
            yield self.screening.text()
        yield ", ".join(f"{name} {value:.1f} s" for name, value in self.seconds.items())

    @property
    def required(self) -> Sequence[str]:
        """Checks that come before all others in the ranks."""
        if any(candidate.goal != "discover" for candidate in self.candidates):
            return self.checks
        arguments = self.provenance.get("arguments") or {}
        text = arguments.get("require") if isinstance(arguments, Mapping) else None
        return parse_checks(text) if text else ()

    def with_candidates(self, candidates: Sequence[Candidate]) -> "JudgedSet":
        """Return these judgements with candidates of which more is known, ranked again."""
        return self._with(ranked(candidates, self.required))

    def _with(self, candidates: Sequence[Candidate]) -> "JudgedSet":
        """The judgements of other candidates, whose hits are counted anew."""
        hits = recounted(self.hits, candidates)
        return replace(self, candidates=tuple(candidates), hits=hits, folder=None)
