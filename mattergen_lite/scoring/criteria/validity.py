"""Judges distances, volume, density and cell shape of a crystal.

`structure_valid` is the benchmark's boolean (CDVAE, arXiv 2110.06197, appendix B).
`physical_problem` is stricter; its limits were set on structures of the Materials Project.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np
from ase.data import covalent_radii
from ase.geometry.dimensionality.rank_determination import RDA
from pymatgen.core import Lattice, Structure

from mattergen_lite.symmetry.detection import SYMPREC_RELAXED, find_symmetry

CDVAE_MIN_DISTANCE = 0.5  # Å
CDVAE_MIN_VOLUME = 0.1  # Å³ per cell

# Beside each limit: how many of the 46,911 Materials Project structures within 0.1 eV/atom of the
# hull break it. Exploded cells are its 2,760 entries above 60 Å³ per atom.
MIN_CONTACT_RATIO = 0.6  # of the sum of covalent radii; < 0.1%
# Molecular crystals have few covalent spheres in a cell (0.2% below 0.1, solid nitrogen 0.07), but
# are full of spheres of about the van der Waals radius; below both are helium, hydrogen and PH3.
MIN_PACKING_FRACTION = 0.1  # 86% of exploded cells
MIN_VAN_DER_WAALS_PACKING = 0.45  # 0.01%
VAN_DER_WAALS_SHELL = 0.8  # Å beyond the covalent radius (Alvarez, Dalton Trans. 2013, 42, 8617)
MAX_DENSITY = 25.0  # g/cm³; none, osmium has 22.6
MAX_CELL_ASPECT = 20.0  # longest over shortest vector of the reduced primitive cell; none
# Å between spheres of covalent radius; 0.1% of 66,627 (all of the table within 0.1 eV/atom) without
# 526 sheets of (Mo,W)(S,Se,Te)2 that it has in vacuum: layers that PBE, without dispersion, holds
# apart, such as TaS2, PbSe and one of graphite. At experiment's distance graphite has 1.8, 2H-MoS2
# 0.9, the molecular crystals at most 2.6.
MAX_GAP = 4.0

BOND = 1.25  # of the sum of covalent radii: between lead (1.20) and the molecules of iodine (1.26)
MIN_GAP = 0.5  # Å; narrower gaps are not looked for

_TRANSLATIONS = np.array([n for n in product((-1, 0, 1), repeat=3) if any(n)])


@dataclass(frozen=True, kw_only=True)
class Validity:
    """Geometry of one crystal. Distances include every periodic image, of the same atom too."""

    min_distance: float  # Å
    closest_pair: str  # elements at the tightest contact relative to their radii, "O-Ti"
    contact_ratio: float  # the tightest contact over the sum of the two covalent radii
    packing_fraction: float  # volume of spheres of covalent radius over the volume of the cell
    volume_per_atom: float  # Å³
    density: float  # g/cm³
    cell_aspect: float  # longest over shortest vector of the reduced primitive cell
    min_angle: float  # degrees, of the cell as given
    max_angle: float  # degrees
    dimensionality: int | None  # of its bonds: 3, 2 layers, 1 chains, 0 molecules; None: overlap
    widest_gap: float  # Å, empty space between two planes of atoms; 0 if below `MIN_GAP`
    structure_valid: bool  # CDVAE: no two atoms within 0.5 Å, a cell of at least 0.1 Å³
    physical_problem: str  # what is physically wrong, in words; empty if nothing


def _periodic_distances(structure: Structure) -> np.ndarray:
    """Nearest-image distances in Å between all pairs of atoms, own images on the diagonal."""
    distances = np.array(structure.distance_matrix)
    reduced = structure.lattice.get_lll_reduced_lattice().matrix
    np.fill_diagonal(distances, np.linalg.norm(_TRANSLATIONS @ reduced, axis=1).min())
    return distances


def _cell_aspect(structure: Structure) -> float:
    """Longest over shortest vector of the reduced primitive cell; of the cell if none is found."""
    cell = structure.lattice.matrix, structure.frac_coords, np.array(structure.atomic_numbers)
    dataset = find_symmetry(*cell, SYMPREC_RELAXED)
    lattice = structure.lattice if dataset is None else Lattice(dataset.primitive_lattice)
    lengths = lattice.get_lll_reduced_lattice().abc
    return max(lengths) / min(lengths)


def widest_gap(structure: Structure, radii: np.ndarray) -> float:
    """Widest empty space between lattice planes, Å; 0 where none is as wide as `MIN_GAP`.

    Atoms are spheres. Of every family of planes that is far enough apart, each sphere covers an
    interval of the spacing; the widest interval that none covers is the gap.
    """
    normals = _plane_normals(structure.lattice, MIN_GAP + 2 * float(radii.min()))  # 1/Å
    if not len(normals):
        return 0.0
    spacings = 1 / np.linalg.norm(normals, axis=1)
    starts = structure.cart_coords @ normals.T - radii[:, None] / spacings
    starts = (starts - np.floor(starts)) * spacings  # [N, planes], of the intervals
    order = np.argsort(starts, axis=0)
    starts = np.take_along_axis(starts, order, axis=0)
    ends = np.maximum.accumulate(starts + 2 * radii[order], axis=0)
    wrapped = ends[-1:] - spacings  # what the last spheres cover of the following period
    covered = np.concatenate([wrapped, np.maximum(ends[:-1], wrapped)])
    gap = float((starts - covered).max())
    return gap if gap >= MIN_GAP else 0.0


def _plane_normals(lattice: Lattice, spacing: float) -> np.ndarray:
    """Reciprocal vectors (1/Å, without 2 pi) of planes at least a spacing in Å apart, [P, 3]."""
    reduced = lattice.get_lll_reduced_lattice().matrix
    highest = np.floor(np.linalg.norm(reduced, axis=1) / spacing).astype(int)
    axes = [np.arange(-index, index + 1) for index in highest]
    indices = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    half = indices[len(indices) // 2 + 1 :]  # of two opposite ones the second
    normals = half @ np.linalg.inv(reduced).T
    return normals[np.linalg.norm(normals, axis=1) <= 1 / spacing]


def dimensionality(structure: Structure, radii: np.ndarray) -> int:
    """In how many directions the bonded units of a crystal extend: the highest of all units.

    Larsen et al., Phys. Rev. Materials 2019, 3, 034003; ranks of components by ASE.
    """
    first, second, images, distances = structure.get_neighbor_list(2 * BOND * float(radii.max()))
    bonded = (first <= second) & (distances <= BOND * (radii[first] + radii[second]))
    graph = RDA(len(structure))
    bonds = zip(first[bonded], second[bonded], images[bonded].astype(int), strict=True)
    for atom, other, image in bonds:
        graph.insert_bond(int(atom), int(other), tuple(image.tolist()))
    return int(np.flatnonzero(graph.check()).max())


def _overlap(pair: str, first: int, second: int, distance: float, ratio: float) -> str:
    """Say how close two atoms are; numbers of atoms start at 1, as lines of a file do."""
    atoms = f"atoms {first + 1} and {second + 1}"
    if first == second:
        atoms = f"atom {first + 1} and its image in the next cell"
    return f"{pair} overlap: {distance:.2f} Å, {ratio:.2f} of their covalent radii ({atoms})"


def _problem(
    overlap: str,
    packings: tuple[float, float],
    density: float,
    aspect: float,
    gap: float,
) -> str:
    """Everything that is physically wrong, in words."""
    packing, loose_packing = packings
    is_empty = packing < MIN_PACKING_FRACTION and loose_packing < MIN_VAN_DER_WAALS_PACKING
    checks = (
        (gap > MAX_GAP, f"not a bulk crystal: {gap:.1f} Å of vacuum"),
        (bool(overlap), overlap),
        (is_empty, f"almost empty: packing fraction {packing:.3f}"),
        (density > MAX_DENSITY, f"density {density:.1f} g/cm³ is above any known solid"),
        (aspect > MAX_CELL_ASPECT, f"cell {aspect:.0f} times longer than wide"),
    )
    return "; ".join(reason for is_broken, reason in checks if is_broken)


def validity(structure: Structure) -> Validity:
    """Distances, volume, density, cell shape of an ordered crystal, and what is wrong with it."""
    distances = _periodic_distances(structure)
    radii = covalent_radii[list(structure.atomic_numbers)]  # Å; Cordero et al., Dalton 2008, 2832
    ratios = distances / (radii[:, None] + radii)
    first, second = divmod(int(ratios.argmin()), len(structure))
    pair = "-".join(sorted(structure[place].specie.symbol for place in (first, second)))
    contact, density = float(ratios.min()), float(structure.density)
    is_valid = distances.min() >= CDVAE_MIN_DISTANCE and structure.volume >= CDVAE_MIN_VOLUME
    is_overlapping = contact < MIN_CONTACT_RATIO or not is_valid
    overlap = _overlap(pair, first, second, float(distances[first, second]), contact)
    packing, loose_packing = (
        float(4 / 3 * np.pi * ((radii + shell) ** 3).sum() / structure.volume)
        for shell in (0, VAN_DER_WAALS_SHELL)
    )
    aspect = _cell_aspect(structure)
    gap = widest_gap(structure, radii)
    return Validity(
        min_distance=float(distances.min()),
        closest_pair=pair,
        contact_ratio=contact,
        packing_fraction=packing,
        volume_per_atom=float(structure.volume / len(structure)),
        density=density,
        cell_aspect=float(aspect),
        min_angle=float(min(structure.lattice.angles)),
        max_angle=float(max(structure.lattice.angles)),
        dimensionality=None if contact < MIN_CONTACT_RATIO else dimensionality(structure, radii),
        widest_gap=gap,
        structure_valid=bool(is_valid),
        physical_problem=_problem(
            overlap if is_overlapping else "", (packing, loose_packing), density, aspect, gap
        ),
    )
