"""Teaches a finished model a property of your own (`finetune`), or more crystals (`finetune_on`).

The embedding of the property starts at zero, so that training starts from the model as it was. Half
of each batch is the base's own kind of crystals, so that it does not forget them. Training stops
when the loss of held-out labelled crystals, shown their label, no longer falls.

    run_dir/data/            the user's crystals in canonical cells, and which were rejected
    run_dir/training.parquet what is trained on; everything else as in `training`
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from mattergen_lite.config import (
    DataConfig,
    LossConfig,
    ModelConfig,
    OptimizerConfig,
    PropertyConfig,
    RunConfig,
    TrainerConfig,
)
from mattergen_lite.data.canonical import CORE_SCHEMA, write_crystal_table
from mattergen_lite.data.dataset import OrbitDataset
from mattergen_lite.data.labels import MIN_LABELS, LabelledCrystals
from mattergen_lite.data.materials import known_rows
from mattergen_lite.files.folders import atomic_path
from mattergen_lite.hub import read_config
from mattergen_lite.model import CrystalDiffusion, pick_device
from mattergen_lite.options.finetune import FinetuneOptions
from mattergen_lite.tensors.shapes import Bool
from mattergen_lite.training.module import drawn_losses
from mattergen_lite.training.trainer import check_same_model, fit_statistics, train

TABLE = "training.parquet"
MIN_ROWS = 4000  # labelled rows of the table are repeated up to here: base rows then vary more
LOSSES = LossConfig(drop_all=0.2, drop_each=0.5)
EMA_DECAY = 0.99  # runs are short
CHECKPOINT_MINUTES = 2.0  # what a kill may cost
REPORT_CRYSTALS = 512
REPORT_BATCH = 128


@dataclass(frozen=True, kw_only=True)
class Finetuned:
    """A fine-tuned model and what held-out crystals say of it; losses are weighted sums."""

    folder: Path
    name: str
    num_train: int
    num_val: int
    num_too_large: int  # labelled crystals with more orbits or atoms than the base makes
    num_strange: int  # of the others, those with elements that the base has never seen
    num_unusable: int  # crystals of the source that are unreadable or there twice
    base: float  # loss of held-out labelled crystals under the base model
    hidden: float  # under the fine-tuned one
    shown: float  # likewise, shown the label
    base_on_base: float  # loss of the base's own validation crystals under the base model
    tuned_on_base: float  # under the fine-tuned one, unconditionally: how far the base drifted

    def text(self) -> str:
        """The outcome for a terminal."""
        return "\n".join(
            [
                f"{self.num_train} labelled crystals to learn from, {self.num_val} held out, "
                f"{self.num_too_large} left out for more orbits or atoms than the base makes, "
                f"{self.num_strange} for elements that it has never seen, {self.num_unusable} "
                "unreadable or there twice",
                f"loss of held-out labelled crystals: base {self.base:.3f}, fine-tuned "
                f"{self.hidden:.3f}, fine-tuned and shown {self.name} {self.shown:.3f}",
                f"loss of MP-20 validation crystals: base {self.base_on_base:.3f}, fine-tuned "
                f"{self.tuned_on_base:.3f}",
                f"-> {self.folder}",
            ]
        )


def finetune(
    base: Path, crystals: LabelledCrystals, run_dir: Path, options: FinetuneOptions
) -> Finetuned:
    """Fine-tune the model in the folder `base`, or continue the run that `run_dir` holds.

    Raises:
        ValueError: If the model knows the property as something else, too few labelled crystals
            are left, or `run_dir` holds another run.
    """
    model = CrystalDiffusion.load(base)
    seen = model.diffusion.allowed_elements
    small = crystals.restricted(fits(crystals.table, model.config))
    train_rows, val_rows = (
        known_elements(small.labelled(split), seen) for split in ("train", "val")
    )
    _check_enough(train_rows, val_rows, crystals.prop.name)
    config = run_config(base, crystals.prop, run_dir, options)
    pool = _base_rows(seen, "train", model.config, crystals.prop.name)
    table = _training_table(train_rows, val_rows, pool, config.model.properties, options)
    _store_table(table, config)
    folder = train(config)
    num_small = small.labelled("train", "val").num_rows
    checks = _base_rows(seen, "val", model.config, crystals.prop.name)
    checks = checks.slice(0, REPORT_CRYSTALS)
    device = pick_device(options.device)
    model, tuned = model.to(device), CrystalDiffusion.load(folder, device)
    held_out = val_rows.slice(0, REPORT_CRYSTALS)
    return Finetuned(
        folder=folder,
        name=crystals.prop.name,
        num_train=len(train_rows),
        num_val=len(val_rows),
        num_too_large=crystals.labelled("train", "val").num_rows - num_small,
        num_strange=num_small - len(train_rows) - len(val_rows),
        num_unusable=sum(crystals.left_out.values()),
        base=_mean_loss(model, held_out),
        hidden=_mean_loss(tuned, held_out),
        shown=_mean_loss(tuned, held_out, (crystals.prop.name,)),
        base_on_base=_mean_loss(model, checks),
        tuned_on_base=_mean_loss(tuned, checks),
    )


def finetune_on(base: Path, rows: pa.Table, run_dir: Path, options: FinetuneOptions) -> Path:
    """Teach the model in the folder `base` to make more crystals like those of a table.

    Trains for all of `options.steps`, or continues the run that `run_dir` holds. Columns of the
    table that are properties of the model are taught as such.

    Returns:
        The folder of the model.

    Raises:
        ValueError: If no crystal has only elements the base knows, or `run_dir` holds another run.
    """
    seen = CrystalDiffusion.load(base).diffusion.allowed_elements
    rows = known_elements(rows, seen)
    if not len(rows):
        raise ValueError("no crystals to learn from: expected some of elements the model has seen")
    config = run_config(base, None, run_dir, options)
    pool, held_out = (_base_rows(seen, split, config.model) for split in ("train", "val"))
    held_out = held_out.slice(0, REPORT_CRYSTALS)
    table = _training_table(rows, held_out, pool, config.model.properties, options)
    _store_table(table, config)
    return train(config)


def _store_table(table: pa.Table, config: RunConfig) -> None:
    """Write the table of a run, unless its folder holds a run of another model."""
    with atomic_path(config.run_dir / TABLE) as temporary:
        write_crystal_table(table, temporary)
        data = config.data.model_copy(update={"path": str(temporary)})
        stored = config.model_copy(update={"data": data})
        check_same_model(stored.model_copy(update={"model": fit_statistics(stored)}))


def base_loss(folder: Path, device: str) -> float:
    """Loss of MP-20 validation crystals under a model: how far it has drifted from what it knew."""
    model = CrystalDiffusion.load(folder, pick_device(device))
    checks = _base_rows(model.diffusion.allowed_elements, "val", model.config)
    return _mean_loss(model, checks.slice(0, REPORT_CRYSTALS))


def run_config(
    base: Path, prop: PropertyConfig | None, run_dir: Path, options: FinetuneOptions
) -> RunConfig:
    """The training run that teaches `prop`, or only crystals, to the model in the folder `base`.

    What the base knows stays as it is: its properties with their standardisation, its sizes.

    Raises:
        ValueError: If the base has a property of that name and another kind.
    """
    model = read_config(base)
    if prop is not None:
        model = model.model_copy(update={"properties": _extended(model.properties, prop, base)})
    return RunConfig(
        run_dir=run_dir,
        seed=options.seed,
        init_from=base,
        data=DataConfig(
            path=str(run_dir / TABLE),
            max_orbits=model.max_orbits,
            max_atoms=model.max_atoms,
            batch_size=options.batch_size,
        ),
        model=model,
        loss=LOSSES.model_copy(update={"focus": (prop.name,) if prop else ()}),
        optimizer=OptimizerConfig(
            learning_rate=options.learning_rate,
            weight_decay=0.0,  # towards zero is away from the base
            warmup_steps=min(100, options.steps // 10),
            max_steps=options.steps,
            decay_steps=options.steps // 2,
            ema_decay=EMA_DECAY,
        ),
        trainer=TrainerConfig(
            accelerator=_accelerator(options.device),
            devices=1,
            max_time=options.max_time,
            checkpoint_minutes=CHECKPOINT_MINUTES,
            val_every=max(1, options.steps // 20),
            log_every=10,
            select="loss" if prop else "last",  # all of what `finetune_on` teaches is seen
            patience=options.patience if prop else None,
        ),
    )


def _extended(
    properties: Sequence[PropertyConfig], prop: PropertyConfig, base: Path
) -> tuple[PropertyConfig, ...]:
    """The properties with one more, unless it is among them."""
    known = {p.name: p for p in properties}
    same = known.get(prop.name, prop)
    if (same.kind, same.log, same.num_categories) != (prop.kind, prop.log, prop.num_categories):
        raise ValueError(
            f"{base} knows {prop.name!r} as {same.kind}, log={same.log}, "
            f"{same.num_categories} categories: say the same or rename the column"
        )
    return tuple((known | {prop.name: same}).values())


def _accelerator(device: str) -> str:
    return "auto" if device == "auto" else {"cuda": "gpu"}.get(pick_device(device).type, device)


def known_elements(table: pa.Table, seen: Bool[Tensor, "Z"]) -> pa.Table:
    """Rows whose elements the model has all seen: a few crystals teach no others."""
    numbers = table["atomic_numbers"].combine_chunks()
    strange = ~seen.cpu().numpy()[numbers.flatten().to_numpy(zero_copy_only=False)]
    count = np.concatenate([[0], strange.cumsum()])
    ends = np.cumsum(table["num_atoms"].to_numpy())
    return table.filter(count[ends] == count[ends - table["num_atoms"].to_numpy()])


def _check_enough(train_rows: pa.Table, val_rows: pa.Table, name: str) -> None:
    if len(train_rows) < MIN_LABELS or not len(val_rows):
        raise ValueError(
            f"{len(train_rows)} crystals to learn {name!r} from and {len(val_rows)} to check it "
            f"with: expected at least {MIN_LABELS} in split train and 1 in split val, of elements "
            "that the model has seen"
        )


def fits(table: pa.Table, model: ModelConfig) -> pa.ChunkedArray:
    """Which crystals of a table have no more orbits and atoms than the model makes."""
    return pc.and_(
        pc.less_equal(pc.list_value_length(table["orbit_numbers"]), model.max_orbits),
        pc.less_equal(table["num_atoms"], model.max_atoms),
    )


def _base_rows(
    seen: Bool[Tensor, "Z"], split: str, model: ModelConfig, name: str | None = None
) -> pa.Table:
    """Crystals like those the base was trained on, in random order."""
    table = known_rows(split)
    table = known_elements(table.filter(fits(table, model)), seen)
    if name in table.column_names and name not in CORE_SCHEMA.names:
        table = table.drop_columns([name])
    return table.take(np.random.default_rng(0).permutation(len(table)))


def _training_table(
    train_rows: pa.Table,
    val_rows: pa.Table,
    pool: pa.Table,
    properties: Sequence[PropertyConfig],
    options: FinetuneOptions,
) -> pa.Table:
    """Labelled rows, repeated, with base rows up to their share; labelled rows for validation."""
    repeats = math.ceil(MIN_ROWS / len(train_rows))
    share = options.base_share / (1 - options.base_share)
    num_base = round(repeats * len(train_rows) * share)
    names = [prop.name for prop in properties if prop.name not in CORE_SCHEMA.names]
    parts = [*[train_rows] * repeats, pool.slice(0, num_base), val_rows]
    return pa.concat_tables([_with_columns(part, names) for part in parts])


def _with_columns(table: pa.Table, names: Sequence[str]) -> pa.Table:
    """The core columns and the named ones, null where the table lacks them."""
    empty = pa.nulls(len(table), pa.float32())
    columns = {field.name: table[field.name].cast(field.type) for field in CORE_SCHEMA} | {
        name: table[name].cast(pa.float32()) if name in table.column_names else empty
        for name in names
    }
    return pa.table(columns)


def _mean_loss(model: CrystalDiffusion, table: pa.Table, shown: Sequence[str] = ()) -> float:
    """Weighted loss of the crystals of a table at one draw of noise, the same for every model."""
    data = OrbitDataset.from_table(table).to(model.device)
    shown_properties = [prop for prop in model.properties if prop.name in shown]
    rng = torch.Generator(model.device).manual_seed(0)
    order = torch.from_numpy(np.argsort(data.sort_key(), kind="stable"))
    total = 0.0
    for index in order.split(REPORT_BATCH):
        batch = data.batch(index.to(model.device), shown_properties)
        with torch.no_grad():
            losses = drawn_losses(model, batch.crystals, batch.conditions if shown else None, rng)
        weighted = (
            LOSSES.types * losses.types
            + LOSSES.coords * losses.coords
            + LOSSES.lattice * losses.lattice
        )
        total += weighted.sum().item()
    return total / len(data)
