"""Fitting a probe: regressions on features of noisy crystals, errors on held-out formulas."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from mattergen_lite.config import PropertyConfig
from mattergen_lite.console import ProgressBar
from mattergen_lite.data.dataset import OrbitDataset
from mattergen_lite.data.labels import LabelledCrystals
from mattergen_lite.data.table import in_splits
from mattergen_lite.diffusion.joint import draw_noise
from mattergen_lite.model import CrystalDiffusion
from mattergen_lite.probe.probe import (
    BATCH_SIZE,
    LevelError,
    ModelIdentity,
    Probe,
    ProbeConfig,
    Regression,
)
from mattergen_lite.probe.regression import (
    Leverage,
    best_penalty,
    held_out_leverage,
    held_out_predictions,
    ridge,
)
from mattergen_lite.properties import Property
from mattergen_lite.tensors.shapes import Float, Int

# Noise levels of the regressions: below the first crystals look clean, above the last like noise.
SIGMAS = tuple(0.01 * 300 ** (level / 9) for level in range(10))  # 0.01 to 3
MAX_PASSES = 12_000  # noisy crystals through the network: about a minute on one core
MAX_DRAWS = 4  # of noise for each crystal and level
MIN_R2 = 0.05  # below, held-out errors are those of predicting the mean


@dataclass(frozen=True, kw_only=True)
class Labels:
    """Labels that a probe is fitted to."""

    crystals: OrbitDataset
    values: Float[Tensor, "M"]  # in the property's unit
    formulas: Sequence[str]  # crystals of one formula are never on both sides of a split
    not_used: Mapping[str, int] = field(default_factory=dict)  # crystals by reason

    @classmethod
    def of(cls, crystals: LabelledCrystals, fits: pa.ChunkedArray) -> "Labels":
        """Labels of the crystals that have a value, fit the model and are not for testing.

        Args:
            crystals: A user's crystals.
            fits: Whether each is small enough for the model.
        """
        table, name = crystals.table, crystals.prop.name
        unusable = {
            f"without {name}": pc.is_null(table[name]),
            "of more orbits or atoms than the model makes": pc.invert(fits),
            'of the split "test"': in_splits(table, ["test"]),
        }
        left, not_used = np.ones(len(table), dtype=bool), dict(crystals.left_out)
        for reason, mask in unusable.items():
            not_used[reason] = int((left & mask.to_numpy()).sum())
            left &= ~mask.to_numpy()
        return replace(cls.from_table(table.filter(pa.array(left)), name), not_used=not_used)

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

    The model is frozen, and on the device to use. Mean and spread of the property are filled in
    from the labels, of which none is missing.

    Raises:
        ValueError: If the probe is no better than predicting the mean.
    """
    prop = standardised(prop, labels.values)
    values = prop.normalise(labels.values)
    num_draws = max(1, min(MAX_DRAWS, MAX_PASSES // (len(SIGMAS) * len(values))))
    groups = _group_numbers(labels.formulas).repeat(num_draws)
    rng = torch.Generator(model.device).manual_seed(seed)
    levels, errors = [], []
    bar = partial(ProgressBar, desc="noise levels", unit="level")
    for sigma in bar(SIGMAS):
        features = _noisy_features(model, labels.crystals, sigma, num_draws, rng)
        repeated = values.repeat(num_draws)
        predicted = held_out_predictions(features, repeated, groups)
        errors.append(_level_error(sigma, repeated, predicted, prop))
        penalty = best_penalty(features, repeated, groups)
        levels.append(ridge(features, repeated, penalty))
        if sigma == SIGMAS[0]:  # of finished crystals, whose errors are stated
            leverage = Leverage.of(features, penalty, len(values))
            typical_leverage = held_out_leverage(features, groups, penalty, num_draws)
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
        not_used={reason: count for reason, count in labels.not_used.items() if count},
        num_draws=num_draws,
        errors=tuple(errors),
        elements=tuple(labels.crystals.atomic_numbers.unique().tolist()),
        leverage=typical_leverage,
    )
    return Probe(config=config, regression=regression, leverage=leverage)


def standardised(prop: PropertyConfig, values: Float[Tensor, "M"]) -> PropertyConfig:
    """The property with mean and spread of the values, of their logarithm if it has `log`."""
    raw = values.log10() if prop.log else values
    figures = {"mean": raw.mean(), "std": raw.std(), "minimum": values.min()}
    return prop.model_copy(update={name: value.item() for name, value in figures.items()})


def _noisy_features(
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


def _level_error(
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
