"""Sums up a run in six figures, for the report and the terminal."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

from mattergen_lite.options.request import Request
from mattergen_lite.scoring.candidate import Candidate
from mattergen_lite.scoring.energy.calibration import UNCALIBRATED
from mattergen_lite.scoring.metrics.funnel import Funnel
from mattergen_lite.scoring.metrics.summary import is_unique_and_novel

_NUMBERS = ("num_candidates", "num_samples", "source")
_NOT_ASKED = ("checkpoint", "stability_guidance")  # how, rather than what


@dataclass(frozen=True, kw_only=True)
class Headline:
    """Six figures of a run."""

    asked: str  # such as "8 samples, elements Li,P,S"
    num_delivered: int  # candidates that pass every required check
    num_wanted: int | None  # candidates that were asked for; None if a number of samples was
    num_systems: int  # chemical systems of the delivered candidates
    expected_msun: float | None  # metastable, unique, novel crystals; None if nothing was relaxed
    best: str  # the first in rank, with its energy above the hull where it has one
    left: Mapping[str, int]  # crystals at first, "sampled" or "given", and after each check
    seconds: float  # of the whole run
    is_calibrated: bool  # whether the errors of the deciding potential are known

    @property
    def num_all(self) -> int:
        """Crystals before any check."""
        return next(iter(self.left.values()))

    @property
    def wanted(self) -> str:
        """How many candidates were asked for, in brackets; empty if a number of samples was."""
        return "" if self.num_wanted is None else f" ({self.num_wanted} asked)"

    @classmethod
    def of(
        cls,
        candidates: Sequence[Candidate],
        funnel: Funnel,
        *,
        arguments: Mapping[str, object],
        seconds: Mapping[str, float],
        is_sampled: bool,
        asked_for: int | None = None,
    ) -> "Headline":
        """Figures of judged candidates, best first; arguments as in the record of the run."""
        names = set(funnel.passed or ())
        passed = [candidate for candidate in candidates if candidate.raw.name in names]
        return cls(
            asked=_asked(arguments),
            num_delivered=funnel.num_passed,
            num_wanted=asked_for,
            num_systems=len({candidate.raw.chemical_system for candidate in passed}),
            expected_msun=_expected_msun(candidates),
            best=_best(candidates),
            left={"sampled" if is_sampled else "given": funnel.num_sampled, **funnel.left},
            seconds=float(sum(seconds.values())),
            is_calibrated=not any(candidate.is_uncalibrated for candidate in candidates),
        )

    def figures(self) -> list[dict[str, str]]:
        """Label, value and remark of each, as text."""
        first, *others = self.left.items()
        share = self.num_delivered / self.num_all if self.num_all else 0
        doubt = "" if self.is_calibrated else f"; {UNCALIBRATED}"
        msun = "not judged" if self.expected_msun is None else f"{self.expected_msun:.1f}"
        odds = f"metastable, unique and novel: the sum of their probabilities{doubt}"
        delivered = f"{share:.0%} of all pass every required check"
        name, energy = self.best.partition(", ")[::2]
        told = (
            (f"Delivered{self.wanted}", str(self.num_delivered), delivered),
            (first[0].capitalize(), str(first[1]), _left(first, others)),
            ("Expected M.S.U.N.", msun, odds),
            ("Best", name, energy),
            ("Chemical systems", str(self.num_systems), "different ones among the delivered"),
            ("Time", duration(self.seconds), "all stages together"),
        )
        return [dict(zip(("label", "value", "more"), cells, strict=True)) for cells in told]


def _left(first: tuple[str, int], others: Sequence[tuple[str, int]]) -> str:
    """Crystals after each check that took some away; the last number stands elsewhere."""
    before, steps = first[1], []
    for name, count in others[:-1]:
        if count != before:
            steps.append(f"{count} {name.replace('_', ' ')}")
        before = count
    return f"then {', '.join(steps)}" if steps else "before any check"


def duration(seconds: float) -> str:
    """Seconds as a person says them: 42 s, 3.5 min, 2.1 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _asked(arguments: Mapping[str, object]) -> str:
    """Number first, then what was asked of every sample, as options."""
    defaults = {
        option.name: option.default for option in fields(Request) if option.name not in _NOT_ASKED
    }
    numbers = [name for name in _NUMBERS if arguments.get(name) is not None][:1]
    asked = [
        name
        for name, default in defaults.items()
        if arguments.get(name) not in (None, default, [], ())
    ]
    return ", ".join(_option(name, arguments[name]) for name in (*numbers, *asked))


def _option(name: str, value: object) -> str:
    told = {
        "num_samples": f"{value} samples",
        "num_candidates": f"{value} candidates",
        "source": f"the crystals of {value}",
    }
    if name in told:
        return told[name]
    words = " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return name.replace("_", " ") if value is True else f"{name.replace('_', ' ')} {words}"


def _expected_msun(candidates: Sequence[Candidate]) -> float | None:
    judged = [candidate for candidate in candidates if candidate.stability]
    if not judged:
        return None
    odds = [
        candidate.stability.probability_metastable
        for candidate in judged
        if is_unique_and_novel(candidate.final)
    ]
    return float(sum(p for p in odds if p == p))  # NaN where stability is unknown


def _best(candidates: Sequence[Candidate]) -> str:
    """The first in rank; the lowest energy may belong to one that fails a check."""
    if not candidates or candidates[0].raw.error is not None:
        return "none"
    first = candidates[0]
    stability = first.stability
    if stability is None or stability.stability_error is not None:
        return first.raw.formula
    return f"{first.raw.formula}, {stability.stated_energy} above the hull"
