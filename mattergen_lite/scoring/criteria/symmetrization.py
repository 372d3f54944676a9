"""Exact symmetry: a crystal moved onto its space group, and what the group leaves of a gradient.

`symmetrized` moves a crystal that has a space group only within a tolerance onto exact positions,
in its primitive cell. `SymmetryProjection` holds the group there: an operation g maps fractional
coordinates x to W_g x + w_g and atom i onto atom g(i). With lattice vectors in the rows of L, a
Cartesian row vector r turns into r Q_g, Q_g = L⁻¹ W_gᵀ L. Forces and stress of a symmetric crystal
obey

    F_j = 1/|G| Σ_g F_{g⁻¹(j)} Q_g,        σ = 1/|G| Σ_g Q_gᵀ σ Q_g,

and the right-hand sides project any forces and stress onto the symmetric ones (as ASE's
`FixSymmetry`). A relaxation that follows them never leaves the group.

Operations come from spglib's table of Hall symbols, so they are a group by construction; what can
fail is that the atoms found at a loose tolerance do not map onto each other under all of them.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
import spglib
from pymatgen.core import Structure

from mattergen_lite.io.formats.structures import build_structure
from mattergen_lite.shapes import Float, Int
from mattergen_lite.symmetry.detection import SYMPREC_GENERATED, symmetry_dataset

# Shares of the tolerance that are tried one after the other until the operations fit the atoms.
_FALLBACKS = (1.0, 0.5, 0.2, 0.1, 0.01)
_SAME_POSITION = 0.01  # Å between an atom and the image of another: exact positions, rounded
_MAX_SHIFT = 3.0  # times the tolerance, of an atom that moves onto its exact position
_MAX_VOLUME_CHANGE = 0.1  # relative, of the cell

# Primitive vectors in the columns, by the centring letter (spglib's choice).
_PRIMITIVE = {
    "P": np.eye(3),
    "A": np.array([[1, 0, 0], [0, 1 / 2, -1 / 2], [0, 1 / 2, 1 / 2]]),
    "C": np.array([[1 / 2, 1 / 2, 0], [-1 / 2, 1 / 2, 0], [0, 0, 1]]),
    "I": np.array([[-1, 1, 1], [1, -1, 1], [1, 1, -1]]) / 2,
    "F": np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]]) / 2,
    "R": np.array([[2, -1, -1], [1, 1, -2], [1, 1, 1]]) / 3,
}


@dataclass(frozen=True)
class SymmetryProjection:
    """A space group in a primitive cell, G operations on N atoms."""

    space_group: int  # international number
    rotations: Int[np.ndarray, "G 3 3"]  # W, of fractional coordinates
    translations: Float[np.ndarray, "G 3"]  # w
    sources: Int[np.ndarray, "G N"]  # atom that operation g maps onto atom j

    def _cartesian(self, lattice: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, "G 3 3"]:
        """Q of every operation: r turns into r Q."""
        return np.linalg.inv(lattice) @ self.rotations.swapaxes(1, 2) @ lattice

    def forces(
        self, forces: Float[np.ndarray, "N 3"], lattice: Float[np.ndarray, "3 3"]
    ) -> Float[np.ndarray, "N 3"]:
        """Symmetric part of forces, in the unit given; `lattice` has its vectors in rows, in Å."""
        turned = forces[self.sources] @ self._cartesian(lattice)  # [G, N, 3]
        return turned.mean(axis=0)

    def stress(
        self, stress: Float[np.ndarray, "3 3"], lattice: Float[np.ndarray, "3 3"]
    ) -> Float[np.ndarray, "3 3"]:
        """Symmetric part of a stress tensor, in the unit given."""
        turn = self._cartesian(lattice)
        return (turn.swapaxes(1, 2) @ stress @ turn).mean(axis=0)

    def positions(self, frac_coords: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 3"]:
        """Fractional coordinates moved onto the mean of all their images."""
        images = self._images(frac_coords)
        nearest = images - np.round(images - frac_coords)
        return nearest.mean(axis=0)

    def _images(self, frac_coords: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "G N 3"]:
        """Where the operations map the atom that belongs onto each atom."""
        moved = frac_coords[self.sources] @ self.rotations.swapaxes(1, 2)
        return moved + self.translations[:, None]


@dataclass(frozen=True)
class Symmetrized:
    """A crystal on the exact positions of its space group, in the primitive cell."""

    structure: Structure  # N atoms
    projection: SymmetryProjection
    atom_of: Int[np.ndarray, "M"]  # atom of `structure` that each of the M original ones became
    shift: Float[np.ndarray, "M 3"]  # Å, Cartesian in the new cell, from where it was


def symmetrized(structure: Structure, *, symprec: float = SYMPREC_GENERATED) -> Symmetrized:
    """Move an ordered crystal onto the exact positions of the space group found at `symprec` (Å).

    Where the operations do not fit the atoms, or moving them there would change the crystal,
    tighter tolerances are tried, which find fewer operations; at last it stays as it is, in P1.
    """
    for share in _FALLBACKS:
        try:
            return _symmetrized_at(structure, share * symprec)
        except ValueError:
            continue
    return unsymmetrized(structure)


def unsymmetrized(structure: Structure) -> Symmetrized:
    """An ordered crystal as it is, with the identity as its only operation."""
    atoms = np.arange(len(structure))
    identity = SymmetryProjection(1, np.eye(3, dtype=np.int64)[None], np.zeros((1, 3)), atoms[None])
    return Symmetrized(structure, identity, atoms, np.zeros((len(structure), 3)))


def _symmetrized_at(structure: Structure, symprec: float) -> Symmetrized:
    """The symmetrised crystal at one tolerance.

    Raises:
        ValueError: If spglib finds nothing, or its group does not fit the atoms.
    """
    found = symmetry_dataset(structure, symprec)
    to_primitive = np.linalg.inv(_PRIMITIVE[found.international[0]])
    lattice = np.linalg.inv(to_primitive).T @ found.std_lattice
    numbers, coords = _distinct(found.std_types, found.std_positions @ to_primitive.T, lattice)
    rotations, translations = _operations(int(found.hall_number), found.international[0])
    projection = SymmetryProjection(
        int(found.number),
        rotations,
        translations,
        _sources(rotations, translations, numbers, coords, lattice),
    )
    coords = projection.positions(coords)
    given = structure.frac_coords @ found.transformation_matrix.T + found.origin_shift
    atom_of, shift = _nearest(
        np.array(structure.atomic_numbers), given @ to_primitive.T, numbers, coords, lattice
    )
    exact = build_structure(lattice, numbers.tolist(), coords)
    _check_same_crystal(structure, exact, atom_of, shift, _MAX_SHIFT * symprec)
    return Symmetrized(exact, projection, atom_of, shift)


@cache
def _operations(hall_number: int, centring: str) -> tuple[np.ndarray, np.ndarray]:
    """Rotations and translations of a Hall symbol in the primitive cell, each once."""
    table = spglib.get_symmetry_from_database(hall_number)
    basis = _PRIMITIVE[centring]
    inverse = np.linalg.inv(basis)
    rotations = np.rint(inverse @ table["rotations"] @ basis).astype(np.int64)
    translations = table["translations"] @ inverse.T % 1.0
    translations[translations > 1 - 1e-6] = 0.0
    keys = np.concatenate([rotations.reshape(-1, 9), np.rint(translations * 1e4)], axis=1)
    _, first = np.unique(keys, axis=0, return_index=True)
    first = np.sort(first)
    return rotations[first], translations[first]


def _distinct(
    numbers: np.ndarray, frac_coords: np.ndarray, lattice: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Atoms that are still different ones in a smaller cell."""
    kept: list[int] = []
    for index, coords in enumerate(frac_coords):
        distances = _distances(coords, frac_coords[kept], lattice)
        if not (distances < _SAME_POSITION).any():
            kept.append(index)
    return np.asarray(numbers)[kept], frac_coords[kept]


def _distances(one: np.ndarray, others: np.ndarray, lattice: np.ndarray) -> np.ndarray:
    """Distances in Å of fractional coordinates, exact where they are short."""
    difference = others - one
    return np.linalg.norm((difference - np.round(difference)) @ lattice, axis=-1)


def _sources(
    rotations: np.ndarray,
    translations: np.ndarray,
    numbers: np.ndarray,
    frac_coords: np.ndarray,
    lattice: np.ndarray,
) -> np.ndarray:
    """Which atom every operation maps onto each atom, [G, N].

    Raises:
        ValueError: If an operation maps an atom onto none of its element.
    """
    images = frac_coords @ rotations.swapaxes(1, 2) + translations[:, None]
    difference = images[:, None] - frac_coords[:, None]  # [G, onto, from, 3]
    distances = np.linalg.norm((difference - np.round(difference)) @ lattice, axis=-1)
    distances[:, numbers[:, None] != numbers] = np.inf
    sources = distances.argmin(axis=2)
    is_permutation = (np.sort(sources, axis=1) == np.arange(len(numbers))).all()
    if not is_permutation or distances.min(axis=2).max() > _SAME_POSITION:
        raise ValueError("the operations found do not map the atoms onto each other")
    return sources


def _nearest(
    numbers: np.ndarray,
    given: np.ndarray,
    exact_numbers: np.ndarray,
    exact: np.ndarray,
    lattice: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """For every given atom the exact one of its element and the way there in Å, drift removed."""
    way = exact - given[:, None]
    way = (way - np.round(way)) @ lattice
    distances = np.linalg.norm(way, axis=-1)
    distances[numbers[:, None] != exact_numbers] = np.inf
    atom_of = distances.argmin(axis=1)
    shift = way[np.arange(len(given)), atom_of]
    return atom_of, shift - shift.mean(axis=0)


def _check_same_crystal(
    structure: Structure,
    exact: Structure,
    atom_of: np.ndarray,
    shift: np.ndarray,
    max_shift: float,
) -> None:
    """Refuse a symmetrised crystal that is another one.

    Raises:
        ValueError: If atoms were lost, went too far, or the volume changed too much.
    """
    counts = np.bincount(atom_of, minlength=len(exact))
    change = (exact.volume / len(exact)) / (structure.volume / len(structure)) - 1
    if len(set(counts.tolist())) > 1 or abs(change) > _MAX_VOLUME_CHANGE:
        raise ValueError("the symmetrised crystal has other atoms or another volume")
    if np.linalg.norm(shift, axis=1).max() > max_shift:
        raise ValueError(f"an atom would move by more than {max_shift:.2f} Å")
