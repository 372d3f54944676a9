"""Is it a crystal at all: distances, volume, density and the shape of the cell.

`structure_valid` is the benchmark's boolean (CDVAE, arXiv 2110.06197, appendix B): it lets almost
everything through. `physical_problem` is stricter; its limits were set on the Materials Project
structures of the embedded reference, see the constants.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np
from ase.data import covalent_radii
from pymatgen.core import Lattice, Structure

CDVAE_MIN_DISTANCE = 0.5  # Å
CDVAE_MIN_VOLUME = 0.1  # Å³ per cell

# Beside each limit: how many of the 46,911 Materials Project structures within 0.1 eV/atom of the
# hull break it. Exploded cells are its 2,760 entries above 60 Å³ per atom.
MIN_CONTACT_RATIO = 0.6  # of the sum of covalent radii; < 0.1%
MIN_PACKING_FRACTION = 0.1  # 0.2%, molecular crystals; 86% of exploded cells
MAX_DENSITY = 25.0  # g/cm³; none, osmium has 22.6
MAX_CELL_ASPECT = 20.0  # longest over shortest vector of the reduced cell; none

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
    cell_aspect: float  # longest over shortest vector of the reduced cell
    min_angle: float  # degrees, of the cell as given
    max_angle: float  # degrees
    structure_valid: bool  # CDVAE: no two atoms within 0.5 Å, a cell of at least 0.1 Å³
    physical_problem: str  # what is physically wrong, in words; empty if nothing


def _shortest_translation(lattice: Lattice) -> float:
    """Length in Å of the shortest lattice vector: the distance of an atom to its own image."""
    reduced = lattice.get_lll_reduced_lattice().matrix
    return float(np.linalg.norm(_TRANSLATIONS @ reduced, axis=1).min())


def _periodic_distances(structure: Structure) -> np.ndarray:
    """Nearest-image distances in Å between all pairs of atoms, own images on the diagonal."""
    distances = np.array(structure.distance_matrix)
    np.fill_diagonal(distances, _shortest_translation(structure.lattice))
    return distances


def _covalent_radii(structure: Structure) -> np.ndarray:
    """Covalent radius of every atom in Å (Cordero et al., Dalton Trans. 2008, 2832)."""
    return covalent_radii[list(structure.atomic_numbers)]


def _problem(contact: float, pair: str, packing: float, density: float, aspect: float) -> str:
    """Everything that is physically wrong, in words."""
    checks = (
        (contact < MIN_CONTACT_RATIO, f"{pair} overlap: {contact:.2f} of their covalent radii"),
        (packing < MIN_PACKING_FRACTION, f"almost empty: packing fraction {packing:.3f}"),
        (density > MAX_DENSITY, f"density {density:.1f} g/cm³ is above any known solid"),
        (aspect > MAX_CELL_ASPECT, f"cell {aspect:.0f} times longer than wide"),
    )
    return "; ".join(reason for is_broken, reason in checks if is_broken)


def validity(structure: Structure) -> Validity:
    """Distances, volume, density, cell shape of an ordered crystal, and what is wrong with it."""
    distances, radii = _periodic_distances(structure), _covalent_radii(structure)
    ratios = distances / (radii[:, None] + radii)
    tightest = np.unravel_index(ratios.argmin(), ratios.shape)
    pair = "-".join(sorted(structure[int(i)].specie.symbol for i in tightest))
    reduced_lengths = structure.lattice.get_lll_reduced_lattice().abc
    contact, density = float(ratios.min()), float(structure.density)
    packing = float(4 / 3 * np.pi * (radii**3).sum() / structure.volume)
    aspect = max(reduced_lengths) / min(reduced_lengths)
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
        structure_valid=bool(
            distances.min() >= CDVAE_MIN_DISTANCE and structure.volume >= CDVAE_MIN_VOLUME
        ),
        physical_problem=_problem(contact, pair, packing, density, aspect),
    )
