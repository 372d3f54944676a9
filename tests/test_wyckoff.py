"""Patterns of known crystals: exact groups, exact projections, samples that keep them."""

import numpy as np
import pytest
import spglib
import torch
from crystals import nacl, nacl_primitive, perovskite, quartz, rutile, triclinic
from models import tiny_model

from mattergen_lite.constraints import parse_constraints
from mattergen_lite.diffusion.joint import Latent
from mattergen_lite.geometry import wrap_difference
from mattergen_lite.patterns import parse_space_group, suitable_order
from mattergen_lite.sampling import SamplerOptions, Target, sample, sample_rngs, starting_points
from mattergen_lite.wyckoff import Symmetry, WyckoffPattern, displacement_projection

CRYSTALS = {
    "nacl": (nacl, 225, 2),
    "nacl_primitive": (nacl_primitive, 225, 2),
    "rutile": (rutile, 136, 2),
    "perovskite": (perovskite, 221, 3),
    "quartz": (quartz, 154, 2),
    "triclinic": (triclinic, None, None),
}


def pattern_of(structure, noise: float = 0.0) -> WyckoffPattern:
    rng = np.random.default_rng(0)
    coords = structure.frac_coords + noise * rng.normal(size=structure.frac_coords.shape)
    numbers = np.array(structure.atomic_numbers)
    return WyckoffPattern.of(numbers, coords, structure.lattice.matrix)


@pytest.fixture(params=CRYSTALS)
def crystal(request):
    return CRYSTALS[request.param]


def test_operations_are_those_of_the_space_group(crystal):
    build, space_group, num_orbits = crystal
    pattern = pattern_of(build(), noise=1e-4)
    moved = pattern.frac_coords @ pattern.rotations.transpose(0, 2, 1)
    moved += pattern.translations[:, None]
    off = wrap_difference(torch.tensor(moved - pattern.frac_coords[pattern.images]))
    assert off.abs().max() < 1e-12  # free of the noise of the input
    metric = build().lattice.matrix @ build().lattice.matrix.T
    for rotation in pattern.rotations:
        np.testing.assert_allclose(rotation.T @ metric @ rotation, metric, atol=1e-3)
    if space_group:
        assert pattern.space_group == space_group
        assert len(pattern.orbits) == num_orbits


def test_operations_of_a_primitive_cell_count_each_once():
    assert len(pattern_of(nacl_primitive()).rotations) == 48
    assert len(pattern_of(nacl()).rotations) == 4 * 48


def test_projection_is_orthogonal_and_keeps_the_space_group(crystal):
    structure = crystal[0]()
    pattern = pattern_of(structure)
    projection = displacement_projection(pattern)
    np.testing.assert_allclose(projection @ projection, projection, atol=1e-9)
    np.testing.assert_allclose(projection, projection.T, atol=1e-12)
    white = 0.05 * np.random.default_rng(1).normal(size=pattern.frac_coords.size)
    moved = pattern.frac_coords + (projection @ white).reshape(-1, 3)
    cell = (structure.lattice.matrix, moved, structure.atomic_numbers)
    assert spglib.get_symmetry_dataset(cell, 1e-5).number == pattern.space_group


def test_free_coordinates_are_those_of_the_wyckoff_sites():
    """Rutile: O on 4f (x, x, 0) has one; NaCl has none; a polar triclinic cell keeps all."""
    degrees = {
        name: round(np.trace(displacement_projection(pattern_of(build()))))
        for name, build in (("nacl", nacl), ("rutile", rutile), ("quartz", quartz))
    }
    assert degrees == {"nacl": 0, "rutile": 1, "quartz": 4}  # quartz: Si x, O x y z


def symmetry_of(structures) -> tuple[Symmetry, torch.Tensor]:
    model = tiny_model()
    symmetry = Symmetry.of([pattern_of(s) for s in structures], model.diffusion.lattice)
    sizes = torch.tensor([len(s) for s in structures])
    return symmetry, torch.arange(int(sizes.max())) < sizes[:, None]


def test_noise_is_the_same_on_copies_and_of_unit_size():
    symmetry, mask = symmetry_of([rutile()] * 400)
    rng = torch.Generator().manual_seed(0)

    def white() -> Latent:
        return Latent(
            types=torch.randn(*mask.shape, 5, generator=rng),
            coords=torch.randn(*mask.shape, 3, generator=rng),
            shape=torch.randn(400, 6, generator=rng),
            mask=mask,
        )

    noise = symmetry.noise(white)()
    titanium, oxygen = noise.types[:, :2], noise.types[:, 2:]
    torch.testing.assert_close(titanium[:, 0], titanium[:, 1])
    torch.testing.assert_close(oxygen[:, :1].expand_as(oxygen), oxygen)
    assert noise.types.std() == pytest.approx(1, abs=0.05)
    assert noise.coords[:, :2].abs().max() < 1e-6  # no free coordinate
    along = noise.coords[:, 2] @ torch.tensor([1.0, 1.0, 0.0]) / 2**0.5
    assert along.std() == pytest.approx(1, abs=0.1)


def test_cells_become_symmetric_and_symmetric_ones_stay():
    structures = [nacl_primitive(), rutile(), quartz(), triclinic()]
    symmetry, _ = symmetry_of(structures)
    lattice = torch.tensor(np.array([s.lattice.matrix for s in structures])).float()
    same = symmetry._lattice(lattice)
    torch.testing.assert_close(same @ same.mT, lattice @ lattice.mT, atol=1e-2, rtol=1e-4)
    distorted = lattice + 0.3 * torch.randn(lattice.shape, generator=torch.Generator())
    symmetric = symmetry._lattice(distorted)
    lengths = symmetric.norm(dim=-1)
    assert lengths[0].std() < 1e-4  # cubic
    assert (lengths[1, 0] - lengths[1, 1]).abs() < 1e-4  # tetragonal
    torch.testing.assert_close(
        symmetric[3] @ symmetric[3].T, distorted[3] @ distorted[3].T, atol=1e-3, rtol=1e-4
    )


@pytest.fixture(scope="module")
def model():
    return tiny_model()


OPTIONS = SamplerOptions(steps=4, batch_size=5)


def asked(space_group: str, **constraints) -> Target:
    return Target(
        space_groups=parse_space_group(space_group), constraints=parse_constraints(**constraints)
    )


@pytest.mark.parametrize("text", ["194", "cubic", "any"])
def test_samples_keep_their_patterns_even_from_random_weights(model, text):
    target = asked(text)
    patterns = starting_points(model, range(12), seed=0, target=target).patterns
    crystals = sample(model, range(12), seed=0, options=OPTIONS, target=target).crystals
    for row, pattern in enumerate(patterns):
        assert pattern.space_group in target.space_groups.numbers
        count = len(pattern.frac_coords)
        numbers = crystals.atomic_numbers[row, :count].numpy()
        assert (numbers[pattern.images] == numbers).all()
        coords = crystals.frac_coords[row, :count].detach().double().numpy()
        moved = coords @ pattern.rotations.transpose(0, 2, 1) + pattern.translations[:, None]
        off = moved - coords[pattern.images]
        assert np.abs(off - np.rint(off)).max() < 1e-4
        lattice = crystals.lattice[row].detach().double().numpy()
        metric = lattice @ lattice.T
        moved = pattern.rotations.transpose(0, 2, 1) @ metric @ pattern.rotations
        assert np.abs(moved - metric).max() < 1e-3 * np.abs(metric).max()


def test_same_seed_same_crystals_whatever_the_batch(model):
    target = asked("any")
    together = sample(model, range(6), seed=3, options=OPTIONS, target=target).crystals
    alone = sample(model, [4], seed=3, options=OPTIONS, target=target).crystals
    count = int(alone.num_atoms)
    assert together.num_atoms[4] == count
    torch.testing.assert_close(together.lattice[4], alone.lattice[0], atol=1e-3, rtol=1e-3)
    off = wrap_difference(together.frac_coords[4, :count] - alone.frac_coords[0, :count])
    assert off.abs().max() < 1e-3


def test_constraints_hold_on_whole_orbits(model):
    target = asked("any", formula="TiO2", num_atoms="6..12")
    samples = sample(model, range(8), seed=0, options=OPTIONS, target=target).crystals
    for numbers in samples.atomic_numbers:
        assert (numbers == 8).sum() == 2 * (numbers == 22).sum() > 0
    target = asked("tetragonal", chemical_system="Li-P-S")
    samples = sample(model, range(8), seed=0, options=OPTIONS, target=target).crystals
    for numbers in samples.atomic_numbers:
        assert set(numbers[numbers > 0].tolist()) == {3, 15, 16}


def test_orbits_are_shared_out_among_elements():
    rng = torch.Generator().manual_seed(0)
    orbits = [[0], [1, 2], [3, 4, 5, 6]]
    order = suitable_order(orbits, [8] * 4 + [22] * 3, rng)
    assert sorted(order[:4]) == [3, 4, 5, 6]
    order = suitable_order(orbits, [8, 22], rng)
    assert len({order[0] in orbit for orbit in orbits}) == 2
    assert sorted(order) == list(range(7))
    assert suitable_order(orbits, [8] * 2 + [9] * 2 + [22] * 3, rng) is None
    assert suitable_order([[0, 1]], [8, 22], rng) is None


@pytest.mark.parametrize("text", ["0", "231", "195..300", "kubic", "Fm-3m", "230..195"])
def test_what_is_no_space_group_is_refused(text):
    with pytest.raises(ValueError, match="expected any, a number from 1 to 230"):
        parse_space_group(text)


def test_what_no_known_crystal_has_is_refused(model):
    with pytest.raises(ValueError, match="no such crystal with 3 atoms"):
        sample(model, [0], seed=0, options=OPTIONS, target=asked("227", num_atoms="3"))
    target = asked("225", formula="LiFePSeClBr")
    with pytest.raises(ValueError, match="has sites for the elements"):
        sample(model, [0], seed=0, options=OPTIONS, target=target)


def test_a_formula_takes_the_pattern_of_a_crystal_of_its_stoichiometry():
    constraints = parse_constraints(formula="SrTiO3", formula_units="1")
    patterns = parse_space_group("any").draw([5], constraints.pinned, sample_rngs(0, range(20)))
    assert {tuple(sorted(map(len, one.orbits))) for one in patterns} >= {(1, 1, 3)}
    for pattern in patterns:  # atoms 0..2 are O, 3 is Ti, 4 is Sr: each on orbits of its own
        assert all({*orbit} <= {0, 1, 2} or len(orbit) == 1 for orbit in pattern.orbits)
