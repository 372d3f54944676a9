"""Both directions: a finished run into a library, somebody's library into a crystal table."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from mattergen_lite.chemistry.elements import atomic_number
from mattergen_lite.console import ProgressBar
from mattergen_lite.files.folders import atomic_path
from mattergen_lite.io.records import StructureRecord
from mattergen_lite.io.write import write_csv
from mattergen_lite.library.ase_database import write_database
from mattergen_lite.library.entries import entries
from mattergen_lite.library.materials_project import FIELDS, read_materials_project
from mattergen_lite.library.optimade import read_provider, write_jsonl
from mattergen_lite.runs.store import structure_cells

MATERIALS_PROJECT = "materials-project"
DATABASES = (".db", "postgresql://", "postgres://")


@dataclass(frozen=True, kw_only=True)
class Exchanged:
    """How many crystals went where."""

    number: int
    unreadable: int
    where: str

    def text(self) -> str:
        """One line for a terminal."""
        broken = f", {self.unreadable} unreadable" if self.unreadable else ""
        return f"{self.number} crystals{broken} -> {self.where}"


def export(source: Path, destination: str, *, passed_only: bool = False) -> Exchanged:
    """Write a campaign or a run as a database or as OPTIMADE JSON Lines.

    Raises:
        ValueError: If the source is neither or the destination is of an unknown kind.
    """
    exported = iter(ProgressBar(entries(source, passed_only=passed_only), unit="crystal"))
    if destination.endswith(".jsonl"):
        number = write_jsonl(exported, Path(destination))
    elif destination.endswith(DATABASES[0]) or destination.startswith(DATABASES[1:]):
        number = write_database(exported, destination)
    else:
        raise ValueError(
            f"destination {destination!r}: expected a file ending in .jsonl (OPTIMADE) or .db "
            "(ASE, SQLite), or postgresql://user:password@host:port/name"
        )
    return Exchanged(number=number, unreadable=0, where=destination)


def fetch(
    provider: str,
    out: Path,
    *,
    filter_text: str = "",
    chemical_system: str | None = None,
    fields: Sequence[str] = (),
    limit: int | None = None,
) -> Exchanged:
    """Write what a provider has as a table that every reader of structures takes.

    Raises:
        ValueError: If the request makes no sense, the provider fails or finds nothing.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"limit is {limit}: expected at least 1")
    if provider == MATERIALS_PROJECT:
        if filter_text:
            raise ValueError(f"filter {filter_text!r}: {provider} takes a chemical system only")
        records = read_materials_project(chemical_system, limit, fields or FIELDS)
    elif provider.startswith(("http://", "https://")):
        asked = _and(filter_text, system_filter(chemical_system))
        records = read_provider(provider, asked, limit, fields)
    else:
        raise ValueError(
            f"provider {provider!r}: expected {MATERIALS_PROJECT} or the http(s) address of an "
            "OPTIMADE provider, see https://www.optimade.org/providers-dashboard"
        )
    return _write_records(iter(ProgressBar(records, unit="crystal")), out)


def system_filter(chemical_system: str | None) -> str:
    """Exactly these elements, in OPTIMADE's filter language; empty without a system.

    Raises:
        ValueError: For something that is no element.
    """
    if chemical_system is None:
        return ""
    elements = chemical_system.split("-")
    for element in elements:
        atomic_number(element)
    listed = ", ".join(f'"{symbol}"' for symbol in elements)
    return f"elements HAS ALL {listed} AND nelements={len(elements)}"


def _and(*filters: str) -> str:
    given = [part for part in filters if part]
    return given[0] if len(given) == 1 else " AND ".join(f"({part})" for part in given)


def _write_records(records: Iterable[StructureRecord], out: Path) -> Exchanged:
    """Write records as a crystal table, unreadable ones with their reasons as a csv beside it."""
    broken: list[StructureRecord] = []
    rows = list(_rows(records, broken))
    if not rows:
        reason = f" ({broken[0].name}: {broken[0].error})" if broken else ""
        raise ValueError(f"nothing found{reason}: {out} is not written")
    columns = list(dict.fromkeys(name for row in rows for name in row))  # not all have all values
    table = pa.table({name: [row.get(name) for row in rows] for name in columns})
    with atomic_path(out) as temporary:
        pq.write_table(table, temporary)
    if broken:
        write_csv(f"{out}.errors.csv", ("name", "error"), ((b.name, b.error) for b in broken))
    return Exchanged(number=len(rows), unreadable=len(broken), where=str(out))


def _rows(
    records: Iterable[StructureRecord], broken: list[StructureRecord]
) -> Iterator[dict[str, object]]:
    """Rows of the readable records; the others are put aside."""
    for record in records:
        if record.structure is None:
            broken.append(record)
            continue
        yield {"material_id": record.name} | structure_cells(record.structure) | record.properties
