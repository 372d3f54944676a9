"""Measures distances between the distributions of two sets of crystals."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from scipy.stats import wasserstein_distance

from mattergen_lite.data.crystals import CrystalDataset
from mattergen_lite.data.dataset import element_sets
from mattergen_lite.tensors.shapes import Bool


@dataclass(frozen=True, kw_only=True)
class Distances:
    """Wasserstein-1 distances between two sets of crystals."""

    density: float  # g/cm³
    n_ary: float  # number of different elements


def distances(
    densities: Sequence[float],
    num_elements: Sequence[int],
    known: CrystalDataset,
    rows: Bool[torch.Tensor, "M"] | None = None,
) -> Distances:
    """Wasserstein-1 distances of density (g/cm³) and number of elements to known crystals, or rows.

    Raises:
        ValueError: If there is no crystal on one of the sides.
    """
    index = torch.arange(len(known)) if rows is None else rows.nonzero().flatten()
    if not len(densities) or not len(index):
        raise ValueError(
            f"{len(densities)} crystals against {len(index)} known ones: expected at least one each"
        )
    known_elements = element_sets(known.crystals(index).atomic_numbers).sum(-1)
    return Distances(
        density=float(wasserstein_distance(densities, known.columns["density"][index].numpy())),
        n_ary=float(wasserstein_distance(num_elements, known_elements.numpy())),
    )
