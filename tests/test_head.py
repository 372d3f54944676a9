"""Heads that predict properties: zeros, errors, domain; and what hits to expect of a model."""

import importlib
import json
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from models import random_crystals

from mattergen_lite.config import PropertyConfig
from mattergen_lite.probe.head import Head, chemical_inputs, num_chemical
from mattergen_lite.probe.probe import ModelIdentity
from mattergen_lite.properties import Property
from mattergen_lite.request.targets import parse_targets
from mattergen_lite.scoring.metrics.expected_hits import FILE, Asked, HitTable

sys.path.append(str(Path(__file__).parents[1] / "scripts"))
fitting = importlib.import_module("fit_head")
Examples, fit_head = fitting.Examples, fitting.fit_head

IDENTITY = ModelIdentity(checkpoint="mp", weights_sha256="0" * 64)
FEATURES = 6
GAP = Property(name="band_gap", unit="eV", mean=1.0, std=1.5, minimum=0.0, maximum=9.0)


def examples(count: int, seed: int) -> Examples:
    """A property that is zero for more than half, and otherwise follows from two features."""
    rng = torch.Generator().manual_seed(seed)
    features = torch.randn(count, FEATURES, generator=rng)
    chemical = torch.zeros(count, num_chemical())
    chemical[:, 10] = 1.0  # sodium in all
    values = (2 * features[:, 0] + features[:, 1] - 0.5).clamp(min=0)
    return Examples(inputs=torch.cat([features, chemical], dim=1), values=values)


@pytest.fixture(scope="module")
def fitted():
    prop = PropertyConfig(name="band_gap", unit="eV")
    return fit_head(examples(1500, 0), examples(500, 1), prop, IDENTITY, 0)


def test_zeros_are_told_apart_and_the_rest_is_predicted(fitted):
    new = examples(500, 2)
    error = fitting.prediction_error(fitted, new, torch.tensor(0.0))
    assert fitted.config.has_zeros
    assert error.accuracy > 0.93
    assert error.r2 > 0.95
    assert error.mae < 0.2 * error.mae_of_median
    found = fitted.predict(new.inputs)
    assert ((found == 0) | (found > 0)).all()
    assert (found == 0).float().mean() == pytest.approx(0.59, abs=0.06)
    assert fitted.config.held_out.mae_zero < fitted.config.held_out.mae_positive


def test_what_labels_do_not_cover_is_outside(fitted):
    inputs = examples(20, 3).inputs
    assert fitted.is_inside(inputs).float().mean() > 0.9
    uranium = inputs.clone()
    uranium[:, FEATURES + 91] = 0.5
    assert not fitted.is_inside(uranium).any()
    far = inputs.clone()
    far[:, :FEATURES] = 50.0
    assert not fitted.is_inside(far).any()


def test_a_head_survives_its_files_and_refuses_other_weights(fitted, tmp_path):
    fitted.save(tmp_path)
    loaded = Head.load(tmp_path, IDENTITY.weights_sha256)
    inputs = examples(50, 4).inputs
    assert loaded.predict(inputs) == pytest.approx(fitted.predict(inputs), abs=0.05)
    assert (loaded.is_inside(inputs) == fitted.is_inside(inputs)).all()
    assert loaded.config == fitted.config
    assert "zero or not: " in loaded.text()
    with pytest.raises(ValueError, match="was fitted on another model"):
        Head.load(tmp_path, "1" * 64)


def test_chemical_inputs_are_shares_over_atoms():
    crystals = random_crystals([1, 62, 194, 225])
    inputs = chemical_inputs(crystals)
    atoms = crystals.expand()
    for row in range(4):
        numbers = atoms.atomic_numbers[row][atoms.mask[row]]
        counts = torch.bincount(numbers, minlength=101)[1:] / len(numbers)
        assert inputs[row, :100] == pytest.approx(counts)
    assert inputs.isfinite().all()


# Hits to expect


@pytest.fixture
def table():
    free = Asked(property="", value=0.0, guidance=0.0, measured={"band_gap": (0.0, 0.0, 2.0, 4.0)})
    weak = Asked(
        property="band_gap", value=2.0, guidance=1.0, measured={"band_gap": (0.0, 2.1, 3.0, None)}
    )
    strong = Asked(
        property="band_gap", value=2.0, guidance=3.0, measured={"band_gap": (1.9, 2.1, 2.2, 5.0)}
    )
    zero = Asked(property="band_gap", value=0.0, guidance=1.0, measured={"band_gap": (0.0,) * 4})
    return HitTable(weights_sha256="a", cells=(free, weak, strong, zero))


def expected(table, text, guidance="1"):
    (target,) = parse_targets([text], [guidance], [GAP])
    return table.expected(target)


def test_hits_are_those_of_the_nearest_samples(table):
    near = expected(table, "band_gap=1.5..2.5")
    assert (near.num_hits, near.num_measured) == (1, 3)
    assert near.unconditional == 0.25
    assert near.better == "--guidance 3: 75%"
    assert "band_gap=1.5..2.5" in near.text()
    assert expected(table, "band_gap=1.5..2.5", "4").rate == 0.75
    assert expected(table, "band_gap<0.3").rate == 1.0
    never = expected(table, "band_gap=8")
    assert never.rate == 0
    assert "few will be" in never.text()
    assert expected(table, "band_gap=2", "0") is None


def test_a_table_belongs_to_its_weights(table, tmp_path):
    assert HitTable.load(tmp_path, "a") is None
    (tmp_path / FILE).write_text(json.dumps(asdict(table)))
    assert expected(HitTable.load(tmp_path, "a"), "band_gap=2").rate == pytest.approx(1 / 3)
    assert HitTable.load(tmp_path, "b") is None
    (tmp_path / FILE).write_text(json.dumps({"weights_sha256": "a"}))
    with pytest.raises(ValueError, match="is damaged"):
        HitTable.load(tmp_path, "a")
