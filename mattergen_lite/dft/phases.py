"""Known phases of the embedded table that reactions are made of."""

from collections.abc import Collection
from functools import cache

import pandas as pd
from pymatgen.core import Composition, Element

from mattergen_lite.data.materials import (
    KnownCompound,
    elemental_crystals,
    known_compound,
    known_frame,
)

MAX_ATOMS = 16
MAX_ABOVE_HULL = 0.1  # eV/atom
MAX_OF_ELEMENTS = 0.02  # eV/atom; the table lacks the stable forms of some
MAX_MOMENT = 0.05  # µB per atom: ground states of magnetic phases need more than two starts
# Elements whose crystals are molecular: their energies by PBE are not those of the corrected hull.
MOLECULAR = frozenset({"H", "N", "O", "F", "S", "Cl", "Se", "Br", "I"})
# Sources whose energies are those of the structure beside them; others were converted.
EXACT_SOURCES = ("mp20", "mpts52", "mp_hull_refs")


def known_phases(composition: Composition, *, exclude: Collection[str] = ()) -> list[KnownCompound]:
    """Small phases of nothing but the elements of a composition that reactions may contain.

    Magnetic phases, molecular elements and what lies far above the hull are left out.
    """
    present = frozenset(element.symbol for element in composition.elements)
    table = _table()
    inside = [index for index, symbols in enumerate(_symbols()) if symbols <= present]
    rows = table.iloc[inside]
    compounds = [known_compound(row) for row in rows.to_dict("records")]
    phases = [*(_element(symbol) for symbol in sorted(present - MOLECULAR)), *compounds]
    return [phase for phase in phases if phase is not None and phase.material_id not in exclude]


def phase_by_id(material_id: str) -> KnownCompound:
    """A phase of the embedded table by identifier, or an element from experiment by symbol.

    Raises:
        KeyError: If there is none.
    """
    table = known_frame()
    rows = table[table.material_id == material_id]
    if len(rows):
        return known_compound(rows.iloc[0].to_dict())
    elements = (_element(symbol) for symbol in elemental_crystals())
    by_id = {phase.material_id: phase for phase in elements if phase is not None}
    return by_id[material_id]


def metastable_phases(low: float, high: float, *, max_atoms: int, seed: int) -> list[KnownCompound]:
    """Compounds between two energies above the hull in eV/atom, at most 0.1, in a random order."""
    rows = _table()
    kept = rows.e_above_hull.between(low, high) & (rows.num_atoms <= max_atoms)
    shuffled = rows[kept].sample(frac=1, random_state=seed)
    return [known_compound(row) for row in shuffled.to_dict("records")]


def _element(symbol: str) -> KnownCompound | None:
    """The most stable form of an element, if it is small."""
    known = elemental_crystals().get(symbol)
    is_fit = known is not None and len(known.structure) <= MAX_ATOMS
    return known if is_fit and known.formation_energy_per_atom <= MAX_OF_ELEMENTS else None


@cache
def _table() -> pd.DataFrame:
    rows = known_frame()
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
