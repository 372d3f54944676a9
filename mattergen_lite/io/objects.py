"""Structures in memory, of whatever package, as records."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mattergen_lite.io.formats.structures import ordered
from mattergen_lite.io.read import read_structures
from mattergen_lite.io.records import StructureRecord

if TYPE_CHECKING:
    from pymatgen.core import Structure

EXPECTED = (
    "expected pymatgen Structures, ASE Atoms, paths of files or folders, a mapping of names to "
    "such, or an iterable of them"
)


def records_of(structures: object) -> list[StructureRecord]:
    """Records of structures in memory and of files; what cannot be judged has the reason.

    Args:
        structures: A pymatgen Structure, ASE Atoms or a path, a mapping of names to them, or an
            iterable of them. A structure is called what its `properties` or, of Atoms, `info` have
            as "name", else by its number.

    Raises:
        ValueError: If there are none, or one is something else.
    """
    if isinstance(structures, Mapping):
        named = [(str(name), one) for name, one in structures.items()]
    elif _is_one(structures) or not isinstance(structures, Iterable):
        named = [(None, structures)]
    else:
        named = [(None, one) for one in structures]
    records = list(_records(named))
    if not records:
        raise ValueError(f"no structures: {EXPECTED}")
    return records


def _is_one(thing: object) -> bool:
    """Whether a thing is a single source of structures, though it can be iterated over."""
    return isinstance(thing, str | Path) or hasattr(thing, "lattice") or hasattr(thing, "get_cell")


def _records(named: Iterable[tuple[str | None, object]]) -> Iterator[StructureRecord]:
    for number, (name, thing) in enumerate(named):
        if isinstance(thing, str | Path):
            yield from read_structures(thing)
        elif isinstance(thing, StructureRecord):
            yield thing
        else:
            yield _record(thing, name, number)


def _record(thing: object, name: str | None, number: int) -> StructureRecord:
    """The record of one structure in memory.

    Raises:
        ValueError: If it is none.
    """
    from ase import Atoms
    from pymatgen.core import Structure

    if isinstance(thing, Structure):
        called, convert = thing.properties.get("name"), ordered
    elif isinstance(thing, Atoms):
        called, convert = thing.info.get("name"), _from_atoms
    else:
        raise ValueError(f"structure {number} is of type {type(thing).__name__}: {EXPECTED}")
    name = name or str(called or f"{number:06d}")
    try:
        return StructureRecord(name, convert(thing))
    except (ValueError, TypeError, AttributeError) as error:
        return StructureRecord(name, None, str(error).splitlines()[0])


def _from_atoms(atoms: object) -> "Structure":
    """The crystal that ASE atoms are.

    Raises:
        ValueError: If they are not periodic in three dimensions.
    """
    from mattergen_lite.io.formats.structures import build_structure, check_periodic

    check_periodic(tuple(bool(one) for one in atoms.pbc))
    return build_structure(
        atoms.cell.array, atoms.numbers.tolist(), atoms.get_scaled_positions(wrap=False)
    )
