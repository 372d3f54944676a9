"""Makes, judges and stores the crystals of one unit, whoever sent it.

The model, the known structures and the judging processes stay with the worker from unit to unit.
Results of the judge go to a cache of the unit: a unit whose worker died goes on where it was.
A crystal that crashes or hangs the judge costs its own row only: see `scoring.pool`.
"""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from threading import Timer

from mattergen_lite.campaign.parts import UnitRecord, commit, part_path, read_unit_record
from mattergen_lite.campaign.plan import Unit
from mattergen_lite.campaign.status import DEVICE_TRIES, UNFINISHED, counted_try
from mattergen_lite.config import CampaignConfig, GenerateConfig
from mattergen_lite.io.parallel import parse_documents
from mattergen_lite.io.records import StructureRecord
from mattergen_lite.model import pick_device
from mattergen_lite.options.judge import JudgeOptions
from mattergen_lite.processes import Pool, peak_memory
from mattergen_lite.request.constraints import parse_constraints
from mattergen_lite.runs.folder import environment
from mattergen_lite.sampling.generator import Generator, open_generator
from mattergen_lite.scoring.candidate import Candidate
from mattergen_lite.scoring.checking import check_judging
from mattergen_lite.scoring.execution.result_cache import ResultCache
from mattergen_lite.scoring.execution.stopwatch import Stopwatch
from mattergen_lite.scoring.judge import Judge
from mattergen_lite.scoring.metrics.funnel import funnel
from mattergen_lite.scoring.metrics.screening_loss import ScreeningTally

JUDGE = "mattergen_lite.scoring.judge"
HUNG_EXIT_CODE = 75


@dataclass(frozen=True, kw_only=True)
class WorkerState:
    """Model and judge that a worker keeps between units."""

    generator: Generator | None  # None where there is a source
    judge: Judge
    pool: Pool


def check_judge(config: CampaignConfig) -> None:
    """Refuse a way of judging that makes no sense here, before anything is done.

    Raises:
        ValueError: If it makes none, or something is not installed.
    """
    asked = None if config.source else config.generate
    check_judging(
        config.judge,
        has_targets=asked is not None and bool(asked.condition),
        has_symmetry=asked is not None and parse_constraints(asked).space_groups is not None,
    )


@lru_cache(maxsize=1)
def _workshop(
    generate: GenerateConfig | None, judge: JudgeOptions, cores: int, device: str
) -> WorkerState:
    """Load what a campaign needs; once a worker."""
    chosen = pick_device(device)
    generator = None if generate is None else open_generator(generate, generate, chosen)
    return WorkerState(
        generator=generator,
        judge=Judge.of(
            judge,
            targets=() if generator is None else generator.asked,
            space_groups=None if generator is None else generator.space_groups,
            device=str(chosen),
            selective=True,
        ),
        pool=Pool(cores, preload=JUDGE),
    )


def work(config: CampaignConfig, unit: Unit, device: str) -> UnitRecord:
    """Make, judge and store one unit, unless it is stored already.

    A unit whose processes died time and again is worked out on a CPU.

    Raises:
        OSError: If the result cannot be stored; nothing of it is then.
        ValueError: If the campaign cannot be worked on here.
    """
    path = part_path(config.run_dir, unit.key, unit.start)
    if path.exists():
        return read_unit_record(path)
    started, watch = time.time(), Stopwatch()
    with counted_try(config.run_dir, unit.key) as number:
        with watch.stage("loading"):
            asked = None if config.source else config.generate
            chosen = "cpu" if number > DEVICE_TRIES else device
            state = _workshop(asked, config.judge, config.workers.cores, chosen)
        with watch.stage("structures"):
            records = _records(state, config, unit)
        answers = config.run_dir / UNFINISHED / f"{unit.key}.jsonl"
        result_cache = ResultCache(state.pool, answers, progress=False)
        with _deadline(state, config.judge.time_limit * len(records)):
            candidates = state.judge.judge(records, result_cache, watch)
        unit_record = _receipt(unit, candidates, state, watch, started)
        commit(config.run_dir, unit, candidates, state.judge, unit_record)
        result_cache.forget()
    return unit_record


def _records(state: WorkerState, config: CampaignConfig, unit: Unit) -> list[StructureRecord]:
    """The crystals of a unit; the same ones, to the last bit, whenever it is asked for."""
    if state.generator is None:
        return parse_documents(unit.documents, state.pool)
    numbers = range(unit.start, unit.stop)
    return next(state.generator.records(numbers, len(numbers), seed=config.seed))


@contextmanager
def _deadline(state: WorkerState, seconds: float) -> Iterator[None]:
    """End this process when a GPU, on which nothing can be interrupted, hangs."""
    if state.judge.device == "cpu" or not state.judge.options.relax:
        yield
        return
    timer = Timer(seconds, partial(os._exit, HUNG_EXIT_CODE))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _receipt(
    unit: Unit,
    candidates: list[Candidate],
    state: WorkerState,
    watch: Stopwatch,
    started: float,
) -> UnitRecord:
    counts = funnel(candidates, state.judge.checks)
    quarantined: dict[str, int] = {}
    for reason in filter(None, map(_why_given_up, candidates)):
        quarantined[reason] = quarantined.get(reason, 0) + 1
    return UnitRecord(
        key=unit.key,
        start=unit.start,
        num_sampled=counts.num_sampled,
        left=counts.left,
        quarantined=quarantined,
        screened=ScreeningTally.of(candidates),
        seconds=dict(watch.seconds),
        started=started,
        finished=time.time(),
        worker=f"{socket.gethostname()}:{os.getpid()}",
        device=state.judge.device,
        peak_memory=peak_memory(),
        provenance={
            **environment(),
            **(state.generator.provenance() if state.generator else {}),
        },
    )


def _why_given_up(candidate: Candidate) -> str | None:
    """Why a crystal has no judgement, or no relaxed one; None if it has."""
    if candidate.raw.error is not None:
        return candidate.raw.error
    return candidate.stability.stability_error if candidate.stability else None
