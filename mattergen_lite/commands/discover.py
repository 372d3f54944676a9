"""The command `discover`."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mattergen_lite.commands.generate import generate
from mattergen_lite.commands.generation import check_generation
from mattergen_lite.commands.workspace import cores
from mattergen_lite.files.folders import claimed
from mattergen_lite.options.checks import (
    Count,
    LearningRate,
    Length,
    Minutes,
    OptimizerSteps,
    Seed,
    ShareBelowOne,
)
from mattergen_lite.options.finetune import FinetuneOptions
from mattergen_lite.options.flat import arguments_of, flat
from mattergen_lite.options.judge import JudgeOptions, ShortlistOptions
from mattergen_lite.options.machine import Machine
from mattergen_lite.options.request import Request
from mattergen_lite.options.sampler import SamplerOptions
from mattergen_lite.options.verification import VerifyOptions

if TYPE_CHECKING:
    from mattergen_lite.workflows.discovery import Discovered
    from mattergen_lite.workflows.labelling import Labelling


@flat
def discover(
    *,
    out: Path,
    rounds: Count = 5,
    patience: Count = 2,
    num_samples: Count = 64,
    verify: Length = 0,
    verify_minutes: Minutes = 5.0,
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
        verify: Number of new crystals a round to verify by DFT (PBE, with GPAW), uncertain and
            promising ones. Their energies decide, and calibrate the judge of later rounds.
        verify_minutes: Estimated core minutes from which on a crystal is too dear to verify.
        finetune_steps: Optimiser steps before every round but the first.
        learning_rate: Highest learning rate.
        base_share: Share of each batch that comes from the embedded table.
        seed: Of samples and training.

    Raises:
        ValueError: If an argument does not make sense, or `out` holds a loop of other settings.
    """
    if request.probe:
        raise ValueError("probe: it reads one model and discover makes others: expected none")
    check_generation(request, judge, out=out)
    from mattergen_lite.hub import find_checkpoint
    from mattergen_lite.workflows.discovery import DiscoverOptions, Sampling, settings
    from mattergen_lite.workflows.discovery import discover as run

    measured_by = request.measured_by or request.checkpoint

    def judged(sampling: Sampling) -> None:
        known = (*judge.reference, *sampling.finds)
        calibration = sampling.calibration or judge.calibration
        generate(
            out=sampling.out,
            num_samples=num_samples,
            first_sample=sampling.first_sample,
            seed=seed,
            request=replace(request, checkpoint=str(sampling.checkpoint), measured_by=measured_by),
            sampler=sampler,
            judge=replace(judge, reference=known, calibration=calibration),
            machine=machine,
        )

    learning = {"learning_rate": learning_rate, "base_share": base_share, "seed": seed}
    tuning = FinetuneOptions(
        steps=finetune_steps, batch_size=sampler.batch_size, device=machine.device, **learning
    )
    decisive = {"num_samples": num_samples, "finetune_steps": finetune_steps, **learning}
    decisive |= {"verify": verify} if verify else {}  # settings of older loops have none
    options = DiscoverOptions(
        rounds=rounds,
        patience=patience,
        num_samples=num_samples,
        settings=settings(arguments_of(request, sampler, judge) | decisive),
        tuning=tuning,
        labelling=_labelling(judge, machine, verify, verify_minutes) if verify else None,
    )
    with claimed(out):
        return run(find_checkpoint(request.checkpoint), out, judged, options)


def _labelling(
    judge: JudgeOptions, machine: Machine, number: int, max_minutes: float
) -> "Labelling":
    ShortlistOptions(verify=number).check(judge)
    from mattergen_lite.dft.engines import find_engine
    from mattergen_lite.processes import Pool
    from mattergen_lite.runs.folder import RunFolder
    from mattergen_lite.runs.verifying import VerifyingRun
    from mattergen_lite.scoring.energy.potentials.acceptance_test import identified
    from mattergen_lite.scoring.energy.potentials.sources import potential_name, potential_source
    from mattergen_lite.workflows.labelling import Label, Labelling, find_calibrations, label_run

    options = VerifyOptions(top=number, max_minutes=max_minutes)

    def label(folder: RunFolder, path: Path) -> list[Label]:
        with Pool(cores(machine.num_workers)) as pool:
            return label_run(folder, VerifyingRun(options=options, pool=pool), path)

    find_engine(options.engine).check_installed()
    potential = potential_name(identified(potential_source(judge.potential)))
    known = find_calibrations(potential, judge.calibration)
    return Labelling(label=label, potential=potential, known=known)
