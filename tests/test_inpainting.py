"""Sampling around known orbits: with an exact denoiser it gives the exact conditional."""

import pytest
import torch
from models import SCHEDULE, random_crystals, random_p1

from mattergen_lite.diffusion.joint import JointDiffusion, State, Step, draw_noise
from mattergen_lite.diffusion.lattice import free_numbers
from mattergen_lite.sampling.inpainting import KnownSites
from mattergen_lite.sampling.noise import SampleNoise, sample_rngs
from mattergen_lite.sampling.solvers import solve_heun, solve_multistep
from mattergen_lite.tensors.geometry import wrap, wrap_difference, wrapped_normal_displacement

COUNT = 1500
WELLS, WEIGHTS = torch.tensor([0.1, 0.75]), torch.tensor([0.7, 0.3])
PAIR = random_p1([2]).templates


def pair_displacement(x: State, sigma: float, spread: float) -> Step:
    """Exact joint denoiser of two atoms anywhere, the second one near one of two wells.

    Their noisy difference is a mixture of wrapped normals of variance spread² + 2 sigma². Nothing
    in it knows where the first atom is, and it moves both in opposite directions, as the network.
    """
    width = (spread**2 + 2 * sigma**2) ** 0.5
    towards = wrap_difference(WELLS - (x.free_coords[:, 1] - x.free_coords[:, 0]).unsqueeze(-1))
    images = towards.unsqueeze(-1) + torch.arange(-6.0, 7.0)
    weight = (torch.logsumexp(-0.5 * (images / width) ** 2, -1) + WEIGHTS.log()).softmax(-1)
    pulls = wrapped_normal_displacement(towards, torch.full_like(towards, width))
    pull = (weight * pulls).sum(-1) * (sigma / width) ** 2
    return Step(types=-x.types, free_coords=torch.stack([-pull, pull], 1), cell=-x.cell)


@pytest.fixture(scope="module")
def known():
    return KnownSites(
        templates=PAIR[torch.zeros(COUNT, dtype=torch.long)],
        orbits=torch.tensor([[True, False]]).expand(COUNT, 2),
        cell=torch.full((COUNT, 6), 0.37),
        fixed_cell=torch.ones(COUNT, dtype=torch.bool),
    )


@pytest.mark.parametrize("spread", [0.03, 0.002])
@pytest.mark.parametrize("solver", [solve_multistep, solve_heun])
def test_inpainting_draws_from_the_conditional(known, solver, spread):
    """Weights and widths of the wells around the known atom; without the common translation the
    weights would be 0.64 and 0.36, and the wells too wide, by a quarter to threefold."""

    def displacement(x: State, sigma: float) -> Step:
        return known.corrected(pair_displacement(x, sigma, spread), x, sigma)

    noise = SampleNoise(sample_rngs(0, range(COUNT)), known.templates.mask)
    first = noise()
    start = State(types=first.types, free_coords=wrap(10 * first.free_coords), cell=10 * first.cell)
    sigmas = SCHEDULE.grid(50).tolist()
    states = list(solver(displacement, start, sigmas, noise, 4.0))

    for step in (35, 40, 45):  # the known part is truth plus noise of the level's size
        level = sigmas[step + 1]
        off = wrap_difference(states[step].free_coords[:, 0])
        assert off.std() == pytest.approx(level, rel=0.15)
        assert (states[step].cell - 0.37).std() == pytest.approx(level, rel=0.1)

    final = states[-1]
    assert wrap_difference(final.free_coords[:, 0]).abs().max() < 1e-6
    torch.testing.assert_close(final.cell, known.cell)
    difference = wrap_difference(final.free_coords[:, 1]).unsqueeze(-1)
    off = wrap_difference(difference - WELLS)
    nearest = off.abs().argmin(-1, keepdim=True)
    assert (nearest == 0).float().mean() == pytest.approx(0.7, abs=0.02)
    width = off.gather(-1, nearest).std()
    # Below the last noise level the estimate itself is returned, which is narrower.
    assert width == pytest.approx(spread, rel=0.1) if spread > 0.01 else width < spread


@pytest.mark.parametrize("group", [1, 8, 36, 62, 146, 166])
def test_known_orbits_say_where_the_crystal_is(group):
    """A step that is right up to a shift along polar axes becomes right for unknown orbits too."""
    templates = random_crystals([group]).templates
    sigma = 0.01
    normal = draw_noise(templates, torch.Generator().manual_seed(0))
    noise = JointDiffusion().noise(normal, templates).free_coords * sigma
    zero = torch.zeros_like(noise)
    noisy = State(types=normal.types, free_coords=wrap(noise), cell=normal.cell)
    shift = (templates.invariant @ torch.tensor([0.1, -0.2, 0.3])).expand(1, noise.shape[1], 3)
    relative = Step(
        types=normal.types, free_coords=templates.to_free(shift) - noise, cell=normal.cell
    )
    first = torch.zeros_like(templates.mask)
    first[:, -1] = True
    known = KnownSites(
        templates=templates,
        orbits=first,
        cell=torch.zeros(1, 6),
        fixed_cell=torch.tensor([False]),
    )
    step = known.corrected(relative, noisy, sigma)
    restored = noisy.shifted(step, 1.0)
    assert wrap_difference(restored.free_coords - zero).abs().max() < 1e-5
    assert (step.free_coords[~templates.free] == 0).all()
    assert torch.equal(step.cell, relative.cell)


def test_with_a_known_cell_only_coordinates_are_left_alone():
    crystals = random_crystals([62, 166])
    templates = crystals.templates
    free = free_numbers(templates.space_group)
    noisy = State(
        types=torch.zeros(2, 3, 16),
        free_coords=torch.rand(2, 3, 3) * templates.free,
        cell=torch.zeros(2, 6),
    )
    cell = 0.2 * free
    known = KnownSites(
        templates=templates,
        orbits=torch.zeros(2, 3, dtype=torch.bool),
        cell=cell,
        fixed_cell=torch.tensor([True, False]),
    )
    step = known.corrected(Step(**vars(noisy)), noisy, 0.3)
    torch.testing.assert_close(step.free_coords, noisy.free_coords)
    moved = noisy.shifted(step, 1.0)
    assert torch.equal(moved.cell[0], cell[0])
    assert torch.equal(moved.cell[1], noisy.cell[1])
