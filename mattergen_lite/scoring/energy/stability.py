"""Assesses the stability of one crystal: energy above the hull, standard error and probability.

A cheap potential relaxes, an accurate one decides; `calibration` models the errors.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from pymatgen.core import Composition, Structure

from mattergen_lite.scoring.energy.accuracy import METASTABLE
from mattergen_lite.scoring.energy.calibration import (
    UNCALIBRATED,
    Calibration,
    calibrations,
    error_traits,
)
from mattergen_lite.scoring.energy.potentials.base import Potential, check_elements
from mattergen_lite.scoring.energy.relaxation import Relaxation, evaluate
from mattergen_lite.scoring.energy.symmetry_breaking import Release
from mattergen_lite.scoring.known.hull import reference_hull

MAX_DISAGREEMENT = 0.15  # eV/atom between two potentials, beyond which the verdict is flagged
# eV/atom; what is expected below it lies where the hull lacks a phase. DFT puts 1.3% of WBM's 4,986
# crystals as far below this hull, nearly all of Yb, Ac, Pa, Pu, Er or a transition metal whose
# compounds the hull lacks, and none of 970 published generated crystals (the lowest is at -0.138).
LOWEST = -0.15


@dataclass(frozen=True, kw_only=True)
class Stability:
    """Where one relaxed crystal lies above the hull, according to potentials, in eV/atom."""

    e_above_hull: float = math.nan  # expected value; negative: below all that is known
    e_above_hull_std: float = math.nan  # standard error of the above against DFT
    probability_stable: float = math.nan  # of DFT finding it on or below the hull
    probability_metastable: float = math.nan  # of DFT finding it within 0.1 eV/atom
    e_above_hull_raw: float = math.nan  # as the potential says, before the error model
    formation_energy_per_atom: float = math.nan  # as the potential says, with MP2020 corrections
    correction_per_atom: float = math.nan  # MP2020's, in the energies above; 0 if trained on it
    decomposition: str = ""  # what it would decompose into, in shares of the atoms
    potential: str = ""  # that decided
    calibration: str = ""  # of its errors: "shipped", a file's name or "uncalibrated"
    second_opinion: str = ""  # the other potential, if there were two
    second_e_above_hull_raw: float = math.nan
    opinions_disagree: bool = False
    relaxed_with: str = ""
    relaxation_converged: bool = False
    relaxation_steps: int = 0
    constrained_space_group: int = 1  # kept while relaxing; 1 where none was
    released_space_group: int | None = None  # after a rattle without symmetry; None if not tried
    released_energy_change: float = math.nan  # eV/atom, released minus constrained
    release_accepted: bool | None = None  # the released crystal is the one judged
    max_force: float = math.nan  # eV/Å, after relaxation
    max_stress: float = math.nan  # GPa, after relaxation
    rmsd: float = math.nan  # Å, raw to relaxed
    volume_change: float = math.nan  # raw to relaxed, relative
    stability_error: str | None = None

    @property
    def is_uncalibrated(self) -> bool:
        """Whether nothing is known of the errors of the potential that decided."""
        return self.calibration == UNCALIBRATED

    @property
    def stated_energy(self) -> str:
        """Energy above the hull with its standard error, in words."""
        energy = f"{self.e_above_hull:z.3f} ± {self.e_above_hull_std:.3f} eV/atom"
        return f"{energy} ({UNCALIBRATED})" if self.is_uncalibrated else energy


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What potentials say of one crystal: relaxed by one of them, its energy by each."""

    relaxed_with: str
    relaxation: Relaxation
    energies_per_atom: Mapping[
        str, float
    ]  # of the relaxed crystal, by potential, with MP2020 corrections
    errors: Mapping[str, str]  # why a potential has no energy
    corrections_per_atom: Mapping[str, float] = field(default_factory=dict)  # in the energies
    hull_energy_per_atom: float = math.nan  # of the hull at its composition, eV/atom
    decomposition: str = ""  # the phases of the hull there, in shares of the atoms
    release: Release | None = None  # of the symmetry that the relaxation kept, if tried

    @property
    def judged(self) -> Relaxation:
        """The relaxation that is judged: the released one where that was accepted."""
        if self.release is not None and self.release.accepted:
            return self.release.relaxation
        return self.relaxation


def measurement(relaxation: Relaxation, composition: Composition, relaxed_with: str) -> Measurement:
    """A relaxation with the energy of its potential and the hull; others have not been asked."""
    return Measurement(
        relaxed_with=relaxed_with,
        relaxation=relaxation,
        energies_per_atom={relaxed_with: relaxation.energy_per_atom},
        errors={},
        corrections_per_atom={relaxed_with: relaxation.correction_per_atom},
        **_position_of_hull(composition),
    )


def _position_of_hull(composition: Composition) -> dict[str, float | str]:
    """Where the hull lies at a composition; nowhere if an element has no reference."""
    try:
        decomposition = reference_hull().decompose(composition)
    except ValueError:
        return {}
    return {
        "hull_energy_per_atom": decomposition.energy_per_atom,
        "decomposition": str(decomposition),
    }


@dataclass(frozen=True, kw_only=True)
class PotentialEnergy:
    """The energy of a crystal as it is by one potential, or why there is none."""

    energy_per_atom: float = math.nan  # eV/atom, with MP2020 corrections
    correction_per_atom: float = 0.0  # eV/atom, in the above
    error: str | None = None


def potential_energy(structure: Structure, potential: Potential) -> PotentialEnergy:
    """Energy of a crystal as it is, and the correction in it.

    Raises:
        ValueError: If the potential cannot describe the crystal.
    """
    check_elements(potential, structure.symbol_set)
    energy = potential.energy(structure.to_ase_atoms(msonable=False))
    return _corrected(energy, structure, potential)


def potential_energies(
    structures: Sequence[Structure], potential: Potential
) -> list[PotentialEnergy]:
    """Energies of crystals as they are, together where the potential can."""

    def ask(batch: list[Structure]) -> list[PotentialEnergy]:
        for structure in batch:
            check_elements(potential, structure.symbol_set)
        points = potential.single_points(
            [crystal.to_ase_atoms(msonable=False) for crystal in batch]
        )
        return [
            _corrected(point.energy, structure, potential)
            for point, structure in zip(points, batch, strict=True)
        ]

    answers = evaluate(ask, list(structures))
    return [
        PotentialEnergy(error=str(answer)) if isinstance(answer, Exception) else answer
        for answer in answers
    ]


def _corrected(energy: float, structure: Structure, potential: Potential) -> PotentialEnergy:
    """An energy in eV of a whole cell, with MP2020 corrections."""
    correction = potential.correction(structure)
    return PotentialEnergy(
        energy_per_atom=(energy + correction) / len(structure),
        correction_per_atom=correction / len(structure),
    )


def assess(
    measured: Measurement,
    *,
    decider: str,
    second_opinion: str | None = None,
    known: bool = False,
    calibrated: Mapping[str, Calibration] | None = None,
) -> Stability:
    """Judge the stability of a measured crystal.

    Args:
        measured: Relaxed, with energies.
        decider: The potential whose energy decides.
        second_opinion: Another one, to be compared with.
        known: The crystal is a known one, in the training data of the potentials.
        calibrated: What is known about the errors of potentials, by name; default what is shipped.
    """
    calibrated = calibrations() if calibrated is None else calibrated
    relaxation, freed = measured.relaxation, measured.release
    reason = relaxation.error or measured.errors.get(decider)
    if reason is None and not math.isfinite(measured.hull_energy_per_atom):
        reason = "an element has no energy on the reference hull"
    if reason is not None:
        return Stability(stability_error=reason)
    try:
        columns = _verdict(measured, decider, second_opinion, known, calibrated)
    except ValueError as error:
        return Stability(stability_error=str(error))
    verdict = Stability(
        **columns,
        correction_per_atom=measured.corrections_per_atom.get(decider, math.nan),
        decomposition=measured.decomposition,
        relaxed_with=measured.relaxed_with,
        relaxation_converged=measured.judged.converged,
        relaxation_steps=relaxation.num_steps,
        constrained_space_group=relaxation.constrained_space_group,
        released_space_group=freed.space_group if freed else None,
        released_energy_change=freed.energy_change if freed else math.nan,
        release_accepted=freed.accepted if freed else None,
        max_force=measured.judged.max_force,
        max_stress=measured.judged.max_stress,
        rmsd=relaxation.rmsd,
        volume_change=relaxation.volume_change,
    )
    return _doubted(verdict)


def _doubted(verdict: Stability) -> Stability:
    """The verdict, without probabilities where it lies too far below the hull to be true."""
    # A hull that lacks ErBr3 puts any bromide of erbium an electronvolt below all that is known.
    if not verdict.e_above_hull < LOWEST:
        return verdict
    return replace(
        verdict,
        e_above_hull=math.nan,
        e_above_hull_std=math.nan,
        probability_stable=math.nan,
        probability_metastable=math.nan,
        stability_error=(
            f"{-verdict.e_above_hull:.2f} eV/atom below {verdict.decomposition}, all that is known "
            "there: a competing phase is missing from the hull, or the potential is wrong"
        ),
    )


def relaxer_e_above_hull(measured: Measurement, calibrated: Mapping[str, Calibration]) -> float:
    """Raw energy above the hull by the potential that relaxed, in eV/atom; NaN without one."""
    try:
        return _raw_energies(measured, measured.relaxed_with, calibrated)[1]
    except ValueError:
        return math.nan


def _raw_energies(
    measured: Measurement, potential: str, calibrated: Mapping[str, Calibration]
) -> tuple[float, float]:
    """Formation energy and energy above the hull by a potential that has an energy, eV/atom."""
    if potential not in calibrated:
        raise ValueError(f"no element references of {potential!r}: expected a calibration")
    formation = calibrated[potential].formation_energy(
        measured.judged.structure.composition, measured.energies_per_atom[potential]
    )
    return formation, formation - measured.hull_energy_per_atom


def _verdict(
    measured: Measurement,
    decider: str,
    second_opinion: str | None,
    known: bool,
    calibrated: Mapping[str, Calibration],
) -> dict[str, float | str | bool]:
    """The columns of `Stability` that follow from the energies of the potentials."""
    formation, raw = _raw_energies(measured, decider, calibrated)
    has_second = second_opinion in measured.energies_per_atom
    second = _raw_energies(measured, second_opinion, calibrated)[1] if has_second else math.nan
    model, source = calibrated[decider].error_model(known=known, relaxer=measured.relaxed_with)
    traits = error_traits(raw, relaxer_e_above_hull(measured, calibrated), measured.relaxation.rmsd)
    error = model.at(measured.judged.structure.composition, traits)
    return {
        "e_above_hull": raw + error.location,
        "e_above_hull_std": error.std,
        "probability_stable": error.probability_below(0.0, raw),
        "probability_metastable": error.probability_below(METASTABLE, raw),
        "e_above_hull_raw": raw,
        "formation_energy_per_atom": formation,
        "potential": decider,
        "calibration": source,
        "second_opinion": second_opinion if has_second else "",
        "second_e_above_hull_raw": second,
        "opinions_disagree": abs(raw - second) > MAX_DISAGREEMENT,
    }
