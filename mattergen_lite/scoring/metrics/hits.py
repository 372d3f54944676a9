"""Counts the samples on target, beside the share of known crystals that are.

A hit rate means little by itself: a third of all known compounds are metals without a gap. The base
rate is the share of training crystals with a known value that meets the very same demand.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from mattergen_lite.data.crystals import CrystalDataset
from mattergen_lite.data.dataset import element_sets
from mattergen_lite.request.targets import PropertyTarget
from mattergen_lite.scoring.candidate import Candidate
from mattergen_lite.scoring.computed_properties import CONFIRMING, is_met, is_within
from mattergen_lite.scoring.property_result import PropertyResult

EVERY = "all targets"  # at once
HOW_UNCONDITIONAL = "for the rate of samples without targets: the same command with --guidance 0"
PROTOCOL = {
    "rate": "share of the samples on which the property can be measured that are on target: "
    "within the range, of the category, or within the tolerance of `scoring.computed_properties`",
    "num_confirmed": "of these, relaxed samples whose value is by a method that does not guide",
    "num_guide_hits": "of the confirmed samples, those that the guiding regression has on target",
    "base_rate": "share of MP-20's training split with a known value that meets the same demand",
}

Met = bool | None  # None where it is not known


@dataclass(frozen=True, kw_only=True)
class HitRate:
    """Hits of one target, or of all of them at once, among samples and training crystals."""

    target: str  # name of the property, or `EVERY`
    num_measured: int  # samples on which it can be measured or predicted
    num_hits: int
    num_known: int  # training crystals with a known value
    num_known_hits: int
    num_confirmed: int = 0  # samples whose value is by a method that does not guide
    num_confirmed_hits: int = 0
    num_guide_hits: int = 0  # of the confirmed samples, as the guide alone has it

    @property
    def rate(self) -> float | None:
        """Share of the measured samples; None if there are none."""
        return self.num_hits / self.num_measured if self.num_measured else None

    @property
    def base_rate(self) -> float | None:
        """Share of the training crystals; None if none has a value."""
        return self.num_known_hits / self.num_known if self.num_known else None

    def text(self) -> str:
        """One line: "band_gap on target: 12 of 60 measured or predicted (20.0%); ..."."""
        told = f"{self.num_hits} of {self.num_measured} measured or predicted"
        known = "no value in MP-20's training split to compare with"
        if self.num_known:
            known = f"{_percent(self.base_rate)} of {self.num_known:,} in MP-20's training split"
        return f"{self.target} on target: {told} ({_percent(self.rate)}){self._check}; {known}"

    @property
    def _check(self) -> str:
        """What confirmation makes of the guide's hits."""
        if not self.num_confirmed:
            return ""
        return (
            f"; of {self.num_confirmed} that are confirmed or refuted "
            f"{self.num_confirmed_hits} are, by the guide alone {self.num_guide_hits}"
        )

    def figures(self) -> dict[str, str | int | float | None]:
        """Fields as plain data."""
        return vars(self) | {"rate": self.rate, "base_rate": self.base_rate}


def _percent(share: float | None) -> str:
    return "unknown" if share is None else f"{share:.1%}"


def hit_rates(
    candidates: Sequence[Candidate], targets: Sequence[PropertyTarget], training: CrystalDataset
) -> tuple[HitRate, ...]:
    """Hits of every target and, of several, of all at once."""
    names = [target.definition.name for target in targets]
    known = [known_hits(target, training) for target in targets]
    if len(targets) > 1:
        names, known = [*names, EVERY], [*known, at_once(known)]
    rates = [
        HitRate(
            target=name,
            num_measured=0,
            num_hits=0,
            num_known=len(column) - column.count(None),
            num_known_hits=column.count(True),
        )
        for name, column in zip(names, known, strict=True)
    ]
    return recounted(rates, candidates)


def recounted(rates: Sequence[HitRate], candidates: Sequence[Candidate]) -> tuple[HitRate, ...]:
    """The same targets' hits among other candidates, or among those of which more is known."""
    names = [rate.target for rate in rates if rate.target != EVERY]
    methods = (lambda outcome: outcome.on_target, _confirmed_hit, _guide_hit)
    columns = [[_column(candidates, name, met) for name in names] for met in methods]
    columns = [[*column, at_once(column)] for column in columns]
    return tuple(
        replace(
            rate,
            num_measured=len(sampled) - sampled.count(None),
            num_hits=sampled.count(True),
            num_confirmed=len(checked) - checked.count(None),
            num_confirmed_hits=checked.count(True),
            num_guide_hits=guided.count(True),
        )
        for rate, sampled, checked, guided in zip(rates, *columns, strict=False)
    )


def _column(
    candidates: Sequence[Candidate], name: str, met: Callable[[PropertyResult], Met]
) -> list[Met]:
    """Whether each candidate meets a target; None where it has no such outcome."""
    outcomes = [{outcome.property: met(outcome) for outcome in c.outcomes} for c in candidates]
    return [by_name.get(name) for by_name in outcomes]


def _is_confirmed(outcome: PropertyResult) -> bool:
    """Whether a method that does not guide has the value, beside the guide's."""
    return outcome.guide is not None and outcome.method in (*CONFIRMING, "DFT")


def _confirmed_hit(outcome: PropertyResult) -> Met:
    return outcome.on_target if _is_confirmed(outcome) else None


def _guide_hit(outcome: PropertyResult) -> Met:
    """Whether the guide has a confirmed sample on target; outside its domain it has not."""
    if not _is_confirmed(outcome):
        return None
    said = outcome.guide.value if outcome.guide.is_inside else math.nan
    return is_within(outcome.property, outcome.bounds, outcome.target, said)


def known_hits(target: PropertyTarget, crystals: CrystalDataset) -> list[Met]:
    """Whether each crystal of a dataset is what is asked for; None where it has no value."""
    prop = target.definition
    if prop.kind == "elements":
        values = element_sets(crystals.crystals(torch.arange(len(crystals))).atomic_numbers)
    else:
        values = crystals.columns.get(prop.name, torch.full((len(crystals),), torch.nan))
    asked = target.cell(target.draw(torch.Generator().manual_seed(0)))
    return [
        None if value.isnan().any() else is_met(target, asked, target.cell(_typed(target, value)))
        for value in values
    ]


def _typed(target: PropertyTarget, value: torch.Tensor) -> torch.Tensor:
    """Categories are whole numbers, which columns hold as floats."""
    return value.long() if target.definition.kind == "category" else value


def at_once(columns: Sequence[Sequence[Met]]) -> list[Met]:
    """Whether all demands are met; None where one is not known."""
    return [None if None in row else all(row) for row in zip(*columns, strict=True)]
