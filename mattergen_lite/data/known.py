"""One crystal of the embedded table: what is known of it, and its structure as a file."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pyarrow as pa
import pyarrow.compute as pc
from pymatgen.symmetry.groups import SpaceGroup

from mattergen_lite.data.table import EMBEDDED, UNITS, read_table
from mattergen_lite.io.formats.structures import build_structure
from mattergen_lite.io.write import to_cif, write_extxyz, write_text
from mattergen_lite.symmetry.detection import SYMPREC_RELAXED

if TYPE_CHECKING:
    from pymatgen.core import Structure

Cell = Literal["conventional", "primitive"]
ENDINGS = ".cif, .vasp, .extxyz and .json, or POSCAR as the whole name"
_STRUCTURE = ("lattice", "atomic_numbers", "frac_coords")
_NAMES = ("material_id", "formula", "num_atoms", "space_group")


@dataclass(frozen=True, kw_only=True)
class KnownCrystal:
    """A crystal of the embedded table.

    Attributes:
        facts: Name, formula, atoms of the primitive cell and number of the space group.
        values: Its known properties by name, in `UNITS`.
        structure: The primitive cell, relaxed by DFT.
        others: Names of the other crystals of its formula, by rising energy above the hull.
        file: Where it was written to; None if nowhere.
    """

    facts: Mapping[str, object]
    values: Mapping[str, float]
    structure: "Structure"
    others: tuple[str, ...] = ()
    file: Path | None = None

    def text(self) -> str:
        """One line a fact or property, and where the file is."""
        group = self.facts["space_group"]
        lines = {
            **self.facts,
            "space_group": f"{SpaceGroup.from_int_number(group).symbol} ({group})",
        }
        lines |= {name: f"{value:.6g} {UNITS[name]}" for name, value in self.values.items()}
        lines |= {"other polymorphs": ", ".join(self.others)} if self.others else {}
        told = [f"{name:<28}{value}".rstrip() for name, value in lines.items()]
        return "\n".join([*told, *([] if self.file is None else [f"-> {self.file}"])])

    def cell(self, kind: Cell) -> "Structure":
        """The primitive cell, or the conventional standard cell of the space group."""
        from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

        if kind == "primitive":
            return self.structure
        found = SpacegroupAnalyzer(self.structure, SYMPREC_RELAXED)
        return found.get_conventional_standard_structure()

    def write(self, path: Path, kind: Cell) -> None:
        """Write the structure in the format that the name asks for.

        Raises:
            ValueError: If no format belongs to the name.
        """
        check_name(path)
        structure, suffix = self.cell(kind), path.suffix.lower()
        if suffix == ".extxyz":
            write_extxyz([structure], path, [{"name": str(self.facts["material_id"])}])
        elif suffix == ".cif":
            # The group of a CIF has its own cell.
            symprec = SYMPREC_RELAXED if kind == "conventional" else None
            write_text(to_cif(structure, symprec).text, path)
        else:
            write_text(structure.to(fmt="json" if suffix == ".json" else "poscar"), path)


def check_name(path: Path) -> None:
    """Refuse a name that no format belongs to.

    Raises:
        ValueError: With the names that are accepted.
    """
    known = path.suffix.lower() in (".cif", ".vasp", ".extxyz", ".json")
    if not known and path.name.upper() != "POSCAR":
        raise ValueError(f"{path}: unknown format, expected a name that ends in {ENDINGS}")


def known_crystal(name: str) -> KnownCrystal:
    """Find a crystal of the embedded table.

    Args:
        name: Its Materials Project identifier, such as "mp-19017", or a formula, such as
            "LiFePO4", which stands for its crystal of lowest energy.

    Raises:
        ValueError: If there is none.
    """
    named = read_table(EMBEDDED, ["material_id", "formula", "e_above_hull"])
    is_id = pc.equal(named["material_id"], name)
    rows = _rows(is_id)
    if not rows:
        rows = _rows(pc.equal(named["formula"], _reduced(name)))
        energies = {row: named["e_above_hull"][row].as_py() for row in rows}
        rows.sort(key=lambda row: math.inf if energies[row] is None else energies[row])
    if not rows:
        raise ValueError(
            f"{name[:60]!r} is not in the embedded table: expected an identifier such as mp-19017 "
            "or a formula such as LiFePO4, of at most 52 atoms in the primitive cell"
        )
    names = tuple(named["material_id"][row].as_py() for row in rows)
    return _crystal(read_table(EMBEDDED).slice(rows[0], 1), names[1:])


def _rows(chosen: pa.ChunkedArray) -> list[int]:
    return pc.indices_nonzero(chosen).to_pylist()


def _reduced(text: str) -> str:
    """The formula as the table writes it; the text itself if it is none."""
    from pymatgen.core import Composition

    try:
        return Composition(text).reduced_formula
    except ValueError:
        return text


def _crystal(row: pa.Table, others: tuple[str, ...]) -> KnownCrystal:
    (content,) = row.to_pylist()
    structure = build_structure(*(content[name] for name in _STRUCTURE))
    return KnownCrystal(
        facts={name: content[name] for name in _NAMES},
        values={name: value for name, value in content.items() if isinstance(value, float)},
        structure=structure,
        others=others,
    )
