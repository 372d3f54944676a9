"""The expensive stage: every judged crystal relaxed by a potential, and its energy above the hull.

CHGNet relaxes; it decides too, unless a more accurate potential is asked for the final energy. One
process per core with one thread each, which is what these potentials want on a CPU.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from pymatgen.core import Structure
from tqdm import tqdm

from mattergen_lite.io import StructureRecord
from mattergen_lite.scoring.pool import Failure, Pool
from mattergen_lite.scoring.potentials import load_potential
from mattergen_lite.scoring.score import Score, ordered_structure
from mattergen_lite.scoring.stability import Stability, judge_stability

RELAXER = "chgnet"
TIME_LIMIT = 600.0  # s per crystal


class Candidate(NamedTuple):
    """What is relaxed: a crystal, and whether the potentials know it from their training."""

    structure: Structure
    is_known: bool


class Relaxed(NamedTuple):
    """A crystal after the stage; no structure if its relaxation failed."""

    stability: Stability
    structure: Structure | None


def relax_and_judge(candidate: Candidate, *, potential: str) -> Relaxed:
    """Stability of one crystal, decided by the named potential."""
    relaxer = load_potential(RELAXER)
    decider = None if potential == RELAXER else load_potential(potential)
    relaxation, stability = judge_stability(
        candidate.structure, relaxer, decider, known=candidate.is_known
    )
    return Relaxed(stability, relaxation.structure)


def add_stability(
    scores: Sequence[Score], records: Sequence[StructureRecord], *, potential: str, num_workers: int
) -> tuple[list[Score], list[Structure | None]]:
    """Relax every structurally valid crystal; returns scores with stability, and what it became.

    Args:
        scores: From `score`, one a record.
        records: The structures that were judged.
        potential: "chgnet", or "7net-l3i5" for a more accurate energy after CHGNet's relaxation.
        num_workers: Processes; 0 works in this one.

    Raises:
        ValueError: If the potential is unknown or not installed.
    """
    load_potential(potential)
    rows = [i for i, judged in enumerate(scores) if _is_worth_relaxing(judged)]
    candidates = [
        Candidate(ordered_structure(records[i].structure), not _is_novel(scores[i])) for i in rows
    ]
    judged, relaxed = list(scores), [None] * len(scores)
    for i, result in zip(rows, _results(candidates, potential, num_workers), strict=True):
        judged[i] = replace(scores[i], stability=result.stability)
        relaxed[i] = result.structure
    return judged, relaxed


def _is_worth_relaxing(judged: Score) -> bool:
    return judged.validity is not None and judged.validity.structure_valid


def _is_novel(judged: Score) -> bool:
    return judged.novelty is None or judged.novelty.is_novel is not False


def _results(
    candidates: Sequence[Candidate], potential: str, num_workers: int
) -> Iterator[Relaxed]:
    with Pool(num_workers) as pool:
        work = partial(relax_and_judge, potential=potential)
        answers = pool.map(work, candidates, time_limit=TIME_LIMIT)
        for answer in tqdm(answers, total=len(candidates), desc="relax", disable=None):
            failed = isinstance(answer, Failure)
            yield Relaxed(Stability(stability_error=answer.reason), None) if failed else answer
