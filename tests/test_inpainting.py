"""Sampling around known atoms: with an exact denoiser it gives the exact conditional."""

from dataclasses import replace

import pytest
import torch
from models import SCHEDULE

from mattergen_lite.diffusion.joint import Latent
from mattergen_lite.geometry import wrap, wrap_difference, wrapped_normal_displacement
from mattergen_lite.inpainting import Known
from mattergen_lite.sampling import SampleNoise, sample_rngs, solve_heun, solve_multistep

ORIGIN = torch.tensor([0.2, 0.6, 0.9])
WELLS, WEIGHTS = torch.tensor([0.1, 0.75]), torch.tensor([0.7, 0.3])


def pair_displacement(x: Latent, sigma: float, spread: float) -> Latent:
    """Exact joint denoiser of two atoms anywhere, the second one near one of two wells.

    Their noisy difference is a mixture of wrapped normals of variance spread² + 2 sigma². Nothing
    in it knows where the first atom is, and it moves both in opposite directions, as the network.
    """
    width = (spread**2 + 2 * sigma**2) ** 0.5
    towards = wrap_difference(WELLS - (x.coords[:, 1] - x.coords[:, 0]).unsqueeze(-1))
    images = towards.unsqueeze(-1) + torch.arange(-6.0, 7.0)
    weight = (torch.logsumexp(-0.5 * (images / width) ** 2, -1) + WEIGHTS.log()).softmax(-1)
    pulls = wrapped_normal_displacement(towards, torch.full_like(towards, width))
    pull = (weight * pulls).sum(-1) * (sigma / width) ** 2
    return replace(x, types=-x.types, coords=torch.stack([-pull, pull], 1), shape=-x.shape)


@pytest.fixture(scope="module")
def known():
    coords = torch.zeros(1500, 2, 3)
    coords[:, 0] = ORIGIN
    sites = torch.tensor([[True, False]]).expand(1500, 2)
    return Known(coords=coords, sites=sites, shape=torch.full((1500, 6), 0.37))


@pytest.mark.parametrize("spread", [0.03, 0.002])
@pytest.mark.parametrize("solver", [solve_multistep, solve_heun])
def test_inpainting_draws_from_the_conditional(known, solver, spread):
    """Weights and widths of the wells around the known atom; without the common translation the
    weights would be 0.64 and 0.36, and the wells too wide, by a quarter to threefold."""

    def displacement(x: Latent, sigma: float) -> Latent:
        return known.corrected(pair_displacement(x, sigma, spread), x, sigma)

    noise = SampleNoise(sample_rngs(0, range(1500)), torch.ones(1500, 2, dtype=torch.bool))
    start = noise()
    start = replace(start, coords=wrap(10 * start.coords), shape=10 * start.shape)
    sigmas = SCHEDULE.grid(50).tolist()
    states = list(solver(displacement, start, sigmas, noise, 4.0))

    for step in (35, 40, 45):  # the known part is truth plus noise of the level's size
        level = sigmas[step + 1]
        off = wrap_difference(states[step].coords[:, 0] - ORIGIN)
        assert off.std() == pytest.approx(level, rel=0.15)
        assert (states[step].shape - 0.37).std() == pytest.approx(level, rel=0.1)

    final = states[-1]
    assert wrap_difference(final.coords[:, 0] - ORIGIN).abs().max() < 1e-6
    torch.testing.assert_close(final.shape, known.shape)
    difference = wrap_difference(final.coords[:, 1] - ORIGIN).unsqueeze(-1)
    off = wrap_difference(difference - WELLS)
    nearest = off.abs().argmin(-1, keepdim=True)
    assert (nearest == 0).float().mean() == pytest.approx(0.7, abs=0.02)
    width = off.gather(-1, nearest).std()
    # Below the last noise level the estimate itself is returned, which is narrower.
    assert width == pytest.approx(spread, rel=0.1) if spread > 0.01 else width < spread


def test_known_sites_say_where_the_crystal_is():
    """A step that is right up to a translation becomes right for unknown atoms too."""
    rng = torch.Generator().manual_seed(0)
    truth = torch.rand(1, 4, 3, generator=rng)
    mask = torch.tensor([[True, True, True, False]])
    noise = 0.01 * torch.randn(1, 4, 3, generator=rng)
    noisy = Latent(
        types=torch.zeros(1, 4, 16),
        coords=wrap(truth + noise) * mask.unsqueeze(-1),
        shape=torch.zeros(1, 6),
        mask=mask,
    )
    relative = replace(noisy, coords=(-noise + torch.tensor([0.1, -0.2, 0.3])) * mask.unsqueeze(-1))
    known = Known(coords=truth, sites=torch.tensor([[True, True, False, False]]), shape=None)
    step = known.corrected(relative, noisy, 0.01)
    restored = noisy.shifted(step, 1.0)
    assert wrap_difference(restored.coords - truth)[mask].abs().max() < 1e-5
    assert (step.coords[~mask] == 0).all()
    assert torch.equal(step.shape, relative.shape)


def test_with_a_known_cell_only_coordinates_are_left_alone():
    shape = torch.full((1, 6), 0.2)
    noisy = Latent(
        types=torch.zeros(1, 2, 16),
        coords=torch.rand(1, 2, 3),
        shape=torch.zeros(1, 6),
        mask=torch.ones(1, 2, dtype=torch.bool),
    )
    nothing = torch.zeros(1, 2, dtype=torch.bool)
    known = Known(coords=torch.zeros(1, 2, 3), sites=nothing, shape=shape)
    step = known.corrected(noisy, noisy, 0.3)
    assert torch.equal(step.coords, noisy.coords)
    assert torch.equal(noisy.shifted(step, 1.0).shape, shape)
