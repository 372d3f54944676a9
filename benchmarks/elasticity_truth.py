"""Bulk moduli from a potential's equation of state against DFT's from elastic tensors.

    OMP_NUM_THREADS=1 python benchmarks/elasticity_truth.py

Random Materials Project compounds of the test split, relaxed first; DFT's value is the average of
Voigt and Reuss. One row an option of `bulk_modulus`: atoms relaxed in each strained cell or
clamped, and the largest strain. All rows speak of the crystals on which every option succeeds.
"""

import argparse
import time
from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from mattergen_lite.data.table import EMBEDDED, read_crystal_table
from mattergen_lite.io.formats.structures import build_structure
from mattergen_lite.scoring.energy.elasticity import MAX_STRAIN, bulk_modulus
from mattergen_lite.scoring.energy.potentials.base import Potential
from mattergen_lite.scoring.energy.potentials.sources import load_potential
from mattergen_lite.scoring.energy.relaxation import relax

METHODS = {
    "relaxed": bulk_modulus,
    "clamped": partial(bulk_modulus, relax_positions=False),
    "relaxed, larger strain": partial(bulk_modulus, max_strain=0.1),
}


def compounds(num_crystals: int, max_atoms: int) -> pd.DataFrame:
    """Rows of random test compounds whose bulk modulus DFT knows."""
    table = read_crystal_table(EMBEDDED).to_pandas()
    known = (table.split.astype(str) == "test") & table.bulk_modulus.notna()
    table = table[known & (table.num_atoms <= max_atoms)]
    return table.sample(min(num_crystals, len(table)), random_state=0)


def measure(row: dict, potential: Potential) -> dict[str, object]:
    """All methods on one compound; a modulus is NaN where there is an error."""
    numbers = [int(number) for number in row["atomic_numbers"]]
    structure = build_structure(row["lattice"], numbers, row["frac_coords"])
    relaxation = relax(structure, potential)
    cells: dict[str, object] = {"formula": row["formula"], "DFT": row["bulk_modulus"]}
    if relaxation.structure is None:
        return cells | {"error": relaxation.error}
    for name, method in METHODS.items():
        start = time.process_time()
        elasticity = method(relaxation.structure, potential)
        cells[name] = elasticity.bulk_modulus
        cells[f"{name}: CPU s"] = time.process_time() - start
        cells["error"] = elasticity.elasticity_error or cells.get("error")
    return cells


def accuracy(truth: pd.Series, computed: pd.Series) -> dict[str, float]:
    """Errors in GPa, relative errors and rank correlation."""
    relative = (computed - truth).abs() / truth
    return {
        "MAE GPa": (computed - truth).abs().mean(),
        "bias GPa": (computed - truth).mean(),
        "median |relative error|": relative.median(),
        "Spearman": computed.corr(truth, method="spearman"),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num-crystals", type=int, default=60)
    parser.add_argument("--max-atoms", type=int, default=8)
    parser.add_argument("--potential", default="chgnet")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    potential = load_potential(options.potential)
    rows = compounds(options.num_crystals, options.max_atoms).to_dict("records")
    table = pd.DataFrame([measure(row, potential) for row in tqdm(rows, disable=None)])
    pd.set_option("display.width", 200, "display.max_columns", 20, "display.max_colwidth", 100)
    print(table.round(1).to_string(index=False))
    succeeded = table.dropna(subset=list(METHODS))
    print(f"\n{options.potential}, strain {MAX_STRAIN} of the volume unless larger")
    print(f"{len(succeeded)} of {len(table)} compounds with every option")
    summary = {
        name: {"fails": int(table[name].isna().sum())}
        | accuracy(succeeded.DFT, succeeded[name])
        | {"CPU s": np.mean(succeeded[f"{name}: CPU s"])}
        for name in METHODS
    }
    print(pd.DataFrame(summary).T.round(3).to_string())


if __name__ == "__main__":
    main()
