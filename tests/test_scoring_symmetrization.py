"""Symmetrised crystals and projections: against brute force, ASE and known crystals."""

import numpy as np
import pytest
from ase.constraints import FixSymmetry
from crystals import li3ps4, nacl, nacl_primitive, perovskite, quartz, rutile, triclinic
from pymatgen.core import Lattice, Structure

from mattergen_lite.scoring.criteria.symmetrization import symmetrized
from mattergen_lite.scoring.criteria.symmetry import space_group_of
from mattergen_lite.scoring.known.reference import Reference

NAMED = [nacl, rutile, quartz, li3ps4, perovskite, triclinic]


@pytest.fixture(scope="module")
def known():
    """A few dozen real crystals, spread over the embedded table."""
    reference = Reference.embedded()
    rows = np.linspace(0, len(reference) - 1, 60).astype(int).tolist()
    return [reference.crystal(row).structure() for row in rows]


def test_known_crystals_keep_their_group_exactly_in_the_primitive_cell(known):
    groups = set()
    for crystal in known:
        exact = symmetrized(crystal)
        group = exact.projection.space_group
        groups.add(group)
        assert group == space_group_of(crystal, 0.1)
        assert space_group_of(exact.structure, 1e-4) == group
        lattice = exact.structure.lattice.matrix
        assert deviation(exact.projection, exact.structure.frac_coords, lattice) < 1e-6
        assert len(crystal) % len(exact.structure) == 0
        assert exact.structure.composition.reduced_formula == crystal.composition.reduced_formula
    assert len(groups) > 20


@pytest.mark.parametrize("make", NAMED)
def test_operations_are_a_group(make):
    projection = symmetrized(make()).projection
    known = {
        (*map(int, rotation.flat), *np.round(translation * 24).astype(int) % 24)
        for rotation, translation in zip(projection.rotations, projection.translations, strict=True)
    }
    for one, shift in zip(projection.rotations, projection.translations, strict=True):
        for other, moved in zip(projection.rotations, projection.translations, strict=True):
            product, translation = one @ other, one @ moved + shift
            assert (*map(int, product.flat), *np.round(translation * 24).astype(int) % 24) in known


@pytest.mark.parametrize("make", NAMED)
def test_projection_is_idempotent_and_equals_the_average_over_operations(make):
    exact = symmetrized(make())
    projection, lattice = exact.projection, exact.structure.lattice.matrix
    rng = np.random.default_rng(0)
    forces, stress = rng.normal(size=(len(exact.structure), 3)), rng.normal(size=(3, 3))
    stress = stress + stress.T
    average, turned_stress = np.zeros_like(forces), np.zeros((3, 3))
    for rotation, translation in zip(projection.rotations, projection.translations, strict=True):
        cartesian = lattice.T @ rotation @ np.linalg.inv(lattice.T)  # of column vectors
        assert cartesian @ cartesian.T == pytest.approx(np.eye(3), abs=1e-9)
        for atom, coords in enumerate(exact.structure.frac_coords):
            image = rotation @ coords + translation
            distance = np.abs((exact.structure.frac_coords - image + 0.5) % 1 - 0.5).max(axis=1)
            average[distance.argmin()] += cartesian @ forces[atom]
        turned_stress += cartesian @ stress @ cartesian.T
    order = len(projection.rotations)
    projected = projection.forces(forces, lattice)
    assert projected == pytest.approx(average / order, abs=1e-9)
    assert projection.forces(projected, lattice) == pytest.approx(projected, abs=1e-9)
    projected_stress = projection.stress(stress, lattice)
    assert projected_stress == pytest.approx(turned_stress / order, abs=1e-9)
    assert projection.stress(projected_stress, lattice) == pytest.approx(projected_stress, abs=1e-9)


@pytest.mark.parametrize("make", NAMED)
def test_projection_equals_that_of_ase(make):
    exact = symmetrized(make())
    atoms = exact.structure.to_ase_atoms(msonable=False)
    constraint = FixSymmetry(atoms, symprec=1e-4)
    forces = np.random.default_rng(1).normal(size=(len(atoms), 3))
    ours = exact.projection.forces(forces, atoms.cell.array)
    constraint.adjust_forces(atoms, forces)  # in place
    assert ours == pytest.approx(forces, abs=1e-6)


def test_noise_below_the_tolerance_is_taken_back(known):
    for crystal in [make() for make in NAMED] + known[:20]:
        noisy = crystal.copy().perturb(0.01, seed=0)
        exact = symmetrized(noisy)
        assert exact.projection.space_group == space_group_of(noisy, 0.1)
        assert np.linalg.norm(exact.shift, axis=1).max() < 0.1


def test_shift_leads_from_the_given_atoms_to_the_exact_ones():
    displaced = perovskite()
    displaced.translate_sites([1], [0, 0, 0.04], frac_coords=False)
    exact = symmetrized(displaced)
    assert exact.projection.space_group == 221
    # The titanium goes back by 4/5 of its way, the others meet it: no drift of the whole.
    lengths = np.sort(np.linalg.norm(exact.shift, axis=1))
    assert lengths == pytest.approx([0.008] * 4 + [0.032], abs=1e-6)
    assert np.abs(exact.shift.sum(axis=0)).max() < 1e-9


def deviation(projection, frac_coords, lattice) -> float:
    """Largest distance in Å between an atom and the image of another that should be there."""
    moved = frac_coords[projection.sources] @ projection.rotations.swapaxes(1, 2)
    difference = moved + projection.translations[:, None] - frac_coords
    return np.linalg.norm((difference - np.round(difference)) @ lattice, axis=-1).max()


def test_supercells_become_primitive():
    exact = symmetrized(nacl_primitive() * (2, 1, 3))
    assert len(exact.structure) == 2
    assert np.bincount(exact.atom_of).tolist() == [6, 6]


def test_overlapping_atoms_stay_as_they_are_in_p1():
    overlap = Structure(Lattice.cubic(4), ["Na", "Na"], [[0, 0, 0], [0.001, 0, 0]])
    exact = symmetrized(overlap, symprec=1.0)
    assert len(exact.structure) == 2
    assert exact.structure.composition == overlap.composition
