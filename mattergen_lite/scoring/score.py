"""Scores crystals by every criterion that needs no potential, one row a crystal.

A structure that cannot be read, breaks a criterion, hangs or crashes gets a row with an `error` and
loses no other.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cache, partial
from types import UnionType
from typing import get_args, get_type_hints

from pydantic import TypeAdapter

from mattergen_lite.io.formats.structures import ordered
from mattergen_lite.io.records import StructureRecord
from mattergen_lite.processes import Failure, attempt
from mattergen_lite.scoring.criteria.credibility import Credibility, credibility, with_novelty
from mattergen_lite.scoring.criteria.frameworks import Framework, framework
from mattergen_lite.scoring.criteria.neutrality import Neutrality, neutrality
from mattergen_lite.scoring.criteria.novelty import Novelty, novelty
from mattergen_lite.scoring.criteria.symmetry import SYMPREC_GENERATED, Symmetry, symmetry
from mattergen_lite.scoring.criteria.validity import Validity, validity
from mattergen_lite.scoring.execution.result_cache import (
    CachedTask,
    ResultCache,
    structure_identity,
)
from mattergen_lite.scoring.known.reference import Reference

TIME_LIMIT = 60.0  # s per structure
NEED_SYMMETRY = ("symmetry", "framework", "credibility")  # criteria

Cell = str | int | float | bool | None


@dataclass(frozen=True, kw_only=True)
class Score:
    """The judgement of one crystal: a dataclass per criterion, None where it was not judged."""

    name: str
    formula: str = ""  # reduced
    num_atoms: int = 0
    chemical_system: str = ""  # "Li-O"
    validity: Validity | None = None
    symmetry: Symmetry | None = None
    framework: Framework | None = None
    neutrality: Neutrality | None = None
    novelty: Novelty | None = None
    credibility: Credibility | None = None
    error: str | None = None

    def row(self) -> dict[str, Cell]:
        """All criteria flattened into one table row; the same columns for every crystal."""
        row: dict[str, Cell] = {}
        criteria = criteria_of(type(self))
        for field in fields(self):
            value = getattr(self, field.name)
            named = field.name in criteria
            row |= flatten(value, criteria[field.name]) if named else {field.name: value}
        return row


@cache
def criteria_of(judgement: type) -> dict[str, type]:
    """Find the fields of a judgement that are a dataclass or None, with the class of each.

    `Score` has one for each criterion of a crystal, `Candidate` one for each of a potential.
    """
    return {
        name: part
        for name, annotation in get_type_hints(judgement).items()
        if isinstance(annotation, UnionType)
        for part in get_args(annotation)
        if is_dataclass(part)
    }


def flatten(judged: object | None, criterion: type) -> dict[str, Cell]:
    """Columns of one criterion, empty where it was not judged."""
    names = [field.name for field in fields(criterion)]
    if judged is None:
        return dict.fromkeys(names)
    return {name: _as_cell(getattr(judged, name)) for name in names}


def _as_cell(value: Cell | tuple[str, ...] | dict[float, int]) -> Cell:
    """A value as a table cell: collections become text."""
    if isinstance(value, tuple):
        return "; ".join(value)
    if isinstance(value, dict):
        return " ".join(f"{key:g}:{number}" for key, number in value.items())
    return value


def score_record(record: StructureRecord, *, relaxed: bool) -> Score:
    """Criteria of one structure; a criterion that fails leaves its reason in `error`."""
    if record.structure is None:
        return Score(name=record.name, error=record.error)
    structure = attempt(ordered, record.structure)
    if isinstance(structure, Failure):
        return Score(name=record.name, error=structure.reason)
    criteria = {
        "validity": validity,
        "symmetry": partial(symmetry, symprec=SYMPREC_GENERATED),
        "framework": partial(framework, thorough=relaxed),
        "neutrality": neutrality,
        "credibility": partial(credibility, symprec=SYMPREC_GENERATED),
    }
    judged = {name: attempt(criterion, structure) for name, criterion in criteria.items()}
    return Score(
        name=record.name,
        formula=structure.composition.reduced_formula,
        num_atoms=len(structure),
        chemical_system=structure.chemical_system,
        error="; ".join(_errors(judged)) or None,
        **{name: result for name, result in judged.items() if not isinstance(result, Failure)},
    )


def _errors(judged: Mapping[str, object]) -> list[str]:
    """Reasons of the criteria that failed; atoms in one place have no symmetry, as is known."""
    shape = judged["validity"]
    if isinstance(shape, Validity) and shape.min_distance < SYMPREC_GENERATED:
        judged = {name: result for name, result in judged.items() if name not in NEED_SYMMETRY}
    failed = {name: result for name, result in judged.items() if isinstance(result, Failure)}
    return [f"{name}: {failure.reason}" for name, failure in failed.items()]


def score(
    records: Sequence[StructureRecord],
    *,
    result_cache: ResultCache,
    reference: Reference | None = None,
    relaxed: bool = False,
    polymorphs: bool = False,
) -> list[Score]:
    """Judge crystals; one score per record, in the same order.

    Args:
        reference: Known structures to be novel against; None judges uniqueness in the batch only.
        polymorphs: Crystals of different space groups differ, however close they are.
        relaxed: The structures are relaxed; their frameworks are compared with known ones.
    """
    scores = score_each(records, result_cache=result_cache, relaxed=relaxed)
    return compare(
        scores, records, result_cache=result_cache, reference=reference, polymorphs=polymorphs
    )


def score_each(
    records: Sequence[StructureRecord],
    *,
    result_cache: ResultCache,
    time_limit: float = TIME_LIMIT,
    relaxed: bool = False,
) -> list[Score]:
    """The part of `score` that looks at each crystal by itself."""
    judge = partial(score_record, relaxed=relaxed)
    question = CachedTask(judge, _identity, TypeAdapter(Score), "judge", time_limit, share=None)
    return [
        Score(name=record.name, error=answer.reason) if isinstance(answer, Failure) else answer
        for record, answer in zip(records, result_cache.ask(question, records), strict=True)
    ]


def compare(
    scores: Sequence[Score],
    records: Sequence[StructureRecord],
    *,
    result_cache: ResultCache,
    reference: Reference | None = None,
    polymorphs: bool = False,
) -> list[Score]:
    """The part of `score` that compares crystals with each other and with known ones.

    Of equal crystals the first by name counts as unique, wherever it stands in its source.
    """
    scores = list(scores)
    compared = [index for index, judged in enumerate(scores) if judged.num_atoms]
    compared.sort(key=lambda index: (_natural(records[index].name), _identity(records[index])))
    novelties = novelty(
        [ordered(records[index].structure) for index in compared],
        [records[index].name for index in compared],
        reference=reference,
        pool=result_cache.pool,
        polymorphs=polymorphs,
        progress=result_cache.progress,
    )
    for index, result in zip(compared, novelties, strict=True):
        credible = scores[index].credibility
        flagged = credible and with_novelty(credible, result)
        scores[index] = replace(scores[index], novelty=result, credibility=flagged)
    return scores


def _natural(name: str) -> list[tuple[int, int | str]]:
    """Sorts names as people do: sample 9 before sample 10."""
    parts = re.split(r"(\d{1,18})", name)
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in parts if part]


def _identity(record: StructureRecord) -> str:
    """What the score of a record depends on."""
    if record.structure is None:
        return repr((record.name, record.error))
    return f"{record.name!r} {structure_identity(record.structure)}"
