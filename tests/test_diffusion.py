"""The noise process: boundary values, Bayes' rule, sampling with denoisers in closed form."""

from dataclasses import replace

import pytest
import torch
from models import SCHEDULE, random_crystals, tiny_model

from mattergen_lite.crystal import node_mask
from mattergen_lite.diffusion import atom_types, frac_coords, lattice
from mattergen_lite.diffusion.joint import Latent, draw_noise
from mattergen_lite.diffusion.schedule import scalings
from mattergen_lite.elements import element_descriptors
from mattergen_lite.geometry import wrap, wrap_difference, wrapped_normal_displacement
from mattergen_lite.sampling import (
    SampleNoise,
    sample_rngs,
    solve_heun,
    solve_multistep,
    tempered,
)

SOLVERS = {"heun": solve_heun, "multistep": solve_multistep}


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
    model, crystals = tiny_model(), random_crystals([5, 3])
    clean = model.diffusion.encode(crystals)
    noisy = model.diffusion.corrupt(
        clean, torch.zeros(2), draw_noise(clean.mask, torch.Generator().manual_seed(0))
    )
    decoded = model.diffusion.decode(noisy)
    assert torch.equal(decoded.atomic_numbers, crystals.atomic_numbers)
    torch.testing.assert_close(decoded.frac_coords, crystals.frac_coords)
    gram, expected = (x.lattice @ x.lattice.mT for x in (decoded, crystals))
    torch.testing.assert_close(gram, expected, rtol=1e-4, atol=1e-3)


def test_padding_stays_silent():
    model, crystals = tiny_model(), random_crystals([5, 2])
    noisy = model.diffusion.corrupt(
        model.diffusion.encode(crystals),
        torch.tensor([1.0, 5.0]),
        draw_noise(crystals.mask, torch.Generator().manual_seed(0)),
    )
    assert (noisy.types[~crystals.mask] == 0).all()
    assert (noisy.coords[~crystals.mask] == 0).all()


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


def test_perfect_predictions_have_zero_loss_and_denoise_exactly():
    rng = torch.Generator().manual_seed(2)
    mask = node_mask(torch.tensor([6, 4]))
    sigma = torch.tensor([0.05, 0.2])
    clean = torch.rand(2, 6, 3, generator=rng) * mask.unsqueeze(-1)
    # Noise without drift of the centre, and small: the wrapped normal then has one image.
    noise = torch.randn(2, 6, 3, generator=rng) * mask.unsqueeze(-1) * 0.3
    noise = (noise - noise.sum(1, keepdim=True) / mask.sum(-1)[:, None, None]) * mask.unsqueeze(-1)
    noisy = frac_coords.corrupt(clean, sigma, noise) * mask.unsqueeze(-1)
    level = sigma[:, None, None].expand_as(clean)
    scale = frac_coords.wrapped_normal_scale(level)
    best = wrapped_normal_displacement(clean - noisy, level) / scale
    assert frac_coords.loss(best, clean, noisy, sigma, mask).max() < 1e-6
    restored = noisy + frac_coords.displacement(best, sigma, mask)
    error = wrap_difference(restored - clean)[mask]
    assert error.abs().max() < 0.02


def test_lattice_loss_is_zero_at_the_target_and_denoise_inverts_it():
    rng = torch.Generator().manual_seed(3)
    clean, noise = torch.randn(2, 5, 6, generator=rng)
    sigma = torch.tensor([0.01, 0.1, 0.3, 1.0, 10.0])
    noisy = lattice.corrupt(clean, sigma, noise)
    scale = scalings(sigma, lattice.SIGMA_DATA)
    best = (clean - scale.skip[:, None] * noisy) / scale.out[:, None]
    torch.testing.assert_close(lattice.loss(best, clean, noisy, sigma), torch.zeros(5))
    channel = lattice.LatticeChannel()
    torch.testing.assert_close(channel.denoise(best, noisy, sigma), clean, atol=1e-4, rtol=1e-4)


def latent(types: torch.Tensor, coords: torch.Tensor, shape: torch.Tensor) -> Latent:
    return Latent(types=types, coords=coords, shape=shape, mask=coords[..., 0].isfinite())


COUNT, MEAN, SPREAD = 1500, 0.4, 0.25
ELEMENT = element_descriptors()[[26]].expand(COUNT, 1, 16)
CORNERS = torch.tensor([0.1, 0.75])


def sampled_exactly(solver: str, churn: float, temperature: float) -> Latent:
    """Shapes from a Gaussian, types from one element, coordinates from two points on the torus."""

    def displacement(x: Latent, sigma: float) -> Latent:
        level = torch.full_like(x.coords, sigma).unsqueeze(-1)
        towards = wrap_difference(CORNERS - x.coords.unsqueeze(-1))
        images = towards.unsqueeze(-1) + torch.arange(-6.0, 7.0)
        weight = torch.logsumexp(-0.5 * (images / sigma) ** 2, -1).softmax(-1)
        pull = wrapped_normal_displacement(towards, level.expand_as(towards))
        gain = SPREAD**2 / (SPREAD**2 + sigma**2)
        return replace(
            x,
            types=ELEMENT - x.types,
            coords=(weight * pull).sum(-1),
            shape=MEAN + gain * (x.shape - MEAN) - x.shape,
        )

    noise = SampleNoise(sample_rngs(0, range(COUNT)), torch.ones(COUNT, 1, dtype=torch.bool))
    sigmas = SCHEDULE.grid(60).tolist()
    start = noise()
    start = latent(10 * start.types, wrap(10 * start.coords), 10 * start.shape)
    cooler = tempered(noise, temperature)
    *_, final = SOLVERS[solver](displacement, start, sigmas, cooler, churn)
    return final


@pytest.mark.parametrize(
    ("solver", "churn"), [("heun", 4.0), ("multistep", 1.0), ("multistep", 4.0)]
)
def test_sampling_with_the_exact_denoiser_recovers_the_distribution(solver, churn):
    final = sampled_exactly(solver, churn, temperature=1.0)
    assert final.shape.mean() == pytest.approx(MEAN, abs=0.02)
    assert final.shape.std() == pytest.approx(SPREAD, rel=0.06)
    torch.testing.assert_close(final.types, ELEMENT.contiguous(), atol=0.02, rtol=0)
    to_corner = wrap_difference(final.coords.unsqueeze(-1) - CORNERS).abs()
    assert (to_corner.min(-1).values < 0.01).float().mean() > 0.99
    assert (to_corner.argmin(-1) == 0).float().mean() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("solver", list(SOLVERS))
def test_low_temperature_narrows_the_distribution_around_the_same_places(solver):
    final = sampled_exactly(solver, 8.0, temperature=0.5)
    assert final.shape.mean() == pytest.approx(MEAN, abs=0.02)
    assert 0.4 * SPREAD < final.shape.std() < 0.7 * SPREAD
    to_corner = wrap_difference(final.coords.unsqueeze(-1) - CORNERS).abs()
    assert (to_corner.min(-1).values < 0.01).float().mean() > 0.99
    assert (to_corner.argmin(-1) == 0).float().mean() == pytest.approx(0.5, abs=0.05)
