"""Judged crystals in memory: a sequence of candidates, best first, that can be shown and saved.

judged = mattergen_lite.judge(structures)
judged[0].verdict; judged.to_pandas(); judged.save("results")
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, overload

from pydantic import TypeAdapter, ValidationError
from pymatgen.core import Structure

from mattergen_lite.folders import check_finished, claimed
from mattergen_lite.io.records import StructureRecord
from mattergen_lite.options.judge import ShortlistOptions, parse_checks
from mattergen_lite.processes import Pool, available_cores
from mattergen_lite.runs.folder import AUDIT, DFT, TABLE, RunFolder
from mattergen_lite.runs.headline import Headline
from mattergen_lite.runs.report import REPORT
from mattergen_lite.runs.tables import Row
from mattergen_lite.runs.terminal import brief
from mattergen_lite.runs.view import html_table
from mattergen_lite.scoring.candidate import Candidate, ranked
from mattergen_lite.scoring.execution.journal import Journal, read_answers
from mattergen_lite.scoring.execution.stopwatch import Stopwatch
from mattergen_lite.scoring.metrics import summary as sets
from mattergen_lite.scoring.metrics.audit import Audit
from mattergen_lite.scoring.metrics.expectation import Expectation, expectation
from mattergen_lite.scoring.metrics.funnel import Funnel, Stage, funnel, stages
from mattergen_lite.scoring.metrics.hits import HOW_UNCONDITIONAL, HitRate
from mattergen_lite.scoring.metrics.hits import PROTOCOL as HITS_PROTOCOL
from mattergen_lite.scoring.metrics.screening_loss import ScreeningLoss, ScreeningTally
from mattergen_lite.scoring.metrics.summary import Summary

if TYPE_CHECKING:
    import pandas as pd

NUM_IN_HTML = 25

_CANDIDATE = TypeAdapter(Candidate)


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """Checks, provenance, times and figures of a run, beside its crystals.

    Args:
        checks: Names of those that a candidate has to pass.
        reference: Name of the known structures that crystals were compared with.
        provenance: Where the crystals come from and how they were judged.
        seconds: Spent in each stage.
        shortlist: What is done for the best candidates.
        hits: Of every target.
        audit: The whole set beside the known materials; None if nobody asked.
        asked_for: Candidates that were asked for; None if a number of samples was.
        screened: What was screened in a larger set, of which these are the best.
    """

    checks: tuple[str, ...]
    reference: str
    provenance: Mapping[str, object]
    seconds: Mapping[str, float]
    shortlist: ShortlistOptions = field(default_factory=ShortlistOptions)
    hits: tuple[HitRate, ...] = ()
    audit: Audit | None = None
    asked_for: int | None = None
    screened: ScreeningTally | None = None


_FACTS = TypeAdapter(RunFacts)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Judgements(RunFacts, Sequence[Candidate]):
    """Outcome of `judge`, `score` or `generate`: the candidates, best first.

    Args:
        candidates: Best first.
        folder: Where the files are; None if nothing was written.
        journal: What was worked out; None if the folder has it.
    """

    candidates: tuple[Candidate, ...]
    folder: Path | None = None
    journal: Journal | None = None

    def __len__(self) -> int:
        return len(self.candidates)

    @overload
    def __getitem__(self, index: int) -> Candidate: ...

    @overload
    def __getitem__(self, index: slice) -> "Judgements": ...

    def __getitem__(self, index: int | slice) -> "Candidate | Judgements":
        """A candidate, or the judgements of some of them; ranks stay those in the whole set."""
        if isinstance(index, slice):
            return replace(self, candidates=self.candidates[index], folder=None)
        return self.candidates[index]

    def __repr__(self) -> str:
        best = f", best {self.candidates[0].raw.formula}" if self.candidates else ""
        return f"<Judgements: {self.funnel.num_passed} of {len(self)} pass every check{best}>"

    def _repr_html_(self) -> str:
        """The best as a table with pictures, for notebooks."""
        more = len(self) - NUM_IN_HTML
        left_out = f"<p>and {more} more</p>" if more > 0 else ""
        return html_table(self.candidates[:NUM_IN_HTML], repr(self)[1:-1]) + left_out

    def rows(self) -> list[Row]:
        """One row of the table a crystal, best first."""
        return [one.row() for one in self.candidates]

    def to_pandas(self) -> "pd.DataFrame":
        """The table as a DataFrame; every column is explained in the documentation.

        Raises:
            ImportError: If pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError:
            raise ImportError(
                "to_pandas needs pandas: expected `pip install pandas`, or use rows()"
            ) from None
        return pd.DataFrame(self.rows())

    def structures(self) -> list[Structure | None]:
        """The crystals, relaxed where they were, best first; None where one could not be read."""
        return [one.final_structure for one in self.candidates]

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
        return [one for one in self.candidates if one.raw.name in names]

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
            "stages": [one.figures() for one in self.stages],
            "screening": loss and loss.figures(),
            "targets": [one.figures() for one in self.hits],
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
            *(one.text() for one in self.hits),
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

    def records(self) -> list[StructureRecord]:
        """The crystals as they came, for another judgement."""
        return [
            StructureRecord(one.raw.name, one.structure, one.raw.error) for one in self.candidates
        ]

    def answers(self) -> list[str]:
        """Results of all costly steps, as lines of a journal."""
        if self.journal is None and self.folder is not None:
            return list(read_answers(RunFolder(self.folder).answers))
        return [] if self.journal is None else list(self.journal.texts())

    def with_candidates(self, candidates: Sequence[Candidate]) -> "Judgements":
        """Return these judgements with candidates of which more is known, ranked again.

        Args:
            candidates: The same ones, in any order.
        """
        arguments = self.provenance.get("arguments") or {}
        text = arguments.get("require") if isinstance(arguments, Mapping) else None
        is_discovery = all(one.goal == "discover" for one in candidates)
        required = parse_checks(text or ()) if is_discovery else self.checks
        return replace(self, candidates=tuple(ranked(candidates, required)), folder=None)

    # On disk

    def save(
        self, folder: str | Path, *, overwrite: bool = False, num_workers: int | None = None
    ) -> "Judgements":
        """Write the folder that `score --out` or `generate --out` writes.

        Args:
            folder: Made if it does not exist.
            overwrite: Replace an earlier run in it.
            num_workers: Processes that symmetrise; default one a core, 0 works in this process.

        Returns:
            The judgements, with their folder.

        Raises:
            ValueError: If it holds an earlier run, or cannot be written.
        """
        place = RunFolder(Path(folder))
        workers = available_cores() if num_workers is None else num_workers
        with claimed(place.path), Pool(workers) as pool:
            place.check_free(overwrite=overwrite)
            return place.write(self, pool, Stopwatch(dict(self.seconds)))

    def dump(self) -> Iterator[object]:
        """Everything as plain data, exact: what they have in common, then each candidate."""
        facts = RunFacts(**{one.name: getattr(self, one.name) for one in fields(RunFacts)})
        yield _FACTS.dump_python(facts, mode="json")
        for one in self.candidates:
            yield _CANDIDATE.dump_python(one, mode="json")

    @classmethod
    def load(cls, folder: str | Path) -> "Judgements":
        """Bring back the judgements of a finished run.

        Raises:
            ValueError: If the folder holds none, or is damaged.
        """
        place = RunFolder(Path(folder))
        check_finished(place.path)
        facts, *candidates = place.stored()
        try:
            return cls(
                candidates=tuple(_CANDIDATE.validate_python(one) for one in candidates),
                folder=place.path,
                **vars(_FACTS.validate_python(facts)),
            )
        except (ValidationError, TypeError, KeyError):
            raise ValueError(f"{place} is damaged: run it again") from None
