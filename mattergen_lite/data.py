"""Crystals for training: a packed table on one device, cut into batches of similar size.

The data order is a pure function of (seed, step): a run that was killed continues with the very
batch it would have seen, and the ranks of a distributed run share one global batch.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from mattergen_lite.config import DataConfig
from mattergen_lite.crystal import CrystalBatch, Share, node_mask
from mattergen_lite.elements import MAX_ATOMIC_NUMBER, atomic_masses, herfindahl_indices
from mattergen_lite.geometry import cell_volume
from mattergen_lite.properties import Conditions, Property, crystal_system
from mattergen_lite.shapes import Bool, Float, Int

EMBEDDED = "embedded"
_GRAMS_PER_CM3 = 1.66053906660  # g/mol/Å³ in g/cm³


@dataclass(frozen=True, kw_only=True)
class LabelledBatch:
    """What a training step sees."""

    crystals: CrystalBatch
    conditions: Conditions
    share: Share  # of the global batch

    def to(self, device: torch.device | str) -> "LabelledBatch":
        """The same batch on another device."""
        return replace(
            self, crystals=self.crystals.to(device), conditions=self.conditions.to(device)
        )


def embedded_table() -> Path:
    """Path of the Materials Project table inside the package."""
    with as_file(files("mattergen_lite") / "assets" / "mp_le20.parquet") as path:
        return path


def table_path(path: str | Path) -> Path:
    """The file behind a table's name: the one in the package if it is "embedded"."""
    return embedded_table() if str(path) == EMBEDDED else Path(path)


def table_hash(path: str | Path) -> str:
    """SHA-256 of a crystal table's file: the data's identity in provenance records."""
    return hashlib.sha256(table_path(path).read_bytes()).hexdigest()


def read_table(path: str | Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a crystal table, or the one in the package if `path` is "embedded".

    Raises:
        ValueError: If the file is missing or is not a crystal table.
    """
    source = table_path(path)
    try:
        return pq.read_table(source, columns=columns)
    except (OSError, pa.ArrowInvalid) as error:
        raise ValueError(
            f"cannot read crystal table {source}: {str(error).splitlines()[0]}"
        ) from None


class CrystalDataset:
    """M crystals of any size, concatenated, with their properties (NaN where unknown)."""

    def __init__(
        self,
        *,
        atomic_numbers: Int[Tensor, "A"],
        frac_coords: Float[Tensor, "A 3"],
        lattice: Float[Tensor, "M 3 3"],
        num_atoms: Int[Tensor, "M"],
        columns: Mapping[str, Float[Tensor, "M"]],
    ) -> None:
        self.atomic_numbers = atomic_numbers
        self.frac_coords = frac_coords
        self.lattice = lattice
        self.num_atoms = num_atoms
        self.columns = dict(columns)
        self.first_atom = torch.nn.functional.pad(num_atoms.cumsum(0), (1, -1))

    def __len__(self) -> int:
        return len(self.num_atoms)

    @classmethod
    def from_table(cls, table: pa.Table) -> "CrystalDataset":
        """Pack a crystal table; every numeric column becomes a property column."""

        def flat(name: str, dtype: torch.dtype) -> Tensor:
            values = table[name].combine_chunks().flatten().to_numpy(zero_copy_only=False)
            return torch.as_tensor(values.copy(), dtype=dtype)

        dataset = cls(
            atomic_numbers=flat("atomic_numbers", torch.long),
            frac_coords=flat("frac_coords", torch.float32).view(-1, 3),
            lattice=flat("lattice", torch.float32).view(-1, 3, 3),
            num_atoms=torch.as_tensor(table["num_atoms"].to_numpy().astype(np.int64)),
            columns={
                field.name: torch.as_tensor(table[field.name].to_numpy().astype(np.float32))
                for field in table.schema
                if pa.types.is_floating(field.type) or pa.types.is_integer(field.type)
            },
        )
        dataset.columns |= _computed_columns(dataset)
        return dataset

    def to(self, device: torch.device | str) -> "CrystalDataset":
        """The same crystals on another device."""
        return type(self)(
            atomic_numbers=self.atomic_numbers.to(device),
            frac_coords=self.frac_coords.to(device),
            lattice=self.lattice.to(device),
            num_atoms=self.num_atoms.to(device),
            columns={name: column.to(device) for name, column in self.columns.items()},
        )

    def crystals(self, index: Int[Tensor, "B"], width: int | None = None) -> CrystalBatch:
        """Gather crystals into one batch, padded to the largest or to a known `width`."""
        num_atoms = self.num_atoms[index]
        mask = node_mask(num_atoms, width)
        slots = torch.arange(mask.shape[1], device=mask.device)
        atoms = torch.where(mask, self.first_atom[index].unsqueeze(-1) + slots, 0)
        return CrystalBatch(
            atomic_numbers=self.atomic_numbers[atoms] * mask,
            frac_coords=self.frac_coords[atoms] * mask.unsqueeze(-1),
            lattice=self.lattice[index],
            mask=mask,
        )

    def batch(
        self,
        index: Int[Tensor, "B"],
        properties: Sequence[Property],
        width: int | None = None,
        share: Share | None = None,
    ) -> LabelledBatch:
        """Gather crystals with the values of the given properties.

        Args:
            index: Rows of the table.
            properties: What is known of each crystal besides its structure.
            width: Atom slots of a crystal, at least as many as the largest has; None: as many.
            share: Which crystals of a global batch these are; None: all.
        """
        crystals = self.crystals(index, width)
        values: dict[str, Tensor] = {}
        present: dict[str, Tensor] = {}
        for prop in properties:
            if prop.kind == "elements":
                values[prop.name] = element_sets(crystals)
                present[prop.name] = torch.ones_like(index, dtype=torch.bool)
            else:
                column = self.columns[prop.name][index]
                present[prop.name] = ~column.isnan()
                values[prop.name] = column.nan_to_num()
        return LabelledBatch(
            crystals=crystals,
            conditions=Conditions(values=values, present=present),
            share=share or Share.whole(len(crystals)),
        )


def element_sets(crystals: CrystalBatch) -> Float[Tensor, "B 101"]:
    """1 for every element that occurs in a crystal."""
    counts = torch.zeros(len(crystals), MAX_ATOMIC_NUMBER + 1, device=crystals.mask.device)
    counts.scatter_(1, crystals.atomic_numbers, 1.0)
    counts[:, 0] = 0
    return counts


def _computed_columns(dataset: CrystalDataset) -> dict[str, Float[Tensor, "M"]]:
    """Properties that follow from the structure itself."""
    owner = torch.repeat_interleave(torch.arange(len(dataset)), dataset.num_atoms)
    masses = atomic_masses()[dataset.atomic_numbers]
    total_mass = torch.zeros(len(dataset)).index_add_(0, owner, masses)
    hhi = torch.zeros(len(dataset)).index_add_(
        0, owner, masses * herfindahl_indices()[dataset.atomic_numbers]
    )
    volume = cell_volume(dataset.lattice)
    computed = {
        "density": total_mass * _GRAMS_PER_CM3 / volume,
        "volume_per_atom": volume / dataset.num_atoms,
        "hhi": hhi / total_mass,
    }
    if "space_group" in dataset.columns:
        known = dataset.columns["space_group"]
        computed["crystal_system"] = torch.where(
            known > 0, crystal_system(known.nan_to_num().long()).float(), torch.nan
        )
    return computed


def select_rows(table: pa.Table, splits: Sequence[str], config: DataConfig) -> pa.Table:
    """Rows of the named splits within the configured limits.

    Raises:
        ValueError: If nothing is left.
    """
    keep = pc.and_(
        pc.is_in(table["split"].cast(pa.string()), pa.array(list(splits))),
        pc.less_equal(table["num_atoms"], config.max_atoms),
    )
    if config.max_e_above_hull is not None:
        keep = pc.and_kleene(keep, pc.less_equal(table["e_above_hull"], config.max_e_above_hull))
    selected = table.filter(keep)
    if selected.num_rows == 0:
        raise ValueError(
            f"dataset {config.path} has no crystals in splits {', '.join(splits)} with at most "
            f"{config.max_atoms} atoms and e_above_hull <= {config.max_e_above_hull}"
        )
    return selected


def embedded_crystals(*splits: str) -> CrystalDataset:
    """Crystals of the embedded table's splits, such as "train", which is MP-20's."""
    return CrystalDataset.from_table(select_rows(read_table(EMBEDDED), splits, DataConfig()))


class BatchOrder:
    """Endless, reproducible batches of row numbers, sorted by size inside shuffled pools.

    Random batches of this data are half padding; sorting pools of `pool_batches` batches leaves a
    few per cent. Every row appears once an epoch; the batches of a pool come in random order.
    """

    def __init__(
        self, num_atoms: Int[Tensor, "M"], batch_size: int, pool_batches: int, seed: int
    ) -> None:
        self.num_atoms = num_atoms.cpu().numpy()
        self.batch_size = batch_size
        self.pool_batches = pool_batches
        self.seed = seed

    def batches(self, start: int = 0) -> Iterator[np.ndarray]:
        """Global batches number `start`, `start` + 1, ..."""
        number, skip = divmod(start, self.pool_batches)
        while True:
            yield from self._pool(number)[skip:]
            number, skip = number + 1, 0

    def _pool(self, number: int) -> np.ndarray:
        size = self.batch_size * self.pool_batches
        rows = np.concatenate(list(self._rows(number * size, (number + 1) * size)))
        by_size = rows[np.argsort(self.num_atoms[rows], kind="stable")]
        order = np.random.default_rng([self.seed, 1, number]).permutation(self.pool_batches)
        return by_size.reshape(self.pool_batches, self.batch_size)[order]

    def _rows(self, start: int, stop: int) -> Iterator[np.ndarray]:
        """The slice [start, stop) of the concatenated permutations of all epochs."""
        count = len(self.num_atoms)
        for epoch in range(start // count, (stop - 1) // count + 1):
            permutation = np.random.default_rng([self.seed, 0, epoch]).permutation(count)
            yield permutation[max(start - epoch * count, 0) : stop - epoch * count]


@dataclass(frozen=True)
class BatchShares:
    """What one process sees of global batches of one table.

    It takes every `world_size`-th crystal and pads it as wide as the largest of the global batch,
    so that all processes work on the same shapes.
    """

    dataset: CrystalDataset
    num_atoms: np.ndarray  # of every crystal, in memory: widths must not be asked of a GPU
    properties: tuple[Property, ...]
    rank: int
    world_size: int

    @classmethod
    def of(
        cls, dataset: CrystalDataset, properties: tuple[Property, ...], trainer: pl.Trainer
    ) -> "BatchShares":
        """The share of this process in a trainer, the table on its device."""
        return cls(
            dataset.to(trainer.strategy.root_device),
            dataset.num_atoms.cpu().numpy(),
            properties,
            trainer.global_rank,
            trainer.world_size,
        )

    def batch(self, rows: np.ndarray) -> LabelledBatch:
        """This process's share of a global batch of these rows."""
        mine = slice(self.rank, None, self.world_size)
        return self.dataset.batch(
            _on_device(rows[mine], self.dataset.lattice.device),
            self.properties,
            width=int(self.num_atoms[rows].max()),
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

    def __init__(self, config: DataConfig, properties: Sequence[Property], seed: int) -> None:
        super().__init__()
        self.config = config
        self.properties = tuple(properties)
        self.seed = seed
        table = read_table(config.path)
        self.train = CrystalDataset.from_table(select_rows(table, config.train_splits, config))
        self.val = CrystalDataset.from_table(select_rows(table, config.val_splits, config))

    def train_dataloader(self) -> DataLoader:
        """Endless batches, beginning with the one that follows the last optimiser step."""
        trainer = self.trainer
        order = BatchOrder(
            self.train.num_atoms,
            self.config.batch_size * trainer.world_size,
            self.config.pool_batches,
            self.seed,
        )
        shares = BatchShares.of(self.train, self.properties, trainer)
        return DataLoader(BatchStream(shares, order, trainer.global_step), batch_size=None)

    def val_dataloader(self) -> DataLoader:
        """Every validation crystal of elements that training saw, by size; this rank's share."""
        shares = BatchShares.of(self.val, self.properties, self.trainer)
        rows = torch.argsort(self.val.num_atoms, stable=True)
        rows = rows[self._has_known_elements()[rows]].numpy()
        if len(rows) < shares.world_size:  # nothing to share out: all do the same, the mean stays
            shares = replace(shares, rank=0, world_size=1)
        size = self.config.batch_size * shares.world_size
        parts = [rows[start : start + size] for start in range(0, len(rows), size)]
        batches = [shares.batch(part) for part in parts if len(part) > shares.rank]
        return DataLoader(batches, batch_size=None)

    def _has_known_elements(self) -> Bool[Tensor, "M"]:
        """False for validation crystals with an element that training never saw: infinite loss."""
        strange = ~torch.isin(self.val.atomic_numbers, self.train.atomic_numbers.unique())
        owner = torch.repeat_interleave(torch.arange(len(self.val)), self.val.num_atoms)
        return torch.zeros(len(self.val)).index_add_(0, owner, strange.float()) == 0

    def transfer_batch_to_device(
        self, batch: LabelledBatch, device: torch.device, dataloader_idx: int
    ) -> LabelledBatch:
        """Data is resident; Lightning's own transfer refuses frozen dataclasses."""
        return batch.to(device)
