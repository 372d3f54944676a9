"""The figures of a whole set of candidates, with the protocol that makes them comparable."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, fields

import numpy as np

from mattergen_lite.console import text_table
from mattergen_lite.scoring.candidate import Candidate, is_credible, is_physical
from mattergen_lite.scoring.criteria import matching
from mattergen_lite.scoring.energy.accuracy import METASTABLE, WORTH_COMPUTING
from mattergen_lite.scoring.energy.calibration import ASSUMED, UNCALIBRATED
from mattergen_lite.scoring.score import Score

PROTOCOL = {
    "readable": "judged by every criterion without an error; errors count as failing everything",
    "structure_valid": "no two atoms within 0.5 Å and a cell of at least 0.1 Å³ (CDVAE)",
    "composition_valid": "smact_validity with smact14 states; elements, alloys valid (CDVAE)",
    "valid": "structure_valid and composition_valid",
    "physical": "the check: structure_valid, and no overlapping covalent spheres, vacuum, nearly "
    "empty or needle-like cell, or impossible density",
    "neutral": "the check: oxidation states balance, or there are none to balance",
    "alloy_or_element": "of these, only metals or one element: formal charges mean nothing",
    "non_p1": "space group other than P1 at the symprec of the scores",
    "unique": f"first of its kind in the set ({matching.PROTOCOL})",
    "novel": f"equals no structure of the reference ({matching.PROTOCOL}), and the hull has no "
    "compound of its composition whose structure is missing there",
    "unique_and_novel": "unique and novel",
    "novel_with_disorder": "nor equals one when elements that could share a site are merged",
    "unflagged": "no credibility flag of any kind",
    "new_framework": "above P-1, and no known crystal has the framework; a raw one may distort one",
    "credible": "above P-1 at the symprec of the scores, and no flag that says that nature would "
    "mix its elements",
    "not_compared": "comparisons broke or took too long; left out of all figures that need to know "
    "whether a crystal is unique or novel",
}

_HULL = "Materials Project hull, MP2020 corrections"
STABILITY_PROTOCOL = {
    "relaxed": "relaxation ended in a crystal, converged or not",
    "converged": "forces below 0.05 eV/Å and stress below 0.5 GPa within 200 steps",
    "stable": f"calibrated e_above_hull <= 0 ({_HULL})",
    "metastable": f"calibrated e_above_hull <= {METASTABLE} eV/atom ({_HULL}); the check of this "
    "name is worth_computing",
    "metastable_uncalibrated": f"the potential's own e_above_hull <= {METASTABLE} eV/atom, "
    "what most papers count",
    "expected_stable": "sum of the probabilities that DFT finds it stable",
    "expected_metastable": "sum of the probabilities that DFT finds it metastable",
    "worth_computing": "the check metastable: probability that DFT finds it metastable at least "
    f"{WORTH_COMPUTING}",
    "sun": "stable, unique and novel, all after relaxation",
    "msun": "metastable, unique and novel, all after relaxation",
    "expected_sun": "sum of the probabilities of stable over unique and novel crystals",
    "expected_msun": "sum of the probabilities of metastable over unique and novel crystals",
    "expected_credible_msun": "expected_msun of the crystals that are credible once relaxed",
    "expected_new_framework_msun": "expected_msun of frameworks that no known crystal has",
    "msun_uncalibrated": "metastable_uncalibrated, unique and novel",
    "median_rmsd": "of atoms from raw to relaxed, without the strain of the cell",
    "mean_rmsd": "mean of the displacements whose median is median_rmsd",
    "symmetry_raised": "relaxation raised the point group as seen at 0.1 Å",
}


@dataclass(frozen=True, kw_only=True)
class Shares:
    """Shares in 0..1 of *all* structures; `PROTOCOL` says how each is measured.

    Those that need to know whether a crystal is unique or novel leave out what was not compared.
    """

    readable: float
    structure_valid: float
    composition_valid: float
    valid: float
    physical: float
    neutral: float
    alloy_or_element: float
    non_p1: float
    unique: float | None  # None if nothing was compared
    novel: float | None  # None without a reference
    unique_and_novel: float | None
    novel_with_disorder: float | None
    unflagged: float
    credible: float
    new_framework: float
    not_compared: float


@dataclass(frozen=True, kw_only=True)
class StabilityShares:
    """Shares in 0..1 of *all* structures, but for the two lengths; see `STABILITY_PROTOCOL`.

    Those of unique and novel crystals leave out what was not compared.
    """

    relaxed: float
    converged: float
    stable: float
    metastable: float
    metastable_uncalibrated: float
    expected_stable: float
    expected_metastable: float
    worth_computing: float
    sun: float
    msun: float
    expected_sun: float
    expected_msun: float
    expected_credible_msun: float
    expected_new_framework_msun: float
    msun_uncalibrated: float
    symmetry_raised: float
    median_rmsd: float = field(metadata={"unit": "Å"})  # any other field is a share
    mean_rmsd: float = field(metadata={"unit": "Å"})


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Figures of a set, as the crystals came and as they relaxed, never mixed."""

    num_structures: int
    raw: Shares
    relaxed: Shares | None  # None if nothing was relaxed
    stability: StabilityShares | None
    is_calibrated: bool = True  # the errors of the potential that decided are known

    def text(self) -> str:
        """One line a figure: name, share as it came, share relaxed, protocol."""
        after = asdict(self.relaxed) if self.relaxed else {}
        rows = [
            (name, _percent(share), _percent(after[name]) if after else "", PROTOCOL[name])
            for name, share in asdict(self.raw).items()
        ]
        how = protocol(self)
        for figure in fields(self.stability) if self.stability else ():
            value, unit = getattr(self.stability, figure.name), figure.metadata.get("unit")
            cell = f"{value:.2f} {unit}" if unit else _percent(value)
            rows.append((figure.name, "", cell, how[figure.name]))
        headings = ("structures", str(self.num_structures), "relaxed", "")
        return "\n".join(text_table(rows, headings, left=(0, 3)))


def _percent(share: float | None) -> str:
    return "unknown" if share is None else f"{share:.1%}"


def summary(candidates: Sequence[Candidate]) -> Summary:
    """Shares of all structures that pass each criterion.

    Raises:
        ValueError: If there are no candidates.
    """
    if not candidates:
        raise ValueError("no candidates to summarise: expected at least one")
    count = len(candidates)
    relaxed = [candidate.relaxed for candidate in candidates if candidate.relaxed]
    was_assessed = any(candidate.stability for candidate in candidates)
    return Summary(
        num_structures=count,
        raw=shares([candidate.raw for candidate in candidates], count),
        relaxed=shares(relaxed, count) if was_assessed else None,
        stability=_stability_shares(candidates) if was_assessed else None,
        is_calibrated=not any(candidate.is_uncalibrated for candidate in candidates),
    )


def share_of(passes: np.ndarray, which: np.ndarray | None = None) -> float | None:
    """Share of all crystals that pass, or of some of them; NaN fails; None of no crystals."""
    chosen = np.nan_to_num(passes if which is None else passes[which])
    return float(chosen.mean()) if len(chosen) else None


def sun_shares(
    names: tuple[str, str],
    stable: np.ndarray,
    expected: np.ndarray,
    new: np.ndarray,
    compared: np.ndarray,
) -> dict[str, float | None]:
    """Shares of stable crystals of all, and of the unique and novel ones of those compared.

    `expected` has the probabilities that DFT finds them stable; names are such as stable and sun.
    """
    share, sun = names
    return {
        share: share_of(stable),
        f"expected_{share}": share_of(expected),
        sun: share_of(stable & new, compared),
        f"expected_{sun}": share_of(expected * new, compared),
    }


def shares(scores: Sequence[Score], count: int) -> Shares:
    """Shares of `count` structures, of which those without a score pass nothing."""

    def passing(check: Callable[[Score], bool | None]) -> np.ndarray:
        return np.array([*(bool(check(s)) for s in scores), *[False] * (count - len(scores))])

    def share(check: Callable[[Score], bool | None]) -> float:
        return share_of(passing(check))

    def share_compared(check: Callable[[Score], bool | None]) -> float | None:
        return share_of(passing(check), ~passing(_is_unknown))

    has_reference = any(score.novelty and score.novelty.is_novel is not None for score in scores)

    def share_against_reference(check: Callable[[Score], bool | None]) -> float | None:
        return share_compared(check) if has_reference else None

    return Shares(
        readable=share(lambda s: s.error is None),
        structure_valid=share(_structure_valid),
        composition_valid=share(_composition_valid),
        valid=share(lambda s: _structure_valid(s) and _composition_valid(s)),
        physical=share(is_physical),
        neutral=share(lambda s: s.neutrality and s.neutrality.is_neutral),
        alloy_or_element=share(
            lambda s: s.neutrality and s.neutrality.charge_verdict in ("alloy", "element")
        ),
        non_p1=share(lambda s: s.symmetry and s.symmetry.space_group > 1),
        unique=share_compared(lambda s: s.novelty and s.novelty.is_unique),
        novel=share_against_reference(lambda s: s.novelty and s.novelty.is_novel),
        unique_and_novel=share_against_reference(is_unique_and_novel),
        novel_with_disorder=share_against_reference(
            lambda s: s.novelty and s.novelty.is_novel_with_disorder
        ),
        unflagged=share(lambda s: s.credibility and not s.credibility.flags),
        credible=share(is_credible),
        new_framework=share(
            lambda s: s.framework and s.framework.framework_class == "new framework"
        ),
        not_compared=share(_is_unknown),
    )


def _structure_valid(score: Score) -> bool:
    return score.validity is not None and score.validity.structure_valid


def _composition_valid(score: Score) -> bool:
    return score.neutrality is not None and score.neutrality.composition_valid


def _is_unknown(score: Score) -> bool:
    """Whether comparisons are missing that could decide if a crystal is unique and novel."""
    return score.novelty is not None and score.novelty.is_unknown


def is_unique_and_novel(score: Score) -> bool:
    """Tell whether a crystal is unique and novel; without a reference nothing is novel."""
    return score.novelty is not None and bool(score.novelty.is_unique and score.novelty.is_novel)


def _stability_shares(candidates: Sequence[Candidate]) -> StabilityShares:
    """Compute the shares that follow from relaxation and the potentials."""
    new = np.array([is_unique_and_novel(c.final) for c in candidates])
    compared = ~np.array([_is_unknown(c.final) for c in candidates])

    def column(value: Callable[[Candidate], float]) -> np.ndarray:
        return np.array([value(c) if c.stability else np.nan for c in candidates], dtype=float)

    energies = column(lambda c: c.stability.e_above_hull)
    by_potential = column(lambda c: c.stability.e_above_hull_raw) <= METASTABLE
    odds = column(lambda c: c.stability.probability_stable)
    expected = column(lambda c: c.stability.probability_metastable)
    credible = expected * column(lambda c: is_unique_and_novel(c.final) and c.is_credible)
    moved = column(lambda c: c.stability.rmsd)
    rmsds = moved[np.isfinite(moved)] if np.isfinite(moved).any() else [np.nan]
    figures = {
        "relaxed": share_of(column(lambda c: c.stability.stability_error is None)),
        "converged": share_of(column(lambda c: c.stability.relaxation_converged)),
        **sun_shares(("stable", "sun"), energies <= 0, odds, new, compared),
        **sun_shares(("metastable", "msun"), energies <= METASTABLE, expected, new, compared),
        "metastable_uncalibrated": share_of(by_potential),
        "msun_uncalibrated": share_of(by_potential & new, compared),
        "worth_computing": share_of(expected >= WORTH_COMPUTING),
        "expected_credible_msun": share_of(credible, compared),
        "expected_new_framework_msun": share_of(
            credible * column(lambda c: c.has_new_framework), compared
        ),
        "symmetry_raised": share_of(column(lambda c: c.symmetry_change == "raised")),
    }
    return StabilityShares(
        **{name: share or 0.0 for name, share in figures.items()},
        median_rmsd=float(np.median(rmsds)),
        mean_rmsd=float(np.mean(rmsds)),
    )


def protocol(figures: Summary) -> dict[str, str]:
    """How each figure of a summary is measured."""
    if figures.stability is None:
        return dict(PROTOCOL)
    if figures.is_calibrated:
        return PROTOCOL | STABILITY_PROTOCOL
    doubted = {
        name: text.replace("calibrated e_above_hull", f"{UNCALIBRATED} e_above_hull")
        for name, text in STABILITY_PROTOCOL.items()
    }
    doubt = (
        f"{UNCALIBRATED}: probabilities assume an error of {ASSUMED.scale:g} eV/atom (Student t)"
    )
    return PROTOCOL | doubted | {"calibration": doubt}
