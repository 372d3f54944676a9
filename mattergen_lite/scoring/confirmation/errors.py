"""Reads the errors of the confirming methods, by size of the value.

`scripts/measure_confirmations.py` measures them against DFT on compounds of MP-20's test split.
"""

import json
from functools import cache
from pathlib import Path

ERRORS = Path(__file__).parents[2] / "assets" / "confirmation_errors.json"


def confirmation_error(method: str, value: float) -> float | None:
    """Mean absolute error of a method, such as "network", where it gives about this value.

    None if not measured.
    """
    bins = _errors().get(method, ())
    return next((interval["mae"] for interval in bins if value < interval["below"]), None)


@cache
def _errors() -> dict[str, list[dict[str, float]]]:
    """Bins of every method, ascending; the last is open."""
    errors = json.loads(ERRORS.read_text(encoding="utf-8"))
    for bins in errors.values():
        bins[-1]["below"] = float("inf")
    return errors
