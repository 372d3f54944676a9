"""Operations of the 230 space groups, each in a primitive cell of its standard setting.

The setting is spglib's first of each group: unique axis b and cell choice 1 in monoclinic groups,
origin choice 1, hexagonal axes for rhombohedral lattices. `scripts/build_space_groups.py` writes
the file that is read here, so that training needs no spglib.
"""

from dataclasses import dataclass
from functools import cache
from importlib.resources import as_file, files

import numpy as np

from mattergen_lite.shapes import Float, Int

NUM_SPACE_GROUPS = 230


@dataclass(frozen=True, kw_only=True)
class SpaceGroup:
    """Operations `x -> rotations[g] @ x + translations[g]` on fractional coordinates."""

    number: int
    rotations: Int[np.ndarray, "G 3 3"]  # the identity first
    translations: Float[np.ndarray, "G 3"]  # in [0, 1)
    primitive_cell: Float[np.ndarray, "3 3"]  # rows: its vectors in units of the standard cell's
    hall_number: int  # of the setting


@cache
def space_group_tables() -> dict[str, np.ndarray]:
    """Arrays of all groups, index = number: rotations [231, 48, 3, 3], translations, ..."""
    with as_file(files("mattergen_lite") / "assets" / "space_groups.npz") as path:
        tables = dict(np.load(path))
    counts = np.maximum(tables["num_operations"], 1)[:, None, None]
    return tables | {"mean_rotations": tables["rotations"].sum(axis=1) / counts}


@cache
def space_group(number: int) -> SpaceGroup:
    """One space group by its international number.

    Raises:
        ValueError: If there is no such group.
    """
    if not 1 <= number <= NUM_SPACE_GROUPS:
        raise ValueError(f"space group {number}: expected 1 to {NUM_SPACE_GROUPS}")
    tables = space_group_tables()
    count = int(tables["num_operations"][number])
    return SpaceGroup(
        number=number,
        rotations=tables["rotations"][number, :count].astype(int),
        translations=tables["translations"][number, :count],
        primitive_cell=tables["primitive_cells"][number],
        hall_number=int(tables["hall_numbers"][number]),
    )


def space_group_number(text: str) -> int:
    """Number of a space group from its number or its Hermann-Mauguin symbol.

    Args:
        text: Such as "225", "Fm-3m", "fm-3m", "P6_3/mmc", "P63/mmc" or "P2_1/n", in any case, of
            any setting of International Tables that spglib lists.

    Raises:
        ValueError: If there is no such group.
    """
    word = text.strip()
    if word.isascii() and word.isdecimal() and 1 <= int(word[:4]) <= NUM_SPACE_GROUPS:
        return int(word)
    try:
        return _symbols()[_plain_symbol(word)]
    except KeyError:
        raise ValueError(
            f"unknown space group {text[:60]!r}: expected a number from 1 to {NUM_SPACE_GROUPS} or "
            "a Hermann-Mauguin symbol such as Fm-3m or P6_3/mmc"
        ) from None


@cache
def _symbols() -> dict[str, int]:
    """Numbers by symbol without blanks, underscores and capitals; no two groups share one."""
    import spglib

    found: dict[str, int] = {}
    for hall_number in range(1, 531):
        group = spglib.get_spacegroup_type(hall_number)
        full = group.international_full.split()
        texts = [group.international_short, group.international_full]
        texts += group.international.split("=")
        if len(full) == 4 and full[1] == full[3] == "1":  # monoclinic: "P 1 2_1/n 1" is P2_1/n
            texts.append(full[0] + full[2])
        found |= {_plain_symbol(text): group.number for text in texts}
    return found


def _plain_symbol(text: str) -> str:
    return "".join(text.split()).replace("_", "").casefold()
