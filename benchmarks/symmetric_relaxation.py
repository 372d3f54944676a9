"""What keeping the symmetry costs or saves: the same crystals relaxed freely and in their group.

    OMP_NUM_THREADS=1 python benchmarks/symmetric_relaxation.py ours=run/ theirs=their.parquet \
        --num-crystals 30 --json result.json

CHGNet, the judge's limits, tolerance 0.1 Å. Both start from the same crystal, in turn; what kept a
space group is then rattled and released.
"""

import argparse
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from measuring import report
from pymatgen.core import Structure

from mattergen_lite.io.formats.structures import ordered
from mattergen_lite.io.read import read_structures
from mattergen_lite.scoring.criteria.symmetry import SYMPREC_GENERATED, space_group_of
from mattergen_lite.scoring.criteria.validity import validity
from mattergen_lite.scoring.energy.potentials.base import Potential
from mattergen_lite.scoring.energy.potentials.sources import load_potential
from mattergen_lite.scoring.energy.relaxation import MIN_ENERGY_FALL, Relaxation, relax
from mattergen_lite.scoring.energy.symmetry_breaking import release

FRAMES = "structures.extxyz"  # of a run
Figures = dict[str, float]


def read_crystals(source: Path, count: int) -> list[Structure]:
    """The first crystals of a source whose geometry is worth relaxing."""
    path = source / FRAMES if (source / FRAMES).exists() else source
    read = (record.structure for record in read_structures(path) if record.structure is not None)
    bare = (ordered(structure) for structure in read if structure.is_ordered)
    physical = (structure for structure in bare if not validity(structure).physical_problem)
    return list(islice(physical, count))


def timed_relaxation(
    crystal: Structure, potential: Potential, symprec: float | None
) -> tuple[Relaxation, float]:
    """A relaxation and its CPU seconds."""
    start = time.process_time()
    relaxation = relax(crystal, potential, symprec=symprec)
    return relaxation, time.process_time() - start


def compare(crystal: Structure, potential: Potential) -> Figures | None:
    """Both relaxations of one crystal; None if one of them was given up."""
    free, free_seconds = timed_relaxation(crystal, potential, None)
    kept, kept_seconds = timed_relaxation(crystal, potential, SYMPREC_GENERATED)
    if free.structure is None or kept.structure is None:
        return None
    start = time.process_time()
    released = release(kept, potential) if kept.constrained_space_group > 1 else None
    return {
        "free steps": free.num_steps,
        "symmetric steps": kept.num_steps,
        "free s": free_seconds,
        "symmetric s": kept_seconds,
        "release s": time.process_time() - start,
        "symmetric": kept.constrained_space_group > 1,
        "free above P1 at 0.01": space_group_of(free.structure, 0.01) > 1,
        "symmetric above P1 at 0.01": space_group_of(kept.structure, 0.01) > 1,
        "free converged": free.converged,
        "symmetric converged": kept.converged,
        "rise": kept.energy_per_atom - free.energy_per_atom,
        "fall": -released.energy_change if released else np.nan,
    }


def summarise(name: str, compared: Sequence[Figures]) -> dict[str, float | str]:
    """One row a set: means, and medians where stated; energies in meV/atom."""

    def column(key: str) -> np.ndarray:
        return np.array([row[key] for row in compared], dtype=float)

    symmetric = column("symmetric").sum()
    falls = column("fall")
    falls = falls[falls > MIN_ENERGY_FALL]
    return {
        "set": name,
        "crystals": len(compared),
        **{key: column(key).mean() for key in ("free steps", "symmetric steps")},
        **{key: column(key).mean() for key in ("free s", "symmetric s", "release s")},
        **{key: column(key).mean() for key in compared[0] if "converged" in key or "above" in key},
        "symmetric": symmetric / len(compared),
        "median rise": 1000 * float(np.median(column("rise"))),
        "rise above 1 meV": (column("rise") > MIN_ENERGY_FALL).mean(),
        "fall above 1 meV": (column("rise") < -MIN_ENERGY_FALL).mean(),
        "saddle points": len(falls) / max(symmetric, 1),
        "median fall": 1000 * float(np.median(falls)) if len(falls) else 0.0,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sets", nargs="+", help="name=path")
    parser.add_argument("--num-crystals", type=int, default=30, help="of each set")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    potential = load_potential("chgnet")
    rows = []
    for text in options.sets:
        name, _, path = text.partition("=")
        crystals = read_crystals(Path(path), options.num_crystals)
        compared = [compare(crystal, potential) for crystal in crystals]
        rows.append(summarise(name, [row for row in compared if row is not None]))
    report(rows, {"potential": potential.name, "symprec": SYMPREC_GENERATED}, options.json)


if __name__ == "__main__":
    main()
