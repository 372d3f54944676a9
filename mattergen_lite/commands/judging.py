"""Opens a judge and writes its results, for the commands that judge."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from mattergen_lite.console import ProgressBar
from mattergen_lite.io.parallel import read_records
from mattergen_lite.io.read import count_unread
from mattergen_lite.io.records import StructureRecord
from mattergen_lite.model import pick_device, weights_hash
from mattergen_lite.options.flat import arguments_of
from mattergen_lite.options.judge import Goal, JudgeOptions, ShortlistOptions
from mattergen_lite.options.machine import Machine
from mattergen_lite.options.request import Request
from mattergen_lite.options.sampler import SamplerOptions
from mattergen_lite.processes import Pool
from mattergen_lite.runs.folder import RunFolder
from mattergen_lite.runs.judgements import Judgements
from mattergen_lite.runs.judging import JudgingRun
from mattergen_lite.sampling.generator import Generator, open_generator
from mattergen_lite.sampling.substitution import Substitution
from mattergen_lite.scoring.earlier_run import EarlierRun
from mattergen_lite.scoring.execution.stopwatch import Stopwatch
from mattergen_lite.scoring.judge import Judge
from mattergen_lite.scoring.metrics.expected_hits import HitTable


def read_source(
    source: Path, limit: int | None, *, relaxed: bool, pool: Pool, out: Path | None
) -> tuple[list[StructureRecord], EarlierRun]:
    """Structures of any source, those of an earlier run each once, and what that run decided.

    Args:
        source: A file or folder of structures, or the folder of an earlier run.
        limit: So many, the first ones.
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
        return records, EarlierRun()
    judged = Judgements.load(source)  # to the last bit: answers are found again
    earlier = EarlierRun.of(judged)
    if not (relaxed and run.has_relaxed):
        return judged.records()[:limit], earlier
    final = [
        StructureRecord(candidate.raw.name, candidate.final_structure)
        for candidate in judged
        if candidate.raw.error is None
    ]
    return final[:limit], EarlierRun(verified=earlier.verified)


def _say_what_is_not_read(source: Path, out: Path | None) -> None:
    """Print one line that counts the files of a folder that hold no structures, by ending."""
    unread = count_unread(source, without=out) if source.is_dir() else {}
    if unread:
        counts = ", ".join(f"{count} {ending}" for ending, count in unread.most_common())
        ProgressBar.write(
            f"not read in {source}: {counts}; tables, JSON and zip files are read one by one",
            file=sys.stderr,
        )


def hits_to_expect(generator: Generator | Substitution) -> list[str]:
    """How many samples can be expected to meet each target, a line each.

    Raises:
        ValueError: If the table of a model is damaged.
    """
    if not generator.asked or isinstance(generator, Substitution):
        return []
    table = HitTable.load(generator.folder, weights_hash(generator.folder))
    expected = [table.expected(target) for target in generator.asked] if table else []
    lines = [expectation.text() for expectation in expected if expectation]
    if lines and generator.target.constraints.parts:
        lines.append(
            f"these rates are of samples without your constraints ({generator.target.constraints})"
        )
    return lines


def answers_in(*folders: Path) -> Sequence[Path]:
    """Files of answers of earlier runs."""
    return [folder.answers for folder in map(RunFolder, folders) if folder.answers.exists()]


def open_design(
    verb: str,
    pool: Pool,
    place: RunFolder | None,
    *,
    request: Request,
    sampler: SamplerOptions,
    judge: JudgeOptions,
    best: ShortlistOptions,
    machine: Machine,
    relaxing: Callable[[JudgeOptions], JudgeOptions],
    selective: bool = True,
    goal: Goal = "discover",
    **others: object,
) -> tuple[Generator | Substitution, JudgingRun, dict[str, object]]:
    """Open a generator and the run that judges its samples, with what a record says of both.

    Args:
        relaxing: Says how many crystals are relaxed, if nothing else is asked for.
        selective: Whether only crystals that can pass are relaxed.
        others: Further arguments of the command, for the record.

    Raises:
        ValueError: If an option does not make sense.
    """
    watch, device = Stopwatch(), pick_device(machine.device)
    with watch.stage("loading"):
        generator = open_generator(request, sampler, device)
    with watch.stage("reference"):
        who = Judge.of(
            relaxing(judge),
            best,
            targets=generator.asked,
            space_groups=generator.space_groups,
            goal=goal,
            device=str(device),
            selective=selective,
        )
    run = JudgingRun(judge=who, pool=pool, place=place, shortlist=best, watch=watch)
    arguments = arguments_of(request, sampler, judge, best, machine) | others
    return generator, run, {"verb": verb, "arguments": arguments} | generator.provenance()
