"""What a library holds: judged crystals of a campaign or a run, named once and for all."""

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
from pymatgen.core import Structure

from mattergen_lite.campaign.parts import part_paths
from mattergen_lite.campaign.plan import MANIFEST
from mattergen_lite.io import read_structures, structure_from_json
from mattergen_lite.results import FRAMES, RECORD, RELAXED_FRAMES
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
        for row in pq.read_table(path).to_pylist():
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
    prefix = hashlib.sha256((source / RECORD).read_bytes()).hexdigest()[:12]
    table = next(source / name for name in TABLES if (source / name).exists())
    files = [source / name for name in (FRAMES, RELAXED_FRAMES) if (source / name).exists()]
    structures = {one.name: one.structure for path in files for one in read_structures(path)}
    for row in pq.read_table(table).to_pylist():
        if row["error"] is None and structures.get(row["name"]) is not None:
            yield Entry(f"{prefix}-{row['name']}", structures[row["name"]], _judgement(row))


def _judgement(row: Mapping[str, Cell]) -> dict[str, Cell]:
    """What a row says, without what it does not know."""
    return {
        name: value
        for name, value in row.items()
        if name not in _NOT_JUDGEMENTS
        and value not in (None, "")
        and not (isinstance(value, float) and not math.isfinite(value))
    }
