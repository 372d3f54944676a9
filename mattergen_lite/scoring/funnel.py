"""From many to few: how many candidates pass each check and all before it."""

from collections.abc import Sequence
from dataclasses import dataclass

from mattergen_lite.scoring.candidate import CHECKS, Candidate


@dataclass(frozen=True, kw_only=True)
class Funnel:
    """Counts of what is left after each check, in the order of cost."""

    num_sampled: int
    left: dict[str, int]  # check -> candidates that pass it and every one before
    passed: tuple[str, ...] | None = None  # their names; None where only counts were kept

    @property
    def num_passed(self) -> int:
        """Candidates that pass every required check."""
        return min(self.left.values(), default=self.num_sampled)

    @property
    def hit_rate(self) -> float:
        """Share of all samples that pass everything."""
        return self.num_passed / self.num_sampled if self.num_sampled else 0.0

    def text(self) -> str:
        """One line: "64 sampled -> 60 physical -> 47 neutral (73%)"."""
        steps = [f"{self.num_sampled} sampled", *(f"{n} {name}" for name, n in self.left.items())]
        return f"{' -> '.join(steps)} ({self.hit_rate:.1%})"


def funnel(candidates: Sequence[Candidate], required: Sequence[str]) -> Funnel:
    """Count the candidates that pass the required checks, one after the other.

    A check that was not made lets nothing through: what is required must have been seen.
    """
    left, remaining = {}, list(candidates)
    for name in (name for name in CHECKS if name in required):
        remaining = [one for one in remaining if one.checks.get(name, False)]
        left[name] = len(remaining)
    names = tuple(one.raw.name for one in remaining)
    return Funnel(num_sampled=len(candidates), left=left, passed=names)


def parse_required(text: str) -> tuple[str, ...]:
    """Checks from text such as "neutral,novel".

    Raises:
        ValueError: For an unknown check.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    if unknown := [name for name in names if name not in CHECKS]:
        raise ValueError(f"unknown check {unknown[0]!r}: expected some of {', '.join(CHECKS)}")
    return tuple(names)
