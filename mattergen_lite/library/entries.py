"""Names the judged crystals of a campaign or a run for a library."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pymatgen.core import Structure

from mattergen_lite.campaign.parts import part_paths
from mattergen_lite.campaign.plan import MANIFEST
from mattergen_lite.io.tensors import structure_from_json
from mattergen_lite.runs.folder import RunFolder
from mattergen_lite.runs.tables import read_table
from mattergen_lite.scoring.score import Cell

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
    elif RunFolder(source).is_finished:
        found = _of_run(source)
    else:
        raise ValueError(f"{source}: expected the folder of a campaign or of a finished run")
    return (one for one in found if not (passed_only and one.judgement.get("failed_checks")))


def _of_campaign(source: Path) -> Iterator[Entry]:
    for path in part_paths(source):
        for row in read_table(path, ("unit", "name", "error", "atomic_numbers")):
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
    run = RunFolder(source)
    prefix = run.digest()[:12]
    rows = run.rows(("rank", "name", "error", "formula"))
    taken: set[str] = set()
    structures = {one.rank: one.structure for one in run.relaxed()}
    for row in rows:
        if row["error"] is not None:
            continue
        structure = structures.get(row["rank"])
        if structure is None or structure.composition.reduced_formula != row["formula"]:
            found = "none" if structure is None else structure.composition.reduced_formula
            raise ValueError(
                f"{source} is damaged: rank {row['rank']} is {row['formula']} in the table and "
                f"{found} among the structures: run it again"
            )
        name = row["name"]
        while name in taken:  # also by a name that ends like this
            name += f"#{row['rank']}"
        taken.add(name)
        yield Entry(f"{prefix}-{name}", structure, _judgement(row))


def _judgement(row: Mapping[str, Cell]) -> dict[str, Cell]:
    """What a row says, without what it does not know."""
    return {
        name: value
        for name, value in row.items()
        if name not in _NOT_JUDGEMENTS
        and value not in (None, "")
        and not (isinstance(value, float) and not math.isfinite(value))
    }
