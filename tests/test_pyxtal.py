"""An independent oracle: PyXtal's Wyckoff tables of all 230 groups."""

import numpy as np
import pytest
import torch

from mattergen_lite.diffusion.lattice import free_numbers
from mattergen_lite.symmetry.orbits import find_orbits, site_symmetry
from mattergen_lite.symmetry.space_groups import space_group

pyxtal_lattice = pytest.importorskip("pyxtal.lattice")
pyxtal_symmetry = pytest.importorskip("pyxtal.symmetry")

PER_PART = 23


def random_sites(group, rng: np.random.Generator) -> list:
    """The general position and two others, special ones if there are any."""
    special = list(group)[1:]
    chosen = rng.permutation(len(special))[:2]
    return [group[0], *([special[i] for i in chosen] or [group[0], group[0]])]


def random_crystal(group, sites, rng: np.random.Generator):
    """Atoms of one kind a site, in a cell of the group that PyXtal draws."""
    size = sum(site.multiplicity for site in sites)
    # Loose atoms: what is nearly symmetric, or nearly in one place, is no test of tables.
    lattice = pyxtal_lattice.Lattice(group.lattice_type, 60.0 * size, random_state=rng)
    coords = np.concatenate([np.array(site.apply_ops(rng.random(3)))[:, :3] % 1 for site in sites])
    numbers = np.repeat(np.arange(3, 3 + len(sites)), [site.multiplicity for site in sites])
    return numbers, coords, np.array(lattice.matrix), lattice


def closest(coords: np.ndarray, lattice: np.ndarray) -> float:
    apart = coords[:, None] - coords
    distance = np.linalg.norm((apart - np.rint(apart)) @ lattice, axis=-1)
    return distance[~np.eye(len(coords), dtype=bool)].min(initial=np.inf)


@pytest.mark.parametrize("first", range(1, 231, PER_PART))
def test_orbits_and_freedom_agree_with_wyckoff_tables(first):
    for number in range(first, first + PER_PART):
        rng = np.random.default_rng(number)
        group = pyxtal_symmetry.Group(number)
        for _ in range(20):
            sites = random_sites(group, rng)
            numbers, coords, matrix, lattice = random_crystal(group, sites, rng)
            if closest(coords, matrix) > 0.1:
                break
        orbits = find_orbits(numbers, coords, matrix, symprec=1e-3)
        assert orbits.space_group == number
        centring = round(1 / np.linalg.det(space_group(number).primitive_cell))
        basis, _ = site_symmetry(number, orbits.frac_coords)
        found = sorted(
            zip(
                orbits.atomic_numbers.tolist(),
                orbits.multiplicities.tolist(),
                (np.abs(basis).sum(-1) > 0).sum(-1).tolist(),
                strict=True,
            )
        )
        expected = [
            (z, site.multiplicity // centring, int(site.get_dof()))
            for z, site in enumerate(sites, start=3)
        ]
        assert found == expected, number
        assert int(free_numbers(torch.tensor([number])).sum()) == lattice.dof, number
        assert len(space_group(number).rotations) * centring == group[0].multiplicity
