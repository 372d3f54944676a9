"""Property targets: hit rates and errors of the targets of runs."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from mattergen_lite.benchmarking.comparison import Line
from mattergen_lite.benchmarking.sets import BenchmarkOptions
from mattergen_lite.runs.folder import RunFolder
from mattergen_lite.runs.tables import Row, deciding_value
from mattergen_lite.scoring.execution.result_cache import ResultCache


def conditional(
    sets: Mapping[str, Path], options: BenchmarkOptions, result_cache: ResultCache
) -> list[Line]:
    """A line for every target of every run."""
    return [line for name, source in sets.items() for line in _target_lines(name, source)]


def _target_lines(name: str, source: Path) -> list[Line]:
    run = RunFolder(source)
    targets = run.summary().get("targets") if run.is_finished else None
    if not targets:
        raise ValueError(f"{source} has no targets: expected a folder of `generate --condition`")
    rows = run.rows()
    return [
        Line(
            name=f"{name}: {target['target']}",
            num=target["num_measured"],
            judged_by="what decides in the run",
            values={
                "rate": target["rate"],
                "base_rate": target["base_rate"],
                "enrichment": target["rate"] / target["base_rate"]
                if target["base_rate"] and target["rate"] is not None
                else None,
                "mae": mean_error(rows, target["target"]),
            },
            source=str(source),
        )
        for target in targets
    ]


def mean_error(rows: Sequence[Row], name: str) -> float | None:
    """Mean absolute difference of numbers asked and found; None if they are no numbers."""
    pairs = [(row.get(f"target_{name}"), deciding_value(row, name)) for row in rows]
    errors = [
        abs(measured - asked)
        for asked, measured in pairs
        if isinstance(asked, float) and isinstance(measured, float) and math.isfinite(measured)
    ]
    return sum(errors) / len(errors) if errors else None
