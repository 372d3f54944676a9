"""Describes crystals by orbits: one representative of each set of symmetry-equivalent atoms.

The cell is the primitive one of the group's standard setting, so that the operations are those of
`space_groups`. P1 is the group in which every atom is an orbit of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np

from mattergen_lite.symmetry.detection import SYMPREC_GENERATED, find_symmetry
from mattergen_lite.symmetry.space_groups import SpaceGroup, space_group
from mattergen_lite.tensors.shapes import Float, Int

# Å; tolerances tried one after the other where operations do not map the atoms onto each other.
TOLERANCES = (SYMPREC_GENERATED, 0.03, 0.01, 0.001)
NUM_ROTATION_TYPES = 10  # rotations 1, 2, 3, 4, 6 and rotoinversions -1, m, -3, -4, -6
_SAME_POSITION = 1e-4  # cell fractions
_SHORT_INTEGERS = np.array([v for v in product(range(-3, 4), repeat=3) if any(v)])


@dataclass(frozen=True, kw_only=True)
class Orbits:
    """A crystal of O orbits and N atoms; double precision."""

    space_group: int
    lattice: Float[np.ndarray, "3 3"]  # rows in Å: primitive cell of the standard setting
    atomic_numbers: Int[np.ndarray, "O"]
    frac_coords: Float[np.ndarray, "O 3"]  # representatives
    operations: tuple[Int[np.ndarray, "_"], ...]  # of each orbit: one operation per atom

    @property
    def multiplicities(self) -> Int[np.ndarray, "O"]:
        """Atoms of each orbit in the primitive cell."""
        return np.array([len(orbit) for orbit in self.operations])

    @property
    def atom_operations(self) -> tuple[Int[np.ndarray, "N 3 3"], Float[np.ndarray, "N 3"]]:
        """Rotation and translation that make each atom from its representative."""
        group, chosen = space_group(self.space_group), np.concatenate(self.operations)
        return group.rotations[chosen], group.translations[chosen]

    def expand(self) -> tuple[Int[np.ndarray, "N"], Float[np.ndarray, "N 3"]]:
        """Atomic numbers and fractional coordinates of all atoms, orbit by orbit."""
        rotations, translations = self.atom_operations
        places = np.repeat(self.frac_coords, self.multiplicities, axis=0)
        atoms = np.einsum("nij,nj->ni", rotations, places) + translations
        return np.repeat(self.atomic_numbers, self.multiplicities), atoms % 1.0


def find_orbits(
    atomic_numbers: Int[np.ndarray, "N"],
    frac_coords: Float[np.ndarray, "N 3"],
    lattice: Float[np.ndarray, "3 3"],
    symprec: float = SYMPREC_GENERATED,
) -> Orbits:
    """Find the space group of a crystal and describe the crystal by orbits of that group.

    Where spglib's operations at `symprec` (Å) do not map the atoms onto each other (they are then
    no group), smaller tolerances are tried, and in the end P1. The cell may be primitive or not.
    """
    for tolerance in (symprec, *(t for t in TOLERANCES if t < symprec)):
        try:
            setting = find_setting(atomic_numbers, frac_coords, lattice, tolerance)
            return orbits_in_setting(setting, atomic_numbers, frac_coords, lattice, 2 * tolerance)
        except ValueError:
            continue
    return p1_orbits(atomic_numbers, frac_coords, lattice)


def p1_orbits(
    atomic_numbers: Int[np.ndarray, "N"],
    frac_coords: Float[np.ndarray, "N 3"],
    lattice: Float[np.ndarray, "3 3"],
) -> Orbits:
    """Describe a crystal without symmetry: every atom is an orbit, the cell stays as it is."""
    return Orbits(
        space_group=1,
        lattice=lattice,
        atomic_numbers=np.asarray(atomic_numbers),
        frac_coords=frac_coords % 1.0,
        operations=tuple(np.zeros(1, int) for _ in atomic_numbers),
    )


@dataclass(frozen=True, kw_only=True)
class Setting:
    """How a cell becomes the standard one of a space group: `x_standard = matrix @ x + shift`."""

    group: SpaceGroup
    matrix: Float[np.ndarray, "3 3"]
    shift: Float[np.ndarray, "3"]

    def to_primitive(self, frac_coords: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 3"]:
        """Coordinates in the primitive cell of the standard setting."""
        standard = frac_coords @ self.matrix.T + self.shift
        return standard @ np.linalg.inv(self.group.primitive_cell)


@dataclass(frozen=True, kw_only=True)
class Projected:
    """A crystal moved onto the exact positions of a space group, in its primitive cell."""

    lattice: Float[np.ndarray, "3 3"]  # rows in Å, lower triangular
    atomic_numbers: Int[np.ndarray, "N"]
    frac_coords: Float[np.ndarray, "N 3"]
    images: Int[np.ndarray, "G N"]  # where each operation takes each atom


def find_setting(
    atomic_numbers: Int[np.ndarray, "N"],
    frac_coords: Float[np.ndarray, "N 3"],
    lattice: Float[np.ndarray, "3 3"],
    symprec: float,
    angle_tolerance: float = -1.0,
) -> Setting:
    """Find the space group of a crystal and the way to its standard setting (`find_symmetry`).

    Raises:
        ValueError: If spglib finds no symmetry within the tolerance.
    """
    dataset = find_symmetry(lattice, frac_coords, atomic_numbers, symprec, angle_tolerance)
    if dataset is None:
        raise ValueError(f"spglib finds no symmetry within {symprec} Å")
    group = space_group(int(dataset.number))
    if dataset.hall_number != group.hall_number:
        raise ValueError(f"Hall number {dataset.hall_number} is no standard setting")
    return Setting(group=group, matrix=dataset.transformation_matrix, shift=dataset.origin_shift)


def orbits_in_setting(
    setting: Setting,
    atomic_numbers: Int[np.ndarray, "N"],
    frac_coords: Float[np.ndarray, "N 3"],
    lattice: Float[np.ndarray, "3 3"],
    tolerance: float,
) -> Orbits:
    """Describe a crystal by orbits of a group that leaves it as it is within a tolerance (Å).

    Raises:
        ValueError: If the operations of the group do not map the atoms onto each other.
    """
    group = setting.group
    exact = project(setting, atomic_numbers, frac_coords, lattice, tolerance)
    coords, images = exact.frac_coords, exact.images
    first = images.min(axis=0)
    representatives = [
        _canonical_representative(np.flatnonzero(first == atom).tolist(), images, coords, group)
        for atom in np.unique(first)
    ]
    # The first operation that makes each atom of an orbit, the identity for the representative.
    firsts = (np.unique(images[:, atom], return_index=True)[1] for atom in representatives)
    return Orbits(
        space_group=group.number,
        lattice=exact.lattice,
        atomic_numbers=exact.atomic_numbers[representatives],
        frac_coords=coords[representatives],
        operations=tuple(map(np.sort, firsts)),
    )


def project(
    setting: Setting,
    atomic_numbers: Int[np.ndarray, "N"],
    frac_coords: Float[np.ndarray, "N 3"],
    lattice: Float[np.ndarray, "3 3"],
    tolerance: float,
) -> Projected:
    """Move a crystal onto the exact positions of a group, in the primitive cell of its setting.

    Raises:
        ValueError: If operations of the group do not map the atoms onto each other within the
            tolerance (Å).
    """
    group = setting.group
    # x_standard = P x + p for columns, hence the rows of the lattice go with P^-T.
    cell = group.primitive_cell @ np.linalg.inv(setting.matrix).T @ lattice
    coords = setting.to_primitive(frac_coords) % 1.0
    num_atoms = int(np.rint(len(coords) * abs(np.linalg.det(cell) / np.linalg.det(lattice))))
    numbers, coords = _distinct(np.asarray(atomic_numbers), coords, cell, tolerance)
    if len(numbers) != num_atoms:
        raise ValueError("translations of the primitive cell do not map the atoms")
    cell = symmetrise_lattice(cell, group)
    coords, images = _symmetrise_coords(coords, numbers, cell, group, tolerance)
    return Projected(lattice=cell, atomic_numbers=numbers, frac_coords=coords, images=images)


def _distinct(
    numbers: np.ndarray, coords: np.ndarray, lattice: np.ndarray, tolerance: float
) -> tuple[np.ndarray, np.ndarray]:
    """Atoms without their copies, which a cell larger than the primitive one has."""
    apart = coords[:, None] - coords
    distance = np.linalg.norm((apart - np.rint(apart)) @ lattice, axis=-1)
    same = (distance < tolerance) & (numbers[:, None] == numbers)
    kept = same.argmax(axis=1) == np.arange(len(numbers))
    return numbers[kept], coords[kept]


def symmetrise_lattice(
    lattice: Float[np.ndarray, "3 3"], group: SpaceGroup
) -> Float[np.ndarray, "3 3"]:
    """Lower-triangular lattice whose Gram matrix is the mean of `Rᵀ G R` over the rotations."""
    gram = lattice @ lattice.T
    mean = np.mean(group.rotations.transpose(0, 2, 1) @ gram @ group.rotations, axis=0)
    return np.linalg.cholesky(mean)


def _symmetrise_coords(
    coords: Float[np.ndarray, "N 3"],
    numbers: Int[np.ndarray, "N"],
    lattice: Float[np.ndarray, "3 3"],
    group: SpaceGroup,
    tolerance: float,
) -> tuple[Float[np.ndarray, "N 3"], Int[np.ndarray, "G N"]]:
    """Coordinates at the mean of their images, and where each operation takes each atom."""
    apart = group.images(coords)[:, :, None] - coords  # [G, N, N, 3]
    apart -= np.rint(apart)
    distance = np.linalg.norm(apart @ lattice, axis=-1)
    distance[:, numbers[:, None] != numbers] = np.inf
    images = distance.argmin(-1)
    one_to_one = (np.sort(images, axis=-1) == np.arange(len(coords))).all()
    if not one_to_one or distance.min(-1).max() > tolerance:
        raise ValueError("symmetry operations do not map the atoms onto each other")
    rest = np.take_along_axis(apart, images[..., None, None], axis=2)[:, :, 0]
    correction = np.zeros_like(coords)
    np.add.at(correction, images, rest / len(images))
    return (coords + correction) % 1.0, images


def _canonical_representative(
    atoms: Sequence[int], images: np.ndarray, coords: np.ndarray, group: SpaceGroup
) -> int:
    """The atom with the smallest free directions (x,x,z rather than x,-x,z), then coordinates."""
    directions = {
        atom: free_directions(group.rotations[images[:, atom] == atom]).ravel().tolist()
        for atom in atoms
    }
    place = {atom: (np.rint(coords[atom] * 1e4) % 1e4).tolist() for atom in atoms}
    return min(atoms, key=lambda atom: ([-x for x in directions[atom]], place[atom]))


def free_directions(stabiliser: Int[np.ndarray, "S 3 3"]) -> Int[np.ndarray, "K 3"]:
    """Shortest whole-number basis of the directions in which a site may move.

    The mean of the rotations that leave a site where it is projects onto those directions. A basis
    of the lattice points in them makes K free coordinates, each with period 1.
    """
    return _integer_basis(np.mean(stabiliser, axis=0).tobytes())


@cache
def _integer_basis(projection: bytes) -> np.ndarray:
    matrix = np.frombuffer(projection).reshape(3, 3)
    count = int(np.rint(np.trace(matrix)))
    inside = _SHORT_INTEGERS[
        np.abs(_SHORT_INTEGERS @ matrix.T - _SHORT_INTEGERS).max(axis=1) < 1e-6
    ]
    # Short ones first; of opposite ones that with the first component positive.
    order = np.lexsort([*(-inside.T[::-1]), (inside**2).sum(axis=1)])
    basis: list[np.ndarray] = []
    for vector in inside[order]:
        if len(basis) < count and np.linalg.matrix_rank(np.array([*basis, vector])) > len(basis):
            basis.append(vector)
    return np.array(basis, dtype=int).reshape(-1, 3)


@cache
def rotation_types(number: int) -> Int[np.ndarray, "G"]:
    """Kind of every operation of a space group: 0..4 for 1, 2, 3, 4, 6, 5..9 for -1, m, ... -6."""
    rotations = space_group(number).rotations
    determinants = np.rint(np.linalg.det(rotations)).astype(int)
    # Trace of the proper part: 3, -1, 0, 1, 2 for rotations of order 1, 2, 3, 4, 6.
    traces = np.trace(rotations, axis1=1, axis2=2) * determinants
    return np.array([1, 2, 3, 4, 0])[traces + 1] + 5 * (determinants < 0)


def site_symmetry(
    number: int, frac_coords: Float[np.ndarray, "O 3"]
) -> tuple[Int[np.ndarray, "O 3 3"], Int[np.ndarray, "O T"]]:
    """Free directions of positions in a group, rows of zeros where not free, and site symmetry.

    The latter is how many operations of each kind leave a position where it is.
    """
    group = space_group(number)
    apart = group.images(frac_coords) - frac_coords  # [G, O, 3]
    fixed = np.abs(apart - np.rint(apart)).max(axis=-1).T < _SAME_POSITION  # [O, G]
    basis = np.zeros((len(frac_coords), 3, 3), np.int8)
    for row, stabiliser in zip(basis, fixed, strict=True):
        directions = free_directions(group.rotations[stabiliser])
        row[: len(directions)] = directions
    kinds = np.eye(NUM_ROTATION_TYPES, dtype=int)[rotation_types(number)]
    return basis, fixed.astype(int) @ kinds
