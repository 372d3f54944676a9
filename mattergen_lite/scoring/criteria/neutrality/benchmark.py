"""Answers the benchmark's question about a composition: does smact call it valid?

`CDVAE_SET` is that of the published protocol (CDVAE, arXiv 2110.06197, appendix B): smact's 2014
states, one state per element, elements and alloys valid. True for 90% of MP-20's test set.
"""

import math
from collections.abc import Sequence
from functools import lru_cache

from pymatgen.core import Composition

SMACT_SETS = ("smact14", "icsd16", "icsd24")
CDVAE_SET = "smact14"
MAX_SMACT_COMBINATIONS = 50_000  # about 0.3 s


@lru_cache(maxsize=100_000)
def smact_sets(reduced_formula: str) -> tuple[str, ...]:
    """The smact oxidation-state sets under which `smact_validity` accepts a composition.

    smact tries every combination of states, 6^n of them for n elements, which takes minutes from
    about ten elements on; beyond `MAX_SMACT_COMBINATIONS` the same question is answered by sums.
    """
    from smact import Element as SmactElement
    from smact.screening import smact_validity

    counts = Composition(reduced_formula).get_reduced_composition_and_factor()[0].items()
    elements = [SmactElement(element.symbol) for element, _ in counts]
    numbers = [int(count) for _, count in counts]
    accepted = []
    for name in SMACT_SETS:
        states = [getattr(element, f"oxidation_states_{name}") or [] for element in elements]
        if math.prod(map(len, states)) <= MAX_SMACT_COMBINATIONS:
            valid = smact_validity(reduced_formula, oxidation_states_set=name)
        else:
            valid = _can_balance(states, numbers, [element.pauling_eneg for element in elements])
        if valid:
            accepted.append(name)
    return tuple(accepted)


def _can_balance(
    states: Sequence[Sequence[int]], counts: Sequence[int], eneg: Sequence[float | None]
) -> bool:
    """True if some choice of one state per element is neutral and obeys Pauling's rule."""
    # Cations lie below a threshold of electronegativity, anions above. For each threshold the set
    # of total charges grows with each element: linear work where combinations explode.
    if any(value is None for value in eneg):
        return False
    for threshold in sorted({-math.inf, *eneg}):
        charges = {0}
        for options, count, value in zip(states, counts, eneg, strict=True):
            allowed = [q for q in options if (q >= 0 if value <= threshold else q <= 0)]
            charges = {total + count * state for total in charges for state in allowed}
        if 0 in charges:
            return True
    return False
