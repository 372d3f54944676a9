"""The noise process: boundary values, Bayes' rule, sampling with denoisers in closed form."""

import pytest
import torch
from models import SCHEDULE, random_crystals, tiny_model

from mattergen_lite.chemistry.elements import element_descriptors
from mattergen_lite.diffusion import atom_types, coordinates, lattice
from mattergen_lite.diffusion.joint import JointDiffusion, State, Step, draw_noise
from mattergen_lite.diffusion.lattice import free_numbers
from mattergen_lite.diffusion.schedule import scalings
from mattergen_lite.sampling.noise import crystal_noise, sample_rngs, scaled
from mattergen_lite.sampling.solvers import solve_heun, solve_multistep
from mattergen_lite.symmetry.templates import Templates
from mattergen_lite.tensors.geometry import (
    wrap,
    wrap_difference,
    wrapped_normal_displacement,
    wrapped_normal_scale,
)

SOLVERS = {"heun": solve_heun, "multistep": solve_multistep}


def noise_of(templates: Templates, seed: int = 0) -> Step:
    normal = draw_noise(templates, torch.Generator().manual_seed(seed))
    return JointDiffusion().noise(normal, templates)


def test_drawn_noise_levels_are_log_normal():
    sigma = SCHEDULE.draw(4096, torch.Generator().manual_seed(0)).log()
    assert sigma.mean() == pytest.approx(-1.2, abs=0.01)
    assert sigma.std() == pytest.approx(1.2, abs=0.02)


def test_grid_descends_from_largest_to_zero():
    grid = SCHEDULE.grid(20)
    assert len(grid) == 21
    assert grid[0] == pytest.approx(10.0)
    assert grid[-2] == pytest.approx(0.002)
    assert grid[-1] == 0
    assert (grid.diff() < 0).all()


def test_scalings_keep_input_and_target_at_unit_size():
    sigma = torch.tensor([0.01, 0.3, 5.0])
    clean, noise = 0.3 * torch.randn(2, 200_000, 1)
    noise = noise / 0.3 * sigma
    scale = scalings(sigma, 0.3)
    torch.testing.assert_close(
        ((clean + noise) * scale.inp).std(0), torch.ones(3), atol=0.02, rtol=0
    )
    target = (clean - scale.skip * (clean + noise)) / scale.out
    torch.testing.assert_close(target.std(0), torch.ones(3), atol=0.02, rtol=0)


def test_no_noise_is_the_identity():
    model, crystals = tiny_model(), random_crystals()
    clean = model.diffusion.encode(crystals)
    templates = crystals.templates
    noisy = model.diffusion.corrupt(clean, torch.zeros(len(crystals)), noise_of(templates))
    decoded = model.diffusion.decode(noisy, templates)
    assert torch.equal(decoded.atomic_numbers, crystals.atomic_numbers)
    atoms, expected = decoded.expand(), crystals.expand()
    assert wrap_difference(atoms.frac_coords - expected.frac_coords).abs().max() < 1e-5
    torch.testing.assert_close(atoms.lattice, expected.lattice, rtol=1e-4, atol=1e-3)


def test_padding_and_what_symmetry_fixes_stay_silent():
    model, crystals = tiny_model(), random_crystals()
    templates = crystals.templates
    clean = model.diffusion.encode(crystals)
    noisy = model.diffusion.corrupt(
        clean, torch.linspace(0.1, 5.0, len(crystals)), noise_of(templates)
    )
    assert (noisy.types[~templates.mask] == 0).all()
    assert (noisy.types[templates.mask] != clean.types[templates.mask]).all()
    assert (noisy.free_coords[~templates.free] == 0).all()
    assert (noisy.free_coords[templates.free] != 0).all()
    fixed = ~free_numbers(templates.space_group)
    assert (noisy.cell[fixed] == 0).all()
    assert (noisy.cell[~fixed] != clean.cell[~fixed]).all()


def test_noise_is_as_long_whatever_the_direction():
    """In fractions of the cell, along a single free direction and along several."""
    templates = random_crystals([166, 136, 198, 225]).templates
    many = templates[torch.arange(4).repeat_interleave(4000)]
    steps = many.to_fractional(noise_of(many).free_coords)
    size = steps.square().sum(-1).unflatten(0, (4, -1)).mean(1)
    orthogonal = (templates.basis @ templates.basis.mT).unflatten(0, (4, -1))
    off_diagonal = orthogonal - torch.diag_embed(orthogonal.diagonal(dim1=-2, dim2=-1))
    assert off_diagonal.abs().max() == 0  # else lengths do not add up in squares
    torch.testing.assert_close(size, templates.free.sum(-1).float(), rtol=0.1, atol=0)


def test_orbits_of_one_class_share_noise_and_prior():
    model, crystals = tiny_model(), random_crystals([62, 225])
    classes = torch.tensor([[0, 0, 2], [0, 1, 0]])
    shared = crystals.with_classes(classes, torch.tensor([True, True])).templates
    noise = noise_of(shared)
    assert torch.equal(noise.types[0, 0], noise.types[0, 1])
    assert torch.equal(noise.types[1, 0], noise.types[1, 2])
    assert not torch.equal(noise.types[0, 0], noise.types[0, 2])
    sigma = torch.tensor([3.0, 3.0])
    noisy = State(types=noise.types, free_coords=noise.free_coords, cell=noise.cell)
    with torch.no_grad():
        prediction = model.predict(noisy, sigma, shared, None)
    logits = model.diffusion.posterior_logits(
        prediction, noisy, sigma, model.diffusion.allowed_elements, shared
    )
    torch.testing.assert_close(logits[0, 0], logits[0, 1])
    torch.testing.assert_close(logits[1, 0], logits[1, 2])
    prior = (prediction.element_logits[0, 0] + prediction.element_logits[0, 1]) / 2
    likelihood = noise.types[0, 0] @ element_descriptors().T / 9
    torch.testing.assert_close(logits[0, 0, 1:], (prior + likelihood)[1:])


def test_element_posterior_is_bayes_rule():
    rng = torch.Generator().manual_seed(0)
    prior, noisy = torch.randn(1, 2, 101, generator=rng), torch.randn(1, 2, 16, generator=rng)
    sigma = torch.tensor([0.7])
    allowed = torch.zeros(101, dtype=torch.bool)
    allowed[[3, 8, 26]] = True
    found = atom_types.posterior_logits(prior, noisy, sigma, allowed).softmax(-1)
    density = torch.exp(-((noisy[:, :, None] - element_descriptors()) ** 2).sum(-1) / (2 * 0.49))
    expected = density * prior.softmax(-1) * allowed
    torch.testing.assert_close(found, expected / expected.sum(-1, keepdim=True))


def test_small_noise_decides_the_element_whatever_the_network_says():
    numbers = torch.arange(1, 101).unsqueeze(0)
    clean = atom_types.encode(numbers)
    allowed = torch.ones(101, dtype=torch.bool)
    allowed[0] = False
    wrong_prior = torch.randn(1, 100, 101, generator=torch.Generator().manual_seed(1))
    logits = atom_types.posterior_logits(wrong_prior, clean, torch.tensor([0.002]), allowed)
    assert torch.equal(logits.argmax(-1), numbers)
    torch.testing.assert_close(atom_types.denoise(logits), clean, atol=1e-4, rtol=0)


def best_prediction(clean, noisy, sigma, templates):
    """What the network would have to say: the displacement of unit size, in cell fractions."""
    spread = torch.where(templates.free, coordinates.spread(templates, sigma), 1.0)
    back = wrapped_normal_displacement(clean - noisy, spread) * templates.free
    unit = back / wrapped_normal_scale(spread)
    return templates.to_fractional(unit / templates.basis_length.clamp(min=1e-6))


def test_perfect_predictions_have_zero_loss_and_denoise_exactly():
    """In all kinds of groups, along polar axes up to where the origin is."""
    templates = random_crystals().templates
    sigma = torch.linspace(0.05, 0.2, len(templates))
    # Noise without drift of the centre, and small: the wrapped normal then has one image.
    noise = 0.3 * noise_of(templates).free_coords
    noise = templates.to_free(templates.remove_drift(templates.to_fractional(noise)))
    clean = torch.rand(noise.shape, generator=torch.Generator().manual_seed(1)) * templates.free
    noisy = wrap(clean + sigma[:, None, None] * noise)
    best = best_prediction(clean, noisy, sigma, templates)
    assert coordinates.loss(best, clean, noisy, sigma, templates).max() < 1e-6
    restored = noisy + coordinates.displacement(best, sigma, templates)
    assert wrap_difference(restored - clean).abs().max() < 0.02


def test_a_common_shift_along_polar_axes_is_no_error():
    templates = random_crystals().templates
    sigma = torch.full((len(templates),), 0.02)
    shift = (templates.invariant @ torch.tensor([0.03, 0.04, -0.02])).unsqueeze(1)
    clean = torch.zeros_like(templates.origin)
    moved = templates.to_free(shift * templates.mask.unsqueeze(-1))
    nothing = torch.zeros_like(clean)
    assert coordinates.loss(nothing, clean, wrap(moved), sigma, templates).max() < 1e-6


def test_lattice_loss_is_zero_at_the_target_and_the_displacement_leads_there():
    rng = torch.Generator().manual_seed(3)
    groups = torch.tensor([2, 14, 62, 166, 225])
    free = free_numbers(groups)
    assert free.sum(-1).tolist() == [6, 4, 3, 2, 1]
    clean, noise = torch.randn(2, 5, 6, generator=rng) * free
    sigma = torch.tensor([0.01, 0.1, 0.3, 1.0, 10.0])
    noisy = clean + sigma[:, None] * noise
    scale = scalings(sigma, lattice.SIGMA_DATA)
    best = (clean - scale.skip[:, None] * noisy) / scale.out[:, None]
    torch.testing.assert_close(lattice.loss(best, clean, noisy, sigma, groups), torch.zeros(5))
    wrong_where_fixed = best + ~free * 1.0
    found = lattice.loss(wrong_where_fixed, clean, noisy, sigma, groups)
    torch.testing.assert_close(found, torch.zeros(5))
    denoised = noisy + lattice.displacement(best, noisy, sigma, groups)
    torch.testing.assert_close(denoised, clean, atol=1e-4, rtol=1e-4)


COUNT, MEAN, SPREAD = 1200, 0.4, 0.25
ELEMENT = element_descriptors()[[26]].expand(COUNT, 2, 16)
CORNERS, WEIGHTS = torch.tensor([0.1, 0.75]), torch.tensor([0.65, 0.35])


def towards_corners(position: torch.Tensor, width: torch.Tensor) -> torch.Tensor:
    """Posterior mean displacement to two corners of the circle, through noise of some widths."""
    towards = wrap_difference(CORNERS - position.unsqueeze(-1))
    width = width.unsqueeze(-1).expand_as(towards)
    images = towards.unsqueeze(-1) + torch.arange(-6.0, 7.0)
    density = torch.logsumexp(-0.5 * (images / width.unsqueeze(-1)) ** 2, -1)
    weight = (density + WEIGHTS.log()).softmax(-1)
    return (weight * wrapped_normal_displacement(towards, width)).sum(-1)


def sampled_exactly(group: int, solver: str, amount: float, s_noise: float) -> dict:
    """Cells from a Gaussian, one element, every free coordinate on one of two corners.

    Along a polar axis, where only differences mean something, the second orbit is at a corner as
    seen from the first; the denoiser moves both in opposite directions, then loses its drift as
    the network's does, by atoms: the orbits need not have equally many.
    """
    crystal = random_crystals([group])
    templates = crystal.templates[torch.zeros(COUNT, dtype=torch.long)]
    polar = (templates.basis @ templates.invariant.unsqueeze(1).mT - templates.basis).abs()
    polar = (polar.amax(-1) < 1e-5) & templates.free
    cell_free = free_numbers(templates.space_group)

    def displacement(x: State, sigma: float) -> Step:
        width = torch.where(
            templates.free, coordinates.unit_spread(templates) * sigma, torch.ones(())
        )
        pull = towards_corners(x.free_coords, width) * templates.free
        if polar.any():
            apart = x.free_coords[:, 1][polar[:, 1]] - x.free_coords[:, 0][polar[:, 0]]
            both = torch.full_like(apart, sigma * 2**0.5)
            half = towards_corners(apart, both) / 2
            pull[:, 0][polar[:, 0]], pull[:, 1][polar[:, 1]] = -half, half
            pull = templates.to_free(templates.remove_drift(templates.to_fractional(pull)))
        gain = SPREAD**2 / (SPREAD**2 + sigma**2)
        cell = (MEAN + gain * (x.cell - MEAN) - x.cell) * cell_free
        return Step(types=ELEMENT - x.types, free_coords=pull, cell=cell)

    diffusion = JointDiffusion()
    noise = crystal_noise(sample_rngs(0, range(COUNT)), diffusion, templates)
    sigmas = SCHEDULE.grid(60).tolist()
    start = diffusion.prior(noise(), sigmas[0])
    put_back = scaled(noise, s_noise)
    *_, final = SOLVERS[solver](displacement, start, sigmas, put_back, amount)
    places = final.free_coords[templates.free & ~polar].view(COUNT, -1)
    first, second = (final.free_coords[:, orbit][polar[:, orbit]] for orbit in range(2))
    apart = (second - first).view(COUNT, -1)
    return {
        "types": final.types,
        "cell": final.cell[cell_free],
        "fixed": final.cell[~cell_free],
        "places": torch.cat([places, apart], dim=1),
        "num_polar": apart.shape[1],
        "origin": first,
    }


def share_at_first_corner(places: torch.Tensor) -> torch.Tensor:
    """Of each free coordinate by itself; all of them are at a corner."""
    to_corner = wrap_difference(places.unsqueeze(-1) - CORNERS).abs()
    assert (to_corner.min(-1).values < 0.01).float().mean() > 0.99
    return (to_corner.argmin(-1) == 0).float().mean(0)


@pytest.mark.parametrize(
    ("solver", "amount"), [("heun", 24.0), ("multistep", 1.0), ("multistep", 4.0)]
)
@pytest.mark.parametrize(("group", "num_places", "num_polar"), [(154, 4, 0), (36, 4, 1)])
def test_sampling_with_the_exact_denoiser_recovers_the_distribution(
    group, num_places, num_polar, solver, amount
):
    """In a group without polar axis, trigonal, and in a polar one with orbits of 2 and 4 atoms."""
    final = sampled_exactly(group, solver, amount, s_noise=1.0)
    assert final["cell"].mean() == pytest.approx(MEAN, abs=0.02)
    assert final["cell"].std() == pytest.approx(SPREAD, rel=0.06)
    assert (final["fixed"] == 0).all()
    torch.testing.assert_close(final["types"], ELEMENT.contiguous(), atol=0.02, rtol=0)
    assert final["places"].shape == (COUNT, num_places)
    assert final["num_polar"] == num_polar
    first = share_at_first_corner(final["places"])
    torch.testing.assert_close(first, WEIGHTS[:1].expand(num_places), atol=0.06, rtol=0)
    if num_polar:
        turns = torch.exp(2j * torch.pi * final["origin"])
        assert turns.mean().abs() < 0.1  # anywhere along the axis


@pytest.mark.parametrize(("solver", "amount"), [("heun", 60.0), ("multistep", 8.0)])
def test_less_noise_narrows_the_distribution_around_the_same_places(solver, amount):
    final = sampled_exactly(154, solver, amount, s_noise=0.5)
    assert final["cell"].mean() == pytest.approx(MEAN, abs=0.02)
    assert 0.4 * SPREAD < final["cell"].std() < 0.7 * SPREAD
    assert share_at_first_corner(final["places"]).min() > WEIGHTS[0]  # the likelier, more often
