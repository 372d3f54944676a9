from pathlib import Path

import pytest

from mattergen_lite.config import CampaignConfig, ClusterConfig, RunConfig, shipped

CONFIGS = sorted(Path(__file__).parents[1].glob("configs/*.yaml"))
SECTIONS = {"campaign": CampaignConfig, "slurm": ClusterConfig}  # the others are training runs


def load(*overrides):
    return RunConfig.load([], ["run_dir=x", *overrides])


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_shipped_file_loads(path):
    SECTIONS.get(path.stem, RunConfig).load([path])


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
        ("model.network.dim=-3", r"model.network.dim: Input should be greater than 0 \(got -3\)"),
        ("model.network.dim=big", "model.network.dim: Input should be a valid integer"),
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
