"""Free coordinates: Gaussian noise wrapped on the unit torus of what symmetry leaves free.

A representative moves along whole-number vectors b_k with coordinates u_k of period 1. A standard
deviation sigma, in fractions of the cell, is sigma / |b_k| in u_k, so noise has the same size
whatever the direction. The network predicts a displacement, not a position; the regression target
is the posterior mean displacement under the wrapped normal (sigma² times its score), hence
`u + displacement` is the denoised estimate in the sense of Tweedie and the reverse equations hold
exactly on the torus.

Along polar axes no force moves the centre of mass of a distribution that does not depend on the
origin: the true displacement field has zero mean over the atoms there, and so has the prediction.
"""

import torch
from torch import Tensor

from mattergen_lite.symmetry.templates import Templates
from mattergen_lite.tensors.geometry import wrapped_normal_displacement, wrapped_normal_scale
from mattergen_lite.tensors.shapes import Float


def encode(templates: Templates) -> Float[Tensor, "B O 3"]:
    """Free coordinates of clean crystals: each representative is its own origin."""
    return torch.zeros_like(templates.origin)


def noise(normal: Float[Tensor, "B O 3"], templates: Templates) -> Float[Tensor, "B O 3"]:
    """Noise of one cell fraction along each free direction; 0 where symmetry leaves none."""
    return unit_spread(templates) * normal


def unit_spread(templates: Templates) -> Float[Tensor, "B O 3"]:
    """Steps in the free coordinates that are as long as the cell; 0 where none is free."""
    length = templates.basis_length
    return torch.where(templates.free, 1 / length.clamp(min=1e-6), 0.0)


def spread(templates: Templates, sigma: Float[Tensor, "B"]) -> Float[Tensor, "B O 3"]:
    """Standard deviation of each free coordinate at noise level sigma; 0 where none is free."""
    return unit_spread(templates) * sigma[:, None, None]


def displacement(
    prediction: Float[Tensor, "B O 3"], sigma: Float[Tensor, "B"], templates: Templates
) -> Float[Tensor, "B O 3"]:
    """Denoised minus noisy free coordinates from the network's unit-size fractional prediction."""
    unit = templates.to_free(prediction) * templates.basis_length
    moved = templates.to_fractional(unit * wrapped_normal_scale(spread(templates, sigma)))
    return templates.to_free(templates.remove_drift(moved))


def loss(
    prediction: Float[Tensor, "B O 3"],
    clean: Float[Tensor, "B O 3"],
    noisy: Float[Tensor, "B O 3"],
    sigma: Float[Tensor, "B"],
    templates: Templates,
) -> Float[Tensor, "B"]:
    """Squared error in units of the displacement's size, mean over the free coordinates.

    Zero for crystals without any.
    """
    std = torch.where(templates.free, spread(templates, sigma), 1.0)
    target = wrapped_normal_displacement(clean - noisy, std) * templates.free
    true = templates.remove_drift(templates.to_fractional(target))
    predicted = templates.to_fractional(displacement(prediction, sigma, templates))
    error = (predicted - true) / wrapped_normal_scale(sigma)[:, None, None]
    return (error**2).sum((1, 2)) / templates.free.sum((1, 2)).clamp(min=1)
