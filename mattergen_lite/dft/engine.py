"""Engines of first principles: what they know of elements, and how their programs are run.

An engine is a program of its own that reads a job and writes a result, see `program`. GPAW
(`gpaw`) is the first; it is used where it is installed and is no part of this package.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from ase.data import chemical_symbols

from mattergen_lite.dft.result import DftResult
from mattergen_lite.dft.settings import Calculation, DftSettings
from mattergen_lite.processes import end_group, worker_environment

MEMORY_LIMIT = 8 * 2**30  # bytes
TIME_LIMIT = 3600.0  # s


@dataclass(frozen=True, kw_only=True)
class JobLimits:
    """What one calculation may take."""

    seconds: float = TIME_LIMIT  # elapsed time after which it is ended
    memory: int = MEMORY_LIMIT  # bytes that it may allocate


@runtime_checkable
class Engine(Protocol):
    """A program of first principles."""

    label: str  # name and version, as reports show it, such as "GPAW 26.7"
    versions: str  # of program and pseudopotentials; energies of the same ones are compared
    valence_electrons: Mapping[str, int]  # of every element that has a pseudopotential
    settings: DftSettings  # with which its energies are converged
    error: float  # eV/atom, of an energy above the hull, against the Materials Project's

    def method(self, settings: DftSettings) -> str:
        """How energies are calculated, such as "PBE, GPAW 26.7, 400 eV"."""
        ...

    def check_installed(self) -> None:
        """Refuse to work where the program is missing.

        Raises:
            ValueError: With the lines that install it.
        """
        ...

    def calculate(self, calculation: Calculation, result: Path, limits: JobLimits) -> DftResult:
        """Run the program and write its result to a file, failures included."""
        ...


class ProgramEngine:
    """An engine whose own module is the program that calculates, see `program.run_job`.

    Settings and error are those of GPAW; an engine with other pseudopotentials states its own.
    """

    label: str
    versions: str
    valence_electrons: Mapping[str, int]
    settings = DftSettings()
    error = 0.02

    def method(self, settings: DftSettings) -> str:
        """Functional, program and cutoff."""
        return f"{settings.functional}, {self.label}, {settings.cutoff:g} eV"

    def calculate(self, calculation: Calculation, result: Path, limits: JobLimits) -> DftResult:
        """Run the program and write its result to a file, failures included."""
        steps = result.with_suffix(".steps").absolute()
        job = calculation.job() | {"engine": self.versions, "memory_limit": limits.memory}
        job["steps"] = str(steps)  # where a relaxation goes on
        job["parent"] = os.getpid()  # with which the program ends
        symbols = [chemical_symbols[number] for number in calculation.numbers]
        job["num_electrons"] = sum(self.valence_electrons[symbol] for symbol in symbols)
        result.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "job.json"
            path.write_text(json.dumps(job), encoding="utf-8")
            module = type(self).__module__
            command = [sys.executable, "-P", "-m", module, str(path), str(result.absolute())]
            reason = _run(command, folder, limits.seconds)
        if not result.exists():
            return DftResult(error=reason or "the program has written no result")
        return DftResult.read(result)


def _run(command: list[str], folder: str, seconds: float) -> str | None:
    """Run a program of one thread in a folder; returns why it has failed.

    What the program has started ends with it.
    """
    streams = {"stderr": subprocess.STDOUT, "env": worker_environment(), "start_new_session": True}
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, cwd=folder, stdout=output, **streams)
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            return f"no result within {seconds:g} s"
        finally:
            end_group(process)
            process.wait()
        if code == 0:
            return None
        output.seek(0)
        lines = output.read().decode(errors="replace").strip().splitlines()
    return f"its program ended with code {code}: {lines[-1] if lines else 'nothing said'}"[:300]
