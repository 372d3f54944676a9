"""Reads the syntax of CIFs: data blocks of single values and loops, whatever the names mean."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from gemmi import cif

ABSENT = frozenset({".", "?", ""})


class CifBlock(NamedTuple):
    """A data block: single values, and the columns of loops, by data name in lower case."""

    values: dict[str, str]
    columns: dict[str, list[str]]

    def given(self, names: Sequence[str]) -> str | None:
        """The first of these data names that has a value."""
        texts = (self.values.get(name, (self.columns.get(name) or [""])[0]) for name in names)
        return next((text for text in texts if text not in ABSENT), None)

    def first(self, name: str) -> str | None:
        """The value of a data name, if it has one."""
        return self.given([name])


def data_blocks(text: str) -> list[CifBlock]:
    """All data blocks of a CIF; text without a `data_` line is one block.

    Raises:
        ValueError: If the text is no CIF 1.1, such as a loop with too few values or a data name
            twice; names the line.
    """
    from gemmi import cif

    text = text.encode("ascii", "replace").decode()  # CIF is ASCII, names of authors often are not
    try:
        return list(map(_block, cif.read_string(text)))
    except (ValueError, RuntimeError) as error:
        if "expected block header" in str(error):
            return data_blocks(f"data_x\n{text}")
        raise ValueError(_reason(error)) from None


def _block(part: "cif.CifBlock") -> CifBlock:
    block = CifBlock({}, {})
    for item in part:
        if item.pair is not None:
            block.values[item.pair[0].lower()] = _plain(item.pair[1])
        elif item.loop is not None:
            values, width = [_plain(value) for value in item.loop.values], item.loop.width()
            for place, name in enumerate(item.loop.tags):
                block.columns[name.lower()] = values[place::width]
    return block


def _plain(value: str) -> str:
    """A value without its quotes; . and ? as they are."""
    from gemmi import cif

    return value if cif.is_null(value) else cif.as_string(value).strip()


def _reason(error: Exception) -> str:
    """Line and reason of a message of gemmi, such as "string:7 in data_x: duplicate tag _cell"."""
    line = re.match(r"string:(\d+)", str(error))
    reason = str(error).split(": ", 1)[-1][:200]
    return f"unreadable CIF: line {line[1]}: {reason}" if line else f"unreadable CIF: {reason}"
