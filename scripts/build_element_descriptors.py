"""Compute the element descriptors that the type channel diffuses, from the element table.

    python scripts/build_element_descriptors.py --out element_descriptors.npy

They are shipped and not computed on use: three principal components share one singular value, so
that another linear algebra library gives another basis of them, in which no trained weights can
read. Whoever replaces the file has to train every model anew.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mattergen_lite.chemistry.elements import DESCRIPTOR_DIM, element_rows
from mattergen_lite.tensors.shapes import Float

SUBSHELL_CAPACITY = {"s": 2, "p": 6, "d": 10, "f": 14}


def main() -> None:
    """Command line: a file out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    np.save(parser.parse_args().out, descriptors().numpy())


def descriptors() -> Float[Tensor, "101 16"]:
    """Unit descriptor vectors indexed by atomic number; row 0 (padding) is zero.

    Columns are standardised over elements, each group weighted by its size^-1/2, and the whole
    projected on its 16 principal components and normalised to length 1.
    """
    groups = []
    for group in properties():
        standard = (group - group.mean(0)) / group.std(0).clamp(min=1e-6)
        groups.append(standard * group.shape[1] ** -0.5)
    table = torch.cat(groups, dim=1).double()
    _, _, components = torch.linalg.svd(table - table.mean(0), full_matrices=False)
    projected = (table - table.mean(0)) @ components[:DESCRIPTOR_DIM].T
    unit = projected / projected.norm(dim=1, keepdim=True)
    return torch.cat([torch.zeros(1, DESCRIPTOR_DIM), unit.float()])


def properties() -> list[Float[Tensor, "100 F"]]:
    """Four groups of columns: period, group and block (one-hot), valence occupancies."""
    rows = element_rows()
    column = {key: [row[key] for row in rows] for key in ("period", "group", "block")}
    one_hots = [
        torch.tensor([[float(value == level) for level in sorted(set(values))] for value in values])
        for values in column.values()
    ]
    valence = [
        [float(row[shell]) / size for shell, size in SUBSHELL_CAPACITY.items()] for row in rows
    ]
    return [*one_hots, torch.tensor(valence)]


if __name__ == "__main__":
    main()
