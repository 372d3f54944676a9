"""Defines the properties that condition a model: name, unit, kind and normalisation."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from mattergen_lite.crystal_systems import LAST_SPACE_GROUP
from mattergen_lite.shapes import Bool, Float, Int

Kind = Literal["real", "category", "elements"]
LOG_FLOOR = 1e-30  # keeps the logarithm finite; targets and labels are checked to be positive


@dataclass(frozen=True, kw_only=True)
class Property:
    """One conditionable property.

    A "real" value is standardised with `mean` and `std`, after log10 if `log`; a "category" is an
    integer from 1 to `num_categories`; "elements" is the set of elements present.
    """

    name: str
    unit: str = ""
    kind: Kind = "real"
    mean: float = 0.0
    std: float = 1.0
    log: bool = False
    num_categories: int = 0
    minimum: float | None = None  # smallest and largest value seen in training, if known
    maximum: float | None = None

    def normalise(self, value: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
        """Physical value to standardised value."""
        raw = value.clamp(min=LOG_FLOOR).log10() if self.log else value
        return (raw - self.mean) / self.std

    def denormalise(self, standard: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
        """Standardised value to physical value."""
        raw = standard * self.std + self.mean
        return 10**raw if self.log else raw

    def within_reason(self, value: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
        """Predicted values, none below zero of what was never seen below: a gap, a density."""
        never_negative = self.minimum is not None and self.minimum >= 0
        return value.clamp(min=0) if never_negative else value


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


def crystal_system(space_group: Int[Tensor, "*B"]) -> Int[Tensor, "*B"]:
    """Crystal system 1..7 (triclinic to cubic) of a space group number 1..230."""
    last = torch.tensor(list(LAST_SPACE_GROUP.values())[:-1], device=space_group.device)
    return torch.bucketize(space_group, last) + 1
