"""Names the judged crystals of a campaign or a run for a library."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pymatgen.core import Structure

from mattergen_lite.campaign.parts import part_paths
from mattergen_lite.campaign.plan import MANIFEST
from mattergen_lite.runs.folder import RunFolder
from mattergen_lite.runs.store import NOT_JUDGEMENTS, stored_structure
from mattergen_lite.runs.tables import Row, read_table
from mattergen_lite.scoring.score import Cell

_LEFT_OUT = NOT_JUDGEMENTS | {"cif", "relaxed_cif", "error"}
_NEEDED = ("rank", "name", "error", "formula", "atomic_numbers")


@dataclass(frozen=True)
class Entry:
    """One crystal of a library."""

    id: str  # the same whenever and from wherever it is exported
    structure: Structure  # relaxed where it was relaxed
    judgement: Mapping[str, Cell]  # columns of the table that have a value


def entries(source: Path, *, passed_only: bool = False) -> Iterator[Entry]:
    """Every judged crystal of a campaign or of a run, or those that pass every check.

    Raises:
        ValueError: If the folder holds neither, or nothing finished.
    """
    run = RunFolder(source)
    if (source / MANIFEST).exists() and (parts := part_paths(source)):
        tables = ((None, read_table(path, (*_NEEDED, "unit"))) for path in parts)
    elif run.is_finished:
        tables = [(run.digest(), run.rows(_NEEDED))]
    else:
        raise ValueError(f"{source}: expected the folder of a campaign or of a finished run")
    return (
        entry
        for key, rows in tables
        for entry in _entries(rows, key)
        if not (passed_only and entry.judgement.get("failed_checks"))
    )


def _entries(rows: list[Row], key: str | None) -> Iterator[Entry]:
    """The readable crystals of a table; those of one name are told apart by their ranks."""
    taken: set[str] = set()
    for row in rows:
        if row["error"] is not None or not row["atomic_numbers"]:
            continue
        name = row["name"]
        while name in taken:  # also by a name that ends like this
            name += f"#{row['rank']}"
        taken.add(name)
        yield Entry(f"{(key or row['unit'])[:12]}-{name}", stored_structure(row), _judgement(row))


def _judgement(row: Mapping[str, Cell]) -> dict[str, Cell]:
    """What a row says, without what it does not know."""
    return {
        name: value
        for name, value in row.items()
        if name not in _LEFT_OUT
        and value not in (None, "")
        and not (isinstance(value, float) and not math.isfinite(value))
    }
