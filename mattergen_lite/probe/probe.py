"""A linear probe: your property read from the frozen network, and its gradient as guidance.

Ridge regressions on the pooled hidden state (`Denoiser.features`), one for each of several noise
levels and interpolated between them, give the mean of the property y of a noisy crystal x; the
error on held-out crystals gives its variance:

    log p(y | x, sigma) = -(y - mean(x, sigma))² / (2 variance(sigma)) + const

By Bayes' rule its gradient with respect to x adds to the score of the model (classifier guidance:
Dhariwal and Nichol 2021, arXiv 2105.05233). Where noise hides the property, the variance is that of
the labels and the gradient vanishes by itself. At the lowest level the same regression measures the
property of finished crystals.

A probe on disk is a folder: `probe.safetensors` and `probe.yaml`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from tqdm import tqdm

from mattergen_lite.config import PropertyConfig, Section, read_yaml, write_yaml
from mattergen_lite.data.dataset import OrbitDataset
from mattergen_lite.diffusion import coordinates
from mattergen_lite.diffusion.joint import State, draw_noise
from mattergen_lite.diffusion.lattice import free_numbers
from mattergen_lite.model import CrystalDiffusion, read_weights, weights_hash
from mattergen_lite.probe.regression import best_penalty, held_out_predictions, ridge
from mattergen_lite.properties import Property
from mattergen_lite.request.targets import PropertyTarget
from mattergen_lite.shapes import Float, Int
from mattergen_lite.symmetry.templates import OrbitCrystals, Templates

WEIGHTS = "probe.safetensors"
CONFIG = "probe.yaml"
# Noise levels of the regressions: below the first crystals look clean, above the last like noise.
SIGMAS = tuple(0.01 * 300 ** (level / 9) for level in range(10))  # 0.01 to 3
MAX_PASSES = 12_000  # noisy crystals through the network: about a minute on one core
MAX_DRAWS = 4  # of noise for each crystal and level
BATCH_SIZE = 64
MAX_STEP = 3.0  # standard deviations of the noise that steering adds at most to a displacement
MIN_R2 = 0.05  # below, held-out errors are those of predicting the mean


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


class ProbeConfig(Section):
    """What a probe predicts, how well, and from which model's features."""

    prop: PropertyConfig
    model: ModelIdentity
    num_labels: int
    num_draws: int
    errors: tuple[LevelError, ...]


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
        """Variance of the property given the features, likewise."""
        return self._shares(sigma) @ self.variance

    def _shares(self, sigma: Float[Tensor, "B"]) -> Float[Tensor, "B K"]:
        """Weights of linear interpolation; beyond the ends, the end."""
        first, last = self.log_sigma[0], self.log_sigma[-1]
        count = len(self.log_sigma)
        place = (sigma.log() - first) / (last - first) * (count - 1)
        levels = torch.arange(count, device=sigma.device)
        return (1 - (place.clamp(0, count - 1).unsqueeze(-1) - levels).abs()).clamp(min=0)

    def to(self, device: torch.device | str) -> "Regression":
        """The same on another device."""
        return type(self)(**{name: value.to(device) for name, value in vars(self).items()})


@dataclass(frozen=True, kw_only=True)
class Probe:
    """A property read from a model's features; what `steer` makes and `generate` takes."""

    config: ProbeConfig
    regression: Regression

    @property
    def definition(self) -> Property:
        """Name, unit and normalisation of the property."""
        return Property(**self.config.prop.model_dump())

    def predict(self, model: CrystalDiffusion, crystals: OrbitCrystals) -> Float[Tensor, "B"]:
        """The property of finished crystals, in its unit; `held_out` says how far to trust it."""
        device = model.device
        regression = self.regression.to(device)
        values = []
        for part in torch.arange(len(crystals)).split(BATCH_SIZE):
            batch = crystals[part].to(device)
            sigma = batch.lattice.new_full((len(part),), self.config.errors[0].sigma)
            with torch.no_grad():
                clean = model.diffusion.encode(batch)
                features = model.features(clean, sigma, batch.templates)
                values.append(regression.mean(features, sigma).cpu())
        return self.definition.within_reason(self.definition.denormalise(torch.cat(values)))

    @property
    def held_out(self) -> LevelError:
        """Errors on held-out crystals with almost no noise: those of `predict`."""
        return self.config.errors[0]

    def save(self, folder: Path) -> None:
        """Write the two files."""
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        tensors = {name: value.contiguous().cpu() for name, value in vars(self.regression).items()}
        save_file(tensors, folder / WEIGHTS)
        (folder / WEIGHTS).chmod(0o644)  # safetensors makes it private to its owner
        write_yaml(self.config, folder / CONFIG)

    @classmethod
    def load(cls, folder: Path, weights_sha256: str) -> "Probe":
        """Read a probe for the model with these weights; nothing in it is executed.

        Raises:
            ValueError: If there is no probe, a file is corrupt or it belongs to another model.
        """
        config = ProbeConfig.parse(read_yaml(folder / CONFIG))
        if config.model.weights_sha256 != weights_sha256:
            raise ValueError(
                f"probe {folder} was fitted on another model, {config.model.checkpoint} with "
                f"weights {config.model.weights_sha256[:12]}: use that one or fit the probe again"
            )
        regression = _regression(read_weights(folder / WEIGHTS), folder)
        levels = len(config.errors)
        if regression.weight.dim() != 2 or regression.weight.shape[0] != levels or not levels:
            raise ValueError(
                f"probe {folder} is damaged: {CONFIG} and {WEIGHTS} do not have the same levels"
            )
        return cls(config=config, regression=regression)

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
        header = f"{'sigma':>8}{'R2':>8}{'MAE':>12}{'of mean':>12}"
        rows = [
            f"{e.sigma:8.3f}{e.r2:8.3f}{e.mae:12.4g}{e.mae_of_mean:12.4g}"
            for e in self.config.errors
        ]
        scale = ", R2 of its logarithm" if prop.log else ""
        lines = [
            f"{prop.name}{unit}: errors on held-out formulas, {self.config.num_labels} labels, "
            f"{self.config.num_draws} noise draws each{scale}",
            header,
            *rows,
        ]
        if self.held_out.r2 < 0.3:
            lines.append(
                "warning: the probe is weak; more labels help, or the property is not in "
                "what the network has learnt"
            )
        return "\n".join(lines)


def _regression(tensors: dict[str, Tensor], folder: Path) -> Regression:
    try:
        return Regression(**tensors)
    except TypeError:
        raise ValueError(
            f"weights in {folder / WEIGHTS} are no probe's: they hold {', '.join(tensors)}"
        ) from None


# Steering


@dataclass(frozen=True, kw_only=True)
class ProbeSteering:
    """What a sampler adds to the model's own displacement: guidance · sigma² ∇ log p(y | x)."""

    model: CrystalDiffusion
    regression: Regression
    property: str
    target: float  # in the unit of the property
    value: float  # the same, standardised
    guidance: float

    def __call__(
        self, noisy: State, sigma: Float[Tensor, "B"], templates: Templates, step: State
    ) -> State:
        """The displacement `step` from `noisy`, steered."""
        if self.guidance == 0:
            return step
        gradient = self.gradient(noisy, sigma, templates)
        scale = self.guidance * sigma**2
        # Where the likelihood is sharper than the noise, all of the step would overshoot, more each
        # time: it is cut to a few standard deviations of the noise.
        length = scale * _length(gradient, templates)
        scale = scale * (MAX_STEP * sigma / length.clamp(min=1e-12)).clamp(max=1)
        return State(
            types=step.types + scale[:, None, None] * gradient.types,
            free_coords=step.free_coords + scale[:, None, None] * gradient.free_coords,
            cell=step.cell + scale[:, None] * gradient.cell,
        )

    def gradient(self, noisy: State, sigma: Float[Tensor, "B"], templates: Templates) -> State:
        """Gradient of log p(y | noisy) through the network, with respect to the noisy crystals.

        A step of one cell fraction along a free direction changes its coordinate by 1/|b|, hence
        the factor 1/|b|² between the gradient and the step. Orbits of one class move together.
        """
        leaves = [
            x.detach().clone().requires_grad_()
            for x in (noisy.types, noisy.free_coords, noisy.cell)
        ]
        free = State(types=leaves[0], free_coords=leaves[1], cell=leaves[2])
        with torch.enable_grad():
            features = self.model.features(free, sigma, templates)
            error = self.value - self.regression.mean(features, sigma)
            log_likelihood = -0.5 * error**2 / self.regression.variance_at(sigma)
            types, free_coords, cell = torch.autograd.grad(log_likelihood.sum(), leaves)
        return State(
            types=templates.class_sum(types),
            free_coords=free_coords * coordinates.unit_spread(templates) ** 2,
            cell=cell * free_numbers(templates.space_group),
        )


def _length(step: State, templates: Templates) -> Float[Tensor, "B"]:
    """Length of a step in standard deviations of noise of unit size."""
    types = step.types.square().sum((1, 2))
    coords = (step.free_coords * templates.basis_length).square().sum((1, 2))
    return (types + coords + step.cell.square().sum(-1)).sqrt()


def steering(
    model: CrystalDiffusion, probes: Sequence[Probe], targets: Sequence[PropertyTarget]
) -> tuple[ProbeSteering, ...]:
    """Steer samples of `model` towards the targets of the probed properties; guidance 0 does not.

    Raises:
        ValueError: If a probe has no target, or a range for one.
    """
    device = model.device
    steered = []
    for probe in probes:
        probe.check_width(model)
        prop = probe.definition
        target = next((one for one in targets if one.definition.name == prop.name), None)
        if target is None:
            raise ValueError(
                f"the probe of {prop.name!r} has no target: add --condition {prop.name}=..."
            )
        if target.low != target.high:
            raise ValueError(f"a probe steers towards a value, expected {prop.name}=<number>")
        value = prop.normalise(torch.tensor(target.low)).item()
        steered.append(
            ProbeSteering(
                model=model,
                regression=probe.regression.to(device),
                property=prop.name,
                target=target.low,
                value=value,
                guidance=target.guidance,
            )
        )
    return tuple(steered)


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


# Fitting


@dataclass(frozen=True, kw_only=True)
class Labels:
    """What a probe is fitted to."""

    crystals: OrbitDataset
    values: Float[Tensor, "M"]  # in the property's unit
    formulas: Sequence[str]  # crystals of one formula are never on both sides of a split

    @classmethod
    def from_table(cls, table: pa.Table, name: str) -> "Labels":
        """Rows of a crystal table, with the values of a column that has one in each."""
        return cls(
            crystals=OrbitDataset.from_table(table),
            values=torch.tensor(table[name].to_pylist(), dtype=torch.float32),
            formulas=table["formula"].to_pylist(),
        )


def fit(
    model: CrystalDiffusion,
    labels: Labels,
    prop: PropertyConfig,
    identity: ModelIdentity,
    seed: int,
) -> Probe:
    """Fit a regression at every noise level and measure each on held-out formulas.

    Args:
        model: The frozen model, on the device to use.
        labels: Crystals and values, none missing.
        prop: The property; its mean and spread are filled in from the values.
        identity: Which model it is.
        seed: Of the noise.

    Raises:
        ValueError: If the probe is no better than predicting the mean.
    """
    prop = standardised(prop, labels.values)
    values = Property(**prop.model_dump()).normalise(labels.values)
    num_draws = max(1, min(MAX_DRAWS, MAX_PASSES // (len(SIGMAS) * len(values))))
    groups = _group_numbers(labels.formulas).repeat(num_draws)
    rng = torch.Generator(model.device).manual_seed(seed)
    levels, errors = [], []
    bar = partial(tqdm, desc="noise levels", unit="level", disable=None)
    for sigma in bar(SIGMAS):
        features = noisy_features(model, labels.crystals, sigma, num_draws, rng)
        repeated = values.repeat(num_draws)
        predicted = held_out_predictions(features, repeated, groups)
        errors.append(level_error(sigma, repeated, predicted, Property(**prop.model_dump())))
        levels.append(ridge(features, repeated, best_penalty(features, repeated, groups)))
    _refuse_the_useless(prop.name, errors[0], len(values))
    weights, biases = zip(*levels, strict=True)
    regression = Regression(
        log_sigma=torch.tensor(SIGMAS).log(),
        weight=torch.stack(weights),
        bias=torch.stack(biases),
        variance=torch.tensor([error.rmse**2 for error in errors]),
    )
    config = ProbeConfig(
        prop=prop,
        model=identity,
        num_labels=len(values),
        num_draws=num_draws,
        errors=tuple(errors),
    )
    return Probe(config=config, regression=regression)


def standardised(prop: PropertyConfig, values: Float[Tensor, "M"]) -> PropertyConfig:
    """The property with mean and spread of the values, of their logarithm if it has `log`."""
    raw = values.log10() if prop.log else values
    figures = {"mean": raw.mean(), "std": raw.std(), "minimum": values.min()}
    return prop.model_copy(update={name: value.item() for name, value in figures.items()})


def noisy_features(
    model: CrystalDiffusion,
    crystals: OrbitDataset,
    sigma: float,
    num_draws: int,
    rng: torch.Generator,
) -> Float[Tensor, "M2 D"]:
    """Features of all crystals at one noise level, drawn `num_draws` times, draw after draw."""
    order = torch.from_numpy(
        np.argsort(crystals.sort_key())
    )  # similar sizes share a batch: less padding
    draws = []
    for _ in range(num_draws):
        parts = []
        for index in order.split(BATCH_SIZE):
            batch = crystals.crystals(index).to(rng.device)
            level = batch.lattice.new_full((len(index),), sigma)
            noise = model.diffusion.noise(draw_noise(batch.templates, rng), batch.templates)
            noisy = model.diffusion.corrupt(model.diffusion.encode(batch), level, noise)
            with torch.no_grad():
                parts.append(model.features(noisy, level, batch.templates).cpu())
        draws.append(torch.cat(parts)[torch.argsort(order)])
    return torch.cat(draws)


def level_error(
    sigma: float, values: Float[Tensor, "M"], predicted: Float[Tensor, "M"], prop: Property
) -> LevelError:
    """Errors of held-out predictions; arguments standardised, results as `LevelError` says."""
    mse = (predicted - values).square().mean()
    truth = prop.denormalise(values)
    return LevelError(
        sigma=sigma,
        r2=(1 - mse / values.var(correction=0)).item(),
        rmse=mse.sqrt().item(),
        mae=(prop.denormalise(predicted) - truth).abs().mean().item(),
        mae_of_mean=(prop.denormalise(torch.zeros(())) - truth).abs().mean().item(),
    )


def _group_numbers(names: Sequence[str]) -> Int[Tensor, "M"]:
    number = {name: i for i, name in enumerate(dict.fromkeys(names))}
    return torch.tensor([number[name] for name in names])


def _refuse_the_useless(name: str, error: LevelError, num_labels: int) -> None:
    if error.r2 < MIN_R2:
        raise ValueError(
            f"the probe of {name!r} is no better than the mean of its {num_labels} labels: R2 is "
            f"{error.r2:.2f} on held-out formulas, MAE {error.mae:.3g} against "
            f"{error.mae_of_mean:.3g}; more labels may help"
        )
