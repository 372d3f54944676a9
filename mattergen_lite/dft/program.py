"""Runs one job of an engine as a program of its own: `python -m MODULE job.json result.json`.

An engine is one file: a class that `engine.ProgramEngine` helps, a function `calculate` of a job as
`Calculation.job` writes it, and a last line that calls `run_job(calculate)`.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from threading import Thread

from mattergen_lite.files.folders import atomic_path
from mattergen_lite.processes import limit_memory, peak_memory


def run_job(calculate: Callable[[dict], dict[str, object]]) -> None:
    """Read the job that the command line names, calculate it and write its result in one step.

    The function returns fields of `DftResult`. Failures are results. The program ends when the one
    that started it has ended.
    """
    job_path, result_path = sys.argv[1:]
    job = json.loads(Path(job_path).read_text(encoding="utf-8"))
    Thread(target=_end_with, args=(job["parent"],), daemon=True).start()
    started = time.time()
    limit_memory(job["memory_limit"])
    try:
        result = calculate(job)
    except Exception as error:
        result = {"error": _reason(error)}
    result |= {
        "cpu_seconds": sum(os.times()[:4]),  # of programs that it has started, too
        "wall_seconds": time.time() - started,
        "peak_memory": peak_memory() or 0,
        "engine": job["engine"],
    }
    write_whole(Path(result_path), result)


def write_whole(path: Path, data: dict[str, object]) -> None:
    """Write JSON in one step: a reader sees the old file or the new one."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(data), encoding="utf-8")


def _reason(error: BaseException) -> str:
    if isinstance(error, MemoryError):
        return "out of memory"
    if type(error).__name__ == "KohnShamConvergenceError":
        return "the density has not converged"
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]


def _end_with(parent: int) -> None:
    """End this program when the one that started it has ended."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)
