"""Computes phonons and bulk moduli of a few candidates."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Literal, TypeVar

from pydantic import TypeAdapter
from pymatgen.core import Structure

from mattergen_lite.options.judge import ShortlistOptions
from mattergen_lite.processes import Failure
from mattergen_lite.scoring.candidate import Candidate
from mattergen_lite.scoring.energy.elasticity import Elasticity, bulk_modulus
from mattergen_lite.scoring.energy.phonons import Phonons, phonons
from mattergen_lite.scoring.energy.potentials.acceptance_test import accepted_potential
from mattergen_lite.scoring.energy.potentials.sources import PotentialSource
from mattergen_lite.scoring.execution.result_cache import (
    CachedTask,
    ResultCache,
    structure_identity,
)
from mattergen_lite.scoring.property_results import decide_targets

Answer = TypeVar("Answer")

TIME_LIMIT = 3600.0  # s per crystal
HOPELESS = 0.2  # eV/atom above the hull beyond which curvatures are not worth computing
HOPELESS_REASON = f"not computed: more than {HOPELESS} eV/atom above the hull"


def find_phonons(structure: Structure, *, potential: PotentialSource) -> Phonons:
    """Phonons of a crystal, which relaxes further with this potential first."""
    return phonons(structure, accepted_potential(potential))


def find_elasticity(structure: Structure, *, potential: PotentialSource) -> Elasticity:
    """Bulk modulus of a crystal by this potential."""
    return bulk_modulus(structure, accepted_potential(potential))


def is_hopeless(candidate: Candidate) -> bool:
    """Tell whether a crystal lies so far above the hull that nobody would make it."""
    return candidate.stability is not None and candidate.stability.e_above_hull > HOPELESS


def deepen(
    candidates: Sequence[Candidate],
    options: ShortlistOptions,
    *,
    potential: PotentialSource,
    result_cache: ResultCache,
    needs_stability: bool = False,
) -> list[Candidate]:
    """Compute phonons and elasticity of the best candidates that relaxed; ranks stay as they are.

    With `needs_stability` crystals more than `HOPELESS` above the hull are left out.
    """
    best = candidates[: options.shortlist]
    relaxed = [i for i, candidate in enumerate(best) if candidate.relaxed_structure is not None]
    hopeless = [i for i in relaxed if needs_stability and is_hopeless(best[i])]
    chosen = [i for i in relaxed if i not in hopeless]
    deeper = list(candidates)
    wanted = {"phonons": options.phonons, "elasticity": options.bulk_modulus}
    for name in (name for name, is_wanted in wanted.items() if is_wanted):
        deeper = with_curvatures(name, deeper, chosen, potential, result_cache)
        _, kind, error = _CURVATURES[name]
        for i in hopeless:
            deeper[i] = replace(deeper[i], **{name: kind(**{error: HOPELESS_REASON})})
    return deeper


def with_curvatures(
    name: Literal["phonons", "elasticity"],
    candidates: Sequence[Candidate],
    chosen: Sequence[int],
    potential: PotentialSource,
    result_cache: ResultCache,
) -> list[Candidate]:
    """Compute phonons or elasticity of the chosen candidates."""
    function, kind, error = _CURVATURES[name]
    question = CachedTask(
        partial(function, potential=potential),
        structure_identity,
        TypeAdapter(kind),
        name,
        TIME_LIMIT,
    )

    def add(candidate: Candidate, answer: Phonons | Elasticity | Failure) -> Candidate:
        result = kind(**{error: answer.reason}) if isinstance(answer, Failure) else answer
        return replace(candidate, **{name: result})

    return compute(question, candidates, chosen, result_cache, add)


def compute(
    question: CachedTask[Structure, Answer],
    candidates: Sequence[Candidate],
    chosen: Sequence[int],
    result_cache: ResultCache,
    add: Callable[[Candidate, Answer | Failure], Candidate],
) -> list[Candidate]:
    """Compute a property of the chosen relaxed candidates and add it; it decides about targets."""
    answers = result_cache.ask(question, [candidates[i].relaxed_structure for i in chosen])
    changed = list(candidates)
    for i, answer in zip(chosen, answers, strict=True):
        changed[i] = decide_targets(add(candidates[i], answer))
    return changed


# Field of a candidate: what computes it, its class, its field for failures.
_CURVATURES = {
    "phonons": (find_phonons, Phonons, "phonon_error"),
    "elasticity": (find_elasticity, Elasticity, "elasticity_error"),
}
