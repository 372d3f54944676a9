"""Reports what became of every column of labels, and merges the labels of duplicates."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mattergen_lite.data.canonical import CORE_SCHEMA, Row
from mattergen_lite.data.totals import is_total

RELATIVE_DIFFERENCE = 1e-3  # of two labels of one crystal, beyond which they contradict
ABSOLUTE_DIFFERENCE = 1e-6


@dataclass(frozen=True, kw_only=True)
class Curated:
    """A crystal of the source that is fit for the table."""

    row: Row
    unread: Mapping[str, str | float]  # cells that are no finite number
    is_reduced: bool  # whether the canonical cell is smaller than the one given


@dataclass(frozen=True)
class Contradiction:
    """A value that a duplicate has differently; the table has that of the crystal kept."""

    name: str
    kept: str
    column: str
    value: object
    kept_value: object


@dataclass(frozen=True)
class ColumnReport:
    """One column of labels: cells of the source, and values of the table."""

    column: str
    known: int  # crystals of the table with a value
    empty: int  # cells of the source that are empty or NaN
    text: int  # cells that hold text
    infinite: int  # cells that hold infinity, or a number beyond float32
    scaled: int  # totals of larger cells, brought to the primitive cell
    contradictions: int
    example: str  # of a cell that was not read

    def line(self, num_crystals: int) -> str:
        """The column in one line for a terminal."""
        scaled = (
            f"taken for totals of the cell, {self.scaled} scaled to the primitive cell (rename a "
            "value per atom)"
        )
        parts = {
            f"{self.known} of {num_crystals} crystals": True,
            f"{self.empty} empty or nan": self.empty,
            f"{self.text} text": self.text,
            f"{self.infinite} not finite": self.infinite,
            f"such as {self.example}": self.example,
            scaled: is_total(self.column),
            f"{self.contradictions} contradicted by duplicates": self.contradictions,
        }
        return f"{self.column}: {', '.join(part for part, is_said in parts.items() if is_said)}"


def report_columns(
    rows: Iterable[Row], source: Sequence[Curated], contradictions: Iterable[Contradiction]
) -> list[ColumnReport]:
    """Reports of all columns of labels, those of the table's rows first."""
    known = Counter(name for row in rows for name in _labels(row))
    numbers = Counter(name for crystal in source for name in _labels(crystal.row))
    cells = [
        (name, cell, crystal.row["material_id"])
        for crystal in source
        for name, cell in crystal.unread.items()
        if name not in CORE_SCHEMA.names
    ]
    examples = {name: f"{cell!r} of {crystal}" for name, cell, crystal in reversed(cells)}
    text = Counter(name for name, cell, _ in cells if isinstance(cell, str))
    infinite = Counter(name for name, cell, _ in cells if not isinstance(cell, str))
    scaled = Counter(
        name
        for crystal in source
        if crystal.is_reduced
        for name in _labels(crystal.row)
        if is_total(name)
    )
    contradicted = Counter(contradiction.column for contradiction in contradictions)
    return [
        ColumnReport(
            name,
            known[name],
            len(source) - numbers[name] - text[name] - infinite[name],
            text[name],
            infinite[name],
            scaled[name],
            contradicted[name],
            examples.get(name, ""),
        )
        for name in dict.fromkeys((*known, *examples))
    ]


def merge_duplicates(
    rows: Sequence[Row], same_as: Mapping[int, int]
) -> tuple[list[Row], list[Contradiction]]:
    """Rows without duplicates, each with the labels of all its copies; the first label wins.

    `same_as` has the position of each duplicate -> position of the crystal that is kept.
    """
    merged = [dict(row) for row in rows]
    contradictions = []
    for later, first in sorted(same_as.items()):
        kept, copy = merged[first], rows[later]
        for name, value in (*_labels(copy).items(), ("split", copy["split"])):
            if value is not None and kept.get(name) is None:
                kept[name] = value
            elif value is not None and not _agree(value, kept[name]):
                contradictions.append(
                    Contradiction(copy["material_id"], kept["material_id"], name, value, kept[name])
                )
    return [row for index, row in enumerate(merged) if index not in same_as], contradictions


def _agree(value: object, other: object) -> bool:
    if isinstance(value, str):
        return value == other
    return math.isclose(value, other, rel_tol=RELATIVE_DIFFERENCE, abs_tol=ABSOLUTE_DIFFERENCE)


def _labels(row: Row) -> Row:
    return {name: value for name, value in row.items() if name not in CORE_SCHEMA.names}
