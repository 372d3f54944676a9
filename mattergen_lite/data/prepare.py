"""From anybody's structures to a crystal table: parsed, canonical, each once, split."""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple, dataclass, fields
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from pymatgen.analysis.structure_matcher import StructureMatcher

from mattergen_lite.console import ProgressBar
from mattergen_lite.data.canonical import (
    Row,
    crystal_row,
    row_structure,
    table_from_rows,
    write_crystal_table,
)
from mattergen_lite.data.column_report import (
    ColumnReport,
    Contradiction,
    Curated,
    merge_duplicates,
    report_columns,
)
from mattergen_lite.io.parse import parse_document
from mattergen_lite.io.read import iter_documents
from mattergen_lite.io.records import Document
from mattergen_lite.io.write import write_csv
from mattergen_lite.processes import Failure, Pool

CURATE_TIME_LIMIT = 60.0  # s per structure
DUPLICATES_TIME_LIMIT = 86_400.0  # s per composition
A = TypeVar("A")
R = TypeVar("R")


@dataclass(frozen=True)
class Rejected:
    """A structure that did not make it into the table."""

    name: str
    reason: str


@dataclass(frozen=True)
class Duplicate:
    """A crystal left out because one kept before it is the same."""

    name: str
    kept: str


@dataclass(frozen=True)
class PrepareReport:
    """What `prepare` did."""

    path: Path
    splits: dict[str, int]  # crystals per split
    rejected: list[Rejected]
    duplicates: list[Duplicate]
    columns: list[ColumnReport]
    contradictions: list[Contradiction]

    def text(self) -> str:
        """The outcome for a terminal."""
        splits = ", ".join(f"{split} {count}" for split, count in self.splits.items())
        lines = [f"{sum(self.splits.values())} crystals -> {self.path} ({splits})"]
        lines += [
            f"{count} {what} -> {_list_path(self.path, what)}"
            for what in ("rejected", "duplicates", "contradictions")
            if (count := len(getattr(self, what)))
        ]
        total = sum(self.splits.values())
        lines += [column.line(total) for column in self.columns if column.known]
        left_out = [column.column for column in self.columns if not column.known]
        if left_out:
            lines.append(f"no finite number in {', '.join(left_out)}: left out")
        return "\n".join(lines)


def prepare(
    source: str | Path,
    out: str | Path,
    *,
    num_workers: int,
    val_fraction: float,
    test_fraction: float,
    seed: int,
    max_atoms: int,
) -> PrepareReport:
    """Turn anything `read_structures` reads into a crystal table for training.

    Broken structures are listed in `<out>.errors.csv`, duplicates in `<out>.duplicates.csv`, labels
    in which they differ in `<out>.contradictions.csv`, columns of labels in `<out>.columns.csv`.

    Args:
        source: Folder, zip, file or table of structures; numeric columns become properties.
        num_workers: Processes; 0 works in this one, without time limits.
        val_fraction: Share of validation crystals, drawn at random unless a `split` column exists.
        max_atoms: Largest primitive cell.

    Raises:
        ValueError: If nothing usable is found or too little for the split. Nothing is written then.
    """
    out = Path(out)
    crystals, rejected = _curated(iter_documents(source), num_workers, max_atoms)
    if not crystals:
        first = rejected[0]
        raise ValueError(f"{source} holds no usable structure; {first.name}: {first.reason}")
    rows = [crystal.row for crystal in crystals]
    same_as = find_duplicate_rows(rows, num_workers)
    merged, contradictions = merge_duplicates(rows, same_as)
    merged = assign_splits(
        merged, val_fraction=val_fraction, test_fraction=test_fraction, seed=seed
    )
    report = PrepareReport(
        out,
        dict(Counter(row["split"] for row in merged)),
        rejected,
        [
            Duplicate(rows[later]["material_id"], rows[first]["material_id"])
            for later, first in same_as.items()
        ],
        report_columns(merged, crystals, contradictions),
        contradictions,
    )
    write_crystal_table(table_from_rows(merged), out)
    for what, kind in _LISTS.items():
        names = [field.name for field in fields(kind)]
        write_csv(_list_path(out, what), names, map(astuple, getattr(report, what)))
    return report


_LISTS = {
    "rejected": Rejected,
    "duplicates": Duplicate,
    "columns": ColumnReport,
    "contradictions": Contradiction,
}


def _list_path(table: Path, what: str) -> Path:
    """The csv beside a table that lists what was rejected, and so on."""
    return table.with_name(f"{table.name}.{'errors' if what == 'rejected' else what}.csv")


def canonical_rows(
    documents: Iterable[Document], num_workers: int, max_atoms: int
) -> tuple[list[Row], list[Rejected]]:
    """Parse and canonicalise documents over processes; what fails is listed with its reason."""
    crystals, rejected = _curated(documents, num_workers, max_atoms)
    return [crystal.row for crystal in crystals], rejected


def _curated(
    documents: Iterable[Document], num_workers: int, max_atoms: int
) -> tuple[list[Curated], list[Rejected]]:
    curate = partial(_curate, max_atoms=max_atoms)
    items = list(documents)
    answers = _parallel(curate, items, num_workers, "canonical cells")
    results = [
        Rejected(item.name, answer.reason) if isinstance(answer, Failure) else answer
        for item, answer in zip(items, answers, strict=True)
    ]
    crystals = [result for result in results if isinstance(result, Curated)]
    return crystals, [result for result in results if isinstance(result, Rejected)]


def _curate(document: Document, max_atoms: int) -> Curated | Rejected:
    record = parse_document(document)
    if record.error is not None:
        return Rejected(record.name, record.error)
    try:
        row = crystal_row(record, max_atoms)
    except Exception as error:  # one odd cell must not end a run over a million
        return Rejected(record.name, str(error) or type(error).__name__)
    is_reduced = row["num_atoms"] < len(record.structure)
    return Curated(row=row, unread=record.unread, is_reduced=is_reduced)


def find_duplicate_rows(rows: Sequence[Row], num_workers: int) -> dict[int, int]:
    """Position of each duplicate -> position of the first crystal it equals.

    Crystals of one composition are the same if `StructureMatcher` maps one on the other within a
    tenth of the atomic spacing at unchanged volume: tighter than its defaults, which merge
    distorted polymorphs that have different properties.

    Raises:
        ValueError: If comparing the crystals of a composition does not end.
    """
    by_formula: dict[str, list[int]] = defaultdict(list)
    for index, row in enumerate(rows):
        by_formula[row["formula"]].append(index)
    groups = [indices for indices in by_formula.values() if len(indices) > 1]
    members = [[rows[index] for index in indices] for indices in groups]
    limit = DUPLICATES_TIME_LIMIT
    answers = _parallel(_duplicates_in_group, members, num_workers, "duplicates", limit)
    lost = next((i for i, answer in enumerate(answers) if isinstance(answer, Failure)), None)
    if lost is not None:
        raise ValueError(
            f"duplicates of {members[lost][0]['formula']} cannot be found: {answers[lost].reason}"
        )
    return {
        indices[later]: indices[first]
        for indices, pairs in zip(groups, answers, strict=True)
        for later, first in pairs.items()
    }


def _duplicates_in_group(rows: Sequence[Row]) -> dict[int, int]:
    matcher = StructureMatcher(ltol=0.05, stol=0.1, angle_tol=3, scale=False)
    structures = [row_structure(row) for row in rows]
    distinct: list[int] = []
    duplicates = {}
    for index, structure in enumerate(structures):
        same = (first for first in distinct if matcher.fit(structures[first], structure))
        first = next(same, None)
        if first is None:
            distinct.append(index)
        else:
            duplicates[index] = first
    return duplicates


def assign_splits(
    rows: Sequence[Row], *, val_fraction: float, test_fraction: float, seed: int
) -> list[Row]:
    """Rows with their split: given ones if any ("unknown" where missing), else random ones.

    Raises:
        ValueError: If the fractions leave nothing to train on.
    """
    if any(row["split"] is not None for row in rows):
        return [row | {"split": row["split"] or "unknown"} for row in rows]
    num_val, num_test = (math.ceil(share * len(rows)) for share in (val_fraction, test_fraction))
    num_train = len(rows) - num_val - num_test
    if min(num_train - 1, num_val, num_test) < 0:
        raise ValueError(
            f"cannot split {len(rows)} crystals with val_fraction={val_fraction} and "
            f"test_fraction={test_fraction}: at least one must be left to train on"
        )
    splits = np.repeat(["train", "val", "test"], [num_train, num_val, num_test])
    shuffled = np.random.default_rng(seed).permutation(splits)
    return [row | {"split": str(split)} for row, split in zip(rows, shuffled, strict=True)]


def _parallel(
    function: Callable[[A], R],
    items: Sequence[A],
    num_workers: int,
    description: str,
    time_limit: float = CURATE_TIME_LIMIT,
) -> list[R | Failure]:
    """Map over processes in order, with a progress bar on terminals."""
    with Pool(min(num_workers, len(items))) as pool:
        answers = pool.map(function, items, time_limit=time_limit)
        return list(ProgressBar(answers, total=len(items), desc=description))
