"""Hit rates of samples, and base rates against counts made another way."""

import numpy as np
import pytest

from mattergen_lite.data.crystals import embedded_crystals
from mattergen_lite.data.table import EMBEDDED, read_crystal_table
from mattergen_lite.io.records import LearnedValue
from mattergen_lite.properties import Property
from mattergen_lite.request.targets import parse_targets
from mattergen_lite.scoring.candidate import Candidate
from mattergen_lite.scoring.metrics.hits import EVERY, hit_rates
from mattergen_lite.scoring.property_result import PropertyResult
from mattergen_lite.scoring.score import Score

PROPERTIES = (
    Property(name="band_gap", unit="eV"),
    Property(name="bulk_modulus", unit="GPa", log=True),
    Property(name="space_group", kind="category", num_categories=230),
    Property(name="crystal_system", kind="category", num_categories=7),
    Property(name="chemical_system", kind="elements"),
    Property(name="hardness"),
)


@pytest.fixture(scope="module")
def training():
    return embedded_crystals("train")


@pytest.fixture(scope="module")
def columns():
    """The training split as pandas reads it."""
    table = read_crystal_table(EMBEDDED).select(
        ["split", "formula", "band_gap", "bulk_modulus", "space_group", "atomic_numbers"]
    )
    return table.to_pandas().query("split == 'train'")


def rates(training, *conditions, candidates=()):
    return hit_rates(candidates, parse_targets(conditions, [], PROPERTIES), training)


def base_rate(training, condition):
    (found,) = rates(training, condition)
    return found.base_rate


def test_base_rates_are_those_of_the_training_split(training, columns):
    gap = columns["band_gap"].dropna().to_numpy()
    assert base_rate(training, "band_gap=2") == pytest.approx((np.abs(gap - 2) <= 0.3).mean())
    assert base_rate(training, "band_gap=1.5..2.5") == pytest.approx(
        ((gap >= 1.5) & (gap <= 2.5)).mean()
    )
    modulus = columns["bulk_modulus"].dropna().to_numpy()
    assert base_rate(training, "bulk_modulus>300") == pytest.approx((modulus >= 300).mean())
    groups = columns["space_group"].to_numpy()
    assert base_rate(training, "space_group=62") == pytest.approx((groups == 62).mean())
    assert base_rate(training, "crystal_system=cubic") == pytest.approx((groups >= 195).mean())
    oxides = columns["atomic_numbers"].map(lambda numbers: {*numbers} == {22, 8}).mean()
    assert oxides > 0
    assert base_rate(training, "chemical_system=Ti-O") == pytest.approx(oxides)


def test_a_property_that_nobody_measured_has_no_base_rate(training):
    (found,) = rates(training, "hardness=3")
    assert found.base_rate is None
    assert found.rate is None
    assert found.text().startswith("hardness on target: 0 of 0 measured or predicted (unknown); ")


def outcome(name, on_target):
    return PropertyResult(
        property=name, target=1.0, value=None, method="", error=None, on_target=on_target
    )


def test_samples_count_where_they_are_measured(training, columns):
    """Three samples: both met; one met; the gap of the third is not measured."""
    candidates = [
        Candidate(
            raw=Score(name="x"),
            structure=None,
            outcomes=(outcome("band_gap", gap), outcome("space_group", group)),
        )
        for gap, group in ((True, True), (True, False), (None, True))
    ]
    gap, group, every = rates(training, "band_gap=1..2", "space_group=225", candidates=candidates)
    assert (gap.num_hits, gap.num_measured) == (2, 2)
    assert (group.num_hits, group.num_measured) == (2, 3)
    assert (every.target, every.num_hits, every.num_measured) == (EVERY, 1, 2)
    known = columns.dropna(subset="band_gap")
    both = known["band_gap"].between(1, 2) & (known["space_group"] == 225)
    assert every.base_rate == pytest.approx(both.mean())


def confirmed(guide, value, method="network", inside=True):
    return Candidate(
        raw=Score(name="x"),
        structure=None,
        outcomes=(
            PropertyResult(
                property="band_gap",
                target=3.0,
                value=value,
                method=method,
                error=None,
                on_target=2.5 <= value <= 3.5,
                bounds=(2.5, 3.5),
                guide=LearnedValue(guide, 0.5, inside),
            ),
        ),
    )


def test_hits_of_guide_and_confirmation_are_counted_on_the_same_samples(training):
    """The guide has the first two on target, the network the second and third; one is neither."""
    samples = [
        confirmed(3.1, 1.0),
        confirmed(3.0, 2.9),
        confirmed(1.0, 3.2, method="DFT"),
        confirmed(3.0, 0.0, inside=False),
        confirmed(3.0, 3.0, method="regression"),  # not relaxed: no confirmation
    ]
    (found,) = rates(training, "band_gap=2.5..3.5", candidates=samples)
    assert (found.num_measured, found.num_hits) == (5, 3)
    assert (found.num_confirmed, found.num_confirmed_hits, found.num_guide_hits) == (4, 2, 2)
    assert "of 4 that are confirmed or refuted 2 are, by the guide alone 2" in found.text()
