"""Opens the known crystals that ship with the package: rows, structures, energies, the hull.

The embedded table of the Materials Project has the original labels of MP-20 and MPTS-52: geometries
relaxed by PBE or PBE+U, formation energies with MP2020 corrections.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import as_file, files
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
from pymatgen.core import Composition, Structure

from mattergen_lite.data.canonical import row_structure
from mattergen_lite.data.table import EMBEDDED, in_splits, read_crystal_table, table_path

if TYPE_CHECKING:
    import pandas as pd

_STRUCTURE = ("material_id", "formula", "num_atoms", "atomic_numbers", "frac_coords", "lattice")
_LABELS = (
    *("split", "formation_energy_per_atom", "e_above_hull", "magnetization_per_atom"),
    *("structure_source", "formation_energy_source"),
)
# Elements whose atoms take 60 Å³ or more, which the table leaves out.
_VOLUMINOUS = ("K", "Rb", "Cs", "Xe")


@dataclass(frozen=True, kw_only=True)
class KnownCompound:
    """A known crystal with its energies from DFT."""

    material_id: str  # of the Materials Project; of an element from experiment, its symbol
    structure: Structure
    formation_energy_per_atom: float  # eV/atom, with MP2020 corrections
    e_above_hull: float  # eV/atom
    split: str = "train"  # of MP-20

    @property
    def composition(self) -> Composition:
        """Composition of the cell."""
        return self.structure.composition

    @property
    def formula(self) -> str:
        """Reduced formula."""
        return self.composition.reduced_formula

    def fractions(self, symbols: Collection[str]) -> list[float]:
        """Atomic fraction of each element."""
        return [self.composition.get_atomic_fraction(symbol) for symbol in symbols]


def known_rows(*splits: str) -> pa.Table:
    """Rows of the embedded table in these splits, such as "train", which is MP-20's."""
    table = read_crystal_table(EMBEDDED)
    return table.filter(in_splits(table, splits))


@cache
def row_numbers() -> dict[str, int]:
    """Row of every crystal of the embedded table by its identifier."""
    return {name: row for row, name in enumerate(_column("material_id").to_pylist())}


def known_value(material_id: str, name: str) -> float | None:
    """Value of a property of an embedded crystal in `UNITS`; None if it is not known."""
    row = row_numbers().get(material_id)
    if row is None or name not in pq.read_schema(table_path(EMBEDDED)).names:
        return None
    value = _column(name)[row].as_py()
    return float(value) if isinstance(value, int | float) else None


@cache
def _column(name: str) -> pa.ChunkedArray:
    return read_crystal_table(EMBEDDED, [name])[name]


@cache
def known_frame() -> "pd.DataFrame":
    """Structures, energies and their sources of the whole embedded table."""
    return read_crystal_table(EMBEDDED, [*_STRUCTURE, *_LABELS]).to_pandas()


@cache
def labelled_compounds() -> "pd.DataFrame":
    """Rows of `known_frame` that have an energy."""
    rows = known_frame()
    return rows[rows.formation_energy_per_atom.notna()]


def known_compound(row: Mapping[str, Any]) -> KnownCompound:
    """Compound of a row of `known_frame`."""
    return KnownCompound(
        material_id=row["material_id"],
        structure=row_structure(row),
        formation_energy_per_atom=float(row["formation_energy_per_atom"]),
        e_above_hull=float(row["e_above_hull"]),
        split=row["split"],
    )


@cache
def elemental_crystals() -> dict[str, KnownCompound]:
    """The most stable form of every element in the table, by symbol.

    Of the four that it leaves out for their volume, those of experiment.
    """
    rows = labelled_compounds()
    pure = rows[rows.atomic_numbers.map(lambda numbers: len(set(numbers)) == 1)]
    best = pure.sort_values(["formation_energy_per_atom", "num_atoms"]).drop_duplicates("formula")
    compounds = [*map(known_compound, best.to_dict("records")), *elements_of_experiment()]
    return {compound.structure.elements[0].symbol: compound for compound in compounds}


def elements_of_experiment() -> list[KnownCompound]:
    """Elements that the table leaves out for their volume, in the structure that ASE has."""
    from ase.build import bulk
    from pymatgen.io.ase import AseAtomsAdaptor

    return [
        KnownCompound(
            material_id=symbol,
            structure=AseAtomsAdaptor.get_structure(bulk(symbol)),
            formation_energy_per_atom=0.0,
            e_above_hull=0.0,
        )
        for symbol in _VOLUMINOUS
    ]


def hull_table(columns: Sequence[str], *, is_stable: bool = False) -> pa.Table:
    """The lowest known formation energy of every composition; if stable, of those on the hull."""
    chosen = [("on_hull", "==", True)] if is_stable else None
    with as_file(files("mattergen_lite") / "assets" / "hull.parquet") as path:
        return pq.read_table(path, columns=list(columns), filters=chosen)
