"""Cells for plane waves: the setting of a crystal that costs least, its k points and its grid.

A crystal is standardised first, or k points that symmetry makes equal are calculated again and
again. Very oblique primitive cells have long vectors: their Niggli cell needs a smaller grid.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

import numpy as np
import spglib
from pymatgen.core import Element, Structure
from scipy.constants import physical_constants

from mattergen_lite.chemistry.oxidation import is_metal
from mattergen_lite.dft.settings import DftSettings, SampledCell
from mattergen_lite.tensors.shapes import Float, Int

SYMPREC = 0.01  # Å, of standardisation
SYMPREC_OF_OPERATIONS = 1e-4  # relative, as the engine finds them
# Denser k points of crystals of metals alone: at the density of the others energies of SbPb and
# LiMg3 were 0.02 to 0.03 eV/atom off (docs/explanation/first-principles.md).
METALLIC_DENSITY = 1.6
HARTREE, BOHR = (
    physical_constants["Hartree energy in eV"][0],
    physical_constants["Bohr radius"][0] * 1e10,
)


Spglib = tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, "N 3"], Int[np.ndarray, "N"]]


@dataclass(frozen=True, kw_only=True)
class PlaneWaveCell(SampledCell):
    """A cell with what its cost depends on."""

    num_irreducible: int  # k points that symmetry leaves
    grid: tuple[int, int, int]  # points of the Fourier grid along the axes

    @property
    def volume(self) -> float:
        """Volume in Å³."""
        return float(abs(np.linalg.det(self.cell)))

    @property
    def work(self) -> float:
        """Grid points times k points times atoms, to compare settings of one crystal."""
        return float(np.prod(self.grid)) * self.num_irreducible * len(self.numbers)


def choose_cell(structure: Structure, settings: DftSettings) -> PlaneWaveCell:
    """Return the setting of an ordered crystal that costs least."""
    given = (structure.lattice.matrix, structure.frac_coords, np.array(structure.atomic_numbers))
    return min(
        (_planned(setting, settings) for setting in _settings_of(given)), key=lambda cell: cell.work
    )


def _settings_of(given: Spglib) -> Iterator[Spglib]:
    """Standardised primitive, Niggli and conventional cells; the given one where spglib fails."""
    primitive = spglib.standardize_cell(given, to_primitive=True, symprec=SYMPREC)
    if primitive is None:
        yield given
        return
    yield primitive
    reduced = spglib.niggli_reduce(primitive[0])
    if reduced is not None:
        cartesian = primitive[1] @ primitive[0]
        yield reduced, cartesian @ np.linalg.inv(reduced), primitive[2]
    conventional = spglib.standardize_cell(given, to_primitive=False, symprec=SYMPREC)
    if conventional is not None and len(conventional[2]) > len(primitive[2]):
        yield conventional


def _planned(setting: Spglib, settings: DftSettings) -> PlaneWaveCell:
    cell, frac_coords, numbers = setting
    is_metallic = all(is_metal(Element.from_Z(number).symbol) for number in numbers)
    density = settings.kpoint_density * (METALLIC_DENSITY if is_metallic else 1.0)
    kpoints = kpoint_divisions(cell, density)
    rotations = _symmorphic_rotations(setting)
    return PlaneWaveCell(
        numbers=np.asarray(numbers, dtype=int),
        cell=np.asarray(cell, dtype=float),
        frac_coords=np.asarray(frac_coords, dtype=float) % 1.0,
        kpoints=kpoints,
        num_irreducible=count_irreducible(kpoints, rotations),
        grid=fourier_grid(cell, settings.cutoff, rotations),
    )


def kpoint_divisions(cell: Float[np.ndarray, "3 3"], density: float) -> tuple[int, int, int]:
    """Divisions of the reciprocal lattice vectors of a cell in Å, for k points per Å⁻¹."""
    lengths = 2 * np.pi * np.linalg.norm(np.linalg.inv(cell).T, axis=1)
    first, second, third = np.maximum(np.ceil(lengths * density - 1e-6), 1).astype(int).tolist()
    return first, second, third


def _symmorphic_rotations(setting: Spglib) -> Int[np.ndarray, "R 3 3"]:
    """Rotations whose translation is a lattice vector: those that the engine makes use of."""
    operations = spglib.get_symmetry(setting, symprec=SYMPREC_OF_OPERATIONS)
    if operations is None:
        return np.eye(3, dtype=int)[None]
    shifts = operations["translations"] - np.round(operations["translations"])
    return np.unique(operations["rotations"][np.abs(shifts).max(1) < 1e-4], axis=0)


def count_irreducible(divisions: tuple[int, int, int], rotations: Int[np.ndarray, "R 3 3"]) -> int:
    """Number of k points that rotations and time reversal leave of a mesh that contains gamma."""
    size = np.array(divisions)
    points = np.stack(np.meshgrid(*map(np.arange, divisions), indexing="ij"), -1).reshape(-1, 3)
    lowest = np.arange(len(points))
    for rotation in (*rotations, *(-rotations)):
        images = (points / size) @ rotation * size  # k maps to k R
        whole = np.round(images)
        on_mesh = np.abs(images - whole).max(1) < 1e-6
        index = np.ravel_multi_index(tuple((whole.astype(int) % size).T), divisions)
        lowest = np.where(on_mesh, np.minimum(lowest, index), lowest)
    return len(np.unique(lowest[lowest])) if len(points) else 0


def fourier_grid(
    cell: Float[np.ndarray, "3 3"], cutoff: float, rotations: Int[np.ndarray, "R 3 3"]
) -> tuple[int, int, int]:
    """Smallest quick grid that resolves the density of a cutoff in eV and maps onto itself."""
    spacing = np.pi / np.sqrt(4 * cutoff / HARTREE) * BOHR
    least = np.ceil(np.linalg.norm(cell, axis=1) / spacing)
    size = np.array([_quick(points) for points in least])
    linked = (np.abs(rotations).sum(0) > 0) | (np.abs(rotations).sum(0) > 0).T
    if ((size[:, None] * rotations.transpose(0, 2, 1)) % size[None, :, None]).any():
        for _ in range(2):  # links are transitive
            size = np.array([size[row].max() for row in linked])
    first, second, third = size.tolist()
    return first, second, third


def _quick(least: float) -> int:
    """Smallest size from `least` on whose Fourier transform is quick."""
    return next(size for size in count(max(int(least), 1)) if _has_small_factors(size))


def _has_small_factors(size: int) -> bool:
    for factor in (2, 3, 5, 7):
        while size % factor == 0:
            size //= factor
    return size == 1
