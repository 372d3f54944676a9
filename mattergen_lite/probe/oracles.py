"""Probes that read the property of finished crystals."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from mattergen_lite.model import CrystalDiffusion, weights_hash
from mattergen_lite.probe.probe import CONFIG, Probe
from mattergen_lite.request.targets import PropertyTarget


@dataclass(frozen=True, kw_only=True)
class Oracle:
    """A probe and the model whose features it reads, which need not be the one that samples."""

    probe: Probe
    model: CrystalDiffusion


def oracles(
    folder: Path, model: CrystalDiffusion | None, device: torch.device | str = "cpu"
) -> list[Oracle]:
    """What a model folder brings along to measure properties of crystals.

    Args:
        folder: Of a model.
        model: That very model; None loads it, if there is an oracle that needs it.
        device: To load it to.

    Raises:
        ValueError: If an oracle is corrupt or belongs to other weights.
    """
    paths = sorted(folder.glob(f"oracles/*/{CONFIG}"))
    if not paths:
        return []
    model = model or CrystalDiffusion.load(folder, device)
    weights = weights_hash(folder)
    return [Oracle(probe=Probe.load(path.parent, weights), model=model) for path in paths]


def asked_for(known: Sequence[Oracle], targets: Sequence[PropertyTarget]) -> list[Oracle]:
    """The oracles of properties that have a target, one a property: the first."""
    first = {oracle.probe.definition.name: oracle for oracle in reversed(known)}
    names = [target.definition.name for target in targets]
    return [first[name] for name in names if name in first]
