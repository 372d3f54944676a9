"""The loop end to end with a tiny model: rounds, when it ends, and exact resumption after kills."""

import json

import pyarrow.parquet as pq
import pytest
import torch
from models import tiny_model

from mattergen_lite import discover
from mattergen_lite.model import CrystalDiffusion
from mattergen_lite.options.finetune import FinetuneOptions
from mattergen_lite.workflows.discovery import DiscoverOptions, Round, _check_settings, end_of

QUICK = {
    "num_samples": 4,
    "num_atoms": "2..4",
    "steps": 3,
    "finetune_steps": 4,
    "batch_size": 8,
    "relax": False,
    "device": "cpu",
    "num_workers": 0,
}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    tiny_model().save(folder)
    return str(folder)


@pytest.fixture(autouse=True)
def small_tables(monkeypatch):
    monkeypatch.setattr("mattergen_lite.training.finetuning.MIN_ROWS", 40)
    monkeypatch.setattr("mattergen_lite.training.finetuning.REPORT_CRYSTALS", 16)


def killed(*arguments, **options):
    raise RuntimeError("killed")


def results(out):
    """All that a loop has found out, without the names of folders."""
    rows = json.loads((out / "rounds.json").read_text())["rounds"]
    tables = [pq.read_table(path) for path in sorted(out.glob("rounds/*/found.parquet"))]
    weights = CrystalDiffusion.load(out / "rounds" / "01" / "tuning" / "model").state_dict()
    return [row | {"checkpoint": ""} for row in rows], tables, weights


@pytest.mark.slow
def test_a_killed_loop_ends_where_an_undisturbed_one_does(base, tmp_path, monkeypatch):
    """Killed while judging, while training, and after a round's crystals but before its record."""
    asked = QUICK | {"rounds": 2, "checkpoint": base, "require": "readable,unique"}
    whole = discover(out=tmp_path / "whole", **asked)
    assert [one.num_sampled for one in whole.rounds] == [4, 4]
    assert whole.rounds[0].checkpoint == base
    assert whole.rounds[1].num_found == sum(one.num_passed for one in whole.rounds)
    assert (tmp_path / "whole" / "rounds.png").read_bytes().startswith(b"\x89PNG")
    for place in (
        "mattergen_lite.runs.writing.write_candidates",
        "mattergen_lite.training.module.TrainingModule.training_step",
        "mattergen_lite.workflows.discovery.base_loss",
    ):
        with monkeypatch.context() as patch:
            patch.setattr(place, killed)
            with pytest.raises(RuntimeError, match="killed"):
                discover(out=tmp_path / "broken", **asked)
    monkeypatch.setattr(
        "mattergen_lite.commands.discover.generate", killed
    )  # all samples are on disk
    resumed = discover(out=tmp_path / "broken", **asked)
    assert resumed.reason == whole.reason == "2 rounds"
    (rows, tables, weights), (same_rows, same_tables, same_weights) = (
        results(tmp_path / name) for name in ("whole", "broken")
    )
    assert rows == same_rows
    assert all(a.equals(b) for a, b in zip(tables, same_tables, strict=True))
    assert all(torch.equal(weights[name], same_weights[name]) for name in weights)
    first, second = (set(table["material_id"].to_pylist()) for table in tables)
    assert first.isdisjoint(second)
    with pytest.raises(ValueError, match="holds a loop with finetune_steps 4, not 5"):
        discover(out=tmp_path / "broken", **asked | {"finetune_steps": 5})


def test_a_loop_that_finds_nothing_ends_and_teaches_nothing(base, tmp_path):
    asked = QUICK | {"checkpoint": base, "rounds": 5, "patience": 1}
    found = discover(out=tmp_path, condition=["space_group=230"], require="on_target", **asked)
    assert found.reason == "no higher pass rate for 1 rounds"
    assert [one.num_passed for one in found.rounds] == [0, 0]
    assert {one.checkpoint for one in found.rounds} == {base}
    assert not list(tmp_path.glob("rounds/*/tuning"))


def test_a_loop_that_verifies_is_not_resumed_without(tmp_path):
    (tmp_path / "settings.json").write_text(json.dumps({"verify": 2}))
    with pytest.raises(ValueError, match="holds a loop with"):
        _check_settings(tmp_path, {})
    _check_settings(tmp_path, {"verify": 2})


def rounds(*passed):
    return [
        Round(
            number=number,
            checkpoint="",
            num_sampled=10,
            left={},
            num_passed=count,
            num_found=0,
            base_loss=1.0,
        )
        for number, count in enumerate(passed)
    ]


@pytest.mark.parametrize(
    ("passed", "over"),
    [((), False), ((1, 2, 3), False), ((3, 1), False), ((3, 1, 3), True), ((1, 2, 3, 4), True)],
)
def test_a_loop_ends_without_gain_or_after_its_rounds(passed, over):
    options = DiscoverOptions(
        rounds=4, patience=2, num_samples=10, settings={}, tuning=FinetuneOptions()
    )
    assert (end_of(rounds(*passed), options) is not None) == over


@pytest.mark.parametrize("text", ["", "[1, 2]", "{}", '{"number": "x"}', "[" * 100_000])
@pytest.mark.parametrize("name", ["settings.json", "rounds/00/round.json"])
def test_damaged_records_of_a_loop_are_one_line(base, tmp_path, name, text):
    record = tmp_path / name
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_text(text)
    reason = f"{record} is damaged|holds a loop with"  # an empty mapping has no settings
    with pytest.raises(ValueError, match=reason) as refused:
        discover(out=tmp_path, checkpoint=base, rounds=1, **QUICK)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rounds": 0}, "rounds is 0"),
        ({"patience": 0}, "patience is 0"),
        ({"base_share": 1.0}, "base_share is 1.0"),
        ({"condition": ["hardness=3"]}, "unknown property 'hardness'"),
    ],
)
def test_bad_options_write_nothing(base, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        discover(out=tmp_path / "out", checkpoint=base, **QUICK | options)
    assert not (tmp_path / "out").exists()
