"""Structures in memory, of whatever package, as records."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mattergen_lite.io.formats.structures import (
    OCCUPANCIES,
    build_structure,
    check_initial_charges,
    check_periodic,
    check_stated,
    ordered,
)
from mattergen_lite.io.parse import structure_from_dict
from mattergen_lite.io.read import read_structures
from mattergen_lite.io.records import StructureRecord

if TYPE_CHECKING:
    from pymatgen.core import Structure

EXPECTED = (
    "expected pymatgen Structures or their as_dict(), ASE Atoms, paths of files or folders, a "
    "mapping of names to such, or an iterable of them"
)


def records_of(structures: object) -> list[StructureRecord]:
    """Records of structures in memory and of files; what cannot be judged has the reason.

    A structure is called what its `properties` or, of Atoms, `info` have as "name", else by its
    number.

    Raises:
        ValueError: If there are none, or one is none of what `EXPECTED` lists.
    """
    if isinstance(structures, Mapping) and not _is_dict_of_one(structures):
        named = [(str(name), structure) for name, structure in structures.items()]
    elif _is_one(structures) or not isinstance(structures, Iterable):
        named = [(None, structures)]
    else:
        named = [(None, structure) for structure in structures]
    records = list(_records(named))
    if not records:
        raise ValueError(f"no structures: {EXPECTED}")
    return records


def _is_one(thing: object) -> bool:
    """Whether a thing is a single source of structures, or none, though it can be iterated over."""
    return (
        isinstance(thing, str | bytes | Path | Mapping)
        or hasattr(thing, "columns")  # a table, which iterates over the names of its columns
        or hasattr(thing, "lattice")
        or hasattr(thing, "get_cell")
    )


def _is_dict_of_one(thing: object) -> bool:
    """Whether a mapping is one object as pymatgen writes it."""
    return isinstance(thing, Mapping) and (
        "@class" in thing or {"lattice", "sites"} <= thing.keys()
    )


def _records(named: Iterable[tuple[str | None, object]]) -> Iterator[StructureRecord]:
    for number, (name, thing) in enumerate(named):
        if isinstance(thing, str | Path):
            yield from read_structures(thing)
        elif isinstance(thing, StructureRecord):
            yield thing
        else:
            yield _record(thing, name, number)


def _record(thing: object, name: str | None, number: int) -> StructureRecord:
    """The record of one structure in memory, or a ValueError if it is none."""
    from ase import Atoms
    from pymatgen.core import Structure

    called = None
    if isinstance(thing, Structure):
        called, convert = thing.properties.get("name"), ordered
    elif isinstance(thing, Atoms):
        called, convert = thing.info.get("name"), _from_atoms
    elif _is_dict_of_one(thing):
        convert = structure_from_dict
    else:
        hint = ' (pass its column of structures, such as table["structure"])'
        given = f"{type(thing).__name__}{hint * hasattr(thing, 'columns')}"
        raise ValueError(f"structure {number} is of type {given}: {EXPECTED}")
    name = name or str(called or f"{number:06d}")
    try:
        return StructureRecord(name, convert(thing))
    except (ValueError, TypeError, AttributeError) as error:
        return StructureRecord(name, None, str(error).splitlines()[0])


def _from_atoms(atoms: object) -> "Structure":
    """The crystal of ASE atoms, or a ValueError if not periodic, disordered or charged."""
    check_periodic(tuple(bool(flag) for flag in atoms.pbc))
    check_stated(atoms.info)
    check_initial_charges(atoms.get_initial_charges().tolist())
    check_stated({name: atoms.arrays[name] for name in atoms.arrays.keys() & OCCUPANCIES})
    return build_structure(
        atoms.cell.array, atoms.numbers.tolist(), atoms.get_scaled_positions(wrap=False)
    )
