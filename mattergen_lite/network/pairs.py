"""Periodic pair geometry of a noisy crystal: what attention knows about atoms i and j.

Everything is a function of the wrapped coordinate difference and of the cell in its one canonical
orientation, so it is unchanged by translations, by moving one atom to another image and by rotating
the lattice. Distances sum over the 27 neighbour cells instead of taking the nearest image: an atom
then sees its own copies (all there is in a one-atom cell) and nothing jumps where two images tie.
"""

import math

import torch
from torch import Tensor, nn

from mattergen_lite.geometry import NEIGHBOUR_CELLS, wrap_difference
from mattergen_lite.shapes import Float

NUM_HARMONICS = 4
NUM_RADIAL = 12
CUTOFF = 7.0  # Å; the last Gaussian's centre
FEATURES = 6 * NUM_HARMONICS + 4 * NUM_RADIAL


def pair_features(
    coords: Float[Tensor, "B N 3"], lattice: Float[Tensor, "B 3 3"]
) -> Float[Tensor, "B N N F"]:
    """Features of the vector from atom i to atom j.

    Args:
        coords: Fractional coordinates.
        lattice: Row lattices in Å, lower triangular.

    Returns:
        Fourier series of the fractional difference, then for each radial Gaussian the number of
        images of j in that shell around i and their mean direction.
    """
    # Geometry stays in full precision: bfloat16 would place atoms on a grid of 0.03 Å.
    with torch.autocast(coords.device.type, enabled=False):
        difference = wrap_difference(coords.unsqueeze(1) - coords.unsqueeze(2))
        return torch.cat([_harmonics(difference), _shells(difference, lattice)], dim=-1)


def _harmonics(difference: Float[Tensor, "B N N 3"]) -> Float[Tensor, "B N N H"]:
    frequencies = 2 * math.pi * torch.arange(1, NUM_HARMONICS + 1, device=difference.device)
    phase = (difference.unsqueeze(-1) * frequencies).flatten(-2)
    return torch.cat([phase.sin(), phase.cos()], dim=-1)


def _shells(
    difference: Float[Tensor, "B N N 3"], lattice: Float[Tensor, "B 3 3"]
) -> Float[Tensor, "B N N R"]:
    cart = difference @ lattice.unsqueeze(1)
    offsets = NEIGHBOUR_CELLS.to(cart) @ lattice  # [B, 27, 3]
    images = cart.unsqueeze(-2) + offsets[:, None, None]  # [B, N, N, 27, 3]
    distance = (images.square().sum(-1) + 1e-6).sqrt()
    centres = torch.linspace(1.0, CUTOFF, NUM_RADIAL, device=cart.device)
    width = (CUTOFF - 1.0) / (NUM_RADIAL - 1)
    shell = torch.exp(-0.5 * ((distance.unsqueeze(-1) - centres) / width) ** 2)  # [B, N, N, 27, R]
    weighted = torch.cat(
        [torch.ones_like(distance)[..., None], images / distance[..., None]], dim=-1
    )
    return (shell.mT @ weighted).flatten(-2)


class PairEmbedding(nn.Module):
    """Small MLP from pair geometry to pair features, in the light of the crystal's state."""

    def __init__(self, dim: int, pair_dim: int) -> None:
        super().__init__()
        self.project = nn.Linear(FEATURES, 2 * pair_dim)
        self.context = nn.Linear(dim, 2 * pair_dim)
        self.out = nn.Linear(2 * pair_dim, pair_dim)

    def forward(
        self, features: Float[Tensor, "B N N F"], context: Float[Tensor, "B D"]
    ) -> Float[Tensor, "B N N P"]:
        """The noise level enters here: under strong noise geometry must not be believed."""
        hidden = self.project(features) + self.context(context)[:, None, None]
        return self.out(nn.functional.silu(hidden))
