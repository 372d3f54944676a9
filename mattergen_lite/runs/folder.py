"""The folder of a run: what lies where is known here and nowhere else.

candidates.csv, .parquet  one row a crystal, best first
structures.extxyz         the crystals as they came, each with its rank
relaxed.extxyz            what they relaxed to
cifs/, relaxed/           the same, symmetrised, one file a crystal
dft_relaxed/              what was relaxed by first principles, likewise
summary.json              shares, funnel, protocol
judgements.jsonl.gz       everything, to the last bit: for `load`
answers.jsonl.gz          what was worked out, for runs that judge the same crystals again
report.html, figures/     for people
audit.json, audit.png, dft/   where asked for
structures.csv, .parquet, prediction.json   of `predict` and `complete`
run.json                  what it takes to make any sample again; written last
journal.jsonl             while a run is unfinished
"""

import gzip
import hashlib
import json
import math
import platform
import shutil
import tempfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pymatgen.core import Structure

from mattergen_lite.folders import RECORD, atomic_path, check_free, check_plain, remove
from mattergen_lite.io.compressed import text_lines
from mattergen_lite.io.read import read_structures
from mattergen_lite.processes import Pool
from mattergen_lite.runs.crystals import (
    DFT_RELAXED,
    FRAMES,
    RELAXED_FRAMES,
    best_structures,
    write_structures,
)
from mattergen_lite.runs.dft_codes import parse_codes
from mattergen_lite.runs.recipes import parse_recipes
from mattergen_lite.runs.report import FIGURES, REPORT, write_report
from mattergen_lite.runs.tables import Row, read_json, read_table, write_json, write_table
from mattergen_lite.runs.vasp import parse_incar, write_shortlist_inputs
from mattergen_lite.scoring.execution.stopwatch import Stopwatch

if TYPE_CHECKING:
    from mattergen_lite.runs.judgements import Judgements

FORMAT = 1  # of the record and what it stands for; raised when older programs would misread it
SUMMARY = "summary.json"
STORED = "judgements.jsonl.gz"
ANSWERS = "answers.jsonl.gz"
PREDICTION = "prediction.json"
DISTINCT = "structures.csv"  # one row a different structure
DFT = "dft"  # folder of inputs
AUDIT = "audit.png"
JOURNAL = "journal.jsonl"
TABLE = "candidates.csv"
TABLES = ("candidates.parquet", "scores.parquet")  # the second one of earlier versions of `score`
# All that a run may leave but its answers, the record first: without it there is no run.
WRITTEN = (
    RECORD,
    *(name.replace("parquet", "csv") for name in TABLES),
    *TABLES,
    SUMMARY,
    STORED,
    REPORT,
    FIGURES,
    FRAMES,
    RELAXED_FRAMES,
    "cifs",
    "relaxed",
    DFT_RELAXED,
    "audit.json",
    AUDIT,
    DFT,
    PREDICTION,
    DISTINCT,
    DISTINCT.replace("csv", "parquet"),
)


class RankedStructure(NamedTuple):
    """One crystal of a finished run."""

    rank: int
    name: str
    structure: Structure


class RunFolder:
    """The folder of a run, finished or to be written.

    Args:
        path: Of the folder.

    Raises:
        ValueError: If it holds a pipe or a device.
    """

    def __init__(self, path: Path) -> None:
        check_plain(path)
        self.path = path

    def __str__(self) -> str:
        return str(self.path)

    @property
    def is_finished(self) -> bool:
        """Whether it holds a finished run."""
        return (self.path / RECORD).exists()

    @property
    def is_stored(self) -> bool:
        """Whether its judgements can be brought back whole; older versions did not store them."""
        return (self.path / STORED).exists()

    @property
    def journal(self) -> Path:
        """Where the answers of an unfinished run are."""
        return self.path / JOURNAL

    @property
    def answers(self) -> Path:
        """Where the answers of a finished run are."""
        return self.path / ANSWERS

    @property
    def has_relaxed(self) -> bool:
        """Whether crystals were relaxed."""
        return (self.path / RELAXED_FRAMES).exists()

    @property
    def frames(self) -> Path:
        """File of the crystals as they came, each once: the folder has every one several times."""
        return self.path / FRAMES

    @property
    def relaxed_frames(self) -> Path:
        """File of what crystals relaxed to, those that did."""
        return self.path / RELAXED_FRAMES

    def check_free(self, *, overwrite: bool) -> None:
        """Refuse to mix a new run with an old one.

        Raises:
            ValueError: If it holds a run already that may not be replaced.
        """
        check_free(self.path, overwrite=overwrite)

    def record(self) -> dict[str, object]:
        """Arguments and provenance, with which the run can be repeated.

        Raises:
            ValueError: If it is damaged, or of a newer version of this program.
        """
        record = read_json(self.path / RECORD)
        number = record.get("format", 1)
        if not isinstance(number, int) or number > FORMAT:
            raise ValueError(
                f"{self.path / RECORD} has format {number!r}, this version reads up to {FORMAT}: "
                "use a newer version of mattergen-lite"
            )
        return record

    def digest(self) -> str:
        """SHA-256 of the record: the name of the run, wherever its folder is."""
        return hashlib.sha256((self.path / RECORD).read_bytes()).hexdigest()

    def summary(self) -> dict[str, object]:
        """Shares, funnel and protocol of the whole set.

        Raises:
            ValueError: If there is none.
        """
        return read_json(self.path / SUMMARY)

    def rows(self, needed: Sequence[str] = ()) -> list[Row]:
        """Rows of the table, best first.

        Args:
            needed: Columns that it has to have.

        Raises:
            ValueError: If there is no table, it is damaged or lacks a column.
        """
        there = [self.path / name for name in TABLES if (self.path / name).exists()]
        if not there:
            raise ValueError(f"{self} has no {TABLES[0]}: run it again")
        return read_table(there[0], needed)

    def raw(self) -> list[RankedStructure]:
        """The crystals as they came, best first, without those that could not be read.

        Raises:
            ValueError: If the run is damaged: a frame cannot be read or has no rank of its own.
        """
        return self._ranked(FRAMES)

    def relaxed(self) -> list[RankedStructure]:
        """The crystals as they relaxed, where they did, and as they came where not; best first.

        Raises:
            ValueError: If the run is damaged: a frame cannot be read or has no rank of its own.
        """
        return self._ranked(FRAMES, RELAXED_FRAMES)

    def _ranked(self, *names: str) -> list[RankedStructure]:
        """Frames by rank, of the last file that has them: names may occur twice."""
        self.record()
        found: dict[int, RankedStructure] = {}
        for path in (self.path / name for name in names):
            if path.exists():
                found |= _by_rank(path)
        if not found:
            raise ValueError(f"{self} holds no structures: run it again")
        return [found[rank] for rank in sorted(found)]

    def stored(self) -> Iterator[object]:
        """What `write` has stored of the judgements: what they have in common, then each.

        Raises:
            ValueError: If it is damaged, or the run is of a version that stored nothing.
        """
        self.record()
        path = self.path / STORED
        if not self.is_stored:
            raise ValueError(f"{self} was written by an older version: score it again")
        try:
            for line in text_lines(path):
                yield json.loads(line)
        except (OSError, EOFError, zlib.error, ValueError, RecursionError) as error:
            raise ValueError(f"{path} is damaged: {str(error)[:200]}: run it again") from None

    def write(self, judged: "Judgements", pool: Pool, watch: Stopwatch) -> "Judgements":
        """Write a run, in the place of any earlier one; this process holds the folder.

        Args:
            judged: What to write.
            pool: Processes that symmetrise.
            watch: Takes the time, and has that of the stages before.

        Returns:
            The judgements, with their folder.
        """
        self._keep_answers(judged)
        judged = replace(judged, folder=self.path, seconds=watch.seconds, journal=None)
        remove(self.path, WRITTEN)  # so that nothing of an earlier run passes for a new one's
        with watch.stage("writing"):
            rows = write_structures(self.path, judged, pool)
            write_table(rows, self.path / TABLE)
            if judged.shortlist.dft_inputs:
                best = best_structures(judged, judged.shortlist.shortlist)
                write_shortlist_inputs(
                    best,
                    self.path / DFT,
                    codes=parse_codes(judged.shortlist.dft_codes),
                    recipes=parse_recipes(judged.shortlist.dft_sets),
                    incar=parse_incar(judged.shortlist.incar),
                )
            if judged.audit is not None:
                write_json(asdict(judged.audit), self.path / "audit.json")
                judged.audit.write_png(self.path / AUDIT)
            write_json(judged.figures(), self.path / SUMMARY)
        record = dict(judged.provenance) | environment()
        with watch.stage("report"):
            self._write_report(judged, rows, record)
        self._store(judged)
        record = {"format": FORMAT} | record | {"seconds": watch.seconds}
        write_json(record, self.path / RECORD)
        return judged

    def rewrite(self, judged: "Judgements", pool: Pool) -> "Judgements":
        """Replace a finished run file by file; interrupted, it leaves old and new ones.

        Args:
            judged: The same crystals, of which more is known.
            pool: Processes that symmetrise.

        Returns:
            The judgements, with their folder.
        """
        with tempfile.TemporaryDirectory(dir=self.path, prefix=".rewritten.") as folder:
            new = RunFolder(Path(folder))
            written = new.write(judged, pool, Stopwatch(dict(judged.seconds)))
            for name in (name for name in reversed(WRITTEN) if (new.path / name).exists()):
                if name == DFT and (self.path / name).exists():
                    continue  # calculations of the user's may lie there
                if (self.path / name).is_dir():
                    remove(self.path, [name])
                (new.path / name).replace(self.path / name)
        return replace(written, folder=self.path)

    def _keep_answers(self, judged: "Judgements") -> None:
        """Store what was worked out, or copy it from the folder that the judgements come from."""
        if judged.journal is not None:
            judged.journal.keep(self.answers)
        elif judged.folder not in (None, self.path):
            answers = RunFolder(judged.folder).answers
            if answers.exists():
                with atomic_path(self.answers) as temporary:
                    shutil.copyfile(answers, temporary)

    def _write_report(
        self, judged: "Judgements", rows: Sequence[Row], record: Mapping[str, object]
    ) -> None:
        stages = {one.name: one.num_passed for one in judged.stages}
        passed = set(judged.funnel.passed)
        write_report(
            self.path,
            title=f"{judged.provenance['verb']}: {judged.headline.asked or len(judged)}",
            rows=rows,
            structures=[one.structure if one.raw.error is None else None for one in judged],
            relaxed=[one.relaxed_structure for one in judged],
            figures=asdict(judged.summary()) | {"funnel": stages},
            protocol=judged.protocol,
            provenance=record,
            headline=judged.headline.figures(),
            passed=[one.raw.name in passed for one in judged],
        )

    def _store(self, judged: "Judgements") -> None:
        with (
            atomic_path(self.path / STORED) as temporary,
            gzip.GzipFile(temporary, "wb", mtime=0) as compressed,
        ):
            for content in judged.dump():
                compressed.write(json.dumps(content, default=str).encode() + b"\n")


def _by_rank(path: Path) -> dict[int, RankedStructure]:
    """Frames by rank.

    Raises:
        ValueError: If one cannot be read, or has no rank of its own.
    """
    found: dict[int, RankedStructure] = {}
    for record in read_structures(path):
        rank = record.properties.get("rank", math.nan)
        if record.structure is None:
            raise ValueError(f"{path} is damaged: {record.name}: {record.error}")
        if not rank >= 1 or int(rank) in found:
            raise ValueError(f"{path} is damaged: {record.name} has no rank of its own")
        found[int(rank)] = RankedStructure(int(rank), record.name, record.structure)
    return found


def environment() -> dict[str, str]:
    """Versions, machine and time, for the record of a run."""
    return {
        "mattergen_lite": version("mattergen-lite"),
        "torch": version("torch"),
        "pymatgen": version("pymatgen"),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }
