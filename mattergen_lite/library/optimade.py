"""Libraries in the language of OPTIMADE (Andersen et al., Sci. Data 2021, 8, 217), both ways.

Written as OPTIMADE JSON Lines, which any OPTIMADE server can publish as it is; read from any
provider. Judgements are fields with the prefix `_mglite_`.
"""

import json
import math
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any
from urllib.parse import urlencode, urljoin, urlsplit

import numpy as np
from numpy.linalg import LinAlgError
from pymatgen.io.optimade import OptimadeStructureAdapter

from mattergen_lite.chemistry.elements import atomic_number
from mattergen_lite.files.folders import atomic_path
from mattergen_lite.io.formats.structures import (
    build_structure,
    check_count,
    check_isotope,
    check_lattice,
    check_periodic,
)
from mattergen_lite.io.records import StructureRecord, shown_name
from mattergen_lite.library.entries import Entry
from mattergen_lite.processes import OutOfTime, alarm
from mattergen_lite.scoring.score import Cell

PREFIX = "_mglite_"
API_VERSION = "1.2.0"
_TYPES = {bool: "boolean", int: "integer", float: "float", str: "string"}
# What a stranger may send.
MAX_PAGE = 64 * 2**20  # bytes, unpacked
MAX_ENTRIES = 1_000_000
PAGE_LIMIT = 100  # entries asked for at once
CHUNK = 2**16  # bytes
TIMEOUT = 30.0  # s of silence
PAGE_TIME_LIMIT = 300.0  # s a page
_FIELDS = (
    *("lattice_vectors", "cartesian_site_positions", "species", "species_at_sites"),
    *("structure_features", "dimension_types"),
)


def write_jsonl(entries: Iterable[Entry], path: Path) -> int:
    """Write entries as OPTIMADE JSON Lines; returns how many."""
    written, types = 0, {}
    # The header describes what comes after it, so the body is written first, and elsewhere.
    with TemporaryFile("w+", encoding="utf-8", dir=path.parent) as body:
        for entry in entries:
            body.write(json.dumps(to_optimade(entry)) + "\n")
            written += 1
            types |= {name: type(value) for name, value in entry.judgement.items()}
        body.seek(0)
        with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
            header = {"x-optimade": {"meta": {"api_version": API_VERSION}}}
            for line in (header, _description(types)):
                file.write(json.dumps(line) + "\n")
            shutil.copyfileobj(body, file)
    return written


def to_optimade(entry: Entry) -> dict[str, object]:
    """One structure resource."""
    encoded = OptimadeStructureAdapter.get_optimade_structure(entry.structure)["attributes"]
    attributes = encoded | {
        "last_modified": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "chemical_formula_descriptive": entry.structure.composition.reduced_formula,
        "species": sorted(encoded["species"], key=lambda species: species["name"]),
    }
    own = {f"{PREFIX}{name}": value for name, value in entry.judgement.items()}
    return {"type": "structures", "id": entry.id, "attributes": attributes | own}


def _description(types: Mapping[str, type]) -> dict[str, object]:
    fields = {
        f"{PREFIX}{name}": {"type": _TYPES[kind], "description": f"mattergen-lite: {name}"}
        for name, kind in types.items()
    }
    return {"type": "info", "id": "structures", "properties": fields}


def read_provider(
    address: str, filter_text: str, limit: int | None, fields: Sequence[str] = ()
) -> Iterator[StructureRecord]:
    """Structures that an OPTIMADE provider finds.

    A provider is a stranger: what it sends is bounded in size, number and time. Its address has
    no version; the filter is in OPTIMADE's language, empty for everything; the fields are
    properties to take along, such as _exmpl_band_gap.

    Raises:
        ValueError: If the client is not installed, the filter is wrong, or the provider fails or
            answers with something else than OPTIMADE.
    """
    _check_filter(filter_text)
    query = {"response_fields": ",".join([*_FIELDS, *fields])}
    query |= {"filter": filter_text} if filter_text else {}
    if limit is not None:
        query["page_limit"] = str(min(limit, PAGE_LIMIT))
    url: str | None = f"{address.rstrip('/')}/v1/structures?{urlencode(query)}"
    number, seen = 0, set()
    while url is not None:
        seen.add(url)
        page = _page(url, address)
        for resource in page["data"]:
            if number == limit:
                return
            if number == MAX_ENTRIES:
                raise ValueError(f"{address} has more than {MAX_ENTRIES} entries: expected a limit")
            yield from_optimade(resource, fields, number := number + 1)
        url = _next(page, address)
        if url in seen or (url is not None and not page["data"]):
            raise ValueError(f"{address} goes round in circles after {number} entries: try a limit")


def _check_filter(text: str) -> None:
    try:
        from optimade.exceptions import BadRequest
        from optimade.filterparser import LarkParser
    except ImportError:
        raise ValueError("OPTIMADE needs `pip install '.[library]'` in the source folder") from None
    try:
        LarkParser().parse(text) if text else None
    except BadRequest as error:
        raise ValueError(f"filter {text!r}: {error.detail.splitlines()[0]}") from None


def _page(url: str, address: str) -> dict[str, Any]:
    """One page of an answer: an object with a list `data`."""
    try:
        page = json.loads(_body(url, address))
    except (ValueError, RecursionError) as error:
        if str(error).startswith(address):
            raise
        raise ValueError(f"{address} answers with no JSON: {str(error)[:200]}") from None
    if not isinstance(page, dict) or not isinstance(page.get("data"), list):
        raise ValueError(f"{address} answers with no OPTIMADE page: expected a list of entries")
    return page


def _body(url: str, address: str) -> bytes:
    """What a server sends, unpacked, up to `MAX_PAGE` bytes within `PAGE_TIME_LIMIT`."""
    import requests

    def stay(response: requests.Response, **_: object) -> None:
        if response.is_redirect:  # not followed yet
            _check_own(urljoin(response.url, response.headers["location"]), address)

    parts, size = [], 0
    try:
        with (
            alarm(PAGE_TIME_LIMIT),  # a byte now and then is no silence
            requests.get(url, timeout=TIMEOUT, stream=True, hooks={"response": stay}) as response,
        ):
            for part in response.iter_content(CHUNK):
                parts.append(part)
                size += len(part)
                if size > MAX_PAGE:
                    raise ValueError(f"{address} sends more than {MAX_PAGE} bytes a page: refused")
    except OutOfTime:
        raise ValueError(f"{address} sent no page within {PAGE_TIME_LIMIT:g} s") from None
    except requests.RequestException as error:
        raise ValueError(f"{address}: {type(error).__name__}: {str(error)[:200]}") from None
    body = b"".join(parts)
    if response.status_code != 200:
        raise ValueError(f"{address} answers {response.status_code}: {_said(body)}")
    return body


def _said(body: bytes) -> str:
    """What an error page says, in one line."""
    try:
        (error, *_) = json.loads(body)["errors"]
        text = str(error.get("detail") or error.get("title"))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        text = body[:200].decode(errors="replace")
    return " ".join(text.split())[:200]


def _next(page: Mapping[str, Any], address: str) -> str | None:
    """Address of the next page, on the same host; None after the last."""
    links = page.get("links")
    link = links.get("next") if isinstance(links, Mapping) else None
    link = link.get("href") if isinstance(link, Mapping) else link
    if link:
        _check_own(str(link), address)
    return str(link) if link else None


def _check_own(url: str, address: str) -> None:
    """Refuse to be led to another host."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or parts.hostname != urlsplit(address).hostname:
        raise ValueError(f"{address} leads to {url[:100]!r}: expected pages of its own")


def from_optimade(resource: object, fields: Sequence[str] = (), number: int = 1) -> StructureRecord:
    """A structure resource as a record; what is wrong with it ends in the record's `error`.

    The number of the resource in the answer is its name if it has none.
    """
    name = f"#{number}"
    if not isinstance(resource, Mapping):
        return StructureRecord(name, None, f"{str(resource)[:40]!r} is no entry")
    try:
        name = shown_name(str(resource.get("id") or name))
        attributes = resource["attributes"]
        elements = {species["name"]: _element(species) for species in attributes["species"]}
        lattice = np.array(attributes["lattice_vectors"], dtype=float)
        positions = np.array(attributes["cartesian_site_positions"], dtype=float)
        check_periodic([bool(flag) for flag in attributes.get("dimension_types") or (1, 1, 1)])
        check_lattice(lattice)
        numbers = [elements[site] for site in attributes["species_at_sites"]]
        check_count(len(numbers))
        structure = build_structure(lattice, numbers, positions @ np.linalg.inv(lattice))
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, LinAlgError) as error:
        return StructureRecord(name, None, f"{type(error).__name__}: {str(error)[:500]}")
    values: dict[str, Cell] = {field: attributes.get(field) for field in fields}
    numeric = {
        k: float(v) for k, v in values.items() if isinstance(v, int | float) and math.isfinite(v)
    }
    return StructureRecord(name, structure, None, numeric)


def _element(species: Mapping) -> int:
    """Atomic number of a species that is one element on a full site."""
    if species.get("mass") and species["chemical_symbols"] == ["H"]:
        check_isotope("D" if species["mass"][0] > 1.5 else "H", f"site {species['name']!r}")
    if len(species["chemical_symbols"]) != 1 or species["concentration"][0] != 1:
        raise ValueError(f"partly occupied site {species['name']!r}: expected ordered crystals")
    return atomic_number(species["chemical_symbols"][0])
