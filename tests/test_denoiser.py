"""Symmetries of the network, in all kinds of groups, through the whole model."""

from dataclasses import replace

import pytest
import torch
from models import random_crystals, random_p1, tiny_model

from mattergen_lite.diffusion.joint import State
from mattergen_lite.model import CrystalDiffusion
from mattergen_lite.properties import Conditions
from mattergen_lite.symmetry.templates import OrbitCrystals
from mattergen_lite.tensors.crystal import Prediction
from mattergen_lite.tensors.geometry import wrap

SIGMA = 0.25


@pytest.fixture(scope="module")
def model():
    return tiny_model()


def predict(
    model: CrystalDiffusion,
    crystals: OrbitCrystals,
    conditions: Conditions | None = None,
    state: State | None = None,
) -> Prediction:
    state = state or model.diffusion.encode(crystals)
    level = torch.full((len(crystals),), SIGMA)
    with torch.no_grad():
        return model.predict(state, level, crystals.templates, conditions)


def assert_same(a: Prediction, b: Prediction, mask: torch.Tensor) -> None:
    for name in ("element_logits", "coords"):
        torch.testing.assert_close(
            getattr(a, name)[mask], getattr(b, name)[mask], atol=2e-4, rtol=1e-3
        )
    torch.testing.assert_close(a.cell, b.cell, atol=2e-4, rtol=1e-3)


def at(crystals: OrbitCrystals, origin: torch.Tensor) -> OrbitCrystals:
    """The same orbits at other places."""
    templates = replace(crystals.templates, origin=origin * crystals.templates.mask.unsqueeze(-1))
    return replace(crystals, templates=templates)


def test_predictions_are_not_trivial(model):
    crystals = random_crystals()
    mask = crystals.templates.mask
    prediction = predict(model, crystals)
    assert prediction.coords[mask].std() > 0.01
    moved = at(crystals, wrap(crystals.templates.origin * 0.9))
    assert (predict(model, moved).coords - prediction.coords)[mask].abs().max() > 1e-3


def test_order_of_orbits_and_atoms_does_not_matter(model):
    crystals = random_p1([7])
    order = torch.randperm(7, generator=torch.Generator().manual_seed(3))
    shuffled = replace(
        crystals,
        atomic_numbers=crystals.atomic_numbers[:, order],
        templates=replace(crystals.templates, origin=crystals.templates.origin[:, order]),
    )
    expected, found = predict(model, crystals), predict(model, shuffled)
    torch.testing.assert_close(found.coords, expected.coords[:, order], atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(found.cell, expected.cell, atol=1e-4, rtol=1e-3)


def test_origin_along_polar_axes(model):
    """One shift in three directions in P1, along c in hexagonal groups, none in most groups."""
    crystals = random_crystals()
    templates = crystals.templates
    shift = (templates.invariant @ torch.tensor([0.31, 0.77, 0.54])).unsqueeze(1)
    assert (shift.abs().amax((1, 2)) > 0).sum() == 7
    moved = at(crystals, wrap(templates.origin + shift))
    assert_same(predict(model, crystals), predict(model, moved), templates.mask)


def test_whole_periods_of_free_coordinates(model):
    crystals = random_crystals()
    templates = crystals.templates
    state = model.diffusion.encode(crystals)
    periods = torch.tensor([1.0, -2.0, 3.0]) * templates.free
    far = replace(state, free_coords=state.free_coords + periods)
    expected = predict(model, crystals)
    assert_same(expected, predict(model, crystals, state=far), templates.mask)


def test_rotation_of_the_lattice(model):
    crystals = random_crystals()
    rotation, _ = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(1)))
    rotated = replace(crystals, lattice=crystals.lattice @ rotation)
    assert_same(predict(model, crystals), predict(model, rotated), crystals.templates.mask)


@pytest.mark.parametrize("alone", [random_crystals([62]), random_p1([1]), random_p1([5])])
def test_padding_and_neighbours_do_not_matter(model, alone):
    """Nor that small cells look at more images than those beside them."""
    together = predict(model, OrbitCrystals.concatenate([alone, random_p1([11], seed=5)]))
    expected = predict(model, alone)
    count = expected.coords.shape[1]
    torch.testing.assert_close(together.coords[:1, :count], expected.coords, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(together.cell[:1], expected.cell, atol=1e-5, rtol=1e-4)


def test_one_atom_feels_its_own_images(model):
    small = random_p1([1])
    large = replace(small, lattice=small.lattice * 1.4)
    assert (predict(model, small).cell - predict(model, large).cell).abs().max() > 1e-4


def test_site_symmetry_multiplicity_and_classes_are_seen(model):
    """What is known beside places: without any of these a prediction is another one."""
    crystals = random_crystals([62])
    expected = predict(model, crystals).cell
    templates = crystals.templates
    kinds = templates.rotation_types[:, [1, 0, 2]]
    for changed in (
        replace(crystals, templates=replace(templates, rotation_types=kinds)),
        replace(crystals, templates=replace(templates, space_group=templates.space_group - 1)),
        crystals.with_classes(torch.tensor([[0, 0, 2]]), torch.tensor([True])),
    ):
        state = replace(model.diffusion.encode(crystals))
        assert (predict(model, changed, state=state).cell - expected).abs().max() > 1e-4


def test_absent_condition_is_no_condition(model):
    crystals = random_p1([4, 4])
    absent = Conditions(
        values={"band_gap": torch.tensor([3.0, 3.0])},
        present={"band_gap": torch.tensor([False, True])},
    )
    free, conditioned = predict(model, crystals), predict(model, crystals, absent)
    torch.testing.assert_close(conditioned.coords[0], free.coords[0])
    assert (conditioned.coords[1] - free.coords[1]).abs().max() > 1e-4


def test_conditions_tell_values_and_kinds_apart(model):
    crystals = random_crystals([62, 62])
    for name, values in {
        "band_gap": torch.tensor([0.0, 4.0]),
        "space_group": torch.tensor([1, 225]),
        "chemical_system": torch.eye(101)[[3, 8]],
    }.items():
        asked = Conditions(values={name: values}, present={name: torch.tensor([True, True])})
        same = replace(asked, values={name: values[[0, 0]]})
        difference = predict(model, crystals, asked).cell - predict(model, crystals, same).cell
        assert difference[1].abs().max() > 1e-4, name


def test_larger_cells_than_the_training_ones(model):
    assert predict(model, random_p1([64])).coords.isfinite().all()


def test_dropout_hides_what_elements_are_read_from_and_nothing_else():
    """In training; a finished model says the same every time."""
    model, crystals = tiny_model(), random_crystals()
    model.denoiser.drop_types.p = 0.5
    model.train()
    one, other = predict(model, crystals), predict(model, crystals)
    assert not torch.equal(one.element_logits, other.element_logits)
    assert torch.equal(one.coords, other.coords)
    assert torch.equal(one.cell, other.cell)
    model.eval()
    one, other = predict(model, crystals), predict(model, crystals)
    assert torch.equal(one.element_logits, other.element_logits)
