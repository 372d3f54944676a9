"""Label own candidates by first principles, drawn at random within strata; checkpointed.

    python scripts/label_with_dft.py labels.jsonl --pool RUN --pool 'RUNS/pool*' --num 50

Pools are finished runs whose samples were all relaxed. Every pool has five strata of
`probability_metastable`. The next crystal comes from the stratum with the fewest labels, at random
in a fixed order. Elements without setups, +U and cost alone exclude a crystal, and are recorded as
an error. Each line of the file is one crystal; the same command goes on from it, and further pools
are taken in when they appear.
"""

import argparse
import json
import math
import random
from collections import Counter
from dataclasses import asdict
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from pymatgen.core import Structure

from mattergen_lite import load
from mattergen_lite.dft.cache import ResultFolder
from mattergen_lite.dft.engine import JobLimits
from mattergen_lite.dft.gpaw import Gpaw
from mattergen_lite.dft.verification import Verification, Verifier
from mattergen_lite.scoring.candidate import Candidate

STRATA = 5  # of equal width in probability
COLUMNS = (
    "e_above_hull",
    "e_above_hull_std",
    "e_above_hull_raw",
    "second_e_above_hull_raw",
    "probability_metastable",
    "potential",
    "second_opinion",
    "opinions_disagree",
    "relaxed_with",
    "rmsd",
    "volume_change",
    "relaxed_is_novel",
    "relaxed_nearest_known",
    "relaxed_space_group",
    "charge_verdict",
    "verdict",
)


def main() -> None:
    """Command line: label until the number, or the pools, are exhausted."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("labels", type=Path)
    parser.add_argument("--pool", action="append", required=True, help="folder or pattern")
    parser.add_argument("--num", type=int, default=10, help="labels with an energy to add")
    parser.add_argument("--max-seconds", type=float, default=300.0, help="estimated core s of each")
    parser.add_argument("--results", type=Path, default=None, help="folder of calculations")
    options = parser.parse_args()
    folder = options.results or options.labels.parent / "results"
    verifier = Verifier(
        engine=Gpaw(), results=ResultFolder(folder), limits=JobLimits(seconds=3600.0)
    )
    verifier.engine.check_installed()
    label(options.labels, options.pool, verifier, options.num, options.max_seconds)


def label(
    path: Path, patterns: list[str], verifier: Verifier, num: int, max_seconds: float
) -> None:
    """Append a line a crystal until so many have an energy."""
    rows = _rows(path)
    done = {(row["pool"], row["name"]) for row in rows if not _is_retried(row, max_seconds)}
    counts = Counter((row["pool"], row["stratum"]) for row in rows if row["error"] is None)
    while num > 0:
        queues = {
            (pool, stratum): [
                candidate for candidate in queue if (pool, candidate.raw.name) not in done
            ]
            for pool in _pools(patterns)
            for stratum, queue in enumerate(_strata(pool))
        }
        open_ones = [key for key, queue in queues.items() if queue]
        if not open_ones:
            return
        pool, stratum = min(open_ones, key=lambda key: (counts[key], key))
        candidate = queues[pool, stratum][0]
        verification = _labelled(candidate, verifier, max_seconds)
        row = _row(pool, stratum, candidate, verification) | {
            "max_seconds": max_seconds,
            "engine": verifier.engine.versions,
            "settings": asdict(verifier.engine.settings),
        }
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        done.add((pool, candidate.raw.name))
        if verification.error is None:
            counts[pool, stratum] += 1
            num -= 1
        print(_line(row), flush=True)


def _rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.open(encoding="utf-8")] if path.exists() else []


def _is_retried(row: dict, max_seconds: float) -> bool:
    """Whether a crystal was too dear for a lower limit than that of today."""
    too_dear = (row["error"] or "").startswith("too dear")
    return too_dear and row.get("max_seconds", 0.0) < max_seconds


def _pools(patterns: list[str]) -> list[str]:
    """Finished runs that match the patterns."""
    paths = (Path(pattern) for pattern in patterns)
    folders = {match for path in paths for match in path.parent.glob(path.name)}
    return sorted(str(folder) for folder in folders if (folder / "run.json").exists())


@cache
def _strata(pool: str) -> list[list[Candidate]]:
    """Candidates with a probability, in a random order within each stratum."""
    strata: list[list[Candidate]] = [[] for _ in range(STRATA)]
    for candidate in load(pool):
        stability = candidate.stability
        if candidate.relaxed_structure is None or stability is None:
            continue
        if math.isfinite(stability.probability_metastable):
            index = min(int(stability.probability_metastable * STRATA), STRATA - 1)
            strata[index].append(candidate)
    for queue in strata:
        queue.sort(key=lambda candidate: candidate.raw.name)
        random.Random(f"{Path(pool).name}-{len(queue)}").shuffle(queue)
    return strata


def _labelled(candidate: Candidate, verifier: Verifier, max_seconds: float) -> Verification:
    """Verify what is not too dear."""
    structure = candidate.relaxed_structure
    try:
        plan = verifier.plan(structure)
        if plan.estimated_seconds > max_seconds:
            raise ValueError(
                f"too dear: estimated at {plan.estimated_seconds:.0f} core s, the limit is "
                f"{max_seconds:g}"
            )
    except ValueError as error:
        return Verification(
            formula=structure.composition.reduced_formula, method=verifier.method, error=str(error)
        )
    return verifier.carry_out(plan)


def _row(pool: str, stratum: int, candidate: Candidate, verification: Verification) -> dict:
    run = json.loads((Path(pool) / "run.json").read_text(encoding="utf-8"))
    table = candidate.row()
    return {
        "pool": pool,
        "seed": run.get("arguments", {}).get("seed"),
        "weights": run.get("weights_sha256"),
        "name": candidate.raw.name,
        "stratum": stratum,
        "judged": {name: table.get(name) for name in COLUMNS},
        "structure": _plain(candidate.structure),
        "relaxed": _plain(candidate.relaxed_structure),
        **asdict(verification),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _plain(structure: Structure) -> dict[str, list]:
    return {
        "cell": structure.lattice.matrix.tolist(),
        "atomic_numbers": [int(number) for number in structure.atomic_numbers],
        "frac_coords": structure.frac_coords.tolist(),
    }


def _line(row: dict) -> str:
    name = f"{Path(row['pool']).name}/{row['name']} {row['formula']}"
    if row["error"] is not None:
        return f"{name}: {row['error']}"
    return (
        f"{name}: {row['e_above_hull']:+.3f} (judge {row['judged']['e_above_hull']:+.3f}, "
        f"P {row['judged']['probability_metastable']:.2f}) {row['seconds']:.0f} + "
        f"{row['reference_seconds']:.0f} core s, estimated {row['estimated_seconds']:.0f}"
    )


if __name__ == "__main__":
    main()
