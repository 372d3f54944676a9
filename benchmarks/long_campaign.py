"""A campaign whose worker, client and scheduler are killed at random: same rows, flat memory.

    OMP_NUM_THREADS=1 python benchmarks/long_campaign.py --num-samples 5000 --kills 6

Two campaigns of one seed, each with a scheduler, workers and the command `campaign run` as
processes of this machine. Nothing happens to the first one. In the second a process is killed
(SIGKILL) at moments that the seed draws, all along; of three kills in a row each is of another
kind. What has died is started again, as a batch system would. At the end every row of both has to
be equal, in every column.

"worker s" are the seconds that units took in their workers, on the clock. Memory is that of a
worker with the processes in which it judges, looked at once a second; the table has the most of any
worker while each quarter of the units was made. A campaign that is there already is not made again:
the same command goes on.
"""

import argparse
import os
import random
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pyarrow.dataset as ds
from measuring import Row, report

import mattergen_lite
from mattergen_lite.campaign.parts import CANDIDATES, part_paths, unit_records
from mattergen_lite.config import CampaignConfig
from mattergen_lite.runs.folder import environment

KINDS = ("worker", "client", "scheduler")
PAUSE = 0.2  # s between two looks at what is stored
MEMORY_PAUSE = 1.0  # s between two looks at the memory
LONGEST_DELAY = 3.0  # s
QUARTERS = 4


@dataclass(frozen=True, kw_only=True)
class Kill:
    """What is killed, and when."""

    kind: str
    after: int  # stored units
    delay: float  # s after that


def plan_kills(number: int, num_units: int, seed: int) -> list[Kill]:
    """Draw what is killed and when, first to last; the moments are spread over the campaign."""
    rng = random.Random(seed)
    kinds = [kind for _ in range(0, number, len(KINDS)) for kind in rng.sample(KINDS, len(KINDS))]
    delay = min(LONGEST_DELAY, num_units / 100)
    return [
        Kill(
            kind=kind,
            after=int((place + rng.random()) / (number + 1) * num_units),
            delay=rng.uniform(0, delay),
        )
        for place, kind in enumerate(kinds[:number])
    ]


@dataclass
class Processes:
    """Scheduler, workers and client of one campaign; what died is started again."""

    config: CampaignConfig
    num_workers: int
    port: int
    running: dict[str, psutil.Popen] = field(default_factory=dict)
    killed: set[str] = field(default_factory=set)  # roles not started again yet
    restarts: int = 0

    def __post_init__(self) -> None:
        self.config.run_dir.mkdir(parents=True, exist_ok=True)
        self.settings = self.config.run_dir.with_suffix(".yaml")
        self.config.save(self.settings)
        self.log = self.config.run_dir.with_suffix(".log").open("a")

    @property
    def roles(self) -> list[str]:
        """Names of all processes, in the order in which they are started."""
        return ["scheduler", *(f"worker {i}" for i in range(self.num_workers)), "client"]

    def _command(self, role: str) -> list[str]:
        address = f"tcp://127.0.0.1:{self.port}"
        if role == "scheduler":
            where = ["--host", "127.0.0.1", "--port", str(self.port)]
            return ["-m", "dask", "scheduler", *where, "--no-dashboard"]
        if role == "client":
            verb = ["-m", "mattergen_lite.cli", "campaign", "run", str(self.settings)]
            return [*verb, "--scheduler", address]
        return ["-m", "dask", "worker", address, "--nthreads", "1", "--no-dashboard"]

    def revive(self) -> None:
        """Start what is not running.

        Raises:
            RuntimeError: If the client has given up by itself.
        """
        for role in self.roles:
            process = self.running.get(role)
            if process is not None and process.poll() is None:
                continue
            if role == "client" and process is not None and role not in self.killed:
                if process.poll() == 0:
                    continue
                raise RuntimeError(f"the client ended with {process.poll()}: see {self.log.name}")
            self.killed.discard(role)
            self.restarts += process is not None
            source = str(Path(mattergen_lite.__file__).parents[1])
            self.running[role] = psutil.Popen(
                [sys.executable, *self._command(role)],
                env=os.environ | {"PYTHONPATH": source, "OMP_NUM_THREADS": "1"},
                stdout=self.log,
                stderr=self.log,
            )

    @property
    def finished(self) -> bool:
        """Whether the client has ended well."""
        client = self.running.get("client")
        return client is not None and client.poll() == 0

    def kill(self, kind: str, rng: random.Random) -> str:
        """Kill one process of a kind; of a worker, the one that works and not who watches it."""
        role = rng.choice([name for name in self.roles if name.startswith(kind)])
        process = self.running[role]
        if kind == "worker":
            working = [
                child for child in process.children() if "spawn_main" in " ".join(child.cmdline())
            ]
            process = working[0] if working else process
        self.killed.add(role)
        process.kill()
        return f"{role}, process {process.pid}"

    def memory(self) -> list[int]:
        """Bytes that each worker holds, with the processes in which it judges."""
        return [
            sum(_resident(child) for child in process.children(recursive=True))
            for role, process in self.running.items()
            if role.startswith("worker") and process.poll() is None
        ]

    def stop(self) -> None:
        """End all of them, and wait until they have."""
        living = [process for process in self.running.values() if process.poll() is None]
        living += [child for process in living for child in process.children(recursive=True)]
        for process in living:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(living, timeout=60)
        self.log.close()


def _resident(process: psutil.Process) -> int:
    try:
        return process.memory_info().rss
    except psutil.NoSuchProcess:
        return 0


@contextmanager
def processes(config: CampaignConfig, num_workers: int) -> Iterator[Processes]:
    """The processes of a campaign, none of which outlives the block."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = Processes(config=config, num_workers=num_workers, port=port)
    try:
        yield started
    finally:
        started.stop()


def run(config: CampaignConfig, num_workers: int, kills: Sequence[Kill], rng: random.Random) -> Row:
    """One campaign from start to end; a row of the table.

    Raises:
        RuntimeError: If it ended before everything was killed, or could not go on.
    """
    num_units, waiting = config.num_samples // config.unit_size, list(kills)
    peaks, looked, started = [0] * QUARTERS, 0.0, time.monotonic()
    with processes(config, num_workers) as those:
        while not those.finished:
            those.revive()
            time.sleep(PAUSE)
            done = len(part_paths(config.run_dir))
            if time.monotonic() - looked > MEMORY_PAUSE:
                looked, quarter = time.monotonic(), min(QUARTERS * done // num_units, QUARTERS - 1)
                peaks[quarter] = max([peaks[quarter], *those.memory()])
            if waiting and done >= max(waiting[0].after, 1):
                kill = waiting.pop(0)
                time.sleep(kill.delay)
                killed = those.kill(kill.kind, rng)
                print(f"{done} of {num_units} units stored: killed {killed}", flush=True)
    if waiting:
        raise RuntimeError(f"{config.run_dir} was finished before {len(waiting)} of the kills")
    stored = list(unit_records(config.run_dir))
    return {
        "run": config.run_dir.name,
        "candidates": sum(unit.num_sampled for unit in stored),
        "kills": len(kills),
        "restarts": those.restarts,
        "seconds": time.monotonic() - started,
        "worker s": sum(sum(unit.seconds.values()) for unit in stored),
        **{f"MiB, quarter {i}": peak / 2**20 for i, peak in enumerate(peaks, start=1)},
    }


def rows_of(run_dir: Path) -> list[str]:
    """Every row of a campaign in the order of the samples, as text, so that NaN equals NaN."""
    table = ds.dataset(run_dir / CANDIDATES).to_table().sort_by("name")
    return [repr(row) for row in table.to_pylist()]


def configured(asked: argparse.Namespace, name: str) -> CampaignConfig:
    """The campaign in a folder of this name."""
    judge: dict[str, object] = {"relax": False}
    if asked.keep is not None:
        judge = {"keep": asked.keep, "control": 0.0, "second_opinion": None}
    return CampaignConfig.parse(
        {
            "run_dir": asked.run_dir / name,
            "num_samples": asked.num_samples,
            "unit_size": asked.unit_size,
            "seed": asked.seed,
            "generate": {
                "checkpoint": asked.checkpoint,
                "steps": asked.steps,
                "num_atoms": asked.num_atoms,
            },
            "judge": judge,
            "workers": {"device": "cpu"},
        }
    )


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num-samples", type=int, default=5000)
    parser.add_argument("--unit-size", type=int, default=50)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--kills", type=int, default=6)
    parser.add_argument("--keep", type=float, help="share that is relaxed; default: none")
    parser.add_argument("--seed", type=int, default=0, help="of the samples and of the kills")
    parser.add_argument("--checkpoint", default="mp")
    parser.add_argument("--steps", type=int, default=35)
    parser.add_argument("--num-atoms", help="such as 1..8; default: as `generate` has it")
    parser.add_argument("--run-dir", type=Path, default=Path("runs/long_campaign"))
    parser.add_argument("--quick", action="store_true", help="to try it out: few samples")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args(arguments)
    if asked.quick:
        asked.num_samples, asked.unit_size, asked.kills, asked.steps = 40, 2, 3, 3
    return asked


def main(arguments: Sequence[str] | None = None) -> None:
    asked = parse(arguments)
    kills = plan_kills(asked.kills, asked.num_samples // asked.unit_size, asked.seed)
    rng = random.Random(asked.seed)
    undisturbed, disturbed = configured(asked, "undisturbed"), configured(asked, "killed")
    rows = [run(undisturbed, asked.workers, [], rng), run(disturbed, asked.workers, kills, rng)]
    equal = rows_of(undisturbed.run_dir) == rows_of(disturbed.run_dir)
    facts = {**environment(), "seed": asked.seed, "workers": asked.workers}
    report([row | {"equal rows": equal} for row in rows], facts, asked.json)
    if not equal:
        raise SystemExit("the rows of the two campaigns differ")


if __name__ == "__main__":
    main()
