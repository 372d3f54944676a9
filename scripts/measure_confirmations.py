"""Measure the errors of what confirms properties, and those of what guides on generated crystals.

    python scripts/measure_confirmations.py known --num 60
    python scripts/measure_confirmations.py generated results/ more/ --checkpoint mp

`known` compares the confirming methods with DFT on compounds of MP-20's test split, whose labels no
method was fitted to (potentials saw some of their energies), and writes
`assets/confirmation_errors.json`. `generated` compares the regressions of a checkpoint with the
confirmed values of relaxed crystals of runs, and writes the errors into its predictors.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
from pymatgen.core import Structure

from mattergen_lite import load
from mattergen_lite.config import read_yaml, write_yaml
from mattergen_lite.data.table import EMBEDDED, read_crystal_table
from mattergen_lite.hub import find_checkpoint
from mattergen_lite.io.formats.structures import build_structure
from mattergen_lite.probe.head import CONFIG, GeneratedError, HeadConfig
from mattergen_lite.probe.predictors import load_predictors
from mattergen_lite.scoring.confirmation.errors import ERRORS
from mattergen_lite.scoring.confirmation.gap_network import predict_band_gap
from mattergen_lite.scoring.confirmation.moments import magnetic_density
from mattergen_lite.scoring.energy.elasticity import bulk_modulus
from mattergen_lite.scoring.energy.potentials.acceptance_test import accepted_potential
from mattergen_lite.symmetry.orbits import Orbits, find_orbits
from mattergen_lite.symmetry.templates import OrbitCrystals

DECIDER = "7net-l3i5"
# Upper ends of the bins, in the unit of the property; what is less is exactly zero.
EDGES = {
    "band_gap": (1e-9, 1.0, 2.0, 3.0, 4.5),
    "bulk_modulus": (50.0, 100.0, 150.0, 200.0, 250.0, 300.0),
    "magnetic_density": (0.005, 0.03, 0.06, 0.1),
}
FEWEST = 6  # crystals of a bin; smaller ones join the one above
COLUMNS = ["split", "num_atoms", "atomic_numbers", "frac_coords", "lattice"]


@dataclass(frozen=True)
class Pairs:
    """Values that are judged, and those that judge them."""

    values: np.ndarray
    truth: np.ndarray

    def bins(self, edges: Sequence[float]) -> list[tuple[float | None, "Pairs"]]:
        """Upper ends with the pairs below them; None above all."""
        parts, low = [], -np.inf
        for high in (*edges, np.inf):
            inside = (self.values >= low) & (self.values < high)
            rest = (self.values >= high).sum()
            if inside.sum() < FEWEST and high < np.inf:
                continue
            if rest < FEWEST:
                high, inside = np.inf, self.values >= low
            part = Pairs(self.values[inside], self.truth[inside])
            parts.append((None if high == np.inf else float(high), part))
            if high == np.inf:
                break
            low = high
        return parts

    @property
    def mae(self) -> float:
        """Mean absolute error."""
        return float(np.abs(self.values - self.truth).mean())


def rounded(value: float) -> float:
    """Three digits."""
    return float(f"{value:.3g}")


def known_pairs(name: str, number: int, method: Callable[[Structure], float]) -> Pairs:
    """Values by a method and by DFT of test compounds: half random, half spread over the values."""
    table = read_crystal_table(EMBEDDED, [*COLUMNS, name]).filter(pc.field("split") == "test")
    rows = table.filter(pc.is_valid(table[name])).to_pylist()
    at_random = np.random.default_rng(0).permutation(len(rows))[: number // 2]
    spread = spread_over(np.array([row[name] for row in rows]), number - len(at_random))
    values, truth = [], []
    for row in (rows[i] for i in np.union1d(at_random, spread)):
        structure = build_structure(row["lattice"], row["atomic_numbers"], row["frac_coords"])
        try:
            value = method(structure)
        except ValueError:
            continue
        if np.isfinite(value):
            values.append(value)
            truth.append(row[name])
    return Pairs(np.array(values), np.array(truth))


def measure_known(number: int) -> None:
    """Write the errors of the confirming methods."""
    potential = accepted_potential(DECIDER)
    methods = {
        "network": ("band_gap", 50 * number, predict_band_gap),
        "moments": ("magnetic_density", 4 * number, magnetic_density),
        f"equation of state, {DECIDER}": (
            *("bulk_modulus", number),
            lambda structure: bulk_modulus(structure, potential).bulk_modulus,
        ),
    }
    errors = {}
    for method, (name, most, function) in methods.items():
        pairs = known_pairs(name, most, function)
        rank = np.corrcoef(
            *(np.argsort(np.argsort(values)) for values in (pairs.values, pairs.truth))
        )
        print(
            f"{method}: {len(pairs.values)} compounds, MAE {pairs.mae:.3g}, bias "
            f"{(pairs.values - pairs.truth).mean():+.3g}, rank correlation {rank[0, 1]:.2f}",
            flush=True,
        )
        errors[method] = [
            {"below": below, "num_crystals": len(part.values), "mae": rounded(part.mae)}
            for below, part in pairs.bins(EDGES[name])
        ]
    lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(bins)}" for key, bins in errors.items())
    ERRORS.write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")


def guide_values(structures: Sequence[Structure], checkpoint: str) -> dict[str, np.ndarray]:
    """What the regressions of a checkpoint read of crystals, by property; NaN outside a domain."""
    folder = find_checkpoint(checkpoint)
    crystals = OrbitCrystals.of([orbits_of(structure) for structure in structures])
    return {
        predictor.definition.name: np.array(
            [read.value if read.is_inside else np.nan for read in predictor.read(crystals)]
        )
        for predictor in load_predictors(folder, None)
        if predictor.definition.name in EDGES
    }


def orbits_of(structure: Structure) -> Orbits:
    """Orbits of a relaxed crystal."""
    numbers = np.array(structure.atomic_numbers)
    return find_orbits(numbers, structure.frac_coords, structure.lattice.matrix)


def spread_over(values: np.ndarray, number: int) -> np.ndarray:
    """Rows with values evenly spread from the lowest to the highest."""
    order = np.argsort(values)[: np.isfinite(values).sum()]
    wanted = np.linspace(values[order[0]], values[order[-1]], number)
    nearest = [int(np.abs(values[order] - value).argmin()) for value in wanted]
    return order[np.unique(nearest)]


def measure_generated(folders: Sequence[Path], checkpoint: str, number: int) -> None:
    """Write the errors of the regressions for generated crystals into the predictors."""
    structures = [
        structure for at in folders for structure in load(at).structures() if structure is not None
    ]
    potential = accepted_potential(DECIDER)
    methods = {
        "band_gap": (len(structures), predict_band_gap),
        "magnetic_density": (12 * number, magnetic_density),
        "bulk_modulus": (number, lambda structure: bulk_modulus(structure, potential).bulk_modulus),
    }
    guides = guide_values(structures, checkpoint)
    for name, (most, method) in methods.items():
        guide = guides[name]
        rows = spread_over(guide, most) if most < len(guide) else np.flatnonzero(guide == guide)
        truth = np.array([method(structures[row]) for row in rows])
        fine = np.isfinite(truth)
        pairs = Pairs(guide[rows][fine], truth[fine])
        bins = tuple(
            GeneratedError(
                below=below,
                num_crystals=len(part.values),
                mae=rounded(part.mae),
                expected=rounded(part.truth.mean()),
            )
            for below, part in pairs.bins(EDGES[name])
        )
        path = find_checkpoint(checkpoint) / "predictors" / name / CONFIG
        config = HeadConfig.parse(read_yaml(path)).model_copy(update={"generated": bins})
        write_yaml(config, path)
        print(f"{name}: {len(pairs.values)} crystals, MAE {pairs.mae:.3g}", flush=True)
        for interval in bins:
            print(
                f"  below {interval.below}: {interval.num_crystals}, MAE {interval.mae}, "
                f"mean {interval.expected}"
            )


def main() -> None:
    """Measure one or the other."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    kinds = parser.add_subparsers(dest="kind", required=True)
    known = kinds.add_parser("known")
    known.add_argument("--num", type=int, default=60, help="compounds for equations of state")
    generated = kinds.add_parser("generated")
    generated.add_argument("folders", nargs="+", type=Path)
    generated.add_argument("--checkpoint", default="mp")
    generated.add_argument("--num", type=int, default=60, help="crystals for equations of state")
    choice = parser.parse_args()
    if choice.kind == "known":
        measure_known(choice.num)
    else:
        measure_generated(choice.folders, choice.checkpoint, choice.num)


if __name__ == "__main__":
    main()
