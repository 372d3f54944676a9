"""Reads the crystals that a command judges, and what an earlier run knows of them."""

import sys
from collections.abc import Sequence
from pathlib import Path

from mattergen_lite.console import ProgressBar
from mattergen_lite.io.parallel import read_records
from mattergen_lite.io.read import count_unread
from mattergen_lite.io.records import StructureRecord
from mattergen_lite.processes import Pool
from mattergen_lite.runs.folder import RunFolder
from mattergen_lite.runs.judgements import Judgements
from mattergen_lite.scoring.earlier_run import EarlierRun


def read_source(
    source: Path, limit: int | None, *, relaxed: bool, pool: Pool, out: Path | None
) -> tuple[list[StructureRecord], EarlierRun, Judgements | None]:
    """Structures of any source, those of an earlier run each once; what it decided, and that run.

    Args:
        source: A file or folder of structures, or the folder of an earlier run.
        limit: Largest number of structures, from the first.
        relaxed: Of an earlier run, as they relaxed there.
        pool: Processes to parse in.
        out: Where the results go: what an earlier run left there is not read.

    Raises:
        ValueError: If the source holds no structures.
    """
    run = RunFolder(source)
    if not run.is_finished:
        records = read_records(source, limit, pool, without=out)
        _say_what_is_not_read(source, out)
        return records, EarlierRun(), None
    judged = Judgements.load(source)  # to the last bit: answers are found again
    earlier = EarlierRun.of(judged)
    if not (relaxed and run.has_relaxed):
        return judged.records()[:limit], earlier, judged
    final = [
        StructureRecord(candidate.raw.name, candidate.final_structure)
        for candidate in judged
        if candidate.raw.error is None
    ]
    return final[:limit], EarlierRun(verified=earlier.verified), judged


def _say_what_is_not_read(source: Path, out: Path | None) -> None:
    """Print one line that counts the files of a folder that hold no structures, by ending."""
    unread = count_unread(source, without=out) if source.is_dir() else {}
    if unread:
        counts = ", ".join(f"{count} {ending}" for ending, count in unread.most_common())
        ProgressBar.write(
            f"not read in {source}: {counts}; tables, JSON and zip files are read one by one",
            file=sys.stderr,
        )


def answers_in(*folders: Path) -> Sequence[Path]:
    """Files of answers of earlier runs."""
    return [folder.answers for folder in map(RunFolder, folders) if folder.answers.exists()]
