"""Substitution: known frameworks, near elements, cells of the right size, one crystal a number."""

import numpy as np
import torch
from ase.data import covalent_radii

from mattergen_lite.data.crystals import embedded_crystals
from mattergen_lite.elements import atomic_number, element_descriptors
from mattergen_lite.sampling.substitution import NUM_NEAREST, nearest_elements, records, substituted
from mattergen_lite.scoring.criteria.symmetry import space_group


def test_nearest_elements_are_the_nearest_of_those_that_occur():
    neighbours = nearest_elements()
    vectors, present = element_descriptors(), list(neighbours)
    sodium = atomic_number("Na")
    assert atomic_number("K") in neighbours[sodium]
    distances = torch.linalg.norm(vectors[present] - vectors[sodium], dim=1)
    furthest = torch.linalg.norm(vectors[neighbours[sodium][-1]] - vectors[sodium])
    assert int((distances <= furthest + 1e-6).sum()) == NUM_NEAREST + 1  # and sodium itself
    assert all(number not in found for number, found in neighbours.items())


def test_a_proposal_is_a_function_of_its_number():
    (batch,) = records(range(5, 9), 10, seed=3)
    assert [one.name for one in batch] == ["000005", "000006", "000007", "000008"]
    again = substituted(7, seed=3)
    assert np.array_equal(batch[2].structure.frac_coords, again.structure.frac_coords)
    assert batch[2].structure.composition == again.structure.composition
    assert substituted(7, seed=4).structure != again.structure
    assert [len(one) for one in records(range(7), 3, seed=0)] == [3, 3, 1]


def test_proposals_are_known_frameworks_with_other_elements_and_scaled_cells():
    known = embedded_crystals("train")
    by_size = {}
    for row in range(len(known)):
        by_size.setdefault(int(known.num_atoms[row]), []).append(row)
    for index in range(5):
        crystal = substituted(index, seed=0).structure
        counts = sorted(crystal.composition.get_el_amt_dict().values())
        numbers = np.array(crystal.atomic_numbers)
        matches = 0
        for row in by_size[len(crystal)]:
            first = int(known.first_atom[row])
            coords = known.frac_coords[first : first + len(crystal)].numpy()
            shift = (coords - crystal.frac_coords + 0.5) % 1 - 0.5
            if np.abs(shift).max() > 1e-5:
                continue
            old = known.atomic_numbers[first : first + len(crystal)].numpy()
            scale = covalent_radii[numbers].sum() / covalent_radii[old].sum()
            lattice = known.lattice[row].numpy()
            if np.allclose(crystal.lattice.matrix, scale * lattice, atol=1e-3):
                matches += 1
                assert sorted(np.unique(old, return_counts=True)[1].tolist()) == counts
                assert (old != numbers).any()
                assert float(known.columns["e_above_hull"][row]) <= 0.1
                assert space_group(crystal, 0.01) > 0
        assert matches >= 1
