"""Writes judged crystals into the folder of a run."""

import shutil
import tempfile
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter

from mattergen_lite.files.folders import RECORD, atomic_path, remove
from mattergen_lite.io.write import write_csv
from mattergen_lite.processes import Pool
from mattergen_lite.runs.crystals import best_relaxed, write_structures
from mattergen_lite.runs.dft_codes import parse_codes
from mattergen_lite.runs.earlier_files import EarlierFiles
from mattergen_lite.runs.folder import (
    AUDIT,
    DFT,
    FORMAT,
    SUMMARY,
    TABLE,
    WRITTEN,
    RunFolder,
    environment,
)
from mattergen_lite.runs.judged_set import JudgedSet, RunFacts
from mattergen_lite.runs.recipes import parse_recipes
from mattergen_lite.runs.report import write_report
from mattergen_lite.runs.store import write_candidates
from mattergen_lite.runs.tables import write_json
from mattergen_lite.runs.vasp import parse_incar, write_shortlist_inputs
from mattergen_lite.scoring.execution.stopwatch import Stopwatch

FACTS = TypeAdapter(RunFacts)
Judged = TypeVar("Judged", bound=JudgedSet)


def write_run(
    path: Path, judged: Judged, pool: Pool, watch: Stopwatch, source: JudgedSet | None = None
) -> Judged:
    """Write a run, in the place of any earlier one; this process holds the folder.

    Files of the run that is the source are taken over where they would be the same. The stopwatch
    has the time of the stages before. Returns the judgements with their folder.
    """
    run, earlier = RunFolder(path), EarlierFiles()
    if source is not None and source.folder is not None:
        earlier = EarlierFiles.of(source.folder, source, _passed_by_stage(source))
    _keep_answers(judged, run)
    judged = replace(judged, folder=path, seconds=watch.seconds, result_cache=None)
    remove(path, WRITTEN)  # so that nothing of an earlier run passes for a new one's
    with watch.stage("writing"):
        facts = RunFacts(**{field.name: getattr(judged, field.name) for field in fields(RunFacts)})
        rows = write_candidates(
            judged,
            run.store,
            shared=FACTS.dump_python(facts, mode="json"),
            more=write_structures(path, judged, pool, earlier),
            required=judged.required,
        )
        write_csv(path / TABLE, list(rows[0]), [tuple(row.values()) for row in rows])
        best = judged.shortlist
        if best.dft_inputs:
            chosen = best_relaxed(judged, best.shortlist)
            write_shortlist_inputs(
                {name: candidate.relaxed_structure for name, candidate in chosen.items()},
                path / DFT,
                codes=parse_codes(best.dft_codes),
                recipes=parse_recipes(best.dft_sets),
                incar=parse_incar(best.incar),
                verdicts={
                    name: f"{candidate.raw.formula}, {candidate.verdict}"
                    for name, candidate in chosen.items()
                },
            )
        if judged.audit is not None:
            write_json(asdict(judged.audit), path / "audit.json")
            judged.audit.write_png(path / AUDIT)
        write_json(judged.figures(), path / SUMMARY)
    record = dict(judged.provenance) | environment()
    with watch.stage("report"):
        passed = set(judged.funnel.passed)
        stages = _passed_by_stage(judged)
        write_report(
            path,
            title=f"{judged.provenance['verb']}: {judged.headline.asked or len(judged)}",
            rows=rows,
            structures=[
                candidate.structure if candidate.raw.error is None else None for candidate in judged
            ],
            relaxed=[candidate.relaxed_structure for candidate in judged],
            figures=asdict(judged.summary()) | {"funnel": stages},
            protocol=judged.protocol,
            provenance=record,
            headline=judged.headline.figures(),
            passed=[candidate.raw.name in passed for candidate in judged],
            is_drawn=earlier.copy_figures(path, rows, stages),
        )
    write_json({"format": FORMAT} | record | {"seconds": watch.seconds}, path / RECORD)
    return judged


def _passed_by_stage(judged: JudgedSet) -> dict[str, int]:
    return {stage.name: stage.num_passed for stage in judged.stages}


def rewrite_run(path: Path, judged: Judged, pool: Pool) -> Judged:
    """Replace a finished run file by file; interrupted, it leaves old and new ones.

    The crystals are the same, and more is known of them. Returns the judgements with their folder.
    """
    with tempfile.TemporaryDirectory(dir=path, prefix=".rewritten.") as folder:
        new = Path(folder)
        written = write_run(new, judged, pool, Stopwatch(dict(judged.seconds)))
        for name in (name for name in reversed(WRITTEN) if (new / name).exists()):
            if name == DFT and (path / name).exists():
                continue  # calculations of the user's may lie there
            if (path / name).is_dir():
                remove(path, [name])
            (new / name).replace(path / name)
    return replace(written, folder=path)


def _keep_answers(judged: JudgedSet, run: RunFolder) -> None:
    """Store what was worked out, or copy it from the folder that the judgements come from."""
    if judged.result_cache is not None:
        judged.result_cache.keep(run.answers)
    elif judged.folder not in (None, run.path):
        answers = RunFolder(judged.folder).answers
        if answers.exists():
            with atomic_path(run.answers) as temporary:
                shutil.copyfile(answers, temporary)
