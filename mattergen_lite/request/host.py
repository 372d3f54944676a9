"""A structure that samples are built into: which sites, and whether the cell, stay as given.

The host keeps its own cell. Samples are made in the primitive cell of the fixed sites' symmetry,
and come back; fixed sites are then the very numbers of the file.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from mattergen_lite.chemistry.elements import symbols
from mattergen_lite.io.read import read_structures
from mattergen_lite.options.texts import Interval, parse_range, parse_sites
from mattergen_lite.request.base import Constraint
from mattergen_lite.tensors.crystal import CrystalBatch
from mattergen_lite.tensors.geometry import canonical_orientation, wrap
from mattergen_lite.tensors.shapes import Bool, Float, Int

if TYPE_CHECKING:
    from pymatgen.core import Structure


@dataclass(frozen=True, kw_only=True)
class Host(Constraint):
    """What is known of a crystal: its fixed sites, in the order of the file, and maybe its cell."""

    name: str  # of the file
    lattice: Float[Tensor, "3 3"]  # Å, rows, as in the file; double precision
    reduction: Float[Tensor, "3 3"]  # whole numbers: reduced cell = reduction @ lattice
    numbers: Int[Tensor, "F"]  # atomic numbers of the fixed sites
    coords: Float[Tensor, "F 3"]  # fractional, in the host's cell; double precision
    fix_lattice: bool
    num_freed: int  # sites of the file that are not fixed, hence left out
    num_placed: tuple[int, int] | None  # fewest and most atoms to place; None = any
    needed = property(lambda self: frozenset(self.fixed_elements))
    is_sized = True

    def __str__(self) -> str:
        placed = ", {}..{} atoms to place".format(*self.num_placed) if self.num_placed else ""
        return f"seed-structure {self.name} ({len(self.numbers)} fixed sites{placed})"

    @property
    def fixed_elements(self) -> tuple[str, ...]:
        """Symbols of the fixed sites."""
        return tuple(symbols()[z] for z in self.numbers.tolist())

    def counts(self, max_atoms: int) -> range:
        """Numbers of the fixed sites and the atoms to place together.

        Raises:
            ValueError: If there is nothing to sample.
        """
        fixed = len(self.numbers)
        low, high = self.num_placed or (0, max(0, max_atoms - fixed))
        if high == 0 and self.fix_lattice:
            raise ValueError(
                f"{self.name}: with all of its {fixed} sites and its lattice fixed nothing is "
                "left to sample; fix fewer sites or say how many atoms to insert"
            )
        return range(fixed + low, fixed + high + 1)

    def restored(
        self, crystal: CrystalBatch, known: Bool[Tensor, "N"], change: "CellChange"
    ) -> CrystalBatch:
        """A sample in the host's own cell; double precision.

        Fixed sites come first and are exactly those of the file, and so is a fixed lattice. A free
        lattice is turned like the host's: a along its a, b in the plane of its a and b.
        """
        placed = crystal.mask[0] & ~known
        coords = change.back(crystal.frac_coords[0][placed].double())  # [P, copies, 3]
        numbers = crystal.atomic_numbers[0][placed].repeat_interleave(coords.shape[1])
        lattice = self.lattice
        if not self.fix_lattice:
            orientation = canonical_orientation(self.lattice).inverse() @ self.lattice
            lattice = canonical_orientation(change.matrix @ crystal.lattice[0].double())
            lattice = lattice @ orientation
        return CrystalBatch.from_crystals(
            [torch.cat([self.numbers, numbers])],
            [torch.cat([self.coords, coords.flatten(0, 1)])],
            lattice.unsqueeze(0),
        )


@dataclass(frozen=True, kw_only=True)
class CellChange:
    """From fractional coordinates in the host's cell to those in another: `x @ matrix + shift`.

    The rows of the host's lattice are then `matrix @ lattice` of the other, but for a rotation.
    """

    matrix: Float[Tensor, "3 3"]
    shift: Float[Tensor, "3"]

    @property
    def num_copies(self) -> int:
        """Cells of the other kind in the host's cell."""
        return round(abs(torch.linalg.det(self.matrix).item()))

    def back(self, coords: Float[Tensor, "P 3"]) -> Float[Tensor, "P C 3"]:
        """Where atoms of the other cell are in the host's, with all copies that it has of them."""
        inverse = self.matrix.inverse()
        count = self.num_copies
        steps = torch.cartesian_prod(*[torch.arange(float(count), dtype=torch.double)] * 3)
        moved = wrap((steps.view(-1, 3) @ inverse * 1e6).round() / 1e6)
        _, first = np.unique(moved.numpy().round(5) % 1, axis=0, return_index=True)
        translations = steps.view(-1, 3)[torch.from_numpy(np.sort(first))]
        return wrap((coords[:, None] + translations - self.shift) @ inverse)


def parse_host(
    path: Path | None,
    fix_sites: Sequence[Interval | str] | str | None,
    fix_lattice: bool,
    insert: Interval | str | None,
) -> Host | None:
    """A host from a structure file and what is to stay of it; None without a file.

    Args:
        path: One ordered structure in any readable format.
        fix_sites: all (also if None), none, sites by number from 0 such as 0,1,4..7, or by element
            such as Fe,O.
        fix_lattice: Keep the cell.
        insert: How many atoms to add beside the fixed sites, such as 2 or 1..4; by default as many
            as the host has other sites.

    Raises:
        ValueError: If there is something to fix but no file, the file does not hold one ordered
            structure, or a site is not in it.
    """
    if path is None:
        if fix_sites is not None or fix_lattice or insert is not None:
            raise ValueError("fix-sites, fix-lattice and insert need a seed-structure")
        return None
    structure = read_one(path)
    sites = _chosen_sites(parse_sites(fix_sites or "all"), structure, path.name)
    lattice = torch.tensor(structure.lattice.matrix)
    return Host(
        name=path.name,
        lattice=lattice,
        reduction=_niggli_reduction(lattice),
        numbers=torch.tensor(structure.atomic_numbers)[sites],
        coords=torch.tensor(structure.frac_coords)[sites],
        fix_lattice=fix_lattice,
        num_freed=len(structure) - len(sites),
        num_placed=parse_range(insert),
    )


def read_one(path: Path, what: str = "seed-structure") -> "Structure":
    """The structure of a file that holds one; `what` names its option.

    Raises:
        ValueError: If it holds several, or it cannot be read.
    """
    records = list(islice(read_structures(path), 2))
    if len(records) > 1:
        raise ValueError(f"{what} {path} holds several structures: expected one")
    if records[0].structure is None:
        raise ValueError(f"{what} {path}: {records[0].error}")
    return records[0].structure


def _chosen_sites(parts: Sequence[Interval | str], structure: "Structure", name: str) -> list[int]:
    """Numbers of the sites to fix, ascending, each once."""
    if parts in (("all",), ("none",)):
        return list(range(len(structure))) if parts == ("all",) else []
    chosen: set[int] = set()
    for part in parts:
        sites = _sites_of(part, structure)
        if not sites:
            raise ValueError(
                f"fix-sites {str(part)!r}: {name} has {len(structure)} sites, numbered 0 to "
                f"{len(structure) - 1}, of {', '.join(structure.symbol_set)}; or say all or none"
            )
        chosen |= sites
    return sorted(chosen)


def _sites_of(part: Interval | str, structure: "Structure") -> set[int]:
    """Sites of one element or of numbers that the structure has; empty if it is neither."""
    if isinstance(part, Interval):
        return set(range(part.low, part.high + 1)) if part.high < len(structure) else set()
    return {i for i, site in enumerate(structure) if site.specie.symbol == part}


def _niggli_reduction(lattice: Float[Tensor, "3 3"]) -> Float[Tensor, "3 3"]:
    """Whole numbers that take a cell to its Niggli cell; the identity if spglib finds none."""
    import spglib

    reduced = None
    with suppress(spglib.SpglibError):
        reduced = spglib.niggli_reduce(lattice.numpy())
    if reduced is None:
        return torch.eye(3, dtype=torch.double)
    return torch.tensor(np.round(reduced @ np.linalg.inv(lattice.numpy())))
