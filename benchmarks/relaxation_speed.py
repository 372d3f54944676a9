"""Relaxation speed: ours against the stock ASE calculator, one structure at a time, in one run.

    OMP_NUM_THREADS=1 python benchmarks/relaxation_speed.py --materials mp_le20.parquet

Same potential, same crystals (known compounds of 10 atoms, atoms displaced by 0.1 Å, cell strained
by up to 3%), FIRE on the Fréchet cell filter, same convergence on forces and stress for both.
"""

import argparse
import contextlib
import io
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from ase.calculators.calculator import Calculator
from ase.filters import FrechetCellFilter
from ase.optimize import FIRE
from pymatgen.core import Structure

from mattergen_lite.io.formats.structures import build_structure
from mattergen_lite.scoring.energy.potentials.sources import load_potential
from mattergen_lite.scoring.energy.relaxation import GPA, RelaxationLimits, relax

LIMITS = RelaxationLimits()


def perturbed_crystals(path: Path, num_crystals: int) -> list[Structure]:
    table = pd.read_parquet(path)
    table = table[(table.num_atoms == 10) & (table.e_above_hull < 0.05)]
    rng = np.random.default_rng(0)
    crystals = []
    for row in table.sample(num_crystals, random_state=0).to_dict("records"):
        strain = np.eye(3) + rng.uniform(-0.03, 0.03, (3, 3))
        lattice = np.reshape(row["lattice"], (3, 3)) @ strain
        numbers = [int(number) for number in row["atomic_numbers"]]
        crystal = build_structure(lattice, numbers, np.reshape(row["frac_coords"], (-1, 3)))
        crystals.append(crystal.perturb(0.1, seed=0))
    return crystals


def stock_calculator() -> Calculator:
    from chgnet.model.dynamics import CHGNetCalculator

    with contextlib.redirect_stdout(io.StringIO()):
        return CHGNetCalculator(use_device="cpu")


def relax_stock(crystal: Structure, calculator: Calculator) -> tuple[float, int]:
    """Energy in eV/atom and steps of ASE's own loop, stopped by our criterion."""
    atoms = crystal.to_ase_atoms(msonable=False)
    atoms.calc = calculator
    optimizer = FIRE(FrechetCellFilter(atoms), logfile=None)
    for _ in optimizer.irun(fmax=0, steps=LIMITS.max_steps):
        force = np.linalg.norm(atoms.get_forces(), axis=1).max()
        if (
            force <= LIMITS.max_force
            and np.abs(atoms.get_stress()).max() * GPA <= LIMITS.max_stress
        ):
            break
    return atoms.get_potential_energy() / len(atoms), optimizer.nsteps


def relax_ours(crystal: Structure) -> tuple[float, int]:
    relaxation = relax(crystal, load_potential("chgnet"), LIMITS)
    return relaxation.energy_per_atom, relaxation.num_steps


def timed(function: Callable[[], tuple[float, int]]) -> dict[str, float]:
    """CPU and wall time in s; CPU time is fair on a machine that does other things as well."""
    wall, cpu = time.perf_counter(), time.process_time()
    energy, steps = function()
    return {
        "CPU s": time.process_time() - cpu,
        "wall s": time.perf_counter() - wall,
        "steps": steps,
        "energy": energy,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--materials", type=Path, required=True)
    parser.add_argument("--num-crystals", type=int, default=20)
    options = parser.parse_args()
    torch.set_num_threads(1)
    crystals = perturbed_crystals(options.materials, options.num_crystals)
    calculator = stock_calculator()
    relax_ours(crystals[0]), relax_stock(crystals[0], calculator)  # warm up
    stock, ours = [], []
    for crystal in crystals:  # in turn, so that both meet the same disturbances
        stock.append(timed(partial(relax_stock, crystal, calculator)))
        ours.append(timed(partial(relax_ours, crystal)))
    stock, ours = pd.DataFrame(stock), pd.DataFrame(ours)
    table = pd.DataFrame({"stock ASE": stock.mean(), "ours": ours.mean()}).T
    table["CPU ms/step"] = 1000 * table["CPU s"] / table.steps
    print(table.round(4).to_string())
    difference = (ours.energy - stock.energy).abs()
    speedup = stock["CPU s"].sum() / ours["CPU s"].sum()
    print(f"{len(crystals)} crystals, {speedup:.2f} times faster")
    print(f"energies differ by {1000 * difference.median():.2f} meV/atom (median)")


if __name__ == "__main__":
    main()
