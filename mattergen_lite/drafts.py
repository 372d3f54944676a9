"""What is settled of each sample before any noise: its template, its elements, its known sites.

    Drafting(constraints=parse_constraints(formula="LiFePO4"), symmetry=parse_space_group(None))

A sample takes the template of a known crystal: its space group, orbits and stoichiometry, not its
elements, free coordinates or cell. Templates come as often as known crystals near the hull have
them. Elements that must occur are put on whole classes of orbits, where similar elements are in the
known crystal; `--space-group none` prescribes no symmetry: every atom is an orbit of its own.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cache, cached_property

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from mattergen_lite.config import ModelConfig
from mattergen_lite.constraints import Constraints
from mattergen_lite.crystal import CrystalBatch
from mattergen_lite.data import OrbitDataset, embedded_orbits
from mattergen_lite.elements import element_descriptors
from mattergen_lite.host import CellChange, Host
from mattergen_lite.properties import CRYSTAL_SYSTEMS, crystal_system
from mattergen_lite.shapes import Bool, Float, Int
from mattergen_lite.symmetry.orbits import Orbits, p1_orbits
from mattergen_lite.symmetry.space_groups import NUM_SPACE_GROUPS
from mattergen_lite.symmetry.templates import OrbitCrystals, classes_by_element
from mattergen_lite.targets import parse_range

MAX_TEMPLATE_ENERGY = 0.1  # eV/atom above the hull of the crystals whose templates are taken
NUM_COMPARED = 64  # templates between which the similarity of elements decides
# Of the preference for templates whose elements resemble those wanted: mean over atoms of
# 1 - cosine between descriptors. Known crystals of one structure type differ by about as much.
SIMILARITY_SCALE = 0.1
_TRIES = 300  # templates looked at before it is said that none has room for what is asked


@dataclass(frozen=True, kw_only=True)
class Symmetry:
    """Space groups that a sample may have, and how they were asked for."""

    text: str = "any"
    numbers: frozenset[int] | None = None  # None = those of known crystals

    @property
    def prescribed(self) -> bool:
        """Whether samples take templates of known crystals at all."""
        return self.text != "none"


@dataclass(frozen=True, kw_only=True)
class Draft:
    """What is settled of one sample."""

    orbits: Orbits  # the template; elements and places are taken over only where said below
    elements: tuple[int, ...]  # atomic number that each orbit must have; 0 = open
    known: tuple[bool, ...]  # orbits that stay where they are
    prescribed: bool  # orbits of one element in the template hold one element in the sample
    fixed_cell: bool = False
    host: Host | None = None
    change: CellChange | None = None  # from the host's cell to that of the template

    @property
    def size(self) -> int:
        """What batches are sorted by: the number of orbits, then of atoms."""
        return 1000 * len(self.elements) + int(self.orbits.multiplicities.sum())

    def restored(self, crystal: OrbitCrystals) -> CrystalBatch:
        """A finished sample (a batch of one) as atoms; in the host's cell, if there is a host."""
        atoms = replace(crystal, lattice=crystal.lattice.double()).expand()
        if self.host is None:
            return atoms
        known = np.repeat(self.known, self.orbits.multiplicities)
        return self.host.restored(atoms, torch.from_numpy(known), self.change)


@dataclass(frozen=True, kw_only=True)
class DraftBatch:
    """B drafts as tensors."""

    crystals: OrbitCrystals
    allowed: Bool[Tensor, "B O Z"]
    known: Bool[Tensor, "B O"]
    fixed_cell: Bool[Tensor, "B"]

    @classmethod
    def of(
        cls, drafts: Sequence[Draft], allowed: Bool[Tensor, "Z"]
    ) -> "DraftBatch":
        """Pad drafts to the most orbits and atoms.

        Args:
            drafts: What is settled of each sample.
            allowed: Elements that open orbits may hold.
        """
        crystals = OrbitCrystals.of([draft.orbits for draft in drafts])
        prescribed = torch.tensor([draft.prescribed for draft in drafts])
        crystals = crystals.with_classes(
            classes_by_element(crystals.atomic_numbers), prescribed
        )
        shape = crystals.atomic_numbers.shape
        table = allowed.repeat(*shape, 1)
        known = torch.zeros(shape, dtype=torch.bool)
        for row, draft in enumerate(drafts):
            known[row, : len(draft.known)] = torch.tensor(draft.known)
            for orbit, number in enumerate(draft.elements):
                if number:
                    table[row, orbit] = False
                    table[row, orbit, number] = True
        fixed_cell = torch.tensor([draft.fixed_cell for draft in drafts])
        return cls(crystals=crystals, allowed=table, known=known, fixed_cell=fixed_cell)

    def to(self, device: torch.device | str) -> "DraftBatch":
        """The same drafts on another device."""
        return type(self)(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})


@dataclass(frozen=True, kw_only=True)
class Drafting:
    """What is asked of every sample exactly."""

    constraints: Constraints = Constraints()
    symmetry: Symmetry = Symmetry()

    def draw(self, model: ModelConfig, rngs: Sequence[torch.Generator]) -> list[Draft]:
        """One draft from each generator.

        Args:
            model: Its largest numbers of orbits and atoms limit what can be drafted.
            rngs: One generator a sample.

        Raises:
            ValueError: If nothing that the model can make is what is asked for.
        """
        counts = self.constraints.atom_counts(model.max_atoms)
        if self.constraints.host is not None:
            from mattergen_lite.host_drafts import HostDrafting

            source = HostDrafting.of(self.constraints, self.symmetry, model)
        elif self.symmetry.prescribed:
            source = TemplateDrafting.of(self.constraints, self.symmetry, counts, model)
        else:
            source = FreeDrafting.of(self.constraints, counts, model)
        return [source.draw(rng) for rng in rngs]


@dataclass(frozen=True, kw_only=True)
class FreeDrafting:
    """Samples without prescribed symmetry: every atom is an orbit."""

    constraints: Constraints
    histogram: Float[Tensor, "N"]  # weight of 1, 2, ... atoms

    @classmethod
    def of(
        cls, constraints: Constraints, counts: Sequence[int], model: ModelConfig
    ) -> "FreeDrafting":
        """Sizes with the frequencies of the training set, uniform where none was ever seen.

        Raises:
            ValueError: If all sizes have more atoms than the model makes orbits.
        """
        counts = [count for count in counts if count <= model.max_orbits]
        if not counts:
            raise ValueError(
                f"space-group none: this model makes at most {model.max_orbits} atoms without "
                "symmetry; with it, more"
            )
        seen = dict(enumerate(model.atom_count_histogram, start=1))
        weights = torch.tensor(
            [float(seen.get(n, 0)) if n in counts else 0.0 for n in range(1, max(counts) + 1)]
        )
        if not weights.any():
            weights[[count - 1 for count in counts]] = 1.0
        return cls(constraints=constraints, histogram=weights)

    def draw(self, rng: torch.Generator) -> Draft:
        """One draft."""
        count = int(torch.multinomial(self.histogram, 1, generator=rng)) + 1
        pinned = self.constraints.pinned(count)
        return Draft(
            orbits=p1_orbits(np.ones(count, int), np.zeros((count, 3)), np.eye(3)),
            elements=(*pinned, *[0] * (count - len(pinned))),
            known=(False,) * count,
            prescribed=False,
        )


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A template with elements put where they must be."""

    row: int
    elements: tuple[int, ...]
    prescribed: bool
    dissimilarity: float  # of elements put there and those in the known crystal, mean over atoms


@dataclass(frozen=True, kw_only=True)
class TemplateDrafting:
    """Samples on the templates of known crystals."""

    library: "TemplateLibrary"
    constraints: Constraints
    rows: Int[np.ndarray, "R"]  # of the library
    prescribed: bool
    text: str

    @classmethod
    def of(
        cls,
        constraints: Constraints,
        symmetry: Symmetry,
        counts: Sequence[int],
        model: ModelConfig,
    ) -> "TemplateDrafting":
        """Templates that fit what is asked.

        Raises:
            ValueError: If there is none; the message says what there is instead.
        """
        library = template_library(model.max_orbits, model.max_atoms)
        fits = np.isin(library.num_atoms, counts)
        if symmetry.numbers is not None:
            in_group = np.isin(library.space_groups, sorted(symmetry.numbers))
            _refuse_nothing(in_group & fits, symmetry.text, library.num_atoms[in_group], counts)
            fits &= in_group
        prescribed = True
        rows = np.flatnonzero(fits)
        if constraints.formula:
            exact = [row for row in rows if library.holds(row, constraints.formula)]
            prescribed = bool(exact)
            rows = np.array(exact) if exact else rows
        elif constraints.required:
            enough = library.num_classes[rows] >= len(constraints.required)
            prescribed = bool(enough.any())
            rows = rows[enough] if prescribed else rows
        if not len(rows):
            raise ValueError(
                f"no known crystal has a template with {_listed(counts)} atoms: say "
                "space-group none, or allow other sizes"
            )
        return cls(
            library=library,
            constraints=constraints,
            rows=rows,
            prescribed=prescribed,
            text=symmetry.text,
        )

    def draw(self, rng: torch.Generator) -> Draft:
        """One draft: any template, or one of those whose elements resemble the wanted ones.

        Raises:
            ValueError: If none of the templates that were tried has room for what is wanted.
        """
        if not (self.constraints.formula or self.constraints.required):
            row = int(self._draw_rows(1, rng)[0])
            elements = (0,) * int(self.library.crystals.num_orbits[row])
            return self._draft(Candidate(row=row, elements=elements, prescribed=True, dissimilarity=0))
        found: list[Candidate] = []
        for row in self._draw_rows(_TRIES, rng):
            candidate = self.library.place(int(row), self.constraints, self.prescribed, rng)
            if candidate is not None:
                found.append(candidate)
            if len(found) == NUM_COMPARED:
                break
        if not found:
            raise ValueError(
                f"space-group {self.text}: none of {_TRIES} known crystals that were tried has "
                "sites for the elements that are asked for; allow more numbers of atoms or space "
                "groups, or say space-group none"
            )
        atoms = self.library.num_atoms[[one.row for one in found]]
        weights = np.exp([-one.dissimilarity / SIMILARITY_SCALE for one in found]) / atoms
        chosen = torch.multinomial(torch.from_numpy(weights), 1, generator=rng)
        return self._draft(found[int(chosen)])

    def _draw_rows(self, count: int, rng: torch.Generator) -> Int[np.ndarray, "K"]:
        """Rows at random, each at most once if there are fewer than `count`."""
        if len(self.rows) <= count:
            return self.rows[torch.randperm(len(self.rows), generator=rng).numpy()]
        return self.rows[torch.randint(len(self.rows), (count,), generator=rng).numpy()]

    def _draft(self, candidate: Candidate) -> Draft:
        return Draft(
            orbits=self.library.crystals.orbits(candidate.row),
            elements=candidate.elements,
            known=(False,) * len(candidate.elements),
            prescribed=candidate.prescribed,
        )


@cache
def template_library(max_orbits: int, max_atoms: int) -> "TemplateLibrary":
    """Known crystals near the hull, outside MP-20's test split, with at most so many orbits."""
    return TemplateLibrary(
        embedded_orbits(
            max_orbits=max_orbits, max_atoms=max_atoms, max_e_above_hull=MAX_TEMPLATE_ENERGY
        )
    )


class TemplateLibrary:
    """Known crystals whose templates samples take."""

    def __init__(self, crystals: OrbitDataset) -> None:
        self.crystals = crystals
        self.num_atoms = crystals.num_atoms.numpy()
        self.space_groups = crystals.space_group.numpy()

    @cached_property
    def class_sizes(self) -> list[tuple[int, ...]]:
        """For each crystal how many atoms it has of each of its elements, ascending."""
        owner = np.repeat(np.arange(len(self.crystals)), self.crystals.num_orbits.numpy())
        keys, inverse = np.unique(
            owner * 128 + self.crystals.atomic_numbers.numpy(), return_inverse=True
        )
        sizes = np.bincount(inverse, self.crystals.multiplicity.numpy()).astype(int)
        starts = np.searchsorted(keys // 128, np.arange(len(self.crystals) + 1)).tolist()
        return [
            tuple(sorted(sizes[a:b].tolist())) for a, b in zip(starts, starts[1:], strict=False)
        ]

    @cached_property
    def num_classes(self) -> Int[np.ndarray, "M"]:
        """Elements of each crystal."""
        return np.array([len(sizes) for sizes in self.class_sizes])

    def holds(self, row: int, formula: Sequence[str]) -> bool:
        """Whether a crystal has the stoichiometry of whole units of a formula."""
        units, rest = divmod(int(self.num_atoms[row]), len(formula))
        counts = sorted(count * units for count in Counter(formula).values())
        return rest == 0 and list(self.class_sizes[row]) == counts

    def place(
        self, row: int, constraints: Constraints, prescribed: bool, rng: torch.Generator
    ) -> Candidate | None:
        """Put the elements that must occur on a template; None if they do not fit.

        Where classes are prescribed, each takes one element, so that the elements resemble those
        of the known crystal as much as can be; otherwise orbits take elements at random.
        """
        orbits = self.crystals.orbits(row)
        wanted = Counter(constraints.pinned(int(self.num_atoms[row])))
        if not prescribed:
            elements = place_on_orbits(orbits.multiplicities, wanted, bool(constraints.formula), rng)
            if elements is None:
                return None
            return Candidate(row=row, elements=elements, prescribed=False, dissimilarity=1.0)
        classes = Counter()
        for number, size in zip(orbits.atomic_numbers, orbits.multiplicities, strict=True):
            classes[int(number)] += int(size)
        match = match_elements(classes, wanted, bool(constraints.formula))
        if match is None:
            return None
        elements, dissimilarity = match
        return Candidate(
            row=row,
            elements=tuple(elements.get(int(number), 0) for number in orbits.atomic_numbers),
            prescribed=True,
            dissimilarity=dissimilarity,
        )


def match_elements(
    classes: Counter[int], wanted: Counter[int], complete: bool
) -> tuple[dict[int, int], float] | None:
    """Which element of a known crystal each wanted one replaces, resembling it as much as can be.

    Args:
        classes: Atoms of each element of the known crystal.
        wanted: Atoms of each wanted element; their numbers count only if `complete`.
        complete: Whether the wanted elements are all there is: numbers then have to agree.

    Returns:
        Replacements and mean dissimilarity over the replaced atoms; None if they do not fit.
    """
    if len(wanted) > len(classes) or (complete and len(wanted) != len(classes)):
        return None
    old, new = list(classes), list(wanted)
    descriptors = element_descriptors().numpy()
    cost = 1 - descriptors[new] @ descriptors[old].T
    sizes = np.array([classes[number] for number in old])
    if complete:
        agree = np.array([wanted[number] for number in new])[:, None] == sizes
        cost = np.where(agree, cost, 1e6)
    rows, columns = linear_sum_assignment(cost * sizes)
    if cost[rows, columns].max() >= 1e6:
        return None
    total = (cost * sizes)[rows, columns].sum() / sizes[columns].sum()
    return {old[c]: new[r] for r, c in zip(rows, columns, strict=True)}, float(total)


def place_on_orbits(
    sizes: Int[np.ndarray, "O"], wanted: Counter[int], complete: bool, rng: torch.Generator
) -> tuple[int, ...] | None:
    """An element for every orbit at random, 0 where open; None if the wanted ones do not fit.

    If complete, the sizes of each element's orbits add up to what is wanted of it; otherwise each
    wanted element takes one orbit.
    """
    order = torch.randperm(len(sizes), generator=rng).tolist()
    if not complete:
        if len(wanted) > len(sizes):
            return None
        placed = dict(zip(order, sorted(wanted), strict=False))
        return tuple(placed.get(orbit, 0) for orbit in range(len(sizes)))
    order.sort(key=lambda orbit: -sizes[orbit])
    shares = share_out([int(sizes[orbit]) for orbit in order], wanted, rng)
    if shares is None:
        return None
    placed = dict(zip(order, shares, strict=True))
    return tuple(placed[orbit] for orbit in range(len(sizes)))


def share_out(sizes: Sequence[int], room: Counter[int], rng: torch.Generator) -> list[int] | None:
    """An element for every orbit so that each element's sizes add up to its room; largest first."""
    if not sizes:
        return [] if not room.total() else None
    fitting = sorted(element for element, count in room.items() if count >= sizes[0])
    for index in torch.randperm(len(fitting), generator=rng).tolist():
        chosen = fitting[index]
        rest = share_out(sizes[1:], room - Counter({chosen: sizes[0]}), rng)
        if rest is not None:
            return [chosen, *rest]
    return None


def parse_space_group(text: str | None) -> Symmetry:
    """Which symmetry samples take.

    Args:
        text: A number such as "225", a range such as "195..230", a crystal system, "any" (also if
            None: as known crystals have it) or "none" (no symmetry is prescribed).

    Raises:
        ValueError: If it is none of these.
    """
    if text is None or text == "any":
        return Symmetry()
    if text == "none":
        return Symmetry(text=text)
    numbers = torch.arange(1, NUM_SPACE_GROUPS + 1)
    if text in CRYSTAL_SYSTEMS:
        numbers = numbers[crystal_system(numbers) == CRYSTAL_SYSTEMS.index(text) + 1]
    else:
        low, high = _parse_numbers(text)
        numbers = torch.arange(low, high + 1)
    return Symmetry(text=text, numbers=frozenset(numbers.tolist()))


def _parse_numbers(text: str) -> tuple[int, int]:
    try:
        low, high = parse_range(text)
    except ValueError:
        low, high = 0, 0
    if not 1 <= low <= high <= NUM_SPACE_GROUPS:
        raise ValueError(
            f"space-group {text!r}: expected any, none, a number from 1 to 230, a range such as "
            f"195..230 or one of {', '.join(CRYSTAL_SYSTEMS)}"
        )
    return low, high


def _refuse_nothing(
    fits: np.ndarray, text: str, sizes: np.ndarray, counts: Sequence[int]
) -> None:
    """Say which sizes there are if none of those asked for is."""
    if fits.any():
        return
    there = np.unique(sizes).tolist()
    instead = f"there are some with {_listed(there)}" if there else "there is none of any size"
    raise ValueError(
        f"space-group {text}: no known crystal near the hull has it with {_listed(counts)} atoms "
        f"in its primitive cell; {instead}"
    )


def _listed(counts: Sequence[int]) -> str:
    """Ascending numbers, as a range if there are no gaps."""
    if len(counts) > 1 and counts[-1] - counts[0] == len(counts) - 1:
        return f"{counts[0]}..{counts[-1]}"
    return ", ".join(map(str, counts))
