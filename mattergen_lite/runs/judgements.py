"""Judged crystals in memory: a sequence of candidates, best first, that can be shown and saved.

judged = mattergen_lite.judge(structures)
judged[0].verdict; judged.to_pandas(); judged.save("results")
"""

from pathlib import Path
from typing import TYPE_CHECKING

from pymatgen.core import Structure

from mattergen_lite.files.folders import check_finished, check_free, claimed
from mattergen_lite.io.records import StructureRecord
from mattergen_lite.processes import Pool, available_cores
from mattergen_lite.runs.folder import RunFolder
from mattergen_lite.runs.judged_set import JudgedSet
from mattergen_lite.runs.store import read_candidates, read_shared
from mattergen_lite.runs.tables import Row
from mattergen_lite.runs.view import html_table
from mattergen_lite.runs.writing import FACTS, write_run
from mattergen_lite.scoring.execution.result_cache import read_answers
from mattergen_lite.scoring.execution.stopwatch import Stopwatch

if TYPE_CHECKING:
    import pandas as pd

NUM_IN_HTML = 25


class Judgements(JudgedSet):
    """Outcome of `judge`, `score` or `generate`: the candidates, best first."""

    def __repr__(self) -> str:
        best = f", best {self.candidates[0].raw.formula}" if self.candidates else ""
        return f"<Judgements: {self.funnel.num_passed} of {len(self)} pass every check{best}>"

    def _repr_html_(self) -> str:
        """The best as a table with pictures, for notebooks."""
        more = len(self) - NUM_IN_HTML
        left_out = f"<p>and {more} more</p>" if more > 0 else ""
        return html_table(self.candidates[:NUM_IN_HTML], repr(self)[1:-1]) + left_out

    def rows(self) -> list[Row]:
        """One row of the table a crystal, best first."""
        return [candidate.row() for candidate in self.candidates]

    def to_pandas(self) -> "pd.DataFrame":
        """The table as a DataFrame; every column is explained in the documentation.

        Raises:
            ImportError: If pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError:
            raise ImportError(
                "to_pandas needs pandas: expected `pip install pandas`, or use rows()"
            ) from None
        return pd.DataFrame(self.rows())

    def structures(self) -> list[Structure | None]:
        """The crystals, relaxed where they were, best first; None where one could not be read."""
        return [candidate.final_structure for candidate in self.candidates]

    def records(self) -> list[StructureRecord]:
        """The crystals as they came, for another judgement."""
        return [
            StructureRecord(candidate.raw.name, candidate.structure, candidate.raw.error)
            for candidate in self.candidates
        ]

    def answers(self) -> list[str]:
        """Results of all costly steps, as lines of a result cache."""
        if self.result_cache is None and self.folder is not None:
            return list(read_answers(RunFolder(self.folder).answers))
        return [] if self.result_cache is None else list(self.result_cache.texts())

    # On disk

    def save(
        self, folder: str | Path, *, overwrite: bool = False, num_workers: int | None = None
    ) -> "Judgements":
        """Write the folder that `score --out` or `generate --out` writes.

        Processes symmetrise, by default one a core; 0 works in this one. Returns the judgements
        with their folder.

        Raises:
            ValueError: If it holds an earlier run, or cannot be written.
        """
        path = Path(folder)
        workers = available_cores() if num_workers is None else num_workers
        with claimed(path), Pool(workers) as pool:
            check_free(path, overwrite=overwrite)
            return write_run(path, self, pool, Stopwatch(dict(self.seconds)))

    @classmethod
    def load(cls, folder: str | Path) -> "Judgements":
        """Bring back the judgements of a finished run.

        Raises:
            ValueError: If the folder holds none, or is damaged.
        """
        run = RunFolder(Path(folder))
        check_finished(run.path)
        run.record()
        facts = vars(read_shared(run.store, FACTS))
        return cls(candidates=tuple(read_candidates(run.store)), folder=run.path, **facts)
