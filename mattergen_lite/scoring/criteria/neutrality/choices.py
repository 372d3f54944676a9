"""Lists the charges that the atoms of a crystal can take, from their bonds and the ICSD's counts.

An atom that is bonded to its like shares those electrons: with b such bonds an anion of charge q
has q + b (S-1 in pyrite, Si-1 in CaSi2), a cation of charge q has q - b (P+4 in P2S6, Hg+1). Small
molecules with multiple bonds (O2, N2, N3, C2) take the charge that their bond lengths call for,
polyhalides the one that closes their shell.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from fractions import Fraction
from itertools import combinations
from typing import NamedTuple

import numpy as np

from mattergen_lite.chemistry.oxidation import (
    HYDRIDE_METALS,
    anion_rank,
    icsd_shares,
    max_state,
    negative_state,
    positive_states,
)
from mattergen_lite.scoring.criteria.neutrality.bonds import HALOGENS, Bonds, Cluster

# Charge of a molecular anion and its usual bond length in Å (relaxed by PBE).
MOLECULES = {
    "O2": {1: 1.12, 0: 1.22, -1: 1.34, -2: 1.50},
    "N2": {0: 1.11, -1: 1.17, -2: 1.24, -4: 1.41},
    "C2": {-2: 1.25, -4: 1.35, -6: 1.48},
}
# Charges of larger ones, whatever their lengths: ozonide, azide, pentazolate, allenylide.
LARGER_MOLECULES = {"O3": (-1,), "N3": (-1,), "N5": (-1,), "C3": (-4,)}
RING_CATIONS = frozenset({"S", "Se", "Te"})  # square rings of four with a charge of 2+
LENGTH_SPREAD = 0.05  # Å, standard deviation of those lengths
MAX_LENGTH_PENALTY = 8.0
COUNTED_SHARE = 0.05  # of a state that follows from counting bonds and not from the ICSD
ZERO_SHARE = 0.02  # of a metal that hydrogen surrounds as in Mg2NiH4
MIXING_PENALTY = 1.5  # natural log, of two states of one element where one state would do
MAX_MIXED_GAP = 2  # between the two, as of Pb+2 and Pb+4
EQUAL_SITES_PENALTY = 1.6  # of an atom with such a pair on sites that do not differ
MIN_VALENCE_STEP = 0.02  # between bond valence sums that tell sites apart
MAX_VALENCE_PENALTY = 4.0  # of a bond valence sum that is far from those of a state
BOND_COUNTED = frozenset({"Si", "Ge", "P", "As", "Sb", "S", "Se", "Te", "Cl", "Br", "I"})
MAX_COUNTED_BONDS = 4  # beyond, an atom has more than an octet


class Choice(NamedTuple):
    """One way to charge all atoms of a part."""

    charge: int  # of all atoms together
    log_likelihood: float
    is_cation: bool
    states: tuple[Fraction, ...]  # one, or two of mixed valence, the higher first
    num_high: int = 0  # atoms that have the first of two
    rarity: tuple[float, ...] = ()  # share of each state in the ICSD, 1 where bonds make it


class Part(NamedTuple):
    """Atoms of one element that are bonded alike, or one molecular anion."""

    symbols: tuple[str, ...]
    sites: tuple[int, ...]  # by falling bond valence sum
    choices: tuple[Choice, ...]
    valence_sums: tuple[float, ...] = ()  # of the sites

    def is_split(self, count: int) -> bool:
        """Whether the first `count` sites differ from the others in their bond valence sums."""
        first, second = self.valence_sums[count - 1 : count + 1]
        return first - second > MIN_VALENCE_STEP


def list_parts(bonds: Bonds, *, rare: bool = False, copies: int = 1) -> list[Part]:
    """List the parts of a crystal with their choices, in an order that the sites do not decide.

    Args:
        rare: Allow any state that the ICSD reports, whatever bonds it needs.
        copies: Number of cells, so that the atoms of a small one can have two states.
    """
    molecules = (
        [] if rare else [cluster for cluster in bonds.clusters if _is_molecule(cluster, bonds)]
    )
    inside = {site for molecule in molecules for site in molecule.sites}
    alike: dict[tuple, list[int]] = defaultdict(list)
    for site, symbol in enumerate(bonds.symbols):
        if site not in inside:
            like, unlike = int(bonds.num_like[site]), int(bonds.num_unlike[site])
            unlike = unlike if symbol in BOND_COUNTED or symbol in "CN" else min(unlike, 1)
            alike[symbol, like, unlike, int(bonds.num_hydrogens[site])].append(site)
    parts = [_part(kind, sites * copies, bonds, rare) for kind, sites in sorted(alike.items())]
    for molecule in molecules * copies:
        parts += _molecule_parts(molecule, bonds)
    return sorted(parts, key=lambda part: (part.symbols, len(part.sites), part.choices))


def _is_molecule(cluster: Cluster, bonds: Bonds) -> bool:
    """Whether bond lengths or a closed shell, not the counting of bonds, tell the charge."""
    names = {bonds.symbols[site] for site in cluster.sites}
    if names == {"B"}:
        return _is_closo(cluster, bonds)
    is_ring = len(cluster.sites) == 4 and all(bonds.num_like[site] == 2 for site in cluster.sites)
    if any(bonds.num_unlike[site] or bonds.num_hydrogens[site] for site in cluster.sites):
        return False
    if len(names) == 1 and names <= RING_CATIONS:
        return is_ring and not cluster.is_infinite
    return names <= HALOGENS or (len(names) == 1 and names <= {"C", "N", "O"})


def _is_closo(cluster: Cluster, bonds: Bonds) -> bool:
    """Whether boron atoms form a closed deltahedron with one bond outwards each, as in B12H12."""
    sites = list(cluster.sites)
    closed = bonds.num_like[sites].min() >= 3 and np.all(bonds.num_unlike[sites] == 1)
    return not cluster.is_infinite and len(sites) >= 6 and bool(closed)


def _molecule_parts(cluster: Cluster, bonds: Bonds) -> list[Part]:
    """A molecular anion and the charges that it can have.

    Of an interhalogen with a single least electronegative atom, the others take an electron each:
    Br+5 and F-1 in BrF6-, I+1 and Cl-1 in ICl2-. Otherwise all atoms share the charge.
    """
    molecule = _molecule_part(cluster, bonds)
    centre, *outer = sorted(cluster.sites, key=lambda site: (anion_rank(bonds.symbols[site]), site))
    names = [bonds.symbols[site] for site in outer]
    if bonds.symbols[centre] in names or not {bonds.symbols[centre], *names} <= HALOGENS:
        return [molecule]
    charges = [choice.charge + len(outer) for choice in molecule.choices]
    choices = tuple(
        choice._replace(charge=charge, states=(Fraction(charge),))
        for choice, charge in zip(molecule.choices, charges, strict=True)
    )
    anion = Choice(-1, 0.0, False, (Fraction(-1),), 0, (1.0,))
    anions = [Part((name,), (site,), (anion,)) for name, site in zip(names, outer, strict=True)]
    return [Part((bonds.symbols[centre],), (centre,), choices), *anions]


def _molecule_part(cluster: Cluster, bonds: Bonds) -> Part:
    """A molecular anion whose atoms share the charges that it can have."""
    symbols = tuple(sorted(bonds.symbols[site] for site in cluster.sites))
    count, (symbol, *_) = len(symbols), symbols
    name = f"{symbol}{count}"
    if symbol == "B":
        weights = {count - 2: 0.0}  # two skeletal electrons more than atoms (Wade)
    elif symbol in HALOGENS:
        weights = {-1: 0.0, 1: -3.0} if count % 2 else {0: -0.7, -2: -1.0}
        if all(anion_rank(anion) <= anion_rank(symbol) for anion in bonds.anions):
            weights.pop(1, None)  # nothing takes the electron of Cl3+, but of I3+ beside F
    elif name in MOLECULES:
        weights = {
            charge: -min(((cluster.bond_length - length) / LENGTH_SPREAD) ** 2 / 2, 99.0)
            for charge, length in MOLECULES[name].items()
        }
        likeliest = max(weights.values())
        weights = {
            q: w - likeliest for q, w in weights.items() if w >= likeliest - MAX_LENGTH_PENALTY
        }
    elif symbol in RING_CATIONS:
        weights = {0: 0.0, 2: -1.0}
    elif symbol == "C" and (cluster.is_infinite or name not in LARGER_MOLECULES):
        weights = {}
    else:
        shared = sum(int(bonds.num_like[site]) for site in cluster.sites)
        counted = min(0, (negative_state(symbol) or 0) * count + shared)
        weights = dict.fromkeys(LARGER_MOLECULES.get(name, (counted,)), 0.0)
    choices = tuple(
        Choice(charge, weight, symbol == "B", (Fraction(charge, count),), 0, (1.0,))
        for charge, weight in weights.items()
    )
    return Part(symbols, cluster.sites, choices)


def _part(kind: tuple, sites: list[int], bonds: Bonds, rare: bool) -> Part:
    """Atoms that are bonded alike, and the charges that they can have."""
    symbol = kind[0]
    sites = sorted(sites, key=lambda site: -round(float(bonds.valence_sums[site]), 6))
    if rare:
        negative = {q: s for q, s in icsd_shares()[symbol].items() if q < 0}
        positive = {q: s for q, s in icsd_shares()[symbol].items() if q > 0}
    else:
        negative, positive = _states(*kind, bonds)
    choices = [
        Choice(q * len(sites), len(sites) * math.log(share), False, (Fraction(q),), 0, (1.0,))
        for q, share in negative.items()
    ]
    if rare:
        choices = [choice._replace(rarity=(negative[int(choice.states[0])],)) for choice in choices]
    shift = 0 if rare else kind[1]
    choices += _cation_choices(symbol, sites, positive, shift, bonds)
    sums = tuple(float(bonds.valence_sums[site]) for site in sites)
    return Part((symbol,), tuple(sites), tuple(choices), sums)


def _states(
    symbol: str, like: int, unlike: int, hydrogens: int, bonds: Bonds
) -> tuple[Mapping[int, float], Mapping[int, float]]:
    """States of an atom as an anion and as a cation, with their shares."""
    if symbol == "H":
        return _hydrogen_states(like, unlike, bonds)
    negative: dict[int, float] = {}
    lowest = negative_state(symbol)
    if lowest is not None and not unlike:
        negative = {min(lowest + like, 0): 1.0}
    positive = _shared_states(symbol, like, unlike, hydrogens, bonds)
    if symbol == "B" and bonds.has_neighbours and not unlike:
        return {}, {}
    return negative, positive


def _hydrogen_states(
    like: int, unlike: int, bonds: Bonds
) -> tuple[Mapping[int, float], Mapping[int, float]]:
    """Hydride, proton or molecule, as the neighbours say; hydride or proton without any."""
    if like:
        return {0: 1.0}, {}
    if unlike:
        return {}, {1: 1.0}
    return {-1: 1.0}, {} if bonds.has_neighbours else {1: 1.0}


def _shared_states(
    symbol: str, like: int, unlike: int, hydrogens: int, bonds: Bonds
) -> dict[int, float]:
    """States of an atom as a cation: those that occur less the electrons that it shares."""
    occurring = positive_states(symbol, bonds.anions)
    if symbol == "C" and unlike:
        states = {4 - like - 2 * hydrogens: 0.8}
        return states | ({2 - like: 0.2} if unlike == 1 and not hydrogens else {})
    states = {q - like: share for q, share in occurring.items()}
    if symbol in HYDRIDE_METALS and "H" in bonds.symbols:
        states[0] = ZERO_SHARE
    counts = symbol in BOND_COUNTED or (symbol == "N" and hydrogens)
    if counts and 0 < unlike <= MAX_COUNTED_BONDS:
        state = min((negative_state(symbol) or 0) + like + 2 * unlike, max_state(symbol) - like)
        states[state] = max(states.get(state, 0.0), COUNTED_SHARE)
    return states


def _cation_choices(
    symbol: str, sites: list[int], states: Mapping[int, float], like: int, bonds: Bonds
) -> list[Choice]:
    """One state for all atoms, or two of them where the larger bond valence sums get the higher."""
    logs = _log_likelihoods(symbol, sites, states, like, bonds)
    count, shares = len(sites), icsd_shares().get(symbol, {})
    rarity = {q: 1.0 if like else max(shares.get(q, 0.0), 0.0) for q in states}
    choices = [
        Choice(q * count, float(logs[q].sum()), True, (Fraction(q),), 0, (rarity[q],))
        for q in states
    ]
    for low, high in combinations(sorted(states), 2):
        if high - low > MAX_MIXED_GAP or low <= 0:
            continue
        equal = np.zeros(count + 1)
        if high - low == MAX_MIXED_GAP:  # as of Mn+5 and Mn+7 where Mn+6 would do
            steps = -np.diff(bonds.valence_sums[sites])
            equal[1:count][steps <= MIN_VALENCE_STEP] = EQUAL_SITES_PENALTY * count
        above = np.concatenate([[0.0], np.cumsum(logs[high])])
        below = np.concatenate([[0.0], np.cumsum(logs[low][::-1])])[::-1]
        choices += [
            Choice(
                low * (count - m) + high * m,
                float(above[m] + below[m]) - MIXING_PENALTY - equal[m],
                True,
                (Fraction(high), Fraction(low)),
                m,
                (rarity[high], rarity[low]),
            )
            for m in range(1, count)
        ]
    return choices


def _log_likelihoods(
    symbol: str, sites: list[int], states: Iterable[int], like: int, bonds: Bonds
) -> dict[int, np.ndarray]:
    """Log of the share of each state, and of how well each atom's bond valence sum suits it."""
    from pymatgen.analysis.bond_valence import ICSD_BV_DATA
    from pymatgen.core import Species

    shares = dict(states)
    logs = {q: np.full(len(sites), math.log(share)) for q, share in shares.items()}
    if like or not bonds.has_neighbours or len(shares) < 2:
        return logs
    data = {q: ICSD_BV_DATA.get(Species(symbol, q)) for q in shares}
    known = {
        q: statistics for q, statistics in data.items() if statistics and statistics["std"] > 0
    }
    sums = bonds.valence_sums[sites]
    if not sums.all():
        return logs
    penalties = {
        q: ((sums - statistics["mean"]) / statistics["std"]) ** 2 / 2 + math.log(statistics["std"])
        for q, statistics in known.items()
    }
    if len(penalties) < len(shares):
        return logs
    least = np.min(list(penalties.values()), axis=0)
    for q, penalty in penalties.items():
        logs[q] = logs[q] - np.minimum(penalty - least, MAX_VALENCE_PENALTY)
    return logs
