"""Fits of calibrations: element references, and the error models of a potential."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from pymatgen.core import Composition
from scipy.optimize import minimize

from mattergen_lite.scoring.energy.calibration import (
    DEGREES_OF_FREEDOM,
    MAX_DEVIATION,
    ElementOffset,
    ErrorDistribution,
    ErrorModel,
    Trend,
)
from mattergen_lite.tensors.shapes import Float, Int

NOISE = 0.05  # eV/atom, of the formation energies that element references are fitted to
REFERENCE_PRIOR = 0.05  # eV/atom: how far a fitted element reference may go without evidence
NUM_FOLDS = 5  # of crystals that predict each other
SHIFT_PRIOR = 0.3  # eV/atom: how far labels of other settings may lie off, by element
TREND_PRIOR = 0.03  # eV/atom a standard deviation of a trait
LOG_SCALE_PRIORS = {"element": 1.0, "trend": 0.3}  # standard deviations of changes of log scales
NUM_PASSES = 3  # of fits of offsets and scales in turn
OFFSET_PRIOR = 0.05  # eV/atom: how far crystals of a kind may lie off those of a calibration
SCALE_PRIOR = 20.0  # labels
MAX_ITERATIONS = 100
CONVERGED = 1e-4  # relative change of the variance
MIN_SPREAD = 1e-4  # of a trait; below it is rounding
MIN_SCALE = 1e-3  # eV/atom: below the scatter of relaxations that end within their limits


def fit_references(
    compositions: Sequence[Composition],
    energies_per_atom: Float[np.ndarray, "C"],
    formation_energies: Float[np.ndarray, "C"],
    elemental_energies: Mapping[str, float],
) -> dict[str, float]:
    """Element references in eV/atom that make a potential's formation energies right on average.

    Ridge regression around the potential's own energies of the elements, with outliers (beyond
    three times `NOISE`, eV/atom) left out in a second pass.
    """
    symbols = sorted(elemental_energies)
    own = np.array([elemental_energies[symbol] for symbol in symbols])
    shares = np.array([[c.get_atomic_fraction(s) for s in symbols] for c in compositions])
    residual = energies_per_atom - formation_energies - shares @ own
    ridge = (NOISE / REFERENCE_PRIOR) ** 2 * np.eye(len(symbols))
    used, shift = np.ones(len(residual), dtype=bool), np.zeros(len(symbols))
    for _ in range(2):
        some = shares[used]
        shift = np.linalg.solve(some.T @ some + ridge, some.T @ residual[used])
        used = np.abs(residual - shares @ shift) < 3 * NOISE
    return dict(zip(symbols, (own + shift).tolist(), strict=True))


def fit_error_models(
    compositions: Sequence[Composition],
    errors: Float[np.ndarray, "C"],
    element_prior: float,
    sets: Sequence[str] = (),
    traits: Sequence[Mapping[str, float]] = (),
) -> dict[str, ErrorModel]:
    """Fit the errors DFT minus potential of known outcomes in eV/atom, for every set of labels.

    Maximum a posteriori: outliers lose weight as under a Student t; coefficients of elements (with
    the standard deviation `element_prior`, eV/atom) and of `error_traits` are drawn to zero.
    Offsets and logarithms of scales are linear in both, and are fitted in turn. Labels of other
    settings than the hull's belong to sets with names other than "", each with shifts of its own by
    element.

    Returns:
        Models by name of the set; "" for labels comparable to the hull.
    """
    symbols, shares = atomic_fractions(compositions)
    standardised = _standardise(traits, len(errors))
    names = np.array(sets) if len(sets) else np.full(len(errors), "")
    shifted = sorted(set(names.tolist()) - {""})
    common = np.column_stack([np.ones(len(errors)), shares])
    masks = [(names == name)[:, None] for name in shifted]
    design = np.hstack([common, *[common * mask for mask in masks], standardised.deviations])
    width, num_traits = common.shape[1], standardised.deviations.shape[1]
    precisions = [0.0, *[element_prior**-2] * len(symbols)]
    precisions += [SHIFT_PRIOR**-2] * (width * len(shifted)) + [TREND_PRIOR**-2] * num_traits
    widths = [*["element"] * len(symbols), *["trend"] * num_traits]
    scales = np.array([0.0, *[LOG_SCALE_PRIORS[kind] ** -2 for kind in widths]])
    fit = _fit_errors(
        design, np.hstack([common, standardised.deviations]), errors, np.array(precisions), scales
    )
    trends = standardised.trends(
        fit.coefficients[len(fit.coefficients) - num_traits :], fit.log_scales[width:]
    )
    models = {}
    for number, name in enumerate(["", *shifted]):
        parts = [slice(part * width, (part + 1) * width) for part in {0, number}]
        mean = sum(fit.coefficients[part] for part in parts)
        std = np.sqrt(sum(fit.variances[part] for part in parts))
        rows = np.column_stack([mean[1:], std[1:], fit.log_scales[1:width]]).tolist()
        offsets = [ElementOffset(*row) for row in rows]
        models[name] = ErrorModel(
            offset=float(mean[0]),
            scale=max(math.exp(fit.log_scales[0]), MIN_SCALE),
            elements=dict(zip(symbols, offsets, strict=True)),
            element_prior=element_prior,
            trends=trends,
        )
    return models


@dataclass(frozen=True)
class _Standardised:
    """Traits of crystals in standard deviations from their centres, without constant ones."""

    names: list[str]
    centres: list[float]
    spreads: list[float]
    deviations: Float[np.ndarray, "C T"]

    def trends(self, offsets: np.ndarray, log_scales: np.ndarray) -> dict[str, Trend]:
        """Trends with the coefficients of a fit."""
        rows = np.column_stack([self.centres, self.spreads, offsets, log_scales]).tolist()
        return {name: Trend(*row) for name, row in zip(self.names, rows, strict=True)}


def _standardise(traits: Sequence[Mapping[str, float]], num_crystals: int) -> _Standardised:
    """Standardise the traits that differ between crystals; missing values become zero."""
    names, centres, spreads, columns = [], [], [], [np.empty((num_crystals, 0))]
    for name in traits[0] if traits else ():
        values = np.array([row[name] for row in traits])
        if np.isfinite(values).sum() < 2 or np.nanstd(values) < MIN_SPREAD:
            continue
        names.append(name)
        centres.append(float(np.nanmean(values)))
        spreads.append(float(np.nanstd(values)))
        deviations = np.nan_to_num((values - centres[-1]) / spreads[-1])
        columns.append(np.clip(deviations, -MAX_DEVIATION, MAX_DEVIATION)[:, None])
    return _Standardised(names, centres, spreads, np.hstack(columns))


@dataclass(frozen=True)
class _ErrorFit:
    """Coefficients of offsets, their variances, and coefficients of logarithms of scales."""

    coefficients: Float[np.ndarray, "P"]
    variances: Float[np.ndarray, "P"]
    log_scales: Float[np.ndarray, "Q"]


def _fit_errors(
    design: Float[np.ndarray, "C P"],
    scale_design: Float[np.ndarray, "C Q"],
    errors: Float[np.ndarray, "C"],
    precisions: Float[np.ndarray, "P"],
    scale_precisions: Float[np.ndarray, "Q"],
) -> _ErrorFit:
    """Fit offsets and scales in turn."""
    scales = np.ones(len(errors))
    log_scales = np.zeros(scale_design.shape[1])
    for _ in range(NUM_PASSES):
        coefficients, covariance, share_used = _fit_offsets(
            design / scales[:, None], errors / scales, np.diag(precisions)
        )
        residual = errors - design @ coefficients
        log_scales = _fit_scales(scale_design, residual, scale_precisions, log_scales)
        scales = np.exp(scale_design @ log_scales)
    # Residuals of the crystals of the fit are smaller than errors of others.
    log_scales[0] -= 0.5 * math.log(1 - share_used)
    return _ErrorFit(coefficients, np.diag(covariance), log_scales)


def _fit_offsets(
    design: Float[np.ndarray, "C P"], errors: Float[np.ndarray, "C"], prior: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float]:
    """Coefficients of a linear fit under a Student t, covariance, share of freedom used up."""
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
        num_free = max(len(errors) - float((covariance * evidence).sum()), 1.0)
        variance = max(float((weights * residual**2).sum()) / num_free, MIN_SCALE**2)
        if abs(variance / before - 1) < CONVERGED:
            break
    return coefficients, covariance, 1 - num_free / len(errors)


def _fit_scales(
    design: Float[np.ndarray, "C Q"],
    residual: Float[np.ndarray, "C"],
    precisions: Float[np.ndarray, "Q"],
    start: Float[np.ndarray, "Q"],
) -> Float[np.ndarray, "Q"]:
    """Coefficients of the logarithm of the scale of a Student t, from residuals in eV/atom."""
    free = DEGREES_OF_FREEDOM
    squares = residual**2 + MIN_SCALE**2

    def loss(coefficients: np.ndarray) -> tuple[float, np.ndarray]:
        logs = design @ coefficients
        ratio = squares * np.exp(-2 * logs) / free
        value = ((free + 1) / 2 * np.log1p(ratio) + logs).sum()
        slope = design.T @ (1 - (free + 1) * ratio / (1 + ratio))
        prior = precisions * coefficients
        return float(value + prior @ coefficients / 2), slope + prior

    return minimize(loss, start, jac=True, method="L-BFGS-B").x


def update_error_model(
    model: ErrorModel,
    compositions: Sequence[Composition],
    errors: Float[np.ndarray, "C"],
    traits: Sequence[Mapping[str, float]] = (),
) -> ErrorModel:
    """Update an error model by a few more errors, DFT minus potential in eV/atom.

    The model is the prior: its common offset may move by `OFFSET_PRIOR`, that of an element by its
    standard error, the scale as if `SCALE_PRIOR` labels had given it. Outliers lose weight as under
    a Student t. Without labels the model stays as it is.

    Args:
        model: Fitted to other labels.
        compositions: Of the crystals.
        errors: DFT minus potential, eV/atom.
        traits: Of each crystal, from `error_traits`; their trends stay as they are.
    """
    if len(errors) == 0:
        return model
    symbols, shares = atomic_fractions(compositions)
    unseen = ElementOffset(mean=0.0, std=model.element_prior)
    offsets = [model.elements.get(symbol, unseen) for symbol in symbols]
    expected = [
        model.at(*pair).location
        for pair in zip(compositions, traits or [{}] * len(errors), strict=True)
    ]
    residual = errors - np.array(expected)
    design = np.column_stack([np.ones(len(errors)), shares])
    prior = np.array([OFFSET_PRIOR, *[max(offset.std, MIN_SCALE) for offset in offsets]]) ** -2.0
    variance, shift = model.scale**2, np.zeros(design.shape[1])
    for _ in range(MAX_ITERATIONS):
        left = residual - design @ shift
        weights = (DEGREES_OF_FREEDOM + 1) / (DEGREES_OF_FREEDOM + left**2 / variance)
        covariance = np.linalg.inv((design.T * weights) @ design / variance + np.diag(prior))
        shift = covariance @ design.T @ (weights * residual) / variance
    spread = np.sqrt(np.diag(covariance))
    moved = {
        symbol: before._replace(mean=before.mean + float(step), std=float(std))
        for symbol, before, step, std in zip(symbols, offsets, shift[1:], spread[1:], strict=True)
    }
    squares = float((weights * (residual - design @ shift) ** 2).sum())
    return replace(
        model,
        offset=model.offset + float(shift[0]),
        scale=math.sqrt((SCALE_PRIOR * variance + squares) / (SCALE_PRIOR + len(errors))),
        elements={**model.elements, **moved},
    )


def atomic_fractions(
    compositions: Sequence[Composition],
) -> tuple[list[str], Float[np.ndarray, "C E"]]:
    """List the elements of some compositions, and the atomic fraction of each in each."""
    symbols = sorted(
        {element.symbol for composition in compositions for element in composition.elements}
    )
    shares = [
        [composition.get_atomic_fraction(symbol) for symbol in symbols]
        for composition in compositions
    ]
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
    traits: Sequence[Mapping[str, float]] = (),
) -> list[ErrorDistribution]:
    """Predict the error of every label by a fit that has seen none of its chemical system.

    Labels, sets and traits are those of `fit_error_models`; each label is predicted with
    the shifts of its set.
    """
    folds = folds_by_system(compositions)
    names = list(sets) or [""] * len(compositions)
    shown = list(traits) or [{}] * len(compositions)
    models = {}
    for fold in np.unique(folds):
        seen = np.flatnonzero(folds != fold)
        models[fold] = fit_error_models(
            [compositions[index] for index in seen],
            errors[seen],
            element_prior,
            [names[index] for index in seen],
            [shown[index] for index in seen],
        )
    return [
        models[fold].get(name, models[fold][""]).at(composition, own)
        for fold, name, composition, own in zip(folds, names, compositions, shown, strict=True)
    ]
