"""Fit the judge of stability and test it against DFT, on known and on generated crystals.

    python benchmarks/stability_truth.py --materials mp_le20.parquet \
        --generated mattergen_mp20_dft.parquet cdvae_mp20_dft.parquet --work runs/stability

Measures (slow; resumes from `--work`) and prints tables of crystals that were not fitted: each is
predicted by a fit that has seen none of its chemical system. With `--calibration
mattergen_lite/assets/calibration.json` what is fitted to all of them is written there.

Sets: "training", MP-20 training compounds as they are, for the element references; "known", MP-20
test compounds, and "unstable", compounds 0.08 to 0.6 eV/atom above the hull outside MP-20's
training set, both relaxed; "generated", crystals with DFT decomposition energies, relaxed; with
`--wbm`, crystals of WBM, relaxed. Labels of generated crystals lie off by amounts that depend on
the elements, see docs/explanation/judge.md: beside WBM's they have shifts of their own.
"""

import argparse
import json
from collections.abc import Callable, Iterator
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
from mattergen_lite.scoring.energy.accuracy import METASTABLE, accuracy
from mattergen_lite.scoring.energy.calibration import (
    Calibration,
    ErrorModel,
    calibrations_as_json,
)
from mattergen_lite.scoring.energy.fitting import (
    NUM_FOLDS,
    cross_fitted,
    fit_error_model,
    fit_references,
)
from mattergen_lite.scoring.energy.potentials.sources import load_potential
from mattergen_lite.scoring.energy.relaxation import relax
from mattergen_lite.scoring.energy.stability import energy_per_atom
from mattergen_lite.scoring.known.hull import Decomposition, reference_hull
from mattergen_lite.workflows.calibration import ELEMENT_PRIORS

RELAXER, DECIDER = "chgnet", "7net-l3i5"
MAX_ATOMS = 12
MAX_WBM_ATOMS = 20
SHARES = (0.1, 0.2, 0.4, 0.7, 1.0)  # of the labels that a fit may see
SOURCE = "fitted by benchmarks/stability_truth.py; energies in eV/atom"
NUM_MEASURED = {"generated": 978, "wbm": 3115, "known": 660, "unstable": 90, "training": 1500}


@dataclass(frozen=True)
class Crystal:
    name: str
    structure: Structure
    truth: float  # DFT energy above the hull, eV/atom
    formation_energy: float = float("nan")  # DFT, eV/atom
    label_set: str = ""  # of a label that is not on the frame of the hull


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
                Crystal(
                    f"{generator}-{r['index']}",
                    _structure(r),
                    r["decomposition_energy_dft"],
                    label_set="generated",
                )
                for r in _shuffled(some, seed=0)
            ]
            for some in (table[small], table[~small])
        )
        per_generator.append(small_ones)
        larger += large_ones
    alternating = [one for group in zip_longest(*per_generator) for one in group if one is not None]
    return alternating + larger


def read_wbm(path: Path) -> list[Crystal]:
    """Crystals of WBM of at most 20 atoms in random order; anions of some have older corrections.

    The table has the columns e_above_hull (eV/atom, on this hull), frame and nsites.
    """
    table = pd.read_parquet(path).reset_index(drop=True)
    return [
        Crystal(
            f"wbm-{index}",
            _structure(row),
            row["e_above_hull"],
            label_set="legacy" if row["frame"] == "legacy" else "",
        )
        for index in np.random.default_rng(0).permutation(len(table))
        if (row := table.iloc[index])["nsites"] <= MAX_WBM_ATOMS
    ]


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
        rows["label_set"] = [crystals[name].label_set for name in rows.index]
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


def fit(potential: str, data: dict[str, pd.DataFrame]) -> tuple[Calibration, pd.DataFrame]:
    """Fit references and error models; returns them, and all crystals as fits without them say."""
    own = own_references(potential, data["elements"])
    training = data["training"]
    references = fit_references(
        list(training.composition),
        training[potential].to_numpy(),
        training.formation_energy.to_numpy(),
        own,
    )
    novel = [data[name] for name in ("generated", "wbm") if name in data]
    sets = {"novel": pd.concat(novel), "known": pd.concat([data["known"], data["unstable"]])}
    models, tested = {}, []
    for kind, rows in sets.items():
        raw = e_above_hull(rows, potential, references)
        compositions, errors = list(rows.composition), (rows.truth - raw).to_numpy()
        labels, prior = list(rows.label_set), ELEMENT_PRIORS[kind]
        if "" not in labels:
            labels = []  # nothing tells errors of the potential from shifts of the labels
        models[kind] = fit_error_model(compositions, errors, prior, labels)
        predicted = cross_fitted(compositions, errors, prior, labels)
        as_it_comes = e_above_hull(rows, potential, own)
        tested.append(rows.assign(own=as_it_comes, raw=raw, predicted=predicted, kind=kind))
    return Calibration(references=references, **models), pd.concat(tested)


def own_references(potential: str, elements: pd.DataFrame) -> dict[str, float]:
    """The potential's own energies of the elements, eV/atom."""
    symbols = [composition.elements[0].symbol for composition in elements.composition]
    return dict(zip(symbols, elements[potential].tolist(), strict=True))


def report(
    data: dict[str, pd.DataFrame], tested: dict[str, pd.DataFrame]
) -> Iterator[tuple[str, pd.DataFrame]]:
    """Tables of what was not fitted, before and after."""
    some = tested[RELAXER]
    is_novel = (some.kind == "novel") & (some.label_set == "generated")
    is_wbm = (some.kind == "novel") & (some.label_set != "generated")
    num_atoms = some.composition.map(lambda composition: composition.num_atoms)
    subsets = {
        "generated": is_novel,
        f"generated, at most {MAX_ATOMS} atoms": is_novel & (num_atoms <= MAX_ATOMS),
        f"generated, more than {MAX_ATOMS} atoms": is_novel & (num_atoms > MAX_ATOMS),
        "known": some.index.isin(data["known"].index),
        "WBM, on the frame of the hull": is_wbm & (some.label_set == ""),
        "WBM, with older corrections": is_wbm & (some.label_set == "legacy"),
        "known and unstable": some.kind == "known",
    }
    for name, chosen in subsets.items():
        if not chosen.any():
            continue
        errors, trust = {}, {}
        for potential, everything in tested.items():
            rows = everything[everything.index.isin(some.index[chosen])]
            truth, raw = rows.truth.to_numpy(), rows.raw.to_numpy()
            location = np.array([one.location for one in rows.predicted])
            stages = {
                "own references": rows.own.to_numpy(),
                "fitted references": raw,
                "error model": raw + location,
            }
            errors |= {f"{potential}, {k}": scores(v, truth) for k, v in stages.items()}
            trust[potential] = asdict(accuracy(list(rows.predicted), raw, truth))
        yield f"{name}, not fitted", pd.DataFrame(errors).T
        yield f"{name}, with stated uncertainty", pd.DataFrame(trust)


def learning_curve(rows: pd.DataFrame) -> pd.DataFrame:
    """What labels are worth: figures of generated crystals by fits to a share of the others."""
    raw, truth = rows.raw.to_numpy(), rows.truth.to_numpy()
    compositions, prior = list(rows.composition), ELEMENT_PRIORS["novel"]
    table = {}
    for share in SHARES:
        predicted = cross_fitted(compositions, truth - raw, prior, share=share)
        name = f"{round(share * len(rows) * (1 - 1 / NUM_FOLDS))} labels"
        table[name] = asdict(accuracy(predicted, raw, truth))
    return pd.DataFrame(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--materials", type=Path, required=True)
    parser.add_argument("--generated", type=Path, nargs="+", required=True)
    parser.add_argument("--wbm", type=Path, help="crystals of WBM with e_above_hull and frame")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--calibration", type=Path)
    for name, number in NUM_MEASURED.items():
        parser.add_argument(f"--num-{name}", type=int, default=number)
    options = parser.parse_args()

    options.work.mkdir(parents=True, exist_ok=True)
    sets = read_materials(options.materials) | {"generated": read_generated(options.generated)}
    if options.wbm:
        sets["wbm"] = read_wbm(options.wbm)
    data = {}
    for name, crystals in sets.items():
        wanted = crystals[: vars(options).get(f"num_{name}")]
        is_static = name in ("training", "elements")
        path = options.work / f"{name}.jsonl"
        measure(wanted, static_energies if is_static else relaxed_energies, path)
        data[name] = _rows(path, {crystal.name: crystal for crystal in wanted})
    found = {name: fit(name, data) for name in (RELAXER, DECIDER)}
    tested = {name: rows for name, (_, rows) in found.items()}
    if options.calibration:
        fitted = {name: calibration for name, (calibration, _) in found.items()}
        options.calibration.write_text(calibrations_as_json(fitted, SOURCE, {}))
    pd.set_option("display.width", 200, "display.max_columns", 20)
    for title, table in report(data, tested):
        print(f"\n{title}\n{table.round(3).to_string()}")
    novel = tested[DECIDER][tested[DECIDER].label_set == "generated"]
    print(f"\ngenerated, {DECIDER}, by labels\n{learning_curve(novel).round(3).to_string()}")


if __name__ == "__main__":
    main()
