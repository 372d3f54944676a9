"""Refuses files that are pipes, in another encoding, or larger than memory."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

MAX_TABLE = 2**31 - 1  # bytes of a csv file, which is read at once
MAX_JSON = 2**28  # bytes of a JSON file, which takes ten times as much memory
MAX_SMALL_TABLE = 10_000  # rows of a parquet file of any size
MIN_ROW = 4  # bytes that a crystal takes in parquet at least


def check_readable(path: Path, expected: str) -> None:
    """Refuse what is neither a file nor a folder: reading a pipe or a device may never end.

    Raises:
        ValueError: If it is not there or something else; says what is expected.
    """
    try:
        exists, readable = path.exists(), path.is_file() or path.is_dir()
    except (OSError, ValueError) as error:  # too long; with a null byte
        raise ValueError(f"cannot read {str(path)[:200]!r}: {error}") from None
    if not exists:
        raise ValueError(f"{path} does not exist: {expected}")
    if not readable:
        raise ValueError(f"{path} is a pipe or a device: {expected}")


def check_size(path: Path, largest: int = MAX_TABLE) -> None:
    """Refuse a file that would have to be read at once and does not fit.

    Raises:
        ValueError: If it has that many bytes.
    """
    if path.stat().st_size >= largest:
        raise ValueError(
            f"{path} has {path.stat().st_size} bytes: expected less than {largest}, or parquet"
        )


def check_num_rows(path: Path, num_rows: int) -> None:
    """Refuse a small file that unpacks to more rows than any crystals make.

    Raises:
        ValueError: If it has that many.
    """
    size = path.stat().st_size
    if num_rows > MAX_SMALL_TABLE + size / MIN_ROW:
        raise ValueError(f"{path} has {size} bytes that unpack to {num_rows} rows: refused")


def check_utf8(path: Path) -> None:
    """Refuse text of another encoding, which cannot be told from damage.

    Raises:
        ValueError: If it is no UTF-8.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            while file.read(2**20):
                pass
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no UTF-8 text ({error.reason}): save it as UTF-8") from None


def check_unique_columns(path: Path, names: Sequence[str]) -> None:
    """Refuse a table in which a name could mean two columns.

    Raises:
        ValueError: If a name occurs twice.
    """
    twice = [name for name, number in Counter(names).items() if number > 1]
    if twice:
        raise ValueError(f"{path} has the column {twice[0][:60]!r} twice: expected it once")


def parse_json(text: str) -> object:
    """Plain data from JSON in which no key could mean two values.

    Raises:
        ValueError: If it is no JSON, or an object has a key twice.
        RecursionError: If it is nested too deeply.
    """
    return json.loads(text, object_pairs_hook=_object)


def _object(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        twice = next(name for name, number in Counter(n for n, _ in pairs).items() if number > 1)
        raise ValueError(f"the key {twice[:60]!r} twice: expected it once")
    return mapping
