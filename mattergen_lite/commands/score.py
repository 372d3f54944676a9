"""The command `score`."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mattergen_lite.commands.workspace import (
    JUDGE,
    OutFolder,
    check_dft_inputs,
    check_source,
    judging_in,
)
from mattergen_lite.files.folders import RECORD
from mattergen_lite.options.checks import Count
from mattergen_lite.options.flat import arguments_of, flat
from mattergen_lite.options.judge import JudgeOptions, ShortlistOptions
from mattergen_lite.options.machine import Machine
from mattergen_lite.scoring.checking import check_judging

if TYPE_CHECKING:
    from mattergen_lite.runs.judgements import Judgements


@flat
def score(
    source: Path,
    /,
    *,
    out: OutFolder = None,
    limit: Count | None = None,
    judge: JudgeOptions,
    best: ShortlistOptions,
    audit: bool = False,
    machine: Machine,
    overwrite: bool = False,
) -> "Judgements":
    """Judge crystals from any source: geometry, symmetry, charge, stability, novelty, credibility.

    Writes candidates.csv (and .parquet; one row a crystal, best first, or its error), report.html
    (the same in any browser), figures/, cifs/ and relaxed/ (symmetrised), structures.extxyz and
    relaxed.extxyz, summary.json (shares and their protocol) and run.json. The same command
    continues an interrupted run. Crystals of an earlier run keep their results: other options only
    redo what they change. A crystal that the earlier run did not relax stays unrelaxed, unless
    --keep or --relax-at-most ask for it (--keep 1: all that pass the cheap checks).

    Args:
        source: Folder or zip of CIF/POSCAR files, extxyz, csv or parquet with a cif column,
            pymatgen JSON, or the folder of an earlier run: its crystals as they came or, with
            --no-relax, as they relaxed there.
        out: Folder for the results. In Python, None writes nothing.
        limit: Largest number of structures to judge, from the first.
        audit: Compare the whole set with the known materials as a reviewer would: elements,
            intermetallics, dopant-like compositions, unseen chemical systems; audit.json and .png.
        overwrite: Replace an earlier run in the same folder.

    Raises:
        ValueError: If the source holds no structures; nothing is written then.
    """
    check_judging(judge, best)
    check_dft_inputs(best)
    check_source(source, out)
    is_judged = (source / RECORD).exists()  # then there may be nothing to do for processes
    preparing = {"overwrite": overwrite, "preload": None if is_judged else JUDGE}
    with judging_in(out, machine.num_workers, **preparing) as (pool, place):
        from mattergen_lite.commands.sources import answers_in, read_source
        from mattergen_lite.model import pick_device
        from mattergen_lite.runs.judging import JudgingRun
        from mattergen_lite.scoring.execution.stopwatch import Stopwatch
        from mattergen_lite.scoring.judge import Judge

        watch = Stopwatch()
        with watch.stage("reference"):
            opened = Judge.of(judge, best, device=str(pick_device(machine.device)))
        with watch.stage("reading"):
            records, earlier, earlier_run = read_source(
                source, limit, relaxed=not judge.relax, pool=pool, out=out
            )
        arguments = arguments_of(
            *(judge, best, machine),
            **{"source": source, "out": out, "limit": limit, "audit": audit},
            overwrite=overwrite,
        )
        run = JudgingRun(
            judge=replace(opened, earlier=earlier),
            pool=pool,
            place=place,
            shortlist=best,
            audit=audit,
            earlier=answers_in(source),
            source=earlier_run,
            watch=watch,
        )
        return run.execute([records], {"verb": "score", "arguments": arguments})
