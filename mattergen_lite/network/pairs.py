"""Periodic pair geometry of a noisy crystal: what attention knows about orbits i and j.

Everything is a function of differences between atoms and of the cell in its one canonical
orientation, so it is unchanged by translations, by moving one atom to another image and by rotating
the lattice. An orbit is seen from one atom of another: features of all its atoms and of their
periodic images are summed, so an orbit also sees its own copies and nothing jumps where two images
tie.
"""

import math
from itertools import product

import torch
from torch import Tensor, nn

from mattergen_lite.shapes import Float, Int
from mattergen_lite.symmetry.templates import Templates

NUM_HARMONICS = 4
NUM_RADIAL = 12
CUTOFF = 7.0  # Å; the last Gaussian's centre
GEOMETRY = 6 * NUM_HARMONICS + 4 * NUM_RADIAL
FEATURES = GEOMETRY + 1  # and whether two orbits are known to hold the same element

_FIRST_CENTRE = 1.0  # Å
_WIDTH = (CUTOFF - _FIRST_CENTRE) / (NUM_RADIAL - 1)  # Å; of a Gaussian and between two centres
_MIDDLE = NUM_RADIAL // 2 - 1
# Widths beyond the middle Gaussian at which all are below 2e-8, and exp(6 * 12) is yet a float.
_OUT_OF_REACH = 12.0

_TRANSLATIONS = torch.tensor(list(product(range(-2, 3), repeat=3)), dtype=torch.float)
# Lattice translations looked at, by the number of atoms of a cell: at 17 Å³ an atom so many come
# within the cutoff of some pair of atoms.
_NUM_TRANSLATIONS = ((2, 125), (6, 57))
_FEWEST_TRANSLATIONS = 27
_FAR_AWAY = 100.0  # cells; an image there is in no shell
_TIE = 1e-4  # cell fractions; differences of half a cell within it are taken to be +1/2


def pair_features(
    representatives: Float[Tensor, "B O 3"], lattice: Float[Tensor, "B 3 3"], templates: Templates
) -> Float[Tensor, "B O O F"]:
    """Features of orbit j as seen from the representative of orbit i.

    Args:
        representatives: Fractional coordinates.
        lattice: Row lattices in Å, lower triangular.
        templates: Which atoms each orbit has.

    Returns:
        The mean over the atoms of j of a Fourier series of the fractional difference; for each
        radial Gaussian the number of atoms of j, images included, in that shell around i, and the
        sum of their directions; and 1 or -1 for orbits that are known to hold the same element or
        different ones, 0 where that is not known.
    """
    # Geometry stays in full precision: bfloat16 would place atoms on a grid of 0.03 Å.
    with torch.autocast(representatives.device.type, enabled=False):
        atoms = templates.atoms(representatives)
        difference = _short_way(atoms.unsqueeze(1) - representatives.unsqueeze(2))
        size = difference.shape[:3]
        flat = difference.flatten(1, 2)
        members = templates.members
        mean = members / templates.multiplicity.clamp(min=1).unsqueeze(1)
        harmonics = mean.mT.unsqueeze(1) @ _harmonics(flat).unflatten(1, size[1:])
        images = _shells(flat, lattice, templates.num_atoms).unflatten(1, size[1:])
        shells = members.mT.unsqueeze(1) @ images
        return torch.cat([harmonics, shells, _same_element(templates)], dim=-1)


def _short_way(difference: Float[Tensor, "*S"]) -> Float[Tensor, "*S"]:
    """Shortest difference on the unit circle; half a period is +1/2, however it was rounded."""
    return difference - torch.ceil(difference - (0.5 + _TIE))


def _same_element(templates: Templates) -> Float[Tensor, "B O O 1"]:
    sign = torch.where(templates.same_class, 1.0, -1.0)
    return (sign * templates.classes_known[:, None, None]).unsqueeze(-1)


def _harmonics(difference: Float[Tensor, "B P 3"]) -> Float[Tensor, "B P H"]:
    frequencies = 2 * math.pi * torch.arange(1, NUM_HARMONICS + 1, device=difference.device)
    phase = (difference.unsqueeze(-1) * frequencies).flatten(-2)
    return torch.cat([phase.sin(), phase.cos()], dim=-1)


def _shells(
    difference: Float[Tensor, "B P 3"],
    lattice: Float[Tensor, "B 3 3"],
    num_atoms: Int[Tensor, "B"],
) -> Float[Tensor, "B P R"]:
    """Sums over images of the Gaussians, and of the Gaussians times the unit vector."""
    cart = (difference @ lattice).movedim(-1, 0)  # components first: long rows are fast
    offsets = (_near_translations(lattice, num_atoms) @ lattice).movedim(-1, 0)  # [3, B, M]
    images = cart.unsqueeze(-1) + offsets.unsqueeze(2)  # [3, B, P, M]
    distance = (images.square().sum(0) + 1e-6).sqrt()
    weights = torch.cat([torch.ones_like(distance)[None], images / distance])
    return _radial_sums(distance.flatten(0, 1), weights.flatten(1, 2)).view(*cart.shape[1:], -1)


def _near_translations(
    lattice: Float[Tensor, "B 3 3"], num_atoms: Int[Tensor, "B"]
) -> Float[Tensor, "B M 3"]:
    """The lattice translations that can bring an atom nearest, of those up to 2 cells away.

    A wrapped difference has components of at most 1/2, so the translation T leaves at least
    `max(|T| - 1/2, 0)` of each: the length of that vector ranks them. How many each crystal has
    depends on it alone; those it does not have lie out of reach.
    """
    translations = _TRANSLATIONS.to(lattice)
    counts = torch.full_like(num_atoms, _FEWEST_TRANSLATIONS)
    for most_atoms, count in reversed(_NUM_TRANSLATIONS):
        counts = torch.where(num_atoms <= most_atoms, count, counts)
    least = translations.sign() * (translations.abs() - 0.5).clamp(min=0)
    length = torch.linalg.vector_norm(least @ lattice, dim=-1)
    # Equal lengths, which symmetric cells have many of, keep their order whatever the rounding.
    nearest = (length * 1e3).round().argsort(dim=-1, stable=True)[:, : int(counts.max())]
    missing = torch.arange(nearest.shape[1], device=nearest.device) >= counts.unsqueeze(-1)
    return translations[nearest].masked_fill(missing.unsqueeze(-1), _FAR_AWAY)


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
    """Small MLP from pair geometry to pair features, given the embedding of the whole crystal."""

    def __init__(self, dim: int, pair_dim: int) -> None:
        super().__init__()
        self.project = nn.Linear(FEATURES, 2 * pair_dim)
        self.context = nn.Linear(dim, 2 * pair_dim)
        self.out = nn.Linear(2 * pair_dim, pair_dim)

    def forward(
        self, features: Float[Tensor, "B O O F"], context: Float[Tensor, "B D"]
    ) -> Float[Tensor, "B O O P"]:
        """The noise level enters here: under strong noise geometry must not be believed."""
        hidden = self.project(features) + self.context(context)[:, None, None]
        return self.out(nn.functional.silu(hidden))
