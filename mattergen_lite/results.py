"""What a run leaves on disk: the table, the structures and the record that makes it repeatable."""

import csv
import json
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from time import perf_counter

from pymatgen.core import Structure

from mattergen_lite.io import StructureRecord, atomic_path, write_cif, write_extxyz
from mattergen_lite.scoring.score import Score, score

TABLE = "candidates.csv"
RECORD = "run.json"
CIF_SYMPREC = 0.1  # Å; generated coordinates carry noise of this order


@dataclass(frozen=True)
class Counts:
    """How many of the samples pass each check; nothing is dropped on the way."""

    samples: int
    unreadable: int  # rows with an error
    structure_valid: int  # no two atoms within 0.5 Å, volume above 0.1 Å³
    physical: int  # no overlap, void or odd cell by stricter limits
    composition_valid: int  # smact, benchmark protocol
    neutral: int  # charge-balanced, or an alloy or element for which the question is void

    def text(self) -> str:
        """One line a check, with shares."""
        lines = []
        for name, count in vars(self).items():
            share = "" if name == "samples" else f"  {count / max(self.samples, 1):6.1%}"
            lines.append(f"{name.replace('_', ' '):18}{count:6}{share}")
        return "\n".join(lines)


def count(scores: Sequence[Score]) -> Counts:
    """Tally a judged set."""
    validities = [judged.validity for judged in scores if judged.validity]
    neutralities = [judged.neutrality for judged in scores if judged.neutrality]
    return Counts(
        samples=len(scores),
        unreadable=sum(judged.error is not None for judged in scores),
        structure_valid=sum(judged.structure_valid for judged in validities),
        physical=sum(not judged.physical_problem for judged in validities),
        composition_valid=sum(judged.composition_valid for judged in neutralities),
        neutral=sum(
            judged.charge_verdict in ("neutral", "alloy", "element") for judged in neutralities
        ),
    )


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


def write_structures(
    folder: Path, scores: Sequence[Score], structures: Sequence[Structure | None]
) -> list[dict]:
    """Write a CIF per crystal and one extxyz of all; returns the table rows with the CIFs' names.

    A crystal whose row has an error is in neither file: there is nothing a reader could open.
    """
    rows, frames, infos = [], [], []
    for judged, structure in zip(scores, structures, strict=True):
        row = judged.row() | {"cif": None, "cif_space_group": None}
        if judged.error is None:
            row["cif"] = f"cifs/{Path(judged.name).stem}.cif"
            row["cif_space_group"] = write_cif(structure, folder / row["cif"], CIF_SYMPREC)
            frames.append(structure)
            infos.append(_frame_info(row))
        rows.append(row)
    write_extxyz(frames, folder / "structures.extxyz", infos)
    return rows


def _frame_info(row: Mapping[str, object]) -> dict[str, float | int | bool | str | None]:
    return {
        key: row[key]
        for key in ("name", "formula", "space_group", "charge_verdict", "structure_valid")
    }


def write_table(rows: Sequence[Mapping[str, object]], path: Path) -> None:
    """Write rows as CSV, six significant digits, all at once."""
    with atomic_path(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        for row in rows:
            writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})


def write_record(record: Mapping[str, object], path: Path) -> None:
    """Write the provenance record of a run as JSON."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(record, indent=2, default=str) + "\n")


@dataclass(frozen=True, kw_only=True)
class Judged:
    """Outcome of `generate` or `score`: one score a crystal, and where the files are."""

    out: Path
    scores: list[Score]
    counts: Counts
    seconds: dict[str, float]

    def text(self) -> str:
        """Summary for a terminal."""
        times = ", ".join(f"{name} {value:.1f} s" for name, value in self.seconds.items())
        return f"{self.counts.text()}\n{times}\n-> {self.out / TABLE}"


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
    out: Path,
    watch: Stopwatch,
    provenance: Mapping[str, object],
    num_workers: int | None,
) -> Judged:
    """Judge structures and write table, CIFs, extxyz and, last, the record of the run."""
    with watch.stage("judging"):
        scores = score(records, num_workers=num_workers or available_cores())
    with watch.stage("writing"):
        rows = write_structures(out, scores, [record.structure for record in records])
        write_table(rows, out / TABLE)
    counts = count(scores)
    write_record(
        {
            **provenance,
            "mattergen_lite": version("mattergen-lite"),
            "torch": version("torch"),
            "python": platform.python_version(),
            "machine": platform.machine(),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": watch.seconds,
            "counts": vars(counts),
        },
        out / RECORD,
    )
    return Judged(out=out, scores=scores, counts=counts, seconds=watch.seconds)
