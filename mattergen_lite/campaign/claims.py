"""Works on units that no other process holds: what the tasks of an array job need instead of Dask.

Everything that processes tell each other is files: a lock is held by whoever works on a unit, a
stored unit is finished, a unit that is set aside has a file with the reason. A lock ends with its
process, so that the units of killed processes are taken by the others.
"""

import time
from collections.abc import Callable

from mattergen_lite.campaign.parts import part_path
from mattergen_lite.campaign.plan import CampaignPlan, Unit
from mattergen_lite.campaign.status import (
    DEVICE_TRIES,
    UNFINISHED,
    CampaignProgress,
    clear_leftovers,
    forget_refusals,
    num_tries,
    pending,
    progress,
    write_refusal,
)
from mattergen_lite.campaign.work import check_judge, work
from mattergen_lite.console import ProgressBar
from mattergen_lite.files.folders import held
from mattergen_lite.runs.folder import environment

POLL = 5.0  # s between looks at units that other processes hold


def work_through(
    plan: CampaignPlan, wait: Callable[[float], None] = time.sleep
) -> CampaignProgress:
    """Work on units until each is stored or set aside, by this process or others.

    Raises:
        ValueError: If the folder holds another campaign, the configuration makes no sense, or
            results cannot be stored; what is finished is kept.
    """
    config = plan.config
    check_judge(config)
    plan.save(environment())
    forget_refusals(config.run_dir)
    with ProgressBar(unit="crystal", desc="campaign") as bar:
        while taken := [_take(plan, unit, bar) for unit in pending(plan)]:
            if not any(taken):
                wait(POLL)
    clear_leftovers(config.run_dir)
    return progress(config.run_dir)


def _take(plan: CampaignPlan, unit: Unit, bar: ProgressBar) -> bool:
    """Work on a unit, unless another process holds it or has finished it; tell which."""
    config = plan.config
    with held(config.run_dir / UNFINISHED / f"{unit.key}.lock") as is_held:
        if not is_held or part_path(config.run_dir, unit.key, unit.start).exists():
            return False
        if (tries := num_tries(config.run_dir, unit.key)) > DEVICE_TRIES:
            write_refusal(config.run_dir, unit, f"{tries} tries ended without a result")
            return True
        try:
            bar.update(work(config, unit, config.workers.device).num_sampled)
        except OSError as error:
            raise ValueError(
                f"cannot write to {config.run_dir}: {error}; what is finished is kept, the same "
                "command goes on"
            ) from None
        except Exception as error:  # of this unit; the others go on
            if num_tries(config.run_dir, unit.key) > config.workers.retries:
                write_refusal(config.run_dir, unit, f"{type(error).__name__}: {error}")
    return True
