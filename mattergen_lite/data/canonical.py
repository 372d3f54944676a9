"""Brings crystals to one form, and describes them as rows of a crystal table.

The form is primitive, Niggli-reduced, right-handed, a along x and b in the xy plane, atoms sorted
by atomic number. A row has the `CORE_SCHEMA` (`frac_coords` are 3N numbers in [0, 1), `lattice` the
rows a, b, c in Å), the crystal as orbits (`symmetry.columns`) and one float column per property.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import spglib
import torch
from pymatgen.core import Structure

from mattergen_lite.data.totals import scaled_totals
from mattergen_lite.files.folders import atomic_path
from mattergen_lite.io.formats.structures import build_structure
from mattergen_lite.io.records import StructureRecord
from mattergen_lite.symmetry.columns import ORBIT_TYPES, orbit_columns
from mattergen_lite.symmetry.detection import SYMPREC_GENERATED, SYMPREC_RELAXED, find_symmetry
from mattergen_lite.symmetry.orbits import find_orbits
from mattergen_lite.tensors.geometry import canonical_orientation

SPLITS = ("train", "val", "test", "val_or_test", "unknown", "extra")
DECIMALS = 5  # 1e-5 Å or less than 1e-3 Å of a coordinate: far below what DFT relaxes to
# Fractions of special positions are written as such, so that 1/3 is one number, not several.
SPECIAL_FRACTIONS = 24
CORE_SCHEMA = pa.schema(
    {
        "material_id": pa.string(),
        "formula": pa.string(),
        "num_atoms": pa.int16(),
        "atomic_numbers": pa.list_(pa.int16()),
        "frac_coords": pa.list_(pa.float32()),
        "lattice": pa.list_(pa.float32()),
        "space_group": pa.int16(),
        "split": pa.string(),
        **ORBIT_TYPES,
    }
)
Row = dict[str, object]


def canonical_crystal(structure: Structure) -> Structure:
    """The same crystal in its canonical cell; quantities per atom or volume stay valid.

    Primitive (spglib, symmetrised within `SYMPREC_RELAXED`; the given cell if spglib fails),
    Niggli-reduced, right-handed, lattice lower triangular, atoms sorted by atomic number. Chirality
    is kept: every step is a change of cell or a proper rotation.
    """
    cell = (structure.lattice.matrix, structure.frac_coords, structure.atomic_numbers)
    primitive = spglib.find_primitive(cell, symprec=SYMPREC_RELAXED)
    lattice, frac_coords, numbers = cell if primitive is None else primitive
    lattice, frac_coords = np.asarray(lattice), np.asarray(frac_coords)
    if (reduced := spglib.niggli_reduce(lattice)) is not None:
        lattice, frac_coords = reduced, frac_coords @ lattice @ np.linalg.inv(reduced)
    if np.linalg.det(lattice) < 0:  # the same points, described from the inverted axes
        lattice, frac_coords = -lattice, -frac_coords
    lattice = canonical_orientation(torch.from_numpy(lattice)).numpy()
    order = np.argsort(numbers, kind="stable")
    return build_structure(lattice, np.asarray(numbers)[order].tolist(), frac_coords[order])


def find_space_group(structure: Structure) -> int:
    """Find the number of the space group for a table: 1..230, 0 = unknown where none is found."""
    numbers = np.array(structure.atomic_numbers)
    for symprec in (SYMPREC_RELAXED, SYMPREC_GENERATED):
        cell = structure.lattice.matrix, structure.frac_coords, numbers
        if (dataset := find_symmetry(*cell, symprec)) is not None:
            return dataset.number
    return 0


def crystal_row(record: StructureRecord, max_atoms: int) -> Row:
    """The table row of a record that holds a structure; totals become those of its cell.

    Raises:
        ValueError: If the primitive cell has more than `max_atoms` atoms, or the split is unknown.
    """
    crystal = _rounded(canonical_crystal(record.structure))
    numbers = np.array(crystal.atomic_numbers)
    labels = scaled_totals(record.properties, len(crystal) / len(record.structure))
    if len(crystal) > max_atoms:
        raise ValueError(
            f"{len(crystal)} atoms in the primitive cell: expected at most {max_atoms}"
        )
    if record.split is not None and record.split not in SPLITS:
        raise ValueError(f"unknown split {record.split!r}: expected one of {', '.join(SPLITS)}")
    return {
        "material_id": record.name,
        "formula": crystal.composition.reduced_formula,
        "num_atoms": len(crystal),
        "atomic_numbers": list(crystal.atomic_numbers),
        "frac_coords": crystal.frac_coords.ravel().tolist(),
        "lattice": crystal.lattice.matrix.ravel().tolist(),
        "space_group": find_space_group(crystal),
        "split": record.split,
        **orbit_columns(find_orbits(numbers, crystal.frac_coords, crystal.lattice.matrix)),
    } | {name: value for name, value in labels.items() if name not in CORE_SCHEMA.names}


def _rounded(crystal: Structure) -> Structure:
    """Numbers as they are stored: the space group is then that of the stored crystal."""
    coords = crystal.frac_coords
    special = np.round(coords * SPECIAL_FRACTIONS) / SPECIAL_FRACTIONS
    near = np.abs(coords - special) < 2 * 10.0**-DECIMALS
    coords = np.where(near, special, np.round(coords, DECIMALS)).astype(np.float32)
    lattice = (np.round(crystal.lattice.matrix, DECIMALS) + 0.0).astype(np.float32)
    return build_structure(lattice, list(crystal.atomic_numbers), coords)


def row_structure(row: Mapping[str, object]) -> Structure:
    """The structure of a table row."""
    return build_structure(row["lattice"], row["atomic_numbers"], row["frac_coords"])


def table_from_rows(rows: Sequence[Row]) -> pa.Table:
    """Core columns, then one float32 column per property that occurs in any row."""
    names = dict.fromkeys(name for row in rows for name in row if name not in CORE_SCHEMA.names)
    schema = pa.schema([*CORE_SCHEMA, *((name, pa.float32()) for name in names)])
    return pa.Table.from_pylist(list(rows), schema=schema)


def write_crystal_table(table: pa.Table, path: str | Path) -> None:
    """Write a parquet file atomically, compressed as for shipping."""
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", compression_level=19)
