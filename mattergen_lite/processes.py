"""Apply a function to many items in disposable processes: a crash or a hang costs one item.

Each slot owns one worker process, kills it when an item exceeds the time limit and starts another;
an item whose process dies gets a second one. `concurrent.futures` can do neither. Workers are fresh
interpreters of one thread, so that `num_workers` is the number of cores in use. They import nothing
from the current folder, in which a stranger's data may lie, and may take only so much memory, where
the system can limit it (Windows cannot, macOS does not).
"""

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from math import inf
from pathlib import Path
from queue import LifoQueue
from threading import Timer, current_thread, main_thread
from time import perf_counter
from types import FrameType
from typing import IO, TypeVar

try:
    import resource
except ImportError:  # Windows
    resource = None

Item = TypeVar("Item")
Result = TypeVar("Result")

MEMORY_LIMIT = 8 * 2**30  # bytes that a worker may allocate
SAFE_PATH = "PYTHONSAFEPATH"  # variable that keeps the current folder off Python's path

_SERVE = "from mattergen_lite.processes import serve; serve()"
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")

_QUIET = {"PYTHONWARNINGS": "ignore", "SPGLIB_WARNING": "OFF"}  # or progress bars would be torn


@dataclass(frozen=True)
class Failure:
    """Why an item has no result."""

    reason: str
    died: bool = field(default=False, compare=False)  # with its process, not out of time


NO_TIME = Failure("the time budget is spent")


def attempt(function: Callable[[Item], Result], item: Item) -> Result | Failure:
    """Apply a function; whatever it raises becomes a `Failure`."""
    try:
        return function(item)
    except MemoryError:
        return Failure("needs more memory than a process may take")
    except Exception as error:
        return Failure(f"{type(error).__name__}: {error}")


class OutOfTime(BaseException):
    """Ends what takes too long in this process; no `except Exception` of a library stops it."""


def attempt_within(
    function: Callable[[Item], Result], item: Item, *, time_limit: float, memory_limit: int
) -> Result | Failure:
    """Apply a function in this process, within bounds as far as the system can set them.

    Compiled code that never returns cannot be stopped here, nor anything outside the main thread:
    for that there are processes of their own.
    """
    try:
        with alarm(time_limit), room_for(memory_limit):
            return attempt(function, item)
    except OutOfTime:
        return Failure(f"no result within {time_limit:g} s")


@contextmanager
def alarm(seconds: float) -> Iterator[None]:
    """Raise `OutOfTime` after a time, and again each second, should it be swallowed."""
    if current_thread() is not main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    def ring(number: int, frame: FrameType | None) -> None:
        raise OutOfTime

    handler = signal.signal(signal.SIGALRM, ring)
    earlier = signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, *earlier)
        signal.signal(signal.SIGALRM, handler)


@contextmanager
def room_for(num_bytes: int) -> Iterator[None]:
    """Let this process allocate a number of bytes more, where the system tells what it has."""
    statistics = Path("/proc/self/statm")
    if resource is None or not statistics.exists():
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    held = int(statistics.read_text().split()[5]) * resource.getpagesize()
    bounds = [
        held + num_bytes,
        *(limit for limit in (soft, hard) if limit != resource.RLIM_INFINITY),
    ]
    resource.setrlimit(resource.RLIMIT_DATA, (min(bounds), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def serve() -> None:
    """Body of a worker process: answer messages until the input closes.

    A message is `(True, (function, memory limit))`, what to apply from now on, or `(False, item)`.
    """
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a library that prints must not write into the stream of answers
    for module in sys.argv[1:]:
        import_module(module)
    function: Callable | None = None
    while True:
        try:
            is_function, content = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        if is_function:
            function, memory_limit = content
            limit_memory(memory_limit)
        _send(answers, None if is_function else attempt(function, content))


def limit_memory(num_bytes: int) -> None:
    """Let this process allocate a number of bytes and no more, or less if a hard limit is lower.

    Windows has no such limit, and the time limit alone stops a process there.
    """
    if resource is None:
        return
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    soft = num_bytes if hard == resource.RLIM_INFINITY else min(num_bytes, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def peak_memory() -> int | None:
    """Most bytes that this process has held at once; None where the system does not say."""
    if resource is None:
        return None
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux kibibytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _send(stream: IO[bytes], message: object) -> None:
    pickle.dump(message, stream)
    stream.flush()


class _Worker:
    """One slot: a process that answers one item at a time and is replaced when it dies."""

    def __init__(self, preload: str | None) -> None:
        self.preload = preload
        self.process = _start_process(preload) if preload else None
        self.function: Callable | None = None
        self.memory_limit = 0

    def prepare(self, function: Callable, memory_limit: int) -> None:
        """Have a living process that has imported the function; takes as long as it takes."""
        if self.process is None or self.process.poll() is not None:
            self.process, self.function = _start_process(self.preload), None
        if function is not self.function or memory_limit != self.memory_limit:
            _send(self.process.stdin, (True, (function, memory_limit)))
            pickle.load(self.process.stdout)
            self.function, self.memory_limit = function, memory_limit

    def ask(self, item: Item, time_limit: float) -> Result | Failure:
        """The function's result for one item, within `time_limit` seconds."""
        timer = Timer(time_limit, self.kill)
        timer.start()
        try:
            _send(self.process.stdin, (False, item))
            return pickle.load(self.process.stdout)
        except (EOFError, BrokenPipeError, pickle.UnpicklingError):
            timed_out = not timer.is_alive()
            exit_code = self.process.wait()
            if timed_out:
                return Failure(f"no result within {time_limit:g} s")
            return Failure(f"its process died with exit code {exit_code}", died=True)
        finally:
            timer.cancel()

    def kill(self) -> None:
        """End the process and what it has started; who waits for its answer gets a failure."""
        if self.process is not None and self.process.poll() is None:
            end_group(self.process)

    def close(self) -> None:
        """End the process."""
        self.kill()
        if self.process is not None:
            self.process.communicate()


def end_group(process: subprocess.Popen) -> None:
    """Kill a process that leads a session of its own, and what it has started."""
    if hasattr(os, "killpg"):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    else:  # Windows
        process.kill()


def module_path() -> list[str]:
    """Where workers import from: where this process does, but for the current folder.

    The folder of this package stays, even if it is the current one.
    """
    package = Path(__file__).parents[1]
    try:
        here = Path.cwd()
    except OSError:  # it has been removed
        here = None
    return [
        entry for entry in sys.path if entry and (Path(entry) != here or Path(entry) == package)
    ]


@contextmanager
def without_current_folder() -> Iterator[None]:
    """Leave the current folder out of Python's path."""
    before = sys.path
    sys.path = module_path()
    try:
        yield
    finally:
        sys.path = before


def worker_environment() -> dict[str, str]:
    """Variables of a process of one thread that imports from where this one does."""
    path = os.pathsep.join(str(Path(entry).absolute()) for entry in module_path())
    return {**os.environ, **_ONE_THREAD, **_QUIET, "PYTHONPATH": path}


def _start_process(preload: str | None) -> subprocess.Popen:
    """A fresh interpreter that serves; an interrupt from the keyboard is the caller's affair."""
    command = [sys.executable, "-P", "-c", _SERVE, *([preload] if preload else [])]
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, stdin=pipe, stdout=pipe, env=worker_environment(), start_new_session=True
    )


def available_cores() -> int:
    """Cores this process may use (a batch system may grant fewer than the machine has)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class _Clock:
    """Time that an item may take, and when the last one may begin and end, by `perf_counter`."""

    time_limit: float
    last_start: float
    deadline: float

    def is_over(self) -> bool:
        """Whether no item may begin any more."""
        return perf_counter() >= self.last_start

    def seconds_left(self) -> float:
        """Seconds that an item which begins now may take, more than none."""
        return max(min(self.time_limit, self.deadline - perf_counter()), 1e-3)


def _attempt_in_time(
    function: Callable[[Item], Result], item: Item, *, clock: _Clock, memory_limit: int
) -> Result | Failure:
    """Apply a function in this process if there is time for it."""
    if clock.is_over():
        return NO_TIME
    left = clock.seconds_left()
    return attempt_within(function, item, time_limit=left, memory_limit=memory_limit)


class Pool:
    """Worker processes of one thread each, started when first needed.

    Args:
        num_workers: Processes; 0 runs everything in this process, where
            limits hold as far as `attempt_within` can set them.
        preload: Module that the workers import right away, before there is anything to do.

    Raises:
        ValueError: If `num_workers` is negative.
    """

    def __init__(self, num_workers: int, preload: str | None = None) -> None:
        if num_workers < 0:
            raise ValueError(f"num_workers is {num_workers}: expected 0 or more")
        early = available_cores()  # more at once would only make the first ones late
        self._workers = [_Worker(preload if slot < early else None) for slot in range(num_workers)]
        self._is_interrupted = False

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, *exception: object) -> None:
        for worker in self._workers:
            worker.close()

    def map(
        self,
        function: Callable[[Item], Result],
        items: Iterable[Item],
        *,
        time_limit: float,
        memory_limit: int = MEMORY_LIMIT,
    ) -> Iterator[Result | Failure]:
        """Results in the order of `items`, a `Failure` where there is none.

        Args:
            function: A function importable by name, or a `functools.partial` of one.
            items: What to apply it to; items and results must be picklable.
            time_limit: Seconds an item may take before its process is killed.
            memory_limit: Bytes that a process may allocate.
        """
        waiting: dict[int, Result | Failure] = {}
        position = 0
        limits = {"time_limit": time_limit, "memory_limit": memory_limit}
        for index, answer in self.stream(function, items, **limits):
            waiting[index] = answer
            while position in waiting:
                yield waiting.pop(position)
                position += 1

    def stream(
        self,
        function: Callable[[Item], Result],
        items: Iterable[Item],
        *,
        time_limit: float,
        memory_limit: int = MEMORY_LIMIT,
        last_start: float = inf,
        deadline: float = inf,
    ) -> Iterator[tuple[int, Result | Failure]]:
        """Like `map`, but each result as soon as it is there, with the position of its item.

        No item begins after `last_start`; what is unfinished at the `deadline` is given up. Both
        are times of `perf_counter`.
        """
        clock = _Clock(time_limit, last_start, deadline)
        if not self._workers:
            here = partial(_attempt_in_time, function, clock=clock, memory_limit=memory_limit)
            yield from enumerate(map(here, items))
            return
        idle: LifoQueue[_Worker] = LifoQueue()  # those that run already come first
        for worker in reversed(self._workers):
            idle.put(worker)

        def answer(item: Item) -> Result | Failure:
            worker = idle.get()
            try:
                if clock.is_over():
                    return NO_TIME
                worker.prepare(function, memory_limit)
                answer = worker.ask(item, clock.seconds_left())
                if isinstance(answer, Failure) and answer.died and not self._is_interrupted:
                    # Not always the item's fault: memory runs out, batch systems end jobs.
                    worker.prepare(function, memory_limit)
                    answer = worker.ask(item, clock.seconds_left())
                return answer
            finally:
                idle.put(worker)

        with ThreadPoolExecutor(len(self._workers)) as threads:
            answers = {threads.submit(answer, item): index for index, item in enumerate(items)}
            try:
                yield from ((answers[future], future.result()) for future in as_completed(answers))
            except (KeyboardInterrupt, SystemExit):  # what runs is not waited for
                self._is_interrupted = True
                for worker in self._workers:
                    worker.kill()
                raise
            finally:  # a caller who stops early does not wait for the rest
                threads.shutdown(wait=False, cancel_futures=True)
