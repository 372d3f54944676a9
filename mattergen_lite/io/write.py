"""Structures and tables -> files, each written all at once."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mattergen_lite.files.folders import atomic_path
from mattergen_lite.io.formats.cif import parse_cif
from mattergen_lite.symmetry.detection import symmetry_dataset

if TYPE_CHECKING:
    from pymatgen.core import Structure
    from spglib import SpglibDataset  # its base class has annotations that beartype cannot check

FORMULA_SIGNS = ("=", "+", "-", "@", "\t", "\r")  # of spreadsheets
MAX_FILE_NAME = 200  # bytes, so that suffixes and temporary names fit into 255
_EXACT_SYMPREC = 0.01  # Å; for what has been symmetrised already
# What symmetrising may change of a crystal that is still the same.
_MAX_STRAIN = 0.05  # of the length of a cell vector, relative
_MAX_SHEAR = 2.0  # degrees, of an angle between cell vectors
_MAX_SHIFT = 0.1  # of an atom, over (V/N)^(1/3)


class Cif(NamedTuple):
    """A CIF and the space group in it."""

    text: str
    space_group: int  # what an analysis of the file finds; 1 for P1


def to_cif(structure: "Structure", symprec: float | None) -> Cif:
    """A crystal as CIF, symmetrised within a tolerance in Å if one is given, else in P1.

    P1 is written too if the symmetrised crystal would not be the same crystal.
    """
    from pymatgen.io.cif import CifWriter

    symmetrised = None if symprec is None else _symmetrised_cif(structure, symprec)
    return symmetrised or Cif(str(CifWriter(structure)), 1)


def file_names(names: Iterable[str], reserved: Iterable[str] = ()) -> list[str]:
    """Names as those of files in one folder, without suffix: safe, and no two alike.

    Names come from other people's tables; some file systems do not tell capitals apart, and none
    takes more than 255 bytes. `reserved` are names of other files in the folder.
    """
    chosen: list[str] = []
    taken = {name.casefold() for name in reserved}
    for name in names:
        stem = "".join(c if c.isalnum() or c in "-_.#" else "_" for c in name.removesuffix(".cif"))
        stem = stem.encode()[:MAX_FILE_NAME].decode(errors="ignore").lstrip(".") or "unnamed"
        free, number = stem, 1
        while free.casefold() in taken:
            number += 1
            free = f"{stem}_{number}"
        taken.add(free.casefold())
        chosen.append(free)
    return chosen


def _symmetrised_cif(structure: "Structure", symprec: float) -> Cif | None:
    """The symmetrised CIF; None if symmetrising fails or changes the crystal."""
    from pymatgen.core import Structure
    from pymatgen.io.cif import CifWriter

    try:
        dataset = symmetry_dataset(structure, symprec)
        standard = Structure(dataset.std_lattice, dataset.std_types, dataset.std_positions)
        text = str(CifWriter(standard, symprec=_EXACT_SYMPREC, refine_struct=False))
        written = parse_cif(text)
        space_group = int(symmetry_dataset(written, _EXACT_SYMPREC).number)
        same = space_group == dataset.number and _is_same(structure, written, dataset)
    except Exception:  # spglib and pymatgen fail in their own ways on odd cells
        return None
    return Cif(text, space_group) if same else None


def _is_same(structure: "Structure", written: "Structure", dataset: "SpglibDataset") -> bool:
    """Whether the standard cell that was written holds the crystal that was given.

    An atom at x is at `P x + p` of the standard cell, whose vectors are those of the given cell
    times P⁻¹ (ITA 5.1): there an atom of the element has to be, and no more atoms than that.
    """
    from pymatgen.core import Lattice

    cell = Lattice(np.linalg.inv(dataset.transformation_matrix).T @ structure.lattice.matrix)
    if len(written) != round(len(structure) * cell.volume / structure.volume):
        return False
    lengths = np.abs(np.divide(written.lattice.abc, cell.abc) - 1)
    angles = np.abs(np.subtract(written.lattice.angles, cell.angles))
    moved = structure.frac_coords @ dataset.transformation_matrix.T + dataset.origin_shift
    distances = written.lattice.get_all_distances(moved, written.frac_coords)
    other = np.not_equal.outer(structure.atomic_numbers, written.atomic_numbers)
    nearest = np.where(other, np.inf, distances).min(axis=1)
    size = (written.volume / len(written)) ** (1 / 3)
    return bool(
        (lengths < _MAX_STRAIN).all()
        and (angles < _MAX_SHEAR).all()
        and (nearest < _MAX_SHIFT * size).all()
    )


def write_csv(
    path: str | Path,
    header: Sequence[str],
    rows: Iterable[Sequence[str | int | float | bool | None]],
) -> None:
    """Write a csv file, all at once, numbers with six digits.

    Text that a spreadsheet would take for a formula gets an apostrophe in front: names and messages
    come from other people's files.
    """
    with (
        atomic_path(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8", errors="replace") as file,
    ):
        writer = csv.writer(file)
        writer.writerow([csv_cell(name) for name in header])
        writer.writerows([csv_cell(value) for value in row] for row in rows)


def csv_cell(value: str | int | float | bool | None) -> str | int | bool | None:
    """A value as it is written into csv files."""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, str) and value[:1] in FORMULA_SIGNS and value:
        return f"'{value}"
    return value


def write_extxyz(
    structures: Sequence["Structure"],
    path: str | Path,
    info: Sequence[Mapping[str, float | int | bool | str | None]],
) -> None:
    """Write structures as the frames of one extxyz file, each with its comment-line values.

    Raises:
        ValueError: If there is not one `info` per structure.
    """
    import ase
    import ase.io

    if len(info) != len(structures):
        raise ValueError(f"{len(info)} infos for {len(structures)} structures: expected one each")
    frames = [
        ase.Atoms(
            numbers=structure.atomic_numbers,
            cell=structure.lattice.matrix,
            scaled_positions=structure.frac_coords,
            pbc=True,
            info={key: value for key, value in values.items() if value is not None},
        )
        for structure, values in zip(structures, info, strict=True)
    ]
    with atomic_path(path) as temporary:
        ase.io.write(temporary, frames, format="extxyz")
