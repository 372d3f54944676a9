"""Partial crystals of which all elements are drawn before any noise, until constraints accept them.

Only for constraints that say which compositions they accept; otherwise the diffusion chooses.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from mattergen_lite.chemistry.elements import element_descriptors
from mattergen_lite.partial_crystals.known import SIMILARITY_SCALE
from mattergen_lite.partial_crystals.partial_crystal import PartialCrystal, PartialCrystalSampler
from mattergen_lite.request.base import Constraints
from mattergen_lite.request.stoichiometry import can_be_neutral
from mattergen_lite.tensors.shapes import Bool

TRIES = 100  # compositions of one sample; the first half of them has to balance charges
MOST_ELEMENTS = 4  # drawn for a sample that takes no template


@dataclass(frozen=True, kw_only=True)
class CompositionSampler(PartialCrystalSampler):
    """Partial crystals of another source, with compositions that the constraints accept."""

    source: PartialCrystalSampler
    constraints: Constraints
    seen: Bool[torch.Tensor, "Z"]  # elements that the diffusion has learnt
    prescribed = property(lambda self: self.source.prescribed)

    def draw_each(self, rngs: Sequence[torch.Generator]) -> list[PartialCrystal]:
        """Draw partial crystals, each from its own random numbers.

        Raises:
            ValueError: If no composition that was drawn for one of them is accepted.
        """
        accepted: dict[int, PartialCrystal] = {}
        for number in range(TRIES):
            left = [row for row in range(len(rngs)) if row not in accepted]
            drawn = self.source.draw_each([rngs[row] for row in left]) if left else ()
            for row, partial_crystal in zip(left, drawn, strict=True):
                settled = self._settled(partial_crystal, rngs[row])
                atoms = settled.composition
                is_checked = number < TRIES // 2 and not self.constraints.is_complete
                if self.constraints.accepts(atoms) and (not is_checked or can_be_neutral(atoms)):
                    accepted[row] = settled
        if len(accepted) < len(rngs):
            raise ValueError(
                f"{self.constraints}: none of {TRIES} compositions that were drawn for a sample "
                "fulfils that; allow other elements, numbers of atoms or space groups"
            )
        return [accepted[row] for row in range(len(rngs))]

    def _settled(self, drawn: PartialCrystal, rng: torch.Generator) -> PartialCrystal:
        """Draw the open elements: similar to those of a known crystal, or else of a few at random.

        Orbits of one element in a known crystal get one element.
        """
        weights = self.constraints.open_elements(self.seen).double()
        if not drawn.is_crystal:
            count = int(torch.randint(1, MOST_ELEMENTS + 1, (), generator=rng))
            few = torch.multinomial(weights, min(count, int(weights.sum())), generator=rng)
            few = torch.cat([few, torch.tensor(drawn.elements)[torch.tensor(drawn.elements) > 0]])
            weights = torch.zeros_like(weights).index_fill(0, few, 1.0) * weights
        vectors, elements, chosen = element_descriptors().double(), [], {}
        for orbit, old in enumerate(drawn.orbits.atomic_numbers.tolist()):
            key = old if drawn.is_crystal else orbit
            if drawn.elements[orbit] == 0 and key not in chosen:
                likeness = ((vectors @ vectors[old] - 1) / SIMILARITY_SCALE).exp()
                each = weights * likeness if drawn.is_crystal else weights
                chosen[key] = int(torch.multinomial(each, 1, generator=rng))
            elements.append(drawn.elements[orbit] or chosen[key])
        return replace(drawn, elements=tuple(elements))
