"""Describes a crystal table in words and as a figure."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mattergen_lite.chemistry.elements import periodic_table_position, symbols
from mattergen_lite.console import text_table
from mattergen_lite.data.canonical import CORE_SCHEMA
from mattergen_lite.data.table import read_crystal_table
from mattergen_lite.files.folders import atomic_path


@dataclass(frozen=True)
class PropertySummary:
    """Coverage and range of a property column."""

    count: int
    minimum: float
    median: float
    maximum: float


@dataclass(frozen=True)
class DatasetInfo:
    """Counts that describe a crystal table."""

    path: str
    num_crystals: int
    splits: dict[str, int]
    sizes: dict[int, int]  # number of atoms -> crystals
    elements: dict[int, int]  # atomic number -> crystals that contain it
    properties: dict[str, PropertySummary]

    def text(self) -> str:
        """The summary for a terminal."""
        common = sorted(self.elements, key=self.elements.__getitem__, reverse=True)[:12]
        elements = ", ".join(f"{symbols()[number]} {self.elements[number]}" for number in common)
        rows = [
            (
                name,
                str(statistics.count),
                f"{statistics.count / self.num_crystals:.1%}",
                *(
                    f"{value:.4g}"
                    for value in (statistics.minimum, statistics.median, statistics.maximum)
                ),
            )
            for name, statistics in self.properties.items()
        ]
        return "\n".join(
            [
                f"{self.path}: {self.num_crystals} crystals, {len(self.elements)} elements",
                "splits    " + ", ".join(f"{name} {count}" for name, count in self.splits.items()),
                "atoms     " + ", ".join(f"{size}: {n}" for size, n in self.sizes.items()),
                f"elements  {elements}, ...",
                *text_table(rows, ("property", "crystals", "share", "min", "median", "max")),
            ]
        )

    def write_png(self, path: str | Path) -> None:
        """Write the figure, all at once."""
        with atomic_path(path) as temporary:
            self.draw().savefig(temporary, format="png", dpi=150)

    def draw(self) -> "matplotlib.figure.Figure":
        """Figure: elements on the periodic table, sizes, coverage of the properties."""
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator

        figure = Figure(figsize=(12, 9), layout="constrained")
        axes = figure.subplot_mosaic(
            [["elements", "elements"], ["sizes", "properties"]], height_ratios=[3, 2]
        )
        figure.suptitle(f"{Path(self.path).name}: {self.num_crystals:,} crystals")
        draw_elements(axes["elements"], self.elements)
        axes["sizes"].bar(list(self.sizes), list(self.sizes.values()))
        axes["sizes"].xaxis.set_major_locator(MaxNLocator(integer=True))
        axes["sizes"].set(xlabel="atoms in the primitive cell", ylabel="crystals")
        counts = {name: statistics.count for name, statistics in reversed(self.properties.items())}
        bars = axes["properties"].barh(list(counts), list(counts.values()))
        axes["properties"].bar_label(bars, fmt="{:,.0f}", padding=3)
        axes["properties"].set(xlabel="crystals with a value", xlim=(0, 1.2 * self.num_crystals))
        axes["properties"].set_xticks([])
        return figure


def draw_elements(axes: "matplotlib.axes.Axes", counts: Mapping[int, int]) -> None:
    """Heat map of counts by atomic number in the periodic table, the f block below it."""
    grid = np.full((9, 18), np.nan)
    for number, symbol in enumerate(symbols()[1:], start=1):
        line, column = periodic_table_position(number)
        grid[line, column] = counts.get(number, np.nan)
        axes.annotate(symbol, (column, line), ha="center", va="bottom", weight="bold")
        label = f"{counts.get(number, 0):,}"
        axes.annotate(label, (column, line + 0.1), ha="center", va="top", fontsize=7)
    most = max(counts.values(), default=1)
    image = axes.imshow(grid, cmap="YlGnBu", norm="log", alpha=0.7, vmin=1, vmax=max(most, 2))
    decades = (10**power for power in range(len(str(most))))
    ticks = [step * decade for decade in decades for step in (1, 2, 5) if step * decade <= most]
    bar = axes.figure.colorbar(
        image, ax=axes, label="crystals with the element", shrink=0.7, ticks=ticks
    )
    bar.minorticks_off()
    bar.ax.yaxis.set_major_formatter("{x:,.0f}")  # crystals are counted: no 2x10^0
    axes.set_axis_off()


def describe(path: str | Path) -> DatasetInfo:
    """Summarise a crystal table; "embedded" is the one in the package.

    Raises:
        ValueError: If the file is missing or is not a crystal table.
    """
    table = read_crystal_table(path)
    missing = set(CORE_SCHEMA.names) - set(table.column_names)
    if missing:
        raise ValueError(f"{path} is not a crystal table: no columns {', '.join(sorted(missing))}")
    for field in CORE_SCHEMA:
        if not _is_like(table.schema.field(field.name).type, field.type):
            raise ValueError(
                f"{path} is not a crystal table: column {field.name} holds "
                f"{table.schema.field(field.name).type}, expected {field.type}"
            )
    return DatasetInfo(
        path=str(path),
        num_crystals=table.num_rows,
        splits=_value_counts(table["split"]),
        sizes=dict(sorted(_value_counts(table["num_atoms"]).items())),
        elements=_element_counts(table["atomic_numbers"]),
        properties={
            field.name: _summary(table[field.name])
            for field in table.schema
            if pa.types.is_floating(field.type) and field.name not in CORE_SCHEMA.names
        },
    )


def _is_like(given: pa.DataType, expected: pa.DataType) -> bool:
    """Whether a column has values of the expected kind, of whatever width."""
    if pa.types.is_list(expected):
        lists = pa.types.is_list(given) or pa.types.is_large_list(given)
        return lists and _is_like(given.value_type, expected.value_type)
    if pa.types.is_dictionary(given):
        given = given.value_type
    if pa.types.is_large_string(given):
        given = pa.string()
    kinds = (pa.types.is_integer, pa.types.is_floating, pa.types.is_string)
    return any(kind(given) and kind(expected) for kind in kinds)


def _value_counts(column: pa.ChunkedArray) -> dict:
    return {entry["values"]: entry["counts"] for entry in pc.value_counts(column).to_pylist()}


def _element_counts(atomic_numbers: pa.ChunkedArray) -> dict[int, int]:
    crystal = pc.list_parent_indices(atomic_numbers).to_numpy()
    pairs = np.stack([crystal, pc.list_flatten(atomic_numbers).to_numpy()])
    numbers, counts = np.unique(np.unique(pairs, axis=1)[1], return_counts=True)
    return dict(zip(numbers.tolist(), counts.tolist(), strict=True))


def _summary(column: pa.ChunkedArray) -> PropertySummary:
    values = column.drop_null().to_numpy()
    if len(values) == 0:
        return PropertySummary(0, math.nan, math.nan, math.nan)
    return PropertySummary(
        len(values), float(values.min()), float(np.median(values)), float(values.max())
    )
