"""Reads a property from the frozen network by a linear probe, whose gradient is guidance.

Ridge regressions on the pooled hidden state (`Denoiser.features`), one for each of several noise
levels and interpolated between them, give the mean of the property y of a noisy crystal x; the
error on held-out crystals gives its variance:

    log p(y | x, sigma) = -(y - mean(x, sigma))² / (2 variance(sigma)) + const

By Bayes' rule its gradient with respect to x adds to the score of the model (classifier guidance:
Dhariwal and Nichol 2021, arXiv 2105.05233). Where noise hides the property it vanishes by itself.
A probe on disk is a folder: `probe.safetensors` and `probe.yaml`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from mattergen_lite.config import PropertyConfig, Section, read_yaml, write_yaml
from mattergen_lite.console import text_table
from mattergen_lite.io.records import LearnedValue
from mattergen_lite.model import CrystalDiffusion, read_weights, write_weights
from mattergen_lite.probe.regression import Leverage
from mattergen_lite.properties import Property
from mattergen_lite.symmetry.templates import OrbitCrystals
from mattergen_lite.tensors.shapes import Float, Int

WEIGHTS = "probe.safetensors"
CONFIG = "probe.yaml"
BATCH_SIZE = 64


class LevelError(Section):
    """Errors on held-out crystals at one noise level, in the property's unit but for R²."""

    sigma: float
    r2: float  # of the values the regression sees: of logarithms if the property has `log`
    rmse: float  # likewise, in standard deviations of the labels
    mae: float
    mae_of_mean: float  # of predicting the mean for every crystal


class ModelIdentity(Section):
    """The model whose features a probe reads; another one's mean something else."""

    checkpoint: str  # name or folder, for people
    weights_sha256: str

    def check(self, reader: str, weights_sha256: str) -> None:
        """Refuse a reader of other weights.

        Raises:
            ValueError: If it was fitted on them.
        """
        if self.weights_sha256 != weights_sha256:
            raise ValueError(
                f"{reader} was fitted on another model, {self.checkpoint} with weights "
                f"{self.weights_sha256[:12]}: use that one or fit it again"
            )


class ProbeConfig(Section):
    """What a probe predicts, how well, and from which model's features."""

    prop: PropertyConfig
    model: ModelIdentity
    num_labels: int
    not_used: Mapping[str, int] = Field(default_factory=dict)  # crystals by reason
    num_draws: int
    errors: tuple[LevelError, ...]
    elements: tuple[int, ...]  # atomic numbers among the labelled crystals
    leverage: float  # mean of held-out crystals, to which their errors belong


@dataclass(frozen=True, kw_only=True)
class Regression:
    """Linear maps from features to standardised values at K noise levels, geometrically spaced."""

    log_sigma: Float[Tensor, "K"]
    weight: Float[Tensor, "K D"]
    bias: Float[Tensor, "K"]
    variance: Float[Tensor, "K"]  # mean squared error on held-out crystals

    def mean(self, features: Float[Tensor, "B D"], sigma: Float[Tensor, "B"]) -> Float[Tensor, "B"]:
        """Prediction at any noise level, linear in ln(sigma) between two of the K."""
        levels = features @ self.weight.T + self.bias
        return (levels * self._shares(sigma)).sum(-1)

    def variance_at(self, sigma: Float[Tensor, "B"]) -> Float[Tensor, "B"]:
        """Variance of the property given the features."""
        return self._shares(sigma) @ self.variance

    def _shares(self, sigma: Float[Tensor, "B"]) -> Float[Tensor, "B K"]:
        """Weights of linear interpolation; beyond the ends, the end."""
        first, last = self.log_sigma[0], self.log_sigma[-1]
        count = len(self.log_sigma)
        place = (sigma.log() - first) / (last - first) * (count - 1)
        levels = torch.arange(count, device=sigma.device)
        return (1 - (place.clamp(0, count - 1).unsqueeze(-1) - levels).abs()).clamp(min=0)

    def to(self, device: torch.device | str) -> "Regression":
        """Copy of the probe on another device."""
        return type(self)(**{name: value.to(device) for name, value in vars(self).items()})


@dataclass(frozen=True, kw_only=True)
class Probe:
    """A property read from a model's features; what `probe fit` makes and `generate` takes."""

    config: ProbeConfig
    regression: Regression
    leverage: Leverage  # of finished crystals

    @property
    def definition(self) -> Property:
        """Name, unit and normalisation of the property."""
        return self.config.prop

    def read(self, model: CrystalDiffusion, crystals: OrbitCrystals) -> list[LearnedValue]:
        """The property of finished crystals, in its unit, with its mean error.

        The error is that of held-out crystals, larger by the spread of the regression's prediction
        where a crystal is unlike all labelled ones. Outside the domain is what has other elements.
        """
        sigma = self.held_out.sigma
        features = torch.cat(
            [features.cpu() for _, features in clean_features(model, crystals, sigma)]
        )
        means = self.regression.mean(features, torch.full((len(features),), sigma))
        values = self.definition.within_reason(self.definition.denormalise(means))
        wider = ((1 + self.leverage(features)) / (1 + self.config.leverage)).sqrt()
        errors = self.held_out.mae * wider
        labelled = torch.tensor([0, *self.config.elements])  # 0: no orbit
        inside = torch.isin(crystals.atomic_numbers.cpu(), labelled).all(1)
        columns = zip(values.tolist(), errors.tolist(), inside.tolist(), strict=True)
        return [LearnedValue(*column) for column in columns]

    @property
    def held_out(self) -> LevelError:
        """Errors on held-out crystals with almost no noise: those of `predict`."""
        return self.config.errors[0]

    def save(self, folder: Path) -> None:
        """Write the two files."""
        write_weights(vars(self.regression) | vars(self.leverage), folder / WEIGHTS)
        write_yaml(self.config, folder / CONFIG)

    @classmethod
    def load(cls, folder: Path, weights_sha256: str) -> "Probe":
        """Read a probe for the model with these weights; nothing in it is executed.

        Raises:
            ValueError: If there is no probe, a file is corrupt or it belongs to another model.
        """
        config = ProbeConfig.parse(read_yaml(folder / CONFIG))
        config.model.check(f"probe {folder}", weights_sha256)
        regression, leverage = of_weights((Regression, Leverage), "probe", folder / WEIGHTS)
        levels = len(config.errors)
        if regression.weight.dim() != 2 or regression.weight.shape[0] != levels or not levels:
            raise ValueError(
                f"probe {folder} is damaged: {CONFIG} and {WEIGHTS} do not have the same levels"
            )
        return cls(config=config, regression=regression, leverage=leverage)

    def check_width(self, model: CrystalDiffusion) -> None:
        """Refuse a model whose features are not as wide as those that the probe was fitted on.

        Raises:
            ValueError: If they are not.
        """
        width, dim = self.regression.weight.shape[1], model.config.network.dim
        if width != dim:
            raise ValueError(
                f"the probe of {self.config.prop.name!r} reads {width} features, this model has "
                f"{dim}: fit the probe again"
            )

    def text(self) -> str:
        """Errors per noise level for a terminal."""
        prop, unit = self.config.prop, f" {self.config.prop.unit}" if self.config.prop.unit else ""
        rows = [
            (f"{e.sigma:.3f}", f"{e.r2:.3f}", f"{e.mae:.4g}", f"{e.mae_of_mean:.4g}")
            for e in self.config.errors
        ]
        scale = ", R2 of its logarithm" if prop.log else ""
        lines = [
            f"{prop.name}{unit}: errors on held-out formulas, {self.config.num_labels} labels, "
            f"{self.config.num_draws} noise draws each{scale}",
            *text_table(rows, ("sigma", "R2", "MAE", "MAE of the mean"), left=()),
        ]
        if not_used := self.config.not_used:
            reasons = ", ".join(f"{count} {reason}" for reason, count in not_used.items())
            given = self.config.num_labels + sum(not_used.values())
            lines.insert(1, f"{sum(not_used.values())} of {given} crystals are not used: {reasons}")
        if self.held_out.r2 < 0.3:
            lines.append(
                "warning: the probe is weak; more labels help, or the property is not in "
                "what the network has learnt"
            )
        return "\n".join(lines)


def clean_features(
    model: CrystalDiffusion, crystals: OrbitCrystals, sigma: float
) -> Iterator[tuple[Int[Tensor, "_"], Float[Tensor, "_ D"]]]:
    """Features of finished crystals, read at a low noise level: rows of a batch, and theirs."""
    for part in torch.arange(len(crystals)).split(BATCH_SIZE):
        batch = crystals[part].to(model.device)
        level = batch.lattice.new_full((len(part),), sigma)
        with torch.no_grad():
            features = model.features(model.diffusion.encode(batch), level, batch.templates)
        yield part, features


def of_weights(kinds: Sequence[type], name: str, path: Path) -> list[Any]:
    """Read the weights of a reader, half precision as single, as objects of these dataclasses.

    Raises:
        ValueError: If they are of something else.
    """
    tensors = read_weights(path)
    names = [[field.name for field in fields(kind)] for kind in kinds]
    if set().union(*names) != tensors.keys():
        raise ValueError(
            f"weights in {path} are no {name}'s, or of another version: they hold "
            f"{', '.join(tensors)}"
        )
    singles = {n: v.float() if v.is_floating_point() else v for n, v in tensors.items()}
    return [
        kind(**{name: singles[name] for name in wanted})
        for kind, wanted in zip(kinds, names, strict=True)
    ]
