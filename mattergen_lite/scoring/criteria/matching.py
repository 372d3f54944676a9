"""Are two crystals the same: comparisons of a few structures, each a task for a worker process.

pymatgen's `StructureMatcher` at the tolerances of the field, which ignore the choice of cell,
origin, orientation and volume.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from typing import NamedTuple

from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Structure

from mattergen_lite.processes import Failure, attempt
from mattergen_lite.scoring.criteria.disorder import Groups, merged
from mattergen_lite.scoring.known.reference import Crystal


@dataclass(frozen=True)
class Tolerances:
    """Tolerances of pymatgen's `StructureMatcher`."""

    ltol: float  # relative, of lengths
    stol: float  # of positions, in (V/N)^(1/3)
    angle_tol: float  # degrees

    def __str__(self) -> str:
        return f"ltol {self.ltol:g}, stol {self.stol:g}, angle_tol {self.angle_tol:g}"


SAME = Tolerances(0.2, 0.3, 5.0)  # pymatgen's own, the field's for unique and novel
PREDICTED = Tolerances(0.3, 0.5, 10.0)  # the field's for structure prediction
PROTOCOL = f"pymatgen StructureMatcher: {SAME}, primitive, equal volume"


class Match(NamedTuple):
    """A known structure that equals a query within the tolerances."""

    material_id: str
    rms_distance: float  # Å, root mean square displacement at the query's volume


class KnownCrystal(NamedTuple):
    """A known structure to compare with."""

    material_id: str
    crystal: Crystal


class Comparison(NamedTuple):
    """Structures of one composition, and the known structures of that composition."""

    queries: list[Crystal]
    known: list[KnownCrystal]


class MergedComparison(NamedTuple):
    """A structure, and known ones of its composition once the elements of each group are merged."""

    query: Crystal
    known: list[KnownCrystal]
    groups: Groups


class Matcher(StructureMatcher):
    """pymatgen's matcher without its memory of reduced cells.

    There structures that agree to 1e-8 are the same, so that a distance would depend on what was
    compared before in this process, and not be equal in another one.
    """

    @classmethod
    def _get_reduced_structure(
        cls, struct: Structure, primitive_cell: bool = True, niggli: bool = True
    ) -> Structure:
        reduced = struct.get_reduced_structure() if niggli else struct.copy()
        return reduced.get_primitive_structure() if primitive_cell else reduced


@cache
def _matcher() -> Matcher:
    """The field's tolerances. Primitive cells are found once per structure, by `_reduced`."""
    return Matcher(**asdict(SAME), primitive_cell=False, scale=True)


def _reduced(structure: Structure) -> Structure:
    """Niggli-reduced primitive cell, in which structures are compared."""
    return structure.get_reduced_structure().get_primitive_structure()


def _equal(one: Structure, other: Structure) -> bool:
    """True if two reduced structures match."""
    return bool(_matcher().fit(one, other, skip_structure_reduction=True))


def _may_equal(crystal: Crystal, reduced: Structure) -> bool:
    """Whether a primitive cell of a crystal can have as many atoms as a reduced structure.

    Reducing is what costs, and structures with other numbers of atoms never match.
    """
    return len(crystal.atomic_numbers) % len(reduced) == 0


def find_duplicates(crystals: Sequence[Crystal]) -> list[int | None]:
    """For crystals of one composition: the index of the first equal one, None for the first."""
    firsts: dict[int, Structure] = {}
    duplicates: list[int | None] = []
    for index, crystal in enumerate(crystals):
        structure = _reduced(crystal.structure())
        first = next((i for i, known in firsts.items() if _equal(known, structure)), None)
        if first is None:
            firsts[index] = structure
        duplicates.append(first)
    return duplicates


def find_nearest(comparison: Comparison) -> list[Match | Failure | None]:
    """The closest match of each query among known structures of its composition."""
    reduced = cache(lambda place: _reduced(comparison.known[place].crystal.structure()))
    nearest = partial(_nearest, known=comparison.known, reduced=reduced)
    return [attempt(nearest, query) for query in comparison.queries]


def _nearest(
    query: Crystal, *, known: Sequence[KnownCrystal], reduced: Callable[[int], Structure]
) -> Match | None:
    """The closest match of one query; `reduced` gives the primitive cell of a known crystal."""
    structure = _reduced(query.structure())
    scale = (structure.volume / len(structure)) ** (1 / 3)  # the matcher's unit of length
    matches = []
    for place, (material_id, crystal) in enumerate(known):
        if _may_equal(crystal, structure) and _equal(other := reduced(place), structure):
            rms_distance, _ = _matcher().get_rms_dist(other, structure)
            matches.append(Match(material_id, float(rms_distance) * scale))
    return min(matches, key=lambda match: match.rms_distance, default=None)


def find_disordered_form(comparison: MergedComparison) -> str | None:
    """The first known structure that equals the query once similar elements are merged."""
    query = _reduced(merged(comparison.query.structure(), comparison.groups))
    for material_id, crystal in comparison.known:
        if not _may_equal(crystal, query):
            continue
        if _equal(_reduced(merged(crystal.structure(), comparison.groups)), query):
            return material_id
    return None
