"""Tells which numbers of atoms of which elements can be neutral, with states that occur."""

from collections.abc import Mapping

from mattergen_lite.chemistry.oxidation import anion_rank, is_metal, negative_state, positive_states


def can_be_neutral(counts: Mapping[str, int]) -> bool:
    """Tell whether one common oxidation state of each element balances the charges.

    Metals are cations. Of the other elements those above some electronegativity are anions, and
    those below it cations. All metals, and single elements, have no charges to balance.
    """
    if len(counts) == 1 or all(map(is_metal, counts)):
        return True
    anions = frozenset({max(sorted(counts), key=anion_rank)})
    ranks = {anion_rank(symbol) for symbol in counts if not is_metal(symbol)}
    return any(_balances(counts, anions, lowest) for lowest in ranks)


def _balances(counts: Mapping[str, int], anions: frozenset[str], lowest: float) -> bool:
    """Whether charges balance if non-metals from this electronegativity on are anions."""
    totals = {0}
    for symbol, count in counts.items():
        is_anion = not is_metal(symbol) and anion_rank(symbol) >= lowest
        lone = negative_state(symbol)
        anion = () if lone is None else (lone,)
        states = anion if is_anion else tuple(positive_states(symbol, anions))
        totals = {total + count * state for total in totals for state in states}
    return 0 in totals
