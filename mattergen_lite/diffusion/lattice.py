"""Lattice: Gaussian noise on the six standardised, rotation-free shape numbers of the cell.

Lengths enter as logarithms with ln(N)/3 subtracted, so that the channel carries volume per atom and
not the trivial growth of a cell with its number of atoms (KLDM, ADiT).
"""

import torch
from torch import Tensor, nn

from mattergen_lite.diffusion.schedule import scalings
from mattergen_lite.geometry import lattice_from_shape, shape_from_lattice
from mattergen_lite.shapes import Float, Int

SIGMA_DATA = 0.3  # the coordinates' own spread is 1/sqrt(12) = 0.29; one sigma then suits both

MIN_STD = 0.05  # 5% in length or shear


class LatticeChannel(nn.Module):
    """Standardisation of the shape numbers, fitted on training data and kept with the weights."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(6))
        self.register_buffer("std", torch.ones(6))

    def fit(self, lattice: Float[Tensor, "M 3 3"], num_atoms: Int[Tensor, "M"]) -> None:
        """Set mean and spread from training lattices; a lone crystal has none, hence the floor."""
        raw = _shape_per_atom(lattice, num_atoms)
        self.mean.copy_(raw.mean(0))
        self.std.copy_(raw.std(0, correction=0).clamp(min=MIN_STD))

    def encode(
        self, lattice: Float[Tensor, "B 3 3"], num_atoms: Int[Tensor, "B"]
    ) -> Float[Tensor, "B 6"]:
        """Shape numbers with zero mean and standard deviation SIGMA_DATA over the training set."""
        return (_shape_per_atom(lattice, num_atoms) - self.mean) / self.std * SIGMA_DATA

    def decode(
        self, shape: Float[Tensor, "B 6"], num_atoms: Int[Tensor, "B"]
    ) -> Float[Tensor, "B 3 3"]:
        """Lower-triangular row lattice in Å."""
        # ±8 standard deviations: far outside any crystal, yet no overflow of the exponential.
        raw = (shape / SIGMA_DATA).clamp(-8.0, 8.0) * self.std + self.mean
        return lattice_from_shape(raw + _log_size(num_atoms))

    def denoise(
        self,
        prediction: Float[Tensor, "B 6"],
        noisy: Float[Tensor, "B 6"],
        sigma: Float[Tensor, "B"],
    ) -> Float[Tensor, "B 6"]:
        """EDM denoised estimate from the network's unit-size prediction."""
        scale = scalings(sigma, SIGMA_DATA)
        return scale.skip[:, None] * noisy + scale.out[:, None] * prediction

    def best_guess(
        self, noisy: Float[Tensor, "B 6"], sigma: Float[Tensor, "B"]
    ) -> Float[Tensor, "B 6"]:
        """Posterior mean if shapes were Gaussian: what distances are measured with under noise."""
        return scalings(sigma, SIGMA_DATA).skip[:, None] * noisy


def corrupt(
    clean: Float[Tensor, "B 6"], sigma: Float[Tensor, "B"], noise: Float[Tensor, "B 6"]
) -> Float[Tensor, "B 6"]:
    """Add Gaussian noise of standard deviation sigma."""
    return clean + sigma[:, None] * noise


def loss(
    prediction: Float[Tensor, "B 6"],
    clean: Float[Tensor, "B 6"],
    noisy: Float[Tensor, "B 6"],
    sigma: Float[Tensor, "B"],
) -> Float[Tensor, "B"]:
    """Squared error of the network's unit-size target, mean over the six numbers."""
    scale = scalings(sigma, SIGMA_DATA)
    target = (clean - scale.skip[:, None] * noisy) / scale.out[:, None]
    return ((prediction - target) ** 2).mean(-1)


def _log_size(num_atoms: Int[Tensor, "B"]) -> Float[Tensor, "B 6"]:
    log_length = num_atoms.log() / 3
    return torch.stack([log_length] * 3 + [torch.zeros_like(log_length)] * 3, dim=-1)


def _shape_per_atom(
    lattice: Float[Tensor, "B 3 3"], num_atoms: Int[Tensor, "B"]
) -> Float[Tensor, "B 6"]:
    return shape_from_lattice(lattice) - _log_size(num_atoms)
