"""Fit the shipped calibration from stored energies and published labels.

    python scripts/fit_calibration.py --wbm wbm_dft_half.parquet \
        --generated mattergen_mp20_dft.parquet cdvae_mp20_dft.parquet

Energies by the potentials are in `datasets/judge_energies.parquet` (crystals with labels) and
`datasets/known_energies.parquet` (embedded compounds); the labels are their authors' and stay in
their files. Every crystal is predicted by a fit that has seen none of its chemical system, beside
what the calibration shipped today says of it. What is written is fitted to all.
"""

import argparse
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
from pymatgen.core import Composition

from mattergen_lite.scoring.energy.accuracy import METASTABLE, accuracy
from mattergen_lite.scoring.energy.calibration import (
    RELAXER,
    Calibration,
    ErrorDistribution,
    calibrations,
    calibrations_as_json,
    error_traits,
)
from mattergen_lite.scoring.energy.fitting import cross_fitted, fit_error_models
from mattergen_lite.workflows.calibration import ELEMENT_PRIORS

ROOT = Path(__file__).resolve().parents[1]
ASSET = ROOT / "mattergen_lite" / "assets" / "calibration.json"
SOURCE = (
    "scripts/fit_calibration.py: crystals of generators and of WBM, relaxed with CHGNet, labels "
    "of generators' crystals and of WBM's with older corrections, with their own shifts; embedded "
    "compounds as they are; energies in eV/atom"
)
MAX_ERROR = 1.5  # eV/atom; beyond it the hull or the label is wrong, not the potential
MAX_FORCE = 5.0  # eV/Å; an embedded crystal with more is damaged
GENERATED, LEGACY = "generated", "legacy"  # sets of labels with shifts of their own


@dataclass(frozen=True)
class Labels:
    """Crystals with labels, as one potential sees them; energies in eV/atom."""

    compositions: list[Composition]
    truth: np.ndarray
    raw: np.ndarray
    traits: list[dict[str, float]]
    sets: list[str]

    def arguments(self, kind: str) -> tuple:
        """Arguments of the fits."""
        errors = self.truth - self.raw
        return self.compositions, errors, ELEMENT_PRIORS[kind], self.sets, self.traits


def read_labels(generated: list[Path], wbm: Path) -> pd.DataFrame:
    """Labels in eV/atom and their sets, by name of the crystal."""
    tables = []
    for path in generated:
        labels = pd.read_parquet(path).decomposition_energy_dft.dropna()
        names = [f"{path.stem.split('_')[0]}-{row}" for row in labels.index]
        tables.append(pd.DataFrame({"truth": labels.to_numpy(), "label_set": GENERATED}, names))
    table = pd.read_parquet(wbm).reset_index(drop=True)
    names = [f"wbm-{row}" for row in table.index]
    sets = table.frame.map({"mp2020": "", "legacy": LEGACY}).to_numpy()
    tables.append(pd.DataFrame({"truth": table.e_above_hull.to_numpy(), "label_set": sets}, names))
    return pd.concat(tables)


@cache
def _composition(formula: str) -> Composition:
    return Composition(formula)


def formation_energies(energies: pd.DataFrame, calibrated: Calibration, name: str) -> np.ndarray:
    """Formation energies by a potential, eV/atom; NaN where it has none."""
    computed = []
    for formula, energy in zip(energies.formula, energies[name], strict=True):
        composition = _composition(formula)
        has_references = {e.symbol for e in composition} <= calibrated.references.keys()
        computed.append(
            calibrated.formation_energy(composition, energy) if has_references else np.nan
        )
    return np.array(computed)


def novel_labels(
    energies: pd.DataFrame, name: str, calibrated: Mapping[str, Calibration]
) -> Labels:
    """Labelled crystals relaxed with CHGNet."""
    hull = energies.hull_energy_per_atom.to_numpy()
    raw = formation_energies(energies, calibrated[name], name) - hull
    by_relaxer = formation_energies(energies, calibrated[RELAXER], RELAXER) - hull
    traits = [error_traits(*row) for row in zip(raw, by_relaxer, energies.rmsd, strict=True)]
    return _usable(energies.formula, energies.truth.to_numpy(), raw, traits, energies.label_set)


def known_labels(
    energies: pd.DataFrame, name: str, calibrated: Mapping[str, Calibration]
) -> Labels:
    """Embedded compounds as they are, damaged ones left out."""
    energies = energies[~(energies.max_force > MAX_FORCE)]
    hull = (energies.formation_energy_per_atom - energies.e_above_hull).to_numpy()
    raw = formation_energies(energies, calibrated[name], name) - hull
    by_relaxer = formation_energies(energies, calibrated[RELAXER], RELAXER) - hull
    traits = [error_traits(*row) for row in zip(raw, by_relaxer, strict=True)]
    sets = pd.Series("", energies.index)
    return _usable(energies.formula, energies.e_above_hull.to_numpy(), raw, traits, sets)


def _usable(
    formulas: pd.Series, truth: np.ndarray, raw: np.ndarray, traits: list, sets: pd.Series
) -> Labels:
    """Labels of crystals with an energy that is not absurd."""
    rows = np.flatnonzero(np.abs(truth - raw) < MAX_ERROR)
    return Labels(
        compositions=[_composition(formulas.iloc[row]) for row in rows],
        truth=truth[rows],
        raw=raw[rows],
        traits=[traits[row] for row in rows],
        sets=[sets.iloc[row] for row in rows],
    )


def report(
    labels: Labels, predicted: list[ErrorDistribution], subsets: Mapping[str, np.ndarray]
) -> pd.DataFrame:
    """Figures of every subset."""
    figures = {}
    for name, rows in subsets.items():
        if rows.any():
            chosen = [predicted[row] for row in np.flatnonzero(rows)]
            figures[name] = asdict(accuracy(chosen, labels.raw[rows], labels.truth[rows]))
    return pd.DataFrame(figures).T


def deciles(labels: Labels, predicted: list[ErrorDistribution], rows: np.ndarray) -> pd.DataFrame:
    """Share within 0.1 eV/atom against the probability, by tenths of the probability."""
    probability = np.array(
        [
            model.probability_below(METASTABLE, raw)
            for model, raw in zip(predicted, labels.raw, strict=True)
        ]
    )[rows]
    table = pd.DataFrame({"said": probability, "true": labels.truth[rows] <= METASTABLE})
    tenth = np.minimum((probability * 10).astype(int), 9)
    return table.groupby(tenth).agg(
        crystals=("said", "size"), said=("said", "mean"), true=("true", "mean")
    )


def fit(
    name: str, kind: str, labels: Labels, shipped: Calibration
) -> tuple[Calibration, dict[str, dict]]:
    """Fit an error model, print its figures on what it has not seen beside those of today."""
    sets = np.array(labels.sets)
    subsets = {kind: np.full(len(sets), True)}
    if kind == "novel":
        subsets = {
            "generated": sets == GENERATED,
            "wbm": sets != GENERATED,
            "wbm, frame of the hull": sets == "",
            "wbm, older corrections": sets == LEGACY,
        }
    predicted = cross_fitted(*labels.arguments(kind))
    held_out = report(labels, predicted, subsets)
    model = getattr(shipped, kind)
    pairs = zip(labels.compositions, labels.traits, strict=True)
    today = [] if model is None else [model.at(*pair) for pair in pairs]
    print(f"\n{name}, {kind}, not fitted\n{held_out.round(3).T.to_string()}")
    if today:
        print(f"\nshipped today\n{report(labels, today, subsets).round(3).T.to_string()}")
    for subset, rows in subsets.items():
        print(f"\n{subset}, tenths\n{deciles(labels, predicted, rows).round(2).T.to_string()}")
    fitted = fit_error_models(*labels.arguments(kind))[""]
    figures = {key: row.round(4).to_dict() for key, row in held_out.iterrows()}
    return replace(shipped, **{kind: fitted}), figures


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--generated", type=Path, nargs="+", default=[])
    parser.add_argument("--wbm", type=Path, help="without labels only known crystals are fitted")
    parser.add_argument("--potential", nargs="+", default=[*calibrations()])
    parser.add_argument("--out", type=Path, default=ASSET)
    options = parser.parse_args()
    known = pd.read_parquet(ROOT / "datasets" / "known_energies.parquet")
    tables = {"known": (known, known_labels)}
    if options.wbm:
        novel = pd.read_parquet(ROOT / "datasets" / "judge_energies.parquet").set_index("name")
        novel = novel.join(read_labels(options.generated, options.wbm), how="inner")
        tables["novel"] = (novel, novel_labels)
    fitted, held_out = dict(calibrations()), json.loads(ASSET.read_text())["held_out"]
    for name in options.potential:
        for kind, (table, labels) in tables.items():
            fitted[name], figures = fit(name, kind, labels(table, name, fitted), fitted[name])
            held_out[name] = held_out.get(name, {}) | figures
    options.out.write_text(calibrations_as_json(fitted, SOURCE, held_out), encoding="utf-8")


if __name__ == "__main__":
    main()
