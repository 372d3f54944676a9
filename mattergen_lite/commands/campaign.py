"""The commands of the group `campaign`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mattergen_lite.commands.workspace import configuration, cores
from mattergen_lite.files.folders import claimed
from mattergen_lite.options.checks import Workers
from mattergen_lite.options.flat import flat
from mattergen_lite.options.judge import ShortlistOptions

if TYPE_CHECKING:
    from mattergen_lite.campaign.run import DryRun
    from mattergen_lite.campaign.status import CampaignProgress
    from mattergen_lite.config import CampaignConfig
    from mattergen_lite.runs.judgements import Judgements


@flat
def campaign_run(
    *settings: str, scheduler: str | None = None, cluster: Path | None = None, dry_run: bool = False
) -> "CampaignProgress | DryRun":
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
    from mattergen_lite.campaign.plan import CampaignPlan
    from mattergen_lite.campaign.run import DryRun, run
    from mattergen_lite.campaign.workers import connection

    batch_system = None if cluster is None else configuration(str(cluster))
    if dry_run:
        return DryRun.of(CampaignPlan.of(config), batch_system)
    with claimed(config.run_dir):
        connect = connection(config.workers, config.run_dir, scheduler, batch_system)
        return run(CampaignPlan.of(config), connect)


@flat
def campaign_work(*settings: str) -> "CampaignProgress":
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
    from mattergen_lite.campaign.plan import CampaignPlan

    return work_through(CampaignPlan.of(config))


@flat
def campaign_status(run_dir: Path, /) -> "CampaignProgress":
    """Show the progress of a campaign: funnel, rate, time left, crystals given up and why.

    Args:
        run_dir: Folder of the campaign, running or not.

    Raises:
        ValueError: If it holds no campaign.
    """
    from mattergen_lite.campaign.status import progress

    return progress(run_dir)


REPORTED = ShortlistOptions(shortlist=100)


@flat
def campaign_report(
    run_dir: Path,
    /,
    *,
    out: Path | None = None,
    best: ShortlistOptions = REPORTED,
    num_workers: Workers | None = None,
) -> "Judgements":
    """Write the shortlist of a campaign, running or not: the best of all units, each kind once.

    Writes the files of `generate`, of the shortlist only, campaign.json (counts of the whole
    campaign) and quarantine.csv (crystals that were given up, with the reason).

    Args:
        run_dir: Folder of the campaign.
        out: Folder for the report; default `<run_dir>/report`, which is replaced.
        num_workers: Processes; default one a core, 0 works in this process.

    Raises:
        ValueError: If there is no campaign or nothing finished yet.
    """
    from mattergen_lite.campaign.plan import CampaignPlan
    from mattergen_lite.campaign.report import report
    from mattergen_lite.processes import Pool

    folder = out
    if folder is None:
        CampaignPlan.read(run_dir)  # before a folder is made in what may be no campaign
        folder = run_dir / "report"
    with claimed(folder), Pool(cores(num_workers)) as pool:
        return report(run_dir, folder, best, pool)


def campaign_config(settings: Sequence[str]) -> "CampaignConfig":
    """Read a configuration from the words of a command.

    Raises:
        ValueError: If a file or an override is wrong.
    """
    from mattergen_lite.config import CampaignConfig

    files = [configuration(text) for text in settings if "=" not in text]
    return CampaignConfig.load(files, [text for text in settings if "=" in text])
