"""Properties of the crystals of the embedded table: a candidate that equals one has its values."""

from functools import cache

import pyarrow as pa
import pyarrow.parquet as pq

from mattergen_lite.data.table import EMBEDDED, read_table, table_path


def known_value(material_id: str, name: str) -> float | None:
    """Value of a property of a known crystal, in the units of the table.

    Args:
        material_id: Of the embedded table, such as "mp-19017"; other references have no values.
        name: Column of the table, such as "band_gap".

    Returns:
        None if the crystal, the property or the value is not there.
    """
    row = _places().get(material_id)
    if row is None or name not in _columns():
        return None
    value = _column(name)[row].as_py()
    return float(value) if isinstance(value, int | float) else None


@cache
def _columns() -> frozenset[str]:
    return frozenset(pq.read_schema(table_path(EMBEDDED)).names)


@cache
def _places() -> dict[str, int]:
    """Row of every crystal."""
    names = read_table(EMBEDDED, ["material_id"])["material_id"].to_pylist()
    return {name: row for row, name in enumerate(names)}


@cache
def _column(name: str) -> pa.ChunkedArray:
    return read_table(EMBEDDED, [name])[name]
