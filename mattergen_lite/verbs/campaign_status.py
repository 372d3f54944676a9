"""The command `campaign status`."""

from pathlib import Path
from typing import TYPE_CHECKING

from mattergen_lite.options.flat import flat

if TYPE_CHECKING:
    from mattergen_lite.campaign.status import Progress


@flat
def campaign_status(run_dir: Path, /) -> "Progress":
    """Show the progress of a campaign: funnel, rate, time left, crystals given up and why.

    Args:
        run_dir: Folder of the campaign, running or not.

    Raises:
        ValueError: If it holds no campaign.
    """
    from mattergen_lite.campaign.status import progress

    return progress(run_dir)
