"""Compares the properties of crystals with their targets.

The value that decides is DFT's, else that of a known crystal, else that of a confirming method,
else that of the guiding regression.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from mattergen_lite.data.materials import known_value
from mattergen_lite.io.records import StructureRecord
from mattergen_lite.request.targets import PropertyTarget
from mattergen_lite.scoring.candidate import Candidate
from mattergen_lite.scoring.computed_properties import (
    CONFIRMING,
    ENERGIES,
    Method,
    Value,
    bounds_of,
    is_met,
    is_possible,
    is_within,
    measure,
    measure_composition,
    measure_volume,
)
from mattergen_lite.scoring.confirmation.errors import confirmation_error
from mattergen_lite.scoring.criteria.symmetry import SYMPREC_GENERATED
from mattergen_lite.scoring.property_result import Confirmed, PropertyResult
from mattergen_lite.scoring.score import Score

# Of 302 samples that were likely metastable once relaxed, 98% changed their volume by less.
VOLUME_CHANGE = 0.15


def outcomes(
    candidate: Candidate, record: StructureRecord, targets: Sequence[PropertyTarget]
) -> tuple[PropertyResult, ...]:
    """Every property that was asked for, as asked and as measured."""
    if not targets or candidate.raw.error is not None:
        return ()
    exact = measure(
        candidate.final_structure, symprec=SYMPREC_GENERATED, stability=candidate.stability
    )
    return tuple(_outcome(target, candidate, record, exact) for target in targets)


def is_off_target(
    raw: Score,
    record: StructureRecord,
    targets: Sequence[PropertyTarget],
    confirmed: dict[str, Confirmed] | None = None,
) -> bool:
    """Tell whether a crystal as it came is off a target, and relaxing will hardly change that.

    Relaxing changes no property of the composition, and volumes by less than `VOLUME_CHANGE`;
    regressions are read of the crystal as it came. Gaps and moments change little.

    Args:
        confirmed: What confirming methods say of the crystal as it came.
    """
    candidate = Candidate(raw=raw, structure=record.structure, confirmed=confirmed or {})
    exact = measure_composition(record.structure)
    settled = [target for target in targets if target.definition.name not in ENERGIES]
    results = [
        _decided(_outcome(target, candidate, record, exact), candidate) for target in settled
    ]
    is_settled = any(
        outcome.on_target is False and outcome.method in ("structure", "regression", *CONFIRMING)
        for outcome in results
    )
    return is_settled or any(_is_out_of_reach(target, record) for target in settled)


def _is_out_of_reach(target: PropertyTarget, record: StructureRecord) -> bool:
    """Whether a volume or density is farther from a target than relaxing moves it."""
    now = measure_volume(record.structure).get(target.definition.name)
    if now is None:
        return False
    wanted = min(max(now, target.low), target.high)
    nearest = min(max(wanted, now * (1 - VOLUME_CHANGE)), now * (1 + VOLUME_CHANGE))
    return not is_met(target, record.targets[target.definition.name], nearest)


def decide_targets(candidate: Candidate) -> Candidate:
    """The candidate with its targets judged by the best value that it has of each property."""
    return replace(
        candidate, outcomes=tuple(_decided(outcome, candidate) for outcome in candidate.outcomes)
    )


def _decided(outcome: PropertyResult, candidate: Candidate) -> PropertyResult:
    """An outcome with the value by DFT or by a confirming method, where there is one."""
    calculated = _by_first_principles(outcome.property, candidate)
    if outcome.method == "structure":
        return outcome
    if calculated is None and outcome.method in ("potential", "known"):
        return outcome
    better = calculated or _confirmed(outcome.property, candidate)
    if better is None:
        return outcome
    if better.value is None:
        return replace(outcome, problem=better.problem, on_target=None)
    return replace(
        outcome,
        value=better.value,
        method=better.method,
        error=better.error,
        on_target=is_within(outcome.property, outcome.bounds, outcome.target, better.value),
    )


def _by_first_principles(name: str, candidate: Candidate) -> Confirmed | None:
    """Band gap, magnetic density or energy of a verified crystal."""
    calculated, structure = candidate.first_principles, candidate.final_structure
    if calculated is None or structure is None:
        return None
    moment = calculated.dft_moment_per_atom * len(structure) / structure.volume
    values = {
        "band_gap": calculated.dft_band_gap,
        "magnetic_density": moment,
        "e_above_hull": calculated.dft_e_above_hull,
        "formation_energy_per_atom": calculated.dft_formation_energy_per_atom,
    }
    value = values.get(name, math.nan)
    return Confirmed(value=value, method="DFT") if math.isfinite(value) else None


def _confirmed(name: str, candidate: Candidate) -> Confirmed | None:
    """The value of the confirming method, or why it has none."""
    elasticity = candidate.elasticity
    if name != "bulk_modulus" or elasticity is None:
        return candidate.confirmed.get(name)
    if elasticity.elasticity_error is not None:
        return Confirmed(method="equation of state", problem=elasticity.elasticity_error)
    value = elasticity.bulk_modulus
    error = confirmation_error(f"equation of state, {elasticity.elasticity_potential}", value)
    return Confirmed(value=value, method="equation of state", error=error)


def _outcome(
    target: PropertyTarget,
    candidate: Candidate,
    record: StructureRecord,
    exact: Mapping[str, Value],
) -> PropertyResult:
    """One property; outside the domain of a regression nobody can tell whether a target is met."""
    name, asked = target.definition.name, record.targets[target.definition.name]
    value, method, error = _value(name, candidate, record, exact)
    trusted = None if method == "outside domain" else value
    return PropertyResult(
        property=name,
        target=asked,
        value=value,
        method=method,
        error=error,
        on_target=is_met(target, asked, trusted),
        unit=target.definition.unit,
        bounds=bounds_of(target),
        guide=record.learned.get(name),
    )


def _value(
    name: str, candidate: Candidate, record: StructureRecord, exact: Mapping[str, Value]
) -> tuple[Value | None, Method, float | None]:
    """Value, method and error: regressions are for what nothing else here can tell."""
    if name in exact:
        return exact[name], "potential" if name in ENERGIES else "structure", None
    novelty = candidate.final.novelty
    known = known_value(novelty.nearest_known, name) if novelty else None
    if known is not None:
        return known, "known", None
    if learned := record.learned.get(name):
        inside = learned.is_inside and is_possible(name, learned.value, candidate.final_structure)
        return learned.value, "regression" if inside else "outside domain", learned.error
    return None, "", None
