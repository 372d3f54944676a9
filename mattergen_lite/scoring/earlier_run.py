"""Reads the decisions of an earlier run about its crystals."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from mattergen_lite.scoring.candidate import Candidate
from mattergen_lite.scoring.decided import decide, has_dft_energy
from mattergen_lite.scoring.energy.screening import Screening
from mattergen_lite.scoring.execution.result_cache import structure_identity


@dataclass(frozen=True, kw_only=True)
class EarlierRun:
    """What an earlier run decided about its crystals, by the identity of their structures."""

    screening: Mapping[str, Screening] = field(default_factory=dict)
    not_relaxed: Collection[str] = frozenset()  # empty where it relaxed nothing
    verified: Mapping[str, Candidate] = field(default_factory=dict)  # by their final structure

    @classmethod
    def of(cls, candidates: Sequence[Candidate]) -> "EarlierRun":
        """Read the decisions from the candidates of the earlier run."""
        known = {
            structure_identity(candidate.structure): candidate
            for candidate in candidates
            if candidate.structure is not None
        }
        relaxed = {key for key, candidate in known.items() if candidate.is_relaxed}
        return cls(
            screening={
                key: candidate.screening for key, candidate in known.items() if candidate.screening
            },
            not_relaxed=known.keys() - relaxed if relaxed else frozenset(),
            verified={
                structure_identity(candidate.final_structure): candidate
                for candidate in sorted(candidates, key=has_dft_energy)
                if candidate.structure is not None and candidate.first_principles
            },
        )

    def recall(self, candidate: Candidate) -> Candidate:
        """Let what was calculated of the same final structure decide again."""
        if not self.verified or candidate.raw.error is not None:
            return candidate
        earlier = self.verified.get(structure_identity(candidate.final_structure))
        if earlier is None:
            return candidate
        return decide(candidate, earlier.first_principles, earlier.dft_structure)
