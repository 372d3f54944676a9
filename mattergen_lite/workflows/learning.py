"""Writes judged crystals as training rows, good and bad, with their energies.

A model that is conditioned on the energy above the hull learns from bad crystals what to avoid, and
the good ones are shown twice, because they are few. Compositions that smact refuses are not taught.
"""

import math
from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from mattergen_lite.data.canonical import table_from_rows
from mattergen_lite.data.prepare import canonical_rows
from mattergen_lite.io.records import Document
from mattergen_lite.io.tensors import structure_to_json
from mattergen_lite.scoring.candidate import Candidate
from mattergen_lite.scoring.criteria.neutrality.benchmark import CDVAE_SET, smact_sets
from mattergen_lite.scoring.metrics.summary import is_unique_and_novel

E_ABOVE_HULL = "e_above_hull"
LIKELY = "likely_metastable"  # column of a table of judged crystals, 1 or 0
MAX_E_ABOVE_HULL = 2.0  # eV/atom; a single point far above says only that something is wrong
REPEATS = (1, 2)  # times that a crystal is in the table to learn from: if unlikely, if likely


def judged_crystals(
    candidates: Iterable[Candidate], prefix: str, split: str, max_atoms: int
) -> pa.Table:
    """Write candidates as a crystal table, with the energies that the judge has found.

    A crystal stands there as it relaxed, with the calibrated energy above the hull, where it was
    relaxed; as it came, with that of a single point, where it was only screened.

    Args:
        prefix: Of the names in the table.
        max_atoms: Atoms per primitive cell; larger crystals are left out.

    Returns:
        A crystal table with the columns `e_above_hull`, eV/atom, not below zero and null where
        there is none, and `likely_metastable`: 1 if it is credible and worth computing, else 0.
    """
    documents = [
        Document(
            f"{prefix}-{candidate.raw.name}",
            "row",
            structure_to_json(candidate.final_structure) | _labels(candidate) | {"split": split},
        )
        for candidate in candidates
    ]
    rows, _ = canonical_rows(documents, 0, max_atoms)
    return table_from_rows(rows)


def worth_teaching(candidates: Iterable[Candidate]) -> list[Candidate]:
    """The new crystals with an energy: equal to no known one, nor to an earlier one of the set."""
    return [
        candidate
        for candidate in candidates
        if _is_new(candidate) and _energy(candidate) < MAX_E_ABOVE_HULL
    ]


def training_rows(judged: pa.Table) -> pa.Table:
    """The crystals of a table of `judged_crystals`, each as often as it is to be learnt from."""
    neutral = [CDVAE_SET in smact_sets(formula) for formula in judged["formula"].to_pylist()]
    times = np.array(REPEATS)[judged[LIKELY].to_numpy().astype(int)] * np.array(neutral, dtype=int)
    return judged.take(np.repeat(np.arange(len(judged)), times)).drop_columns([LIKELY])


def is_likely(candidate: Candidate) -> bool:
    """Tell whether a crystal is credible and likely enough to be metastable to be computed."""
    return candidate.is_credible and candidate.checks.get("metastable", False)


def _is_new(candidate: Candidate) -> bool:
    """Whether a crystal equals neither a known nor an earlier one, as it came and as it relaxed."""
    scores = (score for score in (candidate.raw, candidate.relaxed) if score is not None)
    return all(is_unique_and_novel(score) for score in scores)


def _labels(candidate: Candidate) -> dict[str, float]:
    """What a model can be taught of a crystal beside the crystal."""
    energy = _energy(candidate)
    known = {E_ABOVE_HULL: max(energy, 0.0)} if math.isfinite(energy) else {}
    return known | {LIKELY: float(is_likely(candidate))}


def _energy(candidate: Candidate) -> float:
    """Energy above the hull of `final_structure`, eV/atom; NaN where none was found."""
    if candidate.relaxed is not None:
        return candidate.stability.e_above_hull
    return candidate.screening.screening_e_above_hull if candidate.screening else math.nan
