"""Finds the likeliest charges that add up to zero.

The likeliest choice of every part for every total charge is built up part by part, so that work
grows with the number of parts and not with that of combinations. Pauling's rule holds: cations are
less electronegative than anions; metals may be cations beside any non-metal.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mattergen_lite.chemistry.oxidation import anion_rank
from mattergen_lite.scoring.criteria.neutrality.choices import Choice, Part


class Assignment(NamedTuple):
    """A balanced choice for every part."""

    log_likelihood: float
    parts: tuple[Part, ...]
    choices: tuple[Choice, ...]

    @property
    def pairs(self) -> list[tuple[Part, Choice]]:
        """Every part with its choice."""
        return list(zip(self.parts, self.choices, strict=True))


def best_assignment(parts: Sequence[Part]) -> Assignment | None:
    """Find the likeliest balanced choices; None if nothing balances.

    At most one part has mixed valence: with several nearly any formula could be balanced.
    """
    names = {symbol for part in parts for symbol in part.symbols}
    values = sorted({anion_rank(name) for name in names})
    options = {
        tuple(_allowed(part, threshold) for part in parts) for threshold in [*values, np.inf]
    }
    assignments = [_likeliest(parts, choices) for choices in options if all(choices)]
    return max(
        filter(None, assignments),
        key=lambda assignment: (round(assignment.log_likelihood, 6), assignment.choices),
        default=None,
    )


def _allowed(part: Part, threshold: float) -> tuple[Choice, ...]:
    """Choices of a part if what is less electronegative than a threshold is a cation."""
    if len({choice.is_cation for choice in part.choices}) < 2:
        return part.choices
    is_cation = anion_rank(part.symbols[0]) < threshold
    return tuple(choice for choice in part.choices if choice.is_cation == is_cation)


def _likeliest(parts: Sequence[Part], options: Sequence[tuple[Choice, ...]]) -> Assignment | None:
    """Find the likeliest of the choices that add up to zero."""
    reach = sum(max(abs(choice.charge) for choice in choices) for choices in options)
    best = np.full((2, 2 * reach + 1), -np.inf)  # by use of mixed valence and total charge
    best[0, reach] = 0.0
    origins = []
    for choices in options:
        grown = np.full_like(best, -np.inf)
        origin = np.full(best.shape, -1)
        for index, choice in enumerate(choices):
            _extend(grown, origin, best, choice, index)
        best = grown
        origins.append(origin)
    used = int(best[1, reach] > best[0, reach])
    if not np.isfinite(best[used, reach]):
        return None
    total, place, chosen = float(best[used, reach]), reach, []
    for choices, origin in zip(reversed(options), reversed(origins), strict=True):
        choice = choices[origin[used, place]]
        chosen.append(choice)
        place -= choice.charge
        used -= len(choice.states) > 1
    return Assignment(total, tuple(parts), tuple(reversed(chosen)))


def _extend(
    grown: np.ndarray, origin: np.ndarray, best: np.ndarray, choice: Choice, index: int
) -> None:
    """Enter the totals that one choice reaches."""
    width, charge = best.shape[1], choice.charge
    source = slice(max(0, -charge), width - max(0, charge))
    target = slice(max(0, charge), width - max(0, -charge))
    mixed = len(choice.states) > 1
    for used in (0,) if mixed else (0, 1):
        row = used + mixed
        values = best[used, source] + choice.log_likelihood
        better = values > grown[row, target] + 1e-9
        grown[row, target] = np.where(better, values, grown[row, target])
        origin[row, target] = np.where(better, index, origin[row, target])


def reachable(parts: Sequence[Part]) -> tuple[int, int, int]:
    """Least and most charge that the cations give, and what the anions take at least.

    Non-metals count as anions where they can be.
    """
    low = high = taken = 0
    for part in parts:
        anions = [choice.charge for choice in part.choices if not choice.is_cation]
        charges = anions or [choice.charge for choice in part.choices]
        if anions:
            taken -= max(anions)
        else:
            low, high = low + min(charges), high + max(charges)
    return low, high, taken
