"""Options of the number of crystals, and of when to stop."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from math import inf
from time import perf_counter
from typing import TypeVar

from mattergen_lite.options.checks import Count, Minutes, Number, Seed, options
from mattergen_lite.options.judge import JudgeOptions

Sample = TypeVar("Sample")

ROUND_SIZE = 64  # samples that are screened together when candidates are asked for
# Share of them that is relaxed, unless another is asked for: of all shares the one that finds most
# in a given time, since a relaxation costs some four times what a screened sample does.
KEEP = 0.3
WORKING_SHARE = 0.95  # of a time budget, at most: writing takes the rest
# What writing takes, on an idle machine and a busy one alike: the report, as a share of the seconds
# that loading took, and the files of crystals, as a share of those that sampling took.
REPORT_PER_LOADING = 0.7
FILES_PER_SAMPLING = 0.5
SAMPLING_SHARE = 0.3  # of the time left that the samples of a round may take
NUM_UNTIL_A_LOOK = 16  # samples between two looks at the clock


@options
class Budget:
    """A number of samples, or of candidates that have to pass.

    Attributes:
        num_samples: Number of crystals.
        seed: Same seed, same crystals, whatever the batch size.
        first_sample: Number of the first sample; with num_samples 1, makes one sample again.
        num_candidates: Number of finished candidates to deliver, in place of a number of samples.
            Rounds of 64 samples are screened by the energies of the raw crystals, and the likeliest
            three in ten (--keep) are relaxed, until enough pass every required check.
        max_samples: Number of samples after which --num-candidates stops.
        time_budget: Minutes that the run may take, loading and writing included. Every stage stops
            in time, and each row says what was not reached. A run that this ends depends on the
            machine; without it the same seed gives the same candidates.
    """

    num_samples: Count = 16
    seed: Seed = 0
    first_sample: Number = 0
    num_candidates: Count | None = None
    max_samples: Count = 1000
    time_budget: Minutes | None = None

    @property
    def at_once(self) -> int:
        """Samples of a round."""
        return self.num_samples if self.num_candidates is None else ROUND_SIZE

    @property
    def numbers(self) -> range:
        """Numbers of the samples that may be made."""
        most = self.num_samples if self.num_candidates is None else self.max_samples
        return range(self.first_sample, self.first_sample + most)

    def is_met(self, num_passed: int) -> bool:
        """Whether a search ends with this number of candidates."""
        return self.num_candidates is None or num_passed >= self.num_candidates

    def deadline(self, started: float) -> float:
        """Time of `perf_counter` at which a run that is loaded now stops working; inf without one.

        Args:
            started: Time of `perf_counter` at which the run began to load.
        """
        if self.time_budget is None:
            return inf
        seconds = 60 * self.time_budget
        report = REPORT_PER_LOADING * (perf_counter() - started)
        return started + min(WORKING_SHARE * seconds, seconds - report)

    @property
    def num_sampled_together(self) -> int:
        """Samples after which the clock is looked at."""
        return self.at_once if self.time_budget is None else min(self.at_once, NUM_UNTIL_A_LOOK)

    def rounds(self, batches: Iterable[list[Sample]], deadline: float) -> Iterator[list[Sample]]:
        """Put batches of samples together to rounds; one that takes too long ends early.

        Args:
            batches: Of `num_sampled_together` samples each.
            deadline: Time of `perf_counter` at which the run ends.
        """
        batches = iter(batches)
        is_more = True
        while is_more:
            samples: list[Sample] = []
            now = perf_counter()
            last_start = now + SAMPLING_SHARE * (deadline - now)
            while len(samples) < self.at_once and (not samples or perf_counter() < last_start):
                batch = next(batches, None)
                if batch is None:
                    is_more = False
                    break
                samples += batch
            if samples:
                yield samples

    def judged(self, judge: JudgeOptions) -> JudgeOptions:
        """How the samples are judged: a search for candidates relaxes the likeliest only."""
        if self.num_candidates is None or not judge.relax or judge.keep is not None:
            return judge
        return replace(judge, keep=KEEP)
