"""Crystal tables on disk: one row a crystal, its atoms, its orbits, its properties."""

import hashlib
from collections.abc import Sequence
from importlib.resources import as_file, files
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mattergen_lite.config import DataConfig
from mattergen_lite.io.compressed import unpacking
from mattergen_lite.options.request import EMBEDDED, NEW_FRAMEWORKS

_SHIPPED = {EMBEDDED: "mp.parquet", NEW_FRAMEWORKS: "new_frameworks.parquet"}
UNITS = {  # of the properties of the embedded table
    "formation_energy_per_atom": "eV/atom",
    "e_above_hull": "eV/atom",
    "band_gap": "eV",
    "band_gap_hse": "eV",
    "bulk_modulus": "GPa",
    "shear_modulus": "GPa",
    "magnetic_density": "µB/Å³",
    "magnetization_per_atom": "µB/atom",
    "dielectric_total": "",
    "dielectric_electronic": "",
}


def table_path(path: str | Path) -> Path:
    """The file behind a table's name: one in the package for "embedded" and "new-frameworks"."""
    if str(path) not in _SHIPPED:
        return Path(path)
    with as_file(files("mattergen_lite") / "assets" / _SHIPPED[str(path)]) as shipped:
        return shipped


def table_hash(path: str | Path) -> str:
    """SHA-256 of a crystal table's file: the data's identity in provenance records."""
    return hashlib.sha256(table_path(path).read_bytes()).hexdigest()


def read_crystal_table(path: str | Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a crystal table, or the one in the package if `path` is "embedded".

    Raises:
        ValueError: If the file is missing or is not a crystal table.
    """
    source = table_path(path)
    try:
        if source.exists() and not (source.is_file() or source.is_dir()):
            raise OSError("it is a pipe or a device")
        with unpacking(source):
            return pq.read_table(source, columns=None if columns is None else list(columns))
    except (OSError, pa.ArrowException) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(f"cannot read crystal table {source}: {reason}") from None


def in_splits(table: pa.Table, splits: Sequence[str]) -> pa.ChunkedArray:
    """Whether each row is in one of the named splits."""
    return pc.is_in(table["split"].cast(pa.string()), pa.array(list(splits)))


def select_rows(table: pa.Table, splits: Sequence[str], config: DataConfig) -> pa.Table:
    """Rows of the named splits within the configured limits.

    Raises:
        ValueError: If nothing is left.
    """
    keep = pc.and_(
        in_splits(table, splits),
        pc.less_equal(table["num_atoms"], config.max_atoms),
    )
    if "orbit_numbers" in table.column_names:
        num_orbits = pc.list_value_length(table["orbit_numbers"])
        keep = pc.and_(keep, pc.less_equal(num_orbits, config.max_orbits))
    if config.max_e_above_hull is not None:
        keep = pc.and_kleene(keep, pc.less_equal(table["e_above_hull"], config.max_e_above_hull))
    selected = table.filter(keep)
    if selected.num_rows == 0:
        raise ValueError(
            f"dataset {config.path} has no crystals in splits {', '.join(splits)} with at most "
            f"{config.max_orbits} orbits, {config.max_atoms} atoms and e_above_hull <= "
            f"{config.max_e_above_hull}"
        )
    return selected
