"""Speed of judging 1,000 reference structures: each criterion alone, then everything on N cores.

python benchmarks/scoring_speed.py [num_structures] [num_workers]

CPU seconds are of one thread and hold on a busy machine, wall seconds are what users wait.
"""

import sys
import time
import warnings
from collections.abc import Callable
from functools import partial

import numpy as np
from pymatgen.core import Structure

from mattergen_lite.io.records import StructureRecord
from mattergen_lite.processes import Pool
from mattergen_lite.scoring.candidate import Candidate
from mattergen_lite.scoring.criteria.credibility import credibility
from mattergen_lite.scoring.criteria.neutrality import neutrality
from mattergen_lite.scoring.criteria.novelty import novelty
from mattergen_lite.scoring.criteria.symmetry import symmetry
from mattergen_lite.scoring.criteria.validity import validity
from mattergen_lite.scoring.execution.result_cache import ResultCache
from mattergen_lite.scoring.known.reference import Reference
from mattergen_lite.scoring.metrics.summary import summary
from mattergen_lite.scoring.score import score


def sample(reference: Reference, size: int) -> list[Structure]:
    """Reference structures with their atoms moved by 0.02 Å, so that comparing is not trivial."""
    rows = np.random.default_rng(0).choice(len(reference), size, replace=False)
    return [reference.crystal(row).structure().perturb(0.02, seed=int(row)) for row in rows]


def cpu_seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def main(num_structures: int = 1000, num_workers: int = 2) -> None:
    warnings.simplefilter("ignore")
    start = time.process_time()
    reference = Reference.embedded()
    print(f"{len(reference)} known structures, {len(reference.rows_of_composition)} compositions")
    print(f"{'load and index reference':<28}{time.process_time() - start:8.2f} CPU s")
    structures = sample(reference, num_structures)
    criteria: dict[str, Callable[[Structure], object]] = {
        "validity": validity,
        "symmetry": symmetry,
        "neutrality": neutrality,
        "credibility": partial(credibility, symprec=0.1),
    }
    for name, criterion in criteria.items():
        criterion(structures[0])  # imports and tables
        seconds = cpu_seconds(lambda run=criterion: [run(structure) for structure in structures])
        print(f"{name:<28}{seconds:8.2f} CPU s")
    names = [str(i) for i in range(num_structures)]
    with Pool(0) as here:
        compare = partial(novelty, structures, names, reference=reference, pool=here)
        print(f"{'novelty':<28}{cpu_seconds(compare):8.2f} CPU s")
    records = [StructureRecord(name, s, None) for name, s in zip(names, structures, strict=True)]
    with Pool(num_workers, preload="mattergen_lite.scoring.judge") as pool:
        start = time.perf_counter()
        scores = score(records, reference=reference, result_cache=ResultCache(pool))
        print(f"{f'score, {num_workers} workers':<28}{time.perf_counter() - start:8.2f} s")
    candidates = [
        Candidate(raw=judged, structure=structure)
        for judged, structure in zip(scores, structures, strict=True)
    ]
    print(summary(candidates).text())


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
