"""Computes properties that follow from a structure, and whether a value meets its target."""

import math
from dataclasses import dataclass
from typing import Literal

from pymatgen.core import Structure

from mattergen_lite.chemistry.elements import atomic_masses, herfindahl_indices
from mattergen_lite.chemistry.oxidation import is_metal
from mattergen_lite.request.targets import PropertyTarget
from mattergen_lite.scoring.criteria.symmetry import crystal_system, space_group_of
from mattergen_lite.scoring.energy.stability import Stability

Value = float | int | str
# How a value came about: exactly, from a database, by the guiding regression inside or outside its
# domain, or by a method that does not guide.
Method = Literal[
    *("", "structure", "potential", "known", "regression", "outside domain"),
    *("equation of state", "moments", "network", "DFT"),
]
# What confirms a property of a relaxed crystal.
CONFIRMING = ("equation of state", "moments", "network")


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """How far a measured value may be from its target; the larger of the two counts."""

    absolute: float = 0.0  # in the unit of the property
    relative: float = 0.0  # of the target


# No standard exists; these are of the size of their own errors against experiment or DFT.
TOLERANCES = {
    "density": Tolerance(relative=0.05),  # cell volumes of DFT are good to some 3%
    "volume_per_atom": Tolerance(relative=0.05),
    "hhi": Tolerance(absolute=500.0),  # a twentieth of the scale
    "formation_energy_per_atom": Tolerance(absolute=0.1),  # eV/atom
    "e_above_hull": Tolerance(absolute=0.05),  # eV/atom, the error of the calibrated potentials
    "band_gap": Tolerance(absolute=0.3),  # eV
    "bulk_modulus": Tolerance(relative=0.2),  # regressions are some 25 GPa off
    "shear_modulus": Tolerance(relative=0.2),
    "magnetic_density": Tolerance(absolute=0.02),  # µB/Å³
}
ENERGIES = ("formation_energy_per_atom", "e_above_hull")


def tolerance(name: str) -> Tolerance:
    """The tolerance on a property that is a number; 10% where nothing else is stated."""
    return TOLERANCES.get(name, Tolerance(relative=0.1))


def bounds_of(target: PropertyTarget) -> tuple[float, float] | None:
    """Lowest and highest value of a range; None of a single value or a category."""
    is_range = target.definition.kind == "real" and target.low != target.high
    return (target.low, target.high) if is_range else None


def is_met(target: PropertyTarget, drawn: Value, measured: Value | None) -> bool | None:
    """Whether a value is in the range of a target, or what this crystal was conditioned on."""
    return is_within(target.definition.name, bounds_of(target), drawn, measured)


def is_within(
    name: str, bounds: tuple[float, float] | None, drawn: Value, measured: Value | None
) -> bool | None:
    """Whether bounds hold a value or, without any, whether it is what was drawn.

    Whole numbers and text are categories, which are equal or not. NaN is nothing that was drawn.
    """
    if measured is None:
        return None
    if bounds is not None:
        return bounds[0] <= measured <= bounds[1]
    if isinstance(drawn, int | str):
        return measured == drawn
    allowed = tolerance(name)
    return abs(measured - drawn) <= max(allowed.absolute, allowed.relative * abs(drawn))


def is_possible(name: str, value: float, structure: Structure) -> bool:
    """Whether what a regression reads of a crystal can be true: metals alone have no band gap."""
    return (
        name != "band_gap"
        or value == 0
        or not all(is_metal(e.symbol) for e in structure.composition.elements)
    )


def _mean_herfindahl_index(structure: Structure) -> float:
    """Herfindahl-Hirschman index of production, 0..10,000, averaged over mass."""
    numbers = list(structure.atomic_numbers)
    masses = atomic_masses()[numbers]
    return float((masses * herfindahl_indices()[numbers]).sum() / masses.sum())


def measure_composition(structure: Structure) -> dict[str, Value]:
    """Properties that follow from the composition alone, by name."""
    return {
        "hhi": _mean_herfindahl_index(structure),
        "chemical_system": structure.chemical_system,
    }


def measure_volume(structure: Structure) -> dict[str, float]:
    """Properties that follow from composition and volume, by name."""
    return {
        "density": float(structure.density),  # g/cm³
        "volume_per_atom": structure.volume / len(structure),  # Å³
    }


def measure(
    structure: Structure, *, symprec: float, stability: Stability | None = None
) -> dict[str, Value]:
    """Every property that can be measured on an ordered crystal, by name.

    Args:
        symprec: Symmetry tolerance in Å; 0.1 for generated, 0.01 for relaxed structures.
        stability: What the stability stage said of it, for the energies.
    """
    number = space_group_of(structure, symprec)
    energies = {name: getattr(stability, name, math.nan) for name in ENERGIES}
    return {
        **measure_volume(structure),
        **measure_composition(structure),
        "space_group": number,
        "crystal_system": crystal_system(number),
        **{name: value for name, value in energies.items() if math.isfinite(value)},  # eV/atom
    }
