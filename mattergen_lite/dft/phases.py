"""Known phases of the embedded table that reactions are made of."""

from collections.abc import Collection
from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd
from pymatgen.core import Composition, Element, Structure

from mattergen_lite.data.table import EMBEDDED, read_table
from mattergen_lite.io.formats.structures import build_structure
from mattergen_lite.scoring.known.compounds import elemental_crystals

MAX_ATOMS = 16
MAX_ABOVE_HULL = 0.1  # eV/atom
MAX_OF_ELEMENTS = 0.02  # eV/atom; the table lacks the stable forms of some
MAX_MOMENT = 0.05  # µB per atom: ground states of magnetic phases need more than two starts
# Elements whose crystals are molecular: their energies by PBE are not those of the corrected hull.
MOLECULAR = frozenset({"H", "N", "O", "F", "S", "Cl", "Se", "Br", "I"})
# Sources whose energies are those of the structure beside them; others were converted.
EXACT_SOURCES = ("mp20", "mpts52", "mp_hull_refs")
_COLUMNS = [
    "material_id",
    "formula",
    "num_atoms",
    "atomic_numbers",
    "frac_coords",
    "lattice",
    "formation_energy_per_atom",
    "e_above_hull",
    "magnetization_per_atom",
    "formation_energy_source",
]


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A known crystal with its formation energy."""

    material_id: str  # of the Materials Project
    formula: str  # reduced formula
    structure: Structure  # its cell
    formation_energy_per_atom: float  # eV/atom, MP2020 frame
    e_above_hull: float  # eV/atom

    def fractions(self, symbols: Collection[str]) -> list[float]:
        """Atomic fraction of each element."""
        composition = self.structure.composition
        return [composition.get_atomic_fraction(symbol) for symbol in symbols]


def known_phases(composition: Composition, *, exclude: Collection[str] = ()) -> list[Phase]:
    """Small phases of nothing but the elements of a composition that reactions may contain.

    Magnetic phases, molecular elements and what lies far above the hull are left out.
    """
    present = frozenset(element.symbol for element in composition.elements)
    table = _table()
    inside = [index for index, symbols in enumerate(_symbols()) if symbols <= present]
    rows = table.iloc[inside]
    compounds = [_phase(row) for row in rows.to_dict("records")]
    phases = [*(_element(symbol) for symbol in sorted(present - MOLECULAR)), *compounds]
    return [one for one in phases if one is not None and one.material_id not in exclude]


def phase_by_id(material_id: str) -> Phase:
    """A phase of the embedded table.

    Args:
        material_id: Of the Materials Project, or the symbol of an element from experiment.

    Raises:
        KeyError: If there is none.
    """
    table = _all_rows()
    rows = table[table.material_id == material_id]
    if len(rows):
        return _phase(rows.iloc[0].to_dict())
    elements = (_element(symbol) for symbol in elemental_crystals())
    by_id = {phase.material_id: phase for phase in elements if phase is not None}
    return by_id[material_id]


def metastable_phases(low: float, high: float, *, max_atoms: int, seed: int) -> list[Phase]:
    """Compounds between two energies above the hull in eV/atom, in a random order; at most 0.1."""
    rows = _table()
    kept = rows.e_above_hull.between(low, high) & (rows.num_atoms <= max_atoms)
    return [_phase(row) for row in rows[kept].sample(frac=1, random_state=seed).to_dict("records")]


def _element(symbol: str) -> Phase | None:
    """The most stable form of an element, if it is small."""
    known = elemental_crystals().get(symbol)
    if known is None or len(known.structure) > MAX_ATOMS:
        return None
    if known.formation_energy_per_atom > MAX_OF_ELEMENTS:
        return None
    return Phase(
        material_id=known.material_id,
        formula=known.structure.composition.reduced_formula,
        structure=known.structure,
        formation_energy_per_atom=known.formation_energy_per_atom,
        e_above_hull=known.e_above_hull,
    )


@cache
def _all_rows() -> pd.DataFrame:
    return read_table(EMBEDDED, _COLUMNS).to_pandas()


@cache
def _table() -> pd.DataFrame:
    rows = _all_rows()
    is_element = rows.atomic_numbers.map(lambda numbers: len(set(numbers)) == 1)
    kept = (
        (rows.num_atoms <= MAX_ATOMS)
        & (rows.e_above_hull < MAX_ABOVE_HULL)
        & rows.formation_energy_per_atom.notna()
        & rows.formation_energy_source.isin(EXACT_SOURCES)
        & (rows.magnetization_per_atom.fillna(0.0).abs() <= MAX_MOMENT)
        & ~is_element
    )
    return rows[kept].reset_index(drop=True)


@cache
def _symbols() -> list[frozenset[str]]:
    return [
        frozenset(Element.from_Z(int(number)).symbol for number in set(numbers))
        for numbers in _table().atomic_numbers
    ]


def _phase(row: dict) -> Phase:
    structure = build_structure(
        np.reshape(row["lattice"], (3, 3)),
        [int(number) for number in row["atomic_numbers"]],
        np.reshape(row["frac_coords"], (-1, 3)),
    )
    return Phase(
        material_id=row["material_id"],
        formula=structure.composition.reduced_formula,
        structure=structure,
        formation_energy_per_atom=float(row["formation_energy_per_atom"]),
        e_above_hull=float(row["e_above_hull"]),
    )
