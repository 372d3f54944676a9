"""Reading what users have: csv, folder with csv, crystal table; one line for what is unusable."""

import csv

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from crystals import simple_compounds
from labelled import mass, volume, write_csv, write_folder

from mattergen_lite import finetune
from mattergen_lite.commands.probe import probe_fit
from mattergen_lite.config import PropertyConfig
from mattergen_lite.data.canonical import write_crystal_table
from mattergen_lite.data.labels import read_labelled
from mattergen_lite.probe.fit import Labels


def read(source, keep, name="mine", **options):
    prop = PropertyConfig(name=name, **options)
    return read_labelled(source, prop, keep=keep, seed=0, num_workers=1)


@pytest.fixture
def by_formula():
    return {s.composition.reduced_formula: mass(s) for s in simple_compounds()}


def test_missing_values_stay_missing(tmp_path, by_formula):
    heavy = write_csv(
        tmp_path / "data.csv", {"mine": lambda s: mass(s) if s.volume > 40 else "", "id": volume}
    )
    crystals = read(heavy, tmp_path / "kept")
    labelled = crystals.labelled("train", "val")
    assert 20 <= len(labelled) < crystals.table.num_rows == 36
    for formula, value in zip(labelled["formula"], labelled["mine"], strict=True):
        assert value.as_py() == pytest.approx(by_formula[formula.as_py()], rel=1e-5)
    assert len(crystals.labelled("val")) >= 1
    assert (tmp_path / "kept" / "crystals.parquet.errors.csv").exists()


@pytest.mark.parametrize(("pointer", "column"), [("", "file"), ("labels.csv", "cif")])
def test_folder_of_files_with_a_table_that_names_them(tmp_path, by_formula, pointer, column):
    folder = write_folder(tmp_path / "cifs", "mine", mass)
    table = (folder / "labels.csv").read_text().replace("file", column).replace("a0,", "a0.cif,")
    (folder / "labels.csv").write_text(table)
    crystals = read(folder / pointer, tmp_path / "kept")
    labelled = crystals.labelled("train", "val")
    assert len(labelled) == 36
    for formula, value in zip(labelled["formula"], labelled["mine"], strict=True):
        assert value.as_py() == pytest.approx(by_formula[formula.as_py()], rel=1e-5)


def test_files_that_are_not_there_or_not_in_the_folder_are_rejected(tmp_path):
    folder = write_folder(tmp_path / "cifs", "mine", mass)
    simple_compounds()[0].to(str(tmp_path / "outside.cif"))
    with (folder / "labels.csv").open("a", newline="") as file:
        csv.writer(file).writerows([["missing", 3.0], ["../outside.cif", 3.0]])
    assert read(folder, tmp_path / "kept").table.num_rows == 36
    rejected = (tmp_path / "kept" / "crystals.parquet.errors.csv").read_text()
    assert "missing,no such file" in rejected
    assert "../outside.cif,no such file" in rejected


def test_labels_that_are_not_used_are_counted_by_reason(tmp_path):
    """36 crystals of two atoms, 4 of them once more, 3 without a value, 5 too large, 1 broken."""
    salts = simple_compounds()
    larger = [salt.make_supercell(2, in_place=False) for salt in salts[:5]]
    for salt in larger:  # without an atom they are no longer the small crystals
        salt.remove_sites([0])
    values = iter([*range(1, 37), *range(101, 105), "", "", "", *range(201, 206)])
    unlabelled = [
        salt.replace_species({salt[0].specie: "Ag"}, in_place=False) for salt in salts[:3]
    ]
    crystals = [*salts, *salts[:4], *unlabelled, *larger]
    source = write_csv(tmp_path / "data.csv", {"mine": lambda _: next(values)}, crystals)
    with source.open("a", newline="") as file:
        csv.writer(file).writerow([7.0, "no CIF"])
    read_crystals = read(source, tmp_path / "kept")
    fits = pc.less_equal(read_crystals.table["num_atoms"], 8)
    labels = Labels.of(read_crystals, fits)
    assert len(labels.values) == 36
    assert list(labels.not_used.values()) == [1, 4, 3, 5, 0]


def test_a_crystal_table_is_taken_as_it_is(tmp_path):
    first = read(write_csv(tmp_path / "data.csv", {"mine": mass}), tmp_path / "kept").table
    with_nan = pa.array([np.nan, *first["mine"].to_pylist()[1:]], pa.float64())
    table = first.set_column(first.column_names.index("mine"), "mine", with_nan)
    write_crystal_table(table, tmp_path / "table.parquet")
    again = read(tmp_path / "table.parquet", tmp_path / "unused")
    assert again.labelled("train", "val").num_rows == 35
    assert again.table["split"] == first["split"]
    assert not (tmp_path / "unused").exists()


def test_categories_are_counted(tmp_path):
    path = write_csv(tmp_path / "data.csv", {"mine": lambda s: 1 + int(mass(s)) % 3})
    assert read(path, tmp_path / "kept", kind="category").prop.num_categories == 3


@pytest.mark.parametrize(
    ("column", "label", "options", "message"),
    [
        ("mine", mass, {"property": "yours"}, "has no column 'yours': it has mine, cif"),
        ("mine", lambda _: "", {}, "column 'mine' of .* has no values"),
        ("mine", lambda _: 1.5, {}, "is constant: 1.5 everywhere"),
        ("mine", lambda s: mass(s) if s.volume < 30 else "", {}, "expected at least 20"),
        ("mine", lambda s: s.formula, {}, "holds text such as 'Li1 F1', not numbers"),
        ("mine", lambda s: mass(s) - 30, {"log": True}, "no logarithm of that"),
        ("a.b", mass, {"property": "a.b"}, "property name 'a.b' cannot be used"),
        ("keys", mass, {"property": "keys"}, "property name 'keys' cannot be used"),
    ],
)
def test_unusable_labels_are_one_line_and_leave_nothing(tmp_path, column, label, options, message):
    path = write_csv(tmp_path / "data.csv", {column: label})
    out = tmp_path / "out"
    for verb in (finetune, probe_fit):
        with pytest.raises(ValueError, match=message) as error:
            verb(str(path), **{"property": "mine", "out": out, "num_workers": 1} | options)
        assert "\n" not in str(error.value)
        assert not out.exists()


def test_categories_are_whole_numbers_from_one(tmp_path):
    path = write_csv(tmp_path / "data.csv", {"mine": mass})
    with pytest.raises(ValueError, match="expected whole numbers from 1"):
        finetune(str(path), property="mine", out=tmp_path / "out", kind="category", num_workers=1)
