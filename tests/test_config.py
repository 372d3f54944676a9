import re
from pathlib import Path

import pytest

from mattergen_lite.config import CampaignConfig, ClusterConfig, RunConfig, shipped
from mattergen_lite.hub import find_checkpoint

CONFIGS = sorted(Path(__file__).parents[1].glob("configs/*.yaml"))
SECTIONS = {"campaign": CampaignConfig, "slurm": ClusterConfig}  # the others are training runs


def load(*overrides):
    return RunConfig.load([], ["run_dir=x", *overrides])


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_shipped_file_loads(path):
    SECTIONS.get(path.stem, RunConfig).load([path])


def test_the_shipped_campaign_samples_a_shipped_model():
    campaign = CampaignConfig.load([shipped("configs") / "campaign.yaml"])
    assert find_checkpoint(campaign.generate.checkpoint).is_dir()


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_checkpoints_that_shipped_files_name_are_shipped(path):
    named = re.findall(r"^ *(?:checkpoint|init_from): *(\S+)", path.read_text(), re.MULTILINE)
    assert all((shipped("checkpoints") / name / "config.yaml").exists() for name in named), named


def test_there_are_shipped_files():
    assert CONFIGS
    assert shipped("configs").exists()


def test_files_merge_left_to_right_and_overrides_win(tmp_path):
    a, b = tmp_path / "a.yaml", tmp_path / "b.yaml"
    a.write_text("run_dir: x\nmodel:\n  network: {dim: 64, depth: 3}\n")
    b.write_text("model:\n  network: {dim: 96}\n")
    config = RunConfig.load([a, b], ["optimizer.learning_rate=1e-4"])
    assert config.model.network.dim == 96
    assert config.model.network.depth == 3
    assert config.optimizer.learning_rate == pytest.approx(1e-4)


def test_saved_configuration_is_the_same(tmp_path):
    config = load("model.network.dim=64")
    config.save(tmp_path / "config.yaml")
    assert RunConfig.load([tmp_path / "config.yaml"]) == config


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "model.network.dimm=3",
            "no key 'model.network.dimm'; the nearest one is 'model.network.dim'",
        ),
        ("trainer.device=2", "the nearest one is 'trainer.devices'"),
        ("model.network.dim=-3", r"model.network.dim is -3: expected more than 0"),
        ("model.network.dim=big", "model.network.dim is big: expected a whole number"),
        ("seed", "'seed' is not of the form key=value"),
    ],
)
def test_mistakes_are_named_with_their_path(override, message):
    with pytest.raises(ValueError, match=message) as caught:
        load(override)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("content", [None, "a: [", "just text"])
def test_unreadable_files_are_named(tmp_path, content):
    path = tmp_path / "run.yaml"
    if content:
        path.write_text(content)
    with pytest.raises(ValueError, match=r"cannot read configuration .*run.yaml"):
        RunConfig.load([path])


BOMB = "a: &a [x, x]\n" + "\n".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 9)}]" for i in range(9)
)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (BOMB, "aliases"),
        ("a: " + "[" * 5000 + "]" * 5000, "nested too deeply"),
        ("x: " + "y" * 2_000_000, "more than 1048576 characters"),
        ("run_dir: [a", "cannot read configuration"),
        ("run_dir: !!python/object/apply:os.system [id]", "cannot read configuration"),
        ("? {a: b}\n: c", "cannot read configuration"),
        ("2001-99-99: 1", "cannot read configuration|no key"),
        ("model: {format: 99, brand_new_key: 1}\nrun_dir: x", "format is 99, .* newer version"),
        ("run_dir: x\nseed: .nan", "configuration seed"),
        ("run_dir: x\nseed: 1\nseed: 2", "the key 'seed' twice"),
        ("run_dir: x\nmodel: {network: {dim: 32, depth: 2, dim: 64}}", "the key 'dim' twice"),
        ("run_dir: x\nseed: 0x10", "configuration seed"),
        ("run_dir: x\nseed: 10:30", "configuration seed"),
        ("\n".join(f"a{i}: 1" for i in range(90_000)), "run_dir is missing"),
    ],
)
def test_hostile_configurations_are_one_line(tmp_path, text, reason):
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(ValueError, match=reason) as refused:
        RunConfig.load([tmp_path / "config.yaml"])
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 1000


def test_numbers_are_decimal(tmp_path):
    """In YAML 1.1 sample 000100 is number 64, and a time of ten hours 777600."""
    (tmp_path / "a.yaml").write_text("run_dir: x\nseed: 000100\ntrainer: {max_time: 10:12:00:00}")
    config = RunConfig.load([tmp_path / "a.yaml"])
    assert (config.seed, config.trainer.max_time) == (100, "10:12:00:00")
    assert CampaignConfig.load([], ["run_dir=x", "first_sample=000100"]).first_sample == 100


@pytest.mark.parametrize(
    "override",
    [
        "run_dir=[a",
        "run_dir=",
        "optimizer.learning_rate=inf",
        "optimizer.learning_rate=.inf",
        "optimizer.learning_rate=.nan",
        "optimizer.ema_decay=1",
        "optimizer.betas=[2, 3]",
        "loss.drop_all=7",
        "loss.drop_each=-1",
        "trainer.threads=-1",
        "trainer.max_time=foo",
        "trainer.accelerator=''",
        "model.network.depth=1000000000",
        "model.network.dim=100000",
        "model.network.num_heads=7",
        "seed=1.5",
        "seed=-1",
    ],
)
def test_values_that_no_run_can_have_are_refused(override):
    with pytest.raises(ValueError, match=r"override|configuration"):
        RunConfig.load([], ["run_dir=x", override])


@pytest.mark.parametrize(
    "override",
    [
        "generate.elements=''",
        "generate.eta=.inf",
        "generate.s_noise=.nan",
        "generate.steps=0",
        "judge.time_limit=.inf",
        "judge.potential=''",
        "workers.retries=-1",
        "first_sample=-1",
        "num_samples=0",
    ],
)
def test_values_that_no_campaign_can_have_are_refused(override):
    with pytest.raises(ValueError, match="configuration"):
        CampaignConfig.load([], ["run_dir=x", override])
