"""Torus and lattice mathematics on bare tensors.

Conventions: lattices are row matrices in Å (`cart = frac @ lattice`), fractional coordinates live
on the unit torus, angles are in degrees. Nothing here knows about atoms, batches or masks.
"""

import math

import torch
from torch import Tensor

from mattergen_lite.shapes import Float

# The 27 lattice translations around and including the home cell, as rows of integers.
NEIGHBOUR_CELLS = torch.cartesian_prod(*[torch.arange(-1.0, 2.0)] * 3)


def wrap(frac_coords: Float[Tensor, "*S"]) -> Float[Tensor, "*S"]:
    """Map fractional coordinates into [0, 1).

    The second remainder matters: in float32 `-1e-9 % 1.0` is exactly 1.0.
    """
    return (frac_coords % 1.0) % 1.0


def wrap_difference(difference: Float[Tensor, "*S"]) -> Float[Tensor, "*S"]:
    """Shortest signed difference on the unit circle, component by component, in [-0.5, 0.5]."""
    return difference - torch.round(difference)


def minimum_image_distance(
    frac_difference: Float[Tensor, "*P 3"], lattice: Float[Tensor, "*#P 3 3"]
) -> Float[Tensor, "*P"]:
    """Distance in Å to the nearest periodic image, over the 27 neighbour cells.

    Exact for Niggli-reduced cells; for very skewed cells reduce first.
    """
    images = wrap_difference(frac_difference).unsqueeze(-2) + NEIGHBOUR_CELLS.to(frac_difference)
    return torch.linalg.vector_norm(images @ lattice, dim=-1).amin(dim=-1)


def lattice_from_parameters(
    lengths: Float[Tensor, "*B 3"], angles: Float[Tensor, "*B 3"]
) -> Float[Tensor, "*B 3 3"]:
    """Row lattice matrix (lower triangular, right-handed) from a, b, c in Å and angles in degrees.

    Raises:
        ValueError: If the three angles cannot close a cell of positive volume.
    """
    cos = torch.cos(torch.deg2rad(angles))
    gram = torch.diag_embed(lengths**2)
    for i, j, angle in ((1, 2, 0), (0, 2, 1), (0, 1, 2)):
        gram[..., i, j] = gram[..., j, i] = lengths[..., i] * lengths[..., j] * cos[..., angle]
    return cholesky_lattice(gram)


def lattice_parameters(
    lattice: Float[Tensor, "*B 3 3"],
) -> tuple[Float[Tensor, "*B 3"], Float[Tensor, "*B 3"]]:
    """Lengths a, b, c in Å and angles alpha, beta, gamma in degrees."""
    lengths = torch.linalg.vector_norm(lattice, dim=-1)
    unit = lattice / lengths.unsqueeze(-1)
    cos = torch.stack(
        [(unit[..., i, :] * unit[..., j, :]).sum(-1) for i, j in ((1, 2), (0, 2), (0, 1))], -1
    )
    return lengths, torch.rad2deg(torch.arccos(cos.clamp(-1.0, 1.0)))


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


def shape_from_lattice(lattice: Float[Tensor, "*B 3 3"]) -> Float[Tensor, "*B 6"]:
    """Six rotation-free numbers of a cell: three log lengths and three shear ratios.

    With the lower-triangular factor `L` of the Gram matrix they are ln L11, ln L22, ln L33 and
    L21/L11, L31/L11, L32/L22. In a Niggli-reduced cell the ratios stay within about [-1/2, 1/2]
    and take the same few values for every crystal of one Bravais type, whatever its size.
    """
    factor = canonical_orientation(lattice)
    diagonal = torch.diagonal(factor, dim1=-2, dim2=-1)
    shear = torch.stack([factor[..., 1, 0], factor[..., 2, 0], factor[..., 2, 1]], dim=-1)
    return torch.cat([diagonal.log(), shear / diagonal[..., [0, 0, 1]]], dim=-1)


def lattice_from_shape(shape: Float[Tensor, "*B 6"]) -> Float[Tensor, "*B 3 3"]:
    """Inverse of `shape_from_lattice`: the lower-triangular row lattice in Å."""
    diagonal = shape[..., :3].exp()
    shear = shape[..., 3:] * diagonal[..., [0, 0, 1]]
    zero = torch.zeros_like(shear[..., 0])
    rows = [
        [diagonal[..., 0], zero, zero],
        [shear[..., 0], diagonal[..., 1], zero],
        [shear[..., 1], shear[..., 2], diagonal[..., 2]],
    ]
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


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


def wrapped_normal_scale(
    sigma: Float[Tensor, "*S"], sigma_uniform: float = 1 / math.sqrt(12)
) -> Float[Tensor, "*S"]:
    """Typical size of a wrapped displacement at noise level sigma: sigma, saturating at uniform."""
    return sigma * sigma_uniform / torch.sqrt(sigma**2 + sigma_uniform**2)
