"""What a user types: identifiers, formulae, space groups and sets of elements, in any case."""

import pyarrow as pa
import pytest
import spglib
from pymatgen.core import Structure

from mattergen_lite.chemistry.elements import element_groups, parse_elements, parse_system
from mattergen_lite.commands.data import data_elements, data_show
from mattergen_lite.data.table import EMBEDDED, UNITS, read_crystal_table
from mattergen_lite.hub import find_checkpoint, read_config
from mattergen_lite.options.request import Request
from mattergen_lite.properties import Property
from mattergen_lite.request.constraints import parse_constraints
from mattergen_lite.request.space_groups import parse_space_group
from mattergen_lite.request.targets import parse_targets
from mattergen_lite.symmetry.space_groups import space_group_number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("fm-3m", 225),
        ("FM-3M", 225),
        ("P6_3/mmc", 194),
        ("p63/mmc", 194),
        ("P2_1/n", 14),
        ("F m -3 m", 225),
        ("62", 62),
    ],
)
def test_space_groups_by_symbol(text, number):
    assert space_group_number(text) == number
    assert parse_space_group(text).space_groups == {number}
    prop = Property(name="space_group", kind="category", num_categories=230)
    (target,) = parse_targets([f"space_group={text}"], [], [prop])
    assert target.low == number


def test_every_symbol_of_every_setting_is_of_one_group():
    for hall_number in range(1, 531):
        group = spglib.get_spacegroup_type(hall_number)
        for symbol in (group.international_short, group.international_full):
            assert space_group_number(symbol) == group.number
            assert space_group_number(symbol.upper()) == group.number


@pytest.mark.parametrize("text", ["231", "0", "Fm-4m", "", "cubic-ish", "9" * 5000])
def test_what_is_no_space_group_is_refused(text):
    with pytest.raises(ValueError, match=r"space.group"):
        parse_space_group(text)


def test_systems_and_elements_in_any_case():
    assert parse_space_group("CUBIC").space_groups == parse_space_group("cubic").space_groups
    assert parse_space_group("NONE").is_free
    assert parse_elements("TOXIC") == element_groups()["toxic"]
    assert parse_elements("li,P, s") == {"Li", "P", "S"}
    assert parse_system("li-p-S") == ("Li", "P", "S")
    assert parse_constraints(Request(chemical_system="LI-p-s")).needed == {"Li", "P", "S"}
    with pytest.raises(ValueError, match="unknown element 'Xx'"):
        parse_elements("Li,Xx")
    with pytest.raises(ValueError, match="unknown element 'xx'"):
        parse_system("Li-xx")


def test_groups_of_elements_are_listed():
    text = data_elements()
    for name, members in element_groups().items():
        assert name in text
        assert all(symbol in text for symbol in members)


@pytest.mark.parametrize(
    ("file", "cell", "num_atoms"),
    [
        ("salt.cif", "conventional", 8),
        ("salt.cif", "primitive", 2),
        ("salt.vasp", "conventional", 8),
        ("POSCAR", "primitive", 2),
        ("salt.json", "conventional", 8),
    ],
)
def test_a_known_crystal_as_a_file(tmp_path, file, cell, num_atoms):
    crystal = data_show("mp-22862", out=tmp_path / file, cell=cell)
    assert crystal.facts["formula"] == "NaCl"
    assert crystal.facts["space_group"] == 225
    assert crystal.values["band_gap"] > 4
    assert "space_group                 Fm-3m (225)" in crystal.text()
    assert f"\n-> {tmp_path / file}" in crystal.text()
    written = Structure.from_file(tmp_path / file)
    assert len(written) == num_atoms
    assert written.get_space_group_info()[1] == 225


def test_units_are_those_of_the_model():
    model = read_config(find_checkpoint("mp"))
    units = {one.name: one.unit for one in model.properties}
    assert {name: units[name] for name in UNITS if name in units} == {
        name: unit for name, unit in UNITS.items() if name in units
    }
    floats = {
        one.name for one in read_crystal_table(EMBEDDED).schema if pa.types.is_floating(one.type)
    }
    assert floats == UNITS.keys()


def test_a_formula_is_its_crystal_of_lowest_energy():
    crystal = data_show("TiO2")
    assert len(crystal.others) > 3
    energies = [data_show(name).values.get("e_above_hull") for name in crystal.others[:2]]
    assert [crystal.values["e_above_hull"], *energies] == sorted(
        [crystal.values["e_above_hull"], *energies]
    )


@pytest.mark.parametrize(
    ("name", "out", "message"),
    [
        ("mp-0", None, "'mp-0' is not in the embedded table"),
        ("NaCl", "salt.xyzzy", "unknown format, expected a name that ends in .cif"),
    ],
)
def test_what_cannot_be_shown(tmp_path, name, out, message):
    with pytest.raises(ValueError, match=message):
        data_show(name, out=out and tmp_path / out)
