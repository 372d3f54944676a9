"""Judges whether the charges of a crystal balance, and assigns oxidation states.

The likeliest states that balance are chosen by bonds between like atoms, bond valence sums and the
ICSD's counts (smact's 2024 set). States that hardly occur, and anions without the bond that they
need (O-1 without an O-O bond), are no balance. Elements, alloys and compounds whose electrons are
held by metallic bonds or networks have verdicts of their own.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import gcd, inf, isnan
from typing import Literal

from pymatgen.core import Composition, Element, Structure

from mattergen_lite.chemistry.oxidation import (
    MIN_SHARE,
    anion_counts,
    anion_rank,
    electronegativity,
    has_states,
    is_metal,
    shares_beside,
)
from mattergen_lite.scoring.criteria.neutrality.balance import best_assignment, reachable
from mattergen_lite.scoring.criteria.neutrality.benchmark import CDVAE_SET, smact_sets
from mattergen_lite.scoring.criteria.neutrality.bonds import Bonds, find_bonds
from mattergen_lite.scoring.criteria.neutrality.choices import (
    Choice,
    Part,
    list_parts,
)

Verdict = Literal["neutral", "alloy", "element", "charged", "unassigned"]
Method = Literal["bond valence", "composition", "none"]

# Share of the ICSD's reports of an element below which a state that occurs is doubtful: Fe+4 has
# 1.2%, Ni+4 1.2%; Cu+3 3.0%, Co+4 1.7%.
MIN_COMMON_SHARE = 0.02
# Non-metals and metalloids that share electrons with metals and with their like; what their formal
# charges do not explain is no failure.
SOFT_ANIONS = frozenset({"H", "B", "C", "Si", "Ge", "Sn", "Pb", "P", "As", "Sb", "Bi", "Te"})
CHALCOGENS = frozenset({"S", "Se"})
RARE_EARTHS = frozenset(
    {element.symbol for element in Element if element.group == 3}
)  # LaS conducts
SUBOXIDE_METALS = {"O": {"Rb", "Cs"}, "N": {"Ca", "Sr", "Ba"}}  # Cs11O3, Ba2N


@dataclass(frozen=True, kw_only=True)
class Neutrality:
    """Charge balance of one crystal.

    Verdicts: "neutral", a balanced assignment exists; "charged", none does; "unassigned", formal
    charges say nothing or are unknown; "alloy", all metals; "element", one element.
    """

    charge_verdict: Verdict
    charge_reason: str  # why it is charged or unassigned; empty otherwise
    # Distinct species, "Li+1 P+5 S-2"; atoms that share a charge have a fraction, "O-1/2" in KO2;
    # empty if nothing balances.
    oxidation_states: str
    # Of every site in its order, "1 1 5 -2"; empty if nothing balances, or if an element has two
    # states that its sites do not tell apart.
    site_oxidation_states: str
    oxidation_method: Method
    anion_clusters: str  # bonded anions and their charges, "O2 2-; N3 1-"; empty if there are none
    # Doubtful states with the reason, rarest first, "Fe+4 (1.2% of Fe)"; empty if none is.
    doubtful_oxidation_states: str
    smact_sets: tuple[str, ...]  # sets of states under which `smact_validity` is True
    composition_valid: bool  # CDVAE protocol

    @property
    def is_neutral(self) -> bool | None:
        """Outcome of the check `neutral`: whether charges balance; None where they are unassigned.

        Where there are none to balance, as in alloys and elements, it is passed.
        """
        if self.charge_verdict == "unassigned":
            return None
        return self.charge_verdict != "charged"


@dataclass(frozen=True, kw_only=True)
class _Judgement:
    """A verdict, the reason for it, and the choices that it rests on."""

    verdict: Verdict
    reason: str = ""
    pairs: Sequence[tuple[Part, Choice]] = ()  # empty if nothing balances


def neutrality(structure: Structure) -> Neutrality:
    """Judge the charge balance of one ordered crystal and assign its oxidation states."""
    symbols = sorted(element.symbol for element in structure.composition.elements)
    accepted = smact_sets(structure.composition.reduced_formula)
    bonds = None
    if len(symbols) == 1:
        judgement = _Judgement(verdict="element")
    elif all(is_metal(symbol) for symbol in symbols):
        judgement = _Judgement(verdict="alloy")
    elif unknown := [symbol for symbol in symbols if not has_states(symbol)]:
        judgement = _unassigned(f"{', '.join(unknown)} has no known oxidation state")
    else:
        bonds = find_bonds(structure)
        judgement = _judge(symbols, bonds)
    states = _site_states(judgement, len(structure))
    species = _species(judgement, symbols)
    return Neutrality(
        charge_verdict=judgement.verdict,
        charge_reason=judgement.reason,
        oxidation_states=_species_text(species),
        site_oxidation_states=" ".join(map(str, states)),
        oxidation_method=_method(judgement, bonds),
        anion_clusters=_clusters_text(judgement.pairs, bonds),
        doubtful_oxidation_states=_doubtful_text(judgement.pairs, bonds),
        smact_sets=accepted,
        composition_valid=CDVAE_SET in accepted,
    )


def _unassigned(reason: str) -> _Judgement:
    return _Judgement(verdict="unassigned", reason=reason)


def _judge(symbols: Sequence[str], bonds: Bonds) -> _Judgement:
    """Balance the charges of a compound, or say why they do not balance."""
    if _is_interstitial_hydride(symbols):
        return _unassigned("interstitial hydride: hydrogen in a metal has no formal charge")
    parts = list_parts(bonds)
    if networks := sorted({part.symbols[0] for part in parts if not part.choices}):
        return _unassigned(f"{', '.join(networks)} in a network of its own has no formal charge")
    assignment = best_assignment(parts) or best_assignment(list_parts(bonds, copies=2))
    if assignment is not None:
        return _Judgement(verdict="neutral", pairs=assignment.pairs)
    reason = _metallic_reason(symbols, bonds, parts)
    if reason is not None:
        return _unassigned(reason)
    return _Judgement(verdict="charged", reason=_imbalance(parts, bonds))


def _is_interstitial_hydride(symbols: Sequence[str]) -> bool:
    """Whether hydrogen is the only non-metal beside metals of groups 5 to 10."""
    others = [Element(symbol) for symbol in symbols if symbol != "H"]
    interstitial = all(other.block == "d" and 5 <= other.group <= 10 for other in others)
    return len(others) < len(symbols) and interstitial


def _metallic_reason(symbols: Sequence[str], bonds: Bonds, parts: Sequence[Part]) -> str | None:
    """Say why formal charges mean nothing in a compound; None if they should balance."""
    metals = {symbol for symbol in symbols if is_metal(symbol) and Element(symbol).block != "s"}
    anion = max((symbol for symbol in symbols if not is_metal(symbol)), key=anion_rank)
    soft = sorted(_soft_anions(bonds, metals))
    if soft:
        return f"electrons of {', '.join(soft)} are shared in metallic bonds or networks"
    low, _, taken = reachable(parts)
    if low <= taken:
        return None
    if bonds.metal_contacts:
        return (
            f"bonds between {', '.join(sorted(bonds.metal_contacts))} hold the electrons "
            f"that {anion} does not take"
        )
    others = {symbol for symbol in symbols if symbol != anion}
    if others <= RARE_EARTHS if anion in CHALCOGENS else others & SUBOXIDE_METALS.get(anion, set()):
        return f"{', '.join(sorted(others))} keeps electrons that {anion} does not take"
    return None


def _soft_anions(bonds: Bonds, metals: set[str]) -> set[str]:
    """Members of `SOFT_ANIONS` bonded to their like or to metals, and to no stronger anion."""
    sites = zip(bonds.symbols, bonds.num_unlike, bonds.num_like, strict=True)
    return {
        symbol
        for symbol, unlike, like in sites
        if symbol in SOFT_ANIONS and not unlike and (like or metals - {symbol})
    }


def _imbalance(parts: Sequence[Part], bonds: Bonds) -> str:
    """Say by how much charges fail to balance, or which impossible states would balance them."""
    forced = best_assignment(list_parts(bonds, rare=True))
    if forced is not None:
        texts = []
        for part, choice in forced.pairs:
            allowed = {
                state
                for relative in parts
                if part.symbols[0] in relative.symbols
                for option in relative.choices
                for state in option.states
            }
            for state, share in zip(choice.states, choice.rarity, strict=True):
                if state not in allowed:
                    texts.append(_rare_text(part.symbols[0], state, share))
        if texts:
            return f"balances only with {', '.join(sorted(set(texts)))}"
    low, high, taken = reachable(parts)
    unit = gcd(*(len(part.sites) for part in parts))
    given = " to ".join(f"{value / unit:+g}" for value in sorted({low, high}))
    return f"no states that occur balance: cations give {given}, anions take {-taken / unit:+g}"


def _rare_text(symbol: str, state: Fraction, share: float) -> str:
    """A state and why it is none: rare, or without the bonds that it needs."""
    name = _species_text([(symbol, state)])
    if state < 0 or share >= MIN_SHARE:
        return f"{name} without the bonds that it needs"
    return f"{name} ({share:.1%} of {symbol})"


def _method(judgement: _Judgement, bonds: Bonds | None) -> Method:
    if not judgement.pairs:
        return "none"
    return "bond valence" if bonds.has_neighbours else "composition"


def _species(judgement: _Judgement, symbols: Sequence[str]) -> set[tuple[str, Fraction]]:
    if judgement.verdict in ("alloy", "element"):
        return {(symbol, Fraction(0)) for symbol in symbols}
    return {
        (symbol, state)
        for part, choice in judgement.pairs
        for symbol in part.symbols
        for state in choice.states
    }


def _site_states(judgement: _Judgement, count: int) -> list[Fraction]:
    """Oxidation state of every site in its order; empty where sites cannot be told apart."""
    if judgement.verdict in ("alloy", "element"):
        return [Fraction(0)] * count
    states = [Fraction(0)] * count if judgement.pairs else []
    for part, choice in judgement.pairs:
        if not _differ(part, choice):
            return []
        for place, site in enumerate(part.sites):
            states[site] = choice.states[0 if place < choice.num_high else -1]
    return states


def _clusters_text(pairs: Sequence[tuple[Part, Choice]], bonds: Bonds | None) -> str:
    """Finite sets of bonded anions with their charges."""
    states = {
        site: choice.states[0]
        for part, choice in pairs
        for site in part.sites
        if not choice.is_cation
    }
    texts = set()
    for cluster in bonds.clusters if states else ():
        if cluster.is_infinite or not states.keys() >= set(cluster.sites):
            continue
        counts = Counter(bonds.symbols[site] for site in cluster.sites)
        formula = "".join(f"{symbol}{n if n > 1 else ''}" for symbol, n in sorted(counts.items()))
        charge = sum(states[site] for site in cluster.sites)
        sign = "-" if charge < 0 else "+" if charge > 0 else ""
        texts.add(f"{formula} {abs(charge)}{sign}")
    return "; ".join(sorted(texts))


def _species_text(species: Iterable[tuple[str, Fraction]]) -> str:
    """Distinct species as "Li+1 P+5 S-2", "O-1/2" or "Cu0": by electronegativity, then state."""

    def order(pair: tuple[str, Fraction]) -> tuple[float, str, Fraction]:
        value = electronegativity(pair[0])
        return (inf if isnan(value) else value, *pair)

    ordered = sorted(set(species), key=order)
    return " ".join(
        f"{symbol}{'+' if state > 0 else ''}{state}" if state else f"{symbol}0"
        for symbol, state in ordered
    )


def _doubtful_text(pairs: Sequence[tuple[Part, Choice]], bonds: Bonds | None) -> str:
    """States that fewer than `MIN_COMMON_SHARE` of an element's compounds have, rarest first.

    Compounds are the ICSD's, or the stable known ones with the anions of the crystal. A state is
    doubtful, too, if none of these has the element (Kr beside O); an anion cluster of several
    elements, if none has it; two states two electrons apart (Te+4, Te+6), if their sites do not
    differ.
    """
    anions = bonds.anions if pairs else frozenset()
    doubts = set()
    for part, choice in pairs:
        symbol = part.symbols[0]
        if choice.states[0] - choice.states[-1] > 1 and not _differ(part, choice):
            pair = _species_text((symbol, state) for state in choice.states)
            doubts.add((0.0, f"{pair} (on sites that do not differ)"))
        others = anions - {symbol}
        beside = shares_beside(symbol, others) if others else None
        words = f"beside {', '.join(sorted(others))}"
        for state, share in zip(choice.states, choice.rarity, strict=True):
            name = _species_text([(symbol, state)])
            here = beside.get(int(state), 0.0) if beside and choice.is_cation else share
            if choice.is_cation and beside == {}:
                doubts.add((0.0, f"{name} ({symbol} in no stable compound {words})"))
            elif 0 < share < MIN_COMMON_SHARE:
                doubts.add((share, f"{name} ({share:.1%} of {symbol})"))
            elif 0 < share < 1 and here < MIN_COMMON_SHARE:
                doubts.add((here, f"{name} ({here:.1%} of {symbol} {words})"))
    known = anion_counts()["clusters"]
    clusters = _clusters_text(pairs, bonds).split("; ")
    doubts |= {
        (0.0, f"{cluster} (in no stable compound)")
        for cluster in clusters
        if cluster and cluster not in known and _is_mixed(cluster)
    }
    return "; ".join(text for _, text in sorted(doubts))


def _differ(part: Part, choice: Choice) -> bool:
    """Whether atoms with different states have different surroundings."""
    return len(choice.states) < 2 or part.is_split(choice.num_high)


def _is_mixed(cluster: str) -> bool:
    """Whether a cluster such as "ClF6 1-" has several elements."""
    return len(Composition(cluster.split()[0])) > 1
