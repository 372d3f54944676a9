"""Build the table that the shipped model is trained on: the embedded one, completed by our judge.

    python scripts/build_training_data.py --out training.parquet
    python scripts/build_training_data.py --add RUN --out training.parquet

Rows of the embedded table without an energy get the one that a single point of CHGNet gives against
the reference hull, and `e_above_hull_source` says so. `datasets/own_crystals.parquet` adds new
crystals that earlier models made, with the judge's energy above the hull where they relaxed, and
that of the raw crystal where they were only screened. Bad ones teach what to avoid; likely good
ones are repeated, because they are few. `--add` takes those of a run of `generate --keep` into that
table first. What a run has found again is left out: it is in the table, or held out of it.
"""

import argparse
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from tqdm import tqdm

from mattergen_lite.data.canonical import row_structure, table_from_rows, write_table
from mattergen_lite.data.prepare import canonical_rows
from mattergen_lite.data.table import EMBEDDED, read_table
from mattergen_lite.io.records import Document
from mattergen_lite.io.tensors import structure_to_json
from mattergen_lite.runs.folder import RunFolder
from mattergen_lite.scoring.candidate import DISORDER_FLAGS
from mattergen_lite.scoring.energy.accuracy import WORTH_COMPUTING
from mattergen_lite.scoring.energy.screening import raw_energies

OWN = Path(__file__).parents[1] / "datasets" / "own_crystals.parquet"
LABEL = "e_above_hull"
SOURCE = f"{LABEL}_source"
JUDGED, SCREENED = "judge", "chgnet_single_point"
LIKELY = "likely_metastable"  # column of our own crystals, 1 or 0
SPLIT = "extra"  # trained on, in none of the benchmark's splits
MAX_E_ABOVE_HULL = 2.0  # eV/atom; a single point far above says only that something is wrong
REPEATS = (2, 6)  # times that a crystal of ours is in the table: if unlikely, if likely metastable
BATCH = 64
MAX_ATOMS = 52


def main() -> None:
    """Command line: runs to add in, tables out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--add", type=Path, action="append", default=[], help="a run; repeat")
    parser.add_argument("--out", type=Path, help="the table to train on")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.add:
        found = [pq.read_table(OWN)] if OWN.exists() else []
        found += [own_crystals(RunFolder(run)) for run in options.add]
        OWN.parent.mkdir(exist_ok=True)
        write_table(pa.concat_tables(found).combine_chunks(), OWN)
    if options.out is not None:
        parts = [labelled(read_table(EMBEDDED)), repeated(pq.read_table(OWN))]
        table = pa.concat_tables(parts, promote_options="default").combine_chunks()
        write_table(table, options.out)
        print(f"{options.out}: {len(table)} rows")


def labelled(table: pa.Table) -> pa.Table:
    """The table with an energy above the hull in every row that a single point can give one."""
    source = table[SOURCE].cast(pa.string())
    missing = pc.and_(pc.is_null(table[LABEL]), pc.equal(table["split"].cast(pa.string()), SPLIT))
    rows = table.filter(missing)
    energies = [
        one.e_above_hull
        for start in tqdm(range(0, len(rows), BATCH), desc="single points")
        for one in raw_energies(
            [row_structure(row) for row in rows[start : start + BATCH].to_pylist()]
        )
    ]
    found = pa.array([max(one, 0.0) if one < MAX_E_ABOVE_HULL else None for one in energies])
    print(f"{len(found) - found.null_count} of {len(found)} rows without an energy have one now")
    values = pc.replace_with_mask(
        table[LABEL].combine_chunks(), missing.combine_chunks(), found.cast(pa.float32())
    )
    named = pc.if_else(pc.and_(missing, pc.is_valid(values)), SCREENED, source)
    for name, column in ((LABEL, values), (SOURCE, named)):
        table = table.set_column(table.schema.get_field_index(name), name, column)
    for field in table.schema:
        if pa.types.is_dictionary(field.type):
            place = table.schema.get_field_index(field.name)
            table = table.set_column(place, field.name, table[field.name].cast(pa.string()))
    return table


def repeated(own: pa.Table) -> pa.Table:
    """Our own crystals, each as often as it is trained on."""
    times = np.array(REPEATS)[own[LIKELY].to_numpy().astype(int)]
    return own.take(np.repeat(np.arange(len(own)), times)).drop_columns([LIKELY])


def own_crystals(run: RunFolder) -> pa.Table:
    """New crystals of a run with the energies that its judge has found."""
    relaxed = {one.name: one.structure for one in run.relaxed()}
    screened = (row for row in run.rows() if row["screening_probability"] is not None)
    digest = run.digest()[:8]
    documents = [
        Document(
            f"{digest}-{row['name']}",
            "row",
            structure_to_json(relaxed[row["name"]])
            | {"split": SPLIT, LABEL: value, LIKELY: float(is_likely(row))},
        )
        for row in screened
        if is_new(row) and (value := energy(row)) < MAX_E_ABOVE_HULL
    ]
    rows, rejected = canonical_rows(documents, 0, MAX_ATOMS)
    print(f"{run}: {len(rows)} new crystals, {len(rejected)} rejected")
    return table_from_rows(rows).append_column(SOURCE, pa.array([JUDGED] * len(rows), pa.string()))


def is_new(row: Mapping[str, object]) -> bool:
    """Whether a crystal was unlike every known one, as made and as relaxed."""
    return row["is_novel"] is True and row["relaxed_is_novel"] is not False


def energy(row: Mapping[str, object]) -> float:
    """Energy above the hull of what stands in the table, not below it; NaN where none was found."""
    judged, screened = row["e_above_hull"], row["screening_e_above_hull"]
    found = judged if isinstance(judged, float) and math.isfinite(judged) else screened
    return max(found, 0.0) if isinstance(found, float) and math.isfinite(found) else math.nan


def is_likely(row: Mapping[str, object]) -> bool:
    """Whether the judge calls a crystal worth computing, symmetric and not disorder-like."""
    flags = set(str(row["flags"] or "").split("; "))
    is_credible = (row["relaxed_space_group"] or 1) > 2 and not DISORDER_FLAGS & flags
    return is_credible and (row["probability_metastable"] or 0.0) >= WORTH_COMPUTING


if __name__ == "__main__":
    main()
