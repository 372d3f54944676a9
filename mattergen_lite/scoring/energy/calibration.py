"""Models the errors of potentials: turns their energies into statements about DFT's.

Three corrections stand between a potential's energy and DFT's energy above the hull:

1. MP2020 corrections (`potentials.mp2020`), so that energies are on the frame of the hull.
2. Element references fitted to the known formation energies of Materials Project compounds, so that
   the known compounds are right on average, element by element.
3. An error model, the distribution of DFT minus potential: a Student t with an offset that depends
   on the elements, because potentials trained near equilibrium find crystals they have not seen too
   stable. Crystals that the potentials were trained on (known ones) have a model of their own.

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
FORMAT = 2  # of a file of calibrations; those of 1 have scales for tails of another weight
MAX_FILE = 2**22  # bytes


_FINITE = ConfigDict(allow_inf_nan=False)  # what files may hold


class ElementOffset(NamedTuple):
    """How an element shifts the error of a potential, in eV/atom of the pure element."""

    mean: float
    std: float


@dataclass(frozen=True, kw_only=True)
class ErrorModel:
    """Distribution of DFT's energy above the hull minus a potential's, in eV/atom.

    A Student t around a common offset plus those of the elements, weighted by their shares. An
    element that the fit has hardly seen widens it.
    """

    __pydantic_config__ = _FINITE

    offset: float
    scale: float  # of the Student t
    elements: Mapping[str, ElementOffset]
    element_prior: float  # standard deviation of the offset of an element not in `elements`

    def at(self, composition: Composition) -> "ErrorDistribution":
        """Distribution of the error for crystals of one composition."""
        unseen = ElementOffset(mean=0.0, std=self.element_prior)
        shares = composition.fractional_composition.get_el_amt_dict()
        offsets = [(share, self.elements.get(symbol, unseen)) for symbol, share in shares.items()]
        variance = sum((share * offset.std) ** 2 for share, offset in offsets)
        return ErrorDistribution(
            location=self.offset + sum(share * offset.mean for share, offset in offsets),
            scale=math.sqrt(self.scale**2 + variance),
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

        Args:
            known: Of crystals that the potential was trained on.
            relaxer: Who relaxed them; on geometries of another than its own nothing is known.
        """
        fitted = self.known if known else self.novel
        if fitted is None or relaxer != self.relaxer:
            return ASSUMED, UNCALIBRATED
        return fitted, self.source

    def formation_energy(self, composition: Composition, energy_per_atom: float) -> float:
        """Formation energy in eV/atom from the potential's energy on the MP2020 frame.

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


# Files


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
    """Calibrations from JSON.

    Raises:
        ValueError: If their format is another, or a scale is not positive.
    """
    content = _FILES.validate_json(text)
    if content.format < FORMAT:
        raise ValueError(
            f"{source} has format {content.format}, this version reads {FORMAT}: give the command "
            "`calibrate` again, which keeps what it has measured"
        )
    if content.format > FORMAT:
        raise ValueError(
            f"{source} has format {content.format}, this version reads up to {FORMAT}: "
            "use a newer version of mattergen-lite"
        )
    parsed = {name: replace(one, source=source) for name, one in content.potentials.items()}
    for name, one in parsed.items():
        if any(model is not None and not model.scale > 0 for model in (one.novel, one.known)):
            raise ValueError(f"{source}: a scale of {name!r} is not positive: expected eV/atom")
    return parsed


def calibrations_as_json(
    fitted: Mapping[str, Calibration], source: str, held_out: Mapping[str, object]
) -> str:
    """Calibrations as the text of a file, energies rounded to 0.1 meV/atom.

    Args:
        fitted: By name of the potential.
        source: How they were made, in words.
        held_out: Figures on crystals not used for fitting.
    """
    potentials = {
        name: {
            "relaxer": one.relaxer,
            "references": {s: round(energy, 4) for s, energy in one.references.items()},
            "novel": _plain(one.novel),
            "known": _plain(one.known),
        }
        for name, one in fitted.items()
    }
    content = {"format": FORMAT, "source": source, "held_out": held_out, "potentials": potentials}
    return json.dumps(content, indent=1) + "\n"


def _plain(model: ErrorModel | None) -> dict | None:
    """An error model as files have it."""
    if model is None:
        return None
    elements = {s: [round(o.mean, 4), round(o.std, 4)] for s, o in model.elements.items()}
    return {**vars(model), "elements": elements}


def calibration(potential: str) -> Calibration:
    """The shipped calibration of a potential.

    Raises:
        ValueError: If there is none.
    """
    shipped = calibrations()
    if potential not in shipped:
        raise ValueError(f"no calibration of {potential!r}: expected one of {', '.join(shipped)}")
    return shipped[potential]
