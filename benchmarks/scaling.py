"""Training and campaigns on many devices, calculated from the measured rates of a core and a GPU.

    python benchmarks/scaling.py

All inputs are in `rates.yaml`: what was measured, by which program of this folder, and what is
assumed of the machines and of the links between them. Nothing else is known to this program.

Training is data-parallel: every device computes a batch of its own, then gradients (4 bytes a
parameter) are summed over all devices by a ring, which moves 2 (n - 1) / n times their bytes
through the slowest link in 2 (n - 1) messages (Patarasu and Yuan 2009, J. Parallel Distrib.
Comput. 69, 117). Of that a share of the backward pass, two thirds of a step, is hidden behind it.
Workers of a campaign share nothing but the file system; each does one thing after the other, so
that a GPU samples and then waits while the cores beside it judge and relax. Stragglers, failures,
queues and preparing input are not in it: what comes out is the best that can be hoped for.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from measuring import Row
from pydantic import TypeAdapter

from mattergen_lite.config import read_yaml

RATES = Path(__file__).parent / "rates.yaml"
BYTES_PER_GRADIENT = 4
BACKWARD_SHARE = 2 / 3  # of a step: twice the work of the forward pass
GPUS = (1, 8, 64)
CORES = (1, 64, 1024)
CANDIDATES = (1_000_000, 32_000_000)
LONG_TRAINING = 100e6  # crystals


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Rates of one core and of one GPU; units are in `rates.yaml`."""

    training_rate: float
    gpu_training_rate: float
    gpu_batch: int
    trained_crystals: float
    parameters: float
    sampling_seconds: float
    gpu_sampling_seconds: float
    judging_seconds: float
    screening_seconds: float
    relaxing_seconds: float
    relaxed_share: float
    unit_overhead: float
    stored_bytes: float
    memory_mib: float

    @property
    def seconds_after_sampling(self) -> float:
        """Core seconds a candidate for all but making it."""
        relaxing = self.relaxed_share * self.relaxing_seconds
        return self.judging_seconds + self.screening_seconds + relaxing


@dataclass(frozen=True, kw_only=True)
class Assumed:
    """Machines, links and sizes; units are in `rates.yaml`."""

    gpu_cores: int
    unit_size: int
    gpus_per_node: int
    node_bandwidth: float
    network_bandwidth: float
    node_latency: float
    network_latency: float
    overlap: float

    def link(self, gpus: int) -> "Link":
        """The slowest link between so many GPUs."""
        if gpus <= self.gpus_per_node:
            return Link(self.node_bandwidth, self.node_latency)
        return Link(self.network_bandwidth, self.network_latency)


@dataclass(frozen=True, kw_only=True)
class Rates:
    """Everything that is calculated with."""

    measured: Measured
    assumed: Assumed

    @classmethod
    def read(cls, path: Path) -> "Rates":
        """Read a file such as `rates.yaml`.

        Raises:
            ValueError: If something is missing or no number.
        """
        return TypeAdapter(cls).validate_python(read_yaml(path))


@dataclass(frozen=True)
class Link:
    """What connects a device to the next one of the ring."""

    bandwidth: float  # bytes/s
    latency: float  # s


@dataclass(frozen=True)
class Forecast:
    """Training on so many devices."""

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


def training_rows(rates: Rates) -> Iterator[Row]:
    """One core, and so many GPUs."""
    measured, assumed = rates.measured, rates.assumed

    def hours(rate: float) -> Row:
        return {
            "crystals/s": rate,
            "hours, shipped model": measured.trained_crystals / rate / 3600,
            "hours, 100 million crystals": LONG_TRAINING / rate / 3600,
        }

    yield {"devices": "1 core", "efficiency, %": 100.0, **hours(measured.training_rate)}
    for gpus in GPUS:
        predicted = forecast(
            measured.gpu_training_rate,
            measured.gpu_batch,
            BYTES_PER_GRADIENT * measured.parameters,
            gpus,
            assumed.link(gpus),
            assumed.overlap,
        )
        name = f"{gpus} GPU{'s' * (gpus > 1)}"
        yield {
            "devices": name,
            "efficiency, %": 100 * predicted.efficiency,
            **hours(predicted.samples_per_second),
        }


def campaign_rows(rates: Rates) -> Iterator[Row]:
    """So many candidates on cores alone, and on GPUs with cores beside them."""
    measured, assumed = rates.measured, rates.assumed
    overhead = measured.unit_overhead / assumed.unit_size
    of_core = measured.sampling_seconds + measured.seconds_after_sampling + overhead
    sampling = measured.gpu_sampling_seconds
    of_gpu = sampling + overhead + measured.seconds_after_sampling / assumed.gpu_cores
    for number in CANDIDATES:
        for workers in CORES:
            name = f"{workers:,} core{'s' * (workers > 1)}"
            yield _campaign(measured, number, name, of_core / workers, workers) | {"GPUs busy": "-"}
        for gpus in GPUS:
            name = f"{gpus} GPU{'s' * (gpus > 1)}, {gpus * assumed.gpu_cores:,} cores"
            row = _campaign(measured, number, name, of_gpu / gpus, gpus * assumed.gpu_cores)
            yield row | {"GPUs busy": f"{sampling / of_gpu:.1%}"}


def _campaign(measured: Measured, number: int, name: str, pace: float, cores: int) -> Row:
    """One campaign at so many seconds a candidate."""
    return {
        "candidates": number,
        "devices": name,
        "hours": number * pace / 3600,
        "core hours": number * pace * cores / 3600,
        "relaxed": round(number * measured.relaxed_share),
        "memory, GiB": cores * measured.memory_mib / 1024,
        "disk, GB": number * measured.stored_bytes / 1e9,
    }


def markdown(rows: Sequence[Row]) -> str:
    """Rows as a table of Markdown."""
    lines = [f"| {' | '.join(rows[0])} |", "|---" * len(rows[0]) + "|"]
    lines += [f"| {' | '.join(map(_cell, row.values()))} |" for row in rows]
    return "\n".join(lines)


def _cell(value: object) -> str:
    """Three significant digits, thousands apart."""
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if isinstance(value, int) or value >= 100 else f"{value:.3g}"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rates", type=Path, default=RATES, help="YAML such as rates.yaml")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args(arguments)
    rates = Rates.read(asked.rates)
    tables = [list(training_rows(rates)), list(campaign_rows(rates))]
    for rows in tables:
        print(f"{markdown(rows)}\n")
    line = json.dumps({**asdict(rates), "rows": [row for rows in tables for row in rows]})
    print(line)
    if asked.json is not None:
        asked.json.write_text(line + "\n")


if __name__ == "__main__":
    main()
