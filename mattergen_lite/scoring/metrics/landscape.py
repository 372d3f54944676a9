"""Groups relaxed samples into different structures, and estimates how many are missing.

If f of n relaxed samples are structures found once, the next sample is a new one with a chance of
about f / n (Good 1953, Biometrika 40, 237), the criterion of random structure searching (Pickard
and Needs 2011, J. Phys.: Condens. Matter 23, 053201).
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from mattergen_lite.scoring.candidate import Candidate
from mattergen_lite.scoring.score import Score

ENOUGH = 0.05  # chance of something new at which a list counts as complete
SURE = 0.95


@dataclass(frozen=True, kw_only=True)
class Basin:
    """One structure that samples relaxed into."""

    best: Candidate  # of those samples the one of lowest energy
    num_found: int  # samples that ended there, equal ones that were not relaxed again included


@dataclass(frozen=True, kw_only=True)
class Landscape:
    """The structures found, lowest energy above the hull first."""

    basins: tuple[Basin, ...]

    @property
    def num_samples(self) -> int:
        """Samples of which it is known where they end."""
        return sum(basin.num_found for basin in self.basins)

    @property
    def chance_of_new(self) -> float | None:
        """Probability that one more relaxed sample is a structure not seen yet; None of none."""
        if not self.basins:
            return None
        return sum(basin.num_found == 1 for basin in self.basins) / self.num_samples

    @property
    def words_on_chance(self) -> str:
        """Such as "0.08"; without a structure found once "below 0.12", the 95% bound."""
        if self.chance_of_new:
            return f"{self.chance_of_new:.2f}"
        return f"below {1 - (1 - SURE) ** (1 / max(1, self.num_samples)):.2f}"

    @property
    def num_more(self) -> int:
        """Relaxed samples still missing until the chance of something new is `ENOUGH`, about.

        The chance falls with one over the number of samples, as if no structure were rarer than
        those that have been found once.
        """
        chance = self.chance_of_new
        if chance is None:
            return 0
        return math.ceil(self.num_samples * max(0.0, chance / ENOUGH - 1))


def landscape(candidates: Sequence[Candidate]) -> Landscape:
    """Group candidates, best first, by what they relaxed into; by what they are if none did.

    A sample that equals another one as it came was not relaxed: it ends where that one does. What
    equals one known crystal is one structure.
    """
    readable = [candidate for candidate in candidates if candidate.raw.error is None]
    is_relaxed = any(candidate.relaxed is not None for candidate in readable)
    by_name = {candidate.raw.name: candidate for candidate in readable}
    ends: dict[tuple[str, str], list[Candidate]] = {}
    counts: Counter[tuple[str, str]] = Counter()
    for candidate in readable:
        first = by_name.get(_first(candidate.raw), candidate)
        followed = candidate if candidate.relaxed is not None or not is_relaxed else first
        if is_relaxed and (followed.relaxed is None or followed.energy is None):
            continue
        place = _place(by_name.get(_first(followed.final), followed).final)
        counts[place] += 1
        if followed is candidate:
            ends.setdefault(place, []).append(candidate)
    basins = [
        Basin(best=min(group, key=_energy_and_distance), num_found=counts[place])
        for place, group in ends.items()
    ]
    return Landscape(basins=tuple(sorted(basins, key=lambda basin: _energy(basin.best))))


def _energy(candidate: Candidate) -> float:
    """Sorts by energy; what has none keeps its order."""
    return math.inf if candidate.energy is None else candidate.energy


def _energy_and_distance(candidate: Candidate) -> tuple[float, float]:
    """Sorts by energy; what has none by its distance from the known crystal that it equals."""
    novelty = candidate.final.novelty
    distance = novelty.rms_distance if novelty else None
    return _energy(candidate), math.inf if distance is None else distance


def _place(score: Score) -> tuple[str, str]:
    """Where a first of its kind ends: the known crystal that it equals, or itself."""
    known = score.novelty.nearest_known if score.novelty else ""
    return ("known", known) if known else ("new", score.name)


def _first(score: Score) -> str:
    """Name of the first crystal that a crystal equals, maybe its own."""
    return (score.novelty.duplicate_of if score.novelty else "") or score.name


def num_needed(probability: float) -> int | None:
    """Samples until a success of this probability is `SURE`; None where it never comes."""
    if probability <= 0:
        return None
    return 1 if probability >= 1 else math.ceil(math.log(1 - SURE) / math.log(1 - probability))
