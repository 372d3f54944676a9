"""Samples on templates that a model of templates draws, and mixtures of sources."""

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import torch
from torch import Tensor

from mattergen_lite.chemistry.elements import MAX_ATOMIC_NUMBER, symbols
from mattergen_lite.config import ModelConfig, shipped
from mattergen_lite.partial_crystals.partial_crystal import (
    PartialCrystal,
    PartialCrystalSampler,
    listed_counts,
    size_weights,
)
from mattergen_lite.request.base import Constraints
from mattergen_lite.request.stoichiometry import can_be_neutral
from mattergen_lite.symmetry.frameworks import LEAST_SYMMETRY, known_frameworks
from mattergen_lite.symmetry.orbits import Orbits, symmetrise_lattice
from mattergen_lite.symmetry.protostructures import Protostructure
from mattergen_lite.symmetry.space_groups import space_group
from mattergen_lite.symmetry.wyckoff import wyckoff_positions
from mattergen_lite.templates.model import TemplateModel
from mattergen_lite.templates.network import MAX_ATOMS
from mattergen_lite.templates.sampling import TemplateRequest, draw_templates
from mattergen_lite.templates.tokens import Template
from mattergen_lite.tensors.shapes import Bool

FOLDER = "mp/templates"
VOLUME_PER_ATOM = 15.0  # Å³, of the cell that stands for one not drawn yet


@dataclass(frozen=True, kw_only=True)
class GeneratedTemplateSampler(PartialCrystalSampler):
    """Partial crystals on templates of the template model that no known crystal has."""

    constraints: Constraints
    model: TemplateModel
    sizes: tuple[tuple[int, float], ...]  # numbers of atoms, and how often each is drawn
    max_orbits: int
    known: Container[Protostructure] = field(default_factory=known_frameworks)  # not made again
    seen: Bool[Tensor, "Z"] | None = None  # elements that the diffusion has learnt; None = all

    @classmethod
    def of(
        cls, constraints: Constraints, counts: Sequence[int], model: ModelConfig
    ) -> "GeneratedTemplateSampler":
        """Take sizes with the frequencies of the training set, all alike where it has none.

        Raises:
            ValueError: If all sizes are beyond those of the template model.
        """
        groups = constraints.space_groups
        if groups is not None and max(groups) <= LEAST_SYMMETRY:
            raise ValueError(f"{constraints}: no framework without symmetry beyond P-1 is new")
        asked, counts = counts, [count for count in counts if count <= MAX_ATOMS]
        if not counts:
            raise ValueError(
                f"{listed_counts(asked)} atoms: the template model makes 1..{MAX_ATOMS}; take "
                "frameworks known"
            )
        weights = size_weights(counts, model)
        return cls(
            constraints=constraints,
            model=template_model(),
            sizes=tuple((n, w) for n, w in zip(counts, weights, strict=True) if w),
            max_orbits=model.max_orbits,
        )

    def draw_each(self, rngs: Sequence[torch.Generator]) -> list[PartialCrystal]:
        """Draw partial crystals together, each from its own random numbers.

        Raises:
            ValueError: If no template fulfils what is asked for.
        """
        drawn = self._draw(rngs, self._accepts_neutral)
        left = [rng for template, rng in zip(drawn, rngs, strict=True) if template is None]
        others = iter(self._draw(left, self._accepts) if left else ())
        drawn = [template or next(others) for template in drawn]
        if None in drawn:
            raise ValueError(
                f"{self.constraints or 'this request'}: the template model finds no new template "
                f"with {listed_counts([count for count, _ in self.sizes])} atoms; allow other "
                "numbers of atoms or space groups, or frameworks known"
            )
        return [
            self._partial_crystal(template, rng) for template, rng in zip(drawn, rngs, strict=True)
        ]

    def _draw(
        self, rngs: Sequence[torch.Generator], accept: Callable[[Template], bool]
    ) -> list[Template | None]:
        network = self.model.network
        return draw_templates(network, self._request, rngs, accept)

    def _accepts_neutral(self, template: Template) -> bool:
        """Whether a template may be used, and charges can balance where its elements are drawn."""
        if not self._accepts(template):
            return False
        counts = {
            symbols()[orbits.element]: orbits.size for orbits in template.classes if orbits.element
        }
        is_drawn = len(counts) == len(template.classes) and not self.constraints.is_complete
        return not is_drawn or can_be_neutral(counts)

    def _accepts(self, template: Template) -> bool:
        """Whether a template may be used; without symmetry beyond P-1 none is new."""
        is_known = template.protostructure in self.known
        return template.space_group > LEAST_SYMMETRY and not is_known

    def _request(self, rng: torch.Generator) -> TemplateRequest:
        weights = torch.tensor([weight for _, weight in self.sizes], dtype=torch.float64)
        count = self.sizes[int(torch.multinomial(weights, 1, generator=rng))][0]
        wanted = self.constraints.required_atoms(count)
        classes = elements = None
        if self.constraints.is_complete:
            classes = tuple((atoms, number) for number, atoms in wanted.items())
        elif wanted or self.constraints.is_selective:
            every = torch.ones(MAX_ATOMIC_NUMBER + 1, dtype=torch.bool)
            open_ = self.constraints.open_elements(every if self.seen is None else self.seen)
            elements = frozenset(open_.nonzero().flatten().tolist())
        return TemplateRequest(
            num_atoms=count,
            space_groups=self.constraints.space_groups,
            classes=classes,
            elements=elements,
            needed=frozenset(wanted),
            max_orbits=self.max_orbits,
        )

    def _partial_crystal(self, template: Template, rng: torch.Generator) -> PartialCrystal:
        elements = tuple(orbits.element for orbits in template.classes for _ in orbits.positions)
        return PartialCrystal(
            orbits=template_orbits(template, rng),
            elements=elements,
            known=(False,) * len(elements),
            prescribed=True,
        )


@dataclass(frozen=True, kw_only=True)
class MixedSampler(PartialCrystalSampler):
    """Partial crystals of several sources, each drawn from with its share."""

    sources: tuple[tuple[PartialCrystalSampler, float], ...]
    refusal: ValueError | None = None  # of the first source that cannot make what is asked for

    def draw_each(self, rngs: Sequence[torch.Generator]) -> list[PartialCrystal]:
        """Draw partial crystals, each from the source that its generator chooses."""
        shares = torch.tensor([share for _, share in self.sources], dtype=torch.float64)
        chosen = [int(torch.multinomial(shares, 1, generator=rng)) for rng in rngs]
        partial_crystals: list[PartialCrystal] = [None] * len(rngs)
        for number in range(len(self.sources)):
            rows = [row for row, choice in enumerate(chosen) if choice == number]
            drawn = self._draw_from(number, [rngs[row] for row in rows])
            for row, partial_crystal in zip(rows, drawn, strict=True):
                partial_crystals[row] = partial_crystal
        return partial_crystals

    def _draw_from(self, number: int, rngs: Sequence[torch.Generator]) -> list[PartialCrystal]:
        """Draw partial crystals from a source; those that it cannot make come from another."""
        states = [rng.get_state() for rng in rngs]
        try:
            return self.sources[number][0].draw_each(rngs) if rngs else []
        except ValueError:
            others = [index for index in range(len(self.sources)) if index != number]
            pairs = zip(rngs, states, strict=True)
            return [self._draw_alone((number, *others), *pair) for pair in pairs]

    def _draw_alone(
        self, order: Sequence[int], rng: torch.Generator, state: Tensor
    ) -> PartialCrystal:
        """Draw one partial crystal from the first source that can make it."""
        for index in order:
            rng.set_state(state)
            try:
                return self.sources[index][0].draw(rng)
            except ValueError as error:
                refusal = error
        raise self.refusal or refusal


def template_orbits(template: Template, rng: torch.Generator) -> Orbits:
    """A crystal on a template; a number names each class, free coordinates are drawn alike."""
    table = wyckoff_positions(template.space_group)
    sites = [site for orbits in template.classes for site in orbits.positions]
    names = [
        name for name, orbits in enumerate(template.classes, start=1) for _ in orbits.positions
    ]
    free = torch.rand((len(sites), 3), generator=rng, dtype=torch.float64).numpy()
    places = table.offset[sites] + (free[:, None] @ table.basis[sites])[:, 0]
    edge = (VOLUME_PER_ATOM * template.num_atoms) ** (1 / 3)
    return Orbits(
        space_group=template.space_group,
        lattice=symmetrise_lattice(edge * np.eye(3), space_group(template.space_group)),
        atomic_numbers=np.array(names),
        frac_coords=places % 1.0,
        operations=tuple(table.operations[site] for site in sites),
    )


@cache
def template_model() -> TemplateModel:
    """The shipped template model."""
    return TemplateModel.load(shipped("checkpoints") / FOLDER)
