"""The commands of the group `data`."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mattergen_lite.commands.workspace import check_source, cores
from mattergen_lite.files.folders import claimed_file
from mattergen_lite.options.checks import Atoms, NameOrPath, Seed, ShareBelowOne, Workers
from mattergen_lite.options.flat import flat

if TYPE_CHECKING:
    from mattergen_lite.data.describe import DatasetInfo
    from mattergen_lite.data.known import KnownCrystal
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


@flat
def data_info(table: NameOrPath = "embedded", /, *, png: Path | None = None) -> "DatasetInfo":
    """Summarise a crystal table: counts, sizes, elements, property coverage.

    Args:
        table: A parquet table, or the one inside the package.
        png: Also draw the summary into this file.

    Raises:
        ValueError: If the table is missing or is not a crystal table.
    """
    from mattergen_lite.data.describe import describe

    with claimed_file(png):
        info = describe(table)
        if png is not None:
            info.write_png(png)
    return info


@flat
def data_show(
    name: str,
    /,
    *,
    out: Path | None = None,
    cell: Literal["conventional", "primitive"] = "conventional",
) -> "KnownCrystal":
    """Show a crystal of the embedded table, and write it to a file.

    Args:
        name: Its identifier, such as mp-19017, or a formula, such as LiFePO4, which stands for its
            crystal of lowest energy.
        out: File to write, whose name says the format: .cif, .vasp or POSCAR, .extxyz, .json.
        cell: The conventional standard cell, or the primitive one.

    Raises:
        ValueError: If there is no such crystal or format.
    """
    from dataclasses import replace

    from mattergen_lite.data.known import check_name, known_crystal

    if out is not None:
        check_name(out)
    crystal = known_crystal(name)
    if out is None:
        return crystal
    with claimed_file(out):
        crystal.write(out, cell)
    return replace(crystal, file=out)


@flat
def data_elements() -> str:
    """List the groups of elements that --elements and --exclude take, such as toxic or scarce."""
    from mattergen_lite.chemistry.elements import element_groups_text

    return element_groups_text()
