"""Says which candidates come first, and which checks they pass or fail, for each goal."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mattergen_lite.options.judge import DEFAULT_CHECKS, Goal

if TYPE_CHECKING:
    from mattergen_lite.scoring.candidate import Candidate


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """What counts as a success, and the order of candidates.

    Where new crystals are not wanted, samples of one composition compete: the lowest energy is the
    best, and crystals of different space groups are different.
    """

    success: str  # in words
    checks: tuple[str, ...]  # that every relaxed candidate passes or fails
    wants_new: bool
    merit: Callable[["Candidate"], tuple[float | int, ...]]  # sorts the best first


def _likeliest(candidate: "Candidate") -> tuple[float | int, ...]:
    """Fewest failed checks first, radioactive crystals after others, then the likeliest.

    A stability that could not be told counts like a failed check.
    """
    stability = candidate.stability
    probability = stability.probability_metastable if stability else 0.0
    is_unknown = math.isnan(probability)
    likelihood = 0.0 if is_unknown else -probability
    return len(candidate.failed) + is_unknown, "radioactive" in candidate.flags, likelihood


def _lowest(candidate: "Candidate") -> tuple[float | int, ...]:
    """Lowest energy first, as relaxed or else as screened."""
    if candidate.energy is not None:
        return 0, candidate.energy
    screening = candidate.screening
    energy = screening.screening_e_above_hull if screening else math.nan
    return 1, energy if math.isfinite(energy) else math.inf


_ASKED = tuple(check.name for check in DEFAULT_CHECKS if check.needs in (None, "relaxation"))
_DISCOVERY = Ranking(
    success="metastable, unique and novel", checks=_ASKED, wants_new=True, merit=_likeliest
)
_LOWEST_ENERGY = Ranking(
    success="metastable and unique",
    checks=tuple(name for name in _ASKED if name != "novel"),
    wants_new=False,
    merit=_lowest,
)
RANKINGS: dict[Goal, Ranking] = {
    "discover": _DISCOVERY,
    "predict": _LOWEST_ENERGY,
    "complete": _LOWEST_ENERGY,
}
