"""The judge as a library: objects in, judgements out, nothing written unless asked."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from ase.calculators.emt import EMT
from crystals import nacl, quartz, rutile
from models import tiny_model
from pymatgen.core import Lattice, Structure

import mattergen_lite
from mattergen_lite import judge, load, sample, score
from mattergen_lite.files.folders import write_text
from mattergen_lite.options.flat import arguments_of
from mattergen_lite.options.judge import JudgeOptions
from mattergen_lite.options.request import Request
from mattergen_lite.runs.view import svg
from mattergen_lite.scoring.metrics.hits import HitRate
from mattergen_lite.scoring.property_result import PropertyResult

QUICK = {"relax": False, "num_workers": 0}


def mixed() -> Structure:
    """Sites that two elements share."""
    crystal = nacl()
    crystal.replace(0, {"Na": 0.5, "K": 0.5})
    return crystal


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    path = tmp_path_factory.mktemp("files") / "rutile.cif"
    rutile().to(str(path))
    molecule = nacl().to_ase_atoms()
    molecule.pbc = (True, True, False)
    salt = {"salt": nacl(), "same": nacl().to_ase_atoms(), "file": str(path)}
    return judge(salt | {"mixed": mixed(), "<slab>": molecule, "quartz": quartz()}, **QUICK)


def test_structures_of_every_package_are_judged(judged):
    found = {one.raw.name: one for one in judged}
    assert found["salt"].raw.symmetry.space_group == 225
    assert found["same"].raw.novelty.duplicate_of == "salt"
    assert found["rutile.cif"].raw.symmetry.space_group == 136
    assert "only ordered structures are accepted" in found["mixed"].raw.error
    assert "periodic in all three directions" in found["<slab>"].raw.error
    assert [one.rank for one in judged] == [1, 2, 3, 4, 5, 6]


def test_judgements_are_a_sequence_and_a_table(judged):
    assert len(judged) == 6
    assert [one.rank for one in judged[1:3]] == [2, 3]
    table = judged.to_pandas()
    assert table["name"].tolist() == [one.raw.name for one in judged]
    assert table.set_index("name")["density"]["salt"] == pytest.approx(2.107, abs=1e-3)
    structures = judged.structures()
    assert structures[-1] is None
    assert structures[0].composition.reduced_formula == judged[0].raw.formula
    assert judged.summary().raw.readable == pytest.approx(4 / 6)
    assert judged.folder is None
    assert "candidates.csv" not in judged.text()


def test_judgements_show_themselves(judged):
    assert len(repr(judged)) < 200
    assert all(len(repr(one)) < 1000 for one in judged)
    page = judged._repr_html_()
    assert page.count("<svg") == 4
    assert "&lt;slab&gt;" in page
    assert "<slab>" not in page
    assert "F4_132" not in page
    assert "Fm-3m" in page


def test_a_picture_has_the_atoms_on_all_faces():
    assert svg(nacl()).count("<circle") == 27  # 14 of one kind, 13 of the other
    assert svg(rutile()).count("<circle") == 9 + 6  # corners and centre; 4 on faces, 2 inside
    with pytest.raises(ValueError, match="expected at most"):
        svg(nacl() * (3, 3, 3))


def test_saved_judgements_are_a_run(judged, tmp_path):
    saved = judged.save(tmp_path / "run", num_workers=0)
    assert saved.folder == tmp_path / "run"
    with pytest.raises(ValueError, match="holds an earlier run"):
        judged.save(tmp_path / "run", num_workers=0)
    again = load(tmp_path / "run")
    assert [one.row() for one in again] == [one.row() for one in judged]
    assert again.figures() == saved.figures()
    assert again.provenance["verb"] == "judge"
    scored = score(str(tmp_path / "run"), out=tmp_path / "scored", **QUICK)
    files = [{path.name for path in one.folder.iterdir()} for one in (saved, scored)]
    assert files[0] == files[1] >= {"candidates.csv", "structures.extxyz", "cifs", "report.html"}
    assert [one.row() for one in scored] == [one.row() for one in judged]


def test_damaged_or_missing_runs_are_one_line(judged, tmp_path):
    with pytest.raises(ValueError, match="holds no finished run"):
        load(tmp_path)
    judged[:2].save(tmp_path / "run", num_workers=0)
    stored = tmp_path / "run" / "candidates.parquet"
    content = stored.read_bytes()
    stored.write_bytes(content[:-20])
    with pytest.raises(ValueError, match="is damaged"):
        load(tmp_path / "run")
    stored.write_bytes(content)
    stored.with_name("run.json").write_text('{"format": 1}')
    for read in (load, lambda run: score(run, out=None, **QUICK)):
        with pytest.raises(ValueError, match=r"older version.*structures\.extxyz again"):
            read(tmp_path / "run")


def test_requirements_come_first_in_the_ranks(judged):
    """Without any, the known salt is first: it fails one check, as the new but unlikely one."""
    new = Structure(Lattice.cubic(5.0), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.3]])
    charged = new.copy()
    charged.replace(0, "Ca")
    charged.append("Na", [0.5, 0, 0.5])
    options = JudgeOptions(relax=False, require="novel")
    first = judge({"salt": nacl(), "new": charged}, num_workers=0, relax=False)
    again = judge(first, options=options, num_workers=0)
    assert again.checks == ("novel",)
    names = [one.raw.name for one in again]
    assert names == sorted(names, key=lambda name: name != "new")
    assert [one.raw for one in again] == sorted(
        (one.raw for one in first), key=lambda raw: names.index(raw.name)
    )


@pytest.mark.parametrize("nothing", [[], {}, 3, [nacl(), 3], [None]])
def test_what_is_no_structure_is_refused(nothing):
    with pytest.raises(ValueError, match="expected pymatgen Structures or their as_dict"):
        judge(nothing, **QUICK)


def test_files_that_are_passed_over_are_counted(tmp_path, capsys):
    write_text(nacl().to(fmt="cif"), tmp_path / "in" / "a" / "salt.cif")
    for name in ("a/one.json", "two.JSON", "notes.txt", "Makefile", ".hidden", "out/run.json"):
        write_text("{}", tmp_path / "in" / name)
    (tmp_path / "in" / "out" / "run.json").unlink()
    score(tmp_path / "in", out=tmp_path / "in" / "out", **QUICK)
    said = f"not read in {tmp_path / 'in'}: 2 .json, 1 without an ending, 1 .txt; "
    assert said in capsys.readouterr().err
    score(tmp_path / "in" / "a" / "salt.cif", out=None, **QUICK)
    assert "not read" not in capsys.readouterr().err


def test_hits_are_those_of_the_candidates_that_are_left(judged):
    """Verifying and slicing change candidates: their hits are counted anew, those known stay."""
    met = [outcome(value, on_target) for value, on_target in ((1.5, True), (9.0, False))]
    both = [replace(one, outcomes=(met[0],)) for one in judged[:2]]
    rate = HitRate(target="band_gap", num_measured=2, num_hits=2, num_known=8, num_known_hits=1)
    before = replace(judged[:2], hits=(rate,), candidates=tuple(both))
    after = before.with_candidates([both[0], replace(both[1], outcomes=(met[1],))])
    assert after.hits == (replace(rate, num_hits=1),)
    assert before[:1].hits == (replace(rate, num_measured=1, num_hits=1),)


def outcome(value: float, on_target: bool) -> PropertyResult:
    return PropertyResult(
        property="band_gap", target=1.5, value=value, method="known", error=None,
        on_target=on_target,
    )  # fmt: skip


def test_structures_in_memory_are_not_a_source_of_score():
    with pytest.raises(ValueError, match="source is of type list: expected a path"):
        score([nacl()], **QUICK)
    with pytest.raises(ValueError, match="seed_structure is of type Structure: expected a path"):
        sample(seed_structure=nacl())
    with pytest.raises(ValueError, match="energies is of type dict: expected a path"):
        judge(nacl(), energies={}, **QUICK)


def test_inputs_of_raw_cells_are_refused(tmp_path):
    with pytest.raises(ValueError, match="dft-inputs need relaxed crystals"):
        judge(nacl(), dft_inputs=True, **QUICK)


def fail(*arguments: object, **options: object) -> None:
    raise OSError("worked out again")


def test_a_run_remembers(tmp_path, monkeypatch):
    """Other requirements rank again, another potential asks for energies; nothing else is done."""
    write_text(nacl().to(fmt="cif"), tmp_path / "in" / "salt.cif")
    write_text(rutile().to(fmt="cif"), tmp_path / "in" / "rutile.cif")
    chgnet = {"potential": "chgnet", "second_opinion": None, "num_workers": 0}
    first = score(tmp_path / "in", out=tmp_path / "first", **chgnet)
    for name in ("relax", "release"):
        monkeypatch.setattr(f"mattergen_lite.scoring.potential_runner.{name}", fail)
    other = score(tmp_path / "first", out=tmp_path / "other", num_workers=0)
    assert {one.stability.potential for one in other} == {"7net-l3i5"}
    by_name = {one.raw.name: one for one in first}
    for one in other:
        before = by_name[one.raw.name]
        assert one.relaxed_structure == before.relaxed_structure
        assert one.stability.second_e_above_hull_raw == before.stability.e_above_hull_raw
        assert one.stability.e_above_hull != before.stability.e_above_hull
    monkeypatch.setattr("mattergen_lite.scoring.potential_runner.potential_energy", fail)
    monkeypatch.setattr("mattergen_lite.scoring.score.validity", fail)
    again = score(
        tmp_path / "other",
        out=tmp_path / "again",
        require="metastable",
        dft_inputs=True,
        num_workers=0,
    )
    assert [one.stability for one in again] == [one.stability for one in other]
    assert again.checks == ("metastable",)
    assert (tmp_path / "again" / "dft" / "salt" / "mp-relax" / "POSCAR").exists()
    in_memory = judge(load(tmp_path / "first"), **chgnet)
    assert [one.row() for one in in_memory] == [one.row() for one in first]
    replaced = score(tmp_path / "in", out=tmp_path / "first", overwrite=True, **chgnet)
    assert [one.row() for one in replaced] == [one.row() for one in first]


def test_crystals_of_a_reference_of_ones_own_are_new_to_the_potentials(tmp_path):
    """They are not novel, but no potential was trained on them: their errors are not smaller."""
    own = Structure(Lattice.cubic(3.9), ["Rb", "Ag"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    own.to(str(tmp_path / "own.cif"))
    chgnet = {"potential": "chgnet", "second_opinion": None, "num_workers": 0}
    (alone,) = judge(own, **chgnet)
    (held,) = judge(own, reference=[tmp_path / "own.cif"], **chgnet)
    assert alone.raw.novelty.is_novel
    assert held.raw.novelty.nearest_known == "own.cif"
    assert held.stability == alone.stability
    (known,) = judge(nacl(), **chgnet)
    assert known.stability.e_above_hull_std < alone.stability.e_above_hull_std


def test_tab_completion_lists_the_public_names_without_torch():
    assert {"judge", "load", "generate", "JudgeOptions", "Judgements"} <= {*dir(mattergen_lite)}
    code = (
        "import sys, mattergen_lite; dir(mattergen_lite); mattergen_lite.JudgeOptions;"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=600)


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("elements", ["Li", "O"], "Li,O"),
        ("chemical_system", ("Li", "O"), "Li-O"),
        ("num_atoms", range(4, 9), "4..8"),
        ("num_atoms", (4, 8), "4..8"),
        ("num_atoms", 4, "4"),
        ("space_group", 225, "225"),
        ("space_group", range(195, 231), "195..230"),
        ("fix_sites", [0, range(4, 8), "O"], "0,4..7,O"),
        (
            "condition",
            {"band_gap": (1.5, 2.5), "crystal_system": "cubic"},
            ["band_gap=1.5..2.5", "crystal_system=cubic"],
        ),
        ("condition", "band_gap<2", ["band_gap<2"]),
    ],
)
def test_requests_take_objects_of_python(name, value, text):
    """The object, its text and what a record has of it ask for the same."""
    asked = Request(**{name: value})
    written = arguments_of(asked)[name]
    assert written == text
    assert Request(**{name: text}) == Request(**{name: getattr(asked, name)}) == asked


def test_weights_are_numbers_texts_or_by_property():
    gap = {"condition": {"band_gap": 2}}
    assert Request(guidance=2, **gap) == Request(guidance="2", **gap)
    assert Request(guidance={"band_gap": 2}, **gap) == Request(guidance=["band_gap=2"], **gap)
    assert Request(probe="a").probe == (Path("a"),)
    assert Request(checkpoint=Path("a")).checkpoint == "a"


def test_samples_are_structures_that_the_judge_knows_by_name(tmp_path):
    tiny_model().save(tmp_path / "model")
    asked = {"steps": 3, "num_atoms": range(2, 4), "seed": 1}
    first = sample(tmp_path / "model", num_samples=2, first_sample=5, **asked)
    (again,) = sample(str(tmp_path / "model"), num_samples=1, first_sample=6, **asked)
    assert [one.properties["name"] for one in first] == ["000005", "000006"]
    assert again == first[1]
    assert {one.raw.name for one in judge(first, **QUICK)} == {"000005", "000006"}


def test_a_judgement_by_a_calculator_of_ones_own_is_saved_and_loaded(tmp_path):
    copper = Structure.from_spacegroup("Fm-3m", Lattice.cubic(3.7), ["Cu"], [[0, 0, 0]])
    judged = judge([copper], potential=EMT(), relaxer=EMT(), second_opinion=None, num_workers=0)
    judged.save(tmp_path / "run", num_workers=0)
    (again,) = load(tmp_path / "run")
    assert again.stability.potential == judged[0].stability.potential == "EMT"
    assert again.stability.e_above_hull == judged[0].stability.e_above_hull
