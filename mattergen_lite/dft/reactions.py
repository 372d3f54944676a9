"""Reactions of known phases that balance a composition, cheapest first.

The energy above the hull of a crystal is its energy of reaction from known phases, whose formation
energies are known, and not one from the phases of the hull, which may have large cells.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, islice

import numpy as np

from mattergen_lite.tensors.shapes import Float

MAX_PHASES = 26  # of which reactions are made, the cheapest
PER_COMPOSITION = 2  # polymorphs among them
MAX_COMBINATIONS = 80_000
BALANCED = 1e-9  # largest error of an atomic fraction
LEAST_SHARE = 1e-6  # of a phase


@dataclass(frozen=True, kw_only=True)
class Reaction:
    """Phases that balance a composition."""

    phases: tuple[int, ...]  # positions of the phases
    shares: tuple[float, ...]  # of the atoms that each phase has; they add up to 1
    cost: float  # of all phases together


def balanced_reactions(
    target: Float[np.ndarray, "E"],
    fractions: Float[np.ndarray, "P E"],
    costs: Sequence[float],
    *,
    num: int = 3,
) -> list[Reaction]:
    """Mixtures of phases with the composition of a target, cheapest first.

    Returns:
        Each set of phases once. No reaction contains another: its shares are unique.
    """
    costs = np.asarray(costs, dtype=float)
    order = _cheapest(fractions, costs)
    reactions: dict[tuple[int, ...], Reaction] = {}
    for size in range(1, len(target) + 1):
        chosen = np.array(list(islice(combinations(order, size), MAX_COMBINATIONS)), dtype=int)
        if len(chosen) == 0:
            break
        matrices = fractions[chosen].transpose(0, 2, 1)  # [M, E, size]
        shares = np.linalg.pinv(matrices) @ target
        errors = np.abs(np.einsum("mes,ms->me", matrices, shares) - target).max(1)
        independent = np.linalg.matrix_rank(matrices) == size
        valid = independent & (errors < BALANCED) & (shares.min(1) > LEAST_SHARE)
        for phases, parts in zip(chosen[valid], shares[valid], strict=True):
            kept = tuple(sorted(phases.tolist()))
            by_phase = dict(zip(phases.tolist(), parts.tolist(), strict=True))
            reactions[kept] = Reaction(
                phases=kept,
                shares=tuple(by_phase[phase] for phase in kept),
                cost=float(costs[list(kept)].sum()),
            )
    return sorted(reactions.values(), key=lambda reaction: (reaction.cost, reaction.phases))[:num]


def _cheapest(fractions: Float[np.ndarray, "P E"], costs: Float[np.ndarray, "P"]) -> list[int]:
    """Positions of the cheapest phases, few of each composition, or one would crowd out others."""
    kept: list[int] = []
    used: Counter[tuple[float, ...]] = Counter()
    for index in np.argsort(costs, kind="stable").tolist():
        composition = tuple(np.round(fractions[index], 6).tolist())
        used[composition] += 1
        if used[composition] <= PER_COMPOSITION:
            kept.append(index)
    return kept[:MAX_PHASES]


def energy_of_reaction(
    energy: float, reference_energies: Sequence[float], shares: Sequence[float]
) -> float:
    """Energy of a crystal less that of the phases that balance it, eV/atom."""
    return energy - float(np.dot(reference_energies, shares))
