"""How many crystals are made, and when to stop."""

from dataclasses import dataclass, replace

from mattergen_lite.options.checks import Count, Minutes, Number, Seed, check_fields
from mattergen_lite.options.judge import JudgeOptions

ROUND_SIZE = 64  # samples that are screened together when candidates are asked for
# Share of them that is relaxed, unless another is asked for: of all shares the one that finds most
# in a given time, since a relaxation costs some four times what a screened sample does.
KEEP = 0.3


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Numbers of samples: so many, or until so many candidates pass.

    Attributes:
        num_samples: How many crystals; with --until, how many at a time.
        seed: Same seed, same crystals, whatever the batch size.
        first_sample: Number of the first sample; with num_samples 1, makes one sample again.
        num_candidates: Deliver so many finished candidates instead of judging a number of samples:
            rounds of 64 samples, each screened by the energy of the raw crystal, of which the
            likeliest three in ten (--keep) are relaxed, until so many pass every required check.
        until: Sample on until so many candidates pass every required check.
        max_samples: Where --num-candidates and --until give up.
        time_budget: Minutes after which they begin no further round. A run that it ends depends on
            the machine; without one the same seed gives the same candidates.
    """

    num_samples: Count = 16
    seed: Seed = 0
    first_sample: Number = 0
    num_candidates: Count | None = None
    until: Count | None = None
    max_samples: Count = 1000
    time_budget: Minutes | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        if self.num_candidates is not None and self.until is not None:
            raise ValueError("num-candidates and until ask for the same: expected one of them")

    @property
    def wanted(self) -> int | None:
        """How many candidates have to pass; None if a number of samples was asked for."""
        return self.until if self.num_candidates is None else self.num_candidates

    @property
    def at_once(self) -> int:
        """Samples of a round."""
        return self.num_samples if self.num_candidates is None else ROUND_SIZE

    @property
    def numbers(self) -> range:
        """Numbers of the samples that may be made."""
        if self.num_candidates is not None:
            most = self.max_samples
        elif self.until is not None:
            most = max(self.num_samples, self.max_samples)
        else:
            most = self.num_samples
        return range(self.first_sample, self.first_sample + most)

    def is_met(self, num_passed: int, seconds: float) -> bool:
        """Whether a search ends with so many candidates after so many seconds."""
        if self.wanted is None or num_passed >= self.wanted:
            return True
        return self.time_budget is not None and seconds > 60 * self.time_budget

    def judged(self, judge: JudgeOptions) -> JudgeOptions:
        """How the samples are judged: a search for candidates relaxes the likeliest only."""
        if self.num_candidates is None or not judge.relax or judge.keep is not None:
            return judge
        return replace(judge, keep=KEEP)
