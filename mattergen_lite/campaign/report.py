"""What a campaign ends with: its shortlist as the files of a run, its counts, what it gave up."""

from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pyarrow.parquet as pq

from mattergen_lite.campaign.parts import part_paths
from mattergen_lite.campaign.plan import Plan
from mattergen_lite.campaign.shortlist import best_candidates
from mattergen_lite.campaign.status import progress
from mattergen_lite.campaign.work import judge_options
from mattergen_lite.io.write import write_csv
from mattergen_lite.options.judge import ShortlistOptions
from mattergen_lite.processes import Pool
from mattergen_lite.runs.results import (
    JOURNAL,
    Judged,
    Stopwatch,
    deepened,
    write_json,
    write_judged,
)
from mattergen_lite.scoring.execution.journal import Journal

QUARANTINE = ("name", "unit", "formula", "error", "stability_error")


def report(run_dir: Path, out: Path, best: ShortlistOptions, pool: Pool) -> Judged:
    """Write the shortlist of a campaign, its counts and its quarantine.

    Args:
        run_dir: Folder of the campaign.
        out: Folder for the report.
        best: Length of the shortlist, and what to find of it beyond what units found.
        pool: Processes to work in.

    Raises:
        ValueError: If there is no campaign or nothing finished, or a deeper check is impossible.
    """
    plan, stands = Plan.read(run_dir), progress(run_dir)
    options = replace(
        judge_options(
            plan.config.judge,
            shortlist=best.shortlist,
            phonons=best.phonons,
            elasticity=best.bulk_modulus,
            dft_inputs=best.dft_inputs,
        ),
        required=tuple(stands.funnel.left),  # with those about targets, which a model would know
    )
    watch, journal = Stopwatch(), Journal(pool, out / JOURNAL)
    with watch.stage("choosing"):
        candidates = best_candidates(run_dir, best.shortlist, pool)
    candidates = deepened(candidates, options, journal, watch)
    with watch.stage("reference"):
        reference = options.reference()
    counts = {
        "num_wanted": stands.num_wanted,
        "funnel": asdict(stands.funnel),
        "quarantined": stands.quarantined,
        "refused": stands.refused,
        "seconds": stands.seconds,
        "crystals_per_hour": stands.rate,
        "fingerprint": plan.fingerprint,
        "determinants": plan.determinants,
    }
    provenance = {"verb": "campaign", "campaign": counts}
    judged = write_judged(
        candidates, reference, out / "candidates.csv", watch, provenance, options, pool
    )
    write_json(counts, out / "campaign.json")
    write_quarantine(run_dir, out / "quarantine.csv")
    journal.forget()
    return judged


def write_quarantine(run_dir: Path, path: Path) -> None:
    """One row a crystal that has no judgement, or no relaxed one, with the reason."""
    rows = ([row[name] for name in QUARANTINE] for row in _given_up(run_dir))
    write_csv(path, QUARANTINE, rows)


def _given_up(run_dir: Path) -> Iterator[dict[str, str | None]]:
    for path in part_paths(run_dir):
        for row in pq.read_table(path, columns=list(QUARANTINE)).to_pylist():
            if row["error"] is not None or row["stability_error"] is not None:
                yield row
