"""Write the operations of all 230 space groups into the package.

    python scripts/build_space_groups.py

Every group is in its standard setting as spglib numbers them (the first Hall number of the group:
unique axis b, cell choice 1, origin choice 1, hexagonal axes) and in a primitive cell of it.
"""

from pathlib import Path

import numpy as np
import spglib

OUT = Path(__file__).parents[1] / "mattergen_lite" / "assets" / "space_groups.npz"
MAX_OPERATIONS = 48
# Rows: primitive vectors in units of the conventional ones, by the kind of centring.
PRIMITIVE_CELLS = {
    "P": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "C": [[1 / 2, -1 / 2, 0], [1 / 2, 1 / 2, 0], [0, 0, 1]],
    "A": [[1, 0, 0], [0, 1 / 2, -1 / 2], [0, 1 / 2, 1 / 2]],
    "I": [[-1 / 2, 1 / 2, 1 / 2], [1 / 2, -1 / 2, 1 / 2], [1 / 2, 1 / 2, -1 / 2]],
    "F": [[0, 1 / 2, 1 / 2], [1 / 2, 0, 1 / 2], [1 / 2, 1 / 2, 0]],
    "R": [[2 / 3, 1 / 3, 1 / 3], [-1 / 3, 1 / 3, 1 / 3], [-1 / 3, -2 / 3, 1 / 3]],
}


def standard_hall_number(space_group: int) -> int:
    """First Hall number of a space group."""
    halls = range(1, 531)
    return next(hall for hall in halls if spglib.get_spacegroup_type(hall).number == space_group)


def primitive_operations(hall_number: int, cell: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Operations x -> R x + t in a primitive cell, the identity first."""
    standard = spglib.get_symmetry_from_database(hall_number)
    to_primitive = np.linalg.inv(cell).T  # x_primitive = to_primitive @ x_conventional
    rotations = np.rint(to_primitive @ standard["rotations"] @ cell.T).astype(np.int8)
    translations = standard["translations"] @ to_primitive.T
    translations -= np.floor(translations + 1e-6)
    keys = np.concatenate(
        [rotations.reshape(-1, 9), np.rint(translations * 144).astype(int) % 144], axis=1
    )
    _, first = np.unique(keys, axis=0, return_index=True)
    kept = np.sort(first)
    return rotations[kept], np.rint(translations[kept] * 144) / 144


def main() -> None:
    """Write rotations [231, 48, 3, 3], translations [231, 48, 3], counts and cells."""
    rotations = np.zeros((231, MAX_OPERATIONS, 3, 3), np.int8)
    translations = np.zeros((231, MAX_OPERATIONS, 3))
    counts, cells = np.zeros(231, np.int64), np.zeros((231, 3, 3))
    halls = np.zeros(231, np.int64)
    for number in range(1, 231):
        halls[number] = standard_hall_number(number)
        kind = spglib.get_spacegroup_type(int(halls[number])).international_short[0]
        cells[number] = PRIMITIVE_CELLS[kind]
        matrices, shifts = primitive_operations(int(halls[number]), cells[number])
        counts[number] = len(matrices)
        rotations[number, : len(matrices)] = matrices
        translations[number, : len(matrices)] = shifts
    np.savez_compressed(
        OUT,
        rotations=rotations,
        translations=translations,
        num_operations=counts,
        primitive_cells=cells,
        hall_numbers=halls,
    )
    print(f"{OUT.name}: {OUT.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
