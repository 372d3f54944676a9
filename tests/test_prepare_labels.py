"""Labels on their way into a crystal table: none lost, none silently wrong, each accounted for."""

import csv
import json

import pyarrow.parquet as pq
import pytest
from pymatgen.core import Lattice, Structure

from mattergen_lite.data.prepare import prepare
from mattergen_lite.data.totals import is_total

SALTS = [("Rb", "F", 5.64), ("Cs", "F", 6.01), ("Ag", "Cl", 5.55), ("Ni", "O", 4.18)]


def rock_salt(cation, anion, edge):
    """The conventional cell, of four formula units."""
    sites = [[0, 0, 0], [0.5, 0.5, 0.5]]
    return Structure.from_spacegroup("Fm-3m", Lattice.cubic(edge), [cation, anion], sites)


CONVENTIONAL = [rock_salt(*salt) for salt in SALTS]
PRIMITIVE = [crystal.get_primitive_structure() for crystal in CONVENTIONAL]


def prepared(source, out):
    """Columns of the table as lists, and the report."""
    report = prepare(
        source, out, num_workers=0, val_fraction=0.0, test_fraction=0.0, seed=0, max_atoms=20
    )
    return pq.read_table(out).to_pydict(), report


def write_rows(path, names, rows):
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "cif", *names])
        for number, (structure, *cells) in enumerate(rows):
            writer.writerow([f"r{number}", structure.to(fmt="cif"), *cells])
    return path


def listed(out, what):
    with out.with_name(f"{out.name}.{what}.csv").open() as file:
        return list(csv.DictReader(file))


def test_one_text_among_numbers_costs_one_label(tmp_path):
    cells = [("1.5", "soft", "x"), ("n.d.", "3", "y"), (" 2.5 ", "", "z"), ("1e300", "-inf", "")]
    rows = [(crystal, *row) for crystal, row in zip(CONVENTIONAL, cells, strict=True)]
    source = write_rows(tmp_path / "a.csv", ["gap", "hardness", "note"], rows)
    table, report = prepared(source, tmp_path / "out.parquet")
    assert table["gap"] == [1.5, None, 2.5, None]  # 1e300 is beyond float32
    assert table["hardness"] == [None, 3.0, None, None]
    assert "note" not in table
    counts = {c.column: (c.known, c.empty, c.text, c.infinite) for c in report.columns}
    assert counts == {"gap": (2, 0, 1, 1), "hardness": (1, 1, 1, 1), "note": (0, 1, 3, 0)}
    assert "gap: 2 of 4 crystals, 1 text, 1 not finite, such as 'n.d.' of r1" in report.text()
    assert "no finite number in note: left out" in report.text()
    columns = listed(tmp_path / "out.parquet", "columns")
    assert [(row["column"], row["example"]) for row in columns] == [
        ("gap", "'n.d.' of r1"),
        ("hardness", "'soft' of r0"),
        ("note", "'x' of r0"),
    ]


def test_every_cell_is_counted_once(tmp_path):
    """Known, empty, text and not finite are all the cells, in every column, of every format."""
    entries = [
        {"name": f"j{i}", "structure": crystal.as_dict(), "a": a, "b": b}
        for i, (crystal, a, b) in enumerate(
            zip(
                CONVENTIONAL,
                [1, "2.5", None, {"v": 1}],
                [True, float("nan"), [1], "inf"],
                strict=True,
            )
        )
    ]
    (tmp_path / "a.json").write_text(json.dumps(entries))
    table, report = prepared(tmp_path / "a.json", tmp_path / "out.parquet")
    assert (table["a"], table["b"]) == ([1.0, 2.5, None, None], [1.0, None, None, None])
    for column in report.columns:
        assert column.known + column.empty + column.text + column.infinite == len(entries)


def test_copies_share_their_labels_in_any_order(tmp_path):
    """The first copy has no label, and its cell is another one."""
    copies = [
        (CONVENTIONAL[0], "", 30, ""),
        (PRIMITIVE[0], 1.5, 30.01, "train"),
        (PRIMITIVE[1], "", "", "val"),
    ]
    for order in ([0, 1, 2], [1, 0, 2], [2, 1, 0]):
        rows = [copies[place] for place in order]
        source = write_rows(tmp_path / "a.csv", ["gap", "bulk", "split"], rows)
        table, report = prepared(source, tmp_path / "out.parquet")
        fluoride = table["formula"].index("RbF")
        assert table["gap"][fluoride] == 1.5
        assert table["bulk"][fluoride] == pytest.approx(30, abs=0.02)
        assert table["split"][fluoride] == "train"
        assert (len(report.duplicates), report.contradictions) == (1, [])


def test_contradictions_are_listed_and_the_first_label_stays(tmp_path):
    rows = [
        (CONVENTIONAL[0], 1.5, "train"),
        (PRIMITIVE[0], 1.6, "test"),
        (CONVENTIONAL[1], 3, "val"),
    ]
    out = tmp_path / "out.parquet"
    table, report = prepared(write_rows(tmp_path / "a.csv", ["gap", "split"], rows), out)
    assert table["gap"] == [1.5, 3.0]
    assert listed(out, "contradictions") == [
        {"name": "r1", "kept": "r0", "column": "gap", "value": "1.6", "kept_value": "1.5"},
        {"name": "r1", "kept": "r0", "column": "split", "value": "test", "kept_value": "train"},
    ]
    assert "2 contradictions" in report.text()
    assert "gap: 2 of 2 crystals, 1 contradicted by duplicates" in report.text()


def frames(crystals, energies):
    lines = []
    for number, (crystal, energy) in enumerate(zip(crystals, energies, strict=True)):
        cell = " ".join(map(str, crystal.lattice.matrix.ravel()))
        values = f"energy={energy} magmom=8 energy_per_atom=-3.5 name=x{number}"
        lines += [str(len(crystal)), f'Lattice="{cell}" {values}']
        lines += [f"{site.specie.symbol} {site.x} {site.y} {site.z}" for site in crystal]
    return "\n".join(lines) + "\n"


def test_totals_are_those_of_the_cell_of_the_table(tmp_path):
    """A conventional cell of rock salt has four primitive cells: -28 eV are -7 eV."""
    (tmp_path / "a.extxyz").write_text(frames(CONVENTIONAL, [-28, -24, -20, -36]))
    table, report = prepared(tmp_path / "a.extxyz", tmp_path / "out.parquet")
    assert table["num_atoms"] == [2] * 4
    assert table["energy"] == [-7.0, -6.0, -5.0, -9.0]
    assert table["magmom"] == [2.0] * 4
    assert table["energy_per_atom"] == [-3.5] * 4
    assert "energy: 4 of 4 crystals, taken for totals of the cell, 4 scaled" in report.text()


def test_a_total_does_not_depend_on_the_cell_it_came_with(tmp_path):
    crystals = [CONVENTIONAL[0], PRIMITIVE[0], PRIMITIVE[0] * [3, 1, 1]]
    (tmp_path / "a.extxyz").write_text(frames(crystals, [-28, -7, -21]))
    table, report = prepared(tmp_path / "a.extxyz", tmp_path / "out.parquet")
    assert table["energy"] == [-7.0]
    contradicted = {contradiction.column for contradiction in report.contradictions}
    assert contradicted == {"magmom"}  # 8 of every cell cannot be: 2, 8 and 8/3 of the primitive


def test_names_of_totals():
    for name in (
        "energy",
        "Energy (eV)",
        "total_energy_eV",
        "free_energy",
        "magmom",
        "volume",
        "NSITES",
    ):
        assert is_total(name)
    for name in (
        *("energy_per_atom", "energy (eV/atom)", "formation_energy_per_atom", "e_above_hull"),
        *("dielectric_total", "total_magnetization_normalized_vol", "volume_per_atom", "gap"),
    ):
        assert not is_total(name)
