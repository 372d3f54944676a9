"""One crystal of the embedded table: what is known of it, and its structure as a file."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pyarrow.compute as pc
from pymatgen.symmetry.groups import SpaceGroup

from mattergen_lite.console import text_table
from mattergen_lite.data.canonical import row_structure
from mattergen_lite.data.table import EMBEDDED, UNITS, read_crystal_table
from mattergen_lite.files.folders import write_text
from mattergen_lite.io.write import to_cif, write_extxyz
from mattergen_lite.symmetry.detection import SYMPREC_RELAXED

if TYPE_CHECKING:
    from pymatgen.core import Structure

Cell = Literal["conventional", "primitive"]
ENDINGS = ".cif, .vasp, .extxyz and .json, or POSCAR as the whole name"
_FACTS = ("material_id", "formula", "num_atoms", "space_group")


@dataclass(frozen=True, kw_only=True)
class KnownCrystal:
    """A crystal of the embedded table."""

    facts: Mapping[str, object]  # `_FACTS`
    values: Mapping[str, float]  # its known properties by name, in `UNITS`
    structure: "Structure"  # the primitive cell, relaxed by DFT
    others: tuple[str, ...] = ()  # crystals of its formula, by rising energy above the hull
    file: Path | None = None  # where it was written to

    def text(self) -> str:
        """One line a fact or property, and where the file is."""
        group = self.facts["space_group"]
        lines = {
            **self.facts,
            "space_group": f"{SpaceGroup.from_int_number(group).symbol} ({group})",
        }
        lines |= {name: f"{value:.6g} {UNITS[name]}" for name, value in self.values.items()}
        lines |= {"other polymorphs": ", ".join(self.others)} if self.others else {}
        rows = [(name, str(value)) for name, value in lines.items()]
        told = text_table(rows, widths=(26,), left=(0, 1))
        return "\n".join([*told, *([] if self.file is None else [f"-> {self.file}"])])

    def cell(self, kind: Cell) -> "Structure":
        """The primitive cell, or the conventional standard cell of the space group."""
        from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

        if kind == "primitive":
            return self.structure
        analyzer = SpacegroupAnalyzer(self.structure, SYMPREC_RELAXED)
        return analyzer.get_conventional_standard_structure()

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
    """Find a crystal of the embedded table by its identifier, such as "mp-19017", or its formula.

    A formula, such as "LiFePO4", stands for its crystal of lowest energy.

    Raises:
        ValueError: If there is none.
    """
    table = read_crystal_table(EMBEDDED)
    rows = table.filter(pc.equal(table["material_id"], name)).to_pylist()
    if not rows:
        of_formula = table.filter(pc.equal(table["formula"], _reduced(name)))
        rows = of_formula.sort_by("e_above_hull").to_pylist()  # unknown energies last
    if not rows:
        raise ValueError(
            f"{name[:60]!r} is not in the embedded table: expected an identifier such as mp-19017 "
            "or a formula such as LiFePO4, of at most 52 atoms in the primitive cell"
        )
    first, *others = rows
    return KnownCrystal(
        facts={name: first[name] for name in _FACTS},
        values={name: value for name, value in first.items() if isinstance(value, float)},
        structure=row_structure(first),
        others=tuple(other["material_id"] for other in others),
    )


def _reduced(text: str) -> str:
    """The formula as the table writes it; the text itself if it is none."""
    from pymatgen.core import Composition

    try:
        return Composition(text).reduced_formula
    except ValueError:
        return text
