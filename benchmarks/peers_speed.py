"""What one raw sample costs: our sampler beside networks of the sizes that peers publish.

    OMP_NUM_THREADS=1 python benchmarks/peers_speed.py

Ours is the whole sampler with the default options: choosing templates, solving, turning orbits into
atoms. Of a peer it is one call of its network at its own sampling batch, on cells as large as those
of MP-20's training split (10 atoms on average, at most 20), times its published number of calls;
the rest of its sampler is left out, in its favour. `peer_networks.py` says what the networks are.

On a CPU the seconds are CPU seconds of the process, in float32, which is the precision that our
sampler has there; on a GPU they are seconds of the clock, in bfloat16. "GFLOP" counts the matrix
products of a sample. Only ratios within one run mean anything: machines differ, and a busy one is
slower. FLOPs do not depend on the machine.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from measuring import Row, count_flops, device_facts, measured_peak, now, report
from peer_networks import PEERS
from torch import nn

from mattergen_lite.data.table import EMBEDDED, read_crystal_table
from mattergen_lite.model import pick_device
from mattergen_lite.options.request import DEFAULT_CHECKPOINT, Request
from mattergen_lite.options.sampler import SamplerOptions
from mattergen_lite.sampling.generator import Generator, open_generator

MAX_ATOMS = 20  # of MP-20
COUNTED = 16  # samples of ours whose FLOPs are counted


def seconds_of(work: Callable[[], object], device: torch.device) -> float:
    """CPU seconds of this process, or seconds of the clock where a GPU works."""
    clock = time.process_time if device.type == "cpu" else lambda: now(device)
    start = clock()
    work()
    return clock() - start


def mp_20_sizes(count: int, seed: int) -> list[int]:
    """Atoms per primitive cell of crystals drawn from MP-20's training split."""
    table = read_crystal_table(EMBEDDED, ["split", "num_atoms"]).to_pandas()
    known = table[(table.split == "train") & (table.num_atoms <= MAX_ATOMS)].num_atoms
    return known.sample(count, replace=True, random_state=seed).tolist()


@dataclass(frozen=True, kw_only=True)
class Cost:
    """One line of the table; seconds and FLOPs are of one sample."""

    name: str
    network: nn.Module
    calls: float
    batch: int
    atoms: float
    seconds: float
    flops: float

    def against(self, ours: "Cost", unit: str) -> Row:
        """The line as plain data, compared with ours."""
        parameters = sum(parameter.numel() for parameter in self.network.parameters())
        return {
            "network": self.name,
            "million parameters": parameters / 1e6,
            "calls": self.calls,
            "batch": self.batch,
            "atoms": self.atoms,
            "GFLOP": self.flops / 1e9,
            unit: self.seconds,
            "times the time": self.seconds / ours.seconds,
            "times the FLOPs": self.flops / ours.flops,
        }


def measure_ours(
    checkpoint: str, options: SamplerOptions, count: int, device: torch.device
) -> Cost:
    """Our whole sampler; loading the model and the table of templates is not charged."""
    generator = open_generator(Request(checkpoint=checkpoint), options, device)
    model = generator.model
    structures_called: list[int] = []
    hook = model.denoiser.register_forward_hook(
        lambda _, arguments, __: structures_called.append(len(arguments[0].noise_level))
    )
    counted = min(COUNTED, count)
    flops = count_flops(lambda: sampled(generator, range(count, count + counted)))
    hook.remove()
    samples: list = []
    seconds = seconds_of(lambda: samples.extend(sampled(generator, range(count))), device)
    return Cost(
        name="ours",
        network=model,
        calls=sum(structures_called) / counted,
        batch=options.batch_size,
        atoms=sum(len(sample.structure) for sample in samples) / count,
        seconds=seconds / count,
        flops=flops / counted,
    )


def sampled(generator: Generator, numbers: range) -> list:
    """Samples of these numbers."""
    return [record for part in generator.records(numbers, len(numbers), seed=0) for record in part]


@torch.inference_mode()
def measure_peer(
    kind: type[nn.Module], sizes: Sequence[int], repeats: int, device: torch.device
) -> Cost:
    """One call of a peer's network, times the number of its calls."""
    network = kind().to(device).eval()
    inputs = kind.noise(sizes, device)

    def call() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            network(*inputs)

    flops = count_flops(call)  # which is the warm-up, too
    fastest = min(seconds_of(call, device) for _ in range(repeats))
    return Cost(
        name=kind.__name__,
        network=network,
        calls=kind.calls,
        batch=len(sizes),
        atoms=sum(sizes) / len(sizes),
        seconds=fastest * kind.calls / len(sizes),
        flops=flops * kind.calls / len(sizes),
    )


def markdown(rows: Sequence[Row], unit: str) -> str:
    """The table as people read it."""
    lines = [
        f"| | parameters, millions | network calls | GFLOP a sample | {unit} | against ours |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = (
            f"{row['million parameters']:.1f}",
            f"{row['calls']:,.0f}",
            f"{row['GFLOP']:,.1f}",
            f"{row[unit]:.3g}",
            f"{row['times the time']:,.0f} x",
        )
        lines.append(f"| {row['network']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", default=DEFAULT_CHECKPOINT, help="name or folder")
    parser.add_argument("--steps", type=int, default=SamplerOptions().steps, help="of ours")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--num-samples", type=int, default=256, help="of ours")
    parser.add_argument("--batch-size", type=int, help="of the peers; default: their own")
    parser.add_argument("--repeats", type=int, default=2, help="calls, of which the fastest counts")
    parser.add_argument("--quick", action="store_true", help="to try it out: few and small calls")
    parser.add_argument("--json", type=Path, help="also write the JSON line into this file")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    asked = parse(arguments)
    device = pick_device(asked.device)
    count, batch, repeats = asked.num_samples, asked.batch_size, asked.repeats
    if asked.quick:
        count, batch, repeats = 2, 2, 1
    options = SamplerOptions(steps=asked.steps)
    costs = [measure_ours(asked.checkpoint, options, count, device)]
    for kind in PEERS:
        sizes = mp_20_sizes(batch or kind.batch_size, seed=0)
        costs.append(measure_peer(kind, sizes, repeats, device))
    unit = "core s a sample" if device.type == "cpu" else "GPU s a sample"
    rows = [cost.against(costs[0], unit) for cost in costs]
    print(f"{markdown(rows, unit)}\n")
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    facts = device_facts(device, dtype, measured_peak(device, dtype, 64 if asked.quick else None))
    report(rows, {"benchmark": "peers", **facts}, asked.json)


if __name__ == "__main__":
    main()
