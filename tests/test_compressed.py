"""Small files that unpack to gigabytes: refused, before there is no memory left."""

import gzip
import sys
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mattergen_lite.config import PropertyConfig
from mattergen_lite.data.labels import read_labelled
from mattergen_lite.data.table import read_crystal_table as read_crystal_table
from mattergen_lite.io import compressed
from mattergen_lite.io.read import read_structures
from mattergen_lite.runs.store import read_candidates
from mattergen_lite.runs.tables import read_table
from mattergen_lite.scoring.execution.result_cache import read_answers

MEGABYTE = 2**20


def write_table(path, texts):
    """64 rows of 4 MB: some kilobytes on disk."""
    pq.write_table(pa.table({"cif": texts, "gap": [1.0] * 64}), path, compression="zstd")
    assert path.stat().st_size < MEGABYTE
    return path


@pytest.fixture
def table(tmp_path):
    return write_table(tmp_path / "bomb.parquet", pa.array(["a" * 4 * MEGABYTE] * 64))


def read_labels(path):
    prop = PropertyConfig(name="gap")
    return read_labelled(path, prop, keep=path.with_suffix(""), seed=0, num_workers=0)


def test_rows_that_are_larger_than_their_file_are_refused(table, tmp_path):
    texts = pa.array(["a" * 4 * MEGABYTE])
    shared = write_table(
        tmp_path / "shared.parquet", pa.DictionaryArray.from_arrays(pa.array([0] * 64), texts)
    )
    for path in (table, shared):
        with pytest.raises(ValueError, match="bytes that unpack to more than"):
            read_structures(path)


def test_values_whose_parts_are_shared_are_refused(tmp_path):
    parts = pa.array([[0, 0], [0]], pa.list_(pa.int8()))
    names = pa.DictionaryArray.from_arrays(parts.flatten(), pa.array(["a"]))
    lists = pa.ListArray.from_arrays(parts.offsets, names)
    pq.write_table(pa.table({"cif": ["a", "b"], "names": lists}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"column 'names' is list<.*dictionary"):
        read_structures(tmp_path / "a.parquet")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits memory")
def test_tables_that_are_read_at_once_take_no_more_than_they_may(table, monkeypatch):
    monkeypatch.setattr(compressed, "MEMORY_LIMIT", 64 * MEGABYTE)
    with pytest.raises(ValueError, match="that unpack to gigabytes: refused"):
        read_table(table)


@pytest.mark.parametrize("read", [read_table, read_candidates, read_crystal_table, read_labels])
def test_every_reader_of_tables_has_the_limit(table, monkeypatch, read):
    asked = []

    @contextmanager
    def no_room(num_bytes):
        asked.append(num_bytes)
        raise MemoryError
        yield

    monkeypatch.setattr(compressed, "room_for", no_room)
    with pytest.raises(ValueError, match="that unpack to gigabytes: refused"):
        read(table)
    assert asked == [2 * 2**30 + 100 * table.stat().st_size]


@pytest.mark.parametrize("text", [b"a", b"\n", b'{"key": 1}\n'])
def test_answers_that_are_larger_than_their_file_end_early(tmp_path, text):
    path = tmp_path / "answers.jsonl.gz"
    path.write_bytes(gzip.compress(text * (64 * MEGABYTE // len(text)), 1))
    lines = list(read_answers(path))
    assert len(lines) < MEGABYTE
    assert sum(map(len, lines)) < 32 * MEGABYTE
