"""Training crystals with less symmetry than they have, as rows of a table."""

import numpy as np
import pyarrow as pa
import spglib

from mattergen_lite.console import ProgressBar
from mattergen_lite.data.dataset import OrbitDataset
from mattergen_lite.symmetry.columns import ORBIT_TYPES, orbit_columns
from mattergen_lite.symmetry.orbits import Orbits, p1_orbits
from mattergen_lite.symmetry.space_groups import space_group
from mattergen_lite.symmetry.subgroups import orbits_in_subgroup, random_subgroup


def view_columns(table: pa.Table, share: float, max_orbits: int, seed: int) -> pa.Table:
    """Orbit columns of a random share of the crystals of a table, under random subgroups.

    Every other one is shown without any symmetry. Views with more than `max_orbits` are left out.

    Returns:
        The columns `orbit_*` and `row`, the number of the crystal in the table.
    """
    data = OrbitDataset.from_table(table)
    rng = np.random.default_rng([seed, 2])
    rows = []
    for row in ProgressBar(
        np.flatnonzero(rng.random(len(data)) < share).tolist(), desc="views", disable=None
    ):
        view = reduced(data.orbits(row), rng)
        if view is not None and len(view.operations) <= max_orbits:
            rows.append({"row": row, **orbit_columns(view)})
    return pa.Table.from_pylist(rows, schema=pa.schema({"row": pa.int64(), **ORBIT_TYPES}))


def reduced(orbits: Orbits, rng: np.random.Generator) -> Orbits | None:
    """A crystal as orbits of P1 or of a random subgroup; None if it has no symmetry to lose."""
    if orbits.space_group == 1:
        return None
    if rng.random() < 0.5:
        return without_symmetry(orbits)
    group = space_group(orbits.space_group)
    operations = random_subgroup(group, rng)
    if len(operations) == len(group.rotations):
        return None
    try:
        return orbits_in_subgroup(orbits, operations, rng)
    except ValueError:  # the marker that finds the setting fell on a special position
        return None


def without_symmetry(orbits: Orbits) -> Orbits:
    """A crystal in its Niggli cell, every atom an orbit."""
    numbers, coords = orbits.expand()
    cell = spglib.niggli_reduce(orbits.lattice)
    if cell is None:
        cell = orbits.lattice
    return p1_orbits(numbers, coords @ orbits.lattice @ np.linalg.inv(cell), cell)
