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

_FIRST_CENTRE = 1.0  # Å
_WIDTH = (CUTOFF - _FIRST_CENTRE) / (NUM_RADIAL - 1)  # Å; of a Gaussian and between two centres
_MIDDLE = NUM_RADIAL // 2 - 1
# Widths beyond the middle Gaussian at which all are below 2e-8, and exp(6 * 12) is yet a float.
_OUT_OF_REACH = 12.0


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
        # From j to i everything is as from i to j with the directions reversed: half is enough.
        i, j = torch.triu_indices(coords.shape[1], coords.shape[1], device=coords.device)
        difference = wrap_difference(coords[:, j] - coords[:, i])
        half = torch.cat([_harmonics(difference), _shells(difference, lattice)], dim=-1)
        return _both_ways(half, coords.shape[1])


def _both_ways(half: Float[Tensor, "B P F"], num_atoms: int) -> Float[Tensor, "B N N F"]:
    """Features of all pairs from those with i <= j, row by row."""
    atom = torch.arange(num_atoms, device=half.device)
    low, high = torch.minimum(atom[:, None], atom), torch.maximum(atom[:, None], atom)
    number = low * (2 * num_atoms - low - 1) // 2 + high  # of the pair among those with i <= j
    odd, even = [-1.0] * 3 * NUM_HARMONICS, [1.0] * 3 * NUM_HARMONICS  # sines, cosines
    reversal = torch.tensor([*odd, *even, *[1.0, -1.0, -1.0, -1.0] * NUM_RADIAL])
    sign = torch.where((atom[:, None] > atom)[..., None], reversal.to(half), 1.0)
    return half[:, number] * sign


def _harmonics(difference: Float[Tensor, "B P 3"]) -> Float[Tensor, "B P H"]:
    frequencies = 2 * math.pi * torch.arange(1, NUM_HARMONICS + 1, device=difference.device)
    phase = (difference.unsqueeze(-1) * frequencies).flatten(-2)
    return torch.cat([phase.sin(), phase.cos()], dim=-1)


def _shells(
    difference: Float[Tensor, "B P 3"], lattice: Float[Tensor, "B 3 3"]
) -> Float[Tensor, "B P R"]:
    """Sums over images of the Gaussians, and of the Gaussians times the unit vector."""
    cart = (difference @ lattice).movedim(-1, 0)  # components first: long rows are fast
    offsets = (NEIGHBOUR_CELLS.to(cart) @ lattice).movedim(-1, 0)  # [3, B, 27]
    images = cart.unsqueeze(-1) + offsets.unsqueeze(2)  # [3, B, P, 27]
    distance = (images.square().sum(0) + 1e-6).sqrt()
    weights = torch.cat([torch.ones_like(distance)[None], images / distance])
    return _radial_sums(distance.flatten(0, 1), weights.flatten(1, 2)).view(*cart.shape[1:], -1)


def _radial_sums(
    distance: Float[Tensor, "Q M"], weights: Float[Tensor, "C Q M"]
) -> Float[Tensor, "Q K C"]:
    """Weighted sums over M images of the radial Gaussians at their distances (Å).

    Gaussians one width apart differ by a factor: with v the distance in widths from the middle one,
    `exp(-(v - n)² / 2) = exp(-v² / 2) exp(v)^n exp(-n² / 2)`. Two exponentials and products thus
    do for all; the last factor does not depend on the distance and waits until after the sum.
    """
    v = ((distance - _FIRST_CENTRE) / _WIDTH - _MIDDLE).clamp(max=_OUT_OF_REACH)
    outward = v.exp()
    inward = 1 / outward
    gaussians = [torch.exp(-0.5 * v * v)]
    for _ in range(_MIDDLE):
        gaussians.insert(0, gaussians[0] * inward)
    for _ in range(_MIDDLE + 1, NUM_RADIAL):
        gaussians.append(gaussians[-1] * outward)
    sums = torch.stack(gaussians).transpose(0, 1) @ weights.permute(1, 2, 0)  # [Q, K, C]
    order = torch.arange(NUM_RADIAL, device=v.device) - _MIDDLE
    return sums * torch.exp(-0.5 * order.to(v) ** 2)[:, None]


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
