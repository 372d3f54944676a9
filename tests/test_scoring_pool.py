"""The pool loses one item to a crash or a hang, never the others."""

import os
import time

import pytest

from mattergen_lite.scoring.pool import Failure, map_isolated


def misbehave(item: int) -> int:
    if item == 2:
        os._exit(3)
    if item == 4:
        time.sleep(60)
    if item == 6:
        raise ValueError("six is refused")
    print("noise on standard output")
    return item**2


def num_threads(item: int) -> str:
    return os.environ["OMP_NUM_THREADS"]


def test_crash_hang_and_exception_cost_one_item_each():
    results = list(map_isolated(misbehave, range(8), num_workers=2, time_limit=3.0))
    expected = [
        0,
        1,
        Failure("its process died with exit code 3"),
        9,
        Failure("no result within 3 s"),
        25,
        Failure("ValueError: six is refused"),
        49,
    ]
    assert results == expected


def test_workers_use_one_thread():
    assert list(map_isolated(num_threads, range(2), num_workers=2, time_limit=30.0)) == ["1", "1"]


def test_in_process_gives_the_same():
    items = [0, 1, 3, 6]
    alone = list(map_isolated(misbehave, items, num_workers=0, time_limit=30.0))
    assert alone == list(map_isolated(misbehave, items, num_workers=1, time_limit=30.0))


def test_stopping_early_leaves_no_process():
    results = map_isolated(misbehave, range(2), num_workers=1, time_limit=30.0)
    assert next(results) == 0
    results.close()


def test_negative_workers_are_refused():
    with pytest.raises(ValueError, match="num_workers is -1"):
        list(map_isolated(misbehave, [1], num_workers=-1, time_limit=1.0))
