"""The canonical cell, the preparation of a crystal table, and what `describe` says of it."""

import csv

import crystals
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import spglib
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Lattice, Structure
from pymatgen.io.cif import CifWriter
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

from mattergen_lite.data.canonical import (
    canonical_crystal,
    crystal_row,
    find_space_group,
    row_structure,
    table_from_rows,
    write_crystal_table,
)
from mattergen_lite.data.describe import describe
from mattergen_lite.data.prepare import assign_splits, canonical_rows, find_duplicate_rows, prepare
from mattergen_lite.io.read import read_structures
from mattergen_lite.io.records import Document, StructureRecord

TIGHT = StructureMatcher(ltol=0.01, stol=0.01, angle_tol=0.5, scale=False)
ALL = [
    crystals.nacl,
    crystals.rutile,
    crystals.perovskite,
    crystals.quartz,
    crystals.li3ps4,
    crystals.triclinic,
    crystals.single_atom,
]
OPTIONS = {"num_workers": 1, "val_fraction": 0.2, "test_fraction": 0.2, "seed": 0, "max_atoms": 20}


def disguised(structure: Structure) -> Structure:
    """The same crystal in a skewed supercell of another orientation, origin and atom order."""
    other = structure.copy()
    other.make_supercell([[1, 1, 0], [0, 1, 0], [1, -1, 2]])
    angle = np.radians(40)
    cos, sin = np.cos(angle), np.sin(angle)
    rotation = np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]]) @ np.roll(np.eye(3), 1, axis=0)
    other = Structure(other.lattice.matrix @ rotation, other.species, other.frac_coords)
    other.translate_sites(range(len(other)), [0.1, 0.27, 0.83])
    return Structure.from_sites(list(other)[::-1])


def cif(structure: Structure) -> str:
    return str(CifWriter(structure))


# Canonical cell


@pytest.mark.parametrize("make", ALL)
def test_canonical_crystal_is_the_same_crystal(make):
    original = make()
    canonical = canonical_crystal(disguised(original))
    assert TIGHT.fit(canonical, original)
    assert canonical.density == pytest.approx(original.density, rel=1e-3)
    assert len(canonical) == len(original.get_primitive_structure())
    assert find_space_group(canonical) == SpacegroupAnalyzer(original).get_space_group_number()


@pytest.mark.parametrize("make", ALL)
def test_canonical_form(make):
    canonical = canonical_crystal(disguised(make()))
    lattice = canonical.lattice.matrix
    assert np.allclose(lattice, np.tril(lattice), atol=1e-12)
    assert (np.diagonal(lattice) > 0).all()
    assert list(canonical.atomic_numbers) == sorted(canonical.atomic_numbers)
    assert ((canonical.frac_coords >= 0) & (canonical.frac_coords < 1)).all()
    niggli = Lattice(lattice).get_niggli_reduced_lattice()
    np.testing.assert_allclose(canonical.lattice.parameters, niggli.parameters, atol=1e-3)


def test_disguises_end_in_one_cell():
    parameters = [
        canonical_crystal(structure).lattice.parameters
        for structure in (crystals.triclinic(), disguised(crystals.triclinic()))
    ]
    np.testing.assert_allclose(*parameters, atol=1e-6)


def test_canonical_crystal_keeps_chirality():
    left = crystals.quartz()
    mirrored = Structure(left.lattice.matrix * [1, 1, -1], left.species, left.frac_coords)
    numbers = [find_space_group(canonical_crystal(disguised(s))) for s in (left, mirrored)]
    assert numbers == [154, 152]


def test_left_handed_cell_keeps_chirality_where_spglib_fails(monkeypatch):
    """spglib returns right-handed cells; when it finds none, a left-handed cell comes as given."""
    quartz = crystals.quartz()
    mirrored = Structure(quartz.lattice.matrix * [1, 1, -1], quartz.species, quartz.frac_coords)
    monkeypatch.setattr(spglib, "find_primitive", lambda cell, symprec: None)
    canonical = canonical_crystal(mirrored)
    assert find_space_group(canonical) == 152
    assert TIGHT.fit(canonical, mirrored)


def test_interatomic_distances_survive_on_a_triclinic_cell():
    original = crystals.triclinic()
    canonical = canonical_crystal(original)
    np.testing.assert_allclose(canonical.distance_matrix, reordered_distances(original), atol=1e-6)


def reordered_distances(structure: Structure) -> np.ndarray:
    order = np.argsort(structure.atomic_numbers)
    return structure.distance_matrix[np.ix_(order, order)]


def test_row_stores_exact_fractions_and_the_space_group():
    row = crystal_row(StructureRecord("q", crystals.quartz(), properties={"band_gap": 5.7}), 20)
    assert (row["num_atoms"], row["space_group"], row["formula"]) == (9, 154, "SiO2")
    assert row["band_gap"] == 5.7
    assert {float(np.float32(1 / 3)), float(np.float32(2 / 3))} <= set(row["frac_coords"])
    assert TIGHT.fit(row_structure(row), crystals.quartz())


# Preparation


def source_folder(path):
    """Five distinct crystals, two copies of one of them and two broken files."""
    path.mkdir()
    for index, make in enumerate(ALL[:5]):
        (path / f"{index}.cif").write_text(cif(make()))
    (path / "x_copy.cif").write_text(cif(disguised(crystals.rutile())))
    (path / "y_copy.cif").write_text(cif(crystals.rutile()))
    (path / "z_bad.cif").write_text("rubbish")
    (path / "z_big.cif").write_text(cif(crystals.quartz()).replace("SiO2", "big"))
    return path


def rows_of(path):
    with path.open() as stream:
        return list(csv.reader(stream))


@pytest.mark.parametrize("num_workers", [1, 2])
def test_prepare_a_folder(tmp_path, num_workers):
    source = source_folder(tmp_path / "source")
    out = tmp_path / "table.parquet"
    report = prepare(source, out, **OPTIONS | {"num_workers": num_workers, "max_atoms": 8})
    table = pq.read_table(out)
    assert table["material_id"].to_pylist() == ["0.cif", "1.cif", "2.cif", "4.cif"]
    assert table["num_atoms"].to_pylist() == [2, 6, 5, 8]
    assert table["space_group"].to_pylist() == [225, 136, 221, 121]
    assert report.splits == {"train": 2, "val": 1, "test": 1}
    errors = rows_of(tmp_path / "table.parquet.errors.csv")
    assert [row[0] for row in errors] == ["name", "3.cif", "z_bad.cif", "z_big.cif"]
    assert errors[1][1] == "9 atoms in the primitive cell: expected at most 8"
    copies = rows_of(tmp_path / "table.parquet.duplicates.csv")
    assert copies == [["name", "kept"], ["x_copy.cif", "1.cif"], ["y_copy.cif", "1.cif"]]
    assert "2 duplicates" in report.text()


def test_prepared_table_reads_back_as_the_same_crystals(tmp_path):
    source = source_folder(tmp_path / "source")
    prepare(source, tmp_path / "table.parquet", **OPTIONS)
    for record, make in zip(read_structures(tmp_path / "table.parquet"), ALL, strict=False):
        assert TIGHT.fit(record.structure, make())
        assert record.properties == {}
        assert record.split in ("train", "val", "test")


def test_prepare_a_csv_keeps_properties_and_splits(tmp_path):
    with (tmp_path / "set.csv").open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["material_id", "cif", "hardness", "note", "split", "space_group"])
        table.writerow(["a", cif(crystals.nacl()), 1.5, "soft", "test", 99])
        table.writerow(["b", cif(crystals.rutile()), "", "hard", "train", 99])
        table.writerow(["c", cif(crystals.quartz()), 7, "hard", "", 99])
        table.writerow(["d", cif(crystals.perovskite()), 5, "hard", "holdout", 99])
    report = prepare(tmp_path / "set.csv", tmp_path / "out.parquet", **OPTIONS)
    table = pq.read_table(tmp_path / "out.parquet")
    assert table["split"].to_pylist() == ["test", "train", "unknown"]
    assert table["hardness"].to_pylist() == [1.5, None, 7.0]
    assert table["space_group"].to_pylist() == [225, 136, 154]
    assert "note" not in table.column_names
    assert "expected one of train, val, test" in report.rejected[0].reason


@pytest.mark.parametrize(
    ("text", "options", "reason"),
    [
        ("rubbish", {}, "no usable structure; a.cif: unreadable CIF"),
        (cif(crystals.nacl()), {"val_fraction": 0.5}, "cannot split 1 crystals"),
    ],
)
def test_nothing_is_written_when_nothing_is_usable(tmp_path, text, options, reason):
    (tmp_path / "a.cif").write_text(text)
    with pytest.raises(ValueError, match=reason):
        prepare(tmp_path / "a.cif", tmp_path / "new" / "out.parquet", **OPTIONS | options)
    assert [path.name for path in tmp_path.iterdir()] == ["a.cif"]


def rows_from(structures):
    return [
        crystal_row(StructureRecord(str(index), structure), 50)
        for index, structure in enumerate(structures)
    ]


def test_duplicates_need_the_same_structure_not_only_the_formula():
    anatase = Structure.from_spacegroup(
        "I4_1/amd", Lattice.tetragonal(3.78, 9.51), ["Ti", "O"], [[0, 0, 0], [0, 0, 0.208]]
    )
    swollen = crystals.rutile()
    swollen.scale_lattice(1.3 * swollen.volume)
    noisy = crystals.rutile()
    noisy.perturb(0.03, seed=1)
    rows = rows_from([crystals.rutile(), anatase, swollen, crystals.nacl(), noisy, anatase])
    assert find_duplicate_rows(rows, num_workers=1) == {4: 0, 5: 1}


def test_random_split_is_seeded_and_complete():
    rows = [{"material_id": str(index), "split": None} for index in range(100)]
    fractions = {"val_fraction": 0.1, "test_fraction": 0.05}
    first, again, other = (
        [row["split"] for row in assign_splits(rows, **fractions, seed=seed)] for seed in (1, 1, 2)
    )
    assert first == again != other
    assert (first.count("train"), first.count("val"), first.count("test")) == (85, 10, 5)


@pytest.mark.parametrize("fraction", [-0.1, 1.0])
def test_impossible_split_fractions(fraction):
    rows = [{"material_id": str(index), "split": None} for index in range(10)]
    with pytest.raises(ValueError, match=f"val_fraction={fraction}"):
        assign_splits(rows, val_fraction=fraction, test_fraction=0.0, seed=0)


# Description


@pytest.fixture
def table_path(tmp_path):
    rows = rows_from([crystals.nacl(), crystals.rutile(), crystals.quartz()])
    for row, split, value in zip(rows, ("train", "train", "val"), (1.0, None, 4.0), strict=True):
        row |= {"split": split} | ({"hardness": value} if value else {})
    write_crystal_table(table_from_rows(rows), tmp_path / "table.parquet")
    return tmp_path / "table.parquet"


def test_describe_counts(table_path):
    info = describe(table_path)
    assert info.num_crystals == 3
    assert info.splits == {"train": 2, "val": 1}
    assert info.sizes == {2: 1, 6: 1, 9: 1}
    assert info.elements == {8: 2, 11: 1, 14: 1, 17: 1, 22: 1}
    hardness = info.properties["hardness"]
    assert (hardness.count, hardness.minimum, hardness.median, hardness.maximum) == (2, 1, 2.5, 4)
    assert "66.7%" in info.text()


def test_describe_draws_a_figure(table_path, tmp_path):
    describe(table_path).write_png(tmp_path / "figures" / "info.png")
    assert (tmp_path / "figures" / "info.png").read_bytes().startswith(b"\x89PNG")


def test_describe_refuses_other_tables(tmp_path):
    pq.write_table(pa.table({"cif": ["x"]}), tmp_path / "other.parquet")
    with pytest.raises(ValueError, match="no columns atomic_numbers"):
        describe(tmp_path / "other.parquet")


def test_embedded_table_is_canonical():
    """Members of MP-20 are marked, cells are lower triangular and hold the promised sizes."""
    info = describe("embedded")
    assert info.num_crystals > 100_000
    assert max(info.sizes) == 52
    assert info.splits["train"] > 25_000
    assert 7_000 < info.splits["test"] < 7_500


@pytest.mark.parametrize(
    ("column", "values"),
    [("split", [1]), ("num_atoms", ["two"]), ("atomic_numbers", [3]), ("lattice", [["a"]])],
)
def test_a_table_of_other_types_is_one_line(tmp_path, column, values):
    (row,), _ = canonical_rows(
        [Document("salt", "row", {"structure": crystals.nacl().as_dict()})], 0, 20
    )
    table = table_from_rows([row | {"split": "train"}])
    place = table.column_names.index(column)
    pq.write_table(table.set_column(place, column, pa.array(values)), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=f"column {column} holds"):
        describe(tmp_path / "a.parquet")
