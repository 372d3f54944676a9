"""Distances, density and cell shape of known crystals, and what is said of broken ones."""

import numpy as np
import pytest
from ase.build import molecule
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


@pytest.mark.parametrize(
    ("lattice", "elements", "coords", "words"),
    [  # covalent radii in Å: Na 1.66, Cl 1.02, H 0.31
        (
            Lattice.cubic(5.69),
            ["Na", "Cl", "Cl"],
            [[0, 0, 0], [0.5, 0.5, 0.5], [0.2, 0, 0]],
            "Cl-Na overlap: 1.14 Å, 0.42 of their covalent radii (atoms 1 and 3)",
        ),
        (
            Lattice.tetragonal(1.5, 6),
            ["Na"],
            [[0, 0, 0]],
            "Na-Na overlap: 1.50 Å, 0.45 of their covalent radii (atom 1 and its image in the next "
            "cell)",
        ),
        (  # closer than CDVAE allows, not too close for hydrogen's spheres
            Lattice.cubic(2.5),
            ["H", "H"],
            [[0, 0, 0], [0.18, 0, 0]],
            "H-H overlap: 0.45 Å, 0.73 of their covalent radii (atoms 1 and 2)",
        ),
    ],
)
def test_overlapping_atoms_are_named_with_their_distance(lattice, elements, coords, words):
    assert validity(Structure(lattice, elements, coords)).physical_problem == words


def in_vacuum(structure: Structure, axes: list[int], space: float) -> Structure:
    """The atoms of a cell with empty space along some of its axes."""
    lengths, angles = list(structure.lattice.abc), structure.lattice.angles
    for axis in axes:
        lengths[axis] += space
    lattice = Lattice.from_parameters(*lengths, *angles)
    moved = [lattice.get_fractional_coords(site.coords) for site in structure]
    return Structure(lattice, structure.species, moved)


@pytest.mark.parametrize("axes", [[2], [1, 2], [0, 1, 2]], ids=["slab", "wire", "cluster"])
def test_vacuum_is_no_bulk_crystal(axes):
    """Of rock salt's cell the outermost planes are half an edge apart across its border."""
    found = validity(in_vacuum(nacl(), axes, 12.0))
    # from a plane of centres to the next one, less the sodium on each side
    assert found.widest_gap == pytest.approx(12 + 5.69 / 2 - 2 * 1.66, abs=1e-6)
    assert found.dimensionality == 3 - len(axes)
    assert f"not a bulk crystal: {found.widest_gap:.1f} Å of vacuum" in found.physical_problem
    assert found.structure_valid


def test_a_skewed_slab_in_a_supercell_is_found():
    slab = in_vacuum(rutile(), [0], 9.0)
    found = validity(slab)
    slab.make_supercell([[1, 2, 0], [0, 1, 0], [1, -1, 2]])
    assert validity(slab).widest_gap == pytest.approx(found.widest_gap, abs=1e-6)
    assert found.physical_problem.startswith("not a bulk crystal")


def graphite() -> Structure:
    return Structure.from_spacegroup(
        "P6_3/mmc",
        Lattice.hexagonal(2.461, 6.708),
        ["C", "C"],
        [[0, 0, 0.25], [1 / 3, 2 / 3, 0.25]],
    )


def molybdenite() -> Structure:
    return Structure.from_spacegroup(
        "P6_3/mmc",
        Lattice.hexagonal(3.160, 12.294),
        ["Mo", "S"],
        [[1 / 3, 2 / 3, 0.25], [1 / 3, 2 / 3, 0.621]],
    )


def carbon_dioxide() -> Structure:
    return Structure.from_spacegroup(
        "Pa-3", Lattice.cubic(5.624), ["C", "O"], [[0, 0, 0], [0.119, 0.119, 0.119]]
    )


def nitrogen() -> Structure:
    return Structure.from_spacegroup("Pa-3", Lattice.cubic(5.66), ["N"], [[0.056, 0.056, 0.056]])


def iodine() -> Structure:
    return Structure.from_spacegroup(
        "Cmce", Lattice.orthorhombic(7.136, 4.686, 9.784), ["I"], [[0, 0.154, 0.118]]
    )


def selenium() -> Structure:
    return Structure.from_spacegroup(
        "P3_121", Lattice.hexagonal(4.366, 4.954), ["Se"], [[0.225, 0, 1 / 3]]
    )


def boron_nitride() -> Structure:
    return Structure.from_spacegroup(
        "P6_3/mmc",
        Lattice.hexagonal(2.504, 6.661),
        ["B", "N"],
        [[1 / 3, 2 / 3, 0.25], [1 / 3, 2 / 3, 0.75]],
    )


def black_phosphorus() -> Structure:
    return Structure.from_spacegroup(
        "Cmce", Lattice.orthorhombic(3.314, 10.478, 4.376), ["P"], [[0, 0.1034, 0.0806]]
    )


def cadmium_iodide() -> Structure:
    return Structure.from_spacegroup(
        "P-3m1", Lattice.hexagonal(4.24, 6.84), ["Cd", "I"], [[0, 0, 0], [1 / 3, 2 / 3, 0.25]]
    )


def silicon_disulphide() -> Structure:
    return Structure.from_spacegroup(
        "Ibam",
        Lattice.orthorhombic(9.583, 5.614, 5.547),
        ["Si", "S"],
        [[0, 0, 0.25], [0.1182, 0.2088, 0]],
    )


def fullerite() -> Structure:
    """Molecules of C60, one in a primitive cell of fcc with an edge of 14.17 Å, all alike."""
    cage = molecule("C60")
    half = 14.17 / 2
    cell = Lattice([[0, half, half], [half, 0, half], [half, half, 0]])
    return Structure(cell, ["C"] * 60, cage.positions, coords_are_cartesian=True)


@pytest.mark.parametrize(
    ("make", "dimensionality"),
    [
        (boron_nitride, 2),
        (black_phosphorus, 2),
        (cadmium_iodide, 2),
        (silicon_disulphide, 1),
        (fullerite, 0),
        (graphite, 2),
        (molybdenite, 2),
        (carbon_dioxide, 0),
        (nitrogen, 0),
        (iodine, 0),
        (selenium, 1),
        (rutile, 3),
        (single_atom, 3),
    ],
)
def test_layers_chains_and_molecules_are_crystals(make, dimensionality):
    """Cells and coordinates of experiment (Wyckoff, Crystal Structures, 1963)."""
    found = validity(make())
    assert found.physical_problem == ""
    assert found.dimensionality == dimensionality
    assert found.widest_gap < 2.7  # far from the limit, for what relaxes outwards


@pytest.mark.parametrize("make", [graphite, boron_nitride, molybdenite])
def test_the_same_layers_in_vacuum_are_no_bulk_crystal(make):
    """The edge of these cells lies between two layers, so that the vacuum adds to their gap."""
    bulk, found = validity(make()), validity(in_vacuum(make(), [2], 10.0))
    assert found.dimensionality == 2
    assert found.widest_gap == pytest.approx(bulk.widest_gap + 10.0, abs=1e-6)
    assert found.physical_problem.startswith("not a bulk crystal")


def test_the_gap_of_graphite_is_its_layer_distance_less_two_radii():
    assert validity(graphite()).widest_gap == pytest.approx(6.708 / 2 - 2 * 0.76, abs=1e-6)
