"""Own crystals with energies by first principles: the data set `datasets/dft_labels.parquet`.

One row a crystal that was drawn, failures included; the data card beside the file explains every
column. Splits are by chemical system, so that no composition of one split is in another.

    python scripts/dft_labels.py default512 --run RUN

prints the judge beside DFT for one pool; RUN is the run from which the pool was drawn.
"""

import argparse
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from pymatgen.core import Structure

from mattergen_lite.io.formats.structures import build_structure

ROOT = Path(__file__).parents[1]
STRATA = 5  # of equal width in probability, as `label_with_dft.py` draws
SPLITS = ("train", "val", "test")  # of chemical systems: 60, 20 and 20%
METASTABLE = 0.1  # eV/atom
_CELLS = ("structure", "relaxed")
_LISTS = ("cell", "atomic_numbers", "frac_coords")


def split_of(chemical_system: str) -> str:
    """Split of a chemical system such as "Li-O", by its hash."""
    part = hashlib.sha256(chemical_system.encode()).digest()[0] % 5
    return SPLITS[max(part - 2, 0)]


def label_table(rows: Iterable[Mapping]) -> pd.DataFrame:
    """Table of the lines that `scripts/label_with_dft.py` writes, the last of each crystal.

    Args:
        rows: Lines as plain data.
    """
    latest = {(Path(row["pool"]).name, row["name"]): row for row in rows}
    return pd.DataFrame([_flat(row) for row in latest.values()])


def _flat(row: Mapping) -> dict[str, object]:
    numbers = row["relaxed"]["atomic_numbers"]
    structure = build_structure(row["relaxed"]["cell"], numbers, row["relaxed"]["frac_coords"])
    system = structure.composition.chemical_system
    cells = {
        f"{kind}_{name}": np.ravel(row[kind][name]).tolist() for kind in _CELLS for name in _LISTS
    }
    judged = {f"judge_{name}": value for name, value in row["judged"].items()}
    kept = ("pool", "seed", "weights", "name", "stratum", "error", "time", "method")
    calculated = (
        "e_above_hull",
        "e_above_hull_std",
        "formation_energy_per_atom",
        "energy_per_atom",
        "correction_per_atom",
        "band_gap",
        "moment_per_atom",
        "decomposition",
        "seconds",
        "reference_seconds",
        "estimated_seconds",
        "max_seconds",
    )
    return {
        **{name: row.get(name) for name in kept},
        "pool": Path(row["pool"]).name,
        "formula": structure.composition.reduced_formula,
        "chemical_system": system,
        "split": split_of(system),
        "num_atoms": len(numbers),
        "engine": row.get("engine"),
        "settings": json.dumps(row.get("settings")),
        **{name: row.get(name) for name in calculated},
        "reactions": json.dumps(row["reactions"]),
        **judged,
        **cells,
    }


def read_labels(path: str | Path) -> pd.DataFrame:
    """Read the data set; `structure_of` builds the crystals.

    Raises:
        ValueError: If the file is no such table.
    """
    try:
        table = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise ValueError(f"cannot read labels {path}: {error}") from None
    missing = {"e_above_hull", "error", "split", "relaxed_cell"} - {*table.columns}
    if missing:
        raise ValueError(f"{path} lacks columns {', '.join(sorted(missing))}: expected labels")
    return table


def structure_of(row: Mapping | pd.Series, kind: str = "relaxed") -> Structure:
    """Crystal of a row: "relaxed" by a potential, which was calculated, or "structure" as made."""
    return build_structure(
        row[f"{kind}_cell"],
        [int(number) for number in row[f"{kind}_atomic_numbers"]],
        row[f"{kind}_frac_coords"],
    )


def reliability(table: pd.DataFrame, edges: Sequence[float] = (0, 1 / 3, 2 / 3, 1)) -> pd.DataFrame:
    """What the judge had said beside what DFT says, by intervals of its probability.

    Args:
        table: Labels; those without an energy are left out.
        edges: Of the intervals.

    Returns:
        One row an interval: number, mean probability, share within 0.1 eV/atom with its standard
        error, mean and mean absolute error of the energy (judge minus DFT, eV/atom).
    """
    known = table[table.error.isna()]
    bins = pd.cut(known.judge_probability_metastable, edges, include_lowest=True)
    rows = []
    for interval, group in known.groupby(bins, observed=True):
        share = float((group.e_above_hull <= METASTABLE).mean())
        error = group.judge_e_above_hull - group.e_above_hull
        rows.append(
            {
                "probability": f"{max(interval.left, 0):.2f}-{interval.right:.2f}",
                "number": len(group),
                "mean_probability": float(group.judge_probability_metastable.mean()),
                "share_within": share,
                "share_error": float(np.sqrt(share * (1 - share) / len(group))),
                "bias": float(error.mean()),
                "mae": float(error.abs().mean()),
            }
        )
    return pd.DataFrame(rows)


def share_of_pool(known: pd.DataFrame, probabilities: np.ndarray) -> tuple[float, float]:
    """Share of a pool within 0.1 eV/atom by DFT, and its standard error.

    Args:
        known: Labels with an energy, drawn within strata of the judge's probability.
        probabilities: The judge's, of all crystals of the pool.
    """
    strata = np.minimum((probabilities * STRATA).astype(int), STRATA - 1)
    sizes = np.bincount(strata, minlength=STRATA) / len(strata)
    holds = (known.e_above_hull <= METASTABLE).groupby(known.stratum).agg(["sum", "size"])
    counts, held = holds["size"].to_numpy(), holds["sum"].to_numpy()
    weights, usual = sizes[holds.index], (held + 0.5) / (counts + 1)
    error = np.sqrt((weights**2 * usual * (1 - usual) / counts).sum())
    return float(weights @ (held / counts)), float(error)


def main() -> None:
    """Command line: the judge beside DFT, for one pool."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pool")
    parser.add_argument("--run", type=Path, help="from which the pool was drawn")
    options = parser.parse_args()
    table = read_labels(ROOT / "datasets" / "dft_labels.parquet")
    known = table[(table.pool == options.pool) & table.error.isna()]
    error = known.judge_e_above_hull - known.e_above_hull
    width = np.hypot(known.judge_e_above_hull_std, known.e_above_hull_std)
    print(reliability(known).round(3).to_string(index=False))
    print(f"bias {error.mean():+.3f}, MAE {error.abs().mean():.3f} eV/atom")
    print(f"within two standard errors {(error.abs() < 2 * width).mean():.0%}")
    for least in (0.0, 0.4, 0.8):
        likely = known[known.judge_probability_metastable >= least]
        new = likely[likely.judge_relaxed_is_novel.eq(True)]
        confirmed = int((new.e_above_hull <= METASTABLE).sum())
        hours = (new.seconds + new.reference_seconds).sum() / 3600
        print(
            f"P >= {least}: {(likely.e_above_hull <= METASTABLE).sum()} of {len(likely)} hold, "
            f"{likely.judge_probability_metastable.sum():.1f} expected; {confirmed} of {len(new)} "
            f"novel ones, {confirmed / hours:.1f} per core hour of DFT"
        )
    if options.run is not None:
        judged = pd.read_parquet(options.run / "candidates.parquet").probability_metastable.dropna()
        share, deviation = share_of_pool(known, judged.to_numpy())
        print(f"of the pool {share:.0%} ± {deviation:.0%} by DFT, {judged.mean():.0%} by the judge")


if __name__ == "__main__":
    main()
