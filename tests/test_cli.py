"""The commands, as a user runs them: real files in, real files out, one-line errors."""

import csv
import json
import math
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from crystals import nacl, quartz, rutile
from models import tiny_model
from pymatgen.core import Element, Lattice, Structure
from pymatgen.io.cif import CifWriter
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

from mattergen_lite import cli, score
from mattergen_lite.commands.generate import generate
from mattergen_lite.data.crystals import embedded_crystals
from mattergen_lite.files.folders import claimed
from mattergen_lite.io import parallel
from mattergen_lite.io.formats.structures import ordered
from mattergen_lite.io.parse import parse_document
from mattergen_lite.io.read import read_structures
from mattergen_lite.io.records import Document
from mattergen_lite.io.write import write_extxyz
from mattergen_lite.options.judge import JudgeOptions
from mattergen_lite.processes import Pool
from mattergen_lite.scoring import score as scoring
from mattergen_lite.scoring.criteria.symmetry import space_group_of
from mattergen_lite.scoring.energy.potential_set import PotentialSet
from mattergen_lite.scoring.execution.result_cache import ResultCache
from mattergen_lite.scoring.judge import is_worth_relaxing
from mattergen_lite.scoring.potential_runner import PotentialRunner

QUICK = {"relax": False, "num_workers": 0}
HANGS = "a file on which a parser hangs"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    tiny_model().save(folder)
    return folder


@pytest.fixture(scope="module")
def run(checkpoint, tmp_path_factory):
    out = tmp_path_factory.mktemp("results")
    generate(out=out, num_samples=5, checkpoint=str(checkpoint), steps=6, num_atoms="2..6", **QUICK)
    return out


def read_rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def command(monkeypatch, capsys, *arguments: object) -> tuple[int, str]:
    """Exit code and standard error of a command."""
    monkeypatch.setattr(sys, "argv", ["mattergen-lite", *map(str, arguments)])
    try:
        cli.main()
    except SystemExit as done:
        code = done.code
    return code or 0, capsys.readouterr().err


def test_generate_writes_every_sample(run):
    rows = read_rows(run / "candidates.csv")
    assert [row["rank"] for row in rows] == [str(i) for i in range(1, 6)]
    assert sorted(row["name"] for row in rows) == [f"{i:06d}" for i in range(5)]
    summary = json.loads((run / "summary.json").read_text())
    assert summary["figures"]["num_structures"] == 5
    assert summary["figures"]["stability"] is None
    assert "reference" in summary["protocol"]


def test_cifs_have_the_space_group_the_table_says(run):
    for row in read_rows(run / "candidates.csv"):
        structure = Structure.from_file(run / row["cif"])
        found = SpacegroupAnalyzer(structure).get_space_group_number()
        if row["cif_space_group"] != "1":
            assert found == int(row["cif_space_group"])
        assert structure.composition.reduced_formula == row["formula"]


def test_one_sample_is_made_again_from_the_record(run, checkpoint, tmp_path):
    record = json.loads((run / "run.json").read_text())
    asked = record["arguments"]
    generate(
        out=tmp_path,
        num_samples=1,
        first_sample=3,
        checkpoint=asked["checkpoint"],
        seed=asked["seed"],
        steps=asked["steps"],
        num_atoms=asked["num_atoms"],
        **QUICK,
    )
    (again,) = read_rows(tmp_path / "candidates.csv")
    first = {row["name"]: row for row in read_rows(run / "candidates.csv")}["000003"]
    assert (again["name"], again["formula"]) == ("000003", first["formula"])
    assert float(again["density"]) == pytest.approx(float(first["density"]), rel=1e-3)
    assert len(record["weights_sha256"]) == 64


def test_generate_keeps_to_elements_and_sizes(checkpoint, tmp_path):
    judged = generate(
        out=tmp_path,
        num_samples=6,
        checkpoint=str(checkpoint),
        steps=6,
        elements="Li,O",
        num_atoms="3",
        **QUICK,
    )
    for one in judged.candidates:
        assert set(one.raw.chemical_system.split("-")) <= {"Li", "O"}
        assert one.raw.num_atoms == 3


def test_generate_designs_to_a_target(checkpoint, tmp_path, monkeypatch, capsys):
    """Ranges, bounds and constraints as text; the host's sites come back from the files."""
    host = tmp_path / "host.cif"
    nacl().to(str(host))
    code, err = command(
        monkeypatch,
        capsys,
        *("generate", "--out", tmp_path / "out", "--checkpoint", checkpoint),
        *("--num-samples", 3, "--steps", 3, "--num-workers", 0, "--no-relax"),
        *("--condition", "band_gap=1..2", "--condition", "space_group=225"),
        *("--guidance", 2, "--guidance", "band_gap=0.5"),
        *("--seed-structure", host, "--fix-sites", "Na", "--fix-lattice", "--insert", "1..2"),
        *("--elements", "F,Cl,Br", "--exclude", "Br,toxic"),
    )
    assert code == 0, err
    for row in read_rows(tmp_path / "out" / "candidates.csv"):
        assert row["num_atoms"] in ("5", "6")
        assert set(row["chemical_system"].split("-")) <= {"Na", "F", "Cl"}
    record = json.loads((tmp_path / "out" / "run.json").read_text())["arguments"]
    assert record["guidance"] == ["2", "band_gap=0.5"]


def test_generate_predicts_the_structure_of_a_formula(checkpoint, tmp_path):
    judged = generate(
        out=tmp_path,
        num_samples=3,
        checkpoint=str(checkpoint),
        steps=3,
        formula="SrTiO3",
        formula_units="1..2",
        **QUICK,
    )
    assert {one.raw.formula for one in judged.candidates} == {"SrTiO3"}


def test_score_keeps_broken_files_as_rows(tmp_path):
    archive = tmp_path / "mixed.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("salt.cif", nacl().to(fmt="cif"))
        file.writestr("../rutile.cif", rutile().to(fmt="cif"))
        file.writestr("broken.cif", "data_x\n_cell_length_a what")
    score(archive, out=tmp_path / "scored", relax=False)
    rows = {row["name"]: row for row in read_rows(tmp_path / "scored" / "candidates.csv")}
    assert rows["salt.cif"]["space_group"] == "225"
    assert rows["salt.cif"]["charge_verdict"] == "neutral"
    assert rows["salt.cif"]["density"] == "2.10719"
    assert rows["../rutile.cif"]["space_group"] == "136"
    assert rows["broken.cif"]["error"]
    assert rows["salt.cif"]["nearest_known"].startswith("mp-")
    assert all(path.parent.name == "cifs" for path in tmp_path.rglob("*.cif"))


def test_score_reads_a_run_once(run, tmp_path):
    judged = score(run, out=tmp_path, **QUICK)
    assert sorted(one.raw.name for one in judged.candidates) == [f"{i:06d}" for i in range(5)]


def test_earlier_results_are_not_overwritten_unasked(run, checkpoint):
    with pytest.raises(ValueError, match="holds an earlier run"):
        generate(out=run, num_samples=1, checkpoint=str(checkpoint), num_workers=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["generate", "--checkpoint", "nowhere"], "no model 'nowhere'"),
        (["generate", "--num-samples", "0"], "--num-samples: it is 0: expected 1 or more"),
        (["generate", "--elements", "Li,Qq"], "unknown element 'Qq'"),
        (["generate", "--num-atoms", "500"], "number of atoms 500..500: this model makes 1..20"),
        (["generate", "--condition", "hardness=3"], "unknown property 'hardness'"),
        (["generate", "--condition", "band_gap>wide"], "band_gap>wide: expected a number in eV"),
        (["generate", "--guidance", "band_gap=2"], "guidance of 'band_gap' without a condition"),
        (["generate", "--formula", "PbTe", "--exclude", "toxic"], "contains Pb, ruled out by"),
        (["generate", "--formula", "Li99O"], "formula Li99O (units of 100): this model makes"),
        (["generate", "--chemical-system", "Li-O", "--num-atoms", "1"], "Li, O take at least 2"),
        (["generate", "--seed-structure", "missing.cif"], "missing.cif does not exist"),
        (["generate", "--insert", "2"], "need a seed-structure"),
        (["generate", "--device", "abacus"], "device 'abacus' cannot be used"),
        (["score", "nothing-here"], "nothing-here does not exist"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    monkeypatch, capsys, tmp_path, checkpoint, arguments, message
):
    if arguments[0] == "generate" and "--checkpoint" not in arguments:
        arguments = [*arguments, "--checkpoint", checkpoint]
    out = tmp_path / "out"
    code, err = command(monkeypatch, capsys, *arguments, "--out", out)
    assert code == 2
    assert message in err
    assert len(err.strip().splitlines()) == 1
    assert not out.exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["smoke.yaml", "model.network.dimm=3"], "the nearest one is 'model.network.dim'"),
        (["nowhere.yaml"], "cannot read configuration"),
        (["smoke.yaml", "data.path=missing.parquet"], "cannot read crystal table missing.parquet"),
        (["smoke.yaml", "data.train_splits=[none]"], "no crystals in splits none"),
    ],
)
def test_bad_training_settings_too(monkeypatch, capsys, tmp_path, settings, message):
    run_dir = tmp_path / "run"
    code, err = command(monkeypatch, capsys, "train", *settings, f"run_dir={run_dir}")
    assert code == 2
    assert message in err
    assert not run_dir.exists()


def test_data_commands(monkeypatch, capsys, tmp_path):
    (tmp_path / "in").mkdir()
    for stretch in range(5):
        for name, structure in (("a", nacl()), ("b", rutile())):
            structure.scale_lattice(structure.volume * (1 + 0.2 * stretch))
            structure.to(str(tmp_path / "in" / f"{name}{stretch}.cif"))
    (tmp_path / "in" / "c.cif").write_text("nonsense")
    table = tmp_path / "table.parquet"
    code, _ = command(monkeypatch, capsys, "data", "prepare", tmp_path / "in", table)
    assert code == 0
    assert read_rows(tmp_path / "table.parquet.errors.csv")[0]["name"] == "c.cif"
    picture = tmp_path / "table.png"
    code, _ = command(monkeypatch, capsys, "data", "info", table, "--png", picture)
    assert code == 0
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.fixture(scope="module")
def polymorphs(tmp_path_factory):
    """Rock salt, the same ions as CsCl, and a file that is no structure."""
    folder = tmp_path_factory.mktemp("polymorphs")
    cesium_chloride = Structure(Lattice.cubic(3.48), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    nacl().to(str(folder / "salt.cif"))
    cesium_chloride.to(str(folder / "other.cif"))
    (folder / "broken.cif").write_text("data_x")
    return folder


def test_stability_is_judged_and_ranks(polymorphs, tmp_path):
    """Rock salt is stable and stays as it is; the same ions in the CsCl structure lie higher."""
    out = tmp_path / "out"
    judged = score(polymorphs, out=out, potential="chgnet", num_workers=2)
    rows = {row["name"]: row for row in read_rows(out / "candidates.csv")}
    salt, other = (float(rows[f"{name}.cif"]["e_above_hull"]) for name in ("salt", "other"))
    assert abs(salt) < 0.05
    assert other > salt + 0.02
    assert float(rows["salt.cif"]["probability_metastable"]) > 0.8
    assert float(rows["salt.cif"]["e_above_hull_std"]) > 0
    assert rows["salt.cif"]["relaxed_space_group"] == rows["salt.cif"]["relaxed_cif_space_group"]
    assert rows["salt.cif"]["symmetry_change"] == "kept"
    assert rows["salt.cif"]["constrained_space_group"] == "225"
    assert rows["salt.cif"]["released_space_group"] == "225"
    assert rows["salt.cif"]["release_accepted"] == "False"
    assert abs(float(rows["salt.cif"]["released_energy_change"])) < 0.001
    frames = {one.name: one.structure for one in read_structures(out / "relaxed.extxyz")}
    assert {name: len(one) for name, one in frames.items()} == {"salt.cif": 2, "other.cif": 2}
    assert space_group_of(frames["salt.cif"], 1e-4) == 225
    assert rows["broken.cif"]["verdict"].startswith("not judged: ")
    relaxed = Structure.from_file(out / "relaxed" / "salt.cif")
    assert SpacegroupAnalyzer(relaxed).get_space_group_number() == 225
    assert [one.raw.name for one in judged.candidates][-1] == "broken.cif"
    stability = judged.summary().stability
    assert stability.relaxed == pytest.approx(2 / 3)
    assert stability.expected_metastable == pytest.approx(
        sum(float(rows[f"{name}.cif"]["probability_metastable"]) for name in ("salt", "other")) / 3,
        abs=1e-5,
    )
    assert pq.read_table(out / "candidates.parquet").num_rows == 3
    assert not (out / "journal.jsonl").exists()


def test_interrupted_scoring_repeats_nothing(polymorphs, tmp_path, monkeypatch):
    """What was relaxed before a crash is read from the cache, and the outcome is the same."""
    whole = score(polymorphs, out=tmp_path / "whole", potential="chgnet", num_workers=0)
    out = tmp_path / "out"
    with monkeypatch.context() as broken:
        broken.setattr("mattergen_lite.runs.writing.write_candidates", fail)
        with pytest.raises(OSError, match="disk"):
            score(polymorphs, out=out, potential="chgnet", num_workers=0)
    assert not (out / "run.json").exists()
    for name in ("relax", "release", "find_energy"):
        monkeypatch.setattr(f"mattergen_lite.scoring.potential_runner.{name}", fail)
    resumed = score(polymorphs, out=out, potential="chgnet", num_workers=0)
    assert [one.row() for one in resumed.candidates] == [one.row() for one in whole.candidates]


def test_batches_on_a_device_give_the_same(polymorphs):
    """What a GPU would do, on the CPU: all crystals advance together, in this process."""
    records = list(read_structures(polymorphs))
    with Pool(0) as pool:
        scores = scoring.score(records, result_cache=ResultCache(pool))
        chosen = [i for i, one in enumerate(scores) if is_worth_relaxing(one)]
        structures = [ordered(records[index].structure) for index in chosen]
        potential_set = PotentialSet.of(JudgeOptions(potential="chgnet", second_opinion=None))
        alone, together = (
            PotentialRunner(
                potential_set=potential_set, device=device, result_cache=ResultCache(pool)
            ).measure(structures)
            for device in ("cpu", "cpu:0")
        )
    assert len(alone) == 2
    for one, other in zip(alone, together, strict=True):
        assert other.energies_per_atom == pytest.approx(one.energies_per_atom, abs=1e-4)
        assert other.hull_energy_per_atom == one.hull_energy_per_atom


def fail(*arguments: object, **options: object) -> None:
    raise OSError("disk full")


def test_own_reference_and_audit(polymorphs, tmp_path):
    rutile().to(str(tmp_path / "rutile.cif"))
    own = tmp_path / "own"
    own.mkdir()
    rutile().perturb(0.0).to(str(own / "mine.cif"))
    judged = score(
        tmp_path / "rutile.cif", out=tmp_path / "out", reference=[own], audit=True, **QUICK
    )
    assert "own, 1 structures" in (tmp_path / "out" / "summary.json").read_text()
    assert judged.audit.num_structures == 1
    assert (tmp_path / "out" / "audit.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((tmp_path / "out" / "audit.json").read_text())["traits"]


@pytest.mark.slow
def test_deeper_checks_and_dft_inputs_of_the_shortlist(polymorphs, tmp_path):
    out = tmp_path / "out"
    (tmp_path / "in").mkdir()
    nacl().get_primitive_structure().to(str(tmp_path / "in" / "salt.cif"))
    asked = {"phonons": True, "bulk_modulus": True, "dft_inputs": True}
    score(tmp_path / "in", out=out, num_workers=2, **asked)
    (row,) = read_rows(out / "candidates.csv")
    assert row["dynamically_stable"] == "True"
    assert 15 < float(row["bulk_modulus"]) < 40  # GPa; 24.8 in experiment
    assert (out / "dft" / "salt" / "mp-relax" / "POSCAR").exists()
    assert not list(out.rglob("POTCAR"))


def test_contradictory_options_are_refused(tmp_path):
    with pytest.raises(ValueError, match="need relaxed crystals"):
        score(tmp_path, out=tmp_path / "out", phonons=True, **QUICK)


def test_until_enough_candidates_pass(checkpoint, tmp_path, monkeypatch):
    """Batches follow each other until two crystals are physical and unique, or samples run out."""
    monkeypatch.setattr("mattergen_lite.options.budget.ROUND_SIZE", 2)
    asked = {"checkpoint": str(checkpoint), "steps": 6, "num_atoms": "2..4"}
    wanted = {"num_candidates": 2, "max_samples": 20, "require": "physical,unique"}
    judged = generate(out=tmp_path / "a", **wanted, **asked, **QUICK)
    assert judged.funnel.num_passed >= 2 or judged.funnel.num_sampled == 20
    assert judged.funnel.num_sampled % 2 == 0
    assert list(judged.funnel.left) == ["physical", "unique"]
    written = json.loads((tmp_path / "a" / "summary.json").read_text())["funnel"]
    assert written["num_sampled"] == judged.funnel.num_sampled == len(judged.candidates)
    with_none = generate(out=tmp_path / "b", num_candidates=50, max_samples=5, **asked, **QUICK)
    assert with_none.funnel.num_sampled == 5


@pytest.fixture(scope="module")
def salts(tmp_path_factory):
    """Compounds that balance, in the structure of quartz, which nobody has seen them in."""
    path = tmp_path_factory.mktemp("salts") / "salts.extxyz"
    salts = []
    for cation, anion in [("Sn", "S"), ("Hf", "Se"), ("Zr", "S"), ("Pb", "O"), ("Ti", "Te")]:
        salt = quartz().replace_species({"Si": cation, "O": anion}, in_place=False)
        radii = sum(Element(symbol).atomic_radius for symbol in (cation, anion))
        salts.append(salt.scale_lattice(salt.volume * (radii / 1.7) ** 3))
    write_extxyz(salts, path, [{"name": one.reduced_formula} for one in salts])
    return path


def test_screened_crystals_are_rows_that_say_why(salts, tmp_path):
    """The likeliest are relaxed; the others keep their row, with the probability and no verdict."""
    judged = score(
        salts, out=tmp_path, relax_at_most=1, control=0.0, potential="chgnet", num_workers=0
    )
    rows = read_rows(tmp_path / "candidates.csv")
    assert len(rows) == 5
    entered = [row for row in rows if row["screening_decision"]]
    (kept,) = (row for row in entered if row["screening_decision"] == "keep")
    assert float(kept["relaxation_steps"]) >= 0
    assert len(entered) > 1
    assert kept["relaxed_space_group"]
    probability = float(kept["screening_probability"])
    for row in entered:
        if row is kept:
            continue
        assert float(row["screening_probability"]) <= probability
        assert "screened" in row["failed_checks"]
        assert "not relaxed: probability of being metastable" in row["verdict"]
        assert row["e_above_hull"] == row["relaxed_space_group"] == ""
    summary = json.loads((tmp_path / "summary.json").read_text())
    counts = {stage["name"]: stage for stage in summary["stages"]}
    assert counts["sampled"]["num_passed"] == 5
    assert counts["screened"]["num_entered"] == len(entered) == summary["screening"]["num_screened"]
    assert counts["screened"]["num_passed"] == counts["relaxed"]["num_passed"] == 1
    assert counts["screened"]["pass_rate"] == pytest.approx(1 / len(entered))
    assert counts["screened"]["seconds"] > 0
    assert counts["metastable"]["num_passed"] == judged.funnel.left["metastable"]
    names = [stage["name"] for stage in summary["stages"]]
    assert names.index("novel") < names.index("screened") < names.index("relaxed")
    assert names.index("metastable") < names.index("still_novel")


@pytest.mark.slow
def test_candidates_are_the_same_after_a_kill(checkpoint, tmp_path, monkeypatch):
    """Rounds of samples are screened and relaxed until so many pass, or the samples run out."""
    monkeypatch.setattr("mattergen_lite.options.budget.ROUND_SIZE", 4)
    asked = {
        "checkpoint": str(checkpoint),
        "num_candidates": 1,
        "max_samples": 8,
        "steps": 6,
        "num_atoms": "2..4",
        "require": "screened",
        "potential": "chgnet",
        "second_opinion": None,
        "keep": 0.5,
        "num_workers": 0,
    }
    whole = generate(out=tmp_path / "whole", **asked)
    assert whole.funnel.num_passed >= 1 or whole.funnel.num_sampled == 8
    assert whole.funnel.num_sampled % 4 == 0
    with monkeypatch.context() as broken:
        broken.setattr("mattergen_lite.runs.writing.write_candidates", fail)
        with pytest.raises(OSError, match="disk"):
            generate(out=tmp_path / "out", **asked)
    monkeypatch.setattr("mattergen_lite.scoring.potential_runner.relax", fail)
    resumed = generate(out=tmp_path / "out", **asked)
    found, expected = ([repr(one.row()) for one in run.candidates] for run in (resumed, whole))
    assert found == expected  # as text, in which NaN equals NaN


def test_a_search_that_finds_too_little_says_what_to_change(checkpoint, tmp_path):
    judged = generate(
        out=tmp_path,
        checkpoint=str(checkpoint),
        num_candidates=50,
        max_samples=3,
        steps=6,
        num_atoms="2..4",
        **QUICK,
    )
    assert judged.funnel.num_sampled == 3
    assert "of 50 candidates found: raise --max-samples" in judged.text()
    assert len(read_rows(tmp_path / "candidates.csv")) == 3


def test_no_search_goes_on_beyond_its_time(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr("mattergen_lite.options.budget.ROUND_SIZE", 2)
    judged = generate(
        out=tmp_path,
        checkpoint=str(checkpoint),
        num_candidates=50,
        max_samples=100,
        time_budget=1e-9,
        steps=6,
        num_atoms="2..4",
        **QUICK,
    )
    assert judged.funnel.num_sampled == 2


def test_targets_stand_beside_measurements(tmp_path):
    judged = generate(
        out=tmp_path, num_samples=3, steps=5, num_atoms="2..4", condition=["density=2..9"], **QUICK
    )
    for row in read_rows(tmp_path / "candidates.csv"):
        assert 2 <= float(row["target_density"]) <= 9
        measured = float(row["measured_density"])
        assert measured == pytest.approx(float(row["density"]), rel=1e-4)
        assert row["on_target"] == str(2 <= measured <= 9)
    assert "on_target" in judged.funnel.left
    (hits,) = json.loads((tmp_path / "summary.json").read_text())["targets"]
    assert (hits["target"], hits["num_measured"]) == ("density", 3)
    assert hits["num_hits"] == sum(one.on_target for one in judged.candidates)
    density = embedded_crystals("train").columns["density"]
    inside = ((density >= 2) & (density <= 9)).float().mean().item()
    assert hits["base_rate"] == pytest.approx(inside)
    assert f"; {inside:.1%} of " in judged.text()
    assert "--guidance 0" in judged.text(verbose=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"require": "shiny"}, "unknown check 'shiny'"),
        ({"require": "metastable"}, "needs relaxed crystals"),
        ({"num_candidates": 0}, "num_candidates is 0: expected 1 or more"),
        ({"num_candidates": -3}, "num_candidates is -3"),
        ({"until": 2}, "until is now called num_candidates"),
        ({"num_candidates": 2, "max_samples": 0}, "max_samples is 0"),
        ({"num_samples": 0}, "num_samples is 0"),
        ({"num_candidates": 2, "time_budget": 0.0}, "time_budget is 0.0"),
        ({"num_candidates": 2, "time_budget": math.nan}, "time_budget is nan"),
        ({"num_candidates": 2, "time_budget": math.inf}, "time_budget is inf"),
        ({"num_candidates": 2, "time_budget": -1.0}, "time_budget is -1.0"),
        ({"keep": 0.5}, "expected no --no-relax"),
        ({"keep": math.nan, "relax": True}, "keep is nan"),
        ({"keep": 0.0, "relax": True}, "keep is 0.0"),
        ({"relax_at_most": 0, "relax": True}, "relax_at_most is 0"),
    ],
)
def test_bad_loops_are_refused(checkpoint, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        generate(out=tmp_path / "out", checkpoint=str(checkpoint), **{**QUICK, **options})
    assert not (tmp_path / "out").exists()


# Exit codes


@pytest.mark.parametrize(
    "words",
    [
        ["nonsense"],
        ["score"],
        ["score", "nowhere", "--out"],
        ["score", "nowhere", "--out", "x", "--nonsense"],
        ["score", "nowhere", "--out", "x", "--limit", "1.5"],
        ["score", "nowhere", "--out", "x", "--potential", "best"],
        ["campaign", "run", "run_dir=[a"],
        ["campaign", "status", "nowhere"],
        ["data", "info", "nowhere.parquet"],
        ["train", "run_dir=x", "trainer.max_time=foo"],
    ],
)
def test_whatever_is_wrong_with_a_command_is_one_line(monkeypatch, capsys, tmp_path, words):
    monkeypatch.chdir(tmp_path)
    code, err = command(monkeypatch, capsys, *words)
    assert code == 2
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(28, "No space left on device"), "No space left on device"),
        (MemoryError(), "MemoryError: the input is too large"),
        (RecursionError("deep"), "RecursionError: the input is too large or too deep"),
        (ValueError("two\nlines\x1b[31m"), "error: two lines?[31m"),
        (IndexError("index out of range"), "unexpected IndexError: index out of range"),
    ],
)
def test_no_error_leaves_a_traceback(monkeypatch, capsys, error, message):
    def fails():
        raise error

    monkeypatch.setattr(cli, "app", fails)
    code, err = command(monkeypatch, capsys)
    assert (code, err.count("\n")) == (2, 1)
    assert message in err


@pytest.mark.parametrize(("number", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_signals_have_their_exit_codes(number, code):
    program = (
        "import os, signal\nfrom mattergen_lite import cli\n"
        f"cli.app = lambda: os.kill(os.getpid(), signal.{number})\ncli.main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stderr) == (code, "interrupted: the same command goes on\n")


@pytest.mark.skipif(sys.platform == "win32", reason="words of a POSIX shell")
@pytest.mark.parametrize(
    ("line", "code", "message"),
    [
        ("$M --help > /dev/full", 2, "error: [Errno 28] No space left on device"),
        ("$M --help | true", 2, "error: cannot print: Broken pipe"),
        ("$M data show NaCl >&- && test $(wc -c < a.cif) -gt 100", 0, ""),
        ("$M data show NaCl <&- 2>&- >&-", 0, ""),
        ("mkdir d && cd d && rmdir ../d && $M nonsense", 2, "error: Unknown command"),
        ("ulimit -f 1; $M data show NaCl", 2, "error: cannot write to .: File too large"),
        ("TMPDIR=/nonexistent LC_ALL=C $M data show NaCl", 0, ""),
    ],
)
def test_wherever_a_command_runs_it_ends_in_one_line(tmp_path, line, code, message):
    """Output that is full or closed, a folder that is gone, limits of a shell."""
    program = f"{sys.executable} -m mattergen_lite.cli"
    script = line.replace("show NaCl", "show NaCl --out a.cif").replace("$M", program)
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", script],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[1])},
        check=False,
    )
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert done.stderr.count("\n") == bool(message)


def test_a_folder_in_use_is_refused_before_the_work(tmp_path):
    nacl().to(str(tmp_path / "salt.cif"))
    refused = pytest.raises(ValueError, match="another run is writing to")
    with claimed(tmp_path / "out"), refused:
        score(tmp_path / "salt.cif", out=tmp_path / "out", **QUICK)


def test_requirements_that_cannot_be_met_are_refused(tmp_path, checkpoint):
    asked = {"checkpoint": str(checkpoint), "num_atoms": "2", "steps": 2}
    with pytest.raises(ValueError, match="require on_target: expected a condition"):
        generate(out=tmp_path / "out", require="on_target", **asked, **QUICK)
    with pytest.raises(ValueError, match="guidance 2 without a condition"):
        generate(out=tmp_path / "out", guidance=["2"], **asked, **QUICK)
    assert not (tmp_path / "out").exists()


def test_an_audit_of_nothing_readable_is_no_error(tmp_path):
    (tmp_path / "bad.cif").write_text("rubbish")
    judged = score(tmp_path / "bad.cif", out=tmp_path / "out", audit=True, **QUICK)
    assert judged.audit is None
    assert judged.candidates[0].raw.error


def parse_or_hang(document):
    """As a parser that never ends on one kind of file."""
    if document.content == HANGS:
        time.sleep(60)
    return parse_document(document)


def test_a_parser_that_hangs_costs_one_structure(tmp_path, monkeypatch):
    """Every structure is parsed within its time, in a process that can be stopped."""
    documents = [Document("salt", "cif", str(CifWriter(nacl()))), Document("x", "cif", HANGS)]
    monkeypatch.setattr(parallel, "parse_document", parse_or_hang)
    monkeypatch.setattr(parallel, "PARSE_TIME_LIMIT", 5.0)
    with Pool(1) as pool:
        first, second = parallel.parse_documents(documents, pool)
    assert (first.name, first.error) == ("salt", None)
    assert second.error == "no result within 5 s"
