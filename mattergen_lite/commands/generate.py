"""The command `generate`."""

import sys
from dataclasses import replace
from time import perf_counter
from typing import TYPE_CHECKING

from mattergen_lite.commands.workspace import OutFolder, check_design, judging_in
from mattergen_lite.options.budget import Budget
from mattergen_lite.options.flat import arguments_of, flat
from mattergen_lite.options.judge import JudgeOptions, ShortlistOptions
from mattergen_lite.options.machine import Machine
from mattergen_lite.options.request import Request
from mattergen_lite.options.sampler import SamplerOptions

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
        overwrite: Replace an earlier run in the same folder.

    Raises:
        ValueError: If an argument does not make sense; nothing is written then.
    """
    check_design(request, judge, best, out=out)
    started = perf_counter()
    with judging_in(out, machine.num_workers, overwrite=overwrite) as (pool, place):
        from mattergen_lite.commands.judging import hits_to_expect, open_design
        from mattergen_lite.console import ProgressBar

        asked = {"request": request, "sampler": sampler, "judge": judge, "best": best}
        generator, run, provenance = open_design(
            *("generate", pool, place),
            **asked,
            machine=machine,
            relaxing=budget.judged,
            selective=budget.num_candidates is not None,
            **arguments_of(budget, out=out, overwrite=overwrite),
        )
        for line in hits_to_expect(generator):
            ProgressBar.write(line, file=sys.stderr)
        deadline = budget.deadline(started)
        batches = generator.records(budget.numbers, budget.num_sampled_together, seed=budget.seed)
        rounds = budget.rounds(batches, deadline)
        return replace(run, deadline=deadline).of(rounds, provenance, budget)
