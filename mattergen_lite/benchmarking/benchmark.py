"""Sets of crystals under one of the field's protocols, beside each other and what was published.

A set that is not the folder of an earlier run is judged first, as `score` does it, into
<out>/judged/<name>; a run's own judgements and relaxations are used as they are.

    out/judged/<name>/     what `score` would have written; an interrupted benchmark goes on from it
    out/fingerprints.jsonl what coverage has worked out so far; gone when all is done
    out/benchmark.json     all figures, with the protocol in words; written last
    out/benchmark.md, .png the same for people
"""

from collections.abc import Mapping
from pathlib import Path

from mattergen_lite.benchmarking.comparison import Benchmarked, Line
from mattergen_lite.benchmarking.conditional import conditional
from mattergen_lite.benchmarking.de_novo import de_novo
from mattergen_lite.benchmarking.prediction import prediction
from mattergen_lite.benchmarking.protocols import Protocol, published
from mattergen_lite.benchmarking.sets import BenchmarkOptions
from mattergen_lite.processes import Pool
from mattergen_lite.scoring.execution.result_cache import ResultCache
from mattergen_lite.scoring.metrics.coverage import has_matminer

FINGERPRINTS = "fingerprints.jsonl"


def benchmark(sets: Mapping[str, Path], options: BenchmarkOptions, pool: Pool) -> Benchmarked:
    """Evaluate sets of crystals, files or folders by name, under a protocol; write the comparison.

    Raises:
        ValueError: If a source cannot be used, or options do not fit the protocol.
    """
    options.check(sets)
    measure = {"de novo": de_novo, "prediction": prediction, "conditional": conditional}
    result_cache = ResultCache(pool, options.out / FINGERPRINTS)
    lines = measure[options.protocol.kind](sets, options, result_cache)
    papers = published(options.protocol.name)
    done = Benchmarked(
        protocol=options.protocol,
        measured=tuple(lines),
        published=tuple(
            Line(
                name=name,
                num=papers.num_structures,
                judged_by=papers.judged_by,
                values=dict(values),
                source="",
            )
            for name, values in papers.rows.items()
        )
        if papers
        else (),
        published_source=papers.source if papers else "",
        folder=options.out,
        note=" ".join(filter(None, [_note(options.protocol), *(line.note for line in lines)])),
    )
    done.write()
    result_cache.forget()
    return done


def _note(protocol: Protocol) -> str:
    """Which columns cannot be filled here, and what it takes."""
    if not protocol.coverage or has_matminer():
        return ""
    return 'COV-R and COV-P are empty: they need matminer, `pip install ".[coverage]"`.'
