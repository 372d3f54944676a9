"""Tells whether a crystal is new: to its batch, to known structures, and if elements share sites.

Only structures of one reduced composition can match, so only these are loaded. A comparison that
breaks or takes too long leaves the novelty of its crystal unknown.

The disorder-aware comparison merges elements that could share a site (see `disorder`), also in
known structures of the same or fewer elements: an ordered TaCr2O6 is a form of known (Ta,Cr)O2 if
a known TaCrO4, CrO2 or TaO2 has the same sites.
"""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, combinations, product
from typing import TypeVar

from pymatgen.core import Element, Structure

from mattergen_lite.processes import Pool
from mattergen_lite.scoring.criteria.disorder import Groups, mixable_groups
from mattergen_lite.scoring.criteria.grouping import (
    BatchPlace,
    Bucket,
    Comparer,
    KnownMatch,
    Reduced,
    ReferenceCrystal,
)
from mattergen_lite.scoring.criteria.matching import ReductionTask, find_equal, find_nearest
from mattergen_lite.scoring.criteria.symmetry import polymorph
from mattergen_lite.scoring.known.reference import (
    CompositionKey,
    Crystal,
    Reference,
    SystemKey,
    composition_key,
    system_key,
)

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, kw_only=True)
class Novelty:
    """What is known about one crystal. Fields about a reference are None without one."""

    is_unique: bool | None  # the first of its kind in the batch; None: could not be found out
    duplicate_of: str = ""  # name of the first of its kind; empty if unique
    is_novel: bool | None = None  # neither structure nor composition is known; None: not settled
    nearest_known: str = ""  # material_id of the closest equal structure; empty if there is none
    rms_distance: float | None = None  # Å, root mean square displacement from it at equal volume
    num_known_polymorphs: int | None = None  # known structures of this composition, equal or not
    # material_id of a known compound of this composition whose structure is not here to compare
    known_composition: str = ""
    known_chemical_system: bool | None = None  # something of exactly these elements is known
    is_novel_with_disorder: bool | None = None  # nor equals one when similar elements are merged
    disordered_form_of: str = ""  # material_id of the known structure that it equals when merged
    mixed_elements: str = ""  # the elements merged in that comparison, "Cr/Ta"
    not_compared: str = ""  # why comparisons are missing that could have changed the answer

    @property
    def is_unknown(self) -> bool:
        """Whether comparisons that were not made could decide if it is unique and novel."""
        return bool(self.not_compared) and False not in (self.is_unique, self.is_novel)

    @property
    def is_new_composition(self) -> bool | None:
        """Whether no known compound has the composition; None without a reference."""
        if self.num_known_polymorphs is None:
            return None
        return self.num_known_polymorphs == 0 and not self.known_composition

    @property
    def words(self) -> str:
        """What a verdict says of it; empty where the crystal is new in every way."""
        if self.is_unique is False:
            return f"the same as {self.duplicate_of}"
        if self.is_unknown:
            return f"novelty unknown: {self.not_compared}"
        if self.nearest_known:
            return f"known as {self.nearest_known}, {self.rms_distance:.2f} Å away"
        if self.disordered_form_of:
            return f"an ordered form of {self.disordered_form_of} with {self.mixed_elements} mixed"
        if self.known_composition:
            return f"composition known as {self.known_composition}, its structure is not here"
        if self.num_known_polymorphs:
            return f"a polymorph: {self.num_known_polymorphs} known of this composition"
        return ""


def novelty(
    structures: Sequence[Structure],
    names: Sequence[str],
    *,
    reference: Reference | None,
    pool: Pool,
    polymorphs: bool = False,
    progress: bool = True,
) -> list[Novelty]:
    """Uniqueness within a batch and novelty against known structures.

    How many crystals are unique depends neither on their order nor on their names.

    Args:
        structures: Ordered structures. Of equal ones the first counts as unique.
        reference: Known structures, or None to look at the batch only.
        pool: Processes to compare in.
        polymorphs: Crystals of different space groups differ, however close they are.
        progress: Show progress bars, if standard error is a terminal.
    """
    comparer = Comparer(pool, progress)
    crystals = [Crystal.from_structure(structure) for structure in structures]
    keys = [composition_key(crystal.atomic_numbers.tolist()) for crystal in crystals]
    reduced = comparer.reduce([ReductionTask(crystal) for crystal in crystals], "reduce")
    groups = [polymorph(structure) if polymorphs else 0 for structure in structures]
    places = comparer.group(reduced, list(zip(keys, groups, strict=True)))
    judged = [_of_batch(index, place, names) for index, place in enumerate(places)]
    if reference is None:
        return judged
    known = _known_structures(reduced, keys, groups, reference, comparer)
    unseen = [index for index, result in enumerate(known) if result == KnownMatch()]
    forms = _disordered_forms(crystals, keys, unseen, reference, comparer)
    return [
        _against(reference, keys[index], known[index], forms.get(index, _NO_FORM), batch=batch)
        for index, batch in enumerate(judged)
    ]


_NO_FORM: tuple[KnownMatch, Groups] = (KnownMatch(), ())


def _of_batch(index: int, place: BatchPlace, names: Sequence[str]) -> Novelty:
    if place.first != index:
        return Novelty(is_unique=False, duplicate_of=names[place.first])
    if place.not_compared:
        return Novelty(is_unique=None, not_compared=f"uniqueness: {place.not_compared}")
    return Novelty(is_unique=True)


def _against(
    reference: Reference,
    key: CompositionKey,
    known: KnownMatch,
    merged: tuple[KnownMatch, Groups],
    *,
    batch: Novelty,
) -> Novelty:
    """Add what the reference says of one crystal to what the batch says of it."""
    form, groups = merged
    rows = reference.rows_of_composition.get(key, [])
    elsewhere = "" if rows else reference.compositions.find(key)
    is_novel = None if elsewhere or known.not_compared else not known.material_id
    is_novel_with_disorder = None if form.not_compared else is_novel
    missing = known.not_compared or form.not_compared
    return replace(
        batch,
        is_novel=is_novel,
        nearest_known=known.material_id,
        rms_distance=known.rms_distance,
        num_known_polymorphs=len(rows),
        known_composition=elsewhere,
        known_chemical_system=reference.has_system(system_key(key)),
        is_novel_with_disorder=False if form.material_id else is_novel_with_disorder,
        disordered_form_of=form.material_id,
        mixed_elements=" ".join("/".join(group) for group in groups) if form.material_id else "",
        not_compared="; ".join(
            filter(None, [batch.not_compared, missing and f"novelty: {missing}"])
        ),
    )


def _known_structures(
    reduced: Sequence[Reduced],
    keys: Sequence[CompositionKey],
    groups: Sequence[int],
    reference: Reference,
    comparer: Comparer,
) -> list[KnownMatch]:
    """The closest equal structure of the reference, for each crystal."""
    listed = [i for i, key in enumerate(keys) if key in reference.rows_of_composition]
    buckets = []
    for key, indices in _by_key(keys, listed).items():
        known = _known(reference, [key])
        for group, members in _by_key(groups, indices).items():
            fitting = [k for k in known if group in (0, polymorph(k.crystal.structure()))]
            buckets.append(Bucket(members, fitting))
    compared = {index: reduced[index] for index in listed}
    results = comparer.search(compared, buckets, find_nearest, "novel")
    return [results.get(index, KnownMatch()) for index in range(len(keys))]


def _known(reference: Reference, compositions: Sequence[CompositionKey]) -> list[ReferenceCrystal]:
    rows = chain.from_iterable(reference.rows_of_composition[key] for key in compositions)
    return [ReferenceCrystal(reference.material_ids[row], reference.crystal(row)) for row in rows]


def _disordered_forms(
    crystals: Sequence[Crystal],
    keys: Sequence[CompositionKey],
    unseen: Sequence[int],
    reference: Reference,
    comparer: Comparer,
) -> dict[int, tuple[KnownMatch, Groups]]:
    """Known structures that crystals equal when similar elements are merged."""
    buckets: dict[CompositionKey, Bucket] = {}
    for key, indices in _by_key(keys, unseen).items():
        groups = mixable_groups(Element.from_Z(number).symbol for number in system_key(key))
        known = _known(reference, _same_when_merged(key, groups, reference)) if groups else []
        if known:
            buckets[key] = Bucket(indices, known, groups)
    indices = [index for bucket in buckets.values() for index in bucket.queries]
    tasks = [ReductionTask(crystals[index], buckets[keys[index]].groups) for index in indices]
    reduced = dict(zip(indices, comparer.reduce(tasks, "disorder"), strict=True))
    forms = comparer.search(reduced, list(buckets.values()), find_equal, "disorder")
    return {index: (form, buckets[keys[index]].groups) for index, form in forms.items()}


def _by_key(keys: Sequence[Key], indices: Iterable[int]) -> dict[Key, list[int]]:
    positions: dict[Key, list[int]] = defaultdict(list)
    for index in indices:
        positions[keys[index]].append(index)
    return positions


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
