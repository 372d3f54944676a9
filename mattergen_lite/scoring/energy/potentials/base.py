"""The protocol of an interatomic potential: energy, forces and stress of one crystal.

Energies of a potential are those of its training set. `correction` adds the Materials
Project's MP2020 corrections, with which hulls are built; turning them into formation energies is
the task of `calibration`. Any ASE calculator becomes a potential through `AsePotential`.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

import numpy as np
from pymatgen.core import Element, Structure

from mattergen_lite.scoring.energy.potentials.mp2020 import mp2020_correction
from mattergen_lite.tensors.shapes import Float

if TYPE_CHECKING:
    from ase import Atoms
    from ase.calculators.calculator import Calculator

# Of energies: "raw" of PBE and PBE+U, to be corrected, or "corrected" already, as is whatever the
# corrections do not fit.
EnergyScheme = Literal["raw", "corrected"]

# What universal potentials know unless they say so: elements of the Materials Project's compounds.
COMMON_ELEMENTS = frozenset(Element.from_Z(number).symbol for number in range(1, 95)) - {
    "Po",
    "At",
    "Rn",
    "Fr",
    "Ra",
}


@dataclass(frozen=True, kw_only=True)
class SinglePoint:
    """Energy, forces and stress that a potential gives to one crystal."""

    energy: float  # eV, of the whole cell, before any correction
    forces: Float[np.ndarray, "N 3"]  # eV/Å
    stress: Float[np.ndarray, "3 3"]  # eV/Å³, dE/dstrain over the volume: positive pulls inwards


@runtime_checkable
class Potential(Protocol):
    """An energy surface. Everything takes ASE atoms with a full periodic cell."""

    name: str
    supported_elements: frozenset[str]

    def energy(self, atoms: "Atoms") -> float:
        """Energy in eV alone: two to three times cheaper than a single point."""

    def single_points(self, batch: Sequence["Atoms"]) -> list[SinglePoint]:
        """Energy, forces and stress of one or more crystals, together where that is faster.

        Raises:
            ValueError: If it cannot describe one of the crystals, for example an isolated atom.
        """

    def correction(self, structure: Structure) -> float:
        """Energy in eV to add to a relaxed cell's energy to arrive with MP2020 corrections."""


@dataclass(frozen=True)
class AsePotential:
    """A potential made of an ASE calculator that gives energy, forces and stress.

    Without an `energy_scheme` energies count as corrected; the acceptance test finds the right one.
    Without `together`, which evaluates many crystals at once, it takes one after the other.
    """

    name: str
    calculator: "Calculator"
    supported_elements: frozenset[str] = COMMON_ELEMENTS
    energy_scheme: EnergyScheme | None = None
    together: Callable[[Sequence["Atoms"]], list[SinglePoint]] | None = None

    def energy(self, atoms: "Atoms") -> float:
        """Energy in eV."""
        return float(self.calculator.get_potential_energy(atoms))

    def single_points(self, batch: Sequence["Atoms"]) -> list[SinglePoint]:
        """Energy, forces and stress."""
        if self.together is not None and len(batch) > 1:
            return self.together(batch)
        return [self._single_point(atoms.copy()) for atoms in batch]

    def _single_point(self, atoms: "Atoms") -> SinglePoint:
        atoms.calc = self.calculator
        return SinglePoint(
            energy=float(atoms.get_potential_energy()),
            forces=np.asarray(atoms.get_forces(), dtype=float),
            stress=np.asarray(atoms.get_stress(voigt=False), dtype=float),
        )

    def correction(self, structure: Structure) -> float:
        """MP2020's in eV if the energies are raw, otherwise zero."""
        return mp2020_correction(structure) if self.energy_scheme == "raw" else 0.0


def check_elements(potential: Potential, symbols: Iterable[str]) -> None:
    """Refuse crystals a potential was never trained on.

    Raises:
        ValueError: Naming the unsupported elements.
    """
    unknown = sorted(set(symbols) - potential.supported_elements)
    if unknown:
        known = sorted(potential.supported_elements)
        expected = ", ".join(known) if len(known) < 20 else f"its {len(known)} elements"
        raise ValueError(
            f"{', '.join(unknown)} unsupported by {potential.name}: expected {expected}"
        )


Load = Callable[[str, str], Potential]  # of a model's name or path, and a device
