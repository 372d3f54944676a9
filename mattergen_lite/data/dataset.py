"""Crystals for training as orbits, packed on one device, from which batches are gathered."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from mattergen_lite.chemistry.elements import MAX_ATOMIC_NUMBER
from mattergen_lite.config import DataConfig
from mattergen_lite.data.columns import Packed, flat_column, property_columns, starts
from mattergen_lite.data.table import EMBEDDED, UNITS, read_crystal_table, select_rows
from mattergen_lite.properties import Conditions, Property
from mattergen_lite.symmetry.columns import ORBIT_TYPES
from mattergen_lite.symmetry.orbits import NUM_ROTATION_TYPES, Orbits
from mattergen_lite.symmetry.space_groups import space_group_tables
from mattergen_lite.symmetry.templates import OrbitCrystals, Templates
from mattergen_lite.tensors.crystal import Share, node_mask
from mattergen_lite.tensors.shapes import Float, Int


@dataclass(frozen=True, kw_only=True)
class LabelledBatch:
    """Crystals of a training step, their properties and their part of the global batch."""

    crystals: OrbitCrystals
    conditions: Conditions
    share: Share  # of the global batch

    def to(self, device: torch.device | str) -> "LabelledBatch":
        """The same batch on another device."""
        return replace(
            self, crystals=self.crystals.to(device), conditions=self.conditions.to(device)
        )


def element_sets(atomic_numbers: Int[Tensor, "B _"]) -> Float[Tensor, "B 101"]:
    """1 for every element that occurs among the atoms or orbits of a crystal."""
    counts = torch.zeros(len(atomic_numbers), MAX_ATOMIC_NUMBER + 1, device=atomic_numbers.device)
    counts.scatter_(1, atomic_numbers, 1.0)
    counts[:, 0] = 0
    return counts


@dataclass(frozen=True, kw_only=True, eq=False)
class OrbitDataset(Packed):
    """M crystals of any size as orbits, concatenated, with their properties (NaN: unknown)."""

    space_group: Int[Tensor, "M"]
    lattice: Float[Tensor, "M 3 3"]
    num_orbits: Int[Tensor, "M"]
    atomic_numbers: Int[Tensor, "T"]
    frac_coords: Float[Tensor, "T 3"]
    multiplicity: Int[Tensor, "T"]
    basis: Float[Tensor, "T 3 3"]
    rotation_types: Float[Tensor, "T K"]
    operations: Int[Tensor, "A"]
    columns: Mapping[str, Float[Tensor, "M"]]

    def __len__(self) -> int:
        return len(self.space_group)

    @cached_property
    def first_orbit(self) -> Int[Tensor, "M"]:
        """Where the orbits of each crystal begin."""
        return starts(self.num_orbits)

    @cached_property
    def num_atoms(self) -> Int[Tensor, "M"]:
        """Atoms of each crystal."""
        rows = torch.arange(len(self), device=self.space_group.device)
        owner = torch.repeat_interleave(rows, self.num_orbits)
        return torch.zeros_like(self.num_orbits).index_add_(0, owner, self.multiplicity)

    @cached_property
    def first_atom(self) -> Int[Tensor, "M"]:
        """Where the atoms of each crystal begin."""
        return starts(self.num_atoms)

    @cached_property
    def _group_operations(self) -> tuple[Tensor, Tensor]:
        """Rotations and translations of all space groups."""
        tables, device = space_group_tables(), self.space_group.device
        rotations, translations = (
            torch.as_tensor(tables[name]).float().to(device)
            for name in ("rotations", "translations")
        )
        return rotations, translations

    @classmethod
    def from_table(cls, table: pa.Table) -> "OrbitDataset":
        """Pack the orbit columns of a crystal table; numeric columns become properties.

        Raises:
            ValueError: If the table has no such columns.
        """
        flat = partial(flat_column, table)
        if "orbit_numbers" not in table.column_names:
            raise ValueError(
                "this crystal table has no orbits, which older versions did not write: make it "
                "again with `data prepare`"
            )
        counts = table["orbit_numbers"].combine_chunks().value_lengths().to_numpy()
        counts = torch.as_tensor(counts.astype(np.int64))
        lattice = flat("orbit_lattice", torch.float).view(-1, 3, 3)
        numbers = flat("orbit_numbers", torch.long)
        multiplicity = flat("orbit_multiplicities", torch.long)
        kinds = flat("orbit_rotation_types", torch.float).view(-1, NUM_ROTATION_TYPES)
        return cls(
            space_group=torch.as_tensor(table["orbit_space_group"].to_numpy().astype(np.int64)),
            lattice=lattice,
            num_orbits=counts,
            atomic_numbers=numbers,
            frac_coords=flat("orbit_coords", torch.float).view(-1, 3),
            multiplicity=multiplicity,
            basis=flat("orbit_basis", torch.float).view(-1, 3, 3),
            rotation_types=kinds / kinds.sum(-1, keepdim=True),
            operations=flat("orbit_operations", torch.long),
            columns=property_columns(
                table, numbers, multiplicity, counts, lattice, "orbit_space_group"
            ),
        )

    def crystals(
        self, index: Int[Tensor, "B"], widths: tuple[int, int] | None = None
    ) -> OrbitCrystals:
        """Gather crystals into one batch; `widths` are orbit and atom slots of each."""
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
        rotations, translations = self._group_operations
        templates = Templates(
            space_group=space_group,
            multiplicity=multiplicity,
            origin=self.frac_coords[orbits] * mask.unsqueeze(-1),
            basis=self.basis[orbits] * mask[..., None, None],
            rotation_types=self.rotation_types[orbits] * mask.unsqueeze(-1),
            orbit=torch.where(atom_mask, orbit, mask.shape[1]),
            rotations=rotations[groups, operation] * atom_mask[..., None, None],
            translations=translations[groups, operation] * atom_mask.unsqueeze(-1),
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
        """Gather crystals of these rows with the values of the given properties.

        `widths` are orbit and atom slots, those of the largest crystal by default; `share` says
        which crystals of a global batch these are, all by default.
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


def shipped_orbits(
    name: str, *, max_orbits: int, max_atoms: int, max_e_above_hull: float
) -> OrbitDataset:
    """Crystals of a table in the package as orbits, near the hull, outside MP-20's test split.

    Raises:
        ValueError: If no crystal is so small.
    """
    limits = DataConfig(
        max_orbits=max_orbits, max_atoms=max_atoms, max_e_above_hull=max_e_above_hull
    )
    units = UNITS if name == EMBEDDED else ("e_above_hull",)
    table = select_rows(
        read_crystal_table(name, ["split", "num_atoms", *units, *ORBIT_TYPES]),
        ("train", "val", "extra"),
        limits,
    )
    return OrbitDataset.from_table(table)
