"""A set of compositions beside the known ones: what a reviewer asks of a large generated set.

Cheetham & Seshadri (Chem. Mater. 2024, 36, 3490) found GNoME's set to be mostly intermetallic, full
of dopant-like compositions and of rare elements, and only 7.8% of it in known chemical systems.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pymatgen.core import Composition, Element

from mattergen_lite.chemistry.elements import periodic_table_position, symbols
from mattergen_lite.console import text_table
from mattergen_lite.files.folders import atomic_path
from mattergen_lite.scoring.criteria.credibility import (
    is_all_metal,
    is_dopant_like,
    members,
)
from mattergen_lite.scoring.known.reference import (
    CompositionKey,
    Reference,
    composition_key,
    system_key,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage

# Column names of the audit, each with what a composition must do to count.
_TRAITS: dict[str, Callable[[Composition], bool]] = {
    "all metal": lambda composition: len(composition) > 1 and is_all_metal(composition),
    "dopant-like": is_dopant_like,
    "radioactive": lambda composition: bool(members(composition, "radioactive")),
    "scarce element": lambda composition: bool(members(composition, "scarce")),
}
UNSEEN_SYSTEM = "unseen chemical system"
NUM_LISTED = 10  # elements listed at either end of the table
MIN_SHARE = 0.002  # in either set, for an element to be listed


@dataclass(frozen=True, kw_only=True)
class Audit:
    """Shares in 0..1 of the structures of a set and of the reference."""

    num_structures: int
    reference_name: str
    traits: dict[str, tuple[float, float]]  # trait -> share in the set, share in the reference
    element_shares: dict[str, tuple[float, float]]  # symbol -> share of structures that contain it

    @cached_property
    def overrepresentation(self) -> dict[str, float]:
        """log2 of an element's share in the set over its share in the reference, largest first."""
        floor = 1 / max(self.num_structures, 1)  # one structure: an absent element is not -infinity
        ratios = {
            symbol: float(np.log2(max(share, floor) / max(known, floor)))
            for symbol, (share, known) in self.element_shares.items()
            if max(share, known) >= MIN_SHARE
        }
        return dict(sorted(ratios.items(), key=lambda pair: -pair[1]))

    def text(self) -> str:
        """A table: traits, then the most over- and under-represented elements."""
        rows = [(name, f"{a:.1%}", f"{b:.1%}", "") for name, (a, b) in self.traits.items()]
        rows.append(("element", "set", "known", "log2"))
        ranked = list(self.overrepresentation)
        for symbol in dict.fromkeys([*ranked[:NUM_LISTED], *ranked[-NUM_LISTED:]]):
            share, known = self.element_shares[symbol]
            ratio = self.overrepresentation[symbol]
            rows.append((symbol, f"{share:.1%}", f"{known:.1%}", f"{ratio:+.1f}"))
        title = f"{self.num_structures} structures beside {self.reference_name}"
        return "\n".join([title, *text_table(rows, ("", "set", "known", ""))])

    def write_png(self, path: Path) -> None:
        """Bars of the traits and a periodic table coloured by over-representation."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(15, 5), layout="constrained")
        bars, table = figure.subplots(1, 2, width_ratios=[1, 2.4])
        _draw_traits(bars, self.traits)
        image = _draw_periodic_table(table, self.overrepresentation)
        figure.colorbar(image, ax=table, label="log2(share in the set / share known)", shrink=0.8)
        figure.suptitle(f"{self.num_structures} structures beside {self.reference_name}")
        with atomic_path(path) as temporary:
            figure.savefig(temporary, format="png", dpi=150)


def audit(compositions: Iterable[Composition], reference: Reference) -> Audit:
    """Compare the compositions of a set of structures with the reference.

    Raises:
        ValueError: If the set is empty.
    """
    keys = [composition_key(_atomic_numbers(composition)) for composition in compositions]
    if not keys:
        raise ValueError("nothing to audit: expected at least one composition")
    counts = Counter(keys)
    known = Counter({key: len(rows) for key, rows in reference.rows_of_composition.items()})
    unseen = sum(
        number
        for key, number in counts.items()
        if system_key(key) not in reference.compositions_of_system
    )
    traits, known_traits = _trait_shares(counts), _trait_shares(known)
    elements, known_elements = _element_shares(counts), _element_shares(known)
    symbols = sorted({*elements, *known_elements}, key=lambda symbol: Element(symbol).Z)
    return Audit(
        num_structures=len(keys),
        reference_name=reference.name,
        traits={
            **{name: (traits[name], known_traits[name]) for name in _TRAITS},
            UNSEEN_SYSTEM: (unseen / len(keys), 0.0),
        },
        element_shares={s: (elements.get(s, 0.0), known_elements.get(s, 0.0)) for s in symbols},
    )


def _atomic_numbers(composition: Composition) -> list[int]:
    """Z of every atom of a formula unit."""
    reduced = composition.element_composition.reduced_composition
    return [element.Z for element, count in reduced.items() for _ in range(round(count))]


def _trait_shares(counts: Counter[CompositionKey]) -> dict[str, float]:
    having: Counter[str] = Counter()
    for key, number in counts.items():
        composition = Composition({Element.from_Z(z): count for z, count in key})
        having.update(
            {name: number for name, has_trait in _TRAITS.items() if has_trait(composition)}
        )
    return {name: having[name] / counts.total() for name in _TRAITS}


def _element_shares(counts: Counter[CompositionKey]) -> dict[str, float]:
    containing: Counter[int] = Counter()
    for key, number in counts.items():
        containing.update(dict.fromkeys(system_key(key), number))
    return {Element.from_Z(z).symbol: n / counts.total() for z, n in containing.items()}


def _draw_traits(axes: "Axes", traits: dict[str, tuple[float, float]]) -> None:
    """Horizontal bars: each trait's share in the set and in the reference."""
    names = list(traits)
    rows = np.arange(len(names))
    for offset, label, which in ((-0.2, "set", 0), (0.2, "known", 1)):
        shares = [100 * traits[name][which] for name in names]
        axes.barh(rows + offset, shares, height=0.38, label=label)
    axes.set_yticks(rows, names)
    axes.invert_yaxis()
    axes.set_xlabel("% of structures")
    axes.legend()


def _draw_periodic_table(axes: "Axes", values: dict[str, float]) -> "AxesImage":
    """A value per element as colour, grey where there is none; the f block below."""
    limit = max((abs(value) for value in values.values()), default=0.0) or 1.0
    grid = np.full((9, 18), np.nan)
    for number, symbol in enumerate(symbols()[1:], start=1):
        row, column = periodic_table_position(number)
        grid[row, column] = values.get(symbol, np.nan)
        ink = "white" if abs(values.get(symbol, 0)) > 0.7 * limit else "black"
        axes.text(column, row, symbol, ha="center", va="center", fontsize=9, color=ink)
    axes.set_axis_off()
    return axes.imshow(grid, cmap="RdBu_r", vmin=-limit, vmax=limit)
