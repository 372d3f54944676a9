"""The command `generate`."""

import sys
from dataclasses import replace
from time import perf_counter
from typing import TYPE_CHECKING

from mattergen_lite.commands.generation import open_generation
from mattergen_lite.commands.workspace import OutFolder
from mattergen_lite.options.budget import Budget
from mattergen_lite.options.flat import arguments_of, flat
from mattergen_lite.options.judge import JudgeOptions, ShortlistOptions
from mattergen_lite.options.machine import Machine
from mattergen_lite.options.request import Request
from mattergen_lite.options.sampler import SamplerOptions

if TYPE_CHECKING:
    from mattergen_lite.runs.judgements import Judgements
    from mattergen_lite.sampling.generator import Generator
    from mattergen_lite.sampling.substitution import Substitution


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
    started = perf_counter()
    asked = {"request": request, "sampler": sampler, "judge": judge, "best": best}
    with open_generation(
        "generate",
        **asked,
        machine=machine,
        relaxing=budget.judged,
        selective=budget.num_candidates is not None,
        **arguments_of(budget, out=out, overwrite=overwrite),
    ) as (generator, run, provenance):
        from mattergen_lite.console import ProgressBar

        for line in filter(None, [*_hits_to_expect(generator), budget.warning(started)]):
            ProgressBar.write(line, file=sys.stderr)
        deadline = budget.deadline(started)
        batches = generator.records(budget.numbers, budget.num_sampled_together, seed=budget.seed)
        rounds = budget.rounds(batches, deadline)
        return replace(run, deadline=deadline).execute(rounds, provenance, budget)


def _hits_to_expect(generator: "Generator | Substitution") -> list[str]:
    """Lines on how many samples can be expected to meet each target, with the model's own rates."""
    from mattergen_lite.model import weights_hash
    from mattergen_lite.sampling.generator import Generator
    from mattergen_lite.scoring.metrics.expected_hits import HitTable

    if not generator.asked or not isinstance(generator, Generator):
        return []
    table = HitTable.load(generator.folder, weights_hash(generator.folder))
    expected = [table.expected(target) for target in generator.asked] if table else []
    lines = [expectation.text() for expectation in expected if expectation]
    if lines and generator.target.constraints.parts:
        lines.append(
            f"these rates are of samples without your constraints ({generator.target.constraints})"
        )
    return lines
