"""Files -> documents: one text or table row per structure, from any source.

Zip files are read in memory: nothing is unpacked to disk.
"""

import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from io import TextIOWrapper
from itertools import chain, count, islice, pairwise
from pathlib import Path, PurePath
from typing import IO

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from mattergen_lite.io.bounds import (
    MAX_JSON,
    check_num_rows,
    check_readable,
    check_size,
    check_unique_columns,
    check_utf8,
    parse_json,
)
from mattergen_lite.io.compressed import MAX_RATIO, BoundedGzip, table_batches
from mattergen_lite.io.formats.extxyz import comment_values
from mattergen_lite.io.formats.structures import MAX_ATOMS
from mattergen_lite.io.parse import one_line, parse_within_limits
from mattergen_lite.io.records import (
    FILE_COLUMNS,
    NAME_COLUMNS,
    STRUCTURE_COLUMNS,
    Document,
    Format,
    StructureRecord,
    row_name,
    shown_name,
)

ACCEPTED = (
    "expected a folder or zip of CIF, POSCAR/.vasp or (ext)xyz files, one such file, each as it is "
    "or packed by gzip, a csv or parquet table with a column `cif`, `structure` or `cif_string`, "
    "a csv with a column `file` or `cif` that names such files, a crystal table, or pymatgen JSON"
)
MAX_CHARACTERS = 16 * 2**20  # of one CIF or POSCAR
MAX_LINE = 100_000  # characters of a line of xyz
# Where a block begins; a text field (;...;) may hold the CIF of something else.
_BLOCK = re.compile(r"(?P<text>^;.*?^;)|^[ \t]*(?=data_)", re.MULTILINE | re.IGNORECASE | re.DOTALL)
_SUFFIXES: dict[str, Format] = {
    ".cif": "cif",
    ".vasp": "poscar",
    ".poscar": "poscar",
    ".xyz": "extxyz",
    ".extxyz": "extxyz",
}


def read_structures(path: str | Path) -> Iterator[StructureRecord]:
    """Read structures from whatever `path` is, one record each, lazily.

    Raises:
        ValueError: If the path does not exist, is of an unknown kind or holds no structures.
    """
    return map(parse_within_limits, iter_documents(path))


def iter_documents(path: str | Path, *, without: Path | None = None) -> Iterator[Document]:
    """Cut a source into one document per structure; the folder `without` in it is passed over.

    Raises:
        ValueError: If the path does not exist, is of an unknown kind or holds no structures.
    """
    path = Path(path)
    check_readable(path, ACCEPTED)
    documents = _documents(path, without)
    first = next(documents, None)
    if first is None:
        raise ValueError(f"{path} holds no structures: {ACCEPTED}")
    return chain([first], documents)


def _documents(path: Path, without: Path | None) -> Iterator[Document]:
    containers: dict[str, Callable[[Path], Iterator[Document]]] = {
        ".zip": _zip_documents,
        ".csv": _csv_documents,
        ".parquet": _parquet_documents,
        ".json": _json_documents,
    }
    if path.is_dir():
        return _folder_documents(path, without)
    if path.suffix.lower() in containers:
        return containers[path.suffix.lower()](path)
    if _file_format(path.name) is None:
        raise ValueError(f"{path} is of an unknown kind: {ACCEPTED}")
    return _file_documents(shown_name(path.name), lambda: path.open("rb"))


def _file_format(name: str) -> Format | None:
    """Format by file name; None for files that hold no structure, hidden ones included."""
    pure = PurePath(_unpacked_name(name))
    if any(part.startswith((".", "__MACOSX")) and part != ".." for part in pure.parts):
        return None
    if pure.name.upper().startswith(("POSCAR", "CONTCAR")):
        return _SUFFIXES.get(pure.suffix.lower(), "poscar")
    return _SUFFIXES.get(pure.suffix.lower())


def _unpacked_name(name: str) -> str:
    """Name of a file without the ending of a gzip file."""
    return name[:-3] if name.lower().endswith(".gz") else name


def _folder_documents(folder: Path, without: Path | None) -> Iterator[Document]:
    for path, name in _files(folder, without):
        if _file_format(name):
            yield from _file_documents(shown_name(name), lambda path=path: path.open("rb"))


def _files(folder: Path, without: Path | None) -> Iterator[tuple[Path, str]]:
    """Files and their names in a folder, in order, those in a folder inside it left out."""
    left_out = without and without.resolve()
    for path in sorted(folder.rglob("*")):
        is_inside = left_out and path.resolve().is_relative_to(left_out)
        if path.is_file() and not is_inside:
            yield path, path.relative_to(folder).as_posix()


def count_unread(folder: Path, *, without: Path | None = None) -> Counter[str]:
    """Count the files of a folder that `iter_documents` passes over, by their endings."""
    unread = (
        path
        for path, name in _files(folder, without)
        if not path.name.startswith(".") and not _file_format(name)
    )
    return Counter(path.suffix.lower() or "without an ending" for path in unread)


def _zip_documents(path: Path) -> Iterator[Document]:
    """Entries are read in memory: nothing is unpacked, so no entry can name a place on disk."""
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path} is not a readable zip file: {error}") from None
    room = MAX_CHARACTERS + MAX_RATIO * path.stat().st_size  # of all entries together
    with archive:
        for entry in archive.infolist():
            if entry.is_dir() or not _file_format(entry.filename):
                continue
            largest = min(room, max(MAX_CHARACTERS, MAX_RATIO * entry.compress_size))
            if entry.file_size > largest:
                reason = f"{entry.compress_size} bytes that unpack to {entry.file_size}: refused"
                yield Document(shown_name(entry.filename), "unreadable", reason)
            else:
                room -= entry.file_size
                name = shown_name(entry.filename)
                yield from _file_documents(name, lambda entry=entry: archive.open(entry))


def _file_documents(name: str, open_file: Callable[[], IO[bytes]]) -> Iterator[Document]:
    try:
        with open_file() as binary:
            plain = BoundedGzip(binary) if _unpacked_name(name) != name else binary
            # With or without the byte order mark that editors on Windows write.
            stream = TextIOWrapper(plain, encoding="utf-8-sig", errors="replace")
            yield from _text_documents(name, stream)
    # RuntimeError: encrypted entry or unknown compression; zlib.error: damaged entry.
    except (OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        yield Document(name, "unreadable", one_line(error))


def _text_documents(name: str, stream: TextIOWrapper) -> Iterator[Document]:
    file_format = _file_format(name)
    if file_format == "extxyz":
        yield from _xyz_frames(name, stream)
        return
    text = stream.read(MAX_CHARACTERS + 1)
    if len(text) > MAX_CHARACTERS:
        reason = f"larger than {MAX_CHARACTERS} characters, which no single crystal needs"
        yield Document(name, "unreadable", reason)
    elif file_format == "cif":
        yield from _cif_blocks(name, text)
    else:
        yield Document(name, "poscar", text)


def _cif_blocks(name: str, text: str) -> Iterator[Document]:
    """One document per data block with atoms; publication blocks without atoms are skipped."""
    text = "\n".join(text.splitlines())
    starts = [match.start() for match in _BLOCK.finditer(text) if match["text"] is None]
    blocks = [text[start:end] for start, end in pairwise([0, *starts, len(text)])]
    with_atoms = [block for block in blocks if "_atom_site_" in block]
    if len(with_atoms) <= 1:
        yield Document(name, "cif", text)
        return
    for number, block in enumerate(with_atoms, start=1):
        yield Document(f"{name}#{number}", "cif", block)


def _xyz_frames(name: str, stream: TextIOWrapper) -> Iterator[Document]:
    """Frames are cut by their atom counts; after a wrong count the next frame cannot be found."""
    lines = iter(lambda: stream.readline(MAX_LINE), "")
    header = next((line for line in lines if line.strip()), None)
    for number in count(1):
        frame = f"{name}#{number}"
        if header is None:
            if number == 1:
                yield Document(name, "unreadable", "the file is empty: expected atoms")
            return
        text = header.strip()
        num_atoms = int(text) if text.isdecimal() and len(text) < 10 else -1
        if not 0 <= num_atoms <= MAX_ATOMS:
            reason = f"bad atom count {text[:40]!r}: expected an integer up to {MAX_ATOMS}"
            yield Document(frame, "unreadable", f"{reason}; the rest of the file is skipped")
            return
        body = _bounded(islice(lines, num_atoms + 1))
        if body is None:
            reason = f"a line of {MAX_LINE} or more characters, or a frame of {MAX_CHARACTERS}"
            yield Document(frame, "unreadable", f"{reason}; the rest of the file is skipped")
            return
        if len(body) < num_atoms + 1:
            yield Document(frame, "unreadable", f"the file ends before its {num_atoms} atoms")
            return
        named = row_name(comment_values(body[0]), frame)
        document = Document(named, "extxyz", header + "".join(body))
        header = next((line for line in lines if line.strip()), None)
        if header is not None and len(header.split()) > 3:  # what comes is an atom
            reason = f"the file announces {num_atoms} atoms and lists more: the rest is skipped"
            yield replace(document, format="unreadable", content=reason)
            return
        yield document


def _bounded(lines: Iterable[str]) -> list[str] | None:
    """The lines; None if they are longer than those of a crystal, without reading on."""
    bounded, room = [], MAX_CHARACTERS
    for line in lines:
        bounded.append(line)
        room -= len(line)
        if room < 0 or len(line) >= MAX_LINE:
            return None
    return bounded


def _csv_documents(path: Path) -> Iterator[Document]:
    broken: list[pa_csv.InvalidRow] = []
    table = read_csv(path, broken)
    named = _file_column(table)
    if named is None:
        _check_columns(path, table.column_names)
        yield from _row_documents(path.name, table.to_batches(max_chunksize=1000))
    else:
        yield from _listed_documents(path.parent, table.to_pylist(), named)
    for row in broken:
        reason = f"{row.actual_columns} values for {row.expected_columns} columns"
        yield Document(f"{path.name}#{row.number}", "unreadable", reason)


def read_csv(path: Path, broken: list[pa_csv.InvalidRow]) -> pa.Table:
    """Read a csv at once; rows with too few or too many values are added to `broken`.

    Raises:
        ValueError: If it is too large, no UTF-8, no table, or has a column twice.
    """

    def keep(row: pa_csv.InvalidRow) -> str:
        broken.append(row)
        return "skip"

    check_size(path)
    check_utf8(path)
    try:
        table = pa_csv.read_csv(
            path,
            parse_options=pa_csv.ParseOptions(newlines_in_values=True, invalid_row_handler=keep),
            # One block, so that column types are inferred from every row, not the first megabyte.
            read_options=pa_csv.ReadOptions(block_size=path.stat().st_size + 1, use_threads=False),
            # Names are text: 007 is not 7.
            convert_options=pa_csv.ConvertOptions(
                column_types=dict.fromkeys(NAME_COLUMNS, pa.string())
            ),
        )
    except (pa.ArrowException, ValueError) as error:
        raise ValueError(f"cannot read table {path}: {one_line(error)}") from None
    check_unique_columns(path, table.column_names)
    return table


def _file_column(table: pa.Table) -> str | None:
    """The column that names structure files, if the structures are not in the table itself."""
    for column in STRUCTURE_COLUMNS:
        if column in table.column_names:
            first = next((text for text in table[column].to_pylist() if text), "")
            return column if isinstance(first, str) and first.lower().endswith(".cif") else None
    return next((column for column in FILE_COLUMNS if column in table.column_names), None)


def _listed_documents(
    folder: Path, rows: Iterable[Mapping[str, object]], column: str
) -> Iterator[Document]:
    """The files that a csv names, with their rows' values; none outside of its folder is read."""
    for row in rows:
        name = shown_name(str(row[column]))
        paths = [path for path in (folder / name, folder / f"{name}.cif") if _is_file(path)]
        if not paths or not paths[0].resolve().is_relative_to(folder.resolve()):
            yield Document(name, "unreadable", f"no such file in {folder}")
        elif _file_format(paths[0].name) is None:
            yield Document(name, "unreadable", f"a file of an unknown kind: {ACCEPTED}")
        else:
            for document in _file_documents(paths[0].name, partial(paths[0].open, "rb")):
                yield replace(document, labels=row)


def _is_file(path: Path) -> bool:
    """Whether there is such a file; False for names that can be none."""
    try:
        return path.is_file()
    except (OSError, ValueError):  # too long; with a null byte
        return False


def _parquet_documents(path: Path) -> Iterator[Document]:
    try:
        table = pq.ParquetFile(path)
        check_num_rows(path, table.metadata.num_rows)
        check_unique_columns(path, table.schema_arrow.names)
        _check_columns(path, table.schema_arrow.names)
        yield from _row_documents(path.name, table_batches(path, table, 64))
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"cannot read table {path}: {one_line(error)}") from None


def _check_columns(path: Path, names: Sequence[str]) -> None:
    if not {"atomic_numbers", *STRUCTURE_COLUMNS} & set(names):
        shown = " ".join(", ".join(names).split())[:200]  # names may be of any length and shape
        raise ValueError(f"{path} has columns {shown}: {ACCEPTED}")


def _row_documents(table_name: str, batches: Iterable[pa.RecordBatch]) -> Iterator[Document]:
    rows = chain.from_iterable(batch.to_pylist() for batch in batches)
    for number, row in enumerate(rows, start=1):
        yield Document(row_name(row, f"{table_name}#{number}"), "row", row)


def _json_documents(path: Path) -> Iterator[Document]:
    check_size(path, MAX_JSON)
    try:
        data = parse_json(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"cannot read {path}: {one_line(error)}") from None
    if isinstance(data, list) and not any(isinstance(entry, dict) for entry in data):
        raise ValueError(f"{path} holds no structures: {ACCEPTED}")
    for number, entry in enumerate(data if isinstance(data, list) else [data], start=1):
        name = path.name if isinstance(data, dict) else f"{path.name}#{number}"
        if not isinstance(entry, dict):
            reason = f"expected a structure as a JSON object, found {str(entry)[:40]!r}"
            yield Document(name, "unreadable", reason)
            continue
        # A bare structure, or a row such as {"material_id": ..., "structure": {...}, ...}.
        row = entry if "structure" in entry else {"structure": entry}
        yield Document(row_name(row, name), "row", row)
