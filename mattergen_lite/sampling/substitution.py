"""Substitutes elements in known crystals: the proposal that a model has to beat.

Elements of a known crystal near the hull are replaced by the nearest ones by descriptor or, in an
ion exchange as of Szymanski and Bartel (Mater. Horiz. 2025), by ions of the same charge and the
nearest radii; the cell is scaled by the covalent radii.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from ase.data import covalent_radii
from pymatgen.core import Structure
from torch import Tensor

from mattergen_lite.chemistry.elements import element_descriptors
from mattergen_lite.config import ModelConfig
from mattergen_lite.console import ProgressBar
from mattergen_lite.io.formats.structures import build_structure
from mattergen_lite.io.records import StructureRecord
from mattergen_lite.partial_crystals.choice import partial_crystal_sampler
from mattergen_lite.partial_crystals.known import TemplateSampler
from mattergen_lite.partial_crystals.library import template_library
from mattergen_lite.partial_crystals.partial_crystal import PartialCrystal
from mattergen_lite.request.base import Constraints
from mattergen_lite.request.targets import PropertyTarget
from mattergen_lite.sampling.ions import ionic_radii, nearest_ions, oxidation_states
from mattergen_lite.sampling.noise import sample_rngs
from mattergen_lite.symmetry.orbits import Orbits
from mattergen_lite.tensors.shapes import Bool, Float

NUM_NEAREST = 6  # elements between which the one that replaces another is drawn
SHARE_REPLACED = 0.5  # of the elements of a crystal, and at least one
_TRIES = 1000  # crystals in which it is tried to place the elements that are asked for

# Elements that may replace each element of a known crystal, nearest first; None if it is no
# crystal to replace elements in.
Alternatives = Callable[[PartialCrystal, Bool[Tensor, "Z"]], Mapping[int, Sequence[int]] | None]


@dataclass(frozen=True, kw_only=True)
class Substitution:
    """Known crystals with other elements, under the constraints of a request."""

    constraints: Constraints = field(default_factory=Constraints)
    of_ions: bool = False  # ions of the same charge, in place of similar elements
    asked: tuple[PropertyTarget, ...] = ()  # a model's generator has targets
    template_bias: float = 0.0  # towards crystals whose templates have yielded more

    @property
    def space_groups(self) -> frozenset[int] | None:
        """Space groups that proposals may have; None where none were asked for."""
        return self.constraints.space_groups

    def records(
        self, indices: Sequence[int], num_at_once: int, *, seed: int
    ) -> Iterator[list[StructureRecord]]:
        """Propose crystals of these numbers in batches; each is a function of its number.

        Raises:
            ValueError: If no known crystal has room for what is asked.
        """
        limits = ModelConfig()
        source = partial_crystal_sampler(
            self.constraints, limits, self.template_bias, frameworks="known"
        )
        if not source.prescribed:
            raise ValueError(
                f"propose {self.name}: no known crystal has the stoichiometry that is asked for; "
                "a model can put elements on other sites"
            )
        library = template_library(limits.max_orbits, limits.max_atoms)
        allowed = self.constraints.open_elements(library.elements)
        for start in range(0, len(indices), num_at_once):
            part = indices[start : start + num_at_once]
            pairs = zip(part, sample_rngs(seed, part), strict=True)
            yield [
                StructureRecord(f"{index:06d}", self._propose(source, allowed, rng))
                for index, rng in ProgressBar(pairs, desc="substituting", total=len(part))
            ]

    def _propose(
        self, source: TemplateSampler, allowed: Bool[Tensor, "Z"], rng: torch.Generator
    ) -> Structure:
        """Draw one crystal of a source with allowed elements in place of others."""
        alternatives = similar_ions if self.of_ions else similar_elements
        for _ in range(_TRIES):
            partial_crystal = source.draw(rng)
            elements = replaced_elements(partial_crystal, allowed, rng, alternatives)
            if elements is not None:
                return substituted(partial_crystal.orbits, elements)
        raise ValueError(
            f"propose {self.name}: none of {_TRIES} known crystals that were tried can take other "
            "elements within what is asked for; allow more elements or numbers of atoms"
        )

    @property
    def name(self) -> str:
        """As `propose` takes it."""
        return "ion-exchange" if self.of_ions else "substitution"

    def provenance(self) -> dict[str, object]:
        """Name what made the crystals, for the record of a run."""
        return {"proposal": self.name}


def similar_elements(
    partial_crystal: PartialCrystal, allowed: Bool[Tensor, "Z"]
) -> dict[int, list[int]]:
    """The `NUM_NEAREST` allowed elements closest to each by descriptor."""
    return {old: nearest_elements(old, allowed) for old in settled_elements(partial_crystal)}


def similar_ions(
    partial_crystal: PartialCrystal, allowed: Bool[Tensor, "Z"]
) -> dict[int, list[int]] | None:
    """The `NUM_NEAREST` allowed ions of the charge of each that have the nearest radii.

    None where charges do not balance, or an element that is asked for has no ion of the charge.
    """
    states = oxidation_states(partial_crystal.orbits)
    if states is None:
        return None
    for old, new in settled_elements(partial_crystal).items():
        if new not in (0, old) and new not in ionic_radii(states[old]):
            return None
    return {old: nearest_ions(old, state, allowed, NUM_NEAREST) for old, state in states.items()}


def settled_elements(partial_crystal: PartialCrystal) -> dict[int, int]:
    """What each element of the known crystal has to become; 0 where nothing says so."""
    return dict(
        zip(partial_crystal.orbits.atomic_numbers.tolist(), partial_crystal.elements, strict=True)
    )


def replaced_elements(
    partial_crystal: PartialCrystal,
    allowed: Bool[Tensor, "Z"],
    rng: torch.Generator,
    alternatives: Alternatives = similar_elements,
) -> dict[int, int] | None:
    """Choose what stands in for each element of a partial crystal's known crystal.

    None if two new ones are equal, nothing changes, or nothing is found for one that may not stay.
    """
    partners = alternatives(partial_crystal, allowed)
    if partners is None:
        return None
    settled = settled_elements(partial_crystal)
    open_ones = [old for old, new in settled.items() if new == 0]
    drawn = torch.rand(len(open_ones), generator=rng) < SHARE_REPLACED
    if len(open_ones) == len(settled) and len(open_ones):
        drawn[torch.randint(len(open_ones), (), generator=rng)] = True
    for old, is_drawn in zip(open_ones, drawn.tolist(), strict=True):
        stays = bool(allowed[old]) and (not is_drawn or not partners[old])
        if not stays and not partners[old]:
            return None
        others = partners[old]
        draw = None if stays else int(torch.randint(len(others), (), generator=rng))
        settled[old] = old if stays else others[draw]
    unequal = len(set(settled.values())) == len(settled)
    return settled if unequal and any(old != new for old, new in settled.items()) else None


def nearest_elements(number: int, allowed: Bool[Tensor, "Z"]) -> list[int]:
    """The `NUM_NEAREST` allowed elements closest to another by descriptor, nearest first."""
    vectors: Float[Tensor, "Z D"] = element_descriptors()
    distances = torch.linalg.norm(vectors - vectors[number], dim=1)
    distances[~allowed] = torch.inf
    distances[number] = torch.inf
    order = distances.argsort(stable=True)[:NUM_NEAREST].tolist()
    return [other for other in order if distances[other] < torch.inf] or [number]


def substituted(known: Orbits, elements: Mapping[int, int]) -> Structure:
    """Put elements in place of others in a known crystal, its cell scaled by covalent radii."""
    numbers, frac_coords = known.expand()
    changed = np.array([elements[number] for number in numbers.tolist()])
    scale = covalent_radii[changed].sum() / covalent_radii[numbers].sum()
    return build_structure(scale * known.lattice, changed.tolist(), frac_coords)
