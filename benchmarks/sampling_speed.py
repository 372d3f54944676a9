"""Sampling speed: structures per second for both solvers, several step counts and batch sizes.

    python benchmarks/sampling_speed.py --checkpoint mp --steps 20 50 --batch-sizes 1 16 64

"calls" are network calls a structure goes through; "GFLOP" is per structure, in the network; "of
peak" is what the whole run reaches of a large matrix product's FLOP/s; "in network" is the share of
the run that its network calls take when repeated alone.

"vs 1000 PC" compares with 1,000 steps of a predictor-corrector sampler, the schedule of MatterGen
and DiffCSP (two calls a step), on this same network: 2,000 times the measured seconds of a call,
everything else such a sampler does left out, over the seconds of this run.
"""

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from pathlib import Path
from unittest.mock import patch

import torch
from measuring import (
    count_flops,
    device_facts,
    measured_peak,
    median_seconds,
    network_dtype,
    now,
    report,
)

from mattergen_lite.hub import find_checkpoint
from mattergen_lite.model import CrystalDiffusion, pick_device
from mattergen_lite.options.request import DEFAULT_CHECKPOINT
from mattergen_lite.options.sampler import SamplerOptions
from mattergen_lite.sampling.sampler import Target, sample
from mattergen_lite.tensors.crystal import Prediction

PREDICTOR_CORRECTOR_CALLS = 2 * 1000
Shape = tuple[int, int]  # crystals, orbit slots


@dataclass(frozen=True)
class CallLog:
    """Counts network calls by batch shape and keeps the arguments of one of each."""

    counts: dict[Shape, int] = field(default_factory=dict)
    examples: dict[Shape, tuple] = field(default_factory=dict)

    def add(self, *arguments: object) -> None:
        """Note a call with these arguments."""
        noisy = arguments[0]
        shape = tuple(noisy.free_coords.shape[:2])
        self.counts[shape] = self.counts.get(shape, 0) + 1
        self.examples[shape] = arguments

    def structure_calls(self) -> int:
        """Network calls summed over structures."""
        return sum(crystals * count for (crystals, _), count in self.counts.items())


@contextmanager
def logged_calls(model: CrystalDiffusion) -> Iterator[CallLog]:
    """Log what the model is asked to predict."""
    log, predict = CallLog(), model.predict_each

    def predict_and_log(*arguments: object) -> list[Prediction]:
        log.add(*arguments)
        return predict(*arguments)

    with patch.object(model, "predict_each", predict_and_log):
        yield log


@dataclass(frozen=True)
class Run:
    """One timed call of `sample`."""

    options: SamplerOptions
    num_structures: int
    seconds: float
    calls: CallLog


def run_sampler(model: CrystalDiffusion, options: SamplerOptions, num_samples: int) -> Run:
    device = device_of(model)
    with logged_calls(model) as log:
        start = now(device)
        samples = sample(model, range(num_samples), seed=0, options=options, target=Target())
        seconds = now(device) - start
    return Run(options, len(samples), seconds, log)


@torch.inference_mode()
def network_cost(model: CrystalDiffusion, log: CallLog, repeats: int) -> tuple[float, int]:
    """Seconds and FLOPs of the logged network calls: each shape repeated alone, times its count."""
    seconds, flops = 0.0, 0
    for shape, count in log.counts.items():
        call = partial(model.predict_each, *log.examples[shape])
        seconds += count * median_seconds(call, device_of(model), repeats)
        flops += count * count_flops(call)
    return seconds, flops


def device_of(model: CrystalDiffusion) -> torch.device:
    return next(model.parameters()).device


def measure(
    model: CrystalDiffusion, options: SamplerOptions, num_samples: int, repeats: int, peak: float
) -> dict[str, str | int | float]:
    """One row of the table."""
    run = run_sampler(model, options, num_samples)
    network_seconds, flops = network_cost(model, run.calls, repeats)
    calls = run.calls.structure_calls() / run.num_structures
    return {
        "solver": options.solver,
        "steps": options.steps,
        "batch": options.batch_size,
        "structures": run.num_structures,
        "seconds": run.seconds,
        "structures/s": run.num_structures / run.seconds,
        "calls": calls,
        "GFLOP": flops / run.num_structures / 1e9,
        "GFLOP/s": flops / run.seconds / 1e9,
        "of peak": flops / run.seconds / peak,
        "in network": network_seconds / run.seconds,
        "vs 1000 PC": network_seconds / calls * PREDICTOR_CORRECTOR_CALLS / run.seconds,
    }


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", default=DEFAULT_CHECKPOINT, help="name or folder")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, help="CPU threads; default: torch's choice")
    parser.add_argument("--solvers", nargs="+", default=["multistep", "heun"])
    parser.add_argument("--steps", type=int, nargs="+", default=[20, 50])
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--num-samples", type=int, help="structures a run; default: one batch")
    parser.add_argument("--repeats", type=int, default=5, help="of each network call timed alone")
    parser.add_argument("--peak-size", type=int, help="rows of the matrix that sets the peak")
    parser.add_argument("--json", type=Path, help="also write the JSON line into this file")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    choice = parse(arguments)
    if choice.threads:
        torch.set_num_threads(choice.threads)
    device = pick_device(choice.device)
    model = CrystalDiffusion.load(find_checkpoint(choice.checkpoint), device)
    dtype = network_dtype(model)
    peak = measured_peak(device, dtype, choice.peak_size)
    run_sampler(model, SamplerOptions(steps=2), max(choice.batch_sizes))  # warm up
    rows = []
    for solver, steps, batch in product(choice.solvers, choice.steps, choice.batch_sizes):
        options = SamplerOptions(solver=solver, steps=steps, batch_size=batch)
        rows.append(measure(model, options, choice.num_samples or batch, choice.repeats, peak))
    report(rows, {"benchmark": "sampling", **device_facts(device, dtype, peak)}, choice.json)


if __name__ == "__main__":
    main()
