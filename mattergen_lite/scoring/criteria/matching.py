"""Compares reduced crystals by pymatgen's `StructureMatcher` at the tolerances of the field.

What cannot match is first ruled out by the matcher's own conditions: a cell with edges and angles
like the other's, and every atom of the other in a box around one of its own.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Lattice, Structure

from mattergen_lite.processes import OutOfTime, alarm
from mattergen_lite.scoring.criteria.disorder import Groups, merged
from mattergen_lite.scoring.known.reference import Crystal

PAIR_TIME_LIMIT = 5.0  # s that one comparison may take
QUERY_TIME_LIMIT = 60.0  # s that all comparisons of one crystal may take
ROUNDING = 1e-6  # by which bounds are wider than those of `StructureMatcher`
MAX_ELEMENTS = 1_000_000  # of an array of distances


@dataclass(frozen=True)
class Tolerances:
    """Tolerances of pymatgen's `StructureMatcher`."""

    ltol: float  # relative, of lengths
    stol: float  # of positions, in (V/N)^(1/3)
    angle_tol: float  # degrees

    def __str__(self) -> str:
        return f"ltol {self.ltol:g}, stol {self.stol:g}, angle_tol {self.angle_tol:g}"


SAME = Tolerances(0.2, 0.3, 5.0)  # pymatgen's own, the field's for unique and novel
PREDICTED = Tolerances(0.3, 0.5, 10.0)  # the field's for structure prediction
PROTOCOL = f"pymatgen StructureMatcher: {SAME}, primitive, equal volume"


class ReducedCrystal(NamedTuple):
    """A Niggli-reduced primitive cell at 1 Å³ an atom, its sites sorted by element."""

    lattice: np.ndarray  # [3, 3] rows
    atomic_numbers: np.ndarray  # [N] ascending
    frac_coords: np.ndarray  # [N, 3]
    length: float  # Å, (V/N)^(1/3) of the crystal itself: the matcher's unit of length

    @classmethod
    def from_structure(cls, structure: Structure) -> "ReducedCrystal":
        """Reduce an ordered structure."""
        reduced = structure.get_reduced_structure().get_primitive_structure()
        order = np.argsort(reduced.atomic_numbers, kind="stable")
        length = (reduced.volume / len(reduced)) ** (1 / 3)
        return cls(
            reduced.lattice.matrix / length,
            np.array(reduced.atomic_numbers)[order],
            np.array(reduced.frac_coords)[order],
            float(length),
        )

    @property
    def sort_key(self) -> tuple[float, ...]:
        """Sorts crystals of one composition by what they are: volume, edges, contacts."""
        distances = Lattice(self.lattice).get_all_distances(self.frac_coords, self.frac_coords)
        per_atom = np.sort(distances, axis=1)[:, 1:2]
        edges = np.sort(np.linalg.norm(self.lattice, axis=1))
        return tuple(np.round([self.length, *edges, *np.sort(per_atom.ravel())], 5).tolist())


class ReductionTask(NamedTuple):
    """A crystal to be reduced, after the elements of each group have been merged."""

    crystal: Crystal
    groups: Groups = ()


class Comparison(NamedTuple):
    """Crystals, and those of their composition that each is compared with."""

    queries: Sequence[ReducedCrystal]
    others: Sequence[ReducedCrystal]


class Match(NamedTuple):
    """A crystal that equals a query."""

    index: int  # among the others
    rms_distance: float  # Å, root mean square displacement at the query's volume


class Matches(NamedTuple):
    """What the comparisons of one query say; empty `skipped` if all that mattered were made."""

    best: Match | None
    skipped: str = ""  # why comparisons are missing


def reduce_crystal(task: ReductionTask) -> ReducedCrystal:
    """Reduce a crystal for comparisons."""
    structure = task.crystal.structure()
    return ReducedCrystal.from_structure(
        merged(structure, task.groups) if task.groups else structure
    )


def find_duplicates(crystals: Sequence[ReducedCrystal]) -> list[Matches]:
    """Find the first crystal before it that each crystal equals and that equals none itself."""
    firsts: list[int] = []
    matches: list[Matches] = []
    cells = [_Cell(crystal) for crystal in crystals]
    for index, cell in enumerate(cells):
        answer = _search(cell, [cells[first] for first in firsts], nearest=False)
        if answer.best is None:
            firsts.append(index)
        else:
            answer = Matches(answer.best._replace(index=firsts[answer.best.index]))
        matches.append(answer)
    return matches


def find_equal(comparison: Comparison) -> list[Matches]:
    """Find the first of the others that each query equals."""
    return _search_all(comparison, nearest=False)


def find_nearest(comparison: Comparison) -> list[Matches]:
    """Find the closest of the others that each query equals."""
    return _search_all(comparison, nearest=True)


def _search_all(comparison: Comparison, *, nearest: bool) -> list[Matches]:
    others = [_Cell(other) for other in comparison.others]
    return [_search(_Cell(query), others, nearest=nearest) for query in comparison.queries]


def _search(query: "_Cell", others: Sequence["_Cell"], *, nearest: bool) -> Matches:
    """Compare a query with others, each within a time, until one equals it or for the nearest."""
    best: Match | None = None
    num_skipped, end = 0, time.monotonic() + QUERY_TIME_LIMIT
    for index, other in enumerate(others):
        if time.monotonic() > end:
            num_skipped += len(others) - index
            break
        try:
            distance = _timed_distance(other, query, rms=nearest)
        except OutOfTime:
            num_skipped += 1
            continue
        if distance is not None and (best is None or distance < best.rms_distance):
            best = Match(index, distance)
        if best is not None and not nearest:
            break
    skipped = f"{num_skipped} of {len(others)} comparisons took too long" if num_skipped else ""
    return Matches(best, skipped)


def _timed_distance(cell: "_Cell", other: "_Cell", *, rms: bool) -> float | None:
    """Displacement in Å at the volume of the other; None where the crystals differ."""
    if cell.key != other.key:
        return None
    with alarm(PAIR_TIME_LIMIT):
        match = _matcher().match(cell, other, rms=rms)
    return None if match is None else match * other.reduced.length


class Matcher(StructureMatcher):
    """pymatgen's matcher without its memory of reduced cells, also of cells reduced before.

    With the memory a distance would depend on what was compared before in this process.
    """

    @classmethod
    def _get_reduced_structure(
        cls, struct: Structure, primitive_cell: bool = True, niggli: bool = True
    ) -> Structure:
        reduced = struct.get_reduced_structure() if niggli else struct.copy()
        return reduced.get_primitive_structure() if primitive_cell else reduced

    def match(self, cell: "_Cell", other: "_Cell", *, rms: bool) -> float | None:
        """Displacement in (V/N)^(1/3), the smallest `rms` or one below the tolerance."""
        if next(cell.mappings(other, SAME), None) is None:
            return None
        match = self._strict_match(cell, other, 1, use_rms=rms, break_on_match=not rms)
        return None if match is None else float(match[0])


class _ReducedMatcher(Matcher):
    """The matcher of cells that are reduced and of one volume."""

    def _get_mask(
        self, struct1: "_Cell", struct2: "_Cell", fu: int, s1_supercell: bool
    ) -> tuple[np.ndarray, np.ndarray, int]:
        mask, anchors, anchor = _mask(struct1.key, struct2.key)
        return mask.astype(np.int64), anchors, anchor

    def _get_supercells(
        self, struct1: "_Cell", struct2: "_Cell", fu: int, s1_supercell: bool
    ) -> Iterator[tuple[np.ndarray, np.ndarray, Lattice, np.ndarray]]:
        for mapping in struct1.mappings(struct2, SAME):
            yield mapping.frac_coords, struct2.frac_coords, mapping.lattice, mapping.matrix


@cache
def _matcher() -> _ReducedMatcher:
    return _ReducedMatcher(**asdict(SAME), primitive_cell=False, scale=False)


@cache
def _mask(key: bytes, other: bytes) -> tuple[np.ndarray, np.ndarray, int]:
    """Sites of other elements; those of the rarest element in one, the first in the other."""
    first, second = np.frombuffer(key, dtype=np.int64), np.frombuffer(other, dtype=np.int64)
    mask = second[:, None] != first
    anchor = int(mask.sum(axis=1).argmax())
    return mask, np.flatnonzero(~mask[anchor]), anchor


class _Mapping(NamedTuple):
    """One way to lay the lattice of a crystal on that of another one."""

    frac_coords: np.ndarray  # [N, 3] of the first crystal in its cell that resembles the other's
    lattice: Lattice  # the mean of both cells
    matrix: np.ndarray  # [3, 3] whole numbers: that cell in vectors of the first lattice


class _Cell:
    """A reduced crystal with what comparisons need of it again and again."""

    def __init__(self, reduced: ReducedCrystal) -> None:
        self.reduced = reduced
        self.frac_coords = reduced.frac_coords
        self.cart_coords = reduced.frac_coords @ reduced.lattice
        self.key = np.asarray(reduced.atomic_numbers, dtype=np.int64).tobytes()
        self.lengths, self.angles = _shape(reduced.lattice[None])
        self._radius = 0.0

    def __len__(self) -> int:
        return len(self.frac_coords)

    def mappings(self, other: "_Cell", tolerances: Tolerances) -> Iterator[_Mapping]:
        """Mappings that bring every atom of the other near one of this crystal."""
        cells = self._cells_like(other, tolerances)
        if not len(cells):
            return
        coords = self.cart_coords @ np.linalg.inv(cells)
        coords -= np.floor(coords)
        lengths, angles = _shape(cells)
        means = np.concatenate([lengths + other.lengths, angles + other.angles], axis=1) / 2
        boxes = _boxes(means, len(self), tolerances.stol)
        inverse = np.linalg.inv(self.reduced.lattice)
        for index in np.flatnonzero(_fits(coords, boxes, self, other)):
            matrix = np.rint(cells[index] @ inverse).astype(np.int64)
            lattice = Lattice.from_parameters(*means[index].tolist())
            yield _Mapping(coords[index], lattice, matrix)

    def _cells_like(self, other: "_Cell", tolerances: Tolerances) -> np.ndarray:
        """Primitive cells of this lattice with edges and angles like the other's, [K, 3, 3]."""
        stretch = 1 + tolerances.ltol
        vectors, lengths = self._vectors(float(other.lengths.max()) * stretch)
        ratios = lengths / other.lengths[0][:, None]
        near = (ratios < stretch) & (ratios > 1 / stretch)
        if not near.any(axis=1).all():
            return np.zeros((0, 3, 3))
        edges = [vectors[edge] / lengths[edge, None] for edge in near]

        def have_angle(first: int, second: int) -> np.ndarray:
            cosines = np.clip(edges[first] @ edges[second].T, -1, 1)
            wanted = other.angles[0, 3 - first - second]
            return np.abs(np.rad2deg(np.arccos(cosines)) - wanted) <= tolerances.angle_tol

        alpha, beta, gamma = have_angle(1, 2), have_angle(0, 2), have_angle(0, 1)
        first, second = np.nonzero(gamma)
        pair, third = np.nonzero(beta[first] & alpha[second])
        chosen = first[pair], second[pair], third
        cells = np.stack([vectors[near[i]][chosen[i]] for i in range(3)], axis=1)
        return cells[np.abs(np.abs(np.linalg.det(cells)) / len(self) - 1) < 0.5]

    def _vectors(self, radius: float) -> tuple[np.ndarray, np.ndarray]:
        """Lattice vectors within at least a radius, [V, 3], and their lengths, [V]."""
        if radius > self._radius:
            heights = 1 / np.linalg.norm(np.linalg.inv(self.reduced.lattice), axis=0)
            axes = [np.arange(-n, n + 1) for n in np.floor(radius / heights).astype(int)]
            whole = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
            vectors = whole @ self.reduced.lattice
            lengths = np.linalg.norm(vectors, axis=1)
            inside = (lengths <= radius) & (lengths > 0)
            self._found, self._radius = (vectors[inside], lengths[inside]), radius
        return self._found


def _shape(cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Edges and angles (degrees) of cells [K, 3, 3], both [K, 3]."""
    lengths = np.linalg.norm(cells, axis=2)
    units = cells / lengths[:, :, None]
    cosines = (units[:, [1, 0, 0]] * units[:, [2, 2, 1]]).sum(axis=2)
    return lengths, np.rad2deg(np.arccos(np.clip(cosines, -1, 1)))


def _boxes(parameters: np.ndarray, num_atoms: int, stol: float) -> np.ndarray:
    """Half edges of the box in which `StructureMatcher` looks for an atom, fractional, [K, 3]."""
    lengths, angles = parameters[:, :3], np.deg2rad(parameters[:, 3:])
    cosines = np.cos(angles)
    squares = 1 - (cosines**2).sum(axis=1) + 2 * cosines.prod(axis=1)
    volumes = lengths.prod(axis=1) * np.sqrt(np.maximum(squares, 0))
    heights = volumes[:, None] * lengths / lengths.prod(axis=1)[:, None] / np.sin(angles)
    return 2 * stol * (volumes[:, None] / num_atoms) ** (1 / 3) / heights


def _fits(coords: np.ndarray, boxes: np.ndarray, cell: _Cell, other: _Cell) -> np.ndarray:
    """Which mappings [K] bring every atom of the other into the box of an equal one."""
    # The rarest element first: one of its atoms is laid on each of the other's.
    mask, anchors, anchor = _mask(cell.key, other.key)
    rare = np.flatnonzero((mask == mask[anchor]).all(axis=1))
    shifts = coords[:, anchors] - other.frac_coords[anchor]  # [K, T, 3]
    mapping, shift = np.divmod(np.arange(shifts.shape[0] * shifts.shape[1]), len(anchors))
    for rows, columns in ((rare, anchors), (slice(None), slice(None))):
        is_other = mask[rows][:, columns]
        size = max(1, MAX_ELEMENTS // is_other.size)
        kept = []
        for start in range(0, len(mapping), size):
            k, t = mapping[start : start + size], shift[start : start + size]
            placed = other.frac_coords[rows] + shifts[k, t][:, None]
            apart = placed[:, :, None] - coords[k][:, columns][:, None]
            apart = np.abs(apart - np.rint(apart))
            inside = (apart <= boxes[k][:, None, None] + ROUNDING).all(axis=-1) & ~is_other
            kept.append(inside.any(axis=-1).all(axis=-1))
        chosen = np.concatenate(kept) if kept else np.zeros(0, dtype=bool)
        mapping, shift = mapping[chosen], shift[chosen]
    return np.isin(np.arange(len(coords)), mapping)
