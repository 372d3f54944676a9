"""Compute properties of candidates that a run puts on target by first principles.

    python benchmarks/targets_by_dft.py gaps.jsonl --run RUN --num 40
    python benchmarks/targets_by_dft.py known.jsonl --property band_gap --num 40

The relaxed crystals that are unique, novel and on target by the method that decides in the run are
drawn at random, those that the run delivers first. Elements without setups, +U and cost alone
exclude a crystal. Without a run known compounds of MP-20's test split are drawn, whose property the
Materials Project has: the error of the calculation. Band gaps are those of the k points of the
energy; bulk moduli come from energies at five volumes, the fractional coordinates fixed. Each line
of the file is one crystal; the same command goes on from it. `--report` prints the figures; with
band gaps it adds those of the present network, whatever the run was judged by.

    python benchmarks/targets_by_dft.py datasets/gaps_by_dft.jsonl --report

prints those of the documentation.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from pymatgen.core import Structure

from mattergen_lite import load
from mattergen_lite.data.canonical import row_structure
from mattergen_lite.data.table import EMBEDDED, read_crystal_table
from mattergen_lite.dft.cache import ResultFolder, default_folder
from mattergen_lite.dft.gpaw import Gpaw
from mattergen_lite.dft.plan import Work
from mattergen_lite.dft.verification import Verifier, check_dft_elements
from mattergen_lite.io.tensors import structure_from_json, structure_to_json
from mattergen_lite.scoring.candidate import Candidate
from mattergen_lite.scoring.confirmation.gap_network import predict_band_gap
from mattergen_lite.scoring.energy.elasticity import fit_equation_of_state

PROPERTIES = ("band_gap", "bulk_modulus", "magnetic_density")
STRAINS = (-0.06, -0.03, 0.0, 0.03, 0.06)  # of the volume
MAX_ATOMS = 12  # of known compounds


@dataclass(frozen=True, kw_only=True)
class DrawnCrystal:
    """A crystal whose property is calculated, with what is known of it."""

    name: str
    structure: Structure
    known: dict[str, object]  # columns of the file


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line: calculate, or report what was calculated."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--run", type=Path, default=None, help="folder of a run with a target")
    parser.add_argument("--property", choices=PROPERTIES, default="band_gap")
    parser.add_argument("--num", type=int, default=40)
    parser.add_argument("--max-seconds", type=float, default=150.0, help="estimated core s of each")
    parser.add_argument("--results", type=Path, default=None, help="folder of calculations")
    parser.add_argument("--report", action="store_true")
    options = parser.parse_args(arguments)
    if not options.report:
        verifier = Verifier(
            engine=Gpaw(), results=ResultFolder(options.results or default_folder())
        )
        verifier.engine.check_installed()
        drawn = of_run(options.run, options.property) if options.run else known(options.property)
        measure(options, drawn, verifier)
    print(report(pd.DataFrame(_rows(options.file))))


def of_run(folder: Path, name: str) -> Iterator[DrawnCrystal]:
    """Yield the unique, novel candidates of a run that are on target, in a random order each.

    Delivered ones, which pass every check, come first.

    Raises:
        ValueError: If no candidate has this property as its target.
    """
    candidates = sorted(load(folder), key=lambda candidate: candidate.raw.name)
    chosen = [candidate for candidate in candidates if _is_chosen(candidate)]
    drawn = [chosen[index] for index in np.random.default_rng(0).permutation(len(chosen))]
    for candidate in sorted(drawn, key=lambda candidate: bool(candidate.failed)):
        outcomes = {outcome.property: outcome for outcome in candidate.outcomes}
        if name not in outcomes:
            raise ValueError(f"{folder}: {name} is no target of this run")
        outcome = outcomes[name]
        known = {
            "low": outcome.bounds[0],
            "high": outcome.bounds[1],
            "judged": outcome.value,
            "method": outcome.method,
            "guide": None if outcome.guide is None else outcome.guide.value,
            "delivered": not candidate.failed,
        }
        yield DrawnCrystal(
            name=candidate.raw.name, structure=candidate.relaxed_structure, known=known
        )


def _is_chosen(candidate: Candidate) -> bool:
    novelty = candidate.final.novelty
    is_new = novelty is not None and novelty.is_unique and novelty.is_novel
    return candidate.on_target is True and candidate.relaxed_structure is not None and is_new


def known(name: str) -> Iterator[DrawnCrystal]:
    """Yield compounds of the test split whose property is known and above zero."""
    table = read_crystal_table(EMBEDDED).to_pandas()
    chosen = (table.split.astype(str) == "test") & (table[name] > 0)
    table = table[chosen & (table.num_atoms <= MAX_ATOMS)]
    for row in table.sample(len(table), random_state=0).to_dict("records"):
        yield DrawnCrystal(
            name=row["material_id"], structure=row_structure(row), known={"judged": row[name]}
        )


def measure(options: argparse.Namespace, drawn: Iterator[DrawnCrystal], verifier: Verifier) -> None:
    """Append a line a crystal until so many have a value."""
    rows = _rows(options.file)
    done = {row["name"] for row in rows}
    left = options.num - sum(row["error"] is None for row in rows)
    for crystal in drawn:
        if left <= 0:
            return
        if crystal.name in done:
            continue
        row = {"name": crystal.name, "formula": crystal.structure.composition.reduced_formula}
        row |= {"property": options.property, "max_seconds": options.max_seconds, **crystal.known}
        row["structure"] = structure_to_json(crystal.structure)
        try:
            row |= calculated(crystal.structure, options.property, verifier, options.max_seconds)
        except ValueError as error:
            row |= {"value": None, "error": str(error)}
        with options.file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, default=float) + "\n")
        left -= row["error"] is None
        print(row["formula"], row.get("judged"), row["error"] or row["value"], flush=True)


def calculated(
    structure: Structure, name: str, verifier: Verifier, max_seconds: float
) -> dict[str, object]:
    """Calculate a property with its cost.

    Raises:
        ValueError: If the engine cannot treat the crystal, it is too dear or fails.
    """
    check_dft_elements(structure.composition, verifier.engine)
    work = verifier.work(structure)
    cells = len(STRAINS) if name == "bulk_modulus" else 1
    seconds = verifier.seconds_left(work) * cells
    if seconds > max_seconds:
        raise ValueError(f"too dear: estimated at {seconds:.0f} core s")
    if name == "bulk_modulus":
        return _bulk_modulus(work, verifier)
    result = verifier.lowest(work)
    volume = abs(np.linalg.det(work.starts[0].cell))
    values = {"band_gap": result.band_gap, "magnetic_density": abs(result.moment) / volume}
    return {"value": float(values[name]), "seconds": result.cpu_seconds, "error": None}


def _bulk_modulus(work: Work, verifier: Verifier) -> dict[str, object]:
    """Bulk modulus from energies at several volumes."""
    results, volumes = [], []
    for strain in STRAINS:
        scale = np.cbrt(1 + strain)
        starts = tuple(replace(start, cell=start.cell * scale) for start in work.starts)
        results.append(verifier.lowest(replace(work, starts=starts)))
        volumes.append(abs(np.linalg.det(starts[0].cell)))
    energies = np.array([result.energy for result in results])
    num_atoms = results[0].num_atoms
    fitted = fit_equation_of_state(np.array(volumes), energies, num_atoms, verifier.method)
    return {
        "value": fitted.bulk_modulus,
        "volume_change": fitted.equilibrium_volume / volumes[STRAINS.index(0.0)] - 1,
        "seconds": sum(result.cpu_seconds for result in results),
        "error": None,
    }


def report(rows: pd.DataFrame) -> str:
    """Share on target by first principles, errors, and every crystal."""
    valued = rows[rows.error.isna()]
    if (valued.property == "band_gap").all():
        crystals = map(structure_from_json, valued.structure)
        valued = valued.assign(network=[predict_band_gap(crystal) for crystal in crystals])
    lines = [
        f"{len(valued)} of {len(rows)} drawn have a value; median {valued.seconds.median():.0f} s"
    ]
    for name in (name for name in ("judged", "network", "guide") if name in valued):
        errors = (valued.value - valued[name]).abs()
        lines.append(
            f"{name}: mean absolute error {errors.mean():.2f}, median {errors.median():.2f}"
        )
    if "low" in valued:
        low, high = valued.low.fillna(-np.inf), valued.high.fillna(np.inf)
        inside = {
            name: valued[name].between(low, high)
            for name in ("value", "network", "guide")
            if name in valued
        }
        holds = inside.pop("value")
        parts = {"all": holds, "delivered": holds[valued.delivered]}
        parts |= {f"on target by {name} too": holds[chosen] for name, chosen in inside.items()}
        runs = valued.name.str.extract(r"^(.*)/")[0]
        parts |= {f"run {run}": holds[runs == run] for run in sorted(runs.dropna().unique())}
        for name, part in parts.items():
            error = np.sqrt(part.mean() * (1 - part.mean()) / max(len(part), 1))
            lines.append(f"{name}: {part.sum()} of {len(part)} ({part.mean():.0%} ± {error:.0%})")
    shown = ("formula", "guide", "judged", "network", "value", "delivered")
    columns = [name for name in shown if name in valued]
    lines.append(valued[columns].round(2).to_string(index=False))
    return "\n".join(lines)


def _rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.open(encoding="utf-8")] if path.exists() else []


if __name__ == "__main__":
    main()
