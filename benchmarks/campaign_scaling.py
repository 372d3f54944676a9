"""Campaigns: throughput by number of workers, overhead of a unit, and memory.

    python benchmarks/campaign_scaling.py --workers 1 2 --units 8 --unit-size 16 --relax --keep 0.2

Every row is a campaign of its own, worked on by workers of one core on this machine. The first unit
of every worker loads the model and is left out. Overhead is the time of a worker between two units
and in a unit outside its stages: handing out, taking note, writing. Memory is that of the worker's
own process after its first and after its last unit. What millions of candidates cost is calculated
from such rates by `scaling.py`.
"""

import argparse
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from measuring import Row, report

from mattergen_lite.campaign.parts import UnitRecord, part_paths, unit_records
from mattergen_lite.campaign.plan import CampaignPlan
from mattergen_lite.campaign.run import run
from mattergen_lite.campaign.workers import connection
from mattergen_lite.config import CampaignConfig
from mattergen_lite.runs.folder import environment

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
                "judge": {"relax": arguments.relax, "keep": arguments.keep},
                "workers": {"count": num_workers, "device": "cpu"},
            }
        )
        run(CampaignPlan.of(config), connection(config.workers, config.run_dir))
        stored = list(unit_records(Path(folder)))
        size = sum(path.stat().st_size for path in part_paths(Path(folder)))
    return {"workers": num_workers, **figures(stored), "bytes_per_crystal": size / total(stored)}


def total(stored: Sequence[UnitRecord]) -> int:
    return sum(unit.num_sampled for unit in stored)


def figures(stored: Sequence[UnitRecord]) -> Row:
    """What finished units say of rates, overhead and memory."""
    by_worker: dict[str, list[UnitRecord]] = defaultdict(list)
    for unit in sorted(stored, key=lambda unit: unit.finished):
        by_worker[unit.worker].append(unit)
    warm = [unit for units in by_worker.values() for unit in units[1:]]
    if not warm:
        raise ValueError("no worker finished two units: expected more --units")
    spans = [units[-1].finished - units[0].finished for units in by_worker.values()]
    inside = sum(seconds_of_stages(unit) for unit in warm)
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


def seconds_of_stages(unit: UnitRecord) -> float:
    return sum(spent for name, spent in unit.seconds.items() if name not in STAGES_NOT_WORK)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--units", type=int, default=8)
    parser.add_argument("--unit-size", type=int, default=16)
    parser.add_argument("--steps", type=int, default=35)
    parser.add_argument("--checkpoint", default="mp")
    parser.add_argument("--relax", action="store_true", help="what passes the cheap checks")
    parser.add_argument("--keep", type=float, help="share of it that is relaxed; default: all")
    parser.add_argument("--json", type=Path)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    asked = parse(arguments)
    rows = [measure(asked, number) for number in asked.workers]
    report(rows, {**environment(), "relax": asked.relax, "keep": asked.keep}, asked.json)


if __name__ == "__main__":
    main()
