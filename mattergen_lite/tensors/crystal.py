"""`CrystalBatch`, the tensor type that travels between data, diffusion, network and sampling.

Dense and padded: B crystals, N atom slots each. The index of an element is its atomic number, 0 is
padding, and `mask` is True on real atoms. Nothing here adds noise, reads files or knows a model.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TypeVar

import torch
from torch import Tensor

from mattergen_lite.tensors.shapes import Bool, Float, Int

PADDING = 0
AnyBatch = TypeVar("AnyBatch", bound="Batch")


class Batch:
    """A dataclass whose fields are tensors, or batches themselves, with one row a crystal."""

    def to(self: AnyBatch, device: torch.device | str) -> AnyBatch:
        """The same batch on another device."""
        return type(self)(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})

    def __len__(self) -> int:
        return len(getattr(self, fields(self)[0].name))

    def __getitem__(self: AnyBatch, index: slice | Int[Tensor, "*I"]) -> AnyBatch:
        return type(self)(**{f.name: getattr(self, f.name)[index] for f in fields(self)})


@dataclass(frozen=True, kw_only=True)
class CrystalBatch(Batch):
    """B crystals padded to N atoms. `cart = frac_coords @ lattice`."""

    atomic_numbers: Int[Tensor, "B N"]  # Z = 1..100, 0 = padding
    frac_coords: Float[Tensor, "B N 3"]  # [0, 1)
    lattice: Float[Tensor, "B 3 3"]  # rows a, b, c in Å
    mask: Bool[Tensor, "B N"]  # True = real atom

    @property
    def num_atoms(self) -> Int[Tensor, "B"]:
        """Atoms per crystal."""
        return self.mask.sum(dim=-1)

    @classmethod
    def from_crystals(
        cls,
        atomic_numbers: Sequence[Int[Tensor, "_"]],
        frac_coords: Sequence[Float[Tensor, "_ 3"]],
        lattice: Float[Tensor, "B 3 3"],
    ) -> "CrystalBatch":
        """Pad crystals of different sizes into one batch."""
        numbers = torch.nn.utils.rnn.pad_sequence(list(atomic_numbers), batch_first=True)
        coords = torch.nn.utils.rnn.pad_sequence(list(frac_coords), batch_first=True)
        return cls(
            atomic_numbers=numbers, frac_coords=coords, lattice=lattice, mask=numbers != PADDING
        )


def concatenate(batches: Sequence[CrystalBatch]) -> CrystalBatch:
    """One batch of all crystals, padded to the largest."""
    width = max(batch.mask.shape[1] for batch in batches)

    def joined(name: str) -> Tensor:
        values = [getattr(batch, name) for batch in batches]
        return torch.cat([padded(value, width) if name != "lattice" else value for value in values])

    return CrystalBatch(**{f.name: joined(f.name) for f in fields(CrystalBatch)})


def padded(values: Tensor, width: int, fill: int = 0) -> Tensor:
    """Widen the second axis of a tensor to `width`, filled with `fill`."""
    size = (len(values), width - values.shape[1], *values.shape[2:])
    return torch.cat([values, values.new_full(size, fill)], dim=1)


@dataclass(frozen=True)
class Share:
    """Some rows of a global batch: what one process of a distributed run works on.

    Whatever is random is drawn for the global batch and then shared out, so that a crystal meets
    the same noise however many processes there are.
    """

    rows: slice
    total: int  # crystals in the global batch

    @classmethod
    def whole(cls, total: int) -> "Share":
        """All rows: a single process."""
        return cls(slice(None), total)


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What the network says about a noisy batch, all of unit size; `diffusion` gives it meaning."""

    element_logits: Float[Tensor, "B O Z"]  # log prior over elements given the rest of the crystal
    coords: Float[Tensor, "B O 3"]  # fractional displacement of the representatives
    cell: Float[Tensor, "B 6"]  # free numbers of the cell

    @classmethod
    def combined(cls, parts: "Sequence[tuple[float, Prediction]]") -> "Prediction":
        """Weighted sum of predictions, field by field; a single one of weight 1 as it is."""
        if len(parts) == 1 and parts[0][0] == 1:
            return parts[0][1]
        return cls(
            **{
                field.name: sum(weight * getattr(part, field.name) for weight, part in parts)
                for field in fields(cls)
            }
        )


def node_mask(num_atoms: Int[Tensor, "B"], width: int | None = None) -> Bool[Tensor, "B N"]:
    """Mask with the first `num_atoms` slots of each crystal set; `width` as the largest."""
    width = int(num_atoms.max()) if width is None else width
    return torch.arange(width, device=num_atoms.device) < num_atoms.unsqueeze(-1)
