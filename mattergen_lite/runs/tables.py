"""Tables and plain data as files that appear at once, complete."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from mattergen_lite.files.folders import atomic_path, write_text
from mattergen_lite.io.compressed import unpacking
from mattergen_lite.io.write import write_csv
from mattergen_lite.scoring.score import Cell

Row = dict[str, Cell]


def write_table(rows: Sequence[Row], path: Path) -> None:
    """Write rows as CSV for people, six significant digits, and as parquet for programs."""
    names = list(rows[0])
    write_csv(path, names, ([row.get(name) for name in names] for row in rows))
    with atomic_path(path.with_suffix(".parquet")) as temporary:
        pq.write_table(pa.Table.from_pylist(rows), temporary)


def read_table(
    path: Path, needed: Sequence[str] = (), *, only: Sequence[str] | None = None
) -> list[Row]:
    """Rows of a parquet table that has the needed columns; of all columns or some only.

    Raises:
        ValueError: If it is damaged or lacks a column.
    """
    try:
        with unpacking(path):
            names = pq.read_schema(path).names
            if missing := [name for name in needed if name not in names]:
                raise ValueError(f"{path} has no column {missing[0]}: run it again")
            return pq.read_table(path, columns=only).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"cannot read table {path}: {str(error).splitlines()[0]}") from None


def write_json(content: Mapping[str, object], path: Path) -> None:
    """Write plain data as JSON, all at once."""
    write_text(json.dumps(content, indent=2, default=str) + "\n", path)


def read_json(path: Path) -> dict[str, object]:
    """Plain data of a JSON object.

    Raises:
        ValueError: If there is none.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"cannot read {path}: {str(error)[:200]}: run it again") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} is no record of a run: run it again")
    return content


def deciding_value(row: Mapping[str, Cell], name: str) -> Cell:
    """The value that decides about a target: measured, else confirmed, else predicted."""
    values = (row.get(f"{how}_{name}") for how in ("measured", "confirmed", "predicted"))
    return next((value for value in values if value not in (None, "")), None)
