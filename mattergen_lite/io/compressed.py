"""Reads compressed files of anybody; refuses what unpacks to far more than it takes on disk."""

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedIOBase
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from mattergen_lite.processes import room_for

MAX_RATIO = 100  # unpacked over packed bytes, beyond which a file is a bomb
FREE = 16 * 2**20  # bytes that any file may unpack to
LINE = 100  # bytes that a line counts for itself
MAX_LINE = 2**26  # characters; longer ones come in parts
MEMORY_LIMIT = 2 * 2**30  # bytes that unpacking may take, whatever comes of it


@contextmanager
def unpacking(path: Path) -> Iterator[None]:
    """Let what reads a file at once take so much memory for its size, and no more.

    Raises:
        ValueError: If it needs more.
    """
    size = path.stat().st_size if path.is_file() else 0
    try:
        with room_for(MEMORY_LIMIT + MAX_RATIO * size):
            yield
    except MemoryError:
        raise ValueError(f"{path} has {size} bytes that unpack to gigabytes: refused") from None


def table_batches(path: Path, table: pq.ParquetFile, num_rows: int) -> Iterator[pa.RecordBatch]:
    """Batches of rows of a parquet table.

    Raises:
        ValueError: If they are much larger than the file.
    """
    room = _room_of(path)
    batches = map(_written_out, table.iter_batches(batch_size=num_rows))
    while True:
        with unpacking(path):
            batch = next(batches, None)
        if batch is None:
            return
        room -= batch.nbytes
        _check_room(path, room)
        yield batch


def _written_out(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The rows with shared values written out; refuses columns that share parts of their values."""
    columns = []
    for field, column in zip(batch.schema, batch.columns, strict=True):
        if pa.types.is_nested(field.type) and "dictionary" in str(field.type):
            raise ValueError(f"column {field.name[:60]!r} is {str(field.type)[:60]}: refused")
        is_shared = pa.types.is_dictionary(field.type)
        columns.append(column.dictionary_decode() if is_shared else column)
    return pa.RecordBatch.from_arrays(columns, batch.schema.names)


def text_lines(path: Path) -> Iterator[str]:
    """Lines of a gzip file of UTF-8 text.

    Raises:
        ValueError: If they are much larger than the file.
        OSError, EOFError, zlib.error, UnicodeDecodeError: If it is damaged.
    """
    room = _room_of(path)
    with gzip.open(path, "rt", encoding="utf-8") as file:
        while line := file.readline(min(room, MAX_LINE) + 1):
            room -= len(line) + LINE  # or millions of empty ones would do
            _check_room(path, room)
            yield line


class BoundedGzip(gzip.GzipFile):
    """A gzip file that raises OSError once it has unpacked to far more than was read of it."""

    def __init__(self, packed: BufferedIOBase) -> None:
        super().__init__(fileobj=packed, mode="rb")
        self._packed, self._unpacked = packed, 0

    def read1(self, size: int = -1) -> bytes:
        """Bytes of one read, as a text stream takes them."""
        read = super().read1(size)
        self._unpacked += len(read)
        if self._unpacked > FREE + MAX_RATIO * self._packed.tell():
            raise OSError(
                f"{self._packed.tell()} bytes that unpack to more than {self._unpacked}: refused"
            )
        return read


def _room_of(path: Path) -> int:
    return FREE + MAX_RATIO * path.stat().st_size


def _check_room(path: Path, room: int) -> None:
    if room < 0:
        raise ValueError(
            f"{path} has {path.stat().st_size} bytes that unpack to more than {_room_of(path)}: "
            "refused"
        )
