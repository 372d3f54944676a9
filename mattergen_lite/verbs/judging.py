"""What the commands that judge have in common."""

from collections.abc import Sequence
from pathlib import Path

from mattergen_lite.io.parallel import read_records
from mattergen_lite.io.records import StructureRecord
from mattergen_lite.processes import Pool
from mattergen_lite.runs.folder import RunFolder
from mattergen_lite.runs.judgements import Judgements


def records_in(
    source: Path, limit: int | None, *, relaxed: bool, pool: Pool
) -> list[StructureRecord]:
    """Structures of any source, those of an earlier run each once.

    Args:
        source: A file or folder of structures, or the folder of an earlier run.
        limit: So many, the first ones.
        relaxed: Of an earlier run, as they relaxed there.
        pool: Processes to parse in.

    Raises:
        ValueError: If the source holds no structures.
    """
    run = RunFolder(source)
    if not run.is_finished:
        return read_records(source, limit, pool)
    if run.is_stored and not (relaxed and run.has_relaxed):
        return Judgements.load(source).records()[:limit]  # to the last bit: answers are found again
    ranked = run.relaxed() if relaxed else run.raw()
    return [StructureRecord(one.name, one.structure) for one in ranked[:limit]]


def answers_in(*folders: Path) -> Sequence[Path]:
    """Files of answers of earlier runs."""
    return [one.answers for one in map(RunFolder, folders) if one.answers.exists()]
