"""What a library holds: judged crystals of a campaign or a run, named once and for all."""

import hashlib
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pymatgen.core import Structure

from mattergen_lite.campaign.parts import part_paths
from mattergen_lite.campaign.plan import MANIFEST
from mattergen_lite.io.tensors import structure_from_json
from mattergen_lite.runs.results import RECORD, read_run
from mattergen_lite.scoring.score import Cell

TABLES = ("candidates.parquet", "scores.parquet")
_NOT_JUDGEMENTS = {"unit", "rank", "merit", "candidate", "lattice", "atomic_numbers", "frac_coords"}
_NOT_JUDGEMENTS |= {"cif", "relaxed_cif", "error"}


@dataclass(frozen=True)
class Entry:
    """One crystal of a library."""

    id: str  # the same whenever and from wherever it is exported
    structure: Structure  # relaxed where it was relaxed
    judgement: Mapping[str, Cell]  # columns of the table that have a value


def entries(source: Path, *, passed_only: bool = False) -> Iterator[Entry]:
    """Every judged crystal of a campaign or of a run of `generate` or `score`.

    Args:
        source: Its folder.
        passed_only: Leave out what fails a check.

    Raises:
        ValueError: If the folder holds neither, or nothing finished.
    """
    if (source / MANIFEST).exists() and part_paths(source):
        found = _of_campaign(source)
    elif (source / RECORD).exists():
        found = _of_run(source)
    else:
        raise ValueError(f"{source}: expected the folder of a campaign or of a finished run")
    return (one for one in found if not (passed_only and one.judgement.get("failed_checks")))


def _of_campaign(source: Path) -> Iterator[Entry]:
    for path in part_paths(source):
        for row in _rows(path, ("unit", "name", "error", "atomic_numbers")):
            if row["error"] is None and row["atomic_numbers"]:
                structure = _structure(row)
                yield Entry(f"{row['unit'][:12]}-{row['name']}", structure, _judgement(row))


def _structure(row: Mapping[str, object]) -> Structure:
    flat, coords = row["lattice"], row["frac_coords"]
    return structure_from_json(
        {
            "lattice": [flat[i : i + 3] for i in range(0, 9, 3)],
            "atomic_numbers": row["atomic_numbers"],
            "frac_coords": [coords[i : i + 3] for i in range(0, len(coords), 3)],
        }
    )


def _of_run(source: Path) -> Iterator[Entry]:
    """Rows of the table with the structures of their ranks; names may occur twice.

    Raises:
        ValueError: If the run has no table, or not the structure of every judged row.
    """
    prefix = hashlib.sha256((source / RECORD).read_bytes()).hexdigest()[:12]
    table = next((source / name for name in TABLES if (source / name).exists()), None)
    if table is None:
        raise ValueError(f"{source} has no {' or '.join(TABLES)}: run it again")
    ids = Counter[str]()
    structures = {one.rank: one.structure for one in read_run(source, relaxed=True)}
    for row in _rows(table, ("rank", "name", "error", "formula")):
        if row["error"] is not None:
            continue
        structure = structures.get(row["rank"])
        if structure is None or structure.composition.reduced_formula != row["formula"]:
            found = "none" if structure is None else structure.composition.reduced_formula
            raise ValueError(
                f"{source} is damaged: rank {row['rank']} is {row['formula']} in the table and "
                f"{found} among the structures: run it again"
            )
        ids[row["name"]] += 1
        again = f"#{row['rank']}" if ids[row["name"]] > 1 else ""
        yield Entry(f"{prefix}-{row['name']}{again}", structure, _judgement(row))


def _rows(path: Path, needed: Sequence[str]) -> list[dict[str, Cell]]:
    """Rows of a table.

    Raises:
        ValueError: If it is damaged or lacks a column.
    """
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"cannot read table {path}: {str(error).splitlines()[0]}") from None
    if missing := [name for name in needed if name not in table.column_names]:
        raise ValueError(f"{path} has no column {missing[0]}: run it again")
    return table.to_pylist()


def _judgement(row: Mapping[str, Cell]) -> dict[str, Cell]:
    """What a row says, without what it does not know."""
    return {
        name: value
        for name, value in row.items()
        if name not in _NOT_JUDGEMENTS
        and value not in (None, "")
        and not (isinstance(value, float) and not math.isfinite(value))
    }
