"""The entrance exam: a potential answers for known compounds before it may judge unknown ones.

Weights that load without complaint may still be wrong: made for another version of their package,
in other units, on another energy scale. So every potential is asked about the elements and 64
stable compounds that have the whole periodic table in them:

- **formation energies**, from its own energies of the elements, against the Materials Project's.
  Whether its energies are raw or corrected already is what makes the smaller error, unless it says;
- **forces** on the geometries that DFT has relaxed, which should be small;
- whether forces and stress are the **gradients** of the energy, on rattled crystals.

What fails is refused with the figures. A pass is kept, by the package's version and the energies of
a few probes, in the user's cache; those of the shipped potentials are in the package.
"""

import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import TypeAdapter, ValidationError

from mattergen_lite.folders import atomic_path
from mattergen_lite.scoring.energy.potentials.nequix import NequixPotential
from mattergen_lite.scoring.energy.potentials.protocol import AsePotential, Frame, Potential
from mattergen_lite.scoring.energy.potentials.sources import (
    SHIPPED,
    Given,
    PotentialSource,
    family_version,
    load_potential,
    potential_name,
)
from mattergen_lite.scoring.known.compounds import (
    KnownCompound,
    elemental_crystals,
    spread_compounds,
)

if TYPE_CHECKING:
    from ase import Atoms

NUM_COMPOUNDS = 64
MIN_COMPOUNDS = 16  # of them that a potential must know all elements of
NUM_GRADIENTS = 8  # crystals on which forces and stress are compared with differences of energies
NUM_PROBES = 4  # compounds whose energies tell weights apart

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
class Exam:
    """Errors of a potential on known crystals, by which it may judge or is refused."""

    potential: str
    frame: Frame  # of its energies
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

    @property
    def problems(self) -> list[str]:
        """Why the potential may not judge; empty if it may."""
        if self.num_compounds < MIN_COMPOUNDS:
            reason = next(iter(self.failures.values()), "its elements are too few")
            return [
                f"it can describe {self.num_compounds} of {NUM_COMPOUNDS} compounds (at least "
                f"{MIN_COMPOUNDS}): {reason}"
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
            for problem, (found, limit) in limits.items()
            if not found <= limit  # a number that is none is a failure
        ]

    def text(self) -> str:
        """The figures in one line."""
        return (
            f"{self.potential}: {self.num_compounds} known compounds, formation energies off by "
            f"{self.mean_error:.3f} eV/atom (median {self.median_error:.3f}, "
            f"bias {self.bias:+.3f}, worst {self.worst} {self.worst_error:+.2f}), "
            f"forces {self.force:.3f} eV/Å, gradients "
            f"within {self.force_gradient_error:.1%} and {self.stress_gradient_error:.1%}, "
            f"{self.frame} energies"
        )

    def check(self) -> None:
        """Refuse a potential that failed.

        Raises:
            ValueError: With the figures.
        """
        if self.problems:
            raise ValueError(
                f"{self.potential} fails the entrance exam on known compounds: "
                f"{'; '.join(self.problems)}: expected other weights, units or another version"
            )


_EXAMS = TypeAdapter(Exam)
_SHIPPED_EXAMS = TypeAdapter(dict[str, Exam])


@lru_cache(maxsize=8)
def admitted(source: PotentialSource, device: str = "cpu") -> Potential:
    """Load a potential that has passed the exam, with what the exam found out about it.

    Args:
        source: See `sources`.
        device: To run on.

    Raises:
        ValueError: If it cannot be loaded or fails.
    """
    potential = load_potential(source, device)
    exam = exam_of(source, potential)
    exam.check()
    if not isinstance(potential, AsePotential):
        return potential
    known = potential.supported_elements & exam.references.keys()
    return replace(potential, supported_elements=frozenset(known), frame=exam.frame)


def exam_of(source: PotentialSource, potential: Potential | None = None) -> Exam:
    """The exam of a potential, from the package, from the cache, or made now.

    Args:
        source: Of the potential.
        potential: The same, loaded; None loads it where that is needed.

    Raises:
        ValueError: If it cannot be loaded.
    """
    shipped = shipped_exams().get(exam_key(source))
    if shipped is not None:
        return shipped
    potential = potential or load_potential(source)
    path = _cached(potential, source)
    with suppress(OSError, ValidationError, UnicodeDecodeError):
        return _EXAMS.validate_json(path.read_text(encoding="utf-8"))
    exam = examine(potential)
    if not exam.problems:
        with suppress(OSError):  # a home that cannot be written to costs time, nothing else
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(path) as temporary:
                temporary.write_bytes(_EXAMS.dump_json(exam))
    return exam


def exam_key(source: PotentialSource) -> str:
    """Name of a shipped exam: a potential with the version of its package, or its weights' hash."""
    if isinstance(source, str):
        return f"{source} {family_version(source)}"
    return f"{source.name} {source.identity}"


def shipped_exams() -> dict[str, Exam]:
    """Exams that the package brings, by `exam_key`."""
    path = files("mattergen_lite") / "assets" / "exams.json"
    return _SHIPPED_EXAMS.validate_json(path.read_text(encoding="utf-8"))


def _cached(potential: Potential, source: PotentialSource) -> Path:
    """Where a pass is kept: under what tells weights and versions apart."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    probes = [round(energy, 4) for energy in _probe_energies(potential)]
    installed = family_version(potential_name(source))
    identity = [potential.name, installed, version("mattergen-lite"), version("ase"), probes]
    digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:24]
    return home / "mattergen_lite" / "exams" / f"{digest}.json"


def identified(source: PotentialSource) -> PotentialSource:
    """Add a hash of a potential's weights or energies to its name, unless they are shipped.

    A file of weights that this package knows by its hash gets the name of its model.

    Raises:
        ValueError: If it cannot be loaded.
    """
    if isinstance(source, Given) or source in SHIPPED:
        return source
    potential = load_potential(source)
    if isinstance(potential, NequixPotential):
        return Given(potential.name, potential.digest, location=source)
    return Given(source, _cached(potential, source).stem)


def _probe_energies(potential: Potential) -> list[float]:
    """Energies in eV/atom of a few compounds that it knows; different weights give others."""
    energies = []
    for compound in spread_compounds(NUM_COMPOUNDS):
        if set(compound.structure.symbol_set) <= potential.supported_elements:
            with suppress(Exception):
                energies.append(_energy(potential, compound))
        if len(energies) == NUM_PROBES:
            break
    return energies


def _energy(potential: Potential, compound: KnownCompound) -> float:
    """Uncorrected energy in eV/atom."""
    atoms = compound.structure.to_ase_atoms(msonable=False)
    return potential.energy(atoms) / len(atoms)


# The exam


def examine(potential: Potential) -> Exam:
    """Ask a potential about the elements and the compounds: some 200 energies of small cells."""
    references = _own_references(potential)
    compounds = [
        one
        for one in spread_compounds(NUM_COMPOUNDS)
        if set(one.structure.symbol_set) <= references.keys()
    ]
    energies, forces, failures = _single_points(potential, compounds)
    known = [one for one in compounds if one.material_id in energies]
    frame, errors = _errors(potential, known, energies, references)
    if not known:
        return Exam(
            potential=potential.name,
            frame=frame,
            references=references,
            num_compounds=0,
            failures=failures,
        )
    worst = int(np.abs(errors).argmax())
    force_error, stress_error = _gradient_errors(potential, known)
    return Exam(
        potential=potential.name,
        frame=frame,
        references=references,
        num_compounds=len(known),
        mean_error=float(np.abs(errors).mean()),
        median_error=float(np.median(np.abs(errors))),
        bias=float(errors.mean()),
        worst=known[worst].composition.reduced_formula,
        worst_error=float(errors[worst]),
        force=float(np.median([forces[one.material_id] for one in known])),
        force_gradient_error=force_error,
        stress_gradient_error=stress_error,
        failures=failures,
    )


def _own_references(potential: Potential) -> dict[str, float]:
    """The potential's energies in eV/atom of the elements that it knows."""
    references = {}
    for symbol, crystal in elemental_crystals().items():
        if symbol in potential.supported_elements:
            with suppress(Exception):  # what it cannot describe it does not know
                energy = _energy(potential, crystal) - crystal.formation_energy_per_atom
                if math.isfinite(energy):
                    references[symbol] = energy
    return references


def _single_points(
    potential: Potential, compounds: Sequence[KnownCompound]
) -> tuple[dict[str, float], dict[str, float], dict[str, str]]:
    """Energies in eV/atom and largest forces in eV/Å by identifier; failures by formula."""
    energies, forces, failures = {}, {}, {}
    for one in compounds:
        atoms = one.structure.to_ase_atoms(msonable=False)
        try:
            [point] = potential.single_points([atoms])
        except Exception as error:
            reason = f"{type(error).__name__}: {str(error)[:200]}"
            failures[one.composition.reduced_formula] = reason
            continue
        energies[one.material_id] = point.energy / len(atoms)
        forces[one.material_id] = float(np.linalg.norm(point.forces, axis=1).max())
    return energies, forces, failures


def _errors(
    potential: Potential,
    known: Sequence[KnownCompound],
    energies: Mapping[str, float],
    references: Mapping[str, float],
) -> tuple[Frame, np.ndarray]:
    """The frame of the energies, and errors of formation energies in eV/atom on it."""
    undecided = isinstance(potential, AsePotential) and potential.frame is None
    if undecided:
        frames = {frame: replace(potential, frame=frame) for frame in ("raw", "corrected")}
    else:
        is_raw = any(potential.correction(one.structure) for one in known)
        frames = {"raw" if is_raw else "corrected": potential}
    errors = {
        frame: np.array([_error(on_frame, one, energies, references) for one in known])
        for frame, on_frame in frames.items()
    }
    frame = min(errors, key=lambda name: np.abs(errors[name]).mean() if known else 0.0)
    return frame, errors[frame]


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
