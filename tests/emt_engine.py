"""A second engine in one file: effective medium theory, for alloys of a few metals.

Jacobsen, Stoltze & Norskov, Surf. Sci. 1996, 366, 394, as ASE has it. Quick and real, though no
first principles: it shows what an engine needs, and stands in where processes are tested.
"""

import os
import shlex
import subprocess
import time
from pathlib import Path
from typing import ClassVar

from mattergen_lite.dft.engine import ProgramEngine
from mattergen_lite.dft.program import run_job
from mattergen_lite.dft.settings import DftSettings


class Emt(ProgramEngine):
    """Effective medium theory of ASE."""

    label = "EMT 1"
    versions = "EMT 1"
    valence_electrons: ClassVar = {"Al": 3, "Cu": 11, "Pd": 10, "Ag": 11, "Pt": 10, "Au": 11}

    def method(self, settings: DftSettings) -> str:
        """Say that no functional is behind it."""
        return "EMT"

    def check_installed(self) -> None:
        """Pass: ASE is always there."""


def calculate(job: dict) -> dict[str, object]:
    """Return the energy of a job, or the relaxed crystal."""
    from ase import Atoms
    from ase.calculators.emt import EMT
    from ase.filters import FrechetCellFilter
    from ase.optimize import BFGS

    time.sleep(float(os.environ.get("EMT_SECONDS", "0")))
    if command := os.environ.get("EMT_CHILD"):  # stands for a program of another language
        subprocess.run(shlex.split(command), check=True)
    if log := os.environ.get("EMT_LOG"):
        with Path(log).open("a", encoding="utf-8") as file:
            file.write(f"{job['numbers']} {job['cell']} {job.get('task')}\n")
    atoms = Atoms(
        numbers=job["numbers"], cell=job["cell"], scaled_positions=job["frac_coords"], pbc=True
    )
    atoms.calc = EMT()
    relaxed = {}
    if job.get("task") == "relax":
        BFGS(FrechetCellFilter(atoms), logfile=None).run(fmax=0.01, steps=100)
        relaxed = {
            "cell": atoms.cell.tolist(),
            "frac_coords": atoms.get_scaled_positions().tolist(),
        }
    energy = float(atoms.get_potential_energy())
    return relaxed | {"energy": energy, "num_atoms": len(atoms), "band_gap": 0.0, "moment": 0.0}


if __name__ == "__main__":
    run_job(calculate)
