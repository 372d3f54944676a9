"""Acts between training steps: checkpoints, averaged weights, judging, early stop, time limit."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytorch_lightning as pl
from pytorch_lightning.callbacks import (
    Callback,
    EarlyStopping,
    LearningRateMonitor,
    ModelCheckpoint,
    Timer,
    TQDMProgressBar,
    WeightAveraging,
)
from torch.optim.swa_utils import get_ema_multi_avg_fn

from mattergen_lite.config import RunConfig
from mattergen_lite.model import CrystalDiffusion
from mattergen_lite.training.module import TrainingModule

BEST = "best.ckpt"
MEASURES = {"loss": ("val/total", "min"), "sun": ("val/sun", "max")}  # by `trainer.select`
Judge = Callable[[CrystalDiffusion], float]


def callbacks_of(config: RunConfig, judge: Judge | None) -> list[Callback]:
    """Make the callbacks that a run's configuration asks for."""
    options = config.trainer
    where = {"dirpath": config.run_dir, "filename": "last", "enable_version_counter": False}
    callbacks: list[Callback] = [
        WeightAveraging(
            use_buffers=False, multi_avg_fn=get_ema_multi_avg_fn(config.optimizer.ema_decay)
        ),
        LearningRateMonitor(logging_interval="step"),
        StepProgressBar(),
        ModelCheckpoint(**where, train_time_interval=timedelta(minutes=options.checkpoint_minutes)),
        ModelCheckpoint(**where, every_n_epochs=1, save_on_train_epoch_end=True),
    ]
    if judge is not None:
        callbacks.append(Judging(judge))
    if options.select != "last":
        monitor, mode = MEASURES[options.select]
        best = {**where, "filename": Path(BEST).stem, "monitor": monitor, "mode": mode}
        callbacks.append(ModelCheckpoint(**best, save_weights_only=True))
        if options.patience is not None:
            callbacks.append(EarlyStop(monitor, mode=mode, patience=options.patience))
    if options.max_time is not None:
        callbacks.append(LaunchTimer(options.max_time, interval="step"))
    return callbacks


class StepProgressBar(TQDMProgressBar):
    """Shows optimiser steps, by which runs are measured, beside the batches of an epoch."""

    def on_train_epoch_start(self, trainer: pl.Trainer, *args: object) -> None:
        """Begin the bar of an epoch."""
        super().on_train_epoch_start(trainer, *args)
        self._describe(trainer)

    def on_train_batch_end(self, trainer: pl.Trainer, *args: object) -> None:
        """Advance it."""
        super().on_train_batch_end(trainer, *args)
        self._describe(trainer)

    def _describe(self, trainer: pl.Trainer) -> None:
        total = f" of {trainer.max_steps:,}" if trainer.max_steps > 0 else ""
        said = f"step {trainer.global_step:,}{total}, epoch {trainer.current_epoch + 1}"
        self.train_progress_bar.set_description(said, refresh=False)


class Judging(Callback):
    """Logs what a judge says of the averaged weights, which are in place during validation."""

    def __init__(self, judge: Judge) -> None:
        self.judge = judge

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: "TrainingModule") -> None:
        """The first process judges and broadcasts the result: all keep the same weights."""
        verdict = self.judge(pl_module.model) if trainer.is_global_zero else 0.0
        pl_module.log(MEASURES["sun"][0], trainer.strategy.broadcast(verdict), prog_bar=True)


class EarlyStop(EarlyStopping):
    """Stops when validation no longer improves; a run that has stopped so stays stopped."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Look at the state that the checkpoint brought back."""
        trainer.should_stop = self.wait_count >= self.patience


class LaunchTimer(Timer):
    """Limits this launch; Lightning's own timer counts the launches before it as well."""

    def load_state_dict(self, state_dict: dict[str, object]) -> None:
        """Start from zero."""
