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

import logging
import os
import sys
import warnings
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from time import perf_counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger
from torch import Tensor

from mattergen_lite.config import ModelConfig, PropertyConfig, RunConfig
from mattergen_lite.data.dataset import OrbitDataset
from mattergen_lite.data.table import read_crystal_table, select_rows, table_hash
from mattergen_lite.files.folders import is_first_process
from mattergen_lite.model import WEIGHTS, read_weights
from mattergen_lite.tensors.shapes import Float
from mattergen_lite.training.callbacks import Judge, callbacks_of
from mattergen_lite.training.datamodule import CrystalDataModule
from mattergen_lite.training.export import export_model, newest_checkpoint
from mattergen_lite.training.module import TrainingModule

VIEWS = "views.parquet"
# Lines of Lightning that tell nothing of the run: advertisements, and that a run goes on in its
# folder.
NOISE = ("TPU available", "💡 Tip", "Checkpoint directory")


def train(config: RunConfig, judge: Judge | None = None) -> Path:
    """Train, or continue the run in `config.run_dir`; returns the exported model folder.

    Args:
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
    if config.init_from is not None:
        read_weights(config.init_from / WEIGHTS)  # refused, if they are, before the work
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
        export_model(trainer, module, config, perf_counter() - start)
    return config.run_dir / "model"


def fit_statistics(config: RunConfig) -> ModelConfig:
    """Model configuration completed with what only the training data knows.

    Standardisation of the real properties and the histogram of atom counts; what the configuration
    says already, as that of a model to be extended does, stays. Properties of which the table has
    no value are left out and printed; a model to be extended must keep its own.
    """
    table = read_crystal_table(config.data.path)
    data = OrbitDataset.from_table(select_rows(table, config.data.train_splits, config.data))
    histogram = torch.bincount(data.num_atoms, minlength=config.data.max_atoms + 1)[1:]
    return config.model.model_copy(
        update={
            "properties": tuple(
                _standardised(p, data.columns) for p in _known_properties(config, data.columns)
            ),
            "max_orbits": config.data.max_orbits,
            "max_atoms": config.data.max_atoms,
            "atom_count_histogram": config.model.atom_count_histogram or tuple(histogram.tolist()),
            "data_sha256": table_hash(config.data.path),
        }
    )


def _known_properties(
    config: RunConfig, columns: Mapping[str, Float[Tensor, "M"]]
) -> list[PropertyConfig]:
    """Properties of which some training crystal has a value."""
    properties = config.model.properties
    is_new = config.init_from is None
    known = [
        p
        for p in properties
        if p.kind == "elements"
        or (p.name in columns and not (is_new and columns[p.name].isnan().all()))
    ]
    missing = ", ".join(p.name for p in properties if p not in known)
    if missing and not is_new:
        raise ValueError(f"the dataset has no column {missing}, a property of {config.init_from}")
    if missing and is_first_process():
        print(
            f"{config.data.path} has no values of {missing}: the model is trained without",
            file=sys.stderr,
        )
    return known


def _standardised(
    prop: PropertyConfig, columns: Mapping[str, Float[Tensor, "M"]]
) -> PropertyConfig:
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
        from mattergen_lite.data.subgroup_augmentation import (
            view_columns,  # needs spglib, which a bare node may lack
        )

        table = select_rows(
            read_crystal_table(config.data.path), config.data.train_splits, config.data
        )
        views = view_columns(table, share, config.data.max_orbits, config.seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{VIEWS}.{os.getpid()}")
        pq.write_table(views.replace_schema_metadata(origin), temporary, compression="zstd")
        temporary.replace(path)
    views = pq.read_table(path)
    return views if len(views) else None


def build_trainer(config: RunConfig, judge: Judge | None = None) -> pl.Trainer:
    """Lightning's trainer for this configuration."""
    options = config.trainer
    logging.getLogger("pytorch_lightning.utilities.rank_zero").addFilter(tells_of_the_run)
    for start in NOISE:
        warnings.filterwarnings("ignore", start)
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
        callbacks=callbacks_of(config, judge),
        enable_model_summary=False,
    )


def tells_of_the_run(line: logging.LogRecord) -> bool:
    """Tell whether a line of Lightning's log says anything of the run."""
    return not line.getMessage().startswith(NOISE)


def _loggers(run_dir: Path) -> list[Logger]:
    # A fresh CSV version per launch: Lightning would delete the file of the launch it continues.
    loggers: list[Logger] = [CSVLogger(run_dir, name="logs")]
    with suppress(ModuleNotFoundError):  # a bare training node: the CSV has everything
        loggers.append(TensorBoardLogger(run_dir, name="", version="tensorboard"))
    return loggers


def check_same_model(config: RunConfig) -> None:
    """Refuse to continue a run with a network or data that are not its own.

    Raises:
        ValueError: If the run in `run_dir` was started with another model configuration.
    """
    saved = config.run_dir / "config.yaml"
    if newest_checkpoint(config.run_dir) and RunConfig.load([saved]).model != config.model:
        raise ValueError(f"{config.run_dir} holds a run of another model: choose another run_dir")
