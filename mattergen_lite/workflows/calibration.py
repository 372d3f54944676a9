"""Calibrates a potential: its element references and its errors, from energies of DFT.

1. Elements and compounds of MP-20's training split, as they are: element references.
2. Compounds of MP-20's test split, relaxed: the error model of known crystals.
3. Crystals that a user brings with energies of DFT, relaxed: the error model of novel crystals.

Each crystal is measured once; an interrupted calibration goes on where it was. The figures are of
crystals not used for fitting: each is predicted by a fit that has seen none of its chemical system.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter
from pymatgen.core import Composition, Structure

from mattergen_lite.data.materials import KnownCompound, elemental_crystals
from mattergen_lite.files.folders import write_text
from mattergen_lite.io.formats.structures import ordered
from mattergen_lite.io.records import StructureRecord
from mattergen_lite.processes import Failure, Pool
from mattergen_lite.scoring.energy.accuracy import Accuracy, accuracy
from mattergen_lite.scoring.energy.calibration import (
    Calibration,
    calibrations_as_json,
    error_traits,
    uncalibrated,
)
from mattergen_lite.scoring.energy.fitting import cross_fitted, fit_error_models, fit_references
from mattergen_lite.scoring.energy.potential_set import PotentialSet
from mattergen_lite.scoring.energy.potentials.acceptance_test import accepted_potential
from mattergen_lite.scoring.energy.potentials.sources import PotentialSource, potential_name
from mattergen_lite.scoring.energy.stability import (
    Measurement,
    potential_energy,
    relaxer_e_above_hull,
)
from mattergen_lite.scoring.execution.result_cache import (
    CachedTask,
    ResultCache,
    structure_identity,
)
from mattergen_lite.scoring.known.compounds import known_compounds
from mattergen_lite.scoring.known.hull import reference_hull
from mattergen_lite.scoring.potential_runner import PotentialRunner

ELEMENT_PRIORS = {"novel": 0.03, "known": 0.02}  # eV/atom: how far elements may differ
MIN_LABELS = 20  # crystals for an error model
TIME_LIMIT = 600.0  # s a crystal
# Columns in which labels are looked for, eV/atom; the first that a file has.
ABOVE_HULL_LABELS = ("decomposition_energy_dft", "e_above_hull_dft", "e_above_hull")
FORMATION_LABELS = ("formation_energy_per_atom_dft", "formation_energy_per_atom")


@dataclass(frozen=True, kw_only=True)
class CalibrationOptions:
    """Potentials to calibrate, and numbers of the compounds that they are fitted to."""

    potential: PotentialSource
    relaxer: PotentialSource
    num_references: int = 400  # compounds for the element references
    num_known: int = 120  # compounds that are relaxed
    max_atoms: int = 12  # of compounds
    seed: int = 1

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the potentials whose errors are fitted; the relaxer is one of them."""
        return tuple(dict.fromkeys([potential_name(self.potential), potential_name(self.relaxer)]))


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """One crystal with DFT's energy above this program's hull, in eV/atom."""

    name: str
    structure: Structure
    e_above_hull: float
    label_set: str = ""  # that is shifted, see `fit_error_models`; "" where comparable to the hull


@dataclass(frozen=True, kw_only=True)
class Calibrated:
    """A finished calibration."""

    path: Path
    fitted: Mapping[str, Calibration]
    held_out: Mapping[str, Mapping[str, Accuracy | None]]  # potential -> "novel", "known"
    failed: Mapping[str, str]  # name of a crystal -> why it has no energy

    def text(self) -> str:
        """Summary for a terminal."""
        lines = []
        for potential, kinds in self.held_out.items():
            for kind, model in kinds.items():
                told = model.text() if model else "uncalibrated: too few crystals with energies"
                lines.append(f"{potential}, {kind} crystals, not fitted: {told}")
        if self.failed:
            name, reason = next(iter(self.failed.items()))
            lines.append(f"{len(self.failed)} crystals without energy, such as {name}: {reason}")
        return "\n".join([*lines, f"-> {self.path}, for --calibration"])


def find_energies(
    structure: Structure, *, potentials: tuple[PotentialSource, ...]
) -> dict[str, float]:
    """Energies of a crystal as it is, by potential, eV/atom with MP2020 corrections."""
    return {
        potential_name(potential): potential_energy(
            structure, accepted_potential(potential)
        ).energy_per_atom
        for potential in potentials
    }


def labelled(
    records: Sequence[StructureRecord], column: str | None = None, label_set: str = ""
) -> list[Labelled]:
    """Crystals with DFT energies out of what a user brings.

    Formation energies are compared with this program's hull; energies above a hull are taken as
    they are.

    Args:
        column: Of the labels; None looks for the usual ones.
        label_set: Name of the set, if its energies are of other settings than the hull's.

    Raises:
        ValueError: If no readable structure has a label.
    """
    crystals = []
    for record in records:
        names = [column] if column else [*ABOVE_HULL_LABELS, *FORMATION_LABELS]
        present = [name for name in names if np.isfinite(record.properties.get(name, np.nan))]
        if record.structure is None or not present:
            continue
        label, structure = record.properties[present[0]], ordered(record.structure)
        if "formation" in present[0]:
            label -= _hull_energy(structure.composition.reduced_formula)
        known = {"structure": structure, "e_above_hull": float(label)}
        crystals.append(Labelled(name=record.name, label_set=label_set, **known))
    if not crystals:
        expected = column or ", ".join([*ABOVE_HULL_LABELS, *FORMATION_LABELS])
        raise ValueError(f"no crystal has a label: expected numbers in a column {expected}")
    return crystals


def calibrate(
    options: CalibrationOptions, novel: Sequence[Labelled], out: Path, pool: Pool
) -> Calibrated:
    """Measure, fit, test on what was not fitted, and write.

    Raises:
        ValueError: If a potential cannot be loaded or fails its acceptance test.
    """
    for source in (options.potential, options.relaxer):
        accepted_potential(source)  # before any work
    result_cache = ResultCache(pool, out.with_name(f"{out.name}.journal.jsonl"))
    references, failed = _references(options, result_cache)
    known = [
        Labelled(
            name=compound.material_id,
            structure=compound.structure,
            e_above_hull=compound.e_above_hull,
        )
        for compound in known_compounds(
            "test", max_atoms=options.max_atoms, num=options.num_known, seed=options.seed
        )
    ]
    sets = {}
    for kind, crystals in (("novel", novel), ("known", known)):
        measured, lost = measure_labelled(crystals, options, result_cache)
        sets[kind], failed = measured, failed | lost
    fitted, held_out = {}, {}
    relaxer = potential_name(options.relaxer)
    calibrations = {name: uncalibrated(energies, relaxer) for name, energies in references.items()}
    for name in options.names:
        fitted[name], held_out[name] = _fit(name, calibrations, sets)
    figures = {
        name: {kind: model and asdict(model) for kind, model in kinds.items()}
        for name, kinds in held_out.items()
    }
    source = (
        f"mattergen-lite calibrate: {len(sets['novel'])} novel and {len(sets['known'])} known "
        f"crystals relaxed with {relaxer}; energies in eV/atom"
    )
    write_text(calibrations_as_json(fitted, source, figures), out)
    result_cache.forget()
    return Calibrated(path=out, fitted=fitted, held_out=held_out, failed=failed)


def _references(
    options: CalibrationOptions, result_cache: ResultCache
) -> tuple[dict[str, dict[str, float]], dict[str, str]]:
    """Element references in eV/atom by potential, and what failed."""
    elements = list(elemental_crystals().values())
    compounds = known_compounds(
        "train", max_atoms=options.max_atoms, num=options.num_references, seed=options.seed
    )
    potentials = tuple(dict.fromkeys([options.potential, options.relaxer]))
    question = CachedTask(
        partial(find_energies, potentials=potentials),
        structure_identity,
        TypeAdapter(dict[str, float]),
        "references",
        TIME_LIMIT,
    )
    crystals = [*elements, *compounds]
    answers = result_cache.ask(question, [crystal.structure for crystal in crystals])
    pairs: list[tuple[KnownCompound, Mapping[str, float]]] = []
    failed = {}
    for crystal, answer in zip(crystals, answers, strict=True):
        if isinstance(answer, Failure):
            failed[crystal.material_id] = answer.reason
        else:
            pairs.append((crystal, answer))
    return {name: _fit_references(name, pairs) for name in options.names}, failed


def _fit_references(
    name: str, pairs: Sequence[tuple[KnownCompound, Mapping[str, float]]]
) -> dict[str, float]:
    own = {
        compound.composition.elements[0].symbol: energies[name] - compound.formation_energy_per_atom
        for compound, energies in pairs
        if len(compound.composition) == 1
    }
    compounds = [
        (compound, energies[name])
        for compound, energies in pairs
        if len(compound.composition) > 1 and set(compound.structure.symbol_set) <= own.keys()
    ]
    return fit_references(
        [compound.composition for compound, _ in compounds],
        np.array([energy for _, energy in compounds]),
        np.array([compound.formation_energy_per_atom for compound, _ in compounds]),
        own,
    )


@dataclass(frozen=True)
class Measured:
    """One labelled crystal, relaxed."""

    crystal: Labelled
    measurement: Measurement

    @property
    def composition(self) -> Composition:
        """Its composition."""
        return self.crystal.structure.composition

    def e_above_hull(self, potential: str, calibrated: Calibration) -> float:
        """Raw energy above the hull in eV/atom, as a potential says."""
        energy = self.measurement.energies_per_atom[potential]
        formation = calibrated.formation_energy(self.composition, energy)
        return formation - self.measurement.hull_energy_per_atom

    def traits(self, potential: str, calibrated: Mapping[str, Calibration]) -> dict[str, float]:
        """Traits that the error of a potential may depend on."""
        return error_traits(
            self.e_above_hull(potential, calibrated[potential]),
            relaxer_e_above_hull(self.measurement, calibrated),
            self.measurement.relaxation.rmsd,
        )


def measure_labelled(
    crystals: Sequence[Labelled], options: CalibrationOptions, result_cache: ResultCache
) -> tuple[list[Measured], dict[str, str]]:
    """Relax labelled crystals and ask every potential for their energies.

    Returns:
        What was measured, and why the others could not be, by name.
    """
    potential_set = PotentialSet(
        relaxer=options.relaxer, decider=options.potential, second_opinion=None, calibrated={}
    )
    runner = PotentialRunner(
        potential_set=potential_set, result_cache=result_cache, time_limit=TIME_LIMIT
    )
    answers = runner.measure([crystal.structure for crystal in crystals])
    measured, failed = [], {}
    for crystal, answer in zip(crystals, answers, strict=True):
        problem = _problem(answer)
        if problem is None:
            measured.append(Measured(crystal, answer))
        else:
            failed[crystal.name] = problem
    return measured, failed


def _problem(answer: Measurement) -> str | None:
    if not np.isfinite(answer.hull_energy_per_atom):
        return "an element has no energy on the reference hull"
    return answer.relaxation.error or next(iter(answer.errors.values()), None)


def _fit(
    name: str,
    calibrations: Mapping[str, Calibration],
    crystals: Mapping[str, Sequence[Measured]],
) -> tuple[Calibration, dict[str, Accuracy | None]]:
    """Fit the error models of one potential, and test them on what was not fitted."""
    whole = replace(calibrations[name], source=name)
    held_out: dict[str, Accuracy | None] = {}
    for kind, measured in crystals.items():
        usable = [
            crystal
            for crystal in measured
            if set(crystal.crystal.structure.symbol_set) <= whole.references.keys()
        ]
        if len(usable) < MIN_LABELS:
            held_out[kind] = None
            continue
        raw = np.array([crystal.e_above_hull(name, whole) for crystal in usable])
        truth = np.array([crystal.crystal.e_above_hull for crystal in usable])
        labels = (
            [crystal.composition for crystal in usable],
            truth - raw,
            ELEMENT_PRIORS[kind],
            [crystal.crystal.label_set for crystal in usable],
            [crystal.traits(name, calibrations) for crystal in usable],
        )
        held_out[kind] = accuracy(cross_fitted(*labels), raw, truth)
        whole = replace(whole, **{kind: fit_error_models(*labels)[""]})
    return whole, held_out


@cache
def _hull_energy(formula: str) -> float:
    return reference_hull().decompose(Composition(formula)).energy_per_atom
