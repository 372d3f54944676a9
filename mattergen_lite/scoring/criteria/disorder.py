"""Finds elements that could share a site, and the crystal that results if they do.

Generators place elements on an ordered grid even where nature mixes them: TaCr2O6 came out of a
generator as a new ordered compound, the sample made from it was rutile with Ta and Cr at random on
one site, a phase known for fifty years. The rule is Hume-Rothery's, in Goldschmidt's form for ions:
radii within 15%, similar electronegativity, for ions the same sign and charges at most two apart.
"""

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from pymatgen.core import Element, Structure

from mattergen_lite.chemistry.oxidation import electronegativity, icsd_shares, ion_radius, is_metal
from mattergen_lite.symmetry.detection import symmetry_dataset

MAX_RADIUS_DIFFERENCE = 0.15  # of the larger radius
MAX_ELECTRONEGATIVITY_DIFFERENCE = 0.7  # Pauling scale, of ions; O and F differ by 0.54
MAX_METAL_ELECTRONEGATIVITY_DIFFERENCE = 0.4  # of metal atoms in an alloy
MAX_CHARGE_DIFFERENCE = 2  # Ta5+ and Cr3+
MIN_ION_SHARE = 0.1  # of the ICSD's reports of an element, for one of its ions to count

Groups = tuple[tuple[str, ...], ...]


@dataclass(frozen=True, kw_only=True)
class SharedSites:
    """Elements on sites that become equivalent once the elements are not told apart."""

    groups: Groups
    space_group: int  # of the crystal with these elements merged
    num_atoms_primitive: int  # of the crystal with these elements merged


@cache
def _ions(symbol: str) -> dict[int, float]:
    """Charge and radius (Å) of the common ions of an element."""
    radii = {
        state: ion_radius(symbol, state)
        for state, share in icsd_shares().get(symbol, {}).items()
        if share >= MIN_ION_SHARE
    }
    return {state: radius for state, radius in radii.items() if radius is not None}


def _similar_radii(radius: float, other: float) -> bool:
    return abs(radius - other) <= MAX_RADIUS_DIFFERENCE * max(radius, other)


def _similar_ions(symbol: str, other: str) -> bool:
    return any(
        state * other_state > 0
        and abs(state - other_state) <= MAX_CHARGE_DIFFERENCE
        and _similar_radii(radius, other_radius)
        for state, radius in _ions(symbol).items()
        for other_state, other_radius in _ions(other).items()
    )


def _metallic_radius(symbol: str) -> float:
    """Metallic radius in Å, the atomic one where the element has none."""
    element = Element(symbol)
    with warnings.catch_warnings():  # pymatgen announces every element without a metallic radius
        warnings.simplefilter("ignore")
        return float(element.metallic_radius or element.atomic_radius or 0)


@cache
def could_share_a_site(symbol: str, other: str, *, metallic: bool) -> bool:
    """True if two elements could mix on one site, as ions or as metal atoms."""
    difference = abs(electronegativity(symbol) - electronegativity(other))  # NaN compares as False
    if metallic:
        return difference <= MAX_METAL_ELECTRONEGATIVITY_DIFFERENCE and _similar_radii(
            _metallic_radius(symbol), _metallic_radius(other)
        )
    return difference <= MAX_ELECTRONEGATIVITY_DIFFERENCE and _similar_ions(symbol, other)


def mixable_groups(symbols: Iterable[str]) -> Groups:
    """Sets of two or more of these elements that could share a site, each sorted."""
    symbols = sorted(set(symbols))
    metallic = all(is_metal(symbol) for symbol in symbols)
    groups: list[list[str]] = []
    for symbol in symbols:
        mixes_with = [
            group
            for group in groups
            if any(could_share_a_site(symbol, member, metallic=metallic) for member in group)
        ]
        joined = sorted([symbol, *(member for group in mixes_with for member in group)])
        groups = [group for group in groups if group not in mixes_with] + [joined]
    return tuple(sorted(tuple(group) for group in groups if len(group) > 1))


def merged(structure: Structure, groups: Groups) -> Structure:
    """The crystal with the elements of each group replaced by the group's first."""
    first = {symbol: group[0] for group in groups for symbol in group}
    symbols = [site.specie.symbol for site in structure]
    merged_symbols = [first.get(symbol, symbol) for symbol in symbols]
    return Structure(structure.lattice, merged_symbols, structure.frac_coords)


def shared_sites(structure: Structure, *, symprec: float) -> SharedSites | None:
    """Elements that could mix and sit on sites equivalent but for the element; None if none do.

    Raises:
        ValueError: If spglib finds no symmetry at `symprec` (Å).
    """
    candidates = mixable_groups(element.symbol for element in structure.composition.elements)
    if not candidates:
        return None
    dataset = symmetry_dataset(merged(structure, candidates), symprec)
    orbits: dict[int, set[str]] = {}
    for site, orbit in zip(structure, dataset.crystallographic_orbits.tolist(), strict=True):
        orbits.setdefault(orbit, set()).add(site.specie.symbol)
    shared = {tuple(sorted(symbols)) for symbols in orbits.values() if len(symbols) > 1}
    if not shared:
        return None
    return SharedSites(
        groups=tuple(sorted(shared)),
        space_group=int(dataset.number),
        num_atoms_primitive=len(set(dataset.mapping_to_primitive.tolist())),
    )
