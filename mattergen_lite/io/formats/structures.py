"""A crystal out of bare numbers, checked: what every reader of structures ends with."""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from mattergen_lite.chemistry.elements import MAX_ATOMIC_NUMBER, symbols

if TYPE_CHECKING:
    from pymatgen.core import Structure

MAX_ATOMS = 10_000  # larger "crystals" are mistakes or attacks, not unit cells
MAX_LENGTH = 1000.0  # Å, of a cell vector
MAX_COORDINATE = 1e6  # cells from the origin, beyond which a fraction has lost its digits
MIN_DISTANCE = 0.05  # Å, below which two atoms of a file are one that is there twice
MIN_VOLUME_RATIO = 1e-4  # cell volume over a·b·c, below which the cell is flat

ONLY_ORDERED = "only ordered structures are accepted"
FULL = 1e-3  # an occupancy within this of 1 is full
OCCUPANCIES = frozenset({"occupancy", "occupancies"})  # names under which others state them
CHARGES = frozenset({"charge", "total_charge", "net_charge"})  # of the cell, in e
INITIAL_CHARGES = "initial_charges"  # ASE's name for those of single atoms
MAX_INITIAL_CHARGE = 0.5  # e, of their sum
MAX_CHARGE = 0.05  # e, of a neutral cell: sums of rounded oxidation states are not quite zero

HYDROGEN_ISOTOPES = {"D": "deuterium", "T": "tritium"}
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eEdD][-+]?\d+)?")


def build_structure(
    lattice: ArrayLike, atomic_numbers: Sequence[int] | np.ndarray, frac_coords: ArrayLike
) -> "Structure":
    """Build an ordered structure from bare numbers: 9 of the rows of the lattice in Å, 3 per atom.

    Fractional coordinates are wrapped into the cell.

    Raises:
        ValueError: If there are no or too many atoms, not 3 coordinates each, an element is unknown
            (Z = 1..100), a number is not finite or far out of range, or the cell is flat.
    """
    from pymatgen.core import Structure

    lattice = _numbers(lattice, "lattice").reshape(-1)
    if lattice.size != 9:
        raise ValueError(f"lattice has {lattice.size} numbers: expected 9")
    frac_coords = _numbers(frac_coords, "coordinates").reshape(-1)
    check_lattice(lattice.reshape(3, 3))
    check_count(len(atomic_numbers))
    if frac_coords.size != 3 * len(atomic_numbers):
        raise ValueError(
            f"{frac_coords.size} coordinates for {len(atomic_numbers)} atoms: expected 3 each"
        )
    frac_coords = frac_coords.reshape(-1, 3)
    numbers = [_checked_number(number) for number in atomic_numbers]
    _check_coordinates(frac_coords)
    # Twice, because the remainder of a tiny negative number is exactly 1.0.
    return Structure(lattice.reshape(3, 3), numbers, frac_coords % 1.0 % 1.0)


def _numbers(values: ArrayLike, what: str) -> np.ndarray:
    try:
        return np.asarray(values, dtype=float)
    except (TypeError, ValueError):
        raise ValueError(f"{what} {str(values)[:60]!r}: expected numbers") from None


def _checked_number(number: object) -> int:
    whole = isinstance(number, int | np.integer) and not isinstance(number, bool)
    if not whole or not 1 <= number <= MAX_ATOMIC_NUMBER:
        raise ValueError(f"unknown element Z = {number}: expected 1 to {MAX_ATOMIC_NUMBER}")
    return int(number)


def check_count(num_atoms: int) -> None:
    """Refuse an empty or an absurdly large cell.

    Raises:
        ValueError: If there are no atoms or more than `MAX_ATOMS`.
    """
    if not 0 < num_atoms <= MAX_ATOMS:
        raise ValueError(f"{num_atoms} atoms: expected 1 to {MAX_ATOMS}")


def check_lattice(lattice: np.ndarray) -> None:
    """Refuse a cell that is no cell.

    Raises:
        ValueError: If a number is not finite, a vector longer than `MAX_LENGTH` or the cell flat.
    """
    if not np.isfinite(lattice).all():
        raise ValueError(f"lattice is not finite: {lattice.tolist()}")
    lengths = np.linalg.norm(lattice, axis=1)
    if lengths.max() > MAX_LENGTH:
        raise ValueError(f"cell vector of {lengths.max():g} Å: expected at most {MAX_LENGTH:g} Å")
    volume = abs(np.linalg.det(lattice))
    if not volume > MIN_VOLUME_RATIO * np.prod(lengths):
        raise ValueError(f"lattice is singular (volume {volume:.3g} Å³): {lattice.tolist()}")


def _check_coordinates(frac_coords: np.ndarray) -> None:
    """Refuse coordinates that are not finite or beyond `MAX_COORDINATE`; names the atom."""
    broken = ~np.isfinite(frac_coords).all(axis=1)
    if broken.any():
        site = int(broken.argmax())
        raise ValueError(
            f"coordinates of atom {site + 1} are not finite: {frac_coords[site].tolist()}"
        )
    far = (np.abs(frac_coords) > MAX_COORDINATE).any(axis=1)
    if far.any():
        site = int(far.argmax())
        raise ValueError(
            f"coordinates of atom {site + 1} are {frac_coords[site].tolist()}: expected at most "
            f"{MAX_COORDINATE:g} cells from the origin"
        )


def ordered(structure: "Structure") -> "Structure":
    """Keep bare elements on full sites only: no oxidation states, no site properties.

    Raises:
        ValueError: If a site is not fully occupied by one element, or it is not periodic.
    """
    from pymatgen.core import DummySpecies

    check_periodic(structure.lattice.pbc)
    check_stated(structure.properties or {})
    check_stated({"charge": structure._charge})
    for number, site in enumerate(structure, start=1):
        if not site.is_ordered:
            raise partially_occupied(f"atom {number}", site.species_string)
        if isinstance(site.specie, DummySpecies):
            raise ValueError(f"unknown element {site.specie.symbol!r} of atom {number}")
        check_isotope(site.specie.symbol, f"atom {number}")
        if isotope := getattr(getattr(site.specie, "element", site.specie), "is_isotope", False):
            raise ValueError(f"atom {number} is an isotope ({isotope}): expected an element")
    numbers = [site.specie.Z for site in structure]
    return build_structure(structure.lattice.matrix, numbers, structure.frac_coords)


def partially_occupied(where: str, what: str) -> ValueError:
    """The error of a site that does not hold one atom for sure."""
    return ValueError(f"{where} is partially occupied ({what}): {ONLY_ORDERED}")


def check_apart(lattice: np.ndarray, frac_coords: np.ndarray) -> None:
    """Refuse an atom that is listed twice, or as its own image.

    Raises:
        ValueError: If two atoms are within `MIN_DISTANCE`; names them.
    """
    from scipy.spatial import cKDTree

    wrapped = frac_coords % 1.0 % 1.0
    reach = MIN_DISTANCE * np.linalg.norm(np.linalg.inv(lattice), 2)  # in fractions of the cell
    tree = cKDTree(wrapped, boxsize=1.0)
    neighbours = tree.query(wrapped, k=min(2, len(wrapped)), distance_upper_bound=reach)
    if len(wrapped) < 2:
        return
    for atom, other in enumerate(neighbours[1][:, 1]):
        if other < len(wrapped):
            way = wrapped[atom] - wrapped[other]
            distance = np.linalg.norm((way - np.rint(way)) @ lattice)
            if distance < MIN_DISTANCE:
                raise ValueError(
                    f"atoms {min(atom, other) + 1} and {max(atom, other) + 1} are {distance:.3f} Å "
                    "apart: one is listed twice"
                )


def check_periodic(pbc: Sequence[bool]) -> None:
    """Refuse molecules, wires and slabs, which are no crystals.

    Raises:
        ValueError: If a direction is not periodic.
    """
    if len(pbc) != 3 or not all(pbc):
        shown = " ".join("T" if flag else "F" for flag in pbc)
        raise ValueError(f"pbc is {shown}: expected a crystal, periodic in all three directions")


def check_stated(values: Mapping[str, object]) -> None:
    """Refuse disorder and a net charge that are stated beside the atoms, by name.

    They stand in ASE's `info`, the comment line of extxyz, other columns of a table row,
    `properties`.

    Raises:
        ValueError: If an occupancy is not 1, or the charge of the cell is not 0.
    """
    for name, value in values.items():
        if name.casefold() in CHARGES and abs(_number_or(value, unread=0.0)) > MAX_CHARGE:
            raise ValueError(f"{name} is {value}: only neutral cells are accepted")
        if name.casefold() in OCCUPANCIES:
            broken = [
                occupancy for occupancy in _occupancies(value) if not abs(occupancy - 1) <= FULL
            ]
            if broken:
                raise ValueError(f"{name} is {' '.join(str(value).split())[:80]}: {ONLY_ORDERED}")


def check_initial_charges(charges: Sequence[object]) -> None:
    """Refuse charges of single atoms, as ASE gives them to calculators, that leave a net charge.

    Raises:
        ValueError: If half an electron or more is missing or left; partial charges are rounded.
    """
    total = sum(_number_or(charge, unread=0.0) for charge in charges)
    if abs(total) >= MAX_INITIAL_CHARGE:
        raise ValueError(f"initial_charges add up to {total:g}: only neutral cells are accepted")


def _occupancies(value: object) -> Iterator[float]:
    """All numbers of an occupancy as ASE and others state it; NaN for what is none."""
    if isinstance(value, str) and value.lstrip().startswith(("_JSON", "{", "[")):
        try:
            value = json.loads(value.strip().removeprefix("_JSON"))
        except (ValueError, RecursionError):
            value = "unreadable"
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple | np.ndarray):
        for part in value:
            yield from _occupancies(part)
    elif value not in (None, ""):
        yield _number_or(value, unread=math.nan)


def _number_or(value: object, unread: float) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return unread
    return unread if math.isnan(number) else number


def check_isotope(symbol: str, where: str) -> None:
    """Refuse isotopes of hydrogen, which readers take for hydrogen or for nothing.

    Raises:
        ValueError: If the symbol is D or T.
    """
    if symbol in HYDROGEN_ISOTOPES:
        raise ValueError(
            f"{where} is {HYDROGEN_ISOTOPES[symbol]} ({symbol}), which is judged as no element: "
            "expected H"
        )


def number_of(symbol: str, where: str) -> int:
    """Atomic number of a chemical symbol.

    Raises:
        ValueError: If it is none of H to Fm; names what has it.
    """
    check_isotope(symbol, where)
    if symbol not in symbols()[1:]:
        raise ValueError(
            f"unknown element {symbol[:40]!r} of {where}: expected a symbol of Z = 1..100"
        )
    return symbols().index(symbol)


def parse_finite(text: str, what: str) -> float:
    """A finite number written in decimal digits.

    Raises:
        ValueError: If it is anything else, "nan" and "inf" included; says what it is the number of.
    """
    if len(text) <= 100 and _NUMBER.fullmatch(text):
        value = float(text.translate(str.maketrans("dD", "ee")))
        if math.isfinite(value):
            return value
    raise ValueError(f"{what} is {text[:40]!r}: expected a finite number")
