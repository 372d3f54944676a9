"""Models the errors of potentials: turns their energies into statements about DFT's.

Three corrections stand between a potential's energy and DFT's energy above the hull:

1. MP2020 corrections (`potentials.mp2020`), which make energies comparable to the hull.
2. Element references, fitted to known formation energies.
3. An error model: the distribution of DFT minus potential, a Student t that depends on the elements
   and on traits of the crystal. Crystals that potentials were trained on have another one.

`assets/calibration.json` holds those of the shipped potentials; `mattergen-lite calibrate` fits
others. A potential without one is judged with its own element references and an assumed error.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pymatgen.core import Composition
from scipy import stats

DEGREES_OF_FREEDOM = 3.0  # of the Student t: DFT and potentials both have outliers
SHIPPED = "shipped"  # where a calibration comes from: the package,
UNCALIBRATED = "uncalibrated"  # nowhere, or a file by its name
RELAXER = "chgnet"  # whose geometries the shipped calibrations are of
FORMAT = 3  # of a file of calibrations
OLDEST_FORMAT = 2  # that is read; those of 1 have scales for tails of another weight
MAX_FILE = 2**22  # bytes
MAX_DEVIATION = 2.5  # standard deviations of a trait beyond which its effect grows no more


_FINITE = ConfigDict(allow_inf_nan=False)  # what files may hold


class ElementOffset(NamedTuple):
    """How an element shifts and widens the error of a potential, per share of the atoms."""

    mean: float  # eV/atom
    std: float  # of the mean, eV/atom
    log_scale: float = 0.0  # added to the logarithm of the scale


class Trend(NamedTuple):
    """How the error depends on a trait, counted in standard deviations from its centre."""

    centre: float
    spread: float  # standard deviation of the trait among the crystals of the fit
    offset: float  # eV/atom per standard deviation
    log_scale: float  # added to the logarithm of the scale per standard deviation


def error_traits(
    e_above_hull: float, relaxer_e_above_hull: float = math.nan, rmsd: float = math.nan
) -> dict[str, float]:
    """Traits of a measured crystal that tell how wrong a potential may be; NaN where unknown.

    Args:
        e_above_hull: By the potential, before its error model, eV/atom.
        relaxer_e_above_hull: The same by the potential that relaxed the crystal.
        rmsd: How far the atoms moved, Å.
    """
    disagreement = e_above_hull - relaxer_e_above_hull
    return {
        "disagreement": disagreement,
        "log_disagreement": math.log(0.02 + abs(disagreement)),
        "log_energy": math.log(0.1 + max(e_above_hull, 0.0)),
        "log_movement": math.log(0.003 + rmsd),
    }


def standardise(value: float, centre: float, spread: float) -> float:
    """Standard deviations from a centre, at most `MAX_DEVIATION`; 0 where the value is unknown."""
    deviation = (value - centre) / spread
    return 0.0 if math.isnan(deviation) else min(max(deviation, -MAX_DEVIATION), MAX_DEVIATION)


@dataclass(frozen=True, kw_only=True)
class ErrorModel:
    """Distribution of DFT's energy above the hull minus a potential's, in eV/atom.

    A Student t. Its offset is a common one plus those of the elements, weighted by their shares,
    plus those of the traits, and so is the logarithm of its scale. An element that the fit has
    hardly seen widens it.
    """

    __pydantic_config__ = _FINITE

    offset: float
    scale: float  # of the Student t, of elements and traits that do not change it
    elements: Mapping[str, ElementOffset]
    element_prior: float  # standard deviation of the offset of an element not in `elements`
    trends: Mapping[str, Trend] = field(default_factory=dict)  # by trait

    def at(
        self, composition: Composition, traits: Mapping[str, float] | None = None
    ) -> "ErrorDistribution":
        """Distribution of the error for crystals of a composition and traits from `error_traits`.

        A trait that is missing counts as the centre of its trend.
        """
        unseen = ElementOffset(mean=0.0, std=self.element_prior)
        shares = composition.fractional_composition.get_el_amt_dict()
        parts = [(share, self.elements.get(symbol, unseen)) for symbol, share in shares.items()]
        known = traits or {}
        deviations = [
            (standardise(known.get(name, math.nan), trend.centre, trend.spread), trend)
            for name, trend in self.trends.items()
        ]
        location = sum(share * part.mean for share, part in parts)
        location += sum(deviation * trend.offset for deviation, trend in deviations)
        log_scale = sum(share * part.log_scale for share, part in parts)
        log_scale += sum(deviation * trend.log_scale for deviation, trend in deviations)
        std = math.hypot(*(share * part.std for share, part in parts))
        return ErrorDistribution(
            location=self.offset + location,
            scale=math.hypot(self.scale * math.exp(log_scale), std),
        )


@dataclass(frozen=True, kw_only=True)
class ErrorDistribution:
    """Student t distribution of DFT minus potential for one crystal, in eV/atom."""

    location: float
    scale: float

    @property
    def std(self) -> float:
        """Standard error."""
        return self.scale * math.sqrt(DEGREES_OF_FREEDOM / (DEGREES_OF_FREEDOM - 2))

    def probability_below(self, threshold: float, e_above_hull_raw: float) -> float:
        """Probability of DFT's energy above the hull being at most `threshold`."""
        margin = threshold - e_above_hull_raw - self.location
        return float(stats.t.cdf(margin / self.scale, DEGREES_OF_FREEDOM))

    def quantile(self, error: float) -> float:
        """Probability of an error (DFT minus potential, eV/atom) at most as large as this one."""
        return self.probability_below(error, 0.0)


# What is assumed of a potential that nobody has calibrated: as wide as the errors of the shipped
# ones before they were, which are 0.10 to 0.16 eV/atom on generated crystals, and not shifted.
ASSUMED = ErrorModel(offset=0.0, scale=0.1, elements={}, element_prior=0.1)


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What is known about one potential's errors on the geometries of one that relaxes."""

    __pydantic_config__ = _FINITE

    references: Mapping[str, float]  # energy of each element, eV/atom
    novel: ErrorModel | None  # crystals nobody has computed; None where none could be fitted
    known: ErrorModel | None  # crystals the potential was trained on
    relaxer: str = RELAXER  # that made the geometries
    source: str = SHIPPED  # where it comes from

    def error_model(self, *, known: bool, relaxer: str) -> tuple[ErrorModel, str]:
        """The error model of known or novel crystals, and where it comes from.

        On geometries of another relaxer than its own nothing is known.
        """
        fitted = self.known if known else self.novel
        if fitted is None or relaxer != self.relaxer:
            return ASSUMED, UNCALIBRATED
        return fitted, self.source

    def formation_energy(self, composition: Composition, energy_per_atom: float) -> float:
        """Formation energy in eV/atom from the potential's energy with MP2020 corrections.

        Raises:
            ValueError: If an element has no reference energy.
        """
        shares = composition.fractional_composition.get_el_amt_dict()
        missing = sorted(shares.keys() - self.references.keys())
        if missing:
            raise ValueError(f"no reference energy of {', '.join(missing)}")
        return energy_per_atom - sum(
            self.references[symbol] * share for symbol, share in shares.items()
        )


def uncalibrated(references: Mapping[str, float], relaxer: str) -> Calibration:
    """What is assumed of a potential that nobody has calibrated, with its own references."""
    return Calibration(
        references=references, novel=None, known=None, relaxer=relaxer, source=UNCALIBRATED
    )


@dataclass(frozen=True, kw_only=True)
class _File:
    """Calibrations of several potentials."""

    potentials: dict[str, Calibration]
    source: str = ""  # how they were made
    held_out: dict = field(default_factory=dict)  # figures, for people
    format: int = 1


_FILES = TypeAdapter(_File)


@cache
def calibrations() -> dict[str, Calibration]:
    """The shipped calibrations by name of the potential."""
    return _parse((files("mattergen_lite") / "assets" / "calibration.json").read_text(), SHIPPED)


def read_calibrations(path: Path) -> dict[str, Calibration]:
    """The calibrations of a file that `calibrate` wrote, by name of the potential.

    Raises:
        ValueError: If it cannot be read, or is of a newer version of this program.
    """
    if path.stat().st_size > MAX_FILE:
        raise ValueError(f"{path} is larger than {MAX_FILE} bytes: expected a calibration")
    try:
        return _parse(path.read_text(encoding="utf-8"), path.name)
    except (ValidationError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no calibration: {str(error).splitlines()[1:3]}") from None


def _parse(text: str, source: str) -> dict[str, Calibration]:
    content = _FILES.validate_json(text)
    if content.format < OLDEST_FORMAT:
        raise ValueError(
            f"{source} has format {content.format}, this version reads {FORMAT}: give the command "
            "`calibrate` again, which keeps what it has measured"
        )
    if content.format > FORMAT:
        raise ValueError(
            f"{source} has format {content.format}, this version reads up to {FORMAT}: "
            "use a newer version of mattergen-lite"
        )
    parsed = {name: replace(read, source=source) for name, read in content.potentials.items()}
    for name, entry in parsed.items():
        for model in filter(None, (entry.novel, entry.known)):
            widths = [model.scale, *(trend.spread for trend in model.trends.values())]
            if not min(widths) > 0:
                raise ValueError(f"{source}: a scale of {name!r} is not positive: expected eV/atom")
    return parsed


def calibrations_as_json(
    fitted: Mapping[str, Calibration], source: str, held_out: Mapping[str, object]
) -> str:
    """Calibrations as the text of a file, energies rounded to 0.1 meV/atom."""
    potentials = {
        name: {
            "relaxer": entry.relaxer,
            "references": {s: round(energy, 4) for s, energy in entry.references.items()},
            "novel": _plain(entry.novel),
            "known": _plain(entry.known),
        }
        for name, entry in fitted.items()
    }
    content = {"format": FORMAT, "source": source, "held_out": held_out, "potentials": potentials}
    return json.dumps(content, indent=1) + "\n"


def _plain(model: ErrorModel | None) -> dict | None:
    """An error model as files have it."""
    if model is None:
        return None
    elements = {s: [round(number, 4) for number in o] for s, o in model.elements.items()}
    trends = {name: [round(number, 5) for number in trend] for name, trend in model.trends.items()}
    rounded = {"offset": round(model.offset, 5), "scale": round(model.scale, 5)}
    return {**vars(model), **rounded, "elements": elements, "trends": trends}


def calibration(potential: str) -> Calibration:
    """The shipped calibration of a potential.

    Raises:
        ValueError: If there is none.
    """
    shipped = calibrations()
    if potential not in shipped:
        raise ValueError(f"no calibration of {potential!r}: expected one of {', '.join(shipped)}")
    return shipped[potential]
