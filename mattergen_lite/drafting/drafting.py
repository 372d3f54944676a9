"""All that is asked of samples exactly, and the drafts that fulfil it."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from mattergen_lite.config import ModelConfig
from mattergen_lite.drafting.draft import Draft
from mattergen_lite.drafting.free import FreeDrafting
from mattergen_lite.drafting.hosts import HostDrafting
from mattergen_lite.drafting.space_groups import Symmetry
from mattergen_lite.drafting.templates import TemplateDrafting
from mattergen_lite.request.constraints import Constraints


@dataclass(frozen=True, kw_only=True)
class Drafting:
    """What is asked of every sample exactly."""

    constraints: Constraints = field(default_factory=Constraints)
    symmetry: Symmetry = field(default_factory=Symmetry)

    def draw(self, model: ModelConfig, rngs: Sequence[torch.Generator]) -> list[Draft]:
        """One draft from each generator.

        Args:
            model: Its largest numbers of orbits and atoms limit what can be drafted.
            rngs: One generator a sample.

        Raises:
            ValueError: If nothing that the model can make is what is asked for.
        """
        counts = self.constraints.atom_counts(model.max_atoms)
        if self.constraints.num_atoms is None and not self.constraints.formula:
            seen = [n for n, crystals in enumerate(model.atom_count_histogram, start=1) if crystals]
            counts = [n for n in counts if n in seen] or counts  # sizes that training knew
        if self.constraints.host is not None:
            source = HostDrafting.of(self.constraints, self.symmetry, model)
        elif self.symmetry.prescribed:
            source = TemplateDrafting.of(self.constraints, self.symmetry, counts, model)
        else:
            source = FreeDrafting.of(self.constraints, counts, model)
        return [source.draw(rng) for rng in rngs]
