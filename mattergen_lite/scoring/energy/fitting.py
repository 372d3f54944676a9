"""Fits of calibrations: element references, and the error models of a potential."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from pymatgen.core import Composition

from mattergen_lite.scoring.energy.calibration import (
    DEGREES_OF_FREEDOM,
    ElementOffset,
    ErrorDistribution,
    ErrorModel,
)
from mattergen_lite.shapes import Float, Int

REFERENCE_PRIOR = 0.05  # eV/atom: how far a fitted element reference may go without evidence
NUM_FOLDS = 5  # of crystals that predict each other
SHIFT_PRIOR = 0.1  # eV/atom: how far labels of other settings may lie off, by element
MAX_ITERATIONS = 100
CONVERGED = 1e-5  # relative change of the variance
MIN_SCALE = 1e-3  # eV/atom: below the scatter of relaxations that end within their limits


def fit_references(
    compositions: Sequence[Composition],
    energies_per_atom: Float[np.ndarray, "C"],
    formation_energies: Float[np.ndarray, "C"],
    elemental_energies: Mapping[str, float],
    noise: float = 0.05,
) -> dict[str, float]:
    """Element references in eV/atom that make a potential's formation energies right on average.

    Ridge regression around the potential's own energies of the elements, with outliers (beyond
    three times `noise`, eV/atom) left out in a second pass.
    """
    symbols = sorted(elemental_energies)
    own = np.array([elemental_energies[symbol] for symbol in symbols])
    shares = np.array([[c.get_atomic_fraction(s) for s in symbols] for c in compositions])
    residual = energies_per_atom - formation_energies - shares @ own
    ridge = (noise / REFERENCE_PRIOR) ** 2 * np.eye(len(symbols))
    used, shift = np.ones(len(residual), dtype=bool), np.zeros(len(symbols))
    for _ in range(2):
        some = shares[used]
        shift = np.linalg.solve(some.T @ some + ridge, some.T @ residual[used])
        used = np.abs(residual - shares @ shift) < 3 * noise
    return dict(zip(symbols, (own + shift).tolist(), strict=True))


def fit_error_model(
    compositions: Sequence[Composition],
    errors: Float[np.ndarray, "C"],
    element_prior: float,
    sets: Sequence[str] = (),
) -> ErrorModel:
    """Fit the errors DFT minus potential of known outcomes, in eV/atom.

    See `fit_error_models`, of which this is the model on the frame of the hull.
    """
    return fit_error_models(compositions, errors, element_prior, sets)[""]


def fit_error_models(
    compositions: Sequence[Composition],
    errors: Float[np.ndarray, "C"],
    element_prior: float,
    sets: Sequence[str] = (),
) -> dict[str, ErrorModel]:
    """Fit the errors DFT minus potential of known outcomes, for every set of labels.

    Maximum a posteriori by expectation maximisation: outliers lose weight as under a Student t, and
    element offsets are drawn to zero as under a normal prior of width `element_prior`. Labels of
    other settings than the hull's (pseudopotentials, corrections) are shifted by amounts that
    depend on the elements, not on the crystal. Every set of such labels has shifts of its own,
    which say nothing of crystals that are judged on the hull.

    Args:
        compositions: Of the crystals.
        errors: DFT minus potential, eV/atom.
        element_prior: Standard deviation of the elements' offsets, eV/atom.
        sets: Name of the set of each crystal's label; "" is on the frame of the hull. None are
            named if all labels are.

    Returns:
        Models by name of the set; "" for the frame of the hull.
    """
    symbols, shares = atomic_fractions(compositions)
    names = np.array(sets) if len(sets) else np.full(len(errors), "")
    shifted = sorted(set(names.tolist()) - {""})
    common = np.column_stack([np.ones(len(errors)), shares])
    design = np.hstack([common, *[common * (names == name)[:, None] for name in shifted]])
    precisions = [0.0, *[element_prior**-2] * len(symbols)]
    precisions += [SHIFT_PRIOR**-2] * (common.shape[1] * len(shifted))
    coefficients, covariance, scale = _fit_offsets(design, errors, np.diag(precisions))
    width, models = common.shape[1], {}
    for number, name in enumerate(["", *shifted]):
        parts = [0] if number == 0 else [0, number]
        mean = sum(coefficients[part * width : (part + 1) * width] for part in parts)
        variance = sum(np.diag(covariance)[part * width : (part + 1) * width] for part in parts)
        offsets = zip(symbols, mean[1:].tolist(), np.sqrt(variance[1:]).tolist(), strict=True)
        models[name] = ErrorModel(
            offset=float(mean[0]),
            scale=scale,
            elements={symbol: ElementOffset(mean=at, std=std) for symbol, at, std in offsets},
            element_prior=element_prior,
        )
    return models


def _fit_offsets(
    design: Float[np.ndarray, "C P"], errors: Float[np.ndarray, "C"], prior: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float]:
    """Coefficients of a linear model with errors of a Student t, their covariance, its scale."""
    weights, variance = np.ones(len(errors)), max(float(np.var(errors)), MIN_SCALE**2)
    for _ in range(MAX_ITERATIONS):
        before = variance
        evidence = (design.T * weights) @ design / variance
        covariance = np.linalg.inv(evidence + prior)
        coefficients = covariance @ design.T @ (weights * errors) / variance
        residual = errors - design @ coefficients
        weights = (DEGREES_OF_FREEDOM + 1) / (DEGREES_OF_FREEDOM + residual**2 / variance)
        # The coefficients have used up as many degrees of freedom as the evidence decides.
        # A few crystals of as many elements leave none: one, and a scale above zero, all the same.
        num_free = max(len(errors) - float(np.trace(covariance @ evidence)), 1.0)
        variance = max(float((weights * residual**2).sum()) / num_free, MIN_SCALE**2)
        if abs(variance / before - 1) < CONVERGED:
            break
    return coefficients, covariance, math.sqrt(variance)


def atomic_fractions(
    compositions: Sequence[Composition],
) -> tuple[list[str], Float[np.ndarray, "C E"]]:
    """List the elements of some compositions, and the atomic fraction of each in each."""
    symbols = sorted({element.symbol for one in compositions for element in one.elements})
    shares = [[one.get_atomic_fraction(symbol) for symbol in symbols] for one in compositions]
    return symbols, np.array(shares)


def folds_by_system(compositions: Sequence[Composition]) -> Int[np.ndarray, "C"]:
    """Split crystals into `NUM_FOLDS` parts, all of one chemical system into the same one.

    What a generator makes is often of systems without labels, so that crystals of one system on
    both sides of a split would flatter a fit. Of fewer systems than parts the crystals are split.
    """
    systems = [composition.chemical_system for composition in compositions]
    groups = np.unique(systems, return_inverse=True)[1]
    if groups.max() + 1 < NUM_FOLDS:
        groups = np.arange(len(systems))
    return np.random.default_rng(0).permutation(groups.max() + 1)[groups] % NUM_FOLDS


def cross_fitted(
    compositions: Sequence[Composition],
    errors: Float[np.ndarray, "C"],
    element_prior: float,
    sets: Sequence[str] = (),
    *,
    share: float = 1.0,
) -> list[ErrorDistribution]:
    """Predict the error of every label by a fit that has seen none of its chemical system.

    Args:
        compositions: Of at least two crystals.
        errors: DFT minus potential, eV/atom.
        element_prior: As `fit_error_models` takes it, like the next.
        sets: Names of the sets of labels; each label is predicted on the frame of its set.
        share: Of the crystals of other systems, how many a fit may see, at random.
    """
    folds = folds_by_system(compositions)
    names = list(sets) or [""] * len(compositions)
    order = np.random.default_rng(0).permutation(len(folds))
    models = {}
    for fold in np.unique(folds):
        others = order[folds[order] != fold]
        seen = np.sort(others[: round(share * len(others))])
        models[fold] = fit_error_models(
            [compositions[index] for index in seen],
            errors[seen],
            element_prior,
            [names[index] for index in seen],
        )
    return [
        models[fold].get(name, models[fold][""]).at(one)
        for fold, name, one in zip(folds, names, compositions, strict=True)
    ]
