"""Relaxes atomic positions and cell to the nearest minimum of a potential.

A quasi-Newton method (`minimizer`) on ASE's Fréchet cell filter converges on forces *and* stress,
and gives up hopeless crystals (`_refuse_hopeless`).

With a tolerance the crystal is first moved onto its space group (`symmetrization`), in its
primitive cell, and forces and stress are projected: it keeps its symmetry and takes fewer steps.
Where it arrives at a higher group at no cost in energy, it is moved onto that. It may end on a
saddle point, which `release` finds out.

A relaxation is a generator: it yields atoms and is sent what a potential says about them, so the
same code serves one crystal on a CPU and a batch on a GPU.
"""

import math
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, TypeVar

import numpy as np
from pydantic import PlainSerializer, PlainValidator
from pymatgen.core import Structure

from mattergen_lite.io.formats.structures import build_structure
from mattergen_lite.io.tensors import structure_from_json, structure_to_json
from mattergen_lite.scoring.criteria.symmetrization import (
    Symmetrized,
    SymmetryProjection,
    symmetrized,
    unsymmetrized,
)
from mattergen_lite.scoring.energy.minimizer import QuasiNewton, cell_scale
from mattergen_lite.scoring.energy.potentials.base import Potential, SinglePoint, check_elements

if TYPE_CHECKING:
    from ase import Atoms

GPA = 160.21766208  # GPa per eV/Å³
# eV/atom; less is the scatter of relaxations that end above `RelaxationLimits`.
MIN_ENERGY_FALL = 0.001
Item = TypeVar("Item")
Answer = TypeVar("Answer")
StoredStructure = Annotated[
    Structure, PlainSerializer(structure_to_json), PlainValidator(structure_from_json)
]

# Hopeless. Of 320 generated crystals of the truth check none met this bound, all converged.
MAX_VOLUME_RATIO = 2.5  # either way, to the input


@dataclass(frozen=True, kw_only=True)
class RelaxationLimits:
    """When a relaxation is done."""

    max_force: float = 0.05  # eV/Å, on any atom
    max_stress: float = 0.5  # GPa, any component
    max_steps: int = 200


@dataclass(frozen=True, kw_only=True)
class Relaxation:
    """The end of a relaxation, good or bad."""

    structure: StoredStructure | None = None  # None if it failed
    energy_per_atom: float = math.nan  # eV/atom, with MP2020 corrections
    correction_per_atom: float = 0.0  # eV/atom, in the above
    converged: bool = False
    num_steps: int = 0
    max_force: float = math.nan  # eV/Å
    max_stress: float = math.nan  # GPa
    rmsd: float = math.nan  # Å, of the atoms, without drift and without the strain of the cell
    volume_change: float = math.nan  # relative, per atom: 0.1 is 10% larger
    constrained_space_group: int = 1  # kept on the way; 1 where nothing was
    error: str | None = None


def largest_force(point: SinglePoint) -> float:
    """Largest force on an atom in eV/Å."""
    return float(np.linalg.norm(point.forces, axis=1).max())


def _largest_stress(point: SinglePoint) -> float:
    return float(np.abs(point.stress).max()) * GPA


def _is_converged(point: SinglePoint, limits: RelaxationLimits) -> bool:
    return largest_force(point) <= limits.max_force and _largest_stress(point) <= limits.max_stress


def _refuse_hopeless(point: SinglePoint, volume_ratio: float) -> None:
    """Refuse what no further step can mend."""
    numbers = (point.energy, point.forces, point.stress)
    if not all(np.isfinite(number).all() for number in numbers):
        raise ValueError("energy, forces or stress are not finite")
    if not 1 / MAX_VOLUME_RATIO < volume_ratio < MAX_VOLUME_RATIO:
        raise ValueError(f"the volume is {volume_ratio:.2f} times that of the input")


def _projected(point: SinglePoint, atoms: "Atoms", kept: SymmetryProjection) -> SinglePoint:
    """What a space group leaves of forces and stress."""
    if kept.space_group == 1:
        return point
    cell = atoms.cell.array
    return replace(
        point, forces=kept.forces(point.forces, cell), stress=kept.stress(point.stress, cell)
    )


def _descend(
    atoms: "Atoms", limits: RelaxationLimits, kept: SymmetryProjection
) -> Generator["Atoms", SinglePoint, tuple[SinglePoint, int]]:
    """Move `atoms` downhill; yields them to be evaluated, returns the last point and the steps."""
    from ase.calculators.singlepoint import SinglePointCalculator
    from ase.filters import FrechetCellFilter

    coordinates = FrechetCellFilter(atoms, exp_cell_factor=cell_scale(len(atoms)))
    minimizer, position = QuasiNewton(), coordinates.get_positions()
    initial_volume = atoms.get_volume()
    for num_steps in range(limits.max_steps + 1):
        point = _projected((yield atoms), atoms, kept)
        try:
            _refuse_hopeless(point, atoms.get_volume() / initial_volume)
            if _is_converged(point, limits) or num_steps == limits.max_steps:
                break
            atoms.calc = SinglePointCalculator(atoms, forces=point.forces, stress=point.stress)
            position = minimizer.step(position, point.energy, coordinates.get_forces())
        except ValueError as error:
            raise ValueError(f"relaxation given up after {num_steps} steps: {error}") from None
        coordinates.set_positions(position)
    return point, num_steps


def _rmsd(start: "Atoms", end: "Atoms", exact: Symmetrized) -> float:
    """How far the original atoms went in Å, in the final cell, relative to their common drift."""
    way = end.get_scaled_positions(wrap=False) - start.get_scaled_positions(wrap=False)
    displacement = exact.shift + (way @ end.cell.array)[exact.atom_of]
    displacement -= displacement.mean(axis=0)
    return float(np.sqrt((displacement**2).sum(axis=1).mean()))


class _Crystal:
    """The state of one crystal's relaxation between two evaluations of the potential."""

    def __init__(
        self,
        structure: Structure,
        potential: Potential,
        limits: RelaxationLimits,
        symprec: float | None,
    ) -> None:
        self.potential, self.limits, self.symprec = potential, limits, symprec
        self.exact = (
            unsymmetrized(structure) if symprec is None else symmetrized(structure, symprec=symprec)
        )
        self.volume_per_atom = structure.volume / len(structure)
        self.start = self.exact.structure.to_ase_atoms(msonable=False)
        self.atoms = self.start.copy()
        self.path = _descend(self.atoms, limits, self.exact.projection)
        next(self.path)

    def advance(self, point: SinglePoint | Exception) -> Relaxation | None:
        """Take what the potential said; None until the crystal has arrived or failed."""
        try:
            if isinstance(point, Exception):
                raise point
            self.path.send(point)
            return None
        except StopIteration as end:
            return self._arrive(*end.value)
        except _FAILURES as error:
            return _failure(self.potential, error)

    def _arrive(self, point: SinglePoint, num_steps: int) -> Relaxation:
        atoms, cell = self.atoms, self.atoms.cell.array
        scaled = atoms.get_scaled_positions(wrap=False)
        try:
            relaxed = build_structure(cell, atoms.numbers.tolist(), scaled)
            correction = self.potential.correction(relaxed)
        except ValueError as error:
            return _failure(self.potential, error)
        arrived = Relaxation(
            structure=relaxed,
            energy_per_atom=(point.energy + correction) / len(atoms),
            correction_per_atom=correction / len(atoms),
            converged=_is_converged(point, self.limits),
            num_steps=num_steps,
            max_force=largest_force(point),
            max_stress=_largest_stress(point),
            rmsd=_rmsd(self.start, atoms, self.exact),
            volume_change=float(atoms.get_volume() / len(atoms) / self.volume_per_atom - 1),
            constrained_space_group=self.exact.projection.space_group,
        )
        if self.symprec is None:
            return arrived
        ceiling = arrived.energy_per_atom + MIN_ENERGY_FALL
        return symmetrized_below(ceiling, arrived, self.potential, self.symprec)[0]


# What potentials raise on a crystal that makes no sense, and torch where memory runs out.
_FAILURES = (ValueError, ArithmeticError, np.linalg.LinAlgError, RuntimeError)


def _failure(potential: Potential, error: Exception) -> Relaxation:
    return Relaxation(error=f"{potential.name}: {error}")


def evaluate(
    ask: Callable[[list[Item]], list[Answer]], batch: list[Item]
) -> list[Answer | Exception]:
    """What a potential answers about each crystal, or why it cannot.

    A batch that fails is halved, until it fits into memory or the crystal at fault is alone.
    """
    if not batch:
        return []
    try:
        return list(ask(batch))
    except _FAILURES as error:
        if len(batch) == 1:
            return [error]
        middle = len(batch) // 2
        return evaluate(ask, batch[:middle]) + evaluate(ask, batch[middle:])


def relax(
    structure: Structure,
    potential: Potential,
    limits: RelaxationLimits | None = None,
    *,
    symprec: float | None = None,
) -> Relaxation:
    """Relax positions and cell of one ordered crystal; whatever goes wrong ends in `error`.

    Symmetry within `symprec` (Å) is kept; None keeps none.
    """
    [(_, relaxed)] = relax_stream([structure], potential, limits, symprec=symprec)
    return relaxed


def relax_stream(
    structures: Sequence[Structure],
    potential: Potential,
    limits: RelaxationLimits | None = None,
    *,
    symprec: float | None = None,
    batch_size: int = 64,
) -> Iterator[tuple[int, Relaxation]]:
    """Relax many crystals, of which `batch_size` advance together; yields positions and results.

    A crystal that arrives makes room for the next. On a CPU batches gain nothing.
    """
    limits = limits or RelaxationLimits()
    active: dict[int, _Crystal] = {}
    waiting = deque(enumerate(structures))
    while waiting or active:
        while waiting and len(active) < batch_size:
            number, structure = waiting.popleft()
            try:
                check_elements(potential, structure.symbol_set)
                active[number] = _Crystal(structure, potential, limits, symprec)
            except _FAILURES as error:
                yield number, _failure(potential, error)
        points = evaluate(potential.single_points, [crystal.atoms for crystal in active.values()])
        for (number, crystal), point in zip(list(active.items()), points, strict=True):
            end = crystal.advance(point)
            if end is not None:
                del active[number]
                yield number, end


def symmetrized_below(
    ceiling: float, relaxed: Relaxation, potential: Potential, symprec: float
) -> tuple[Relaxation, int]:
    """A relaxed crystal on exact positions, where its energy (eV/atom) stays below the ceiling.

    Returns:
        The relaxation and the space group it is in.
    """
    for share in (1.0, 0.3, 0.1):
        exact = _settled(relaxed.structure, share * symprec)
        group = exact.projection.space_group
        if group == relaxed.constrained_space_group:
            return relaxed, group  # it is there already
        try:
            energy = potential.energy(exact.structure.to_ase_atoms(msonable=False))
            correction = potential.correction(exact.structure)
        except _FAILURES:
            continue
        num_atoms = len(exact.structure)
        if (energy + correction) / num_atoms < ceiling:
            accepted = replace(
                relaxed,
                structure=exact.structure,
                energy_per_atom=(energy + correction) / num_atoms,
                correction_per_atom=correction / num_atoms,
            )
            return accepted, group
    return relaxed, relaxed.constrained_space_group


def _settled(structure: Structure, symprec: float) -> Symmetrized:
    """Symmetrise a crystal until another attempt finds no higher space group."""
    exact = symmetrized(structure, symprec=symprec)
    while True:
        higher = symmetrized(exact.structure, symprec=symprec)
        if higher.projection.space_group == exact.projection.space_group:
            return exact
        exact = higher
