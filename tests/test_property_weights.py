"""Samples that are asked for a property start from known crystals that are close to it."""

import numpy as np
import pytest
import torch
from models import tiny_model

from mattergen_lite.config import ModelConfig
from mattergen_lite.options.request import Request
from mattergen_lite.options.sampler import SamplerOptions
from mattergen_lite.partial_crystals.choice import partial_crystal_sampler
from mattergen_lite.partial_crystals.library import template_library
from mattergen_lite.partial_crystals.property_weights import WEIGHT_OF_UNKNOWN, WIDTH, closeness
from mattergen_lite.properties import Property
from mattergen_lite.request.base import Constraints
from mattergen_lite.request.constraints import parse_constraints
from mattergen_lite.request.targets import parse_targets
from mattergen_lite.sampling.noise import sample_rngs
from mattergen_lite.sampling.sampler import Target, sample

GAP = Property(name="band_gap", unit="eV", mean=0.6, std=1.3, minimum=0.0, maximum=18.0)
MODULUS = Property(name="bulk_modulus", unit="GPa", mean=1.9, std=0.4, log=True)
HHI = Property(name="hhi", mean=4000.0, std=2000.0)
NAN = float("nan")


def weights(text, prop, values):
    (target,) = parse_targets([text], [], [prop])
    return closeness(torch.tensor(values), target)


@pytest.mark.parametrize("asked", ["band_gap=2..3", "band_gap=2.5"])
def test_weights_fall_by_e_over_a_width_and_unknown_ones_count_little(asked: str) -> None:
    edge = 3.0 if ".." in asked else 2.5
    far = edge + WIDTH * GAP.std
    inside, outside, *unknown = weights(asked, GAP, [2.5, far, NAN, NAN, NAN]).tolist()
    assert inside / outside == pytest.approx(np.e, rel=1e-5)
    assert (inside + outside) / 2 == pytest.approx(1.0)
    assert sum(unknown) == pytest.approx(WEIGHT_OF_UNKNOWN * (inside + outside))


def test_distances_are_on_the_scale_of_the_property() -> None:
    low, middle, high = weights("bulk_modulus=100", MODULUS, [50.0, 100.0, 200.0]).tolist()
    assert low == pytest.approx(high)  # factors of two
    assert middle > low


@pytest.mark.parametrize(("asked", "best"), [("band_gap>4", 2), ("band_gap<1", 0)])
def test_all_beyond_a_bound_are_as_good(asked: str, best: int) -> None:
    found = weights(asked, GAP, [0.0, 2.0, 5.0, 9.0, 0.5]).tolist()
    equal = 3 if best == 2 else 4
    assert found[best] == found[equal] == max(found)
    assert found[1] < found[best]


def test_a_target_beyond_all_that_is_known_still_has_crystals() -> None:
    found = weights("band_gap=1e6", GAP, [0.0, 17.0])
    assert torch.isfinite(found).all()
    assert found[1] > found[0]


def test_no_weight_is_zero_however_narrow_the_property() -> None:
    narrow = Property(name="band_gap", unit="eV", mean=0.6, std=1e-4)
    assert (weights("band_gap=3", narrow, [3.0, 3.1, 9.0]) > 0).all()


def test_nothing_known_prefers_nothing() -> None:
    assert weights("band_gap=3", GAP, [NAN, NAN]).tolist() == [1.0, 1.0]


@pytest.fixture(scope="module")
def tiny():
    return tiny_model()


def drawn_gaps(targets, constraints=None, count=400):
    limits = ModelConfig()
    source = partial_crystal_sampler(
        constraints or Constraints(), limits, targets=targets, frameworks="known"
    )
    library = template_library(limits.max_orbits, limits.max_atoms)
    gap_of = {}
    for row in source.rows:
        orbits = library.crystals.orbits(int(row))
        key = orbits.lattice.tobytes(), orbits.frac_coords.tobytes()
        gap_of[key] = float(library.crystals.columns["band_gap"][row])
    partial_crystals = [source.draw(rng).orbits for rng in sample_rngs(0, range(count))]
    return np.array(
        [gap_of[one.lattice.tobytes(), one.frac_coords.tobytes()] for one in partial_crystals]
    )


def test_insulators_are_drawn_where_a_gap_is_asked_for() -> None:
    cubic = parse_constraints(Request(space_group="cubic", num_atoms="2..10"))
    plain, asked = (
        drawn_gaps(parse_targets(texts, [], [GAP]), cubic) for texts in ([], ["band_gap=3..5"])
    )
    share = np.mean((plain >= 3) & (plain <= 5))
    assert share < 0.1
    assert np.mean((asked >= 3) & (asked <= 5)) > max(5 * share, 0.3)


def test_crystals_are_also_close_where_elements_are_asked_for() -> None:
    constraints = parse_constraints(Request(chemical_system="Na-S"))
    plain, asked = (
        drawn_gaps(parse_targets(texts, [], [GAP]), constraints) for texts in ([], ["band_gap=2.5"])
    )
    assert np.nanmean(np.abs(asked - 2.5)) < 0.8 * np.nanmean(np.abs(plain - 2.5))


def test_several_targets_multiply() -> None:
    limits = ModelConfig()
    library = template_library(limits.max_orbits, limits.max_atoms)
    targets = [*parse_targets(["band_gap=3"], [], [GAP]), *parse_targets(["hhi<2000"], [], [HHI])]
    each = [library.closeness([target]) for target in targets]
    assert library.closeness(targets) == pytest.approx(each[0] * each[1])


def test_a_guidance_of_zero_prefers_nothing(tiny) -> None:
    options = SamplerOptions(steps=2)
    plain, ignored = (
        sample(tiny, range(4), seed=0, options=options, target=Target(properties=targets))
        for targets in ((), parse_targets(["band_gap=3"], ["0"], tiny.properties))
    )
    assert torch.equal(plain.crystals.atomic_numbers, ignored.crystals.atomic_numbers)
