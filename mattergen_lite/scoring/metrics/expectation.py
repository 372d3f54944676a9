"""Estimates the yield of samples from the probabilities that the judge gave them."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from mattergen_lite.scoring.candidate import Candidate
from mattergen_lite.scoring.energy.calibration import UNCALIBRATED
from mattergen_lite.scoring.metrics.landscape import SURE, num_needed


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """The number of samples that DFT would call a success, as a sum of probabilities."""

    what: str  # what counts as a success
    num_samples: int
    expected: float
    std: float  # of the number, if samples succeed independently
    at_least_one: float  # probability that there is a success among these samples
    by: str  # kind of energies: "relaxed", "raw", "relaxed, or else raw", and if "uncalibrated"

    @property
    def rate(self) -> float:
        """Expected successes a sample."""
        return self.expected / self.num_samples if self.num_samples else 0.0

    @property
    def num_more(self) -> int | None:
        """Samples more until at least one success is `SURE`; 0 if it is, None if never."""
        if self.at_least_one >= SURE:
            return 0
        needed = num_needed(self.rate)
        return None if needed is None else max(0, needed - self.num_samples)

    def figures(self) -> dict[str, object]:
        """Fields as plain data."""
        return asdict(self) | {"num_more": self.num_more}

    @property
    def sentence(self) -> str:
        """What can be expected of these samples."""
        return (
            f"expected yield: {self.expected:.1f} ± {self.std:.1f} of {self.num_samples} samples "
            f"{self.what}, by their {self.by} energies"
        )

    def text(self) -> str:
        """One line: what can be expected of these samples, and of how many more."""
        if self.num_more is None:
            return f"{self.sentence}; no number of samples like these would have one"
        if self.num_more == 0:
            return self.sentence
        return (
            f"{self.sentence}; at least one ({SURE:.0%} sure) takes about {self.num_more} samples "
            "more"
        )


def expectation(candidates: Sequence[Candidate]) -> Expectation | None:
    """Expected number of successes; None where no energy is known.

    Relaxed crystals count with the probability after relaxing, what the screen left out with the
    screen's, and what failed a cheaper check or a required target with none.
    """
    chances = [chance(candidate) for candidate in candidates]
    if all(p is None for p in chances):
        return None
    known = [p or 0.0 for p in chances]
    return Expectation(
        what=candidates[0].ranking.success,
        num_samples=len(candidates),
        expected=math.fsum(known),
        std=math.sqrt(math.fsum(p * (1 - p) for p in known)),
        at_least_one=1 - math.prod(1 - p for p in known),
        by=_kind_of_energies(candidates),
    )


def _kind_of_energies(candidates: Sequence[Candidate]) -> str:
    """What the probabilities follow from, in words."""
    if not any(candidate.stability for candidate in candidates):
        return "raw"
    doubt = any(candidate.is_uncalibrated for candidate in candidates)
    relaxed = f"relaxed, {UNCALIBRATED}" if doubt else "relaxed"
    screened_out = any(
        candidate.screening and not candidate.stability and chance(candidate)
        for candidate in candidates
    )
    return f"{relaxed}, or else raw" if screened_out else relaxed


def chance(candidate: Candidate) -> float | None:
    """Probability of being what is wanted; None where nothing is known of its energy."""
    if candidate.stability is not None:
        probability = candidate.stability.probability_metastable
    elif candidate.screening is not None:
        probability = candidate.screening.screening_probability
    else:
        return None
    failed = {"physical", "unique", "novel"}.intersection(candidate.failed)
    if not math.isfinite(probability) or failed or _may_be_known(candidate):
        return 0.0
    return probability


def _may_be_known(candidate: Candidate) -> bool:
    """Whether a crystal is not known to be new, where that is wanted."""
    novelty = candidate.final.novelty
    is_open = novelty is not None and bool(novelty.known_composition or novelty.is_unknown)
    return is_open and candidate.ranking.wants_new
