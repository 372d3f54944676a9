"""Embedded compounds by potentials: the stored energies, the page, and what is uncertain."""

import importlib
from pathlib import Path

import pandas as pd
import pytest
from pymatgen.core import Composition

from mattergen_lite.data.materials import known_compound, labelled_compounds
from mattergen_lite.scoring.energy.calibration import calibration, error_traits
from mattergen_lite.scoring.energy.potentials.sources import load_potential
from mattergen_lite.scoring.energy.stability import potential_energy

ROOT = Path(__file__).parents[1]


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "scripts")
    return lambda name: importlib.import_module(name)


@pytest.fixture(scope="module")
def table():
    return pd.read_parquet(ROOT / "datasets" / "known_energies.parquet")


def test_the_page_is_that_of_the_table_and_the_calibration(script, table):
    page = script("judge_known_compounds").page(table)
    assert page == (ROOT / "docs" / "reference" / "known_compounds.md").read_text(encoding="utf-8")


def test_stored_energies_are_those_of_the_potential(table):
    chgnet = load_potential("chgnet")
    rows = labelled_compounds().set_index("material_id", drop=False)
    for one in table[table.num_atoms <= 3].head(3).to_dict("records"):
        compound = known_compound(rows.loc[one["material_id"]].to_dict())
        energy = potential_energy(compound.structure, chgnet).energy_per_atom
        assert energy == pytest.approx(one["chgnet"], abs=1e-4)
        assert one["e_above_hull"] == pytest.approx(compound.e_above_hull)


@pytest.mark.parametrize("material_id", ["mp-22526", "mp-18921", "mp-19340", "mp-1180771"])
def test_what_potentials_miss_is_uncertain(script, table, material_id):
    """LiCoO2 and NaCoO2 are on the hull, and were +0.108 ± 0.012 and +0.092."""
    (row,) = table[table.material_id == material_id].index
    found = script("judge_known_compounds").judge(table.loc[[row]], "7net-l3i5").loc[row]
    assert table.e_above_hull[row] == pytest.approx(0, abs=1e-3)
    assert abs(found.error) < 2.5 * found["std"]


def test_known_crystals_have_the_error_model_of_the_table(script, table):
    fit_calibration = script("fit_calibration")
    shipped = calibration("7net-l3i5")
    labels = fit_calibration.known_labels(table, "7net-l3i5", fit_calibration.calibrations())
    fitted = fit_calibration.fit_error_models(*labels.arguments("known"))[""]
    for formula in ("LiCoO2", "NaCl", "TiNi"):
        composition, traits = Composition(formula), error_traits(0.02, 0.01)
        again, stored = fitted.at(composition, traits), shipped.known.at(composition, traits)
        assert again.location == pytest.approx(stored.location, abs=1e-3)
        assert again.scale == pytest.approx(stored.scale, rel=0.02)


def test_damaged_structures_are_no_errors_of_potentials(script):
    explain = script("judge_known_compounds").explain
    row = {"formula": "NaCl", "max_force": 0.1, "error": 0.2}
    row |= {"witness_error": 0.2, "witness_std": 0.02}
    for change, kind in (
        ({"formation_energy_source": "mp20"}, "both potentials"),
        ({"formation_energy_source": "legacy_converted"}, "energy in the table"),
        ({"formation_energy_source": "mp20", "witness_error": 0.01}, "potential"),
        ({"formation_energy_source": "mp20", "max_force": 40.0}, "damaged structure"),
        ({"formation_energy_source": "mp20", "formula": "PaTe2Au", "error": 0.21}, "second anion"),
    ):
        assert explain(pd.Series(row | change)) == kind
