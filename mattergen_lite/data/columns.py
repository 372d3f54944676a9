"""Property columns of packed crystals: those of the table and what follows from the structure."""

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from mattergen_lite.elements import atomic_masses, herfindahl_indices
from mattergen_lite.geometry import cell_volume
from mattergen_lite.properties import crystal_system
from mattergen_lite.shapes import Float, Int

_GRAMS_PER_CM3 = 1.66053906660  # g/mol/Å³ in g/cm³


def flat_column(table: pa.Table, name: str, dtype: torch.dtype) -> Tensor:
    """All numbers of a column of lists, one after the other."""
    values = table[name].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return torch.as_tensor(values.copy(), dtype=dtype)


def property_columns(table: pa.Table) -> dict[str, Float[Tensor, "M"]]:
    """Every numeric column of a table, NaN where unknown."""
    return {
        field.name: torch.as_tensor(table[field.name].to_numpy().astype(np.float32))
        for field in table.schema
        if pa.types.is_floating(field.type) or pa.types.is_integer(field.type)
    }


def computed_columns(
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
