"""Crystal structure prediction: how often the structure of a known composition is found.

    python benchmarks/csp.py --num-materials 20 --num-samples 20 --max-atoms 8 --rows csp.jsonl

The protocol of DiffCSP (Jiao et al. 2023, arXiv 2309.04475): composition and number of atoms of
test materials are given, k structures are sampled of each, and pymatgen's StructureMatcher (ltol
0.3, stol 0.5, angle_tol 10) compares them with the true one. "match@1" is the share of materials
whose first sample matches, "match@k" of those with any match, "ranked@k" of those whose sample of
lowest energy matches, by a single point of CHGNet; "RMSE@k" is the mean over matched materials of
the smallest root mean square displacement, over (V/N)^(1/3). Raw samples, not relaxed.

With `--relax 4` the four different samples of lowest raw energy are relaxed, and the judge's
deciding potential ranks them, as `predict` does, but without its release of symmetry; "relaxed@k"
is the share of materials where the lowest of these matches.

The matcher is generous to small cells, hence a control: "random@k" is match@k of k guesses with
cells of random training crystals of that size, and atoms anywhere.

With `--families AB3 AB2` the materials have such formulas. `--templates FOLDER` then takes the
families away: no template of a known crystal of theirs, and half of the templates of every sample
drawn by the template model in the folder, which `scripts/train_templates.py --without AB3 AB2` has
trained. The diffusion model has seen the families all the same.

A material that is done is a line in the file of `--rows`; the same command goes on from there.
"""

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from measuring import Row, report
from pymatgen.core import Composition, Structure

from mattergen_lite.config import DataConfig
from mattergen_lite.data.crystals import CrystalDataset
from mattergen_lite.data.table import read_crystal_table, select_rows
from mattergen_lite.hub import find_checkpoint
from mattergen_lite.io.tensors import to_structures
from mattergen_lite.model import CrystalDiffusion, pick_device
from mattergen_lite.options.judge import JudgeOptions
from mattergen_lite.options.request import DEFAULT_CHECKPOINT, Request
from mattergen_lite.options.sampler import SamplerOptions
from mattergen_lite.partial_crystals.generated import GeneratedTemplateSampler, MixedSampler
from mattergen_lite.partial_crystals.known import TemplateSampler
from mattergen_lite.partial_crystals.partial_crystal import PartialCrystalSampler
from mattergen_lite.request.base import Constraints
from mattergen_lite.request.constraints import parse_constraints
from mattergen_lite.sampling.generator import stable
from mattergen_lite.sampling.sampler import Target, sample
from mattergen_lite.scoring.criteria.matching import ReducedCrystal, find_duplicates
from mattergen_lite.scoring.energy.potentials.sources import load_potential
from mattergen_lite.scoring.energy.relaxation import relax_stream
from mattergen_lite.scoring.energy.screening import raw_energies
from mattergen_lite.scoring.energy.stability import potential_energies
from mattergen_lite.scoring.metrics.prediction import displacements
from mattergen_lite.symmetry.detection import SYMPREC_GENERATED
from mattergen_lite.templates.model import TemplateModel

SETTINGS = (
    *("checkpoint", "num_samples", "relax", "steps", "strength", "seed", "space_group"),
    *("families", "templates"),
)
BINS = ((1, 4), (5, 8), (9, 12), (13, 16), (17, 20), (1, 20))

JUDGE = JudgeOptions()
EVERY_SIZE = DataConfig(max_orbits=1000)  # MP-20 has crystals of up to 20 atoms


def random_guesses(truth: Structure, cells: torch.Tensor, count: int) -> list[Structure]:
    """Structures of the right composition in random cells, atoms anywhere."""
    rng = torch.Generator().manual_seed(0)
    return [
        Structure(
            cells[int(torch.randint(len(cells), (), generator=rng))].double().numpy(),
            truth.species,
            torch.rand(len(truth), 3, generator=rng).double().numpy(),
        )
        for _ in range(count)
    ]


def predict(
    model: CrystalDiffusion, truth: Structure, train: CrystalDataset, choice: argparse.Namespace
) -> Row:
    """Sample the structure of one material and compare."""
    formula = truth.composition.formula.replace(" ", "")
    request = Request(formula=formula, formula_units="1", space_group=choice.space_group)
    constraints = parse_constraints(request)
    samples = sample(
        model,
        range(choice.num_samples),
        seed=choice.seed,
        options=SamplerOptions(
            steps=choice.steps, strength=choice.strength, batch_size=choice.num_samples
        ),
        target=Target(
            constraints=constraints,
            auxiliary_targets=stable(model, (), choice.stability_guidance),
        ),
        source=source_without_families(constraints, len(truth), model, choice),
    )
    structures = to_structures(samples.crystals)
    order = by_raw_energy(structures)
    cells = train.lattice[train.num_atoms == len(truth)]
    control = displacements(truth, random_guesses(truth, cells, choice.num_samples))
    return {
        "formula": truth.formula,
        "num_atoms": len(truth),
        "distances": displacements(truth, structures),
        "lowest": order[0],
        "relaxed": relaxed_matches(truth, [structures[i] for i in order], choice.relax),
        "random": any_match(control),
    }


def _anonymous_formula(sizes: Sequence[int]) -> str:
    return Composition(dict(enumerate(sizes, start=1))).anonymized_formula


def source_without_families(
    constraints: Constraints, num_atoms: int, model: CrystalDiffusion, choice: argparse.Namespace
) -> PartialCrystalSampler | None:
    """Half templates of other known crystals, half drawn ones; None where nothing is removed."""
    if choice.templates is None:
        return None
    known = TemplateSampler.of(constraints, [num_atoms], model.config)
    kept = [
        row
        for row in known.library.rows(constraints.space_groups)
        if known.library.num_atoms[row] == num_atoms
        and _anonymous_formula(known.library.class_sizes[row]) not in choice.families
    ]
    drawn = GeneratedTemplateSampler.of(constraints, [num_atoms], model.config)
    drawn = replace(drawn, model=TemplateModel.load(choice.templates), known=frozenset())
    sources = [(drawn, 0.5)]
    if kept:
        sources.append((replace(known, rows=np.array(kept), prescribed=False), 0.5))
    return MixedSampler(sources=tuple(sources))


def by_raw_energy(structures: Sequence[Structure]) -> list[int]:
    """Numbers of structures, lowest energy first; those without one come last."""
    if len(structures) == 1:
        return [0]
    energies = [structure.e_above_hull for structure in raw_energies(structures)]
    return np.argsort(energies, kind="stable").tolist()  # NaN last


def relaxed_matches(truth: Structure, ordered: Sequence[Structure], number: int) -> bool | None:
    """Whether the best of so many different structures, relaxed, matches; None for no number."""
    if number == 0:
        return None
    firsts = find_duplicates([ReducedCrystal.from_structure(structure) for structure in ordered])
    different = [
        structure for structure, first in zip(ordered, firsts, strict=True) if first.best is None
    ]
    relaxer, decider = (load_potential(name) for name in (JUDGE.relaxer, JUDGE.potential))
    ends = dict(relax_stream(different[:number], relaxer, symprec=SYMPREC_GENERATED))
    relaxed = [ends[i].structure for i in sorted(ends) if ends[i].structure is not None]
    energies = [
        math.inf if energy.error else energy.energy_per_atom
        for energy in potential_energies(relaxed, decider)
    ]
    if not np.isfinite(energies).any():
        return False
    return any_match(displacements(truth, [relaxed[int(np.argmin(energies))]]))


def test_materials(choice: argparse.Namespace, model: CrystalDiffusion) -> dict[str, Structure]:
    """A random choice of test materials of elements the model knows, by name."""
    limits = DataConfig(max_atoms=min(choice.max_atoms, model.config.max_atoms))
    table = select_rows(read_crystal_table("embedded"), ["test"], limits)
    crystals = CrystalDataset.from_table(table)
    order = torch.randperm(len(crystals), generator=torch.Generator().manual_seed(choice.seed))
    seen = model.diffusion.allowed_elements.cpu()
    chosen: dict[str, Structure] = {}
    for row in order.tolist():
        if len(chosen) == choice.num_materials:
            break
        crystal = crystals.crystals(torch.tensor([row]))
        structure = to_structures(crystal)[0]
        is_asked = structure.composition.anonymized_formula in choice.families
        if seen[crystal.atomic_numbers].all() and (is_asked or not choice.families):
            chosen[table["material_id"][row].as_py()] = structure
    return chosen


def summary(rows: Sequence[Row], low: int, high: int) -> Row:
    """Match rates and displacement of the materials with so many atoms."""
    chosen = [row for row in rows if low <= row["num_atoms"] <= high]
    inside = [row["distances"] for row in chosen]
    ranked = [row["distances"][row["lowest"]] is not None for row in chosen]
    relaxed = [row["relaxed"] for row in chosen if row["relaxed"] is not None]
    best = [min(d for d in row if d is not None) for row in inside if any_match(row)]
    return {
        "atoms": f"{low}-{high}",
        "materials": len(inside),
        "match@1": sum(row[0] is not None for row in inside) / max(1, len(inside)),
        "match@k": len(best) / max(1, len(inside)),
        "ranked@k": sum(ranked) / max(1, len(inside)),
        "relaxed@k": sum(relaxed) / len(relaxed) if relaxed else None,
        "RMSE@k": sum(best) / max(1, len(best)),
        "random@k": sum(row["random"] for row in chosen) / max(1, len(inside)),
        "samples matching": sum(d is not None for row in inside for d in row)
        / max(1, sum(map(len, inside))),
    }


def any_match(distances: Sequence[float | None]) -> bool:
    return any(d is not None for d in distances)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", default=DEFAULT_CHECKPOINT, help="name or folder")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--num-materials", type=int, default=20)
    parser.add_argument("--num-samples", type=int, default=20, help="k, structures per material")
    parser.add_argument(
        "--relax", type=int, default=0, help="different samples of a material that are relaxed"
    )
    parser.add_argument("--max-atoms", type=int, default=20)
    parser.add_argument("--steps", type=int, default=SamplerOptions().steps)
    parser.add_argument("--strength", type=float, default=SamplerOptions().strength)
    parser.add_argument("--seed", type=int, default=0, help="of materials and samples")
    parser.add_argument("--families", nargs="*", default=[], help="formulas such as AB3")
    parser.add_argument("--templates", type=Path, help="model trained without the families")
    parser.add_argument("--space-group", help="as in `generate`")
    parser.add_argument("--stability-guidance", type=float, default=Request().stability_guidance)
    parser.add_argument("--rows", type=Path, help="materials done, a line each; continued")
    parser.add_argument("--json", type=Path, help="also write the JSON line into this file")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    choice = parse(arguments)
    model = CrystalDiffusion.load(find_checkpoint(choice.checkpoint), pick_device(choice.device))
    settings = {name: str(getattr(choice, name)) for name in SETTINGS}
    done = read_done(choice.rows, settings)
    train = CrystalDataset.from_table(
        select_rows(read_crystal_table("embedded"), ["train"], EVERY_SIZE)
    )
    rows: list[Row] = []
    for name, truth in test_materials(choice, model).items():
        if name not in done:
            done[name] = predict(model, truth, train, choice)
            append(choice.rows, {"material": name, **settings, **done[name]})
        rows.append(done[name])
    table = [summary(rows, *limits) for limits in BINS]
    report(table, {"benchmark": "csp", **settings}, choice.json)


def read_done(path: Path | None, settings: dict[str, str]) -> dict[str, Row]:
    """Rows of an earlier run with the same settings, by material."""
    if path is None or not path.exists():
        return {}
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return {row["material"]: row for row in rows if settings.items() <= row.items()}


def append(path: Path | None, row: Row) -> None:
    if path is not None:
        with path.open("a") as file:
            file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
