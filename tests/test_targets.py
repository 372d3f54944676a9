"""Targets: what text means, and that samples draw their values from the stated distributions."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from mattergen_lite.options.texts import DEFAULT_GUIDANCE, parse_range
from mattergen_lite.properties import Property
from mattergen_lite.request.targets import (
    draw_conditions,
    parse_targets,
    target_cells,
    truncated_normal,
)
from mattergen_lite.sampling.noise import sample_rngs

PROPERTIES = (
    Property(name="band_gap", unit="eV", mean=1.0, std=1.5, minimum=0.0, maximum=9.0),
    Property(name="bulk_modulus", unit="GPa", log=True, mean=2.0, std=0.5, maximum=500.0),
    Property(name="space_group", kind="category", num_categories=230),
    Property(name="crystal_system", kind="category", num_categories=7),
    Property(name="chemical_system", kind="elements"),
)


def parse(*conditions, guidance=()):
    return parse_targets(conditions, guidance, PROPERTIES)


def drawn(text: str, count: int = 2000) -> torch.Tensor:
    (target,) = parse(text)
    conditions = draw_conditions([target], sample_rngs(0, range(count)))
    return conditions.values[target.definition.name]


def test_single_values_are_parsed_by_kind():
    texts = ["band_gap=2.5", "crystal_system=cubic", "space_group=62", "chemical_system=S-Li-P"]
    targets = parse(*texts)
    conditions = draw_conditions(targets, sample_rngs(0, range(2)))
    assert conditions.values["band_gap"].tolist() == [2.5, 2.5]
    assert conditions.values["crystal_system"].tolist() == [7, 7]
    assert conditions.values["space_group"].tolist() == [62, 62]
    assert conditions.values["chemical_system"][1].nonzero().flatten().tolist() == [3, 15, 16]
    assert all(flag.all() for flag in conditions.present.values())
    assert target_cells(targets, conditions)[0] == {
        "band_gap": 2.5,
        "crystal_system": "cubic",
        "space_group": 62,
        "chemical_system": "Li-P-S",
    }
    assert draw_conditions([], sample_rngs(0, range(2))) is None
    assert target_cells([], None) == []


def test_a_single_value_takes_no_random_number():
    (rng,) = sample_rngs(0, [0])
    before = rng.get_state()
    draw_conditions(parse("band_gap=2.5", "space_group=62"), [rng])
    assert torch.equal(rng.get_state(), before)


def test_values_between_two_bounds_are_uniform():
    values = drawn("band_gap=1.5..2.5")
    assert stats.kstest(values.numpy(), stats.uniform(1.5, 1.0).cdf).pvalue > 0.01
    logarithms = drawn("bulk_modulus=10..1000").log10()
    assert stats.kstest(logarithms.numpy(), stats.uniform(1.0, 2.0).cdf).pvalue > 0.01


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("band_gap>2", 2 / 3, 16 / 3),  # 2 to 9 eV in standard deviations from the mean
        ("band_gap>=6", 10 / 3, 16 / 3),
        ("band_gap<2", -2 / 3, 2 / 3),  # not below the 0 eV of the training set
        ("band_gap>12", 22 / 3, math.inf),  # beyond anything seen
        ("band_gap<-1", -math.inf, -4 / 3),
    ],
)
def test_values_beyond_one_bound_are_a_truncated_normal(text, low, high):
    standard = (drawn(text).double().numpy() - 1.0) / 1.5
    assert stats.kstest(standard, stats.truncnorm(low, high).cdf).pvalue > 0.01
    assert standard.min() >= low - 1e-6
    assert standard.max() <= high + 1e-6


def test_a_bound_on_a_logarithmic_property_is_taken_in_decades():
    values = drawn("bulk_modulus>300")
    assert values.min() >= 300
    assert values.max() <= 500
    decades = (values.double().log10().numpy() - 2.0) / 0.5
    low, high = (np.log10([300, 500]) - 2) / 0.5
    assert stats.kstest(decades, stats.truncnorm(low, high).cdf).pvalue > 0.01


def test_quantiles_of_far_tails_stay_exact():
    for quantile in (0.0, 0.3, 0.999):
        expected = stats.truncnorm(12, math.inf).ppf(quantile)
        assert truncated_normal(12.0, math.inf, quantile) == pytest.approx(expected, rel=1e-6)
        assert truncated_normal(-math.inf, -12.0, 1 - quantile) == pytest.approx(-expected, 1e-6)
    assert truncated_normal(50.0, math.inf, 0.5) == 50.0


def test_guidance_is_one_for_all_or_one_for_each():
    def weights(*guidance):
        targets = parse("band_gap=2", "space_group=225", guidance=guidance)
        return {target.definition.name: target.guidance for target in targets}

    assert weights() == {"band_gap": DEFAULT_GUIDANCE, "space_group": DEFAULT_GUIDANCE}
    assert weights("2") == {"band_gap": 2.0, "space_group": 2.0}
    assert weights("band_gap=3", "2") == {"band_gap": 3.0, "space_group": 2.0}
    assert weights("band_gap=2") == {"band_gap": 2.0, "space_group": DEFAULT_GUIDANCE}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gap=2", "unknown property 'gap': this model knows band_gap, bulk_modulus"),
        ("band_gap", "not of the form property=value"),
        ("band_gap=wide", "band_gap=wide: expected a number in eV"),
        ("band_gap=nan", "expected a number"),
        ("band_gap>1..2", "band_gap>1..2: expected a number in eV, or a range"),
        ("band_gap=2..1", "band_gap=2..1: the range ends before it begins"),
        ("band_gap=2..", "band_gap=2..: expected a number"),
        ("space_group=231", "unknown space group '231': expected a number from 1 to 230"),
        ("space_group>200", "space_group has no order"),
        ("chemical_system=Li-Xx", "unknown element 'Xx'"),
    ],
)
def test_mistakes_name_the_value(text, message):
    with pytest.raises(ValueError, match=message):
        parse(text)


@pytest.mark.parametrize(
    ("guidance", "message"),
    [
        (["much"], "guidance 'nan': expected a weight"),
        (["band_gap=-1"], "guidance 'band_gap=-1': expected a weight of 0 to 100"),
        (["nan"], "expected a weight"),
        (["space_group=2"], "guidance of 'space_group' without a condition"),
        (["2", "3"], "guidance '2' is given twice"),
    ],
)
def test_mistaken_guidance_names_the_value(guidance, message):
    with pytest.raises(ValueError, match=message):
        parse("band_gap=1", guidance=guidance)


def test_a_property_twice_is_an_error():
    with pytest.raises(ValueError, match="given twice"):
        parse("band_gap=1", "band_gap>2")


def test_whole_number_ranges():
    assert parse_range("8") == (8, 8)
    assert parse_range("4..12") == (4, 12)
    assert parse_range(None) is None
    with pytest.raises(ValueError, match="'4-12' is no whole number"):
        parse_range("4-12")
