"""Measures the accuracy of a calibrated potential on crystals with DFT energies."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from mattergen_lite.scoring.energy.calibration import ErrorDistribution
from mattergen_lite.tensors.shapes import Float

METASTABLE = 0.1  # eV/atom above the hull, the field's threshold
# Probability of lying within 0.1 eV/atom from which a candidate counts as worth a calculation: the
# best F1 of the truth check, of crystals that were not fitted.
WORTH_COMPUTING = 0.4


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """Errors, order, a classification and stated uncertainty on crystals not used for fitting."""

    num_crystals: int
    mean_error: float  # eV/atom, absolute
    median_error: float  # eV/atom, absolute
    bias: float  # eV/atom, predicted minus DFT
    spearman: float  # rank correlation; NaN where all are equal
    num_metastable: int  # that DFT finds within 0.1 eV/atom of the hull
    expected_metastable: float  # sum of the probabilities
    precision: float  # of calling metastable what has a probability of `WORTH_COMPUTING`
    recall: float
    f1: float
    within_68: float  # share of the crystals inside their 68% interval
    within_95: float
    within_two_std: float  # likewise, two standard errors
    brier: float  # mean squared error of the probabilities
    brier_base_rate: float  # that of always saying the share of metastable ones

    def text(self) -> str:
        """The figures in two lines."""
        return (
            f"{self.num_crystals} crystals, {self.num_metastable} within {METASTABLE} eV/atom of "
            f"the hull: MAE {self.mean_error:.3f} (median {self.median_error:.3f}), bias "
            f"{self.bias:+.3f} eV/atom, Spearman {self.spearman:.2f}\n"
            f"  F1 {self.f1:.2f} (precision {self.precision:.2f}, recall {self.recall:.2f}), "
            f"{self.within_68:.0%} in 68%, {self.within_95:.0%} in 95% intervals, "
            f"{self.within_two_std:.0%} within two standard errors, Brier {self.brier:.3f} "
            f"({self.brier_base_rate:.3f} for the base rate)"
        )


def accuracy(
    errors: Sequence[ErrorDistribution],
    raw: Float[np.ndarray, "C"],
    truth: Float[np.ndarray, "C"],
) -> Accuracy:
    """Compare calibrated energies above the hull with DFT's (`truth`), eV/atom.

    Each error is the distribution of DFT minus potential, to be added to the `raw` energy.
    """
    location = np.array([error.location for error in errors])
    predicted = raw + location
    quantile = np.array(
        [error.quantile(float(value)) for error, value in zip(errors, truth - raw, strict=True)]
    )
    std = np.array([error.std for error in errors])
    probability = np.array(
        [
            error.probability_below(METASTABLE, float(e))
            for error, e in zip(errors, raw, strict=True)
        ]
    )
    is_true, called = truth <= METASTABLE, probability >= WORTH_COMPUTING
    hits = float((called & is_true).sum())
    precision, recall = hits / max(called.sum(), 1), hits / max(is_true.sum(), 1)
    share = float(is_true.mean())
    return Accuracy(
        num_crystals=len(truth),
        mean_error=float(np.abs(predicted - truth).mean()),
        median_error=float(np.median(np.abs(predicted - truth))),
        bias=float((predicted - truth).mean()),
        spearman=_rank_correlation(predicted, truth),
        num_metastable=int(is_true.sum()),
        expected_metastable=float(probability.sum()),
        precision=precision,
        recall=recall,
        f1=2 * precision * recall / max(precision + recall, 1e-9),
        within_68=float((np.abs(quantile - 0.5) < 0.34).mean()),
        within_95=float((np.abs(quantile - 0.5) < 0.475).mean()),
        within_two_std=float((np.abs(predicted - truth) < 2 * std).mean()),
        brier=float(np.mean((probability - is_true) ** 2)),
        brier_base_rate=share * (1 - share),
    )


def _rank_correlation(predicted: np.ndarray, truth: np.ndarray) -> float:
    if len(truth) < 2 or np.ptp(predicted) == 0 or np.ptp(truth) == 0:
        return math.nan
    return float(stats.spearmanr(predicted, truth).statistic)
