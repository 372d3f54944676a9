"""Fractional coordinates: Gaussian noise wrapped on the unit torus.

The network predicts a displacement, not a position, so nothing depends on where the origin is or on
which image of an atom is given. The regression target is the posterior mean displacement under the
wrapped normal (sigma² times its score), hence `x + displacement` is the denoised estimate in the
sense of Tweedie and the reverse equations hold exactly on the torus.

No force moves the centre of mass of a distribution that does not depend on the origin: the true
displacement field has zero mean over the atoms of a crystal, and so has the prediction.
"""

import torch
from torch import Tensor

from mattergen_lite.crystal import masked_mean, remove_mean
from mattergen_lite.geometry import wrap, wrapped_normal_displacement, wrapped_normal_scale
from mattergen_lite.shapes import Bool, Float


def corrupt(
    clean: Float[Tensor, "B N 3"], sigma: Float[Tensor, "B"], noise: Float[Tensor, "B N 3"]
) -> Float[Tensor, "B N 3"]:
    """Add Gaussian noise of standard deviation sigma (in cell fractions) and wrap."""
    return wrap(clean + sigma[:, None, None] * noise)


def displacement(
    prediction: Float[Tensor, "B N 3"], sigma: Float[Tensor, "B"], mask: Bool[Tensor, "B N"]
) -> Float[Tensor, "B N 3"]:
    """Denoised minus noisy coordinates from the network's unit-size prediction."""
    return remove_mean(prediction * wrapped_normal_scale(sigma)[:, None, None], mask)


def loss(
    prediction: Float[Tensor, "B N 3"],
    clean: Float[Tensor, "B N 3"],
    noisy: Float[Tensor, "B N 3"],
    sigma: Float[Tensor, "B"],
    mask: Bool[Tensor, "B N"],
) -> Float[Tensor, "B"]:
    """Squared error in units of the displacement's size, mean over the atoms of each crystal."""
    level = sigma[:, None, None]
    target = wrapped_normal_displacement(
        clean - noisy, level.expand_as(clean)
    ) / wrapped_normal_scale(level)
    error = remove_mean(prediction, mask) - remove_mean(target, mask)
    return masked_mean(torch.where(mask.unsqueeze(-1), error, 0.0) ** 2, mask).mean(-1)
