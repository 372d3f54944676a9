"""Where the time of `generate` goes, stage by stage, and whether a core stands idle.

    python benchmarks/generate_stages.py --num-samples 16

"cores" is CPU time of this process and its children over wall time, "utilisation" that over the
cores this process may use: far below 1 means that cores idle. "imports, rest" is all that happens
outside the stages `generate` itself names: mostly imports, in this process and in those that judge.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

import psutil
from measuring import Row, report

REST = "imports, rest"


class Reading(NamedTuple):
    """Both clocks at one moment, s."""

    wall: float
    cpu: float


def read_clocks() -> Reading:
    """Wall time, and CPU time of this process and its children, alive or ended."""
    times = os.times()
    cpu = times.user + times.system + times.children_user + times.children_system
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            cpu += sum(child.cpu_times()[:2])
    return Reading(time.perf_counter(), cpu)


@dataclass
class StageClock:
    """Seconds of wall and CPU time in each named stage."""

    seconds: dict[str, float] = field(default_factory=dict)
    cpu: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a block on both clocks."""
        start = read_clocks()
        yield
        end = read_clocks()
        self.seconds[name] = end.wall - start.wall
        self.cpu[name] = end.cpu - start.cpu


@contextmanager
def reading_stages(clock: StageClock) -> Iterator[None]:
    """Have every stage that the package times read both clocks as well."""
    from mattergen_lite.scoring.execution.stopwatch import Stopwatch

    stage = Stopwatch.stage

    @contextmanager
    def stage_on_both(stopwatch: Stopwatch, name: str) -> Iterator[None]:
        with stage(stopwatch, name), clock.stage(name):
            yield

    with patch.object(Stopwatch, "stage", stage_on_both):
        yield


def run_generate(choice: argparse.Namespace, out: Path) -> int:
    """Generate; returns how many crystals came back."""
    from mattergen_lite.commands.generate import generate

    judged = generate(
        out=out,
        num_samples=choice.num_samples,
        checkpoint=choice.checkpoint,
        steps=choice.steps,
        batch_size=choice.batch_size,
        device=choice.device,
        relax=choice.relax,
        num_workers=choice.num_workers,
    )
    return len(judged.candidates)


def measure(choice: argparse.Namespace) -> tuple[StageClock, int]:
    """Clocks of all stages in the order they happened, and the number of crystals."""
    whole, inner = StageClock(), StageClock()
    with tempfile.TemporaryDirectory() as folder, reading_stages(inner), whole.stage("rest"):
        num_crystals = run_generate(choice, Path(folder) / "out")

    def column(total: dict[str, float], stages: dict[str, float]) -> dict[str, float]:
        return {REST: total["rest"] - sum(stages.values()), **stages}

    return StageClock(column(whole.seconds, inner.seconds), column(whole.cpu, inner.cpu)), (
        num_crystals
    )


def table(clock: StageClock, num_crystals: int, num_cores: int) -> list[Row]:
    """A row for each stage and one for the whole."""
    seconds = {**clock.seconds, "total": sum(clock.seconds.values())}
    cpu = {**clock.cpu, "total": sum(clock.cpu.values())}
    return [
        {
            "stage": name,
            "seconds": wall,
            "s/structure": wall / num_crystals,
            "cores": cpu[name] / wall,
            "utilisation": cpu[name] / wall / num_cores,
        }
        for name, wall in seconds.items()
    ]


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    from mattergen_lite.options.request import DEFAULT_CHECKPOINT

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", default=DEFAULT_CHECKPOINT, help="name or folder")
    parser.add_argument("--num-samples", type=int, default=16)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--relax", action="store_true", help="judge stability too")
    parser.add_argument("--num-workers", type=int, help="processes that judge; default: all cores")
    parser.add_argument("--json", type=Path, help="also write the JSON line into this file")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    choice = parse(arguments)
    clock, num_crystals = measure(choice)
    from mattergen_lite.processes import available_cores

    num_cores = available_cores()
    facts = {"benchmark": "generate", "structures": num_crystals, "available_cores": num_cores}
    report(table(clock, num_crystals, num_cores), facts, choice.json)


if __name__ == "__main__":
    main()
