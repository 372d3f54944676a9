"""Occupancy and charge are refused wherever ASE, pymatgen and their files state them."""

import json

import numpy as np
import pytest
from ase import Atoms
from ase.io import read, write
from pymatgen.core import Lattice, Structure

from mattergen_lite.io.objects import records_of
from mattergen_lite.io.read import read_structures

LATTICE = 'Lattice="4.2 0 0 0 4.2 0 0 0 4.2"'
FULL = {"0": {"Ba": 1}, "1": {"Se": 1.0}}
HALF = {"0": {"Ba": 0.5, "Sr": 0.5}, "1": {"Se": 1}}


def baryte():
    return Structure(Lattice.cubic(4.2), ["Ba", "Se"], [[0, 0, 0], [0.5, 0.5, 0.5]])


def atoms(**info):
    places = [[0, 0, 0], [0.5, 0.5, 0.5]]
    return Atoms("BaSe", cell=[4.2] * 3, scaled_positions=places, pbc=True, info=info)


STATED = [
    ({}, None),
    ({"occupancy": FULL}, None),
    ({"charge": 0}, None),
    ({"charge": None}, None),
    ({"occupancy": HALF}, "occupancy"),
    ({"occupancy": {"0": {"Ba": 0.9}}}, "occupancy"),
    ({"occupancy": 0.5}, "occupancy"),
    ({"charge": -1}, "charge"),
    ({"charge": np.float64(2)}, "charge"),
    ({"total_charge": 1}, "total_charge"),
]


def verdict(record):
    """The first word of the error; None for a crystal."""
    if record.error is None:
        assert record.structure.composition.formula == "Ba1 Se1"
        return None
    return record.error.split()[0]


@pytest.mark.parametrize(("info", "expected"), STATED)
def test_every_reader_has_one_answer(info, expected, tmp_path):
    """ASE's info, its extended XYZ, pymatgen's properties and their JSON, a row of a table."""
    crystal = baryte()
    crystal.properties = dict(info)
    plain = {name: float(v) if isinstance(v, np.floating) else v for name, v in info.items()}
    (tmp_path / "a.json").write_text(json.dumps(baryte().as_dict() | {"properties": plain}))
    row = {"structure": baryte().as_dict(), **plain}
    (tmp_path / "b.json").write_text(json.dumps(row))
    write(tmp_path / "c.extxyz", atoms(**{k: v for k, v in info.items() if v is not None}))
    files = [tmp_path / name for name in ("a.json", "b.json", "c.extxyz")]
    records = records_of([atoms(**info), crystal, crystal.as_dict(), *files])
    assert [verdict(record) for record in records] == [expected] * 6


@pytest.mark.parametrize("charge", [3, -1.0, "2"])
def test_the_charge_of_a_pymatgen_structure(charge, tmp_path):
    charged = Structure(*_parts(), charge=float(charge))
    data = baryte().as_dict() | {"charge": charge}
    (tmp_path / "a.json").write_text(json.dumps(data))
    for record in (*records_of([charged, data]), *read_structures(tmp_path / "a.json")):
        assert verdict(record) == "charge"


def _parts():
    crystal = baryte()
    return crystal.lattice, crystal.species, crystal.frac_coords


@pytest.mark.parametrize(
    ("charges", "expected"),
    [
        ([2, -2], None),
        ([1.3, -1.28], None),
        ([1, 0], "initial_charges"),
        ([0, -2], "initial_charges"),
    ],
)
def test_initial_charges_of_ase_leave_the_cell_neutral(charges, expected, tmp_path):
    charged = atoms()
    charged.set_initial_charges(charges)
    write(tmp_path / "a.extxyz", charged)
    assert verdict(records_of(charged)[0]) == expected
    assert verdict(next(read_structures(tmp_path / "a.extxyz"))) == expected


def test_oxidation_states_are_no_charge():
    crystal = baryte()
    crystal.add_oxidation_state_by_element({"Ba": 2, "Se": -2})
    assert [verdict(record) for record in records_of([crystal, crystal.as_dict()])] == [None, None]


def test_what_ase_reads_from_a_disordered_cif_is_refused_as_the_cif_is(tmp_path):
    """ASE keeps the first of the elements that share a site."""
    half = Structure(Lattice.cubic(4.2), [{"Ba": 0.5, "Sr": 0.5}, "Se"], baryte().frac_coords)
    half.to(str(tmp_path / "half.cif"))
    found = read(tmp_path / "half.cif")
    assert found.get_chemical_formula() in ("BaSe", "SeSr")
    write(tmp_path / "half.extxyz", found)
    records = [*records_of(found), *read_structures(tmp_path)]
    assert [record.error is None for record in records] == [False] * 3


def test_occupancies_of_single_atoms(tmp_path):
    disordered = atoms()
    disordered.set_array("occupancy", np.array([1.0, 0.7]))
    write(tmp_path / "a.extxyz", disordered)
    for record in (*records_of(disordered), *read_structures(tmp_path / "a.extxyz")):
        assert verdict(record) == "occupancy"


# What else a user passes


def test_dictionaries_of_pymatgen_are_structures():
    for given in (baryte().as_dict(), [baryte().as_dict()], {"a": baryte().as_dict()}):
        assert [verdict(record) for record in records_of(given)] == [None]


@pytest.mark.parametrize("given", [5, [1], None, b"text", {"a": {"b": 1}}, Lattice.cubic(4)])
def test_what_is_no_structure_is_named(given):
    with pytest.raises(ValueError, match=r"structure 0 is of type \w+: expected pymatgen"):
        records_of(given)


def test_a_data_frame_is_told_from_a_folder():
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({"structure": [baryte()], "gap": [1.0]})
    with pytest.raises(ValueError, match=r"of type DataFrame \(pass its column of structures"):
        records_of(table)
    assert [verdict(record) for record in records_of(table["structure"])] == [None]
