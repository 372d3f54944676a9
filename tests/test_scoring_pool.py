"""The pool loses one item to a crash or a hang, never the others."""

import os
import sys
import time
from importlib import import_module
from pathlib import Path

import pytest
from crystals import nacl

from mattergen_lite.io.records import StructureRecord
from mattergen_lite.options.judge import JudgeOptions
from mattergen_lite.processes import Failure, Pool
from mattergen_lite.scoring import potential_runner
from mattergen_lite.scoring import score as scoring
from mattergen_lite.scoring.energy.potential_set import PotentialSet
from mattergen_lite.scoring.execution.result_cache import ResultCache


def misbehave(item: int) -> int:
    if item == 2:
        os._exit(3)
    if item == 4:
        time.sleep(60)
    if item == 6:
        raise ValueError("six is refused")
    print("noise on standard output")
    return item**2


def die_once(item: str) -> str:
    marker = Path(item)
    if not marker.exists():
        marker.touch()
        os._exit(1)
    return "alive"


def wait(item: float) -> float:
    time.sleep(item)
    return item


def is_imported(item: str) -> bool:
    return item in sys.modules


def num_threads(item: int) -> str:
    return os.environ["OMP_NUM_THREADS"]


def process_id(item: int) -> int:
    return os.getpid()


def test_crash_hang_and_exception_cost_one_item_each():
    with Pool(2) as pool:
        results = list(pool.map(misbehave, range(8), time_limit=3.0))
    assert results == [
        0,
        1,
        Failure("its process died with exit code 3"),
        9,
        Failure("no result within 3 s"),
        25,
        Failure("ValueError: six is refused"),
        49,
    ]


def test_an_item_whose_process_dies_gets_a_second_one(tmp_path):
    with Pool(1) as pool:
        assert list(pool.map(die_once, [str(tmp_path / "marker")], time_limit=30.0)) == ["alive"]


def test_workers_use_one_thread_and_are_reused():
    with Pool(2) as pool:
        assert list(pool.map(num_threads, range(2), time_limit=30.0)) == ["1", "1"]
        first = {*pool.map(process_id, range(8), time_limit=30.0)}
        second = {*pool.map(process_id, range(8), time_limit=30.0)}
    assert len(first | second) <= 2
    assert os.getpid() not in first


def test_in_process_gives_the_same():
    items = [0, 1, 3, 6]
    with Pool(0) as here, Pool(1) as elsewhere:
        assert [*here.map(misbehave, items, time_limit=30.0)] == [
            *elsewhere.map(misbehave, items, time_limit=30.0)
        ]


def test_stopping_early_leaves_no_process():
    with Pool(1) as pool:
        results = pool.map(process_id, range(1000), time_limit=30.0)
        worker = next(results)
        results.close()
    with pytest.raises(ProcessLookupError):
        os.kill(worker, 0)


def test_results_come_as_they_are_ready():
    with Pool(2) as pool:
        order = [index for index, _ in pool.stream(wait, [1.0, 0.0, 0.0], time_limit=30.0)]
    assert sorted(order) == [0, 1, 2]
    assert order[-1] == 0


def test_preloaded_workers_have_imported_the_module():
    with Pool(1, preload="colorsys") as pool:
        assert list(pool.map(is_imported, ["colorsys", "chunk"], time_limit=30.0)) == [True, False]


def take_memory(item: int) -> int:
    return len(bytearray(item))


def test_memory_is_limited():
    with Pool(1) as pool:
        small, large = pool.map(take_memory, [1000, 2**30], time_limit=30.0, memory_limit=2**29)
    assert small == 1000
    assert large == Failure("needs more memory than a process may take")


def spin(item: object, **options: object) -> None:
    while True:
        pass


def test_judging_and_relaxing_are_given_up_in_time(monkeypatch):
    """As parsing is, see test_cli.py; the memory of each is that of every item of a pool."""
    monkeypatch.setattr(scoring, "score_record", spin)
    monkeypatch.setattr(potential_runner, "find_relaxation", spin)
    potential_set = PotentialSet.of(JudgeOptions(potential="chgnet", second_opinion=None))
    with Pool(0) as pool:
        asked = {"result_cache": ResultCache(pool), "time_limit": 0.2}
        (judged,) = scoring.score_each([StructureRecord("salt", nacl())], **asked)
        (measured,) = potential_runner.PotentialRunner(
            potential_set=potential_set, **asked
        ).measure([nacl()])
    assert judged.error == measured.relaxation.error == "no result within 0.2 s"


@pytest.mark.parametrize("preload", [None, "smact"])
def test_nothing_is_imported_from_the_current_folder(tmp_path, monkeypatch, preload):
    """A data set may come with a smact.py: it must not run when crystals beside it are judged."""
    for name in ("smact", "pickle", "torch", "colorsys"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), "", *sys.path])
    with Pool(1, preload=preload) as pool:
        (found,) = pool.map(place_of, ["colorsys"], time_limit=60.0)
    assert not (tmp_path / "ran").exists()
    assert not found.startswith(str(tmp_path))


def place_of(module: str) -> str:
    return import_module(module).__file__


def test_negative_workers_are_refused():
    with pytest.raises(ValueError, match="num_workers is -1"):
        Pool(-1)
