"""Training, fine-tuning and steering, interrupted as a batch system or a keyboard does it."""

import os
import signal
import threading
import time

import pytest
from hostile_pass import command, in_child
from labelled import volume, write_csv

from mattergen_lite.training import finetuning

if not hasattr(os, "fork"):
    pytest.skip("needs POSIX", allow_module_level=True)

STEPS = ("--steps", "6", "--batch-size", "8")
VERBS = {  # what follows the command, and the first file that shows that work has begun
    "finetune": (STEPS, "training.parquet", "model/weights.safetensors"),
    "probe fit": ((), "data", "probe.yaml"),
}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_csv(tmp_path_factory.mktemp("source") / "labels.csv", {"room": volume})


def begin(words, number=None, seen=None):
    """A command that gets a signal as soon as a file is there."""

    def work() -> None:
        finetuning.MIN_ROWS = 40  # or labelled rows are repeated up to thousands
        if number is not None:
            threading.Thread(target=interrupt, daemon=True).start()
        command(*words)()

    def interrupt() -> None:
        while not seen.exists():
            time.sleep(0.01)
        os.kill(os.getpid(), number)

    return work


TRAINING = """
train data.max_atoms=4 data.batch_size=4 data.symmetry_dropout=0 model.network.dim=32
model.network.depth=1 model.network.num_heads=4 model.network.pair_dim=8
trainer.accelerator=cpu trainer.devices=1
trainer.precision=32-true trainer.checkpoint_minutes=0.0001 optimizer.max_steps=100000000
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_half_a_training_is_no_model(tmp_path, number, code):
    """Amid the steps, where Lightning has handlers of its own: a job script must not go on."""
    out = tmp_path / "out"
    words = [*TRAINING.split(), f"run_dir={out}"]
    ended = in_child(begin(words, number, out / "last.ckpt"), tmp_path, tmp_path / "log")
    assert ended.code == code, ended.output
    assert "interrupted: the same command goes on" in ended.output
    assert "Traceback" not in ended.output
    assert not (out / "model").exists()
    assert not (out / ".lock").exists()


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_command_says_so_and_goes_on(source, tmp_path, verb, number, code):
    more, begun, result = VERBS[verb]
    out, log = tmp_path / "out", tmp_path / "log"
    words = [
        *verb.split(),
        str(source),
        "--property",
        "room",
        "--out",
        str(out),
        "--num-workers",
        "0",
    ]
    words += ["--checkpoint", "tiny", "--device", "cpu", *more]
    ended = in_child(begin(words, number, out / begun), tmp_path, log)
    assert ended.code == code, ended.output
    assert "interrupted: the same command goes on" in ended.output
    assert "Traceback" not in ended.output
    assert not (out / result).exists()
    if number == signal.SIGTERM:
        ended = in_child(begin(words), tmp_path, log)
        assert ended.code == 0, ended.output
        assert (out / result).exists()
