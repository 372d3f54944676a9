"""Writes orbits as the columns of a crystal table.

The crystal is described by its space group within 0.1 Å, in the primitive cell of the group's
standard setting. Of each orbit there are coordinates of the representative, rows of free directions
(`orbit_basis`) and how many operations of each kind leave it in place (`orbit_rotation_types`); of
each atom, orbit by orbit, its operation.
"""

import numpy as np
import pyarrow as pa

from mattergen_lite.symmetry.orbits import Orbits, site_symmetry

ORBIT_TYPES = {
    "orbit_space_group": pa.int16(),
    "orbit_lattice": pa.list_(pa.float32()),
    "orbit_numbers": pa.list_(pa.int8()),
    "orbit_coords": pa.list_(pa.float32()),
    "orbit_multiplicities": pa.list_(pa.int8()),
    "orbit_operations": pa.list_(pa.int8()),
    "orbit_basis": pa.list_(pa.int8()),
    "orbit_rotation_types": pa.list_(pa.int8()),
}


def orbit_columns(orbits: Orbits) -> dict[str, object]:
    """The part of a table row that describes a crystal by its orbits."""
    basis, rotation_types = site_symmetry(orbits.space_group, orbits.frac_coords)
    return {
        "orbit_space_group": orbits.space_group,
        "orbit_lattice": orbits.lattice.ravel().tolist(),
        "orbit_numbers": orbits.atomic_numbers.tolist(),
        "orbit_coords": orbits.frac_coords.ravel().tolist(),
        "orbit_multiplicities": orbits.multiplicities.tolist(),
        "orbit_operations": np.concatenate(orbits.operations).tolist(),
        "orbit_basis": basis.ravel().tolist(),
        "orbit_rotation_types": rotation_types.ravel().tolist(),
    }
