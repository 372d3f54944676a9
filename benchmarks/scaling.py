"""Worksheet: training rate on many devices, from the measured rate of one and the links between.

    python benchmarks/training_speed.py                     # prints samples/s of one device
    python benchmarks/scaling.py --checkpoint mp --rate 20000 --batch-size 1024 \
        --devices-per-node 8 --node-bandwidth 400 --network-bandwidth 50

Data-parallel steps: every device computes a batch of its own, then gradients (4 bytes a parameter)
are summed over all devices by a ring, which moves 2 (n - 1) / n times their bytes through the
slowest link in 2 (n - 1) messages (Patarasu and Yuan 2009, J. Parallel Distrib. Comput. 69, 117).
Of that `--overlap` times the backward pass, two thirds of a step, is hidden behind it. Bandwidths
are those of one device in GB/s, latencies in microseconds. Stragglers, input and checkpoints are
not in it: what comes out is the best that can be hoped for.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

from mattergen_lite.model import CrystalDiffusion, find_checkpoint

BYTES_PER_GRADIENT = 4
BACKWARD_SHARE = 2 / 3  # of a step: twice the work of the forward pass


@dataclass(frozen=True)
class Link:
    """What connects a device to the next one of the ring."""

    bandwidth: float  # bytes/s
    latency: float  # s


@dataclass(frozen=True)
class Forecast:
    """One line of the worksheet."""

    devices: int
    step_seconds: float
    all_reduce_seconds: float
    samples_per_second: float
    efficiency: float  # against as many devices that need not talk


def all_reduce_seconds(num_bytes: float, devices: int, link: Link) -> float:
    """Time of a ring all-reduce."""
    hops = 2 * (devices - 1)
    return hops / devices * num_bytes / link.bandwidth + hops * link.latency


def forecast(
    rate: float, batch_size: int, num_bytes: float, devices: int, link: Link, overlap: float
) -> Forecast:
    """Training on so many devices.

    Args:
        rate: Samples/s of one device.
        batch_size: Of one device.
        num_bytes: Of the gradients.
        devices: How many.
        link: The slowest of the ring.
        overlap: Share of the backward pass behind which communication can hide.
    """
    alone = batch_size / rate
    talking = all_reduce_seconds(num_bytes, devices, link)
    step = alone + max(0.0, talking - overlap * BACKWARD_SHARE * alone)
    return Forecast(devices, step, talking, devices * batch_size / step, alone / step)


def num_gradients(checkpoint: str) -> int:
    """Parameters of a model, every one of which has a gradient."""
    model = CrystalDiffusion.load(find_checkpoint(checkpoint))
    return sum(parameter.numel() for parameter in model.parameters())


def main(arguments: Sequence[str] | None = None) -> list[Forecast]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", default="mp")
    parser.add_argument("--rate", type=float, required=True, help="samples/s of one device")
    parser.add_argument("--batch-size", type=int, required=True, help="of one device")
    parser.add_argument("--devices", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32, 64, 128])
    parser.add_argument("--devices-per-node", type=int, default=8)
    parser.add_argument("--node-bandwidth", type=float, default=400, help="GB/s inside a node")
    parser.add_argument("--network-bandwidth", type=float, default=50, help="GB/s between nodes")
    parser.add_argument("--node-latency", type=float, default=5, help="µs a message")
    parser.add_argument("--network-latency", type=float, default=15, help="µs a message")
    parser.add_argument("--overlap", type=float, default=0.5)
    asked = parser.parse_args(arguments)
    inside = Link(asked.node_bandwidth * 1e9, asked.node_latency * 1e-6)
    between = Link(asked.network_bandwidth * 1e9, asked.network_latency * 1e-6)
    num_bytes = BYTES_PER_GRADIENT * num_gradients(asked.checkpoint)
    rows = [
        forecast(
            asked.rate,
            asked.batch_size,
            num_bytes,
            devices,
            inside if devices <= asked.devices_per_node else between,
            asked.overlap,
        )
        for devices in asked.devices
    ]
    print(f"{num_bytes / 1e6:.1f} MB of gradients a step")
    print("| devices | step, ms | all-reduce, ms | samples/s | efficiency |\n|---|---|---|---|---|")
    for row in rows:
        print(
            f"| {row.devices} | {1e3 * row.step_seconds:.2f} | {1e3 * row.all_reduce_seconds:.2f} "
            f"| {row.samples_per_second:,.0f} | {row.efficiency:.1%} |"
        )
    return rows


if __name__ == "__main__":
    main()
