"""What a run leaves on disk: the table, the structures, the figures and the record.

`judge_and_write` is the second half of `generate` and the whole of `score`: one row a crystal, the
same criteria and the same files, whoever made the crystals.
"""

import csv
import json
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import zip_longest
from pathlib import Path
from time import perf_counter

from pymatgen.core import Structure

from mattergen_lite.io import StructureRecord, atomic_path, write_cif, write_extxyz
from mattergen_lite.scoring.reference import Reference
from mattergen_lite.scoring.score import Score, score
from mattergen_lite.scoring.stage import add_stability
from mattergen_lite.scoring.summary import PROTOCOL, Summary, summary
from mattergen_lite.scoring.symmetry import SYMPREC_RELAXED

RECORD = "run.json"
FRAMES = "structures.extxyz"
CIF_SYMPREC = 0.1  # Å; generated coordinates carry noise of this order

Row = dict[str, str | int | float | bool | None]


@dataclass
class Stopwatch:
    """Seconds spent in each named stage of a run."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a block."""
        start = perf_counter()
        yield
        self.seconds[name] = round(perf_counter() - start, 3)


@dataclass(frozen=True, kw_only=True)
class Judged:
    """Outcome of `generate` or `score`: one score a crystal, and where the files are."""

    table: Path
    scores: list[Score]
    summary: Summary
    seconds: dict[str, float]

    def text(self) -> str:
        """Summary for a terminal."""
        times = ", ".join(f"{name} {value:.1f} s" for name, value in self.seconds.items())
        return f"{self.summary.text()}\n{times}\n-> {self.table}"


@dataclass(frozen=True, kw_only=True)
class JudgeOptions:
    """How crystals are judged."""

    potential: str | None = None  # decides about stability; None leaves stability open
    num_workers: int | None = None  # None: one per core


def check_folder(out: Path, overwrite: bool) -> None:
    """Refuse to mix a new run with an old one.

    Raises:
        ValueError: If the folder holds a run already and may not be replaced.
    """
    if (out / RECORD).exists() and not overwrite:
        raise ValueError(f"{out} holds an earlier run: choose another folder or pass --overwrite")


def available_cores() -> int:
    """Cores this process may use (a batch system may grant fewer than the machine has)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def judge_and_write(
    records: Sequence[StructureRecord],
    table: Path,
    watch: Stopwatch,
    provenance: Mapping[str, object],
    options: JudgeOptions,
    columns: Mapping[str, Sequence[float]] | None = None,
) -> Judged:
    """Judge structures; write the table and, beside it, structures, summary and, last, record.

    `columns` are values that the criteria do not know, one a structure, added to the table.
    """
    num_workers = options.num_workers or available_cores()
    with watch.stage("judging"):
        reference = Reference.embedded()
        scores = score(records, reference=reference, num_workers=num_workers)
    if options.potential is not None:
        with watch.stage("relaxing"):
            scores, relaxed = add_stability(
                scores, records, potential=options.potential, num_workers=num_workers
            )
            write_relaxed(table.parent, scores, relaxed)
    with watch.stage("writing"):
        rows = write_structures(table.parent, scores, [record.structure for record in records])
        extra = [
            dict(zip(columns or {}, values, strict=True))
            for values in zip(*(columns or {}).values(), strict=True)
        ]
        write_rows([a | b for a, b in zip_longest(rows, extra, fillvalue={})], table)
        figures = summary(scores)
        protocol = PROTOCOL | {"reference": reference.name}
        write_json(
            {"figures": asdict(figures), "protocol": protocol}, table.parent / "summary.json"
        )
    write_json(
        {
            **provenance,
            "mattergen_lite": version("mattergen-lite"),
            "torch": version("torch"),
            "python": platform.python_version(),
            "machine": platform.machine(),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": watch.seconds,
        },
        table.parent / RECORD,
    )
    return Judged(table=table, scores=scores, summary=figures, seconds=watch.seconds)


def write_structures(
    folder: Path, scores: Sequence[Score], structures: Sequence[Structure | None]
) -> list[Row]:
    """Write a CIF per crystal and one extxyz of all; returns the table rows with the CIFs' names.

    A crystal whose row has an error is in neither file: there is nothing a reader could open.
    """
    rows, frames, infos = [], [], []
    for judged, structure in zip(scores, structures, strict=True):
        row = judged.row() | {"cif": None, "cif_space_group": None}
        if judged.error is None:
            row["cif"] = f"cifs/{_file_name(judged.name)}.cif"
            row["cif_space_group"] = write_cif(structure, folder / row["cif"], CIF_SYMPREC)
            frames.append(structure)
            infos.append({"name": judged.name, "space_group": row["space_group"]})
        rows.append(row)
    write_extxyz(frames, folder / FRAMES, infos)
    return rows


def write_relaxed(
    folder: Path, scores: Sequence[Score], relaxed: Sequence[Structure | None]
) -> None:
    """Write a symmetrised CIF of every relaxed crystal; relaxed cells bear a tight tolerance."""
    for judged, structure in zip(scores, relaxed, strict=True):
        if structure is not None:
            path = folder / "relaxed" / f"{_file_name(judged.name)}.cif"
            write_cif(structure, path, SYMPREC_RELAXED)


def _file_name(name: str) -> str:
    """A record's name as a file name: names come from other people's tables."""
    stem = name.removesuffix(".cif")
    return "".join(c if c.isalnum() or c in "-_.#" else "_" for c in stem).lstrip(".") or "unnamed"


def write_rows(rows: Sequence[Row], path: Path) -> None:
    """Write rows as CSV, six significant digits, all at once."""
    with atomic_path(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        for row in rows:
            writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})


def write_json(content: Mapping[str, object], path: Path) -> None:
    """Write plain data as JSON, all at once."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, default=str) + "\n")
