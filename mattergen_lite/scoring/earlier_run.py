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
            structure_identity(one.structure): one
            for one in candidates
            if one.structure is not None
        }
        relaxed = {key for key, one in known.items() if one.is_relaxed}
        return cls(
            screening={key: one.screening for key, one in known.items() if one.screening},
            not_relaxed=known.keys() - relaxed if relaxed else frozenset(),
            verified={
                structure_identity(one.final_structure): one
                for one in sorted(candidates, key=has_dft_energy)
                if one.structure is not None and one.first_principles
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
