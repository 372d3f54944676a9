"""Holds the target of a property beside its values, and which of them decides."""

from dataclasses import dataclass

from mattergen_lite.io.records import LearnedValue
from mattergen_lite.scoring.computed_properties import CONFIRMING, Method, Value
from mattergen_lite.scoring.score import Cell

# What a verdict says of how the value of a property came about.
_HOW: dict[Method, str] = {
    "": "",
    "structure": "",
    "potential": "",
    "known": " known",
    "regression": " predicted",
    "outside domain": " predicted, outside the regression's domain",
    "equation of state": " by the equation of state",
    "moments": " by CHGNet's moments, all parallel",
    "network": " by the independent network",
    "DFT": " by DFT",
}


@dataclass(frozen=True, kw_only=True)
class Confirmed:
    """A property of a relaxed crystal by a method that does not guide, or why there is none."""

    method: Method
    value: float | None = None
    error: float | None = None  # mean absolute error for compounds of about this value
    problem: str | None = None


@dataclass(frozen=True, kw_only=True)
class PropertyResult:
    """What a property was asked to be and what it is, or is predicted to be.

    The guide is the regression of the generator. Where a crystal is relaxed, another method
    confirms or refutes it; `method` says which value decides.
    """

    property: str
    target: Value  # that the sample was conditioned on
    value: Value | None  # None where nothing here can tell
    method: Method  # how the value came about; "" if there is none
    error: float | None  # mean absolute error of the value; None where it is exact or unknown
    on_target: bool | None  # None where nothing can tell
    unit: str = ""
    bounds: tuple[float, float] | None = None  # of a range; None: a value within its tolerance
    guide: LearnedValue | None = None  # what the regression reads
    problem: str | None = None  # why the confirming method has no value

    @property
    def words(self) -> str:
        """Such as "band_gap 2.3 ± 0.5 eV predicted" or "band_gap unknown"."""
        if self.value is None:
            return f"{self.property} unknown"
        number = f"{self.value:.3g}" if isinstance(self.value, float) else str(self.value)
        error = "" if self.error is None else f" ± {self.error:.2g}"
        unit = f" {self.unit}" if self.unit else ""
        return f"{self.property} {number}{error}{unit}{_HOW[self.method]}{self._guide_words}"

    @property
    def _guide_words(self) -> str:
        """What the regression says beside another value, or how much to believe it alone."""
        if self.guide is None:
            return ""
        if self.method not in ("regression", "outside domain"):
            return f" (the guiding regression says {self.guide.value:.3g})"
        if self.problem is not None:
            return f", not confirmed: {self.problem}"
        if self.guide.expected is None:
            return ", not confirmed (the error is that for labelled crystals)"
        return (
            f", not confirmed (generated crystals of such predictions have "
            f"{self.guide.expected:.3g} on average)"
        )

    def columns(self) -> dict[str, Cell]:
        """Cells of a row; what is measured, predicted and confirmed never share a column."""
        is_measured = self.method in ("structure", "potential", "known", "DFT")
        is_confirmed = self.method in CONFIRMING
        name, guide = self.property, self.guide
        return {
            f"target_{name}": self.target,
            f"measured_{name}": self.value if is_measured else None,
            f"predicted_{name}": guide and guide.value,
            f"predicted_{name}_error": guide and guide.error,
            f"confirmed_{name}": self.value if is_confirmed else None,
            f"confirmed_{name}_error": self.error if is_confirmed else None,
            f"method_{name}": self.method,
        }
