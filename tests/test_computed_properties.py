"""Exact properties against known crystals and against the columns that models are trained with."""

import math

import pytest
import torch
from crystals import li3ps4, nacl, quartz

from mattergen_lite.data.crystals import CrystalDataset
from mattergen_lite.data.table import read_crystal_table
from mattergen_lite.io.tensors import to_structures
from mattergen_lite.scoring.computed_properties import is_within, measure
from mattergen_lite.scoring.energy.stability import Stability
from mattergen_lite.symmetry.crystal_systems import CRYSTAL_SYSTEMS


def test_known_crystals():
    salt = measure(nacl(), symprec=0.01)
    assert salt["density"] == pytest.approx(2.107, abs=0.01)  # g/cm³
    assert salt["volume_per_atom"] == pytest.approx(5.69**3 / 8)
    assert (salt["space_group"], salt["crystal_system"]) == (225, "cubic")
    assert salt["chemical_system"] == "Cl-Na"
    assert measure(quartz(), symprec=0.01)["crystal_system"] == "trigonal"
    assert measure(li3ps4(), symprec=0.01)["chemical_system"] == "Li-P-S"


def test_exact_properties_are_what_models_are_trained_with():
    data = CrystalDataset.from_table(read_crystal_table("embedded").slice(1000, 40))
    for row, structure in enumerate(to_structures(data.crystals(torch.arange(40)))):
        found = measure(structure, symprec=0.01)
        for name in ("density", "volume_per_atom", "hhi"):
            assert found[name] == pytest.approx(data.columns[name][row].item(), rel=2e-3), name
        system = CRYSTAL_SYSTEMS[int(data.columns["crystal_system"][row]) - 1]
        assert found["crystal_system"] == system


def test_energies_come_from_the_stability_stage():
    assert "e_above_hull" not in measure(nacl(), symprec=0.1)
    assert "e_above_hull" not in measure(nacl(), symprec=0.1, stability=Stability())
    judged = Stability(e_above_hull=0.02, formation_energy_per_atom=-2.1)
    found = measure(nacl(), symprec=0.1, stability=judged)
    assert (found["e_above_hull"], found["formation_energy_per_atom"]) == (0.02, -2.1)


def test_on_target_within_the_stated_tolerance():
    assert is_within("density", None, 2.0, 2.09)
    assert not is_within("density", None, 2.0, 2.11)
    assert is_within("e_above_hull", None, 0.0, 0.05)
    assert is_within("anything else", None, 100.0, 109.0)
    assert not is_within("anything else", None, 100.0, math.nan)
    assert is_within("anything else", None, 100.0, None) is None
    assert is_within("space_group", None, 225, 225)
    assert not is_within("space_group", None, 225, 224)
    assert is_within("chemical_system", None, "Li-P-S", "Li-P-S")
