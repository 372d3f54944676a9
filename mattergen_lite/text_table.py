"""Prints tables in a terminal."""

from collections.abc import Sequence
from io import StringIO


def text_table(
    rows: Sequence[Sequence[str]],
    headings: Sequence[str] = (),
    *,
    widths: Sequence[int] = (),
    left: Sequence[int] = (0,),
) -> list[str]:
    """Lines of a table with aligned columns.

    Args:
        rows: Cells, as many in each.
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
