"""The command `generate`."""

import sys
from time import perf_counter
from typing import TYPE_CHECKING

from mattergen_lite.options.budget import Budget
from mattergen_lite.options.flat import arguments_of, flat
from mattergen_lite.options.judge import JudgeOptions, ShortlistOptions
from mattergen_lite.options.machine import Machine
from mattergen_lite.options.request import Request
from mattergen_lite.options.sampler import SamplerOptions
from mattergen_lite.verbs.workspace import (
    OutFolder,
    check_design,
    judging_in,
)

if TYPE_CHECKING:
    from mattergen_lite.runs.judgements import Judgements


@flat
def generate(
    *,
    out: OutFolder = None,
    budget: Budget,
    request: Request,
    sampler: SamplerOptions,
    judge: JudgeOptions,
    best: ShortlistOptions,
    machine: Machine,
    overwrite: bool = False,
) -> "Judgements":
    """Generate crystals and judge each of them.

    Writes candidates.csv (and .parquet; one row a sample, best first), report.html (the same in
    any browser), figures/, cifs/ and relaxed/ (symmetrised), structures.extxyz and relaxed.extxyz,
    summary.json (shares and their protocol) and run.json (all that is needed to repeat any sample).
    The same command continues an interrupted run.

    Args:
        out: Folder for the results. In Python, None writes nothing.
        budget: How many samples.
        request: What is asked of them.
        sampler: How they are made.
        judge: How they are judged.
        best: What is done for the best.
        machine: Where it works.
        overwrite: Replace an earlier run in the same folder.

    Raises:
        ValueError: If an argument does not make sense; nothing is written then.
    """
    check_design(request, judge, best, out=out)
    started = perf_counter()
    with judging_in(out, machine.num_workers, overwrite=overwrite) as (pool, place):
        from mattergen_lite.model import pick_device
        from mattergen_lite.progress import ProgressBar
        from mattergen_lite.runs.judging import JudgingRun
        from mattergen_lite.sampling.generator import open_generator
        from mattergen_lite.scoring.execution.stopwatch import Stopwatch
        from mattergen_lite.scoring.judge import Judge
        from mattergen_lite.verbs.judging import hits_to_expect

        watch, chosen = Stopwatch(), pick_device(machine.device)
        with watch.stage("loading"):
            generator = open_generator(request, sampler, chosen)
        for line in hits_to_expect(generator):
            ProgressBar.write(line, file=sys.stderr)
        with watch.stage("reference"):
            who = Judge.of(
                budget.judged(judge),
                best,
                targets=generator.asked,
                space_groups=generator.space_groups,
                device=str(chosen),
                selective=budget.num_candidates is not None,
            )
        deadline = budget.deadline(started)
        arguments = arguments_of(
            *(budget, request, sampler, judge, best, machine), out=out, overwrite=overwrite
        )
        run = JudgingRun(
            judge=who, pool=pool, place=place, shortlist=best, watch=watch, deadline=deadline
        )
        batches = generator.records(budget.numbers, budget.num_sampled_together, seed=budget.seed)
        return run.of(
            budget.rounds(batches, deadline),
            {"verb": "generate", "arguments": arguments} | generator.provenance(),
            budget,
        )
