"""Prints tables and the progress of long work."""

import sys
from collections.abc import Sequence
from io import StringIO

from tqdm import tqdm

EVERY = 30.0  # s between lines
NOTHING_SAID = 5.0  # s of work about which a log says nothing


class ProgressBar(tqdm):
    """tqdm's bar in a terminal, else lines such as "relax: 12 of 64, 03:10, 13:42 left".

    Takes what tqdm takes; `disable=None` stands for False, since a log is no reason to be silent.
    """

    def __init__(self, *arguments: object, **options: object) -> None:
        stream = options.get("file") or sys.stderr
        self.in_lines = not stream.isatty()
        options["disable"] = bool(options.get("disable"))
        if self.in_lines:
            options |= {"mininterval": EVERY, "maxinterval": EVERY, "leave": False}
        super().__init__(*arguments, **options)

    def display(self, msg: str | None = None, pos: int | None = None) -> bool:
        """Draw the bar, or write a line if there is news."""
        if not self.in_lines:
            return super().display(msg, pos)
        if msg != "" and self.n > self.initial:  # neither cleared nor just begun
            self._say()
        return False

    def close(self) -> None:
        """End; a log hears how much was done, unless that was over at once."""
        if self.in_lines and not self.disable and self.format_dict["elapsed"] > NOTHING_SAID:
            self._say()
        super().close()

    def _say(self) -> None:
        state = self.format_dict
        done, elapsed = state["n"] - state["initial"], state["elapsed"]
        words = [f"{state['n']:,}" if self.total is None else f"{state['n']:,} of {self.total:,}"]
        words.append(self.format_interval(elapsed))
        if self.total is not None and done > 0 and state["n"] < self.total:
            left = (self.total - state["n"]) * elapsed / done
            words.append(f"{self.format_interval(left)} left")
        self.fp.write(f"{state['prefix'] or self.unit}: {', '.join(words)}\n")
        self.fp.flush()


def text_table(
    rows: Sequence[Sequence[str]],
    headings: Sequence[str] = (),
    *,
    widths: Sequence[int] = (),
    left: Sequence[int] = (0,),
) -> list[str]:
    """Lines of a table with aligned columns.

    Args:
        headings: Of the columns; none if empty.
        widths: Least widths of the first columns.
        left: Columns that are aligned at the left; the others are at the right.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=bool(headings))
    for column in range(max(map(len, [headings, *rows]), default=0)):
        table.add_column(
            Text(headings[column]) if headings else "",
            justify="left" if column in left else "right",
            min_width=widths[column] if column < len(widths) else None,
            no_wrap=True,
        )
    for row in rows:
        table.add_row(*map(Text, row))
    output = StringIO()
    Console(file=output, width=100_000, color_system=None).print(table)
    return [line.rstrip() for line in output.getvalue().splitlines()]
