"""Quality of samples against network calls: from this curve the default sampler is chosen.

    python benchmarks/sampler_curve.py --checkpoint mp --out curve/

Both solvers at several numbers of calls, the same seeds for all. Shares are of raw samples; novel
is against MP-20's training split, W1 distances are to its test split. "metastable" is the share
expected to lie within 0.1 eV/atom of the hull (sum of calibrated probabilities, CHGNet relaxes and
decides) among the first `--num-relaxed` samples, "rmsd" how far those moved in relaxing. "force" is
the largest on an atom of the raw crystal by CHGNet in eV/Å, median of those that are physical.
Settings that `--out` has already are not run again; curve.png draws them.
"""

import argparse
import json
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from pymatgen.core import Structure
from tqdm import tqdm

from mattergen_lite.config import DataConfig
from mattergen_lite.data.crystals import CrystalDataset
from mattergen_lite.data.table import read_crystal_table, select_rows
from mattergen_lite.hub import find_checkpoint
from mattergen_lite.io.records import StructureRecord
from mattergen_lite.model import CrystalDiffusion, pick_device
from mattergen_lite.options.judge import JudgeOptions
from mattergen_lite.options.request import Request
from mattergen_lite.options.sampler import SamplerOptions
from mattergen_lite.processes import Pool, available_cores
from mattergen_lite.request.constraints import parse_constraints
from mattergen_lite.sampling.sampler import STRENGTH_FROM_CRYSTALS, Target, sample
from mattergen_lite.scoring.energy.potential_set import PotentialSet
from mattergen_lite.scoring.energy.potentials.sources import load_potential
from mattergen_lite.scoring.energy.relaxation import largest_force
from mattergen_lite.scoring.execution.result_cache import ResultCache
from mattergen_lite.scoring.execution.stopwatch import Stopwatch
from mattergen_lite.scoring.judge import Judge
from mattergen_lite.scoring.known.reference import Reference
from mattergen_lite.scoring.metrics.distributions import distances
from mattergen_lite.scoring.metrics.summary import summary
from mattergen_lite.scoring.score import Score, score

Row = dict[str, str | int | float]
CALLS = (10, 20, 50, 100, 200, 300)
COLUMNS = {
    "solver": "{}",
    "calls": "{}",
    "noise": "{:g}",
    "s_noise": "{:g}",
    "structures/s": "{:.2f}",
    "valid": "{:.1%}",
    "physical": "{:.1%}",
    "above P1": "{:.1%}",
    "unique": "{:.1%}",
    "novel": "{:.1%}",
    "W1 density": "{:.3f}",
    "W1 n-ary": "{:.3f}",
    "force": "{:.2f}",
    "metastable": "{:.1%}",
    "rmsd": "{:.3f}",
}
DRAWN = ("valid", "physical", "above P1", "force", "rmsd", "W1 n-ary")

EVERY_SIZE = DataConfig(max_orbits=1000)  # MP-20 has crystals of up to 20 atoms


class Setting(NamedTuple):
    """One point of the curve."""

    solver: str
    calls: int
    noise: float  # eta of multistep, s_churn of heun
    s_noise: float

    def options(self) -> SamplerOptions:
        """Heun takes two calls a step, but one in the last; samples skip the noisiest levels."""
        taken = self.calls if self.solver == "multistep" else (self.calls + 1) // 2
        steps = round(taken / STRENGTH_FROM_CRYSTALS)
        noise = {"eta" if self.solver == "multistep" else "s_churn": self.noise}
        return SamplerOptions(solver=self.solver, steps=steps, s_noise=self.s_noise, **noise)


@dataclass(frozen=True)
class Yardstick:
    """What samples are measured against."""

    known: Reference  # training split
    everything: Reference  # the embedded table, for ranking relaxed candidates
    test: CrystalDataset


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", default="mp")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--num-samples", type=int, default=128)
    parser.add_argument("--num-relaxed", type=int, default=32)
    parser.add_argument("--calls", type=int, nargs="+", default=CALLS)
    parser.add_argument("--noise", type=float, nargs="+", default=[SamplerOptions().eta])
    parser.add_argument("--s-noise", type=float, nargs="+", default=[SamplerOptions().s_noise])
    parser.add_argument("--num-atoms", default="1..20", help="of the samples: MP-20's by default")
    parser.add_argument("--solvers", nargs="+", default=["multistep", "heun"])
    parser.add_argument("--device", default="auto")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    rows_file = asked.out / "curve.jsonl"
    rows = (
        [json.loads(line) for line in rows_file.read_text().splitlines()]
        if rows_file.exists()
        else []
    )
    done = {tuple(row[name] for name in Setting._fields) for row in rows}
    settings = [
        Setting(*values)
        for values in product(asked.solvers, asked.calls, asked.noise, asked.s_noise)
        if values not in done
    ]
    model = CrystalDiffusion.load(find_checkpoint(asked.checkpoint), pick_device(asked.device))
    yardstick = read_yardstick()
    with Pool(available_cores()) as pool:
        for setting in tqdm(settings, desc="settings"):
            row = measured(model, setting, asked, yardstick, pool)
            rows.append(row)
            with rows_file.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(table([row]))
    print(table(rows))
    draw(rows, asked.out / "curve.png")


def read_yardstick() -> Yardstick:
    """The embedded data in its roles."""
    data = read_crystal_table("embedded")
    return Yardstick(
        known=Reference.from_table(
            select_rows(data, ["train"], EVERY_SIZE), name="MP-20 training split"
        ),
        everything=Reference.embedded(),
        test=CrystalDataset.from_table(select_rows(data, ["test"], EVERY_SIZE)),
    )


def measured(
    model: CrystalDiffusion,
    setting: Setting,
    asked: argparse.Namespace,
    yardstick: Yardstick,
    pool: Pool,
) -> Row:
    """One point of the curve."""
    options = setting.options()
    start = perf_counter()
    numbers = range(asked.num_samples)
    target = Target(constraints=parse_constraints(Request(num_atoms=asked.num_atoms)))
    records = sample(model, numbers, seed=0, options=options, target=target).records(numbers)
    seconds = perf_counter() - start
    result_cache = ResultCache(pool, progress=False)
    scores = score(records, reference=yardstick.known, result_cache=result_cache)
    speed = {"samples": len(records), "structures/s": len(records) / seconds}
    relaxed = after_relaxing(
        records[: asked.num_relaxed], str(next(model.parameters()).device), yardstick, result_cache
    )
    return setting._asdict() | speed | raw_figures(records, scores, yardstick.test) | relaxed


def raw_figures(records: list[StructureRecord], scores: list[Score], test: CrystalDataset) -> Row:
    """Shares of the samples as they came."""
    w1 = distances(
        [s.validity.density for s in scores],
        [s.chemical_system.count("-") + 1 for s in scores],
        test,
    )

    def share(passed: list[bool]) -> float:
        return float(np.mean(passed))

    return {
        "valid": share(
            [s.validity.structure_valid and s.neutrality.composition_valid for s in scores]
        ),
        "physical": share([not s.validity.physical_problem for s in scores]),
        "above P1": share([bool(s.symmetry and s.symmetry.space_group > 1) for s in scores]),
        "unique": share([bool(s.novelty.is_unique) for s in scores]),
        "novel": share([bool(s.novelty.is_novel) for s in scores]),
        "W1 density": w1.density,
        "W1 n-ary": w1.n_ary,
        "force": median_force(
            [
                record.structure
                for record, scored in zip(records, scores, strict=True)
                if not scored.validity.physical_problem
            ]
        ),
    }


def median_force(structures: list[Structure]) -> float:
    """Median over crystals of the largest force on an atom, eV/Å."""
    potential = load_potential("chgnet")
    atoms = [structure.to_ase_atoms(msonable=False) for structure in structures]
    parts = [atoms[start : start + 16] for start in range(0, len(atoms), 16)]
    points = [point for part in parts for point in potential.single_points(part)]
    return float(np.median([largest_force(point) for point in points]))


def after_relaxing(
    records: list[StructureRecord], device: str, yardstick: Yardstick, result_cache: ResultCache
) -> Row:
    """How far the samples were from a minimum, and from the hull."""
    options = JudgeOptions(potential="chgnet", second_opinion=None)
    judge = Judge(
        options=options,
        reference=yardstick.everything,
        potential_set=PotentialSet.of(options, device),
        device=device,
    )
    candidates = judge.judge(records, result_cache, Stopwatch())
    stability = summary(candidates).stability
    if stability is None:  # none of them could be relaxed
        return {"metastable": 0.0, "rmsd": float("nan")}
    return {"metastable": stability.expected_metastable, "rmsd": stability.median_rmsd}


def table(rows: list[Row]) -> str:
    """A Markdown table."""
    lines = [" | ".join(COLUMNS), "|".join(["---"] * len(COLUMNS))]
    lines += [" | ".join(form.format(row[name]) for name, form in COLUMNS.items()) for row in rows]
    return "\n".join(f"| {line} |" for line in lines)


def kind_of(row: Row) -> str:
    """What a line of the figure stands for."""
    return f"{row['solver']}, noise {row['noise']:g}, s_noise {row['s_noise']:g}"


def draw(rows: list[Row], path: Path) -> None:
    """Every figure of merit against calls, a line for each solver and its noise."""
    figure = Figure(figsize=(11, 6), layout="constrained")
    for axes, name in zip(figure.subplots(2, 3).flat, DRAWN, strict=True):
        for kind in sorted({kind_of(row) for row in rows}):
            points = sorted((row["calls"], row[name]) for row in rows if kind_of(row) == kind)
            axes.plot(*zip(*points, strict=True), "o-", label=kind)
        axes.set(title=name, xlabel="network calls", xscale="log")
    figure.axes[0].legend()
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
