"""Solvers of the reverse process: flat generators that know neither network nor request."""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import numpy as np

from mattergen_lite.diffusion.joint import State, Step
from mattergen_lite.tensors.geometry import wrap_difference

Displacement = Callable[[State, float], Step]  # (noisy crystals, sigma) -> denoised minus noisy
NoiseSource = Callable[[], Step]


def _short_way(a: State, b: State) -> Step:
    """a - b, the short way round for coordinates."""
    return Step(
        types=a.types - b.types,
        free_coords=wrap_difference(a.free_coords - b.free_coords),
        cell=a.cell - b.cell,
    )


def solve_heun(
    displacement: Displacement,
    x: State,
    sigmas: Sequence[float],
    noise: NoiseSource,
    s_churn: float,
) -> Iterator[State]:
    """EDM stochastic sampler: algorithm 2 of Karras et al. (2022), S_noise = 1.003.

    Before each of K steps the noise level is raised by the share gamma = s_churn / K, at most
    sqrt(2) - 1, then a second-order Heun step is taken. Yields the state after each step.
    """
    gamma = min(s_churn / (len(sigmas) - 1), 2**0.5 - 1)
    for sigma, sigma_next in pairwise(sigmas):
        raised = sigma * (1 + gamma)
        x = x.shifted(noise(), 1.003 * (raised**2 - sigma**2) ** 0.5)
        slope = displacement(x, raised)
        step = (raised - sigma_next) / raised
        proposal = x.shifted(slope, step)
        if sigma_next > 0:
            correction = displacement(proposal, sigma_next)
            x = x.shifted(slope, step / 2).shifted(
                correction, (raised - sigma_next) / sigma_next / 2
            )
        else:
            x = proposal
        yield x


def solve_multistep(
    displacement: Displacement,
    x: State,
    sigmas: Sequence[float],
    noise: NoiseSource,
    eta: float,
) -> Iterator[State]:
    """DPM-Solver++(2M) for the reverse SDE: Lu et al. (2022), arXiv 2211.01095, eq. 14.

    One network call a step, second order by remembering the last denoised estimate. `eta` scales
    the noise of the SDE: 1 is the reverse diffusion, 0 the probability-flow ODE. Yields the state
    after each step.
    """
    last_denoised, last_h = None, None
    for sigma, sigma_next in pairwise(sigmas):
        step = displacement(x, sigma)
        denoised = x.shifted(step, 1.0)
        if sigma_next == 0:
            yield denoised
            return
        h = np.log(sigma / sigma_next)
        decay = np.exp(-(1 + eta) * h)
        moved = x.shifted(step, 1 - decay)
        if last_denoised is not None:
            moved = moved.shifted(
                _short_way(denoised, last_denoised), 0.5 * (1 - decay) * h / last_h
            )
        x = moved.shifted(noise(), sigma_next * (1 - np.exp(-2 * eta * h)) ** 0.5)
        last_denoised, last_h = denoised, h
        yield x
