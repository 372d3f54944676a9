"""Fine-tuning: the base unchanged at the start, one property after another, exact resume."""

import pytest
import torch
from crystals import nacl, simple_compounds
from labelled import mass, volume, write_csv
from models import random_crystals, tiny_model

from mattergen_lite import finetune
from mattergen_lite.commands.generate import generate
from mattergen_lite.config import PropertyConfig
from mattergen_lite.data.labels import read_labelled
from mattergen_lite.data.table import read_crystal_table
from mattergen_lite.diffusion.joint import draw_noise
from mattergen_lite.hub import read_config
from mattergen_lite.model import CrystalDiffusion
from mattergen_lite.options.finetune import FinetuneOptions
from mattergen_lite.properties import Conditions
from mattergen_lite.request.targets import parse_targets
from mattergen_lite.training import finetuning
from mattergen_lite.training.finetuning import finetune as run
from mattergen_lite.training.finetuning import run_config
from mattergen_lite.training.module import TrainingModule

QUICK = {"steps": 6, "batch_size": 8, "device": "cpu", "num_workers": 1}


@pytest.fixture(scope="module", autouse=True)
def few_rows():
    """A small training table: labelled rows are not repeated up to thousands."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finetuning, "MIN_ROWS", 150)
        yield


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    tiny_model().save(folder)
    return folder


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """36 compounds that the base can make, and one that is too large for it."""
    labels = {"weight": mass, "room": lambda s: volume(s) if mass(s) > 30 else ""}
    large = nacl() * (3, 1, 1)
    large.replace(0, "K")
    crystals = [*simple_compounds(), large]
    return write_csv(tmp_path_factory.mktemp("source") / "data.csv", labels, crystals)


@pytest.fixture(scope="module")
def taught(base, source, tmp_path_factory):
    """The base taught `weight`, by the verb."""
    out = tmp_path_factory.mktemp("taught")
    return finetune(
        str(source), property="weight", out=out, checkpoint=str(base), unit="u", **QUICK
    )


def predictions(model, conditions):
    crystals = random_crystals([2, 166])
    templates = crystals.templates
    sigma = torch.tensor([0.1, 0.7])
    normal = draw_noise(templates, torch.Generator().manual_seed(0))
    noise = model.diffusion.noise(normal, templates)
    noisy = model.diffusion.corrupt(model.diffusion.encode(crystals), sigma, noise)
    with torch.no_grad():
        prediction = model.predict(noisy, sigma, templates, conditions)
    return prediction.element_logits, prediction.coords, prediction.cell


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def two(name, value):
    return Conditions(
        values={name: torch.tensor([value, value])}, present={name: torch.ones(2, dtype=torch.bool)}
    )


def test_a_new_property_changes_nothing_at_step_0(base, tmp_path):
    config = run_config(base, PropertyConfig(name="weight"), tmp_path, FinetuneOptions())
    extended = CrystalDiffusion(config.model).eval()
    extended.start_from(base)
    original = CrystalDiffusion.load(base)
    for conditions in (None, two("band_gap", 2.0)):
        assert same(predictions(extended, conditions), predictions(original, conditions))
    assert same(predictions(extended, two("weight", 70.0)), predictions(original, None))
    assert config.model.atom_count_histogram == original.config.atom_count_histogram


def test_what_the_base_knows_stays_as_it_was(base, taught):
    config, before = read_config(taught.folder), read_config(base)
    assert config.properties[:3] == before.properties
    assert config.properties[3].name == "weight"
    assert config.properties[3].mean == pytest.approx(56, abs=15)
    assert config.atom_count_histogram == before.atom_count_histogram
    model, original = CrystalDiffusion.load(taught.folder), CrystalDiffusion.load(base)
    assert torch.equal(model.diffusion.lattice.mean, original.diffusion.lattice.mean)
    assert torch.equal(model.diffusion.allowed_elements, original.diffusion.allowed_elements)


def test_the_property_is_learnt_from_labels_only(taught):
    """Half of what is trained on is the base's own kind, without a value."""
    table = read_crystal_table(taught.folder.parent / "training.parquet")
    train = table.filter([split == "train" for split in table["split"].to_pylist()])
    assert train["weight"].null_count == pytest.approx(len(train) / 2, rel=0.01)
    assert taught.num_train + taught.num_val == 36
    assert (taught.num_too_large, taught.num_strange, taught.num_unusable) == (1, 0, 0)
    assert "1 left out for more orbits or atoms than the base makes" in taught.text()
    assert "loss of held-out labelled crystals" in taught.text()
    model = CrystalDiffusion.load(taught.folder)
    assert not same(predictions(model, two("weight", 70.0)), predictions(model, None))


def test_a_taught_model_can_be_taught_more(source, taught, tmp_path):
    more = finetune(
        str(source), property="room", out=tmp_path, checkpoint=str(taught.folder), **QUICK
    )
    properties = read_config(more.folder).properties
    assert [p.name for p in properties[3:]] == ["weight", "room"]
    assert properties[3] == read_config(taught.folder).properties[3]
    config = run_config(
        taught.folder, PropertyConfig(name="room"), tmp_path / "b", FinetuneOptions()
    )
    extended = CrystalDiffusion(config.model).eval()
    extended.start_from(taught.folder)
    known = CrystalDiffusion.load(taught.folder)
    assert same(predictions(extended, two("weight", 70.0)), predictions(known, two("weight", 70.0)))
    assert more.num_train + more.num_val < 36  # values are missing below 30


def test_generate_takes_the_result(taught, tmp_path):
    generate(
        out=tmp_path,
        num_samples=2,
        checkpoint=str(taught.folder),
        condition=["weight=60"],
        num_atoms="2",
        steps=4,
        relax=False,
        num_workers=0,
    )
    assert (tmp_path / "candidates.csv").exists()
    model = CrystalDiffusion.load(taught.folder)
    with pytest.raises(ValueError, match="expected a number in u"):
        parse_targets(["weight=much"], [], model.properties)


def last(run_dir):
    return torch.load(run_dir / "last.ckpt", weights_only=True)


def test_a_killed_run_continues_bit_for_bit(base, source, tmp_path, monkeypatch):
    def launch(out):
        crystals = read_labelled(
            source,
            PropertyConfig(name="weight"),
            keep=out / "data",
            seed=0,
            num_workers=1,
        )
        options = FinetuneOptions(steps=10, batch_size=8, device="cpu", patience=20)
        return run(base, crystals, out, options)

    monkeypatch.setattr(finetuning, "CHECKPOINT_MINUTES", 0.001)
    whole = launch(tmp_path / "whole")

    def killed(module, batch, index, step=TrainingModule.training_step):
        if module.global_step == 7:
            raise RuntimeError("killed")
        return step(module, batch, index)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingModule, "training_step", killed)
        with pytest.raises(RuntimeError, match="killed"):
            launch(tmp_path / "broken")
    assert 0 < last(tmp_path / "broken")["global_step"] < 10
    resumed = launch(tmp_path / "broken")
    a, b = last(tmp_path / "whole"), last(tmp_path / "broken")
    assert a["global_step"] == b["global_step"] == 10
    assert all(torch.equal(a["state_dict"][k], b["state_dict"][k]) for k in a["state_dict"])
    assert resumed.shown == whole.shown
    table = (tmp_path / "broken" / "training.parquet").read_bytes()
    with pytest.raises(ValueError, match="holds a run of another model"):
        finetune(
            str(source), property="room", out=tmp_path / "broken", checkpoint=str(base), **QUICK
        )
    assert (tmp_path / "broken" / "training.parquet").read_bytes() == table


def test_a_run_that_gains_nothing_stops_early_and_stays_so(base, source, tmp_path):
    """A ruinous learning rate: the best weights are kept, and running again changes nothing."""
    options = QUICK | {"steps": 40, "learning_rate": 0.5, "patience": 2}
    first = finetune(str(source), property="weight", out=tmp_path, checkpoint=str(base), **options)
    stopped = last(tmp_path)["global_step"]
    assert stopped < 40
    again = finetune(str(source), property="weight", out=tmp_path, checkpoint=str(base), **options)
    assert last(tmp_path)["global_step"] == stopped
    assert again == first
    best = torch.load(tmp_path / "best.ckpt", weights_only=True)
    name = "model.denoiser.to_coords.weight"
    exported = CrystalDiffusion.load(again.folder).state_dict()[name.removeprefix("model.")]
    assert torch.equal(exported, best["state_dict"][name].bfloat16().float())
    assert best["global_step"] < stopped


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"base_share": 1.0}, "base_share is 1.0"),
        ({"steps": 0}, "steps is 0: expected 1"),
        ({"property": "band_gap", "log": True}, "knows 'band_gap' as real, log=False"),
    ],
)
def test_options_that_make_no_sense(base, tmp_path, options, message):
    path = write_csv(tmp_path / "data.csv", {"weight": mass, "band_gap": mass})
    asked = {"property": "weight", "out": tmp_path / "out", "checkpoint": str(base)}
    with pytest.raises(ValueError, match=message):
        finetune(str(path), **asked | QUICK | options)
