"""Spends calculations of first principles where they teach most, and recalibrates on them.

A label teaches most where the verdict is uncertain and a success likely: candidates are taken by
p² (1 - p), the variance p (1 - p) of the verdict times its probability p, one a chemical system.
The labels update the error model of the potential that decides, see `fitting.update_error_model`.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter
from pymatgen.core import Composition

from mattergen_lite.files.folders import write_text
from mattergen_lite.runs.folder import RunFolder
from mattergen_lite.runs.judgements import Judgements
from mattergen_lite.runs.store import damaged
from mattergen_lite.runs.tables import read_json, write_json
from mattergen_lite.runs.verifying import VerifyingRun, decided
from mattergen_lite.runs.writing import rewrite_run
from mattergen_lite.scoring.candidate import Candidate
from mattergen_lite.scoring.decided import has_dft_energy
from mattergen_lite.scoring.energy.accuracy import Accuracy, accuracy
from mattergen_lite.scoring.energy.calibration import (
    Calibration,
    calibrations,
    calibrations_as_json,
    error_traits,
    read_calibrations,
)
from mattergen_lite.scoring.energy.fitting import update_error_model
from mattergen_lite.workflows.learning import worth_teaching


@dataclass(frozen=True, kw_only=True)
class Label:
    """A verified crystal; energies above the hull in eV/atom."""

    name: str
    formula: str
    e_above_hull: float  # by DFT
    raw: float  # of the potential, without calibration
    judged: float  # by the judge before
    probability: float  # of being metastable, by the judge before
    traits: Mapping[str, float]  # known ones of `error_traits`

    @property
    def composition(self) -> Composition:
        """Its composition."""
        return Composition(self.formula)


@dataclass(frozen=True, kw_only=True)
class Labelling:
    """How a loop labels crystals of each round by first principles."""

    # verifies crystals of a run and keeps their labels in a file
    label: Callable[[RunFolder, Path], list[Label]]
    potential: str  # decides about energies; its error model is what is calibrated
    # calibrations before the loop, by name of the potential: the user's, and its own
    known: Mapping[str, Calibration]

    @property
    def base(self) -> Calibration:
        """The calibration before the loop of the potential that decides."""
        return self.known[self.potential]


_LABELS = TypeAdapter(list[Label])


def find_calibrations(potential: str, path: Path | None) -> dict[str, Calibration]:
    """The calibrations of a user's file, and that of a potential, the shipped one if need be.

    Raises:
        ValueError: If there is none of the potential: labels of a few crystals cannot replace it.
    """
    own = {} if path is None else read_calibrations(path)
    calibrated = (calibrations() | own).get(potential)
    if calibrated is None or calibrated.novel is None:
        raise ValueError(
            f"verify: {potential} is uncalibrated: expected a calibrated potential, see `calibrate`"
        )
    return own | {potential: calibrated}


def label_run(folder: RunFolder, run: VerifyingRun, path: Path) -> list[Label]:
    """Verify crystals of a run where that teaches most; write their labels, and the run again.

    Labels come first: they remember what the judge had said. After a kill between the two, the run
    is written from results that are kept, and no other crystals are verified.
    """
    before = Judgements.load(folder.path)
    decided_names = {candidate.raw.name for candidate in before if has_dft_energy(candidate)}
    if path.exists() and {label.name for label in read_labels(path)} <= decided_names:
        return read_labels(path)
    results = run.calculate(most_instructive(before.candidates))
    verified = before.with_candidates(decided(before.candidates, results))
    if not path.exists():
        energies = {
            candidate.raw.name: candidate.first_principles.dft_e_above_hull
            for candidate in verified
            if has_dft_energy(candidate)
        }
        labels = [
            _label(candidate, energies[candidate.raw.name])
            for candidate in before
            if candidate.raw.name in energies
        ]
        write_json({"labels": [asdict(label) for label in labels]}, path)
    rewrite_run(folder.path, verified, run.pool)
    return read_labels(path)


def _label(candidate: Candidate, e_above_hull: float) -> Label:
    """The label of a candidate as it was before first principles decided."""
    stated = candidate.stability
    raw, second = stated.e_above_hull_raw, stated.second_e_above_hull_raw
    relaxer = {stated.second_opinion: second, stated.potential: raw}.get(stated.relaxed_with)
    traits = error_traits(raw, math.nan if relaxer is None else relaxer, stated.rmsd)
    return Label(
        name=candidate.raw.name,
        formula=candidate.raw.formula,
        e_above_hull=e_above_hull,
        raw=raw,
        judged=stated.e_above_hull,
        probability=stated.probability_metastable,
        traits={name: trait for name, trait in traits.items() if math.isfinite(trait)},
    )


def read_labels(path: Path) -> list[Label]:
    """The labels of a file; none where it does not exist.

    Raises:
        ValueError: If it is damaged.
    """
    if not path.exists():
        return []
    try:
        return _LABELS.validate_python(read_json(path)["labels"])
    except (ValueError, KeyError) as error:
        raise damaged(path, error) from None


def most_instructive(candidates: Sequence[Candidate]) -> list[Candidate]:
    """New relaxed crystals whose labels teach most; of each chemical system one, then a second."""
    new = [candidate for candidate in worth_teaching(candidates) if candidate.relaxed is not None]
    turns: Counter[str] = Counter()
    turn_of: list[tuple[int, Candidate]] = []
    for candidate in sorted(new, key=_value, reverse=True):
        system = candidate.final_structure.composition.chemical_system
        turn_of.append((turns[system], candidate))
        turns[system] += 1
    return [candidate for _, candidate in sorted(turn_of, key=lambda pair: pair[0])]


def _value(candidate: Candidate) -> float:
    """Variance of the verdict times its probability."""
    probability = candidate.stability.probability_metastable
    return probability**2 * (1 - probability) if probability == probability else 0.0


def recalibrated(base: Calibration, labels: Sequence[Label]) -> Calibration:
    """A calibration whose error model of new crystals has seen labels."""
    compositions = [label.composition for label in labels]
    errors = np.array([label.e_above_hull - label.raw for label in labels])
    traits = [label.traits for label in labels]
    return replace(base, novel=update_error_model(base.novel, compositions, errors, traits))


def write_calibrations(labelling: Labelling, labels: Sequence[Label], path: Path) -> Path:
    """Write the calibrations of a loop, one of which has seen labels, for `--calibration`."""
    base, potential = labelling.base, labelling.potential
    source = f"{base.source}, and {len(labels)} crystals verified by `discover`"
    known = {**labelling.known, potential: recalibrated(base, labels)}
    write_text(calibrations_as_json(known, source, {}), path)
    return path


def before_and_after(
    base: Calibration, rounds: Sequence[Sequence[Label]]
) -> tuple[Accuracy, Accuracy] | None:
    """Accuracy on all labels by a calibration, and by it with the labels of the other rounds.

    Returns:
        None where fewer than two rounds have labels.
    """
    if sum(bool(labels) for labels in rounds) < 2:
        return None
    labels = [label for some in rounds for label in some]
    raw = np.array([label.raw for label in labels])
    truth = np.array([label.e_above_hull for label in labels])
    after = []
    for number, some in enumerate(rounds):
        others = [label for k, other in enumerate(rounds) if k != number for label in other]
        model = recalibrated(base, others).novel
        after += [model.at(label.composition, label.traits) for label in some]
    before = [base.novel.at(label.composition, label.traits) for label in labels]
    return accuracy(before, raw, truth), accuracy(after, raw, truth)
