"""Probes that read the property of finished crystals."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from mattergen_lite.model import CrystalDiffusion, weights_hash
from mattergen_lite.probe.probe import CONFIG, Probe
from mattergen_lite.request.targets import PropertyTarget


@dataclass(frozen=True, kw_only=True)
class Predictor:
    """A probe and the model whose features it reads, which need not be the one that samples."""

    probe: Probe
    model: CrystalDiffusion


def load_predictors(
    folder: Path, model: CrystalDiffusion | None, device: torch.device | str = "cpu"
) -> list[Predictor]:
    """What a model folder brings along to measure properties of crystals.

    Args:
        folder: Of a model.
        model: That very model; None loads it, if there is a regression that needs it.
        device: To load it to.

    Raises:
        ValueError: If a regression is corrupt or belongs to other weights.
    """
    paths = sorted(folder.glob(f"predictors/*/{CONFIG}"))
    if not paths:
        return []
    model = model or CrystalDiffusion.load(folder, device)
    weights = weights_hash(folder)
    return [Predictor(probe=Probe.load(path.parent, weights), model=model) for path in paths]


def asked_for(known: Sequence[Predictor], targets: Sequence[PropertyTarget]) -> list[Predictor]:
    """The predictors of properties that have a target, one a property: the first."""
    first = {predictor.probe.definition.name: predictor for predictor in reversed(known)}
    names = [target.definition.name for target in targets]
    return [first[name] for name in names if name in first]
