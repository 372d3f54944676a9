"""Crystals as atoms, packed: what the judge compares sets with."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from mattergen_lite.data.columns import Packed, flat_column, property_columns, starts
from mattergen_lite.data.materials import known_rows
from mattergen_lite.tensors.crystal import CrystalBatch, node_mask
from mattergen_lite.tensors.shapes import Float, Int


@dataclass(frozen=True, kw_only=True, eq=False)
class CrystalDataset(Packed):
    """M crystals of any size, concatenated, with their properties (NaN where unknown)."""

    atomic_numbers: Int[Tensor, "A"]
    frac_coords: Float[Tensor, "A 3"]
    lattice: Float[Tensor, "M 3 3"]
    num_atoms: Int[Tensor, "M"]
    columns: Mapping[str, Float[Tensor, "M"]]

    def __len__(self) -> int:
        return len(self.num_atoms)

    @cached_property
    def first_atom(self) -> Int[Tensor, "M"]:
        """Where the atoms of each crystal begin."""
        return starts(self.num_atoms)

    @classmethod
    def from_table(cls, table: pa.Table) -> "CrystalDataset":
        """Pack a crystal table; every numeric column becomes a property column."""
        numbers = flat_column(table, "atomic_numbers", torch.long)
        lattice = flat_column(table, "lattice", torch.float32).view(-1, 3, 3)
        num_atoms = torch.as_tensor(table["num_atoms"].to_numpy().astype(np.int64))
        return cls(
            atomic_numbers=numbers,
            frac_coords=flat_column(table, "frac_coords", torch.float32).view(-1, 3),
            lattice=lattice,
            num_atoms=num_atoms,
            columns=property_columns(
                table, numbers, torch.ones_like(numbers), num_atoms, lattice, "space_group"
            ),
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
    return CrystalDataset.from_table(known_rows(*splits))
