"""Build the data set of labels and the packaged energies of reference phases.

    python scripts/build_dft_labels.py labels.jsonl --accuracy accuracy.jsonl --results results

`labels.jsonl` is what `label_with_dft.py` writes, `accuracy.jsonl` what
`benchmarks/dft_accuracy.py` writes, `results` their folder of calculations. Lines of labels in the
data set stay unless the file has a newer one. Prints the table of the data card.
"""

import argparse
import json
from collections.abc import Iterable
from pathlib import Path

import pandas as pd
from dft_labels import label_table, read_labels, reliability

from mattergen_lite.dft.cache import PACKAGED, ResultFolder
from mattergen_lite.dft.gpaw import Gpaw
from mattergen_lite.dft.phases import phase_by_id
from mattergen_lite.dft.verification import Verifier

ROOT = Path(__file__).parents[1]
LABELS = ROOT / "datasets" / "dft_labels.parquet"
PHASES = ROOT / "mattergen_lite" / "assets" / PACKAGED
KEPT = ("energy", "num_atoms", "band_gap", "moment", "cpu_seconds", "num_kpoints", "engine")


def main() -> None:
    """Command line: two files out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("labels", type=Path)
    parser.add_argument("--accuracy", type=Path)
    parser.add_argument("--results", type=Path, required=True)
    options = parser.parse_args()
    rows = _lines(options.labels)
    table = label_table(rows)
    if LABELS.exists():
        table = pd.concat([read_labels(LABELS), table]).drop_duplicates(
            ["pool", "name"], keep="last"
        )
    table = table.sort_values(["pool", "stratum", "time"], ignore_index=True)
    table.to_parquet(LABELS, compression="zstd", index=False)
    accuracy = _lines(options.accuracy) if options.accuracy else []
    number = write_phases([*rows, *accuracy], ResultFolder(options.results))
    print(f"{LABELS}: {len(table)} rows, {table.error.isna().sum()} with an energy")
    print(f"{PHASES}: {number} calculations")
    print(table.error.dropna().map(_kind).value_counts().to_string())
    print(reliability(table).round(3).to_string(index=False))


def write_phases(rows: Iterable[dict], results: ResultFolder) -> int:
    """Write results of all reference phases of the rows; returns how many there are."""
    verifier = Verifier(engine=Gpaw(), results=results)
    kept = json.loads(PHASES.read_text(encoding="utf-8")) if PHASES.exists() else {}
    ids = {phase for row in rows for r in row.get("reactions") or () for phase in r["material_ids"]}
    for material_id in sorted(ids):
        for start in verifier.work(phase_by_id(material_id).structure).starts:
            result = results.lookup(start.key(verifier.engine.versions))
            if result is not None and result.error is None:
                plain = {name: getattr(result, name) for name in KEPT}
                kept[start.key(verifier.engine.versions)] = plain | {"material_id": material_id}
    lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(kept[key])}" for key in sorted(kept))
    PHASES.write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")
    return len(kept)


def _kind(error: str) -> str:
    """Reason of a failure without the names of elements and numbers."""
    for words in ("no suitable pseudopotential", "adds U", "too dear", "no small known phases"):
        if words in error:
            return words
    return error


def _lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.open(encoding="utf-8")] if path.exists() else []


if __name__ == "__main__":
    main()
