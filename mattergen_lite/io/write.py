"""Structures and tables -> files, each written all at once."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mattergen_lite.folders import atomic_path
from mattergen_lite.io.formats.cif import parse_cif

if TYPE_CHECKING:
    from pymatgen.core import Structure

FORMULA_SIGNS = ("=", "+", "-", "@", "\t", "\r")  # of spreadsheets
MAX_FILE_NAME = 200  # bytes, so that suffixes and temporary names fit into 255
_EXACT_SYMPREC = 0.01  # Å; for what has been symmetrised already


class Cif(NamedTuple):
    """A CIF and the space group in it."""

    text: str
    space_group: int  # what an analysis of the file finds; 1 for P1


def to_cif(structure: "Structure", symprec: float | None) -> Cif:
    """A crystal as CIF, symmetrised if a tolerance is given.

    Args:
        structure: What to write.
        symprec: Tolerance in Å of the symmetry to impose, or None to write the cell as it is (P1).
            P1 is written too if the symmetrised crystal would not be the same crystal.
    """
    from pymatgen.io.cif import CifWriter

    symmetrised = None if symprec is None else _symmetrised_cif(structure, symprec)
    return symmetrised or Cif(str(CifWriter(structure)), 1)


def file_names(names: Iterable[str], reserved: Iterable[str] = ()) -> list[str]:
    """Names as those of files in one folder, without suffix: safe, and no two alike.

    Names come from other people's tables; some file systems do not tell capitals apart, and none
    takes more than 255 bytes.

    Args:
        names: Of anything.
        reserved: Names of other files in the folder.
    """
    found: list[str] = []
    taken = {name.casefold() for name in reserved}
    for name in names:
        stem = "".join(c if c.isalnum() or c in "-_.#" else "_" for c in name.removesuffix(".cif"))
        stem = stem.encode()[:MAX_FILE_NAME].decode(errors="ignore").lstrip(".") or "unnamed"
        free, number = stem, 1
        while free.casefold() in taken:
            number += 1
            free = f"{stem}_{number}"
        taken.add(free.casefold())
        found.append(free)
    return found


def write_text(text: str, path: str | Path) -> None:
    """Write a text file, all at once."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _symmetrised_cif(structure: "Structure", symprec: float) -> Cif | None:
    """The symmetrised CIF; None if symmetrising fails or changes the crystal."""
    from pymatgen.analysis.structure_matcher import StructureMatcher
    from pymatgen.io.cif import CifWriter
    from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

    # Tighter than the matcher's defaults, which would call a broken-up crystal the same.
    matcher = StructureMatcher(ltol=0.05, stol=0.1, angle_tol=2, scale=False)
    try:
        found = SpacegroupAnalyzer(structure, symprec)
        refined = found.get_refined_structure()
        text = str(CifWriter(refined, symprec=_EXACT_SYMPREC, refine_struct=False))
        written = parse_cif(text)
        space_group = SpacegroupAnalyzer(written, _EXACT_SYMPREC).get_space_group_number()
        same = space_group == found.get_space_group_number() and matcher.fit(structure, written)
    except Exception:  # spglib and pymatgen fail in their own ways on odd cells
        return None
    return Cif(text, space_group) if same else None


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
