"""Finds the bonds that decide about charges: between like atoms, and to more electronegative ones.

Two atoms are bonded if they are nearer than a multiple of the sum of their covalent radii (Cordero
et al., Dalton Trans. 2008, 2832).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
from ase.data import covalent_radii
from pymatgen.core import Element, Structure

from mattergen_lite.chemistry.oxidation import anion_rank, has_states, is_metal
from mattergen_lite.tensors.shapes import Float, Int

CUTOFF = 4.0  # Å, of the neighbours that count, as in pymatgen's bond valence analysis
LIKE = 1.15  # multiple of the radii within which like atoms are bonded
LIKE_OF = {"H": 1.6, "C": 1.2, "N": 1.25, "O": 1.27, "F": 1.3, "S": 1.2, "Te": 1.1}
LIKE_BRIDGED = 1.06  # of heavy cations, which shared edges of oxide polyhedra bring near
SMALL_ANIONS = frozenset("OFNC")
UNLIKE = 1.2  # multiple within which an atom is bonded to a more electronegative one
UNLIKE_HYDROGEN = 1.4  # of symmetric bridges, F-H-F
METALLIC = 1.12  # of the metallic radii: contact of metals
HALOGENS = frozenset({"F", "Cl", "Br", "I"})
SIMILAR = 0.1  # difference of electronegativity within a group below which a bond is unpolar
DISTANCE_SCALE = 1.015  # of GGA, as in pymatgen's bond valence analysis
VALENCE_SOFTNESS = 0.31  # Å, O'Keeffe and Brese's
GROUPS_OF_NONMETALS = range(13, 18)


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Anions that are bonded to their like."""

    sites: tuple[int, ...]
    bond_length: float  # Å, mean
    is_infinite: bool


@dataclass(frozen=True, kw_only=True)
class Bonds:
    """Bonds of every site of a crystal that decide about charges."""

    symbols: tuple[str, ...]
    num_like: Int[np.ndarray, "N"]  # bonds to atoms of the same or a similar element
    num_unlike: Int[np.ndarray, "N"]  # to more electronegative non-metals
    num_hydrogens: Int[np.ndarray, "N"]  # bonds to hydrogen that is less electronegative
    valence_sums: Float[np.ndarray, "N"]  # of bonds to anions and cations
    clusters: tuple[Cluster, ...]
    metal_contacts: frozenset[str]  # metals that touch metals, those of the s block aside
    has_neighbours: bool  # every atom has another one within `CUTOFF`

    @cached_property
    def anions(self) -> frozenset[str]:
        """Non-metals without a bond to a stronger anion; the strongest without known bonds."""
        if not self.has_neighbours:
            return frozenset({max(sorted(set(self.symbols)), key=anion_rank)})
        sites = zip(self.symbols, self.num_unlike, strict=True)
        return frozenset(symbol for symbol, unlike in sites if not unlike and not is_metal(symbol))


@cache
def _can_bond(symbol: str) -> bool:
    """Whether atoms of an element bond to their like in salts."""
    element = Element(symbol)
    in_block = element.block == "p" and element.group in GROUPS_OF_NONMETALS
    return symbol in ("H", "Hg") or (in_block and symbol != "Al")


@cache
def _is_nonmetal(symbol: str) -> bool:
    """Whether an element draws the electrons of a covalent bond from a less electronegative."""
    return symbol in ("H", "Te", "Se") or not is_metal(symbol)


@cache
def _radius(symbol: str) -> float:
    return float(covalent_radii[Element(symbol).Z])


@cache
def _like_limit(symbol: str, other: str) -> float:
    """Longest bond of two atoms that share its electrons equally, in Å; 0 if they do not."""
    first, second = Element(symbol), Element(other)
    if not (_can_bond(symbol) and _can_bond(other)):
        return 0.0
    if symbol != other and not {symbol, other} <= HALOGENS:
        unequal = abs(anion_rank(symbol) - anion_rank(other)) > SIMILAR
        if first.group != second.group or min(first.row, second.row) < 3 or unequal:
            return 0.0
    scale = max(LIKE_OF.get(symbol, LIKE), LIKE_OF.get(other, LIKE)) if symbol == other else LIKE
    return scale * (_radius(symbol) + _radius(other))


@cache
def _unlike_limit(symbol: str, other: str) -> float:
    """Longest bond of an atom to a more electronegative one that takes its electrons, in Å."""
    element = Element(symbol)
    drawn = symbol == "H" or (element.block == "p" and element.group in GROUPS_OF_NONMETALS)
    polar = anion_rank(symbol) < anion_rank(other)
    if not (drawn and polar and _is_nonmetal(other)) or {symbol, other} <= HALOGENS:
        return 0.0
    if _like_limit(symbol, other):
        return 0.0
    scale = UNLIKE_HYDROGEN if "H" in (symbol, other) else UNLIKE
    return scale * (_radius(symbol) + _radius(other))


@cache
def _contact_limit(first: str, second: str) -> float:
    """Longest contact of two metals, neither of the s block, in Å."""
    radii = []
    for symbol in (first, second):
        element = Element(symbol)
        if not is_metal(symbol) or element.block == "s":
            return 0.0
        known = float(element.data.get("Metallic radius") or math.nan)
        radii.append(1.2 * _radius(symbol) if math.isnan(known) else known)
    return METALLIC * sum(radii)


@cache
def _valence_length(symbol: str, other: str) -> float:
    """Length of a bond of valence 1 after O'Keeffe and Brese (JACS 1991, 113, 3226), in Å."""
    from pymatgen.analysis.bond_valence import BV_PARAMS, ELECTRONEG

    first, second = Element(symbol), Element(other)
    known = first in BV_PARAMS and second in BV_PARAMS
    if symbol == other or not known or not (first in ELECTRONEG or second in ELECTRONEG):
        return -np.inf
    (r, c), (s, d) = ((BV_PARAMS[e]["r"], BV_PARAMS[e]["c"]) for e in (first, second))
    return r + s - r * s * (np.sqrt(c) - np.sqrt(d)) ** 2 / (c * r + d * s)


def _table(names: Sequence[str], function: Callable[[str, str], float]) -> Float[np.ndarray, "E E"]:
    return np.array([[function(name, other) for other in names] for name in names], dtype=float)


def find_bonds(structure: Structure) -> Bonds:
    """Find the bonds of an ordered crystal."""
    symbols = tuple(site.specie.symbol for site in structure)
    names = sorted(set(symbols))
    element = np.array([names.index(symbol) for symbol in symbols])
    first, second, images, distances = structure.get_neighbor_list(CUTOFF)
    pairs = element[first], element[second]
    count = len(symbols)

    def per_site(chosen: np.ndarray) -> np.ndarray:
        return np.bincount(first[chosen], minlength=count)

    assigned = [name for name in names if has_states(name)]
    polarity = _table(names, lambda a, b: _sign(a, b) if {a, b} <= set(assigned) else 0.0)
    unlike = distances < _table(names, _unlike_limit)[pairs]
    num_unlike = per_site(unlike)
    limits = _table(names, _like_limit)[pairs]
    heavy = np.array([name == "Si" or Element(name).row > 3 for name in names])
    small = np.array([name in SMALL_ANIONS for name in names])
    coordinated = per_site(unlike & small[pairs[1]]) > 0
    bridged = heavy[pairs[0]] & heavy[pairs[1]] & coordinated[first] & coordinated[second]
    limits = np.where(bridged, limits * LIKE_BRIDGED / LIKE, limits)
    like = distances < limits
    valences = np.exp(
        (_table(names, _valence_length)[pairs] - distances * DISTANCE_SCALE) / VALENCE_SOFTNESS
    )
    sums = np.bincount(first, valences * polarity[pairs], minlength=count).astype(float)
    touching = distances < _table(names, _contact_limit)[pairs]
    protons = unlike & (np.array(symbols)[first] == "H")
    return Bonds(
        symbols=symbols,
        num_like=per_site(like),
        num_unlike=num_unlike,
        num_hydrogens=np.bincount(second[protons], minlength=count),
        valence_sums=sums,
        clusters=_clusters(first[like], second[like], images[like], distances[like]),
        metal_contacts=frozenset(symbols[i] for i in first[touching]),
        has_neighbours=len(set(first.tolist())) == count,
    )


def _sign(symbol: str, other: str) -> float:
    return 1.0 if anion_rank(symbol) < anion_rank(other) else -1.0


def _clusters(
    first: np.ndarray, second: np.ndarray, images: np.ndarray, distances: np.ndarray
) -> tuple[Cluster, ...]:
    """Connected sets of bonded atoms, and whether they go on from cell to cell."""
    neighbours: dict[int, list[tuple[int, np.ndarray, float]]] = {}
    for i, j, image, distance in zip(first, second, images, distances, strict=True):
        neighbours.setdefault(int(i), []).append((int(j), image, float(distance)))
    clusters, visited = [], set()
    for start in sorted(neighbours):
        if start in visited:
            continue
        offsets, stack, infinite = {start: np.zeros(3)}, [start], False
        while stack:
            site = stack.pop()
            for other, image, _ in neighbours[site]:
                offset = offsets[site] + image
                if other not in offsets:
                    offsets[other] = offset
                    stack.append(other)
                infinite |= not np.array_equal(offsets[other], offset)
        visited |= set(offsets)
        lengths = [length for site in offsets for _, _, length in neighbours[site]]
        clusters.append(
            Cluster(
                sites=tuple(sorted(offsets)),
                bond_length=float(np.mean(lengths)),
                is_infinite=infinite,
            )
        )
    return tuple(clusters)
