"""Files, structures and batches: what was written is read back, and broken input is named."""

import csv
import gzip
import json
import zipfile
from pathlib import Path

import crystals
import numpy as np
import pytest
import torch
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import DummySpecies, Lattice, Structure
from pymatgen.io.cif import CifWriter
from pymatgen.io.vasp import Poscar
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

from mattergen_lite import score
from mattergen_lite.files.folders import atomic_path, write_text
from mattergen_lite.io import compressed
from mattergen_lite.io import read as io
from mattergen_lite.io.parse import one_line
from mattergen_lite.io.read import read_structures
from mattergen_lite.io.tensors import from_structures, to_structures
from mattergen_lite.io.write import file_names, to_cif, write_extxyz

TIGHT = StructureMatcher(ltol=1e-3, stol=1e-3, angle_tol=0.01, scale=False, primitive_cell=False)


def cif(structure: Structure) -> str:
    return str(CifWriter(structure))


def assert_same_coordinates(structure, expected, tolerance=1e-5):
    """Same cell vectors up to rotation and the same atoms in the same order."""
    assert structure.atomic_numbers == expected.atomic_numbers
    np.testing.assert_allclose(
        structure.lattice.parameters, expected.lattice.parameters, rtol=tolerance
    )
    difference = structure.frac_coords - expected.frac_coords
    np.testing.assert_allclose(difference - difference.round(), 0, atol=tolerance)
    np.testing.assert_allclose(structure.distance_matrix, expected.distance_matrix, atol=1e-3)


def errors_of(path):
    return {record.name: record.error for record in read_structures(path) if record.error}


# Batches


def test_batch_keeps_rows_of_a_triclinic_cell():
    expected = crystals.triclinic()
    batch = from_structures([expected])
    cart = (batch.frac_coords @ batch.lattice)[0]
    np.testing.assert_allclose(cart.numpy(), expected.cart_coords, atol=1e-5)
    np.testing.assert_allclose(to_structures(batch)[0].cart_coords, expected.cart_coords, atol=1e-5)


def test_batch_round_trip_of_different_sizes():
    structures = [crystals.rutile(), crystals.single_atom(), crystals.quartz()]
    batch = from_structures(structures)
    assert batch.num_atoms.tolist() == [6, 1, 9]
    for structure, expected in zip(to_structures(batch), structures, strict=True):
        assert_same_coordinates(structure, expected)


def test_batch_wraps_coordinates():
    """A coordinate just below 1 rounds to 1.0 in float32, which is the atom at 0."""
    structure = Structure(Lattice.cubic(4), ["Na", "Cl"], [[1 - 1e-9, -0.5, 1.7], [2, 0.5, -1e-9]])
    coords = from_structures([structure]).frac_coords[0]
    expected = torch.tensor([[0, 0.5, 0.7], [0, 0.5, 0]])
    torch.testing.assert_close(coords, expected)


def test_batch_drops_oxidation_states_and_refuses_disorder():
    structure = crystals.nacl()
    structure.add_oxidation_state_by_element({"Na": 1, "Cl": -1})
    assert from_structures([structure]).atomic_numbers.dtype == torch.long
    structure.replace(0, {"Na": 0.5, "K": 0.5})
    with pytest.raises(ValueError, match="partially occupied"):
        from_structures([structure])


# Reading


@pytest.mark.parametrize("name", ["a.cif", "a.vasp", "POSCAR", "CONTCAR_7"])
def test_single_files(tmp_path, name):
    expected = crystals.triclinic()
    text = cif(expected) if name.endswith("cif") else Poscar(expected).get_str()
    (tmp_path / name).write_text(text)
    (record,) = read_structures(tmp_path / name)
    assert record.error is None
    assert record.name == name
    assert_same_coordinates(record.structure, expected)


def test_folder_goes_on_after_a_broken_file(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "a.cif").write_text(cif(crystals.nacl()))
    (tmp_path / "b.cif").write_text("data_nothing\n_cell_length_a 3\n")
    (tmp_path / "deep" / "POSCAR").write_text(Poscar(crystals.rutile()).get_str())
    (tmp_path / "notes.txt").write_text("not a structure")
    (tmp_path / ".hidden.cif").write_text("rubbish")
    records = {record.name: record for record in read_structures(tmp_path)}
    assert set(records) == {"a.cif", "b.cif", "deep/POSCAR"}
    assert records["b.cif"].structure is None
    assert "\n" not in records["b.cif"].error
    assert_same_coordinates(records["deep/POSCAR"].structure, crystals.rutile())


def test_results_inside_the_folder_that_is_scored_are_not_read(tmp_path, monkeypatch):
    (tmp_path / "a.cif").write_text(cif(crystals.nacl()))
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        judged = score(Path(), out=Path("scored"), relax=False, num_workers=0, overwrite=True)
        assert [row.raw.name for row in judged] == ["a.cif"]
    assert list(tmp_path.glob("scored/cifs/*.cif"))


def test_zip_is_read_in_memory_with_broken_entries(tmp_path):
    archive = tmp_path / "in" / "set.zip"
    archive.parent.mkdir()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as entries:
        entries.writestr("../../escape.cif", cif(crystals.nacl()))
        entries.writestr("bad.cif", b"\xff\xfe rubbish")
        entries.writestr("__MACOSX/._a.cif", "resource fork")
        entries.writestr("ok.vasp", Poscar(crystals.triclinic()).get_str())
    records = {record.name: record for record in read_structures(archive)}
    assert [name for name, record in records.items() if record.error] == ["bad.cif"]
    assert_same_coordinates(records["ok.vasp"].structure, crystals.triclinic())
    assert [path.name for path in tmp_path.rglob("*")] == ["in", "set.zip"]


def test_zip_bomb_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(io, "MAX_CHARACTERS", 10_000)
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as entries:
        entries.writestr("huge.cif", "data_x\n" + " " * 100_000)
        entries.writestr("huge.xyz", "1\n\n" + "H 0 0 0" * 100_000)
        entries.writestr("ok.cif", cif(crystals.nacl()))
    errors = errors_of(tmp_path / "bomb.zip")
    assert list(errors) == ["huge.cif", "huge.xyz"]
    assert "that unpack to 100007: refused" in errors["huge.cif"]


def test_packed_files_are_read_like_plain_ones(tmp_path):
    (tmp_path / "a.cif.gz").write_bytes(gzip.compress(cif(crystals.nacl()).encode()))
    poscar = Poscar(crystals.triclinic()).get_str()
    (tmp_path / "POSCAR.gz").write_bytes(gzip.compress(poscar.encode()))
    frames = tmp_path / "frames.extxyz"
    names = [{"name": "first"}, {"name": "second"}]
    write_extxyz([crystals.nacl(), crystals.triclinic()], frames, names)
    (tmp_path / "frames.extxyz.gz").write_bytes(gzip.compress(frames.read_bytes()))
    frames.unlink()
    records = {record.name: record for record in read_structures(tmp_path)}
    assert set(records) == {"POSCAR.gz", "a.cif.gz", "first", "second"}
    assert_same_coordinates(records["POSCAR.gz"].structure, crystals.triclinic())
    assert_same_coordinates(records["second"].structure, crystals.triclinic())


def test_a_damaged_or_exploding_packed_file_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(compressed, "FREE", 10_000)
    packed = gzip.compress(cif(crystals.nacl()).encode())
    contents = {
        "cut.cif.gz": packed[:100],
        "plain.cif.gz": cif(crystals.nacl()).encode(),
        "bomb.xyz.gz": gzip.compress(b" " * 10_000_000),
        "ok.cif.gz": packed,
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    errors = errors_of(tmp_path)
    assert list(errors) == ["bomb.xyz.gz", "cut.cif.gz", "plain.cif.gz"]
    assert "refused" in errors["bomb.xyz.gz"]
    assert "end-of-stream" in errors["cut.cif.gz"]


def test_a_large_file_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(io, "MAX_CHARACTERS", 10_000)
    (tmp_path / "huge.cif").write_text("data_x\n" + " " * 100_000)
    assert "10000 characters" in errors_of(tmp_path / "huge.cif")["huge.cif"]


def test_runs_of_blank_lines_do_not_stall(tmp_path):
    """With the patterns of pymatgen alone this takes minutes."""
    text = cif(crystals.nacl()).replace("loop_", "\n" * 300_000 + "loop_", 1)
    (tmp_path / "blank.cif").write_text(text)
    (record,) = read_structures(tmp_path / "blank.cif")
    assert_same_coordinates(record.structure, crystals.nacl())


def test_damaged_zip_entry_is_one_error(tmp_path):
    path = tmp_path / "damaged.zip"
    with zipfile.ZipFile(path, "w") as entries:
        entries.writestr("a.cif", cif(crystals.nacl()))
        entries.writestr("b.cif", cif(crystals.rutile()))
    data = path.read_bytes()
    path.write_bytes(
        data.replace(b"_chemical_formula_sum   'Na4", b"_chemical_formula_sum   'Na5", 1)
    )
    assert list(errors_of(path)) == ["a.cif"]


def test_extxyz_frames_with_properties(tmp_path):
    structures = [crystals.triclinic(), crystals.nacl()]
    info = [{"name": "first", "band_gap": 1.5, "note": "two words"}, {"band_gap": None}]
    write_extxyz(structures, tmp_path / "two.extxyz", info)
    first, second = read_structures(tmp_path / "two.extxyz")
    np.testing.assert_allclose(
        first.structure.lattice.matrix, structures[0].lattice.matrix, atol=1e-6
    )
    np.testing.assert_allclose(first.structure.cart_coords, structures[0].cart_coords, atol=1e-6)
    assert first.properties == {"band_gap": 1.5}
    assert second.properties == {}
    assert (first.name, second.name) == ("first", "two.extxyz#2")


def test_extxyz_broken_frames(tmp_path):
    write_extxyz([crystals.nacl_primitive()] * 3, tmp_path / "good.xyz", [{}] * 3)
    frames = (tmp_path / "good.xyz").read_text().splitlines()
    frames[2] = frames[2].replace("Na", "Qq")
    frames[5] = "Lattice='no' Properties=species:S:1:pos:R:3"
    (tmp_path / "bad.xyz").write_text("\n".join([*frames, "9", "comment", "H 0 0 0"]))
    records = list(read_structures(tmp_path / "bad.xyz"))
    assert [record.error is None for record in records] == [False, False, True, False]
    assert "ends before its 9 atoms" in records[-1].error


def test_xyz_without_a_cell_and_with_an_absurd_count(tmp_path):
    (tmp_path / "mol.xyz").write_text("1\nno cell here\nH 0 0 0\n999999999999\n\n")
    molecule, absurd = read_structures(tmp_path / "mol.xyz")
    assert "singular" in molecule.error
    assert "999999999999" in absurd.error


def test_xyz_without_atoms(tmp_path):
    (tmp_path / "empty.xyz").write_text('0\nLattice="4 0 0 0 4 0 0 0 4"\n')
    assert "0 atoms" in errors_of(tmp_path / "empty.xyz")["empty.xyz#1"]


def test_cif_with_many_blocks(tmp_path):
    text = "data_global\n_journal_year 2020\n" + cif(crystals.nacl()) + cif(crystals.triclinic())
    (tmp_path / "many.cif").write_text(text)
    first, second = read_structures(tmp_path / "many.cif")
    assert first.structure.composition.reduced_formula == "NaCl"
    assert_same_coordinates(second.structure, crystals.triclinic())


def test_csv_with_cif_column(tmp_path):
    with (tmp_path / "set.csv").open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["", "material_id", "band_gap", "label", "cif", "split"])
        table.writerow([0, "mp-1", 5.0, "x", cif(crystals.nacl()), "train"])
        table.writerow([1, "mp-2", "", "y", "rubbish", "val"])
        table.writerow([2, "mp-3", 0.25, "z", cif(crystals.triclinic()), "test"])
        table.writerow([3, "mp-4", "too", "many", "values", "in", "this", "row"])
    good, bad, triclinic, ragged = read_structures(tmp_path / "set.csv")
    assert good.properties == {"band_gap": 5.0}
    assert (good.name, good.split) == ("mp-1", "train")
    assert bad.name == "mp-2"
    assert bad.error
    assert_same_coordinates(triclinic.structure, crystals.triclinic())
    assert "8 values for 6 columns" in ragged.error


def test_json_structures_are_data(tmp_path):
    expected = crystals.triclinic()
    partial = crystals.nacl()
    partial.replace(0, {"Na": 0.5})
    row = {"material_id": "mine", "structure": expected.as_dict(), "band_gap": 2}
    entries = [expected.as_dict(), {"@module": "os", "@class": "system"}, row, partial.as_dict(), 7]
    (tmp_path / "set.json").write_text(json.dumps(entries))
    bare, alien, named, disordered, number = read_structures(tmp_path / "set.json")
    assert_same_coordinates(bare.structure, expected)
    assert "no lattice" in alien.error
    assert (named.name, named.properties) == ("mine", {"band_gap": 2.0})
    assert "partially occupied" in disordered.error
    assert "'7'" in number.error


# Refusals


def test_errors_of_libraries_become_reasons():
    assert one_line(KeyError("D")) == "KeyError: missing 'D'"
    assert one_line(IndexError()) == "IndexError"
    assert one_line(ValueError("headline\n  the reason\n")) == "the reason"


def replaced(old: str, new: str) -> str:
    text = cif(crystals.triclinic())
    assert old in text
    return text.replace(old, new)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (replaced("0.87000000  1\n", "0.87000000  0.5\n"), r"atom 4 \(O3\) is partially occupied"),
        (replaced("0.41000000", "nan"), r"coordinate y of atom 2 \(P1\) is 'nan'"),
        (replaced("0.41000000", "?"), r"coordinate y of atom 2 \(P1\) is '\?'"),
        (replaced("_cell_length_a   4.10000000", "_cell_length_a   0.0"), "_cell_length_a is 0 Å"),
        (replaced("Li", "Lr"), "unknown element 'Lr'"),
        (replaced("Li", "Xx"), "unknown element 'Xx'"),
        (cif(crystals.nacl()).split("loop_")[0], "unreadable CIF: no _atom_site_fract_x"),
        ("", "unreadable CIF"),
    ],
)
def test_broken_cif(tmp_path, text, reason):
    (tmp_path / "broken.cif").write_text(text)
    (record,) = read_structures(tmp_path / "broken.cif")
    assert record.structure is None
    with pytest.raises(ValueError, match=reason):
        raise ValueError(record.error)


POSCAR = "x\n1.0\n4 0 0\n0 4 0\n{c}\nNa Cl\n1 1\ndirect\n0 0 0\n0.5 {y} 0.5\n"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (POSCAR.format(c="0 0 4", y="nan"), "atom 2 is 'nan'"),
        (POSCAR.format(c="4 4 0", y="0.5"), "lattice is singular"),
        (POSCAR.format(c="0 0 inf", y="0.5"), "lattice vector 3 is 'inf'"),
        (POSCAR.format(c="0 0 4", y="0.5").replace("1 1", "0 0"), "0 atoms"),
        (POSCAR.format(c="0 0 4", y="0.5").replace("1 1", "1 99999999999"), "100000000000 atoms"),
        (POSCAR.format(c="0 0 4", y="0.5").replace("Na Cl\n", ""), "cannot be determined"),
    ],
)
def test_broken_poscar(tmp_path, text, reason):
    (tmp_path / "POSCAR").write_text(text)
    (record,) = read_structures(tmp_path / "POSCAR")
    assert record.structure is None
    assert reason in record.error


def test_dummy_species_are_no_elements():
    structure = Structure(Lattice.cubic(3), [DummySpecies("Xx")], [[0, 0, 0]])
    with pytest.raises(ValueError, match="unknown element 'Xx'"):
        from_structures([structure])


@pytest.mark.parametrize(
    "make", ["missing", "empty_folder", "text", "no_column", "bad_zip", "bad_json"]
)
def test_hopeless_sources_are_named(tmp_path, make):
    path = {
        "missing": tmp_path / "none.cif",
        "empty_folder": tmp_path,
        "text": tmp_path / "notes.txt",
        "no_column": tmp_path / "table.csv",
        "bad_zip": tmp_path / "bad.zip",
        "bad_json": tmp_path / "bad.json",
    }[make]
    if path != tmp_path and make != "missing":
        path.write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match=path.name):
        read_structures(path)


# Writing


@pytest.mark.parametrize(
    ("structure", "space_group"),
    [
        (crystals.nacl_primitive(), 225),
        (crystals.rutile(), 136),
        (crystals.quartz(), 154),
        (crystals.li3ps4(), 121),
        (crystals.triclinic(), 1),
        (crystals.single_atom(), 225),
    ],
)
def test_symmetrised_cif_reopens_with_its_space_group(tmp_path, structure, space_group):
    noisy = structure.copy()
    noisy.perturb(0.02, seed=0) if space_group != 1 and len(structure) > 1 else None
    text, written = to_cif(noisy, symprec=0.1)
    assert written == space_group
    write_text(text, tmp_path / "out.cif")
    reopened = Structure.from_file(tmp_path / "out.cif")
    assert SpacegroupAnalyzer(reopened).get_space_group_number() == space_group
    assert StructureMatcher(scale=False).fit(reopened, structure)
    assert f"Int_Tables_number   {space_group}" in text


def test_unsymmetrised_cif_keeps_every_atom():
    noisy = crystals.rutile()
    noisy.perturb(0.02, seed=0)
    text, space_group = to_cif(noisy, symprec=None)
    assert space_group == 1
    assert TIGHT.fit(Structure.from_str(text, fmt="cif"), noisy)


def test_cif_falls_back_to_p1_when_symmetry_would_change_the_crystal():
    """At a tolerance of 0.5 Å a badly distorted rutile is called 136: not to be written so."""
    distorted = crystals.rutile()
    distorted.perturb(0.3, seed=0)
    assert SpacegroupAnalyzer(distorted, 0.5).get_space_group_number() == 136
    text, space_group = to_cif(distorted, symprec=0.5)
    assert space_group == 1
    assert TIGHT.fit(Structure.from_str(text, fmt="cif"), distorted)


def test_writing_is_atomic(tmp_path):
    target = tmp_path / "out.extxyz"
    write_extxyz([crystals.nacl()], target, [{}])
    before = target.read_bytes()
    with pytest.raises(ValueError, match="expected one each"):
        write_extxyz([crystals.nacl()], target, [])
    with pytest.raises(AttributeError):
        write_extxyz([crystals.nacl(), "no structure"], target, [{}, {}])
    with pytest.raises(ZeroDivisionError), atomic_path(target) as temporary:
        assert temporary.write_text("half") / 0
    assert target.read_bytes() == before
    assert list(tmp_path.iterdir()) == [target]


def test_names_of_files_are_safe_and_distinct():
    names = ["a b.cif", "a_b", "A_B", "../../etc/passwd", "", "notes"]
    found = file_names(names, reserved=["notes"])
    assert found == ["a_b", "a_b_2", "A_B_3", "_.._etc_passwd", "unnamed", "notes_2"]
