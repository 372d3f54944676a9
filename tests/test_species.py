"""Whole symbols only: what a site is called, in every format, is its element or is refused.

The right values are those of the CIF core dictionary (`_atom_site_label_component_0`,
`_atom_type_symbol`), of VASP's POTCAR titles and of ASE's extended XYZ; where these leave a doubt,
the composition that the file declares.
"""

import json

import pytest
from pymatgen.core import Lattice, Structure

from mattergen_lite.io.formats.cif import parse_cif
from mattergen_lite.io.formats.extxyz import parse_extxyz
from mattergen_lite.io.formats.poscar import parse_poscar
from mattergen_lite.io.parse import structure_from_dict

CELL = "data_x\n" + "".join(
    f"_cell_{name} {value}\n"
    for name, value in [
        *((f"length_{axis}", 4.3) for axis in "abc"),
        *((f"angle_{axis}", 90) for axis in ("alpha", "beta", "gamma")),
    ]
)
LATTICE = 'Lattice="4.3 0 0 0 4.3 0 0 0 4.3"'


def cif(first, second, declared="", columns=("label",)):
    """Two sites, each with its words for the columns."""
    names = [f"_atom_site_{column}" for column in columns]
    names += [f"_atom_site_fract_{axis}" for axis in "xyz"]
    formula = f"_chemical_formula_sum '{declared}'\n" if declared else ""
    rows = [f"{first} 0 0 0", f"{second} .5 .5 .5"]
    return "\n".join([CELL + formula + "loop_", *names, *rows, ""])


def elements(structure):
    return [site.specie.symbol for site in structure]


@pytest.mark.parametrize(
    ("first", "second", "declared", "expected"),
    [
        ("Rb1", "F1", "", "Rb F"),
        ("Ba2+1", "O2-", "", "Ba O"),
        ("In1A", "P1B", "", "In P"),  # B is a suffix here, no boron
        ("Na+1", "I-1", "", "Na I"),
        ("Zn'", "Se''", "", "Zn Se"),
        ("Zn(1)", "Se(2)", "", "Zn Se"),
        ("Ga_1", "As_2", "", "Ga As"),
        ("Fe2.5+", "O#1", "", "Fe O"),
        ("W1", "V1", "", "W V"),
        ("Ow1", "Ca1", "Ca O", "O Ca"),
        ("CA1", "O1", "Ca O", "Ca O"),
        ("SN1", "S1", "S Sn", "Sn S"),  # not two sulphurs
        ("CO1", "O1", "Co O", "Co O"),
        ("pb1", "s1", "Pb S", "Pb S"),
        ("boron2a", "N1", "B N", "B N"),
    ],
)
def test_labels_of_elements(first, second, declared, expected):
    assert elements(parse_cif(cif(first, second, declared))) == expected.split()


@pytest.mark.parametrize(
    "label",
    [
        *("WAT1", "VAC1", "Vac", "NH4", "OH", "OD1", "HOH", "H2O", "PO4", "Ow1", "SIO1", "Void1"),
        *("Nb,Zr", "Nb/Zr", "(Al,Si)1", "Nb1Zr1", "Mg0.5Fe0.5", "Mg.5Fe.5", "Fe3+Ni2+", "SiAl1"),
        *("M1", "Ln1", "RE1", "Q", "X", "Dum1", "1", "CA1", "CN1", "na1"),
    ],
)
def test_what_only_begins_like_an_element_is_refused_by_name(label):
    with pytest.raises(ValueError, match="unknown element") as caught:
        parse_cif(cif("K1", label))
    assert f"{label!r} of atom 2" in str(caught.value)


@pytest.mark.parametrize(
    ("label", "declared"),
    [("SO4", "K S O4"), ("NH4", "K N H4"), ("Nb,Zr", "K Nb"), ("CN", "K C N")],
)
def test_a_group_of_atoms_is_no_site_whatever_the_formula(label, declared):
    with pytest.raises(ValueError, match=r"unknown element|differs"):
        parse_cif(cif("K1", label, declared))


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("WAT1 O", "M1 Ca", "O Ca"),
        ("Fe1 Co", "O1 O", "Co O"),
        ("A1 La3+", "B1 N3-", "La N"),
        ("Zr1 .", "C1 ?", "Zr C"),
        ("A1 Fe+2", "B1 O-2", "Fe O"),
    ],
)
def test_the_type_symbol_wins_over_the_label(first, second, expected):
    text = cif(first, second, columns=("label", "type_symbol"))
    assert elements(parse_cif(text)) == expected.split()


@pytest.mark.parametrize("symbol", ["H2O", "NH4", "Oh", "X", "Fe3+Ni2+", "'Nb Zr'", "Vac"])
def test_types_that_are_no_elements_are_refused(symbol):
    with pytest.raises(ValueError, match="unknown element"):
        parse_cif(cif("A1 K", f"K2 {symbol}", columns=("label", "type_symbol")))


def test_the_list_of_atom_types_decides_where_no_formula_does():
    types = "loop_\n_atom_type_symbol\nCo2+\nO2-\n"
    text = cif("CO1", "O1").replace("loop_", f"{types}loop_", 1)
    assert elements(parse_cif(text)) == ["Co", "O"]


def poscar(names):
    return f"t\n4.3\n1 0 0\n0 1 0\n0 0 1\n{names}\n1 1\nDirect\n0 0 0\n.5 .5 .5\n"


def test_names_of_pseudopotentials_are_elements_and_mixtures_are_not():
    for names in ("W C", "W_sv_GW C_h", "W_pv/3f8a91c2 C/0d1e"):
        assert elements(parse_poscar(poscar(names))) == ["W", "C"]
    for name in ("WAT", "Nb/Zr", "Nb_Zr", "Nb,Zr", "OH", "Fe3+", "Fe2", "H.5"):
        with pytest.raises(ValueError, match="unknown element"):
            parse_poscar(poscar(f"{name} C"))


def frame(species, properties=""):
    rows = "\n".join(f"{name} 0 0 {2.15 * i}" for i, name in enumerate(species))
    return f"{len(species)}\n{LATTICE} {properties}\n{rows}\n"


def test_numbers_are_elements_only_in_a_column_of_atomic_numbers():
    """LAMMPS writes types, of which 1 and 2 are not hydrogen and helium."""
    structure, _ = parse_extxyz(frame(["55", "17"], "Properties=Z:I:1:pos:R:3"))
    assert elements(structure) == ["Cs", "Cl"]
    for properties in ("", "Properties=species:S:1:pos:R:3", "Properties=species:I:1:pos:R:3"):
        with pytest.raises(ValueError, match="atom 1 has the species '1': expected a symbol"):
            parse_extxyz(frame(["1", "2"], properties))


@pytest.mark.parametrize("name", ["WAT1", "OH", "NH4", "Nb,Zr", "Fe3+", "1", "X"])
def test_names_in_extxyz_and_json_are_whole_symbols(name):
    with pytest.raises(ValueError, match=r"unknown element|has the species"):
        parse_extxyz(frame([name, "Cl"]))
    crystal = Structure(Lattice.cubic(4.3), ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    data = json.loads(crystal.to_json())
    data["sites"][0]["species"][0]["element"] = name
    with pytest.raises(ValueError, match="unknown element"):
        structure_from_dict(data)
