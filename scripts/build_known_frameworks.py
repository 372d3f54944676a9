"""Write the frameworks of all embedded crystals into the package (some 6 core minutes).

    python scripts/build_known_frameworks.py

Protostructures are those at both tolerances of the table, 0.1 and 0.01 Å, where they differ. Of a
chiral crystal that of the mirror image is known, too.
"""

from pathlib import Path

import numpy as np
from tqdm import tqdm

from mattergen_lite.data.dataset import OrbitDataset
from mattergen_lite.data.table import EMBEDDED, UNITS, read_crystal_table
from mattergen_lite.scoring.criteria.symmetry import MIRROR_IMAGES
from mattergen_lite.symmetry.columns import ORBIT_TYPES
from mattergen_lite.symmetry.detection import SYMPREC_RELAXED
from mattergen_lite.symmetry.frameworks import (
    average_minimum_distances,
    stoichiometry_digest,
)
from mattergen_lite.symmetry.orbits import find_orbits
from mattergen_lite.symmetry.protostructures import Protostructure, protostructure
from mattergen_lite.symmetry.wyckoff import wyckoff_positions

OUT = Path(__file__).parents[1] / "mattergen_lite" / "assets" / "known_frameworks.npz"
# Groups that a mirror turns into another one.
CHIRAL = {*MIRROR_IMAGES, *MIRROR_IMAGES.values()}


def _class_sizes(label: Protostructure) -> list[int]:
    multiplicity = wyckoff_positions(label.space_group).multiplicity
    return [int(multiplicity[list(sites)].sum()) for sites in label.classes]


def main() -> None:
    """Label every crystal; describe for each protostructure its most stable crystal."""
    columns = ["num_atoms", "space_group", "atomic_numbers", "frac_coords", "lattice"]
    table = read_crystal_table(EMBEDDED, [*columns, *UNITS, *ORBIT_TYPES])
    crystals = OrbitDataset.from_table(table)
    energies = np.nan_to_num(crystals.columns["e_above_hull"].numpy(), nan=np.inf)
    at_small_tolerance = table["space_group"].to_numpy()
    cells = [table[name] for name in columns[2:]]

    def cell(row: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        numbers, coords, lattice = (np.array(column[row].as_py()) for column in cells)
        return numbers, coords.reshape(-1, 3).astype(float), lattice.reshape(3, 3).astype(float)

    examples: dict[Protostructure, int] = {}
    digests: set[int] = set()
    for row in tqdm(range(len(table)), mininterval=5):
        label = protostructure(crystals.orbits(row))
        if label not in examples or energies[row] < energies[examples[label]]:
            examples[label] = row
        numbers, coords, lattice = cell(row) if label.space_group in CHIRAL else (None,) * 3
        if numbers is not None:
            digests.add(protostructure(find_orbits(numbers, -coords, lattice, 0.1)).digest)
        if label.space_group != at_small_tolerance[row]:
            digests.add(protostructure(find_orbits(*cell(row), SYMPREC_RELAXED)).digest)
    labels = sorted(examples)
    fingerprints = [average_minimum_distances(*cell(examples[label])[1:]) for label in labels]
    np.savez_compressed(
        OUT,
        digests=np.array(sorted(digests | {label.digest for label in labels}), np.int64),
        rows=np.array([examples[label] for label in labels], np.int32),
        stoichiometries=np.array([stoichiometry_digest(_class_sizes(label)) for label in labels]),
        fingerprints=np.array(fingerprints, np.float16),
    )


if __name__ == "__main__":
    main()
