"""Releases the symmetry that a relaxation kept: is the crystal a minimum without it?

Symmetric relaxations may end on saddle points: crystals are rattled and relaxed without symmetry.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
from pymatgen.core import Structure

from mattergen_lite.io.formats.structures import build_structure
from mattergen_lite.scoring.criteria.symmetry import SYMPREC_GENERATED, space_group_of
from mattergen_lite.scoring.energy.potentials.base import Potential
from mattergen_lite.scoring.energy.relaxation import (
    MIN_ENERGY_FALL,
    Relaxation,
    RelaxationLimits,
    relax,
    symmetrized_below,
)
from mattergen_lite.symmetry import space_groups

RATTLE = 0.05  # Å, standard deviation of every coordinate
RATTLE_STRAIN = 0.01  # likewise of the cell's deformation: one atom a cell has no other way out
# eV/atom that a distortion has to gain; of CHGNet's smaller ones 7net-l3i5 confirms one in nine by
# as much: `benchmarks/releases.py`.
MIN_DISTORTION_FALL = 0.005


@dataclass(frozen=True, kw_only=True)
class Release:
    """What a crystal relaxed in its space group does when it is rattled and set free."""

    relaxation: Relaxation  # of the rattled crystal, without symmetry
    space_group: int  # of what it relaxed to, at the tolerance of the first symmetry
    energy_change: float  # eV/atom, released minus constrained
    accepted: bool  # see `is_worth_releasing`


def is_worth_releasing(energy_change: float, kept: int, released: int) -> bool:
    """Whether a released crystal, of another space group, takes the place of the constrained one.

    Its energy has to fall by `MIN_ENERGY_FALL`, or by `MIN_DISTORTION_FALL` if symmetry is lost.
    """
    threshold = MIN_DISTORTION_FALL if is_distortion(kept, released) else MIN_ENERGY_FALL
    return energy_change < -threshold


def is_distortion(kept: int, released: int) -> bool:
    """Whether the point group of the second space group has fewer operations."""
    before, after = (len(space_groups.space_group(group).rotations) for group in (kept, released))
    return after < before


def rattled(structure: Structure) -> Structure:
    """Atoms displaced by `RATTLE`, cell by `RATTLE_STRAIN`; a crystal always the same way."""
    content = structure.lattice.matrix.tobytes() + structure.frac_coords.tobytes()
    digest = hashlib.sha256(content + bytes(structure.atomic_numbers)).digest()
    rng = np.random.default_rng(int.from_bytes(digest[:8]))
    strain = RATTLE_STRAIN * rng.normal(size=(3, 3))
    lattice = structure.lattice.matrix @ (np.eye(3) + (strain + strain.T) / 2)
    shift = RATTLE * rng.normal(size=(len(structure), 3)) @ np.linalg.inv(lattice)
    return build_structure(lattice, structure.atomic_numbers, structure.frac_coords + shift)


def release(
    constrained: Relaxation,
    potential: Potential,
    limits: RelaxationLimits | None = None,
) -> Release:
    """Rattle a relaxed crystal, relax it without symmetry and symmetrise what it became.

    One that falls by more than `MIN_ENERGY_FALL` was no minimum. The loosest tolerance at which the
    energy stays is used (Å), and the result is accepted if it `is_worth_releasing`.
    """
    free = relax(rattled(constrained.structure), potential, limits)
    change = free.energy_per_atom - constrained.energy_per_atom
    if free.structure is None or not change < -MIN_ENERGY_FALL:
        group = (
            space_group_of(free.structure, SYMPREC_GENERATED) if free.structure is not None else 1
        )
        return Release(relaxation=free, space_group=group, energy_change=change, accepted=False)
    ceiling = min(free.energy_per_atom, constrained.energy_per_atom - 2 * MIN_ENERGY_FALL)
    exact, group = symmetrized_below(ceiling + MIN_ENERGY_FALL, free, potential, SYMPREC_GENERATED)
    change = exact.energy_per_atom - constrained.energy_per_atom
    accepted = is_worth_releasing(change, constrained.constrained_space_group, group)
    return Release(relaxation=exact, space_group=group, energy_change=change, accepted=accepted)
