"""Compares many crystals in blocks: equal ones of a batch, and known ones that equal them.

Tasks are small enough that a batch of a single composition is compared as any other. What breaks or
takes too long costs the comparisons of that crystal only, and the answer says so.
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from mattergen_lite.console import ProgressBar
from mattergen_lite.processes import Failure, Pool
from mattergen_lite.scoring.criteria.disorder import Groups
from mattergen_lite.scoring.criteria.matching import (
    Comparison,
    Matches,
    ReducedCrystal,
    ReductionTask,
    find_duplicates,
    find_equal,
    reduce_crystal,
)
from mattergen_lite.scoring.known.reference import Crystal

QUERIES_PER_TASK = 25
WAVE = 100  # crystals of one composition that are grouped at a time
REDUCTION_TIME_LIMIT = 60.0  # s a crystal
TASK_TIME_LIMIT = 600.0  # s; a task that takes longer is split into its crystals

Task = TypeVar("Task")
Answer = TypeVar("Answer")
Reduced = ReducedCrystal | Failure


class ReferenceCrystal(NamedTuple):
    """A known structure to compare with."""

    material_id: str
    crystal: Crystal


@dataclass(frozen=True)
class BatchPlace:
    """Where a crystal stands in its batch."""

    first: int  # position of the first crystal that equals it, maybe its own
    not_compared: str = ""  # why it is not known whether another one equals it


@dataclass(frozen=True)
class KnownMatch:
    """What the known structures say of a crystal."""

    material_id: str = ""  # of the one that it equals; empty if none does
    rms_distance: float | None = None  # Å
    not_compared: str = ""  # why it is not known that none does


@dataclass(frozen=True)
class Bucket:
    """Crystals, by position, and the known structures that they may equal."""

    queries: Sequence[int]
    known: Sequence[ReferenceCrystal]
    groups: Groups = ()  # elements that have been merged


@dataclass(frozen=True)
class Comparer:
    """Compares crystals in the processes of a pool."""

    pool: Pool
    progress: bool = True

    def reduce(self, tasks: Sequence[ReductionTask], label: str) -> list[Reduced]:
        """Reduce crystals for comparisons."""
        return self._run(reduce_crystal, tasks, label, REDUCTION_TIME_LIMIT)

    def _run(
        self,
        function: Callable[[Task], Answer],
        tasks: Sequence[Task],
        label: str,
        time_limit: float = TASK_TIME_LIMIT,
    ) -> list[Answer | Failure]:
        answers = self.pool.map(function, tasks, time_limit=time_limit)
        bar = ProgressBar(answers, total=len(tasks), desc=label, disable=not self.progress)
        return list(bar)

    def _compare(
        self,
        function: Callable[[Comparison], list[Matches]],
        tasks: Sequence[Comparison],
        label: str,
    ) -> list[list[Matches]]:
        """Answers of every query; where a task fails, its queries are compared by themselves."""
        return [
            self._compare_singly(function, task, answer, label)
            if isinstance(answer, Failure)
            else answer
            for task, answer in zip(tasks, self._run(function, tasks, label), strict=True)
        ]

    def _compare_singly(
        self,
        function: Callable[[Comparison], list[Matches]],
        task: Comparison,
        failure: Failure,
        label: str,
    ) -> list[Matches]:
        """Answers of the queries of a task that failed."""
        single = [Comparison([query], task.others) for query in task.queries]
        answers = self._run(function, single, label) if len(single) > 1 else [failure]
        return [
            Matches(None, answer.reason) if isinstance(answer, Failure) else answer[0]
            for answer in answers
        ]

    def group(self, reduced: Sequence[Reduced], keys: Sequence[Hashable]) -> list[BatchPlace]:
        """Find equal crystals of a batch among those with equal keys, such as the composition.

        Crystals are taken in an order that follows from what they are, and join the first group
        whose first crystal they equal: neither order nor names decide how many groups that makes.
        """
        buckets: dict[tuple[Hashable, int], list[int]] = defaultdict(list)
        for index, crystal in enumerate(reduced):
            if not isinstance(crystal, Failure):
                buckets[keys[index], len(crystal.atomic_numbers)].append(index)
        shared = [_Groups(indices, reduced) for indices in buckets.values() if len(indices) > 1]
        for start in range(0, max((len(groups.order) for groups in shared), default=0), WAVE):
            growing = [groups for groups in shared if len(groups.order) > start]
            self._join(growing, start)
            self._split(growing, start)
        return _batch_places(reduced, shared)

    def _join(self, groups: Sequence["_Groups"], start: int) -> None:
        """Compare the next crystals of every composition with the groups that there are."""
        owners = [
            (owner, queries)
            for owner in groups
            if owner.firsts
            for queries in _chunks(owner.order[start : start + WAVE])
        ]
        tasks = [owner.comparison(queries, owner.firsts) for owner, queries in owners]
        for (owner, queries), answers in zip(
            owners, self._compare(find_equal, tasks, "unique"), strict=True
        ):
            owner.add(queries, owner.firsts, answers)

    def _split(self, groups: Sequence["_Groups"], start: int) -> None:
        """Compare the next crystals that joined no group with each other."""
        left = [
            [index for index in owner.order[start : start + WAVE] if index not in owner.first_of]
            for owner in groups
        ]
        tasks = [[owner.reduced[i] for i in new] for owner, new in zip(groups, left, strict=True)]
        answers = self._run(find_duplicates, tasks, "unique")
        for owner, new, answer in zip(groups, left, answers, strict=True):
            if not isinstance(answer, Failure):
                owner.add(new, new, answer)
                owner.firsts += [index for index in new if index not in owner.first_of]
                continue
            before = len(owner.firsts)
            for index in new:
                task = owner.comparison([index], owner.firsts[before:])
                owner.add(
                    [index],
                    owner.firsts[before:],
                    self._compare(find_equal, [task], "unique")[0],
                )
                owner.firsts += [] if index in owner.first_of else [index]

    def search(
        self,
        reduced: Mapping[int, Reduced],
        buckets: Sequence[Bucket],
        function: Callable[[Comparison], list[Matches]],
        label: str,
    ) -> dict[int, KnownMatch]:
        """Find the known structures that crystals equal, by position of the crystal."""
        results = {
            index: KnownMatch(not_compared=crystal.reason)
            for index, crystal in reduced.items()
            if isinstance(crystal, Failure)
        }
        blocks = self._blocks(reduced, buckets, label)
        tasks = [
            Comparison([reduced[i] for i in block.queries], [known for _, known in block.known])
            for block in blocks
        ]
        for block, answers in zip(blocks, self._compare(function, tasks, label), strict=True):
            for index, answer in zip(block.queries, answers, strict=True):
                missing = "; ".join(filter(None, [block.not_compared, answer.skipped]))
                results[index] = (
                    KnownMatch(not_compared=missing)
                    if answer.best is None
                    else KnownMatch(block.known[answer.best.index][0], answer.best.rms_distance)
                )
        return results

    def _blocks(
        self, reduced: Mapping[int, Reduced], buckets: Sequence[Bucket], label: str
    ) -> list["_Block"]:
        """Crystals and known structures of as many atoms, both reduced."""
        sized = [
            (
                size,
                queries,
                [k for k in bucket.known if len(k.crystal.atomic_numbers) % size == 0],
                bucket,
            )
            for bucket in buckets
            for size, queries in _by_size(bucket.queries, reduced).items()
        ]
        tasks = [
            ReductionTask(k.crystal, bucket.groups) for _, _, known, bucket in sized for k in known
        ]
        answers = iter(self.reduce(tasks, label))
        blocks: list[_Block] = []
        for size, queries, known, _ in sized:
            read = [(k.material_id, next(answers)) for k in known]
            fit = [(n, k) for n, k in read if not isinstance(k, Failure)]
            fit = [(n, k) for n, k in fit if len(k.atomic_numbers) == size]
            missing = [f"{n}: {k.reason}" for n, k in read if isinstance(k, Failure)]
            if fit or missing:
                blocks += [_Block(some, fit, "; ".join(missing)) for some in _chunks(queries)]
        return blocks


class _Block(NamedTuple):
    """Crystals of one composition and size, and the known structures of as many atoms."""

    queries: Sequence[int]
    known: Sequence[tuple[str, ReducedCrystal]]
    not_compared: str  # which known structures could not be reduced


def _by_size(queries: Sequence[int], reduced: Mapping[int, Reduced]) -> dict[int, list[int]]:
    sizes: dict[int, list[int]] = defaultdict(list)
    for index in queries:
        if not isinstance(reduced[index], Failure):
            sizes[len(reduced[index].atomic_numbers)].append(index)
    return sizes


class _Groups:
    """Crystals of one composition and size while they are grouped."""

    def __init__(self, indices: Sequence[int], reduced: Sequence[Reduced]) -> None:
        self.reduced = reduced
        self.order = sorted(indices, key=lambda index: reduced[index].sort_key)
        self.firsts: list[int] = []  # of the groups, in the order of what crystals are
        self.first_of: dict[int, int] = {}  # of every other crystal
        self.not_compared: dict[int, str] = {}

    def comparison(self, queries: Sequence[int], others: Sequence[int]) -> Comparison:
        """Crystals with those that each is compared with."""
        return Comparison([self.reduced[i] for i in queries], [self.reduced[i] for i in others])

    def add(
        self, queries: Sequence[int], others: Sequence[int], answers: Sequence[Matches]
    ) -> None:
        """Note which of the others each query equals."""
        for query, answer in zip(queries, answers, strict=True):
            if answer.best is not None:
                self.first_of[query] = others[answer.best.index]
                self.not_compared.pop(query, None)
            elif answer.skipped:
                self.not_compared[query] = answer.skipped


def _batch_places(reduced: Sequence[Reduced], shared: Sequence[_Groups]) -> list[BatchPlace]:
    """The place of every crystal, by the position of the first crystal of its group."""
    places = [
        BatchPlace(index, crystal.reason if isinstance(crystal, Failure) else "")
        for index, crystal in enumerate(reduced)
    ]
    for groups in shared:
        members: dict[int, list[int]] = defaultdict(list)
        for index in groups.order:
            members[groups.first_of.get(index, index)].append(index)
        for first, group in members.items():
            earliest = min(group)
            for index in group:
                missing = groups.not_compared.get(first, "") if index == earliest else ""
                places[index] = BatchPlace(earliest, missing)
    return places


def _chunks(queries: Sequence[int]) -> list[Sequence[int]]:
    starts = range(0, len(queries), QUERIES_PER_TASK)
    return [queries[start : start + QUERIES_PER_TASK] for start in starts]
