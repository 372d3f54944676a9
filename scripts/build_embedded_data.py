"""Build the tables inside the package from the assembled Materials Project data.

    python scripts/build_embedded_data.py SOURCE_DIR

SOURCE_DIR holds `mp_le20.parquet` (structures with at most 20 atoms), `mp_21_52.parquet` (larger
ones) and `mp_hull_refs.parquet` (lowest formation energy per composition). Writes `mp.parquet` and
`hull.parquet` beside `DATA_LICENSE.md`, which says what is changed here.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pymatgen.analysis.structure_matcher import StructureMatcher

from mattergen_lite.data.canonical import (
    CORE_SCHEMA,
    row_structure,
    table_from_rows,
    write_crystal_table,
)
from mattergen_lite.data.prepare import canonical_rows
from mattergen_lite.io.records import Document

ASSETS = Path(__file__).parents[1] / "mattergen_lite" / "assets"
MAX_ATOMS = 1000  # whatever a source has
MAX_VOLUME_PER_ATOM = 60.0  # Å³; larger ones are exploded cells
SAMPLE_SIZE = 200  # crystals compared with their source after the change of cell
CELL = ["atomic_numbers", "frac_coords", "lattice"]
PROPERTIES = [
    "formation_energy_per_atom",
    "e_above_hull",
    "band_gap",
    "band_gap_hse",
    "bulk_modulus",
    "shear_modulus",
    "magnetic_density",
    "magnetization_per_atom",
    "dielectric_total",
    "dielectric_electronic",
]
PROVENANCE = [
    "structure_source",
    "formation_energy_source",
    "e_above_hull_source",
    "elasticity_source",
]
# Of the larger crystals, whose table does not say it row by row.
LARGE_SOURCES = {
    "structure_source": "topology_databases_mp2025",
    "formation_energy_source": "mp_hull_refs",
    "e_above_hull_source": "mp_hull_refs",
    "elasticity_source": None,
}
HULL_COLUMNS = ["material_id", "formula", "formation_energy_per_atom", "on_hull"]


def main() -> None:
    """Command line: source directory in, tables in the package out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source_dir", type=Path)
    parser.add_argument("--num-workers", type=int, default=2)
    arguments = parser.parse_args()
    build_hull(arguments.source_dir / "mp_hull_refs.parquet", ASSETS / "hull.parquet")
    parts = [
        build_crystals(completed(pq.read_table(arguments.source_dir / name)), arguments.num_workers)
        for name in ("mp_le20.parquet", "mp_21_52.parquet")
    ]
    crystals = pa.concat_tables(parts)
    for name in PROVENANCE:
        place = crystals.schema.get_field_index(name)
        crystals = crystals.set_column(place, name, crystals[name].dictionary_encode())
    out = ASSETS / "mp.parquet"
    write_crystal_table(crystals.combine_chunks(), out)
    print(f"{out.name}: {crystals.num_rows} rows, {out.stat().st_size / 1e6:.2f} MB")


def build_hull(source: Path, out: Path) -> None:
    """The reference hull without provenance, energies as float32 (1e-7 eV/atom)."""
    table = pq.read_table(source, columns=HULL_COLUMNS).select(HULL_COLUMNS)
    energies = table["formation_energy_per_atom"].cast(pa.float32())
    table = table.set_column(2, HULL_COLUMNS[2], energies).replace_schema_metadata()
    write_crystal_table(table.sort_by("formula"), out)
    print(f"{out.name}: {table.num_rows} rows, {out.stat().st_size / 1e6:.2f} MB")


def completed(table: pa.Table) -> pa.Table:
    """The table with every column that any source has, null where it says nothing."""
    count = len(table)
    missing = {name: pa.nulls(count, pa.float64()) for name in PROPERTIES}
    missing |= {"mp20": pa.nulls(count, pa.bool_()), "mp20_split": pa.nulls(count, pa.string())}
    missing |= {name: pa.array([text] * count, pa.string()) for name, text in LARGE_SOURCES.items()}
    volume = [abs(np.linalg.det(np.reshape(cell, (3, 3)))) for cell in table["lattice"].to_pylist()]
    missing["volume_per_atom"] = pa.array(np.array(volume) / table["num_atoms"].to_numpy())
    for name, column in missing.items():
        if name not in table.column_names:
            table = table.append_column(name, column)
    return table


def build_crystals(table: pa.Table, num_workers: int) -> pa.Table:
    """Every crystal in its canonical cell, with orbits, split, properties and provenance."""
    table = table.filter(pc.less(table["volume_per_atom"], MAX_VOLUME_PER_ATOM))
    rows, rejected = canonical_rows(_documents(table), num_workers, MAX_ATOMS)
    for reject in rejected:
        print(f"rejected {reject.name}: {reject.reason}")
    crystals = table_from_rows(rows)
    for name in PROPERTIES:
        if name not in crystals.column_names:
            crystals = crystals.append_column(name, pa.nulls(len(crystals), pa.float32()))
    table = table.filter(pc.is_in(table["material_id"], crystals["material_id"]))
    crystals = crystals.select([*CORE_SCHEMA.names, *PROPERTIES])
    for name in PROVENANCE:
        crystals = crystals.append_column(name, table[name].cast(pa.string()))
    print(f"{_changed(table, crystals)} of {SAMPLE_SIZE} sampled crystals differ from their source")
    return crystals


def _documents(table: pa.Table) -> Iterator[Document]:
    member = pc.is_valid(table["mp20"])
    known = pc.fill_null(table["mp20_split"].cast(pa.string()), "unknown")
    split = pc.if_else(member, known, "extra")
    columns = table.select(["material_id", *CELL, *PROPERTIES]).append_column("split", split)
    for row in columns.to_pylist():
        yield Document(row["material_id"], "row", row)


def _changed(source: pa.Table, crystals: pa.Table) -> int:
    """How many of a random sample no longer match their source, tightly and without scaling."""
    matcher = StructureMatcher(ltol=0.02, stol=0.02, angle_tol=1, scale=False)
    sample = np.random.default_rng(0).choice(source.num_rows, SAMPLE_SIZE, replace=False)
    pairs = zip(source.take(sample).to_pylist(), crystals.take(sample).to_pylist(), strict=True)
    return sum(not matcher.fit(row_structure(old), row_structure(new)) for old, new in pairs)


if __name__ == "__main__":
    main()
