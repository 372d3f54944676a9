import pytest
import torch

from mattergen_lite.properties import Property, crystal_system, parse_conditions

PROPERTIES = (
    Property(name="band_gap", unit="eV"),
    Property(name="bulk_modulus", unit="GPa", log=True, mean=2.0, std=0.5),
    Property(name="space_group", kind="category", num_categories=230),
    Property(name="crystal_system", kind="category", num_categories=7),
    Property(name="chemical_system", kind="elements"),
)


def test_targets_are_parsed_by_kind():
    texts = ["band_gap=2.5", "crystal_system=cubic", "space_group=62", "chemical_system=Li-P-S"]
    conditions = parse_conditions(texts, PROPERTIES)
    assert conditions.values["band_gap"].tolist() == [2.5]
    assert conditions.values["crystal_system"].tolist() == [7]
    assert conditions.values["space_group"].tolist() == [62]
    assert conditions.values["chemical_system"].nonzero()[:, 1].tolist() == [3, 15, 16]
    assert all(flag.all() for flag in conditions.present.values())
    assert parse_conditions([], PROPERTIES) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gap=2", "unknown property 'gap': this model knows band_gap, bulk_modulus"),
        ("band_gap", "not of the form property=value"),
        ("band_gap=wide", "band_gap=wide: expected a number in eV"),
        ("band_gap=nan", "expected a number"),
        ("space_group=231", "space_group=231: expected a whole number from 1 to 230"),
        ("chemical_system=Li-Xx", "unknown element 'Xx'"),
    ],
)
def test_mistakes_name_the_value(text, message):
    with pytest.raises(ValueError, match=message):
        parse_conditions([text], PROPERTIES)


def test_a_property_twice_is_an_error():
    with pytest.raises(ValueError, match="given twice"):
        parse_conditions(["band_gap=1", "band_gap=2"], PROPERTIES)


def test_logarithmic_properties_are_standardised_in_decades():
    found = PROPERTIES[1].normalise(torch.tensor([10.0, 100.0, 1000.0]))
    torch.testing.assert_close(found, torch.tensor([-2.0, 0.0, 2.0]))


def test_crystal_systems_change_at_the_right_space_groups():
    first = torch.tensor([1, 3, 16, 75, 143, 168, 195])
    last = torch.tensor([2, 15, 74, 142, 167, 194, 230])
    assert crystal_system(first).tolist() == crystal_system(last).tolist() == [1, 2, 3, 4, 5, 6, 7]
