"""Estimates the share of samples on target before any is made.

`benchmarks/design.py --ship` samples a model at several values of every property. A target is held
against the samples of the nearest value and guidance; nothing is interpolated.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import TypeAdapter, ValidationError

from mattergen_lite.request.targets import PropertyTarget
from mattergen_lite.scoring.computed_properties import is_met

FILE = "hit_rates.json"
FEW = 0.1  # share of hits below which a target is not worth asking for as it stands


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Samples that were asked for one value of one property."""

    property: str  # "" where nothing was asked for
    value: float
    guidance: float
    measured: dict[str, tuple[float | None, ...]]  # property -> of each sample, None if unknown


@dataclass(frozen=True, kw_only=True)
class ExpectedHits:
    """Share of samples that is expected to meet a target, from samples of the same model."""

    target: str  # as it was asked for
    asked: str  # the nearest target that was sampled
    num_measured: int
    num_hits: int
    unconditional: float  # share of samples without targets that meet it
    better: str | None  # guidance with more hits, and how many

    @property
    def rate(self) -> float:
        """Share of the samples that were measured."""
        return self.num_hits / self.num_measured if self.num_measured else 0.0

    def text(self) -> str:
        """One line, with advice where few samples will be on target."""
        line = (
            f"expected on target: {self.rate:.0%} of samples {self.target} ({self.num_hits} of "
            f"{self.num_measured} in the nearest target that was tested, {self.asked}; without a "
            f"target {self.unconditional:.0%})"
        )
        if self.better is not None:
            line += f"; {self.better}"
        if self.rate < FEW:
            line += (
                "; few will be: ask for a wider range, or take many samples with --num-candidates"
            )
        return line


@dataclass(frozen=True, kw_only=True)
class HitTable:
    """Measured properties of samples that one model made for many targets."""

    weights_sha256: str  # of the model
    cells: tuple[Asked, ...]

    @classmethod
    def load(cls, folder: Path, weights_sha256: str) -> "HitTable | None":
        """The table of a model folder; None if there is none, or it is of other weights.

        Raises:
            ValueError: If it is damaged.
        """
        path = folder / FILE
        if not path.exists():
            return None
        try:
            table = TypeAdapter(cls).validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            raise ValueError(f"{path} is damaged: {' '.join(str(error).split())[:100]}") from None
        return table if table.weights_sha256 == weights_sha256 else None

    def expected(self, target: PropertyTarget) -> ExpectedHits | None:
        """Expected hits of one target on a real property; None if nothing like it was sampled."""
        prop = target.definition
        sampled = [cell for cell in self.cells if cell.property == prop.name]
        free = next((cell for cell in self.cells if not cell.property), None)
        if prop.kind != "real" or not sampled or free is None or target.guidance == 0:
            return None
        nearest = min(sampled, key=lambda cell: _distance(target, cell))
        same = [cell for cell in sampled if cell.value == nearest.value]
        best = max(same, key=lambda cell: _share(cell, target))
        hits = _hits(nearest, target)
        better = None
        if best.guidance != nearest.guidance and _share(best, target) > _share(nearest, target):
            better = f"--guidance {best.guidance:g}: {_share(best, target):.0%}"
        return ExpectedHits(
            target=_text(target),
            asked=f"{prop.name}={nearest.value:g} at guidance {nearest.guidance:g}",
            num_measured=len(hits),
            num_hits=sum(hits),
            unconditional=_share(free, target),
            better=better,
        )


def _text(target: PropertyTarget) -> str:
    """Words such as "with band_gap=1.5..2.5"."""
    name, low, high = target.definition.name, target.low, target.high
    if math.isinf(low):
        return f"with {name}<{high:g}"
    if math.isinf(high):
        return f"with {name}>{low:g}"
    return f"with {name}={low:g}" + ("" if low == high else f"..{high:g}")


def _distance(target: PropertyTarget, cell: Asked) -> tuple[float, float]:
    """Of values in standard deviations of the property, then of guidances."""
    low, high = target.low, target.high
    middle = high if math.isinf(low) else low if math.isinf(high) else (low + high) / 2
    standard = target.definition.normalise(torch.tensor([middle, cell.value]))
    return float((standard[0] - standard[1]).abs()), abs(target.guidance - cell.guidance)


def _hits(cell: Asked, target: PropertyTarget) -> Sequence[bool]:
    values = cell.measured.get(target.definition.name, ())
    return [bool(is_met(target, target.low, value)) for value in values if value is not None]


def _share(cell: Asked, target: PropertyTarget) -> float:
    hits = _hits(cell, target)
    return sum(hits) / len(hits) if hits else 0.0
