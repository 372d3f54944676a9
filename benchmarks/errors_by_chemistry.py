"""Errors of the default potential by class of compound, on crystals of WBM with DFT energies.

    python benchmarks/errors_by_chemistry.py --labels wbm.parquet

The energies of the potential are in datasets/judge_energies.parquet, so nothing is relaxed. The
labels (columns formula and e_above_hull, eV/atom with MP2020 corrections, by row) are their
authors' (Wang, Botti, Marques 2021, CC BY 4.0). Errors are those of the potential with fitted
element references, before the error model, which widens and shifts them.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import pandas as pd
from pymatgen.core import Composition

from mattergen_lite.scoring.energy.calibration import calibration

ENERGIES = Path(__file__).parents[1] / "datasets" / "judge_energies.parquet"
POTENTIAL = "7net-l3i5"
FEWEST = 15  # crystals of a class in the table
LARGE = 0.1  # eV/atom
HALOGENS = {"F", "Cl", "Br", "I"}
MAGNETIC = {"V", "Cr", "Mn", "Fe", "Co", "Ni"}


def _has(*symbols: str) -> Callable[[set[str]], bool]:
    return lambda elements: bool(elements & set(symbols))


def _is_intermetallic(elements: set[str]) -> bool:
    return not elements & {"O", "S", "Se", "Te", "N", "P", "C", "H", *HALOGENS}


CLASSES: dict[str, Callable[[set[str]], bool]] = {
    "all": lambda elements: True,
    "intermetallics": _is_intermetallic,
    "oxides": _has("O"),
    "oxides of V, Cr, Mn, Fe, Co, Ni": lambda e: "O" in e and bool(e & MAGNETIC),
    "fluorides": _has("F"),
    "chlorides, bromides, iodides": _has("Cl", "Br", "I"),
    "two halogens": lambda elements: len(elements & HALOGENS) > 1,
    "sulfides, selenides, tellurides": _has("S", "Se", "Te"),
    "nitrides": _has("N"),
    "phosphides and phosphates": _has("P"),
    "carbides and carbonates": _has("C"),
    "hydrides": _has("H"),
}


def judged_rows(labels: Path) -> pd.DataFrame:
    """One row a crystal: its elements, and the error of the energy above the hull (eV/atom)."""
    energies = pd.read_parquet(ENERGIES)
    published, fitted = pd.read_parquet(labels), calibration(POTENTIAL)
    rows = []
    for row in energies[energies["set"] == "wbm"].to_dict("records"):
        label = published.iloc[int(row["name"].rpartition("-")[2])]
        composition = Composition(row["formula"])
        if composition.reduced_formula != Composition(label.formula).reduced_formula:
            raise ValueError(
                f"{row['name']}: {row['formula']} is not {label.formula} of the labels"
            )
        formation = fitted.formation_energy(composition, row[POTENTIAL])
        elements = {element.symbol for element in composition}
        error = formation - row["hull_energy_per_atom"] - label.e_above_hull
        rows.append({"elements": elements, "error": error})
    return pd.DataFrame(rows)


def table(rows: pd.DataFrame) -> str:
    """Errors by class as Markdown, in eV/atom."""
    lines = ["| class | crystals | bias | MAE | off by more than 0.1 |", "|---|---|---|---|---|"]
    for name, belongs in CLASSES.items():
        error = rows["error"][[belongs(elements) for elements in rows["elements"]]]
        if len(error) >= FEWEST:
            size = error.abs()
            lines.append(
                f"| {name} | {len(error)} | {error.mean():+.3f} | {size.mean():.3f} "
                f"| {(size > LARGE).mean():.0%} |"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--labels", type=Path, required=True)
    print(table(judged_rows(parser.parse_args().labels)))
