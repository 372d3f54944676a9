"""Spends calculations of first principles where they teach most, and recalibrates on them.

A label teaches most where the verdict is uncertain and a success likely: candidates are taken by
p² (1 - p), the variance p (1 - p) of the verdict times its probability p, one a chemical system.
The labels update the error model of the potential that decides, see `fitting.update_error_model`.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter
from pymatgen.core import Composition

from mattergen_lite.folders import atomic_path
from mattergen_lite.runs.folder import RunFolder
from mattergen_lite.runs.judgements import Judgements
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


@dataclass(frozen=True, kw_only=True)
class Labelling:
    """How a loop labels crystals of each round by first principles.

    Attributes:
        label: Verifies crystals of a run and keeps their labels in a file.
        potential: Decides about energies; its error model is what is calibrated.
        base: Its calibration before the loop.
    """

    label: Callable[[RunFolder, Path], list[Label]]
    potential: str
    base: Calibration


_LABELS = TypeAdapter(list[Label])


def find_calibration(potential: str, path: Path | None) -> Calibration:
    """The calibration of a potential with an error model of new crystals.

    Args:
        potential: Its name.
        path: File of calibrations that come before the shipped ones; None without one.

    Raises:
        ValueError: If there is none: labels of a few crystals cannot replace it.
    """
    known = calibrations() | ({} if path is None else read_calibrations(path))
    found = known.get(potential)
    if found is None or found.novel is None:
        raise ValueError(
            f"verify: {potential} is uncalibrated: expected a calibrated potential, see `calibrate`"
        )
    return found


def label_run(folder: RunFolder, run: VerifyingRun, path: Path) -> list[Label]:
    """Verify crystals of a run where that teaches most; write the run again, and the labels.

    Args:
        folder: Of a finished run.
        run: How crystals are verified, and how many.
        path: Where labels are kept; those that are there are not made again.
    """
    if path.exists():
        return read_labels(path)
    before = Judgements.load(folder.path)
    results = run.calculate(most_instructive(before.candidates))
    verified = before.with_candidates(decided(before.candidates, results))
    stated = {one.raw.name: one.stability for one in before}
    labels = [
        Label(
            name=one.raw.name,
            formula=one.raw.formula,
            e_above_hull=one.first_principles.dft_e_above_hull,
            raw=one.stability.second_e_above_hull_raw,
            judged=stated[one.raw.name].e_above_hull,
            probability=stated[one.raw.name].probability_metastable,
        )
        for one in verified
        if has_dft_energy(one)
    ]
    rewrite_run(folder.path, verified, run.pool)
    write_json({"labels": [asdict(one) for one in labels]}, path)
    return labels


def read_labels(path: Path) -> list[Label]:
    """The labels of a file; none where it does not exist.

    Raises:
        ValueError: If it is damaged.
    """
    if not path.exists():
        return []
    try:
        return _LABELS.validate_python(read_json(path)["labels"])
    except (ValueError, KeyError):
        raise ValueError(
            f"{path} is damaged: remove it, and the same command makes it again"
        ) from None


def most_instructive(candidates: Sequence[Candidate]) -> list[Candidate]:
    """New relaxed crystals whose labels teach most; of each chemical system one, then a second."""
    new = [one for one in worth_teaching(candidates) if one.relaxed is not None]
    turns: Counter[str] = Counter()
    turn_of: list[tuple[int, Candidate]] = []
    for one in sorted(new, key=_value, reverse=True):
        system = one.final_structure.composition.chemical_system
        turn_of.append((turns[system], one))
        turns[system] += 1
    return [one for _, one in sorted(turn_of, key=lambda pair: pair[0])]


def _value(candidate: Candidate) -> float:
    """Variance of the verdict times its probability."""
    probability = candidate.stability.probability_metastable
    return probability**2 * (1 - probability) if probability == probability else 0.0


def recalibrated(base: Calibration, labels: Sequence[Label]) -> Calibration:
    """A calibration whose error model of new crystals has seen labels."""
    errors = np.array([one.e_above_hull - one.raw for one in labels])
    return replace(base, novel=update_error_model(base.novel, _compositions(labels), errors))


def write_calibration(
    potential: str, base: Calibration, labels: Sequence[Label], path: Path
) -> Path:
    """Write a calibration that has seen labels, as `--calibration` takes it."""
    source = f"{base.source}, and {len(labels)} crystals verified by `discover`"
    text = calibrations_as_json({potential: recalibrated(base, labels)}, source, {})
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
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
    labels = [one for some in rounds for one in some]
    raw = np.array([one.raw for one in labels])
    truth = np.array([one.e_above_hull for one in labels])
    after = []
    for number, some in enumerate(rounds):
        others = [one for k, other in enumerate(rounds) if k != number for one in other]
        model = recalibrated(base, others).novel
        after += [model.at(composition) for composition in _compositions(some)]
    before = [base.novel.at(composition) for composition in _compositions(labels)]
    return accuracy(before, raw, truth), accuracy(after, raw, truth)


def _compositions(labels: Sequence[Label]) -> list[Composition]:
    return [Composition(one.formula) for one in labels]
