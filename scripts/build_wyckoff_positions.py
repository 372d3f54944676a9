"""Write the Wyckoff positions of all 230 space groups into the package.

    python scripts/build_wyckoff_positions.py

Special points lie on a grid of 1/24, special lines are the axes of rotations, special planes those
of reflections: all are found from the operations of `space_groups.npz`. The affine normaliser is
searched among unimodular matrices with entries -1, 0 and 1 and shifts on the same grid.
"""

from collections.abc import Iterator
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np

from mattergen_lite.symmetry.orbits import free_directions
from mattergen_lite.symmetry.space_groups import SpaceGroup, space_group

OUT = Path(__file__).parents[1] / "mattergen_lite" / "assets" / "wyckoff_positions.npz"
GRID = 24
UNIT = 720  # of the cell: a projection divides the grid by 2, 3, 5 or 6
NUM_POSITIONS = 1731  # of all groups, International Tables A
POINTS = np.array(list(product(range(GRID), repeat=3))) / GRID
SHIFTS = np.array(list(product(range(-3, 4), repeat=3)))
WINDOWS = np.array(list(product(range(-2, 3), repeat=3)))
MATRICES = np.array(list(product((-1, 0, 1), repeat=9))).reshape(-1, 3, 3)
MATRICES = MATRICES[np.abs(np.rint(np.linalg.det(MATRICES))) == 1]

Flat = tuple[tuple[int, ...], tuple[int, ...]]  # basis; canonical offset in units of 1/720


@cache
def _across(basis: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Projection onto what is across the directions of a flat, and of the lattice on it."""
    rows = np.array(basis, float).reshape(-1, 3)
    across = np.eye(3) - (np.linalg.pinv(rows) @ rows if len(rows) else 0.0)
    lattice = SHIFTS @ across
    _, first = np.unique(np.rint(lattice * 1e5), axis=0, return_index=True)
    return across, lattice[first]


def canonical_flat(basis: tuple[int, ...], point: np.ndarray) -> Flat:
    """A name of the flat through a point, the same for its copies in all cells."""
    across, lattice = _across(basis)
    offsets = (point - np.rint(point)) @ across + lattice
    keys = np.rint(offsets * UNIT).astype(int)
    norms = (keys**2).sum(-1)
    return basis, min(map(tuple, keys[norms == norms.min()].tolist()))


def moved(flat: Flat, matrix: np.ndarray, shift: np.ndarray) -> Flat:
    """The flat that an affine map makes of a flat."""
    point = matrix @ (np.array(flat[1]) / UNIT) + shift
    return canonical_flat(_turned(flat[0], matrix.astype(int).tobytes()), point)


@cache
def _turned(basis: tuple[int, ...], matrix: bytes) -> tuple[int, ...]:
    """The short basis of turned directions."""
    rows = np.array(basis).reshape(-1, 3) @ np.frombuffer(matrix, int).reshape(3, 3).T
    return flat_basis(np.linalg.pinv(rows.astype(float)) @ rows) if len(rows) else ()


def flat_basis(projection: np.ndarray) -> tuple[int, ...]:
    """Whole-number basis of what a projection leaves alone."""
    return tuple(free_directions(projection[None]).ravel().tolist())


def points(group: SpaceGroup) -> Iterator[Flat]:
    """Special points: grid points that no small displacement leaves on their site symmetry."""
    images = POINTS @ group.rotations.transpose(0, 2, 1) + group.translations[:, None]
    apart = images - POINTS
    fixed = (np.abs(apart - np.rint(apart)) < 1e-6).all(-1)  # [G, X]
    traces = np.einsum("gx,g->x", fixed, np.trace(group.rotations, axis1=1, axis2=2))
    for index in np.flatnonzero(traces == 0):
        yield canonical_flat((), POINTS[index])


def lines_and_planes(group: SpaceGroup) -> Iterator[Flat]:
    """Axes of rotations and planes of reflections."""
    for rotation, translation in zip(group.rotations[1:], group.translations[1:], strict=True):
        powers = [np.linalg.matrix_power(rotation, exponent) for exponent in range(12)]
        basis = flat_basis(np.mean(powers, axis=0))
        if len(basis) not in (3, 6):
            continue
        change = rotation - np.eye(3)
        for window in WINDOWS:
            point = np.linalg.lstsq(change, -(translation + window), rcond=None)[0]
            if np.abs(change @ point + translation + window).max() < 1e-6:
                yield canonical_flat(basis, point)


def orbits(group: SpaceGroup, flats: set[Flat]) -> list[list[Flat]]:
    """Flats that the operations map onto each other."""
    left, classes = set(flats), []
    while left:
        flat = min(left)
        orbit = {
            moved(flat, rotation, translation)
            for rotation, translation in zip(group.rotations, group.translations, strict=True)
        }
        classes.append(sorted(orbit))
        left -= orbit
    return classes


def representative(orbit: list[Flat]) -> Flat:
    """The flat that `find_orbits` would take."""

    def key(flat: Flat) -> tuple:
        padded = [*flat[0], *[0] * (9 - len(flat[0]))]
        return [-x for x in padded], [x % UNIT for x in flat[1]]

    return min(orbit, key=key)


def positions(group: SpaceGroup) -> list[list[Flat]]:
    """All Wyckoff positions as orbits of flats, in their order."""
    flats = {*points(group), *lines_and_planes(group)}
    general = (tuple(np.eye(3, dtype=int).ravel().tolist()), (0, 0, 0))
    special = orbits(group, flats)
    special.sort(key=lambda orbit: (len(orbit[0][0]), len(orbit), representative(orbit)))
    return [*special, [general]]


def normaliser(group: SpaceGroup) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Affine maps that generate the normaliser together with the group itself."""
    rotations = group.rotations
    turned = np.rint(MATRICES[:, None] @ rotations @ np.linalg.inv(MATRICES)[:, None]).astype(int)
    same = (turned[:, :, None] == rotations).all((-1, -2))  # [U, G, G]
    for index in np.flatnonzero(same.any(-1).all(-1)):
        matrix, images = MATRICES[index], same[index].argmax(-1)
        wanted = group.translations[images] - group.translations @ matrix.T
        change = np.eye(3) - turned[index]  # (1 - R') t = t' - U t_g
        valid = np.ones(len(POINTS), bool)
        for row, right in zip(change, wanted, strict=True):
            rest = POINTS[valid] @ row.T - right
            valid[valid] = (np.abs(rest - np.rint(rest)) < 1e-6).all(-1)
        shifts = POINTS[valid]
        is_shift = (matrix == np.eye(3)).all()
        for shift in shifts if is_shift else shifts[:1]:
            yield matrix, shift


def exchanges(group: SpaceGroup, classes: list[list[Flat]]) -> np.ndarray:
    """Permutations of the positions by the normaliser, closed under composition."""
    owner = {flat: index for index, orbit in enumerate(classes) for flat in orbit}
    general = len(classes) - 1
    if general == 0:
        return np.zeros((1, 1), int)
    generators = set()
    for matrix, shift in normaliser(group):
        images = [owner[moved(classes[w][0], matrix, shift)] for w in range(general)]
        generators.add((*images, general))
    closed = {tuple(range(len(classes)))}
    used: list[tuple[int, ...]] = []
    for generator in sorted(generators):
        if generator in closed:
            continue
        used.append(generator)
        frontier = set(closed)
        while frontier:
            frontier = {
                tuple(g[i] for i in permutation) for permutation in frontier for g in used
            } - closed
            closed |= frontier
    return np.array(sorted(closed))


def main() -> None:
    """Write offsets, bases and exchanges of all groups."""
    owners, offsets, bases, exchange_owners, tables = [], [], [], [], []
    for number in range(1, 231):
        group = space_group(number)
        _turned.cache_clear()
        orbits_of_group = positions(group)
        table = exchanges(group, orbits_of_group)
        for orbit in orbits_of_group:
            flat = representative(orbit)
            basis = np.zeros((3, 3), np.int8)
            rows = np.array(flat[0]).reshape(-1, 3)
            basis[: len(rows)] = rows
            owners.append(number)
            offsets.append(np.array(flat[1]) / UNIT)
            bases.append(basis)
        exchange_owners += [number] * len(table)
        tables += [np.pad(permutation, (0, 27 - len(permutation))) for permutation in table]
        print(number, len(orbits_of_group), len(table), flush=True)
    if len(owners) != NUM_POSITIONS:
        raise RuntimeError(f"{len(owners)} positions: expected {NUM_POSITIONS}")
    np.savez_compressed(
        OUT,
        group_of_position=np.array(owners, np.int16),
        offset=np.array(offsets),
        basis=np.array(bases),
        group_of_exchange=np.array(exchange_owners, np.int16),
        exchanges=np.array(tables, np.int8),
    )


if __name__ == "__main__":
    main()
