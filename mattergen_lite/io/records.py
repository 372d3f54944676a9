"""Structures as they are read: documents, not parsed yet, and records.

One broken structure becomes a record with its reason and the rest go on. Files are data: nothing is
unpickled, executed or unpacked to disk. pymatgen and ASE are imported inside functions, so that
tensor code runs on nodes without them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from pymatgen.core import Structure

Format = Literal["cif", "poscar", "extxyz", "row", "unreadable"]
STRUCTURE_COLUMNS = ("cif", "structure", "cif_string")
FILE_COLUMNS = ("file", "filename", "cif_file")  # of a csv that lies in the folder of its files
MAX_NAME = 500  # characters
NAME_COLUMNS = ("material_id", "name", "id")


class LearnedValue(NamedTuple):
    """A property as a regression reads it."""

    value: float
    error: float  # mean absolute error: of generated crystals of such values, where measured
    is_inside: bool = True  # whether the crystal is within the domain of the regression
    expected: float | None = None  # mean of what other methods find where this value is read


@dataclass(frozen=True)
class StructureRecord:
    """One structure as read, or the one-line reason why it could not be."""

    name: str
    structure: "Structure | None"
    error: str | None = None
    properties: dict[str, float] = field(default_factory=dict)
    split: str | None = None  # of a table with a `split` column
    unread: dict[str, str | float] = field(default_factory=dict)  # labels that are no finite number
    targets: dict[str, float | int | str] = field(default_factory=dict)  # asked of a sample
    learned: dict[str, LearnedValue] = field(default_factory=dict)  # measured by regressions


@dataclass(frozen=True)
class Document:
    """One structure not parsed yet: cheap to read and to hand to another process."""

    name: str
    format: Format
    content: str | Mapping[str, object]  # text; a table row; or the reason why it is unreadable
    labels: Mapping[str, object] = field(default_factory=dict)  # the table row that names a file


def row_name(row: Mapping[str, object], fallback: str) -> str:
    """The name that a row gives, else another one."""
    names = (row.get(key) for key in NAME_COLUMNS)
    return shown_name(next((str(name) for name in names if name not in (None, "")), fallback))


def shown_name(name: str) -> str:
    """A name in one printable line, the end of one that is longer than anybody reads.

    Names come from files, tables and archives of other people; some are no text at all.
    """
    return "".join(c if c.isprintable() else "_" for c in name[-MAX_NAME:])
