"""Libraries in the language of OPTIMADE (Andersen et al., Sci. Data 2021, 8, 217), both ways.

Written as OPTIMADE JSON Lines, which any OPTIMADE server can publish as it is; read from any
provider by `optimade`'s own client. Judgements are fields with the prefix `_mglite_`.
"""

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryFile

import numpy as np

from mattergen_lite.elements import atomic_number
from mattergen_lite.folders import atomic_path
from mattergen_lite.io import StructureRecord, build_structure
from mattergen_lite.library.entries import Entry
from mattergen_lite.scoring.score import Cell

PREFIX = "_mglite_"
API_VERSION = "1.2.0"
_TYPES = {bool: "boolean", int: "integer", float: "float", str: "string"}
_FIELDS = (
    "lattice_vectors",
    "cartesian_site_positions",
    "species",
    "species_at_sites",
    "structure_features",
)


def write_jsonl(entries: Iterable[Entry], path: Path) -> int:
    """Write entries as OPTIMADE JSON Lines; returns how many."""
    written, types = 0, {}
    # The header describes what comes after it, so the body is written first, and elsewhere.
    with TemporaryFile("w+", encoding="utf-8", dir=path.parent) as body:
        for one in entries:
            body.write(json.dumps(to_optimade(one)) + "\n")
            written += 1
            types |= {name: type(value) for name, value in one.judgement.items()}
        body.seek(0)
        with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
            for line in (_header(), _description(types)):
                file.write(json.dumps(line) + "\n")
            shutil.copyfileobj(body, file)
    return written


def to_optimade(entry: Entry) -> dict[str, object]:
    """One structure resource."""
    structure, composition = entry.structure, entry.structure.composition
    elements = sorted(one.symbol for one in composition.elements)
    shares = [composition.get_atomic_fraction(one) for one in elements]
    counts = composition.reduced_composition.get_el_amt_dict()
    attributes = {
        "last_modified": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "elements": elements,
        "nelements": len(elements),
        "elements_ratios": shares,
        "chemical_formula_reduced": "".join(_counted(one, counts[one]) for one in elements),
        "chemical_formula_descriptive": composition.reduced_formula,
        "chemical_formula_anonymous": _anonymous(counts),
        "dimension_types": [1, 1, 1],
        "nperiodic_dimensions": 3,
        "lattice_vectors": structure.lattice.matrix.tolist(),
        "cartesian_site_positions": structure.cart_coords.tolist(),
        "nsites": len(structure),
        "species_at_sites": [site.specie.symbol for site in structure],
        "species": [
            {"name": one, "chemical_symbols": [one], "concentration": [1.0]} for one in elements
        ],
        "structure_features": [],
    }
    own = {f"{PREFIX}{name}": value for name, value in entry.judgement.items()}
    return {"type": "structures", "id": entry.id, "attributes": attributes | own}


def _anonymous(counts: Mapping[str, float]) -> str:
    """The formula with A for the most frequent element, then B, ..., Z, Aa, ..."""
    letters = [*map(chr, range(65, 91)), *(f"{chr(one)}a" for one in range(65, 91))]
    amounts = sorted(counts.values(), reverse=True)
    return "".join(_counted(letter, n) for letter, n in zip(letters, amounts, strict=False))


def _counted(symbol: str, count: float) -> str:
    return symbol if count == 1 else f"{symbol}{count:g}"


def _header() -> dict[str, object]:
    return {"x-optimade": {"meta": {"api_version": API_VERSION}}}


def _description(types: Mapping[str, type]) -> dict[str, object]:
    """What the fields with our prefix are."""
    fields = {
        f"{PREFIX}{name}": {"type": _TYPES[kind], "description": f"mattergen-lite: {name}"}
        for name, kind in types.items()
    }
    return {"type": "info", "id": "structures", "properties": fields}


def read_provider(
    address: str, filter_text: str, limit: int | None, fields: Sequence[str] = ()
) -> Iterator[StructureRecord]:
    """Structures that an OPTIMADE provider finds.

    Args:
        address: Base URL of the provider, without the version.
        filter_text: In OPTIMADE's filter language; empty for everything.
        limit: At most so many.
        fields: Properties to take along, such as _exmpl_band_gap.

    Raises:
        ValueError: If the client is not installed, the filter is wrong or the provider fails.
    """
    try:
        from optimade.client import OptimadeClient
        from optimade.exceptions import BadRequest
        from optimade.filterparser import LarkParser
    except ImportError:
        raise ValueError("OPTIMADE needs `pip install 'mattergen-lite[library]'`") from None
    try:
        LarkParser().parse(filter_text) if filter_text else None
    except BadRequest as error:
        raise ValueError(f"filter {filter_text!r}: {error.detail.splitlines()[0]}") from None
    client = OptimadeClient(
        base_urls=[address], max_results_per_provider=limit or -1, use_async=False, silent=True
    )
    found = client.get(
        filter=filter_text, endpoint="structures", response_fields=[*_FIELDS, *fields]
    )
    answer = found["structures"][filter_text][address]
    if answer["errors"]:
        raise ValueError(f"{address}: {str(answer['errors'][0]).splitlines()[0]}")
    for resource in answer["data"][:limit]:
        yield from_optimade(resource, fields)


def from_optimade(resource: Mapping, fields: Sequence[str] = ()) -> StructureRecord:
    """A structure resource as a record; what is wrong with it ends in the record's `error`."""
    name, attributes = str(resource["id"]), resource["attributes"]
    try:
        elements = {one["name"]: _element(one) for one in attributes["species"]}
        lattice = np.array(attributes["lattice_vectors"], dtype=float)
        positions = np.array(attributes["cartesian_site_positions"], dtype=float)
        numbers = [elements[site] for site in attributes["species_at_sites"]]
        structure = build_structure(lattice, numbers, positions @ np.linalg.inv(lattice))
    except (ValueError, TypeError, KeyError, np.linalg.LinAlgError) as error:
        return StructureRecord(name, None, f"{type(error).__name__}: {error}")
    values: dict[str, Cell] = {one: attributes.get(one) for one in fields}
    numeric = {k: float(v) for k, v in values.items() if isinstance(v, int | float)}
    return StructureRecord(name, structure, None, numeric)


def _element(species: Mapping) -> int:
    """Atomic number of a species that is one element on a full site."""
    if len(species["chemical_symbols"]) != 1 or species["concentration"][0] != 1:
        raise ValueError(f"partly occupied site {species['name']!r}: expected ordered crystals")
    return atomic_number(species["chemical_symbols"][0])
