"""Exact symmetry: a crystal moved onto its space group, and what the group leaves of a gradient.

`symmetrized` moves a crystal that has a space group only within a tolerance onto exact positions,
in its primitive cell. `SymmetryProjection` holds the group there: an operation g maps fractional
coordinates x to W_g x + w_g and atom i onto atom g(i). With lattice vectors in the rows of L, a
Cartesian row vector r turns into r Q_g, Q_g = L⁻¹ W_gᵀ L. Forces and stress of a symmetric crystal
obey

    F_j = 1/|G| Σ_g F_{g⁻¹(j)} Q_g,        σ = 1/|G| Σ_g Q_gᵀ σ Q_g,

and the right-hand sides project any forces and stress onto the symmetric ones (as ASE's
`FixSymmetry`). A relaxation that follows them never leaves the group.
"""

from dataclasses import dataclass

import numpy as np
from pymatgen.core import Structure

from mattergen_lite.io.formats.structures import build_structure
from mattergen_lite.symmetry.detection import ANGLE_TOLERANCE, SYMPREC_GENERATED
from mattergen_lite.symmetry.orbits import find_setting, project
from mattergen_lite.tensors.shapes import Float, Int

# Shares of the tolerance that are tried one after the other until the operations fit the atoms.
_FALLBACKS = (1.0, 0.5, 0.2, 0.1, 0.01)
_MAX_SHIFT = 3.0  # times the tolerance, of an atom that moves onto its exact position
_MAX_VOLUME_CHANGE = 0.1  # relative, of the cell


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
    crystal = (np.array(structure.atomic_numbers), structure.frac_coords, structure.lattice.matrix)
    setting = find_setting(*crystal, symprec, ANGLE_TOLERANCE)
    projected, group = project(setting, *crystal, 2 * symprec), setting.group
    # Images say where an atom goes, sources where it comes from.
    sources = np.argsort(projected.images, axis=1)
    projection = SymmetryProjection(group.number, group.rotations, group.translations, sources)
    exact = build_structure(projected.lattice, projected.atomic_numbers, projected.frac_coords)
    atom_of, shift = _nearest(crystal[0], setting.to_primitive(crystal[1]), exact)
    _check_same_crystal(structure, exact, atom_of, shift, _MAX_SHIFT * symprec)
    return Symmetrized(exact, projection, atom_of, shift)


def _nearest(
    numbers: np.ndarray, given: np.ndarray, exact: Structure
) -> tuple[np.ndarray, np.ndarray]:
    """For every given atom the exact one of its element and the way there in Å, drift removed."""
    way = exact.frac_coords - given[:, None]
    way = (way - np.round(way)) @ exact.lattice.matrix
    distances = np.linalg.norm(way, axis=-1)
    distances[numbers[:, None] != np.array(exact.atomic_numbers)] = np.inf
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
