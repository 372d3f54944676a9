"""Apply a function to many items in disposable processes: a crash or a hang costs one item.

`concurrent.futures` loses every pending item when a worker dies and cannot stop one that hangs.
Here each slot owns one worker process, kills it when an item exceeds the time limit and starts
another. Workers are fresh interpreters (nothing is forked, the caller's `__main__` is not imported
again) and use one thread each, so that `num_workers` is the number of cores in use.
"""

import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Timer
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_SERVE = "from mattergen_lite.scoring.pool import serve; serve()"
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


@dataclass(frozen=True)
class Failure:
    """Why an item has no result."""

    reason: str


def attempt(function: Callable[[Item], Result], item: Item) -> Result | Failure:
    """Apply a function; whatever it raises becomes a `Failure`."""
    try:
        return function(item)
    except Exception as error:
        return Failure(f"{type(error).__name__}: {error}")


def serve() -> None:
    """Body of a worker process: read a function, then answer items until the input closes."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a library that prints must not write into the stream of answers
    function = pickle.load(sys.stdin.buffer)
    _send(answers, "ready")
    while True:
        try:
            item = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        _send(answers, attempt(function, item))


def _send(stream: object, message: object) -> None:
    """Write one message at once."""
    pickle.dump(message, stream)
    stream.flush()


class _Worker:
    """One slot: a process that answers one item at a time and is replaced when it dies."""

    def __init__(self, function: Callable[[Item], Result]) -> None:
        self.function = function
        self.process: subprocess.Popen | None = None

    def start(self) -> subprocess.Popen:
        """Launch the process and wait until it has imported what the function needs."""
        path = os.pathsep.join(entry for entry in sys.path if entry)
        environment = {**os.environ, **_ONE_THREAD, "PYTHONPATH": path, "PYTHONWARNINGS": "ignore"}
        process = subprocess.Popen(
            [sys.executable, "-c", _SERVE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
        )
        _send(process.stdin, self.function)
        pickle.load(process.stdout)
        return process

    def ask(self, item: Item, time_limit: float) -> Result | Failure:
        """The function's result for one item, within `time_limit` seconds."""
        if self.process is None or self.process.poll() is not None:
            self.process = self.start()
        timer = Timer(time_limit, self.process.kill)
        timer.start()
        try:
            _send(self.process.stdin, item)
            return pickle.load(self.process.stdout)
        except (EOFError, BrokenPipeError, pickle.UnpicklingError):
            timed_out = not timer.is_alive()
            self.process.wait()
            return Failure(
                f"no result within {time_limit:g} s"
                if timed_out
                else f"its process died with exit code {self.process.returncode}"
            )
        finally:
            timer.cancel()

    def close(self) -> None:
        """End the process."""
        if self.process is not None:
            self.process.kill()
            self.process.communicate()


def map_isolated(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    num_workers: int,
    time_limit: float,
) -> Iterator[Result | Failure]:
    """Results of `function` in the order of `items`, a `Failure` where there is none.

    Args:
        function: A function importable by name, or a `functools.partial` of one.
        items: What to apply it to; items and results must be picklable.
        num_workers: Processes, one thread each. 0 runs in this process, without a time limit.
        time_limit: Seconds an item may take before its process is killed.

    Raises:
        ValueError: If `num_workers` is negative.
    """
    if num_workers < 0:
        raise ValueError(f"num_workers is {num_workers}: expected 0 or more")
    if num_workers == 0:
        yield from (attempt(function, item) for item in items)
        return
    workers = [_Worker(function) for _ in range(num_workers)]
    yield from _dispatch(workers, items, time_limit)


def _dispatch(
    workers: list[_Worker], items: Iterable[Item], time_limit: float
) -> Iterator[Result | Failure]:
    """Hand each item to the next idle worker; yield the answers in order."""
    idle: SimpleQueue[_Worker] = SimpleQueue()
    for worker in workers:
        idle.put(worker)

    def answer(item: Item) -> Result | Failure:
        worker = idle.get()
        try:
            return worker.ask(item, time_limit)
        finally:
            idle.put(worker)

    threads = ThreadPoolExecutor(len(workers))
    try:
        yield from threads.map(answer, items)
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
        for worker in workers:
            worker.close()
