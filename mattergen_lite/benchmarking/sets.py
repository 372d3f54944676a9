"""Sets of crystals: the folders of runs, or structures that are judged first."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from pymatgen.core import Structure

from mattergen_lite.benchmarking.protocols import Protocol
from mattergen_lite.io.bounds import check_readable
from mattergen_lite.io.read import ACCEPTED, read_structures
from mattergen_lite.io.records import StructureRecord
from mattergen_lite.options.judge import JudgeOptions
from mattergen_lite.processes import Pool
from mattergen_lite.runs.folder import RunFolder
from mattergen_lite.runs.judgements import Judgements
from mattergen_lite.runs.judging import JudgingRun
from mattergen_lite.runs.tables import Row
from mattergen_lite.scoring.execution.result_cache import structure_identity
from mattergen_lite.scoring.judge import Judge


@dataclass(frozen=True, kw_only=True)
class BenchmarkOptions:
    """How sets are judged and compared."""

    protocol: Protocol
    out: Path
    potential: str = "7net-l3i5"  # decides about stability
    device: str = "cpu"
    limit: int | None = None  # of the structures of a set, the first ones
    truth: Path | None = None  # known structures that are to be predicted

    def check(self, sets: Mapping[str, Path]) -> None:
        """Refuse what cannot be done, before anything is done.

        Raises:
            ValueError: If a source is missing, or options do not fit the protocol.
        """
        for name, source in sets.items():
            if not source.exists():
                raise ValueError(f"{name}: {source} does not exist")
            if self.limit is not None and is_run(source):
                raise ValueError(
                    f"limit is {self.limit}, but {source} is a run, whose crystals are in the order"
                    " of their rank: expected no limit, or the structures themselves"
                )
        is_prediction = self.protocol.kind == "prediction"
        if is_prediction != (self.truth is not None):
            wanted = "the known structures" if is_prediction else "no --truth"
            raise ValueError(f"truth is {self.truth}: protocol {self.protocol.name} takes {wanted}")
        if self.truth is not None and not self.truth.exists():
            raise ValueError(f"truth {self.truth} does not exist")


def is_run(source: Path) -> bool:
    """Whether a path is the folder of an earlier run."""
    return RunFolder(source).is_finished


def parse_sets(source: Path, beside: Sequence[str]) -> dict[str, Path]:
    """Sets by name, the source first; the others come as name=path.

    Raises:
        ValueError: If one has no name that a folder can have, or a name comes twice.
    """
    check_readable(source, ACCEPTED)
    whole = source.resolve()  # "." has no name
    sets = {whole.name if source.is_dir() else whole.stem: source}
    for text in beside:
        name, sign, path = text.partition("=")
        if not (name and sign and path) or "/" in name:
            raise ValueError(f"beside is {text!r}: expected name=path")
        if name in sets:
            raise ValueError(f"two sets are called {name!r}: expected different names")
        sets[name] = Path(path)
    return sets


@dataclass(frozen=True, kw_only=True)
class CrystalSet:
    """A set of judged crystals, a row of the judge's table and two structures each."""

    rows: Sequence[Row]
    raw: Sequence[Structure | None]  # None where it could not be read
    relaxed: Sequence[Structure | None] = ()  # likewise

    @classmethod
    def read(cls, folder: Path) -> "CrystalSet":
        """The set that a run has left in its folder.

        Raises:
            ValueError: If it is damaged.
        """
        judgements = Judgements.load(folder)
        return cls(
            rows=judgements.rows(),
            raw=[
                candidate.structure if candidate.raw.error is None else None
                for candidate in judgements
            ],
            relaxed=[candidate.relaxed_structure for candidate in judgements],
        )

    def column(self, name: str) -> np.ndarray:
        """Numbers of a column, NaN where there is none."""
        values = [row.get(name) for row in self.rows]
        return np.array([math.nan if value is None else value for value in values], dtype=float)

    @property
    def judged_by(self) -> str:
        """Names of the potential that relaxed and of the one that decided."""
        names = {
            f"{row['relaxed_with']} relaxes, {row['potential']} decides, Materials Project hull"
            for row in self.rows
            if row["potential"]
        }
        return ", ".join(sorted(names))


def judged(name: str, source: Path, options: BenchmarkOptions, pool: Pool) -> Path:
    """Folder with the judgement of a set: its own if it is a run, else one that is made here."""
    if is_run(source) and (not options.protocol.relaxed or RunFolder(source).has_relaxed):
        return source
    records = list(islice(read_structures(structure_file(source)), options.limit))
    folder = options.out / "judged" / name
    how = {"relax": options.protocol.relaxed, "potential": options.potential}
    asked = how | {"structures_sha256": digest(records)}
    if is_run(folder) and RunFolder(folder).record()["arguments"] == asked:
        return folder
    judging = JudgeOptions(second_opinion=None, **how)
    run = JudgingRun(
        judge=Judge.of(judging, device=options.device), pool=pool, place=RunFolder(folder)
    )
    run.execute([records], {"verb": "benchmark", "arguments": asked})
    return folder


def structure_file(source: Path) -> Path:
    """Where the structures of a source are: a run has every crystal several times."""
    return RunFolder(source).frames if is_run(source) else source


def digest(records: Sequence[StructureRecord]) -> str:
    """Changes with any structure of a set."""
    parts = [
        f"{r.name!r} {r.error if r.structure is None else structure_identity(r.structure)}"
        for r in records
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
