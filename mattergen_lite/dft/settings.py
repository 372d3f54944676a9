"""Settings of a first-principles calculation and the key under which its result is cached.

With the defaults seven known metastable crystals were 0.014 eV/atom off the Materials Project's
energies above the hull in the mean. `benchmarks/dft_convergence.py` measures convergence,
`benchmarks/dft_accuracy.py` accuracy.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np

from mattergen_lite.tensors.shapes import Float, Int

ROUNDED = 4  # decimals of lattice vectors (Å) and fractional coordinates in a key


@dataclass(frozen=True, kw_only=True)
class DftSettings:
    """Settings of plane-wave calculations."""

    functional: Literal["PBE"] = "PBE"  # PBE, which alone belongs on the hull
    cutoff: float = 400.0  # kinetic energy of the plane waves, eV
    # k points per Å⁻¹ of reciprocal lattice vectors (2 pi included); 1.6 times as many in metals
    kpoint_density: float = 2.5
    smearing: float = 0.1  # width of the Fermi-Dirac distribution, eV
    energy_tolerance: float = 1e-4  # change of the energy at convergence, eV per valence electron
    density_tolerance: float = 5e-4  # change of the density, electrons per valence electron
    eigenstate_tolerance: float = 1e-6  # residuals squared, eV² per valence electron
    max_iterations: int = 120  # self-consistency steps before a calculation is given up


@dataclass(frozen=True, kw_only=True)
class SampledCell:
    """A cell with its k points."""

    numbers: Int[np.ndarray, "N"]  # atomic numbers
    cell: Float[np.ndarray, "3 3"]  # lattice vectors as rows, Å
    frac_coords: Float[np.ndarray, "N 3"]
    kpoints: tuple[int, int, int]  # along the reciprocal lattice vectors; gamma is among them


@dataclass(frozen=True, kw_only=True)
class Calculation(SampledCell):
    """Calculation of a cell: settings and starting moments."""

    moments: tuple[float, ...] | None = None  # starting moments in µB; None where spins are paired
    settings: DftSettings = DftSettings()  # numerical settings
    # energy of the cell as it is, or of what it relaxes to within its symmetry
    task: Literal["energy", "relax"] = "energy"

    def job(self) -> dict[str, object]:
        """Return what the program of an engine reads, as plain data."""
        return {
            "numbers": self.numbers.tolist(),
            "cell": self.cell.tolist(),
            "frac_coords": self.frac_coords.tolist(),
            "kpoints": list(self.kpoints),
            "moments": None if self.moments is None else list(self.moments),
            "settings": asdict(self.settings),
        } | ({} if self.task == "energy" else {"task": self.task})

    def key(self, engine: str) -> str:
        """Name the result in the cache; `engine` says the versions whose energies compare."""
        wrapped = np.round(self.frac_coords, ROUNDED) % 1.0
        rounded: Mapping[str, object] = self.job() | {
            "cell": (np.round(self.cell, ROUNDED) + 0.0).tolist(),
            "frac_coords": np.round(wrapped, ROUNDED).tolist(),
            "engine": engine,
        }
        return hashlib.sha256(json.dumps(rounded, sort_keys=True).encode()).hexdigest()[:20]
