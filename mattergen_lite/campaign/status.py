"""Reports the progress of a campaign: counts of the funnel, rates, time left and failures."""

import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mattergen_lite.campaign.parts import CANDIDATES, UnitRecord, finished_keys, unit_records
from mattergen_lite.campaign.plan import CampaignPlan, Unit, read_manifest
from mattergen_lite.files.folders import write_text
from mattergen_lite.scoring.metrics.funnel import Funnel
from mattergen_lite.scoring.metrics.screening_loss import ScreeningTally

REFUSED = "refused"  # units that were set aside, a file with the reason each
UNFINISHED = "unfinished"  # result caches, tries and locks of units that are being worked on
DEVICE_TRIES = 3  # that end without a result, before a unit is tried on a CPU
RECENT_UNITS = 100  # from which the rate is found
NUM_REASONS = 5  # shown


@dataclass(frozen=True, kw_only=True)
class CampaignProgress:
    """Finished units, rates and expected end of a campaign."""

    run_dir: Path
    num_wanted: int  # crystals of the whole campaign
    num_sampled: int  # crystals that are stored
    num_units: int  # that are stored
    funnel: Funnel
    screened: ScreeningTally  # crystals of all units together
    quarantined: dict[str, int]  # reason -> crystals that were given up
    refused: dict[str, str]  # key of a unit that was set aside -> reason
    rate: float | None  # crystals an hour, of late; None before the second unit
    seconds: dict[str, float]  # of all workers together, by stage

    @property
    def complete(self) -> bool:
        """Whether every crystal is stored."""
        return self.num_sampled >= self.num_wanted

    @property
    def hours_left(self) -> float | None:
        """Hours to go at the present rate."""
        return (self.num_wanted - self.num_sampled) / self.rate if self.rate else None

    def text(self) -> str:
        """Lines for a terminal."""
        share = self.num_sampled / max(self.num_wanted, 1)
        lines = [f"{self.num_sampled} of {self.num_wanted} crystals ({share:.1%})"]
        if self.rate and not self.complete:
            lines.append(f"{self.rate:.0f} an hour, {self.hours_left:.1f} hours left")
        if self.num_sampled:
            lines.append(f"{self.funnel.text()}; unique within a unit")
            lines += [loss.text() for loss in [self.screened.loss()] if loss is not None]
            lines.append(", ".join(f"{name} {spent:.0f} s" for name, spent in self.seconds.items()))
        for reason, number in Counter(self.quarantined).most_common(NUM_REASONS):
            lines.append(f"{number} given up: {reason}")
        for key, reason in list(self.refused.items())[:NUM_REASONS]:
            lines.append(f"unit {key} set aside: {reason}; the next launch tries it again")
        return "\n".join([*lines, f"-> {self.run_dir}"])


def progress(run_dir: Path) -> CampaignProgress:
    """Where the campaign in a folder stands, while it is running or not.

    Raises:
        ValueError: If there is no campaign in this folder.
    """
    CampaignPlan.read(run_dir)
    stored = list(unit_records(run_dir))
    left, given_up, seconds = Counter(), Counter(), Counter()
    for unit in stored:
        left.update(unit.left)
        given_up.update(unit.quarantined)
        seconds.update(unit.seconds)
    sampled = sum(record.num_sampled for record in stored)
    return CampaignProgress(
        run_dir=run_dir,
        num_wanted=read_manifest(run_dir)["num_samples"],
        num_sampled=sampled,
        num_units=len(stored),
        funnel=Funnel(num_sampled=sampled, left=dict(left)),
        screened=sum((record.screened for record in stored), ScreeningTally()),
        quarantined=dict(given_up),
        refused=refusals(run_dir),
        rate=recent_rate(stored),
        seconds=dict(seconds),
    )


def recent_rate(stored: Sequence[UnitRecord]) -> float | None:
    """Crystals an hour over the units that were finished last."""
    recent = sorted(stored, key=lambda unit: unit.finished)[-RECENT_UNITS:]
    if len(recent) < 2:
        return None
    span = max(recent[-1].finished, _now_if_running(recent)) - recent[0].finished
    return sum(unit.num_sampled for unit in recent[1:]) / max(span, 1e-3) * 3600


def _now_if_running(recent: Sequence[UnitRecord]) -> float:
    """Now, unless the last unit is so long ago that the campaign must be at rest."""
    now, last = time.time(), recent[-1].finished
    longest = max(unit.finished - unit.started for unit in recent)
    return now if now - last < 2 * longest else last


def tries_path(run_dir: Path, key: str) -> Path:
    """Path of the file that has a byte for every try of a unit."""
    return run_dir / UNFINISHED / f"{key}.tries"


def num_tries(run_dir: Path, key: str) -> int:
    """Number of tries of a unit that began and left no result."""
    path = tries_path(run_dir, key)
    return path.stat().st_size if path.exists() else 0


@contextmanager
def counted_try(run_dir: Path, key: str) -> Iterator[int]:
    """Count a try of a unit; yields its number. What is interrupted in good order was none."""
    path, before = tries_path(run_dir, key), num_tries(run_dir, key)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"." * (before + 1))
    try:
        yield before + 1
    except (KeyboardInterrupt, SystemExit):
        path.write_bytes(b"." * before)
        raise
    path.unlink(missing_ok=True)


def pending(plan: CampaignPlan) -> Iterator[Unit]:
    """Units that are neither stored nor set aside by now."""
    over = finished_keys(plan.config.run_dir) | refusals(plan.config.run_dir).keys()
    return (unit for unit in plan.units() if unit.key not in over)


def clear_leftovers(run_dir: Path) -> None:
    """Remove what nobody needs once every unit is stored, unless one is set aside."""
    if refusals(run_dir):
        return
    hidden = (run_dir / CANDIDATES).glob(".*.parquet.*")
    for path in (*hidden, *(run_dir / UNFINISHED).glob("*")):
        path.unlink(missing_ok=True)


def write_refusal(run_dir: Path, unit: Unit, reason: str) -> None:
    """Set a unit aside."""
    tries_path(run_dir, unit.key).unlink(missing_ok=True)
    note = {"start": unit.start, "stop": unit.stop, "reason": reason}
    write_text(json.dumps(note) + "\n", run_dir / REFUSED / f"{unit.key}.json")


def forget_refusals(run_dir: Path, *, tries: bool = False) -> None:
    """Give units that were set aside another chance; with the tries, those that failed, too."""
    tried = (run_dir / UNFINISHED).glob("*.tries") if tries else ()
    for path in (*(run_dir / REFUSED).glob("*.json"), *tried):
        path.unlink(missing_ok=True)


def refusals(run_dir: Path) -> dict[str, str]:
    """Reasons of the units that were set aside, by key."""
    return {path.stem: _reason(path) for path in sorted((run_dir / REFUSED).glob("*.json"))}


def _reason(path: Path) -> str:
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["reason"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return f"{path.name} is damaged"
