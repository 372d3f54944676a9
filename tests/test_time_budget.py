"""Time budgets: what is not begun in time is a failure that says so, and nothing waits for it."""

import math
import time
from time import perf_counter

import pytest
from crystals import nacl_primitive, rutile
from pydantic import TypeAdapter

from mattergen_lite.options.budget import Budget
from mattergen_lite.options.judge import JudgeOptions, ShortlistOptions
from mattergen_lite.processes import NO_TIME, Pool
from mattergen_lite.scoring.candidate import Candidate
from mattergen_lite.scoring.energy.stability import Stability
from mattergen_lite.scoring.execution.result_cache import CachedTask, ResultCache
from mattergen_lite.scoring.score import Score
from mattergen_lite.scoring.shortlist_checks import deepen


def question(share):
    return CachedTask(abs, str, TypeAdapter(int), "abs", 60.0, share)


@pytest.mark.parametrize("workers", [0, 1])
def test_nothing_is_begun_after_the_deadline(workers):
    with Pool(workers) as pool:
        late = ResultCache(pool, deadline=perf_counter() - 1, progress=False)
        assert late.ask(question(1.0), [-1, -2]) == [NO_TIME, NO_TIME]
        assert late.ask(question(None), [-1, -2]) == [1, 2]  # cheap checks are always made
        assert late.ask(question(1.0), [-1, -2]) == [1, 2]  # and what is known stays known
        early = ResultCache(pool, deadline=perf_counter() + 60, progress=False)
        assert early.ask(question(1.0), [-3]) == [3]


def test_what_runs_at_the_deadline_is_given_up():
    with Pool(1) as pool:
        limits = {"time_limit": 600.0, "deadline": perf_counter() + 0.5}
        ((_, answer),) = pool.stream(time.sleep, [100.0], **limits)
    assert "no result within" in answer.reason


def test_batches_on_a_device_end_with_the_time():
    with Pool(0) as pool:
        result_cache = ResultCache(pool, deadline=perf_counter() + 0.2, progress=False)

        def together(items):
            for position, item in enumerate(items):
                yield position, abs(item)
                time.sleep(0.3)

        assert result_cache.ask(question(1.0), [-1, -2, -3], together) == [1, 2, NO_TIME]


def test_rounds_hold_as_many_samples_as_the_time_allows():
    budget = Budget(num_candidates=5, time_budget=1.0)
    batches = [[k] * 16 for k in range(12)]
    whole = list(budget.rounds(batches, math.inf))
    assert [len(one) for one in whole] == [64, 64, 64]
    assert [one for part in whole for one in part] == [one for part in batches for one in part]
    assert [len(one) for one in budget.rounds(batches[:1], perf_counter() - 1)] == [16]
    cut = next(budget.rounds(batches, perf_counter() - 1))
    assert len(cut) == 16  # the first batch: a run has something to judge
    assert Budget(num_candidates=5).num_sampled_together == Budget(num_candidates=5).at_once


@pytest.mark.parametrize("seconds_per_sample", [0.1, 0.5, 2.0])
def test_a_slow_machine_samples_fewer_so_that_something_can_be_relaxed(
    monkeypatch, seconds_per_sample
):
    """Cheap checks take up to 1.6 times as long as sampling; a third of the time is left."""
    clock = [0.0]
    monkeypatch.setattr("mattergen_lite.options.budget.perf_counter", lambda: clock[0])
    budget = Budget(num_candidates=4, time_budget=1.2)

    def batches():
        while True:
            clock[0] += seconds_per_sample * budget.num_sampled_together
            yield [0] * budget.num_sampled_together

    left = 40.0  # s of 72 after loading, less what the report takes
    samples = next(budget.rounds(batches(), left))
    judged = clock[0] + 1.6 * clock[0]
    assert len(samples) == {0.1: 64, 0.5: 12, 2.0: 4}[seconds_per_sample]
    assert left - judged >= left / 3 or len(samples) == budget.num_sampled_together


def test_writing_gets_the_time_that_loading_shows_it_needs():
    budget, now = Budget(time_budget=2.0), perf_counter()
    assert budget.deadline(now) == pytest.approx(now + 114, abs=0.1)  # 5% of two minutes
    slow = now - 40  # loading took 40 s, and so does the report
    assert budget.deadline(slow) == pytest.approx(slow + 120 - 40, abs=0.1)
    assert Budget().deadline(slow) == math.inf
    assert Budget(time_budget=1.2).warning(now) == Budget().warning(slow) == ""
    assert Budget(time_budget=1.5).warning(slow) == (
        "time budget: loading took 40 s and the report takes as long, which leaves 10 of 90 s for "
        "sampling and relaxing"
    )


def candidate(energy):
    stability = Stability(e_above_hull=energy, relaxed_with="chgnet")
    return Candidate(
        raw=Score(name=str(energy)),
        structure=nacl_primitive(),
        relaxed_structure=nacl_primitive() if energy < 0.2 else rutile(),
        stability=stability,
    )


def test_curvatures_of_hopeless_crystals_are_not_computed():
    options = ShortlistOptions(bulk_modulus=True)
    with Pool(0) as pool:
        result_cache = ResultCache(pool, progress=False, deadline=perf_counter() - 1)
        low, high = deepen(
            [candidate(0.05), candidate(0.45)],
            options,
            potential=JudgeOptions().relaxer,
            result_cache=result_cache,
            needs_stability=True,
        )
    assert low.elasticity.elasticity_error == NO_TIME.reason  # it was asked for
    assert high.elasticity.elasticity_error == "not computed: more than 0.2 eV/atom above the hull"
