"""Fingerprint MP-20's test split for COV-R and COV-P of the `cdvae` protocol.

    pip install ".[coverage]"
    python scripts/build_coverage_reference.py --num-workers 8

Writes `mp_20_test_fingerprints.npz` beside the embedded table: fingerprints, material ids, and the
mean and standard deviation of composition statistics over MP-20's training split. Answers are kept
in a result cache; the same command goes on from it. Crystals come in a random order that
is always the same, so that the first N of them (`--limit N`) are a fair sample.
"""

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pymatgen.core import Composition
from tqdm import tqdm

from mattergen_lite.data.canonical import row_structure
from mattergen_lite.data.table import EMBEDDED, read_crystal_table
from mattergen_lite.files.folders import atomic_path
from mattergen_lite.processes import Failure, Pool, available_cores
from mattergen_lite.scoring.execution.result_cache import ResultCache
from mattergen_lite.scoring.metrics.coverage import (
    FINGERPRINT,
    KnownFingerprints,
    Scaler,
    composition_fingerprint,
)

OUT = Path(__file__).parents[1] / "mattergen_lite/assets/mp_20_test_fingerprints.npz"
COLUMNS = ["split", "material_id", "num_atoms", "lattice", "atomic_numbers", "frac_coords"]


def rows_of(split: str) -> pa.Table:
    """Crystals of a split of the embedded table."""
    table = read_crystal_table(EMBEDDED, COLUMNS)
    return table.filter(pc.equal(table["split"].cast(pa.string()), split))


def fitted_scaler(train: pa.Table) -> Scaler:
    """Mean and standard deviation over the compositions of a table."""
    bar = tqdm(train["atomic_numbers"].to_pylist(), desc="training compositions", disable=None)
    return fit_scaler(np.array([composition_fingerprint(Composition(Counter(z))) for z in bar]))


def fit_scaler(compositions: np.ndarray) -> Scaler:
    """Mean and standard deviation over crystals, without what is not known."""
    return Scaler(mean=np.nanmean(compositions, axis=0), std=np.nanstd(compositions, axis=0))


def save(known: KnownFingerprints, path: Path) -> None:
    """Write a file; fingerprints as float16, whose error is a thousandth of the cutoffs."""
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file,
            material_ids=np.array(known.material_ids),
            structures=known.structures.astype(np.float16),
            compositions=known.compositions.astype(np.float16),
            mean=known.scaler.mean,
            std=known.scaler.std,
        )


def build(out: Path, result_cache: ResultCache, limit: int | None) -> KnownFingerprints:
    """Fingerprints of the test split, or of its first `limit` crystals in the fixed order."""
    table = rows_of("test")
    order = np.random.default_rng(0).permutation(len(table))[:limit]
    rows = table.take(pa.array(order)).to_pylist()
    answers = result_cache.ask(FINGERPRINT, [row_structure(row) for row in rows])
    pairs = zip([row["material_id"] for row in rows], answers, strict=True)
    fingerprints = {}
    for material_id, answer in pairs:
        if isinstance(answer, Failure):
            print(f"{material_id} has no fingerprint: {answer.reason}")
        else:
            fingerprints[material_id] = answer
    known = KnownFingerprints.of(
        list(fingerprints), fingerprints.values(), fitted_scaler(rows_of("train"))
    )
    save(known, out)
    return known


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--journal", type=Path, default=Path("runs/coverage/fingerprints.jsonl"))
    parser.add_argument("--limit", type=int, help="take only so many crystals")
    parser.add_argument("--num-workers", type=int, default=available_cores())
    choice = parser.parse_args(arguments)
    with Pool(choice.num_workers) as pool:
        known = build(choice.out, ResultCache(pool, choice.journal), choice.limit)
    size = choice.out.stat().st_size / 1e6
    print(f"{choice.out.name}: {len(known.material_ids)} crystals, {size:.2f} MB")


if __name__ == "__main__":
    main()
