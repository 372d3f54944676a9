"""The folder of a run: names of its files, and their readers.

candidates.csv            one row a crystal, best first, for people
candidates.parquet        the same and everything else, to the last bit: for programs and `load`
structures.extxyz         the crystals as they came, each with its rank
relaxed.extxyz            what they relaxed to
cifs/, relaxed/           the same, symmetrised, one file a crystal
dft_relaxed/              what was relaxed by first principles, as CIF
summary.json              shares, funnel, protocol
answers.jsonl.gz          what was worked out, for runs that judge the same crystals again
report.html, figures/     for people
audit.json, audit.png, dft/   where asked for
structures.csv, .parquet, prediction.json   of `predict` and `complete`
run.json                  what it takes to make any sample again; written last
journal.jsonl             while a run is unfinished
"""

import hashlib
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from mattergen_lite.files.folders import RECORD, check_plain
from mattergen_lite.runs.tables import Row, read_json, read_table

FORMAT = 2  # of the record and what it stands for; raised when older programs would misread it
TABLE = "candidates.csv"
STORE = "candidates.parquet"
SUMMARY = "summary.json"
FRAMES = "structures.extxyz"
RELAXED_FRAMES = "relaxed.extxyz"
DFT_RELAXED = "dft_relaxed"  # folder of CIFs
ANSWERS = "answers.jsonl.gz"
PREDICTION = "prediction.json"
DISTINCT = "structures.csv"  # one row a different structure
DFT = "dft"  # folder of inputs
AUDIT = "audit.png"
JOURNAL = "journal.jsonl"
REPORT = "report.html"
FIGURES = "figures"
# All that a run may leave but its answers, the record first: without it there is no run.
WRITTEN = (
    *(RECORD, TABLE, STORE, SUMMARY, REPORT, FIGURES, FRAMES, RELAXED_FRAMES),
    *("cifs", "relaxed", DFT_RELAXED, "audit.json", AUDIT, DFT, PREDICTION, DISTINCT),
    DISTINCT.replace("csv", "parquet"),
)


class RunFolder:
    """The folder of a run, finished or to be written.

    Raises:
        ValueError: If it holds a pipe or a device.
    """

    def __init__(self, path: Path) -> None:
        check_plain(path)
        self.path = path
        self.store = path / STORE
        self.frames, self.relaxed_frames = path / FRAMES, path / RELAXED_FRAMES
        self.result_cache = path / JOURNAL  # answers of an unfinished run
        self.answers = path / ANSWERS  # of a finished one

    def __str__(self) -> str:
        return str(self.path)

    @property
    def is_finished(self) -> bool:
        """Whether it holds a finished run."""
        return (self.path / RECORD).exists()

    @property
    def has_relaxed(self) -> bool:
        """Whether crystals were relaxed."""
        return self.relaxed_frames.exists()

    def record(self) -> dict[str, object]:
        """Arguments and provenance, with which the run can be repeated.

        Raises:
            ValueError: If it is damaged, or of another version of this program.
        """
        path = self.path / RECORD
        record = read_json(path)
        number = record.get("format", 1)
        if not isinstance(number, int) or number > FORMAT:
            raise ValueError(
                f"{path} has format {number!r}, this version reads {FORMAT}: "
                "use a newer version of mattergen-lite"
            )
        if number < FORMAT:
            raise ValueError(
                f"{self} was written by an older version, which stored less: score its "
                f"{FRAMES} again"
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

        Raises:
            ValueError: If there is no table, it is damaged or lacks a column that is needed.
        """
        self.record()
        if not self.store.exists():
            raise ValueError(f"{self} has no {STORE}: run it again")
        return read_table(self.store, needed)


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
