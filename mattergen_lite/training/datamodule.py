"""Batches of crystals of similar size, in an order that is a function of (seed, step).

A run that was killed continues with the very batch it would have seen, and the ranks of a
distributed run share one global batch.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from mattergen_lite.config import DataConfig
from mattergen_lite.data.dataset import LabelledBatch, OrbitDataset
from mattergen_lite.data.table import read_crystal_table, select_rows
from mattergen_lite.properties import Property
from mattergen_lite.tensors.crystal import Share
from mattergen_lite.tensors.shapes import Bool, Int


class BatchOrder:
    """Endless, reproducible batches of row numbers, sorted by size inside shuffled pools.

    Random batches of this data are half padding; sorting pools of `pool_batches` batches leaves a
    few per cent. Every crystal appears once an epoch, now and then in a view with less symmetry;
    the batches of a pool come in random order.
    """

    def __init__(
        self,
        size: Int[np.ndarray, "V"],
        batch_size: int,
        pool_batches: int,
        seed: int,
        *,
        num_crystals: int | None = None,
        views: Mapping[int, int] | None = None,
    ) -> None:
        """Args:
        size: By which rows are sorted, of crystals and then of their views.
        batch_size: Crystals of a global batch.
        pool_batches: Batches that are sorted together.
        seed: Of the order.
        num_crystals: How many rows are crystals; None: all.
        views: Row of a crystal -> row of its view, which is shown every other time.
        """
        self.size = np.asarray(size)
        self.batch_size = batch_size
        self.pool_batches = pool_batches
        self.seed = seed
        self.view = np.arange(num_crystals or len(self.size))
        for crystal, view in (views or {}).items():
            self.view[crystal] = view

    def batches(self, start: int = 0) -> Iterator[np.ndarray]:
        """Global batches number `start`, `start` + 1, ..."""
        number, skip = divmod(start, self.pool_batches)
        while True:
            yield from self._pool(number)[skip:]
            number, skip = number + 1, 0

    def _pool(self, number: int) -> np.ndarray:
        size = self.batch_size * self.pool_batches
        rows = np.concatenate(list(self._rows(number * size, (number + 1) * size)))
        by_size = rows[np.argsort(self.size[rows], kind="stable")]
        order = np.random.default_rng([self.seed, 1, number]).permutation(self.pool_batches)
        return by_size.reshape(self.pool_batches, self.batch_size)[order]

    def _rows(self, start: int, stop: int) -> Iterator[np.ndarray]:
        """The slice [start, stop) of the concatenated permutations of all epochs."""
        count = len(self.view)
        for epoch in range(start // count, (stop - 1) // count + 1):
            rng = np.random.default_rng([self.seed, 0, epoch])
            permutation = rng.permutation(count)
            shown = np.where(rng.random(count) < 0.5, self.view, np.arange(count))
            yield shown[permutation[max(start - epoch * count, 0) : stop - epoch * count]]


@dataclass(frozen=True)
class BatchShares:
    """Part of every global batch of one table that one process trains on.

    It takes every `world_size`-th crystal and pads it as wide as the largest of the global batch,
    so that all processes work on the same shapes.
    """

    dataset: OrbitDataset
    sizes: np.ndarray  # orbits and atoms of every row, in memory: a GPU must not be asked
    properties: tuple[Property, ...]
    rank: int
    world_size: int

    @classmethod
    def of(
        cls, dataset: OrbitDataset, properties: tuple[Property, ...], trainer: pl.Trainer
    ) -> "BatchShares":
        """The share of this process in a trainer, the table on its device."""
        return cls(
            dataset.to(trainer.strategy.root_device),
            dataset.sizes(),
            properties,
            trainer.global_rank,
            trainer.world_size,
        )

    def batch(self, rows: np.ndarray) -> LabelledBatch:
        """This process's share of a global batch of these rows."""
        mine = slice(self.rank, None, self.world_size)
        most_orbits, most_atoms = self.sizes[rows].max(axis=0).tolist()
        return self.dataset.batch(
            _on_device(rows[mine], self.dataset.lattice.device),
            self.properties,
            widths=(most_orbits, most_atoms),
            share=Share(mine, len(rows)),
        )


def _on_device(rows: np.ndarray, device: torch.device) -> Int[Tensor, "B"]:
    """Row numbers on the device; copied from pinned memory, which no process has to wait for."""
    index = torch.as_tensor(rows)
    return index.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else index


@dataclass(frozen=True)
class BatchStream(IterableDataset):
    """Endless batches from a given step on."""

    shares: BatchShares
    order: BatchOrder
    start: int

    def __iter__(self) -> Iterator[LabelledBatch]:
        return map(self.shares.batch, self.order.batches(self.start))


class CrystalDataModule(pl.LightningDataModule):
    """Training and validation crystals, resident on the training device."""

    def __init__(
        self, config: DataConfig, properties: Sequence[Property], seed: int, views: pa.Table | None
    ) -> None:
        """Args:
        config: Which crystals, and batches of how many.
        properties: What is shown of them besides their structure.
        seed: Of the order.
        views: Orbit columns of the same crystals with less symmetry, and the `row` of each.
        """
        super().__init__()
        self.config = config
        self.properties = tuple(properties)
        self.seed = seed
        table = read_crystal_table(config.path)
        train = select_rows(table, config.train_splits, config)
        self.num_train = len(train)
        self.views: dict[int, int] = {}
        if views is not None:
            rows = views["row"].to_pylist()
            self.views = {row: self.num_train + number for number, row in enumerate(rows)}
            train = pa.concat_tables([train, with_view_columns(train, views)])
        self.train = OrbitDataset.from_table(train)
        self.val = OrbitDataset.from_table(select_rows(table, config.val_splits, config))

    def train_dataloader(self) -> DataLoader:
        """Endless batches, beginning with the one that follows the last optimiser step."""
        trainer = self.trainer
        order = BatchOrder(
            self.train.sort_key(),
            self.config.batch_size * trainer.world_size,
            self.config.pool_batches,
            self.seed,
            num_crystals=self.num_train,
            views=self.views,
        )
        shares = BatchShares.of(self.train, self.properties, trainer)
        return DataLoader(BatchStream(shares, order, trainer.global_step), batch_size=None)

    def val_dataloader(self) -> DataLoader:
        """Every validation crystal of elements that training saw, by size; this rank's share."""
        shares = BatchShares.of(self.val, self.properties, self.trainer)
        rows = np.argsort(self.val.sort_key(), kind="stable")
        rows = rows[self._has_known_elements()[rows].numpy()]
        if len(rows) < shares.world_size:  # nothing to share out: all do the same, the mean stays
            shares = replace(shares, rank=0, world_size=1)
        size = self.config.batch_size * shares.world_size
        parts = [rows[start : start + size] for start in range(0, len(rows), size)]
        batches = [shares.batch(part) for part in parts if len(part) > shares.rank]
        return DataLoader(batches, batch_size=None)

    def _has_known_elements(self) -> Bool[Tensor, "M"]:
        """False for validation crystals with an element that training never saw: infinite loss."""
        strange = ~torch.isin(self.val.atomic_numbers, self.train.atomic_numbers.unique())
        owner = torch.repeat_interleave(torch.arange(len(self.val)), self.val.num_orbits)
        return torch.zeros(len(self.val)).index_add_(0, owner, strange.float()) == 0

    def transfer_batch_to_device(
        self, batch: LabelledBatch, device: torch.device, dataloader_idx: int
    ) -> LabelledBatch:
        """Data is resident; Lightning's own transfer refuses frozen dataclasses."""
        return batch.to(device)


def with_view_columns(table: pa.Table, views: pa.Table) -> pa.Table:
    """Rows of a table, one for each view, with the orbits of the view in place of their own."""
    rows = table.take(views["row"])
    for name in views.column_names:
        if name != "row":
            rows = rows.set_column(rows.schema.get_field_index(name), name, views[name])
    return rows
