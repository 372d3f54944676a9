"""Holds the target of a property beside its value."""

from dataclasses import dataclass

from mattergen_lite.scoring.exact import Method, Value
from mattergen_lite.scoring.score import Cell

# What a verdict says of how the value of a property came about.
_HOW: dict[Method, str] = {
    "": "",
    "structure": "",
    "potential": "",
    "known": " known",
    "regression": " predicted",
    "outside domain": " predicted, outside the regression's domain",
}


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a property was asked to be and what it is, or is predicted to be."""

    property: str
    target: Value  # that the sample was conditioned on
    value: Value | None  # None where nothing here can tell
    method: Method  # how the value came about; "" if there is none
    error: float | None  # mean absolute error of a regression; None for the others
    on_target: bool | None  # None where nobody can tell
    unit: str = ""

    @property
    def words(self) -> str:
        """Such as "band_gap 2.3 ± 0.5 eV predicted" or "band_gap unknown"."""
        if self.value is None:
            return f"{self.property} unknown"
        number = f"{self.value:.3g}" if isinstance(self.value, float) else str(self.value)
        error = "" if self.error is None else f" ± {self.error:.2g}"
        unit = f" {self.unit}" if self.unit else ""
        return f"{self.property} {number}{error}{unit}{_HOW[self.method]}"

    def columns(self) -> dict[str, Cell]:
        """Cells of a row; what is measured and what is predicted never share a column."""
        is_predicted = self.method in ("regression", "outside domain")
        return {
            f"target_{self.property}": self.target,
            f"measured_{self.property}": None if is_predicted else self.value,
            f"predicted_{self.property}": self.value if is_predicted else None,
            f"predicted_{self.property}_error": self.error,
            f"method_{self.property}": self.method,
        }
