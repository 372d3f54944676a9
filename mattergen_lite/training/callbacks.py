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
    WeightAveraging,
)
from torch.optim.swa_utils import get_ema_multi_avg_fn

from mattergen_lite.config import RunConfig
from mattergen_lite.console import ProgressBar
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
        StepProgress(),
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


class StepProgress(pl.callbacks.ProgressBar):
    """Shows optimiser steps, by which runs are measured: a bar, or lines in a log."""

    bar: ProgressBar | None = None
    is_enabled = True

    def disable(self) -> None:
        """Show nothing, as in all processes but the first."""
        self.is_enabled = False

    def enable(self) -> None:
        """Show the bar."""
        self.is_enabled = True

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin at the steps that an earlier part of the run has made."""
        self.bar = ProgressBar(
            total=trainer.max_steps if trainer.max_steps > 0 else None,
            initial=trainer.global_step,
            unit="step",
            desc="training",
            disable=not self.is_enabled,
        )

    def on_train_batch_end(self, trainer: pl.Trainer, *args: object) -> None:
        """Advance, with the epoch and the last values of what is logged for it."""
        values = trainer.progress_bar_metrics.items()
        shown = [f"epoch {trainer.current_epoch + 1}", *(f"{k} {v:.3g}" for k, v in values)]
        self.bar.set_description_str(f"training, {', '.join(shown)}", refresh=False)
        self.bar.update(trainer.global_step - self.bar.n)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """End the bar, also where the run is interrupted."""
        if self.bar is not None:
            self.bar.close()


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
