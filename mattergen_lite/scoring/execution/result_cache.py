"""Keeps results on disk as they come, so that no run repeats them.

A line of JSON holds a result, found by a digest of function, settings and item. Failures are tried
again, and so is what stands in a damaged line. A finished run keeps its results compressed.
"""

import gzip
import hashlib
import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from math import inf
from pathlib import Path
from time import perf_counter
from typing import Generic, TypeVar

from pydantic import TypeAdapter, ValidationError
from pymatgen.core import Structure

from mattergen_lite.console import ProgressBar
from mattergen_lite.files.folders import atomic_path
from mattergen_lite.io.compressed import text_lines
from mattergen_lite.processes import NO_TIME, Failure, Pool

VERSION = version("mattergen-lite")  # whose answers these are: another one may judge differently
FORMAT = 1  # of a line; raised when older programs would misread it

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class CachedTask(Generic[Item, Result]):
    """What is asked of every item, and how its answers are written down."""

    function: Callable[[Item], Result]  # importable by name, or a `functools.partial` of such
    identity: Callable[[Item], str]  # equal for two items if and only if their answers are
    answers: TypeAdapter  # of the results; beartype cannot look inside it
    label: str  # of the progress bar
    time_limit: float  # s an item may take
    share: float | None = 1.0  # of the time left, in which items are begun; None: at any time

    def key(self, item: Item) -> str:
        """Digest of the whole question: program, function, settings and item."""
        asked = self.function if isinstance(self.function, partial) else partial(self.function)
        name = f"{asked.func.__module__}.{asked.func.__qualname__}"
        text = repr(
            (VERSION, name, asked.args, sorted(asked.keywords.items()), self.identity(item))
        )
        return hashlib.sha256(text.encode()).hexdigest()[:32]


class ResultCache:
    """Asks a pool of processes and remembers the answers.

    Args:
        pool: Who answers.
        path: File of the answers; None keeps them in memory.
        earlier: Files that `keep` has written, whose answers are taken too.
        memory: Lines of another result cache's memory, read as `earlier` is.
        progress: Show progress bars, if standard error is a terminal.
        deadline: Time of `perf_counter` after which nothing costly is worked out.
    """

    def __init__(
        self,
        pool: Pool,
        path: Path | None = None,
        *,
        earlier: Sequence[Path] = (),
        memory: Sequence[str] = (),
        progress: bool = True,
        deadline: float = inf,
    ) -> None:
        self.pool = pool
        self.path = path
        self.earlier = tuple(earlier)
        self.progress = progress
        self.deadline = deadline
        self.memory = list(memory)
        self.asked: set[str] = set()

    def ask(
        self,
        question: CachedTask[Item, Result],
        items: Sequence[Item],
        together: Callable[[Sequence[Item]], Iterator[tuple[int, Result | Failure]]] | None = None,
    ) -> list[Result | Failure]:
        """Answers in the order of the items; only those not in the result cache are worked out.

        `together` works answers out in this process (for a GPU, which wants batches) instead of one
        by one in the pool; it yields positions and answers.
        """
        keys = [question.key(item) for item in items]
        self.asked |= {*keys}
        known = self._read(set(keys), question.answers)
        missing = [index for index, key in enumerate(keys) if key not in known]
        unanswered = [items[index] for index in missing]
        bar = ProgressBar(
            self._work(question, unanswered, together),
            total=len(items),
            initial=len(items) - len(missing),
            desc=question.label,
            disable=None if self.progress else True,
        )
        failures: dict[int, Failure] = {}
        for position, answer in bar:
            index = missing[position]
            if isinstance(answer, Failure):
                failures[index] = answer
            else:
                known[keys[index]] = answer
                self._write(keys[index], question.answers.dump_python(answer, mode="json"))
        return [failures.get(index) or known.get(key, NO_TIME) for index, key in enumerate(keys)]

    def _work(
        self,
        question: CachedTask[Item, Result],
        items: Sequence[Item],
        together: Callable[[Sequence[Item]], Iterator[tuple[int, Result | Failure]]] | None,
    ) -> Iterator[tuple[int, Result | Failure]]:
        """Work answers out as long as there is time; yields positions and answers."""
        now = perf_counter()
        deadline = inf if question.share is None else self.deadline
        last_start = now + (question.share or 1.0) * (deadline - now)
        if together is None:
            yield from self.pool.stream(
                question.function,
                items,
                time_limit=question.time_limit,
                last_start=last_start,
                deadline=deadline,
            )
            return
        if now >= last_start:
            return
        for position, answer in together(items):
            yield position, answer
            if perf_counter() >= last_start:
                return

    def keep(self, path: Path) -> None:
        """Write the answers to all that was asked into a compressed file of their own."""
        left = set(self.asked)
        with (
            atomic_path(path) as temporary,
            gzip.GzipFile(temporary, "wb", mtime=0) as compressed,
        ):
            for key, answer in self._lines():
                if key in left:
                    left.remove(key)
                    compressed.write(_line(key, answer).encode() + b"\n")

    def forget(self) -> None:
        """Remove the file: the run is complete."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)

    def _write(self, key: str, answer: object) -> None:
        if self.path is None:
            self.memory.append(_line(key, answer))
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.is_symlink():  # of somebody else: replaced, not followed
            self.path.unlink()
        with self.path.open("a", encoding="utf-8") as file:
            # The line break comes first: it ends a line that a kill has cut short.
            file.write("\n" + _line(key, answer))

    def _read(self, keys: set[str], answers: TypeAdapter) -> dict[str, Result]:
        known = {}
        for key, answer in self._lines():
            if key in keys:
                with suppress(ValidationError, ValueError, TypeError, KeyError):
                    known[key] = answers.validate_python(answer)
        return known

    def _lines(self) -> Iterator[tuple[str, object]]:
        """Whole lines; one that a kill has cut short is left out."""
        for line in self.texts():
            try:
                entry = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if not isinstance(entry, dict) or not {"key", "answer"} <= entry.keys():
                continue
            if entry.get("format", 1) != FORMAT:
                raise ValueError(
                    f"{self.path} has format {entry['format']!r}, this version reads {FORMAT}: "
                    "use the version that wrote it, or remove the file"
                )
            if isinstance(entry["key"], str):
                yield entry["key"], entry["answer"]

    def texts(self) -> Iterator[str]:
        """Lines of earlier runs, in memory and of this run's file; damaged files end early."""
        for path in self.earlier:
            yield from read_answers(path)
        yield from self.memory
        if self.path is not None and self.path.exists():
            with self.path.open(encoding="utf-8", errors="replace") as file:
                yield from file


def read_answers(path: Path) -> Iterator[str]:
    """Lines of a file that `keep` has written; of a damaged one those before the damage."""
    with suppress(OSError, EOFError, zlib.error, ValueError):
        yield from text_lines(path)


def _line(key: str, answer: object) -> str:
    return json.dumps({"format": FORMAT, "key": key, "answer": answer})


def structure_identity(structure: Structure) -> str:
    """Lattice, elements and coordinates to the last bit."""
    cell = structure.lattice.matrix.tobytes() + structure.frac_coords.tobytes()
    return f"{structure.species_and_occu} {hashlib.sha256(cell).hexdigest()}"
