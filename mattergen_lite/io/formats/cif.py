"""CIF (the Crystallographic Information File, version 1.1) -> a checked structure.

Readers made to get something out of every file call an atom of occupancy -1, or a symmetry they do
not know, a crystal. This one takes a file at its word: every atom of the list is there once per
operation, the operations are those of the named group, and the composition is the declared one.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from mattergen_lite.elements import symbols
from mattergen_lite.io.formats.declared import check_declared, formula
from mattergen_lite.io.formats.structures import (
    HYDROGEN_ISOTOPES,
    MAX_COORDINATE,
    MAX_LENGTH,
    build_structure,
    check_apart,
    check_count,
    number_of,
    parse_number,
)
from mattergen_lite.io.formats.symmetry import (
    IDENTITY,
    MAX_IMAGES,
    Operations,
    equivalent_positions,
    named_settings,
    parse_operations,
)

if TYPE_CHECKING:
    from pymatgen.core import Structure
from mattergen_lite.io.formats.cif_blocks import ABSENT, Block, data_blocks

FULL = 1e-3  # an occupancy within this of 1 is full
_MULTIPLICITIES = (
    "_atom_site_symmetry_multiplicity",
    "_atom_site_site_symmetry_multiplicity",
)
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
_ESD = re.compile(r"\(\d+\)$")


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
    multiplicities = _multiplicities(block, len(labels))
    numbers: list[int] = []
    coords: list[np.ndarray] = []
    for label, element, position, multiplicity in zip(
        labels, elements, positions, multiplicities, strict=True
    ):
        atoms = (
            position[None]
            if len(operations) == 1
            else equivalent_positions(position, operations, lattice, label)
        )
        if multiplicity not in (None, len(atoms)):
            raise ValueError(
                f"{label} has multiplicity {multiplicity} in the file and {len(atoms)} by symmetry"
            )
        numbers += [element] * len(atoms)
        coords.append(atoms)
        check_count(len(numbers))
    coordinates = np.concatenate(coords)
    check_declared(block.first, lattice, Counter(numbers))
    check_apart(lattice, coordinates)
    return build_structure(lattice, numbers, coordinates)


def _number(text: str, what: str) -> float:
    """A number without its standard uncertainty: 1.234 of 1.234(5)."""
    return parse_number(_ESD.sub("", text), what)


def _block_with_atoms(text: str) -> Block:
    found = [one for one in data_blocks(text) if any(name in one.columns for name in _COORDINATES)]
    found += [one for one in data_blocks(text) if one.values.keys() & {*_COORDINATES}]
    if not found:
        raise ValueError("unreadable CIF: no _atom_site_fract_x, _y and _z")
    if len(found) > 1:
        raise ValueError(f"{len(found)} blocks with atoms: expected one")
    return found[0]


def _lattice(block: Block) -> np.ndarray:
    """Rows a, b, c in Å: c along z, a in the xz plane, as pymatgen has it."""
    from pymatgen.core import Lattice

    missing = [name for name in (*_LENGTHS, *_ANGLES) if block.given([name]) is None]
    if missing:
        raise ValueError(f"unreadable CIF: no {missing[0]}")
    lengths = [_number(block.given([name]), name) for name in _LENGTHS]
    angles = [_number(block.given([name]), name) for name in _ANGLES]
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


def _operations(block: Block, lattice: np.ndarray) -> Operations:
    """Symmetry operations, as listed or as named; the listed ones must be of the named group.

    Raises:
        ValueError: If the file states a symmetry that is not understood or contradicts itself.
    """
    listed = next((name for name in _OPERATIONS if block.given([name])), None)
    texts = [] if listed is None else block.columns.get(listed) or [block.values[listed]]
    operations = parse_operations(texts) if texts else _named_operations(block, lattice)
    if not operations.keep(lattice):
        raise ValueError("symmetry not understood: its operations do not fit the cell")
    if texts:
        _check_group(block, operations)
    return operations


def _number_stated(block: Block) -> int | None:
    """International number that the file states.

    Raises:
        ValueError: If it states something else in that place.
    """
    text = block.given(_NUMBERS)
    if text is None:
        return None
    if not (text.isdecimal() and len(text) < 4 and 1 <= int(text) <= 230):
        raise ValueError(f"symmetry not understood: {text[:40]!r} is no space group known here")
    return int(text)


def _named_operations(block: Block, lattice: np.ndarray) -> Operations:
    """Operations of the setting that the file names; the identity if it names none."""
    hall, name, number = block.given(_HALL), block.given(_NAMES), _number_stated(block)
    if hall is None and name is None and number is None:
        strange = [
            one
            for one in (*block.values, *block.columns)
            if ("symop" in one or "symmetry" in one or "space_group" in one) and block.given([one])
        ]
        if strange and not strange[0].startswith("_symmetry_cell_setting"):
            raise ValueError(f"symmetry not understood: {strange[0][:60]} without operations")
        return IDENTITY
    found, symbol = named_settings(hall=hall, name=name, number=number)
    if not found:
        raise ValueError(f"symmetry not understood: {symbol[:40]!r} is no space group known here")
    fitting = [one for one in found if one.operations.keep(lattice)]
    if not fitting:
        raise ValueError(f"symmetry not understood: {symbol[:40]!r} does not fit the cell")
    if number is not None and all(one.number != number for one in fitting):
        raise ValueError(
            f"symmetry not understood: {symbol[:40]!r} is not of space group number {number}"
        )
    if len(fitting) > 1:
        choices = ", ".join(one.choice or "standard" for one in fitting)
        raise ValueError(
            f"symmetry not understood: {symbol[:40]!r} has settings {choices}, and the file lists "
            "no operations"
        )
    return fitting[0].operations


def _check_group(block: Block, operations: Operations) -> None:
    """Refuse operations that are no group, or not the one that the file names."""
    found = operations.space_group()
    if found is None:
        raise ValueError(
            f"symmetry not understood: {len(operations)} operations form no space group"
        )
    named = {}
    if (number := _number_stated(block)) is not None:
        named[str(number)] = [number]
    if name := block.given(_NAMES):
        named[name] = [one.number for one in named_settings(name=name)[0]]
    for symbol, numbers in named.items():
        if numbers and found not in numbers:
            raise ValueError(
                f"symmetry not understood: the file names space group {symbol[:40]}, its "
                f"operations are those of {found}"
            )


def _sites(block: Block) -> tuple[list[str], list[int], list[np.ndarray]]:
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
    elements = frozenset(formula(block.first("_chemical_formula_sum") or ""))
    found: tuple[list[str], list[int], list[np.ndarray]] = ([], [], [])
    for row in range(len(names)):
        where = f"atom {row + 1} ({names[row][:20]})"
        site = {name: column[row] for name, column in columns.items() if row < len(column)}
        _check_full(site, where)
        found[0].append(where)
        found[1].append(_element(site, where, elements))
        found[2].append(_position(site, where))
    return found


def _multiplicities(block: Block, count: int) -> Sequence[int | None]:
    """How many atoms the file says that each site stands for; None where it does not."""
    column = next((block.columns[one] for one in _MULTIPLICITIES if one in block.columns), [])
    if len(column) != count or not all(one.isdecimal() and len(one) < 4 for one in column):
        return [None] * count
    return [int(one) for one in column]


def _position(site: Mapping[str, str], where: str) -> np.ndarray:
    position = np.array(
        [_number(site[name], f"coordinate {name[-1]} of {where}") for name in _COORDINATES]
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
    occupancy = 1.0 if text == "." else _number(text, f"occupancy of {where}")
    if not 0 < occupancy <= 1 + FULL:
        raise ValueError(f"occupancy of {where} is {occupancy:g}: expected above 0, at most 1")
    if occupancy < 1 - FULL:
        raise ValueError(
            f"{where} is partially occupied ({occupancy:g}): only ordered structures are accepted"
        )
    hydrogens = site.get("_atom_site_attached_hydrogens", ".")
    if hydrogens not in {"0", *ABSENT}:
        raise ValueError(f"{where} has {hydrogens[:20]} hydrogen atoms that are not listed")
    if site.get("_atom_site_disorder_group", ".") not in {"0", *ABSENT}:
        raise ValueError(
            f"{where} is one of several disordered groups: only ordered structures are accepted"
        )
    if site.get("_atom_site_calc_flag") == "dum":
        raise ValueError(f"{where} is a dummy atom: expected atoms only")


def _element(site: Mapping[str, str], where: str, declared: frozenset[str]) -> int:
    """Atomic number of a site, by its type symbol where there is one, else by its label."""
    text = site.get(_TYPE, ".")
    text = site.get(_LABEL, "?") if text in ABSENT else text
    letters = re.match(r"[A-Za-z]+", text)
    if letters is None:
        raise ValueError(f"unknown element {text[:40]!r} of {where}: expected H to Fm")
    word = letters[0]
    both, first = word[:2].capitalize(), word[:1].upper()
    if word in symbols()[1:] or word in HYDROGEN_ISOTOPES:
        return number_of(word, where)
    known = [one for one in (both, first) if one in symbols()[1:]]
    if len(known) > 1:  # CA1: calcium or a carbon? The declared formula knows.
        known = [one for one in known if one in declared] if declared else known
    if len(known) != 1 or (len(word) > 1 and both != known[0] and not word[1:].isupper()):
        raise ValueError(
            f"unknown element {word[:40]!r} of {where}: expected a symbol of Z = 1..100"
        )
    return number_of(known[0], where)
