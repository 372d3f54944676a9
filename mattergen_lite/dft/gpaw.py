"""GPAW as an engine (GPL-3+, no part of this package): `python -m mattergen_lite.dft.gpaw`.

Only the program imports GPAW. Crystals are relaxed with the stress of plane waves, from which the
Pulay stress of a small cutoff is taken (Francis & Payne, J. Phys. Condens. Matter 1990, 2, 4395):
the stress at the cutoff less that at twice the cutoff.
"""

import json
import re
from collections.abc import Mapping
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from mattergen_lite.dft.cost import count_bands
from mattergen_lite.dft.engine import ProgramEngine
from mattergen_lite.dft.program import run_job
from mattergen_lite.files.folders import write_text

if TYPE_CHECKING:
    from ase import Atoms

CONVERGED_CUTOFF = 2.0  # times the cutoff: the stress of MgO is then right to 0.001 eV/Å³
MAX_FORCE = 0.05  # eV/Å, and of the stress times the volume, eV
MAX_STEPS = 40

INSTALL = (
    "GPAW is not installed: `conda install -c conda-forge gpaw`, or `apt-get install g++ libxc-dev "
    "libopenblas-dev && CC=g++ CXX=g++ pip install gpaw gpaw-data`"
)


# Of the PBE setups of gpaw-data 1.2, in the order of atomic numbers. From Ce to Yb these setups
# have open f shells, which the Materials Project keeps in the core: energies would not compare.
_SETUPS = (
    "H1 He2 Li1 Be2 B3 C4 N5 O6 F7 Ne8 Na7 Mg10 Al3 Si4 P5 S6 Cl7 Ar8 K9 Ca10 Sc11 Ti12 V13 Cr6 "
    "Mn15 Fe8 Co9 Ni16 Cu11 Zn12 Ga3 Ge4 As5 Se6 Br7 Kr8 Rb9 Sr10 Y11 Zr12 Nb13 Mo14 Ru16 Rh15 "
    "Pd16 Ag17 Cd12 In13 Sn14 Sb15 Te6 I7 Xe8 Cs9 Ba10 La11 Lu25 Hf12 Ta13 W14 Re13 Os14 Ir15 "
    "Pt16 Au11 Hg18 Tl13 Pb14 Bi15 Rn8"
)


class Gpaw(ProgramEngine):
    """GPAW in plane-wave mode (Mortensen et al., J. Chem. Phys. 2024, 160, 092503)."""

    valence_electrons: Mapping[str, int] = {
        symbol: int(count) for symbol, count in re.findall(r"([A-Z][a-z]?)(\d+)", _SETUPS)
    }

    @cached_property
    def label(self) -> str:
        """Name and version such as "GPAW 26.7"."""
        return f"GPAW {_short_version('gpaw')}"

    @cached_property
    def versions(self) -> str:
        """Versions of GPAW and of its setups."""
        return f"{self.label}, gpaw-data {_short_version('gpaw-data')}"

    def check_installed(self) -> None:
        """Refuse to work without GPAW.

        Raises:
            ValueError: With the lines that install it.
        """
        if find_spec("gpaw") is None:
            raise ValueError(INSTALL)


def _short_version(package: str) -> str:
    try:
        return ".".join(version(package).split(".")[:2])
    except PackageNotFoundError:
        return "?"


# The program


def calculate(job: dict) -> dict[str, object]:
    """Return energy, gap and moment of a job, or the relaxed crystal.

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
    relaxed = _relax(atoms, job) if job.get("task") == "relax" else {}
    energy = float(atoms.get_potential_energy())
    return relaxed | {
        "energy": energy,
        "num_atoms": len(atoms),
        "band_gap": _band_gap(calculator),
        "moment": float(atoms.get_magnetic_moment()) if job["moments"] is not None else 0.0,
        **_sizes(calculator),
    }


def _calculator(job: dict, cutoff_factor: float = 1.0) -> object:
    from gpaw import GPAW, PW

    settings = job["settings"]
    return GPAW(
        mode=PW(settings["cutoff"] * cutoff_factor),
        xc=settings["functional"],
        kpts={"size": job["kpoints"], "gamma": True},
        occupations={"name": "fermi-dirac", "width": settings["smearing"]},
        nbands=count_bands(job["num_electrons"] + sum(map(abs, job["moments"] or ()))),
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


def _relax(atoms: "Atoms", job: dict) -> dict[str, object]:
    """Relax cell and positions in the symmetry; each step is kept, and a killed job goes on."""
    from ase.constraints import FixSymmetry
    from ase.filters import FrechetCellFilter
    from ase.optimize import BFGS

    kept, num_steps, calculator = Path(job["steps"]), 0, atoms.calc
    if kept.exists():
        step = json.loads(kept.read_text(encoding="utf-8"))
        atoms.set_cell(step["cell"])
        atoms.set_scaled_positions(step["frac_coords"])
    atoms.set_constraint(FixSymmetry(atoms, symprec=1e-4))
    while num_steps < MAX_STEPS:
        atoms.calc = _WithoutPulayStress(calculator, _pulay_stress(atoms, calculator, job))
        optimizer = BFGS(FrechetCellFilter(atoms), logfile=None)
        optimizer.attach(lambda: write_text(json.dumps(_geometry(atoms)), kept))
        is_relaxed = optimizer.run(fmax=MAX_FORCE, steps=MAX_STEPS - num_steps)
        num_steps += optimizer.nsteps
        if is_relaxed and optimizer.nsteps == 0:
            kept.unlink(missing_ok=True)
            atoms.calc = calculator
            return _geometry(atoms) | {"relaxation_steps": num_steps}
    raise RuntimeError(f"not relaxed within {MAX_STEPS} steps")


class _WithoutPulayStress:
    """A calculator whose stress lacks a constant tensor."""

    def __init__(self, calculator: object, pulay: object) -> None:
        self.calculator, self.pulay = calculator, pulay

    def __getattr__(self, name: str) -> object:
        return getattr(self.calculator, name)

    def get_stress(self, atoms: "Atoms") -> object:
        """Stress in eV/Å³, Voigt order."""
        return self.calculator.get_stress(atoms) - self.pulay


def _pulay_stress(atoms: "Atoms", calculator: object, job: dict) -> object:
    """Stress at the cutoff less that at a finer one, eV/Å³, Voigt order."""
    finer = atoms.copy()
    finer.calc = _calculator(job, CONVERGED_CUTOFF)
    return calculator.get_stress(atoms) - finer.get_stress(apply_constraint=False)


def _geometry(atoms: "Atoms") -> dict[str, object]:
    return {
        "cell": atoms.cell.tolist(),
        "frac_coords": atoms.get_scaled_positions(wrap=False).tolist(),
    }


def _band_gap(calculator: object) -> float:
    from ase.dft.bandgap import bandgap

    return max(float(bandgap(calculator, output=None)[0]), 0.0)


def _sizes(calculator: object) -> dict[str, object]:
    return {
        "num_kpoints": len(calculator.get_ibz_k_points()),
        "num_bands": int(calculator.get_number_of_bands()),
        "num_electrons": float(calculator.get_number_of_electrons()),
        "grid": [int(n) for n in calculator.get_number_of_grid_points()],
        "iterations": int(calculator.get_number_of_iterations()),
    }


if __name__ == "__main__":
    run_job(calculate)
