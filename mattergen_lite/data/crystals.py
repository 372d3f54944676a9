"""Crystals as atoms, packed: what the judge compares sets with."""

from collections.abc import Mapping
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from mattergen_lite.crystal import CrystalBatch, node_mask
from mattergen_lite.data.columns import computed_columns, flat_column, property_columns
from mattergen_lite.data.table import EMBEDDED, read_table
from mattergen_lite.shapes import Float, Int


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
        flat = partial(flat_column, table)
        dataset = cls(
            atomic_numbers=flat("atomic_numbers", torch.long),
            frac_coords=flat("frac_coords", torch.float32).view(-1, 3),
            lattice=flat("lattice", torch.float32).view(-1, 3, 3),
            num_atoms=torch.as_tensor(table["num_atoms"].to_numpy().astype(np.int64)),
            columns=property_columns(table),
        )
        owner = torch.repeat_interleave(torch.arange(len(dataset)), dataset.num_atoms)
        dataset.columns |= computed_columns(
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


def embedded_crystals(*splits: str) -> CrystalDataset:
    """Crystals of the embedded table's splits, such as "train", which is MP-20's."""
    table = read_table(EMBEDDED)
    return CrystalDataset.from_table(
        table.filter(pc.is_in(table["split"].cast(pa.string()), pa.array(list(splits))))
    )
