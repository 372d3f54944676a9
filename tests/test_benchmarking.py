"""Protocols on small sets made of embedded crystals, against counts made another way."""

import json
import math

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from crystals import nacl, nacl_primitive, perovskite, quartz, rutile, triclinic
from models import fit, random_crystals, tiny_config
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Element, Structure
from smact.screening import smact_validity

from mattergen_lite import benchmark
from mattergen_lite.benchmarking.benchmark import FINGERPRINTS
from mattergen_lite.benchmarking.comparison import RESULT, standard_error
from mattergen_lite.benchmarking.conditional import mean_error
from mattergen_lite.benchmarking.de_novo import de_novo_figures, novelty_reference
from mattergen_lite.benchmarking.protocols import (
    CDVAE,
    CRYSTALITE,
    LEMAT,
    MATTERGEN,
    PROTOCOLS,
    TRAINING,
)
from mattergen_lite.benchmarking.sets import CrystalSet, parse_sets
from mattergen_lite.commands.generate import generate
from mattergen_lite.config import PropertyConfig
from mattergen_lite.data.table import EMBEDDED, read_crystal_table
from mattergen_lite.io.write import write_extxyz
from mattergen_lite.model import CrystalDiffusion
from mattergen_lite.processes import Pool
from mattergen_lite.scoring.execution.result_cache import ResultCache

HERE = {"device": "cpu", "num_workers": 0}


def write(structures, path):
    write_extxyz(structures, path, [{"name": f"c{i}"} for i in range(len(structures))])


def killed(*arguments, **options):
    raise RuntimeError("killed")


@pytest.fixture(scope="module")
def table():
    """Small crystals of the embedded table as pandas reads them."""
    columns = ["split", "material_id", "num_atoms", "lattice", "atomic_numbers", "frac_coords"]
    rows = read_crystal_table(EMBEDDED, columns).to_pandas()
    return rows[rows["num_atoms"] <= 5]


def structure_of(row):
    numbers = [int(number) for number in row.atomic_numbers]
    return Structure(np.reshape(row.lattice, (3, 3)), numbers, np.reshape(row.frac_coords, (-1, 3)))


@pytest.fixture(scope="module")
def crystals(table):
    """Six of the training split, six of the test split, copies of two, and two nobody knows."""
    picked = pd.concat(
        [table[table["split"] == split].sample(6, random_state=0) for split in ("train", "test")]
    )
    structures = [structure_of(row) for row in picked.itertuples()]
    copies = [structures[0].copy() * (2, 1, 1), structures[7].copy()]
    return [*structures, *copies, triclinic(), triclinic().scale_lattice(300)]


@pytest.fixture(scope="module")
def judged_set(crystals):
    """The crystals with energies above the hull as they might be, best first."""
    rng = np.random.default_rng(0)
    energies = np.sort(rng.normal(0.1, 0.15, len(crystals)))
    rows = [
        {
            "name": f"c{number}",
            "structure_valid": True,
            "composition_valid": number % 3 != 0,
            "density": one.density,
            "chemical_system": one.chemical_system,
            "e_above_hull_raw": float(energy),
            "probability_stable": float(1 / (1 + math.exp(30 * energy))),
            "probability_metastable": float(1 / (1 + math.exp(30 * (energy - 0.1)))),
            "rmsd": 0.01 * number,
            "potential": "7net-l3i5",
            "relaxed_with": "chgnet",
        }
        for number, (one, energy) in enumerate(zip(crystals, energies, strict=True))
    ]
    rows.append({"name": "broken", "error": "no lattice"})
    return CrystalSet(rows=rows, raw=[*crystals, None], relaxed=[*crystals, None])


def is_new(crystals, known):
    """Unique and novel, by pymatgen's own grouping and one comparison after the other."""
    matcher = StructureMatcher()
    groups = matcher.group_structures(list(crystals))
    firsts = [next(i for i, c in enumerate(crystals) if any(c is g for g in one)) for one in groups]
    unique = np.isin(np.arange(len(crystals)), firsts)
    formulas = pd.Series([one.composition.reduced_formula for one in known])
    novel = [
        not any(
            matcher.fit(known[i], one)
            for i in formulas.index[formulas == one.composition.reduced_formula]
        )
        for one in crystals
    ]
    return unique, np.array(novel)


@pytest.mark.parametrize("protocol", [CRYSTALITE, MATTERGEN, LEMAT], ids=lambda one: one.name)
def test_sun_is_counted_as_by_hand(protocol, judged_set, crystals, table):
    rows = table[table["split"] == "train"] if protocol.novel_against == TRAINING else table
    systems = {frozenset(one.atomic_numbers) for one in crystals}
    near = rows[rows["atomic_numbers"].map(lambda numbers: frozenset(numbers) in systems)]
    unique, novel = is_new(crystals, [structure_of(row) for row in near.itertuples()])
    assert unique.sum() <= len(crystals) - 2
    with Pool(0) as pool:
        known = novelty_reference(protocol.novel_against)
        found, num_missing = de_novo_figures(judged_set, protocol, known, ResultCache(pool))
    assert num_missing == 0
    frame = pd.DataFrame(judged_set.rows).iloc[:-1]
    count = len(frame) + 1
    new = unique & novel
    assert found["unique"] == pytest.approx(unique.sum() / count)
    assert found["novel"] == pytest.approx(novel.sum() / count)
    assert 0 < found["unique_and_novel"] == pytest.approx(new.sum() / count)
    stable = frame["e_above_hull_raw"] <= protocol.stable_below
    assert 0 < found["stable"] == pytest.approx(stable.sum() / count)
    assert found["sun"] == pytest.approx((stable & new).sum() / count)
    column = "probability_stable" if protocol is LEMAT else "probability_metastable"
    assert found["expected_sun"] == pytest.approx(frame[column][new].sum() / count)
    assert found["rmsd"] == pytest.approx(frame["rmsd"].mean())
    if protocol is LEMAT:
        metastable = frame["e_above_hull_raw"] <= 0.1
        assert found["msun"] == pytest.approx((metastable & new).sum() / count)
    assert {figure.name for figure in protocol.figures} <= found.keys()


def test_cdvae_takes_distances_over_valid_crystals_only(judged_set):
    with Pool(0) as pool:
        every, _ = de_novo_figures(judged_set, CRYSTALITE, None, ResultCache(pool))
        valid, _ = de_novo_figures(judged_set, CDVAE, None, ResultCache(pool))
    assert every["composition_valid"] == valid["composition_valid"] == pytest.approx(10 / 17)
    assert every["w1_density"] != valid["w1_density"]
    assert {figure.name for figure in CDVAE.figures} <= valid.keys()


def test_known_crystals_are_covered_and_unread_ones_count(judged_set):
    """Six of sixteen are of the test split and one is a copy; the seventeenth has no structure."""
    with Pool(0) as pool:
        found, _ = de_novo_figures(judged_set, CDVAE, None, ResultCache(pool))
        alone = CrystalSet(rows=judged_set.rows[-1:], raw=[None])
        nothing, _ = de_novo_figures(alone, CDVAE, None, ResultCache(pool))
    assert 7 / 17 <= found["cov_precision"] <= 16 / 17
    assert 6 / 7333 <= found["cov_recall"] < 1
    assert nothing["cov_recall"] == nothing["cov_precision"] == 0


def test_without_matminer_coverage_is_empty_and_says_what_it_takes(tmp_path, monkeypatch):
    for module in ("benchmark", "de_novo"):
        monkeypatch.setattr(f"mattergen_lite.benchmarking.{module}.has_matminer", lambda: False)
    write([nacl()], tmp_path / "set.extxyz")
    out = tmp_path / "out"
    done = benchmark(tmp_path / "set.extxyz", protocol="cdvae", out=out, **HERE)
    (line,) = done.measured
    assert line.values["cov_recall"] is line.values["cov_precision"] is None
    assert line.values["valid"] == 1
    for text in (done.text(), (out / "benchmark.md").read_text()):
        assert 'pip install ".[coverage]"' in text
    assert "matminer" in json.loads((out / RESULT).read_text())["note"]


def test_an_interrupted_coverage_goes_on_where_it_was(tmp_path, monkeypatch):
    out = tmp_path / "out"
    write([nacl(), rutile()], tmp_path / "set.extxyz")
    asked = {"protocol": "cdvae", "out": out, **HERE}
    with monkeypatch.context() as patch:
        patch.setattr("mattergen_lite.benchmarking.de_novo.coverage", killed)
        with pytest.raises(RuntimeError, match="killed"):
            benchmark(tmp_path / "set.extxyz", **asked)
    lines = (out / FINGERPRINTS).read_text().split()
    assert lines
    with monkeypatch.context() as patch:
        patch.setattr("mattergen_lite.scoring.metrics.coverage.structure_fingerprint", killed)
        (line,) = benchmark(tmp_path / "set.extxyz", **asked).measured
    assert line.values["cov_precision"] == 1
    assert not (out / FINGERPRINTS).exists()


def test_validity_is_that_of_cdvae_and_smact(tmp_path):
    """Distances by pymatgen, charges by smact, on crystals that break the one or the other."""
    close = Structure(nacl().lattice, ["Na", "Cl"], [[0, 0, 0], [0.05, 0, 0]])
    odd = nacl_primitive().replace_species({"Na": "O"}, in_place=False)
    structures = [nacl(), rutile(), perovskite(), quartz(), close, odd]
    write(structures, tmp_path / "set.extxyz")
    out = tmp_path / "out"
    done = benchmark(tmp_path / "set.extxyz", protocol="cdvae", out=out, **HERE)
    (line,) = done.measured
    apart = [
        (one.distance_matrix + 10 * np.eye(len(one))).min() >= 0.5 and one.volume >= 0.1
        for one in structures
    ]
    charged = [
        smact_validity(one.composition, oxidation_states_set="smact14") for one in structures
    ]
    assert sum(apart) == 5
    assert line.values["structure_valid"] == pytest.approx(np.mean(apart))
    assert line.values["composition_valid"] == pytest.approx(np.mean(charged))
    assert line.values["valid"] == pytest.approx(np.mean(np.array(apart) & charged))
    assert json.loads((out / RESULT).read_text())["measured"][0]["values"] == line.values
    assert (out / "benchmark.png").read_bytes().startswith(b"\x89PNG")
    assert "COV-R" in (out / "benchmark.md").read_text()


def test_a_benchmark_goes_on_from_what_is_judged_and_notices_another_file(tmp_path, monkeypatch):
    source, out = tmp_path / "set.extxyz", tmp_path / "out"
    asked = {"protocol": "cdvae", "out": out, **HERE}
    write([nacl(), rutile()], source)
    first = benchmark(source, **asked)
    with pytest.raises(ValueError, match="holds an earlier benchmark"):
        benchmark(source, **asked)
    monkeypatch.setattr("mattergen_lite.benchmarking.sets.JudgingRun.execute", killed)
    (out / RESULT).unlink()
    assert benchmark(source, **asked).measured == first.measured
    write([nacl(), perovskite()], source)
    with pytest.raises(RuntimeError, match="killed"):
        benchmark(source, overwrite=True, **asked)


@pytest.mark.slow
def test_relaxations_of_a_run_are_used_again(tmp_path, monkeypatch):
    """Judged once for one protocol, its folder serves the others, and stands beside a file."""
    source = tmp_path / "set.extxyz"
    write([nacl_primitive(), nacl(), perovskite()], source)
    asked = {"potential": "chgnet", **HERE}
    first = benchmark(source, protocol="mattergen", out=tmp_path / "one", **asked)
    (values,) = [line.values for line in first.measured]
    assert values["unique"] == pytest.approx(2 / 3)
    assert values["novel"] == values["sun"] == 0
    assert values["stable"] == 1
    assert 0.9 < values["expected_stable"] <= 1
    assert 0 <= values["rmsd"] < 0.05
    run = tmp_path / "one" / "judged" / "set"
    monkeypatch.setattr("mattergen_lite.benchmarking.sets.JudgingRun.execute", killed)
    for protocol in ("lemat", "crystalite", "mattergen", "cdvae"):
        out = tmp_path / protocol
        done = benchmark(run, protocol=protocol, out=out, beside=[f"again={run}"], **asked)
        assert [line.name for line in done.measured] == ["set", "again"]
        assert done.measured[0].values == done.measured[1].values
        text = (out / "benchmark.md").read_text()
        papers = [line for line in text.splitlines() if line.startswith("| *") and "**" not in line]
        assert len(papers) == len(done.published)
    assert done.measured[0].num == 3
    with pytest.raises(ValueError, match="in the order of their rank"):
        benchmark(run, protocol="lemat", out=tmp_path / "x", limit=2, **asked)


def test_structure_prediction_of_files(tmp_path):
    for name, structures in {
        "truth": [nacl(), rutile(), quartz()],
        "good": [nacl_primitive(), rutile(), quartz()],
        "bad": [quartz(), quartz()],
    }.items():
        write(structures, tmp_path / f"{name}.extxyz")
    asked = {"protocol": "csp", "out": tmp_path / "out", **HERE}
    with pytest.raises(ValueError, match="takes the known structures"):
        benchmark(tmp_path / "good.extxyz", **asked)
    done = benchmark(
        tmp_path / "good.extxyz",
        truth=tmp_path / "truth.extxyz",
        beside=[f"bad={tmp_path / 'bad.extxyz'}"],
        **asked,
    )
    good, bad = done.measured
    assert (good.values["match_rate"], good.values["metre"]) == (1, 1)
    assert good.values["rmse"] == pytest.approx(0, abs=1e-3)
    assert bad.values["match_rate"] == pytest.approx(1 / 3)
    assert {line.name for line in done.published} >= {"Crystalite", "DiffCSP"}
    assert "66.1" in done.markdown()


def test_hit_rates_are_those_of_the_run(tmp_path):
    density = PropertyConfig(name="density", unit="g/cm³", mean=5.0, std=2.0)
    model = CrystalDiffusion(tiny_config().model_copy(update={"properties": (density,)}))
    fit(model, random_crystals(seed=9))
    model.diffusion.allowed_elements[1:] = True
    model.save(tmp_path / "model")
    generate(
        out=tmp_path / "run",
        checkpoint=str(tmp_path / "model"),
        condition=["density=2..8"],
        num_samples=6,
        steps=3,
        relax=False,
        **HERE,
    )
    asked = {"protocol": "conditional", "out": tmp_path / "out", **HERE}
    (line,) = benchmark(tmp_path / "run", **asked).measured
    rows = pd.read_csv(tmp_path / "run" / "candidates.csv").dropna(subset="measured_density")
    hits = rows["measured_density"].between(2, 8).mean()
    known = embedded_density()
    assert (line.name, line.num) == ("run: density", len(rows))
    assert line.values["rate"] == pytest.approx(hits)
    assert line.values["base_rate"] == pytest.approx(((known >= 2) & (known <= 8)).mean(), 1e-3)
    assert line.values["enrichment"] == pytest.approx(hits / line.values["base_rate"])
    error = (rows["measured_density"] - rows["target_density"]).abs().mean()
    assert line.values["mae"] == pytest.approx(error, rel=1e-4)
    write([nacl()], tmp_path / "set.extxyz")
    with pytest.raises(ValueError, match="has no targets"):
        benchmark(tmp_path / "set.extxyz", overwrite=True, **asked)


def embedded_density():
    table = read_crystal_table(EMBEDDED).to_pandas().query("split == 'train'")
    masses = [
        sum(Element.from_Z(int(n)).atomic_mass for n in numbers)
        for numbers in table["atomic_numbers"]
    ]
    volumes = [abs(np.linalg.det(np.reshape(lattice, (3, 3)))) for lattice in table["lattice"]]
    return 1.66053907 * np.array(masses) / volumes


def test_errors_are_of_numbers():
    rows = [
        {"target_gap": 2.0, "measured_gap": 2.5},
        {"target_gap": 2.0, "measured_gap": 1.0},
        {"target_gap": 2.0, "measured_gap": None},
        {"target_gap": "cubic", "measured_gap": "cubic"},
    ]
    assert mean_error(rows, "gap") == 0.75
    assert mean_error(rows, "hardness") is None


def test_standard_errors_of_rare_and_common_shares():
    assert standard_error(0.5, 10_000) == pytest.approx(0.005, rel=1e-3)
    assert 0.05 < standard_error(0.0, 5) < 0.2


def test_sets_have_names(tmp_path):
    for name in ("ours.extxyz", "peer"):
        (tmp_path / name).touch()
    sets = parse_sets(tmp_path / "ours.extxyz", [f"peer={tmp_path / 'peer.zip'}"])
    assert list(sets) == ["ours", "peer"]
    with pytest.raises(ValueError, match=r"'peer\.zip': expected name=path"):
        parse_sets(tmp_path, ["peer.zip"])
    with pytest.raises(ValueError, match="expected name=path"):
        parse_sets(tmp_path, ["../peer=peer.zip"])
    with pytest.raises(ValueError, match="two sets are called 'peer'"):
        parse_sets(tmp_path / "peer", ["peer=x"])


def test_a_missing_source_is_refused(tmp_path):
    with pytest.raises(ValueError, match="does not exist"):
        benchmark(tmp_path / "none", protocol="cdvae", out=tmp_path / "out", **HERE)
    assert not (tmp_path / "out").exists()


def test_a_folder_whose_files_do_not_fit_is_refused(tmp_path):
    rows = [{"name": "a", "error": None}, {"name": "b", "error": None}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "candidates.parquet")
    (tmp_path / "run.json").write_text('{"format": 2}')
    with pytest.raises(ValueError, match="is damaged"):
        CrystalSet.read(tmp_path)


def test_every_protocol_says_how_it_differs():
    assert all(one.source and (one.differences or one.left_out) for one in PROTOCOLS)
