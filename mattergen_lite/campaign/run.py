"""Runs a campaign: keeps workers busy with units that are not stored yet, until all are.

What is lost on the way is sent again: a unit whose worker died (by Dask), everything in flight when
the scheduler is gone (here, after connecting anew). A unit that fails time and again is set aside
with its reason, and the next launch tries it again. All else is in files: see `campaign.status`.
"""

import sys
import time
from concurrent.futures import CancelledError
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from mattergen_lite.campaign.plan import CampaignPlan, Unit
from mattergen_lite.campaign.status import (
    CampaignProgress,
    clear_leftovers,
    forget_refusals,
    pending,
    progress,
    write_refusal,
)
from mattergen_lite.campaign.work import check_judge, work
from mattergen_lite.campaign.workers import job_script, require_dask
from mattergen_lite.config import ClusterConfig, read_yaml
from mattergen_lite.console import ProgressBar
from mattergen_lite.runs.folder import environment

if TYPE_CHECKING:
    from distributed import Client, Future

    from mattergen_lite.campaign.workers import Connect

UNITS_PER_WORKER = 2  # in flight: one being worked on, one waiting at the worker
FEWEST_IN_FLIGHT = 4  # while workers are still being started
PATIENCE = 600.0  # s to look for a scheduler that is gone


@dataclass(frozen=True, kw_only=True)
class DryRun:
    """What a campaign would do."""

    num_units: int
    num_samples: int
    run_dir: Path
    script: str | None  # of the jobs of a batch system

    @classmethod
    def of(cls, plan: CampaignPlan, cluster: Path | None) -> "DryRun":
        """Look at everything that `run` would, and start nothing.

        Raises:
            ValueError: As `run` does, before anything is done.
        """
        require_dask()
        check_judge(plan.config)
        asked = None if cluster is None else ClusterConfig.parse(read_yaml(cluster))
        return cls(
            num_units=sum(1 for _ in plan.units()),
            num_samples=plan.num_samples,
            run_dir=plan.config.run_dir,
            script=None if asked is None else job_script(asked),
        )

    def text(self) -> str:
        """Lines for a terminal."""
        units = "1 unit" if self.num_units == 1 else f"{self.num_units} units"
        counts = f"{self.num_samples} crystals in {units} -> {self.run_dir}"
        return counts if self.script is None else f"{self.script.rstrip()}\n# {counts}"


class SchedulerLostError(Exception):
    """Raised when the scheduler is lost, and with it the units that were being worked on."""


def run(plan: CampaignPlan, connect: "Connect", patience: float = PATIENCE) -> CampaignProgress:
    """Finish a campaign, from wherever it is; a lost scheduler is looked for with patience.

    Raises:
        ValueError: If the folder holds another campaign, the configuration makes no sense, results
            cannot be stored, or no scheduler is found; what is finished is kept.
    """
    config = plan.config
    check_judge(config)
    plan.save(environment())
    forget_refusals(config.run_dir, tries=True)
    stored = progress(config.run_dir).num_sampled
    with ProgressBar(
        total=plan.num_samples, initial=stored, unit="crystal", desc="campaign", disable=None
    ) as bar:
        _persist(_Drive(plan, bar), connect, patience)
    clear_leftovers(config.run_dir)
    return progress(config.run_dir)


def _persist(drive: "_Drive", connect: "Connect", patience: float) -> None:
    """Drive until everything is done, through losses of the scheduler."""
    last_seen = time.monotonic()
    while next(pending(drive.plan), None) is not None:
        try:
            with connect() as client:
                drive.through(client)
        except (SchedulerLostError, OSError) as error:  # Dask's communication errors are OSErrors
            if drive.progressed:
                last_seen, drive.progressed = time.monotonic(), False
            if time.monotonic() - last_seen > patience:
                raise ValueError(
                    f"no scheduler within {patience:g} s ({error}); what is finished is kept, the "
                    "same command goes on"
                ) from None
            ProgressBar.write(f"the scheduler is gone, looking for it: {error}", file=sys.stderr)
            time.sleep(1.0)


@dataclass
class _Drive:
    """Sends units to workers and takes note of what becomes of them."""

    plan: CampaignPlan
    bar: ProgressBar
    progressed: bool = False  # something was finished since this was last looked at

    def through(self, client: "Client") -> None:
        """Have everything that is pending worked out.

        Raises:
            SchedulerLostError: If the scheduler forgot or lost what it was given.
        """
        from distributed import as_completed

        waiting = pending(self.plan)
        units: dict[str, Unit] = {}  # in flight, by the key of their task
        in_progress = as_completed()

        def send(unit: Unit) -> None:
            future = self._submit(client, unit)
            units[future.key] = unit
            in_progress.add(future)

        for unit in islice(waiting, _room(client)):
            send(unit)
        while units:
            future = next(in_progress)
            unit = units.pop(future.key)
            self._note(unit, future)
            future.release()
            for next_unit in islice(waiting, max(0, _room(client) - len(units))):
                send(next_unit)

    def _submit(self, client: "Client", unit: Unit) -> "Future":
        workers = self.plan.config.workers
        return client.submit(
            work,
            self.plan.config,
            unit,
            workers.device,
            key=f"unit-{unit.key}",
            retries=workers.retries,
            pure=False,
        )

    def _note(self, unit: Unit, future: "Future") -> None:
        if future.status == "finished":
            self.progressed = True
            self.bar.update(future.result().num_sampled)
            return
        if future.status != "error":
            raise SchedulerLostError(f"unit {unit.key} is {future.status}")
        error = future.exception()
        if isinstance(error, CancelledError):
            raise SchedulerLostError(str(error))
        if isinstance(error, OSError):
            raise ValueError(
                f"a worker cannot write to {self.plan.config.run_dir}: {error}; what is finished "
                "is kept, the same command goes on"
            )
        write_refusal(self.plan.config.run_dir, unit, f"{type(error).__name__}: {error}")


def _room(client: "Client") -> int:
    """How many units may be in flight."""
    return max(FEWEST_IN_FLIGHT, UNITS_PER_WORKER * sum(client.nthreads().values()))
