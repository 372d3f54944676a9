"""What a run leaves on disk: the table, the structures, the figures and the record.

`judge_and_write` is the second half of `generate` and the whole of `score`: one row a crystal, the
same criteria and the same files, whoever made the crystals.
"""

import json
import math
import platform
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pymatgen.core import Structure
from tqdm import tqdm

from mattergen_lite.data.crystals import embedded_crystals
from mattergen_lite.folders import atomic_path, remove
from mattergen_lite.io.parse import PARSE_MEMORY_LIMIT, PARSE_TIME_LIMIT, parse_document
from mattergen_lite.io.read import iter_documents, read_structures
from mattergen_lite.io.records import Document, StructureRecord
from mattergen_lite.io.write import Cif, file_names, to_cif, write_csv, write_extxyz, write_text
from mattergen_lite.processes import Failure, Pool
from mattergen_lite.request.targets import PropertyTarget
from mattergen_lite.runs.report import FIGURES, REPORT, write_report
from mattergen_lite.runs.vasp import write_shortlist_inputs
from mattergen_lite.scoring.candidate import CHECKS, Candidate
from mattergen_lite.scoring.criteria.symmetry import SYMPREC_RELAXED
from mattergen_lite.scoring.energy.phonons import require_phonopy
from mattergen_lite.scoring.energy.potentials import check_potential
from mattergen_lite.scoring.energy.screening import Cut, ScreeningLoss, screening_loss
from mattergen_lite.scoring.execution.journal import Journal
from mattergen_lite.scoring.known.reference import Reference
from mattergen_lite.scoring.metrics.audit import Audit, audit
from mattergen_lite.scoring.metrics.funnel import Funnel, Stage, funnel, stages
from mattergen_lite.scoring.metrics.hits import HOW_UNCONDITIONAL, HitRate, hit_rates
from mattergen_lite.scoring.metrics.hits import PROTOCOL as HITS_PROTOCOL
from mattergen_lite.scoring.metrics.summary import Summary, protocol, summary
from mattergen_lite.scoring.score import TIME_LIMIT as SCORE_TIME_LIMIT
from mattergen_lite.scoring.score import compare, judge_each
from mattergen_lite.scoring.stage import TIME_LIMIT as RELAX_TIME_LIMIT
from mattergen_lite.scoring.stage import (
    Found,
    deepen,
    relax_all,
    release_promising,
    score_relaxed,
    screen_all,
    shortlist,
    worth_relaxing,
)

RECORD = "run.json"
FORMAT = 1  # of the record and what it stands for; raised when older programs would misread it
FRAMES = "structures.extxyz"
RELAXED_FRAMES = "relaxed.extxyz"
JOURNAL = "journal.jsonl"  # there only while a run is unfinished
# All that `write_judged` may leave in a folder, the record first: without it there is no run.
WRITTEN = (
    RECORD,
    "candidates.csv",
    "candidates.parquet",
    "scores.csv",
    "scores.parquet",
    "summary.json",
    REPORT,
    FIGURES,
    FRAMES,
    RELAXED_FRAMES,
    "cifs",
    "relaxed",
    "audit.json",
    "audit.png",
    "dft",
)
CIF_SYMPREC = 0.1  # Å; generated coordinates carry noise of this order
CIF_TIME_LIMIT = 60.0  # s
NUM_SHOWN = 5  # of the best candidates, in the terminal
ROUND_SIZE = 64  # samples that are screened together when candidates are asked for
KEEP = 0.2  # share of them that is relaxed, unless another is asked for

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
        self.seconds[name] = round(self.seconds.get(name, 0.0) + perf_counter() - start, 3)


@dataclass(frozen=True, kw_only=True)
class Judged:
    """Outcome of `generate` or `score`: candidates, best first, and where the files are."""

    table: Path
    candidates: list[Candidate]
    summary: Summary
    funnel: Funnel
    hits: tuple[HitRate, ...]  # of every target
    audit: Audit | None
    seconds: dict[str, float]
    stages: tuple[Stage, ...] = ()
    screening: ScreeningLoss | None = None  # None where nothing was screened
    asked_for: int | None = None  # candidates

    def text(self) -> str:
        """Summary for a terminal."""
        best = [
            f"{one.rank:>4}  {one.raw.name:<16} {one.raw.formula:<16} {one.verdict}"
            for one in self.candidates[: self.asked_for or NUM_SHOWN]
        ]
        times = ", ".join(f"{name} {value:.1f} s" for name, value in self.seconds.items())
        audited = [self.audit.text()] if self.audit else []
        hits = [*(one.text() for one in self.hits), *([HOW_UNCONDITIONAL] if self.hits else [])]
        parts = [self.summary.text(), *audited, self.funnel.text(), *hits, *best, times]
        return "\n".join([*parts, *self._on_screening(), f"-> {self.table}"])

    def _on_screening(self) -> Iterator[str]:
        """What the screen cost and, where too little came out, what to change."""
        if self.screening is not None:
            seen = self.screening
            yield (
                f"screened {seen.num_screened}: {seen.num_kept} kept with {seen.expected_kept:.1f} "
                f"expected metastable; past the cut {seen.expected_lost:.1f} ± "
                f"{seen.expected_lost_std:.1f}, by {seen.num_controls} relaxed at random"
            )
        if self.asked_for is not None and self.funnel.num_passed < self.asked_for:
            yield (
                f"{self.funnel.num_passed} of {self.asked_for} candidates found: raise "
                "--max-samples, --time-budget or --keep, or ask for less with --require"
            )


@dataclass(frozen=True, kw_only=True)
class JudgeOptions:
    """How crystals are judged."""

    relax: bool = True
    potential: str = "7net-l3i5"  # decides about stability
    second_opinion: str | None = "chgnet"  # is compared with the one that decides
    references: Sequence[Path] = ()  # known structures beside the embedded ones
    targets: Sequence[PropertyTarget] = ()  # what the crystals were asked to be
    required: Sequence[str] | None = None  # checks to pass; None: all that are made
    until: int | None = None  # go on until so many candidates pass
    time_budget: float | None = None  # minutes after which no further batch is begun
    cut: Cut | None = None  # relax only the likeliest of what passes the cheap checks; None: all
    selective: bool = False  # relax only what passes the cheap checks; `until` implies it
    time_limit: float = RELAX_TIME_LIMIT  # s per crystal and question
    device: str = "cpu"  # of the potentials
    audit: bool = False
    shortlist: int = 10  # how many of the best get what follows
    phonons: bool = False
    elasticity: bool = False
    dft_inputs: bool = False

    def check(self) -> None:
        """Refuse what cannot be done, before anything is done.

        Raises:
            ValueError: If options contradict each other, a potential or phonopy is not installed,
                or a reference is missing.
        """
        self._check_consistency()
        if self.phonons:
            require_phonopy()
        for name in self.potentials:
            check_potential(name)
        for path in self.references:
            if not path.exists():
                raise ValueError(f"reference {path} does not exist")

    def _check_consistency(self) -> None:
        """Refuse options that contradict each other or make no sense."""
        if not self.relax and (self.phonons or self.elasticity):
            raise ValueError("phonons and elasticity need relaxed crystals: expected no --no-relax")
        if not self.relax and self.dft_inputs:
            raise ValueError("dft-inputs need relaxed crystals: expected no --no-relax")
        if not self.relax and "metastable" in (self.required or ()):
            raise ValueError("metastable needs relaxed crystals: expected no --no-relax")
        if not self.targets and "on_target" in (self.required or ()):
            raise ValueError("require on_target: expected a condition that says what the target is")
        if self.until is not None and self.until < 1:
            raise ValueError(f"until is {self.until}: expected at least 1")
        self._check_budgets()
        if self.shortlist < 0:
            raise ValueError(f"shortlist is {self.shortlist}: expected 0 or more")

    def _check_budgets(self) -> None:
        """Refuse a screen without relaxation, and budgets that end nothing or everything."""
        if self.cut is not None:
            self.cut.check()
            if not self.relax:
                raise ValueError("screening decides about relaxation: expected no --no-relax")
        if self.time_budget is not None and not 0 < self.time_budget < math.inf:
            raise ValueError(
                f"time-budget is {self.time_budget}: expected a number of minutes above 0"
            )

    @property
    def checks(self) -> Sequence[str]:
        """Names of the checks that a candidate has to pass."""
        if self.required is not None:
            return self.required
        open_ones = {
            "screened": self.cut is None,
            "metastable": not self.relax,
            "on_target": not self.targets,
        }
        return [name for name in CHECKS if not open_ones.get(name, False)]

    @property
    def potentials(self) -> list[str]:
        """Names of the potentials that have a say."""
        names = [self.potential, self.second_opinion] if self.relax else []
        return list(dict.fromkeys(name for name in names if name is not None))

    def reference(self) -> Reference:
        """All known structures.

        Raises:
            ValueError: If one of the sources holds no readable structure.
        """
        own = [
            Reference.from_records(read_structures(path), name=path.name)
            for path in self.references
        ]
        return Reference.joined([Reference.embedded(), *own]) if own else Reference.embedded()


def parse_cut(
    keep: float | None, relax_at_most: int | None, control: float, *, screened: bool = False
) -> Cut | None:
    """How many of the screened crystals are relaxed; None if nothing is to be screened.

    Args:
        keep: Share to relax; None: no share was asked for.
        relax_at_most: Number to relax; None: no number was asked for.
        control: Share of the rest to relax all the same.
        screened: Screen even if neither was asked for.
    """
    if keep is None and relax_at_most is None and not screened:
        return None
    default = KEEP if screened else 1.0
    return Cut(keep=default if keep is None else keep, at_most=relax_at_most, control=control)


def parse_candidates(num_candidates: int | None, until: int | None) -> int | None:
    """How many candidates have to pass; None if a number of samples was asked for.

    Raises:
        ValueError: If both ways of asking are used.
    """
    if num_candidates is not None and until is not None:
        raise ValueError("num-candidates and until ask for the same: expected one of them")
    return until if num_candidates is None else num_candidates


def remove_results(folder: Path) -> None:
    """Remove all that an earlier run has left, so that nothing of it passes for the new one's."""
    remove(folder, WRITTEN)


def read_record(folder: Path) -> dict[str, object]:
    """The record of a finished run.

    Raises:
        ValueError: If it is damaged, or of a newer version of this program.
    """
    path = folder / RECORD
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"cannot read {path}: {str(error)[:200]}: run it again") from None
    if not isinstance(record, dict):
        raise ValueError(f"{path} is no record of a run: run it again")
    number = record.get("format", 1)
    if not isinstance(number, int) or number > FORMAT:
        raise ValueError(
            f"{path} has format {number!r}, this version reads up to {FORMAT}: "
            "use a newer version of mattergen-lite"
        )
    return record


class RankedStructure(NamedTuple):
    """One crystal of a finished run."""

    rank: int
    name: str
    structure: Structure


def read_run(folder: Path, *, relaxed: bool) -> list[RankedStructure]:
    """Structures of a finished run, best first.

    Args:
        folder: Of the run.
        relaxed: Take what a crystal has relaxed to, where it has been relaxed.

    Raises:
        ValueError: If the run is damaged: a frame cannot be read or has no rank of its own.
    """
    read_record(folder)
    found: dict[int, RankedStructure] = {}
    for name in (FRAMES, RELAXED_FRAMES) if relaxed else (FRAMES,):
        if (folder / name).exists():
            found |= _by_rank(folder / name)
    if not found:
        raise ValueError(f"{folder} holds no structures: run it again")
    return [found[rank] for rank in sorted(found)]


def _by_rank(path: Path) -> dict[int, RankedStructure]:
    """Frames by rank: names may occur twice.

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


def check_folder(out: Path, overwrite: bool) -> None:
    """Refuse to mix a new run with an old one.

    Raises:
        ValueError: If the folder holds a run already and may not be replaced.
    """
    if (out / RECORD).exists() and not overwrite:
        raise ValueError(f"{out} holds an earlier run: choose another folder or pass --overwrite")


def read_records(source: Path, limit: int | None, pool: Pool) -> list[StructureRecord]:
    """Read structures, each within its time and memory.

    Raises:
        ValueError: If the source does not exist, is of an unknown kind or holds no structures.
    """
    return parse_documents(list(islice(iter_documents(source), limit)), pool)


def parse_documents(documents: Sequence[Document], pool: Pool) -> list[StructureRecord]:
    """Parse documents in other processes; one that takes too much is an error of its own."""
    parsed = pool.map(
        parse_document,
        documents,
        time_limit=PARSE_TIME_LIMIT,
        memory_limit=PARSE_MEMORY_LIMIT,
    )
    return [
        StructureRecord(document.name, None, answer.reason)
        if isinstance(answer, Failure)
        else answer
        for document, answer in zip(documents, parsed, strict=True)
    ]


def judge_and_write(
    batches: Iterable[Sequence[StructureRecord]],
    table: Path,
    watch: Stopwatch,
    provenance: Mapping[str, object],
    options: JudgeOptions,
    pool: Pool,
) -> Judged:
    """Judge structures; write the table and, beside it, structures, summary and, last, record.

    An interrupted run leaves a journal in the folder, from which the same command goes on.

    Args:
        batches: Structures to judge. The second batch and those after it are asked for only if
            the options want more candidates than have passed.
        table: The table to write; everything else goes into its folder.
        watch: Takes the time of every stage.
        provenance: What the record says of where the structures come from.
        options: How to judge.
        pool: Processes to judge in.

    Raises:
        ValueError: If there is no structure, or whatever making the first batch raises.
    """
    journal = Journal(pool, table.parent / JOURNAL)
    candidates, reference = judge_until(iter(batches), options, journal, watch)
    judged = write_judged(candidates, reference, table, watch, provenance, options, pool)
    journal.forget()
    return judged


def write_judged(
    candidates: Sequence[Candidate],
    reference: Reference,
    table: Path,
    watch: Stopwatch,
    provenance: Mapping[str, object],
    options: JudgeOptions,
    pool: Pool,
) -> Judged:
    """Write what `judge_and_write` writes, of candidates that are judged already, best first."""
    folder = table.parent
    with watch.stage("writing"):
        remove_results(folder)
        rows = write_structures(folder, candidates, pool)
        write_table(rows, table)
        if options.dft_inputs:
            write_shortlist_inputs(best_structures(candidates, options.shortlist), folder / "dft")
        audited = write_audit(candidates, reference, folder) if options.audit else None
        figures = summary(candidates)
        how = protocol(figures) | {"reference": reference.name}
        how |= HITS_PROTOCOL if options.targets else {}
        passed = funnel(candidates, options.checks)
        made = stages(candidates, watch.seconds)
        loss = _screening_loss(candidates) if options.cut else None
        hits = against_training(candidates, options.targets)
        write_json(
            {
                "figures": asdict(figures),
                "funnel": asdict(passed),
                "stages": [one.figures() for one in made],
                "screening": loss and asdict(loss) | {"share_lost": loss.share_lost},
                "targets": [one.figures() for one in hits],
                "protocol": how,
            },
            folder / "summary.json",
        )
    with watch.stage("report"):
        record = dict(provenance) | environment()
        write_report(
            folder,
            title=f"{provenance['verb']}: {len(candidates)} crystals",
            rows=rows,
            structures=[one.structure if one.raw.error is None else None for one in candidates],
            relaxed=[one.relaxed_structure for one in candidates],
            figures=asdict(figures) | {"funnel": {one.name: one.num_passed for one in made}},
            protocol=how,
            provenance=record,
        )
    write_json({"format": FORMAT} | record | {"seconds": watch.seconds}, folder / RECORD)
    return Judged(
        table=table,
        candidates=list(candidates),
        summary=figures,
        funnel=passed,
        hits=hits,
        audit=audited,
        seconds=watch.seconds,
        stages=tuple(made),
        screening=loss,
        asked_for=options.until,
    )


def _screening_loss(candidates: Sequence[Candidate]) -> ScreeningLoss:
    """What the screen kept and lost, as expected numbers of metastable crystals."""
    screened = [one for one in candidates if one.screening is not None]
    return screening_loss(
        [one.screening for one in screened],
        [
            np.nan_to_num(one.stability.probability_metastable).item() if one.stability else None
            for one in screened
        ],
    )


def against_training(
    candidates: Sequence[Candidate], targets: Sequence[PropertyTarget]
) -> tuple[HitRate, ...]:
    """Hit rates beside the base rates of MP-20's training split; none without targets."""
    return hit_rates(candidates, targets, embedded_crystals("train")) if targets else ()


def judge_until(
    batches: Iterator[Sequence[StructureRecord]],
    options: JudgeOptions,
    journal: Journal,
    watch: Stopwatch,
) -> tuple[list[Candidate], Reference]:
    """Judge batch after batch until enough candidates pass; returns all of them, best first.

    The whole set is judged again with each batch, which the journal makes cheap: what is unique and
    what is best is a question to the set.
    """
    records: list[StructureRecord] = []
    candidates: list[Candidate] = []
    ends: list[int] = []
    reference, started = None, perf_counter()
    while True:
        with watch.stage("structures"):
            batch = next(batches, None)
        if batch is None:
            break
        records += batch
        ends.append(len(records))
        if reference is None:
            with watch.stage("reference"):
                reference = options.reference()
        candidates = judge_all(records, options, reference, journal, watch, ends)
        passed = funnel(candidates, options.checks)
        if options.until is None or passed.num_passed >= options.until:
            break
        if options.time_budget is not None and perf_counter() - started > 60 * options.time_budget:
            break
        tqdm.write(passed.text(), file=sys.stderr)
    return deepened(candidates, options, journal, watch), reference


def environment() -> dict[str, str]:
    """Versions, machine and time, for the record of a run."""
    return {
        "mattergen_lite": version("mattergen-lite"),
        "torch": version("torch"),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def judge_all(
    records: Sequence[StructureRecord],
    options: JudgeOptions,
    reference: Reference,
    journal: Journal,
    watch: Stopwatch,
    ends: Sequence[int] = (),
) -> list[Candidate]:
    """The chain of the judge: score, screen, relax, release, score again, assess, rank.

    Args:
        records: Structures to judge.
        options: How.
        reference: Known structures.
        journal: Processes to work in, and what they have found before.
        watch: Takes the time of every stage.
        ends: Where each round ends among the records, for the screen; default one round.

    Returns:
        The candidates, best first.
    """
    with watch.stage("judging"):
        quick = min(options.time_limit, SCORE_TIME_LIMIT)
        raw = judge_each(records, journal=journal, time_limit=quick)
    with watch.stage("comparing"):
        raw = compare(raw, records, journal=journal, reference=reference)
    selective = options.until or options.selective or options.cut
    required = options.checks if selective else ()
    found = [Found(raw=one) for one in raw]
    if options.cut is not None:
        with watch.stage("screening"):
            screened = screen_all(
                raw,
                records,
                required=required,
                ends=ends or [len(records)],
                cut=options.cut,
                journal=journal,
            )
        found = [replace(one, screening=seen) for one, seen in zip(found, screened, strict=True)]
    if options.relax:
        chosen = [index for index in worth_relaxing(raw, required) if passes_screen(found[index])]
        found = relaxed_and_scored(records, found, chosen, options, reference, journal, watch)
    return shortlist(
        records,
        found,
        decider=options.potential,
        second_opinion=options.potentials[1] if len(options.potentials) > 1 else None,
        targets=options.targets,
    )


def passes_screen(found: Found) -> bool:
    """Whether a crystal goes on to be relaxed: all do where nothing is screened."""
    return found.screening is None or found.screening.screening_decision != "reject"


def relaxed_and_scored(
    records: Sequence[StructureRecord],
    found: Sequence[Found],
    chosen: Sequence[int],
    options: JudgeOptions,
    reference: Reference,
    journal: Journal,
    watch: Stopwatch,
) -> list[Found]:
    """What was found, with relaxation, release and scores of the chosen crystals."""
    with watch.stage("relaxing"):
        measured = relax_all(
            records,
            chosen,
            potentials=options.potentials,
            device=options.device,
            time_limit=options.time_limit,
            journal=journal,
        )
    with watch.stage("releasing"):
        measured = release_promising(
            measured,
            decider=options.potential,
            potentials=options.potentials,
            time_limit=options.time_limit,
            journal=journal,
        )
    with watch.stage("judging relaxed"):
        relaxed = score_relaxed(records, measured, reference=reference, journal=journal)
    return [
        replace(one, measured=energies, relaxed=after)
        for one, energies, after in zip(found, measured, relaxed, strict=True)
    ]


def deepened(
    candidates: Sequence[Candidate], options: JudgeOptions, journal: Journal, watch: Stopwatch
) -> list[Candidate]:
    """The candidates with the deeper checks of the best, if any are asked for."""
    if not (options.phonons or options.elasticity):
        return list(candidates)
    with watch.stage("deeper checks"):
        return deepen(
            candidates,
            num_best=options.shortlist,
            potential=options.potential,
            with_phonons=options.phonons,
            with_elasticity=options.elasticity,
            journal=journal,
        )


def best_structures(candidates: Sequence[Candidate], count: int) -> dict[str, Structure]:
    """Of the best candidates those that are relaxed, by name of their files."""
    best = candidates[:count]
    return {
        name: one.relaxed_structure
        for name, one in zip(file_names(one.raw.name for one in best), best, strict=True)
        if one.relaxed_structure is not None
    }


def write_structures(folder: Path, candidates: Sequence[Candidate], pool: Pool) -> list[Row]:
    """Write CIFs and extxyz of raw and relaxed crystals; returns table rows with the CIFs' names.

    A crystal that could not be judged is there as well, or whoever counts the files would find a
    set without its worst; only what could not be read at all is in none.
    """
    raw = [one.structure for one in candidates]
    relaxed = [one.relaxed_structure for one in candidates]
    names = file_names(one.raw.name for one in candidates)
    cifs = write_cifs(raw, names, folder / "cifs", CIF_SYMPREC, pool)
    relaxed_cifs = write_cifs(relaxed, names, folder / "relaxed", SYMPREC_RELAXED, pool)
    write_frames(raw, candidates, folder / FRAMES)
    if any(relaxed):
        write_frames(relaxed, candidates, folder / RELAXED_FRAMES)
    return [
        one.row()
        | {
            "cif": cif and f"cifs/{name}.cif",
            "cif_space_group": cif and cif.space_group,
            "relaxed_cif": relaxed_cif and f"relaxed/{name}.cif",
            "relaxed_cif_space_group": relaxed_cif and relaxed_cif.space_group,
        }
        for one, name, cif, relaxed_cif in zip(candidates, names, cifs, relaxed_cifs, strict=True)
    ]


def write_cifs(
    structures: Sequence[Structure | None],
    names: Sequence[str],
    folder: Path,
    symprec: float,
    pool: Pool,
) -> list[Cif | None]:
    """Write a symmetrised CIF of every crystal; returns them, None where there is none."""
    there = [index for index, structure in enumerate(structures) if structure is not None]
    cifs: list[Cif | None] = [None] * len(structures)
    made = pool.map(
        partial(to_cif, symprec=symprec), [structures[i] for i in there], time_limit=CIF_TIME_LIMIT
    )
    for index, cif in zip(there, made, strict=True):
        # Symmetrising is what takes time or breaks; the cell as it is can always be written.
        cifs[index] = to_cif(structures[index], None) if isinstance(cif, Failure) else cif
        write_text(cifs[index].text, folder / f"{names[index]}.cif")
    return cifs


def write_frames(
    structures: Sequence[Structure | None], candidates: Sequence[Candidate], path: Path
) -> None:
    """Write all crystals as one extxyz file, best first."""
    there = [
        (structure, {"name": one.raw.name, "rank": one.rank})
        for structure, one in zip(structures, candidates, strict=True)
        if structure is not None
    ]
    write_extxyz([frame for frame, _ in there], path, [info for _, info in there])


def write_audit(
    candidates: Sequence[Candidate], reference: Reference, folder: Path
) -> Audit | None:
    """Write the audit of the whole set as JSON and PNG; None if no structure could be read."""
    readable = [one.structure for one in candidates if one.raw.error is None]
    if not readable:
        return None
    found = audit([structure.composition for structure in readable], reference)
    write_json(asdict(found), folder / "audit.json")
    found.write_png(folder / "audit.png")
    return found


def write_table(rows: Sequence[Row], path: Path) -> None:
    """Write rows as CSV for people, six significant digits, and as parquet for programs."""
    names = list(rows[0])
    write_csv(path, names, ([row.get(name) for name in names] for row in rows))
    with atomic_path(path.with_suffix(".parquet")) as temporary:
        pq.write_table(pa.Table.from_pylist(rows), temporary)


def write_json(content: Mapping[str, object], path: Path) -> None:
    """Write plain data as JSON, all at once."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, default=str) + "\n")
