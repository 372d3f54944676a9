"""Crystal structure prediction: how many known structures are found."""

from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path

from pymatgen.core import Structure

from mattergen_lite.benchmarking.comparison import Line
from mattergen_lite.benchmarking.sets import BenchmarkOptions, is_run, structure_file
from mattergen_lite.io.formats.structures import ordered
from mattergen_lite.io.read import read_structures
from mattergen_lite.io.records import StructureRecord
from mattergen_lite.processes import Failure, attempt
from mattergen_lite.scoring.execution.result_cache import ResultCache
from mattergen_lite.scoring.metrics.prediction import predicted


def prediction(
    sets: Mapping[str, Path], options: BenchmarkOptions, result_cache: ResultCache
) -> list[Line]:
    """A line for every set against the same known structures."""
    truths = [
        structure for structure in _ordered(read_structures(options.truth)) if structure is not None
    ]
    lines = []
    for name, source in sets.items():
        records = islice(read_structures(structure_file(source)), options.limit)
        result = predicted(
            _ordered(records), truths, pool=result_cache.pool, ordered=not is_run(source)
        )
        lines.append(
            Line(
                name=name,
                num=result.num_known,
                judged_by=f"paired by {result.paired}, {result.num_samples} samples",
                values={f.name: getattr(result, f.name) for f in options.protocol.figures},
                source=str(source),
            )
        )
    return lines


def _ordered(records: Iterable[StructureRecord]) -> list[Structure | None]:
    """Bare structures, None where one cannot be read or is disordered."""
    read = (
        Failure(record.error) if record.structure is None else attempt(ordered, record.structure)
        for record in records
    )
    return [None if isinstance(structure, Failure) else structure for structure in read]
