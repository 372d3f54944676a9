"""Draws the known compounds that potentials are tested and calibrated on."""

from collections import Counter
from collections.abc import Set
from functools import cache

import pandas as pd
from pymatgen.core import Element

from mattergen_lite.data.materials import (
    KnownCompound,
    elemental_crystals,
    known_compound,
    labelled_compounds,
)

MAX_ATOMS = 8  # in the primitive cells of stable compounds
_ORIGINAL = {
    "structure_source": ["mp20_exact", "mpts52"],
    "formation_energy_source": ["mp20", "mpts52"],
}
# In turn, with compounds of none of them between: energies of anions are corrected, metals' not.
_ANIONS = ("O", "F", "S", "O", "Cl", "N", "O", "Br", "Se", "O", "I", "H")


def known_compounds(
    *splits: str,
    max_atoms: int,
    num: int,
    seed: int,
) -> list[KnownCompound]:
    """Draw compounds of at least two elements at random, with original geometries and labels.

    They are in these splits of MP-20 and have at most `max_atoms` in the primitive cell.
    """
    rows = _original(max_atoms)
    return _drawn(rows[rows.split.isin(splits) & rows.e_above_hull.notna()], num, seed)


def _drawn(rows: "pd.DataFrame", num: int, seed: int) -> list[KnownCompound]:
    """Some rows at random, all if there are fewer."""
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


def _stable() -> tuple[pd.DataFrame, list[frozenset[str]]]:
    """Small compounds within 0.02 eV/atom of the hull, and the elements of each."""
    rows = _original(MAX_ATOMS)
    rows = rows[rows.e_above_hull <= 0.02].sort_values("material_id")
    elements = [
        frozenset(Element.from_Z(int(number)).symbol for number in numbers)
        for numbers in rows.atomic_numbers
    ]
    return rows, elements


def compounds_within(symbols: Set[str], num: int) -> list[KnownCompound]:
    """Draw stable compounds that consist of some of the given elements, always the same ones."""
    rows, elements = _stable()
    return _drawn(rows[[own <= symbols for own in elements]], num, seed=0)


@cache
def spread_compounds(num: int) -> tuple[KnownCompound, ...]:
    """Choose stable compounds that have the elements of the whole table as evenly as possible.

    Every other one has an anion, or the metals would leave few. Always the same ones.
    """
    rows, elements = _stable()
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
