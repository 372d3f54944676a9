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

from mattergen_lite.symmetry.templates import Templates
from mattergen_lite.tensors.shapes import Bool, Float, Int

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

    Crystals that need equally many lattice translations are worked on together.
    """
    batch, orbits = difference.shape[:2]
    real = templates.mask.unsqueeze(-1) & templates.atom_mask.unsqueeze(-2)
    shells = difference.new_zeros(batch, orbits, orbits, 4 * NUM_RADIAL)
    for (fewest, most), count in _NUM_TRANSLATIONS.items():
        of_size = (templates.num_atoms >= fewest) & (templates.num_atoms <= most)
        chosen = of_size.nonzero().squeeze(-1)
        if len(chosen):
            vectors, starts = _images_in_reach(
                difference[chosen], lattice[chosen], real[chosen], templates.orbit[chosen], count
            )
            shells[chosen] = _sums(vectors, starts).view(-1, orbits, orbits, 4 * NUM_RADIAL)
    return shells


def _sums(vectors: Float[Tensor, "K 3"], starts: Int[Tensor, "Q"]) -> Float[Tensor, "P R"]:
    """The sums of each of P pairs of orbits: pair p has the images `starts[p]:starts[p + 1]`.

    With t the distance and r the centre of a Gaussian, both from the middle centre and in widths,

        sum_k exp(-(t_k - r)² / 2) w_k = exp(-r² / 2) sum_k exp(r t_k) [exp(-t_k² / 2) w_k]

    for w_k = 1 and the three components of the unit vector: one exponential of a plain product for
    each Gaussian, weighted sums for the rest. All factors are far from the limits of float32.
    """
    distance = (vectors.square().sum(-1) + 1e-6).sqrt()
    t = (distance - (_FIRST_CENTRE + CUTOFF) / 2) / _WIDTH
    r = torch.arange(NUM_RADIAL, device=t.device) - (NUM_RADIAL - 1) / 2
    growth = torch.outer(t, r).exp_()
    bell = torch.exp(-0.5 * t**2)
    order = torch.arange(len(t), device=t.device)
    sums = [
        nn.functional.embedding_bag(
            order, growth, starts, mode="sum", per_sample_weights=weight, include_last_offset=True
        )
        for weight in (bell, *(vectors.T * (bell / distance)).contiguous())
    ]
    return (torch.stack(sums, dim=-1) * torch.exp(-0.5 * r**2).unsqueeze(-1)).flatten(1)


def _images_in_reach(
    difference: Float[Tensor, "B O N 3"],
    lattice: Float[Tensor, "B 3 3"],
    real: Bool[Tensor, "B O N"],
    orbit: Int[Tensor, "B N"],
    num_translations: int,
) -> tuple[Float[Tensor, "K 3"], Int[Tensor, "Q"]]:
    """Vectors in Å to the images near each representative, pair of orbits by pair of orbits.

    The pairs are those of a flat `[B, O, O]`; the second result says where each begins, and ends
    with K. Nine in ten images are out of reach of all Gaussians; distances of all of them are
    therefore only multiplied out: `|u + T|² = |u|² + 2 u T + |T|²`.
    """
    batch, orbits, atoms = real.shape
    cart = (difference @ lattice.unsqueeze(1)).flatten(1, 2)  # [B, O N, 3]
    translations = _near_translations(lattice, num_translations)  # [B, M, 3]
    with torch.no_grad():
        square = torch.baddbmm(
            translations.square().sum(-1).unsqueeze(1), cart, translations.mT, alpha=2
        )
        limit = torch.where(real.flatten(1), _REACH**2 - cart.square().sum(-1), -torch.inf)
        row, image = (square < limit.unsqueeze(-1)).flatten(0, 1).nonzero(as_tuple=True)
    crystal = row // (orbits * atoms)
    vectors = (
        cart.flatten(0, 1)[row] + translations.flatten(0, 1)[crystal * num_translations + image]
    )
    # Atoms are listed orbit by orbit, so images are listed pair by pair.
    first = orbits * torch.arange(batch * orbits, device=row.device).view(batch, orbits, 1)
    pair = (first + orbit.unsqueeze(1)).flatten()[row]
    bounds = torch.arange(batch * orbits**2 + 1, device=row.device)
    return vectors, torch.searchsorted(pair, bounds)


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
