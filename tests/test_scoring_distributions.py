"""Wasserstein distances against the area between cumulative distributions, computed apart."""

import numpy as np
import pytest
from pymatgen.core import Structure

from mattergen_lite.data.crystals import embedded_crystals
from mattergen_lite.data.table import EMBEDDED, read_crystal_table
from mattergen_lite.scoring.metrics.distributions import distances


@pytest.fixture(scope="module")
def known():
    return embedded_crystals("test")


@pytest.fixture(scope="module")
def structures():
    """The same crystals as pymatgen sees them."""
    columns = ["split", "num_atoms", "lattice", "atomic_numbers", "frac_coords"]
    rows = (
        read_crystal_table(EMBEDDED, columns)
        .to_pandas()
        .query("split == 'test' and num_atoms <= 4")
    )
    return [
        Structure(
            np.reshape(row.lattice, (3, 3)),
            row.atomic_numbers,
            np.reshape(row.frac_coords, (-1, 3)),
        )
        for row in rows.itertuples()
    ]


def area_between(one, other):
    """Integral of the absolute difference of two empirical distribution functions."""
    edges = np.sort(np.concatenate([one, other]))
    below = [np.searchsorted(np.sort(values), edges[:-1], side="right") for values in (one, other)]
    difference = np.abs(below[0] / len(one) - below[1] / len(other))
    return float((difference * np.diff(edges)).sum())


def test_distances_are_areas_between_distributions(known, structures):
    densities, num_elements = [1.5, 4.0, 4.0, 9.5, 30.0], [1, 2, 2, 3, 5]
    found = distances(densities, num_elements, known, known.num_atoms <= 4)
    true_densities = np.array([one.density for one in structures])
    true_elements = np.array([len(one.composition) for one in structures])
    assert found.density == pytest.approx(area_between(densities, true_densities), rel=1e-3)
    assert found.n_ary == pytest.approx(area_between(num_elements, true_elements))


def test_a_set_is_no_distance_from_itself(known):
    rows = known.num_atoms == 2
    densities = known.columns["density"][rows].tolist()
    found = distances(densities, [2] * len(densities), known, rows)
    assert found.density == 0
    assert found.n_ary < 0.5


def test_nothing_has_no_distance(known):
    with pytest.raises(ValueError, match=f"0 crystals against {len(known)} known ones"):
        distances([], [], known)
