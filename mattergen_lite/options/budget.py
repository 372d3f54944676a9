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
REPORT_PER_LOADING = 1.0
FILES_PER_SAMPLING = 0.5
# Of the time left, what the samples of a round may take. Cheap checks and comparisons, which are
# always made, take up to 1.6 times that; screening and relaxing have the rest.
SAMPLING_SHARE = 0.2
NUM_UNTIL_A_LOOK = 16  # samples between two looks at the clock
NUM_UNTIL_A_LOOK_IF_SHORT = 4  # likewise, if the budget is short: 16 can take half of a minute
SHORT = 5.0  # minutes


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

    def warning(self, started: float) -> str:
        """A line for a budget of which loading and writing leave less than a third; else empty."""
        left = self.deadline(started) - perf_counter()
        if self.time_budget is None or left > 20 * self.time_budget:
            return ""
        return (
            f"time budget: loading took {perf_counter() - started:.0f} s and the report takes as "
            f"long, which leaves {max(left, 0):.0f} of {60 * self.time_budget:.0f} s for sampling "
            "and relaxing"
        )

    @property
    def num_sampled_together(self) -> int:
        """Samples after which the clock is looked at."""
        if self.time_budget is None:
            return self.at_once
        is_short = self.time_budget < SHORT
        return min(self.at_once, NUM_UNTIL_A_LOOK_IF_SHORT if is_short else NUM_UNTIL_A_LOOK)

    def rounds(self, batches: Iterable[list[Sample]], deadline: float) -> Iterator[list[Sample]]:
        """Put batches of samples together to rounds.

        A round ends early where its next batch, taken to last as long as the one before, would
        end late. The first batch is always made: a run has something to judge.

        Args:
            batches: Of `num_sampled_together` samples each.
            deadline: Time of `perf_counter` at which the run ends.
        """
        batches = iter(batches)
        is_more = True
        while is_more:
            samples: list[Sample] = []
            now = perf_counter()
            end, seconds = now + SAMPLING_SHARE * (deadline - now), 0.0
            while len(samples) < self.at_once and (not samples or now + seconds < end):
                batch = next(batches, None)
                now, seconds = perf_counter(), perf_counter() - now
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
