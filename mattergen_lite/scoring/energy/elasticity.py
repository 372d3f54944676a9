"""Computes the bulk modulus of a relaxed crystal from its equation of state.

The cell is scaled isotropically, the atoms relax in each cell, and a third-order Birch-Murnaghan
equation (Birch, Phys. Rev. 1947, 71, 809) is fitted to the energies. That is Voigt's bulk modulus.

Against DFT on 60 known compounds (`benchmarks/elasticity_truth.py`) CHGNet has a mean absolute
error of 13 GPa and a bias of -8 GPa. Clamped atoms are six times cheaper, and rank
crystals worse where symmetry leaves atoms free.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pymatgen.core import Structure

from mattergen_lite.scoring.energy.potentials.base import Potential, check_elements
from mattergen_lite.tensors.shapes import Float

if TYPE_CHECKING:
    from ase import Atoms
    from ase.calculators.calculator import Calculator
    from pymatgen.analysis.eos import EOSBase

MAX_STRAIN = 0.06  # of the volume, either way
NUM_VOLUMES = 7
MAX_FORCE = 0.01  # eV/Å, leaves errors of the energy of about 10 µeV
MAX_STEPS = 60  # of the relaxation of the atoms in each cell
MAX_RESIDUAL = 0.05  # root mean square of the fit over the range of the energies


@dataclass(frozen=True, kw_only=True)
class Elasticity:
    """Response of one crystal to isotropic strain, according to a potential."""

    bulk_modulus: float = math.nan  # GPa, Voigt's, at the equilibrium volume
    bulk_modulus_derivative: float = math.nan  # with respect to pressure, dimensionless
    equilibrium_volume: float = math.nan  # Å³, of the whole cell
    eos_residual: float = math.nan  # eV/atom, root mean square of the fit
    elasticity_potential: str = ""
    elasticity_error: str | None = None


def bulk_modulus(
    structure: Structure,
    potential: Potential,
    *,
    max_strain: float = MAX_STRAIN,
    relax_positions: bool = True,
) -> Elasticity:
    """Bulk modulus of a crystal; whatever goes wrong ends in `elasticity_error`.

    Args:
        structure: Relaxed by the same potential, in any cell.
        potential: Gives energies, and forces if the atoms relax.
        max_strain: Largest relative change of the volume, either way.
        relax_positions: Let the atoms relax in each strained cell. Otherwise they keep their
            fractional coordinates, which is cheaper and too stiff where symmetry leaves them free.
    """
    try:
        check_elements(potential, structure.symbol_set)
        scales = np.cbrt(1 + np.linspace(-max_strain, max_strain, NUM_VOLUMES))
        cells = [_strained(structure, scale) for scale in scales]
        volumes = np.array([atoms.get_volume() for atoms in cells])
        energies = np.array([_energy(atoms, potential, relax_positions) for atoms in cells])
        return fit_equation_of_state(volumes, energies, len(structure), potential.name)
    # What potentials raise on a crystal that makes no sense, and torch where memory runs out.
    except (ValueError, ArithmeticError, np.linalg.LinAlgError, RuntimeError) as error:
        return Elasticity(elasticity_error=f"{potential.name}: {error}")


def _strained(structure: Structure, scale: float) -> "Atoms":
    atoms = structure.to_ase_atoms(msonable=False)
    atoms.set_cell(atoms.cell.array * scale, scale_atoms=True)
    return atoms


def _energy(atoms: "Atoms", potential: Potential, relax_positions: bool) -> float:
    """Energy in eV of the whole cell, which keeps its shape; moves the atoms if they relax."""
    if not relax_positions:
        return potential.energy(atoms)
    from ase.optimize import BFGS

    atoms.calc = _calculator(potential)
    # Forces that are left after the last step cost the fit little: its residual shows how much.
    BFGS(atoms, logfile=None, maxstep=0.05).run(fmax=MAX_FORCE, steps=MAX_STEPS)
    return float(atoms.get_potential_energy())


def _calculator(potential: Potential) -> "Calculator":
    from ase.calculators.calculator import Calculator, all_changes

    class PotentialCalculator(Calculator):
        implemented_properties = ("energy", "forces")

        def calculate(
            self,
            atoms: "Atoms | None" = None,
            properties: Sequence[str] = ("energy",),
            system_changes: Sequence[str] = all_changes,
        ) -> None:
            super().calculate(atoms, properties, system_changes)
            (point,) = potential.single_points([self.atoms])
            self.results = {"energy": point.energy, "forces": point.forces}

    return PotentialCalculator()


def fit_equation_of_state(
    volumes: Float[np.ndarray, "V"],
    energies: Float[np.ndarray, "V"],
    num_atoms: int,
    potential: str,
) -> Elasticity:
    """Fit the equation of state to energies in eV at volumes in Å³, both of the whole cell.

    Raises:
        ValueError: If it does not follow the energies, or has no minimum among the volumes.
    """
    fitted = _birch_murnaghan(volumes, energies)
    residual = float(np.sqrt(np.mean((fitted(volumes) - energies) ** 2)))
    if residual > MAX_RESIDUAL * np.ptp(energies):
        raise ValueError(
            f"energies do not follow an equation of state: residual {residual / num_atoms:.2g} of "
            f"a range of {np.ptp(energies) / num_atoms:.2g} eV/atom"
        )
    return Elasticity(
        bulk_modulus=float(fitted.b0_GPa),
        bulk_modulus_derivative=float(fitted.b1),
        equilibrium_volume=float(fitted.v0),
        eos_residual=residual / num_atoms,
        elasticity_potential=potential,
    )


def _birch_murnaghan(
    volumes: Float[np.ndarray, "V"], energies: Float[np.ndarray, "V"]
) -> "EOSBase":
    from pymatgen.analysis.eos import BirchMurnaghan, EOSError

    if not np.isfinite(energies).all():
        raise ValueError("energies of the strained cells are not finite")
    fitted = BirchMurnaghan(volumes, energies)
    try:
        fitted.fit()
    except EOSError as error:
        raise ValueError(f"no equation of state: {error}") from None
    if not (fitted.b0 > 0 and volumes.min() < fitted.v0 < volumes.max()):
        change = fitted.v0 / np.median(volumes) - 1
        raise ValueError(
            "no energy minimum among the strained cells: the fit has it at "
            f"{change:+.0%} of the volume with a bulk modulus of {float(fitted.b0_GPa):.3g} GPa"
        )
    return fitted
