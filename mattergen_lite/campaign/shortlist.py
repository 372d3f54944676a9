"""The end of the funnel: the best candidates of all units, each of its kind once.

Units know nothing of each other, so what is unique in a unit may be there twice in a campaign. The
better one of two equal crystals comes first in the order of merit; comparing the best with each
other therefore finds every duplicate among them.
"""

import heapq
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow.parquet as pq
from pymatgen.core import Structure

from mattergen_lite.campaign.parts import part_paths
from mattergen_lite.processes import Pool
from mattergen_lite.runs.store import read_candidates
from mattergen_lite.scoring.candidate import Candidate, ranked
from mattergen_lite.scoring.criteria.novelty import novelty


class Place(NamedTuple):
    """A stored candidate by its merit."""

    merit: tuple[float, ...]
    part: int
    row: int


def best_candidates(
    run_dir: Path, number: int, pool: Pool, required: Collection[str] = ()
) -> list[Candidate]:
    """The best candidates of a campaign, no two of them the same crystal; the best first.

    Fewer than asked for if fewer kinds exist. Required checks come before all others, as when the
    units were judged.

    Raises:
        ValueError: If no unit is stored yet.
    """
    parts = part_paths(run_dir)
    if not parts:
        raise ValueError(f"{run_dir} holds no finished unit yet: expected at least one")
    looked_at = 2 * number
    while True:
        places = heapq.nsmallest(looked_at, _places(parts))
        candidates = ranked(_load(parts, places), required)
        unique = _each_once(candidates, pool)
        if len(unique) >= number or len(places) < looked_at:
            return ranked(unique[:number], required)
        looked_at *= 2


def _places(parts: Sequence[Path]) -> Iterator[Place]:
    """Merit of every stored candidate that could be read."""
    for part, path in enumerate(parts):
        for row, merit in enumerate(pq.read_table(path, columns=["merit"])["merit"].to_pylist()):
            if not merit[0]:
                yield Place(tuple(merit), part, row)


def _load(parts: Sequence[Path], places: Sequence[Place]) -> list[Candidate]:
    """The candidates at these places, in their order; every file is read once."""
    wanted: dict[int, list[int]] = {}
    for place in places:
        wanted.setdefault(place.part, []).append(place.row)
    loaded: dict[tuple[int, int], Candidate] = {}
    for part, rows in wanted.items():
        read = read_candidates(parts[part], rows)
        loaded |= {(part, row): candidate for row, candidate in zip(rows, read, strict=True)}
    return [loaded[place.part, place.row] for place in places]


def _each_once(candidates: Sequence[Candidate], pool: Pool) -> list[Candidate]:
    """Drop each candidate whose structure equals that of a better one."""
    structures: list[Structure] = [candidate.final_structure for candidate in candidates]
    names = [candidate.raw.name for candidate in candidates]
    novelties = novelty(structures, names, reference=None, pool=pool)
    return [
        candidate
        for candidate, judged in zip(candidates, novelties, strict=True)
        if judged.is_unique is not False
    ]
