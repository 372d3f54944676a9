"""Periodic pair geometry against the sum it stands for, written out."""

import pytest
import torch
from models import random_crystals

from mattergen_lite.geometry import NEIGHBOUR_CELLS, wrap_difference
from mattergen_lite.network.pairs import CUTOFF, FEATURES, NUM_HARMONICS, NUM_RADIAL, pair_features

SIZES = [1, 2, 7, 12]


def written_out(coords, lattice):
    """Every pair, image and Gaussian by itself; shipped weights were trained on these numbers."""
    difference = wrap_difference(coords.unsqueeze(1) - coords.unsqueeze(2))
    frequencies = 2 * torch.pi * torch.arange(1, NUM_HARMONICS + 1)
    phase = (difference.unsqueeze(-1) * frequencies).flatten(-2)
    offsets = (NEIGHBOUR_CELLS.to(lattice) @ lattice)[:, None, None]
    images = (difference @ lattice.unsqueeze(1)).unsqueeze(-2) + offsets
    distance = (images.square().sum(-1) + 1e-6).sqrt()
    centres = torch.linspace(1.0, CUTOFF, NUM_RADIAL, dtype=lattice.dtype)
    width = (CUTOFF - 1.0) / (NUM_RADIAL - 1)
    shell = torch.exp(-0.5 * ((distance.unsqueeze(-1) - centres) / width) ** 2)
    directions = images / distance[..., None]
    weighted = torch.cat([torch.ones_like(distance)[..., None], directions], dim=-1)
    return torch.cat([phase.sin(), phase.cos(), (shell.mT @ weighted).flatten(-2)], dim=-1)


@pytest.mark.parametrize("scale", [0.3, 1.0, 4.0])
def test_features_are_what_they_stand_for(scale):
    """From cells smaller than any crystal's to some whose atoms see nobody."""
    crystals = random_crystals(SIZES)
    coords, lattice = crystals.frac_coords, crystals.lattice * scale
    found = pair_features(coords, lattice)
    assert found.shape == (len(SIZES), 12, 12, FEATURES)
    exact = written_out(coords.double(), lattice.double())
    torch.testing.assert_close(found.double(), exact, rtol=1e-5, atol=1e-5)


def test_atoms_half_a_cell_apart():
    """Where two images tie, both directions must pick images alike."""
    coords = torch.tensor([[[0.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.25, 0.5, 0.0]]])
    lattice = random_crystals([3]).lattice
    expected = written_out(coords, lattice)
    torch.testing.assert_close(pair_features(coords, lattice), expected, rtol=1e-5, atol=1e-5)


def test_features_have_gradients():
    """What steering by a property of the noisy crystal needs."""
    crystals = random_crystals([5])
    coords = crystals.frac_coords.double().requires_grad_()
    lattice = crystals.lattice.double()
    weights = torch.randn(FEATURES, generator=torch.Generator().manual_seed(0)).double()
    found, expected = (
        torch.autograd.grad((features(coords, lattice) @ weights).sum(), coords)[0]
        for features in (pair_features, written_out)
    )
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
