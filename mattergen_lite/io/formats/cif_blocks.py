"""CIF text -> data blocks: the syntax, whatever the names mean."""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

ABSENT = frozenset({".", "?", ""})

_TOKEN = re.compile(
    r"^;(?P<text>.*?)^;"
    r"|'(?P<single>[^\n]{0,2048}?)'(?=\s|\Z)"
    r'|"(?P<double>[^\n]{0,2048}?)"(?=\s|\Z)'
    r"|(?P<comment>\#[^\n]*)"
    r"|(?P<bare>\S+)",
    re.MULTILINE | re.DOTALL,
)


class Token(NamedTuple):
    """One word of a CIF."""

    text: str
    quoted: bool  # then it is a value, whatever it looks like


class Block(NamedTuple):
    """A data block: single values, and the columns of loops, by data name in lower case."""

    values: dict[str, str]
    columns: dict[str, list[str]]

    def given(self, names: Sequence[str]) -> str | None:
        """The first of these data names that has a value."""
        found = (self.values.get(name, (self.columns.get(name) or [""])[0]) for name in names)
        return next((text for text in found if text not in ABSENT), None)

    def first(self, name: str) -> str | None:
        """The value of a data name, if it has one."""
        return self.given([name])


def _tokens(text: str) -> Iterator[Token]:
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup
        if kind != "comment":
            yield Token(match[kind].strip(), kind != "bare")


def data_blocks(text: str) -> Iterator[Block]:
    """All data blocks; whatever comes before the first one belongs to it."""
    block, tokens = Block({}, {}), list(_tokens(text))
    position = 0
    while position < len(tokens):
        word, quoted = tokens[position]
        lower = word.lower()
        if not quoted and lower.startswith(("data_", "save_")):
            yield block
            block = Block({}, {})
            position += 1
        elif not quoted and lower == "loop_":
            position = _read_loop(tokens, position + 1, block)
        elif not quoted and word.startswith("_"):
            if position + 1 == len(tokens) or _is_name(tokens[position + 1]):
                raise ValueError(f"unreadable CIF: {word[:60]} has no value")
            _set_value(block, lower, tokens[position + 1].text)
            position += 2
        else:
            raise ValueError(f"unreadable CIF: {word[:40]!r} is no value of anything")
    yield block


def _set_value(block: Block, name: str, value: str) -> None:
    if block.values.setdefault(name, value) != value:
        raise ValueError(f"unreadable CIF: {name[:60]} is {value[:40]!r} and something else")


def _read_loop(tokens: Sequence[Token], position: int, block: Block) -> int:
    """Read a loop into the block; returns where it ends."""
    names: list[str] = []
    while position < len(tokens) and _is_data_name(tokens[position]):
        names.append(tokens[position].text.lower())
        position += 1
    start = position
    while position < len(tokens) and not _is_name(tokens[position]):
        position += 1
    values = [one.text for one in tokens[start:position]]
    if not names or len(values) % len(names):
        shown = names[0][:60] if names else "loop_"
        raise ValueError(
            f"unreadable CIF: {len(values)} values in the loop of {shown} with {len(names)} columns"
        )
    if len({*names}) < len(names):
        raise ValueError(f"unreadable CIF: a column twice in the loop of {names[0][:60]}")
    for column, name in enumerate(names):
        if name in block.columns:
            raise ValueError(f"unreadable CIF: {name[:60]} in two loops")
        block.columns[name] = values[column :: len(names)]
    return position


def _is_data_name(token: Token) -> bool:
    return not token.quoted and token.text.startswith("_")


def _is_name(token: Token) -> bool:
    """Whether a word ends the values before it."""
    return _is_data_name(token) or (
        not token.quoted and token.text.lower().startswith(("data_", "loop_", "save_", "global_"))
    )
