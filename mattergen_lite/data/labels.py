"""A user's labelled crystals: read from any source, checked, with the property that they define.

What is wrong with the labels is said in one line before anything is computed or written.
"""

import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from torch import nn

from mattergen_lite.config import PropertyConfig
from mattergen_lite.data.canonical import CORE_SCHEMA
from mattergen_lite.data.prepare import prepare
from mattergen_lite.data.table import in_splits, read_crystal_table, table_path
from mattergen_lite.io.bounds import check_readable, check_unique_columns
from mattergen_lite.io.read import ACCEPTED, read_csv

MIN_LABELS = 20
VAL_FRACTION = 0.15  # of crystals that come without a split
MAX_CATEGORIES = 1000
MAX_ATOMS = 200  # of a primitive cell; what a model makes is asked of the model
PREPARED = "crystals.parquet"


@dataclass(frozen=True, kw_only=True)
class LabelledCrystals:
    """A crystal table with a column of one property, null where unknown."""

    table: pa.Table
    prop: PropertyConfig  # mean and spread not filled in
    # crystals of the source that are not in the table, by reason
    left_out: Mapping[str, int] = field(default_factory=dict)

    def restricted(self, keep: pa.ChunkedArray) -> "LabelledCrystals":
        """Only the crystals of the rows that are to be kept."""
        return replace(self, table=self.table.filter(keep))

    def labelled(self, *splits: str) -> pa.Table:
        """The rows of these splits with a known value."""
        inside = in_splits(self.table, splits)
        return self.table.filter(pc.and_(inside, pc.is_valid(self.table[self.prop.name])))


def read_labelled(
    source: str | Path,
    prop: PropertyConfig,
    *,
    keep: Path,
    seed: int,
    num_workers: int,
) -> LabelledCrystals:
    """Labelled crystals of a csv, a table or a folder, in the cells that training needs.

    Args:
        source: Anything `read_structures` reads, or a folder with one csv that names its files. A
            crystal table, such as `data prepare` writes, is taken as it is.
        prop: The property; its name is the column of the values, empty where unknown.
        keep: Folder for the prepared table and its lists of rejected and of duplicate crystals.
        seed: Of the random split into training and validation, where there is no column `split`.

    Raises:
        ValueError: If the column is unknown, holds no usable values or too few of them.
    """
    source = _label_file(table_path(source))
    check_readable(source, ACCEPTED)
    _check_name(prop.name)
    _check_column(prop.name, source)
    if _is_crystal_table(source):
        table = read_crystal_table(source)
        return _checked(table, source, prop)
    with TemporaryDirectory() as folder:
        table = Path(folder) / PREPARED
        report = prepare(
            source,
            table,
            num_workers=num_workers,
            val_fraction=VAL_FRACTION,
            test_fraction=0.0,
            seed=seed,
            max_atoms=MAX_ATOMS,
        )
        left_out = {
            f"unreadable or above {MAX_ATOMS} atoms": len(report.rejected),
            "equal to an earlier crystal, whose label counts": len(report.duplicates),
        }
        crystals = replace(_checked(read_crystal_table(table), source, prop), left_out=left_out)
        shutil.copytree(folder, keep, dirs_exist_ok=True)
    return crystals


def _label_file(source: Path) -> Path:
    """The csv of a folder that has one, else the source itself."""
    tables = sorted(source.glob("*.csv")) if source.is_dir() else []
    if len(tables) > 1:
        names = ", ".join(table.name for table in tables)
        raise ValueError(f"{source} has several tables: pass one of {names}")
    return tables[0] if tables else source


def _check_name(name: str) -> None:
    """A property is a key of conditions and of a torch module dictionary."""
    if not name or set(name) & set(".=") or hasattr(nn.ModuleDict, name):
        raise ValueError(f"property name {name!r} cannot be used: rename the column")


def _check_column(name: str, source: Path) -> None:
    """Look at the column before the structures are read, where the source is a table."""
    if not source.exists() or source.suffix.lower() not in (".csv", ".parquet"):
        return
    is_parquet = source.suffix.lower() == ".parquet"
    table = read_crystal_table(source) if is_parquet else read_csv(source, [])
    check_unique_columns(source, table.column_names)
    if name not in table.column_names:
        raise ValueError(f"{source} has no column {name!r}: it has {', '.join(table.column_names)}")
    column = table[name]
    if column.null_count == len(column):
        raise ValueError(f"column {name!r} of {source} has no values")
    if pa.types.is_string(column.type):
        words = [text for text in column.to_pylist() if text]
        example = next((text for text in words if not _is_number(text)), words[0])
        raise ValueError(f"column {name!r} of {source} holds text such as {example!r}, not numbers")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _is_crystal_table(source: Path) -> bool:
    return source.suffix.lower() == ".parquet" and set(CORE_SCHEMA.names) <= set(
        pq.read_schema(source).names
    )


def _checked(table: pa.Table, source: Path, prop: PropertyConfig) -> LabelledCrystals:
    """The table with the column as finite float32 or null, if it is fit to learn from."""
    name = prop.name
    if name not in table.column_names:
        raise ValueError(f"no crystal in {source} has a value of {name!r}")
    column = table[name].cast(pa.float32())
    column = pc.if_else(pc.is_finite(column), column, pa.scalar(None, pa.float32()))
    known = column.drop_null().to_pylist()
    if len(known) < MIN_LABELS:
        raise ValueError(
            f"{len(known)} crystals of {source} have a value of {name!r}: "
            f"expected at least {MIN_LABELS}"
        )
    if len(set(known)) == 1:
        raise ValueError(f"column {name!r} of {source} is constant: {known[0]:g} everywhere")
    if prop.log and min(known) <= 0:
        raise ValueError(f"column {name!r} of {source} has {min(known):g}: no logarithm of that")
    if prop.kind == "category":
        prop = prop.model_copy(update={"num_categories": _num_categories(known, name)})
    position = table.column_names.index(name)
    return LabelledCrystals(table=table.set_column(position, name, column), prop=prop)


def _num_categories(known: Sequence[float], name: str) -> int:
    strange = next((v for v in known if v % 1 or not 1 <= v <= MAX_CATEGORIES), None)
    if strange is not None:
        raise ValueError(
            f"{name!r} has the category {strange:g}: expected whole numbers from 1 to "
            f"{MAX_CATEGORIES}"
        )
    return math.ceil(max(known))
