"""Distances, density and cell shape of known crystals, and what is said of broken ones."""

import numpy as np
import pytest
from crystals import nacl, nacl_primitive, rutile, single_atom
from pymatgen.core import Lattice, Structure

from mattergen_lite.scoring.criteria.validity import validity


def test_rock_salt():
    measured = validity(nacl())
    assert measured.min_distance == pytest.approx(5.69 / 2)
    assert measured.closest_pair == "Cl-Na"
    assert measured.density == pytest.approx(2.107, abs=1e-3)
    assert measured.volume_per_atom == pytest.approx(5.69**3 / 8)
    assert (measured.min_angle, measured.max_angle) == (90, 90)
    assert measured.structure_valid
    assert measured.physical_problem == ""


def test_the_cell_chosen_does_not_matter():
    conventional, primitive = validity(nacl()), validity(nacl_primitive())
    for name in ("min_distance", "density", "volume_per_atom", "packing_fraction", "cell_aspect"):
        assert getattr(conventional, name) == pytest.approx(getattr(primitive, name))


def test_images_of_the_same_atom_count():
    assert validity(single_atom()).min_distance == pytest.approx(3.62 / np.sqrt(2))


def test_skewed_cell_is_measured_by_its_reduced_vectors():
    skewed = rutile()
    skewed.make_supercell([[1, 0, 0], [7, 1, 0], [0, -5, 1]], to_unit_cell=True)
    assert validity(skewed).cell_aspect == pytest.approx(validity(rutile()).cell_aspect, rel=0.05)
    assert validity(skewed).min_distance == pytest.approx(validity(rutile()).min_distance)


@pytest.mark.parametrize(
    ("lattice", "coords", "problem", "structure_valid"),
    [
        (Lattice.cubic(5.69), [[0, 0, 0], [0.05, 0, 0]], "Cl-Na overlap", False),
        (Lattice.cubic(5.69), [[0, 0, 0], [0.2, 0, 0]], "Cl-Na overlap", True),
        (Lattice.cubic(15), [[0, 0, 0], [0.2, 0, 0]], "almost empty", True),
        (Lattice.tetragonal(3.9, 100), [[0, 0, 0], [0.5, 0.5, 0.02]], "26 times longer", True),
        (Lattice.cubic(0.4), [[0, 0, 0], [0.5, 0.5, 0.5]], "g/cm³", False),
    ],
)
def test_problems_are_said_in_words(lattice, coords, problem, structure_valid):
    measured = validity(Structure(lattice, ["Na", "Cl"], coords))
    assert problem in measured.physical_problem
    assert measured.structure_valid == structure_valid
