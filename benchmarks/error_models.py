"""Compare forms of the error model on crystals that they were not fitted on.

    python benchmarks/error_models.py --labels mattergen_mp20_dft.parquet \
        --labels cdvae_mp20_dft.parquet --work runs/errors.jsonl

Measures as `calibrate` does (slow; goes on from `--work`, which may be a copy of the journal of an
unfinished `calibrate`), with the shipped element references. Each model predicts each half from a
fit of the other, for several ways of halving; columns are means, and standard deviations over ways.

The shipped form is a Student t with three degrees of freedom, offset by the elements. Others have
another shape, a scale that depends on features of the crystal, or an offset that does. Shape and
scale are fitted to errors of the fitting half that are cross-fitted in it, because an offset of
seventy elements fits the errors that it was fitted to too well.
"""

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd
from pymatgen.core import Composition
from scipy import optimize, stats

from mattergen_lite.io.read import read_structures
from mattergen_lite.processes import Pool
from mattergen_lite.scoring.energy.accuracy import METASTABLE, WORTH_COMPUTING
from mattergen_lite.scoring.energy.calibration import (
    DEGREES_OF_FREEDOM,
    ErrorDistribution,
    calibrations,
)
from mattergen_lite.scoring.energy.fitting import cross_fitted, fit_error_model
from mattergen_lite.scoring.energy.stability import LOWEST
from mattergen_lite.scoring.execution.journal import Journal
from mattergen_lite.workflows.calibration import (
    ELEMENT_PRIORS,
    CalibrationOptions,
    labelled,
    measure_labelled,
)

RELAXER, DECIDER = "chgnet", "7net-l3i5"
TINY = 1e-300  # a density that has vanished
RIDGE = 0.3  # standard deviation of the logarithm of a scale, by a feature's standard deviation


class Shape(Protocol):
    """A distribution around zero."""

    def pdf(self, x: np.ndarray) -> np.ndarray: ...
    def cdf(self, x: np.ndarray) -> np.ndarray: ...
    def std(self) -> float: ...


@dataclass(frozen=True)
class TwoNormals:
    """A standard normal and, for a share of the crystals, a wider one."""

    share: float
    width: float

    def pdf(self, x: np.ndarray) -> np.ndarray:
        wide = stats.norm.pdf(x, scale=self.width)
        return (1 - self.share) * stats.norm.pdf(x) + self.share * wide

    def cdf(self, x: np.ndarray) -> np.ndarray:
        wide = stats.norm.cdf(x, scale=self.width)
        return (1 - self.share) * stats.norm.cdf(x) + self.share * wide

    def std(self) -> float:
        return float(np.sqrt(1 - self.share + self.share * self.width**2))


# Shapes by their free parameters, which are 0 by default and normal with deviation 1.
SHAPES: dict[str, tuple[int, Callable[[np.ndarray], Shape]]] = {
    "t": (0, lambda _: stats.t(DEGREES_OF_FREEDOM)),
    "free t": (1, lambda p: stats.t(2.1 + 2 * np.exp(p[0]))),
    "normal": (0, lambda _: stats.norm()),
    "two normals": (2, lambda p: TwoNormals(1 / (1 + np.exp(2 - p[0])), 1 + 2 * np.exp(p[1]))),
}


@dataclass(frozen=True)
class Model:
    """One form of the error model; features by name."""

    shape: str = "t"
    scale: tuple[str, ...] = ()
    offset: tuple[str, ...] = ()
    shipped: bool = False  # nothing beside what the package fits


MODELS = {
    "shipped form": Model(shipped=True),
    "scale cross-fitted": Model(),
    "degrees of freedom fitted": Model("free t"),
    "normal": Model("normal"),
    "two normals": Model("two normals"),
    "scale by movement": Model(scale=("movement",)),
    "scale by disagreement": Model(scale=("disagreement",)),
    "scale by energy": Model(scale=("energy",)),
    "scale by all three": Model(scale=("movement", "disagreement", "energy")),
    "offset by disagreement": Model(offset=("difference",)),
    "offset by movement": Model(offset=("movement",)),
    "offset by all": Model(offset=("difference", "movement", "energy")),
}


@dataclass(frozen=True)
class Crystals:
    """Labelled crystals: raw energies above the hull and DFT's, eV/atom, and features."""

    compositions: Sequence[Composition]
    raw: np.ndarray
    truth: np.ndarray
    features: Mapping[str, np.ndarray] = field(default_factory=dict)

    def table(self, names: Sequence[str], fit: np.ndarray) -> np.ndarray:
        """Features in units of their standard deviation over the fitting part."""
        columns = [self.features[name] for name in names]
        table = np.stack(columns, axis=1) if columns else np.zeros((len(self.raw), 0))
        return (table - table[fit].mean(axis=0)) / table[fit].std(axis=0)


def read_crystals(options: argparse.Namespace) -> Crystals:
    """Relaxed crystals with labels."""
    records = [
        one for path in options.labels for one in islice(read_structures(path), options.limit)
    ]
    chosen = CalibrationOptions(potential=DECIDER, relaxer=RELAXER)
    options.work.parent.mkdir(parents=True, exist_ok=True)
    with Pool(options.num_workers) as pool:
        measured, _ = measure_labelled(labelled(records), chosen, Journal(pool, options.work))
    shipped = calibrations()
    known = shipped[DECIDER].references.keys()
    usable = [one for one in measured if set(one.crystal.structure.symbol_set) <= known]
    raw, other = (
        np.array([one.e_above_hull(name, shipped[name]) for one in usable])
        for name in (DECIDER, RELAXER)
    )
    moved = np.array([one.measurement.relaxation.rmsd for one in usable])
    return Crystals(
        compositions=[one.composition for one in usable],
        raw=raw,
        truth=np.array([one.crystal.e_above_hull for one in usable]),
        features={
            "movement": np.log(0.03 + moved),
            "difference": raw - other,
            "disagreement": np.log(0.03 + np.abs(raw - other - np.median(raw - other))),
            "energy": np.log(0.1 + raw.clip(0)),
        },
    )


def arrays(found: Sequence[ErrorDistribution]) -> tuple[np.ndarray, np.ndarray]:
    """Locations and scales of errors."""
    return np.array([one.location for one in found]), np.array([one.scale for one in found])


def fit_shape(model: Model, z: np.ndarray, table: np.ndarray) -> tuple[np.ndarray, Shape]:
    """Coefficients of the logarithm of the scale, and the shape, of standardised errors."""
    count, make = SHAPES[model.shape]
    width = 1 + table.shape[1]

    def loss(parameters: np.ndarray) -> float:
        log_scale = parameters[0] + table @ parameters[1:width]
        density = make(parameters[width:]).pdf(z / np.exp(log_scale)) / np.exp(log_scale)
        penalty = (parameters[1:width] / RIDGE) ** 2
        return (
            -np.log(density.clip(TINY)).sum()
            + (penalty.sum() + (parameters[width:] ** 2).sum()) / 2
        )

    found = optimize.minimize(loss, np.zeros(width + count), method="Nelder-Mead").x
    return found[:width], make(found[width:])


def forecast(
    model: Model, data: Crystals, fit: np.ndarray, test: np.ndarray
) -> tuple[np.ndarray, np.ndarray, Shape]:
    """Location and scale of DFT's energy above the hull of the crystals to test, and its shape."""
    errors, shift = data.truth - data.raw, np.zeros(len(data.raw))
    prior, compositions = ELEMENT_PRIORS["novel"], [data.compositions[index] for index in fit]
    if model.offset:
        table = data.table(model.offset, fit)
        rest = errors[fit] - arrays(cross_fitted(compositions, errors[fit], prior))[0]
        ridge = len(fit) / 10 * np.eye(table.shape[1])
        slopes = np.linalg.solve(table[fit].T @ table[fit] + ridge, table[fit].T @ rest)
        shift = table @ slopes
    fitted = fit_error_model(compositions, (errors - shift)[fit], prior)
    location, scale = arrays([fitted.at(data.compositions[index]) for index in test])
    location += data.raw[test] + shift[test]
    if model.shipped:
        return location, scale, stats.t(DEGREES_OF_FREEDOM)
    inner, inner_scale = arrays(cross_fitted(compositions, (errors - shift)[fit], prior))
    table = data.table(model.scale, fit)
    z = ((errors - shift)[fit] - inner) / inner_scale
    coefficients, shape = fit_shape(model, z, table[fit])
    log_factor = coefficients[0] + table[test] @ coefficients[1:]
    return location, scale * np.exp(log_factor.clip(-2, 2)), shape


def figures(model: Model, data: Crystals, seed: int) -> dict[str, float]:
    """Figures of both halves, each predicted from the other."""
    half = np.random.default_rng(seed).permutation(len(data.raw)) % 2
    columns = {name: np.zeros(len(half)) for name in ("at", "quantile", "chance", "std", "density")}
    for part in (0, 1):
        test = np.flatnonzero(half == part)
        location, scale, shape = forecast(model, data, np.flatnonzero(half != part), test)
        z = (data.truth[test] - location) / scale
        found = {
            "at": location,
            "quantile": shape.cdf(z),
            "chance": shape.cdf((METASTABLE - location) / scale),
            "std": scale * shape.std(),
            "density": shape.pdf(z) / scale,
        }
        for name, values in found.items():
            columns[name][test] = values
    error, off = np.abs(columns["at"] - data.truth), np.abs(columns["quantile"] - 0.5)
    is_true, called = data.truth <= METASTABLE, columns["chance"] >= WORTH_COMPUTING
    return {
        "MAE": error.mean(),
        "F1": 2 * (called & is_true).sum() / (called.sum() + is_true.sum()),
        "in 68%": (off < 0.34).mean(),
        "in 95%": (off < 0.475).mean(),
        "2 std": (error < 2 * columns["std"]).mean(),
        "mean std": columns["std"].mean(),
        "Brier": ((columns["chance"] - is_true) ** 2).mean(),
        "log density": np.log(columns["density"].clip(TINY)).mean(),
    }


def holes(data: Crystals) -> Iterator[str]:
    """Crystals of which the judge says that the hull must have a hole, with what DFT says."""
    model = calibrations()[DECIDER].novel
    for composition, raw, truth in zip(data.compositions, data.raw, data.truth, strict=True):
        error = model.at(composition)
        if raw + error.location < LOWEST:
            at = raw + error.location
            yield f"hole in the hull: {composition.reduced_formula} {at:+.2f}, DFT {truth:+.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--labels", type=Path, action="append", required=True)
    parser.add_argument("--limit", type=int, help="crystals of every file")
    parser.add_argument("--work", type=Path, required=True, help="journal of what was measured")
    parser.add_argument("--num-halvings", type=int, default=5)
    parser.add_argument("--num-workers", type=int, default=1)
    options = parser.parse_args()

    data = read_crystals(options)
    print(f"{len(data.raw)} crystals, {(data.truth <= METASTABLE).sum()} metastable by DFT")
    print(*holes(data), sep="\n")
    rows = {}
    for name, model in MODELS.items():
        found = pd.DataFrame([figures(model, data, seed) for seed in range(options.num_halvings)])
        mean, std = found.mean(), found.std()
        rows[name] = {column: f"{mean[column]:.3f} ± {std[column]:.3f}" for column in found}
    print(pd.DataFrame(rows).T.to_string())


if __name__ == "__main__":
    main()
