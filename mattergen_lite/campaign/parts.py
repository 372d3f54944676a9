"""The results on disk: a parquet dataset of one file a unit, which appears at once or not at all.

    pyarrow.dataset.dataset("campaign/candidates")      # also while the campaign is running

The columns are those of `candidates.csv`, then what the crystal is (`lattice`, `atomic_numbers`,
`frac_coords`: relaxed where it was relaxed) and the whole candidate as JSON. A file is named by
the key of its unit, so a unit delivered twice is the same file written twice. What a unit cost and
where it was worked out is in the metadata of its file, so that equal results are equal tables.
"""

import json
import os
import types
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Union, get_args, get_origin, get_type_hints

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import TypeAdapter

from mattergen_lite.campaign.plan import Unit
from mattergen_lite.folders import atomic_path
from mattergen_lite.io.tensors import structure_to_json
from mattergen_lite.request.targets import PropertyTarget
from mattergen_lite.scoring.candidate import Candidate
from mattergen_lite.scoring.judge import Judge
from mattergen_lite.scoring.metrics.screening_loss import ScreeningTally
from mattergen_lite.scoring.property_outcome import Outcome
from mattergen_lite.scoring.score import Score, criteria_of

CANDIDATES = "candidates"
_PROVENANCE = b"mattergen_lite"
_STORED = TypeAdapter(Candidate)
_ARROW = {bool: pa.bool_(), int: pa.int64(), float: pa.float64()}
_ABOUT_TARGETS = (
    "target_",
    "measured_",
    "predicted_",
    "confirmed_",
)  # what such columns begin with
_CRYSTAL = {
    "merit": pa.list_(pa.float64()),  # orders candidates of all units, the best first
    "lattice": pa.list_(pa.float64()),
    "atomic_numbers": pa.list_(pa.int64()),
    "frac_coords": pa.list_(pa.float64()),
    "candidate": pa.string(),
}


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """Counts, times and provenance of a finished unit, without its candidates."""

    key: str
    start: int
    num_sampled: int
    left: dict[str, int]  # check -> candidates that pass it and every one before
    quarantined: dict[str, int] = field(default_factory=dict)  # reason -> crystals given up
    screened: ScreeningTally = field(default_factory=ScreeningTally)
    seconds: dict[str, float] = field(default_factory=dict)  # of each stage
    started: float = 0.0  # seconds since the epoch
    finished: float = 0.0
    worker: str = ""
    device: str = ""
    peak_memory: int | None = 0  # bytes, of the worker so far; None where the system is silent
    provenance: dict[str, object] = field(default_factory=dict)


_RECEIPT = TypeAdapter(Receipt)


def part_path(run_dir: Path, key: str, start: int) -> Path:
    """Path of the file of a unit's results, which exists once the unit is finished."""
    return run_dir / CANDIDATES / f"{start:010d}-{key}.parquet"


def finished_keys(run_dir: Path) -> set[str]:
    """Keys of the units that are stored."""
    return {path.stem.partition("-")[2] for path in part_paths(run_dir)}


def part_paths(run_dir: Path) -> list[Path]:
    """All stored units, in order; hidden files are still being written, or never were."""
    found = (run_dir / CANDIDATES).glob("*.parquet")
    return sorted(path for path in found if path.name[0] != "." and path.is_file())


def commit(
    run_dir: Path,
    unit: Unit,
    candidates: Sequence[Candidate],
    judge: Judge,
    receipt: Receipt,
) -> None:
    """Store a unit durably, at once: after a power cut the file is whole or absent.

    Raises:
        OSError: If there is no room, or the folder cannot be written; nothing is stored then.
    """
    required = judge.options.require or ()
    named = sorted(candidates, key=lambda one: one.raw.name)
    rows = [_row(one, unit.key, required) for one in named]
    note = json.dumps(asdict(receipt))
    columns = schema(judge.targets).with_metadata({_PROVENANCE: note.encode()})
    path = part_path(run_dir, unit.key, unit.start)
    try:
        with atomic_path(path) as temporary:
            pq.write_table(pa.Table.from_pylist(rows, columns), temporary, compression="zstd")
            _synchronise(temporary)
    except FileNotFoundError:
        # Delivered twice: the other one was stored, the campaign is over, and what was unfinished
        # has been cleared away.
        if not path.exists():
            raise
    _synchronise(path.parent)


def _synchronise(path: Path) -> None:
    """Wait until a file, or the entries of a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def receipts(run_dir: Path) -> Iterator[Receipt]:
    """Yield the receipt of every stored unit."""
    for path in part_paths(run_dir):
        yield read_receipt(path)


def read_receipt(path: Path) -> Receipt:
    """Read the receipt of one stored unit.

    Raises:
        ValueError: If its file is damaged.
    """
    try:
        return _RECEIPT.validate_json(pq.read_schema(path).metadata[_PROVENANCE])
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} is damaged ({str(error).splitlines()[0][:200]}): remove it, and the same "
            "command makes it again"
        ) from None


def stored_candidate(text: str) -> Candidate:
    """The candidate of a row, from its JSON."""
    return _STORED.validate_python(json.loads(text))


def schema(targets: Sequence[PropertyTarget] = ()) -> pa.Schema:
    """Columns of every file of a campaign, whatever its values; a column may be empty in one."""
    typed = _column_types()
    for one in targets:
        kind = pa.float64() if one.definition.kind == "real" else pa.string()
        name = one.definition.name
        typed |= dict.fromkeys((f"{prefix}{name}" for prefix in _ABOUT_TARGETS), kind)
        errors = (f"predicted_{name}_error", f"confirmed_{name}_error")
        typed |= dict.fromkeys(errors, pa.float64()) | {f"method_{name}": pa.string()}
    named = Candidate(
        raw=Score(name=""),
        structure=None,
        outcomes=tuple(_nothing(one) for one in targets),
    ).row()
    columns = {name: typed[name] for name in named if name != "rank"}
    return pa.schema({"unit": pa.string(), **columns, **_CRYSTAL})


def _nothing(target: PropertyTarget) -> Outcome:
    """An outcome that names the property only."""
    name = target.definition.name
    return Outcome(property=name, target="", value=None, method="", error=None, on_target=None)


def _column_types() -> dict[str, pa.DataType]:
    """Type of every column that is not about a target."""
    criteria = [Score, *criteria_of(Score).values(), *criteria_of(Candidate).values()]
    typed = {
        name: _arrow_type(annotation)
        for criterion in criteria
        for name, annotation in get_type_hints(criterion).items()
    }
    typed |= {f"relaxed_{name}": kind for name, kind in typed.items()}
    texts = ("formula", "verdict", "failed_checks", "symmetry_change")
    truths = ("on_target", "kept_symmetry")
    return typed | dict.fromkeys(texts, pa.string()) | dict.fromkeys(truths, pa.bool_())


def _arrow_type(annotation: object) -> pa.DataType:
    """Column type of a field as `flatten` writes it: collections become text."""
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) in (Union, types.UnionType):
        (annotation,) = (one for one in get_args(annotation) if one is not type(None))
    return _ARROW.get(annotation, pa.string())


def _row(candidate: Candidate, key: str, required: Collection[str]) -> dict[str, object]:
    """One row of the dataset."""
    final = candidate.final_structure
    crystal: Mapping[str, list] = {} if final is None else structure_to_json(final)
    row: dict[str, object] = {"unit": key, **candidate.row()}
    for name, value in row.items():  # categories are numbers or words: text in either case
        if name.startswith(_ABOUT_TARGETS) and not isinstance(value, float | None):
            row[name] = str(value)
    return row | {
        "merit": [float(part) for part in candidate.sort_key(required)],
        "lattice": crystal and [x for vector in crystal["lattice"] for x in vector],
        "atomic_numbers": crystal and crystal["atomic_numbers"],
        "frac_coords": crystal and [x for atom in crystal["frac_coords"] for x in atom],
        "candidate": json.dumps(_STORED.dump_python(candidate, mode="json")),
    }
