"""Known compounds with their energies: what potentials are examined and calibrated on.

From the embedded table of the Materials Project, with the original labels of MP-20 and MPTS-52:
geometries relaxed by PBE or PBE+U, formation energies on the MP2020 frame.
"""

from collections import Counter
from collections.abc import Mapping, Set
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from ase.build import bulk
from pymatgen.core import Composition, Element, Structure

from mattergen_lite.data.table import EMBEDDED, read_table
from mattergen_lite.io.formats.structures import build_structure
from mattergen_lite.io.records import StructureRecord

_COLUMNS = [
    "material_id",
    "formula",
    "num_atoms",
    "atomic_numbers",
    "frac_coords",
    "lattice",
    "split",
    "formation_energy_per_atom",
    "e_above_hull",
    "structure_source",
    "formation_energy_source",
]
_ORIGINAL = {
    "structure_source": ["mp20_exact", "mpts52"],
    "formation_energy_source": ["mp20", "mpts52"],
}
# In turn, with compounds of none of them between: energies of anions are corrected, metals' not.
_ANIONS = ("O", "F", "S", "O", "Cl", "N", "O", "Br", "Se", "O", "I", "H")


@dataclass(frozen=True, kw_only=True)
class KnownCompound:
    """One compound with its energies from DFT."""

    material_id: str
    structure: Structure
    formation_energy_per_atom: float  # eV/atom
    e_above_hull: float  # eV/atom
    split: str  # of MP-20

    @property
    def composition(self) -> Composition:
        """Composition of the cell."""
        return self.structure.composition


@cache
def labelled_compounds() -> pd.DataFrame:
    """Rows of the embedded table that have an energy."""
    table = read_table(EMBEDDED, _COLUMNS).to_pandas()
    return table[table.formation_energy_per_atom.notna()]


def known_compound(row: Mapping[str, Any]) -> KnownCompound:
    """Compound of a row of `labelled_compounds`."""
    structure = build_structure(
        np.reshape(row["lattice"], (3, 3)),
        [int(number) for number in row["atomic_numbers"]],
        np.reshape(row["frac_coords"], (-1, 3)),
    )
    return KnownCompound(
        material_id=row["material_id"],
        structure=structure,
        formation_energy_per_atom=float(row["formation_energy_per_atom"]),
        e_above_hull=float(row["e_above_hull"]),
        split=row["split"],
    )


# Elements whose atoms take 60 Å³ or more, which the table leaves out.
_VOLUMINOUS = ("K", "Rb", "Cs", "Xe")


@cache
def elemental_crystals() -> dict[str, KnownCompound]:
    """The most stable form of every element in the table, by symbol.

    Of the four that it leaves out for their volume, those of experiment.
    """
    rows = labelled_compounds()
    pure = rows[rows.atomic_numbers.map(lambda numbers: len(set(numbers)) == 1)]
    best = pure.sort_values(["formation_energy_per_atom", "num_atoms"]).drop_duplicates("formula")
    compounds = [
        *(known_compound(row) for row in best.to_dict("records")),
        *(_of_experiment(symbol) for symbol in _VOLUMINOUS),
    ]
    return {one.structure.elements[0].symbol: one for one in compounds}


def _of_experiment(symbol: str) -> KnownCompound:
    """An element in the structure and cell that ASE has of it."""
    atoms = bulk(symbol)
    structure = build_structure(
        atoms.cell.array, atoms.numbers.tolist(), atoms.get_scaled_positions()
    )
    return KnownCompound(
        material_id=symbol,
        structure=structure,
        formation_energy_per_atom=0.0,
        e_above_hull=0.0,
        split="train",
    )


def elements_of_experiment() -> list[StructureRecord]:
    """Elements that the table leaves out for their volume, in the structure of experiment."""
    return [StructureRecord(symbol, _of_experiment(symbol).structure) for symbol in _VOLUMINOUS]


def known_compounds(
    *splits: str,
    max_atoms: int,
    num: int,
    seed: int,
    e_above_hull: tuple[float, float] = (-np.inf, np.inf),
) -> list[KnownCompound]:
    """Draw compounds of at least two elements, with original geometries and labels, at random.

    Args:
        splits: Of MP-20 that they may be in.
        max_atoms: Of their primitive cells.
        num: How many; all there are if fewer.
        seed: Of the draw.
        e_above_hull: Lowest and highest, eV/atom.
    """
    rows = _original(max_atoms)
    rows = rows[rows.split.isin(splits) & rows.e_above_hull.between(*e_above_hull)]
    drawn = rows.sample(min(num, len(rows)), random_state=seed)
    return [known_compound(row) for row in drawn.to_dict("records")]


def _original(max_atoms: int) -> pd.DataFrame:
    """Small compounds whose geometry and energy belong together."""
    rows = labelled_compounds()
    wanted = (rows.num_atoms <= max_atoms) & (rows.formula.map(_num_elements) > 1)
    for column, sources in _ORIGINAL.items():
        wanted &= rows[column].isin(sources)
    return rows[wanted]


@cache
def _num_elements(formula: str) -> int:
    return sum(letter.isupper() for letter in formula)


def _stable(max_atoms: int) -> tuple[pd.DataFrame, list[frozenset[str]]]:
    """Small compounds within 0.02 eV/atom of the hull, and the elements of each."""
    rows = _original(max_atoms)
    rows = rows[rows.e_above_hull <= 0.02].sort_values("material_id")
    elements = [
        frozenset(Element.from_Z(int(number)).symbol for number in numbers)
        for numbers in rows.atomic_numbers
    ]
    return rows, elements


def compounds_within(symbols: Set[str], num: int, max_atoms: int = 8) -> list[KnownCompound]:
    """Draw stable compounds that consist of some of the given elements, always the same ones.

    Args:
        symbols: Elements that the compounds may have.
        num: How many; all if fewer exist.
        max_atoms: Of their primitive cells.
    """
    rows, elements = _stable(max_atoms)
    rows = rows[[own <= symbols for own in elements]]
    drawn = rows.sample(min(num, len(rows)), random_state=0)
    return [known_compound(row) for row in drawn.to_dict("records")]


@cache
def spread_compounds(num: int, max_atoms: int = 8) -> tuple[KnownCompound, ...]:
    """Choose stable compounds that have the elements of the whole table as evenly as possible.

    Every other one has an anion, or the metals would leave few. Always the same ones.

    Args:
        num: How many.
        max_atoms: Of their primitive cells.
    """
    rows, elements = _stable(max_atoms)
    pure = elemental_crystals().keys()
    free = {index for index, symbols in enumerate(elements) if symbols <= pure}
    chosen: list[int] = []
    used: Counter[str] = Counter()
    for turn in range(num):
        anion = _ANIONS[turn // 2 % len(_ANIONS)] if turn % 2 == 0 else None
        fitting = [index for index in free if _has(elements[index], anion)]
        best = min(fitting, key=lambda index: (_crowding(elements[index], used), index))
        chosen.append(best)
        free.remove(best)
        used.update(elements[best])
    return tuple(known_compound(row) for row in rows.iloc[chosen].to_dict("records"))


def _has(elements: frozenset[str], anion: str | None) -> bool:
    """Whether an anion is the only one among the elements; None: whether there is none."""
    return elements & {*_ANIONS} == ({anion} if anion else set())


def _crowding(elements: frozenset[str], used: Counter[str]) -> float:
    """How often the other elements have been chosen already, on average."""
    others = elements - {*_ANIONS}
    return sum(used[symbol] for symbol in others) / max(len(others), 1)
