"""From anybody's structures to a crystal table, and what is in such a table.

Every crystal is brought to one form: primitive, Niggli-reduced, right-handed, a along x and b in
the xy plane, atoms sorted by atomic number. The table has one row per crystal: `material_id`,
`formula`, `num_atoms`, `atomic_numbers`, `frac_coords` (3N numbers in [0, 1)), `lattice` (rows a,
b, c in Å), `space_group`, `split` and one float column per property, null where unknown.

Beside the atoms stands what training works on: the same crystal as orbits (`symmetry.columns`).
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from functools import partial
from itertools import starmap
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import spglib
import torch
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Structure
from tqdm import tqdm

from mattergen_lite.elements import periodic_table_position, symbols
from mattergen_lite.folders import atomic_path
from mattergen_lite.geometry import canonical_orientation
from mattergen_lite.io.records import (
    Document,
    StructureRecord,
    build_structure,
    iter_documents,
    parse_document,
    write_csv,
)
from mattergen_lite.processes import Failure, Pool
from mattergen_lite.symmetry.columns import ORBIT_TYPES, orbit_columns
from mattergen_lite.symmetry.orbits import Orbits, find_orbits

SPLITS = ("train", "val", "test", "val_or_test", "unknown", "extra")
SYMPREC = 0.01  # Å; relaxed crystals
LOOSE_SYMPREC = 0.1  # Å; where spglib finds nothing at SYMPREC
DECIMALS = 5  # 1e-5 Å or less than 1e-3 Å of a coordinate: far below what DFT relaxes to
CURATE_TIME_LIMIT = 60.0  # s per structure
DUPLICATES_TIME_LIMIT = 86_400.0  # s per composition
# Fractions of special positions are written as such, so that 1/3 is one number, not several.
SPECIAL_FRACTIONS = 24

CORE_SCHEMA = pa.schema(
    {
        "material_id": pa.string(),
        "formula": pa.string(),
        "num_atoms": pa.int16(),
        "atomic_numbers": pa.list_(pa.int16()),
        "frac_coords": pa.list_(pa.float32()),
        "lattice": pa.list_(pa.float32()),
        "space_group": pa.int16(),
        "split": pa.string(),
        **ORBIT_TYPES,
    }
)

Row = dict[str, object]
A = TypeVar("A")
R = TypeVar("R")


# One crystal


def canonical_crystal(structure: Structure) -> Structure:
    """The same crystal in its canonical cell; quantities per atom or volume stay valid.

    Primitive (spglib, symmetrised within `SYMPREC`; the given cell if spglib fails),
    Niggli-reduced, right-handed, lattice lower triangular, atoms sorted by atomic number. Chirality
    is kept: every step is a change of cell or a proper rotation.
    """
    cell = (structure.lattice.matrix, structure.frac_coords, structure.atomic_numbers)
    primitive = spglib.find_primitive(cell, symprec=SYMPREC)
    lattice, frac_coords, numbers = cell if primitive is None else primitive
    lattice, frac_coords = _niggli_cell(np.asarray(lattice), np.asarray(frac_coords))
    if np.linalg.det(lattice) < 0:  # the same points, described from the inverted axes
        lattice, frac_coords = -lattice, -frac_coords
    lattice = canonical_orientation(torch.from_numpy(lattice)).numpy()
    order = np.argsort(numbers, kind="stable")
    return build_structure(lattice, np.asarray(numbers)[order].tolist(), frac_coords[order])


def _niggli_cell(lattice: np.ndarray, frac_coords: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    reduced = spglib.niggli_reduce(lattice)
    if reduced is None:
        return lattice, frac_coords
    return reduced, frac_coords @ lattice @ np.linalg.inv(reduced)


def space_group_number(structure: Structure) -> int:
    """International number, 1..230, at `SYMPREC`, else at `LOOSE_SYMPREC`; 0 if spglib fails."""
    cell = (structure.lattice.matrix, structure.frac_coords, structure.atomic_numbers)
    for symprec in (SYMPREC, LOOSE_SYMPREC):
        dataset = spglib.get_symmetry_dataset(cell, symprec=symprec)
        if dataset is not None:
            return dataset.number
    return 0


def crystal_row(record: StructureRecord, max_atoms: int) -> Row:
    """The table row of a record that holds a structure.

    Raises:
        ValueError: If the primitive cell has more than `max_atoms` atoms, or the split is unknown.
    """
    crystal = _rounded(canonical_crystal(record.structure))
    if len(crystal) > max_atoms:
        raise ValueError(
            f"{len(crystal)} atoms in the primitive cell: expected at most {max_atoms}"
        )
    if record.split is not None and record.split not in SPLITS:
        raise ValueError(f"unknown split {record.split!r}: expected one of {', '.join(SPLITS)}")
    return {
        "material_id": record.name,
        "formula": crystal.composition.reduced_formula,
        "num_atoms": len(crystal),
        "atomic_numbers": list(crystal.atomic_numbers),
        "frac_coords": crystal.frac_coords.ravel().tolist(),
        "lattice": crystal.lattice.matrix.ravel().tolist(),
        "space_group": space_group_number(crystal),
        "split": record.split,
        **orbit_columns(_orbits(crystal)),
    } | {name: value for name, value in record.properties.items() if name not in CORE_SCHEMA.names}


def _orbits(crystal: Structure) -> Orbits:
    return find_orbits(
        np.array(crystal.atomic_numbers), crystal.frac_coords, crystal.lattice.matrix
    )


def _rounded(crystal: Structure) -> Structure:
    """Numbers as they are stored: the space group is then that of the stored crystal."""
    coords = crystal.frac_coords
    special = np.round(coords * SPECIAL_FRACTIONS) / SPECIAL_FRACTIONS
    near = np.abs(coords - special) < 2 * 10.0**-DECIMALS
    coords = np.where(near, special, np.round(coords, DECIMALS)).astype(np.float32)
    lattice = (np.round(crystal.lattice.matrix, DECIMALS) + 0.0).astype(np.float32)
    return build_structure(lattice, list(crystal.atomic_numbers), coords)


def row_structure(row: Mapping[str, object]) -> Structure:
    """The structure of a table row."""
    return build_structure(row["lattice"], row["atomic_numbers"], row["frac_coords"])


# Tables


def table_from_rows(rows: Sequence[Row]) -> pa.Table:
    """Core columns, then one float32 column per property that occurs in any row."""
    names = dict.fromkeys(name for row in rows for name in row if name not in CORE_SCHEMA.names)
    schema = pa.schema([*CORE_SCHEMA, *((name, pa.float32()) for name in names)])
    return pa.Table.from_pylist(list(rows), schema=schema)


def write_table(table: pa.Table, path: str | Path) -> None:
    """Write a parquet file atomically, compressed as for shipping."""
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", compression_level=19)


# Many crystals


@dataclass(frozen=True)
class Rejected:
    """A structure that did not make it into the table."""

    name: str
    reason: str


@dataclass(frozen=True)
class Duplicate:
    """A crystal left out because one kept before it is the same."""

    name: str
    kept: str


@dataclass(frozen=True)
class PrepareReport:
    """What `prepare` did."""

    path: Path
    splits: dict[str, int]  # crystals per split
    rejected: list[Rejected]
    duplicates: list[Duplicate]

    def text(self) -> str:
        """The outcome for a terminal."""
        splits = ", ".join(f"{split} {count}" for split, count in self.splits.items())
        lines = [f"{sum(self.splits.values())} crystals -> {self.path} ({splits})"]
        if self.rejected:
            lines.append(f"{len(self.rejected)} rejected -> {_errors_path(self.path)}")
        if self.duplicates:
            lines.append(f"{len(self.duplicates)} duplicates -> {_duplicates_path(self.path)}")
        return "\n".join(lines)


def prepare(
    source: str | Path,
    out: str | Path,
    *,
    num_workers: int,
    val_fraction: float,
    test_fraction: float,
    seed: int,
    max_atoms: int,
) -> PrepareReport:
    """Turn anything `read_structures` reads into a crystal table for training.

    Args:
        source: Folder, zip, file or table of structures; numeric columns become properties.
        out: The parquet table. Broken structures are listed in `<out>.errors.csv`, duplicates in
            `<out>.duplicates.csv`, each with its reason.
        num_workers: Processes; 0 works in this one, without time limits.
        val_fraction: Share of validation crystals, drawn at random unless a `split` column exists.
        test_fraction: Share of test crystals, likewise.
        seed: Of the random split.
        max_atoms: Largest primitive cell.

    Raises:
        ValueError: If nothing usable is found or too little for the split. Nothing is written then.
    """
    out = Path(out)
    rows, rejected = canonical_rows(iter_documents(source), num_workers, max_atoms)
    if not rows:
        first = rejected[0]
        raise ValueError(f"{source} holds no usable structure; {first.name}: {first.reason}")
    same_as = find_duplicates(rows, num_workers)
    duplicates = [
        Duplicate(rows[later]["material_id"], rows[first]["material_id"])
        for later, first in same_as.items()
    ]
    rows = assign_splits(
        [row for index, row in enumerate(rows) if index not in same_as],
        val_fraction=val_fraction,
        test_fraction=test_fraction,
        seed=seed,
    )
    write_table(table_from_rows(rows), out)
    write_csv(_errors_path(out), ("name", "reason"), map(astuple, rejected))
    write_csv(_duplicates_path(out), ("name", "kept"), map(astuple, duplicates))
    return PrepareReport(out, dict(Counter(row["split"] for row in rows)), rejected, duplicates)


def _errors_path(table: Path) -> Path:
    return table.with_name(f"{table.name}.errors.csv")


def _duplicates_path(table: Path) -> Path:
    return table.with_name(f"{table.name}.duplicates.csv")


def canonical_rows(
    documents: Iterable[Document], num_workers: int, max_atoms: int
) -> tuple[list[Row], list[Rejected]]:
    """Parse and canonicalise documents over processes; what fails is listed with its reason."""
    curate = partial(_curate, max_atoms=max_atoms)
    items = list(documents)
    answers = _parallel(curate, items, num_workers, "canonical cells")
    results = [
        Rejected(item.name, answer.reason) if isinstance(answer, Failure) else answer
        for item, answer in zip(items, answers, strict=True)
    ]
    rows = [result for result in results if not isinstance(result, Rejected)]
    return rows, [result for result in results if isinstance(result, Rejected)]


def _curate(document: Document, max_atoms: int) -> Row | Rejected:
    record = parse_document(document)
    if record.error is not None:
        return Rejected(record.name, record.error)
    try:
        return crystal_row(record, max_atoms)
    except Exception as error:  # one odd cell must not end a run over a million
        return Rejected(record.name, str(error) or type(error).__name__)


def find_duplicates(rows: Sequence[Row], num_workers: int) -> dict[int, int]:
    """Crystals that equal an earlier one of the same composition.

    Two crystals are the same if `StructureMatcher` maps one on the other within a tenth of the
    atomic spacing at unchanged volume: tighter than its defaults, which merge distorted polymorphs
    that have different properties.

    Returns:
        Position of each duplicate -> position of the first crystal it equals.

    Raises:
        ValueError: If comparing the crystals of a composition does not end.
    """
    by_formula: dict[str, list[int]] = defaultdict(list)
    for index, row in enumerate(rows):
        by_formula[row["formula"]].append(index)
    groups = [indices for indices in by_formula.values() if len(indices) > 1]
    members = [[rows[index] for index in indices] for indices in groups]
    limit = DUPLICATES_TIME_LIMIT
    found = _parallel(_duplicates_in_group, members, num_workers, "duplicates", limit)
    lost = next((i for i, answer in enumerate(found) if isinstance(answer, Failure)), None)
    if lost is not None:
        raise ValueError(
            f"duplicates of {members[lost][0]['formula']} cannot be found: {found[lost].reason}"
        )
    return {
        indices[later]: indices[first]
        for indices, pairs in zip(groups, found, strict=True)
        for later, first in pairs.items()
    }


def _duplicates_in_group(rows: Sequence[Row]) -> dict[int, int]:
    matcher = StructureMatcher(ltol=0.05, stol=0.1, angle_tol=3, scale=False)
    structures = [row_structure(row) for row in rows]
    distinct: list[int] = []
    duplicates = {}
    for index, structure in enumerate(structures):
        same = (first for first in distinct if matcher.fit(structures[first], structure))
        first = next(same, None)
        if first is None:
            distinct.append(index)
        else:
            duplicates[index] = first
    return duplicates


def assign_splits(
    rows: Sequence[Row], *, val_fraction: float, test_fraction: float, seed: int
) -> list[Row]:
    """Rows with their split: given ones if any ("unknown" where missing), else random ones.

    Raises:
        ValueError: If the fractions leave nothing to train on.
    """
    if any(row["split"] is not None for row in rows):
        return [row | {"split": row["split"] or "unknown"} for row in rows]
    num_val, num_test = (math.ceil(share * len(rows)) for share in (val_fraction, test_fraction))
    num_train = len(rows) - num_val - num_test
    if min(num_train - 1, num_val, num_test) < 0:
        raise ValueError(
            f"cannot split {len(rows)} crystals with val_fraction={val_fraction} and "
            f"test_fraction={test_fraction}: at least one must be left to train on"
        )
    splits = np.repeat(["train", "val", "test"], [num_train, num_val, num_test])
    shuffled = np.random.default_rng(seed).permutation(splits)
    return [row | {"split": str(split)} for row, split in zip(rows, shuffled, strict=True)]


def _parallel(
    function: Callable[[A], R],
    items: Sequence[A],
    num_workers: int,
    description: str,
    time_limit: float = CURATE_TIME_LIMIT,
) -> list[R | Failure]:
    """Map over processes in order, with a progress bar on terminals."""
    with Pool(min(num_workers, len(items))) as pool:
        answers = pool.map(function, items, time_limit=time_limit)
        return list(tqdm(answers, total=len(items), desc=description, disable=None))


# What a table holds


@dataclass(frozen=True)
class PropertySummary:
    """Coverage and range of a property column."""

    count: int
    minimum: float
    median: float
    maximum: float


@dataclass(frozen=True)
class DatasetInfo:
    """Counts that describe a crystal table."""

    path: str
    num_crystals: int
    splits: dict[str, int]
    sizes: dict[int, int]  # number of atoms -> crystals
    elements: dict[int, int]  # atomic number -> crystals that contain it
    properties: dict[str, PropertySummary]

    def text(self) -> str:
        """The summary for a terminal."""
        common = sorted(self.elements, key=self.elements.__getitem__, reverse=True)[:12]
        elements = ", ".join(f"{symbols()[number]} {self.elements[number]}" for number in common)
        header = f"{'property':28}{'crystals':>10}{'share':>8}{'min':>12}{'median':>12}{'max':>12}"
        return "\n".join(
            [
                f"{self.path}: {self.num_crystals} crystals, {len(self.elements)} elements",
                "splits    " + ", ".join(f"{name} {count}" for name, count in self.splits.items()),
                "atoms     " + ", ".join(f"{size}: {n}" for size, n in self.sizes.items()),
                f"elements  {elements}, ...",
                header,
                *starmap(self._property_line, self.properties.items()),
            ]
        )

    def _property_line(self, name: str, found: PropertySummary) -> str:
        spread = f"{found.minimum:>12.4g}{found.median:>12.4g}{found.maximum:>12.4g}"
        return f"{name:28}{found.count:>10}{found.count / self.num_crystals:>8.1%}{spread}"

    def write_png(self, path: str | Path) -> None:
        """Write the figure, all at once."""
        with atomic_path(path) as temporary:
            self.draw().savefig(temporary, format="png", dpi=150)

    def draw(self) -> "matplotlib.figure.Figure":
        """Figure: elements on the periodic table, sizes, coverage of the properties."""
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator

        figure = Figure(figsize=(12, 9), layout="constrained")
        axes = figure.subplot_mosaic(
            [["elements", "elements"], ["sizes", "properties"]], height_ratios=[3, 2]
        )
        figure.suptitle(f"{Path(self.path).name}: {self.num_crystals:,} crystals")
        draw_elements(axes["elements"], self.elements)
        axes["sizes"].bar(list(self.sizes), list(self.sizes.values()))
        axes["sizes"].xaxis.set_major_locator(MaxNLocator(integer=True))
        axes["sizes"].set(xlabel="atoms in the primitive cell", ylabel="crystals")
        counts = {name: found.count for name, found in reversed(self.properties.items())}
        bars = axes["properties"].barh(list(counts), list(counts.values()))
        axes["properties"].bar_label(bars, fmt="{:,.0f}", padding=3)
        axes["properties"].set(xlabel="crystals with a value", xlim=(0, 1.2 * self.num_crystals))
        axes["properties"].set_xticks([])
        return figure


def draw_elements(axes: "matplotlib.axes.Axes", counts: Mapping[int, int]) -> None:
    """Heat map of counts by atomic number in the periodic table, the f block below it."""
    grid = np.full((9, 18), np.nan)
    for number, symbol in enumerate(symbols()[1:], start=1):
        line, column = periodic_table_position(number)
        grid[line, column] = counts.get(number, np.nan)
        axes.annotate(symbol, (column, line), ha="center", va="bottom", weight="bold")
        label = f"{counts.get(number, 0):,}"
        axes.annotate(label, (column, line + 0.1), ha="center", va="top", fontsize=7)
    image = axes.imshow(grid, cmap="YlGnBu", norm="log", alpha=0.7)
    axes.figure.colorbar(image, ax=axes, label="crystals with the element", shrink=0.7)
    axes.set_axis_off()


def describe(path: str | Path) -> DatasetInfo:
    """Summarise a crystal table; "embedded" is the one in the package.

    Raises:
        ValueError: If the file is missing or is not a crystal table.
    """
    # Here, not above: workers of `prepare` import this module and need no Lightning.
    from mattergen_lite.data.dataset import read_table

    table = read_table(path)
    missing = set(CORE_SCHEMA.names) - set(table.column_names)
    if missing:
        raise ValueError(f"{path} is not a crystal table: no columns {', '.join(sorted(missing))}")
    for field in CORE_SCHEMA:
        if not _is_like(table.schema.field(field.name).type, field.type):
            raise ValueError(
                f"{path} is not a crystal table: column {field.name} holds "
                f"{table.schema.field(field.name).type}, expected {field.type}"
            )
    return DatasetInfo(
        path=str(path),
        num_crystals=table.num_rows,
        splits=_value_counts(table["split"]),
        sizes=dict(sorted(_value_counts(table["num_atoms"]).items())),
        elements=_element_counts(table["atomic_numbers"]),
        properties={
            field.name: _summary(table[field.name])
            for field in table.schema
            if pa.types.is_floating(field.type) and field.name not in CORE_SCHEMA.names
        },
    )


def _is_like(found: pa.DataType, expected: pa.DataType) -> bool:
    """Whether a column has values of the expected kind, of whatever width."""
    if pa.types.is_list(expected):
        lists = pa.types.is_list(found) or pa.types.is_large_list(found)
        return lists and _is_like(found.value_type, expected.value_type)
    if pa.types.is_dictionary(found):
        found = found.value_type
    kinds = (pa.types.is_integer, pa.types.is_floating, _is_text)
    return any(kind(found) and kind(expected) for kind in kinds)


def _is_text(found: pa.DataType) -> bool:
    return pa.types.is_string(found) or pa.types.is_large_string(found)


def _value_counts(column: pa.ChunkedArray) -> dict:
    return {entry["values"]: entry["counts"] for entry in pc.value_counts(column).to_pylist()}


def _element_counts(atomic_numbers: pa.ChunkedArray) -> dict[int, int]:
    crystal = pc.list_parent_indices(atomic_numbers).to_numpy()
    pairs = np.stack([crystal, pc.list_flatten(atomic_numbers).to_numpy()])
    numbers, counts = np.unique(np.unique(pairs, axis=1)[1], return_counts=True)
    return dict(zip(numbers.tolist(), counts.tolist(), strict=True))


def _summary(column: pa.ChunkedArray) -> PropertySummary:
    values = column.drop_null().to_numpy()
    if len(values) == 0:
        return PropertySummary(0, math.nan, math.nan, math.nan)
    return PropertySummary(
        len(values), float(values.min()), float(np.median(values)), float(values.max())
    )
