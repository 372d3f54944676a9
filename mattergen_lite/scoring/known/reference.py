"""Looks up known structures by composition without loading all of them.

Rows stay as flat arrays; one index, composition -> row numbers, is built once, and a pymatgen
`Structure` exists only for rows that a query has to be compared with.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from pymatgen.core import Composition, Element, Structure

from mattergen_lite.data.materials import elements_of_experiment, hull_table
from mattergen_lite.data.table import EMBEDDED, read_crystal_table
from mattergen_lite.io.read import read_structures
from mattergen_lite.io.records import StructureRecord

_COLUMNS = ["material_id", "atomic_numbers", "frac_coords", "lattice"]

CompositionKey = tuple[tuple[int, int], ...]  # (Z, count in the reduced formula), by Z
SystemKey = tuple[int, ...]  # Z of every element, ascending


class Crystal(NamedTuple):
    """One structure as bare arrays: cheap to keep and to send to another process."""

    lattice: np.ndarray  # [3, 3] rows in Å
    atomic_numbers: np.ndarray  # [N]
    frac_coords: np.ndarray  # [N, 3]

    @classmethod
    def from_structure(cls, structure: Structure) -> "Crystal":
        """The arrays of an ordered structure."""
        numbers = np.array(structure.atomic_numbers, dtype=np.int16)
        return cls(structure.lattice.matrix, numbers, structure.frac_coords)

    def structure(self) -> Structure:
        """The pymatgen structure."""
        return Structure(self.lattice, self.atomic_numbers.tolist(), self.frac_coords)


def composition_key(atomic_numbers: Iterable[int]) -> CompositionKey:
    """The reduced composition, the same for every cell of a crystal."""
    counts = Counter(atomic_numbers)
    divisor = math.gcd(*counts.values())
    return tuple((number, counts[number] // divisor) for number in sorted(counts))


def system_key(composition: CompositionKey) -> SystemKey:
    """The elements of a composition."""
    return tuple(number for number, _ in composition)


class KnownCompositions:
    """Formulas of known compositions and the id of a compound of each."""

    def __init__(self, material_ids: Sequence[str], formulas: Sequence[str]) -> None:
        self.material_ids = material_ids
        self.formulas = formulas

    @cached_property
    def _rows_of_system(self) -> dict[SystemKey, list[int]]:
        rows = defaultdict(list)
        for row, formula in enumerate(self.formulas):
            symbols = set(re.findall("[A-Z][a-z]?", formula))
            rows[tuple(sorted(Element(symbol).Z for symbol in symbols))].append(row)
        return dict(rows)

    def has_system(self, system: SystemKey) -> bool:
        """Whether a compound of exactly these elements is known."""
        return system in self._rows_of_system

    def find(self, composition: CompositionKey) -> str:
        """material_id of a compound of a composition; empty if none is known."""
        for row in self._rows_of_system.get(system_key(composition), []):
            counts = Composition(self.formulas[row]).items()
            atoms = chain.from_iterable([element.Z] * round(count) for element, count in counts)
            if composition_key(atoms) == composition:
                return self.material_ids[row]
        return ""


NO_COMPOSITIONS = KnownCompositions([], [])


@dataclass(frozen=True)
class Reference:
    """Known structures, atoms of all rows in one array: row i is `offsets[i]:offsets[i + 1]`."""

    name: str  # for the protocol: which set, how many structures
    material_ids: Sequence[str]
    lattices: np.ndarray  # [R, 3, 3] rows in Å
    atomic_numbers: np.ndarray  # [atoms]
    frac_coords: np.ndarray  # [atoms, 3]
    offsets: np.ndarray  # [R + 1]
    compositions: KnownCompositions = NO_COMPOSITIONS  # whose structures may be missing here

    @classmethod
    def embedded(cls) -> "Reference":
        """The Materials Project structures of up to 52 atoms that ship with the package."""
        table = read_crystal_table(EMBEDDED, _COLUMNS)
        return cls.from_table(table, name="Materials Project, up to 52 atoms")

    @classmethod
    def from_table(cls, table: pa.Table, *, name: str) -> "Reference":
        """A crystal table with material_id, atomic_numbers, frac_coords and lattice."""
        packed = table.select(_COLUMNS).combine_chunks()
        ids, numbers, coords, lattices = (packed[column].chunk(0) for column in _COLUMNS)
        return cls(
            f"{name}, {len(table)} structures",
            ids.to_pylist(),
            lattices.flatten().to_numpy().reshape(-1, 3, 3),
            numbers.flatten().to_numpy(),
            coords.flatten().to_numpy().reshape(-1, 3),
            numbers.offsets.to_numpy(),
        )

    @classmethod
    def from_records(cls, records: Iterable[StructureRecord], *, name: str) -> "Reference":
        """Any structures, such as a user's own data; unreadable ones are left out.

        Raises:
            ValueError: If there is no readable structure.
        """
        named = [(r.name, r.structure) for r in records if r.structure is not None]
        if not named:
            raise ValueError(f"reference {name} holds no readable structure: expected at least one")
        crystals = [Crystal.from_structure(structure) for _, structure in named]
        return cls(
            f"{name}, {len(named)} structures",
            [structure_name for structure_name, _ in named],
            np.stack([crystal.lattice for crystal in crystals]),
            np.concatenate([crystal.atomic_numbers for crystal in crystals]),
            np.concatenate([crystal.frac_coords for crystal in crystals]),
            np.cumsum([0, *(len(crystal.atomic_numbers) for crystal in crystals)]),
        )

    @classmethod
    def joined(cls, references: Sequence["Reference"]) -> "Reference":
        """All structures and compositions of several references."""
        starts = np.cumsum([0, *(len(reference.atomic_numbers) for reference in references)])
        offsets = [
            reference.offsets[:-1] + start
            for reference, start in zip(references, starts, strict=False)
        ]
        return cls(
            " and ".join(reference.name for reference in references),
            [material_id for reference in references for material_id in reference.material_ids],
            np.concatenate([reference.lattices for reference in references]),
            np.concatenate([reference.atomic_numbers for reference in references]),
            np.concatenate([reference.frac_coords for reference in references]),
            np.concatenate([*offsets, starts[-1:]]),
            next(
                (
                    reference.compositions
                    for reference in references
                    if reference.compositions.formulas
                ),
                NO_COMPOSITIONS,
            ),
        )

    def __len__(self) -> int:
        return len(self.material_ids)

    def crystal(self, row: int) -> Crystal:
        """One known structure."""
        atoms = slice(self.offsets[row], self.offsets[row + 1])
        return Crystal(self.lattices[row], self.atomic_numbers[atoms], self.frac_coords[atoms])

    @cached_property
    def rows_of_composition(self) -> dict[CompositionKey, list[int]]:
        """Row numbers of every reduced composition."""
        numbers, offsets = self.atomic_numbers.tolist(), self.offsets.tolist()
        rows = defaultdict(list)
        for row in range(len(self)):
            rows[composition_key(numbers[offsets[row] : offsets[row + 1]])].append(row)
        return dict(rows)

    def has_system(self, system: SystemKey) -> bool:
        """Whether anything of exactly these elements is known."""
        return system in self.compositions_of_system or self.compositions.has_system(system)

    @cached_property
    def compositions_of_system(self) -> dict[SystemKey, list[CompositionKey]]:
        """Compositions of every chemical system."""
        compositions = defaultdict(list)
        for composition in self.rows_of_composition:
            compositions[system_key(composition)].append(composition)
        return dict(compositions)


def known_structures(paths: Sequence[Path]) -> Reference:
    """All that crystals have to be novel against: the embedded crystals, and further sources.

    Raises:
        ValueError: If one of the sources holds no readable structure.
    """
    own = [Reference.from_records(read_structures(path), name=path.name) for path in paths]
    pure = [
        StructureRecord(element.material_id, element.structure)
        for element in elements_of_experiment()
    ]
    elements = Reference.from_records(pure, name="elements of experiment")
    known = Reference.joined([Reference.embedded(), elements, *own])
    return replace(known, compositions=known_compositions())


@cache
def known_compositions() -> KnownCompositions:
    """Compositions of the Materials Project, on the hull or above it."""
    table = hull_table(["material_id", "formula"])
    return KnownCompositions(table["material_id"].to_pylist(), table["formula"].to_pylist())
