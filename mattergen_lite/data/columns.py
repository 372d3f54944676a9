"""Property columns of packed crystals: those of the table and what follows from the structure."""

from dataclasses import fields
from typing import TypeVar

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from mattergen_lite.chemistry.elements import atomic_masses, herfindahl_indices
from mattergen_lite.properties import crystal_system_index
from mattergen_lite.tensors.geometry import cell_volume
from mattergen_lite.tensors.shapes import Float, Int

AnyPacked = TypeVar("AnyPacked", bound="Packed")
_GRAMS_PER_CM3 = 1.66053906660  # g/mol/Å³ in g/cm³


class Packed:
    """A dataclass of tensors that hold all crystals one after the other, and their `columns`."""

    def to(self: AnyPacked, device: torch.device | str) -> AnyPacked:
        """The same crystals on another device."""
        moved = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "columns"}
        return type(self)(
            **{name: value.to(device) for name, value in moved.items()},
            columns={name: column.to(device) for name, column in self.columns.items()},
        )


def starts(counts: Int[Tensor, "M"]) -> Int[Tensor, "M"]:
    """Where the part of each crystal begins in a packed tensor."""
    return counts.cumsum(0) - counts


def flat_column(table: pa.Table, name: str, dtype: torch.dtype) -> Tensor:
    """All numbers of a column of lists, one after the other."""
    values = table[name].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return torch.as_tensor(values.copy(), dtype=dtype)


def property_columns(
    table: pa.Table,
    atomic_numbers: Int[Tensor, "T"],
    multiplicity: Int[Tensor, "T"],
    counts: Int[Tensor, "M"],
    lattice: Float[Tensor, "M 3 3"],
    space_group: str,
) -> dict[str, Float[Tensor, "M"]]:
    """Every numeric column of a table, NaN where unknown, and what follows from the structures.

    Args:
        table: One row a crystal.
        atomic_numbers: Of all atoms, or orbits, of all crystals.
        multiplicity: How many atoms each stands for.
        counts: How many of them each crystal has.
        space_group: Name of its column, 0 or null where unknown.
    """
    columns = {
        field.name: torch.as_tensor(table[field.name].to_numpy().astype(np.float32))
        for field in table.schema
        if pa.types.is_floating(field.type) or pa.types.is_integer(field.type)
    }
    owner = torch.repeat_interleave(torch.arange(len(counts)), counts)

    def total(values: Tensor) -> Float[Tensor, "M"]:
        return torch.zeros(len(lattice)).index_add_(0, owner, values * multiplicity)

    masses = atomic_masses()[atomic_numbers]
    total_mass, volume = total(masses), cell_volume(lattice)
    columns |= {
        "density": total_mass * _GRAMS_PER_CM3 / volume,
        "volume_per_atom": volume / total(torch.ones_like(masses)),
        "hhi": total(masses * herfindahl_indices()[atomic_numbers]) / total_mass,
    }
    if (group := columns.get(space_group)) is not None:
        system = crystal_system_index(group.nan_to_num().long()).float()
        columns["crystal_system"] = torch.where(group > 0, system, torch.nan)
    return columns
