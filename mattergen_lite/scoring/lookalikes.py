"""Finds new crystals that a potential cannot tell from a known one of the same composition.

Errors and calibrations differ for known and new crystals: a distorted copy of a known crystal has
another energy above the hull, though the potential gives both the same.
"""

from collections.abc import Sequence
from dataclasses import replace

from mattergen_lite.scoring.candidate import Candidate, Lookalike

INDISTINGUISHABLE = 0.005  # eV/atom between energies of a potential


def mark_lookalikes(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The candidates, new ones with the nearest known one that has nearly their raw energy."""
    known: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        if (
            candidate.energy is not None
            and candidate.final.novelty
            and candidate.final.novelty.nearest_known
        ):
            known.setdefault(candidate.raw.formula, []).append(candidate)
    return [_marked(candidate, known.get(candidate.raw.formula, ())) for candidate in candidates]


def _marked(candidate: Candidate, known: Sequence[Candidate]) -> Candidate:
    novelty = candidate.final.novelty
    if not known or candidate.energy is None or novelty is None or novelty.nearest_known:
        return candidate
    nearest = min(known, key=lambda other: abs(other.energy - candidate.energy))
    difference = candidate.energy - nearest.energy
    if abs(difference) > INDISTINGUISHABLE:
        return candidate
    lookalike = Lookalike(
        known=nearest.final.novelty.nearest_known, name=nearest.raw.name, difference=difference
    )
    return replace(candidate, lookalike=lookalike)
