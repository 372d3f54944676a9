"""Structures <-> `CrystalBatch`, and structures as plain lists of numbers."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from mattergen_lite.io.formats.structures import ordered
from mattergen_lite.tensors.crystal import CrystalBatch
from mattergen_lite.tensors.geometry import wrap

if TYPE_CHECKING:
    from pymatgen.core import Structure


def to_structures(batch: CrystalBatch) -> list["Structure"]:
    """The crystals of a batch as pymatgen structures, unchecked: a sampler may emit anything."""
    from pymatgen.core import Structure

    structures = []
    for crystal, mask in enumerate(batch.mask.cpu()):
        lattice = batch.lattice[crystal].detach().double().cpu().numpy()
        numbers = batch.atomic_numbers[crystal].cpu()[mask].tolist()
        frac_coords = batch.frac_coords[crystal].detach().double().cpu()[mask].numpy()
        structures.append(Structure(lattice, numbers, frac_coords))
    return structures


def structure_to_json(structure: "Structure") -> dict[str, list]:
    """An ordered structure as plain lists, exact to the last bit."""
    return {
        "lattice": structure.lattice.matrix.tolist(),
        "atomic_numbers": list(structure.atomic_numbers),
        "frac_coords": structure.frac_coords.tolist(),
    }


def structure_from_json(data: Mapping[str, Sequence]) -> "Structure":
    """The structure that `structure_to_json` wrote.

    Raises:
        ValueError: If an entry is missing or makes no crystal.
    """
    from pymatgen.core import Structure

    if missing := {"lattice", "atomic_numbers", "frac_coords"} - set(data):
        raise ValueError(f"no {', '.join(sorted(missing))} in a stored structure")
    return Structure(data["lattice"], data["atomic_numbers"], data["frac_coords"])


def from_structures(structures: Sequence["Structure"]) -> CrystalBatch:
    """Pad structures into one batch (float32).

    Raises:
        ValueError: If a structure is disordered or has an unknown element.
    """
    bare = [ordered(structure) for structure in structures]
    lattice = np.stack([structure.lattice.matrix for structure in bare])
    return CrystalBatch.from_crystals(
        [torch.tensor(structure.atomic_numbers) for structure in bare],
        [wrap(torch.as_tensor(s.frac_coords, dtype=torch.float32)) for s in bare],
        torch.as_tensor(lattice, dtype=torch.float32),
    )
