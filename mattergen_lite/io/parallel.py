"""Reads structures in other processes: one that hangs or needs too much memory costs itself."""

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from mattergen_lite.io.parse import PARSE_MEMORY_LIMIT, PARSE_TIME_LIMIT, parse_document
from mattergen_lite.io.read import iter_documents
from mattergen_lite.io.records import Document, StructureRecord
from mattergen_lite.processes import Failure, Pool


def read_records(
    source: Path, limit: int | None, pool: Pool, *, without: Path | None = None
) -> list[StructureRecord]:
    """Read the first `limit` structures of a source, each within its time and memory.

    Raises:
        ValueError: If the source does not exist, is of an unknown kind or holds no structures.
    """
    documents = iter_documents(source, without=without)
    return parse_documents(list(islice(documents, limit)), pool)


def parse_documents(documents: Sequence[Document], pool: Pool) -> list[StructureRecord]:
    """Parse documents in other processes; one that takes too much becomes a record of its error."""
    parsed = pool.map(
        parse_document,
        documents,
        time_limit=PARSE_TIME_LIMIT,
        memory_limit=PARSE_MEMORY_LIMIT,
    )
    return [
        StructureRecord(document.name, None, answer.reason)
        if isinstance(answer, Failure)
        else answer
        for document, answer in zip(documents, parsed, strict=True)
    ]
