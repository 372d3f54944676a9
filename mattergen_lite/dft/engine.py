"""Engines of first principles: what they know of elements, and how their programs are run.

An engine is a program of its own that reads a job and writes a result. GPAW is the first; it is
used where it is installed and is no part of this package.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol, runtime_checkable

from mattergen_lite.dft.result import DftResult
from mattergen_lite.dft.settings import Calculation
from mattergen_lite.processes import module_path

MEMORY_LIMIT = 8 * 2**30  # bytes
TIME_LIMIT = 3600.0  # s

INSTALL = (
    "GPAW is not installed: `conda install -c conda-forge gpaw`, or `apt-get install g++ libxc-dev "
    "libopenblas-dev && CC=g++ CXX=g++ pip install gpaw gpaw-data`"
)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one calculation may take.

    Attributes:
        seconds: Elapsed time after which it is ended.
        memory: Bytes that it may allocate.
    """

    seconds: float = TIME_LIMIT
    memory: int = MEMORY_LIMIT


@runtime_checkable
class Engine(Protocol):
    """A program of first principles."""

    @property
    def label(self) -> str:
        """Name and version, as reports show it, such as "GPAW 26.7"."""
        ...

    @property
    def scale(self) -> str:
        """Name and versions of program and pseudopotentials: energies of one scale are compared."""
        ...

    @property
    def valence_electrons(self) -> Mapping[str, int]:
        """Valence electrons of every element that has a pseudopotential."""
        ...

    def check_installed(self) -> None:
        """Refuse to work where the program is missing.

        Raises:
            ValueError: With the lines that install it.
        """
        ...

    def calculate(self, calculation: Calculation, result: Path, limits: Limits) -> DftResult:
        """Run the program and write its result to a file, failures included.

        Args:
            calculation: What to calculate.
            result: File to write.
            limits: Time and memory.
        """
        ...


# Of the PBE setups of gpaw-data 1.2, in the order of atomic numbers. From Ce to Yb these setups
# have open f shells, which the Materials Project keeps in the core: energies would not compare.
_SETUPS = (
    "H1 He2 Li1 Be2 B3 C4 N5 O6 F7 Ne8 Na7 Mg10 Al3 Si4 P5 S6 Cl7 Ar8 K9 Ca10 Sc11 Ti12 V13 Cr6 "
    "Mn15 Fe8 Co9 Ni16 Cu11 Zn12 Ga3 Ge4 As5 Se6 Br7 Kr8 Rb9 Sr10 Y11 Zr12 Nb13 Mo14 Ru16 Rh15 "
    "Pd16 Ag17 Cd12 In13 Sn14 Sb15 Te6 I7 Xe8 Cs9 Ba10 La11 Lu25 Hf12 Ta13 W14 Re13 Os14 Ir15 "
    "Pt16 Au11 Hg18 Tl13 Pb14 Bi15 Rn8"
)


class Gpaw:
    """GPAW in plane-wave mode (Mortensen et al., J. Chem. Phys. 2024, 160, 092503)."""

    program = "mattergen_lite.dft.gpaw_program"
    valence_electrons: Mapping[str, int] = {
        symbol: int(count) for symbol, count in re.findall(r"([A-Z][a-z]?)(\d+)", _SETUPS)
    }

    @cached_property
    def label(self) -> str:
        """Name and version such as "GPAW 26.7"."""
        return f"GPAW {_short(self._version('gpaw'))}"

    @cached_property
    def scale(self) -> str:
        """Versions of GPAW and of its setups."""
        return f"{self.label}, gpaw-data {_short(self._version('gpaw-data'))}"

    @staticmethod
    def _version(package: str) -> str:
        try:
            return version(package)
        except PackageNotFoundError:
            return "?"

    def check_installed(self) -> None:
        """Refuse to work without GPAW.

        Raises:
            ValueError: With the lines that install it.
        """
        if find_spec("gpaw") is None:
            raise ValueError(INSTALL)

    def calculate(self, calculation: Calculation, result: Path, limits: Limits) -> DftResult:
        """Run GPAW and write its result to a file, failures included."""
        job = calculation.job() | {"engine": self.scale, "memory_limit": limits.memory}
        result.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "job.json"
            path.write_text(json.dumps(job), encoding="utf-8")
            command = [sys.executable, "-P", "-m", self.program, str(path), str(result.absolute())]
            reason = _run(command, folder, limits.seconds)
        if not result.exists():
            return DftResult(error=reason or "the program has written no result")
        return DftResult.read(result)


def _run(command: list[str], folder: str, seconds: float) -> str | None:
    """Run a program of one thread in a folder; returns why it has failed."""
    path = os.pathsep.join(str(Path(entry).absolute()) for entry in module_path())
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    environment = {**os.environ, **threads, "PYTHONPATH": path, "PYTHONWARNINGS": "ignore"}
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            return f"no result within {seconds:g} s"
        finally:
            process.kill()
            process.wait()
        if code == 0:
            return None
        output.seek(0)
        lines = output.read().decode(errors="replace").strip().splitlines()
    return f"its program ended with code {code}: {lines[-1] if lines else 'nothing said'}"[:300]


def _short(text: str) -> str:
    """Major and minor version."""
    return ".".join(text.split(".")[:2])
