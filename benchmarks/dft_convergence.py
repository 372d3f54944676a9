"""Measure how settings change energies of reaction: k-point density, cutoff and smearing.

    python benchmarks/dft_convergence.py accuracy.jsonl --num 6 --out convergence.jsonl

Takes the cheapest crystals of the file that `dft_accuracy.py` writes, a metal and an insulator in
turn, and calculates their first reaction with each setting made finer. Prints the change of the
energy of reaction against the default, meV/atom.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from mattergen_lite.dft.cache import ResultFolder
from mattergen_lite.dft.gpaw import Gpaw
from mattergen_lite.dft.phases import phase_by_id
from mattergen_lite.dft.reactions import energy_of_reaction
from mattergen_lite.dft.settings import DftSettings
from mattergen_lite.dft.verification import Verifier

FINER = {
    "k density 4": {"kpoint_density": 4.0},
    "cutoff 600 eV": {"cutoff": 600.0},
    "smearing 0.05 eV": {"smearing": 0.05},
}


def main() -> None:
    """Command line: append a line a crystal and setting."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("accuracy", type=Path)
    parser.add_argument("--num", type=int, default=6)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--results", type=Path, default=None)
    options = parser.parse_args()
    results = ResultFolder(options.results or options.out.parent / "results")
    done = {(row["material_id"], row["setting"]) for row in _lines(options.out)}
    for row in chosen(_lines(options.accuracy), options.num):
        default = reaction_energy(row, DftSettings(), results)
        for name, change in FINER.items():
            if (row["material_id"], name) in done:
                continue
            finer = reaction_energy(row, replace(DftSettings(), **change), results)
            line = {
                "material_id": row["material_id"],
                "formula": row["formula"],
                "band_gap": row["band_gap"],
                "setting": name,
                "change": finer - default,
            }
            with options.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            print(
                f"{row['formula']:12s} {name:18s} {1000 * line['change']:+7.1f} meV/atom",
                flush=True,
            )


def chosen(rows: list[dict], num: int) -> Iterator[dict]:
    """The cheapest metals and insulators in turn."""
    good = sorted((row for row in rows if row["error"] is None), key=_cost)
    metals = [row for row in good if row["band_gap"] < 0.05]
    insulators = [row for row in good if row["band_gap"] >= 0.05]
    pairs = [row for pair in zip(metals, insulators, strict=False) for row in pair]
    yield from pairs[:num]


def _cost(row: dict) -> float:
    return row["seconds"] + row["reference_seconds"]


def reaction_energy(row: dict, settings: DftSettings, results: ResultFolder) -> float:
    """Energy of reaction of a crystal from its phases, eV/atom, without corrections."""
    engine = Gpaw()
    engine.settings = settings
    verifier = Verifier(engine=engine, results=results)
    reaction = row["reactions"][0]

    def energy(material_id: str) -> float:
        work = verifier.work(phase_by_id(material_id).structure)
        return verifier.lowest(work).energy_per_atom

    phases = [energy(phase) for phase in reaction["material_ids"]]
    return energy_of_reaction(energy(row["material_id"]), phases, reaction["shares"])


def _lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.open(encoding="utf-8")] if path.exists() else []


if __name__ == "__main__":
    main()
