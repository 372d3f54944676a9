"""Campaigns in this process: plan, parts, status, shortlist, and what is refused."""

import gc
import json
import sys
import urllib.error
import urllib.request
from dataclasses import asdict, replace

import distributed
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from crystals import nacl, nacl_primitive, perovskite, quartz, rutile
from filelock import FileLock
from models import tiny_model

from mattergen_lite import cli
from mattergen_lite.campaign.claims import work_through
from mattergen_lite.campaign.parts import (
    CANDIDATES,
    finished_keys,
    part_paths,
    unit_records,
)
from mattergen_lite.campaign.plan import CampaignPlan
from mattergen_lite.campaign.shortlist import best_candidates
from mattergen_lite.campaign.status import (
    UNFINISHED,
    progress,
    recent_rate,
    tries_path,
    write_refusal,
)
from mattergen_lite.campaign.work import work
from mattergen_lite.campaign.workers import SUBMIT, batch_system, connection, job_script
from mattergen_lite.commands.campaign import campaign_report, campaign_run, campaign_status
from mattergen_lite.commands.library import library_export
from mattergen_lite.config import CampaignConfig, ClusterConfig, WorkersConfig
from mattergen_lite.io.read import read_structures
from mattergen_lite.io.write import write_extxyz
from mattergen_lite.processes import Pool
from mattergen_lite.runs.store import read_candidates, schema
from mattergen_lite.scoring.potential_runner import PotentialRunner


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    tiny_model().save(folder)
    return folder


@pytest.fixture
def campaign(checkpoint, tmp_path):
    def configured(**settings: object) -> CampaignConfig:
        asked = {"checkpoint": str(checkpoint), "steps": 3, "num_atoms": "2..4"}
        tree = {
            "run_dir": tmp_path / "run",
            "num_samples": 6,
            "unit_size": 3,
            "generate": asked | {"condition": ["band_gap=1..2", "space_group=225"]},
            "judge": {"relax": False},
            "workers": {"device": "cpu"},
        }
        return CampaignConfig.parse(tree | settings)

    return configured


def finish(config):
    plan = CampaignPlan.of(config)
    plan.save({})
    for unit in plan.units():
        work(config, unit, "cpu")
    return plan


def test_parts_are_a_dataset_that_says_everything(campaign):
    config = campaign()
    plan = finish(config)
    table = ds.dataset(config.run_dir / CANDIDATES).to_table()
    assert table.num_rows == 6
    assert sorted(table["name"].to_pylist()) == [f"{i:06d}" for i in range(6)]
    assert set(table["unit"].to_pylist()) == {unit.key for unit in plan.units()}
    assert finished_keys(config.run_dir) == {unit.key for unit in plan.units()}
    stored = [one for path in part_paths(config.run_dir) for one in read_candidates(path)]
    for row, candidate in zip(table.to_pylist(), stored, strict=True):
        assert candidate.raw.formula == row["formula"]
        assert list(candidate.final_structure.atomic_numbers) == row["atomic_numbers"]
        assert [float(part) for part in candidate.sort_key()] == row["merit"]
        assert 1 <= row["target_band_gap"] <= 2
        assert row["target_space_group"] == "225"
    for path in part_paths(config.run_dir):  # every part has every type, whatever its values
        assert not any(pa.types.is_null(one.type) for one in pq.read_schema(path))
        assert len(list(read_structures(path))) == 3
    for one in unit_records(config.run_dir):
        assert len(one.provenance["weights_sha256"]) == 64
        assert one.finished >= one.started
        assert one.num_sampled == 3


def test_schema_knows_every_column():
    columns = schema({"band_gap": True, "space_group": False})
    assert columns.field("e_above_hull").type == pa.float64()
    assert columns.field("relaxed_is_unique").type == pa.bool_()
    assert columns.field("space_groups").type == pa.string()
    assert columns.field("target_band_gap").type == pa.float64()
    assert columns.field("measured_space_group").type == pa.string()


def test_finished_units_are_not_done_again(campaign):
    config = campaign()
    plan = finish(config)
    before = {path: path.stat().st_mtime_ns for path in part_paths(config.run_dir)}
    larger = campaign(num_samples=9)
    assert [unit.key for unit in CampaignPlan.of(larger).units()][:2] == [
        u.key for u in plan.units()
    ]
    finish(larger)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert progress(config.run_dir).num_sampled == 9


def test_keys_follow_everything_that_matters_and_nothing_else(campaign, tmp_path):
    def key(config):
        return next(CampaignPlan.of(config).units()).key

    original = key(campaign())
    same = [{"run_dir": tmp_path / "other"}, {"num_samples": 12}, {"workers": {"count": 3}}]
    different = [{"seed": 1}, {"unit_size": 2}, {"first_sample": 3}, {"judge": {"relax": True}}]
    assert {key(campaign(**settings)) for settings in same} == {original}
    keys = [key(campaign(**settings)) for settings in different]
    assert len({original, *keys}) == 1 + len(different)
    weights = campaign().generate.checkpoint
    tiny_model(seed=5).save(tmp_path / "other_model")
    asked = replace(campaign().generate, checkpoint=str(tmp_path / "other_model"))
    assert weights != asked.checkpoint
    assert key(campaign(generate=asdict(asked))) != original


def test_a_folder_keeps_to_one_campaign(campaign):
    CampaignPlan.of(campaign()).save({})
    with pytest.raises(ValueError, match=r"another seed \(0, now 1\)"):
        CampaignPlan.of(campaign(seed=1)).save({})
    with pytest.raises(ValueError, match="num_samples is 3: expected at least the 6"):
        CampaignPlan.of(campaign(num_samples=3)).save({})
    with pytest.raises(ValueError, match=r"expected a multiple of unit_size \(3\)"):
        CampaignPlan.of(campaign(num_samples=7))
    with pytest.raises(ValueError, match="does not exist"):
        CampaignPlan.of(campaign(source="nowhere.cif"))


def test_the_shortlist_has_every_kind_once_and_the_best_first(campaign, tmp_path):
    """Equal crystals in different units: the units cannot know, the shortlist does."""
    crystals = [nacl(), rutile(), nacl_primitive(), perovskite(), rutile(), nacl()]
    names = [{"name": f"c{i}"} for i in range(6)]
    write_extxyz(crystals, tmp_path / "all.extxyz", names)
    config = campaign(source=tmp_path / "all.extxyz", unit_size=2)
    finish(config)
    with Pool(0) as pool:
        best = best_candidates(config.run_dir, 5, pool)
    assert sorted(one.raw.formula for one in best) == ["NaCl", "SrTiO3", "TiO2"]
    assert [one.rank for one in best] == [1, 2, 3]
    assert [one.sort_key() for one in best] == sorted(one.sort_key() for one in best)
    judged = campaign_report(config.run_dir, shortlist=2, num_workers=0)
    out = config.run_dir / "report"
    assert [one.raw.name for one in judged.candidates] == [one.raw.name for one in best[:2]]
    assert {path.name for path in out.iterdir()} >= {"candidates.csv", "report.html", "cifs"}
    assert json.loads((out / "campaign.json").read_text())["funnel"]["num_sampled"] == 6
    assert library_export(config.run_dir, str(tmp_path / "all.jsonl")).number == 6


def test_a_structure_that_cannot_be_read_is_a_row_with_the_reason(campaign, tmp_path):
    (tmp_path / "all").mkdir()
    nacl().to(str(tmp_path / "all" / "salt.cif"))
    (tmp_path / "all" / "broken.cif").write_text("data_broken\n_atom_site_label\n")
    config = campaign(source=tmp_path / "all", unit_size=2)
    finish(config)
    (part,) = part_paths(config.run_dir)
    assert [one.raw.error is None for one in read_candidates(part)] == [False, True]
    assert library_export(config.run_dir, str(tmp_path / "all.jsonl")).number == 1


@pytest.fixture
def screened(campaign, tmp_path):
    """Settings of a campaign of two units that relax their likeliest crystal each."""
    crystals = [nacl(), rutile(), perovskite(), quartz(), nacl_primitive().scale_lattice(60)]
    write_extxyz(crystals, tmp_path / "all.extxyz", [{"name": f"c{i}"} for i in range(5)])
    judge = {"potential": "chgnet", "second_opinion": None, "keep": 0.3, "control": 0}
    return {
        "source": tmp_path / "all.extxyz",
        "unit_size": 3,
        "judge": judge | {"require": "readable,physical"},
    }


def interrupt(*_):
    raise KeyboardInterrupt


@pytest.mark.slow
def test_a_screened_unit_that_is_interrupted_ends_as_if_it_had_not_been(
    campaign, screened, tmp_path, monkeypatch
):
    undisturbed, broken = (campaign(**screened, run_dir=tmp_path / name) for name in "ab")
    finish(undisturbed)
    monkeypatch.setattr(PotentialRunner, "measure", interrupt)
    with pytest.raises(KeyboardInterrupt):
        finish(broken)
    monkeypatch.undo()
    assert not part_paths(broken.run_dir)
    (result_cache,) = (broken.run_dir / UNFINISHED).glob("*.jsonl")
    assert "num_atoms" in result_cache.read_text()  # of the energies of raw crystals
    finish(broken)
    rows, again = (
        ds.dataset(one.run_dir / CANDIDATES).to_table().to_pylist() for one in (undisturbed, broken)
    )
    assert [*map(repr, rows)] == [*map(repr, again)]  # as text, so that NaN equals NaN
    relaxed = [row["e_above_hull"] is not None for row in rows]
    assert relaxed == [row["screening_decision"] == "keep" for row in rows]
    assert sum(relaxed) == 2  # one of each unit
    stands = campaign_status(broken.run_dir)
    assert stands.screened.loss().num_screened == 5
    assert "screened 5: 2 kept" in stands.text()
    report = campaign_report(broken.run_dir, shortlist=1, num_workers=0)
    assert report.figures()["screening"]["num_kept"] == 2
    assert report.provenance["arguments"] == {"require": "readable,physical"}


def test_processes_without_a_scheduler_share_the_units(campaign, tmp_path):
    """What another process holds is left to it, until it lets go."""
    alone, shared = (campaign(run_dir=tmp_path / name) for name in "ab")
    finish(alone)
    plan = CampaignPlan.of(shared)
    first = next(plan.units())
    (shared.run_dir / UNFINISHED).mkdir(parents=True)
    lock = FileLock(shared.run_dir / UNFINISHED / f"{first.key}.lock", is_singleton=False)
    lock.acquire()
    seen = []

    def let_go(_):
        seen.append(finished_keys(shared.run_dir))
        lock.release()

    stands = work_through(plan, wait=let_go)
    assert stands.complete
    assert seen == [{unit.key for unit in plan.units()} - {first.key}]
    assert not [*(shared.run_dir / UNFINISHED).iterdir()]
    tables = [ds.dataset(one.run_dir / CANDIDATES).to_table() for one in (alone, shared)]
    assert tables[0].replace_schema_metadata(None).equals(tables[1].replace_schema_metadata(None))


def test_a_unit_that_fails_or_kills_is_set_aside_and_tried_again(campaign, monkeypatch):
    config = campaign()
    devices = []

    def broken(*arguments):
        devices.append(arguments[-1])
        raise RuntimeError("no luck")

    monkeypatch.setattr("mattergen_lite.campaign.work._workshop", broken)
    first, second = CampaignPlan.of(config).units()
    tries_path(config.run_dir, second.key).parent.mkdir(parents=True)
    tries_path(config.run_dir, second.key).write_bytes(b"...")  # of processes that were killed
    stands = work_through(CampaignPlan.of(config))
    assert stands.refused == dict.fromkeys((first.key, second.key), "RuntimeError: no luck")
    assert sorted(devices) == ["cpu"] * 4  # three tries of the first, the fourth of the second
    monkeypatch.undo()
    assert work_through(CampaignPlan.of(config)).complete


def test_status_counts_and_names_what_was_set_aside(campaign):
    config = campaign(num_samples=9)
    plan = CampaignPlan.of(config)
    plan.save({})
    first, second, third = plan.units()
    assert progress(config.run_dir).rate is None
    work(config, first, "cpu")
    work(config, second, "cpu")
    write_refusal(config.run_dir, third, "RuntimeError: no luck")
    found = campaign_status(config.run_dir)
    assert (found.num_sampled, found.num_wanted, found.complete) == (6, 9, False)
    assert found.funnel.num_sampled == 6
    assert found.hours_left == pytest.approx(3 / found.rate)
    for words in ("6 of 9 crystals", "6 sampled ->", "RuntimeError: no luck", "hours left"):
        assert words in found.text()


def test_rates_are_those_of_the_last_units(campaign):
    config = campaign()
    finish(config)
    first, second = unit_records(config.run_dir)
    then = second.started - 1e6  # long ago: the campaign is at rest
    stored = [
        replace(one, started=then + 10 * i, finished=then + 10 * (i + 1))
        for i, one in enumerate((first, second))
    ]
    assert recent_rate(stored) == pytest.approx(3 / 10 * 3600)
    assert recent_rate(stored[:1]) is None


def test_job_scripts_have_what_the_file_says(tmp_path):
    options = {
        "cores": 1,
        "processes": 1,
        "memory": "2GiB",
        "queue": "gpu",
        "job_extra_directives": ["--gres=gpu:1"],
        "scheduler_options": {"dashboard": False, "host": "127.0.0.1"},
    }
    config = ClusterConfig(kind="slurm", jobs=1, options=options | {"no_such_option": 1})
    with pytest.raises(ValueError, match=r"slurm options: .*no_such_option"):
        batch_system(config, tmp_path)
    script = job_script(ClusterConfig(kind="slurm", jobs=1, options=options))
    assert "#SBATCH --gres=gpu:1" in script
    assert "#SBATCH -p gpu" in script
    assert "export PYTHONSAFEPATH=1" in script
    assert "--no-dashboard" in script
    assert "tls://" in script
    assert "--tls-key" in script


def test_a_dry_run_starts_nothing(campaign, tmp_path, monkeypatch):
    lost = []
    monkeypatch.setattr(sys, "unraisablehook", lost.append)
    cluster = tmp_path / "slurm.yaml"
    cluster.write_text("kind: slurm\noptions: {cores: 1, memory: 2GiB, queue: gpu}\n")
    (tmp_path / "run.yaml").write_text(campaign().model_dump_json())  # JSON is YAML
    planned = campaign_run(str(tmp_path / "run.yaml"), cluster=cluster, dry_run=True)
    assert "#SBATCH -p gpu" in planned.text()
    assert planned.text().endswith(f"# 6 crystals in 2 units -> {tmp_path / 'run'}")
    gc.collect()
    assert not lost  # such as keys whose folder was gone before they were
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("kind", [one for one, command in SUBMIT.items() if command])
def test_a_machine_without_the_batch_system_is_one_line(tmp_path, monkeypatch, kind):
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "cluster.yaml").write_text(f"kind: {kind}\noptions: {{cores: 1}}\n")
    with pytest.raises(ValueError, match=f"no {SUBMIT[kind]} here"):
        connection(WorkersConfig(), tmp_path, cluster=tmp_path / "cluster.yaml")


def test_workers_of_this_machine_talk_to_those_with_the_keys_only(tmp_path, monkeypatch):
    """Others on a login node reach loopback addresses too; what they send must not run."""
    (tmp_path / "colorsys.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    monkeypatch.chdir(tmp_path)
    with connection(WorkersConfig(count=1, device="cpu"), tmp_path)() as client:
        address = client.scheduler.address
        assert address.startswith("tls://127.0.0.1:")
        assert client.submit(place_of, "colorsys").result().endswith("colorsys.py")
        stranger = address.replace("tls://", "tcp://")
        with pytest.raises(OSError):  # noqa: PT011  # whichever of Dask's
            distributed.Client(stranger, timeout=3)
        with pytest.raises((OSError, TypeError, RuntimeError)):  # without keys
            distributed.Client(address, timeout=3)
        page = f"http://127.0.0.1:{client.scheduler_info()['services']['dashboard']}"
        assert urllib.request.urlopen(f"{page}/health").read() == b"ok"
        for path in ("status", "info/main/workers.html", "metrics", "api/v1"):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                urllib.request.urlopen(f"{page}/{path}")
    assert not (tmp_path / "ran").exists()


def place_of(module):
    return __import__(module).__file__


@pytest.mark.parametrize("address", ["head", "http://head", "tcp://", "://head:1"])
def test_what_is_no_address_of_a_scheduler_is_refused(tmp_path, address):
    with pytest.raises(ValueError, match="expected an address such as"):
        connection(WorkersConfig(), tmp_path, address)


def test_an_unprotected_scheduler_is_warned_of(tmp_path, capsys):
    connection(WorkersConfig(), tmp_path, "tcp://head:8786")
    assert "whoever reaches it may run anything" in capsys.readouterr().err
    connection(WorkersConfig(), tmp_path, "tcp://127.0.0.1:8786")
    connection(WorkersConfig(), tmp_path, "tls://head:8786")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[1, 2]", "is damaged"),
        ("{}", "is damaged"),
        ('{"config": [], "determinants": {}, "num_samples": 1}', "is damaged"),
        ('{"config": {}, "determinants": {}, "num_samples": "x"}', "is damaged"),
        ('{"config": {"nonsense": 1}, "determinants": {}, "num_samples": 1}', "no key"),
        ('{"format": 9}', "has format 9, .* newer version"),
        ("[" * 100_000, "holds no campaign"),
        ("\x00", "holds no campaign"),
    ],
)
def test_damaged_manifests_are_one_line(tmp_path, text, reason):
    (tmp_path / "campaign.json").write_text(text)
    for verb in (campaign_status, campaign_report):
        with pytest.raises(ValueError, match=reason):
            verb(tmp_path)


def test_damaged_parts_and_refusals_are_named(campaign):
    plan = finish(campaign())
    folder = campaign().run_dir
    (folder / "refused").mkdir(exist_ok=True)
    (folder / "refused" / "a.json").write_text("[]")
    assert progress(folder).refused["a"] == "a.json is damaged"
    part = part_paths(folder)[0]
    part.write_bytes(part.read_bytes()[:100])
    with pytest.raises(ValueError, match="is damaged"):
        campaign_status(folder)
    assert plan.num_samples == 6


def test_names_of_a_source_are_apart(campaign, tmp_path):
    names = ["a", "a", "a#2", "a"]
    write_extxyz([nacl()] * 4, tmp_path / "all.xyz", [{"name": name} for name in names])
    (unit,) = CampaignPlan.of(campaign(source=tmp_path / "all.xyz", unit_size=4)).units()
    assert len({one.name for one in unit.documents}) == 4


def test_what_cannot_work_is_refused(campaign, tmp_path, monkeypatch, capsys):
    with pytest.raises(ValueError, match="expected one of them"):
        connection(WorkersConfig(), tmp_path, "tcp://127.0.0.1:1", tmp_path / "slurm.yaml")
    with pytest.raises(ValueError, match="cannot read configuration"):
        connection(WorkersConfig(), tmp_path, None, tmp_path / "slurm.yaml")
    with pytest.raises(ValueError, match="holds no campaign"):
        campaign_status(tmp_path)
    CampaignPlan.of(campaign()).save({})
    with pytest.raises(ValueError, match="holds no finished unit"):
        campaign_report(campaign().run_dir, num_workers=0)
    with pytest.raises(ValueError, match=r"nearest one is 'generate\.elements'"):
        campaign_run("run_dir=a", "generate.element=Li")
    monkeypatch.setattr(sys, "argv", ["mattergen-lite", "campaign", "status", str(tmp_path)])
    with pytest.raises(SystemExit, match="2"):
        cli.main()
    assert "error: " in capsys.readouterr().err
