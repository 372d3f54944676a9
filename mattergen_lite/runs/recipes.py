"""Calculations of DFT that VASP inputs are written for.

They are pymatgen's input sets, by the name of who publishes with them; `RECIPES` says which, and
what number of each belongs on which hull.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from importlib.resources import files


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One kind of calculation."""

    input_set: str  # of pymatgen
    settings: Mapping[str, str] = field(default_factory=dict)
    pseudopotentials: str  # the set and pymatgen's folder of it
    what: str
    compare: str  # which number, with which hull
    after: str = ""  # recipe whose relaxed crystal it takes; empty for none

    @property
    def order(self) -> str:
        """What to do before the calculation, as a sentence; empty for nothing."""
        before = self.after
        return f" After {before}: replace POSCAR by ../{before}/CONTCAR." if before else ""


def template(name: str) -> str:
    """Text of a file that inputs are made of."""
    folder = files("mattergen_lite") / "assets" / "dft_inputs"
    return (folder / name).read_text(encoding="utf-8")


def _known_recipes() -> dict[str, Recipe]:
    """The recipes; "$mp" and "$r2scan" are the hulls that several belong on."""
    known = json.loads(template("recipes.json"))
    hulls = {f"${name}": text for name, text in known["hulls"].items()}
    return {
        name: Recipe(**{key: hulls.get(str(text), text) for key, text in row.items()})
        for name, row in known["recipes"].items()
    }


RECIPES = _known_recipes()
DEFAULT_RECIPES = ("mp-relax", "matpes-pbe")


def parse_recipes(text: str) -> tuple[str, ...]:
    """Names of recipes from text such as "mp-relax,matpes-r2scan".

    Raises:
        ValueError: For an unknown one.
    """
    return names_among(RECIPES, "recipe", text)


def names_among(known: Collection[str], kind: str, text: str) -> tuple[str, ...]:
    """Names out of text such as "mp-relax,matpes-r2scan", each once.

    Raises:
        ValueError: For an unknown one.
    """
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    for name in names:
        if name not in known:
            raise ValueError(f"unknown {kind} {name!r}: expected some of {', '.join(known)}")
    return names
