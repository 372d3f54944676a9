"""Takes over files of an earlier run where the crystals, or the whole table, are the same."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pymatgen.core import Structure

from mattergen_lite.io.write import Cif
from mattergen_lite.runs.folder import FIGURES, RunFolder
from mattergen_lite.runs.tables import Row, read_table
from mattergen_lite.scoring.candidate import Candidate
from mattergen_lite.scoring.execution.result_cache import structure_identity
from mattergen_lite.symmetry.detection import SYMPREC_GENERATED, SYMPREC_RELAXED


@dataclass(frozen=True, kw_only=True)
class EarlierFiles:
    """What an earlier run has written; without one there is nothing to take over."""

    folder: Path | None = None
    rows: Sequence[Row] = ()
    stages: Mapping[str, int] = field(default_factory=dict)
    # file and space group of CIFs, by the identity of the structure and the tolerance
    cifs: Mapping[tuple[str, float], tuple[Path, int]] = field(default_factory=dict)

    @classmethod
    def of(
        cls, folder: Path, candidates: Sequence[Candidate], stages: Mapping[str, int]
    ) -> "EarlierFiles":
        """Read what lies in the folder of a finished run, whose candidates are in its order."""
        rows = read_table(RunFolder(folder).store)
        cifs: dict[tuple[str, float], tuple[Path, int]] = {}
        for candidate, row in zip(candidates, rows, strict=True):
            kinds = (
                ("cif", candidate.structure, SYMPREC_GENERATED),
                ("relaxed_cif", candidate.relaxed_structure, SYMPREC_RELAXED),
            )
            for column, structure, symprec in kinds:
                if structure is not None and row.get(column):
                    place = folder / str(row[column])
                    known = place, int(row[f"{column}_space_group"])
                    cifs[structure_identity(structure), symprec] = known
        return cls(folder=folder, rows=rows, stages=stages, cifs=cifs)

    def cif(self, structure: Structure, symprec: float) -> Cif | None:
        """The CIF of the same structure; None where there is none."""
        if not self.cifs:  # nothing to compare with
            return None
        place, space_group = self.cifs.get((structure_identity(structure), symprec), (None, 1))
        if place is None or not place.exists():
            return None
        return Cif(place.read_text(encoding="utf-8"), space_group)

    def copy_figures(self, folder: Path, rows: Sequence[Row], stages: Mapping[str, int]) -> bool:
        """Copy the figures of a run with the same table and stages; tells whether there is one."""
        drawn = None if self.folder is None else self.folder / FIGURES
        if drawn is None or not drawn.is_dir() or dict(stages) != dict(self.stages):
            return False
        if len(rows) != len(self.rows) or not all(map(_is_same, rows, self.rows)):
            return False
        shutil.copytree(drawn, folder / FIGURES, dirs_exist_ok=True)
        return True


def _is_same(row: Row, earlier: Row) -> bool:
    """Whether a stored row has the cells of another one."""
    return all(_text(cell) == _text(earlier.get(name)) for name, cell in row.items())


def _text(cell: object) -> str:
    """A cell to compare: not a number equals itself, and 1 equals 1.0."""
    is_number = isinstance(cell, int | float) and not isinstance(cell, bool)
    return repr(float(cell)) if is_number else repr(cell)
