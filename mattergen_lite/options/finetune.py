"""Options of fine-tuning a finished model."""

from mattergen_lite.options.checks import (
    BatchSize,
    Count,
    LearningRate,
    OptimizerSteps,
    Seed,
    ShareBelowOne,
    options,
)


@options
class FinetuneOptions:
    """Steps, rates and data of a fine-tuning run.

    Attributes:
        steps: Most optimiser steps; it stops earlier when held-out crystals no longer gain.
        batch_size: Crystals a step.
        learning_rate: Highest learning rate.
        base_share: Share of each batch that comes from the embedded table, so that the model does
            not forget what it knew.
        patience: Validations without improvement before stopping; a full run has 20.
        max_time: DD:HH:MM:SS after which this launch stops; the same command then continues.
        seed: Of noise, order and the split into training and held-out crystals.
        device: cpu, cuda, or auto.
    """

    steps: OptimizerSteps = 1000
    batch_size: BatchSize = 64
    learning_rate: LearningRate = 3e-4
    base_share: ShareBelowOne = 0.5
    patience: Count = 6
    max_time: str | None = None
    seed: Seed = 0
    device: str = "auto"
