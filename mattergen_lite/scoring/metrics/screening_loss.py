"""Estimates what a screen lost, from rejected crystals that were relaxed as controls."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from mattergen_lite.scoring.candidate import Candidate


@dataclass(frozen=True, kw_only=True)
class ScreeningLoss:
    """What was found among the kept, and what the controls say was lost with the rest."""

    num_screened: int
    num_kept: int
    num_controls: int
    expected_kept: float  # sum of probabilities of being metastable, among the kept
    expected_lost: float  # past the cut, estimated from the controls
    expected_lost_std: float  # standard error of that; NaN with fewer than two controls
    predicted_kept: float  # sum of the screen's own probabilities, among the kept

    @property
    def share_lost(self) -> float | None:
        """Estimated share of all that the cut loses; None if nothing was found."""
        total = self.expected_kept + self.expected_lost
        return self.expected_lost / total if total else None

    @property
    def share_lost_std(self) -> float | None:
        """Standard error of that share, for `expected_kept` as it is."""
        total = self.expected_kept + self.expected_lost
        return self.expected_kept * self.expected_lost_std / total**2 if total else None

    def figures(self) -> dict[str, object]:
        """Its numbers as plain data."""
        return asdict(self) | {
            "share_lost": self.share_lost,
            "share_lost_std": self.share_lost_std,
        }

    def text(self) -> str:
        """One line for a terminal."""
        return (
            f"screened {self.num_screened}: {self.num_kept} kept with {self.expected_kept:.1f} "
            f"expected metastable; past the cut {self.expected_lost:.1f} ± "
            f"{self.expected_lost_std:.1f}, by {self.num_controls} relaxed at random"
        )


@dataclass(frozen=True, kw_only=True)
class ScreeningTally:
    """Counts and sums of screened crystals; those of two sets add up."""

    num_kept: int = 0
    num_controls: int = 0
    num_rejected: int = 0
    kept: float = 0.0  # sum of probabilities of being metastable
    controls: float = 0.0  # likewise
    controls_squared: float = 0.0  # sum of their squares
    predicted: float = 0.0  # sum of the screen's own probabilities of the kept

    @classmethod
    def of(cls, candidates: Sequence[Candidate]) -> "ScreeningTally":
        """Count candidates; those that were not screened do not count."""

        def chances(decision: str) -> list[float]:
            chosen = [candidate for candidate in candidates if _decision(candidate) == decision]
            return [
                0.0 if candidate.stability is None else _chance(candidate) for candidate in chosen
            ]

        kept, controls = chances("keep"), chances("control")
        return cls(
            num_kept=len(kept),
            num_controls=len(controls),
            num_rejected=len(chances("reject")),
            kept=math.fsum(kept),
            controls=math.fsum(controls),
            controls_squared=math.fsum(chance**2 for chance in controls),
            predicted=math.fsum(
                candidate.screening.screening_probability
                for candidate in candidates
                if candidate.screening is not None and _decision(candidate) == "keep"
            ),
        )

    def __add__(self, other: "ScreeningTally") -> "ScreeningTally":
        mine, theirs = asdict(self), asdict(other)
        return ScreeningTally(**{name: mine[name] + theirs[name] for name in mine})

    def loss(self) -> ScreeningLoss | None:
        """Estimate the loss: what the controls hold, times what was cut for each of them.

        None if nothing was screened.
        """
        past, number = self.num_controls + self.num_rejected, self.num_controls
        if not self.num_kept + past:
            return None
        mean = self.controls / max(number, 1)
        error = math.nan
        if number > 1:
            variance = max(self.controls_squared - number * mean**2, 0.0) / (number - 1)
            error = math.sqrt(variance / number)
        return ScreeningLoss(
            num_screened=self.num_kept + past,
            num_kept=self.num_kept,
            num_controls=number,
            expected_kept=self.kept,
            expected_lost=past * mean,
            expected_lost_std=past * error,
            predicted_kept=self.predicted,
        )


def _decision(candidate: Candidate) -> str | None:
    """What the screen decided; None if it was not asked."""
    return None if candidate.screening is None else candidate.screening.screening_decision


def _chance(candidate: Candidate) -> float:
    """Probability of being metastable; 0 where there is none."""
    return float(np.nan_to_num(candidate.stability.probability_metastable))
