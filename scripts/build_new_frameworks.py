"""Write crystals of new frameworks that the judge holds metastable into the package.

    python scripts/build_new_frameworks.py RUN [RUN ...]

Runs are folders of `generate` or `score`. Of each framework that no known crystal has, the relaxed
crystal of lowest expected energy above the hull is taken, if it is credible, unique, novel and
metastable with a probability of at least 0.4. Crystals of earlier calls stay unless a better one of
their framework is among the runs. A framework of which first principles know no crystal within 0.1
eV/atom, but one above (`datasets/new_frameworks_by_dft.extxyz`), is left out.
"""

import argparse
from math import inf
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from ase.io import read

from mattergen_lite import load
from mattergen_lite.data.canonical import row_structure, write_crystal_table
from mattergen_lite.data.dataset import OrbitDataset
from mattergen_lite.data.table import NEW_FRAMEWORKS, table_path
from mattergen_lite.runs.folder import RunFolder
from mattergen_lite.scoring.energy.accuracy import METASTABLE
from mattergen_lite.symmetry.frameworks import LEAST_SYMMETRY, known_frameworks
from mattergen_lite.symmetry.protostructures import protostructure
from mattergen_lite.workflows.learning import LIKELY, is_likely, judged_crystals, worth_teaching

MAX_ATOMS = 52


def crystals_of(run: Path) -> pa.Table:
    """Likely crystals of a run whose relaxed frameworks are new."""
    likely = [
        candidate
        for candidate in worth_teaching(load(run))
        if is_likely(candidate) and candidate.has_new_framework
    ]
    return judged_crystals(likely, RunFolder(run).digest()[:8], "extra", MAX_ATOMS)


def refuted() -> set[str]:
    """Protostructures whose best crystal by first principles lies too high."""
    path = Path(__file__).parents[1] / "datasets" / "new_frameworks_by_dft.extxyz"
    best: dict[str, float] = {}
    for atoms in read(path, ":"):
        label, energy = atoms.info["protostructure"], atoms.info["dft_e_above_hull"]
        best[label] = min(best.get(label, inf), energy)
    return {label for label, energy in best.items() if energy > METASTABLE}


def best_of_each(table: pa.Table) -> pa.Table:
    """The crystal of lowest energy of each framework, by rising energy."""
    too_high = refuted()
    table = table.sort_by([("e_above_hull", "ascending"), ("material_id", "ascending")])
    crystals, known, rows = OrbitDataset.from_table(table), known_frameworks(), {}
    for row in range(len(table)):
        label = protostructure(crystals.orbits(row))
        is_new = label.space_group > LEAST_SYMMETRY and label not in known
        if is_new and str(label) not in too_high:
            rows.setdefault(label, row)
    return table.take(sorted(rows.values()))


def main() -> None:
    """Add the crystals of runs to the table in the package."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+")
    options = parser.parse_args()
    out = table_path(NEW_FRAMEWORKS)
    parts = [pq.read_table(out)] if out.exists() else []
    parts += [crystals_of(run).drop_columns([LIKELY]) for run in options.runs]
    table = best_of_each(pa.concat_tables(parts, promote_options="default").combine_chunks())
    write_crystal_table(table, out)
    formulas = [row_structure(row).reduced_formula for row in table.to_pylist()]
    print(f"{out}: {len(table)} frameworks, {len(set(formulas))} formulas")


if __name__ == "__main__":
    main()
