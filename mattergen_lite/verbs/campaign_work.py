"""The command `campaign work`."""

from typing import TYPE_CHECKING

from mattergen_lite.options.flat import flat
from mattergen_lite.verbs.campaign_run import campaign_config

if TYPE_CHECKING:
    from mattergen_lite.campaign.status import Progress


@flat
def campaign_work(*settings: str) -> "Progress":
    """Work on a campaign as one process of any number, with no scheduler: for array jobs.

    Each process takes units that no other holds, by locks in `<run_dir>/unfinished`, until all are
    stored; that of a killed process is taken by another. Start the same command as often as you
    like, when you like, on any machine that sees run_dir. The rows are those of `campaign run`.

    Args:
        settings: Configuration files, merged left to right, then overrides such as num_samples=4096
            or run_dir=runs/a. A file is looked for on disk, then among the shipped configurations.

    Raises:
        ValueError: For a bad configuration, a folder that holds another campaign, or a full disk.
    """
    config = campaign_config(settings)
    from mattergen_lite.campaign.claims import work_through
    from mattergen_lite.campaign.plan import Plan

    return work_through(Plan.of(config))
