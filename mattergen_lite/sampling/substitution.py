"""Blind substitution into known crystals: the proposal that every generator has to beat.

A known crystal near the hull, some or all of its elements replaced by one of the nearest in the
element descriptor, the cell scaled by the covalent radii. No training and hardly any cost; also no
new frameworks, and no targets. The idea is the ion exchange of Szymanski and Bartel (Mater. Horiz.
2025), with elements by descriptor in place of ions.
"""

from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np
import torch
from ase.data import covalent_radii

from mattergen_lite.data.crystals import CrystalDataset, embedded_crystals
from mattergen_lite.elements import element_descriptors
from mattergen_lite.io.formats.structures import build_structure
from mattergen_lite.io.records import StructureRecord

NUM_NEAREST = 6  # elements that may take the place of one
MAX_E_ABOVE_HULL = 0.1  # eV/atom, of the known crystals


@cache
def _known() -> CrystalDataset:
    """MP-20's training split."""
    return embedded_crystals("train")


@cache
def _rows_near_hull() -> np.ndarray:
    """Rows of the known crystals within `MAX_E_ABOVE_HULL`; an unknown energy is not near."""
    return np.flatnonzero(_known().columns["e_above_hull"].numpy() <= MAX_E_ABOVE_HULL)


@cache
def nearest_elements() -> dict[int, tuple[int, ...]]:
    """The `NUM_NEAREST` elements closest to each that known crystals have, nearest first."""
    present = torch.unique(_known().atomic_numbers)
    vectors = element_descriptors()[present]
    distances = torch.cdist(vectors, vectors).fill_diagonal_(torch.inf)
    order = distances.argsort(dim=1, stable=True)[:, :NUM_NEAREST]
    return {
        number: tuple(present[row].tolist())
        for number, row in zip(present.tolist(), order, strict=True)
    }


def substituted(index: int, *, seed: int) -> StructureRecord:
    """Proposal number `index` of a seed; the same whatever else is asked for."""
    rng = np.random.default_rng([seed, index])
    rows = _rows_near_hull()
    known = _known().crystals(torch.tensor([int(rng.choice(rows))]))
    num_atoms = int(known.mask.sum())
    numbers = known.atomic_numbers[0, :num_atoms].numpy()
    elements = np.unique(numbers)
    replacement = _replacement(elements.tolist(), rng)
    changed = np.array([replacement[number] for number in numbers.tolist()])
    scale = covalent_radii[changed].sum() / covalent_radii[numbers].sum()
    structure = build_structure(
        scale * known.lattice[0].double().numpy(),
        changed.tolist(),
        known.frac_coords[0, :num_atoms].double().numpy(),
    )
    return StructureRecord(f"{index:06d}", structure)


def _replacement(elements: Sequence[int], rng: np.random.Generator) -> dict[int, int]:
    """What stands in for each element: one or more are others, and no two become the same."""
    while True:
        chosen = rng.random(len(elements)) < 0.5
        chosen[rng.integers(len(elements))] = True
        found = [
            int(rng.choice(nearest_elements()[element])) if is_chosen else element
            for element, is_chosen in zip(elements, chosen, strict=True)
        ]
        if len(set(found)) == len(found):
            return dict(zip(elements, found, strict=True))


def records(
    indices: Sequence[int], num_at_once: int, *, seed: int
) -> Iterator[list[StructureRecord]]:
    """Proposals of these numbers, so many at a time; the interface of a generator."""
    for start in range(0, len(indices), num_at_once):
        yield [substituted(index, seed=seed) for index in indices[start : start + num_at_once]]
