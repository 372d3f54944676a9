"""Compares predicted structures with known ones of their composition.

The protocol of CDVAE and DiffCSP (arXiv 2309.04475): `StructureMatcher` with loose tolerances.
METRe and cRMSE (Martirossyan et al., arXiv 2509.12178) compare every known structure with every
sample of its composition, so that any known polymorph counts.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import NamedTuple

from pymatgen.core import Structure

from mattergen_lite.console import ProgressBar
from mattergen_lite.processes import Failure, Pool
from mattergen_lite.scoring.criteria.grouping import Comparer
from mattergen_lite.scoring.criteria.matching import PREDICTED, Matcher, ReductionTask
from mattergen_lite.scoring.criteria.symmetry import polymorph
from mattergen_lite.scoring.known.reference import CompositionKey, Crystal, composition_key

TIME_LIMIT = 600.0  # s per known structure

Distance = float | None  # None where two structures do not match


class SampleComparison(NamedTuple):
    """How a sample compares with a known structure."""

    distance: Distance
    is_same_polymorph: bool  # it matches, and the space groups agree


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
    # mean over distinct ones of the smallest displacement, `PREDICTED.stol` where none matches
    crmse: float
    polymorph_rate: float  # share of known structures that a sample of their space group matches
    sample_match_rate: float  # share of distinct samples that match any known structure


@cache
def _matcher() -> Matcher:
    return Matcher(**asdict(PREDICTED))


def displacements(truth: Structure, samples: Sequence[Structure]) -> list[Distance]:
    """Root mean square displacement of each sample in (V/N)^(1/3), None where it does not match.

    The sample comes first, as in CDVAE: at its limits the matcher depends on the order.
    """
    pairs = [_matcher().get_rms_dist(structure, truth) for structure in samples]
    return [None if pair is None else float(pair[0]) for pair in pairs]


def _compare(case: tuple[Crystal, list[Crystal]]) -> list[SampleComparison]:
    """Compare a known structure with the samples of its composition."""
    truth, samples = case[0].structure(), [sample.structure() for sample in case[1]]
    group = polymorph(truth)
    return [
        SampleComparison(distance, distance is not None and polymorph(sample) == group)
        for sample, distance in zip(samples, displacements(truth, samples), strict=True)
    ]


def predicted(
    samples: Sequence[Structure | None],
    truths: Sequence[Structure],
    *,
    pool: Pool,
    ordered: bool = True,
) -> Predicted:
    """Compare samples with known structures; a sample that is None matches nothing.

    Samples may be in the order of the known structures (`ordered`): they are if there are as many
    and every composition agrees. Else the closest of all samples of its composition counts.

    Raises:
        ValueError: If there are no known structures, or no sample has the composition of one.
    """
    if not truths:
        raise ValueError("no known structures to compare with: expected at least one")
    known = [Crystal.from_structure(truth) for truth in truths]
    made = [None if sample is None else Crystal.from_structure(sample) for sample in samples]
    known_keys, made_keys = (
        [crystal and _key(crystal) for crystal in side] for side in (known, made)
    )
    in_order = ordered and _same_order(made_keys, known_keys)
    compared = _all_comparisons(known, made, pool)
    distances = [{i: comparison.distance for i, comparison in row.items()} for row in compared]
    own = [
        _smallest([row.get(position)] if in_order else row.values())
        for position, row in enumerate(distances)
    ]
    hits = [distance for distance in own if distance is not None]
    known_groups, made_groups = (_groups(side, pool) for side in (known, made))
    closest = [_smallest(d for i in group for d in distances[i].values()) for group in known_groups]
    matching = {i for row in distances for i, distance in row.items() if distance is not None}
    return Predicted(
        paired="order" if in_order else "formula",
        num_known=len(known),
        num_distinct=len(known_groups),
        num_samples=len(samples),
        match_rate=len(hits) / len(known),
        rmse=sum(hits) / len(hits) if hits else None,
        metre=sum(distance is not None for distance in closest) / len(closest),
        crmse=sum(PREDICTED.stol if d is None else d for d in closest) / len(closest),
        polymorph_rate=sum(
            any(comparison.is_same_polymorph for comparison in row.values()) for row in compared
        )
        / len(known),
        sample_match_rate=sum(bool(matching & {*group}) for group in made_groups)
        / (len(made_groups) + made.count(None)),
    )


def _all_comparisons(
    known: Sequence[Crystal], made: Sequence[Crystal | None], pool: Pool
) -> list[dict[int, SampleComparison]]:
    """For every known structure: comparisons of the samples of its composition, by position."""
    positions: dict[CompositionKey, list[int]] = defaultdict(list)
    for position, crystal in enumerate(made):
        if crystal is not None:
            positions[_key(crystal)].append(position)
    fitting = [positions.get(_key(truth), []) for truth in known]
    if not any(fitting):
        raise ValueError("no sample has the composition of a known structure")
    cases = [
        (truth, [made[i] for i in indices]) for truth, indices in zip(known, fitting, strict=True)
    ]
    answers = ProgressBar(
        pool.map(_compare, cases, time_limit=TIME_LIMIT),
        total=len(cases),
        desc="match",
        disable=None,
    )
    return [
        {} if isinstance(answer, Failure) else dict(zip(indices, answer, strict=True))
        for answer, indices in zip(answers, fitting, strict=True)
    ]


def _key(crystal: Crystal) -> CompositionKey:
    return composition_key(crystal.atomic_numbers.tolist())


def _same_order(
    made: Sequence[CompositionKey | None], known: Sequence[CompositionKey | None]
) -> bool:
    """Whether samples and known structures pair up; one that cannot be read pairs with any."""
    return len(made) == len(known) and all(
        sample in (None, other) for sample, other in zip(made, known, strict=True)
    )


def _groups(crystals: Sequence[Crystal | None], pool: Pool) -> list[list[int]]:
    """Positions of equal crystals together; where comparing broke, every crystal is its own."""
    readable = [index for index, crystal in enumerate(crystals) if crystal is not None]
    comparer = Comparer(pool, progress=False)
    reduced = comparer.reduce([ReductionTask(crystals[index]) for index in readable], "reduce")
    places = comparer.group(reduced, [_key(crystals[index]) for index in readable])
    groups: dict[int, list[int]] = defaultdict(list)
    for index, place in zip(readable, places, strict=True):
        groups[place.first].append(index)
    return list(groups.values())


def _smallest(distances: Iterable[Distance]) -> Distance:
    return min((distance for distance in distances if distance is not None), default=None)
