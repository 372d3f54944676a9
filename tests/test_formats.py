"""Structure files that other readers take for another crystal: read right, or refused by name."""

import json

import numpy as np
import pytest
import spglib
from crystals import nacl, quartz, rutile, triclinic
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Lattice, Structure
from pymatgen.io.cif import CifWriter
from pymatgen.io.vasp import Poscar

from mattergen_lite.io.formats.cif import parse_cif
from mattergen_lite.io.formats.extxyz import parse_extxyz
from mattergen_lite.io.formats.poscar import parse_poscar
from mattergen_lite.io.formats.symmetry import Operations, hall_operations, parse_operations
from mattergen_lite.io.parse import parse_document
from mattergen_lite.io.read import read_structures
from mattergen_lite.io.records import Document
from mattergen_lite.symmetry.space_groups import settings_named, space_group_number

SAME = StructureMatcher(ltol=0.01, stol=0.02, angle_tol=0.5, scale=False)

HEAD = """data_x
_cell_length_a {a}
_cell_length_b {a}
_cell_length_c {c}
_cell_angle_alpha 90
_cell_angle_beta {beta}
_cell_angle_gamma {gamma}
{symmetry}
loop_
_atom_site_label
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
"""


def cif(atoms, symmetry="", a="5.69", c="5.69", beta="90", gamma="90"):
    head = HEAD.format(a=a, c=c, beta=beta, gamma=gamma, symmetry=symmetry)
    return head + "\n".join(f"{atom} 1" if len(atom.split()) == 4 else atom for atom in atoms)


def operations(hall_number):
    """The operations of a setting as a CIF lists them."""
    found = spglib.get_symmetry_from_database(hall_number)
    lines = []
    for rotation, shift in zip(found["rotations"], found["translations"] % 1, strict=True):
        parts = []
        for row, offset in zip(rotation, shift, strict=True):
            terms = [
                f"{'-' if n < 0 else '+'}{axis}" for n, axis in zip(row, "xyz", strict=True) if n
            ]
            parts.append("".join(terms) + (f"+{offset:.4f}" if offset else ""))
        lines.append(f"'{','.join(parts)}'")
    return "loop_\n_space_group_symop_operation_xyz\n" + "\n".join(lines)


@pytest.mark.parametrize("made", [nacl, rutile, quartz])
def test_symmetrised_cifs_of_other_programs_are_read(made):
    text = str(CifWriter(made(), symprec=0.01))
    assert SAME.fit(parse_cif(text), made())


# Atoms that are not there


@pytest.mark.parametrize(
    ("atom", "reason"),
    [
        ("Na1 0 0 0 0", r"occupancy of atom 1 \(Na1\) is 0"),
        ("Na1 0 0 0 -1", r"occupancy of atom 1 \(Na1\) is -1"),
        ("Na1 0 0 0 nan", r"occupancy of atom 1 \(Na1\) is 'nan'"),
        ("Na1 0 0 0 ?", r"occupancy of atom 1 \(Na1\) is '\?'"),
        ("Na1 0 0 0 1.5", r"occupancy of atom 1 \(Na1\) is 1.5"),
        ("Na1 0 0 0 0.5", r"atom 1 \(Na1\) is partially occupied"),
        ("Na1 . 0 0", r"coordinate x of atom 1 \(Na1\) is '\.'"),
        ("Na1 0 1e308 0", r"coordinates of atom 1 \(Na1\) are"),
        ("Na1 0 1/2 0", r"coordinate y of atom 1 \(Na1\) is '1/2'"),
        ("D1 0 0 0", r"atom 1 \(D1\) is deuterium"),
        ("CA1 0 0 0", "unknown element 'CA1'"),
        ("Na1 0 0", r"unreadable CIF: line 9: Wrong number of values in loop"),
    ],
)
def test_what_is_no_atom_is_named(atom, reason):
    with pytest.raises(ValueError, match=reason):
        parse_cif(cif([atom, "Cl1 0.5 0.5 0.5"]))


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ({"a": "-5.69"}, "_cell_length_a is -5.69"),
        ({"c": "1e308"}, "_cell_length_c is 1e"),
        ({"beta": "1e308"}, "_cell_angle_beta is 1e"),
        ({"beta": "10", "gamma": "120"}, "no cell has angles"),
        ({"gamma": "?"}, "no _cell_angle_gamma"),
    ],
)
def test_what_is_no_cell_is_named(cell, reason):
    with pytest.raises(ValueError, match=reason):
        parse_cif(cif(["Na1 0 0 0", "Cl1 0.5 0.5 0.5"], **cell))


def test_labels_are_read_with_the_declared_formula():
    text = cif(["CA1 0 0 0", "O1 0.5 0.5 0.5"], "_chemical_formula_sum 'Ca O'")
    assert parse_cif(text).composition.reduced_formula == "CaO"


def test_the_declared_composition_is_the_one_that_is_read():
    atoms = ["Na1 0 0 0", "Cl1 0.5 0.5 0.5"]
    assert len(parse_cif(cif(atoms, "_chemical_formula_sum 'Na4 Cl4'"))) == 2
    with pytest.raises(ValueError, match="the file's formula is Na2 Cl: Cl differs"):
        parse_cif(cif(atoms, "_chemical_formula_sum 'Na2 Cl'"))
    with pytest.raises(ValueError, match="Cl differs"):
        parse_cif(cif(atoms, "_chemical_formula_sum 'Na Cl H2 O'"))


# Symmetry


def corundum():
    return Structure.from_spacegroup(
        "R-3c",
        Lattice.hexagonal(4.76, 12.99),
        ["Al", "O"],
        [[0, 0, 0.3522], [0.3063, 0, 0.25]],
    )


CORUNDUM = ["Al1 0 0 0.3522", "O1 0.3063 0 0.25"]
SPINEL_1 = ["Mg1 0 0 0", "Al1 0.625 0.625 0.625", "O1 0.3874 0.3874 0.3874"]
SPINEL_2 = ["Mg1 0.125 0.125 0.125", "Al1 0.5 0.5 0.5", "O1 0.2624 0.2624 0.2624"]


@pytest.mark.parametrize(
    "symmetry",
    [
        "_symmetry_space_group_name_H-M 'R -3 c :H'",
        "_symmetry_space_group_name_H-M 'R -3 c H'",
        "_space_group_name_Hall '-R 3 2\"c'",
        "_symmetry_space_group_name_H-M 'R -3 c'",  # the cell says which axes
        "_space_group_IT_number 167",
    ],
)
def test_names_of_settings_stand_for_their_operations(symmetry):
    text = cif(CORUNDUM, symmetry, a="4.76", c="12.99", gamma="120")
    found = parse_cif(text)
    assert found.composition.reduced_formula == "Al2O3"
    assert SAME.fit(found, corundum())


@pytest.mark.parametrize(
    ("atoms", "symmetry"),
    [
        (SPINEL_1, "_symmetry_space_group_name_H-M 'F d -3 m :1'"),
        (SPINEL_1, "_symmetry_space_group_name_H-M 'F d -3 m S'"),
        (SPINEL_2, "_symmetry_space_group_name_H-M 'F d -3 m :2'"),
        (SPINEL_2, "_space_group_name_H-M_alt 'F d -3 m Z'"),
        (SPINEL_2, "_space_group_name_Hall '-F 4vw 2vw 3'"),
        (SPINEL_2, "_space_group_IT_number 227\n" + operations(526)),
    ],
)
def test_both_origins_are_told_apart(atoms, symmetry):
    found = parse_cif(cif(atoms, symmetry, a="8.08", c="8.08"))
    assert found.composition.formula == "Mg8 Al16 O32"
    neighbours = [site.specie.symbol for site in found.get_neighbors(found[0], 2.2)]
    assert neighbours == ["O"] * 4  # magnesium is in a tetrahedron


@pytest.mark.parametrize(
    ("symmetry", "reason"),
    [
        ("_symmetry_space_group_name_H-M 'F d -3 m'", "has settings 1, 2"),
        ("_space_group_IT_number 227", "has settings 1, 2"),
        ("_symmetry_space_group_name_H-M 'F d -3 q'", "no space group known"),
        ("_space_group_name_Hall 'what is this'", "no space group known"),
        ("_space_group_IT_number 999", "no space group known"),
        ("_symmetry_space_group_name_H-M 'R -3 c :H'", "does not fit the cell"),
        ("_symmetry_space_group_name_H-M 'P m -3 m'\n_space_group_IT_number 225", "is not of"),
        ("loop_\n_space_group_symop_magn_operation.xyz\nx,y,z,+1\n-x,-y,-z,+1", "without oper"),
        ("_space_group_IT_number 225\n" + operations(529), "its operations are those of 229"),
        ("_symmetry_space_group_name_H-M 'F m -3 m'\n" + operations(1), "are those of 1"),
        ("loop_\n_symmetry_equiv_pos_as_xyz\nx,y,z\n-y,x,z", "form no space group"),
        ("loop_\n_symmetry_equiv_pos_as_xyz\nx,y,z\nx,y", "expected the form x,y,z"),
        ("loop_\n_symmetry_equiv_pos_as_xyz\nx,y,z\nx,x,z", "no rotation or reflection"),
        ("loop_\n_symmetry_equiv_pos_as_xyz\nx,y,z\n-x,-y,z+1/0", "Wrong denominator 0"),
    ],
)
def test_symmetry_that_is_not_understood_is_an_error(symmetry, reason):
    with pytest.raises(ValueError, match=reason):
        parse_cif(cif(SPINEL_2, symmetry, a="8.08", c="8.08"))


@pytest.mark.parametrize("third", ["0.333", "0.3333", "0.33"])
def test_rounded_special_positions_are_one_atom(third):
    """Magnesium, hcp: with pymatgen alone 6 atoms instead of 2."""
    rest = {"0.333": "0.667", "0.3333": "0.6667", "0.33": "0.67"}[third]
    symmetry = "_space_group_IT_number 194\n" + operations(488)
    text = cif([f"Mg1 {third} {rest} 0.25"], symmetry, a="3.2", c="5.2", gamma="120")
    found = parse_cif(text)
    assert len(found) == 2
    np.testing.assert_allclose(sorted(found.frac_coords[:, 0]), [1 / 3, 2 / 3], atol=1e-6)


def test_rounded_quartz_is_sio2():
    text = cif(
        ["Si1 0.470 0 0.667", "O1 0.413 0.267 0.786"],
        operations(443),
        a="4.913",
        c="5.405",
        gamma="120",
    )
    assert parse_cif(text).composition.formula == "Si3 O6"
    assert SAME.fit(parse_cif(text), quartz())


def test_coordinates_that_do_not_fit_the_symmetry_are_an_error():
    with pytest.raises(ValueError, match=r"atom 1 \(Na1\) within"):
        parse_cif(cif(["Na1 0.03 0.03 0"], operations(523)))


def test_operations_in_all_their_spellings():
    texts = ["x,y,z", "-Y, X-Y, Z+1/3", "0.6667+x,+y,1/2 - z", ".5-x,y,-z"]
    found = parse_operations(texts)
    assert found.rotations[1].tolist() == [[0, -1, 0], [1, -1, 0], [0, 0, 1]]
    np.testing.assert_allclose(found.translations[1:3], [[0, 0, 1 / 3], [2 / 3, 0, 0.5]])


def test_many_atoms_are_refused_at_once(tmp_path):
    atoms = [f"Na{i} 0.{i:05d} 0 0" for i in range(12_000)]
    with pytest.raises(ValueError, match="12000 atoms: expected 1 to 10000"):
        parse_cif(cif(atoms))
    with pytest.raises(ValueError, match="sites under 192 operations"):
        parse_cif(cif(atoms[:5000], operations(523)))


def test_a_byte_order_mark_is_no_content(tmp_path):
    """Editors on Windows write one."""
    for name, text in {
        "a.cif": str(CifWriter(nacl())),
        "b.json": json.dumps(nacl().as_dict()),
        "c.vasp": Poscar(nacl()).get_str(),
        "d.csv": 'material_id,cif\nsalt,"' + str(CifWriter(nacl())) + '"\n',
    }.items():
        (tmp_path / name).write_text(text, encoding="utf-8-sig")
        (record,) = read_structures(tmp_path / name)
        assert record.error is None
        assert len(record.structure) == 8
    assert record.name == "salt"


# POSCAR

SALT = "salt\n{scale}\n1 0 0\n0 1 0\n0 0 1\n{names}\n{counts}\n{mode}\n0 0 0\n{second}\n"


def poscar(scale="4", names="Na Cl", counts="1 1", mode="Direct", second="0.5 0.5 0.5"):
    return SALT.format(scale=scale, names=names, counts=counts, mode=mode, second=second)


@pytest.mark.parametrize("scale", ["4", "-64", "4 4 4"])
@pytest.mark.parametrize("mode", ["Direct", "Cartesian", "Selective dynamics\nDirect"])
def test_a_negative_scale_is_the_volume_for_all_coordinates(scale, mode):
    found = parse_poscar(poscar(scale=scale, mode=mode))
    assert found.volume == pytest.approx(64)
    assert found.get_distance(0, 1) == pytest.approx(2 * np.sqrt(3))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"names": "Na Cl", "counts": "2"}, "2 elements and 1 counts"),
        ({"counts": "1 2"}, "announces 3 atoms, lists 2"),
        ({"counts": "1 +250000000"}, "'\\+250000000': expected a whole number"),
        ({"counts": "1 1", "second": "0.5 0.5 0.5\n0 0 0.5"}, "announces 2 atoms and lists more"),
        ({"names": "D Cl"}, "is deuterium"),
        ({"names": "Na Qq"}, "unknown element 'Qq'"),
        ({"scale": "0"}, "scale is 0"),
        ({"scale": "1 -1 1"}, "expected above 0"),
        ({"mode": "Elsewhere"}, "expected Direct or Cartesian"),
        ({"second": "0.5 1e308 0.5"}, "cells from the origin"),
        ({"second": "0.5 0.5 0.5 Br"}, "atom 2 is Cl by the element line and Br by its own"),
        ({"second": "0.5 0.5"}, "atom 2 has 2 numbers"),
    ],
)
def test_what_is_wrong_with_a_poscar_is_named(changes, reason):
    with pytest.raises(ValueError, match=reason):
        parse_poscar(poscar(**changes))


def test_poscars_of_vasp_4_and_6():
    old = poscar(names="1 1", counts="Direct").replace("Direct\nDirect", "Direct")
    old = old.replace("0 0 0\n", "0 0 0 Na\n").replace("0.5 0.5 0.5", "0.5 0.5 0.5 Cl")
    assert parse_poscar(old).composition.reduced_formula == "NaCl"
    new = poscar(names="Na_pv/0123abcd Cl/4567")
    assert parse_poscar(new).composition.reduced_formula == "NaCl"
    assert SAME.fit(parse_poscar(Poscar(triclinic()).get_str()), triclinic())


# extxyz

LATTICE = 'Lattice="4 0 0 0 4 0 0 0 4"'


def frame(comment, atoms=("Na 0 0 0", "Cl 2 2 2")):
    return f"{len(atoms)}\n{comment}\n" + "\n".join(atoms) + "\n"


@pytest.mark.parametrize(
    ("comment", "reason"),
    [
        (f"{LATTICE} Properties=species:S:1:velo:R:3", "no column pos"),
        (f"{LATTICE} Properties=pos:R:3:velo:R:3", "no column species"),
        (f'{LATTICE} pbc="F F F"', "pbc is F F F"),
        (f'{LATTICE} pbc="T T F"', "pbc is T T F"),
        (f'{LATTICE} pbc="what"', "pbc is 'what'"),
        ("a molecule", "no Lattice"),
        ('Lattice="4 0 0 0 4 0 0 0 nan"', "a number of Lattice is 'nan'"),
        ('Lattice="4 0 0 0 4"', "Lattice has 5 numbers"),
        (f"{LATTICE} Properties=species:S:1:pos:R:x", "repeated"),
    ],
)
def test_frames_that_are_no_crystals_are_named(comment, reason):
    with pytest.raises(ValueError, match=reason):
        parse_extxyz(frame(comment))


@pytest.mark.parametrize(
    ("atom", "reason"),
    [
        ("D 2 2 2", "atom 2 is deuterium"),
        ("Qq 2 2 2", "unknown element 'Qq' of atom 2"),
        ("Cl 2 2 nan", "a coordinate of atom 2 is 'nan'"),
        ("Cl 2 2", "atom 2 has 3 values"),
        ("Cl 2 1e308 2", "coordinates of atom 2 are"),
    ],
)
def test_atoms_of_a_frame_are_checked(atom, reason):
    with pytest.raises(ValueError, match=reason):
        parse_extxyz(frame(LATTICE, ["Na 0 0 0", atom]))


def test_values_of_a_frame_keep_their_kind():
    comment = f'{LATTICE} pbc="T T T" name="my NaCl.cif" energy=-1.5 good=T note="a \\"b\\""'
    structure, values = parse_extxyz(frame(comment))
    assert structure.composition.reduced_formula == "NaCl"
    assert values == {"name": "my NaCl.cif", "energy": "-1.5", "good": True, "note": 'a "b"'}
    record = parse_document(Document("a", "extxyz", frame(comment)))
    assert record.properties == {"energy": -1.5, "good": 1.0}
    assert record.unread == {"note": 'a "b"'}


def test_names_with_blanks_and_digits_stay_whole(tmp_path):
    names = ["my NaCl.cif", "000012", "it's", 'a "b"']
    quoted = ['"my NaCl.cif"', "000012", '"it\'s"', '"a \\"b\\""']
    text = "".join(frame(f"{LATTICE} name={name}") for name in quoted)
    (tmp_path / "all.xyz").write_text(text)
    assert [one.name for one in read_structures(tmp_path / "all.xyz")] == names


def test_an_empty_xyz_file_has_a_row(tmp_path):
    (tmp_path / "empty.xyz").write_text("")
    (tmp_path / "good.xyz").write_text(frame(LATTICE))
    empty, good = read_structures(tmp_path)
    assert (empty.name, empty.error) == ("empty.xyz", "the file is empty: expected atoms")
    assert good.error is None


def test_absurd_headers_cost_their_file_only(tmp_path):
    (tmp_path / "a.xyz").write_text("9" * 5000 + "\n\n")
    (tmp_path / "b.xyz").write_text("1\n" + "x" * 200_000 + "\nNa 0 0 0\n")
    (tmp_path / "c.xyz").write_text(frame(LATTICE))
    first, second, third = read_structures(tmp_path)
    assert "bad atom count '9999" in first.error
    assert "a line of 100000 or more characters" in second.error
    assert third.error is None


# Tables and JSON


def test_ids_of_digits_are_names(tmp_path):
    text = str(CifWriter(nacl()))
    (tmp_path / "a.csv").write_text(f'id,gap,cif\n007,1,"{text}"\n12,2,"{text}"\n')
    first, second = read_structures(tmp_path / "a.csv")
    assert (first.name, first.properties) == ("007", {"gap": 1.0})
    assert (second.name, second.properties) == ("12", {"gap": 2.0})


def test_a_column_twice_is_refused(tmp_path):
    (tmp_path / "a.csv").write_text("id,cif,cif\n1,a,b\n")
    with pytest.raises(ValueError, match="the column 'cif' twice"):
        read_structures(tmp_path / "a.csv")


def test_file_names_that_can_be_none_are_named(tmp_path):
    (tmp_path / "a.csv").write_text("file\n" + "x" * 300 + "\n")
    (record,) = read_structures(tmp_path / "a.csv")
    assert "no such file" in record.error


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda s: s["lattice"].update(pbc=[True, True, False]), "pbc is T T F"),
        (lambda s: s["sites"][0]["species"][0].update(element="D"), "is deuterium"),
        (lambda s: s["sites"][0]["species"][0].update(occu=0), "occupancy of atom 1 is 0"),
        (lambda s: s["sites"][0]["species"][0].update(occu=float("nan")), "occupancy of atom 1"),
        (lambda s: s["sites"][0].update(species=[]), "atom 1 has the same element twice, or none"),
        (lambda s: s["sites"][0].update(abc=[0, 0]), "atom 1: IndexError"),
        (lambda s: s["sites"][0].update(abc=[0, 0, 1e308]), "cells from the origin"),
        (lambda s: s.update(sites={"a": 1}), "sites are no list"),
        (lambda s: s.update(sites=[]), "0 atoms"),
    ],
)
def test_json_is_checked(tmp_path, change, reason):
    data = nacl().as_dict()
    change(data)
    (tmp_path / "a.json").write_text(json.dumps(data))
    (record,) = read_structures(tmp_path / "a.json")
    with pytest.raises(ValueError, match=reason):
        raise ValueError(record.error)


def test_deep_json_is_one_line(tmp_path):
    (tmp_path / "a.json").write_text("[" * 100_000 + "]" * 100_000)
    with pytest.raises(ValueError, match="cannot read"):
        read_structures(tmp_path / "a.json")


# Names of settings, and how often a site occurs


def other_axes(lattice, sites, rows, name):
    """A CIF of the same crystal on other axes, its symmetry stated by a name alone.

    Args:
        lattice: Of the standard setting.
        sites: Label and fractional coordinates there.
        rows: The new axes in terms of the old ones.
        name: Of the new setting.
    """
    new = Lattice(np.array(rows) @ lattice.matrix)
    lengths = zip("abc", new.abc, strict=True)
    lines = [f"_cell_length_{axis} {length:.6f}" for axis, length in lengths]
    angles = zip(("alpha", "beta", "gamma"), new.angles, strict=True)
    lines += [f"_cell_angle_{axis} {angle:.6f}" for axis, angle in angles]
    lines += [f"_symmetry_space_group_name_H-M '{name}'", "loop_", "_atom_site_label"]
    lines += [f"_atom_site_fract_{axis}" for axis in "xyz"]
    for label, place in sites:
        lines.append(" ".join([label, *(f"{x:.6f}" for x in place @ np.linalg.inv(rows))]))
    return "\n".join(["data_x", *lines, ""])


MONOCLINIC = {  # P 1 21/c 1 of baddeleyite, C 1 2/c 1 of tenorite
    14: (
        Lattice.monoclinic(5.15, 5.21, 5.317, 99.23),
        [
            ("Hf1", (0.2754, 0.0395, 0.2083)),
            ("O1", (0.07, 0.3317, 0.3447)),
            ("O2", (0.4496, 0.7569, 0.4792)),
        ],
    ),
    15: (
        Lattice.monoclinic(4.68, 3.42, 5.13, 99.5),
        [("Cu1", (0.25, 0.25, 0)), ("O1", (0, 0.4184, 0.25))],
    ),
}


@pytest.mark.parametrize(
    ("number", "name", "rows"),
    [
        (14, "P 21/c", [[1, 0, 0], [0, 1, 0], [0, 0, 1]]),
        (14, "P 21/n", [[-1, 0, -1], [0, 1, 0], [1, 0, 0]]),  # International Tables, 1.5.4
        (14, "P2_1/n", [[-1, 0, -1], [0, 1, 0], [1, 0, 0]]),
        (14, "P 21/a", [[0, 0, 1], [0, -1, 0], [1, 0, 0]]),
        (14, "P 21/b", [[1, 0, 0], [0, 0, 1], [0, -1, 0]]),  # unique axis c, as the cell says
        (15, "C 2/c", [[1, 0, 0], [0, 1, 0], [0, 0, 1]]),
        (15, "I 2/a", [[0, 0, 1], [0, 1, 0], [-1, 0, -1]]),
        (15, "A 2/a", [[0, 0, 1], [0, -1, 0], [1, 0, 0]]),
        (15, "A 2/n", [[-1, 0, -1], [0, 1, 0], [1, 0, 0]]),
    ],
)
def test_monoclinic_names_are_those_of_their_axes(number, name, rows):
    lattice, sites = MONOCLINIC[number]
    labels = [label.rstrip("12") for label, _ in sites]
    places = [np.array(place) for _, place in sites]
    symbol = {14: "P2_1/c", 15: "C2/c"}[number]
    expected = Structure.from_spacegroup(symbol, lattice, labels, places)  # pymatgen's own table
    found = parse_cif(
        other_axes(
            lattice, list(zip([label for label, _ in sites], places, strict=True)), rows, name
        )
    )
    assert len(found) == len(expected)
    assert SAME.fit(found, expected)
    assert space_group_number(name) == number


@pytest.mark.parametrize(
    ("name", "number"),
    [
        *(("C m c a", 64), ("Cmce", 64), ("A b m 2", 39), ("Aem2", 39), ("C m m a", 67)),
        *(("P m 3 m", 221), ("Pa3", 205), ("I a 3 d", 230), ("F d 3 m Z", 227), ("F -1", 2)),
        *(("P 3 1 2", 149), ("P 32", 145), ("P 21 21 2", 18), ("P b n m", 62), ("R-3m:H", 166)),
    ],
)
def test_one_table_of_names(name, number):
    """The command line and the CIF reader know the same names, old and new."""
    assert space_group_number(name) == number
    assert {setting.number for setting in settings_named(name)} == {number}


def test_settings_have_the_operations_that_spglib_has():
    for hall_number in range(1, 531, 7):
        group = spglib.get_spacegroup_type(hall_number)
        expected = spglib.get_symmetry_from_database(hall_number)
        found = hall_operations(group.hall_symbol)
        assert found.space_group() == group.number
        assert operation_set(found.rotations, found.translations) == operation_set(
            expected["rotations"], expected["translations"]
        )
        named = settings_named(group.international_full)
        assert any(
            operation_set(own.rotations, own.translations)
            == operation_set(expected["rotations"], expected["translations"])
            for own in (Operations.of(list(setting.operations())) for setting in named)
        )


def operation_set(rotations, translations):
    shifts = np.rint(np.asarray(translations) * 24).astype(int) % 24
    pairs = zip(rotations, shifts, strict=True)
    return {(tuple(turn.ravel().tolist()), tuple(shift.tolist())) for turn, shift in pairs}


@pytest.mark.parametrize(
    ("field", "values", "accepted"),
    [
        ("symmetry_multiplicity", (4, 8), True),
        ("symmetry_multiplicity", (48, 24), True),  # SHELXL: the order of the site symmetry
        ("symmetry_multiplicity", (4, 24), False),  # one reading for all sites
        ("symmetry_multiplicity", (5, 8), False),
        ("symmetry_multiplicity", ("?", 24), True),
        ("site_symmetry_multiplicity", (4, 8), True),
        ("site_symmetry_multiplicity", (48, 24), False),  # the new names are unambiguous
        ("site_symmetry_order", (48, 24), True),
        ("site_symmetry_order", (4, 8), False),
    ],
)
def test_multiplicity_or_order_of_the_site_symmetry(field, values, accepted):
    """CaF2: 192 operations, 4 Ca and 8 F, so the orders are 48 and 24."""
    atoms = [f"Ca1 0 0 0 1 {values[0]}", f"F1 .25 .25 .25 1 {values[1]}"]
    text = cif(atoms, operations(523), a="5.46", c="5.46")
    text = text.replace("_atom_site_occupancy\n", f"_atom_site_occupancy\n_atom_site_{field}\n")
    if accepted:
        assert parse_cif(text).composition.formula == "Ca4 F8"
    else:
        with pytest.raises(ValueError, match=r"in the file and \d+ by symmetry"):
            parse_cif(text)
