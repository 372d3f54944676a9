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
    compositions: Sequence[Composition], errors: Float[np.ndarray, "C"], element_prior: float
) -> ErrorModel:
    """Fit the errors DFT minus potential of known outcomes, in eV/atom.

    Maximum a posteriori by expectation maximisation: outliers lose weight as under a Student t, and
    element offsets are drawn to zero as under a normal prior of width `element_prior`.
    """
    symbols, shares = atomic_fractions(compositions)
    design = np.column_stack([np.ones(len(errors)), shares])
    prior = np.diag([0.0, *[element_prior**-2] * len(symbols)])
    weights, variance = np.ones(len(errors)), max(float(np.var(errors)), MIN_SCALE**2)
    for _ in range(100):
        evidence = (design.T * weights) @ design / variance
        covariance = np.linalg.inv(evidence + prior)
        coefficients = covariance @ design.T @ (weights * errors) / variance
        residual = errors - design @ coefficients
        weights = (DEGREES_OF_FREEDOM + 1) / (DEGREES_OF_FREEDOM + residual**2 / variance)
        # The coefficients have used up as many degrees of freedom as the evidence decides.
        # A few crystals of as many elements leave none: one, and a scale above zero, all the same.
        num_free = max(len(errors) - float(np.trace(covariance @ evidence)), 1.0)
        variance = max(float((weights * residual**2).sum()) / num_free, MIN_SCALE**2)
    stds = np.sqrt(np.diag(covariance))
    offsets = zip(symbols, coefficients[1:].tolist(), stds[1:].tolist(), strict=True)
    return ErrorModel(
        offset=float(coefficients[0]),
        scale=math.sqrt(variance),
        elements={symbol: ElementOffset(mean=mean, std=std) for symbol, mean, std in offsets},
        element_prior=element_prior,
    )


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
    *,
    share: float = 1.0,
) -> list[ErrorDistribution]:
    """Predict the error of every crystal by a fit that has seen none of its chemical system.

    Args:
        compositions: Of at least two crystals.
        errors: DFT minus potential, eV/atom.
        element_prior: As `fit_error_model` takes it.
        share: Of the crystals of other systems, how many a fit may see, at random.
    """
    folds = folds_by_system(compositions)
    order = np.random.default_rng(0).permutation(len(folds))
    models = {}
    for fold in np.unique(folds):
        others = order[folds[order] != fold]
        seen = np.sort(others[: round(share * len(others))])
        models[fold] = fit_error_model(
            [compositions[index] for index in seen], errors[seen], element_prior
        )
    return [models[fold].at(one) for fold, one in zip(folds, compositions, strict=True)]
