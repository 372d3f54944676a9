"""Operations of the 230 space groups, and the names of their settings.

The operations are those of a primitive cell of the standard setting, spglib's first of each group:
unique axis b and cell choice 1 in monoclinic groups, origin choice 1, hexagonal axes for
rhombohedral lattices. `scripts/build_space_groups.py` writes them, so that training needs no
spglib. Names are looked up in the tables of gemmi and spglib.
"""

import re
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from importlib.resources import as_file, files
from typing import TYPE_CHECKING

import numpy as np

from mattergen_lite.tensors.shapes import Float, Int

if TYPE_CHECKING:
    from gemmi import SpaceGroup as Setting

NUM_SPACE_GROUPS = 230
NUM_SETTINGS = 530  # of International Tables, in the order of Hall numbers
MONOCLINIC = range(3, 16)  # numbers
FIRST_CUBIC = 195
_CHOICE = re.compile(r"(?:\s*:\s*|\s+)([12HRSZ])$", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class SpaceGroup:
    """Operations `x -> rotations[g] @ x + translations[g]` on fractional coordinates."""

    number: int
    rotations: Int[np.ndarray, "G 3 3"]  # the identity first
    translations: Float[np.ndarray, "G 3"]  # in [0, 1)
    primitive_cell: Float[np.ndarray, "3 3"]  # rows: its vectors in units of the standard cell's
    hall_number: int  # of the setting

    def images(self, frac_coords: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "G N 3"]:
        """Where each operation takes each point, not wrapped."""
        return frac_coords @ self.rotations.transpose(0, 2, 1) + self.translations[:, None]


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
    """Number of a space group from its number or any symbol that `settings_named` knows.

    Raises:
        ValueError: If no space group has that name.
    """
    word = text.strip()
    if word.isascii() and word.isdecimal() and 1 <= int(word[:4]) <= NUM_SPACE_GROUPS:
        return int(word)
    numbers = {setting.number for setting in settings_named(word)}
    if len(numbers) != 1:
        raise ValueError(
            f"unknown space group {text[:60]!r}: expected a number from 1 to {NUM_SPACE_GROUPS} or "
            "a Hermann-Mauguin symbol such as Fm-3m or P6_3/mmc"
        )
    return numbers.pop()


def settings_named(name: str) -> tuple["Setting", ...]:
    """Settings that a Hermann-Mauguin symbol may stand for; none if it is unknown.

    The symbol is short or full, with or without blanks and underscores, in any case: "P 21/n", "P 1
    21/n 1", "Cmca" or "Cmce", "F d -3 m :2", "R -3 m H" or, as ICSD has it, "F d -3 m Z". Where it
    leaves origin or axes open, settings are several, of monoclinic axes in the order b, c, a.
    """
    names = _settings_by_name()
    choice = _CHOICE.search(name)
    if _plain(name) in names or choice is None:
        return names.get(_plain(name), ())
    origin = {"S": "1", "Z": "2"}.get(choice[1].upper(), choice[1].upper())
    settings = names.get(_plain(name[: choice.start()]), ())
    return tuple(setting for setting in settings if setting.ext == origin)


def settings_numbered(number: int) -> tuple["Setting", ...]:
    """Settings of a space group that International Tables list, by its number."""
    import gemmi

    settings = {
        _plain_hall(setting.hall): setting
        for setting in gemmi.spacegroup_table()
        if setting.number == number
    }
    return tuple(setting for hall, setting in settings.items() if hall in _listed_names())


@cache
def _settings_by_name() -> dict[str, tuple["Setting", ...]]:
    """Settings by plain symbol: names of spglib (Cmce), of gemmi (Cmca, as before 1992; F -1)."""
    import gemmi

    names: dict[str, dict[str, Setting]] = defaultdict(dict)
    unlisted = []
    for setting in gemmi.spacegroup_table():
        listed = _listed_names().get(_plain_hall(setting.hall))
        if listed is None:
            unlisted.append(setting)
            continue
        for text in {*listed, *_gemmi_names(setting)}:
            names[_plain(text)][setting.xhm()] = setting
    known = {*names}
    for setting in unlisted:
        if _plain(setting.hm) not in known:
            names[_plain(setting.hm)][setting.xhm()] = setting

    def axis_rank(setting: "Setting") -> int:
        return "bca".find(setting.monoclinic_unique_axis())

    return {name: tuple(sorted(of.values(), key=axis_rank)) for name, of in names.items()}


@cache
def _listed_names() -> dict[str, list[str]]:
    """Names that spglib has for the settings of International Tables, by Hall symbol."""
    import spglib

    names = {}
    for hall_number in range(1, NUM_SETTINGS + 1):
        group = spglib.get_spacegroup_type(hall_number)
        short = [group.international_short, *group.international.split("=")]
        is_monoclinic = group.number in MONOCLINIC
        names[_plain_hall(group.hall_symbol)] = [
            group.international_full,
            *([] if is_monoclinic else short),
        ]
    return names


def _gemmi_names(setting: "Setting") -> list[str]:
    """Names of a setting, with the short one of a monoclinic and the old one of a cubic group."""
    names = [setting.hm, setting.short_name()]
    if setting.number in MONOCLINIC:  # P 1 21/n 1 is P 21/n
        names.append("".join(part for part in setting.hm.split() if part != "1"))
    if setting.number >= FIRST_CUBIC:  # F m -3 m was F m 3 m
        names.append(setting.hm.replace("-3", "3"))
    return names


def _plain(name: str) -> str:
    """A symbol without blanks, underscores and capitals."""
    return re.sub(r"[\s_]", "", name).casefold()


def _plain_hall(symbol: str) -> str:
    return " ".join(symbol.replace("_", " ").split()).casefold()
