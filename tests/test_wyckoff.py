"""Wyckoff positions and protostructures, against PyXtal, pymatgen and symmetry itself."""

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from mattergen_lite.symmetry.orbits import Orbits, find_orbits, symmetrise_lattice
from mattergen_lite.symmetry.protostructures import Protostructure, positions_of, protostructure
from mattergen_lite.symmetry.space_groups import space_group
from mattergen_lite.symmetry.wyckoff import wyckoff_positions

pyxtal_symmetry = pytest.importorskip("pyxtal.symmetry")

PROTOTYPES = {
    "rock salt": ("Fm-3m", Lattice.cubic(5.6), [[0, 0, 0], [0.5, 0.5, 0.5]]),
    "perovskite": ("Pm-3m", Lattice.cubic(3.9), [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0]]),
    "spinel": (
        "Fd-3m",
        Lattice.cubic(8.1),
        [[1 / 8, 1 / 8, 1 / 8], [1 / 2, 1 / 2, 1 / 2], [0.2624, 0.2624, 0.2624]],
    ),
    "olivine": (
        "Pnma",
        Lattice.orthorhombic(10.3, 6.0, 4.7),
        [
            [0, 0, 0],
            [0.28, 0.25, 0.97],
            [0.09, 0.25, 0.42],
            [0.1, 0.25, 0.74],
            [0.46, 0.25, 0.21],
            [0.17, 0.05, 0.28],
        ],
    ),
}


def prototype(name: str, elements: list[str]) -> Structure:
    group, lattice, coords = PROTOTYPES[name]
    return Structure.from_spacegroup(group, lattice, elements, coords)


def label(structure: Structure, symprec: float = 0.1) -> Protostructure:
    return protostructure(
        find_orbits(
            np.array(structure.atomic_numbers),
            structure.frac_coords,
            structure.lattice.matrix,
            symprec,
        )
    )


@pytest.mark.parametrize("first", range(1, 231, 46))
def test_positions_have_the_multiplicities_and_freedom_of_pyxtal(first):
    for number in range(first, first + 46):
        positions = wyckoff_positions(number)
        centring = round(1 / np.linalg.det(space_group(number).primitive_cell))
        expected = [
            (one.multiplicity // centring, one.get_dof()) for one in pyxtal_symmetry.Group(number)
        ]
        pairs = zip(positions.multiplicity.tolist(), positions.freedom.tolist(), strict=True)
        assert sorted(pairs) == sorted(expected), number


@pytest.mark.parametrize("first", range(1, 231, 46))
def test_a_point_of_each_position_is_identified_from_any_of_its_atoms(first):
    rng = np.random.default_rng(first)
    for number in range(first, first + 46):
        positions = wyckoff_positions(number)
        points = positions.at(rng.uniform(0.05, 0.11, (len(positions), 3)))
        group = space_group(number)
        operation = rng.integers(len(group.rotations))
        images = points @ group.rotations[operation].T + group.translations[operation]
        images += rng.integers(-2, 3, images.shape)
        assert positions.identify(images, positions.multiplicity).tolist() == [
            *range(len(positions))
        ], number


@pytest.mark.parametrize("number", [2, 12, 62, 136, 166, 194, 205, 216, 221, 225, 227, 229])
def test_exchanges_form_a_group_and_keep_multiplicities(number):
    positions = wyckoff_positions(number)
    table = {tuple(one) for one in positions.exchanges.tolist()}
    assert tuple(range(len(positions))) in table
    for one in positions.exchanges:
        assert (positions.multiplicity[one] == positions.multiplicity).all()
        assert (positions.freedom[one] == positions.freedom).all()
        assert tuple(np.argsort(one).tolist()) in table
    first = positions.exchanges[-1]
    assert tuple(first[first].tolist()) in table


@pytest.mark.parametrize("name", PROTOTYPES)
def test_the_protostructure_of_a_crystal_does_not_depend_on_its_description(name):
    rng = np.random.default_rng(0)
    elements = ["Li", "Fe", "P", "O", "O", "O"][: len(PROTOTYPES[name][2])]
    crystal = prototype(name, elements)
    expected = label(crystal)
    others = ["S", "Mg", "Cl", "Na", "Na", "Na"][: len(elements)]
    assert label(prototype(name, others)) == expected
    order = rng.permutation(len(crystal))
    shuffled = Structure(
        crystal.lattice,
        np.array(crystal.atomic_numbers)[order],
        crystal.frac_coords[order] + rng.random(3),
    )
    assert label(shuffled) == expected
    assert label(shuffled.make_supercell([[1, 1, 0], [0, 1, 0], [0, 0, 2]])) == expected
    mirrored = Structure(crystal.lattice, crystal.atomic_numbers, -crystal.frac_coords)
    assert label(mirrored) == expected
    assert label(crystal.copy().perturb(0.01)) == expected


def test_an_orbit_on_another_position_is_another_protostructure():
    zincblende = Structure.from_spacegroup(
        "F-43m", Lattice.cubic(5.6), ["Zn", "S"], [[0, 0, 0], [0.25, 0.25, 0.25]]
    )
    rock_salt = prototype("rock salt", ["Zn", "S"])
    assert label(zincblende) != label(rock_salt)
    # In F-43m the four sites are equivalent under the normaliser: half-Heusler has one label.
    first, second = (
        Structure.from_spacegroup(
            "F-43m", Lattice.cubic(6.0), elements, [[0, 0, 0], [0.25] * 3, [0.5] * 3]
        )
        for elements in (["Zr", "Ni", "Sn"], ["Ni", "Sn", "Zr"])
    )
    assert label(first) == label(second)


@pytest.mark.parametrize("number", [2, 14, 15, 62, 63, 139, 148, 164, 194, 221, 225, 227])
def test_templates_in_equivalent_descriptions_have_one_form(number):
    """Crystals on exchanged positions are equal to pymatgen's matcher, too."""
    rng = np.random.default_rng(number)
    positions = wyckoff_positions(number)
    sites = sorted(rng.choice(len(positions), 3, replace=False).tolist())
    classes = [[sites[0]], sites[1:]]
    exchange = positions.exchanges[rng.integers(len(positions.exchanges))]
    moved = [exchange[one].tolist() for one in classes]
    one, other = (Protostructure.canonical(number, each) for each in (classes, moved))
    assert one == other
    sizes = [
        sorted(int(positions.multiplicity[list(sites)].sum()) for sites in label.classes)
        for label in (one, other)
    ]
    assert sizes[0] == sizes[1]


@pytest.mark.parametrize("number", [1, 2, 14, 62, 88, 141, 167, 194, 205, 225, 227, 230])
def test_every_template_expands_to_a_crystal_of_at_least_its_group(number):
    rng = np.random.default_rng(number)
    positions, group = wyckoff_positions(number), space_group(number)
    sites = [len(positions) - 1, int(rng.integers(len(positions)))]
    free = rng.random((len(positions), 3))
    lattice = symmetrise_lattice(
        np.eye(3) * 12 + rng.normal(size=(3, 3)) * (2 if number < 3 else 0.1), group
    )
    orbits = Orbits(
        space_group=number,
        lattice=lattice,
        atomic_numbers=np.array([3, 8]),
        frac_coords=(positions.at(free)[sites]) % 1.0,
        operations=tuple(positions.operations[site] for site in sites),
    )
    numbers, coords = orbits.expand()
    assert len(numbers) == positions.multiplicity[sites].sum()
    assert positions_of(orbits).tolist() == sites
    again = find_orbits(numbers, coords, lattice, symprec=1e-3)
    assert len(space_group(again.space_group).rotations) >= len(group.rotations)
