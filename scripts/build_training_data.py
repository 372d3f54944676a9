"""Build the table that the shipped model is trained on: the embedded one, completed by our judge.

    python scripts/build_training_data.py --out training.parquet
    python scripts/build_training_data.py --add RUN --out training.parquet
    python scripts/build_training_data.py --without-symmetry training.parquet --out p1.parquet

Rows of the embedded table without an energy get the one that a single point of CHGNet gives against
the reference hull, and `e_above_hull_source` says so. `datasets/own_crystals.parquet` adds new
crystals that earlier models or ion exchange made, with the judge's energy above the hull where they
relaxed, and that of the raw crystal where they were only screened. Bad ones teach what to avoid;
likely good ones are there twice, because they are few. `--add` takes those of a run of `generate
--keep` into that table first. What a run has found again is left out: it is in the table, or held
out of it.
`--without-symmetry` takes the symmetry off the crystals of a table, for a model that knows none.
"""

import argparse
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from tqdm import tqdm

from mattergen_lite import load
from mattergen_lite.data.canonical import row_structure, write_crystal_table
from mattergen_lite.data.dataset import OrbitDataset
from mattergen_lite.data.subgroup_augmentation import without_symmetry
from mattergen_lite.data.table import EMBEDDED, read_crystal_table
from mattergen_lite.runs.folder import RunFolder
from mattergen_lite.scoring.energy.screening import raw_energies
from mattergen_lite.symmetry.columns import ORBIT_TYPES, orbit_columns
from mattergen_lite.workflows.learning import (
    E_ABOVE_HULL,
    MAX_E_ABOVE_HULL,
    judged_crystals,
    training_rows,
    worth_teaching,
)

OWN = Path(__file__).parents[1] / "datasets" / "own_crystals.parquet"
SOURCE = f"{E_ABOVE_HULL}_source"
JUDGED, SCREENED = "judge", "chgnet_single_point"
SPLIT = "extra"  # trained on, in none of the benchmark's splits
BATCH = 64
MAX_ATOMS = 52


def main() -> None:
    """Command line: runs to add in, tables out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--add", type=Path, action="append", default=[], help="a run; repeat")
    parser.add_argument("--without-symmetry", help="a table: every atom an orbit")
    parser.add_argument("--out", type=Path, help="the table to train on")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.add:
        tables = [pq.read_table(OWN)] if OWN.exists() else []
        tables += [own_crystals(run) for run in options.add]
        OWN.parent.mkdir(exist_ok=True)
        write_crystal_table(pa.concat_tables(tables).combine_chunks(), OWN)
    if options.without_symmetry is not None:
        write_crystal_table(as_p1(read_crystal_table(options.without_symmetry)), options.out)
    elif options.out is not None:
        parts = [labelled(read_crystal_table(EMBEDDED)), training_rows(pq.read_table(OWN))]
        table = pa.concat_tables(parts, promote_options="default").combine_chunks()
        write_crystal_table(table, options.out)
        print(f"{options.out}: {len(table)} rows")


def labelled(table: pa.Table) -> pa.Table:
    """The table with an energy above the hull in every row that a single point can give one."""
    source = table[SOURCE].cast(pa.string())
    is_extra = pc.equal(table["split"].cast(pa.string()), SPLIT)
    missing = pc.and_(pc.is_null(table[E_ABOVE_HULL]), is_extra)
    rows = table.filter(missing)
    energies = [
        energy.e_above_hull
        for start in tqdm(range(0, len(rows), BATCH), desc="single points")
        for energy in raw_energies(
            [row_structure(row) for row in rows[start : start + BATCH].to_pylist()]
        )
    ]
    labels = pa.array(
        [max(energy, 0.0) if energy < MAX_E_ABOVE_HULL else None for energy in energies]
    )
    print(f"{len(labels) - labels.null_count} of {len(labels)} rows without an energy have one now")
    values = pc.replace_with_mask(
        table[E_ABOVE_HULL].combine_chunks(), missing.combine_chunks(), labels.cast(pa.float32())
    )
    named = pc.if_else(pc.and_(missing, pc.is_valid(values)), SCREENED, source)
    for name, column in ((E_ABOVE_HULL, values), (SOURCE, named)):
        table = table.set_column(table.schema.get_field_index(name), name, column)
    for field in table.schema:
        if pa.types.is_dictionary(field.type):
            place = table.schema.get_field_index(field.name)
            table = table.set_column(place, field.name, table[field.name].cast(pa.string()))
    return table


def as_p1(table: pa.Table) -> pa.Table:
    """The same crystals in P1, every atom an orbit of its own."""
    data = OrbitDataset.from_table(table)
    rows = [orbit_columns(without_symmetry(data.orbits(row))) for row in tqdm(range(len(data)))]
    columns = pa.Table.from_pylist(rows, schema=pa.schema(ORBIT_TYPES))
    for name in ORBIT_TYPES:
        table = table.set_column(table.schema.get_field_index(name), name, columns[name])
    return table


def own_crystals(run: Path) -> pa.Table:
    """New crystals of a run with the energies that its judge has found."""
    table = judged_crystals(
        worth_teaching(load(run)), RunFolder(run).digest()[:8], SPLIT, MAX_ATOMS
    )
    print(f"{run}: {len(table)} new crystals")
    return table.append_column(SOURCE, pa.array([JUDGED] * len(table), pa.string()))


if __name__ == "__main__":
    main()
