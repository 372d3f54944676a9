import torch

from mattergen_lite.properties import Conditions, Property, crystal_system_index

BULK_MODULUS = Property(name="bulk_modulus", unit="GPa", log=True, mean=2.0, std=0.5)


def test_logarithmic_properties_are_standardised_in_decades():
    found = BULK_MODULUS.normalise(torch.tensor([10.0, 100.0, 1000.0]))
    torch.testing.assert_close(found, torch.tensor([-2.0, 0.0, 2.0]))
    restored = BULK_MODULUS.denormalise(found)
    torch.testing.assert_close(restored, torch.tensor([10.0, 100.0, 1000.0]))


def test_predictions_are_not_negative_where_nothing_ever_was():
    gap = Property(name="band_gap", minimum=0.0)
    energy = Property(name="formation_energy", minimum=-4.0)
    values = torch.tensor([-0.4, 0.3])
    torch.testing.assert_close(gap.within_reason(values), torch.tensor([0.0, 0.3]))
    assert energy.within_reason(values) is values
    assert Property(name="anything").within_reason(values) is values


def test_conditions_on_some_properties_only():
    both = {"band_gap": torch.ones(2), "density": torch.ones(2)}
    flags = {name: torch.ones(2, dtype=torch.bool) for name in both}
    only = Conditions(values=both, present=flags).only(["density"])
    assert list(only.values) == list(only.present) == ["density"]


def test_crystal_systems_change_at_the_right_space_groups():
    first = torch.tensor([1, 3, 16, 75, 143, 168, 195])
    last = torch.tensor([2, 15, 74, 142, 167, 194, 230])
    assert (
        crystal_system_index(first).tolist()
        == crystal_system_index(last).tolist()
        == [1, 2, 3, 4, 5, 6, 7]
    )
