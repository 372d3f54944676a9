"""Fitting a head: perceptrons on features of labelled crystals, errors on held-out ones."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, dropout, silu

from mattergen_lite.chemistry.elements import MAX_ATOMIC_NUMBER
from mattergen_lite.config import PropertyConfig
from mattergen_lite.console import ProgressBar
from mattergen_lite.probe.fit import standardised
from mattergen_lite.probe.head import (
    Head,
    HeadConfig,
    HeadError,
    Perceptrons,
    distance,
    num_chemical,
)
from mattergen_lite.probe.probe import ModelIdentity
from mattergen_lite.properties import Property
from mattergen_lite.tensors.shapes import Bool, Float

NUM_MEMBERS = 3
WIDTHS = (48, 128)  # hidden units, with fewer and with more labels than `MANY`
MANY = 20_000
SEEN = 40  # times that every label is seen
MIN_STEPS = 1500
BATCH_SIZE = 256
LEARNING_RATE = 3e-3  # highest; one cycle
WEIGHT_DECAY = 0.01
DROPOUT = 0.1
MIN_LABELS_OF_ELEMENT = 10  # below, crystals with the element are outside the domain
SHARE_OF_ZEROS = 0.05  # of labels from which a classifier says whether a value is above zero
INSIDE = 0.999  # share of the labelled crystals that are within the domain


@dataclass(frozen=True, kw_only=True)
class Examples:
    """Inputs from `head_inputs` and values in the property's unit."""

    inputs: Float[Tensor, "M I"]
    values: Float[Tensor, "M"]


def fit_head(
    fitted: Examples,
    held_out: Examples,
    prop: PropertyConfig,
    identity: ModelIdentity,
    seed: int,
) -> Head:
    """Fit a head to `fitted` and measure its errors on `held_out`.

    Args:
        fitted: Crystals to learn from.
        held_out: Crystals for the errors.
        prop: The property; its mean and spread are filled in from the values.
        identity: The model whose features were taken.
        seed: Of weights and batches.
    """
    values = fitted.values
    has_zeros = bool((values == 0).float().mean() >= SHARE_OF_ZEROS)
    above = values > 0 if has_zeros else torch.ones_like(values, dtype=torch.bool)
    prop = standardised(prop, values[above])
    standard = Property(**prop.model_dump()).normalise(values.clamp(min=_least(prop, values)))
    net = _perceptrons(fitted.inputs, len(values), seed)
    net = _trained(net, net.standardised(fitted.inputs), standard, above, has_zeros, seed)
    limit = distance(net.standardised(fitted.inputs)).quantile(INSIDE).item()
    config = HeadConfig(
        prop=prop,
        model=identity,
        has_zeros=has_zeros,
        num_labels=len(values),
        held_out=_unknown(),
        max_distance=limit,
    )
    head = Head(config=config, net=net)
    error = prediction_error(head, held_out, values.median())
    return Head(config=config.model_copy(update={"held_out": error}), net=net)


def prediction_error(head: Head, held_out: Examples, median: Float[Tensor, ""]) -> HeadError:
    """Errors of a head on crystals that it was not fitted to."""
    predicted, truth = head.predict(held_out.inputs), held_out.values
    misses = (predicted - truth).abs()

    def mean(chosen: Bool[Tensor, "M"]) -> float:
        return misses[chosen].mean().item() if chosen.any() else misses.mean().item()

    right = ((predicted > 0) == (truth > 0)).float().mean().item()
    has_zeros = head.config.has_zeros
    return HeadError(
        num_crystals=len(truth),
        mae=misses.mean().item(),
        mae_zero=mean(predicted == 0),
        mae_positive=mean(predicted > 0),
        accuracy=right if has_zeros else None,
        mae_of_median=(median - truth).abs().mean().item(),
        r2=(1 - misses.square().mean() / truth.var(correction=0)).item(),
    )


def _unknown() -> HeadError:
    return HeadError(
        num_crystals=0,
        mae=0.0,
        mae_zero=0.0,
        mae_positive=0.0,
        accuracy=None,
        mae_of_median=0.0,
        r2=0.0,
    )


def _least(prop: PropertyConfig, values: Float[Tensor, "M"]) -> float:
    """A logarithm is not taken of less; nothing is learned from those values."""
    return values[values > 0].min().item() if prop.log else values.min().item()


def _perceptrons(inputs: Float[Tensor, "M I"], num_labels: int, seed: int) -> Perceptrons:
    """Random weights, inputs standardised, and which elements have enough labels."""
    rng = torch.Generator().manual_seed(seed)
    width, size = WIDTHS[num_labels > MANY], inputs.shape[1]

    def layer(rows: int, columns: int) -> Tensor:
        return torch.randn(NUM_MEMBERS, rows, columns, generator=rng) / rows**0.5

    shares = inputs[:, size - num_chemical() :][:, :MAX_ATOMIC_NUMBER]
    return Perceptrons(
        mean=inputs.mean(0),
        spread=inputs.std(0).clamp(min=1e-3),
        elements=(shares > 0).sum(0) >= MIN_LABELS_OF_ELEMENT,
        weight_1=layer(size, width),
        bias_1=torch.zeros(NUM_MEMBERS, 1, width),
        weight_2=layer(width, width),
        bias_2=torch.zeros(NUM_MEMBERS, 1, width),
        weight_3=layer(width, 2),
        bias_3=torch.zeros(NUM_MEMBERS, 1, 2),
    )


def _trained(
    net: Perceptrons,
    inputs: Float[Tensor, "M I"],
    values: Float[Tensor, "M"],
    above: Bool[Tensor, "M"],
    has_zeros: bool,
    seed: int,
) -> Perceptrons:
    """Minimise the absolute error of the values above zero, and the classifier's cross-entropy.

    Args:
        net: Where to start.
        inputs: Standardised.
        values: Standardised; those that are not above zero do not count.
        above: Which labels are above zero.
        has_zeros: Whether there is a classifier.
        seed: Of batches and dropout.
    """
    torch.manual_seed(seed)
    learned = {n: v.clone().requires_grad_() for n, v in vars(net).items() if "_" in n}
    steps = max(MIN_STEPS, SEEN * len(values) // BATCH_SIZE)
    optimiser = torch.optim.AdamW(
        learned.values(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, foreach=True
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=steps)
    for _ in ProgressBar(range(steps), desc="head", unit="step"):
        chosen = torch.randint(len(values), (BATCH_SIZE,))
        logits, predicted = _outputs(learned, inputs[chosen]).unbind(-1)
        counts = above[chosen].float()
        misses = (predicted - values[chosen]).abs() * counts
        loss = misses.sum(-1).div(counts.sum().clamp(min=1)).sum()
        if has_zeros:
            both = counts.expand_as(logits)
            loss = loss + NUM_MEMBERS * binary_cross_entropy_with_logits(logits, both)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return replace(net, **{name: value.detach() for name, value in learned.items()})


def _outputs(learned: dict[str, Tensor], inputs: Float[Tensor, "B I"]) -> Float[Tensor, "E B 2"]:
    """Outputs while training: inputs and hidden units are dropped at random."""
    hidden = silu(dropout(inputs, DROPOUT) @ learned["weight_1"] + learned["bias_1"])
    hidden = silu(dropout(hidden, DROPOUT) @ learned["weight_2"] + learned["bias_2"])
    return dropout(hidden, DROPOUT) @ learned["weight_3"] + learned["bias_3"]
