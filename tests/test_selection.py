"""Judging samples of a model in training."""

from mattergen_lite.config import shipped
from mattergen_lite.model import CrystalDiffusion
from mattergen_lite.training.selection import expected_credible_msun


def test_samples_are_judged_the_same_every_time():
    model = CrystalDiffusion.load(shipped("checkpoints") / "mp")
    first = expected_credible_msun(model, num_samples=3)
    assert 0 < first < 1  # a sum of probabilities is hardly ever exactly none or all
    assert expected_credible_msun(model, num_samples=3) == first
