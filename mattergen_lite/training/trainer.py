"""Training with Lightning: one command for a laptop, a GPU, a node or a cluster.

    run_dir/config.yaml    the resolved configuration
    run_dir/last.ckpt      optimiser, averaged and raw weights; running again continues from here
    run_dir/views.parquet  training crystals with less symmetry, if `data.symmetry_dropout`
    run_dir/best.ckpt      the best weights so far, unless `trainer.select` is last
    run_dir/logs/          losses per channel as CSV, one version a launch; curves.png draws them
    run_dir/model/         weights, config and card that `generate` loads

Everything random is a function of (seed, step, place in the global batch): a resumed run repeats
what an undisturbed one would have done, and so does one on another number of devices, to rounding.
Needs only torch, lightning, numpy, pyarrow and pydantic until the export.
"""

import csv
import os
import platform
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from time import perf_counter
from zipfile import is_zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import (
    Callback,
    EarlyStopping,
    EMAWeightAveraging,
    LearningRateMonitor,
    ModelCheckpoint,
    Timer,
)
from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger
from torch import Tensor

from mattergen_lite.config import (
    LossConfig,
    ModelConfig,
    OptimizerConfig,
    PropertyConfig,
    RunConfig,
)
from mattergen_lite.crystal import Share
from mattergen_lite.data.dataset import (
    CrystalDataModule,
    LabelledBatch,
    OrbitDataset,
    read_table,
    select_rows,
    table_hash,
)
from mattergen_lite.diffusion.joint import Losses
from mattergen_lite.model import CrystalDiffusion
from mattergen_lite.properties import Conditions
from mattergen_lite.shapes import Bool, Float
from mattergen_lite.symmetry.templates import OrbitCrystals, classes_by_element

LAST = "last.ckpt"
BEST = "best.ckpt"
VIEWS = "views.parquet"
MEASURES = {"loss": ("val/total", "min"), "sun": ("val/sun", "max")}  # by `trainer.select`

Judge = Callable[[CrystalDiffusion], float]


def train(config: RunConfig, judge: Judge | None = None) -> Path:
    """Train, or continue the run in `config.run_dir`; returns the exported model folder.

    Args:
        config: Everything.
        judge: Says at each validation how good the averaged weights are, if `trainer.select` is
            sun; more is better.

    Raises:
        ValueError: If the dataset is unusable, `run_dir` holds a run of another model, or nobody
            is there to judge.
    """
    if config.trainer.select == "sun" and judge is None:
        raise ValueError("trainer.select is sun: expected `train --select sun`, which can judge")
    if config.trainer.threads:
        torch.set_num_threads(config.trainer.threads)
    pl.seed_everything(config.seed, verbose=False)
    config = config.model_copy(update={"model": fit_statistics(config)})
    check_same_model(config)
    module = TrainingModule(config)
    views = reduced_views(config)
    data = CrystalDataModule(config.data, module.model.properties, config.seed, views)
    module.model.fit(data.train)
    if config.init_from is not None:
        module.model.start_from(config.init_from)
    trainer = build_trainer(config, judge)
    if trainer.is_global_zero:
        config.save(config.run_dir / "config.yaml")
    start = perf_counter()
    trainer.fit(module, data, ckpt_path=newest_checkpoint(config.run_dir), weights_only=True)
    if trainer.is_global_zero:
        export(trainer, module, config, perf_counter() - start)
    return config.run_dir / "model"


def fit_statistics(config: RunConfig) -> ModelConfig:
    """Model configuration completed with what only the training data knows.

    Standardisation of the real properties and the histogram of atom counts; what the configuration
    says already, as that of a model to be extended does, stays.
    """
    table = read_table(config.data.path)
    data = OrbitDataset.from_table(select_rows(table, config.data.train_splits, config.data))
    histogram = torch.bincount(data.num_atoms, minlength=config.data.max_atoms + 1)[1:]
    return config.model.model_copy(
        update={
            "properties": tuple(_standardised(p, data.columns) for p in config.model.properties),
            "max_orbits": config.data.max_orbits,
            "max_atoms": config.data.max_atoms,
            "atom_count_histogram": config.model.atom_count_histogram or tuple(histogram.tolist()),
            "data_sha256": table_hash(config.data.path),
        }
    )


def _standardised(
    prop: PropertyConfig, columns: Mapping[str, Float[Tensor, "M"]]
) -> PropertyConfig:
    if prop.kind != "elements" and prop.name not in columns:
        raise ValueError(
            f"property {prop.name!r} is not a column of the dataset: it has {', '.join(columns)}"
        )
    if prop.kind != "real" or (prop.mean, prop.std) != (0.0, 1.0):
        return prop
    known = columns[prop.name][~columns[prop.name].isnan()]
    if prop.log and (known <= 0).any():
        raise ValueError(
            f"property {prop.name!r} is {known.min():g} somewhere: no logarithm of that"
        )
    values = known.log10() if prop.log else known
    figures = {
        "mean": values.mean(),
        "std": values.std(),
        "minimum": known.min(),
        "maximum": known.max(),
    }
    return prop.model_copy(update={name: round(x.item(), 6) for name, x in figures.items()})


class TrainingModule(pl.LightningModule):
    """One optimisation step; nothing else lives here."""

    def __init__(self, config: RunConfig) -> None:
        super().__init__()
        self.seed = config.seed
        self.loss_config: LossConfig = config.loss
        self.optimizer_config: OptimizerConfig = config.optimizer
        self.model = CrystalDiffusion(config.model)
        self.model.mixed_precision = _mixed_precision(config.trainer.precision)
        if config.trainer.compile:
            compile_blocks(self.model)

    def training_step(self, batch: LabelledBatch, batch_idx: int) -> Float[Tensor, ""]:
        """Weighted sum of the channel losses of one batch."""
        rng = self._rng(self.global_step)
        conditions = drop_conditions(batch.conditions, self.loss_config, rng, batch.share)
        crystals = vary(batch.crystals, self.loss_config, rng, batch.share)
        losses = self.model.losses(crystals, conditions, rng, batch.share)
        return self._logged_loss("train", losses)

    def validation_step(self, batch: LabelledBatch, batch_idx: int) -> None:
        """Loss of the averaged weights at the same noise every time; only the focus is shown."""
        focus = self.loss_config.focus
        conditions = batch.conditions.only(focus) if focus else None
        rng = self._rng(-1 - batch_idx)
        losses = self.model.losses(batch.crystals, conditions, rng, batch.share)
        self._logged_loss("val", losses)

    def _logged_loss(self, stage: str, losses: Losses) -> Float[Tensor, ""]:
        means = {name: getattr(losses, name).mean() for name in ("types", "coords", "lattice")}
        total = sum(getattr(self.loss_config, name) * value for name, value in means.items())
        if stage == "train" and (self.global_step + 1) % self.trainer.log_every_n_steps:
            return total  # not a step that is written: talking of it would hold up the device
        for name, value in {**means, "total": total}.items():
            self.log(
                f"{stage}/{name}",
                value,
                prog_bar=name == "total",
                batch_size=len(losses.types),
                sync_dist=True,
            )
        return total

    def _rng(self, step: int) -> torch.Generator:
        """Noise of one step of the global batch, the same whenever and wherever it is computed."""
        return torch.Generator(self.device).manual_seed((self.seed * 1_000_003 + step) % 2**63)

    def configure_optimizers(self) -> dict[str, object]:
        """AdamW; decay on matrices only."""
        config = self.optimizer_config
        matrices = [p for p in self.parameters() if p.dim() > 1]
        vectors = [p for p in self.parameters() if p.dim() <= 1]
        optimizer = torch.optim.AdamW(
            [
                {"params": matrices, "weight_decay": config.weight_decay},
                {"params": vectors, "weight_decay": 0.0},
            ],
            lr=config.learning_rate,
            betas=config.betas,
            fused=True,
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: learning_rate_factor(step, config)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def compile_blocks(model: CrystalDiffusion) -> None:
    """Compile the transformer blocks for batches of any shape.

    One piece of code serves them all, in a minute; the network as a whole takes many. Where
    compiling fails, for want of a C++ compiler for example, they run as they are with a warning.
    """
    torch._dynamo.config.suppress_errors = True
    for block in model.denoiser.blocks:
        block.compile(dynamic=True)


def learning_rate_factor(step: int, config: OptimizerConfig) -> float:
    """Share of the peak learning rate at a step: up, constant, and down to zero at the end."""
    rising = (step + 1) / config.warmup_steps if step < config.warmup_steps else 1.0
    decay_steps = min(config.decay_steps, config.max_steps)
    falling = (config.max_steps - step) / max(decay_steps, 1)
    return max(min(rising, falling, 1.0), 0.0)


def vary(
    crystals: OrbitCrystals, config: LossConfig, rng: torch.Generator, share: Share
) -> OrbitCrystals:
    """The same crystals as they may also be given: other representatives, classes known or not."""

    def uniform(*size: int) -> Float[Tensor, "B *S"]:
        return torch.rand(share.total, *size, generator=rng, device=rng.device)[share.rows]

    known = uniform() >= config.hide_classes
    crystals = crystals.with_random_representatives(uniform(crystals.templates.mask.shape[1]))
    return crystals.with_classes(classes_by_element(crystals.atomic_numbers), known)


def reduced_views(config: RunConfig) -> pa.Table | None:
    """Some training crystals as orbits of subgroups, computed once a run and kept in its folder.

    Twice `symmetry_dropout` of them have such a view, which is shown every other time. Views of
    other data, which a run that came to nothing may have left, are replaced.
    """
    share = 2 * config.data.symmetry_dropout
    if share == 0:
        return None
    path = config.run_dir / VIEWS
    data = config.data.model_dump_json(exclude={"batch_size", "pool_batches", "val_splits"})
    origin = {b"origin": f"{config.model.data_sha256} {config.seed} {data}".encode()}
    if not path.exists() or pq.read_schema(path).metadata != origin:
        from mattergen_lite.data.views import (
            view_columns,  # needs spglib, which a bare node may lack
        )

        table = select_rows(read_table(config.data.path), config.data.train_splits, config.data)
        views = view_columns(table, share, config.data.max_orbits, config.seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{VIEWS}.{os.getpid()}")
        pq.write_table(views.replace_schema_metadata(origin), temporary, compression="zstd")
        temporary.replace(path)
    views = pq.read_table(path)
    return views if len(views) else None


def drop_conditions(
    conditions: Conditions, config: LossConfig, rng: torch.Generator, share: Share | None = None
) -> Conditions:
    """Hide all properties of some crystals and some properties of the others.

    What classifier-free guidance needs (Ho and Salimans 2022, arXiv 2207.12598).
    """
    flags = list(conditions.present.values())
    if not flags:
        return conditions
    share = share or Share.whole(len(flags[0]))

    def coin(probability: float) -> Bool[Tensor, "B"]:
        drawn = torch.rand(share.total, generator=rng, device=rng.device)
        return drawn[share.rows] >= probability

    conditional = coin(config.drop_all)
    keep = {
        name: coin(config.drop[name])
        if name in config.drop
        else conditional & coin(config.drop_each)
        for name in conditions.present
    }
    if config.focus:
        taught = conditions.only(config.focus).present
        alone = torch.stack(list(taught.values())).any(0) & ~coin(0.5)
        keep = {name: flag & ~alone for name, flag in keep.items()}
        keep |= dict.fromkeys(taught, conditional)
    return conditions.dropped(keep)


def build_trainer(config: RunConfig, judge: Judge | None = None) -> pl.Trainer:
    """Lightning's trainer for this configuration."""
    options = config.trainer
    return pl.Trainer(
        default_root_dir=config.run_dir,
        accelerator=options.accelerator,
        devices=options.devices,
        num_nodes=options.num_nodes,
        strategy=options.strategy,
        max_steps=config.optimizer.max_steps,
        gradient_clip_val=config.optimizer.clip_norm,
        val_check_interval=options.val_every,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        log_every_n_steps=options.log_every,
        logger=_loggers(config.run_dir),
        callbacks=_callbacks(config, judge),
    )


def _mixed_precision(choice: str) -> bool:
    """bfloat16 where the device computes in it; most CPUs only emulate it, many times slower."""
    return choice == "bf16-mixed" or (choice == "auto" and torch.cuda.is_available())


def _loggers(run_dir: Path) -> list[Logger]:
    # A fresh CSV version per launch: Lightning would delete the file of the launch it continues.
    loggers: list[Logger] = [CSVLogger(run_dir, name="logs")]
    with suppress(ModuleNotFoundError):  # a bare training node: the CSV has everything
        loggers.append(TensorBoardLogger(run_dir, name="", version="tensorboard"))
    return loggers


def _callbacks(config: RunConfig, judge: Judge | None) -> list[Callback]:
    options = config.trainer
    where = {"dirpath": config.run_dir, "filename": "last", "enable_version_counter": False}
    callbacks: list[Callback] = [
        EMAWeightAveraging(decay=config.optimizer.ema_decay, use_buffers=False),
        LearningRateMonitor(logging_interval="step"),
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


class Judging(Callback):
    """Logs what a judge says of the averaged weights, which are in place during validation."""

    def __init__(self, judge: Judge) -> None:
        self.judge = judge

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: "TrainingModule") -> None:
        """One process asks, all hear: they must agree on which weights are best."""
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


def newest_checkpoint(run_dir: Path) -> Path | None:
    """The newest of `last.ckpt` and what Lightning saved on a cluster's requeue signal.

    Raises:
        ValueError: If it is damaged.
    """
    candidates = [*run_dir.glob("hpc_ckpt_*.ckpt"), *run_dir.glob(LAST)]
    newest = max(candidates, key=lambda path: path.stat().st_mtime, default=None)
    if newest is not None and not is_zipfile(newest):  # what torch.save writes
        raise ValueError(f"cannot go on from {newest}: it is damaged; remove it to begin anew")
    return newest


def check_same_model(config: RunConfig) -> None:
    """Refuse to continue a run with a network or data that are not its own.

    Raises:
        ValueError: If the run in `run_dir` was started with another model configuration.
    """
    saved = config.run_dir / "config.yaml"
    if newest_checkpoint(config.run_dir) and RunConfig.load([saved]).model != config.model:
        raise ValueError(f"{config.run_dir} holds a run of another model: choose another run_dir")


def export(trainer: pl.Trainer, module: TrainingModule, config: RunConfig, seconds: float) -> None:
    """Write the averaged weights as a model folder and draw the learning curves."""
    folder = config.run_dir / "model"
    best = config.run_dir / BEST
    kept = best if config.trainer.select != "last" and best.exists() else None
    # From disk: if nothing was left to train, those in memory have not been averaged.
    averaged = kept or newest_checkpoint(config.run_dir)
    if averaged is not None:
        module.load_state_dict(torch.load(averaged, weights_only=True)["state_dict"])
    module.model.save(folder)
    (folder / "model_card.md").write_text(model_card(trainer, config, seconds))
    plot_curves(config.run_dir)


def model_card(trainer: pl.Trainer, config: RunConfig, seconds: float) -> str:
    """What a stranger must know of the weights; `benchmarks/model_card.py` adds the metrics."""
    device = trainer.strategy.root_device
    hardware = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    batch = config.data.batch_size * trainer.world_size
    count = sum(config.model.atom_count_histogram)
    largest = f"{config.model.max_orbits} orbits and {config.model.max_atoms}"
    facts = {
        "data": f"{config.data.path}, splits {', '.join(config.data.train_splits)}",
        "data SHA-256": config.model.data_sha256,
        "crystals": f"{count:,} of up to {largest} atoms",
        "steps": f"{trainer.global_step:,} of {batch} crystals",
        "last launch": f"{seconds / 60:.1f} minutes on {trainer.world_size} x {hardware}",
        "conditions": ", ".join(prop.name for prop in config.model.properties) or "none",
        "weights": f"averaged, decay {config.optimizer.ema_decay}, started from {config.init_from}",
    }
    rows = [f"| {name} | {value} |" for name, value in facts.items()]
    lines = [f"# {config.run_dir.name}", "", "| | |", "|---|---|", *rows, ""]
    return "\n".join([*lines, "<!-- metrics -->", "<!-- /metrics -->", ""])


def read_metrics(run_dir: Path) -> dict[str, list[tuple[int, float]]]:
    """Every logged series of a run, over all its launches, as (step, value) pairs."""
    series: dict[str, dict[int, float]] = {}
    for file in sorted(
        run_dir.glob("logs/version_*/metrics.csv"), key=lambda path: path.stat().st_mtime
    ):
        for row in csv.DictReader(file.open()):
            for name, value in row.items():
                if value and name not in ("step", "epoch"):
                    series.setdefault(name, {})[int(row["step"])] = float(value)
    return {name: sorted(values.items()) for name, values in series.items()}


def plot_curves(run_dir: Path) -> None:
    """Draw training and validation losses of a run into `curves.png`."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:  # a bare training node: the CSV has everything
        return
    series = read_metrics(run_dir)
    figure = Figure(figsize=(11, 3), layout="constrained")
    panels = figure.subplots(1, 4)
    for panel, name in zip(panels, ("total", "types", "coords", "lattice"), strict=True):
        for stage in ("train", "val"):
            if points := series.get(f"{stage}/{name}"):
                panel.plot(
                    *zip(*points, strict=True), label=stage, linewidth=1 if stage == "train" else 2
                )
        panel.set(title=name, xlabel="step", yscale="log")
    panels[0].legend()
    figure.savefig(run_dir / "curves.png", dpi=150)
