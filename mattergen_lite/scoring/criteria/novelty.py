"""Is a crystal new: to its batch, to a set of known structures, and if elements may share sites.

Only structures of one reduced composition can match, so everything is bucketed by composition
first and only candidates are ever loaded.

The disorder-aware comparison merges elements that could share a site (see `disorder`) into one, in
the structure and in known structures made of the same or fewer elements, and compares those: an
ordered TaCr2O6 is a form of known (Ta,Cr)O2 if some known TaCrO4, CrO2 or TaO2 has the same sites.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, combinations, product
from typing import TypeVar

from pymatgen.core import Element, Structure

from mattergen_lite.processes import Failure, Pool
from mattergen_lite.progress import ProgressBar
from mattergen_lite.scoring.criteria.disorder import Groups, mixable_groups
from mattergen_lite.scoring.criteria.matching import (
    Comparison,
    KnownCrystal,
    Match,
    MergedComparison,
    find_disordered_form,
    find_duplicates,
    find_nearest,
)
from mattergen_lite.scoring.known.reference import (
    CompositionKey,
    Crystal,
    Reference,
    SystemKey,
    composition_key,
    system_key,
)

QUERIES_PER_TASK = 25
TASK_TIME_LIMIT = 600.0  # s

Task = TypeVar("Task")
Answer = TypeVar("Answer")
Run = Callable[[Callable[[Task], Answer], Sequence[Task], str], list[Answer | Failure]]
Buckets = dict[CompositionKey, list[int]]


@dataclass(frozen=True, kw_only=True)
class Novelty:
    """What is known about one crystal. Fields about a reference are None without one."""

    is_unique: bool  # the first of its kind in the batch
    duplicate_of: str  # name of the first of its kind; empty if unique
    is_novel: bool | None  # equals no known structure
    nearest_known: str  # material_id of the closest equal structure; empty if novel
    rms_distance: float | None  # Å, root mean square displacement from it at equal volume
    num_known_polymorphs: int | None  # known structures of this composition, equal or not
    known_chemical_system: bool | None  # something of exactly these elements is known
    is_novel_with_disorder: bool | None  # nor equals one when similar elements are merged
    disordered_form_of: str  # material_id of the known structure that it equals when merged
    mixed_elements: str  # the elements merged in that comparison, "Cr/Ta"


def novelty(
    structures: Sequence[Structure],
    names: Sequence[str],
    *,
    reference: Reference | None,
    pool: Pool,
    progress: bool = True,
) -> list[Novelty | Failure]:
    """Uniqueness within a batch and novelty against known structures.

    Args:
        structures: Ordered structures; of equal ones the first counts as unique.
        names: Their names, by which duplicates are reported.
        reference: Known structures, or None to look at the batch only.
        pool: Processes to compare in.
        progress: Show progress bars, if standard error is a terminal.

    Returns:
        The novelty of each structure, or a `Failure` where comparing broke or took too long.
    """

    def run(
        function: Callable[[Task], Answer], tasks: Sequence[Task], label: str
    ) -> list[Answer | Failure]:
        answers = pool.map(function, tasks, time_limit=TASK_TIME_LIMIT)
        return list(ProgressBar(answers, total=len(tasks), desc=label, disable=not progress))

    crystals = [Crystal.from_structure(structure) for structure in structures]
    keys = [composition_key(crystal.atomic_numbers.tolist()) for crystal in crystals]
    buckets: Buckets = defaultdict(list)
    for index, key in enumerate(keys):
        buckets[key].append(index)
    duplicates = _duplicates(crystals, buckets, run)
    nearest: list[Match | Failure | None] = [None] * len(crystals)
    forms: dict[int, tuple[str, Groups] | Failure] = {}
    if reference is not None:
        nearest = _nearest_known(crystals, buckets, reference, run)
        novel = [index for index in range(len(crystals)) if nearest[index] is None]
        forms = _disordered_forms(crystals, novel, reference, run)
    judged = []
    for index, key in enumerate(keys):
        found = (duplicates[index], nearest[index], forms.get(index))
        failure = next((answer for answer in found if isinstance(answer, Failure)), None)
        judged.append(failure or _novelty(*found, key, names, reference))
    return judged


def _novelty(
    first: int | None,
    match: Match | None,
    form: tuple[str, Groups] | None,
    key: CompositionKey,
    names: Sequence[str],
    reference: Reference | None,
) -> Novelty:
    """The findings about one crystal put together."""
    known = reference is not None
    form_of, groups = form or ("", ())
    return Novelty(
        is_unique=first is None,
        duplicate_of="" if first is None else names[first],
        is_novel=match is None if known else None,
        nearest_known=match.material_id if match else "",
        rms_distance=match.rms_distance if match else None,
        num_known_polymorphs=len(reference.rows_of_composition.get(key, [])) if known else None,
        known_chemical_system=system_key(key) in reference.compositions_of_system
        if known
        else None,
        is_novel_with_disorder=match is None and form is None if known else None,
        disordered_form_of=form_of,
        mixed_elements=" ".join("/".join(group) for group in groups),
    )


def _duplicates(
    crystals: Sequence[Crystal], buckets: Buckets, run: Run
) -> list[int | Failure | None]:
    """Index of the first equal crystal of the batch; None for the first of a kind."""
    shared = [indices for indices in buckets.values() if len(indices) > 1]
    answers = run(find_duplicates, [[crystals[i] for i in indices] for indices in shared], "unique")
    duplicates: list[int | Failure | None] = [None] * len(crystals)
    for indices, answer in zip(shared, answers, strict=True):
        for position, index in enumerate(indices):
            first = answer if isinstance(answer, Failure) else answer[position]
            duplicates[index] = indices[first] if isinstance(first, int) else first
    return duplicates


def _nearest_known(
    crystals: Sequence[Crystal], buckets: Buckets, reference: Reference, run: Run
) -> list[Match | Failure | None]:
    """The closest equal structure of the reference, for each crystal."""
    chunks = [
        (key, indices[start : start + QUERIES_PER_TASK])
        for key, indices in buckets.items()
        if key in reference.rows_of_composition
        for start in range(0, len(indices), QUERIES_PER_TASK)
    ]
    tasks = [
        Comparison([crystals[i] for i in indices], _known(reference, [key]))
        for key, indices in chunks
    ]
    nearest: list[Match | Failure | None] = [None] * len(crystals)
    for (_, indices), answer in zip(chunks, run(find_nearest, tasks, "novel"), strict=True):
        for position, index in enumerate(indices):
            nearest[index] = answer if isinstance(answer, Failure) else answer[position]
    return nearest


def _known(reference: Reference, compositions: Sequence[CompositionKey]) -> list[KnownCrystal]:
    """All known structures of some compositions."""
    rows = chain.from_iterable(reference.rows_of_composition[key] for key in compositions)
    return [KnownCrystal(reference.material_ids[row], reference.crystal(row)) for row in rows]


def _disordered_forms(
    crystals: Sequence[Crystal], novel: Sequence[int], reference: Reference, run: Run
) -> dict[int, tuple[str, Groups] | Failure]:
    """Which of the novel crystals equal a known one when similar elements are merged."""
    tasks: dict[int, MergedComparison] = {}
    for index in novel:
        key = composition_key(crystals[index].atomic_numbers.tolist())
        groups = mixable_groups(Element.from_Z(number).symbol for number in system_key(key))
        known = _known(reference, _same_when_merged(key, groups, reference)) if groups else []
        if known:
            tasks[index] = MergedComparison(crystals[index], known, groups)
    answers = run(find_disordered_form, list(tasks.values()), "disorder")
    found = zip(tasks.items(), answers, strict=True)
    return {
        index: answer if isinstance(answer, Failure) else (answer, task.groups)
        for (index, task), answer in found
        if answer is not None
    }


def _same_when_merged(
    key: CompositionKey, groups: Groups, reference: Reference
) -> list[CompositionKey]:
    """Known compositions of the same or fewer elements that become equal when groups are merged."""
    representative = {
        Element(symbol).Z: Element(group[0]).Z for group in groups for symbol in group
    }
    target = _merged_key(key, representative)
    return [
        known
        for system in _subsystems(system_key(key), representative)
        for known in reference.compositions_of_system.get(system, [])
        if _merged_key(known, representative) == target
    ]


def _merged_key(key: CompositionKey, representative: Mapping[int, int]) -> CompositionKey:
    """Reduced composition after each element is replaced by its group's representative."""
    return composition_key(
        representative.get(number, number) for number, count in key for _ in range(count)
    )


def _subsystems(system: SystemKey, representative: Mapping[int, int]) -> Iterator[SystemKey]:
    """Systems with all unmerged elements and at least one of each group, the fullest first."""
    members: dict[int, list[int]] = defaultdict(list)
    for number in system:
        members[representative.get(number, number)].append(number)
    choices = [
        [subset for size in range(len(group), 0, -1) for subset in combinations(group, size)]
        for group in members.values()
    ]
    return (tuple(sorted(chain.from_iterable(chosen))) for chosen in product(*choices))
