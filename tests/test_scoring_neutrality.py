"""Verdicts and oxidation states of textbook compounds, and agreement with smact."""

import pytest
from crystals import li3ps4, nacl, rutile
from pymatgen.core import Composition, Lattice, Structure
from smact.screening import smact_validity

import mattergen_lite.scoring.criteria.neutrality as neutrality_module
from mattergen_lite.scoring.criteria.neutrality import (
    MAX_BOND_VALENCE_ATOMS,
    bond_valence_states,
    neutrality,
)


def far_apart(formula: str) -> Structure:
    """Atoms so far apart that bond valence fails and only the composition speaks."""
    symbols = [e.symbol for e, n in Composition(formula).items() for _ in range(int(n))]
    coords = [[i / len(symbols), 0, 0] for i in range(len(symbols))]
    return Structure(Lattice.orthorhombic(20 * len(symbols), 20, 20), symbols, coords)


@pytest.mark.parametrize(
    ("crystal", "states"),
    [(nacl, "Na+1 Cl-1"), (rutile, "Ti+4 O-2"), (li3ps4, "Li+1 P+5 S-2")],
)
def test_bond_valence_assigns_real_crystals(crystal, states):
    found = neutrality(crystal())
    assert found.charge_verdict == "neutral"
    assert found.oxidation_states == states
    assert found.oxidation_method == "bond valence"
    assert found.composition_valid
    assert found.smact_sets == ("smact14", "icsd16", "icsd24")


@pytest.mark.parametrize(
    ("structure", "states"),
    [
        (rutile(), "4 4 -2 -2 -2 -2"),
        (far_apart("CaF2"), "2 -1 -1"),
        (far_apart("Fe3O4"), ""),  # which iron is which the composition cannot say
        (far_apart("Na2Cl"), ""),
        (far_apart("CuZn"), "0 0"),
    ],
)
def test_every_site_has_its_state(structure, states):
    assert neutrality(structure).site_oxidation_states == states


@pytest.mark.parametrize(
    ("formula", "verdict", "states"),
    [
        ("LiFePO4", "neutral", "Li+1 Fe+2 P+5 O-2"),
        ("Fe3O4", "neutral", "Fe+2 Fe+3 O-2"),
        ("CuFeO2", "neutral", "Fe+3 Cu+1 O-2"),
        ("Na2Cl", "charged", ""),
        ("HBr35", "charged", ""),
        ("NaHe", "unassigned", ""),
        ("CuZn", "alloy", "Zn0 Cu0"),
        ("LaPm3", "alloy", "La0 Pm0"),
        ("Si", "element", "Si0"),
    ],
)
def test_composition_alone(formula, verdict, states):
    found = neutrality(far_apart(formula))
    assert found.charge_verdict == verdict
    assert found.oxidation_states == states
    assert found.oxidation_method == ("composition" if verdict == "neutral" else "none")


def test_benchmark_boolean():
    valid = {f: neutrality(far_apart(f)).composition_valid for f in ("NaCl", "CuZn", "Si", "Na2Cl")}
    assert valid == {"NaCl": True, "CuZn": True, "Si": True, "Na2Cl": False}


@pytest.mark.parametrize("formula", ["GaAs", "MoS2", "KMnO4", "BaTiO3", "TaCr2O6", "XeF2", "SiB4"])
def test_what_smact_accepts_is_neutral(formula):
    assert smact_validity(formula)
    assert neutrality(far_apart(formula)).charge_verdict == "neutral"


@pytest.mark.parametrize("formula", ["Mg3Si4", "TiF6", "MgAlB4", "RbLiO3"])
def test_what_is_charged_smact_refuses(formula):
    assert neutrality(far_apart(formula)).charge_verdict == "charged"
    assert not smact_validity(formula)


def test_large_cells_are_not_sent_to_bond_valence():
    large = nacl() * (2, 2, 2)
    assert len(large) > MAX_BOND_VALENCE_ATOMS
    assert bond_valence_states(large) is None
    assert neutrality(large).oxidation_states == "Na+1 Cl-1"


@pytest.mark.parametrize(
    "formula", ["NaCl", "Na2Cl", "Fe3O4", "LiFePO4", "BaTiO3", "CsPbI3", "K2SO5", "NaHeCl", "TiNO"]
)
def test_sums_agree_with_trying_every_combination(formula, monkeypatch):
    neutrality_module.smact_sets.cache_clear()
    expected = neutrality_module.smact_sets(formula)
    neutrality_module.smact_sets.cache_clear()
    monkeypatch.setattr(neutrality_module, "MAX_SMACT_COMBINATIONS", 0)
    assert neutrality_module.smact_sets(formula) == expected
    neutrality_module.smact_sets.cache_clear()


def test_twenty_different_elements_take_no_time():
    formula = "LiNaKRbCsMgCaSrBaTiVCrMnFeCoNiCuZnOF"
    assert neutrality_module.smact_sets(formula) == ()
    assert "smact14" in neutrality_module.smact_sets(formula.replace("OF", "O18F"))
