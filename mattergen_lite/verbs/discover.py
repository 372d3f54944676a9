"""The command `discover`."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mattergen_lite.folders import claimed
from mattergen_lite.options.checks import (
    Count,
    LearningRate,
    OptimizerSteps,
    Seed,
    ShareBelowOne,
)
from mattergen_lite.options.finetune import FinetuneOptions
from mattergen_lite.options.flat import arguments_of, flat
from mattergen_lite.options.judge import JudgeOptions
from mattergen_lite.options.machine import Machine
from mattergen_lite.options.request import Request
from mattergen_lite.options.sampler import SamplerOptions
from mattergen_lite.verbs.generate import generate
from mattergen_lite.verbs.workspace import check_judging, check_request

if TYPE_CHECKING:
    from mattergen_lite.workflows.discovery import Discovered


@flat
def discover(
    *,
    out: Path,
    rounds: Count = 5,
    patience: Count = 2,
    num_samples: Count = 64,
    request: Request,
    sampler: SamplerOptions,
    judge: JudgeOptions,
    finetune_steps: OptimizerSteps = 200,
    learning_rate: LearningRate = 1e-4,
    base_share: ShareBelowOne = 0.8,
    seed: Seed = 0,
    machine: Machine,
) -> "Discovered":
    """Generate, judge, learn from what passed, and again; the same command continues after a kill.

    Each round fine-tunes the checkpoint on all crystals that passed in earlier rounds, together
    with crystals of the embedded table, so that it does not forget them. Crystals of earlier
    rounds count as known. Writes `<out>/rounds/<number>` (generated/, as `generate` writes it;
    tuning/, as `finetune`; found.parquet), and rounds.csv, rounds.json and rounds.png.

    Args:
        out: Folder of the loop.
        rounds: Largest number of rounds.
        patience: Number of rounds without a higher pass rate after which to stop.
        num_samples: Crystals a round.
        request: What is asked of them.
        sampler: How they are made.
        judge: How they are judged; what passes is learnt from.
        finetune_steps: Optimiser steps before every round but the first.
        learning_rate: Highest learning rate.
        base_share: Share of each batch that comes from the embedded table.
        seed: Of samples and training.
        machine: Where it works.

    Raises:
        ValueError: If an argument does not make sense, or `out` holds a loop of other settings.
    """
    if request.probe:
        raise ValueError("probe: it reads one model and discover makes others: expected none")
    constraints = check_request(request, out)
    check_judging(
        judge,
        has_targets=bool(request.condition),
        has_symmetry=constraints.space_groups is not None,
    )
    from mattergen_lite.model import find_checkpoint
    from mattergen_lite.workflows.discovery import DiscoverOptions, Sampling, settings
    from mattergen_lite.workflows.discovery import discover as run

    def judged(sampling: Sampling) -> None:
        generate(
            out=sampling.out,
            num_samples=num_samples,
            first_sample=sampling.first_sample,
            seed=seed,
            request=replace(
                request,
                checkpoint=str(sampling.checkpoint),
                measured_by=request.measured_by or request.checkpoint,
            ),
            sampler=sampler,
            judge=replace(judge, reference=(*judge.reference, *sampling.found)),
            machine=machine,
        )

    learning = {"learning_rate": learning_rate, "base_share": base_share, "seed": seed}
    tuning = FinetuneOptions(
        steps=finetune_steps, batch_size=sampler.batch_size, device=machine.device, **learning
    )
    decisive = arguments_of(
        *(request, sampler, judge),
        **{"num_samples": num_samples, "finetune_steps": finetune_steps, **learning},
    )
    options = DiscoverOptions(
        rounds=rounds,
        patience=patience,
        num_samples=num_samples,
        settings=settings(decisive),
        tuning=tuning,
    )
    with claimed(out):
        return run(find_checkpoint(request.checkpoint), out, judged, options)
