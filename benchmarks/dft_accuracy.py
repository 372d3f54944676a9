"""Measure the error of `verify` on known metastable crystals of several chemistries.

    python benchmarks/dft_accuracy.py accuracy.jsonl --num 40

Crystals lie 0.01 to 0.2 eV/atom above the hull by the Materials Project, are drawn at random in
turn from five chemistries, and are no references of their own reactions. Each line of the file is
one crystal; the same command goes on from it. `--report` prints the table.
"""

import argparse
import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd

from mattergen_lite.data.materials import KnownCompound
from mattergen_lite.dft.cache import ResultFolder
from mattergen_lite.dft.gpaw import Gpaw
from mattergen_lite.dft.phases import metastable_phases
from mattergen_lite.dft.verification import Verifier, refusal

RANGE = (0.01, 0.2)  # eV/atom above the hull
MAX_ATOMS = 12
ANIONS = {
    "halide": {"F", "Cl", "Br", "I"},
    "chalcogenide": {"S", "Se", "Te"},
    "nitride": {"N"},
    "oxide": {"O"},
}
CLASSES = (*ANIONS, "intermetallic")


def main() -> None:
    """Command line: calculate, or report what was calculated."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--num", type=int, default=40)
    parser.add_argument("--max-seconds", type=float, default=120.0)
    parser.add_argument("--results", type=Path, default=None)
    parser.add_argument("--report", action="store_true")
    options = parser.parse_args()
    if options.report:
        print(report(options.file))
        return
    folder = options.results or options.file.parent / "results"
    measure(options.file, ResultFolder(folder), options.num, options.max_seconds)


def measure(path: Path, results: ResultFolder, num: int, max_seconds: float) -> None:
    """Append a line a crystal until so many have an energy."""
    rows = _rows(path)
    done = {row["material_id"] for row in rows}
    counts = Counter(row["chemistry"] for row in rows if row["error"] is None)
    drawn = metastable_phases(*RANGE, max_atoms=MAX_ATOMS, seed=0)
    while counts.total() < num and drawn:
        chemistry = min(CLASSES, key=lambda name: counts[name])
        phase = next((phase for phase in drawn if chemistry_of(phase) == chemistry), None)
        if phase is None:
            return
        drawn.remove(phase)
        verifier = Verifier(engine=Gpaw(), results=results, exclude=(phase.material_id,))
        if phase.material_id in done or refusal(phase.structure.composition, verifier.engine):
            continue
        row = _measured(phase, verifier, max_seconds) | {"chemistry": chemistry}
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        counts[chemistry] += row["error"] is None
        print(phase.formula, chemistry, row["error"] or f"{row['difference']:+.3f}", flush=True)


def _measured(phase: KnownCompound, verifier: Verifier, max_seconds: float) -> dict:
    row = {"material_id": phase.material_id, "known_e_above_hull": phase.e_above_hull}
    try:
        plan = verifier.plan(phase.structure)
        if plan.estimated_seconds > max_seconds:
            raise ValueError(f"too dear: {plan.estimated_seconds:.0f} core s")
    except ValueError as error:
        return row | {"formula": phase.formula, "error": str(error)}
    verification = verifier.carry_out(plan)
    return (
        row | asdict(verification) | {"difference": verification.e_above_hull - phase.e_above_hull}
    )


def chemistry_of(phase: KnownCompound) -> str:
    """Class by the only kind of anion; "mixed" with several kinds, H, B, C, Si, P or As."""
    symbols = {element.symbol for element in phase.structure.composition.elements}
    kinds = [name for name, anions in ANIONS.items() if symbols & anions]
    others = symbols & {"H", "B", "C", "P", "As"}
    if others or len(kinds) > 1:
        return "mixed"
    return kinds[0] if kinds else "intermetallic"


def report(path: Path) -> str:
    """Errors by chemistry, and of every crystal."""
    frame = pd.DataFrame([row for row in _rows(path) if row["error"] is None])
    lines = [f"{'chemistry':15s}  n   MAE    bias   worst"]
    groups = [*frame.groupby("chemistry"), ("all", frame)]
    for name, group in groups:
        error = group.difference
        lines.append(
            f"{name:15s} {len(group):2d} {error.abs().mean():6.3f} {error.mean():+6.3f} "
            f"{error.abs().max():6.3f}"
        )
    for row in frame.sort_values(["chemistry", "formula"]).to_dict("records"):
        reaction = row["reactions"][0]
        phases = " + ".join(
            f"{share:.3g} {formula}"
            for share, formula in zip(reaction["shares"], reaction["formulas"], strict=True)
        )
        lines.append(
            f"| {row['material_id']} | {row['formula']} | {row['chemistry']} | {phases} | "
            f"{row['known_e_above_hull']:.3f} | {row['e_above_hull']:.3f} | "
            f"{row['difference']:+.3f} |"
        )
    lines.append(f"median core s {np.median(frame.seconds):.0f}")
    return "\n".join(lines)


def _rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.open(encoding="utf-8")] if path.exists() else []


if __name__ == "__main__":
    main()
