"""Writes the shortlist of a campaign as the files of a run, with counts and failures."""

from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pyarrow.parquet as pq

from mattergen_lite.campaign.parts import part_paths
from mattergen_lite.campaign.plan import CampaignPlan
from mattergen_lite.campaign.shortlist import best_candidates
from mattergen_lite.campaign.status import progress
from mattergen_lite.io.write import write_csv
from mattergen_lite.options.judge import ShortlistOptions
from mattergen_lite.processes import Pool
from mattergen_lite.runs.folder import RunFolder
from mattergen_lite.runs.judgements import Judgements
from mattergen_lite.runs.judging import JudgingRun
from mattergen_lite.runs.tables import write_json
from mattergen_lite.scoring.candidate import ranked
from mattergen_lite.scoring.earlier_run import EarlierRun
from mattergen_lite.scoring.judge import Judge

QUARANTINE = ("name", "unit", "formula", "error", "stability_error")


def report(run_dir: Path, out: Path, best: ShortlistOptions, pool: Pool) -> Judgements:
    """Write the shortlist of a campaign, its counts and its quarantine.

    Raises:
        ValueError: If there is no campaign or nothing finished, or a deeper check is impossible.
    """
    plan, stands = CampaignPlan.read(run_dir), progress(run_dir)
    # Checks about targets only a model would know; units have made them.
    cheap = replace(plan.config.judge, require=None)
    place = RunFolder(out)
    run = JudgingRun(judge=Judge.of(cheap, best), pool=pool, place=place, shortlist=best)
    result_cache = run.result_cache()
    with run.watch.stage("choosing"):
        required = plan.config.judge.require or ()
        candidates = best_candidates(run_dir, best.shortlist, pool, required)
    if place.is_finished:  # what `verify` has calculated there
        earlier = EarlierRun.of(Judgements.load(out))
        candidates = ranked(map(earlier.recall, candidates), required)
    candidates = run.deepen(candidates, result_cache, required)
    loss = stands.screened.loss()
    counts = {
        "num_wanted": stands.num_wanted,
        "funnel": asdict(stands.funnel),
        "screening": loss and loss.figures(),
        "quarantined": stands.quarantined,
        "refused": stands.refused,
        "seconds": stands.seconds,
        "crystals_per_hour": stands.rate,
        "fingerprint": plan.fingerprint,
        "determinants": plan.determinants,
    }
    arguments = {"require": ",".join(required) or None}  # `verify` ranks the report again by them
    provenance = {"verb": "campaign", "arguments": arguments, "campaign": counts}
    judged = run.finish(
        candidates,
        provenance,
        result_cache,
        checks=tuple(stands.funnel.left),
        screened=stands.screened,
    )
    write_json(counts, out / "campaign.json")
    rows = ([row[name] for name in QUARANTINE] for row in _given_up(run_dir))
    write_csv(out / "quarantine.csv", QUARANTINE, rows)
    return judged


def _given_up(run_dir: Path) -> Iterator[dict[str, str | None]]:
    """Crystals that have no judgement, or no relaxed one, with the reason."""
    for path in part_paths(run_dir):
        for row in pq.read_table(path, columns=list(QUARANTINE)).to_pylist():
            if row["error"] is not None or row["stability_error"] is not None:
                yield row
