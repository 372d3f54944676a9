"""Crystal structure prediction: do samples of a composition have its known structure.

The protocol of CDVAE and DiffCSP (arXiv 2309.04475): pymatgen's `StructureMatcher` with loose
tolerances. METRe and cRMSE follow Martirossyan et al. (arXiv 2509.12178): every known structure is
compared with every sample of its composition, so that finding another known polymorph than the one
that was next in the file counts.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Structure

from mattergen_lite.scoring.matching import find_duplicates
from mattergen_lite.scoring.pool import Failure, Pool
from mattergen_lite.scoring.reference import CompositionKey, Crystal, composition_key

LTOL, STOL, ANGLE_TOL = 0.3, 0.5, 10.0  # relative lengths, (V/N)^(1/3), degrees
TIME_LIMIT = 600.0  # s per known structure

Distance = float | None  # None where two structures do not match


class Case(NamedTuple):
    """A known structure and the samples of its composition."""

    truth: Crystal
    samples: list[Crystal]


@dataclass(frozen=True, kw_only=True)
class Predicted:
    """How well samples predict known structures; lengths are in (V/N)^(1/3)."""

    paired: str  # "order" or "formula": which samples are meant for which known structure
    num_known: int
    num_distinct: int  # known structures, equal ones counted once
    num_samples: int
    match_rate: float  # share of known structures that a sample meant for them matches
    rmse: float | None  # mean over those of the smallest displacement; None if there are none
    metre: float  # share of distinct known structures that any sample matches
    crmse: float  # mean over distinct ones of the smallest displacement, STOL where none matches
    sample_match_rate: float  # share of distinct samples that match any known structure


@cache
def _matcher() -> StructureMatcher:
    return StructureMatcher(ltol=LTOL, stol=STOL, angle_tol=ANGLE_TOL)


def displacements(truth: Structure, samples: Sequence[Structure]) -> list[Distance]:
    """Root mean square displacement of each sample in (V/N)^(1/3), None where it does not match."""
    found = [_matcher().get_rms_dist(truth, structure) for structure in samples]
    return [None if pair is None else float(pair[0]) for pair in found]


def _compare(case: Case) -> list[Distance]:
    return displacements(case.truth.structure(), [one.structure() for one in case.samples])


def predicted(
    samples: Sequence[Structure | None],
    truths: Sequence[Structure],
    *,
    pool: Pool,
    ordered: bool = True,
) -> Predicted:
    """Compare samples with known structures.

    Args:
        samples: Ordered structures; None where one cannot be read, which matches nothing.
        truths: Known ordered structures.
        pool: Processes to compare in; what breaks or takes too long matches nothing.
        ordered: Samples may be in the order of the known structures. They are taken to be if there
            are as many and every composition agrees; else a known structure is compared with all
            samples of its reduced composition, of which the closest counts.

    Raises:
        ValueError: If there are no known structures, or no sample has the composition of one.
    """
    if not truths:
        raise ValueError("no known structures to compare with: expected at least one")
    known = [Crystal.from_structure(one) for one in truths]
    made = [None if one is None else Crystal.from_structure(one) for one in samples]
    known_keys = [_key(one) for one in known]
    made_keys = [one and _key(one) for one in made]
    of_key = _positions(made_keys)
    if not of_key.keys() & {*known_keys}:
        raise ValueError("no sample has the composition of a known structure")
    cases = [
        Case(one, [made[i] for i in of_key[key]])
        for one, key in zip(known, known_keys, strict=True)
    ]
    answers = list(pool.map(_compare, cases, time_limit=TIME_LIMIT))
    found = [
        {} if isinstance(answer, Failure) else dict(zip(of_key[key], answer, strict=True))
        for answer, key in zip(answers, known_keys, strict=True)
    ]
    in_order = ordered and _same_order(made_keys, known_keys)
    meant = [
        ({position} if in_order else {*of_key[key]}) for position, key in enumerate(known_keys)
    ]
    own = [_closest({i: d[i] for i in d.keys() & m}) for d, m in zip(found, meant, strict=True)]
    groups = _groups(known, _positions(known_keys), pool)
    closest = [_smallest([_closest(found[i]) for i in group]) for group in groups]
    made_groups = _groups(made, of_key, pool)
    matching = {i for one in found for i, distance in one.items() if distance is not None}
    hits = [distance for distance in own if distance is not None]
    return Predicted(
        paired="order" if in_order else "formula",
        num_known=len(known),
        num_distinct=len(groups),
        num_samples=len(samples),
        match_rate=len(hits) / len(known),
        rmse=sum(hits) / len(hits) if hits else None,
        metre=sum(distance is not None for distance in closest) / len(groups),
        crmse=sum(STOL if d is None else d for d in closest) / len(groups),
        sample_match_rate=sum(bool(matching & {*group}) for group in made_groups)
        / (len(made_groups) + made.count(None)),
    )


def _key(crystal: Crystal) -> CompositionKey:
    return composition_key(crystal.atomic_numbers.tolist())


def _positions(keys: Sequence[CompositionKey | None]) -> dict[CompositionKey, list[int]]:
    """Positions of every composition."""
    positions: dict[CompositionKey, list[int]] = defaultdict(list)
    for position, key in enumerate(keys):
        if key is not None:
            positions[key].append(position)
    return positions


def _same_order(
    made: Sequence[CompositionKey | None], known: Sequence[CompositionKey | None]
) -> bool:
    """Whether samples and known structures pair up; one that cannot be read pairs with any."""
    return len(made) == len(known) and all(
        one in (None, other) for one, other in zip(made, known, strict=True)
    )


def _groups(
    crystals: Sequence[Crystal | None], positions: dict[CompositionKey, list[int]], pool: Pool
) -> list[list[int]]:
    """Positions of equal crystals together; where comparing broke, every crystal is its own."""
    buckets = [indices for indices in positions.values() if indices]
    tasks = [[crystals[i] for i in indices] for indices in buckets]
    answers = pool.map(find_duplicates, tasks, time_limit=TIME_LIMIT)
    groups: dict[int, list[int]] = {}
    for indices, answer in zip(buckets, answers, strict=True):
        firsts = [None] * len(indices) if isinstance(answer, Failure) else answer
        for index, first in zip(indices, firsts, strict=True):
            groups.setdefault(index if first is None else indices[first], []).append(index)
    return list(groups.values())


def _closest(distances: dict[int, Distance]) -> Distance:
    return _smallest([*distances.values()])


def _smallest(distances: Sequence[Distance]) -> Distance:
    return min((one for one in distances if one is not None), default=None)
