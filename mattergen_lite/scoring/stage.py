"""The chain of the judge: score, screen, relax, release, score again, assess, rank.

Every step asks its questions through a journal, which spreads them over processes of one thread
each (what potentials want on a CPU) and remembers the answers of an interrupted run.
"""

from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from pydantic import TypeAdapter
from pymatgen.core import Structure

from mattergen_lite.io.records import StructureRecord
from mattergen_lite.processes import Failure
from mattergen_lite.request.targets import PropertyTarget
from mattergen_lite.scoring import oracles
from mattergen_lite.scoring.candidate import Candidate, Outcome, is_credible, ranked
from mattergen_lite.scoring.criteria.symmetry import SYMPREC_GENERATED
from mattergen_lite.scoring.energy.elasticity import Elasticity, bulk_modulus
from mattergen_lite.scoring.energy.phonons import Phonons, phonons
from mattergen_lite.scoring.energy.potentials import load_potential
from mattergen_lite.scoring.energy.relaxation import Relaxation, relax_stream
from mattergen_lite.scoring.energy.screening import DOUBTFUL_WEIGHT, Cut, Screening, screen
from mattergen_lite.scoring.energy.stability import Measurement, assess, complete, measure, set_free
from mattergen_lite.scoring.execution.journal import Journal, Question, structure_identity
from mattergen_lite.scoring.known.reference import Reference
from mattergen_lite.scoring.known.values import known_value
from mattergen_lite.scoring.score import Score, ordered_structure, score

RELAXER = "chgnet"
TIME_LIMIT = 600.0  # s per crystal
DEEP_TIME_LIMIT = 3600.0  # s per crystal, for phonons and elasticity
RELEASE_FROM = 0.2  # probability of being metastable from which a crystal's symmetry is released


def relax_and_measure(structure: Structure, *, others: tuple[str, ...]) -> Measurement:
    """Relax one crystal; energies by the relaxing potential and by the named others."""
    return measure(structure, load_potential(RELAXER), [load_potential(name) for name in others])


def relax_together(
    structures: Sequence[Structure], *, others: tuple[str, ...], device: str
) -> Iterator[tuple[int, Measurement]]:
    """Relax many crystals in batches on one device; yields positions and measurements."""
    decided_by = [load_potential(name, device) for name in others]
    relaxer = load_potential(RELAXER, device)
    for index, relaxation in relax_stream(structures, relaxer, symprec=SYMPREC_GENERATED):
        composition = structures[index].composition
        yield index, complete(relaxation, composition, RELAXER, decided_by)


def worth_relaxing(scores: Sequence[Score], required: Collection[str] = ()) -> list[int]:
    """Positions of the structurally valid crystals that pass the cheap checks required."""
    return [
        index
        for index, judged in enumerate(scores)
        if judged.validity is not None
        and judged.validity.structure_valid
        and not {*required}.intersection(Candidate(raw=judged, structure=None).failed)
    ]


def screen_all(
    scores: Sequence[Score],
    records: Sequence[StructureRecord],
    *,
    required: Collection[str],
    ends: Sequence[int],
    cut: Cut,
    journal: Journal,
) -> list[Screening | None]:
    """Screen the crystals that are worth relaxing by their raw energies, None for the others.

    Args:
        scores: From `score`, one a record.
        records: The structures that were judged.
        required: Cheap checks without which a crystal is not worth relaxing.
        ends: Where each round ends among the records.
        cut: How many go on.
        journal: Processes to work in, and what they have found before.
    """
    worth = worth_relaxing(scores, required)
    found = screen(
        [ordered_structure(records[index].structure) for index in worth],
        [bisect_left(worth, end) for end in ends],
        [1.0 if is_credible(scores[index]) else DOUBTFUL_WEIGHT for index in worth],
        cut,
        journal,
    )
    screened: list[Screening | None] = [None] * len(scores)
    for index, one in zip(worth, found, strict=True):
        screened[index] = one
    return screened


def relax_all(
    records: Sequence[StructureRecord],
    chosen: Sequence[int],
    *,
    potentials: Sequence[str],
    device: str = "cpu",
    time_limit: float = TIME_LIMIT,
    journal: Journal,
) -> list[Measurement | None]:
    """Relax the chosen crystals, None for the others.

    Args:
        records: All structures.
        chosen: Positions of those to relax: from `worth_relaxing` or what `screen_all` lets pass.
        potentials: Who is asked for the energy of the relaxed crystal.
        device: "cpu" relaxes one crystal at a time in every process, which is what potentials want
            there; a GPU relaxes batches in this one, without time limit.
        time_limit: Seconds a crystal may take.
        journal: Processes to relax in, and what they have relaxed before.

    Raises:
        ValueError: If a potential is unknown or not installed.
    """
    others = tuple(sorted({*potentials} - {RELAXER}))
    question = Question(
        partial(relax_and_measure, others=others),
        structure_identity,
        TypeAdapter(Measurement),
        "relax",
        time_limit,
    )
    structures = [ordered_structure(records[index].structure) for index in chosen]
    measured: list[Measurement | None] = [None] * len(records)
    together = None if device == "cpu" else partial(relax_together, others=others, device=device)
    for index, answer in zip(chosen, journal.ask(question, structures, together), strict=True):
        measured[index] = _failed(answer) if isinstance(answer, Failure) else answer
    return measured


def _failed(failure: Failure) -> Measurement:
    """What remains of a crystal that crashed or took too long."""
    return Measurement(
        relaxed_with=RELAXER,
        relaxation=Relaxation(error=failure.reason),
        energies_per_atom={},
        errors={},
    )


def release_and_measure(measured: Measurement, *, others: tuple[str, ...]) -> Measurement:
    """Release the symmetry of one relaxed crystal; energies by the named potentials."""
    return set_free(measured, load_potential(RELAXER), [load_potential(name) for name in others])


def release_promising(
    measured: Sequence[Measurement | None],
    *,
    decider: str,
    potentials: Sequence[str],
    time_limit: float = TIME_LIMIT,
    journal: Journal,
) -> list[Measurement | None]:
    """Rattle and release the crystals that kept a space group and may well be metastable.

    Args:
        measured: From `relax_all`.
        decider: The potential whose energy says what is promising: a probability of being
            metastable of at least `RELEASE_FROM`.
        potentials: Who is asked for the energy of the released crystal.
        time_limit: Seconds a crystal may take; one that takes longer stays as it is.
        journal: Processes to relax in, and what they have relaxed before.
    """
    promising = [
        index
        for index, one in enumerate(measured)
        if one is not None
        and one.relaxation.constrained_space_group > 1
        and assess(one, decider=decider).probability_metastable >= RELEASE_FROM
    ]
    question = Question(
        partial(release_and_measure, others=tuple(sorted({*potentials} - {RELAXER}))),
        _relaxed_identity,
        TypeAdapter(Measurement),
        "release",
        time_limit,
    )
    answers = journal.ask(question, [measured[index] for index in promising])
    released = list(measured)
    for index, answer in zip(promising, answers, strict=True):
        if not isinstance(answer, Failure):
            released[index] = answer
    return released


def _relaxed_identity(measured: Measurement) -> str:
    """What the release of a relaxed crystal depends on."""
    return structure_identity(measured.relaxation.structure)


def score_relaxed(
    records: Sequence[StructureRecord],
    measured: Sequence[Measurement | None],
    *,
    reference: Reference | None,
    journal: Journal,
) -> list[Score | None]:
    """Score what crystals relaxed to, at the tolerance of raw crystals; None where nothing."""
    relaxed = [
        StructureRecord(record.name, one.judged.structure)
        for record, one in zip(records, measured, strict=True)
        if one is not None and one.judged.structure is not None
    ]
    found = iter(score(relaxed, journal=journal, reference=reference))
    return [
        next(found) if one is not None and one.judged.structure is not None else None
        for one in measured
    ]


@dataclass(frozen=True, kw_only=True)
class Found:
    """What was found of one crystal before it is assessed."""

    raw: Score
    screening: Screening | None = None
    measured: Measurement | None = None
    relaxed: Score | None = None


def shortlist(
    records: Sequence[StructureRecord],
    found: Sequence[Found],
    *,
    decider: str,
    second_opinion: str | None = None,
    targets: Sequence[PropertyTarget] = (),
) -> list[Candidate]:
    """Put together what was found of each crystal, assess its stability and rank; best first.

    Args:
        records: The structures that were judged.
        found: One a record.
        decider: The potential whose energy decides about stability.
        second_opinion: Another one, to be compared with.
        targets: What every sample was asked to be.
    """
    candidates = []
    for record, one in zip(records, found, strict=True):
        candidate = Candidate(raw=one.raw, structure=record.structure, screening=one.screening)
        if one.measured is not None:
            novelty = (one.relaxed or one.raw).novelty
            known = novelty is not None and novelty.is_novel is False
            candidate = replace(
                candidate,
                relaxed=one.relaxed,
                relaxed_structure=one.measured.judged.structure,
                stability=assess(
                    one.measured, decider=decider, second_opinion=second_opinion, known=known
                ),
            )
        candidates.append(replace(candidate, outcomes=_outcomes(candidate, record, targets)))
    return ranked(candidates)


def _outcomes(
    candidate: Candidate, record: StructureRecord, targets: Sequence[PropertyTarget]
) -> tuple[Outcome, ...]:
    """Every property that was asked for, as asked and as measured."""
    if not targets or candidate.raw.error is not None:
        return ()
    exact = oracles.measure(
        candidate.final_structure, symprec=SYMPREC_GENERATED, stability=candidate.stability
    )
    return tuple(_outcome(target, candidate, record, exact) for target in targets)


def _outcome(
    target: PropertyTarget,
    candidate: Candidate,
    record: StructureRecord,
    exact: Mapping[str, oracles.Value],
) -> Outcome:
    """One property; outside the domain of a regression nobody can tell whether a target is met."""
    name, asked = target.definition.name, record.targets[target.definition.name]
    value, method, error = _value(name, candidate, record, exact)
    trusted = None if method == "outside domain" else value
    return Outcome(
        property=name,
        target=asked,
        value=value,
        method=method,
        error=error,
        on_target=oracles.is_met(target, asked, trusted),
    )


def _value(
    name: str, candidate: Candidate, record: StructureRecord, exact: Mapping[str, oracles.Value]
) -> tuple[oracles.Value | None, oracles.Method, float | None]:
    """Value, method and error: regressions are for what nothing else here can tell."""
    if name in exact:
        return exact[name], "potential" if name in oracles.ENERGIES else "structure", None
    novelty = candidate.final.novelty
    known = known_value(novelty.nearest_known, name) if novelty else None
    if known is not None:
        return known, "known", None
    if learned := record.learned.get(name):
        inside = oracles.in_domain(name, candidate.final_structure)
        return learned.value, "regression" if inside else "outside domain", learned.error
    return None, "", None


# Deeper checks, of the best only


def find_phonons(structure: Structure, *, potential: str) -> Phonons:
    """Phonons of a crystal, which relaxes further with this potential first."""
    return phonons(structure, load_potential(potential))


def find_elasticity(structure: Structure, *, potential: str) -> Elasticity:
    """Bulk modulus of a crystal by this potential."""
    return bulk_modulus(structure, load_potential(potential))


def deepen(
    candidates: Sequence[Candidate],
    *,
    num_best: int,
    potential: str,
    with_phonons: bool,
    with_elasticity: bool,
    journal: Journal,
) -> list[Candidate]:
    """Find phonons and elasticity of the best relaxed candidates; ranks stay as they are.

    Args:
        candidates: From `shortlist`, best first.
        num_best: How many are looked at.
        potential: Who is asked: the accurate one, for curvatures are harder than energies.
        with_phonons: Find phonons.
        with_elasticity: Find elasticity.
        journal: Processes to work in, and what they have found before.
    """
    deeper = list(candidates)
    chosen = [i for i, one in enumerate(candidates[:num_best]) if one.relaxed_structure is not None]
    structures = [candidates[i].relaxed_structure for i in chosen]

    def ask(
        function: Callable[..., Phonons | Elasticity], answer: type, label: str
    ) -> list[Phonons | Elasticity | Failure]:
        question = Question(
            partial(function, potential=potential),
            structure_identity,
            TypeAdapter(answer),
            label,
            DEEP_TIME_LIMIT,
        )
        return journal.ask(question, structures)

    if with_phonons:
        for i, found in zip(chosen, ask(find_phonons, Phonons, "phonons"), strict=True):
            failed = isinstance(found, Failure)
            result = Phonons(phonon_error=found.reason) if failed else found
            deeper[i] = replace(deeper[i], phonons=result)
    if with_elasticity:
        for i, found in zip(chosen, ask(find_elasticity, Elasticity, "elastic"), strict=True):
            failed = isinstance(found, Failure)
            result = Elasticity(elasticity_error=found.reason) if failed else found
            deeper[i] = replace(deeper[i], elasticity=result)
    return deeper
