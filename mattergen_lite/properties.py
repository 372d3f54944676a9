"""Defines the properties that condition a model: name, unit, kind and normalisation."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from mattergen_lite.config import PropertyConfig
from mattergen_lite.symmetry.crystal_systems import LAST_SPACE_GROUP
from mattergen_lite.tensors.shapes import Bool, Int

Property = PropertyConfig  # defined once, in the configuration of a model


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """Values of the properties of B crystals; where `present` is False, nothing is asked for."""

    # real: Float [B] in physical units; category: Int [B]; elements: Float [B, 101]
    values: Mapping[str, Tensor]
    present: Mapping[str, Bool[Tensor, "B"]]

    def _each(self, change: Callable[[Tensor], Tensor]) -> "Conditions":
        return type(self)(
            values={name: change(value) for name, value in self.values.items()},
            present={name: change(flag) for name, flag in self.present.items()},
        )

    def to(self, device: torch.device | str) -> "Conditions":
        """The same conditions on another device."""
        return self._each(lambda value: value.to(device))

    def dropped(self, keep: Mapping[str, Bool[Tensor, "B"]]) -> "Conditions":
        """Forget every value whose `keep` is False."""
        return type(self)(
            values=self.values,
            present={name: flag & keep[name] for name, flag in self.present.items()},
        )

    def only(self, names: Collection[str]) -> "Conditions":
        """The conditions on the named properties."""
        return type(self)(
            values={name: value for name, value in self.values.items() if name in names},
            present={name: flag for name, flag in self.present.items() if name in names},
        )

    def __getitem__(self, index: slice | Int[Tensor, "*I"]) -> "Conditions":
        return self._each(lambda value: value[index])


def crystal_system_index(space_group: Int[Tensor, "*B"]) -> Int[Tensor, "*B"]:
    """Crystal system 1..7 (triclinic to cubic) of a space group number 1..230."""
    last = torch.tensor(list(LAST_SPACE_GROUP.values())[:-1], device=space_group.device)
    return torch.bucketize(space_group, last) + 1
