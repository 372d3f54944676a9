"""Periodic pair geometry against the sum it stands for, written out."""

from itertools import product

import pytest
import torch
from models import random_crystals, random_p1

from mattergen_lite.network.pairs import CUTOFF, FEATURES, NUM_HARMONICS, NUM_RADIAL, pair_features
from mattergen_lite.symmetry.templates import OrbitCrystals, Templates
from mattergen_lite.tensors.geometry import wrap_difference


def written_out(representatives, lattice, templates: Templates):
    """Every atom, image and Gaussian by itself; shipped weights were trained on these numbers."""
    atoms = templates.atoms(representatives)
    difference = wrap_difference(atoms.unsqueeze(1) - representatives.unsqueeze(2))
    frequencies = 2 * torch.pi * torch.arange(1, NUM_HARMONICS + 1)
    phase = (difference.unsqueeze(-1) * frequencies).flatten(-2)
    harmonics = torch.cat([phase.sin(), phase.cos()], dim=-1)
    cells = torch.tensor(list(product(range(-4, 5), repeat=3))).to(lattice)
    offsets = (cells @ lattice)[:, None, None]
    images = (difference @ lattice.unsqueeze(1)).unsqueeze(-2) + offsets
    distance = (images.square().sum(-1) + 1e-6).sqrt()
    centres = torch.linspace(1.0, CUTOFF, NUM_RADIAL, dtype=lattice.dtype)
    width = (CUTOFF - 1.0) / (NUM_RADIAL - 1)
    shell = torch.exp(-0.5 * ((distance.unsqueeze(-1) - centres) / width) ** 2)
    directions = images / distance[..., None]
    weighted = torch.cat([torch.ones_like(distance)[..., None], directions], dim=-1)
    shells = (shell.mT @ weighted).flatten(-2)
    rows = []
    for orbit in range(templates.mask.shape[1]):
        mine = (templates.orbit == orbit)[:, None, :, None]
        count = mine.sum(2).clamp(min=1)
        mean = (harmonics * mine).sum(2) / count
        rows.append(torch.cat([mean, (shells * mine).sum(2)], dim=-1))
    return torch.stack(rows, dim=2)


def features(crystals: OrbitCrystals, lattice):
    """What the network sees, and what it stands for, in cells of another size."""
    templates = crystals.templates
    found = pair_features(templates.origin, lattice, templates)
    double = as_double(templates)
    return found, written_out(double.origin, lattice.double(), double)


def as_double(templates: Templates) -> Templates:
    values = {
        name: value.double() if value.is_floating_point() else value
        for name, value in vars(templates).items()
        if name in Templates.__dataclass_fields__
    }
    return Templates(**values)


def assert_close(found, exact, mask, atol):
    both = mask.unsqueeze(1) & mask.unsqueeze(2)
    torch.testing.assert_close(found.double()[both], exact[both], rtol=1e-4, atol=atol)


NEAR = slice(6 * NUM_HARMONICS, 6 * NUM_HARMONICS + 4 * 6)  # shells up to 3.7 Å


@pytest.mark.parametrize("groups", [[1, 2, 4, 8], [36, 62, 99, 136], [146, 154, 166], [198, 225]])
def test_neighbours_within_bonding_distance_are_all_seen(groups):
    """In cells of real density; further out, images are left out that fill no shell evenly."""
    crystals = random_crystals(groups)
    room = 17 * crystals.templates.num_atoms / crystals.lattice.det()
    lattice = crystals.lattice * room[:, None, None] ** (1 / 3)
    found, exact = features(crystals, lattice)
    assert found.shape[-1] == FEATURES
    mask = crystals.templates.mask
    assert_close(found[..., : NEAR.start], exact[..., : NEAR.start], mask, atol=1e-4)
    assert_close(found[..., NEAR], exact[..., NEAR], mask, atol=0.01)


@pytest.mark.parametrize("groups", [[1, 2, 8, 36], [62, 146, 166, 225]])
def test_large_cells_leave_out_nothing(groups):
    crystals = random_crystals(groups)
    found, exact = features(crystals, 4 * crystals.lattice)
    assert_close(found[..., :-1], exact, crystals.templates.mask, atol=1e-4)


def test_images_are_chosen_by_their_distance_not_by_their_number():
    """A long thin cell: what counts are images two cells away along its short side."""
    crystals = random_p1([8])
    lattice = torch.diag(torch.tensor([2.4, 9.0, 9.0])).unsqueeze(0)
    found, exact = features(crystals, lattice)
    assert_close(found[..., NEAR], exact[..., NEAR], crystals.templates.mask, atol=0.01)
    assert exact[..., NEAR].max() > 1


def test_atoms_half_a_cell_apart():
    """Where two images tie, both directions must pick images alike."""
    crystals = random_p1([3])
    origin = torch.tensor([[[0.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.25, 0.5, 0.0]]])
    templates = crystals.templates
    found = pair_features(origin, 3 * crystals.lattice, templates)
    there = found[0, 0, 1]
    back = found[0, 1, 0]
    torch.testing.assert_close(there, back, rtol=1e-4, atol=1e-4)


def test_known_classes_say_which_orbits_are_alike():
    crystals = random_crystals([62, 62])
    classes = torch.tensor([[0, 1, 0], [0, 1, 0]])
    known = crystals.with_classes(classes, torch.tensor([True, False])).templates
    sign = pair_features(known.origin, crystals.lattice, known)[..., -1]
    assert sign[0].tolist() == [[1, -1, 1], [-1, 1, -1], [1, -1, 1]]
    assert (sign[1] == 0).all()


def test_features_have_gradients():
    """What steering by a property of the noisy crystal needs; in single precision as it is."""
    crystals = random_crystals([62])
    templates = as_double(crystals.templates)
    coords = templates.origin.clone().requires_grad_()
    lattice = 2 * crystals.lattice.double()
    weights = torch.randn(FEATURES - 1, generator=torch.Generator().manual_seed(0)).double()
    found, expected = (
        torch.autograd.grad((values @ weights).sum(), coords)[0]
        for values in (
            pair_features(coords, lattice, templates)[..., :-1],
            written_out(coords, lattice, templates),
        )
    )
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
