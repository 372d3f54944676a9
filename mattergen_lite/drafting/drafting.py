"""Constraints and symmetry of samples, and the drafts that fulfil them."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from mattergen_lite.config import ModelConfig
from mattergen_lite.drafting.draft import Draft
from mattergen_lite.drafting.free import FreeDrafting
from mattergen_lite.drafting.hosts import HostDrafting
from mattergen_lite.drafting.templates import TemplateDrafting
from mattergen_lite.request.constraints import Constraints
from mattergen_lite.request.space_groups import Symmetry

# Atoms of a sample of which nothing says how many: three quarters of the known stable crystals have
# at most so many, and twice as many of their samples are near the hull as of larger ones.
USUAL_ATOMS = 20


@dataclass(frozen=True, kw_only=True)
class Drafting:
    """Constraints and symmetry of every sample, and the drafts that fulfil them."""

    constraints: Constraints = field(default_factory=Constraints)
    symmetry: Symmetry = field(default_factory=Symmetry)

    def draw(self, model: ModelConfig, rngs: Sequence[torch.Generator]) -> list[Draft]:
        """Draw one draft from each generator.

        Args:
            model: Its largest numbers of orbits and atoms limit what can be drafted.
            rngs: One generator a sample.

        Raises:
            ValueError: If nothing that the model can make is what is asked for.
        """
        source = self.source(model)
        return [source.draw(rng) for rng in rngs]

    def source(self, model: ModelConfig) -> HostDrafting | TemplateDrafting | FreeDrafting:
        """Find what drafts can be drawn from.

        Raises:
            ValueError: If nothing that the model can make is what is asked for.
        """
        counts = self._counts(model)
        if self.constraints.host is not None:
            return HostDrafting.of(self.constraints, self.symmetry, model)
        if self.symmetry.prescribed:
            return TemplateDrafting.of(self.constraints, self.symmetry, counts, model)
        return FreeDrafting.of(self.constraints, counts, model)

    def _counts(self, model: ModelConfig) -> list[int]:
        """Numbers of atoms: what is asked for, or else usual sizes that training has seen.

        Raises:
            ValueError: If no number fits everything that is asked for.
        """
        counts = self.constraints.atom_counts(model.max_atoms)
        if self.constraints.num_atoms is not None or self.constraints.formula:
            return counts
        seen = [n for n, crystals in enumerate(model.atom_count_histogram, start=1) if crystals]
        known = [n for n in counts if n in seen] or counts
        if self.symmetry.numbers is not None:
            return known
        return [n for n in known if n <= USUAL_ATOMS] or known
