"""Finds imaginary frequencies of one crystal: is it dynamically stable?

Finite displacements in a supercell (Parlinski et al., PRL 1997, 78, 4063) by phonopy (Togo, J.
Phys. Soc. Jpn. 2023, 92, 012001), forces by a potential. Frequencies are taken at the wave vectors
that are commensurate with the supercell, where they are exact; instabilities between these, and
the splitting of polar modes at Gamma, go unseen.

Of 26 random known compounds on the hull CHGNet calls 6 unstable, and 7net-l3i5 3 of these.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pymatgen.core import Structure

from mattergen_lite.scoring.checking import require_phonopy
from mattergen_lite.scoring.criteria.symmetry import conventional_structure, primitive_structure
from mattergen_lite.scoring.energy.potentials.base import Potential, check_elements
from mattergen_lite.scoring.energy.relaxation import RelaxationLimits, relax
from mattergen_lite.symmetry.detection import SYMPREC_RELAXED
from mattergen_lite.tensors.shapes import Float

if TYPE_CHECKING:
    from ase import Atoms
    from phonopy import Phonopy
    from phonopy.structure.atoms import PhonopyAtoms

MIN_LENGTH = 7.5  # Å, between opposite faces of the supercell
MAX_SUPERCELL_ATOMS = 256
BATCH_ATOMS = 1000  # evaluated together
# Larger than the usual 0.01 Å: CHGNet 0.3.0 is not smooth where symmetry is broken by less, which
# makes up instabilities. On smooth potentials it errs by less than 1%, below their own errors.
DISPLACEMENT = 0.05  # Å
IMAGINARY_TOLERANCE = 0.3  # THz; smaller ones are errors of forces and of the minimum
TIGHT = RelaxationLimits(max_force=0.005, max_stress=0.05, max_steps=500)


@dataclass(frozen=True, kw_only=True)
class Phonons:
    """Vibrations of one crystal, according to a potential."""

    dynamically_stable: bool | None = None  # None: not known, see the error
    min_frequency: float = math.nan  # THz, imaginary ones as negative numbers
    max_frequency: float = math.nan  # THz
    num_imaginary_modes: int = 0  # beyond the tolerance, of all modes of the supercell
    num_modes: int = 0  # of the supercell, without the three translations
    phonon_supercell: str = ""  # "2x2x2 cells of 8 atoms"
    num_displacements: int = 0
    phonon_potential: str = ""
    phonon_error: str | None = None


def phonons(
    structure: Structure,
    potential: Potential,
    *,
    displacement: float = DISPLACEMENT,
    tolerance: float = IMAGINARY_TOLERANCE,
    limits: RelaxationLimits = TIGHT,
) -> Phonons:
    """Vibrations of a crystal at its nearest minimum; failures end in `phonon_error`.

    Args:
        structure: Relaxed by the same potential, in any cell.
        potential: Gives the forces.
        displacement: Of one atom at a time, in Å.
        tolerance: In THz; an imaginary frequency up to this counts as zero.
        limits: Of the relaxation that comes first: forces that are left look like instabilities.

    Raises:
        ValueError: If phonopy is not installed.
    """
    require_phonopy()
    try:
        check_elements(potential, structure.symbol_set)
        cell, multiples = _supercell(_minimum(structure, potential, limits))
        calculation = _force_constants(cell, multiples, potential, displacement)
        frequencies = _frequencies(calculation)
    # What potentials and phonopy raise, and torch where memory runs out.
    except (ValueError, ArithmeticError, np.linalg.LinAlgError, RuntimeError) as error:
        return Phonons(phonon_error=f"{potential.name}: {error}")
    is_imaginary = frequencies < -tolerance
    return Phonons(
        dynamically_stable=not is_imaginary.any(),
        min_frequency=float(frequencies.min()),
        max_frequency=float(frequencies.max()),
        num_imaginary_modes=int(is_imaginary.sum()),
        num_modes=len(frequencies),
        phonon_supercell=f"{'x'.join(map(str, multiples))} cells of {len(cell)} atoms",
        num_displacements=len(calculation.supercells_with_displacements),
        phonon_potential=potential.name,
    )


def _minimum(structure: Structure, potential: Potential, limits: RelaxationLimits) -> Structure:
    relaxation = relax(structure, potential, limits)
    if relaxation.structure is None:
        raise ValueError(relaxation.error)
    if not relaxation.converged:
        raise ValueError(
            f"not relaxed after {relaxation.num_steps} steps: {relaxation.max_force:.3f} eV/Å and "
            f"{relaxation.max_stress:.2f} GPa, expected {limits.max_force} and {limits.max_stress}"
        )
    return relaxation.structure


def _supercell(crystal: Structure) -> tuple[Structure, tuple[int, int, int]]:
    """The standard cell, atoms on symmetric positions, and how often to repeat it."""
    # Even multiples where they fit: the commonest instabilities, tilts and dimers, double the cell.
    cells = [
        standard(crystal, symprec=SYMPREC_RELAXED)
        for standard in (primitive_structure, conventional_structure)
    ]
    for step in (2, 1):
        options = [(cell, _multiples(cell, step)) for cell in cells]
        sizes = [len(cell) * math.prod(multiples) for cell, multiples in options]
        if min(sizes) <= MAX_SUPERCELL_ATOMS:
            return options[int(np.argmin(sizes))]
    raise ValueError(
        f"a supercell of {MIN_LENGTH} Å has {min(sizes)} atoms: "
        f"expected at most {MAX_SUPERCELL_ATOMS}"
    )


def _multiples(cell: Structure, step: int) -> tuple[int, int, int]:
    """How often to repeat a cell along each axis, in multiples of `step`."""
    heights = 1 / np.linalg.norm(np.linalg.inv(cell.lattice.matrix), axis=0)
    a, b, c = (step * math.ceil(MIN_LENGTH / (step * height)) for height in heights)
    return a, b, c


def _force_constants(
    cell: Structure, multiples: tuple[int, int, int], potential: Potential, displacement: float
) -> "Phonopy":
    """Phonopy with force constants that let all atoms together move freely."""
    from phonopy import Phonopy
    from phonopy.structure.atoms import PhonopyAtoms

    unit_cell = PhonopyAtoms(
        numbers=cell.atomic_numbers,
        cell=cell.lattice.matrix,
        scaled_positions=cell.frac_coords,
    )
    calculation = Phonopy(unit_cell, np.diag(multiples), primitive_matrix="P")
    # Both ways wherever symmetry does not make them equal, which cancels the third-order forces.
    calculation.generate_displacements(distance=displacement, is_plusminus="auto")
    supercells = [_atoms(supercell) for supercell in calculation.supercells_with_displacements]
    points = [point for batch in _batches(supercells) for point in potential.single_points(batch)]
    calculation.forces = np.array([point.forces for point in points])
    if not np.isfinite(calculation.forces).all():  # phonopy's kernels would abort
        raise ValueError("forces are not finite")
    calculation.produce_force_constants()
    calculation.symmetrize_force_constants()
    return calculation


def _atoms(supercell: "PhonopyAtoms") -> "Atoms":
    from ase import Atoms

    return Atoms(
        numbers=supercell.numbers,
        cell=supercell.cell,
        scaled_positions=supercell.scaled_positions,
        pbc=True,
    )


def _batches(supercells: Sequence["Atoms"]) -> Iterator[Sequence["Atoms"]]:
    """Supercells of equal size, as many as are evaluated together."""
    size = max(1, BATCH_ATOMS // len(supercells[0]))
    for start in range(0, len(supercells), size):
        yield supercells[start : start + size]


def _frequencies(calculation: "Phonopy") -> Float[np.ndarray, "M"]:
    """Frequencies in THz of all modes of the supercell but the translations."""
    from phonopy.harmonic.dynmat_to_fc import get_commensurate_points

    wave_vectors = get_commensurate_points(calculation.supercell_matrix)
    frequencies = calculation.run_qpoints(wave_vectors).frequencies
    is_gamma = np.isclose(wave_vectors, np.rint(wave_vectors)).all(axis=1)
    at_gamma = frequencies[is_gamma].ravel()
    # Zero by the symmetry of the force constants, up to rounding.
    translations = np.argsort(np.abs(at_gamma))[:3]
    return np.concatenate([np.delete(at_gamma, translations), frequencies[~is_gamma].ravel()])
