"""Runs one job of an engine as a program of its own: `python -m MODULE job.json result.json`.

An engine is one file: a class that `engine.ProgramEngine` helps, a function `calculate` of a job as
`Calculation.job` writes it, and a last line that calls `run_job(calculate)`.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from threading import Thread

from mattergen_lite.files.folders import write_text
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
        "cpu_seconds": sum(os.times()[:4]),  # of this program and of what it has started
        "wall_seconds": time.time() - started,
        "peak_memory": peak_memory() or 0,
        "engine": job["engine"],
    }
    write_text(json.dumps(result), result_path)


def _reason(error: BaseException) -> str:
    if isinstance(error, MemoryError):
        return "out of memory"
    if type(error).__name__ == "KohnShamConvergenceError":
        return "the density has not converged"
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]


def _end_with(parent: int) -> None:
    """End this program, and what it has started, when the one that started it has ended."""
    while os.getppid() == parent:
        time.sleep(0.5)
    if hasattr(os, "killpg"):  # it leads a session of its own
        os.killpg(0, signal.SIGKILL)
    os._exit(1)
