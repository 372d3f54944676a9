"""Runs potentials on crystals: relaxations, energies and releases, each calculated once.

Results are kept by crystal and potential: another deciding potential asks for energies only.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from pydantic import TypeAdapter
from pymatgen.core import Structure

from mattergen_lite.processes import Failure
from mattergen_lite.scoring.criteria.symmetry import SYMPREC_GENERATED
from mattergen_lite.scoring.energy.potential_set import PotentialSet
from mattergen_lite.scoring.energy.potentials.acceptance_test import accepted_potential
from mattergen_lite.scoring.energy.potentials.sources import PotentialSource, potential_name
from mattergen_lite.scoring.energy.relaxation import Relaxation, relax, relax_stream
from mattergen_lite.scoring.energy.stability import (
    Measurement,
    PotentialEnergy,
    measurement,
    potential_energies,
    potential_energy,
)
from mattergen_lite.scoring.energy.symmetry_breaking import Release, is_worth_releasing, release
from mattergen_lite.scoring.execution.result_cache import (
    CachedTask,
    ResultCache,
    structure_identity,
)

Answer = TypeVar("Answer")

BATCH_SIZE = 64  # crystals that a GPU is given at once
RELAXING_SHARE = 0.5  # of the time that is left: energies and releases take the rest
RELEASE_FROM = 0.2  # probability of being metastable from which a crystal's symmetry is released


@dataclass(frozen=True, kw_only=True)
class PotentialRunner:
    """Runs potentials: which of them, on what device, within what time."""

    potential_set: PotentialSet
    result_cache: ResultCache
    device: str = "cpu"  # a crystal at a time in every process; a GPU: batches in this process
    time_limit: float = 600.0  # s that a crystal may take at each step on a CPU

    def measure(self, structures: Sequence[Structure]) -> list[Measurement]:
        """Relax ordered crystals; energies by the relaxing potential and by the others.

        Raises:
            ValueError: If a potential is unknown or not installed.
        """
        relaxed = self._relax(structures)
        measured = [
            measurement(relaxation, structure.composition, self._relaxer)
            for relaxation, structure in zip(relaxed, structures, strict=True)
        ]
        return self._with_energies(measured)

    def release(self, measured: Sequence[Measurement]) -> list[Measurement]:
        """Rattle and release crystals that kept a space group and may well be metastable.

        That takes a probability of `RELEASE_FROM`. A release that fails leaves its crystal as it
        is.
        """
        promising = [i for i, result in enumerate(measured) if self._is_promising(result)]
        question = CachedTask(
            partial(find_release, relaxer=self.potential_set.relaxer),
            _relaxed_identity,
            TypeAdapter(Release),
            "release",
            self.time_limit,
        )
        answers = self.result_cache.ask(question, [measured[i].relaxation for i in promising])
        released = list(measured)
        for i, answer in zip(promising, answers, strict=True):
            if not isinstance(answer, Failure):
                released[i] = replace(measured[i], release=answer)
        changed = [i for i in promising if released[i].judged is not released[i].relaxation]
        again = self._with_energies([released[i] for i in changed])
        who = (self._relaxer, potential_name(self.potential_set.decider))
        for i, result in zip(changed, again, strict=True):
            kept = replace(measured[i], release=replace(result.release, accepted=False))
            released[i] = result if is_confirmed(measured[i], result, who) else kept
        return released

    def _is_promising(self, measured: Measurement) -> bool:
        """Whether the release of a crystal may change its verdict."""
        if measured.relaxation.constrained_space_group <= 1:
            return False
        stability = self.potential_set.assess(
            measured
        )  # without probabilities where the hull has a hole
        return stability.probability_metastable >= RELEASE_FROM or stability.e_above_hull_raw < 0

    def _relax(self, structures: Sequence[Structure]) -> list[Relaxation]:
        """Relaxations of crystals; one that crashes or takes too long is one with an error."""
        relaxer = self.potential_set.relaxer
        alone = partial(find_relaxation, relaxer=relaxer)
        together = partial(relax_together, relaxer=relaxer, device=self.device)
        return self._ask(alone, together, Relaxation, "relax", structures, share=RELAXING_SHARE)

    def _with_energies(self, measured: Sequence[Measurement]) -> list[Measurement]:
        """The measurements with the energies of the judged crystals by every potential."""
        readable = [i for i, result in enumerate(measured) if result.judged.structure is not None]
        energies = [{self._relaxer: result.judged.energy_per_atom} for result in measured]
        corrections = [{self._relaxer: result.judged.correction_per_atom} for result in measured]
        errors: list[dict[str, str]] = [{} for _ in measured]
        for source in (
            potential
            for potential in self.potential_set.asked
            if potential != self.potential_set.relaxer
        ):
            name = potential_name(source)
            answers = self._find_energies(source, [measured[i].judged.structure for i in readable])
            for i, answer in zip(readable, answers, strict=True):
                if answer.error is None:
                    energies[i][name] = answer.energy_per_atom
                    corrections[i][name] = answer.correction_per_atom
                else:
                    errors[i][name] = answer.error
        return [
            replace(result, energies_per_atom=by_name, corrections_per_atom=added, errors=why)
            for result, by_name, added, why in zip(
                measured, energies, corrections, errors, strict=True
            )
        ]

    @property
    def _relaxer(self) -> str:
        return potential_name(self.potential_set.relaxer)

    def _find_energies(
        self, source: PotentialSource, structures: Sequence[Structure]
    ) -> list[PotentialEnergy]:
        alone = partial(find_energy, potential=source)
        together = partial(energies_together, potential=source, device=self.device)
        label = f"energy by {potential_name(source)}"
        return self._ask(alone, together, PotentialEnergy, label, structures)

    def _ask(
        self,
        alone: Callable[[Structure], Answer],
        together: Callable[[Sequence[Structure]], Iterator[tuple[int, Answer]]],
        kind: type[Answer],
        label: str,
        structures: Sequence[Structure],
        share: float = 1.0,
    ) -> list[Answer]:
        """Answers about crystals, each alone on a CPU; without one, an answer with the reason."""
        question = CachedTask(
            alone, structure_identity, TypeAdapter(kind), label, self.time_limit, share
        )
        at_once = None if self.device == "cpu" else together
        answers = self.result_cache.ask(question, structures, at_once)
        return [
            kind(error=answer.reason) if isinstance(answer, Failure) else answer
            for answer in answers
        ]


def is_confirmed(before: Measurement, after: Measurement, potentials: Sequence[str]) -> bool:
    """Whether all these potentials find the release of a crystal worth it.

    A cheap potential has saddle points, in metals above all, that an accurate one has not.
    """
    groups = before.relaxation.constrained_space_group, after.release.space_group
    return all(
        is_worth_releasing(
            after.energies_per_atom.get(name, math.nan) - before.energies_per_atom[name], *groups
        )
        for name in potentials
    )


def _relaxed_identity(relaxation: Relaxation) -> str:
    """Text that names everything the release of a relaxed crystal depends on."""
    return structure_identity(relaxation.structure)


def find_relaxation(structure: Structure, *, relaxer: PotentialSource) -> Relaxation:
    """Relax one crystal in the symmetry that it has."""
    return relax(structure, accepted_potential(relaxer), symprec=SYMPREC_GENERATED)


def find_release(relaxation: Relaxation, *, relaxer: PotentialSource) -> Release:
    """Release the symmetry of one relaxed crystal."""
    return release(relaxation, accepted_potential(relaxer))


def find_energy(structure: Structure, *, potential: PotentialSource) -> PotentialEnergy:
    """Energy of one crystal as it is."""
    try:
        return potential_energy(structure, accepted_potential(potential))
    except ValueError as error:
        return PotentialEnergy(error=str(error))


def relax_together(
    structures: Sequence[Structure], *, relaxer: PotentialSource, device: str
) -> Iterator[tuple[int, Relaxation]]:
    """Relax many crystals in batches on one device; yields positions and relaxations."""
    yield from relax_stream(
        structures, accepted_potential(relaxer, device), symprec=SYMPREC_GENERATED
    )


def energies_together(
    structures: Sequence[Structure], *, potential: PotentialSource, device: str
) -> Iterator[tuple[int, PotentialEnergy]]:
    """Energies of crystals in batches on one device; yields positions and energies."""
    asked = accepted_potential(potential, device)
    for start in range(0, len(structures), BATCH_SIZE):
        yield from enumerate(
            potential_energies(structures[start : start + BATCH_SIZE], asked), start
        )
