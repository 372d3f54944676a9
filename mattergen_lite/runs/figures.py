"""Figures of a set of judged crystals, as files for papers and slides.

Each figure takes the table's rows and is left out if no row has what it shows. matplotlib's
`Figure` is used without pyplot: no window, no list of open figures.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy.stats import norm

from mattergen_lite.chemistry.elements import symbols
from mattergen_lite.console import ProgressBar
from mattergen_lite.data.describe import draw_elements
from mattergen_lite.files.folders import atomic_path
from mattergen_lite.runs.phase_diagram import DRAWABLE, Placed, draw_phase_diagram
from mattergen_lite.runs.tables import deciding_value
from mattergen_lite.scoring.energy.accuracy import METASTABLE
from mattergen_lite.scoring.energy.calibration import UNCALIBRATED
from mattergen_lite.scoring.score import Cell
from mattergen_lite.symmetry.crystal_systems import CRYSTAL_SYSTEMS

Row = Mapping[str, Cell]

DOTS_PER_INCH = 300
FORMATS = ("png", "pdf", "svg")
# Colours that remain apart in print and for colour-blind readers (Okabe & Ito 2008).
BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "#5f6b76"
# Shades of growing probability of lying within the threshold: upper bound and colour.
_PROBABILITIES = ((0.1, "#d9dfe5"), (0.5, "#9ecae1"), (0.9, "#4292c6"), (1.0, "#08519c"))
_STYLE = {
    "font.family": ["DejaVu Sans", "sans-serif"],
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "pdf.fonttype": 42,  # text stays text, which an editor can change
    "svg.fonttype": "none",
    "svg.hashsalt": "mattergen_lite",  # the same figure is the same file
}
_PASSING = "crystals that pass this stage and those before"
_WHOLE = partial(MaxNLocator, integer=True, steps=[1, 2, 5, 10])
_THRESHOLD = {"color": ORANGE, "linewidth": 1.2, "linestyle": "--"}
_NO_DATE = {"png": {}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}


def write_figures(
    folder: Path, rows: Sequence[Row], figures: Mapping[str, object] | None = None
) -> list[Path]:
    """Draw every figure that there are values for, as PNG, PDF and SVG; returns the files.

    A figure of an earlier run that these rows have nothing for is removed: it would show others.
    `figures` are those of the whole set, such as `funnel`, numbers of crystals by stage.
    """
    passed = (figures or {}).get("funnel")
    drawings: dict[str, Callable[[Sequence[Row]], Figure | None]] = {
        "funnel": lambda _: _bars(passed, _PASSING) if passed else None,
        **{draw.__name__[1:]: draw for draw in _OF_ROWS},
    }
    with matplotlib.rc_context(_STYLE):
        drawn = [
            _write(draw(rows), folder / name)
            for name, draw in ProgressBar(drawings.items(), desc="drawing figures")
        ]
    return [path for paths in drawn for path in paths]


def figures_in(folder: Path) -> list[Path]:
    """Files that `write_figures` has written into a folder, in its order."""
    names = ["funnel", *(draw.__name__[1:] for draw in _OF_ROWS)]
    paths = [folder / f"{name}.{kind}" for name in names for kind in FORMATS]
    return [path for path in paths if path.exists()]


def _write(figure: Figure | None, stem: Path) -> list[Path]:
    """Write a figure in every format, or remove the files of an earlier one."""
    paths = {kind: stem.with_suffix(f".{kind}") for kind in FORMATS}
    for kind, path in paths.items():
        if figure is None:
            path.unlink(missing_ok=True)
            continue
        with atomic_path(path) as temporary:
            options = {"format": kind, "dpi": DOTS_PER_INCH, "metadata": _NO_DATE[kind]}
            figure.savefig(temporary, **options)
        figure.set_layout_engine("none")  # the places of the first drawing are those of all
    return [] if figure is None else list(paths.values())


def numbers(rows: Sequence[Row], *columns: str) -> np.ndarray:
    """Values of columns, one row each, of the rows that have finite numbers in all of them."""
    values = [[row.get(column) for column in columns] for row in rows]
    complete = [
        line
        for line in values
        if all(isinstance(v, int | float) and math.isfinite(v) for v in line)
    ]
    return np.array(complete, dtype=float).reshape(-1, len(columns))


def element_counts(rows: Sequence[Row]) -> dict[int, int]:
    """How many crystals contain each element, by atomic number."""
    known = {symbol: number for number, symbol in enumerate(symbols()) if number}
    systems = [str(row.get("chemical_system") or "").split("-") for row in rows]
    return dict(Counter(known[s] for system in systems for s in set(system) if s in known))


def _bars(counts: Mapping[str, int], label: str) -> Figure:
    figure, axes = _single(height=0.9 + 0.26 * len(counts))
    names = [name.replace("_", " ") for name in counts]
    axes.bar_label(axes.barh(names, list(counts.values()), color=BLUE), padding=3, fontsize=8)
    axes.invert_yaxis()
    axes.xaxis.set_major_locator(_WHOLE())
    axes.set_xlabel(label)
    return figure


def _histogram(axes: Axes, values: np.ndarray, label: str, bins: np.ndarray | None = None) -> None:
    edges = _bins(values) if bins is None else bins
    axes.hist(values, bins=edges, color=BLUE, edgecolor="white", linewidth=0.5)
    axes.yaxis.set_major_locator(_WHOLE())
    axes.set(xlabel=label, ylabel="crystals")


def _single(width: float = 4.6, height: float = 3.2) -> tuple[Figure, Axes]:
    """A figure with one set of axes; inches, one column of an article wide."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def _bins(values: np.ndarray, most: int = 40) -> np.ndarray:
    """Edges of histogram bins of round width, finer for more values."""
    wanted = min(most, max(8, round(2 * len(values) ** 0.5)))
    return MaxNLocator(nbins=wanted, steps=[1, 2, 2.5, 5, 10]).tick_values(
        values.min(), values.max()
    )


def _hull_bins(energies: np.ndarray, most: int = 40) -> np.ndarray:
    """Edges of histogram bins of energies above the hull, one at the limit of metastability."""
    narrow = METASTABLE / 2
    width = narrow * max(1, np.ceil(np.ptp(energies) / narrow / most))
    first = np.floor((energies.min() - METASTABLE) / width)
    last = np.floor((energies.max() - METASTABLE) / width) + 1
    return METASTABLE + width * np.arange(first, last + 1)


def _hull_label(rows: Sequence[Row]) -> str:
    """Of an axis; says where the errors of the potential are unknown."""
    doubt = any(row.get("calibration") == UNCALIBRATED for row in rows)
    return f"energy above hull (eV/atom{f', {UNCALIBRATED}' if doubt else ''})"


def _hull_distance(rows: Sequence[Row]) -> Figure | None:
    """Histogram of energies above the hull, shaded by the probability of being metastable."""
    values = numbers(rows, "e_above_hull", "probability_metastable")
    if not len(values):
        return None
    energies, probabilities = values.T
    figure, axes = _single()
    upper = [bound for bound, _ in _PROBABILITIES]
    shade = np.searchsorted(upper, probabilities).clip(max=len(upper) - 1)
    lower = [0.0, *upper[:-1]]
    axes.hist(
        [energies[shade == i] for i in range(len(upper))],
        bins=_hull_bins(energies),
        stacked=True,
        color=[colour for _, colour in _PROBABILITIES],
        edgecolor="white",
        linewidth=0.5,
        label=[f"{a:.0%} to {b:.0%}" for a, b in zip(lower, upper, strict=True)],
    )
    axes.axvline(0, color=GREY, linewidth=0.8)
    axes.axvline(METASTABLE, **_THRESHOLD)
    axes.set(xlabel=_hull_label(rows), ylabel="crystals")
    axes.yaxis.set_major_locator(_WHOLE())
    axes.legend(title=f"probability of ≤ {METASTABLE:g} eV/atom", title_fontsize=8)
    expected = f"{probabilities.sum():.1f} of {len(energies)} expected ≤ {METASTABLE:g} eV/atom"
    axes.set_title(expected, fontsize=9, loc="left")
    return figure


def _cumulative_energy(rows: Sequence[Row]) -> Figure | None:
    """How many crystals lie at or below an energy above the hull, counted and expected."""
    values = numbers(rows, "e_above_hull", "e_above_hull_std")
    if not len(values):
        return None
    energies, errors = values.T
    low, high = min(-METASTABLE, energies.min()), max(3 * METASTABLE, np.median(energies))
    grid = np.linspace(low, high, 300)
    standard = (grid[:, None] - energies) / np.maximum(errors, 1e-3)
    figure, axes = _single()
    axes.step(
        [low, *np.sort(energies), max(high, energies.max())],
        [0, *range(1, len(energies) + 1), len(energies)],
        where="post",
        color=BLUE,
        linewidth=1.2,
        label="most likely energies",
    )
    axes.plot(grid, norm.cdf(standard).sum(1), color=GREY, label="expected, with their errors")
    axes.axvline(METASTABLE, **_THRESHOLD)
    axes.set(
        xlabel=_hull_label(rows),
        ylabel=f"crystals at or below, of {len(energies)}",
        xlim=(low, high),
        ylim=(0, None),
    )
    axes.yaxis.set_major_locator(_WHOLE())
    axes.legend(loc="upper left")
    return figure


def _formation_energy(rows: Sequence[Row]) -> Figure | None:
    """Energy above the hull with its standard error against formation energy."""
    values = numbers(rows, "formation_energy_per_atom", "e_above_hull", "e_above_hull_std")
    if not len(values):
        return None
    formation, above, error = values.T
    figure, axes = _single()
    axes.errorbar(
        formation, above, yerr=error, fmt="o", color=BLUE, ecolor="#b8c4cf", ms=3.5, elinewidth=0.8
    )
    axes.axhline(0, color=GREY, linewidth=0.8)
    axes.axhline(METASTABLE, **_THRESHOLD)
    axes.set(xlabel="formation energy (eV/atom)", ylabel=_hull_label(rows))
    return figure


def _elements(rows: Sequence[Row]) -> Figure | None:
    """Periodic table coloured by the number of crystals with each element."""
    counts = element_counts(rows)
    if not counts:
        return None
    figure, axes = _single(width=10.0, height=4.6)
    draw_elements(axes, counts)
    return figure


def _crystal_systems(rows: Sequence[Row]) -> Figure | None:
    """Bars of the seven crystal systems, of relaxed crystals if any were relaxed."""
    relaxed = [row for row in rows if row.get("relaxed_crystal_system")]
    column = "relaxed_crystal_system" if relaxed else "crystal_system"
    occurring = Counter(row.get(column) for row in rows)
    counts = {system: occurring[system] for system in CRYSTAL_SYSTEMS}
    when = "after relaxation" if relaxed else "as they came"
    return _bars(counts, f"crystals, symmetry {when}") if any(counts.values()) else None


def _density(rows: Sequence[Row]) -> Figure | None:
    units = {"density": "g/cm³", "volume_per_atom": "Å³"}
    columns = {column: numbers(rows, column).ravel() for column in units}
    if not all(map(len, columns.values())):
        return None
    figure = Figure(figsize=(7.2, 3.0), layout="constrained")
    for axes, (column, values) in zip(figure.subplots(1, 2), columns.items(), strict=True):
        # A few exploded cells would squeeze all others into one bin: they are counted in words.
        shown = values[values <= 3 * np.percentile(values, 95)]
        _histogram(axes, shown, f"{column.replace('_', ' ')} ({units[column]})")
        axes.axvline(np.median(values), color=ORANGE, linewidth=1.2)
        beyond = f", {len(values) - len(shown)} beyond" if len(values) > len(shown) else ""
        title = f"median {np.median(values):.3g} {units[column]}{beyond}"
        axes.set_title(title, fontsize=9, loc="left")
    return figure


def _targets(rows: Sequence[Row]) -> Figure | None:
    """What was asked for beside what came out, a panel a property that is a number."""
    columns = dict.fromkeys(column for row in rows for column in row)
    names = [name.removeprefix("target_") for name in columns if name.startswith("target_")]
    asked = {
        name: numbers(
            [{**row, "deciding": deciding_value(row, name)} for row in rows],
            *(f"target_{name}", "deciding"),
        )
        for name in names
    }
    asked = {name: values for name, values in asked.items() if len(values)}
    if not asked:
        return None
    figure = Figure(figsize=(max(4.6, 3.6 * len(asked)), 3.2), layout="constrained")
    panels = figure.subplots(1, len(asked), squeeze=False)[0]
    for axes, (name, (targets, measured)) in zip(
        panels, ((name, values.T) for name, values in asked.items()), strict=True
    ):
        bins = _bins(np.concatenate([targets, measured]))
        _histogram(axes, measured, name.replace("_", " "), bins)
        if np.ptp(targets) > 0:
            axes.hist(targets, bins=bins, histtype="step", color=ORANGE, linewidth=1.4)
        else:
            axes.axvline(targets[0], **_THRESHOLD)
        error = np.abs(measured - targets).mean()
        title = f"blue found, orange target: mean distance {error:.3g}"
        axes.set_title(title, fontsize=8, loc="left")
    return figure


def _phase_diagram(rows: Sequence[Row]) -> Figure | None:
    """The best candidate of each composition among the known phases of two or three elements."""
    judged = [row for row in rows if len(numbers([row], "e_above_hull", "e_above_hull_std"))]
    judged.sort(key=lambda row: float(row["e_above_hull"]), reverse=True)
    placed = [*{row["formula"]: row for row in judged}.values()]  # of equal keys the last counts
    systems = [str(row.get("chemical_system") or "").split("-") for row in placed]
    elements = sorted({symbol for system in systems for symbol in system})
    if len(elements) not in DRAWABLE:
        return None
    return draw_phase_diagram(
        elements,
        [
            Placed(
                formula=str(row["formula"]),
                e_above_hull=float(row["e_above_hull"]),
                std=float(row["e_above_hull_std"]),
            )
            for row in placed
        ],
    )


_OF_ROWS = (
    *(_hull_distance, _cumulative_energy, _formation_energy, _elements),
    *(_crystal_systems, _density, _targets, _phase_diagram),
)
