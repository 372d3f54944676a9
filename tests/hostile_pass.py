"""A hostile pass over the command line and the readers: what nobody would ask for, all at once.

    python tests/hostile_pass.py             # everything: some 1800 cases, half an hour of a core
    python tests/hostile_pass.py commands    # one part: files, commands, folders
    python tests/hostile_pass.py commands 7 3  # every seventh case of it, from the third on

Every case runs in a child of one process that has imported everything: exit code, output, seconds
and memory are looked at, and whether a planted module has run. tests/test_hostile.py is a part of
it in CI.
"""

import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from itertools import islice, product
from pathlib import Path
from typing import NamedTuple, NoReturn

from hostile_commands import BASES, CANARY, QUICK, command_words, make_sources, with_options
from hostile_files import Odd, odd_files

CODES = {0, 2, 130, 143}
MAX_SECONDS = 60.0  # of computing: what trains a little takes some
MAX_MEMORY = 2 * 2**30  # bytes beyond what the parent has
LIMIT = 180.0  # s by the clock, on a busy machine
PRELOADED = (
    *("benchmarking.benchmark", "campaign.report", "campaign.run", "cli", "data.labels"),
    *("library.exchange", "runs.judging", "scoring.judge", "training.finetuning", "probe.probe"),
)

Case = tuple[str, list[str]]  # what was tried, and what was wrong
Work = Callable[[], Case]


class PropertyResult(NamedTuple):
    """What a case did."""

    code: int
    output: str
    seconds: float  # of computing
    memory: int  # bytes beyond those of the parent


def in_child(work: Callable[[], None], folder: Path, log: Path) -> PropertyResult:
    """Run something in a forked process, in a folder, its output in a file."""
    start = time.monotonic()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    pid = os.fork()
    if pid == 0:
        _be_child(work, folder, log)
    done = 0
    while not done:
        done, status, usage = os.wait4(pid, os.WNOHANG)
        if not done and time.monotonic() - start > LIMIT:
            os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return PropertyResult(-9, log.read_text(errors="replace") + "HANG", LIMIT, 0)
        time.sleep(0.0 if done else 0.005)
    return PropertyResult(
        code=os.waitstatus_to_exitcode(status),
        output=log.read_text(errors="replace"),
        seconds=usage.ru_utime + usage.ru_stime,
        memory=max(0, usage.ru_maxrss - before) * 1024,
    )


def _be_child(work: Callable[[], None], folder: Path, log: Path) -> NoReturn:
    code = 99
    try:
        os.setsid()
        os.chdir(folder)
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for number in (1, 2):
            os.dup2(output, number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        # What a test runner has put in their place would keep the words for itself.
        sys.stdout, sys.stderr = (os.fdopen(n, "w", closefd=False) for n in (1, 2))
        work()
        code = 0
    except SystemExit as done:
        code = done.code or 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def command(*words: str) -> Callable[[], None]:
    """The command line as a piece of work."""

    def work() -> None:
        from mattergen_lite import cli

        sys.argv = ["mattergen-lite", *words]
        cli.main()

    return work


def faults(outcome: PropertyResult, folder: Path) -> list[str]:
    """What is wrong with an outcome, whatever was asked."""
    code, output, seconds, memory = outcome
    wrong = {
        f"exit code {code}": code not in CODES,
        "traceback": "Traceback" in output or "mistake of this program" in output,
        f"{seconds:.0f} s": seconds > MAX_SECONDS,
        f"{memory / 2**30:.1f} GiB": memory > MAX_MEMORY,
        "no reason": code == 2 and "error: " not in output,
        "long message": len(output.rpartition("error: ")[2]) > 3000 and code != 0,
    }
    executed = [f"executed {path}" for path in folder.rglob(CANARY)]
    return [name for name, found in wrong.items() if found] + executed


def file_cases(folder: Path) -> Iterator[Work]:
    """Each odd file read alone."""
    for odd in odd_files():
        yield partial(file_case, folder, odd)


def file_case(folder: Path, odd: Odd) -> Case:
    """One odd file."""
    place = folder / "file"
    place.mkdir()
    path = place / odd.name
    path.write_bytes(odd.data)
    outcome = in_child(lambda: print("; ".join(misread(odd, path))), place, folder / "output")
    wrong = faults(outcome, place) + [line for line in outcome.output.split("\n") if line]
    shutil.rmtree(place)
    return f"file {odd.name}", wrong


def misread(odd: Odd, path: Path) -> list[str]:
    """What is wrong with how a file is read, by its truth."""
    from mattergen_lite.io.read import read_structures

    try:
        records = list(read_structures(path))
    except ValueError as error:
        records, reasons = [], [str(error)]
    else:
        reasons = [str(one.error) for one in records if one.structure is None]
    read = [one.structure for one in records if one.structure is not None]
    if odd.truth is None:
        return [f"read as {one.formula}" for one in read]
    if not read:
        return [] if odd.lenient else [f"refused: {reasons[0][:200]}"]
    return [wrong for one in read for wrong in differences(one, odd)]


def differences(structure: object, odd: Odd) -> Iterator[str]:
    """What is not as the file states it."""
    from mattergen_lite.scoring.criteria.symmetry import space_group_of

    formula = structure.composition.alphabetical_formula
    if formula != odd.truth.formula:
        yield f"composition {formula}"
    if abs(structure.volume / odd.truth.volume - 1) > 1e-4:
        yield f"volume {structure.volume:.3f}"
    if space_group_of(structure, symprec=0.01) != odd.truth.space_group:
        yield f"space group {space_group_of(structure, symprec=0.01)}"


def command_cases(folder: Path) -> Iterator[Work]:
    """Every command that makes no sense."""
    work = prepared(folder)
    for words in command_words():
        yield partial(run_case, work, words)


def prepared(folder: Path) -> Path:
    """A folder with all that commands are pointed at."""
    work = folder / "work"
    work.mkdir()

    def run(*words: str) -> None:
        outcome = in_child(command(*words), work, folder / "output")
        assert outcome.code == 0, outcome.output

    make_sources(work, run)
    return work


def run_case(work: Path, words: list[str]) -> Case:
    """A command: what is wrong with its end and with what it leaves, which is removed."""
    known = {*work.rglob("*")}
    outcome = in_child(command(*words), work, work.parent / "output")
    wrong = faults(outcome, work)
    left = sorted({*work.rglob("*")} - known)
    if outcome.code == BAD_INPUT and any(one.suffix == ".parquet" for one in left):
        wrong.append("results beside an error")
    for path in reversed(left):
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    shown = " ".join(word if len(word) < 60 else f"{word[:20]}({len(word)})" for word in words)
    return f"{shown!r} -> {outcome.code} {outcome.output[-300:]!r}", wrong


BAD_INPUT = 2


def folder_cases(folder: Path) -> Iterator[Work]:
    """Every file of a run and of a model damaged in every way, and the verbs that read it."""
    work = prepared(folder)
    from mattergen_lite.config import shipped

    shutil.copytree(shipped("checkpoints") / "tiny", work / "model")
    readers = {
        "run": (
            ["score", "copy", "--out", "o", *QUICK],
            ["library", "export", "copy", "x.jsonl"],
            ["benchmark", "copy", *BASES["benchmark"][1:]],
        ),
        "model": (with_options("generate", "--checkpoint", "copy"),),
    }
    for name, commands in readers.items():
        shown_to_people = (".md", ".cif", ".html", ".csv", ".png", ".svg", ".pdf")
        files = [one for one in (work / name).rglob("*") if one.suffix not in shown_to_people]
        for path, damage in product(filter(Path.is_file, files), DAMAGES):
            for words in commands:
                yield partial(damaged_case, path, work / name, damage, words)


def damaged_case(path: Path, source: Path, damage: str, words: list[str]) -> Case:
    """A command on a copy of a folder in which one file is damaged."""
    copy = source.parent / "copy"
    shutil.copytree(source, copy)
    DAMAGES[damage](copy / path.relative_to(source))
    case, wrong = run_case(source.parent, words)
    shutil.rmtree(copy)
    return f"{source.name}/{path.name} {damage}: {case}", wrong


def _replaced(data: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(data)


def _changed(change: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(change(path.read_bytes()))


DAMAGES: dict[str, Callable[[Path], object]] = {
    "absent": Path.unlink,
    "empty": _replaced(b""),
    "half": _changed(lambda data: data[: len(data) // 2]),
    "noise": _replaced(bytes(range(256)) * 9),
    "list": _replaced(b"[1, 2]"),
    "null": _replaced(b"null"),
    "nan": _changed(lambda data: data.replace(b"1", b"nan")),
    "flipped": _changed(lambda data: data[:-99] + bytes(one ^ 85 for one in data[-99:])),
    "deep": _replaced(b"[" * 50_000),
    "newer": _changed(lambda data: data.replace(b"format", b"format: 99 #")),
    "pipe": lambda path: (path.unlink(), os.mkfifo(path)),
    "folder": lambda path: (path.unlink(), path.mkdir()),
}

PARTS = {"files": file_cases, "commands": command_cases, "folders": folder_cases}


def main(part: str = "", every: str = "1", first: str = "0") -> int:
    """Run a part or all; prints every case that went wrong and returns 1 if there is one."""
    for name in PRELOADED:  # once, so that a case costs what it does
        import_module(f"mattergen_lite.{name}")
    number = wrong = 0
    for name in [part] if part else PARTS:
        with tempfile.TemporaryDirectory() as folder:
            for work in islice(PARTS[name](Path(folder)), int(first), None, int(every)):
                case, found = work()
                number += 1
                wrong += bool(found)
                if found or os.environ.get("VERBOSE"):
                    print("WRONG" if found else "right", case, *found, flush=True)
    print(f"{number} cases, {wrong} wrong")
    return min(wrong, 1)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
