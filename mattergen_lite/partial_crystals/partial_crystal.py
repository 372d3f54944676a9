"""One sample before any noise, what it is drawn from, and a batch of them as tensors.

All that is exact meets here, and the denoiser sees nothing else of constraints: required elements,
known sites and cells, and the mask of elements that open orbits of a batch may hold.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from mattergen_lite.chemistry.elements import symbols
from mattergen_lite.config import ModelConfig
from mattergen_lite.request.host import CellChange, Host
from mattergen_lite.symmetry.orbits import Orbits
from mattergen_lite.symmetry.templates import OrbitCrystals, classes_by_element
from mattergen_lite.tensors.crystal import Batch, CrystalBatch
from mattergen_lite.tensors.shapes import Bool


@dataclass(frozen=True, kw_only=True)
class PartialCrystal:
    """Template, elements and fixed part of one sample, chosen before any noise."""

    orbits: Orbits  # the template; elements and places are taken over only where said below
    elements: tuple[int, ...]  # atomic number that each orbit must have; 0 = open
    known: tuple[bool, ...]  # orbits that stay where they are
    prescribed: bool  # orbits of one element in the template hold one element in the sample
    is_crystal: bool = False  # places, cell and elements of the template are a known crystal's
    fixed_cell: bool = False
    host: Host | None = None
    change: CellChange | None = None  # from the host's cell to that of the template

    @property
    def size(self) -> int:
        """What batches are sorted by: the number of orbits, then of atoms."""
        return 1000 * len(self.elements) + int(self.orbits.multiplicities.sum())

    @property
    def composition(self) -> Counter[str]:
        """Atoms of the elements that are chosen; in the host's cell, if there is a host."""
        copies = self.change.num_copies if self.change else 1
        atoms: Counter[str] = Counter()
        for number, size in zip(self.elements, self.orbits.multiplicities.tolist(), strict=True):
            if number:
                atoms[symbols()[number]] += size * copies
        return atoms

    def restored(self, crystal: OrbitCrystals) -> CrystalBatch:
        """A finished sample (a batch of one) as atoms; in the host's cell, if there is a host."""
        atoms = replace(crystal, lattice=crystal.lattice.double()).expand()
        if self.host is None:
            return atoms
        known = torch.zeros_like(atoms.mask[0])  # which may be padded to the batch it was made in
        flags = np.repeat(self.known, self.orbits.multiplicities)
        known[: len(flags)] = torch.from_numpy(flags)
        return self.host.restored(atoms, known, self.change)


@runtime_checkable
class PartialCrystalSampler(Protocol):
    """Something that the partial crystals of a request are drawn from."""

    def draw(self, rng: torch.Generator) -> PartialCrystal:
        """Draw one; raises ValueError if the elements that must occur find no room."""
        return self.draw_each([rng])[0]

    def draw_each(self, rngs: Sequence[torch.Generator]) -> list[PartialCrystal]:
        """Draw one partial crystal from each of several generators."""
        return [self.draw(rng) for rng in rngs]


@dataclass(frozen=True, kw_only=True)
class PartialCrystalBatch(Batch):
    """B partial crystals as tensors."""

    crystals: OrbitCrystals
    allowed: Bool[Tensor, "B O Z"]
    known: Bool[Tensor, "B O"]
    fixed_cell: Bool[Tensor, "B"]

    @classmethod
    def of(
        cls, partial_crystals: Sequence[PartialCrystal], allowed: Bool[Tensor, "Z"]
    ) -> "PartialCrystalBatch":
        """Pad to the most orbits and atoms; open orbits may hold the allowed elements."""
        crystals = OrbitCrystals.of(
            [partial_crystal.orbits for partial_crystal in partial_crystals]
        )
        prescribed = torch.tensor(
            [partial_crystal.prescribed for partial_crystal in partial_crystals]
        )
        crystals = crystals.with_classes(classes_by_element(crystals.atomic_numbers), prescribed)
        shape = crystals.atomic_numbers.shape
        table = allowed.repeat(*shape, 1)
        known = torch.zeros(shape, dtype=torch.bool)
        for row, partial_crystal in enumerate(partial_crystals):
            known[row, : len(partial_crystal.known)] = torch.tensor(partial_crystal.known)
            for orbit, number in enumerate(partial_crystal.elements):
                if number:
                    table[row, orbit] = False
                    table[row, orbit, number] = True
        fixed_cell = torch.tensor(
            [partial_crystal.fixed_cell for partial_crystal in partial_crystals]
        )
        return cls(crystals=crystals, allowed=table, known=known, fixed_cell=fixed_cell)


def size_weights(counts: Sequence[int], model: ModelConfig) -> list[float]:
    """How often training has seen each number of atoms; all alike where it has seen none."""
    seen = dict(enumerate(model.atom_count_histogram, start=1))
    weights = [float(seen.get(count, 0)) for count in counts]
    return weights if any(weights) else [1.0] * len(counts)


def listed_counts(counts: Sequence[int]) -> str:
    """Ascending numbers, as a range if there are no gaps."""
    if len(counts) > 1 and counts[-1] - counts[0] == len(counts) - 1:
        return f"{counts[0]}..{counts[-1]}"
    return ", ".join(map(str, counts))
