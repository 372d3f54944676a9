"""The comparison of sets as table, document and figure."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure as Drawing

from mattergen_lite.benchmarking.protocols import Figure, Protocol
from mattergen_lite.files.folders import atomic_path, write_text
from mattergen_lite.runs.figures import BLUE, DOTS_PER_INCH, GREY
from mattergen_lite.runs.tables import write_json

RESULT = "benchmark.json"
PANELS_ACROSS = 5
Values = dict[str, float | None]  # figures by name; None where there is none


@dataclass(frozen=True, kw_only=True)
class Line:
    """One row of the comparison."""

    name: str
    num: int | None  # what shares are of; None if it was not published
    judged_by: str
    values: Values
    source: str  # of the crystals; empty if published
    note: str = ""  # what shares leave out


@dataclass(frozen=True, kw_only=True)
class Benchmarked:
    """Outcome of a benchmark."""

    protocol: Protocol
    measured: tuple[Line, ...]
    published: tuple[Line, ...]
    published_source: str
    folder: Path
    note: str = ""  # why columns are empty

    def markdown(self) -> str:
        """The comparison as a document: table, what the columns mean, how it differs."""
        protocol = self.protocol
        sections = [
            f"# {protocol.name}: {protocol.title}",
            f"Defined by {protocol.source}.{_compared(protocol)}",
            "\n".join(_table(protocol.figures, self.measured, self.published)),
            f"Shares are ± one standard error (Agresti-Coull).{self._on_published()}",
            self.note,
            _bullets("Columns", (f"**{f.heading}**: {f.how}" for f in protocol.figures)),
            _bullets("How this differs from the papers", protocol.differences),
            _bullets("Left out", protocol.left_out),
        ]
        return "\n\n".join(filter(None, sections)) + "\n"

    def _on_published(self) -> str:
        """What the published rows are, in words."""
        if not self.published:
            return ""
        warning = " Another potential, hull and set of known structures judged them."
        source = f" Rows in *italics* are published: {self.published_source}."
        return source + (warning if self.protocol.relaxed else "")

    def text(self) -> str:
        """The table for a terminal."""
        lines = _table(self.protocol.figures, self.measured, self.published)
        return "\n".join(filter(None, [*lines, self.note, f"-> {self.folder / 'benchmark.md'}"]))

    def content(self) -> dict[str, object]:
        """Everything as plain data."""
        return {
            "protocol": asdict(self.protocol),
            "note": self.note,
            "measured": [asdict(line) for line in self.measured],
            "published": {
                "source": self.published_source,
                "rows": [asdict(line) for line in self.published],
            },
        }

    def write(self) -> None:
        """Write Markdown, PNG and, last, JSON."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_text(self.markdown(), self.folder / "benchmark.md")
        with atomic_path(self.folder / "benchmark.png") as temporary:
            self.draw().savefig(temporary, format="png", dpi=DOTS_PER_INCH)
        write_json(self.content(), self.folder / RESULT)

    def draw(self) -> Drawing:
        """A panel of bars for every figure that was measured; published rows in grey."""
        lines = [*self.measured, *self.published]
        known = {name for o in self.measured for name, v in o.values.items() if v is not None}
        shown = [quantity for quantity in self.protocol.figures if quantity.name in known]
        across = min(len(shown), PANELS_ACROSS)
        down = math.ceil(len(shown) / across)
        size = (2.4 + 1.7 * across, (0.9 + 0.3 * len(lines)) * down)
        figure = Drawing(figsize=size, layout="constrained")
        grid = figure.subplots(down, across, sharey=True, squeeze=False)
        axes = grid.flat[: len(shown)]
        colours = [BLUE] * len(self.measured) + [GREY] * len(self.published)
        for panel, column in zip(axes, shown, strict=True):
            scale = 100 if column.unit == "%" else 1
            values = [line.values.get(column.name) for line in lines]
            heights = [math.nan if value is None else scale * value for value in values]
            bars = panel.barh(range(len(lines)), np.nan_to_num(heights), color=colours)
            labels = ["" if math.isnan(h) else f"{h:.3g}" for h in heights]
            panel.bar_label(bars, labels, padding=2, fontsize=7)
            panel.set_title(heading(column).replace(", ", ",\n"), fontsize=8)
            panel.tick_params(labelsize=7)
            panel.margins(x=0.3)
            panel.spines[["top", "right"]].set_visible(False)
        for empty in grid.flat[len(shown) :]:
            empty.remove()
        axes[0].set_yticks(range(len(lines)), [line.name for line in lines])
        axes[0].invert_yaxis()  # for all: they share it
        return figure


def heading(figure: Figure) -> str:
    """Heading of a column with the direction that is better."""
    return f"{figure.heading} {'↑' if figure.better == 'higher' else '↓'}"


def _compared(protocol: Protocol) -> str:
    """Which crystals are compared with what, in words."""
    if protocol.novel_against is None:
        return ""
    return (
        f" Uniqueness and novelty are those of the {protocol.compared} crystals, "
        f"novelty against: {protocol.novel_against}."
    )


def _table(
    figures: Sequence[Figure], measured: Sequence[Line], papers: Sequence[Line]
) -> list[str]:
    header = ["set", "crystals", "judged by", *map(heading, figures)]
    rows = [
        [f"{mark}{line.name}{mark}", str(line.num or ""), line.judged_by]
        + [_cell(line, figure) for figure in figures]
        for mark, lines in (("**", measured), ("*", papers))
        for line in lines
    ]
    return [f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *rows)]


def _cell(line: Line, figure: Figure) -> str:
    """A value as it is printed; a share of a known number with its standard error."""
    value = line.values.get(figure.name)
    if value is None:
        return ""
    if figure.unit != "%":
        return f"{value:.3f}"
    if not (line.source and line.num and figure.sampled):  # published: as it was printed
        return f"{100 * value:.3g}"
    return f"{100 * value:.1f} ± {100 * standard_error(value, line.num):.1f}"


def standard_error(share: float, count: int) -> float:
    """Of a share of `count`, with two successes and two failures added: 0 of 5 is not certain."""
    padded = (share * count + 2) / (count + 4)
    return math.sqrt(padded * (1 - padded) / (count + 4))


def _bullets(title: str, items: Iterable[str]) -> str:
    lines = [f"- {item}" for item in items]
    return "\n".join([f"## {title}", "", *lines]) if lines else ""
