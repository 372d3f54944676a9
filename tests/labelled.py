"""Labelled crystals as users have them: a csv with CIFs inside, or one that names files."""

import csv
from collections.abc import Callable, Sequence
from pathlib import Path

from crystals import simple_compounds
from pymatgen.core import Structure

Label = Callable[[Structure], object]


def write_csv(
    path: Path, columns: dict[str, Label], structures: Sequence[Structure] | None = None
) -> Path:
    """One row a structure, its CIF in the column `cif`."""
    structures = simple_compounds() if structures is None else structures
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*columns, "cif"])
        for structure in structures:
            values = [label(structure) for label in columns.values()]
            writer.writerow([*values, structure.to(fmt="cif")])
    return path


def write_folder(folder: Path, name: str, label: Label) -> Path:
    """Files a0.cif, a1.cif, ... and labels.csv that names them, with and without the suffix."""
    folder.mkdir(parents=True)
    with (folder / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", name])
        for number, structure in enumerate(simple_compounds()):
            structure.to(str(folder / f"a{number}.cif"))
            writer.writerow([f"a{number}" + ".cif" * (number % 2), label(structure)])
    return folder


def volume(structure: Structure) -> float:
    return structure.volume / len(structure)


def mass(structure: Structure) -> float:
    return float(structure.composition.weight) / len(structure)
