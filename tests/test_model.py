import json

import pytest
import torch
from models import random_crystals, tiny_model
from safetensors.torch import load_file, save_file

from mattergen_lite.chemistry.elements import element_mask
from mattergen_lite.config import shipped
from mattergen_lite.hub import find_checkpoint
from mattergen_lite.model import CrystalDiffusion, pick_device, weights_hash
from mattergen_lite.tensors.crystal import Share
from mattergen_lite.training.module import drawn_losses


def loss_of(model, crystals=None, share=None):
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        return drawn_losses(model, crystals or random_crystals([1, 62, 166]), None, rng, share)


def test_saved_and_loaded_models_agree(tmp_path):
    model = tiny_model()
    # Weights are stored in bfloat16: start from what that can hold.
    model.load_state_dict(
        {
            k: v.bfloat16().float() if k.startswith("denoiser") else v
            for k, v in model.state_dict().items()
        }
    )
    model.save(tmp_path)
    loaded = CrystalDiffusion.load(tmp_path)
    expected, found = loss_of(model), loss_of(loaded)
    for name in ("types", "coords", "lattice"):
        assert torch.equal(getattr(found, name), getattr(expected, name))
    assert loaded.config == model.config
    assert len(weights_hash(tmp_path)) == 64


def test_losses_are_one_number_a_crystal_and_repeatable():
    model = tiny_model()
    first, again = loss_of(model), loss_of(model)
    assert first.coords.shape == (3,)
    assert torch.equal(first.types, again.types)
    assert all(loss.isfinite().all() for loss in (first.types, first.coords, first.lattice))


def test_shares_of_a_batch_meet_the_noise_of_the_whole():
    """Which process a crystal is given to changes nothing about it."""
    model, crystals = tiny_model(), random_crystals([2, 62, 225, 36, 146])
    whole = loss_of(model, crystals)
    for rank in range(2):
        rows = slice(rank, None, 2)
        part = loss_of(model, crystals[rows], Share(rows, len(crystals)))
        for name in ("types", "coords", "lattice"):
            torch.testing.assert_close(getattr(part, name), getattr(whole, name)[rows])


@pytest.mark.parametrize("damage", ["missing", "truncated", "other network", "pickle", "nan"])
def test_damaged_models_are_refused_in_one_line(tmp_path, damage):
    tiny_model().save(tmp_path)
    weights = tmp_path / "weights.safetensors"
    if damage == "missing":
        weights.unlink()
    elif damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:1000])
    elif damage == "pickle":
        torch.save({"a": torch.zeros(1)}, weights)
    elif damage == "nan":  # spglib would end the process with a segmentation fault
        save_file({name: one * torch.nan for name, one in load_file(weights).items()}, weights)
    else:
        config = tmp_path / "config.yaml"
        config.write_text(config.read_text().replace("dim: 32", "dim: 64"))
    with pytest.raises(ValueError, match=r"weights") as caught:
        CrystalDiffusion.load(tmp_path)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (("dim: 32", "dim: 100000"), "parameters: expected at most 2e"),  # 40 GB, not allocated
        (("depth: 2", "depth: 1000000000"), "parameters: expected at most 2e"),
        (("num_heads: 4", "num_heads: 7"), "num_heads"),
        (("properties:", "a: &a [x, x]\nb: [*a, *a]\nproperties:"), "aliases"),
        (("properties:", f"a: {'[' * 5000}\nproperties:"), "nested too deeply"),
    ],
)
def test_configurations_that_ask_for_a_giant_are_refused(tmp_path, change, reason):
    tiny_model().save(tmp_path)
    config = tmp_path / "config.yaml"
    assert change[0] in config.read_text()
    config.write_text(config.read_text().replace(*change))
    with pytest.raises(ValueError, match=reason) as refused:
        CrystalDiffusion.load(tmp_path)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 1000


def test_unknown_models_list_the_shipped_ones(tmp_path):
    with pytest.raises(ValueError, match="mp"):
        find_checkpoint(str(tmp_path / "nothing"))


def test_unknown_devices_are_refused():
    assert pick_device("cpu").type == "cpu"
    for name in ("abacus", "meta", "cuda:99", "cuda:-1"):
        with pytest.raises(ValueError, match=f"'{name}' cannot be used"):
            pick_device(name)


def test_elements_never_seen_are_refused():
    model = tiny_model()
    model.diffusion.allowed_elements[54] = False
    with pytest.raises(ValueError, match="never seen Xe"):
        model.allowed(element_mask(["O", "Xe"]))
    assert model.allowed(element_mask(["O"])).sum() == 1


def test_shipped_weights_hold_tensors_only():
    """A safetensors file is a JSON header and raw numbers: nothing that could execute."""
    folder = find_checkpoint("mp")
    assert folder == shipped("checkpoints") / "mp"
    data = (folder / "weights.safetensors").read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    assert {entry["dtype"] for entry in header.values()} <= {"BF16", "F32", "BOOL"}
    assert len(data) < 16 * 2**20


def test_mixed_precision_touches_the_network_only():
    """bfloat16 moves the losses by its rounding, not by misplaced atoms or wrong elements."""
    model = tiny_model()
    exact = loss_of(model)
    model.mixed_precision = True
    rounded = loss_of(model)
    for name in ("types", "coords", "lattice"):
        a, b = getattr(exact, name), getattr(rounded, name)
        assert b.dtype == torch.float32
        assert not torch.equal(a, b)
        torch.testing.assert_close(a, b, rtol=0.05, atol=0.05)
