"""What the release of the symmetry gains in finished runs, and whether the decider agrees.

    OMP_NUM_THREADS=1 python benchmarks/releases.py ours=run/ --json result.json

A run remembers its relaxations and releases by CHGNet; 7net-l3i5 gives its energies of both ends of
those whose energy fell. Rows: by how much CHGNet's fell, and whether symmetry was lost.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from measuring import report
from pydantic import TypeAdapter

from mattergen_lite.scoring.energy.potentials.base import Potential
from mattergen_lite.scoring.energy.potentials.sources import load_potential
from mattergen_lite.scoring.energy.relaxation import MIN_ENERGY_FALL, Relaxation
from mattergen_lite.scoring.energy.stability import potential_energy
from mattergen_lite.scoring.energy.symmetry_breaking import (
    Release,
    is_distortion,
    is_worth_releasing,
)
from mattergen_lite.scoring.execution.result_cache import read_answers

ANSWERS = "answers.jsonl.gz"  # of a run
DECIDER = "7net-l3i5"
EDGES = (1, 5, 10, 20, np.inf)  # meV/atom


@dataclass(frozen=True, kw_only=True)
class Fall:
    """A crystal whose energy fell when its symmetry was released; energies in meV/atom."""

    kept: int  # space group
    released: int
    relaxer: float  # change of the energy
    decider: float  # likewise

    @property
    def is_accepted(self) -> bool:
        """Whether both potentials find it worth it."""
        changes = (self.relaxer, self.decider)
        return all(
            is_worth_releasing(change / 1000, self.kept, self.released) for change in changes
        )


def read_releases(run: Path) -> Iterator[tuple[Relaxation, Release]]:
    """The releases of a run, each with the relaxation that it began with."""
    relaxed, released = defaultdict(list), []
    for line in read_answers(run / ANSWERS):
        answer = json.loads(line)["answer"]
        if "accepted" in answer:
            released.append(TypeAdapter(Release).validate_python(answer))
        elif answer.get("structure") and "constrained_space_group" in answer:
            relaxation = TypeAdapter(Relaxation).validate_python(answer)
            relaxed[relaxation.structure.composition.reduced_formula].append(relaxation)
    for release in (record for record in released if record.relaxation.structure is not None):
        start = release.relaxation.energy_per_atom - release.energy_change
        same = relaxed[release.relaxation.structure.composition.reduced_formula]
        yield (
            min(same, key=lambda row: abs(row.energy_per_atom - start)),
            release,
        )


def fall(kept: Relaxation, release: Release, decider: Potential) -> Fall:
    """What the release changed, by both potentials."""
    before, after = (
        potential_energy(relaxation.structure, decider).energy_per_atom
        for relaxation in (kept, release.relaxation)
    )
    return Fall(
        kept=kept.constrained_space_group,
        released=release.space_group,
        relaxer=1000 * release.energy_change,
        decider=1000 * (after - before),
    )


def summarise(name: str, falls: Sequence[Fall]) -> Iterator[dict[str, str | int | float]]:
    """One row for each size of the fall, with lost and with kept symmetry."""
    for is_lost in (True, False):
        for low, high in pairwise(EDGES):
            chosen = [
                drop
                for drop in falls
                if is_distortion(drop.kept, drop.released) == is_lost
                and low < -drop.relaxer <= high
            ]
            if chosen:
                yield {
                    "set": name,
                    "symmetry": "lost" if is_lost else "not lost",
                    "fall": f"{low} to {high} meV/atom",
                    "crystals": len(chosen),
                    "to P1": sum(drop.released == 1 for drop in chosen),
                    "decider falls": sum(drop.decider < -1000 * MIN_ENERGY_FALL for drop in chosen),
                    "decider rises": sum(drop.decider > 1000 * MIN_ENERGY_FALL for drop in chosen),
                    "decider median": float(np.median([drop.decider for drop in chosen])),
                    "accepted": sum(drop.is_accepted for drop in chosen),
                    "accepted to P1": sum(
                        drop.is_accepted and drop.released == 1 for drop in chosen
                    ),
                }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", help="name=folder")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    decider = load_potential(DECIDER)
    rows, counts = [], {}
    for text in options.runs:
        name, _, path = text.partition("=")
        released = list(read_releases(Path(path)))
        falls = [
            fall(kept, release, decider)
            for kept, release in released
            if release.energy_change < -MIN_ENERGY_FALL
        ]
        counts[f"released, {name}"] = len(released)
        rows += summarise(name, falls)
    report(rows, {"decider": DECIDER, **counts}, options.json)


if __name__ == "__main__":
    main()
