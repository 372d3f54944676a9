"""Fit the judge of stability and test it against DFT, on known and on generated crystals.

    python benchmarks/stability_truth.py --materials mp_le20.parquet \
        --generated mattergen_mp20_dft.parquet cdvae_mp20_dft.parquet --work runs/stability

Measures (slow; resumes from `--work`), fits on one half, prints tables of the other half. With
`--calibration mattergen_lite/assets/calibration.json` what was fitted is written there.

Sets: "training", MP-20 training compounds as they are, for the element references; "known", MP-20
test compounds, and "unstable", compounds 0.08 to 0.6 eV/atom above the hull outside MP-20's
training set, both relaxed; "generated", crystals with DFT decomposition energies, relaxed, those of
at most 12 atoms first. Half of the first few hundred of each of the last three is for fitting; what
comes after and the other half is for testing. The fit has seen no crystal of more than 12 atoms.
"""

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from itertools import zip_longest
from pathlib import Path

import numpy as np
import pandas as pd
from pymatgen.core import Composition, Structure
from scipy import stats
from tqdm import tqdm

from mattergen_lite.io.formats.structures import build_structure
from mattergen_lite.scoring.energy.accuracy import METASTABLE, WORTH_COMPUTING
from mattergen_lite.scoring.energy.calibration import Calibration, ErrorModel
from mattergen_lite.scoring.energy.fitting import fit_error_model, fit_references
from mattergen_lite.scoring.energy.potentials.sources import load_potential
from mattergen_lite.scoring.energy.relaxation import relax
from mattergen_lite.scoring.energy.stability import energy_per_atom
from mattergen_lite.scoring.known.hull import Decomposition, reference_hull
from mattergen_lite.workflows.calibration import ELEMENT_PRIORS

RELAXER, DECIDER = "chgnet", "7net-l3i5"
MAX_ATOMS = 12
NUM_MEASURED = {"generated": 978, "known": 660, "unstable": 90, "training": 1500}
NUM_FITTED = {
    "generated": 320,
    "known": 320,
    "unstable": 90,
}  # every other pair of the first so many


@dataclass(frozen=True)
class Crystal:
    name: str
    structure: Structure
    truth: float  # DFT energy above the hull, eV/atom
    formation_energy: float = float("nan")  # DFT, eV/atom


# Crystals with DFT energies


def _structure(row: dict) -> Structure:
    return build_structure(
        np.reshape(row["lattice"], (3, 3)),
        [int(number) for number in row["atomic_numbers"]],
        np.reshape(row["frac_coords"], (-1, 3)),
    )


def _shuffled(table: pd.DataFrame, seed: int) -> list[dict]:
    return table.sample(frac=1, random_state=seed).to_dict("records")


def read_generated(paths: list[Path]) -> list[Crystal]:
    """Labelled crystals of every generator: small ones first, alternating between generators."""
    per_generator, larger = [], []
    for path in paths:
        table = pd.read_parquet(path).reset_index()
        table = table[table.decomposition_energy_dft.notna()]
        small = table.nsites <= MAX_ATOMS
        generator = path.stem.split("_")[0]
        small_ones, large_ones = (
            [
                Crystal(f"{generator}-{r['index']}", _structure(r), r["decomposition_energy_dft"])
                for r in _shuffled(some, seed=0)
            ]
            for some in (table[small], table[~small])
        )
        per_generator.append(small_ones)
        larger += large_ones
    alternating = [one for group in zip_longest(*per_generator) for one in group if one is not None]
    return alternating + larger


def read_materials(path: Path) -> dict[str, list[Crystal]]:
    """Sets of Materials Project compounds, and the most stable form of every element."""
    table = pd.read_parquet(path)
    table = table[table.formation_energy_per_atom.notna()]
    small = table[(table.num_atoms <= MAX_ATOMS) & (table.volume_per_atom < 60)]
    labels = ["mp20", "mpts52"]  # original ones
    original = small[
        small.structure_source.isin(["mp20_exact", "mpts52"])
        & small.formation_energy_source.isin(labels)
    ]
    unstable = small[
        small.e_above_hull.between(0.08, 0.6)
        & (small.mp20_split != "train")
        & (small.volume_per_atom < 40)
    ]
    is_element = table.atomic_numbers.map(lambda numbers: len(set(numbers)) == 1)
    elements = table[is_element].sort_values("formation_energy_per_atom")
    sets = {
        "training": _shuffled(original[original.mp20_split == "train"], seed=1),
        "known": _shuffled(original[original.mp20_split == "test"], seed=1),
        "unstable": _shuffled(unstable, seed=2),
        "elements": elements.drop_duplicates("formula").to_dict("records"),
    }
    return {
        name: [
            Crystal(
                r["material_id"], _structure(r), r["e_above_hull"], r["formation_energy_per_atom"]
            )
            for r in rows
        ]
        for name, rows in sets.items()
    }


# Measuring


def relaxed_energies(crystal: Crystal) -> dict:
    """Energies of both potentials on the geometry of the cheap one, and how it got there."""
    relaxation = relax(crystal.structure, load_potential(RELAXER))
    row = asdict(relaxation) | {RELAXER: relaxation.energy_per_atom}
    if row.pop("structure") is not None:
        row[DECIDER] = energy_per_atom(relaxation.structure, load_potential(DECIDER))
    return row


def static_energies(crystal: Crystal) -> dict:
    """Energies of both potentials as the crystal is."""
    return {
        name: energy_per_atom(crystal.structure, load_potential(name))
        for name in (RELAXER, DECIDER)
    }


def measure(crystals: list[Crystal], function: Callable[[Crystal], dict], path: Path) -> None:
    """Append one line per crystal; crystals already in the file are skipped."""
    done = set(_rows(path, {}).index) if path.exists() else set()
    with path.open("a") as file:
        for crystal in tqdm(crystals, desc=path.stem, disable=None):
            if crystal.name not in done:
                try:
                    row = function(crystal)
                except ValueError as error:
                    row = {"error": str(error)}
                file.write(json.dumps({"name": crystal.name, **row}) + "\n")
                file.flush()


def _rows(path: Path, crystals: dict[str, Crystal]) -> pd.DataFrame:
    """Measured crystals that both potentials could describe, in order, with their truth."""
    rows = pd.DataFrame([json.loads(line) for line in path.read_text().splitlines()])
    rows = rows.set_index("name")
    if crystals:
        rows = rows.loc[[name for name in crystals if name in rows.index]]
        rows["composition"] = [crystals[name].structure.composition for name in rows.index]
        rows["truth"] = [crystals[name].truth for name in rows.index]
        rows["formation_energy"] = [crystals[name].formation_energy for name in rows.index]
        rows = rows.dropna(subset=[RELAXER, DECIDER])
    return rows


# Fitting and testing


@cache
def _decompose(formula: str) -> Decomposition:
    return reference_hull().decompose(Composition(formula))


def e_above_hull(rows: pd.DataFrame, potential: str, references: dict[str, float]) -> np.ndarray:
    """Raw energies above the hull in eV/atom."""
    no_error = ErrorModel(offset=0, scale=0, elements={}, element_prior=0)
    calibration = Calibration(references=references, novel=no_error, known=no_error)
    return np.array(
        [
            calibration.formation_energy(composition, energy)
            - _decompose(composition.reduced_formula).energy_per_atom
            for composition, energy in zip(rows.composition, rows[potential], strict=True)
        ]
    )


def split(*sets: pd.DataFrame, num_fitted: Sequence[int]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """For fitting and for testing: of the first so many of each set, pairs in turn."""
    pool = pd.concat([rows[:number] for rows, number in zip(sets, num_fitted, strict=True)])
    rest = pd.concat([rows[number:] for rows, number in zip(sets, num_fitted, strict=True)])
    is_fit = (np.arange(len(pool)) // 2) % 2 == 0
    return pool[is_fit], pd.concat([pool[~is_fit], rest])


def split_all(data: dict[str, pd.DataFrame]) -> dict[str, tuple[pd.DataFrame, pd.DataFrame]]:
    """Fitting and testing parts of crystals that potentials have not and have seen."""
    return {
        "novel": split(data["generated"], num_fitted=[NUM_FITTED["generated"]]),
        "known": split(
            data["known"],
            data["unstable"],
            num_fitted=[NUM_FITTED["known"], NUM_FITTED["unstable"]],
        ),
    }


def scores(predicted: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Errors in eV/atom, rank correlation, and "within 0.1 eV/atom" as a classification."""
    error, called, is_true = predicted - truth, predicted <= METASTABLE, truth <= METASTABLE
    hits = (called & is_true).sum()
    precision, recall = hits / max(called.sum(), 1), hits / max(is_true.sum(), 1)
    return {
        "n": len(truth),
        "MAE": np.abs(error).mean(),
        "median AE": np.median(np.abs(error)),
        "bias": error.mean(),
        "Spearman": stats.spearmanr(predicted, truth)[0],
        "precision": precision,
        "recall": recall,
        "F1": 2 * precision * recall / max(precision + recall, 1e-9),
    }


def reliability(
    model: ErrorModel, raw: np.ndarray, test: pd.DataFrame
) -> tuple[np.ndarray, dict[str, float]]:
    """Calibrated energies above the hull, and whether the stated uncertainty holds."""
    errors = [model.at(composition) for composition in test.composition]
    location = np.array([error.location for error in errors])
    scale = np.array([error.scale for error in errors])
    z = np.abs(test.truth - raw - location) / scale
    probabilities = np.array(
        [error.probability_below(METASTABLE, one) for error, one in zip(errors, raw, strict=True)]
    )
    is_true = (test.truth <= METASTABLE).to_numpy()
    worth = probabilities >= WORTH_COMPUTING
    hits = (worth & is_true).sum()
    return raw + location, {
        "mean std": float(np.mean([error.std for error in errors])),
        "within 50% interval": (z < stats.t.ppf(0.75, 4)).mean(),
        "within 68%": (z < stats.t.ppf(0.84, 4)).mean(),
        "within 95%": (z < stats.t.ppf(0.975, 4)).mean(),
        "sum of probabilities": probabilities.sum(),
        "true count": is_true.sum(),
        "Brier": np.mean((probabilities - is_true) ** 2),
        "Brier of base rate": is_true.mean() * (1 - is_true.mean()),
        "worth computing: precision": hits / max(worth.sum(), 1),
        "recall": hits / max(is_true.sum(), 1),
    }


def _error_model(rows: pd.DataFrame, raw: np.ndarray, prior: float) -> ErrorModel:
    return fit_error_model(list(rows.composition), (rows.truth - raw).to_numpy(), prior)


def calibrate(potential: str, data: dict[str, pd.DataFrame]) -> Calibration:
    """Fit references and both error models on the fitting halves."""
    own = own_references(potential, data["elements"])
    training = data["training"]
    references = fit_references(
        list(training.composition),
        training[potential].to_numpy(),
        training.formation_energy.to_numpy(),
        own,
    )
    models = {
        name: _error_model(rows, e_above_hull(rows, potential, references), ELEMENT_PRIORS[name])
        for name, (rows, _) in split_all(data).items()
    }
    return Calibration(references=references, **models)


def own_references(potential: str, elements: pd.DataFrame) -> dict[str, float]:
    """The potential's own energies of the elements, eV/atom."""
    symbols = [composition.elements[0].symbol for composition in elements.composition]
    return dict(zip(symbols, elements[potential].tolist(), strict=True))


def report(
    data: dict[str, pd.DataFrame], fitted: dict[str, Calibration]
) -> Iterator[tuple[str, pd.DataFrame]]:
    """Tables of what was not fitted, before and after."""
    (_, generated), (_, known) = split_all(data).values()
    is_small = generated.composition.map(lambda composition: composition.num_atoms) <= MAX_ATOMS
    tests = {
        f"generated, at most {MAX_ATOMS} atoms": generated[is_small],
        f"generated, more than {MAX_ATOMS} atoms": generated[~is_small],
        "known": known[known.index.isin(data["known"].index)],
        "known and unstable": known,
    }
    for name, test in tests.items():
        if test.empty:
            continue
        accuracy, trust = {}, {}
        for potential, calibration in fitted.items():
            own = own_references(potential, data["elements"])
            raw = e_above_hull(test, potential, calibration.references)
            is_novel = name.startswith("generated")
            model = calibration.novel if is_novel else calibration.known
            calibrated, trust[potential] = reliability(model, raw, test)
            truth = test.truth.to_numpy()
            stages = {
                "own references": e_above_hull(test, potential, own),
                "fitted references": raw,
                "error model": calibrated,
            }
            accuracy |= {f"{potential}, {k}": scores(v, truth) for k, v in stages.items()}
        yield f"{name}, not fitted", pd.DataFrame(accuracy).T
        yield f"{name}, stated uncertainty", pd.DataFrame(trust).T


def _write(fitted: dict[str, Calibration], path: Path) -> None:
    def rounded(model: ErrorModel) -> dict:
        elements = {s: [round(o.mean, 4), round(o.std, 4)] for s, o in model.elements.items()}
        return asdict(model) | {"elements": elements}

    potentials = {
        name: {
            "references": {s: round(energy, 4) for s, energy in calibration.references.items()},
            "novel": rounded(calibration.novel),
            "known": rounded(calibration.known),
        }
        for name, calibration in fitted.items()
    }
    source = "fitted by benchmarks/stability_truth.py; energies in eV/atom"
    path.write_text(json.dumps({"source": source, "potentials": potentials}, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--materials", type=Path, required=True)
    parser.add_argument("--generated", type=Path, nargs="+", required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--calibration", type=Path)
    for name, number in NUM_MEASURED.items():
        parser.add_argument(f"--num-{name}", type=int, default=number)
    options = parser.parse_args()

    options.work.mkdir(parents=True, exist_ok=True)
    sets = read_materials(options.materials) | {"generated": read_generated(options.generated)}
    data = {}
    for name, crystals in sets.items():
        wanted = crystals[: vars(options).get(f"num_{name}")]
        is_static = name in ("training", "elements")
        path = options.work / f"{name}.jsonl"
        measure(wanted, static_energies if is_static else relaxed_energies, path)
        data[name] = _rows(path, {crystal.name: crystal for crystal in wanted})
    fitted = {name: calibrate(name, data) for name in (RELAXER, DECIDER)}
    if options.calibration:
        _write(fitted, options.calibration)
    pd.set_option("display.width", 200, "display.max_columns", 20)
    for title, table in report(data, fitted):
        print(f"\n{title}\n{table.round(3).to_string()}")


if __name__ == "__main__":
    main()
