"""The command `data prepare`."""

from pathlib import Path
from typing import TYPE_CHECKING

from mattergen_lite.folders import claimed_file
from mattergen_lite.options.checks import Atoms, Seed, ShareBelowOne, Workers
from mattergen_lite.options.flat import flat
from mattergen_lite.verbs.workspace import check_source, cores

if TYPE_CHECKING:
    from mattergen_lite.data.prepare import PrepareReport


@flat
def data_prepare(
    source: Path,
    out: Path,
    /,
    *,
    max_atoms: Atoms = 52,
    val_fraction: ShareBelowOne = 0.1,
    test_fraction: ShareBelowOne = 0.1,
    seed: Seed = 0,
    num_workers: Workers | None = None,
) -> "PrepareReport":
    """Turn structures from any source into a crystal table for training.

    Cells are reduced (primitive, Niggli); columns with numbers become properties, and totals of a
    cell, such as `energy`, are scaled with it. Duplicates are merged with their labels. Broken
    structures are listed in `<out>.errors.csv`, duplicates in `<out>.duplicates.csv`, labels in
    which they differ in `<out>.contradictions.csv`, what became of every column in
    `<out>.columns.csv`.

    Args:
        source: Folder or zip of CIF/POSCAR files, extxyz, csv or parquet with a cif column, or
            pymatgen JSON.
        out: The parquet table to write.
        max_atoms: Largest primitive cell to keep.
        val_fraction: Share of crystals for validation, unless the source has a split column.
        test_fraction: Share of crystals for testing, unless the source has a split column.
        seed: Seed of the random split.
        num_workers: Processes; default all cores.

    Raises:
        ValueError: If the source holds no usable structure; nothing is written then.
    """
    check_source(source)
    from mattergen_lite.data.prepare import prepare

    with claimed_file(out):
        return prepare(
            source,
            out,
            num_workers=cores(num_workers),
            val_fraction=val_fraction,
            test_fraction=test_fraction,
            seed=seed,
            max_atoms=max_atoms,
        )
