"""Symmetries of the network, on triclinic cells, through the whole model."""

from dataclasses import replace

import pytest
import torch
from models import random_crystals, tiny_model

from mattergen_lite.crystal import CrystalBatch, Prediction, concatenate
from mattergen_lite.geometry import wrap
from mattergen_lite.model import CrystalDiffusion
from mattergen_lite.properties import Conditions

SIGMA = 0.25


@pytest.fixture(scope="module")
def model():
    return tiny_model()


def predict(
    model: CrystalDiffusion, crystals: CrystalBatch, conditions: Conditions | None = None
) -> Prediction:
    noisy = model.diffusion.encode(crystals)
    with torch.no_grad():
        return model.predict(noisy, torch.full((len(crystals),), SIGMA), conditions)


def assert_same(a: Prediction, b: Prediction, mask: torch.Tensor) -> None:
    for name in ("element_logits", "coords"):
        torch.testing.assert_close(
            getattr(a, name)[mask], getattr(b, name)[mask], atol=2e-4, rtol=1e-3
        )
    torch.testing.assert_close(a.shape, b.shape, atol=2e-4, rtol=1e-3)


def test_predictions_are_not_trivial(model):
    crystals = random_crystals([6, 9])
    prediction = predict(model, crystals)
    assert prediction.coords[crystals.mask].std() > 0.01
    moved = replace(
        crystals, frac_coords=wrap(crystals.frac_coords * 0.9) * crystals.mask[..., None]
    )
    assert (predict(model, moved).coords - prediction.coords).abs().max() > 1e-3


def test_permutation_equivariance(model):
    crystals = random_crystals([7])
    order = torch.randperm(7, generator=torch.Generator().manual_seed(3))
    shuffled = replace(
        crystals,
        atomic_numbers=crystals.atomic_numbers[:, order],
        frac_coords=crystals.frac_coords[:, order],
    )
    expected, found = predict(model, crystals), predict(model, shuffled)
    torch.testing.assert_close(found.coords, expected.coords[:, order], atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(found.shape, expected.shape, atol=1e-4, rtol=1e-3)


def test_translation_of_all_atoms(model):
    crystals = random_crystals([7, 3])
    moved = replace(
        crystals,
        frac_coords=wrap(crystals.frac_coords + torch.tensor([0.31, 0.77, 0.5]))
        * crystals.mask[..., None],
    )
    assert_same(predict(model, crystals), predict(model, moved), crystals.mask)


def test_integer_shift_of_one_atom(model):
    crystals = random_crystals([7])
    shift = torch.zeros_like(crystals.frac_coords)
    shift[0, 2] = torch.tensor([1.0, -2.0, 3.0])
    shifted = replace(crystals, frac_coords=crystals.frac_coords + shift)
    assert_same(predict(model, crystals), predict(model, shifted), crystals.mask)


def test_rotation_of_the_lattice(model):
    crystals = random_crystals([7, 5])
    rotation, _ = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(1)))
    rotated = replace(crystals, lattice=crystals.lattice @ rotation)
    assert_same(predict(model, crystals), predict(model, rotated), crystals.mask)


def test_padding_and_neighbours_do_not_matter(model):
    alone, other = random_crystals([4]), random_crystals([11], seed=5)
    together = predict(model, concatenate([alone, other]))
    expected = predict(model, alone)
    torch.testing.assert_close(together.coords[:1, :4], expected.coords, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(together.shape[:1], expected.shape, atol=1e-4, rtol=1e-3)


def test_one_atom_feels_its_own_images(model):
    small = random_crystals([1])
    large = replace(small, lattice=small.lattice * 1.4)
    assert (predict(model, small).shape - predict(model, large).shape).abs().max() > 1e-4


def test_absent_condition_is_no_condition(model):
    crystals = random_crystals([4, 4])
    absent = Conditions(
        values={"band_gap": torch.tensor([3.0, 3.0])},
        present={"band_gap": torch.tensor([False, True])},
    )
    free, conditioned = predict(model, crystals), predict(model, crystals, absent)
    torch.testing.assert_close(conditioned.coords[0], free.coords[0])
    assert (conditioned.coords[1] - free.coords[1]).abs().max() > 1e-4


def test_conditions_tell_values_and_kinds_apart(model):
    crystals = random_crystals([4, 4])
    for name, values in {
        "band_gap": torch.tensor([0.0, 4.0]),
        "space_group": torch.tensor([1, 225]),
        "chemical_system": torch.eye(101)[[3, 8]],
    }.items():
        asked = Conditions(values={name: values}, present={name: torch.tensor([True, True])})
        same = replace(asked, values={name: values[[0, 0]]})
        difference = predict(model, crystals, asked).shape - predict(model, crystals, same).shape
        assert difference[1].abs().max() > 1e-4, name


def test_larger_cells_than_the_training_ones():
    crystals = random_crystals([64])
    assert predict(tiny_model(), crystals).coords.isfinite().all()
