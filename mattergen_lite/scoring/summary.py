"""The figures of a whole set of scores, with the protocol that makes them comparable."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

from mattergen_lite.scoring import matching
from mattergen_lite.scoring.score import Score

PROTOCOL = {
    "readable": "judged by every criterion without an error; errors count as failing everything",
    "structure_valid": "no two atoms within 0.5 Å and a cell of at least 0.1 Å³ (CDVAE)",
    "composition_valid": "smact_validity with smact14 states; elements, alloys valid (CDVAE)",
    "valid": "structure_valid and composition_valid",
    "physical": "no overlapping covalent spheres, empty cell or impossible density",
    "neutral": "a charge-balanced assignment of oxidation states exists",
    "alloy_or_element": "only metals, or one element: formal charges mean nothing",
    "above_p1": "space group other than P1 at the symprec of the scores",
    "unique": f"first of its kind in the set ({matching.PROTOCOL})",
    "novel": f"equals no structure of the reference ({matching.PROTOCOL})",
    "unique_and_novel": "unique and novel",
    "novel_with_disorder": "nor equals one when elements that could share a site are merged",
    "unflagged": "no credibility flag",
}


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Shares in 0..1 of *all* structures; `PROTOCOL` says how each is measured."""

    num_structures: int
    readable: float
    structure_valid: float
    composition_valid: float
    valid: float
    physical: float
    neutral: float
    alloy_or_element: float
    above_p1: float
    unique: float
    novel: float | None  # None without a reference
    unique_and_novel: float | None
    novel_with_disorder: float | None
    unflagged: float

    def text(self) -> str:
        """One line a figure: name, share and protocol."""
        lines = [f"{'structures':<20}{self.num_structures:>8}"]
        for field in fields(self)[1:]:
            share = getattr(self, field.name)
            value = "not judged" if share is None else f"{share:.1%}"
            lines.append(f"{field.name:<20}{value:>10}  {PROTOCOL[field.name]}")
        return "\n".join(lines)


def summary(scores: Sequence[Score]) -> Summary:
    """Shares of all structures that pass each criterion.

    Raises:
        ValueError: If there are no scores.
    """
    if not scores:
        raise ValueError("no scores to summarise: expected at least one")

    def share(passes: Callable[[Score], bool | None]) -> float:
        return sum(bool(passes(score)) for score in scores) / len(scores)

    has_reference = any(score.novelty and score.novelty.is_novel is not None for score in scores)

    def share_against_reference(passes: Callable[[Score], bool | None]) -> float | None:
        return share(passes) if has_reference else None

    return Summary(
        num_structures=len(scores),
        readable=share(lambda s: s.error is None),
        structure_valid=share(_structure_valid),
        composition_valid=share(_composition_valid),
        valid=share(lambda s: _structure_valid(s) and _composition_valid(s)),
        physical=share(lambda s: s.validity and not s.validity.physical_problem),
        neutral=share(lambda s: s.neutrality and s.neutrality.charge_verdict == "neutral"),
        alloy_or_element=share(
            lambda s: s.neutrality and s.neutrality.charge_verdict in ("alloy", "element")
        ),
        above_p1=share(lambda s: s.symmetry and s.symmetry.space_group > 1),
        unique=share(lambda s: s.novelty and s.novelty.is_unique),
        novel=share_against_reference(lambda s: s.novelty and s.novelty.is_novel),
        unique_and_novel=share_against_reference(
            lambda s: s.novelty and s.novelty.is_unique and s.novelty.is_novel
        ),
        novel_with_disorder=share_against_reference(
            lambda s: s.novelty and s.novelty.is_novel_with_disorder
        ),
        unflagged=share(lambda s: s.credibility and not s.credibility.flags),
    )


def _structure_valid(score: Score) -> bool:
    """The benchmark's verdict on the geometry."""
    return score.validity is not None and score.validity.structure_valid


def _composition_valid(score: Score) -> bool:
    """The benchmark's verdict on the composition."""
    return score.neutrality is not None and score.neutrality.composition_valid
