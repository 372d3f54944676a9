"""The command `data info`."""

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from mattergen_lite.folders import claimed_file
from mattergen_lite.options.flat import flat

if TYPE_CHECKING:
    from mattergen_lite.data.describe import DatasetInfo


@flat
def data_info(table: str = "embedded", /, *, png: Path | None = None) -> "DatasetInfo":
    """Summarise a crystal table: counts, sizes, elements, property coverage.

    Args:
        table: A parquet table, or the one inside the package.
        png: Also draw the summary into this file.

    Raises:
        ValueError: If the table is missing or is not a crystal table.
    """
    from mattergen_lite.data.describe import describe

    with nullcontext() if png is None else claimed_file(png):
        info = describe(table)
        if png is not None:
            info.write_png(png)
    return info
