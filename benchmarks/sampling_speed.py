"""Sampling speed: structures per second for both solvers, several step counts and batch sizes.

    python benchmarks/sampling_speed.py --checkpoint mp_20 --steps 20 50 --batch-sizes 1 16 64

"calls" are network calls a structure goes through; "GFLOP" is per structure, in the network; "of
peak" is what the whole run reaches of a large matrix product's FLOP/s; "in network" is the share of
the run that its network calls take when repeated alone.

"vs 1000 PC" compares with 1,000 steps of a predictor-corrector sampler, the schedule of MatterGen
and DiffCSP (two calls a step), on this same network: 2,000 times the measured seconds of a call,
everything else such a sampler does left out, over the seconds of this run.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import torch
from measuring import count_flops, device_facts, measured_peak, median_seconds, now, report
from torch import nn

from mattergen_lite.model import CrystalDiffusion, find_checkpoint, pick_device
from mattergen_lite.sampling import SamplerOptions, Target, sample
from mattergen_lite.verbs import DEFAULT_CHECKPOINT

PREDICTOR_CORRECTOR_CALLS = 2 * 1000
Shape = tuple[int, int]  # crystals, atom slots


@dataclass
class CallLog:
    """Counts a network's calls by batch shape and keeps one example of each."""

    counts: dict[Shape, int] = field(default_factory=dict)
    examples: dict[Shape, Mapping[str, object]] = field(default_factory=dict)

    def __call__(self, network: nn.Module, args: tuple, kwargs: Mapping[str, object]) -> None:
        """Note a call: the signature of a forward pre-hook."""
        shape = tuple(kwargs["mask"].shape)
        self.counts[shape] = self.counts.get(shape, 0) + 1
        self.examples[shape] = kwargs

    def structure_calls(self) -> int:
        """Network calls summed over structures."""
        return sum(shape[0] * count for shape, count in self.counts.items())


@dataclass(frozen=True)
class Run:
    """One timed call of `sample`."""

    options: SamplerOptions
    num_structures: int
    seconds: float
    calls: CallLog


@torch.inference_mode()
def run_sampler(model: CrystalDiffusion, options: SamplerOptions, num_samples: int) -> Run:
    device, log = device_of(model), CallLog()
    hook = model.denoiser.register_forward_pre_hook(log, with_kwargs=True)
    start = now(device)
    crystals = sample(model, range(num_samples), seed=0, options=options, target=Target())
    seconds = now(device) - start
    hook.remove()
    return Run(options, len(crystals), seconds, log)


@torch.inference_mode()
def network_cost(model: CrystalDiffusion, log: CallLog, repeats: int) -> tuple[float, int]:
    """Seconds and FLOPs of the logged network calls: each shape repeated alone, times its count."""
    seconds, flops = 0.0, 0
    for shape, count in log.counts.items():

        def call(inputs: Mapping[str, object] = log.examples[shape]) -> object:
            return model.denoiser(**inputs)

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
    peak = measured_peak(device, torch.float32, choice.peak_size)
    run_sampler(model, SamplerOptions(steps=2), max(choice.batch_sizes))  # warm up
    rows = []
    for solver, steps, batch in product(choice.solvers, choice.steps, choice.batch_sizes):
        options = SamplerOptions(solver=solver, steps=steps, batch_size=batch)
        rows.append(measure(model, options, choice.num_samples or batch, choice.repeats, peak))
    report(
        rows, {"benchmark": "sampling", **device_facts(device, torch.float32, peak)}, choice.json
    )


if __name__ == "__main__":
    main()
