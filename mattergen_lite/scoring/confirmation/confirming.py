"""Confirms the properties that candidates were asked for.

Band gaps and moments take milliseconds: those of crystals as they came decide which are relaxed,
and those of every relaxed crystal are computed again. An equation of state takes seconds: only what
would be delivered as on target has one.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from pydantic import TypeAdapter
from pymatgen.core import Structure

from mattergen_lite.processes import Failure
from mattergen_lite.scoring.candidate import Candidate
from mattergen_lite.scoring.computed_properties import Method
from mattergen_lite.scoring.confirmation.errors import confirmation_error
from mattergen_lite.scoring.confirmation.gap_network import predict_band_gap
from mattergen_lite.scoring.confirmation.moments import magnetic_density
from mattergen_lite.scoring.energy.potentials.sources import PotentialSource
from mattergen_lite.scoring.execution.result_cache import (
    CachedTask,
    ResultCache,
    structure_identity,
)
from mattergen_lite.scoring.property_result import Confirmed
from mattergen_lite.scoring.shortlist_checks import compute, with_curvatures

TIME_LIMIT = 60.0  # s per crystal
# Property -> its method and what computes it.
QUICK: dict[str, tuple[Method, Callable[[Structure], float]]] = {
    "band_gap": ("network", predict_band_gap),
    "magnetic_density": ("moments", magnetic_density),
}


def confirm(
    candidates: Sequence[Candidate],
    decider: PotentialSource,
    checks: Collection[str],
    result_cache: ResultCache,
) -> list[Candidate]:
    """Compute what confirms the properties asked for; its values decide about targets.

    Band gaps and moments of every relaxed crystal; equations of state, by the deciding potential,
    of what passes the checks.
    """
    asked = {outcome.property for candidate in candidates for outcome in candidate.outcomes}
    confirmed = list(candidates)
    for name in sorted(asked & QUICK.keys()):
        confirmed = _confirm_quickly(name, confirmed, result_cache)
    if "bulk_modulus" not in asked:
        return confirmed
    chosen = [i for i, candidate in enumerate(confirmed) if _is_deliverable(candidate, checks)]
    return with_curvatures("elasticity", confirmed, chosen, decider, result_cache)


def confirm_as_sampled(
    structures: Sequence[Structure | None], names: Collection[str], result_cache: ResultCache
) -> list[dict[str, Confirmed]]:
    """Compute what is quickly known of crystals that are not relaxed yet, by property.

    Args:
        structures: Crystals as they came; None for those that nothing is computed of.
        names: Properties asked for.
    """
    chosen = [i for i, structure in enumerate(structures) if structure is not None]
    confirmed: list[dict[str, Confirmed]] = [{} for _ in structures]
    for name in sorted(QUICK.keys() & names):
        answers = result_cache.ask(_question(name), [structures[i] for i in chosen])
        for i, answer in zip(chosen, answers, strict=True):
            confirmed[i][name] = _confirmed(name, answer)
    return confirmed


def _confirm_quickly(
    name: str, candidates: Sequence[Candidate], result_cache: ResultCache
) -> list[Candidate]:
    """Compute one property of all relaxed crystals."""

    def add(candidate: Candidate, answer: float | Failure) -> Candidate:
        confirmed = {**candidate.confirmed, name: _confirmed(name, answer)}
        return replace(candidate, confirmed=confirmed)

    chosen = [
        i for i, candidate in enumerate(candidates) if candidate.relaxed_structure is not None
    ]
    return compute(_question(name), candidates, chosen, result_cache, add)


def _question(name: str) -> CachedTask[Structure, float]:
    """What computes one property of a crystal."""
    method, function = QUICK[name]
    return CachedTask(
        function, structure_identity, TypeAdapter(float), f"{name} by {method}", TIME_LIMIT, None
    )


def _confirmed(name: str, answer: float | Failure) -> Confirmed:
    """The value of one property with its error, or why there is none."""
    method, _ = QUICK[name]
    if isinstance(answer, Failure):
        return Confirmed(method=method, problem=answer.reason)
    return Confirmed(method=method, value=answer, error=confirmation_error(method, answer))


def _is_deliverable(candidate: Candidate, checks: Collection[str]) -> bool:
    """Whether a crystal passes every check, as far as the guide can tell about its targets."""
    others = [check for check in checks if check != "on_target"]
    return (
        candidate.relaxed_structure is not None
        and candidate.on_target is not False
        and not any(candidate.misses(check) for check in others)
    )
