"""Examines a potential on known compounds before it may judge.

Weights that load may still be wrong: of another version, in other units, on another energy scale.
So a potential is asked about the elements and 64 stable compounds with the whole periodic table:

- **formation energies**, from its own energies of the elements, against the Materials Project's,
  raw or corrected, whatever makes the smaller error unless it says;
- **forces** on the geometries that DFT has relaxed, which should be small;
- whether forces and stress are the **gradients** of the energy, on rattled crystals.

A potential of a few elements is tested on their compounds instead.
"""

import math
from collections.abc import Container, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from mattergen_lite.data.materials import KnownCompound, elemental_crystals
from mattergen_lite.scoring.energy.potentials.base import AsePotential, EnergyScheme, Potential
from mattergen_lite.scoring.known.compounds import compounds_within, spread_compounds

if TYPE_CHECKING:
    from ase import Atoms

NUM_COMPOUNDS = 64
MIN_COMPOUNDS = 16  # of them that a potential must know all elements of
MAX_COMPOUNDS_WITHIN = 256  # of a few elements, for a potential that knows no others
NUM_GRADIENTS = 8  # crystals on which forces and stress are compared with differences of energies

# Limits. A universal potential of the first generation has 0.05, 0.04, 0.1 and 0.02.
MAX_MEAN_ERROR = 0.2  # eV/atom, of formation energies
MAX_MEDIAN_ERROR = 0.12  # eV/atom, likewise
MAX_FORCE = 0.2  # eV/Å, median over compounds of the largest on an atom
MAX_GRADIENT_ERROR = 0.25  # relative, median over crystals

DISPLACEMENT = 0.05  # Å, of every coordinate of a rattled crystal
STRAIN = 0.02  # of its cell
STEP = 0.02  # Å along the forces
STRAIN_STEP = 0.005


@dataclass(frozen=True, kw_only=True)
class AcceptanceTest:
    """Errors of a potential on known crystals, by which it may judge or is refused."""

    potential: str
    energy_scheme: EnergyScheme  # of its energies
    references: Mapping[str, float]  # its energies of the elements, eV/atom
    num_compounds: int
    mean_error: float = math.nan  # eV/atom, absolute, of formation energies
    median_error: float = math.nan
    bias: float = math.nan  # eV/atom, potential minus DFT
    worst: str = ""  # formula of the largest error
    worst_error: float = math.nan  # eV/atom, potential minus DFT
    force: float = math.nan  # eV/Å, median of the largest on an atom
    force_gradient_error: float = math.nan  # relative
    stress_gradient_error: float = math.nan  # relative
    failures: Mapping[str, str] = field(default_factory=dict)  # formula -> why it has no energy
    num_spread: int | None = None  # of the 64 that a potential of a few elements covers
    mean_formation: float = math.nan  # eV/atom, absolute, of DFT
    left_out: Mapping[str, float] = field(default_factory=dict)  # element -> mean error, eV/atom

    @property
    def problems(self) -> list[str]:
        """Why the potential may not judge; empty if it may."""
        if self.num_compounds < MIN_COMPOUNDS:
            return [self._too_few()]
        if self.num_spread is not None and not self.mean_error < self.mean_formation:
            return [
                f"formation energies are off by {self.mean_error:.3g} eV/atom on average, no "
                f"better than zero for all compounds ({self.mean_formation:.3g})"
            ]
        limits = {
            f"formation energies are off by {self.mean_error:.3g} eV/atom on average, {self.worst} "
            f"by {self.worst_error:+.2f}": (self.mean_error, MAX_MEAN_ERROR),
            f"they are off by {self.median_error:.3g} eV/atom in the median": (
                self.median_error,
                MAX_MEDIAN_ERROR,
            ),
            f"forces on relaxed crystals are {self.force:.3g} eV/Å": (self.force, MAX_FORCE),
            f"forces differ from the energy's gradient by {self.force_gradient_error:.0%}": (
                self.force_gradient_error,
                MAX_GRADIENT_ERROR,
            ),
            f"stress differs from it by {self.stress_gradient_error:.0%}": (
                self.stress_gradient_error,
                MAX_GRADIENT_ERROR,
            ),
        }
        return [
            f"{problem} (at most {limit})"
            for problem, (measured, limit) in limits.items()
            if not measured <= limit  # a number that is none is a failure
        ]

    def _too_few(self) -> str:
        if self.num_spread is None:
            reason = next(iter(self.failures.values()), "no energies")
            return (
                f"it can describe {self.num_compounds} of {NUM_COMPOUNDS} compounds (at least "
                f"{MIN_COMPOUNDS}): {reason}"
            )
        wrong = ", ".join(f"{s} {error:.2g}" for s, error in self.left_out.items())
        return (
            f"it describes too few elements: {self.num_spread} of {NUM_COMPOUNDS} compounds, and "
            f"{self.num_compounds} of the compounds of {', '.join(self.references) or 'none'} "
            f"(at least {MIN_COMPOUNDS})"
            + (f"; elements left out for their errors in eV/atom: {wrong}" if wrong else "")
        )

    def check(self) -> None:
        """Refuse a potential that failed.

        Raises:
            ValueError: With the figures.
        """
        expected = "other weights, units or another version"
        if self.num_spread is not None:
            expected = "a potential of more elements, or one that is right about these"
        if self.problems:
            raise ValueError(
                f"{self.potential} fails the acceptance test on known compounds: "
                f"{'; '.join(self.problems)}: expected {expected}"
            )


def run_acceptance_test(potential: Potential) -> AcceptanceTest:
    """Ask a potential about the elements and the compounds: some 200 energies of small cells."""
    references = _own_references(potential)
    spread = _within(spread_compounds(NUM_COMPOUNDS), references)
    if len(spread) < MIN_COMPOUNDS:
        return _test_few(potential, references, len(spread))
    return _test_on(potential, references, spread)


def _within(compounds: Sequence[KnownCompound], symbols: Container[str]) -> list[KnownCompound]:
    """Compounds that have no other elements."""
    return [
        compound
        for compound in compounds
        if all(s in symbols for s in compound.structure.symbol_set)
    ]


def _test_few(
    potential: Potential, references: Mapping[str, float], num_spread: int
) -> AcceptanceTest:
    """Test a potential of a few elements on their compounds."""
    # Elements whose compounds have the largest mean errors are left out, one after the other, and
    # so are elements without a compound.
    kept, left_out = dict(references), {}
    compounds = compounds_within(kept.keys(), MAX_COMPOUNDS_WITHIN)
    energies, _, _ = _single_points(potential, compounds)
    compounds = [compound for compound in compounds if compound.material_id in energies]
    while compounds:
        _, errors = _errors(potential, compounds, energies, kept)
        means = _mean_errors(compounds, errors)
        worst = max(means, key=means.get)
        if means[worst] <= MAX_MEAN_ERROR:
            break
        left_out[worst] = means[worst]
        del kept[worst]
        compounds = _within(compounds, kept)
    tested = set().union(*(compound.structure.symbol_set for compound in compounds))
    kept = {symbol: energy for symbol, energy in kept.items() if symbol in tested}
    acceptance = _test_on(potential, kept, compounds)
    return replace(acceptance, num_spread=num_spread, left_out=left_out)


def _mean_errors(compounds: Sequence[KnownCompound], errors: np.ndarray) -> dict[str, float]:
    """Mean absolute errors in eV/atom of the compounds of each element; NaN becomes infinite."""
    by_element: dict[str, list[float]] = {}
    for compound, error in zip(compounds, np.nan_to_num(np.abs(errors), nan=math.inf), strict=True):
        for symbol in compound.structure.symbol_set:
            by_element.setdefault(symbol, []).append(float(error))
    return {symbol: float(np.mean(own)) for symbol, own in sorted(by_element.items())}


def _test_on(
    potential: Potential, references: Mapping[str, float], compounds: Sequence[KnownCompound]
) -> AcceptanceTest:
    """Compare a potential with DFT on some compounds."""
    energies, forces, failures = _single_points(potential, compounds)
    known = [compound for compound in compounds if compound.material_id in energies]
    scheme, errors = _errors(potential, known, energies, references)
    if not known:
        return AcceptanceTest(
            potential=potential.name,
            energy_scheme=scheme,
            references=references,
            num_compounds=0,
            failures=failures,
        )
    worst = int(np.abs(errors).argmax())
    force_error, stress_error = _gradient_errors(potential, known)
    return AcceptanceTest(
        potential=potential.name,
        energy_scheme=scheme,
        references=references,
        num_compounds=len(known),
        mean_error=float(np.abs(errors).mean()),
        median_error=float(np.median(np.abs(errors))),
        bias=float(errors.mean()),
        worst=known[worst].composition.reduced_formula,
        worst_error=float(errors[worst]),
        force=float(np.median([forces[compound.material_id] for compound in known])),
        force_gradient_error=force_error,
        stress_gradient_error=stress_error,
        failures=failures,
        mean_formation=float(
            np.mean([abs(compound.formation_energy_per_atom) for compound in known])
        ),
    )


def _own_references(potential: Potential) -> dict[str, float]:
    """The potential's energies in eV/atom of the elements that it knows."""
    references = {}
    for symbol, crystal in elemental_crystals().items():
        if symbol in potential.supported_elements:
            with suppress(Exception):  # what it cannot describe it does not know
                energy = energy_per_atom(potential, crystal) - crystal.formation_energy_per_atom
                if math.isfinite(energy):
                    references[symbol] = energy
    return references


def _single_points(
    potential: Potential, compounds: Sequence[KnownCompound]
) -> tuple[dict[str, float], dict[str, float], dict[str, str]]:
    """Energies in eV/atom and largest forces in eV/Å by identifier; failures by formula."""
    energies, forces, failures = {}, {}, {}
    for compound in compounds:
        atoms = compound.structure.to_ase_atoms(msonable=False)
        try:
            [point] = potential.single_points([atoms])
        except Exception as error:
            reason = f"{type(error).__name__}: {str(error)[:200]}"
            failures[compound.composition.reduced_formula] = reason
            continue
        energies[compound.material_id] = point.energy / len(atoms)
        forces[compound.material_id] = float(np.linalg.norm(point.forces, axis=1).max())
    return energies, forces, failures


def _errors(
    potential: Potential,
    known: Sequence[KnownCompound],
    energies: Mapping[str, float],
    references: Mapping[str, float],
) -> tuple[EnergyScheme, np.ndarray]:
    """The scheme of the energies, and errors of formation energies in eV/atom by it."""
    undecided = isinstance(potential, AsePotential) and potential.energy_scheme is None
    if undecided:
        schemes = {
            scheme: replace(potential, energy_scheme=scheme) for scheme in ("raw", "corrected")
        }
    else:
        is_raw = any(potential.correction(compound.structure) for compound in known)
        schemes = {"raw" if is_raw else "corrected": potential}
    errors = {
        scheme: np.array([_error(by_scheme, compound, energies, references) for compound in known])
        for scheme, by_scheme in schemes.items()
    }
    scheme = min(errors, key=lambda name: np.abs(errors[name]).mean() if known else 0.0)
    return scheme, errors[scheme]


def _error(
    potential: Potential,
    compound: KnownCompound,
    energies: Mapping[str, float],
    references: Mapping[str, float],
) -> float:
    """Formation energy in eV/atom, potential minus DFT."""
    correction = potential.correction(compound.structure) / len(compound.structure)
    shares = compound.composition.fractional_composition.get_el_amt_dict().items()
    elements = sum(references[symbol] * share for symbol, share in shares)
    energy = energies[compound.material_id] + correction - elements
    return energy - compound.formation_energy_per_atom


def _gradient_errors(
    potential: Potential, compounds: Sequence[KnownCompound]
) -> tuple[float, float]:
    """Median relative errors of forces and of the trace of the stress, on rattled crystals."""
    forces, stresses = [], []
    for seed, compound in enumerate(compounds[:NUM_GRADIENTS]):
        atoms = compound.structure.to_ase_atoms(msonable=False)
        atoms.set_cell(atoms.cell.array * (1 + STRAIN), scale_atoms=True)
        atoms.rattle(DISPLACEMENT, seed=seed)
        [point] = potential.single_points([atoms])
        norm = float(np.linalg.norm(point.forces))
        slope = -_difference(potential, atoms, point.forces / max(norm, 1e-9), 0.0) / STEP
        forces.append(abs(slope - norm) / max(norm, 0.1))
        virial = float(np.trace(point.stress)) * atoms.get_volume()  # eV
        slope = _difference(potential, atoms, np.zeros_like(point.forces), STRAIN_STEP)
        stresses.append(abs(slope / STRAIN_STEP - virial) / max(abs(virial), 0.5))
    return float(np.median(forces)), float(np.median(stresses))


def _difference(
    potential: Potential, atoms: "Atoms", direction: np.ndarray, strain: float
) -> float:
    """Half the difference of energies in eV a step of `STEP` Å and a strain either way."""
    energies = []
    for sign in (1, -1):
        moved = atoms.copy()
        moved.set_positions(atoms.positions + sign * STEP * direction)
        moved.set_cell(atoms.cell.array * (1 + sign * strain), scale_atoms=True)
        energies.append(potential.energy(moved))
    return (energies[0] - energies[1]) / 2


def energy_per_atom(potential: Potential, compound: KnownCompound) -> float:
    """Uncorrected energy in eV/atom."""
    atoms = compound.structure.to_ase_atoms(msonable=False)
    return potential.energy(atoms) / len(atoms)
