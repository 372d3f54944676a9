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
_REACH = CUTOFF + 5 * _WIDTH  # Å; beyond, the last Gaussian is below 4e-6

_TRANSLATIONS = torch.tensor(list(product(range(-2, 3), repeat=3)), dtype=torch.float)
# Lattice translations looked at, by the number of atoms of a cell: at 17 Å³ an atom so many come
# within the cutoff of some pair of atoms.
_NUM_TRANSLATIONS = {(1, 2): 125, (3, 6): 57, (7, 10**9): 27}
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
        mean = templates.members / templates.multiplicity.clamp(min=1).unsqueeze(1)
        harmonics = mean.mT.unsqueeze(1) @ _harmonics(difference)
        shells = _shells(difference, lattice, templates)
        return torch.cat([harmonics, shells, _same_element(templates)], dim=-1)


def _short_way(difference: Float[Tensor, "*S"]) -> Float[Tensor, "*S"]:
    """Shortest difference on the unit circle; half a period is +1/2, however it was rounded."""
    return difference - torch.ceil(difference - (0.5 + _TIE))


def _same_element(templates: Templates) -> Float[Tensor, "B O O 1"]:
    sign = torch.where(templates.same_class, 1.0, -1.0)
    return (sign * templates.classes_known[:, None, None]).unsqueeze(-1)


def _harmonics(difference: Float[Tensor, "*P 3"]) -> Float[Tensor, "*P H"]:
    """Fourier series of a fractional difference u: sin(2πku) and cos(2πku), k = 1..4, by axis."""
    frequencies = 2 * math.pi * torch.arange(1, NUM_HARMONICS + 1, device=difference.device)
    phase = (difference.unsqueeze(-1) * frequencies).flatten(-2)
    return torch.cat([phase.sin(), phase.cos()], dim=-1)


def _shells(
    difference: Float[Tensor, "B O N 3"], lattice: Float[Tensor, "B 3 3"], templates: Templates
) -> Float[Tensor, "B O O R"]:
    """Sums over the atoms of an orbit and their images: of the Gaussians g_r(d) at their distances
    d, and of `g_r(d)` times the unit vector.

    Nine in ten images are out of reach of all Gaussians, so those within it are listed first.
    """
    batch, orbits = difference.shape[:2]
    pair, vector = _images_in_reach(difference, lattice, templates)
    distance = (vector.square().sum(-1, keepdim=True) + 1e-6).sqrt()
    centres = torch.linspace(_FIRST_CENTRE, CUTOFF, NUM_RADIAL, device=distance.device)
    # s_ijr = sum_k g_r(d_k) (1, v_k / d_k)  over the images k of atoms of j within reach of i
    gaussians = torch.exp(-0.5 * ((distance - centres) / _WIDTH) ** 2)  # g_r(d_k): [K, R]
    weights = torch.cat([torch.ones_like(distance), vector / distance], dim=-1)  # [K, 4]
    terms = (gaussians.unsqueeze(-1) * weights.unsqueeze(-2)).flatten(1)
    sums = terms.new_zeros(batch * orbits * orbits, terms.shape[1])
    return sums.index_add(0, pair, terms).view(batch, orbits, orbits, -1)


def _images_in_reach(
    difference: Float[Tensor, "B O N 3"], lattice: Float[Tensor, "B 3 3"], templates: Templates
) -> tuple[Int[Tensor, "K"], Float[Tensor, "K 3"]]:
    """Images of atoms near representatives: the pair of orbits they belong to, and the vector in Å.

    Pairs are numbered as in a flat `[B, O, O]`.
    """
    orbits = difference.shape[1]
    real = templates.mask.unsqueeze(-1) & templates.atom_mask.unsqueeze(-2)
    pairs, vectors = [], []
    for (fewest, most), count in _NUM_TRANSLATIONS.items():
        inside = (templates.num_atoms >= fewest) & (templates.num_atoms <= most)
        crystal, orbit, atom = (real & inside[:, None, None]).nonzero(as_tuple=True)
        cart = (difference[crystal, orbit, atom].unsqueeze(-2) @ lattice[crystal]).squeeze(-2)
        # v = (u + T) L for the difference u of two atoms, every near translation T, the lattice L
        images = cart.unsqueeze(1) + _near_translations(lattice, count)[crystal]  # [P, M, 3]
        near, which = (images.square().sum(-1) < _REACH**2).nonzero(as_tuple=True)
        pair = (crystal * orbits + orbit) * orbits + templates.orbit[crystal, atom]
        pairs.append(pair[near])
        vectors.append(images[near, which])
    return torch.cat(pairs), torch.cat(vectors)


def _near_translations(lattice: Float[Tensor, "B 3 3"], count: int) -> Float[Tensor, "B M 3"]:
    """The lattice translations in Å that can bring an atom nearest, of those up to 2 cells away.

    A wrapped difference has components of at most 1/2, so the translation T leaves at least
    `max(|T| - 1/2, 0)` of each: the length of that vector ranks them.
    """
    translations = _TRANSLATIONS.to(lattice)
    least = translations.sign() * (translations.abs() - 0.5).clamp(min=0)
    length = torch.linalg.vector_norm(least @ lattice, dim=-1)
    # Equal lengths, which symmetric cells have many of, keep their order whatever the rounding.
    nearest = (length * 1e3).round().argsort(dim=-1, stable=True)[:, :count]
    return translations[nearest] @ lattice


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
