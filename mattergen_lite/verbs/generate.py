"""The command `generate`."""

from pathlib import Path
from typing import TYPE_CHECKING

from mattergen_lite.options.budget import Budget
from mattergen_lite.options.checks import Workers
from mattergen_lite.options.flat import arguments_of, flat
from mattergen_lite.options.judge import JudgeOptions, ScreenOptions, ShortlistOptions
from mattergen_lite.options.request import Request
from mattergen_lite.options.sampler import SamplerOptions
from mattergen_lite.verbs.workspace import judging_in

if TYPE_CHECKING:
    from mattergen_lite.runs.results import Judged


@flat
def generate(
    *,
    out: Path,
    budget: Budget,
    request: Request,
    sampler: SamplerOptions,
    judge: JudgeOptions,
    screen: ScreenOptions,
    best: ShortlistOptions,
    device: str = "auto",
    num_workers: Workers | None = None,
    overwrite: bool = False,
) -> "Judged":
    """Generate crystals and judge each of them.

    Writes candidates.csv (and .parquet; one row a sample, best first), cifs/ and relaxed/
    (symmetrised), structures.extxyz and relaxed.extxyz, summary.json (shares and their protocol)
    and run.json, which has all it takes to make any one sample again. An interrupted run is
    continued by the same command.

    Args:
        out: Folder for the results.
        budget: How many samples.
        request: What is asked of them.
        sampler: How they are made.
        judge: How they are judged.
        screen: Which of them are relaxed.
        best: What is done for the best.
        device: cpu, cuda, cuda:1, or auto.
        num_workers: Processes that judge; default one a core, 0 judges in this process.
        overwrite: Replace an earlier run in the same folder.

    Raises:
        ValueError: If an argument does not make sense; nothing is written then.
    """
    with judging_in(out, num_workers) as pool:
        from mattergen_lite.model import pick_device
        from mattergen_lite.runs.results import Stopwatch, check_folder, judge_and_write
        from mattergen_lite.sampling.generator import open_generator
        from mattergen_lite.verbs.judging import judging

        check_folder(out, overwrite)
        watch = Stopwatch()
        with watch.stage("loading"):
            generator = open_generator(request, sampler, pick_device(device))
        options = judging(
            judge,
            screen,
            best,
            targets=generator.asked,
            device=str(pick_device(device)),
            until=budget.wanted,
            time_budget=budget.time_budget,
            screened=judge.relax and budget.num_candidates is not None,
        )
        batches = generator.records(budget.numbers, budget.at_once, seed=budget.seed)
        arguments = arguments_of(
            *(budget, request, sampler, judge, screen, best),
            **{"out": out, "device": device, "num_workers": num_workers, "overwrite": overwrite},
        )
        provenance = {"verb": "generate", "arguments": arguments} | generator.provenance()
        return judge_and_write(batches, out / "candidates.csv", watch, provenance, options, pool)
