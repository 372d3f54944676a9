"""Documents -> structures: parsers of single crystals, whatever goes wrong a reason."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from mattergen_lite.io.bounds import parse_json
from mattergen_lite.io.formats.cif import parse_cif
from mattergen_lite.io.formats.extxyz import parse_extxyz
from mattergen_lite.io.formats.poscar import parse_poscar
from mattergen_lite.io.formats.structures import (
    FULL,
    build_structure,
    check_count,
    check_periodic,
    check_stated,
    number_of,
    parse_finite,
    partially_occupied,
)
from mattergen_lite.io.records import (
    FILE_COLUMNS,
    NAME_COLUMNS,
    STRUCTURE_COLUMNS,
    Document,
    StructureRecord,
)
from mattergen_lite.processes import Failure, attempt_within

if TYPE_CHECKING:
    from pymatgen.core import Structure

MAX_MESSAGE = 500  # characters
# Columns of a crystal table that follow from the structure: no properties of their own.
DERIVED_COLUMNS = frozenset({"num_atoms", "space_group", "orbit_space_group"})
MAX_LABEL = float(np.finfo(np.float32).max)  # of what a crystal table holds
MAX_SHOWN = 40  # characters of a label that is no number
_EMPTY = frozenset({"", "na", "n/a", "#n/a", "nan", "-nan", "null", "none", "<na>"})
_INFINITE = re.compile(r"[-+]?inf(?:inity)?", re.IGNORECASE)
_NO_LABELS = DERIVED_COLUMNS | {*NAME_COLUMNS, *STRUCTURE_COLUMNS, *FILE_COLUMNS, "split"}
PARSE_TIME_LIMIT = 10.0  # s per structure
PARSE_MEMORY_LIMIT = 2 * 2**30  # bytes per structure


def parse_document(document: Document) -> StructureRecord:
    """Parse one document; whatever goes wrong ends in the record's `error`."""
    try:
        structure, values = _parse(document)
        labels = {**values, **document.labels}
        check_stated(labels)
    except Exception as error:  # parsers of foreign files raise anything
        return StructureRecord(document.name, None, one_line(error))
    split = labels.get("split") if document.format == "row" or document.labels else None
    properties, unread = split_labels(labels)
    return StructureRecord(
        document.name, structure, None, properties, str(split) if split else None, unread=unread
    )


def parse_within_limits(document: Document) -> StructureRecord:
    """Parse one document in this process, within the time and memory that a structure may take."""
    limits = {"time_limit": PARSE_TIME_LIMIT, "memory_limit": PARSE_MEMORY_LIMIT}
    record = attempt_within(parse_document, document, **limits)
    return (
        StructureRecord(document.name, None, record.reason)
        if isinstance(record, Failure)
        else record
    )


def _parse(document: Document) -> tuple["Structure", Mapping[str, object]]:
    """The structure, and what the document says beside it."""
    content = document.content
    match document.format:
        case "cif":
            return parse_cif(content), {}
        case "poscar":
            return parse_poscar(content), {}
        case "extxyz":
            return parse_extxyz(content)
        case "row":
            return _parse_row(content)
        case _:
            raise ValueError(content)


def _parse_row(row: Mapping[str, object]) -> tuple["Structure", Mapping[str, object]]:
    """The structure of a table row, and its cells with the properties of a pymatgen structure."""
    if row.get("atomic_numbers") is not None:
        return build_structure(row["lattice"], row["atomic_numbers"], row["frac_coords"]), row
    value = next((row[key] for key in STRUCTURE_COLUMNS if row.get(key)), None)
    if value is None:
        raise ValueError(f"no structure in this row: expected {', '.join(STRUCTURE_COLUMNS)}")
    if isinstance(value, str) and not value.lstrip().startswith("{"):
        return parse_cif(value), row
    data = parse_json(value) if isinstance(value, str) else value
    return structure_from_dict(data), {**(data.get("properties") or {}), **row}


def structure_from_dict(data: Mapping) -> "Structure":
    """Build from the plain numbers of `Structure.as_dict()`, importing no class that they name.

    Raises:
        ValueError: If they are no ordered, neutral, periodic crystal.
    """
    missing = {"lattice", "sites"} - set(data)
    if missing:
        raise ValueError(f"not a pymatgen Structure: no {' and no '.join(sorted(missing))}")
    sites = data["sites"]
    if not isinstance(sites, list) or not isinstance(data["lattice"], Mapping):
        raise ValueError("not a pymatgen Structure: sites are no list or lattice is no object")
    check_count(len(sites))
    check_periodic(data["lattice"].get("pbc") or (True, True, True))
    check_stated(data.get("properties") or {})
    check_stated({"charge": data.get("charge")})
    numbers, coords = [], []
    for place, site in enumerate(sites, start=1):
        try:
            species = [(part["element"], float(part["occu"])) for part in site["species"]]
            coords.append([_plain_number(site["abc"][axis]) for axis in range(3)])
        except (LookupError, TypeError, ValueError) as error:
            raise ValueError(f"not a pymatgen Structure: atom {place}: {one_line(error)}") from None
        numbers.append(_only_element(species, place))
    lattice = np.asarray(data["lattice"].get("matrix"), dtype=float).reshape(3, 3)
    return build_structure(lattice, numbers, coords)


def _plain_number(value: object) -> float:
    if isinstance(value, bool | str):
        raise TypeError(f"coordinate {value!r}: expected a number")
    return float(value)


def _only_element(species: Sequence[tuple[str, float]], place: int) -> int:
    """Atomic number of the element that fills a site, which pymatgen would round or merge."""
    for _, occupancy in species:
        if not 0 < occupancy <= 1 + FULL:
            raise ValueError(f"occupancy of atom {place} is {occupancy}: expected 0 to 1")
    names = {str(symbol) for symbol, _ in species}
    if len(names) < len(species) or not species:
        raise ValueError(f"atom {place} has the same element twice, or none")
    if len(species) > 1 or species[0][1] < 1 - FULL:
        listed = ", ".join(f"{symbol} {occupancy:g}" for symbol, occupancy in species)
        raise partially_occupied(f"atom {place}", listed)
    return number_of(names.pop(), f"atom {place}")


def split_labels(values: Mapping[str, object]) -> tuple[dict[str, float], dict[str, str | float]]:
    """Numbers among the cells of a row, and the cells that are no finite number.

    Row numbers, names and what follows from the structure are no labels; empty cells are in
    neither. A number that a table holds as text, because a cell of its column is text, is a number.
    """
    numbers: dict[str, float] = {}
    unread: dict[str, str | float] = {}
    for name, value in values.items():
        if not name or name in _NO_LABELS or name.startswith(("Unnamed:", "@")) or _is_empty(value):
            continue
        number = _number_in(value)
        if number is not None and abs(number) <= MAX_LABEL:
            numbers[name] = number
        else:
            unread[name] = " ".join(str(value)[:MAX_SHOWN].split()) if number is None else number
    return numbers, unread


def _is_empty(value: object) -> bool:
    """Whether a cell is how somebody writes "unknown", NaN included."""
    if isinstance(value, str) and len(value) < MAX_SHOWN:
        return value.strip().casefold() in _EMPTY
    return value is None or (isinstance(value, float | np.floating) and math.isnan(value))


def _number_in(value: object) -> float | None:
    """The number that a cell holds, finite or not; None if it holds something else."""
    if isinstance(value, int | float | np.number | np.bool_):
        return float(value) if abs(value) <= MAX_LABEL else math.inf
    if not isinstance(value, str):
        return None
    text = value.strip()
    if _INFINITE.fullmatch(text):
        return math.inf
    try:
        return parse_finite(text, "")
    except ValueError:
        return None


def one_line(error: Exception) -> str:
    """The last line of a message: pymatgen puts the reason after its own headline."""
    message = f"missing {error}" if isinstance(error, KeyError) else str(error)
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    text = lines[-1][:MAX_MESSAGE] if lines else ""
    if isinstance(error, ValueError | OSError | RecursionError) and text:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
