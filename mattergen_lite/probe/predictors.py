"""Predicts properties of finished crystals: shipped regressions and a user's probes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from mattergen_lite.io.records import LearnedValue
from mattergen_lite.model import CrystalDiffusion, weights_hash
from mattergen_lite.probe.head import CONFIG, Head
from mattergen_lite.probe.probe import CONFIG as PROBE
from mattergen_lite.probe.probe import Probe
from mattergen_lite.properties import Property
from mattergen_lite.request.targets import PropertyTarget
from mattergen_lite.symmetry.templates import OrbitCrystals


@dataclass(frozen=True, kw_only=True)
class Predictor:
    """A predictor or probe and the model it reads, which need not be the one that samples."""

    reader: Head | Probe
    model: CrystalDiffusion

    @property
    def definition(self) -> Property:
        """The property that is read."""
        return self.reader.definition

    def read(self, crystals: OrbitCrystals) -> list[LearnedValue]:
        """The property of every crystal, with the mean error of such readings."""
        return self.reader.read(self.model, crystals)


def load_predictors(
    folder: Path, model: CrystalDiffusion | None, device: torch.device | str = "cpu"
) -> list[Predictor]:
    """Heads and probes that a model folder brings along; loads the model unless it is given.

    Raises:
        ValueError: If a head is corrupt or belongs to other weights.
    """
    kinds = {CONFIG: Head, PROBE: Probe}
    paths = sorted(path for name in kinds for path in folder.glob(f"predictors/*/{name}"))
    if not paths:
        return []
    model = model or CrystalDiffusion.load(folder, device)
    weights = weights_hash(folder)
    return [
        Predictor(reader=kinds[path.name].load(path.parent, weights), model=model) for path in paths
    ]


def asked_for(known: Sequence[Predictor], targets: Sequence[PropertyTarget]) -> list[Predictor]:
    """The predictors of properties that have a target, one a property: the first."""
    first = {predictor.definition.name: predictor for predictor in reversed(known)}
    names = [target.definition.name for target in targets]
    return [first[name] for name in names if name in first]
