"""Torus and lattice mathematics on bare tensors.

Conventions: lattices are row matrices in Å (`cart = frac @ lattice`), fractional coordinates live
on the unit torus, angles are in degrees. Nothing here knows about atoms, batches or masks.
"""

import math

import torch
from torch import Tensor

from mattergen_lite.tensors.shapes import Float

SIGMA_UNIFORM = 1 / math.sqrt(12)  # of a uniform coordinate in the cell


def wrap(frac_coords: Float[Tensor, "*S"]) -> Float[Tensor, "*S"]:
    """Map fractional coordinates into [0, 1).

    The second remainder matters: in float32 `-1e-9 % 1.0` is exactly 1.0.
    """
    return (frac_coords % 1.0) % 1.0


def wrap_difference(difference: Float[Tensor, "*S"]) -> Float[Tensor, "*S"]:
    """Shortest signed difference on the unit circle, component by component, in [-0.5, 0.5]."""
    return difference - torch.round(difference)


def cholesky_lattice(gram: Float[Tensor, "*B 3 3"]) -> Float[Tensor, "*B 3 3"]:
    """The one lower-triangular lattice with the given Gram matrix `lattice @ lattice.T`.

    Raises:
        ValueError: If a Gram matrix is not positive definite, that is, a cell is flat.
    """
    factor, info = torch.linalg.cholesky_ex(gram)
    if bool(info.any()):
        raise ValueError("lattice is singular: its three vectors span no volume")
    return factor


def canonical_orientation(lattice: Float[Tensor, "*B 3 3"]) -> Float[Tensor, "*B 3 3"]:
    """The same cell rotated so that a lies along x and b in the xy plane (lower triangular)."""
    return cholesky_lattice(lattice @ lattice.mT)


def cell_volume(lattice: Float[Tensor, "*B 3 3"]) -> Float[Tensor, "*B"]:
    """Unsigned cell volume in Å³."""
    return torch.linalg.det(lattice).abs()


def wrapped_normal_displacement(
    displacement: Float[Tensor, "*S"], sigma: Float[Tensor, "*S"]
) -> Float[Tensor, "*S"]:
    """Posterior mean displacement back to the mean of a wrapped normal: sigma² times its score.

    For x ~ WrappedNormal(mean, sigma²) with `displacement = mean - x`, returns
    `sum_k w_k (displacement + k)` with `w_k ∝ exp(-(displacement + k)² / 2 sigma²)`. It equals the
    wrapped difference for small sigma and vanishes for large sigma, where x says nothing about
    the mean (Jing et al. 2022, arXiv 2206.01729, appendix B).
    """
    # Six images each way are exact to 1e-7 up to sigma = 1, beyond which the sum itself is smaller.
    shifts = torch.arange(-6, 7, device=displacement.device, dtype=displacement.dtype)
    candidates = wrap_difference(displacement).unsqueeze(-1) + shifts
    weights = torch.softmax(-0.5 * (candidates / sigma.unsqueeze(-1)) ** 2, dim=-1)
    return torch.where(sigma > 1.0, 0.0, (weights * candidates).sum(dim=-1))


def wrapped_normal_scale(sigma: Float[Tensor, "*S"]) -> Float[Tensor, "*S"]:
    """Typical size of a wrapped displacement at noise level sigma: sigma, saturating at uniform."""
    return sigma * SIGMA_UNIFORM / torch.sqrt(sigma**2 + SIGMA_UNIFORM**2)
