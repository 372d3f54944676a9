"""The command `campaign report`."""

from pathlib import Path
from typing import TYPE_CHECKING

from mattergen_lite.folders import claimed
from mattergen_lite.options.checks import Workers
from mattergen_lite.options.flat import flat
from mattergen_lite.options.judge import ShortlistOptions
from mattergen_lite.verbs.workspace import cores

if TYPE_CHECKING:
    from mattergen_lite.runs.judgements import Judgements

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
        best: How many candidates, and what is done for each.
        num_workers: Processes; default one a core, 0 works in this process.

    Raises:
        ValueError: If there is no campaign or nothing finished yet.
    """
    from mattergen_lite.campaign.plan import Plan
    from mattergen_lite.campaign.report import report
    from mattergen_lite.processes import Pool

    folder = out
    if folder is None:
        Plan.read(run_dir)  # before a folder is made in what may be no campaign
        folder = run_dir / "report"
    with claimed(folder), Pool(cores(num_workers)) as pool:
        return report(run_dir, folder, best, pool)
