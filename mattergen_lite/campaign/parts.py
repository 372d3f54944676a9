"""Stores the results of units: one table each, which appears at once or not at all.

A file is named by the key of its unit, so a unit delivered twice is the same file written twice.
What a unit cost and where it was worked out is in the metadata of its file, so that equal results
are equal tables.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pydantic import TypeAdapter

from mattergen_lite.campaign.plan import Unit
from mattergen_lite.runs.store import read_shared, write_candidates
from mattergen_lite.scoring.candidate import Candidate
from mattergen_lite.scoring.judge import Judge
from mattergen_lite.scoring.metrics.screening_loss import ScreeningTally

CANDIDATES = "candidates"


@dataclass(frozen=True, kw_only=True)
class UnitRecord:
    """Counts, times and provenance of a finished unit, without its candidates."""

    key: str
    start: int
    num_sampled: int
    left: dict[str, int]  # check -> candidates that pass it and every one before
    quarantined: dict[str, int] = field(default_factory=dict)  # reason -> crystals given up
    screened: ScreeningTally = field(default_factory=ScreeningTally)
    seconds: dict[str, float] = field(default_factory=dict)  # of each stage
    started: float = 0.0  # seconds since the epoch
    finished: float = 0.0
    worker: str = ""
    device: str = ""
    peak_memory: int | None = 0  # bytes, of the worker so far; None where the system is silent
    provenance: dict[str, object] = field(default_factory=dict)


_UNIT_RECORD = TypeAdapter(UnitRecord)


def part_path(run_dir: Path, key: str, start: int) -> Path:
    """Path of the file of a unit's results, which exists once the unit is finished."""
    return run_dir / CANDIDATES / f"{start:010d}-{key}.parquet"


def finished_keys(run_dir: Path) -> set[str]:
    """Keys of the units that are stored."""
    return {path.stem.partition("-")[2] for path in part_paths(run_dir)}


def part_paths(run_dir: Path) -> list[Path]:
    """All stored units, in order; hidden files are still being written, or never were."""
    paths = (run_dir / CANDIDATES).glob("*.parquet")
    return sorted(path for path in paths if path.name[0] != "." and path.is_file())


def commit(
    run_dir: Path,
    unit: Unit,
    candidates: Sequence[Candidate],
    judge: Judge,
    unit_record: UnitRecord,
) -> None:
    """Store a unit durably, at once: after a power cut the file is whole or absent.

    Raises:
        OSError: If there is no room, or the folder cannot be written; nothing is stored then.
    """
    path = part_path(run_dir, unit.key, unit.start)
    try:
        write_candidates(
            sorted(candidates, key=lambda candidate: candidate.raw.name),
            path,
            shared=asdict(unit_record),
            more={"unit": [unit.key] * len(candidates)},
            required=judge.options.require or (),
            targets={
                target.definition.name: target.definition.kind == "real" for target in judge.targets
            },
            finish=_synchronise,
        )
    except FileNotFoundError:
        # Delivered twice: the other one was stored, the campaign is over, and what was unfinished
        # has been cleared away.
        if not path.exists():
            raise
    _synchronise(path.parent)


def _synchronise(path: Path) -> None:
    """Wait until a file, or the entries of a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def unit_records(run_dir: Path) -> Iterator[UnitRecord]:
    """Yield the unit record of every stored unit.

    Raises:
        ValueError: If a file is damaged.
    """
    for path in part_paths(run_dir):
        yield read_unit_record(path)


def read_unit_record(path: Path) -> UnitRecord:
    """Read the unit record of one stored unit.

    Raises:
        ValueError: If its file is damaged.
    """
    return read_shared(path, _UNIT_RECORD)
