"""Stores judged crystals in parquet tables: a run is one table, a campaign is one for each unit.

    pyarrow.dataset.dataset("campaign/candidates")      # also while the campaign is running

The columns are those of `candidates.csv`, then what the crystal is (`lattice`, `atomic_numbers`,
`frac_coords`: relaxed where it was relaxed) and the whole candidate as JSON, exact to the last bit.
What all crystals of a table share is JSON in the metadata of its file.
"""

import json
import types
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Union, get_args, get_origin, get_type_hints

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import TypeAdapter, ValidationError
from pymatgen.core import Structure

from mattergen_lite.files.folders import atomic_path
from mattergen_lite.runs.tables import Row, read_table
from mattergen_lite.scoring.candidate import Candidate
from mattergen_lite.scoring.property_result import PropertyResult
from mattergen_lite.scoring.score import Score, criteria_of

STORED = "candidate"  # column of the JSON
_SHARED = b"mattergen_lite"  # key of the metadata
_CANDIDATE = TypeAdapter(Candidate)
_ARROW = {bool: pa.bool_(), int: pa.int64(), float: pa.float64()}
_ABOUT_TARGETS = ("target_", "measured_", "predicted_", "confirmed_")  # beginnings of columns
_CRYSTAL = {
    "merit": pa.list_(pa.float64()),  # orders candidates of all tables, the best first
    "lattice": pa.list_(pa.float64()),
    "atomic_numbers": pa.list_(pa.int64()),
    "frac_coords": pa.list_(pa.float64()),
    STORED: pa.string(),
}
NOT_JUDGEMENTS = frozenset({"unit", "rank", *_CRYSTAL})


def write_candidates(
    candidates: Sequence[Candidate],
    path: Path,
    *,
    shared: object,
    more: Mapping[str, Sequence[str | int | None]],
    required: Collection[str],
    targets: Mapping[str, bool] | None = None,
    finish: Callable[[Path], None] = lambda _: None,
) -> list[Row]:
    """Write candidates as one table, which appears at once; returns its rows for people.

    Args:
        shared: Plain data about all of them.
        more: Columns beside those of the candidates.
        required: Checks that come before all others in the order of merit.
        targets: Whether each property with a target is a number; None reads it from the candidates.
        finish: Called with the temporary file before it takes its place.
    """
    columns = schema(_kinds(candidates) if targets is None else targets)
    for name, cells in more.items():
        is_number = any(isinstance(cell, int) for cell in cells)
        columns = columns.append(pa.field(name, pa.int64() if is_number else pa.string()))
    cells = [dict(zip(more, row, strict=True)) for row in zip(*more.values(), strict=True)]
    shown = [candidate.row() | row for candidate, row in zip(candidates, cells, strict=True)]
    rows = [
        row | _crystal(candidate, required) | {name: str(row[name]) for name in _words(row)}
        for candidate, row in zip(candidates, shown, strict=True)
    ]
    note = {_SHARED: json.dumps(shared, default=str).encode()}
    with atomic_path(path) as temporary:
        table = pa.Table.from_pylist(rows, columns.with_metadata(note))
        pq.write_table(table, temporary, compression="zstd")
        finish(temporary)
    names = [name for name in columns.names if name not in _CRYSTAL]
    return [{name: row.get(name) for name in names} for row in shown]


def read_candidates(path: Path, rows: Iterable[int] | None = None) -> list[Candidate]:
    """Read the candidates of a table, or of some of its rows, exact to the last bit.

    Raises:
        ValueError: If the table is damaged.
    """
    texts = [row[STORED] for row in read_table(path, [STORED], only=[STORED])]
    try:
        wanted = texts if rows is None else [texts[row] for row in rows]
        return [_CANDIDATE.validate_python(json.loads(text)) for text in wanted]
    except (ValidationError, ValueError, TypeError, KeyError, IndexError, RecursionError) as error:
        raise damaged(path, error) from None


def read_shared(path: Path, kind: TypeAdapter) -> object:
    """Read what all crystals of a table share.

    Raises:
        ValueError: If the table is damaged.
    """
    try:
        return kind.validate_python(json.loads(pq.read_schema(path).metadata[_SHARED]))
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise damaged(path, error) from None


def damaged(path: Path, error: Exception) -> ValueError:
    """Say in one line that a table cannot be used."""
    reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
    return ValueError(
        f"{path} is damaged ({reason}): remove it, and the same command makes it again"
    )


def structure_cells(structure: Structure) -> dict[str, list]:
    """Cells of what an ordered crystal is, as every reader of structures takes them."""
    return {
        "lattice": structure.lattice.matrix.ravel().tolist(),
        "atomic_numbers": list(structure.atomic_numbers),
        "frac_coords": structure.frac_coords.ravel().tolist(),
    }


def stored_structure(row: Mapping[str, object]) -> Structure | None:
    """Build the final crystal of a row; None where it could not be read."""
    if not row["atomic_numbers"]:
        return None
    lattice, coords = (np.reshape(row[name], (-1, 3)) for name in ("lattice", "frac_coords"))
    return Structure(lattice, row["atomic_numbers"], coords)


def schema(targets: Mapping[str, bool]) -> pa.Schema:
    """Columns of a table, whatever its values: a column may be empty in one table.

    Args:
        targets: Whether each property with a target is a number.
    """
    typed = _column_types()
    for name, is_number in targets.items():
        kind = pa.float64() if is_number else pa.string()
        typed |= dict.fromkeys((f"{prefix}{name}" for prefix in _ABOUT_TARGETS), kind)
        errors = (f"predicted_{name}_error", f"confirmed_{name}_error")
        typed |= dict.fromkeys(errors, pa.float64()) | {f"method_{name}": pa.string()}
    nothing = {"target": "", "value": None, "method": "", "error": None, "on_target": None}
    outcomes = tuple(PropertyResult(property=name, **nothing) for name in targets)
    named = Candidate(raw=Score(name=""), structure=None, outcomes=outcomes).row()
    return pa.schema({name: typed[name] for name in named} | _CRYSTAL)


def _kinds(candidates: Sequence[Candidate]) -> dict[str, bool]:
    """Whether each property with a target is a number."""
    outcomes = [outcome for candidate in candidates for outcome in candidate.outcomes]
    return {outcome.property: isinstance(outcome.target, float) for outcome in outcomes}


def _column_types() -> dict[str, pa.DataType]:
    """Type of every column that is not about a target."""
    criteria = [Score, *criteria_of(Score).values(), *criteria_of(Candidate).values()]
    typed = {
        name: _arrow_type(annotation)
        for criterion in criteria
        for name, annotation in get_type_hints(criterion).items()
    }
    typed |= {f"relaxed_{name}": kind for name, kind in typed.items()} | {"rank": pa.int64()}
    texts = ("formula", "verdict", "failed_checks", "symmetry_change")
    truths = ("on_target", "kept_symmetry")
    return typed | dict.fromkeys(texts, pa.string()) | dict.fromkeys(truths, pa.bool_())


def _arrow_type(annotation: object) -> pa.DataType:
    """Column type of a field as `flatten` writes it: collections become text."""
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) in (Union, types.UnionType):
        (annotation,) = (kind for kind in get_args(annotation) if kind is not type(None))
    return _ARROW.get(annotation, pa.string())


def _words(row: Row) -> list[str]:
    """Cells about targets that are categories, by number or word: text in either case."""
    about = (name for name in row if name.startswith(_ABOUT_TARGETS))
    return [name for name in about if not isinstance(row[name], float | None)]


def _crystal(candidate: Candidate, required: Collection[str]) -> dict[str, object]:
    """Cells of what the crystal is."""
    cells: dict[str, object] = {
        "merit": [float(part) for part in candidate.sort_key(required)],
        STORED: json.dumps(_CANDIDATE.dump_python(candidate, mode="json")),
    }
    final = candidate.final_structure
    return cells if final is None else cells | structure_cells(final)
