"""Templates that have yielded more are drawn more often."""

from collections import Counter

import numpy as np
import pytest
import torch

from mattergen_lite.config import ModelConfig
from mattergen_lite.options.request import Request
from mattergen_lite.partial_crystals.choice import partial_crystal_sampler
from mattergen_lite.partial_crystals.library import template_library
from mattergen_lite.partial_crystals.success_rates import (
    PRIOR_SAMPLES,
    TemplateSuccessRates,
    template_success_rates,
)
from mattergen_lite.request.base import Constraints
from mattergen_lite.request.constraints import parse_constraints
from mattergen_lite.sampling.noise import sample_rngs

CUBIC = (221, (1, 1, 3))
ROCK_SALT = (225, (1, 1))


def test_few_samples_move_a_yield_little_and_many_move_it_far() -> None:
    counts = {CUBIC: (1000, 500.0), ROCK_SALT: (1, 1.0), (1, (1,)): (999, 0.0)}
    yields = TemplateSuccessRates.from_counts(counts)
    assert yields.usual == pytest.approx(501 / 2000)
    assert yields.of(*CUBIC) == pytest.approx(0.5, abs=0.002)
    share = (1 + PRIOR_SAMPLES * yields.usual) / (1 + PRIOR_SAMPLES)
    assert yields.of(*ROCK_SALT) == pytest.approx(share)
    assert yields.of(2, (2, 2)) == yields.usual


def test_shipped_yields_are_shares_and_tell_templates_apart() -> None:
    yields = template_success_rates()
    values = np.array(list(yields.known.values()))
    assert (values > 0).all()
    assert (values < 1).all()
    # nearly every binary rock salt is known, most double perovskites are not
    assert yields.of(*ROCK_SALT) < yields.usual / 2
    assert yields.of(14, (2, 2, 4, 12)) > 1.5 * yields.usual


@pytest.mark.parametrize("bias", [1.0, 3.0])
def test_draws_are_in_proportion_to_yield_to_the_bias(bias: float) -> None:
    limits = ModelConfig()
    constraints = parse_constraints(Request(num_atoms="2..5", space_group="cubic"))
    source = partial_crystal_sampler(constraints, limits, bias, frameworks="known")
    library = template_library(limits.max_orbits, limits.max_atoms)
    weights = library.yields[source.rows] ** bias
    is_rock_salt = np.array(
        [
            library.space_groups[row] == 225 and library.class_sizes[row] == (1, 1)
            for row in source.rows
        ]
    )
    expected = weights[is_rock_salt].sum() / weights.sum()
    count = 3000
    drawn = Counter()
    for rng in sample_rngs(0, range(count)):
        orbits = source.draw(rng).orbits
        drawn[orbits.space_group == 225 and orbits.multiplicities.tolist() == [1, 1]] += 1
    error = (expected * (1 - expected) / count) ** 0.5
    assert drawn[True] / count == pytest.approx(expected, abs=4 * error)


def test_without_a_bias_known_crystals_are_drawn_alike() -> None:
    source = partial_crystal_sampler(Constraints(), ModelConfig(), frameworks="known")
    drawn = [source.draw(rng).orbits for rng in sample_rngs(0, range(200))]
    rows = [
        int(torch.randint(len(source.rows), (1,), generator=rng))
        for rng in sample_rngs(0, range(200))
    ]
    library = source.library
    assert [one.space_group for one in drawn] == library.space_groups[source.rows[rows]].tolist()


def test_elements_that_are_asked_for_leave_the_bias_out() -> None:
    constraints = parse_constraints(Request(chemical_system="Na-Cl"))
    plain, biased = (
        partial_crystal_sampler(constraints, ModelConfig(), bias, frameworks="known")
        for bias in (0.0, 2.0)
    )
    for one, other in zip(sample_rngs(0, range(20)), sample_rngs(0, range(20)), strict=True):
        assert plain.draw(one).orbits.space_group == biased.draw(other).orbits.space_group
