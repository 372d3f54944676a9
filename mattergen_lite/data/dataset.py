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
from mattergen_lite.symmetry.columns import ORBIT_TYPES
from mattergen_lite.symmetry.orbits import NUM_ROTATION_TYPES, Orbits
from mattergen_lite.symmetry.space_groups import space_group_tables
from mattergen_lite.symmetry.templates import OrbitCrystals, Templates

EMBEDDED = "embedded"
# Constructor arguments of `OrbitDataset` that are tensors.
_ORBIT_TENSORS = (
    "space_group",
    "lattice",
    "num_orbits",
    "atomic_numbers",
    "frac_coords",
    "multiplicity",
    "basis",
    "rotation_types",
    "operations",
)
_GRAMS_PER_CM3 = 1.66053906660  # g/mol/Å³ in g/cm³


@dataclass(frozen=True, kw_only=True)
class LabelledBatch:
    """What a training step sees."""

    crystals: OrbitCrystals
    conditions: Conditions
    share: Share  # of the global batch

    def to(self, device: torch.device | str) -> "LabelledBatch":
        """The same batch on another device."""
        return replace(
            self, crystals=self.crystals.to(device), conditions=self.conditions.to(device)
        )


def embedded_table() -> Path:
    """Path of the Materials Project table inside the package."""
    with as_file(files("mattergen_lite") / "assets" / "mp.parquet") as path:
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
        return pq.read_table(source, columns=None if columns is None else list(columns))
    except (OSError, pa.ArrowException) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(f"cannot read crystal table {source}: {reason}") from None


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
            columns=_property_columns(table),
        )
        owner = torch.repeat_interleave(torch.arange(len(dataset)), dataset.num_atoms)
        dataset.columns |= _computed_columns(
            dataset.atomic_numbers,
            torch.ones_like(dataset.atomic_numbers),
            owner,
            dataset.lattice,
            dataset.columns.get("space_group"),
        )
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


def element_sets(atomic_numbers: Int[Tensor, "B _"]) -> Float[Tensor, "B 101"]:
    """1 for every element that occurs among the atoms or orbits of a crystal."""
    counts = torch.zeros(len(atomic_numbers), MAX_ATOMIC_NUMBER + 1, device=atomic_numbers.device)
    counts.scatter_(1, atomic_numbers, 1.0)
    counts[:, 0] = 0
    return counts


def _property_columns(table: pa.Table) -> dict[str, Float[Tensor, "M"]]:
    """Every numeric column of a table, NaN where unknown."""
    return {
        field.name: torch.as_tensor(table[field.name].to_numpy().astype(np.float32))
        for field in table.schema
        if pa.types.is_floating(field.type) or pa.types.is_integer(field.type)
    }


def _computed_columns(
    atomic_numbers: Int[Tensor, "T"],
    multiplicity: Int[Tensor, "T"],
    owner: Int[Tensor, "T"],
    lattice: Float[Tensor, "M 3 3"],
    space_group: Float[Tensor, "M"] | None,
) -> dict[str, Float[Tensor, "M"]]:
    """Properties that follow from the structure itself.

    Args:
        atomic_numbers: Of all atoms, or orbits, of all crystals.
        multiplicity: How many atoms each stands for.
        owner: To which crystal it belongs.
        lattice: Of every crystal.
        space_group: Of every crystal, 0 or NaN where unknown.
    """

    def total(values: Tensor) -> Float[Tensor, "M"]:
        return torch.zeros(len(lattice)).index_add_(0, owner, values * multiplicity)

    masses = atomic_masses()[atomic_numbers]
    total_mass, volume = total(masses), cell_volume(lattice)
    computed = {
        "density": total_mass * _GRAMS_PER_CM3 / volume,
        "volume_per_atom": volume / total(torch.ones_like(masses)),
        "hhi": total(masses * herfindahl_indices()[atomic_numbers]) / total_mass,
    }
    if space_group is not None:
        computed["crystal_system"] = torch.where(
            space_group > 0, crystal_system(space_group.nan_to_num().long()).float(), torch.nan
        )
    return computed


class OrbitDataset:
    """M crystals of any size as orbits, concatenated, with their properties (NaN: unknown)."""

    def __init__(  # noqa: PLR0913 (one argument a packed column)
        self,
        *,
        space_group: Int[Tensor, "M"],
        lattice: Float[Tensor, "M 3 3"],
        num_orbits: Int[Tensor, "M"],
        atomic_numbers: Int[Tensor, "T"],
        frac_coords: Float[Tensor, "T 3"],
        multiplicity: Int[Tensor, "T"],
        basis: Float[Tensor, "T 3 3"],
        rotation_types: Float[Tensor, "T K"],
        operations: Int[Tensor, "A"],
        columns: Mapping[str, Float[Tensor, "M"]],
    ) -> None:
        self.space_group = space_group
        self.lattice = lattice
        self.num_orbits = num_orbits
        self.atomic_numbers = atomic_numbers
        self.frac_coords = frac_coords
        self.multiplicity = multiplicity
        self.basis = basis
        self.rotation_types = rotation_types
        self.operations = operations
        self.columns = dict(columns)
        device = space_group.device
        self.first_orbit = torch.nn.functional.pad(num_orbits.cumsum(0), (1, -1))
        owner = torch.repeat_interleave(torch.arange(len(self), device=device), num_orbits)
        self.num_atoms = torch.zeros_like(num_orbits).index_add_(0, owner, multiplicity)
        self.first_atom = torch.nn.functional.pad(self.num_atoms.cumsum(0), (1, -1))
        tables = space_group_tables()
        self._rotations = torch.as_tensor(tables["rotations"]).float().to(device)
        self._translations = torch.as_tensor(tables["translations"]).float().to(device)

    def __len__(self) -> int:
        return len(self.space_group)

    @classmethod
    def from_table(cls, table: pa.Table) -> "OrbitDataset":
        """Pack the orbit columns of a crystal table; numeric columns become properties.

        Raises:
            ValueError: If the table has no such columns.
        """

        def flat(name: str, dtype: torch.dtype) -> Tensor:
            values = table[name].combine_chunks().flatten().to_numpy(zero_copy_only=False)
            return torch.as_tensor(values.copy(), dtype=dtype)

        if "orbit_numbers" not in table.column_names:
            raise ValueError(
                "this crystal table has no orbits, which older versions did not write: make it "
                "again with `data prepare`"
            )
        counts = table["orbit_numbers"].combine_chunks().value_lengths().to_numpy()
        kinds = flat("orbit_rotation_types", torch.float).view(-1, NUM_ROTATION_TYPES)
        dataset = cls(
            space_group=torch.as_tensor(table["orbit_space_group"].to_numpy().astype(np.int64)),
            lattice=flat("orbit_lattice", torch.float).view(-1, 3, 3),
            num_orbits=torch.as_tensor(counts.astype(np.int64)),
            atomic_numbers=flat("orbit_numbers", torch.long),
            frac_coords=flat("orbit_coords", torch.float).view(-1, 3),
            multiplicity=flat("orbit_multiplicities", torch.long),
            basis=flat("orbit_basis", torch.float).view(-1, 3, 3),
            rotation_types=kinds / kinds.sum(-1, keepdim=True),
            operations=flat("orbit_operations", torch.long),
            columns=_property_columns(table),
        )
        dataset.columns |= _computed_columns(
            dataset.atomic_numbers,
            dataset.multiplicity,
            torch.repeat_interleave(torch.arange(len(dataset)), dataset.num_orbits),
            dataset.lattice,
            dataset.space_group.float(),
        )
        return dataset

    def to(self, device: torch.device | str) -> "OrbitDataset":
        """The same crystals on another device."""
        return type(self)(
            **{name: getattr(self, name).to(device) for name in _ORBIT_TENSORS},
            columns={name: column.to(device) for name, column in self.columns.items()},
        )

    def crystals(
        self, index: Int[Tensor, "B"], widths: tuple[int, int] | None = None
    ) -> OrbitCrystals:
        """Gather crystals into one batch.

        Args:
            index: Rows of the table.
            widths: Orbit and atom slots of a crystal; None: as many as the largest has.
        """
        most_orbits, most_atoms = widths or (None, None)
        mask = node_mask(self.num_orbits[index], most_orbits)
        atom_mask = node_mask(self.num_atoms[index], most_atoms)
        slots = torch.arange(mask.shape[1], device=mask.device)
        orbits = torch.where(mask, self.first_orbit[index].unsqueeze(-1) + slots, 0)
        places = torch.arange(atom_mask.shape[1], device=mask.device)
        atoms = torch.where(atom_mask, self.first_atom[index].unsqueeze(-1) + places, 0)
        multiplicity = self.multiplicity[orbits] * mask
        # Atom number a belongs to the first orbit whose last atom is not before it.
        orbit = torch.searchsorted(
            multiplicity.cumsum(-1), places.expand_as(atoms).contiguous(), right=True
        )
        numbers = self.atomic_numbers[orbits] * mask
        space_group = self.space_group[index]
        operation = self.operations[atoms]
        groups = space_group.unsqueeze(-1).expand_as(operation)
        templates = Templates(
            space_group=space_group,
            multiplicity=multiplicity,
            origin=self.frac_coords[orbits] * mask.unsqueeze(-1),
            basis=self.basis[orbits] * mask[..., None, None],
            rotation_types=self.rotation_types[orbits] * mask.unsqueeze(-1),
            orbit=torch.where(atom_mask, orbit, mask.shape[1]),
            rotations=self._rotations[groups, operation] * atom_mask[..., None, None],
            translations=self._translations[groups, operation] * atom_mask.unsqueeze(-1),
            element_class=slots.expand_as(numbers),
            classes_known=torch.zeros_like(space_group, dtype=torch.bool),
        )
        return OrbitCrystals(
            templates=templates, atomic_numbers=numbers, lattice=self.lattice[index]
        )

    def sizes(self) -> Int[np.ndarray, "M 2"]:
        """Orbits and atoms of every crystal."""
        return torch.stack([self.num_orbits, self.num_atoms], dim=-1).cpu().numpy()

    def sort_key(self) -> Int[np.ndarray, "M"]:
        """What batches of similar size are sorted by: orbits, then atoms."""
        return self.sizes() @ np.array([1000, 1])

    def orbits(self, row: int) -> Orbits:
        """One crystal in double precision, for whoever works on single crystals."""
        orbit = slice(int(self.first_orbit[row]), int(self.first_orbit[row] + self.num_orbits[row]))
        atom = slice(int(self.first_atom[row]), int(self.first_atom[row] + self.num_atoms[row]))
        ends = self.multiplicity[orbit].cumsum(0).tolist()[:-1]
        return Orbits(
            space_group=int(self.space_group[row]),
            lattice=self.lattice[row].double().numpy(),
            atomic_numbers=self.atomic_numbers[orbit].numpy(),
            frac_coords=self.frac_coords[orbit].double().numpy(),
            operations=tuple(np.split(self.operations[atom].numpy(), ends)),
        )

    def batch(
        self,
        index: Int[Tensor, "B"],
        properties: Sequence[Property],
        widths: tuple[int, int] | None = None,
        share: Share | None = None,
    ) -> LabelledBatch:
        """Gather crystals with the values of the given properties.

        Args:
            index: Rows of the table.
            properties: What is known of each crystal besides its structure.
            widths: Orbit and atom slots of a crystal; None: as many as the largest has.
            share: Which crystals of a global batch these are; None: all.
        """
        crystals = self.crystals(index, widths)
        values: dict[str, Tensor] = {}
        present: dict[str, Tensor] = {}
        for prop in properties:
            if prop.kind == "elements":
                values[prop.name] = element_sets(crystals.atomic_numbers)
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


def select_rows(table: pa.Table, splits: Sequence[str], config: DataConfig) -> pa.Table:
    """Rows of the named splits within the configured limits.

    Raises:
        ValueError: If nothing is left.
    """
    keep = pc.and_(
        pc.is_in(table["split"].cast(pa.string()), pa.array(list(splits))),
        pc.less_equal(table["num_atoms"], config.max_atoms),
    )
    if "orbit_numbers" in table.column_names:
        num_orbits = pc.list_value_length(table["orbit_numbers"])
        keep = pc.and_(keep, pc.less_equal(num_orbits, config.max_orbits))
    if config.max_e_above_hull is not None:
        keep = pc.and_kleene(keep, pc.less_equal(table["e_above_hull"], config.max_e_above_hull))
    selected = table.filter(keep)
    if selected.num_rows == 0:
        raise ValueError(
            f"dataset {config.path} has no crystals in splits {', '.join(splits)} with at most "
            f"{config.max_orbits} orbits, {config.max_atoms} atoms and e_above_hull <= "
            f"{config.max_e_above_hull}"
        )
    return selected


def embedded_crystals(*splits: str) -> CrystalDataset:
    """Crystals of the embedded table's splits, such as "train", which is MP-20's."""
    table = read_table(EMBEDDED)
    return CrystalDataset.from_table(
        table.filter(pc.is_in(table["split"].cast(pa.string()), pa.array(list(splits))))
    )


def embedded_orbits(*, max_orbits: int, max_atoms: int, max_e_above_hull: float) -> OrbitDataset:
    """Crystals of the embedded table that may be trained on, near the hull, as orbits.

    Those are the splits train, val and extra; what is or may be in MP-20's test split is not there.
    """
    limits = DataConfig(
        max_orbits=max_orbits, max_atoms=max_atoms, max_e_above_hull=max_e_above_hull
    )
    table = select_rows(
        read_table(EMBEDDED, ["split", "num_atoms", "e_above_hull", *ORBIT_TYPES]),
        ("train", "val", "extra"),
        limits,
    )
    return OrbitDataset.from_table(table)


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
    """What one process sees of global batches of one table.

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
        table = read_table(config.path)
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
