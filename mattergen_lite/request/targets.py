"""Reads targets of properties: a value, or a range to draw a value from.

A range gives every sample a value of its own, out of the sample's own generator: uniform between
two bounds; beyond a single bound a normal one with the mean and standard deviation of the model's
configuration. Both on the property's standardised scale (the logarithm, where it spans decades).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import torch
from torch import Tensor

from mattergen_lite.chemistry.elements import element_mask, symbols
from mattergen_lite.options.texts import parse_conditions, parse_guidance, weights_of
from mattergen_lite.properties import Conditions, Property
from mattergen_lite.request.values import known_property, parse_values
from mattergen_lite.symmetry.crystal_systems import CRYSTAL_SYSTEMS
from mattergen_lite.tensors.shapes import Float

TargetValue = float | int | str


@dataclass(frozen=True, kw_only=True)
class PropertyTarget:
    """What one property should be: between `low` and `high`, which are equal for a single value."""

    definition: Property
    low: float = math.nan  # physical units, or the number of a category; may be infinite
    high: float = math.nan
    elements: tuple[str, ...] = ()  # of a property of kind "elements"
    guidance: float = 1.0  # 0 = ignored, 1 = conditional, above = exaggerated

    def draw(self, rng: torch.Generator) -> Tensor:
        """The value one sample is conditioned on; a single value takes no random number."""
        if self.definition.kind == "elements":
            return element_mask(self.elements).float()
        if self.definition.kind == "category":
            return torch.tensor(int(self.low))
        if self.low == self.high:
            return torch.tensor(self.low)
        return self._draw_between(torch.rand((), generator=rng, dtype=torch.float64).item())

    def _draw_between(self, quantile: float) -> Float[Tensor, ""]:
        """The value at a quantile of the distribution within the bounds."""
        bounds = self._bounds()
        ends = self.definition.normalise(torch.tensor(bounds, dtype=torch.float64))
        low, high = ends.tolist()
        if math.isinf(self.low) or math.isinf(self.high):
            standard = truncated_normal(low, high, quantile)
        else:
            standard = low + quantile * (high - low)
        value = self.definition.denormalise(torch.tensor(standard, dtype=torch.float64))
        return value.clamp(*bounds).float()

    def _bounds(self) -> tuple[float, float]:
        """Low and high, an open end closed by what was seen in training if that lies beyond."""
        prop = self.definition
        low, high = self.low, self.high
        if math.isinf(low) and prop.minimum is not None and prop.minimum < high:
            low = prop.minimum
        if math.isinf(high) and prop.maximum is not None and prop.maximum > low:
            high = prop.maximum
        return low, high

    def cell(self, value: Tensor) -> TargetValue:
        """A drawn value for a table: a number, "cubic" or "Li-P-S"."""
        if self.definition.kind == "elements":
            return "-".join(sorted(symbols()[z] for z in value.nonzero().flatten().tolist()))
        if self.definition.name == "crystal_system":
            return CRYSTAL_SYSTEMS[int(value) - 1]
        return value.item()


def truncated_normal(low: float, high: float, quantile: float) -> float:
    """The given quantile of a standard normal variable that is known to lie in [low, high].

    Inverse of the distribution function, mirrored so that both tails are exact; beyond 37 standard
    deviations, where doubles end, the bound itself.
    """
    if low > 0:
        return -truncated_normal(-high, -low, 1 - quantile)
    below, above = (math.erfc(-bound / math.sqrt(2)) / 2 for bound in (low, high))
    probability = min(max(below + quantile * (above - below), 1e-300), 1 - 1e-16)
    return min(max(NormalDist().inv_cdf(probability), low), high)


def draw_conditions(
    targets: Sequence[PropertyTarget], rngs: Sequence[torch.Generator]
) -> Conditions | None:
    """Values of every sample, drawn in the order of the properties' names; None without targets."""
    if not targets:
        return None
    values = {
        target.definition.name: torch.stack([target.draw(rng) for rng in rngs])
        for target in sorted(targets, key=lambda target: target.definition.name)
    }
    present = {name: torch.ones(len(rngs), dtype=torch.bool) for name in values}
    return Conditions(values=values, present=present)


def target_cells(
    targets: Sequence[PropertyTarget], conditions: Conditions | None
) -> list[dict[str, TargetValue]]:
    """One dictionary a sample: what it was asked to be, by property."""
    if conditions is None:
        return []
    columns = {
        t.definition.name: map(t.cell, conditions.values[t.definition.name]) for t in targets
    }
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def parse_targets(
    conditions: object, guidance: object, properties: Sequence[Property]
) -> tuple[PropertyTarget, ...]:
    """Targets of properties that a model knows.

    Raises:
        ValueError: For an unknown property, a value of the wrong kind, an empty range, a property
            given twice, or guidance of a property without a condition.
    """
    asked = parse_conditions(conditions)
    known = [known_property(condition.name, properties) for condition in asked]
    weights = weights_of(parse_guidance(guidance), [condition.name for condition in asked])
    return tuple(
        PropertyTarget(
            definition=prop, guidance=weights[prop.name], **parse_values(prop, condition)._asdict()
        )
        for prop, condition in zip(known, asked, strict=True)
    )
