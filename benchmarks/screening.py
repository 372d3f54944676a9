"""Fit and test the screen: raw energy and elements -> probability of being metastable afterwards.

    python benchmarks/screening.py ours=judged/ theirs=scored/ --write --json result.json

Each set is the folder of a run of `generate` or `score`. The model is fitted to the probabilities
that the judge gave to its relaxed crystals that came unique and novel, since only those reach the
screen; of a run with `--keep` those that the screen chose. Every crystal is predicted by a fit that
has seen none of its chemical system. `--write` then fits to all and replaces
`assets/screening.json`.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from measuring import report
from pymatgen.core import Composition
from scipy.optimize import minimize
from scipy.special import expit
from scipy.stats import spearmanr

from mattergen_lite.io.read import read_structures
from mattergen_lite.processes import Pool
from mattergen_lite.scoring.energy import screening
from mattergen_lite.scoring.energy.fitting import atomic_fractions, folds_by_system
from mattergen_lite.scoring.energy.screening import ScreeningModel
from mattergen_lite.scoring.execution.result_cache import ResultCache
from mattergen_lite.tensors.shapes import Float

ASSET = Path(screening.__file__).parents[2] / "assets" / "screening.json"
FRAMES = "structures.extxyz"
BINS = (0.0, 0.05, 0.2, 0.5, 1.0)  # of the predicted probability
SHARES = (0.1, 0.2, 0.3)  # kept, of which the purity is stated
SCALE = 0.1  # eV/atom, E₀ of the model: where asinh turns from linear to logarithmic
RIDGE, RIDGE_ELEMENTS = 0.1, 0.5  # penalties on the squares of slopes and of elements' weights


def read_run(folder: Path) -> pd.DataFrame:
    """One row a relaxed crystal of a run that was unique and novel: what it was, what it became."""
    (table,) = [path for path in folder.glob("*.parquet") if path.stem in ("scores", "candidates")]
    judged = pd.read_parquet(table).set_index("name")
    judged = judged[judged.relaxed_with.notna() & judged.is_unique & judged.is_novel]
    crystals = [
        record for record in read_structures(folder / FRAMES) if record.name in judged.index
    ]
    structures = [crystal.structure for crystal in crystals]
    with Pool(0) as pool:
        energies = screening.ask_raw_energies(structures, ResultCache(pool, progress=False))
    rows = judged.loc[[crystal.name for crystal in crystals]]
    return pd.DataFrame(
        {
            "energy": [energy.e_above_hull for energy in energies],
            "num_atoms": [energy.num_atoms for energy in energies],
            "composition": [structure.composition for structure in structures],
            "probability": rows.probability_metastable.fillna(0.0).to_numpy(),
            "relaxed_energy": rows.e_above_hull_raw.to_numpy(dtype=float),
        }
    ).dropna(subset=["energy"])


def fit_screening(
    e_above_hull: Float[np.ndarray, "C"],
    num_atoms: np.ndarray,
    compositions: Sequence[Composition],
    outcomes: Float[np.ndarray, "C"],
) -> ScreeningModel:
    """Fit the model by penalised maximum likelihood to outcomes, which may be probabilities.

    Args:
        e_above_hull: Of raw crystals, eV/atom.
        num_atoms: Of their primitive cells.
        compositions: Of the crystals.
        outcomes: Metastable after relaxing or not, in 0..1.
    """
    symbols, shares = atomic_fractions(compositions)
    table = np.column_stack(
        [np.ones(len(outcomes)), np.arcsinh(e_above_hull / SCALE), np.log(num_atoms), shares]
    )
    penalty = np.array([0.0, RIDGE, RIDGE, *[RIDGE_ELEMENTS] * len(symbols)])

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        logits = table @ weights
        likelihood = np.logaddexp(0, logits) - outcomes * logits
        slope = (expit(logits) - outcomes) @ table + 2 * penalty * weights
        return float(likelihood.sum() + penalty @ weights**2), slope

    weights = minimize(loss, np.zeros(len(penalty)), jac=True, method="L-BFGS-B").x.tolist()
    return ScreeningModel(
        intercept=weights[0],
        energy=weights[1],
        log_atoms=weights[2],
        scale=SCALE,
        elements=dict(zip(symbols, weights[3:], strict=True)),
    )


def fit(table: pd.DataFrame) -> ScreeningModel:
    return fit_screening(
        table.energy.to_numpy(),
        table.num_atoms.to_numpy(),
        table.composition.tolist(),
        table.probability.to_numpy(),
    )


def predict(model: ScreeningModel, table: pd.DataFrame) -> np.ndarray:
    rows = zip(table.energy.tolist(), table.num_atoms.tolist(), table.composition, strict=True)
    return np.array([model.probability(*row) for row in rows])


def predicted_from_other_systems(table: pd.DataFrame) -> np.ndarray:
    """Every crystal's probability by a fit that has seen none of its chemical system."""
    folds = folds_by_system(table.composition.tolist())
    predicted = np.empty(len(table))
    for fold in np.unique(folds):
        mine = folds == fold
        predicted[mine] = predict(fit(table[~mine]), table[mine])
    return predicted


def brier(predicted: np.ndarray, outcome: np.ndarray) -> float:
    """Expected Brier score, of predictions against outcomes that are probabilities."""
    return float((outcome * (1 - predicted) ** 2 + (1 - outcome) * predicted**2).mean())


def figures(name: str, table: pd.DataFrame) -> dict[str, float | str]:
    """How good the screen is on crystals that it was not fitted to."""
    predicted, outcome = table.predicted.to_numpy(), table.probability.to_numpy()
    finite = np.isfinite(table.relaxed_energy)
    order = np.argsort(-predicted, kind="stable")
    kept = {share: order[: max(1, round(share * len(order)))] for share in SHARES}
    return {
        "set": name,
        "crystals": len(table),
        "Brier": brier(predicted, outcome),
        "Brier of base rate": brier(np.full(len(table), outcome.mean()), outcome),
        "Spearman": float(spearmanr(table.energy[finite], table.relaxed_energy[finite]).statistic),
        "expected": float(outcome.sum()),
        "predicted": float(predicted.sum()),
        "metastable": float(outcome.mean()),
        **{f"of best {share:.0%}": float(outcome[rows].mean()) for share, rows in kept.items()},
        **{
            f"found in {share:.0%}": float(outcome[rows].sum() / outcome.sum())
            for share, rows in kept.items()
        },
    }


def reliability(predicted: np.ndarray, outcome: np.ndarray) -> list[Mapping[str, float]]:
    """Predicted and found probability by bins of the predicted one."""
    bins = np.digitize(predicted, BINS[1:-1])
    return [
        {
            "from": BINS[index],
            "to": BINS[index + 1],
            "crystals": int((bins == index).sum()),
            "predicted": float(predicted[bins == index].mean()),
            "found": float(outcome[bins == index].mean()),
        }
        for index in sorted(set(bins.tolist()))
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sets", nargs="+", help="name=folder")
    parser.add_argument("--write", action="store_true", help="replace the shipped coefficients")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    named = (text.partition("=") for text in options.sets)
    tables = {name: read_run(Path(folder)) for name, _, folder in named}
    every = pd.concat(tables, names=["set"])
    every["predicted"] = predicted_from_other_systems(every)
    rows = [figures(name, every.loc[name]) for name in tables]
    rows.append(figures("all", every))
    curve = reliability(every.predicted.to_numpy(), every.probability.to_numpy())
    facts = {"reliability": curve, "model": asdict(fit(every)), "crystals": len(every)}
    if options.write:
        content = {
            "model": facts["model"],
            "fitted_to": {name: len(table) for name, table in tables.items()},
            "held_out": rows[-1],
            "reliability": curve,
        }
        ASSET.write_text(json.dumps(content, indent=2) + "\n")
    report(rows, facts, options.json)


if __name__ == "__main__":
    main()
