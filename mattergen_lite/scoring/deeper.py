"""Deeper checks, of the best candidates only: phonons and the bulk modulus."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from pydantic import TypeAdapter
from pymatgen.core import Structure

from mattergen_lite.options.judge import ShortlistOptions
from mattergen_lite.processes import Failure
from mattergen_lite.scoring.candidate import Candidate
from mattergen_lite.scoring.energy.elasticity import Elasticity, bulk_modulus
from mattergen_lite.scoring.energy.phonons import Phonons, phonons
from mattergen_lite.scoring.energy.potentials.exam import admitted
from mattergen_lite.scoring.energy.potentials.sources import PotentialSource
from mattergen_lite.scoring.execution.journal import Journal, Question, structure_identity

TIME_LIMIT = 3600.0  # s per crystal


def find_phonons(structure: Structure, *, potential: PotentialSource) -> Phonons:
    """Phonons of a crystal, which relaxes further with this potential first."""
    return phonons(structure, admitted(potential))


def find_elasticity(structure: Structure, *, potential: PotentialSource) -> Elasticity:
    """Bulk modulus of a crystal by this potential."""
    return bulk_modulus(structure, admitted(potential))


def deepen(
    candidates: Sequence[Candidate],
    options: ShortlistOptions,
    *,
    potential: PotentialSource,
    journal: Journal,
) -> list[Candidate]:
    """Find phonons and elasticity of the best relaxed candidates; ranks stay as they are.

    Args:
        candidates: Best first.
        options: What is found, and of how many.
        potential: Who is asked: the accurate one, for curvatures are harder than energies.
        journal: Processes to work in, and what they have found before.
    """
    deeper = list(candidates)
    best = candidates[: options.shortlist]
    chosen = [i for i, one in enumerate(best) if one.relaxed_structure is not None]
    structures = [candidates[i].relaxed_structure for i in chosen]

    def ask(
        function: Callable[..., Phonons | Elasticity], answer: type, label: str
    ) -> list[Phonons | Elasticity | Failure]:
        question = Question(
            partial(function, potential=potential),
            structure_identity,
            TypeAdapter(answer),
            label,
            TIME_LIMIT,
        )
        return journal.ask(question, structures)

    if options.phonons:
        for i, found in zip(chosen, ask(find_phonons, Phonons, "phonons"), strict=True):
            failed = isinstance(found, Failure)
            result = Phonons(phonon_error=found.reason) if failed else found
            deeper[i] = replace(deeper[i], phonons=result)
    if options.bulk_modulus:
        for i, found in zip(chosen, ask(find_elasticity, Elasticity, "elastic"), strict=True):
            failed = isinstance(found, Failure)
            result = Elasticity(elasticity_error=found.reason) if failed else found
            deeper[i] = replace(deeper[i], elasticity=result)
    return deeper
