"""Core seconds to tell random crystals of a single formula apart and from known ones.

python benchmarks/comparing_speed.py [num_crystals] [formula]

Cells are triclinic with edges of 0.6 to 1.6 times their mean, of one density, atoms at random at
least 0.7 of their covalent distance apart; every tenth is another one rattled, strained and in a
supercell, so that there is something to find.
"""

import sys
import time
import warnings

import numpy as np
from ase.data import covalent_radii
from pymatgen.core import Composition, Lattice, Structure

from mattergen_lite.processes import Pool
from mattergen_lite.scoring.criteria.novelty import novelty
from mattergen_lite.scoring.known.reference import known_structures

VOLUME_PER_ATOM = 13.0  # Å³
MIN_CONTACT = 0.7  # of the sum of covalent radii


def random_cell(rng: np.random.Generator, num_atoms: int) -> Lattice:
    """A triclinic cell of one density."""
    angles = rng.uniform(60, 120, 3)
    while angles.sum() > 350 or 2 * angles.max() > angles.sum() - 10:
        angles = rng.uniform(60, 120, 3)
    cell = Lattice.from_parameters(*rng.uniform(0.6, 1.6, 3), *angles)
    return cell.scale(VOLUME_PER_ATOM * num_atoms)


def random_crystal(rng: np.random.Generator, formula: str) -> Structure:
    """Two to four formula units, atom by atom; a new cell where one has no room."""
    amounts = Composition(formula) * int(rng.integers(2, 5))
    symbols = [element.symbol for element, count in amounts.items() for _ in range(int(count))]
    while True:
        crystal = Structure(random_cell(rng, len(symbols)), [], [])
        if all(has_room(crystal, symbol, rng) for symbol in symbols):
            return crystal


def has_room(crystal: Structure, symbol: str, rng: np.random.Generator) -> bool:
    """Try to add an atom far enough from all others; tell whether there was room."""
    for _ in range(50):
        crystal.append(symbol, rng.uniform(size=3))
        radii = covalent_radii[list(crystal.atomic_numbers)]
        apart = crystal.distance_matrix[-1, :-1]
        if not (apart < MIN_CONTACT * (radii[-1] + radii[:-1])).any():
            return True
        crystal.remove_sites([len(crystal) - 1])
    return False


def crystals_of(formula: str, number: int, rng: np.random.Generator) -> list[Structure]:
    """Random crystals, every tenth a disguised copy of another."""
    crystals: list[Structure] = []
    for index in range(number):
        if index % 10 == 9:
            copy = crystals[int(rng.integers(index))].copy().perturb(0.1, seed=index)
            copy.apply_strain(rng.uniform(-0.05, 0.05, 3))
            crystals.append(copy * (2, 1, 1) if index % 20 == 9 else copy)
        else:
            crystals.append(random_crystal(rng, formula))
    return crystals


def main(num_crystals: int = 2000, formula: str = "SiO2") -> None:
    """Compare crystals and print how long that took."""
    warnings.simplefilter("ignore")
    crystals = crystals_of(formula, num_crystals, np.random.default_rng(0))
    reference = known_structures([])
    names = [str(index) for index in range(num_crystals)]
    start = time.process_time()
    with Pool(0) as here:
        novelties = novelty(crystals, names, reference=reference, pool=here)
    print(f"{num_crystals} {formula}: {time.process_time() - start:.0f} core seconds")
    print(f"{sum(bool(result.is_unique) for result in novelties)} unique")
    print(f"{sum(bool(result.is_novel) for result in novelties)} novel")
    print(f"{sum(result.is_unknown for result in novelties)} unknown")


if __name__ == "__main__":
    main(*(kind(text) for kind, text in zip((int, str), sys.argv[1:], strict=False)))
