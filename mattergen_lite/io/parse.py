"""Documents -> structures: parsers of single crystals, whatever goes wrong a reason."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from mattergen_lite.io.bounds import parse_json
from mattergen_lite.io.formats.cif import parse_cif
from mattergen_lite.io.formats.extxyz import parse_extxyz
from mattergen_lite.io.formats.poscar import parse_poscar
from mattergen_lite.io.formats.structures import (
    build_structure,
    check_count,
    check_isotope,
    check_lattice,
    check_periodic,
    ordered,
)
from mattergen_lite.io.records import NAME_COLUMNS, STRUCTURE_COLUMNS, Document, StructureRecord
from mattergen_lite.processes import Failure, attempt_within

if TYPE_CHECKING:
    from pymatgen.core import Structure

MAX_MESSAGE = 500  # characters
# Columns of a crystal table that follow from the structure: no properties of their own.
DERIVED_COLUMNS = frozenset({"num_atoms", "space_group", "orbit_space_group"})
PARSE_TIME_LIMIT = 10.0  # s per structure
PARSE_MEMORY_LIMIT = 2 * 2**30  # bytes per structure


def parse_document(document: Document) -> StructureRecord:
    """Parse one document; whatever goes wrong ends in the record's `error`."""
    try:
        structure, properties = _parse(document)
    except Exception as error:  # parsers of foreign files raise anything
        return StructureRecord(document.name, None, one_line(error))
    row = document.content if document.format == "row" else document.labels
    properties |= _numeric(document.labels)
    return StructureRecord(document.name, structure, None, properties, row.get("split") or None)


def parse_within_limits(document: Document) -> StructureRecord:
    """Parse one document in this process, within the time and memory that a structure may take."""
    limits = {"time_limit": PARSE_TIME_LIMIT, "memory_limit": PARSE_MEMORY_LIMIT}
    found = attempt_within(parse_document, document, **limits)
    return (
        StructureRecord(document.name, None, found.reason) if isinstance(found, Failure) else found
    )


def _parse(document: Document) -> tuple["Structure", dict[str, float]]:
    content = document.content
    match document.format:
        case "cif":
            return parse_cif(content), {}
        case "poscar":
            return parse_poscar(content), {}
        case "extxyz":
            structure, values = parse_extxyz(content)
            return structure, _numeric(values)
        case "row":
            return _parse_row(content), _numeric(content)
        case _:
            raise ValueError(content)


def _parse_row(row: Mapping[str, object]) -> "Structure":
    if row.get("atomic_numbers") is not None:
        return build_structure(row["lattice"], row["atomic_numbers"], row["frac_coords"])
    value = next((row[key] for key in STRUCTURE_COLUMNS if row.get(key)), None)
    if value is None:
        raise ValueError(f"no structure in this row: expected {', '.join(STRUCTURE_COLUMNS)}")
    if isinstance(value, str) and not value.lstrip().startswith("{"):
        return parse_cif(value)
    return _from_dict(parse_json(value) if isinstance(value, str) else value)


def _from_dict(data: Mapping) -> "Structure":
    """Build from the plain numbers of `Structure.as_dict()`.

    `Structure.from_dict` would import whatever class the file names, so it is not used.
    """
    from pymatgen.core import Structure

    missing = {"lattice", "sites"} - set(data)
    if missing:
        raise ValueError(f"not a pymatgen Structure: no {' and no '.join(sorted(missing))}")
    sites = data["sites"]
    if not isinstance(sites, list) or not isinstance(data["lattice"], Mapping):
        raise ValueError("not a pymatgen Structure: sites are no list or lattice is no object")
    check_count(len(sites))
    check_periodic(data["lattice"].get("pbc", (True, True, True)))
    species, coords = [], []
    for number, site in enumerate(sites, start=1):
        try:
            species.append({part["element"]: float(part["occu"]) for part in site["species"]})
            coords.append([_plain_number(x) for x in site["abc"]])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"not a pymatgen Structure: atom {number}: {one_line(error)}"
            ) from None
        _check_species(species[-1], len(site["species"]), number)
    lattice = np.asarray(data["lattice"].get("matrix"), dtype=float).reshape(3, 3)
    check_lattice(lattice)
    return ordered(Structure(lattice, species, coords))


def _plain_number(value: object) -> float:
    if isinstance(value, bool | str):
        raise TypeError(f"coordinate {value!r}: expected a number")
    return float(value)


def _check_species(species: Mapping[str, float], count: int, number: int) -> None:
    """Refuse what pymatgen would round, merge or call something else."""
    for symbol, occupancy in species.items():
        check_isotope(symbol, f"atom {number}")
        if not 0 < occupancy <= 1:
            raise ValueError(f"occupancy of atom {number} is {occupancy}: expected 0 to 1")
    if count != len(species) or not species:
        raise ValueError(f"atom {number} has the same element twice, or none")


def _numeric(values: Mapping[str, object]) -> dict[str, float]:
    """The finite numbers among the values, without row numbers and what the structure tells."""
    return {
        name: float(value)
        for name, value in values.items()
        if isinstance(value, int | float | np.number | np.bool_)
        and math.isfinite(value)
        and name not in DERIVED_COLUMNS
        and name not in NAME_COLUMNS
        and not name.startswith("Unnamed:")
        and name
    }


def one_line(error: Exception) -> str:
    """The last line of a message: pymatgen puts the reason after its own headline."""
    message = f"missing {error}" if isinstance(error, KeyError) else str(error)
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    text = lines[-1][:MAX_MESSAGE] if lines else ""
    if isinstance(error, ValueError | OSError | RecursionError) and text:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
