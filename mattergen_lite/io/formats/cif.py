"""Reads CIFs (the Crystallographic Information File, version 1.1) as checked structures.

It takes a file at its word: every atom of the list is there once per operation, the operations are
those of the named group, and the composition is the declared one. A name stands for operations
only if it names one setting; no unknown symbol is taken for P1.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from mattergen_lite.io.formats.cif_blocks import ABSENT, CifBlock, data_blocks
from mattergen_lite.io.formats.declared import check_declared, formula, parse_measured
from mattergen_lite.io.formats.species import element_of
from mattergen_lite.io.formats.structures import (
    FULL,
    MAX_COORDINATE,
    MAX_LENGTH,
    ONLY_ORDERED,
    build_structure,
    check_apart,
    check_count,
    partially_occupied,
)
from mattergen_lite.io.formats.symmetry import (
    IDENTITY,
    MAX_IMAGES,
    Operations,
    equivalent_positions,
    hall_operations,
    not_understood,
    parse_operations,
    unknown_group,
)
from mattergen_lite.symmetry.space_groups import settings_named, settings_numbered

if TYPE_CHECKING:
    from gemmi import SpaceGroup as Setting
    from pymatgen.core import Structure

_LENGTHS = tuple(f"_cell_length_{axis}" for axis in "abc")
_ANGLES = tuple(f"_cell_angle_{axis}" for axis in ("alpha", "beta", "gamma"))
_COORDINATES = tuple(f"_atom_site_fract_{axis}" for axis in "xyz")
_LABEL, _TYPE = "_atom_site_label", "_atom_site_type_symbol"
_OPERATIONS = ("_space_group_symop_operation_xyz", "_symmetry_equiv_pos_as_xyz")
_HALL = ("_space_group_name_hall", "_symmetry_space_group_name_hall")
_NAMES = (
    "_space_group_name_h-m_alt",
    "_symmetry_space_group_name_h-m",
    "_space_group_name_h-m_full",
    "_space_group_name_h-m_ref",
)
_NUMBERS = ("_space_group_it_number", "_symmetry_int_tables_number")


def parse_cif(text: str) -> "Structure":
    """The ordered crystal of a CIF with one block of atoms.

    Raises:
        ValueError: If it is no CIF, an atom is not one element on a full site at a finite place,
            the symmetry is not understood, or the declared composition is another one.
    """
    block = _block_with_atoms(text)
    lattice = _lattice(block)
    operations = _operations(block, lattice)
    labels, elements, positions = _sites(block)
    if len(positions) * len(operations) > MAX_IMAGES:
        raise ValueError(f"{len(positions)} sites under {len(operations)} operations: too many")
    coords = [
        equivalent_positions(position, operations, lattice, label)
        for label, position in zip(labels, positions, strict=True)
    ]
    counts = list(map(len, coords))
    check_count(sum(counts))
    _check_multiplicities(block, labels, counts, len(operations))
    numbers = np.repeat(elements, counts).tolist()
    coordinates = np.concatenate(coords)
    check_declared(block.first, lattice, Counter(numbers))
    check_apart(lattice, coordinates)
    return build_structure(lattice, numbers, coordinates)


def _block_with_atoms(text: str) -> CifBlock:
    blocks = list(data_blocks(text))
    filled = [block for block in blocks if any(name in block.columns for name in _COORDINATES)]
    filled += [block for block in blocks if block.values.keys() & {*_COORDINATES}]
    if not filled:
        raise ValueError("unreadable CIF: no _atom_site_fract_x, _y and _z")
    if len(filled) > 1:
        raise ValueError(f"{len(filled)} blocks with atoms: expected one")
    return filled[0]


def _lattice(block: CifBlock) -> np.ndarray:
    """Rows a, b, c in Å: c along z, a in the xz plane, as pymatgen has it."""
    from pymatgen.core import Lattice

    missing = [name for name in (*_LENGTHS, *_ANGLES) if block.given([name]) is None]
    if missing:
        raise ValueError(f"unreadable CIF: no {missing[0]}")
    lengths = [parse_measured(block.given([name]), name) for name in _LENGTHS]
    angles = [parse_measured(block.given([name]), name) for name in _ANGLES]
    for name, length in zip(_LENGTHS, lengths, strict=True):
        if not 0 < length <= MAX_LENGTH:
            raise ValueError(f"{name} is {length:g} Å: expected above 0, at most {MAX_LENGTH:g}")
    for name, angle in zip(_ANGLES, angles, strict=True):
        if not 0 < angle < 180:
            raise ValueError(f"{name} is {angle:g}°: expected above 0 and below 180")
    alpha, beta, gamma = np.cos(np.radians(angles))
    if 1 + 2 * alpha * beta * gamma <= alpha**2 + beta**2 + gamma**2:
        raise ValueError(f"lattice is singular: no cell has angles {angles}")
    return Lattice.from_parameters(*lengths, *angles).matrix


def _operations(block: CifBlock, lattice: np.ndarray) -> Operations:
    """Symmetry operations, as listed or as named; the listed ones must be of the named group."""
    listed = next((name for name in _OPERATIONS if block.given([name])), None)
    texts = [] if listed is None else block.columns.get(listed) or [block.values[listed]]
    operations = parse_operations(texts) if texts else _named_operations(block, lattice)
    if not operations.keep(lattice):
        raise not_understood("its operations do not fit the cell")
    if texts or block.given(_HALL):
        _check_group(block, operations)
    return operations


def _number_stated(block: CifBlock) -> int | None:
    """International number that the file states, or nothing in its place."""
    text = block.given(_NUMBERS)
    if text is None:
        return None
    if not (text.isdecimal() and len(text) < 4 and 1 <= int(text) <= 230):
        raise unknown_group(text)
    return int(text)


def _named_operations(block: CifBlock, lattice: np.ndarray) -> Operations:
    """Operations of the setting that the file names; the identity if it names none."""
    hall, name, number = block.given(_HALL), block.given(_NAMES), _number_stated(block)
    if hall is None and name is None and number is None:
        words = ("symop", "symmetry", "space_group")
        stated = filter(block.first, (*block.values, *block.columns))
        strange = [name for name in stated if any(word in name for word in words)]
        if strange and not strange[0].startswith("_symmetry_cell_setting"):
            raise not_understood(f"{strange[0][:60]} without operations")
        return IDENTITY
    if hall is not None:
        return hall_operations(hall)
    symbol = name or str(number)
    settings = settings_named(name) if name else settings_numbered(number)
    if not settings:
        raise unknown_group(symbol)
    if number is not None:
        settings = [setting for setting in settings if setting.number == number]
        if not settings:
            raise not_understood(f"{symbol[:40]!r} is not of space group number {number}")
    return _fitting_operations(settings, symbol, lattice, is_named=name is not None)


def _fitting_operations(
    settings: Sequence["Setting"], symbol: str, lattice: np.ndarray, *, is_named: bool
) -> Operations:
    """Operations of the one setting that the cell fits; short monoclinic names mean axis b."""
    candidates = [(setting, Operations.of(list(setting.operations()))) for setting in settings]
    fitting = [
        (setting, operations) for setting, operations in candidates if operations.keep(lattice)
    ]
    if not fitting:
        raise not_understood(f"{symbol[:40]!r} does not fit the cell")
    is_monoclinic = fitting[0][0].crystal_system_str() == "monoclinic"
    if len(fitting) > 1 and not (is_named and is_monoclinic):
        choices = ", ".join(setting.ext.strip("\0") or setting.hm for setting, _ in fitting)
        raise not_understood(
            f"{symbol[:40]!r} has settings {choices}, and the file lists no operations"
        )
    return fitting[0][1]


def _check_group(block: CifBlock, operations: Operations) -> None:
    """Refuse operations that are no group, or not the one that the file names."""
    group = operations.space_group()
    if group is None:
        raise not_understood(f"{len(operations)} operations form no space group")
    named = {}
    if (number := _number_stated(block)) is not None:
        named[str(number)] = {number}
    if name := block.given(_NAMES):
        named[name] = {setting.number for setting in settings_named(name)}
    for symbol, numbers in named.items():
        if numbers and group not in numbers:
            raise not_understood(
                f"the file names space group {symbol[:40]}, its operations are those of {group}"
            )


def _sites(block: CifBlock) -> tuple[list[str], list[int], list[np.ndarray]]:
    """Label, atomic number and position of every site of the list."""
    columns = {
        name: column
        for name, column in block.columns.items()
        if name.startswith("_atom_site_") and not name.startswith("_atom_site_aniso")
    } or {name: [value] for name, value in block.values.items() if name.startswith("_atom_site_")}
    names = columns.get(_LABEL) or columns.get(_TYPE)
    missing = [name for name in _COORDINATES if name not in columns]
    if missing or names is None:
        raise ValueError(f"unreadable CIF: no {missing[0] if missing else _LABEL}")
    if len({len(columns[name]) for name in (*_COORDINATES, *columns.keys() & {_LABEL, _TYPE})}) > 1:
        raise ValueError("unreadable CIF: columns of atoms in loops of different length")
    check_count(len(names))
    amounts = formula(block.first("_chemical_formula_sum") or "")
    types = [] if amounts else block.columns.get("_atom_type_symbol", [])
    declared = frozenset(amounts or (re.match(r"[A-Za-z]*", text)[0] for text in types))
    labels = [f"atom {row} ({name[:20]})" for row, name in enumerate(names, start=1)]
    numbers, positions = [], []
    for row, where in enumerate(labels):
        site = {name: column[row] for name, column in columns.items() if row < len(column)}
        _check_full(site, where)
        text = site.get(_TYPE, ".")
        symbol = site.get(_LABEL, "?") if text in ABSENT else text
        numbers.append(element_of(symbol, where, declared))
        positions.append(_position(site, where))
    return labels, numbers, positions


def _check_multiplicities(
    block: CifBlock, labels: Sequence[str], counts: Sequence[int], num_operations: int
) -> None:
    """Refuse sites that stand for another number of atoms than the file says."""
    orders = [num_operations // count for count in counts]
    # The deprecated first name holds multiplicities or, in files of SHELXL, orders, for all sites.
    readings = {
        "_atom_site_symmetry_multiplicity": (counts, orders),
        "_atom_site_site_symmetry_multiplicity": (counts,),
        "_atom_site_site_symmetry_order": (orders,),
    }
    for name, expected in readings.items():
        stated = [
            int(text) if text.isdecimal() and len(text) < 4 else None
            for text in block.columns.get(name, [])
        ]
        if len(stated) != len(counts):
            continue
        misfits = [_first_misfit(stated, values) for values in expected]
        if None not in misfits:
            site = misfits[0]
            what = name.rsplit("_", 1)[1]
            raise ValueError(
                f"{labels[site]} has {what} {stated[site]} in the file and {expected[0][site]} by "
                "symmetry"
            )


def _first_misfit(stated: Sequence[int | None], values: Sequence[int]) -> int | None:
    pairs = enumerate(zip(stated, values, strict=True))
    return next((place for place, (told, value) in pairs if told not in (None, value)), None)


def _position(site: Mapping[str, str], where: str) -> np.ndarray:
    position = np.array(
        [parse_measured(site[name], f"coordinate {name[-1]} of {where}") for name in _COORDINATES]
    )
    if np.abs(position).max() > MAX_COORDINATE:
        raise ValueError(
            f"coordinates of {where} are {position.tolist()}: expected at most "
            f"{MAX_COORDINATE:g} cells from the origin"
        )
    return position


def _check_full(site: Mapping[str, str], where: str) -> None:
    """Refuse what is not one atom for sure."""
    text = site.get("_atom_site_occupancy", ".")
    occupancy = 1.0 if text == "." else parse_measured(text, f"occupancy of {where}")
    if not 0 < occupancy <= 1 + FULL:
        raise ValueError(f"occupancy of {where} is {occupancy:g}: expected above 0, at most 1")
    if occupancy < 1 - FULL:
        raise partially_occupied(where, f"{occupancy:g}")
    hydrogens = site.get("_atom_site_attached_hydrogens", ".")
    if hydrogens not in {"0", *ABSENT}:
        raise ValueError(f"{where} has {hydrogens[:20]} hydrogen atoms that are not listed")
    if site.get("_atom_site_disorder_group", ".") not in {"0", *ABSENT}:
        raise ValueError(f"{where} is one of several disordered groups: {ONLY_ORDERED}")
    if site.get("_atom_site_calc_flag") == "dum":
        raise ValueError(f"{where} is a dummy atom: expected atoms only")
