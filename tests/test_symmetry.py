"""Symmetry as the coordinate system: operations, orbits, free coordinates, cells, subgroups."""

from collections.abc import Iterator

import numpy as np
import pyarrow.compute as pc
import pytest
import spglib
import torch
from crystals import li3ps4, nacl, perovskite, quartz, rutile, triclinic
from models import POLAR, SITES, fit, random_crystals, random_orbits, random_p1, tiny_model
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Lattice, Structure

from mattergen_lite.data.canonical import row_structure
from mattergen_lite.data.dataset import OrbitDataset
from mattergen_lite.data.subgroup_augmentation import without_symmetry
from mattergen_lite.data.table import read_crystal_table
from mattergen_lite.diffusion import coordinates
from mattergen_lite.diffusion.joint import State
from mattergen_lite.diffusion.lattice import LatticeChannel, free_numbers
from mattergen_lite.io.formats.structures import build_structure
from mattergen_lite.symmetry.orbits import Orbits, find_orbits
from mattergen_lite.symmetry.space_groups import space_group
from mattergen_lite.symmetry.subgroups import (
    multiplication_table,
    orbits_in_subgroup,
    random_subgroup,
)
from mattergen_lite.symmetry.templates import OrbitCrystals, Templates
from mattergen_lite.tensors.geometry import (
    wrap_difference,
    wrapped_normal_displacement,
    wrapped_normal_scale,
)

MATCHER = StructureMatcher(primitive_cell=False, scale=False)
HEXAGONAL, RHOMBOHEDRAL, TRICLINIC = [186, 194], [146, 166], [1, 2]


def structure_of(orbits: Orbits) -> Structure:
    numbers, coords = orbits.expand()
    return build_structure(orbits.lattice, numbers.tolist(), coords)


@pytest.fixture(scope="module")
def embedded():
    """The smallest crystal of every space group that occurs, as a table."""
    table = read_crystal_table("embedded")
    table = table.filter(pc.is_valid(table["orbit_space_group"]))
    groups = table["orbit_space_group"].to_numpy()
    size = table["num_atoms"].to_numpy()
    rows = np.lexsort([size, groups])
    first = rows[np.unique(groups[rows], return_index=True)[1]]
    return table.take(first)


@pytest.fixture(scope="module")
def crystals(embedded) -> OrbitDataset:
    return OrbitDataset.from_table(embedded)


# Operations


@pytest.mark.parametrize("first", range(1, 231, 46))
def test_operations_of_every_group_close(first):
    for number in range(first, first + 46):
        group = space_group(number)
        rotations, translations = group.rotations, group.translations
        assert np.array_equal(rotations[0], np.eye(3))
        assert not translations[0].any()
        products = multiplication_table(group)
        assert np.array_equal(rotations[:, None] @ rotations, rotations[products]), number
        shifts = np.einsum("aij,bj->abi", rotations, translations) + translations[:, None]
        apart = shifts - translations[products]
        assert np.abs(apart - np.rint(apart)).max() < 1e-6, number
        assert (np.sort(products, axis=1) == np.arange(len(rotations))).all(), number


def test_unknown_groups_are_refused():
    for number in (0, 231):
        with pytest.raises(ValueError, match=f"space group {number}: expected 1 to 230"):
            space_group(number)


# Crystal -> orbits -> crystal


def test_embedded_crystals_are_reproduced(embedded, crystals):
    """One of every space group that occurs: all of its atoms within the tolerance of 0.1 Å."""
    rows = embedded.to_pylist()
    assert len(rows) > 200
    for number, row in enumerate(rows):
        orbits = crystals.orbits(number)
        original, again = row_structure(row), structure_of(orbits)
        assert len(again) == len(original), row["material_id"]
        assert again.composition == original.composition
        assert again.volume == pytest.approx(original.volume, rel=0.02)
        found = MATCHER.get_rms_dist(original, again)
        assert found is not None, row["material_id"]
        length = (original.volume / len(original)) ** (1 / 3)
        assert found[1] * length < 0.12, row["material_id"]  # Å, the largest


def test_embedded_orbits_have_the_symmetry_they_say(crystals):
    """Every operation maps the atoms onto each other, and spglib finds the very group."""
    for number in range(len(crystals)):
        orbits = crystals.orbits(number)
        assert_symmetric(*orbits.expand(), orbits.lattice, orbits.space_group, 1e-3)
        numbers, coords = orbits.expand()
        found = spglib.get_symmetry_dataset((orbits.lattice, coords, numbers), 1e-3)
        assert found.number == orbits.space_group


def assert_symmetric(numbers, coords, lattice, number: int, tolerance: float) -> None:
    """Atoms go where atoms of their kind are, within a tolerance in Å, and the cell to itself."""
    group = space_group(number)
    moved = coords @ group.rotations.transpose(0, 2, 1) + group.translations[:, None]
    apart = moved[:, :, None] - coords
    distance = np.linalg.norm((apart - np.rint(apart)) @ lattice, axis=-1)
    distance[:, numbers[:, None] != numbers] = np.inf
    assert distance.min(-1).max() < tolerance, number
    gram = lattice @ lattice.T
    turned = group.rotations.transpose(0, 2, 1) @ gram @ group.rotations
    assert np.abs(turned - gram).max() < tolerance * np.sqrt(gram.max()), number


def disguises(structure: Structure) -> Iterator[Structure]:
    """Another order of the atoms, orientation and primitive cell; a supercell; another origin."""
    order = np.random.default_rng(0).permutation(len(structure))
    yield Structure.from_sites([structure[i] for i in order])
    rotation, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))
    rotation *= np.sign(np.linalg.det(rotation))
    lattice = Lattice(structure.lattice.matrix @ rotation)
    yield Structure(lattice, structure.species, structure.frac_coords)
    skewed = np.array([[1, 0, 0], [2, 1, 0], [-1, 3, 1]])
    coords = structure.frac_coords @ np.linalg.inv(skewed)
    yield Structure(skewed @ structure.lattice.matrix, structure.species, coords)
    yield structure * (2, 1, 1)
    moved = structure.copy()
    moved.translate_sites(range(len(moved)), [0.13, 0.27, 0.41])
    yield moved


def described(structure: Structure) -> Orbits:
    return find_orbits(
        np.array(structure.atomic_numbers), structure.frac_coords, structure.lattice.matrix
    )


def cell_numbers(channel: LatticeChannel, crystals: OrbitCrystals) -> torch.Tensor:
    templates = crystals.templates
    return channel.encode(crystals.lattice, templates.space_group, templates.num_atoms)


def kinds(orbits: Orbits) -> list[tuple[int, int]]:
    """Element and number of atoms of each orbit."""
    return sorted(zip(orbits.atomic_numbers, orbits.multiplicities, strict=True))


def wurtzite() -> Structure:
    """ZnO, 4 atoms, P6_3mc (186): polar along c."""
    return Structure.from_spacegroup(
        "P6_3mc",
        Lattice.hexagonal(3.25, 5.21),
        ["Zn", "O"],
        [[1 / 3, 2 / 3, 0], [1 / 3, 2 / 3, 0.382]],
    )


FAMILIAR = [nacl, rutile, perovskite, quartz, li3ps4, triclinic, wurtzite]


@pytest.mark.parametrize("make", FAMILIAR)
def test_orbits_do_not_depend_on_how_the_file_was_written(make):
    """The same crystal in the same cell, as many free parameters, orbits of the same kinds."""
    structure = make()
    expected = described(structure)
    model = tiny_model()
    for other in disguises(structure):
        found = described(other)
        assert found.space_group == expected.space_group
        assert MATCHER.fit(structure_of(found), structure_of(expected))
        assert kinds(found) == kinds(expected)
        a, b = OrbitCrystals.of([found]), OrbitCrystals.of([expected])
        assert int(a.templates.free.sum()) == int(b.templates.free.sum())
        cells = [cell_numbers(model.diffusion.lattice, c) for c in (a, b)]
        if expected.space_group > 2:  # triclinic cells are not reduced in the same way
            torch.testing.assert_close(*cells, atol=1e-3, rtol=1e-3)


def test_rock_salt_by_hand():
    orbits = described(nacl())
    assert orbits.space_group == 225
    assert orbits.multiplicities.tolist() == [1, 1]
    templates = OrbitCrystals.of([orbits]).templates
    assert not templates.free.any()
    assert abs(np.linalg.det(orbits.lattice)) == pytest.approx(5.69**3 / 4, rel=1e-6)


def test_nearly_symmetric_crystals_are_made_symmetric():
    """Atoms 0.02 Å off their places: the group of the ideal crystal, in its exact cell."""
    bent = rutile()
    bent.perturb(0.02, seed=1)
    found = described(bent)
    assert found.space_group == 136
    assert_symmetric(*found.expand(), found.lattice, 136, 1e-6)
    assert MATCHER.get_rms_dist(structure_of(found), rutile().get_primitive_structure())[1] < 0.02


# Free coordinates


def test_bases_are_those_of_the_lattice_not_of_a_part(crystals):
    """Every whole-number direction in which a site may move is a whole combination of the basis."""
    bases = torch.cat([crystals.basis, random_crystals().templates.basis.flatten(0, 1)])
    seen = 0
    numbers = np.array(list(np.ndindex(5, 5, 5))) - 2
    for basis in torch.unique(bases, dim=0).double().numpy():
        rows = basis[np.abs(basis).sum(-1) > 0]
        if not len(rows):
            continue
        seen += 1
        inside = numbers[np.abs(numbers @ np.linalg.pinv(rows) @ rows - numbers).max(-1) < 1e-6]
        combination = inside @ np.linalg.pinv(rows)
        assert np.abs(combination - np.rint(combination)).max() < 1e-6, rows
        assert np.linalg.matrix_rank(rows) == len(rows)
    assert seen > 20


@pytest.mark.parametrize("number", [*HEXAGONAL, *RHOMBOHEDRAL, *TRICLINIC, 8, 136, 198])
def test_free_directions_against_brute_force(number):
    """A small step along a free direction leaves an orbit its size; any other step splits it."""
    orbits = random_orbits(number, np.random.default_rng(3))
    group = space_group(number)
    templates = OrbitCrystals.of([orbits]).templates
    rng = np.random.default_rng(4)
    for orbit, (place, size) in enumerate(
        zip(orbits.frac_coords, orbits.multiplicities, strict=True)
    ):
        basis = templates.basis[0, orbit].double().numpy()
        assert num_images(group, place + 0.01 * rng.normal(size=3) @ basis) == size
        away = rng.normal(size=3)
        away -= away @ np.linalg.pinv(basis) @ basis
        if np.linalg.norm(away) > 1e-6:
            assert num_images(group, place + 0.01 * away) > size


def num_images(group, place) -> int:
    images = place @ group.rotations.transpose(0, 2, 1) + group.translations
    apart = images[:, None] - images
    same = np.abs(apart - np.rint(apart)).max(-1) < 1e-6
    return len(np.unique(same.argmax(1)))


def test_projections_and_periods():
    templates = random_crystals().templates
    steps = torch.randn(templates.origin.shape, generator=torch.Generator().manual_seed(0))
    steps = steps * templates.free
    torch.testing.assert_close(templates.to_free(templates.to_fractional(steps)), steps)
    anywhere = torch.randn_like(steps)
    inside = templates.to_fractional(templates.to_free(anywhere))
    rest = anywhere - inside  # at right angles to every free direction
    assert (templates.basis @ rest.unsqueeze(-1)).abs().max() < 1e-5
    periods = torch.tensor([1.0, -2.0, 3.0]) * templates.free
    moved = templates.representatives(steps + periods) - templates.representatives(steps)
    assert wrap_difference(moved).abs().max() < 1e-5


@pytest.mark.parametrize("number", [*HEXAGONAL, *RHOMBOHEDRAL, *TRICLINIC])
@pytest.mark.parametrize("sigma", [0.03, 0.3, 1.0])
def test_scores_on_the_free_torus_against_brute_force(number, sigma):
    """Noise of spread sigma in cell fractions, summed over all periods, differentiated."""
    templates = random_crystals([number]).templates
    spread = coordinates.spread(templates, torch.tensor([sigma])).double()[templates.free]
    length = templates.basis_length.double()[templates.free]
    torch.testing.assert_close(spread * length, torch.full_like(spread, sigma))
    rng = torch.Generator().manual_seed(1)
    u = torch.rand(len(spread), generator=rng, dtype=torch.double).requires_grad_()
    fractional = (u.unsqueeze(-1) + torch.arange(-40, 41)) * length.unsqueeze(-1)
    density = torch.logsumexp(-0.5 * (fractional / sigma) ** 2, -1).sum()
    (score,) = torch.autograd.grad(density, u)
    found = wrapped_normal_displacement(-u.detach(), spread)
    expected = torch.where(spread > 1, 0.0, spread**2 * score)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-4)


# Polar axes


def test_polar_axes_are_found():
    templates = random_crystals().templates
    rank = torch.linalg.matrix_rank(templates.invariant, atol=1e-4)
    assert rank.tolist() == [POLAR.get(number, 0) for number in SITES]
    torch.testing.assert_close(templates.invariant @ templates.invariant, templates.invariant)


def test_drift_is_the_mean_over_atoms_along_polar_axes():
    templates = random_crystals().templates
    steps = torch.randn(templates.origin.shape, generator=torch.Generator().manual_seed(0))
    steps = templates.to_fractional(templates.to_free(steps)) * templates.mask.unsqueeze(-1)
    rest = templates.remove_drift(steps)
    moved = (templates.rotations @ templates.of_atoms(rest).unsqueeze(-1)).squeeze(-1)
    mean = (moved * templates.atom_mask.unsqueeze(-1)).sum(1) / templates.num_atoms.unsqueeze(-1)
    along = (templates.invariant @ mean.unsqueeze(-1)).squeeze(-1)
    assert along.abs().max() < 1e-5
    torch.testing.assert_close(templates.remove_drift(rest), rest)
    # What is left is still within the free directions of every orbit.
    torch.testing.assert_close(
        templates.to_fractional(templates.to_free(rest)), rest, atol=1e-5, rtol=1e-5
    )
    fixed = [row for row, number in enumerate(SITES) if number not in POLAR]
    torch.testing.assert_close(rest[fixed], steps[fixed])


def test_without_symmetry_it_is_plain_diffusion():
    """Every atom an orbit: all directions free, no mean displacement."""
    crystals = random_p1([5, 3])
    templates = crystals.templates
    mask = templates.mask.unsqueeze(-1)
    assert torch.equal(templates.basis[templates.mask], torch.eye(3).expand(8, 3, 3))
    assert torch.equal(templates.invariant, torch.eye(3).expand(2, 3, 3))
    prediction = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0))
    sigma = torch.tensor([0.1, 2.0])
    found = coordinates.displacement(prediction, sigma, templates)
    plain = prediction * wrapped_normal_scale(sigma)[:, None, None] * mask
    plain = (plain - plain.sum(1, keepdim=True) / mask.sum(1, keepdim=True)) * mask
    torch.testing.assert_close(found, plain)
    torch.testing.assert_close(crystals.expand().frac_coords, templates.origin)


# Representatives


def test_any_atom_can_represent_its_orbit():
    """Other directions and operations, the same atoms: where they are and when they move."""
    crystals = random_crystals()
    rng = torch.Generator().manual_seed(0)
    uniform = torch.rand(crystals.atomic_numbers.shape, generator=rng)
    other = crystals.with_random_representatives(uniform)
    assert (other.templates.origin != crystals.templates.origin).any()
    steps = 0.1 * torch.rand(crystals.templates.origin.shape, generator=rng)
    for free in (torch.zeros_like(steps), steps):
        a, b = (
            c.templates.atoms(c.templates.representatives(free * c.templates.free))
            for c in (crystals, other)
        )
        assert wrap_difference(a - b)[crystals.templates.atom_mask].abs().max() < 1e-5
    assert torch.equal(other.templates.free, crystals.templates.free)
    assert torch.equal(other.templates.invariant, crystals.templates.invariant)


def test_drift_is_the_same_whatever_represents():
    crystals = random_crystals()
    rng = torch.Generator().manual_seed(0)
    uniform = torch.rand(crystals.atomic_numbers.shape, generator=rng)
    templates = crystals.templates
    other = crystals.with_random_representatives(uniform).templates
    free = torch.randn(templates.origin.shape, generator=rng) * templates.free

    def without_drift(one: Templates):
        return one.to_free(one.remove_drift(one.to_fractional(free)))

    torch.testing.assert_close(without_drift(templates), without_drift(other), atol=1e-5, rtol=1e-5)


def test_representatives_are_chosen_evenly():
    crystals = random_crystals([62])[torch.zeros(4000, dtype=torch.long)]
    uniform = torch.rand(4000, 3, generator=torch.Generator().manual_seed(0))
    general = crystals.with_random_representatives(uniform).templates.origin[:, 2]
    _, counts = torch.unique((general * 1e3).round(), dim=0, return_counts=True)
    assert len(counts) == 8
    assert counts.min() > 400


# Cells


def test_cells_round_trip_in_every_crystal_system():
    crystals = random_crystals()
    templates = crystals.templates
    channel = LatticeChannel()
    groups, sizes = templates.space_group, templates.num_atoms
    channel.fit(crystals.lattice, groups, sizes)
    cell = channel.encode(crystals.lattice, groups, sizes)
    assert (cell[~free_numbers(groups)] == 0).all()
    torch.testing.assert_close(
        channel.decode(cell, groups, sizes), crystals.lattice, rtol=1e-4, atol=1e-4
    )


def test_any_numbers_make_a_cell_of_the_group():
    """All 230 groups: the metric is left alone by every operation; volume is one number."""
    channel = LatticeChannel()
    groups = torch.arange(1, 231)
    sizes = torch.full_like(groups, 6)
    free = free_numbers(groups)
    first = dict(zip(groups.tolist(), free.sum(-1).tolist(), strict=True))
    expected = {1: 6, 3: 4, 16: 3, 75: 2, 143: 2, 168: 2, 195: 1}
    assert {number: first[number] for number in expected} == expected
    rng = torch.Generator().manual_seed(0)
    cell = 0.2 * torch.randn(230, 6, generator=rng)
    lattices = channel.decode(cell, groups, sizes).double().numpy()
    for number, lattice in enumerate(lattices, start=1):
        gram = lattice @ lattice.T
        rotations = space_group(number).rotations
        turned = rotations.transpose(0, 2, 1) @ gram @ rotations
        assert np.abs(turned - gram).max() < 1e-4 * gram.max(), number
        assert lattice[0, 1] == lattice[0, 2] == lattice[1, 2] == 0
    larger = cell.clone()
    larger[:, 0] += 0.1
    volume, more = (torch.linalg.det(channel.decode(c, groups, sizes)) for c in (cell, larger))
    torch.testing.assert_close(more / volume, (more / volume)[:1].expand(230), rtol=1e-3, atol=0)
    other = cell + torch.tensor([0.0, *[0.1] * 5])
    same = torch.linalg.det(channel.decode(other, groups, sizes))
    torch.testing.assert_close(same, volume, rtol=1e-3, atol=0)


def test_hexagonal_axes_stay_at_120_degrees():
    channel = LatticeChannel()
    groups = torch.tensor([143, 150, 168, 194])
    numbers = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    lattice = channel.decode(numbers, groups, torch.tensor([3, 4, 5, 6]))
    for cell in map(Lattice, lattice.numpy()):
        assert cell.angles == pytest.approx((90.0, 90.0, 120.0), abs=1e-3)
        assert cell.a == pytest.approx(cell.b, rel=1e-5)
    rhombohedral = channel.decode(numbers[:1], torch.tensor([166]), torch.tensor([6]))
    (cell,) = map(Lattice, rhombohedral.numpy())
    assert np.std(cell.lengths) < 1e-5
    assert np.std(cell.angles) < 1e-3


# Samples


def test_whatever_is_decoded_has_its_space_group(crystals):
    """Any noise on a template of every group makes atoms and cell that all operations map."""
    batch = crystals.crystals(torch.arange(len(crystals)))
    model = tiny_model()
    fit(model, batch)
    rng = torch.Generator().manual_seed(0)
    state = State(
        types=torch.randn(*batch.atomic_numbers.shape, 16, generator=rng),
        free_coords=torch.rand(batch.templates.origin.shape, generator=rng) * batch.templates.free,
        cell=0.3 * torch.randn(len(batch), 6, generator=rng),
    )
    decoded = model.diffusion.decode(state, batch.templates)
    for row, number in enumerate(batch.templates.space_group.tolist()):
        atoms = decoded[row : row + 1].expand()
        mask = atoms.mask[0]
        assert_symmetric(
            atoms.atomic_numbers[0][mask].numpy(),
            atoms.frac_coords[0][mask].double().numpy(),
            atoms.lattice[0].double().numpy(),
            number,
            1e-3,
        )


# Subgroups


def test_subgroups_are_groups():
    rng = np.random.default_rng(0)
    for number in (62, 136, 166, 194, 225, 227):
        group = space_group(number)
        table = multiplication_table(group)
        sizes = set()
        for _ in range(8):
            chosen = random_subgroup(group, rng)
            assert set(np.unique(table[np.ix_(chosen, chosen)])) == set(chosen.tolist())
            assert len(group.rotations) % len(chosen) == 0  # Lagrange
            sizes.add(len(chosen))
        assert len(sizes) > 1


@pytest.mark.parametrize("make", [nacl, rutile, perovskite, quartz, li3ps4])
def test_views_with_less_symmetry_are_the_same_crystal(make):
    orbits = described(make())
    group = space_group(orbits.space_group)
    rng = np.random.default_rng(0)
    for _ in range(4):
        chosen = random_subgroup(group, rng)
        view = orbits_in_subgroup(orbits, chosen, rng)
        assert len(space_group(view.space_group).rotations) == len(chosen)
        assert len(view.operations) >= len(orbits.operations)
        assert_symmetric(*view.expand(), view.lattice, view.space_group, 1e-3)
        assert MATCHER.fit(structure_of(view), structure_of(orbits))
    free = without_symmetry(orbits)
    assert free.space_group == 1
    assert free.multiplicities.tolist() == [1] * int(orbits.multiplicities.sum())
    assert MATCHER.fit(structure_of(free), structure_of(orbits))


# Batches


def test_batches_are_padded_cut_and_joined_without_change():
    one, two = random_crystals([62, 8]), random_crystals([225, 1])
    joined = OrbitCrystals.concatenate([one, two])
    for whole, rows in ((one, [0, 1]), (two, [2, 3])):
        a, b = whole.expand(), joined[torch.tensor(rows)].expand()
        width = a.mask.shape[1]
        assert torch.equal(b.atomic_numbers[:, :width], a.atomic_numbers)
        assert wrap_difference(b.frac_coords[:, :width] - a.frac_coords).abs().max() < 1e-6
        assert not b.mask[:, width:].any()


def test_tables_and_single_crystals_agree(crystals):
    rows = torch.arange(0, len(crystals), 10)
    batch = crystals.crystals(rows).expand()
    again = OrbitCrystals.of([crystals.orbits(int(row)) for row in rows]).expand()
    assert torch.equal(batch.atomic_numbers, again.atomic_numbers)
    assert wrap_difference(batch.frac_coords - again.frac_coords).abs().max() < 1e-5
    torch.testing.assert_close(batch.lattice, again.lattice, rtol=1e-4, atol=1e-4)
