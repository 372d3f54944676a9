"""The probe: what it reads, its honesty about it, and that its gradient steers."""

import csv
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from labelled import mass, write_csv
from models import random_crystals, tiny_model

from mattergen_lite.commands.generate import generate
from mattergen_lite.commands.probe import probe_fit
from mattergen_lite.config import PropertyConfig
from mattergen_lite.data.dataset import OrbitDataset
from mattergen_lite.data.table import read_crystal_table
from mattergen_lite.diffusion.joint import State, Step, draw_noise
from mattergen_lite.hub import find_checkpoint
from mattergen_lite.model import CrystalDiffusion, weights_hash
from mattergen_lite.options.request import Request
from mattergen_lite.options.sampler import SamplerOptions
from mattergen_lite.probe.fit import Labels, fit
from mattergen_lite.probe.guidance import MAX_STEP, ProbeSteering, steering
from mattergen_lite.probe.probe import ModelIdentity, Probe, Regression
from mattergen_lite.probe.regression import (
    Leverage,
    best_penalty,
    folds,
    held_out_predictions,
    ridge,
)
from mattergen_lite.request.constraints import parse_constraints
from mattergen_lite.request.targets import parse_targets
from mattergen_lite.sampling.sampler import Target, sample

IDENTITY = ModelIdentity(checkpoint="mp", weights_sha256="0" * 64)


def test_ridge_finds_a_plane_and_forgets_noise():
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(300, 5, generator=rng) * 7 + 3
    y = x @ torch.tensor([1.0, -2.0, 0.5, 0.0, 0.0]) + 4
    groups = torch.arange(300) // 3
    weight, bias = ridge(x, y, best_penalty(x, y, groups))
    assert x @ weight + bias == pytest.approx(y, abs=0.2)
    noise = torch.randn(300, generator=rng)
    predicted = held_out_predictions(x, noise, groups)
    assert (predicted - noise).square().mean() > 0.9 * noise.var()


def test_groups_are_never_split():
    groups = torch.tensor([3, 3, 1, 7, 7, 7, 1, 9, 9, 2, 2, 3])
    parts = folds(groups)
    assert torch.stack(parts).sum(0).eq(1).all()
    for held in parts:
        assert not set(groups[held].tolist()) & set(groups[~held].tolist())


def test_regressions_are_interpolated_between_levels_and_held_at_the_ends():
    regression = Regression(
        log_sigma=torch.tensor([0.01, 0.1, 1.0]).log(),
        weight=torch.zeros(3, 2),
        bias=torch.tensor([1.0, 2.0, 4.0]),
        variance=torch.tensor([0.1, 0.2, 1.0]),
    )
    sigma = torch.tensor([0.001, 0.01, 0.1, math.sqrt(0.1), 1.0, 50.0])
    mean = regression.mean(torch.zeros(6, 2), sigma)
    assert mean == pytest.approx(torch.tensor([1.0, 1.0, 2.0, 3.0, 4.0, 4.0]), abs=1e-5)
    assert regression.variance_at(sigma)[3] == pytest.approx(0.6, abs=1e-5)


@pytest.fixture(scope="module")
def shipped():
    return CrystalDiffusion.load(find_checkpoint("mp"))


@pytest.fixture(scope="module")
def table():
    """150 small crystals of the embedded table."""
    table = read_crystal_table("embedded")
    table = table.filter(table["num_atoms"].to_numpy() <= 4).slice(0, 3000)
    index = torch.randperm(len(table), generator=torch.Generator().manual_seed(0))[:150]
    return table.take(index.numpy())


def labels_of(table) -> Labels:
    """A property that can be computed."""
    crystals = OrbitDataset.from_table(table)
    return Labels(
        crystals=crystals,
        values=crystals.columns["volume_per_atom"],
        formulas=table["formula"].to_pylist(),
    )


@pytest.fixture(scope="module")
def labels(table):
    return labels_of(table)


@pytest.fixture(scope="module")
def probe(shipped, labels):
    prop = PropertyConfig(name="room", unit="Å³", log=True)
    return fit(shipped, labels, prop, IDENTITY, seed=0)


def test_the_probe_is_good_without_noise_and_useless_in_noise(probe, labels):
    errors = probe.config.errors
    assert errors[0].r2 > 0.7
    assert errors[0].mae < 0.6 * errors[0].mae_of_mean
    assert errors[-1].r2 < errors[0].r2
    assert errors[-1].rmse == pytest.approx(1.0, abs=0.25)
    assert "150 labels" in probe.text()


def test_crystals_that_are_not_used_are_said_with_the_reason(probe):
    assert "not used" not in probe.text()
    fewer = probe.config.model_copy(update={"not_used": {"unreadable": 1, "copies": 49}})
    assert replace(probe, config=fewer).text().splitlines()[1] == (
        "50 of 200 crystals are not used: 1 unreadable, 49 copies"
    )


def test_it_measures_crystals_in_the_unit_of_the_property(probe, shipped, labels):
    crystals = labels.crystals.crystals(torch.arange(40))
    read = probe.read(shipped, crystals)
    values = torch.tensor([reading.value for reading in read])
    assert (values - labels.values[:40]).abs().mean() < 2 * probe.held_out.mae
    assert all(reading.is_inside for reading in read)
    stated = np.mean([reading.error for reading in read])
    assert stated < probe.held_out.mae  # what was fitted has less leverage than what was held out


def test_errors_are_wider_away_from_the_labels(shipped, table, labels):
    """Labels of a single kind of crystal say little of others."""
    cubic = table["space_group"].to_numpy() >= 195
    prop = PropertyConfig(name="room", unit="Å³", log=True)
    probe = fit(shipped, labels_of(table.filter(cubic)), prop, IDENTITY, seed=0)
    every = labels.crystals.crystals(torch.arange(len(table)))
    errors = np.array([reading.error for reading in probe.read(shipped, every)])
    assert errors[~cubic].mean() > 1.2 * errors[cubic].mean()


def test_elements_without_labels_are_outside_the_domain(probe, shipped, labels):
    crystals = labels.crystals.crystals(torch.arange(10))
    lacking = int(crystals.atomic_numbers.max())
    others = tuple(number for number in probe.config.elements if number != lacking)
    narrower = replace(probe, config=probe.config.model_copy(update={"elements": others}))
    inside = [reading.is_inside for reading in narrower.read(shipped, crystals)]
    assert inside == [lacking not in row for row in crystals.atomic_numbers.tolist()]


def test_leverage_of_least_squares_adds_up_to_the_number_of_features():
    """The trace of the hat matrix, without the intercept."""
    features = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
    leverage = Leverage.of(features, 1e-9, 40)
    assert leverage(features).sum() == pytest.approx(6.0 * 39 / 40, rel=0.03)
    twice = leverage(leverage.mean + 2 * (features - leverage.mean))
    assert twice == pytest.approx(4 * leverage(features), rel=1e-3)


def test_round_trip_through_two_files_that_hold_no_code(probe, shipped, tmp_path):
    probe.save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"probe.safetensors", "probe.yaml"}
    again = Probe.load(tmp_path, IDENTITY.weights_sha256)
    crystals = random_crystals([2, 62])
    assert again.config == probe.config
    for one, other in zip(
        again.read(shipped, crystals), probe.read(shipped, crystals), strict=True
    ):
        assert one[:2] == pytest.approx(other[:2], rel=1e-5)
        assert one.is_inside == other.is_inside
    with pytest.raises(ValueError, match="was fitted on another model, mp"):
        Probe.load(tmp_path, "1" * 64)


def test_gradient_is_that_of_the_gaussian_likelihood():
    """Against finite differences, through the whole network, in noise space.

    A unit of noise moves a free coordinate by 1/|b|, so the step that steering takes is the
    gradient with respect to noise, brought back by the same factor.
    """
    model = tiny_model()
    rng = torch.Generator().manual_seed(1)
    regression = Regression(
        log_sigma=torch.tensor([0.01, 1.0]).log(),
        weight=torch.randn(2, 32, generator=rng),
        bias=torch.zeros(2),
        variance=torch.tensor([0.5, 1.0]),
    )
    classes = torch.tensor([[0, 0, 2], [0, 1, 2]])
    crystals = random_crystals([62, 146]).with_classes(classes, torch.tensor([True, False]))
    templates = crystals.templates
    clean, sigma = model.diffusion.encode(crystals), torch.tensor([0.2, 0.4])
    drawn = model.diffusion.noise(draw_noise(templates, rng), templates)
    noisy = model.diffusion.corrupt(clean, sigma, drawn)
    normal = draw_noise(templates, rng)
    direction = model.diffusion.noise(normal, templates)

    def log_likelihood(x: State) -> torch.Tensor:
        mean = regression.mean(model.features(x, sigma, templates), sigma)
        return (-((1.5 - mean) ** 2) / 2 / regression.variance_at(sigma)).sum()

    steered = ProbeSteering(model=model, regression=regression, **REQUEST)
    gradient = steered.gradient(noisy, sigma, templates)
    # Of each class one noise vector counts: the gradient of it stands at all of its orbits.
    first = (templates.element_class == torch.arange(3)) & templates.mask
    slope = (gradient.types * direction.types * first.unsqueeze(-1)).sum()
    length = templates.basis_length * templates.free
    slope += (gradient.free_coords * length * normal.free_coords).sum()
    slope += (gradient.cell * direction.cell).sum()
    assert torch.equal(gradient.types[0, 0], gradient.types[0, 1])
    assert (gradient.free_coords[~templates.free] == 0).all()
    step = 2e-3
    with torch.no_grad():
        ahead, behind = (log_likelihood(noisy.shifted(direction, scale)) for scale in (step, -step))
    assert slope.item() == pytest.approx(((ahead - behind) / (2 * step)).item(), rel=0.03)
    displaced = replace(steered, guidance=0.01)(noisy, sigma, templates, Step(**vars(noisy)))
    added = 0.01 * sigma[:, None] ** 2 * gradient.cell
    assert displaced.cell == pytest.approx(noisy.cell + added, abs=1e-6)


def test_steering_never_goes_further_than_noise_leaves_open():
    """However sharp the likelihood: else each step overshoots the one before it."""
    model = tiny_model()
    regression = Regression(
        log_sigma=torch.tensor([0.01, 1.0]).log(),
        weight=torch.ones(2, 32),
        bias=torch.zeros(2),
        variance=torch.full((2,), 1e-6),
    )
    crystals = random_crystals([62, 146])
    templates = crystals.templates
    clean, sigma = model.diffusion.encode(crystals), torch.tensor([0.2, 0.4])
    steered = ProbeSteering(model=model, regression=regression, **REQUEST)
    nothing = Step(types=0 * clean.types, free_coords=clean.free_coords, cell=0 * clean.cell)
    step = steered(clean, sigma, templates, nothing)
    coords = (step.free_coords * templates.basis_length).square().sum((1, 2))
    length = step.types.square().sum((1, 2)) + coords + step.cell.square().sum(-1)
    assert length.sqrt() == pytest.approx(MAX_STEP * sigma, rel=1e-3)


REQUEST = {"property": "room", "target": 1.5, "value": 1.5, "guidance": 2.0}


def test_samples_follow_the_target(probe, shipped):
    """Volume per atom of samples, which the network never sees as a condition here."""
    volumes = []
    for value in (11.0, 40.0):
        samples = sample(
            shipped,
            range(12),
            seed=0,
            options=SamplerOptions(steps=20),
            target=Target(
                constraints=parse_constraints(Request(num_atoms="2..4")),
                steering=steering(shipped, [probe], ask(probe, f"room={value}", guidance="2")),
            ),
        )
        crystals = samples.crystals
        cells = torch.linalg.det(crystals.lattice).abs()
        volumes.append((cells / crystals.num_atoms).log().mean().exp().item())
        assert samples.targets == [{"room": value}] * 12
    assert volumes[1] > 1.5 * volumes[0]


def test_guidance_0_leaves_samples_alone(probe, shipped):
    (idle,) = steering(shipped, [probe], ask(probe, "room=11", guidance="0"))
    templates = random_crystals([62]).templates
    step = draw_noise(templates, torch.Generator())
    assert idle(State(**vars(step)), torch.ones(1), templates, step) is step


def ask(probe, condition, guidance="1"):
    return parse_targets([condition], [guidance], [probe.definition])


def test_a_probe_that_is_no_better_than_the_mean_is_refused(shipped, labels):
    noise = torch.rand(150, generator=torch.Generator().manual_seed(5))
    useless = Labels(crystals=labels.crystals, values=noise, formulas=labels.formulas)
    with pytest.raises(ValueError, match="no better than the mean of its 150 labels: R2 is"):
        fit(shipped, useless, PropertyConfig(name="noise"), IDENTITY, seed=0)


def test_a_probe_needs_one_value(probe, shipped):
    with pytest.raises(ValueError, match="the probe of 'room' has no target"):
        steering(shipped, [probe], ())
    with pytest.raises(ValueError, match="expected room=<number>"):
        steering(shipped, [probe], ask(probe, "room=10..20"))


def test_a_probe_of_another_network_is_refused(probe):
    with pytest.raises(ValueError, match=r"this model has 32: fit the probe again"):
        steering(tiny_model(), [probe], ask(probe, "room=11"))


def test_steer_then_generate(tmp_path):
    """The two commands; every candidate has target, measured value and error."""
    folder = tmp_path / "model"
    tiny_model().save(folder)
    source = write_csv(tmp_path / "data.csv", {"weight": mass})
    asked = {"property": "weight", "out": tmp_path / "probe", "checkpoint": str(folder)}
    fitted = probe_fit(str(source), **asked, unit="u", num_workers=1)
    assert fitted.config.model.weights_sha256 == weights_hash(folder)
    with pytest.raises(ValueError, match="holds a probe"):
        probe_fit(str(source), **asked)
    generate(
        out=tmp_path / "results",
        num_samples=3,
        checkpoint=str(folder),
        probe=[tmp_path / "probe"],
        condition=["weight=60"],
        num_atoms="2",
        steps=4,
        relax=False,
        num_workers=0,
    )
    with (tmp_path / "results" / "candidates.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["target_weight"] for row in rows] == ["60"] * 3
    assert all(math.isfinite(float(row["predicted_weight"])) for row in rows)
    assert float(rows[0]["predicted_weight_error"]) > 0.5 * fitted.held_out.mae


def test_another_model_measures(tmp_path):
    """A band gap that only the regression of another model can tell."""
    folder, tuned = tmp_path / "model", tmp_path / "tuned"
    tiny_model().save(folder)
    tiny_model(seed=1).save(tuned)
    source = write_csv(tmp_path / "data.csv", {"band_gap": mass})
    predictor = folder / "predictors" / "band_gap"
    probe_fit(
        str(source), property="band_gap", out=predictor, checkpoint=str(folder), num_workers=1
    )
    asked = {"num_samples": 2, "num_atoms": "2", "steps": 3, "relax": False, "num_workers": 0}
    asked |= {"strength": 1.0}  # or samples equal known crystals, whose band gap is known
    asked |= {"checkpoint": str(tuned), "condition": ["band_gap=60"]}
    blind = generate(out=tmp_path / "blind", **asked)
    seen = generate(out=tmp_path / "seen", measured_by=str(folder), **asked)
    assert [one.outcomes[0].value for one in blind.candidates] == [None, None]
    assert all(math.isfinite(one.outcomes[0].value) for one in seen.candidates)
    found = [one.outcomes[0] for one in seen.candidates]
    assert {one.method for one in found} <= {"regression", "outside domain"}
    assert seen.hits[0].num_measured == [one.method for one in found].count("regression")
