"""Every benchmark runs at toy size and counts right; the cluster script says what it should."""

import gzip
import importlib
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import ase.io
import pytest
import torch
from crystals import cubic_lead_titanate, nacl_primitive, perovskite, quartz
from models import tiny_model
from pydantic import TypeAdapter
from pymatgen.core import Element

from mattergen_lite import score
from mattergen_lite.chemistry.elements import atomic_number
from mattergen_lite.config import RunConfig, shipped
from mattergen_lite.data.materials import known_value
from mattergen_lite.hub import find_checkpoint
from mattergen_lite.io.write import write_extxyz
from mattergen_lite.model import CrystalDiffusion, weights_hash
from mattergen_lite.options.request import Request
from mattergen_lite.options.sampler import SamplerOptions
from mattergen_lite.partial_crystals.generated import FOLDER
from mattergen_lite.properties import Property
from mattergen_lite.request.constraints import parse_constraints
from mattergen_lite.sampling.sampler import STRENGTH_FROM_CRYSTALS, Target, starting_points
from mattergen_lite.scoring.energy.potentials.sources import load_potential
from mattergen_lite.scoring.energy.relaxation import relax
from mattergen_lite.scoring.energy.symmetry_breaking import release
from mattergen_lite.scoring.metrics.expected_hits import HitTable

ROOT = Path(__file__).parent.parent
SBATCH = ROOT / "configs" / "train.sbatch"


@pytest.fixture
def checkpoint(tmp_path):
    """A model that makes sodium chloride, or at least cells of sodium and chlorine."""
    model = tiny_model()
    model.config = model.config.model_copy(update={"atom_count_histogram": (0, 1, 0, 1)})
    model.diffusion.allowed_elements[:] = False
    model.diffusion.allowed_elements[[11, 17]] = True
    model.save(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def run(monkeypatch, tmp_path, capsys):
    """Run a benchmark; its rows, and what it printed."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    monkeypatch.syspath_prepend(ROOT / "scripts")

    def run_benchmark(name, *arguments):
        path = tmp_path / "result.json"
        importlib.import_module(name).main([*map(str, arguments), "--json", str(path)])
        printed = capsys.readouterr().out
        assert printed.splitlines()[-1] == path.read_text().strip()
        return json.loads(path.read_text())["rows"]

    return run_benchmark


def assert_positive(row, *may_be_zero):
    numbers = {name: value for name, value in row.items() if not isinstance(value, str)}
    assert all(math.isfinite(value) and value >= 0 for value in numbers.values()), row
    assert all(value > 0 for name, value in numbers.items() if name not in may_be_zero), row


def test_flops_of_a_matrix_product_and_its_gradients(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    count_flops = importlib.import_module("measuring").count_flops
    a, b = torch.rand(3, 5, requires_grad=True), torch.rand(5, 7, requires_grad=True)
    assert count_flops(lambda: a @ b) == 2 * 3 * 5 * 7
    assert count_flops(lambda: (a @ b).sum().backward()) == 3 * 2 * 3 * 5 * 7


def test_training_speed(run):
    network = "model.network={dim: 16, depth: 1, num_heads: 2, pair_dim: 4}"
    (row,) = run(
        "training_speed",
        *("--config", ROOT / "configs" / "smoke.yaml", "--device", "cpu", "--peak-size", 64),
        *("--steps", 3, "--warmup", 1, "--batch-size", 4),
        *(
            "--override",
            network,
            "data.max_atoms=4",
            "trainer.precision=32-true",
        ),
    )
    assert_positive(row, "other")
    assert (row["batch"], row["steps"]) == (4, 3)
    assert row["fill"] <= 1
    assert row["data"] + row["compute"] + row["other"] == pytest.approx(1, abs=0.2)


@pytest.mark.slow
def test_campaign_scaling(run, checkpoint):
    (row,) = run(
        "campaign_scaling",
        *("--workers", 1, "--units", 3, "--unit-size", 2, "--steps", 3, "--checkpoint", checkpoint),
    )
    assert_positive(row)
    assert (row["workers"], row["units"]) == (1, 3)
    assert row["crystals_per_hour"] <= 3600 * 2 / row["unit_seconds"]
    assert row["memory_last_unit_mib"] >= row["memory_first_unit_mib"]


@pytest.mark.slow
def test_long_campaign(run, checkpoint, tmp_path):
    """Worker, client and scheduler die once each; the rows are those of an undisturbed run."""
    rows = run(
        "long_campaign",
        *("--quick", "--checkpoint", checkpoint, "--run-dir", tmp_path / "runs", "--workers", 1),
    )
    assert [row["run"] for row in rows] == ["undisturbed", "killed"]
    assert [row["kills"] for row in rows] == [0, 3]
    assert rows[0]["restarts"] == 0
    assert rows[1]["restarts"] >= 2  # who watches a worker starts it again
    for row in rows:
        assert row["candidates"] == 40
        assert row["equal rows"]
        assert max(row[f"MiB, quarter {i}"] for i in (1, 2, 3, 4)) > 100


def test_kills_are_of_every_kind_and_all_along(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    long_campaign = importlib.import_module("long_campaign")
    kills = long_campaign.plan_kills(6, 100, seed=0)
    assert sorted(one.kind for one in kills[:3]) == sorted(long_campaign.KINDS)
    assert sorted(one.kind for one in kills[3:]) == sorted(long_campaign.KINDS)
    moments = [one.after for one in kills]
    assert moments == sorted(moments)
    assert moments[-1] < 6 / 7 * 100
    assert kills == long_campaign.plan_kills(6, 100, seed=0)
    assert kills != long_campaign.plan_kills(6, 100, seed=1)


def test_sampling_speed(run, checkpoint):
    rows = run(
        "sampling_speed",
        *("--checkpoint", checkpoint, "--device", "cpu", "--peak-size", 64, "--repeats", 1),
        *("--steps", 5, 10, "--batch-sizes", 1, 2, "--num-samples", 2),
    )
    assert len(rows) == 2 * 2 * 2
    for row in rows:
        assert_positive(row)
        assert row["structures"] == 2
        taken = round(STRENGTH_FROM_CRYSTALS * row["steps"])
        expected = taken if row["solver"] == "multistep" else 2 * taken - 1
        assert row["calls"] == expected
        assert row["structures/s"] == pytest.approx(2 / row["seconds"])
    flops = {(row["solver"], row["steps"]): row["GFLOP"] for row in rows if row["batch"] == 1}
    assert flops["multistep", 10] == pytest.approx(2 * flops["multistep", 5])


def test_peers_speed(run, checkpoint):
    """Networks of the published sizes, which make the matrix products of their layers."""
    arguments = ("--quick", "--checkpoint", checkpoint, "--steps", 5, "--device", "cpu")
    ours, crystalite, diffcsp = run("peers_speed", *arguments)
    assert [row["network"] for row in (ours, crystalite, diffcsp)] == [
        *("ours", "Crystalite", "DiffCsp"),
    ]
    assert crystalite["million parameters"] == pytest.approx(67.6, rel=0.02)
    assert diffcsp["million parameters"] == pytest.approx(12.3, rel=0.02)
    assert [row["calls"] for row in (crystalite, diffcsp)] == [299, 2000]
    assert ours["calls"] >= 3
    blocks = 299 * 14 * 21 * 2 * 12 * 512**2 / 1e9  # 21 tokens through attention and perceptron
    assert blocks < crystalite["GFLOP"] < 1.3 * blocks
    for row in (ours, crystalite, diffcsp):
        assert_positive(row)
        assert row["atoms"] <= 20
        assert row["times the FLOPs"] == pytest.approx(row["GFLOP"] / ours["GFLOP"])
        seconds = row["core s a sample"] / ours["core s a sample"]
        assert row["times the time"] == pytest.approx(seconds)


def test_generate_stages(run, checkpoint):
    *stages, total = run(
        "generate_stages", "--checkpoint", checkpoint, "--num-samples", 2, "--steps", 2
    )
    names = [row["stage"] for row in stages]
    assert names[:2] == ["imports, rest", "loading"]
    assert {"structures", "judging", "writing"} < set(names)
    assert total["seconds"] == pytest.approx(sum(row["seconds"] for row in stages))
    assert total["s/structure"] == pytest.approx(total["seconds"] / 2)
    assert_positive(total)


def test_crystal_structure_prediction(run, tmp_path):
    done = tmp_path / "rows.jsonl"
    arguments = (
        *("--device", "cpu", "--num-materials", 2, "--num-samples", 2, "--max-atoms", 4),
        *("--steps", 2, "--relax", 2, "--rows", done),
    )
    rows = run("csp", *arguments)
    assert rows[0]["materials"] == rows[-1]["materials"] == 2
    for row in rows:
        assert 0 <= row["match@1"] <= row["match@k"] <= 1
        assert 0 <= row["ranked@k"] <= row["match@k"]
    assert 0 <= rows[-1]["relaxed@k"] <= 1
    assert rows[1]["relaxed@k"] is None  # no material has so many atoms
    before = done.read_text()
    assert len(before.splitlines()) == 2
    assert run("csp", *arguments) == rows
    assert done.read_text() == before


def test_crystal_structure_prediction_without_a_family(run, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    csp = importlib.import_module("csp")
    families = ("--families", "AB2", "AB3")
    templates = ("--templates", shipped("checkpoints") / FOLDER)
    arguments = ("--num-materials", "2", "--num-samples", "4", "--max-atoms", "8", "--steps", "2")
    rows = run("csp", *families, *templates, *arguments, "--device", "cpu")
    assert rows[-1]["materials"] == 2
    choice = csp.parse([*families, "--templates", str(templates[1])])
    model = CrystalDiffusion.load(shipped("checkpoints") / "mp")
    request = Request(formula="CaF2", formula_units="1")
    source = csp.source_without_families(parse_constraints(request), 3, model, choice)
    (_, share), (others, _) = source.sources
    assert share == 0.5
    sizes = [others.library.class_sizes[row] for row in others.rows]
    assert sizes
    assert not [one for one in sizes if one == (1, 2)]
    assert {sum(one) for one in sizes} == {3}


def test_crystal_structure_prediction_counts_right(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    csp = importlib.import_module("csp")
    stretched = nacl_primitive()
    stretched.scale_lattice(1.05 * stretched.volume)
    found = csp.displacements(nacl_primitive(), [perovskite(), stretched])
    assert found == [None, pytest.approx(0.0, abs=1e-6)]
    columns = ("num_atoms", "distances", "lowest", "relaxed", "random")
    values = [
        (2, [None, 0.1, 0.3], 2, True, True),
        (3, [0.3, None, None], 1, None, False),
        (4, [None, None, None], 0, False, False),
        (9, [0.0, 0.0, 0.0], 0, False, True),
    ]
    materials = [dict(zip(columns, row, strict=True)) for row in values]
    row = csp.summary(materials, 1, 4)
    assert row["match@1"] == pytest.approx(1 / 3)
    assert row["match@k"] == pytest.approx(2 / 3)
    assert row["ranked@k"] == pytest.approx(1 / 3)
    assert row["relaxed@k"] == pytest.approx(1 / 2)  # of two that were relaxed
    assert row["RMSE@k"] == pytest.approx(0.2)
    assert row["random@k"] == pytest.approx(1 / 3)
    assert row["samples matching"] == pytest.approx(3 / 9)


def test_own_property(run, tmp_path):
    """Toy model, few steps: the table is complete and its judge better than the mean."""
    model = tiny_model()
    model.save(tmp_path / "model")
    rows = run(
        "own_property",
        *("--checkpoint", tmp_path / "model", "--device", "cpu", "--labels", 60),
        *("--num-samples", 3, "--steps", 3, "--guidance", 2, "--finetune-steps", 2),
    )
    assert [row["method"] for row in rows] == ["unconditional", "steer", "finetune"]
    for row in rows:
        assert 0 <= row["hit rate"] <= 1
        assert row["10%"] <= row["median"] <= row["90%"]
    facts = json.loads((tmp_path / "result.json").read_text())
    assert facts["judge_r2"] > 0.5


def test_design(run, checkpoint, tmp_path):
    """A table, a figure and a file of cells that the same command does not add to."""
    done, table, figure = (tmp_path / name for name in ("design.jsonl", "design.md", "design.png"))
    fit_predictors = importlib.import_module("fit_predictors")
    fit_predictors.main(
        [
            *("--checkpoint", str(checkpoint), "--properties", "band_gap"),
            *("--max-crystals", "1000", "--device", "cpu"),
        ]
    )
    arguments = (
        *("--checkpoint", checkpoint, "--device", "cpu", "--num-workers", 0, "--steps", 2),
        *("--targets", "band_gap=0", "space_group=225", "--guidance", 1, 2, "--num-samples", 3),
        *("--num-systems", 1, "--system-samples", 2),
        *("--out", done, "--table", table, "--figure", figure, "--ship"),
    )
    rows = run("design", *arguments)
    shipped = HitTable.load(checkpoint, weights_hash(checkpoint))
    assert [cell.guidance for cell in shipped.cells if cell.property == "band_gap"] == [1.0, 2.0]
    assert {len(cell.measured.get("band_gap", "abc")) for cell in shipped.cells} == {3}
    assert [(row["target"], row["guidance"]) for row in rows] == [
        *((target, guidance) for target in ("band_gap=0", "space_group=225") for guidance in "12"),
        ("space_group=225", "exact"),
    ]
    for row in rows:
        assert 0 <= row["hits"] <= 1
        assert 0 <= row["unconditional"] <= 1
        assert 0 < row["training data"] < 1
    assert rows[0]["hits by composition"] is not None
    assert rows[2]["hits by composition"] is None
    systems = json.loads((tmp_path / "result.json").read_text())["systems"]
    assert [row["inside"] for row in systems] == [1.0, 1.0]
    assert figure.read_bytes().startswith(b"\x89PNG")
    assert "band_gap: trained on 1,000 crystals" in table.read_text()
    before = done.read_text()
    assert len(before.splitlines()) == 1 + 5 + 2
    assert run("design", *arguments) == rows
    assert done.read_text() == before


def test_held_out_systems_are_new_to_the_training_split(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    design = importlib.import_module("design")
    model = tiny_model()
    systems = design.held_out_systems(model, 20, seed=0)
    assert len({*systems}) == 20
    training = {frozenset(row) for row in design.elements_of(design.embedded_crystals("train"))}
    for system in systems:
        assert frozenset(map(atomic_number, system.split("-"))) not in training
    model.diffusion.allowed_elements[8] = False  # a model that has never seen oxygen
    assert not any("O" in s.split("-") for s in design.held_out_systems(model, 20, seed=0))


def test_without_symmetry_samples_have_the_contents_of_known_cells(monkeypatch, tmp_path):
    """As many atoms, and no more elements, as in the templates that `generate` takes."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    out = tmp_path / "p1.extxyz"
    benchmark = importlib.import_module("without_symmetry")
    benchmark.main(["--checkpoint", "tiny", "--num-samples", "4", "--out", str(out)])
    found = ase.io.read(out, ":")
    model = CrystalDiffusion.load(find_checkpoint("tiny"))
    partial_crystals = starting_points(
        model, range(4), seed=0, target=Target(), options=SamplerOptions(template_bias=0.0)
    ).partial_crystals
    assert [len(one) for one in found] == [
        partial_crystal.orbits.multiplicities.sum() for partial_crystal in partial_crystals
    ]
    for one, partial_crystal in zip(found, partial_crystals, strict=True):
        assert len({*one.numbers}) <= len({*partial_crystal.orbits.atomic_numbers})


def test_targets_by_dft_draws_known_compounds_with_their_property(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    benchmark = importlib.import_module("targets_by_dft")
    for name in ("band_gap", "bulk_modulus"):
        drawn = next(benchmark.known(name))
        assert drawn.known["judged"] == known_value(drawn.name, name) > 0
        assert len(drawn.structure) <= benchmark.MAX_ATOMS


def test_targets_by_dft_reports_the_crystals_of_the_data_set(monkeypatch, capsys):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    benchmark = importlib.import_module("targets_by_dft")
    benchmark.main([str(ROOT / "datasets" / "gaps_by_dft.jsonl"), "--report"])
    printed = capsys.readouterr().out
    assert "56 of 84 drawn have a value" in printed
    assert "all: 14 of 56 (25% ± 6%)" in printed
    assert "delivered: 13 of 41 (32% ± 7%)" in printed


def test_design_counts_right(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    design = importlib.import_module("design")
    properties = [Property(name=name) for name in ("band_gap", "density")]
    row = {
        "measured": {"band_gap": [2.0, 2.2, 3.0, 2.1], "density": [5.0, 5.1, 5.0, None]},
        "by_composition": {"band_gap": [0.0, 2.0, 0.0, 0.0]},
    }
    assert design.hits(row, "band_gap=2", "measured", properties) == 0.75
    assert design.hits(row, "band_gap=2", "by_composition", properties) == 0.25
    assert design.hits(row, "density=5", "measured", properties) == 0.75
    assert design.hits(row, "band_gap=2,density=5", "measured", properties) == 0.5
    assert design.hits(row, "band_gap=2,density=5", "by_composition", properties) == 0.25
    assert design.median_text(row, "band_gap=2,density=5", properties) == "2.15, 5"


@pytest.fixture
def cluster(tmp_path):
    """Environment of a job on 2 nodes of 4 GPUs, with an `srun` that prints its arguments."""
    stub = tmp_path / "srun"
    stub.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    stub.chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    return {"PATH": path, "SLURM_JOB_NUM_NODES": "2", "SLURM_NTASKS_PER_NODE": "4"}


@pytest.mark.parametrize("arguments", [[], ["configs/mp_20.yaml", "run_dir=runs/big run"]])
def test_cluster_script_launches_a_valid_run(cluster, arguments):
    subprocess.run(["bash", "-n", SBATCH], check=True)
    command = ["bash", str(SBATCH), *arguments]
    printed = subprocess.run(
        command, env=cluster, cwd=ROOT, check=True, capture_output=True, text=True
    )
    launched = printed.stdout.splitlines()
    settings = launched[launched.index("train") + 1 :]
    overrides = [text for text in settings if "=" in text]
    config = RunConfig.load([ROOT / text for text in settings if "=" not in text], overrides)
    assert (config.trainer.num_nodes, config.trainer.devices) == (2, 4)
    assert config.trainer.strategy == "ddp"
    assert config.run_dir == Path("runs/big run" if arguments else "runs/mp_20")


def test_smoke_configuration_is_small():
    config = RunConfig.load([ROOT / "configs" / "smoke.yaml"])
    assert config.data.path == "embedded"
    assert config.model.network.dim <= 64


@pytest.mark.slow
def test_sampler_curve(tmp_path):
    """Both solvers make the calls they are asked for, and a second run adds nothing."""
    arguments = (
        *("--calls", 3, "--num-samples", 2, "--num-relaxed", 1),
        *("--num-atoms", "2", "--out", tmp_path),
    )
    command = [sys.executable, ROOT / "benchmarks" / "sampler_curve.py", *map(str, arguments)]
    for _ in range(2):
        subprocess.run(command, check=True, capture_output=True, timeout=600)
        rows = [json.loads(line) for line in (tmp_path / "curve.jsonl").read_text().splitlines()]
        assert [(row["solver"], row["calls"]) for row in rows] == [("multistep", 3), ("heun", 3)]
        assert all(0 <= row["valid"] <= 1 and row["structures/s"] > 0 for row in rows)
    assert (tmp_path / "curve.png").exists()


def test_gradients_go_around_a_ring(monkeypatch):
    """Two devices send each byte once; links that cost nothing scale without loss."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    scaling = importlib.import_module("scaling")
    assert scaling.all_reduce_seconds(8e9, 2, scaling.Link(1e9, 0.5)) == pytest.approx(8 + 2 * 0.5)
    slow, free = scaling.Link(1e6, 5e-6), scaling.Link(math.inf, 0.0)
    rows = [scaling.forecast(100, 10, 2e7, devices, slow, 0.5) for devices in (1, 2, 8)]
    assert rows[0].efficiency == 1
    assert rows[0].samples_per_second == pytest.approx(100)
    assert rows[1].efficiency > rows[2].efficiency > 0
    assert scaling.forecast(100, 10, 2e7, 16, free, 0.5).samples_per_second == pytest.approx(1600)


def test_scaling(run, tmp_path):
    """Hours of campaigns are what the rates of one core add up to."""
    rows = run("scaling")
    training, campaigns = rows[:4], rows[4:]
    assert [row["devices"] for row in training] == ["1 core", "1 GPU", "8 GPUs", "64 GPUs"]
    assert all(0 < row["efficiency, %"] <= 100 for row in training)
    rates = json.loads((tmp_path / "result.json").read_text())
    measured, assumed = rates["measured"], rates["assumed"]
    after = measured["judging_seconds"] + measured["screening_seconds"]
    after += measured["relaxed_share"] * measured["relaxing_seconds"]
    overhead = measured["unit_overhead"] / assumed["unit_size"]
    one, many = (
        next(row for row in campaigns if row["devices"] == name) for name in ("1 core", "64 cores")
    )
    assert one["candidates"] == 1_000_000
    assert one["hours"] == pytest.approx(
        1e6 * (measured["sampling_seconds"] + after + overhead) / 3600
    )
    assert many["hours"] == pytest.approx(one["hours"] / 64)
    assert many["core hours"] == pytest.approx(one["core hours"])
    gpu = next(row for row in campaigns if row["devices"].startswith("1 GPU"))
    on_gpu = measured["gpu_sampling_seconds"]
    expected = 1e6 * (on_gpu + after / assumed["gpu_cores"] + overhead) / 3600
    assert gpu["hours"] == pytest.approx(expected)
    for small, large in zip(campaigns[:6], campaigns[6:], strict=True):
        assert large["hours"] == pytest.approx(32 * small["hours"])
        assert large["disk, GB"] == pytest.approx(32e6 * measured["stored_bytes"] / 1e9)
        assert large["memory, GiB"] == small["memory, GiB"]


def salt_run(folder):
    """A finished run over three crystals that are not known, all of them relaxed."""
    salts = []
    for cation, anion in (("Sn", "S"), ("Zr", "S"), ("Pb", "O")):
        salt = quartz().replace_species({"Si": cation, "O": anion}, in_place=False)
        radii = sum(Element(symbol).atomic_radius for symbol in (cation, anion))
        salts.append(salt.scale_lattice(salt.volume * (radii / 1.7) ** 3))
    source = folder / "salts.extxyz"
    write_extxyz(salts, source, [{"name": one.reduced_formula} for one in salts])
    return source


@pytest.mark.slow
def test_yield(run, tmp_path):
    source = salt_run(tmp_path)
    rows = run(
        *("yield", "--substitution", "--ion-exchange", "--samples", f"theirs={source}@2.5"),
        *("--num-samples", 3, "--relax", 1, "--markdown", tmp_path / "yield.md"),
    )
    blind, ions, theirs = rows
    assert [row["proposal"] for row in rows] == ["substitution", "ion-exchange", "theirs"]
    assert theirs["sampling s"] == 7.5
    assert blind["sampling s"] < 1
    assert ions["sampling s"] < 3
    for row in rows:
        assert (row["samples"], row["relaxed"] <= 1) == (3, True)
        assert row["credible"] <= row["M.S.U.N."] <= row["relaxed"]
        seconds = sum(row[f"{name} s"] for name in ("sampling", "judging", "screening", "relaxing"))
        assert row["M.S.U.N. per core hour"] == pytest.approx(row["M.S.U.N."] / seconds * 3600)
    assert (tmp_path / "yield.md").read_text().count("\n") == 5


def test_yield_refuses_samples_without_a_charge(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    from_samples = importlib.import_module("yield").from_samples
    with pytest.raises(ValueError, match="expected name=path@seconds"):
        from_samples("theirs=there.parquet", 3)


@pytest.mark.slow
def test_symmetric_relaxation(run, tmp_path):
    (row,) = run("symmetric_relaxation", f"salts={salt_run(tmp_path)}", "--num-crystals", 2)
    assert row["crystals"] == 2
    assert row["symmetric"] == 1
    assert row["symmetric above P1 at 0.01"] == 1
    assert row["symmetric steps"] > 0


@pytest.mark.slow
def test_releases(run, tmp_path):
    chgnet = load_potential("chgnet")
    kept = relax(cubic_lead_titanate(), chgnet, symprec=0.1)
    with gzip.open(tmp_path / "answers.jsonl.gz", "wt") as file:
        for answer in (kept, release(kept, chgnet)):
            line = {"key": "", "answer": TypeAdapter(type(answer)).dump_python(answer, mode="json")}
            file.write(json.dumps(line) + "\n")
    (row,) = run("releases", f"ferroelectric={tmp_path}")
    assert row["fall"] == "20 to inf meV/atom"
    assert row["symmetry"] == "lost"
    assert (row["crystals"], row["decider falls"], row["accepted"]) == (1, 1, 1)


@pytest.mark.slow
def test_screening_fit_and_yields_of_a_judged_run(run, tmp_path):
    source = salt_run(tmp_path)
    score(source, out=tmp_path / "scored", potential="chgnet", second_opinion=None, num_workers=0)
    rows = run("screening", f"salts={tmp_path / 'scored'}")
    assert [row["set"] for row in rows] == ["salts", "all"]
    assert 0 <= rows[0]["Brier"] <= 1
    assert 1 <= rows[0]["crystals"] <= 3
    (row,) = run("rounds", f"salts={tmp_path / 'scored'}")
    assert (row["run"], row["samples"], row["relaxed"]) == ("salts", 3, 3)
    assert 0 <= row["credible"] <= row["M.S.U.N."] <= 3
    assert row["M.S.U.N. of relaxed"] == pytest.approx(row["M.S.U.N."] / 3)
    assert row["rare earths"] == 0
    assert row["passed"] * row["systems per passed"] <= 3


def test_crystals_of_a_single_formula_are_told_apart(monkeypatch, capsys):
    """Every tenth crystal is another one disguised."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    importlib.import_module("comparing_speed").main(20, "SiO2")
    said = capsys.readouterr().out
    assert "20 SiO2: " in said
    assert "18 unique" in said
    assert "0 unknown" in said
