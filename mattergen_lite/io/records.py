"""Files <-> pymatgen structures <-> `CrystalBatch`.

Reading has two steps: `iter_documents` cuts any source into one text or table row per structure,
`parse_document` turns each into a record. One broken structure becomes a record with its reason and
the rest go on. Files are data: nothing is unpickled, executed or unpacked to disk.

pymatgen and ASE are imported inside functions, so that tensor code runs on nodes without them.
"""

import csv
import json
import math
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from io import TextIOWrapper
from itertools import chain, count, islice
from pathlib import Path, PurePath
from typing import IO, TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import torch

from mattergen_lite.crystal import CrystalBatch
from mattergen_lite.folders import atomic_path
from mattergen_lite.geometry import wrap
from mattergen_lite.io.formats.cif import parse_cif
from mattergen_lite.io.formats.extxyz import comment_values, parse_extxyz
from mattergen_lite.io.formats.poscar import parse_poscar
from mattergen_lite.io.formats.structures import (
    MAX_ATOMS,
    build_structure,
    check_count,
    check_isotope,
    check_lattice,
    check_periodic,
    ordered,
)

if TYPE_CHECKING:
    from pymatgen.core import Structure

Format = Literal["cif", "poscar", "extxyz", "row", "unreadable"]

ACCEPTED = (
    "expected a folder or zip of CIF, POSCAR/.vasp or (ext)xyz files, one such file, a csv or "
    "parquet table with a column `cif`, `structure` or `cif_string`, a csv with a column `file` or "
    "`cif` that names such files, a crystal table, or pymatgen JSON"
)
STRUCTURE_COLUMNS = ("cif", "structure", "cif_string")
FILE_COLUMNS = ("file", "filename", "cif_file")  # of a csv that lies in the folder of its files
FORMULA_SIGNS = ("=", "+", "-", "@", "\t", "\r")  # of spreadsheets
MAX_FILE_NAME = 200  # bytes, so that suffixes and temporary names fit into 255
MAX_MESSAGE = 500  # characters
MAX_NAME = 500  # characters
NAME_COLUMNS = ("material_id", "name", "id")
# Columns of a crystal table that follow from the structure: no properties of their own.
DERIVED_COLUMNS = frozenset({"num_atoms", "space_group", "orbit_space_group"})
MAX_CHARACTERS = 16 * 2**20  # of one CIF or POSCAR
MAX_LINE = 100_000  # characters of a line of xyz
MAX_TABLE = 2**31 - 1  # bytes of a csv or JSON file
MAX_COMPRESSION = 100  # of a zip entry above MAX_CHARACTERS, beyond which it is a bomb
PARSE_TIME_LIMIT = 10.0  # s per structure
PARSE_MEMORY_LIMIT = 2 * 2**30  # bytes per structure
_EXACT_SYMPREC = 0.01  # Å; for what has been symmetrised already

_SUFFIXES: dict[str, Format] = {
    ".cif": "cif",
    ".vasp": "poscar",
    ".poscar": "poscar",
    ".xyz": "extxyz",
    ".extxyz": "extxyz",
}


class LearnedValue(NamedTuple):
    """A property as a learned oracle reads it."""

    value: float
    error: float  # mean absolute error of the oracle on crystals held out of its training


@dataclass(frozen=True)
class StructureRecord:
    """One structure as read, or the one-line reason why it could not be."""

    name: str
    structure: "Structure | None"
    error: str | None = None
    properties: dict[str, float] = field(default_factory=dict)
    split: str | None = None  # of a table with a `split` column
    targets: dict[str, float | int | str] = field(default_factory=dict)  # asked of a sample
    learned: dict[str, LearnedValue] = field(default_factory=dict)  # measured by learned oracles


@dataclass(frozen=True)
class Document:
    """One structure not parsed yet: cheap to read and to hand to another process."""

    name: str
    format: Format
    content: str | Mapping[str, object]  # text; a table row; or the reason why it is unreadable
    labels: Mapping[str, object] = field(default_factory=dict)  # the table row that names a file


def read_structures(path: str | Path) -> Iterator[StructureRecord]:
    """Read structures from whatever `path` is, one record each, lazily.

    Raises:
        ValueError: If the path does not exist, is of an unknown kind or holds no structures.
    """
    return map(parse_document, iter_documents(path))


def iter_documents(path: str | Path) -> Iterator[Document]:
    """Cut a source into one document per structure.

    Raises:
        ValueError: If the path does not exist, is of an unknown kind or holds no structures.
    """
    path = Path(path)
    if not path.exists():
        raise ValueError(f"{path} does not exist: {ACCEPTED}")
    documents = _documents(path)
    first = next(documents, None)
    if first is None:
        raise ValueError(f"{path} holds no structures: {ACCEPTED}")
    return chain([first], documents)


def parse_document(document: Document) -> StructureRecord:
    """Parse one document; whatever goes wrong ends in the record's `error`."""
    try:
        structure, properties = _parse(document)
    except Exception as error:  # parsers of foreign files raise anything
        return StructureRecord(document.name, None, _one_line(error))
    row = document.content if document.format == "row" else document.labels
    properties |= _numeric(document.labels)
    return StructureRecord(document.name, structure, None, properties, row.get("split") or None)


# Sources -> documents


def _documents(path: Path) -> Iterator[Document]:
    containers: dict[str, Callable[[Path], Iterator[Document]]] = {
        ".zip": _zip_documents,
        ".csv": _csv_documents,
        ".parquet": _parquet_documents,
        ".json": _json_documents,
    }
    if path.is_dir():
        return _folder_documents(path)
    if path.suffix.lower() in containers:
        return containers[path.suffix.lower()](path)
    if _file_format(path.name) is None:
        raise ValueError(f"{path} is of an unknown kind: {ACCEPTED}")
    return _file_documents(shown_name(path.name), lambda: path.open("rb"))


def _file_format(name: str) -> Format | None:
    """Format by file name; None for files that hold no structure, hidden ones included."""
    pure = PurePath(name)
    if any(part.startswith((".", "__MACOSX")) and part != ".." for part in pure.parts):
        return None
    if pure.name.upper().startswith(("POSCAR", "CONTCAR")):
        return _SUFFIXES.get(pure.suffix.lower(), "poscar")
    return _SUFFIXES.get(pure.suffix.lower())


def _folder_documents(folder: Path) -> Iterator[Document]:
    for path in sorted(folder.rglob("*")):
        name = shown_name(path.relative_to(folder).as_posix())
        if path.is_file() and _file_format(name):
            yield from _file_documents(name, lambda path=path: path.open("rb"))


def _zip_documents(path: Path) -> Iterator[Document]:
    """Entries are read in memory: nothing is unpacked, so no entry can name a place on disk."""
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path} is not a readable zip file: {error}") from None
    with archive:
        for entry in archive.infolist():
            if entry.is_dir() or not _file_format(entry.filename):
                continue
            if entry.file_size > max(MAX_CHARACTERS, MAX_COMPRESSION * entry.compress_size):
                reason = f"{entry.compress_size} bytes that unpack to {entry.file_size}: refused"
                yield Document(shown_name(entry.filename), "unreadable", reason)
            else:
                name = shown_name(entry.filename)
                yield from _file_documents(name, lambda entry=entry: archive.open(entry))


def _file_documents(name: str, open_file: Callable[[], IO[bytes]]) -> Iterator[Document]:
    try:
        with open_file() as binary:
            # With or without the byte order mark that editors on Windows write.
            stream = TextIOWrapper(binary, encoding="utf-8-sig", errors="replace")
            yield from _text_documents(name, stream)
    # RuntimeError: encrypted entry or unknown compression; zlib.error: damaged entry.
    except (OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        yield Document(name, "unreadable", _one_line(error))


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
    # Blank lines mean nothing, but pymatgen's patterns take quadratic time on long runs of them.
    text = "\n".join(line for line in text.splitlines() if line.strip())
    blocks = re.split(r"^[ \t]*(?=data_)", text, flags=re.MULTILINE | re.IGNORECASE)
    with_atoms = [block for block in blocks if "_atom_site_" in block]
    if len(with_atoms) <= 1:
        yield Document(name, "cif", text)
        return
    for number, block in enumerate(with_atoms, start=1):
        yield Document(f"{name}#{number}", "cif", block)


def _xyz_frames(name: str, stream: TextIOWrapper) -> Iterator[Document]:
    """Frames are cut by their atom counts; after a wrong count the next frame cannot be found."""
    lines = iter(lambda: stream.readline(MAX_LINE), "")
    for number in count(1):
        header = next((line for line in lines if line.strip()), None)
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
        body = list(islice(lines, num_atoms + 1))
        if any(len(line) >= MAX_LINE for line in body):
            reason = f"a line of {MAX_LINE} or more characters; the rest of the file is skipped"
            yield Document(frame, "unreadable", reason)
            return
        if len(body) < num_atoms + 1:
            yield Document(frame, "unreadable", f"the file ends before its {num_atoms} atoms")
            return
        yield Document(_frame_name(body[0], frame), "extxyz", header + "".join(body))


def _frame_name(comment: str, fallback: str) -> str:
    """The name that a frame's comment line gives it, as text."""
    return _row_name(comment_values(comment), fallback)


def _csv_documents(path: Path) -> Iterator[Document]:
    broken: list[pa_csv.InvalidRow] = []

    def keep(row: pa_csv.InvalidRow) -> str:
        broken.append(row)
        return "skip"

    options = pa_csv.ParseOptions(newlines_in_values=True, invalid_row_handler=keep)
    check_size(path)
    # One block, so that column types are inferred from every row, not from the first megabyte.
    block = pa_csv.ReadOptions(block_size=path.stat().st_size + 1, use_threads=False)
    # Names are text: 007 is not 7.
    names = pa_csv.ConvertOptions(column_types=dict.fromkeys(NAME_COLUMNS, pa.string()))
    try:
        table = pa_csv.read_csv(
            path, parse_options=options, read_options=block, convert_options=names
        )
    except (pa.ArrowException, ValueError) as error:
        raise ValueError(f"cannot read table {path}: {_one_line(error)}") from None
    check_unique_columns(path, table.column_names)
    named = _file_column(table)
    if named is None:
        _check_columns(path, table.column_names)
        yield from _row_documents(path.name, table.to_batches(max_chunksize=1000))
    else:
        yield from _listed_documents(path.parent, table.to_pylist(), named)
    for row in broken:
        reason = f"{row.actual_columns} values for {row.expected_columns} columns"
        yield Document(f"{path.name}#{row.number}", "unreadable", reason)


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
    """The files that a csv beside them names, `.cif` left out or not, each with its row's values.

    A name that leads out of the folder is unreadable: tables come from strangers too.
    """
    for row in rows:
        name = shown_name(str(row[column]))
        found = [path for path in (folder / name, folder / f"{name}.cif") if _is_file(path)]
        if not found or not found[0].resolve().is_relative_to(folder.resolve()):
            yield Document(name, "unreadable", f"no such file in {folder}")
        elif _file_format(found[0].name) is None:
            yield Document(name, "unreadable", f"a file of an unknown kind: {ACCEPTED}")
        else:
            for document in _file_documents(found[0].name, partial(found[0].open, "rb")):
                yield replace(document, labels=row)


def _is_file(path: Path) -> bool:
    """Whether there is such a file; False for names that can be none."""
    try:
        return path.is_file()
    except (OSError, ValueError):  # too long; with a null byte
        return False


def check_size(path: Path) -> None:
    """Refuse a table that would have to be read at once and does not fit.

    Raises:
        ValueError: If it is larger than `MAX_TABLE`.
    """
    if path.stat().st_size >= MAX_TABLE:
        raise ValueError(
            f"{path} has {path.stat().st_size} bytes: expected less than {MAX_TABLE}, or parquet"
        )


def check_unique_columns(path: Path, names: Sequence[str]) -> None:
    """Refuse a table in which a name could mean two columns.

    Raises:
        ValueError: If a name occurs twice.
    """
    twice = [name for name, number in Counter(names).items() if number > 1]
    if twice:
        raise ValueError(f"{path} has the column {twice[0][:60]!r} twice: expected it once")


def _parquet_documents(path: Path) -> Iterator[Document]:
    try:
        table = pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"cannot read table {path}: {_one_line(error)}") from None
    check_unique_columns(path, table.schema_arrow.names)
    _check_columns(path, table.schema_arrow.names)
    try:
        yield from _row_documents(path.name, table.iter_batches(batch_size=1000))
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"cannot read table {path}: {_one_line(error)}") from None


def _check_columns(path: Path, names: Sequence[str]) -> None:
    if not {"atomic_numbers", *STRUCTURE_COLUMNS} & set(names):
        shown = " ".join(", ".join(names).split())[:200]  # names may be of any length and shape
        raise ValueError(f"{path} has columns {shown}: {ACCEPTED}")


def _row_documents(table_name: str, batches: Iterable[pa.RecordBatch]) -> Iterator[Document]:
    rows = chain.from_iterable(batch.to_pylist() for batch in batches)
    for number, row in enumerate(rows, start=1):
        yield Document(_row_name(row, f"{table_name}#{number}"), "row", row)


def _json_documents(path: Path) -> Iterator[Document]:
    check_size(path)
    try:
        data = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"cannot read {path}: {_one_line(error)}") from None
    for number, entry in enumerate(data if isinstance(data, list) else [data], start=1):
        name = path.name if isinstance(data, dict) else f"{path.name}#{number}"
        if not isinstance(entry, dict):
            reason = f"expected a structure as a JSON object, found {str(entry)[:40]!r}"
            yield Document(name, "unreadable", reason)
            continue
        # A bare structure, or a row such as {"material_id": ..., "structure": {...}, ...}.
        row = entry if "structure" in entry else {"structure": entry}
        yield Document(_row_name(row, name), "row", row)


def _row_name(row: Mapping[str, object], fallback: str) -> str:
    """The name that a row gives, else another one."""
    names = (row.get(key) for key in NAME_COLUMNS)
    return shown_name(next((str(name) for name in names if name not in (None, "")), fallback))


def shown_name(name: str) -> str:
    """A name in one printable line, the end of one that is longer than anybody reads.

    Names come from files, tables and archives of other people; some are no text at all.
    """
    return "".join(c if c.isprintable() else "_" for c in name[-MAX_NAME:])


# Documents -> structures


def _parse(document: Document) -> tuple["Structure", dict[str, float]]:
    content = document.content
    match document.format:
        case "cif":
            return parse_cif(content), {}
        case "poscar":
            return parse_poscar(content), {}
        case "extxyz":
            structure, values = parse_extxyz(content)
            return structure, _numeric(values)
        case "row":
            return _parse_row(content), _numeric(content)
        case _:
            raise ValueError(content)


def _parse_row(row: Mapping[str, object]) -> "Structure":
    if row.get("atomic_numbers") is not None:
        return build_structure(row["lattice"], row["atomic_numbers"], row["frac_coords"])
    value = next((row[key] for key in STRUCTURE_COLUMNS if row.get(key)), None)
    if value is None:
        raise ValueError(f"no structure in this row: expected {', '.join(STRUCTURE_COLUMNS)}")
    if isinstance(value, str) and not value.lstrip().startswith("{"):
        return parse_cif(value)
    return _from_dict(json.loads(value) if isinstance(value, str) else value)


def _from_dict(data: Mapping) -> "Structure":
    """Build from the plain numbers of `Structure.as_dict()`.

    `Structure.from_dict` would import whatever class the file names, so it is not used.
    """
    from pymatgen.core import Structure

    missing = {"lattice", "sites"} - set(data)
    if missing:
        raise ValueError(f"not a pymatgen Structure: no {' and no '.join(sorted(missing))}")
    sites = data["sites"]
    if not isinstance(sites, list) or not isinstance(data["lattice"], Mapping):
        raise ValueError("not a pymatgen Structure: sites are no list or lattice is no object")
    check_count(len(sites))
    check_periodic(data["lattice"].get("pbc", (True, True, True)))
    species, coords = [], []
    for number, site in enumerate(sites, start=1):
        try:
            species.append({part["element"]: float(part["occu"]) for part in site["species"]})
            coords.append([float(x) for x in site["abc"]])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"not a pymatgen Structure: atom {number}: {_one_line(error)}"
            ) from None
        _check_species(species[-1], len(site["species"]), number)
    lattice = np.asarray(data["lattice"].get("matrix"), dtype=float).reshape(3, 3)
    check_lattice(lattice)
    return ordered(Structure(lattice, species, coords))


def _check_species(species: Mapping[str, float], count: int, number: int) -> None:
    """Refuse what pymatgen would round, merge or call something else."""
    for symbol, occupancy in species.items():
        check_isotope(symbol, f"atom {number}")
        if not 0 < occupancy <= 1:
            raise ValueError(f"occupancy of atom {number} is {occupancy}: expected 0 to 1")
    if count != len(species) or not species:
        raise ValueError(f"atom {number} has the same element twice, or none")


def _numeric(values: Mapping[str, object]) -> dict[str, float]:
    """The finite numbers among the values, without row numbers and what the structure tells."""
    return {
        name: float(value)
        for name, value in values.items()
        if isinstance(value, int | float | np.number | np.bool_)
        and math.isfinite(value)
        and name not in DERIVED_COLUMNS
        and name not in NAME_COLUMNS
        and not name.startswith("Unnamed:")
        and name
    }


def _one_line(error: Exception) -> str:
    """The last line of a message: pymatgen puts the reason after its own headline."""
    message = f"missing {error}" if isinstance(error, KeyError) else str(error)
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    text = lines[-1][:MAX_MESSAGE] if lines else ""
    if isinstance(error, ValueError | OSError | RecursionError) and text:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


# Structures <-> batch


def to_structures(batch: CrystalBatch) -> list["Structure"]:
    """The crystals of a batch as pymatgen structures, unchecked: a sampler may emit anything."""
    from pymatgen.core import Structure

    structures = []
    for crystal, mask in enumerate(batch.mask.cpu()):
        lattice = batch.lattice[crystal].detach().double().cpu().numpy()
        numbers = batch.atomic_numbers[crystal].cpu()[mask].tolist()
        frac_coords = batch.frac_coords[crystal].detach().double().cpu()[mask].numpy()
        structures.append(Structure(lattice, numbers, frac_coords))
    return structures


def structure_to_json(structure: "Structure") -> dict[str, list]:
    """An ordered structure as plain lists, exact to the last bit."""
    return {
        "lattice": structure.lattice.matrix.tolist(),
        "atomic_numbers": list(structure.atomic_numbers),
        "frac_coords": structure.frac_coords.tolist(),
    }


def structure_from_json(data: Mapping[str, Sequence]) -> "Structure":
    """The structure that `structure_to_json` wrote.

    Raises:
        ValueError: If an entry is missing or makes no crystal.
    """
    from pymatgen.core import Structure

    if missing := {"lattice", "atomic_numbers", "frac_coords"} - set(data):
        raise ValueError(f"no {', '.join(sorted(missing))} in a stored structure")
    return Structure(data["lattice"], data["atomic_numbers"], data["frac_coords"])


def from_structures(structures: Sequence["Structure"]) -> CrystalBatch:
    """Pad structures into one batch (float32).

    Raises:
        ValueError: If a structure is disordered or has an unknown element.
    """
    bare = [ordered(structure) for structure in structures]
    lattice = np.stack([structure.lattice.matrix for structure in bare])
    return CrystalBatch.from_crystals(
        [torch.tensor(structure.atomic_numbers) for structure in bare],
        [wrap(torch.as_tensor(s.frac_coords, dtype=torch.float32)) for s in bare],
        torch.as_tensor(lattice, dtype=torch.float32),
    )


# Writing


class Cif(NamedTuple):
    """A CIF and the space group in it."""

    text: str
    space_group: int  # what an analysis of the file finds; 1 for P1


def to_cif(structure: "Structure", symprec: float | None) -> Cif:
    """A crystal as CIF, symmetrised if a tolerance is given.

    Args:
        structure: What to write.
        symprec: Tolerance in Å of the symmetry to impose, or None to write the cell as it is (P1).
            P1 is written too if the symmetrised crystal would not be the same crystal.
    """
    from pymatgen.io.cif import CifWriter

    symmetrised = None if symprec is None else _symmetrised_cif(structure, symprec)
    return symmetrised or Cif(str(CifWriter(structure)), 1)


def file_names(names: Iterable[str], reserved: Iterable[str] = ()) -> list[str]:
    """Names as those of files in one folder, without suffix: safe, and no two alike.

    Names come from other people's tables; some file systems do not tell capitals apart, and none
    takes more than 255 bytes.

    Args:
        names: Of anything.
        reserved: Names of other files in the folder.
    """
    found: list[str] = []
    taken = {name.casefold() for name in reserved}
    for name in names:
        stem = "".join(c if c.isalnum() or c in "-_.#" else "_" for c in name.removesuffix(".cif"))
        stem = stem.encode()[:MAX_FILE_NAME].decode(errors="ignore").lstrip(".") or "unnamed"
        free, number = stem, 1
        while free.casefold() in taken:
            number += 1
            free = f"{stem}_{number}"
        taken.add(free.casefold())
        found.append(free)
    return found


def write_text(text: str, path: str | Path) -> None:
    """Write a text file, all at once."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _symmetrised_cif(structure: "Structure", symprec: float) -> Cif | None:
    """The symmetrised CIF; None if symmetrising fails or changes the crystal."""
    from pymatgen.analysis.structure_matcher import StructureMatcher
    from pymatgen.io.cif import CifWriter
    from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

    # Tighter than the matcher's defaults, which would call a broken-up crystal the same.
    matcher = StructureMatcher(ltol=0.05, stol=0.1, angle_tol=2, scale=False)
    try:
        found = SpacegroupAnalyzer(structure, symprec)
        refined = found.get_refined_structure()
        text = str(CifWriter(refined, symprec=_EXACT_SYMPREC, refine_struct=False))
        written = parse_cif(text)
        space_group = SpacegroupAnalyzer(written, _EXACT_SYMPREC).get_space_group_number()
        same = space_group == found.get_space_group_number() and matcher.fit(structure, written)
    except Exception:  # spglib and pymatgen fail in their own ways on odd cells
        return None
    return Cif(text, space_group) if same else None


def write_csv(
    path: str | Path,
    header: Sequence[str],
    rows: Iterable[Sequence[str | int | float | bool | None]],
) -> None:
    """Write a csv file, all at once, numbers with six digits.

    Text that a spreadsheet would take for a formula gets an apostrophe in front: names and messages
    come from other people's files.
    """
    with (
        atomic_path(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8", errors="replace") as file,
    ):
        writer = csv.writer(file)
        writer.writerow([csv_cell(name) for name in header])
        writer.writerows([csv_cell(value) for value in row] for row in rows)


def csv_cell(value: str | int | float | bool | None) -> str | int | bool | None:
    """A value as it is written into csv files."""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, str) and value[:1] in FORMULA_SIGNS and value:
        return f"'{value}"
    return value


def write_extxyz(
    structures: Sequence["Structure"],
    path: str | Path,
    info: Sequence[Mapping[str, float | int | bool | str | None]],
) -> None:
    """Write structures as the frames of one extxyz file, each with its comment-line values.

    Raises:
        ValueError: If there is not one `info` per structure.
    """
    import ase
    import ase.io

    if len(info) != len(structures):
        raise ValueError(f"{len(info)} infos for {len(structures)} structures: expected one each")
    frames = [
        ase.Atoms(
            numbers=structure.atomic_numbers,
            cell=structure.lattice.matrix,
            scaled_positions=structure.frac_coords,
            pbc=True,
            info={key: value for key, value in values.items() if value is not None},
        )
        for structure, values in zip(structures, info, strict=True)
    ]
    with atomic_path(path) as temporary:
        ase.io.write(temporary, frames, format="extxyz")
