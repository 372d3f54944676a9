"""Plans a verification and estimates its cost before it starts."""

from dataclasses import dataclass

from pymatgen.core import Structure

from mattergen_lite.data.materials import KnownCompound
from mattergen_lite.dft.cost import FEWEST, MOST
from mattergen_lite.dft.settings import Calculation


@dataclass(frozen=True, kw_only=True)
class Work:
    """Calculations of one crystal: its starts, of which the lowest energy counts."""

    starts: tuple[Calculation, ...]
    estimated_seconds: tuple[float, ...]  # of each start

    @property
    def num_atoms(self) -> int:
        """Atoms of the cell."""
        return len(self.starts[0].numbers)


@dataclass(frozen=True, kw_only=True)
class ReferenceReaction:
    """Phases with their shares and their calculations."""

    phases: tuple[KnownCompound, ...]
    shares: tuple[float, ...]
    works: tuple[Work, ...]


@dataclass(frozen=True, kw_only=True)
class VerificationPlan:
    """All that a verification may have to calculate."""

    structure: Structure
    candidate: Work  # calculations of the crystal
    # the cheapest, and one that confirms a failure if there is another
    reactions: tuple[ReferenceReaction, ...]
    estimated_seconds: float  # core seconds of crystal and first reaction, less what is cached
    confirmation_seconds: float  # likewise, of a second reaction, which failures take

    @property
    def seconds_range(self) -> tuple[float, float]:
        """Core seconds that few plans fall short of, and that few exceed."""
        most = self.estimated_seconds + self.confirmation_seconds
        return FEWEST * self.estimated_seconds, MOST * most
