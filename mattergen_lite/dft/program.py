"""Calculates one job with GPAW: `python -m mattergen_lite.dft.gpaw_program job.json result.json`.

GPAW (GPL-3+) is imported by this program only, which runs on its own. It reads a job as
`Calculation.job` writes it and writes a result as `DftResult.read` reads it, failures included.
"""

import json
import os
import sys
import time
from pathlib import Path
from threading import Thread

from mattergen_lite.processes import limit_memory, peak_memory


def calculate(job: dict) -> dict[str, object]:
    """Return the result of a job as plain data.

    Raises:
        Exception: Whatever GPAW raises.
    """
    from ase import Atoms

    atoms = Atoms(
        numbers=job["numbers"], cell=job["cell"], scaled_positions=job["frac_coords"], pbc=True
    )
    if job["moments"] is not None:
        atoms.set_initial_magnetic_moments(job["moments"])
    atoms.calc = calculator = _calculator(job)
    energy = float(atoms.get_potential_energy())
    return {
        "energy": energy,
        "num_atoms": len(atoms),
        "band_gap": _band_gap(calculator),
        "moment": float(atoms.get_magnetic_moment()) if job["moments"] is not None else 0.0,
        **_sizes(calculator),
    }


def _calculator(job: dict) -> object:
    from gpaw import GPAW, PW

    settings = job["settings"]
    return GPAW(
        mode=PW(settings["cutoff"]),
        xc=settings["functional"],
        kpts={"size": job["kpoints"], "gamma": True},
        occupations={"name": "fermi-dirac", "width": settings["smearing"]},
        spinpol=job["moments"] is not None,
        symmetry={"tolerance": 1e-4},
        convergence={
            "energy": settings["energy_tolerance"],
            "density": settings["density_tolerance"],
            "eigenstates": settings["eigenstate_tolerance"],
        },
        maxiter=settings["max_iterations"],
        txt=job.get("log"),
    )


def _band_gap(calculator: object) -> float:
    from ase.dft.bandgap import bandgap

    return max(float(bandgap(calculator, output=None)[0]), 0.0)


def _sizes(calculator: object) -> dict[str, object]:
    """What the cost depends on."""
    return {
        "num_kpoints": len(calculator.get_ibz_k_points()),
        "num_bands": int(calculator.get_number_of_bands()),
        "num_electrons": float(calculator.get_number_of_electrons()),
        "grid": [int(n) for n in calculator.get_number_of_grid_points()],
        "iterations": int(calculator.get_number_of_iterations()),
    }


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


def main(job_path: str, result_path: str) -> None:
    """Read a job, calculate it and write its result in one step."""
    Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    job = json.loads(Path(job_path).read_text(encoding="utf-8"))
    started = time.time()
    limit_memory(job["memory_limit"])
    try:
        result = calculate(job)
    except Exception as error:
        result = {"error": _reason(error)}
    result |= {
        "cpu_seconds": time.process_time(),
        "wall_seconds": time.time() - started,
        "peak_memory": peak_memory() or 0,
        "engine": job["engine"],
    }
    partial = Path(f"{result_path}.{os.getpid()}.partial")
    partial.write_text(json.dumps(result), encoding="utf-8")
    partial.replace(result_path)


if __name__ == "__main__":
    main(*sys.argv[1:])
