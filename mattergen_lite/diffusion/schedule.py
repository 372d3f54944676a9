"""Noise levels: drawn in training, spaced in sampling, and how they scale the network.

EDM (Karras et al. 2022, arXiv 2206.00364), table 1 and equations 5 to 8. `sigma` is the standard
deviation of Gaussian noise added to a clean variable whose own standard deviation is `sigma_data`.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from mattergen_lite.tensors.shapes import Float


@dataclass(frozen=True, kw_only=True)
class NoiseSchedule:
    """Log-normal noise levels for training, a rho-spaced descending grid for sampling."""

    log_mean: float
    log_std: float
    sigma_min: float
    sigma_max: float
    start: float
    end: float
    rho: float

    def draw(self, count: int, rng: torch.Generator) -> Float[Tensor, "B"]:
        """Training noise levels, stratified over the batch: one per quantile, in random order.

        Stratification leaves the distribution as it is and takes most of the variance of a batch's
        mean loss away (Kingma et al. 2021, arXiv 2107.00630, section I.1).
        """
        offset = torch.rand((), generator=rng, device=rng.device)
        quantile = (torch.randperm(count, generator=rng, device=rng.device) + offset) / count
        normal = torch.special.ndtri(quantile.clamp(1e-6, 1 - 1e-6))
        return (self.log_mean + self.log_std * normal).exp().clamp(self.sigma_min, self.sigma_max)

    def grid(self, num_steps: int) -> Float[Tensor, "K"]:
        """`num_steps` descending noise levels from `start` to `end`, then 0."""
        ramp = torch.linspace(0, 1, num_steps, dtype=torch.float64)
        top, bottom = self.start ** (1 / self.rho), self.end ** (1 / self.rho)
        return torch.cat([(top + ramp * (bottom - top)) ** self.rho, torch.zeros(1)]).float()


@dataclass(frozen=True)
class Scalings:
    """`denoised = skip * x + out * network(inp * x)` has input and target of unit size."""

    skip: Float[Tensor, "B"]
    out: Float[Tensor, "B"]
    inp: Float[Tensor, "B"]


def scalings(sigma: Float[Tensor, "B"], sigma_data: float) -> Scalings:
    """EDM preconditioning; the one place that both loss and sampler read it from."""
    total = sigma**2 + sigma_data**2
    return Scalings(
        skip=sigma_data**2 / total, out=sigma * sigma_data / total.sqrt(), inp=total.rsqrt()
    )
