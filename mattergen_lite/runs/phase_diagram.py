"""Phase diagram of two or three elements: the known stable compounds, their hull, the candidates.

The compounds are those of the embedded reference hull. A candidate stands at its calibrated energy
above the hull, so that the picture says what the table says.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pymatgen.core import Composition, Element
from pymatgen.util.string import latexify

from mattergen_lite.scoring.known.hull import ReferenceHull, reference_hull
from mattergen_lite.tensors.shapes import Float

if TYPE_CHECKING:
    from pymatgen.analysis.phase_diagram import PhaseDiagram

DRAWABLE = (2, 3)  # numbers of elements that fit on paper
SHOWN_UP_TO = 0.3  # eV/atom above the hull, where the colours of a ternary diagram end
_CORNERS = ((-0.02, -0.02, "right"), (1.02, -0.02, "left"), (0.5, 0.89, "center"))


@dataclass(frozen=True, kw_only=True)
class Placed:
    """A candidate on the diagram."""

    formula: str
    e_above_hull: float  # eV/atom
    std: float = 0.0  # its standard error


def stable_phases(elements: Sequence[str], hull: ReferenceHull) -> "PhaseDiagram":
    """The stable compounds of a chemical system, formation energies in eV.

    Raises:
        ValueError: If the reference hull lacks an element.
    """
    from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram  # takes a second

    known = hull.competitors(frozenset(elements))
    compositions = [Composition(formula) for formula in known.formulas]
    entries = [
        PDEntry(composition, float(energy) * composition.num_atoms)
        for composition, energy in zip(compositions, known.energies, strict=True)
    ]
    return PhaseDiagram(entries, elements=[Element(symbol) for symbol in elements])


def draw_phase_diagram(elements: Sequence[str], candidates: Sequence[Placed] = ()) -> Figure:
    """Formation energy against composition for two elements, a Gibbs triangle for three.

    Candidates are made of these elements only.

    Raises:
        ValueError: For another number of elements, or one that the hull lacks.
    """
    if len(set(elements)) not in DRAWABLE:
        raise ValueError(f"{'-'.join(elements)}: expected two or three different elements")
    hull = reference_hull()
    phases = stable_phases(elements, hull)
    figure = Figure(figsize=(4.6, 3.2) if len(elements) == 2 else (5.4, 4.4), layout="constrained")
    draw = _draw_binary if len(elements) == 2 else _draw_ternary
    draw(figure.subplots(), phases, candidates, hull)
    return figure


def _places(
    phases: "PhaseDiagram", compositions: Sequence[Composition]
) -> Float[np.ndarray, "C E"]:
    """Fractions of all elements but the first: the axes of the diagram."""
    rest = phases.elements[1:]
    shares = [
        [composition.get_atomic_fraction(element) for element in rest]
        for composition in compositions
    ]
    return np.array(shares, dtype=float).reshape(-1, len(rest))


def _draw_binary(
    axes: Axes, phases: "PhaseDiagram", candidates: Sequence[Placed], hull: ReferenceHull
) -> None:
    stable = sorted(
        phases.stable_entries, key=lambda phase: _places(phases, [phase.composition])[0, 0]
    )
    x = _places(phases, [entry.composition for entry in stable]).ravel()
    y = [entry.energy_per_atom for entry in stable]
    axes.plot(x, y, "o-", color="black", markersize=4, linewidth=1, label="known, stable")
    for entry, place, energy in zip(stable, x, y, strict=True):
        label = latexify(entry.composition.reduced_formula)
        axes.annotate(label, (place, energy), (0, -11), textcoords="offset points", ha="center")
    compositions = [Composition(candidate.formula) for candidate in candidates]
    heights = [
        hull.decompose(composition).energy_per_atom + candidate.e_above_hull
        for composition, candidate in zip(compositions, candidates, strict=True)
    ]
    if candidates:
        axes.errorbar(
            _places(phases, compositions).ravel(),
            heights,
            yerr=[candidate.std for candidate in candidates],
            fmt="D",
            color="#d55e00",
            ecolor="#e8b08a",
            markersize=4,
            elinewidth=0.8,
            label="candidates",
        )
    axes.margins(y=0.15)
    axes.legend()
    axes.set(
        xlabel=f"fraction of {phases.elements[1].symbol} in "
        f"{'-'.join(element.symbol for element in phases.elements)}",
        ylabel="formation energy (eV/atom)",
    )


def _draw_ternary(
    axes: Axes, phases: "PhaseDiagram", candidates: Sequence[Placed], hull: ReferenceHull
) -> None:
    from pymatgen.analysis.phase_diagram import triangular_coord, uniquelines

    points = triangular_coord(
        _places(phases, [entry.composition for entry in phases.qhull_entries])
    ).T
    for pair in uniquelines(phases.facets):
        axes.plot(*points[list(pair)].T, color="#b8c4cf", linewidth=0.8, zorder=1)
    stable = list(phases.stable_entries)
    places = triangular_coord(_places(phases, [entry.composition for entry in stable])).T
    axes.scatter(*places.T, color="black", s=14, zorder=2, label="known, stable")
    for entry, place in zip(stable, places, strict=True):
        if not entry.is_element:
            label = latexify(entry.composition.reduced_formula)
            axes.annotate(label, place, (4, 3), textcoords="offset points", fontsize=7)
    for (x, y, side), element in zip(_CORNERS, phases.elements, strict=True):
        axes.text(x, y, element.symbol, ha=side, va="center", weight="bold")
    # The lowest comes last, on top of others of its composition.
    candidates = sorted(candidates, key=lambda each: each.e_above_hull, reverse=True)
    if candidates:
        ours = triangular_coord(
            _places(phases, [Composition(candidate.formula) for candidate in candidates])
        )
        marks = axes.scatter(
            *ours,
            c=[candidate.e_above_hull for candidate in candidates],
            vmin=0,
            vmax=SHOWN_UP_TO,
            cmap="viridis",
            marker="D",
            s=26,
            edgecolors="white",
            linewidths=0.5,
            zorder=3,
            label="candidates",
        )
        axes.figure.colorbar(
            marks, ax=axes, label="energy above hull (eV/atom)", extend="both", shrink=0.7
        )
    axes.legend(loc="upper right")
    axes.set_aspect("equal")
    axes.set_axis_off()
