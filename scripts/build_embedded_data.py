"""Build the tables inside the package from the assembled Materials Project data.

    python scripts/build_embedded_data.py SOURCE_DIR

SOURCE_DIR holds `mp_le20.parquet` (structures with at most 20 atoms) and `mp_hull_refs.parquet`
(lowest formation energy per composition). Writes `mp_le20.parquet` and `hull.parquet` beside
`DATA_LICENSE.md`, which says what is changed here.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pymatgen.analysis.structure_matcher import StructureMatcher

from mattergen_lite.curation import canonical_rows, row_structure, table_from_rows, write_table
from mattergen_lite.io import Document

ASSETS = Path(__file__).parents[1] / "mattergen_lite" / "assets"
MAX_ATOMS = 20
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
HULL_COLUMNS = ["material_id", "formula", "formation_energy_per_atom", "on_hull"]


def main() -> None:
    """Command line: source directory in, tables in the package out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source_dir", type=Path)
    parser.add_argument("--num-workers", type=int, default=2)
    arguments = parser.parse_args()
    build_hull(arguments.source_dir / "mp_hull_refs.parquet", ASSETS / "hull.parquet")
    build_crystals(
        arguments.source_dir / "mp_le20.parquet", ASSETS / "mp_le20.parquet", arguments.num_workers
    )


def build_hull(source: Path, out: Path) -> None:
    """The reference hull without provenance, energies as float32 (1e-7 eV/atom)."""
    table = pq.read_table(source, columns=HULL_COLUMNS).select(HULL_COLUMNS)
    energies = table["formation_energy_per_atom"].cast(pa.float32())
    table = table.set_column(2, HULL_COLUMNS[2], energies).replace_schema_metadata()
    write_table(table.sort_by("formula"), out)
    print(f"{out.name}: {table.num_rows} rows, {out.stat().st_size / 1e6:.2f} MB")


def build_crystals(source: Path, out: Path, num_workers: int) -> None:
    """Every crystal of the source in its canonical cell, with split, properties and provenance."""
    table = pq.read_table(source)
    table = table.filter(pc.less(table["volume_per_atom"], MAX_VOLUME_PER_ATOM))
    rows, rejected = canonical_rows(_documents(table), num_workers, MAX_ATOMS)
    for reject in rejected:
        print(f"rejected {reject.name}: {reject.reason}")
    crystals = table_from_rows(rows)
    crystals = crystals.select([*crystals.column_names[: -len(PROPERTIES)], *PROPERTIES])
    table = table.filter(pc.is_in(table["material_id"], crystals["material_id"]))
    for name in PROVENANCE:
        crystals = crystals.append_column(name, table[name])
    print(f"{_changed(table, crystals)} of {SAMPLE_SIZE} sampled crystals differ from their source")
    write_table(crystals, out)
    print(f"{out.name}: {crystals.num_rows} rows, {out.stat().st_size / 1e6:.2f} MB")


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
