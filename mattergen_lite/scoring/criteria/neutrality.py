"""Can the charges balance, and which oxidation state does each element carry?

Elements and all-metal alloys carry no formal charges and are verdicts of their own, not failures.
For everything else states come from bond lengths where pymatgen's bond valence analysis succeeds
(O'Keeffe & Brese, JACS 1991, 113, 3226) with species that occur, otherwise from the composition
alone: the likeliest states of smact's ICSD 2024 set that balance and obey Pauling's rule (cations
are less electronegative than anions), which is `smact_validity`, extended by mixed valence.

`composition_valid` is the benchmark's boolean (CDVAE, arXiv 2110.06197, appendix B): smact's 2014
states, one state per element, elements and alloys valid. It says True for 90% of MP-20's test set.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache, reduce
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np
from pymatgen.core import Composition, Element, Structure

Verdict = Literal["neutral", "alloy", "element", "charged", "unassigned"]
Method = Literal["bond valence", "composition", "none"]

SMACT_SETS = ("smact14", "icsd16", "icsd24")
CDVAE_SET = "smact14"
MAX_SMACT_COMBINATIONS = 50_000  # about 0.3 s
MIN_ICSD_COUNT = 3  # smact's own default
MAX_BOND_VALENCE_ATOMS = 60  # beyond, bond valence analysis can take minutes
MAX_BOND_VALENCE_PERMUTATIONS = 1_000  # 10,000 takes twice as long and assigns 2% more
# Bond lengths of an unrelaxed crystal can call for species that hardly exist. The natural log of a
# state's share in the ICSD, averaged over the atoms, may be this low where the composition alone
# cannot be balanced, and this much lower than the composition's own assignment where it can.
MIN_LOG_LIKELIHOOD = -2.5
MAX_LOG_LIKELIHOOD_LOSS = 1.0
LOG_SHARE_UNSEEN = -9.0  # of a state that the ICSD does not report three times
MAX_COMBINATIONS = 5_000_000  # of oxidation states tried for one composition
# Share of the ICSD's reports of an element below which a state is doubtful: P-2 has 1.1%, Fe+5
# 0.1%; S-1 of pyrite 3.1%, P+3 of phosphites 3.6%. Of MP-20's test compounds 21% have such a state,
# most of them silicides and the like, of which formal charges say little.
MIN_COMMON_SHARE = 0.02


@dataclass(frozen=True, kw_only=True)
class Neutrality:
    """Charge balance of one crystal.

    Verdicts: "neutral", a balanced assignment exists; "charged", none does; "unassigned", an
    element has no known oxidation state; "alloy", all metals; "element", one element.
    """

    charge_verdict: Verdict
    oxidation_states: str  # distinct species, "Li+1 P+5 S-2"; empty if nothing balances
    # Of every site in its order, "1 1 5 -2"; empty if nothing balances, or if an element has two
    # states and only the composition spoke, which cannot tell its sites apart.
    site_oxidation_states: str
    oxidation_method: Method
    # Those of the states that are rare, rarest first, "Fe+5 (0.1% of Fe)"; empty if none is.
    doubtful_oxidation_states: str
    smact_sets: tuple[str, ...]  # sets of states under which `smact_validity` is True
    composition_valid: bool  # CDVAE protocol

    @property
    def is_neutral(self) -> bool:
        """What the check `neutral` asks: charges balance, or there are none to balance."""
        return self.charge_verdict in ("neutral", "alloy", "element")


class _Choice(NamedTuple):
    """One way to charge all atoms of an element in a formula unit."""

    states: tuple[int, ...]  # one, or two adjacent for mixed valence
    charge: int  # of all atoms together
    log_likelihood: float


@cache
def icsd_shares() -> dict[str, dict[int, float]]:
    """Share of each oxidation state among the ICSD's reports of an element, commonest first."""
    from smact.utils.oxidation import ICSD24OxStatesFilter

    table = ICSD24OxStatesFilter().ox_states_df
    table = table[(table.oxidation_state != 0) & (table.results_count >= MIN_ICSD_COUNT)]
    shares: dict[str, dict[int, float]] = {}
    for symbol, rows in table.sort_values("results_count", ascending=False).groupby("element"):
        counts = zip(rows.oxidation_state, rows.results_count, strict=True)
        shares[str(symbol)] = {int(state): n / rows.results_count.sum() for state, n in counts}
    return shares


@cache
def electronegativity(symbol: str) -> float:
    """Pauling electronegativity as smact has it; NaN where unknown."""
    import smact

    value = smact.Element(symbol).pauling_eneg
    return math.nan if value is None else float(value)


def is_metal(symbol: str) -> bool:
    """True if smact or pymatgen call the element a metal: smact has Ge and Sb but forgets Pm."""
    from smact import metals

    return symbol in metals or Element(symbol).is_metal


class _Assignment(NamedTuple):
    """Oxidation states of all elements."""

    log_likelihood: float  # mean over the atoms
    species: tuple[tuple[str, int], ...]  # distinct ones
    sites: tuple[int, ...] = ()  # state of every site, where bond lengths tell


def _single_choices(symbol: str, count: int, limit: int) -> list[_Choice]:
    """All atoms of the element in one state; the `limit` commonest states."""
    shares = list(icsd_shares()[symbol].items())[:limit]
    return [_Choice((state,), state * count, count * math.log(share)) for state, share in shares]


def _mixed_choices(symbol: str, count: int) -> list[_Choice]:
    """Atoms of the element split over two successive states of one sign, as in Fe3O4."""
    shares = icsd_shares()[symbol]
    pairs = [(low, high) for low, high in pairwise(sorted(shares)) if low * high > 0]
    # Of n atoms m are in the higher state: charge (n - m) q_low + m q_high,
    # log likelihood (n - m) ln p_low + m ln p_high with the shares p of the states in the ICSD.
    return [
        _Choice(
            (low, high),
            low * (count - num_high) + high * num_high,
            (count - num_high) * math.log(shares[low]) + num_high * math.log(shares[high]),
        )
        for low, high in pairs
        for num_high in range(1, count)
    ]


def _obeys_pauling(states: Sequence[Sequence[int]], electronegativities: np.ndarray) -> bool:
    """True if every cation is less electronegative than every anion."""
    is_cation = np.array([of_element[0] > 0 for of_element in states])
    cations, anions = electronegativities[is_cation], electronegativities[~is_cation]
    return bool(cations.max(initial=-math.inf) < anions.min(initial=math.inf))


def _best_balanced(
    choices: Sequence[Sequence[_Choice]], electronegativities: np.ndarray
) -> tuple[_Choice, ...] | None:
    """The likeliest balanced combination of choices that obeys Pauling's rule."""
    charges = [np.array([choice.charge for choice in options]) for options in choices]
    scores = [np.array([choice.log_likelihood for choice in options]) for options in choices]
    balanced = np.argwhere(reduce(np.add.outer, charges) == 0)
    likelihood = sum(score[column] for score, column in zip(scores, balanced.T, strict=True))
    for row in balanced[np.argsort(-likelihood)]:
        combination = tuple(options[i] for options, i in zip(choices, row, strict=True))
        if _obeys_pauling([choice.states for choice in combination], electronegativities):
            return combination
    return None


def _mixed_valence_elements() -> frozenset[str]:
    """Elements that smact lets appear in two states at once."""
    from smact.screening import MIXED_VALENCE_ELEMENTS

    return MIXED_VALENCE_ELEMENTS


def _trials(formula: dict[str, int]) -> Iterator[list[list[_Choice]]]:
    """Choices per element: one state each, then one element at a time in two states.

    With several elements of mixed valence at once nearly any formula could be balanced.
    """
    limit = int(MAX_COMBINATIONS ** (1 / len(formula)))
    single = [_single_choices(symbol, count, limit) for symbol, count in formula.items()]
    yield single
    for i, (symbol, count) in enumerate(formula.items()):
        if symbol in _mixed_valence_elements() and count > 1:
            yield [*single[:i], _mixed_choices(symbol, count), *single[i + 1 :]]


def _is_assignable(symbols: Iterable[str]) -> bool:
    """True if every element has known oxidation states and an electronegativity."""
    return all(
        symbol in icsd_shares() and not math.isnan(electronegativity(symbol)) for symbol in symbols
    )


@lru_cache(maxsize=100_000)
def _composition_assignment(reduced_formula: str) -> _Assignment | None:
    """The likeliest balanced oxidation states of a composition."""
    counts = Composition(reduced_formula).items()
    formula = {element.symbol: int(count) for element, count in counts}
    if not _is_assignable(formula):
        return None
    electronegativities = np.array([electronegativity(symbol) for symbol in formula])
    found = (_best_balanced(choices, electronegativities) for choices in _trials(formula))
    best = max(
        filter(None, found),
        key=lambda combination: sum(choice.log_likelihood for choice in combination),
        default=None,
    )
    if best is None:
        return None
    total = sum(choice.log_likelihood for choice in best)
    pairs = zip(formula, best, strict=True)
    species = tuple((symbol, state) for symbol, choice in pairs for state in choice.states)
    return _Assignment(total / sum(formula.values()), species)


def bond_valence_states(structure: Structure) -> list[int] | None:
    """Oxidation state of every site from bond lengths; None where the analysis fails."""
    from pymatgen.analysis.bond_valence import BVAnalyzer

    if len(structure) > MAX_BOND_VALENCE_ATOMS:
        return None
    try:
        analyser = BVAnalyzer(max_permutations=MAX_BOND_VALENCE_PERMUTATIONS)
        return [int(valence) for valence in analyser.get_valences(structure)]
    except ValueError:
        return None


def _bond_valence_assignment(structure: Structure) -> _Assignment | None:
    """Oxidation states from bond lengths, with their likelihood in the ICSD."""
    states = bond_valence_states(structure)
    if states is None:
        return None
    species = [(site.specie.symbol, state) for site, state in zip(structure, states, strict=True)]
    shares = [icsd_shares().get(symbol, {}).get(state) for symbol, state in species]
    logs = [math.log(share) if share else LOG_SHARE_UNSEEN for share in shares]
    return _Assignment(float(np.mean(logs)), tuple(set(species)), tuple(states))


def _site_states(structure: Structure, assignment: _Assignment) -> tuple[int, ...]:
    """Oxidation state of every site in its order; empty where sites cannot be told apart."""
    if assignment.sites:
        return assignment.sites
    states = dict(assignment.species)
    if len(states) < len(assignment.species):  # mixed valence
        return ()
    return tuple(states[site.specie.symbol] for site in structure)


def _assignment(structure: Structure) -> tuple[_Assignment | None, Method]:
    """The oxidation states to believe, and the method that gave them."""
    by_composition = _composition_assignment(structure.composition.reduced_formula)
    by_bonds = _bond_valence_assignment(structure)
    floor = MIN_LOG_LIKELIHOOD
    if by_composition is not None:
        floor = by_composition.log_likelihood - MAX_LOG_LIKELIHOOD_LOSS
    if by_bonds is not None and by_bonds.log_likelihood >= floor:
        return by_bonds, "bond valence"
    return by_composition, "composition" if by_composition else "none"


def _species_text(species: Iterable[tuple[str, int]]) -> str:
    """Distinct species as "Li+1 P+5 S-2" or "Cu0": by electronegativity, then by state."""

    def order(pair: tuple[str, int]) -> tuple[float, str, int]:
        value = electronegativity(pair[0])
        return (math.inf if math.isnan(value) else value, *pair)

    ordered = sorted(set(species), key=order)
    return " ".join(f"{symbol}{state:+d}" if state else f"{symbol}0" for symbol, state in ordered)


def _doubtful_text(species: Iterable[tuple[str, int]]) -> str:
    """The states that fewer than `MIN_COMMON_SHARE` of the ICSD's reports of an element have."""
    charged = {(symbol, state) for symbol, state in species if state}
    shares = {pair: float(icsd_shares().get(pair[0], {}).get(pair[1], 0.0)) for pair in charged}
    rare = sorted((share, *pair) for pair, share in shares.items() if share < MIN_COMMON_SHARE)
    texts = [f"{symbol}{state:+d} ({share:.1%} of {symbol})" for share, symbol, state in rare]
    return "; ".join(texts)


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
    """True if some choice of one state per element is neutral and obeys Pauling's rule.

    The rule (every cation less electronegative than every anion) means that there is a threshold of
    electronegativity with cations up to it and anions above. For each threshold the reachable total
    charges are a set that grows with each element: linear work where combinations explode.
    """
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


def _uncharged_verdict(symbols: Sequence[str]) -> Verdict | None:
    """The verdict of compositions in which formal charges mean nothing."""
    if len(symbols) == 1:
        return "element"
    return "alloy" if all(is_metal(symbol) for symbol in symbols) else None


def neutrality(structure: Structure) -> Neutrality:
    """Charge balance and oxidation states of one ordered crystal."""
    symbols = [element.symbol for element in structure.composition.elements]
    verdict = _uncharged_verdict(symbols)
    if verdict is None:
        assignment, method = _assignment(structure)
        species = assignment.species if assignment else ()
        sites = _site_states(structure, assignment) if assignment else ()
        unbalanced = "charged" if _is_assignable(symbols) else "unassigned"
        verdict = "neutral" if assignment else unbalanced
    else:
        species, method = [(symbol, 0) for symbol in symbols], "none"
        sites = (0,) * len(structure)
    accepted = smact_sets(structure.composition.reduced_formula)
    return Neutrality(
        charge_verdict=verdict,
        oxidation_states=_species_text(species),
        site_oxidation_states=" ".join(f"{state:d}" for state in sites),
        oxidation_method=method,
        doubtful_oxidation_states=_doubtful_text(species),
        smact_sets=accepted,
        composition_valid=CDVAE_SET in accepted,
    )
