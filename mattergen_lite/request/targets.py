"""What is asked of the properties of every sample: a value, or a range to draw a value from.

    parse_targets(["band_gap=1.5..2.5", "bulk_modulus>300"], ["band_gap=3"], model.properties)

A range gives every sample a value of its own, out of the sample's own generator: uniform between
two bounds; beyond a single bound, as in the training set beyond it, which is taken as normal with
the mean and standard deviation of the model's configuration. Both on the property's standardised
scale, that is the logarithm of properties that span decades.
"""

import math
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import torch
from torch import Tensor

from mattergen_lite.elements import element_mask, parse_system, symbols
from mattergen_lite.properties import CRYSTAL_SYSTEMS, Conditions, Property, known_property
from mattergen_lite.shapes import Float
from mattergen_lite.symmetry.space_groups import space_group_number

TargetValue = float | int | str

DEFAULT_GUIDANCE = 3.0  # which more samples meet than 1: docs/explanation/hits.md
MAX_GUIDANCE = 100.0  # beyond which samples are no crystals any more
MAX_COUNT = 10_000  # of a range of whole numbers
MAX_DIGITS = 9

_FORM = re.compile(r"(?P<name>\w+)(?P<sign>=|[<>]=?)(?P<value>.*)")


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

    def contains(self, measured: TargetValue) -> bool:
        """Whether a measured value is what was asked for: within the range, or the very category.

        A single real value has no width: compare it with `scoring.exact.on_target`.
        """
        if isinstance(measured, str):
            return measured == self.cell(self.draw(torch.Generator()))
        return self.low <= measured <= self.high


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


# Text -> targets


def parse_targets(
    conditions: Iterable[str], guidance: Iterable[str], properties: Sequence[Property]
) -> tuple[PropertyTarget, ...]:
    """Targets from text.

    Args:
        conditions: "band_gap=2.0", "band_gap=1.5..2.5", "bulk_modulus>300", "crystal_system=cubic",
            "chemical_system=Li-P-S"; each property once.
        guidance: "2" for all properties, "band_gap=3" for one, which outranks the first.
        properties: What the model can be conditioned on.

    Raises:
        ValueError: For an unknown property, a value of the wrong kind, an empty range, a property
            given twice, or guidance of a property without a condition.
    """
    asked: dict[str, tuple[Property, str, str]] = {}
    for text in conditions:
        match = _FORM.fullmatch(text.strip())
        if match is None:
            raise ValueError(
                f"condition {text!r} is not of the form property=value, such as band_gap=2.0, "
                "band_gap=1.5..2.5, 'bulk_modulus>300' or 'e_above_hull<0.05'"
            )
        name, sign, value = match.groups()
        if name in asked:
            raise ValueError(f"condition {name!r} is given twice")
        asked[name] = known_property(name, properties), sign[0], value.strip()
    weights = _parse_guidance(guidance, asked)
    return tuple(_parse_target(*parts, weights[name]) for name, parts in asked.items())


def _parse_guidance(texts: Iterable[str], names: Collection[str]) -> dict[str, float]:
    """Weight of every property that has a target, the default where nothing is said."""
    given: dict[str, float] = {}
    for text in texts:
        name, _, value = text.rpartition("=")
        if name in given:
            raise ValueError(f"guidance {text!r} is given twice{f' for {name}' if name else ''}")
        given[name] = _parse_weight(text, value)
    stray = sorted(set(given) - {""} - set(names))
    if stray:
        raise ValueError(f"guidance of {stray[0]!r} without a condition on it")
    if given and not names:
        raise ValueError(
            f"guidance {given['']:g} without a condition: expected something to guide to"
        )
    return {name: given.get(name, given.get("", DEFAULT_GUIDANCE)) for name in names}


def _parse_weight(text: str, value: str) -> float:
    weight = _number(value)
    if not 0 <= weight <= MAX_GUIDANCE:
        raise ValueError(
            f"guidance {text!r}: expected a weight of 0 to {MAX_GUIDANCE:g}, such as 2 or "
            "band_gap=2"
        )
    return weight


def _parse_target(prop: Property, sign: str, text: str, guidance: float) -> PropertyTarget:
    """One target of any kind."""
    if prop.kind != "real" and sign != "=":
        raise ValueError(f"{prop.name}{sign}{text}: {prop.name} has no order, only = makes sense")
    if prop.kind == "elements":
        chosen = parse_system(text)
        return PropertyTarget(definition=prop, elements=chosen, guidance=guidance)
    low, high = (
        _parse_category(prop, text) if prop.kind == "category" else _parse_real(prop, sign, text)
    )
    return PropertyTarget(definition=prop, low=low, high=high, guidance=guidance)


def _parse_category(prop: Property, text: str) -> tuple[float, float]:
    number = text
    if prop.name == "crystal_system":
        names = {system: str(i) for i, system in enumerate(CRYSTAL_SYSTEMS, start=1)}
        number = names.get(text.casefold(), text)
    elif prop.name == "space_group":
        number = str(space_group_number(text))
    if not _is_whole(number) or not 1 <= int(number) <= prop.num_categories:
        raise ValueError(
            f"{prop.name}={text}: expected a whole number from 1 to {prop.num_categories}"
        )
    return float(number), float(number)


def _parse_real(prop: Property, sign: str, text: str) -> tuple[float, float]:
    """Lowest and highest value: equal for a single one, infinite on an open side."""
    first, dots, last = text.partition("..")
    low, high = _number(first), _number(last if dots else first)
    if not (math.isfinite(low) and math.isfinite(high)) or (dots and sign != "="):
        unit = f" in {prop.unit}" if prop.unit else ""
        raise ValueError(
            f"{prop.name}{sign}{text}: expected a number{unit}, or a range such as 1.5..2.5 after ="
        )
    if low > high:
        raise ValueError(f"{prop.name}={text}: the range ends before it begins")
    return (-math.inf if sign == "<" else low), (math.inf if sign == ">" else high)


def _number(text: str) -> float:
    """A number, NaN if it is none."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def parse_range(text: str | None) -> tuple[int, int] | None:
    """A whole number or an inclusive range: "8" or "4..12".

    Raises:
        ValueError: If it is neither, the range ends before it begins, or it ends beyond
            `MAX_COUNT`.
    """
    if text is None:
        return None
    low, dots, high = (part.strip() for part in text.partition(".."))
    if not dots:
        high = low
    if not _is_whole(low) or not _is_whole(high):
        raise ValueError(f"{text[:60]!r} is no whole number such as 8 and no range such as 4..12")
    if not int(low) <= int(high) <= MAX_COUNT:
        raise ValueError(
            f"{text[:60]!r}: expected a range that rises and ends at most at {MAX_COUNT}"
        )
    return int(low), int(high)


def _is_whole(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= MAX_DIGITS
