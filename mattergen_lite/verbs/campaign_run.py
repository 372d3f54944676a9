"""The command `campaign run`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mattergen_lite.folders import claimed
from mattergen_lite.options.flat import flat
from mattergen_lite.verbs.workspace import configuration

if TYPE_CHECKING:
    from mattergen_lite.campaign.run import DryRun
    from mattergen_lite.campaign.status import Progress
    from mattergen_lite.config import CampaignConfig


@flat
def campaign_run(
    *settings: str,
    scheduler: str | None = None,
    cluster: Path | None = None,
    dry_run: bool = False,
) -> "Progress | DryRun":
    """Generate or read, judge and store any number of crystals, on any number of machines.

    Work is cut into units. A finished unit is a parquet file in `<run_dir>/candidates`, which
    appears at once and is never made again. After a kill of any process, the same command
    continues. Workers and this command need to see the same run_dir.

    Args:
        settings: Configuration files, merged left to right, then overrides such as num_samples=4096
            or run_dir=runs/a. A file is looked for on disk, then among the shipped configurations.
        scheduler: Address of a running Dask scheduler, such as tls://head:8786; default workers on
            this machine, one a GPU or a core.
        cluster: YAML that says how a batch system starts workers, such as configs/slurm.yaml.
        dry_run: Print what would be done and, with --cluster, the script of a job; start nothing.

    Raises:
        ValueError: For a bad configuration, a folder that holds another campaign, or a full disk.
    """
    config = campaign_config(settings)
    from mattergen_lite.campaign.plan import Plan
    from mattergen_lite.campaign.run import DryRun, run
    from mattergen_lite.campaign.workers import connection

    batch_system = None if cluster is None else configuration(str(cluster))
    if dry_run:
        return DryRun.of(Plan.of(config), batch_system)
    with claimed(config.run_dir):
        connect = connection(config.workers, config.run_dir, scheduler, batch_system)
        return run(Plan.of(config), connect)


def campaign_config(settings: Sequence[str]) -> "CampaignConfig":
    """Read a configuration from the words of a command.

    Raises:
        ValueError: If a file or an override is wrong.
    """
    from mattergen_lite.config import CampaignConfig

    files = [configuration(text) for text in settings if "=" not in text]
    return CampaignConfig.load(files, [text for text in settings if "=" in text])
