"""Orbits as the columns of a crystal table.

The crystal is described by its space group within 0.1 Å, in the primitive cell of the group's
standard setting: `orbit_space_group` and `orbit_lattice`; for each orbit `orbit_numbers`,
`orbit_coords` (of the representative), `orbit_multiplicities`, `orbit_basis` (rows of free
directions) and `orbit_rotation_types` (how many operations of each kind leave the site in place);
for each atom, orbit by orbit, `orbit_operations`.
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
