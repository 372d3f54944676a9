"""Campaigns: throughput by number of workers, overhead of a unit, memory, and what millions cost.

python benchmarks/campaign_scaling.py [--workers 1 2] [--units 8] [--unit-size 16] [--relax]

Every row is a campaign of its own, worked on by workers of one core on this machine. The first unit
of every worker loads the model and is left out. Overhead is the time of a worker between two units
and in a unit outside its stages: handing out, taking note, writing. Memory is that of the worker's
own process after its first and after its last unit.

python benchmarks/campaign_scaling.py --worksheet --gpus 1 8 64 --sample-rate 20 --relax-rate 2 \\
    --pass-rate 0.3 --cheap-rate 8 --cores-per-gpu 8 --bytes-per-crystal 3000 --unit-size 1024

The worksheet is arithmetic on rates that you measured: nothing in it is known to this program.
"""

import argparse
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from measuring import Row, report

from mattergen_lite.campaign.parts import Receipt, part_paths, receipts
from mattergen_lite.campaign.plan import Plan
from mattergen_lite.campaign.run import run
from mattergen_lite.campaign.workers import connection
from mattergen_lite.config import CampaignConfig
from mattergen_lite.runs.folder import environment

CANDIDATES = (1_000_000, 32_000_000)
STAGES_NOT_WORK = ("loading",)


def measure(arguments: argparse.Namespace, num_workers: int) -> Row:
    """One campaign with so many workers."""
    with tempfile.TemporaryDirectory() as folder:
        config = CampaignConfig.parse(
            {
                "run_dir": folder,
                "num_samples": arguments.units * arguments.unit_size,
                "unit_size": arguments.unit_size,
                "generate": {"checkpoint": arguments.checkpoint, "steps": arguments.steps},
                "judge": {"relax": arguments.relax},
                "workers": {"count": num_workers, "device": "cpu"},
            }
        )
        run(Plan.of(config), connection(config.workers, config.run_dir))
        stored = list(receipts(Path(folder)))
        size = sum(path.stat().st_size for path in part_paths(Path(folder)))
    return {"workers": num_workers, **figures(stored), "bytes_per_crystal": size / total(stored)}


def total(stored: Sequence[Receipt]) -> int:
    return sum(one.num_sampled for one in stored)


def figures(stored: Sequence[Receipt]) -> Row:
    """What finished units say of rates, overhead and memory."""
    by_worker: dict[str, list[Receipt]] = defaultdict(list)
    for one in sorted(stored, key=lambda one: one.finished):
        by_worker[one.worker].append(one)
    warm = [one for units in by_worker.values() for one in units[1:]]
    if not warm:
        raise ValueError("no worker finished two units: expected more --units")
    spans = [units[-1].finished - units[0].finished for units in by_worker.values()]
    inside = sum(seconds_of_stages(one) for one in warm)
    first = [units[0].peak_memory for units in by_worker.values()]
    last = [units[-1].peak_memory for units in by_worker.values()]
    return {
        "crystals_per_hour": 3600
        * sum(
            total(units[1:]) / span
            for units, span in zip(by_worker.values(), spans, strict=True)
            if len(units) > 1
        ),
        "unit_seconds": inside / len(warm),
        "overhead_seconds_per_unit": (sum(spans) - inside) / len(warm),
        "memory_first_unit_mib": max(first) / 2**20,
        "memory_last_unit_mib": max(last) / 2**20,
        "units": len(stored),
    }


def seconds_of_stages(one: Receipt) -> float:
    return sum(spent for name, spent in one.seconds.items() if name not in STAGES_NOT_WORK)


def worksheet(arguments: argparse.Namespace) -> list[Row]:
    """Hours of N GPUs for many candidates, from given rates.

    Every candidate is sampled on a GPU and judged on the cores beside it; the share that passes is
    relaxed on the GPU. A worker does one thing after the other, so the GPU waits while the cores
    judge. GPUs share nothing but the file system, so N of them are taken as N times as fast.
    """
    on_gpu = 1 / arguments.sample_rate + arguments.pass_rate / arguments.relax_rate
    on_cores = 1 / (arguments.cheap_rate * arguments.cores_per_gpu)
    pace = on_gpu + on_cores + arguments.overhead / arguments.unit_size
    return [
        {
            "candidates": number,
            "gpus": gpus,
            "hours": number * pace / gpus / 3600,
            "gpu_hours": number * pace / 3600,
            "gpu_busy": on_gpu / pace,
            "relaxed": round(number * arguments.pass_rate),
            "units": -(-number // arguments.unit_size),
            "storage_gb": number * arguments.bytes_per_crystal / 1e9,
        }
        for number in CANDIDATES
        for gpus in arguments.gpus
    ]


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--units", type=int, default=8)
    parser.add_argument("--unit-size", type=int, default=16)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--checkpoint", default="mp")
    parser.add_argument("--relax", action="store_true")
    parser.add_argument("--worksheet", action="store_true", help="arithmetic only")
    parser.add_argument("--gpus", type=int, nargs="+", default=[1, 8, 64])
    for name, meaning in {
        "sample-rate": "samples per second and GPU",
        "cheap-rate": "crystals per second and core through the cheap checks",
        "pass-rate": "share that passes the cheap checks",
        "relax-rate": "relaxations per second and GPU",
        "bytes-per-crystal": "stored, as measured",
    }.items():
        parser.add_argument(f"--{name}", type=float, help=meaning)
    parser.add_argument("--overhead", type=float, default=0.0, help="seconds a unit, as measured")
    parser.add_argument("--cores-per-gpu", type=int, default=8)
    parser.add_argument("--json", type=Path)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    asked = parse(arguments)
    if not asked.worksheet:
        rows = [measure(asked, number) for number in asked.workers]
        report(rows, {**environment(), "relax": asked.relax}, asked.json)
        return
    rates = ("sample_rate", "cheap_rate", "pass_rate", "relax_rate", "bytes_per_crystal")
    if missing := [name for name in rates if getattr(asked, name) is None]:
        raise SystemExit(f"the worksheet needs --{missing[0].replace('_', '-')}")
    report(worksheet(asked), {name: getattr(asked, name) for name in rates}, asked.json)


if __name__ == "__main__":
    main()
