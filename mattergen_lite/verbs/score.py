"""The command `score`."""

from pathlib import Path
from typing import TYPE_CHECKING

from mattergen_lite.options.checks import Count, Workers
from mattergen_lite.options.flat import arguments_of, flat
from mattergen_lite.options.judge import JudgeOptions, ScreenOptions, ShortlistOptions
from mattergen_lite.verbs.workspace import judging_in

if TYPE_CHECKING:
    from mattergen_lite.runs.results import Judged


@flat
def score(
    source: Path,
    /,
    *,
    out: Path,
    limit: Count | None = None,
    judge: JudgeOptions,
    screen: ScreenOptions,
    best: ShortlistOptions,
    audit: bool = False,
    device: str = "auto",
    num_workers: Workers | None = None,
    overwrite: bool = False,
) -> "Judged":
    """Judge crystals from any source: geometry, symmetry, charge, stability, novelty, credibility.

    Writes scores.csv (and .parquet; one row a crystal, best first, with its error if it has one),
    cifs/ and relaxed/ (symmetrised), structures.extxyz and relaxed.extxyz, summary.json (shares and
    their protocol) and run.json. An interrupted run is continued by the same command.

    Args:
        source: Folder or zip of CIF/POSCAR files, extxyz, csv or parquet with a cif column,
            pymatgen JSON, or the folder of an earlier run: its crystals as they came or, with
            --no-relax, as they relaxed there.
        out: Folder for the results.
        limit: Judge only so many structures, the first ones.
        judge: How they are judged.
        screen: Which of them are relaxed.
        best: What is done for the best.
        audit: Compare the whole set with the known materials as a reviewer would: elements,
            intermetallics, dopant-like compositions, unseen chemical systems; audit.json and .png.
        device: Of the potentials: cpu, cuda, cuda:1, or auto.
        num_workers: Processes that judge; default one a core, 0 judges in this process.
        overwrite: Replace an earlier run in the same folder.

    Raises:
        ValueError: If the source holds no structures; nothing is written then.
    """
    with judging_in(out, num_workers) as pool:
        from mattergen_lite.io.records import StructureRecord
        from mattergen_lite.model import pick_device
        from mattergen_lite.runs.results import (
            RECORD,
            Stopwatch,
            check_folder,
            judge_and_write,
            read_records,
            read_run,
        )
        from mattergen_lite.verbs.judging import judging

        check_folder(out, overwrite)
        options = judging(judge, screen, best, device=str(pick_device(device)), audit=audit)
        watch = Stopwatch()
        with watch.stage("reading"):
            if (source / RECORD).exists():
                ranked = read_run(source, relaxed=not judge.relax)[:limit]
                records = [StructureRecord(one.name, one.structure) for one in ranked]
            else:
                records = read_records(source, limit, pool)
        arguments = arguments_of(
            *(judge, screen, best),
            **{"source": source, "out": out, "limit": limit, "audit": audit, "device": device},
            **{"num_workers": num_workers, "overwrite": overwrite},
        )
        provenance = {"verb": "score", "arguments": arguments}
        return judge_and_write([records], out / "scores.csv", watch, provenance, options, pool)
