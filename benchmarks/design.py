"""Design to a target: how often samples are what was asked for, and inside held-out systems.

    python benchmarks/design.py --ship --out design.jsonl --table design.md --figure design.png
    python benchmarks/design.py --num-systems 20 --num-samples 64 --out systems.jsonl

The first takes a few minutes of one core; `--ship` puts what was measured into the checkpoint's
folder, from where `generate` says how many samples of a target to expect. Samples have
the auxiliary target for stability that `generate` adds.

Every target is sampled at several guidances; the unconditional samples are the control. Space
groups are also asked for exactly (`--space-group`). A cell of the benchmark (target, guidance) that
is done is a line of `--out`; the same command goes on from there, and only draws if nothing is left
to do. Raw samples, not relaxed.

What is measured exactly: density, space group (spglib at 0.1 Å), the Herfindahl-Hirschman index.
What is not is read twice. By the checkpoint's regressions (`scripts/fit_predictors.py`), which
read features of the very network that samples: crystals that deceive it deceive them too. And by a
ridge regression on element statistics of the composition, which shares nothing with the network and
knows no structure. Both are fitted to MP-20's training split; their errors stand below the table.

Hits are shares of all samples, within the tolerances of `scoring.computed_properties`.
Chemical systems are those of MP-20's test split that its training split has nothing of.
"""

import argparse
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from csp import append
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from own_property import Judge, fit_judge
from tqdm import tqdm

from mattergen_lite.chemistry.elements import symbols
from mattergen_lite.config import PropertyConfig
from mattergen_lite.data.crystals import CrystalDataset, embedded_crystals
from mattergen_lite.data.dataset import element_sets
from mattergen_lite.data.table import EMBEDDED, read_crystal_table
from mattergen_lite.hub import find_checkpoint
from mattergen_lite.io.records import StructureRecord
from mattergen_lite.io.tensors import to_structures
from mattergen_lite.model import CrystalDiffusion, pick_device, weights_hash
from mattergen_lite.options.request import DEFAULT_CHECKPOINT, Request
from mattergen_lite.options.sampler import SamplerOptions
from mattergen_lite.probe.predictors import Predictor, load_predictors
from mattergen_lite.processes import Failure, Pool, attempt, available_cores
from mattergen_lite.properties import Property
from mattergen_lite.request.constraints import parse_constraints
from mattergen_lite.request.targets import PropertyTarget, parse_targets
from mattergen_lite.runs.figures import GREY, ORANGE
from mattergen_lite.sampling.generator import stable
from mattergen_lite.sampling.sampler import Target, learned_values, sample
from mattergen_lite.scoring.computed_properties import is_met, measure, tolerance
from mattergen_lite.scoring.criteria.symmetry import SYMPREC_GENERATED
from mattergen_lite.scoring.execution.result_cache import ResultCache
from mattergen_lite.scoring.known.reference import Reference
from mattergen_lite.scoring.metrics.expected_hits import FILE, Asked, HitTable
from mattergen_lite.scoring.metrics.hits import at_once, known_hits
from mattergen_lite.scoring.metrics.summary import shares
from mattergen_lite.scoring.score import score

TARGETS = (
    *(f"band_gap={value}" for value in (0, 2, 5)),  # eV
    *(f"bulk_modulus={value}" for value in (50, 200, 350)),  # GPa
    *(f"density={value}" for value in (3, 6, 10)),  # g/cm³
    *(f"magnetic_density={value}" for value in (0.05, 0.1)),  # µB/Å³
    *(f"hhi={value}" for value in (1500, 3000)),
    "magnetic_density=0.1,hhi=1500",
)
COMPOSITION = {"band_gap": False, "bulk_modulus": True, "magnetic_density": False}  # log or not
EXACT = ("density", "volume_per_atom", "hhi", "space_group")
SHARES = ("structure_valid", "valid", "neutral", "alloy_or_element", "unique", "novel")
SHADES = (GREY, "#9ecae1", "#4292c6", "#08519c", ORANGE)  # unconditional, guidance, exact

Row = dict[str, object]
Values = Sequence[float | int | None]


@dataclass(frozen=True)
class Cell:
    """What one batch of samples is asked to be."""

    target: str = ""  # "band_gap=2", several joined by commas; "" is unconditional
    guidance: float = 0.0
    system: str = ""  # "Li-P-S", exactly; beside a target chemical_system it is also a condition
    space_group: str = ""  # "225", exactly; the target says it again, to be compared with

    @property
    def title(self) -> str:
        """How the target was asked for."""
        return "exact" if self.space_group else f"{self.guidance:g}"


@dataclass(frozen=True, kw_only=True)
class Tools:
    """What all cells share."""

    model: CrystalDiffusion
    predictors: Sequence[Predictor]
    judges: Mapping[str, Judge]
    reference: Reference
    pool: Pool
    options: SamplerOptions
    seed: int


# Sampling and measuring


def run_cell(cell: Cell, num_samples: int, tools: Tools) -> Row:
    """Sample a cell; measured values and shares of its crystals."""
    request = Request(chemical_system=cell.system or None, space_group=cell.space_group or None)
    # A weight of 0 is no condition: what is exact is not wished for as well.
    targets = asked(cell.target, cell.guidance, tools.model.properties)
    samples = sample(
        tools.model,
        range(num_samples),
        seed=tools.seed,
        options=tools.options,
        target=Target(
            properties=targets,
            auxiliary_targets=stable(tools.model, targets, Request().stability_guidance),
            constraints=parse_constraints(request),
        ),
    )
    structures = to_structures(samples.crystals)
    records = [StructureRecord(f"{i:06d}", structure) for i, structure in enumerate(structures)]
    result_cache = ResultCache(tools.pool, progress=False)
    judged = shares(
        score(records, result_cache=result_cache, reference=tools.reference), num_samples
    )
    exact = [
        attempt(partial(measure, symprec=SYMPREC_GENERATED), structure) for structure in structures
    ]
    exact = [{} if isinstance(measured, Failure) else measured for measured in exact]
    learned = learned_values(tools.predictors, samples.orbits)
    names = [predictor.definition.name for predictor in tools.predictors]
    return {
        "measured": {name: [measured.get(name) for measured in exact] for name in EXACT}
        | {name: [values[name].value for values in learned] for name in names},
        "by_composition": {
            name: judge.measure(samples.crystals).tolist() for name, judge in tools.judges.items()
        },
        "inside": float(
            np.mean([structure.chemical_system == cell.system for structure in structures])
        )
        if cell.system
        else None,
        **{name: share for name, share in asdict(judged).items() if name in SHARES},
    }


def asked(text: str, guidance: float, properties: Sequence[Property]) -> tuple[PropertyTarget, ...]:
    """Targets out of "magnetic_density=0.1,hhi=1500"."""
    return parse_targets(text.split(","), [str(guidance)], properties) if text else ()


def held_out_systems(model: CrystalDiffusion, count: int, seed: int) -> list[str]:
    """A random choice of systems of test crystals that no training crystal has."""
    known = {tuple(row) for row in elements_of(embedded_crystals("train"))}
    seen = set(model.diffusion.allowed_elements.nonzero().flatten().tolist())
    test = {tuple(row) for row in elements_of(embedded_crystals("test"))} - known
    new = sorted(system for system in test if seen.issuperset(system))
    order = np.random.default_rng(seed).permutation(len(new))[:count]
    return ["-".join(sorted(symbols()[number] for number in new[i])) for i in order]


def elements_of(crystals: CrystalDataset) -> Iterator[list[int]]:
    """Atomic numbers of the elements of each crystal."""
    numbers = crystals.crystals(torch.arange(len(crystals))).atomic_numbers
    sets = element_sets(numbers).bool()
    return (row.nonzero().flatten().tolist() for row in sets)


def composition_judges(model: CrystalDiffusion) -> dict[str, Judge]:
    """Regressions on the composition of properties that have nothing exact."""
    table = read_crystal_table(EMBEDDED)
    table = table.filter(pc.equal(table["split"].cast(pa.string()), "train"))
    conditions = {prop.name for prop in model.properties}
    return {
        name: fit_judge(table.filter(pc.is_valid(table[name])), PropertyConfig(name=name, log=log))
        for name, log in COMPOSITION.items()
        if name in conditions
    }


# Rates


def hits(row: Row, target: str, source: str, properties: Sequence[Property]) -> float | None:
    """Share of a cell's samples that meet a target; None if nothing measures it.

    Args:
        row: Of the file.
        target: As in `TARGETS`, not necessarily what the cell was asked for.
        source: "measured", or "by_composition" where that can tell and exactly where it cannot.
        properties: What the model can be conditioned on.
    """
    columns = []
    for part in asked(target, 1.0, properties):
        values = column(row, part.definition.name, source)
        if values is None:
            return None
        columns.append(
            [
                bool(
                    is_met(
                        part,
                        part.cell(part.draw(torch.Generator())),
                        value,
                    )
                )
                for value in values
            ]
        )
    return float(np.mean(at_once(columns)))


def column(row: Row, name: str, source: str) -> Values | None:
    """Values of a property; by composition only where there is nothing exact."""
    if source == "by_composition" and name not in EXACT:
        return row["by_composition"].get(name)
    return row["measured"].get(name)


def base_rate(target: str, training: CrystalDataset, properties: Sequence[Property]) -> float:
    """Share of the training crystals with known values that meet a target."""
    met = at_once([known_hits(part, training) for part in asked(target, 1.0, properties)])
    known = [rate for rate in met if rate is not None]
    return sum(known) / len(known) if known else math.nan


# Table and figure


def table_rows(rows: Mapping[Cell, Row], properties: Sequence[Property]) -> list[Row]:
    """One row a target and guidance, with its controls."""
    training, free = embedded_crystals("train"), rows[Cell()]
    base = {
        cell.target: base_rate(cell.target, training, properties)
        for cell in rows
        if cell.target and not cell.system
    }
    return [
        {
            "target": cell.target,
            "tolerance": tolerance_text(cell.target, properties),
            "guidance": cell.title,
            "hits": hits(row, cell.target, "measured", properties),
            "unconditional": hits(free, cell.target, "measured", properties),
            "training data": base[cell.target],
            "hits by composition": independent(row, cell.target, properties),
            "unconditional by composition": independent(free, cell.target, properties),
            "median": median_text(row, cell.target, properties),
            "valid": row["valid"],
            "unique": row["unique"],
            "novel": row["novel"],
        }
        for cell, row in rows.items()
        if cell.target and not cell.system
    ]


def independent(row: Row, target: str, properties: Sequence[Property]) -> float | None:
    """Hits by the judge of compositions, where it has a say."""
    names = {part.definition.name for part in asked(target, 1.0, properties)}
    return hits(row, target, "by_composition", properties) if names & {*COMPOSITION} else None


def tolerance_text(target: str, properties: Sequence[Property]) -> str:
    """How far off a hit may be."""
    texts = []
    for part in asked(target, 1.0, properties):
        allowed, prop = tolerance(part.definition.name), part.definition
        if prop.kind != "real":
            texts.append("equal")
        elif allowed.absolute:
            texts.append(f"±{allowed.absolute:g} {prop.unit}".strip())
        else:
            texts.append(f"±{allowed.relative:.0%}")
    return ", ".join(texts)


def median_text(row: Row, target: str, properties: Sequence[Property]) -> str:
    """Median of what real targets were measured to be."""
    medians = []
    for part in asked(target, 1.0, properties):
        values = finite(column(row, part.definition.name, "measured") or ())
        if part.definition.kind == "real" and len(values):
            medians.append(f"{np.median(values):.3g}")
    return ", ".join(medians)


def system_rows(rows: Mapping[Cell, Row]) -> list[Row]:
    """Means over the systems, with the constraint alone and with the condition beside it."""
    table = []
    for title, with_target in (("constraint", False), ("constraint and condition", True)):
        chosen = [
            row for cell, row in rows.items() if cell.system and bool(cell.target) == with_target
        ]
        if chosen:
            means = {n: float(np.mean([row[n] for row in chosen])) for n in ("inside", *SHARES)}
            table.append({"held-out systems": len(chosen), "asked by": title, **means})
    return table


def finite(values: Values) -> np.ndarray:
    """The numbers among the values."""
    return np.array([v for v in values if v is not None and math.isfinite(v)], dtype=float)


def markdown(rows: Sequence[Row]) -> list[str]:
    """Rows as a markdown table; shares as per cent."""
    if not rows:
        return []
    lines = [list(rows[0]), ["---"] * len(rows[0])]
    lines += [[cell_text(name, value) for name, value in row.items()] for row in rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def cell_text(name: str, value: object) -> str:
    if value is None:
        return ""
    return f"{value:.1%}" if isinstance(value, float) and name != "guidance" else f"{value}"


def ship(rows: Mapping[Cell, Row], folder: Path) -> None:
    """Write what was measured of single targets into a model folder, values with three digits."""
    table = hit_table(rows, weights_hash(folder))
    cells = [
        vars(cell)
        | {
            "measured": {
                name: [None if v is None else float(f"{v:.3g}") for v in values]
                for name, values in cell.measured.items()
            }
        }
        for cell in table.cells
    ]
    lines = ",\n".join(json.dumps(cell) for cell in cells)
    head = json.dumps({"weights_sha256": table.weights_sha256})[:-1]
    (folder / FILE).write_text(f'{head}, "cells": [\n{lines}\n]}}\n', encoding="utf-8")


def hit_table(rows: Mapping[Cell, Row], weights_sha256: str) -> HitTable:
    """What was measured of the samples of single targets, and of none."""
    cells = [cell for cell in rows if not (cell.system or cell.space_group or "," in cell.target)]
    return HitTable(
        weights_sha256=weights_sha256,
        cells=tuple(
            Asked(
                property=cell.target.partition("=")[0],
                value=float(cell.target.partition("=")[2] or 0),
                guidance=cell.guidance,
                measured={
                    name: tuple(values)
                    for name, values in rows[cell]["measured"].items()
                    if name != "space_group" and cell.target.partition("=")[0] in ("", name)
                },
            )
            for cell in cells
        ),
    )


def footnotes(tools: Tools, settings: Mapping[str, object]) -> list[str]:
    """Who measured, with which error, and how many samples there were."""
    lines = [
        f"{settings['num_samples']} raw samples a target and guidance, "
        f"{settings['system_samples']} a system; {settings['steps']} steps, seed "
        f"{settings['seed']}, weights `{settings['weights']}`. Hits are shares of all samples; "
        f"one standard error is at most {0.5 / math.sqrt(settings['num_samples']):.1%}.",
    ]
    lines += [
        f"{predictor.reader.text()}. It reads features of the network that samples, and is not "
        "independent."
        for predictor in tools.predictors
    ]
    lines += [
        f"{name} by composition: ridge regression on element statistics, independent of the "
        f"network and blind to structure; held-out R2 {judge.r2:.2f}."
        for name, judge in tools.judges.items()
    ]
    return [f"- {line}" for line in lines]


def draw(rows: Mapping[Cell, Row], properties: Sequence[Property]) -> Figure:
    """Distributions of what single targets were measured to be, beside unconditional samples."""
    cells = [cell for cell in rows if cell.target and not cell.system and "," not in cell.target]
    names = {p.name: p for p in properties}
    grid: dict[str, list[str]] = {}
    for target in dict.fromkeys(cell.target for cell in cells):
        grid.setdefault(target.split("=")[0], []).append(target)
    if not grid:
        raise ValueError("nothing to draw: expected a target on one property")
    width = max(map(len, grid.values()))
    figure = Figure(figsize=(3.4 * width, 2.5 * len(grid)), layout="constrained")
    panels = figure.subplots(len(grid), width, squeeze=False)
    for line, (name, targets) in zip(panels, grid.items(), strict=True):
        for axes in line[len(targets) :]:
            axes.set_visible(False)
        for axes, target in zip(line, targets, strict=False):
            chosen = {"unconditional": rows[Cell()]} | {
                f"guidance {cell.title}": rows[cell] for cell in cells if cell.target == target
            }
            prop = names[name]
            draw_panel = draw_bars if prop.kind == "category" else draw_histograms
            draw_panel(axes, chosen, target, prop)
            axes.set_title(target, fontsize=9, loc="left")
            axes.tick_params(labelsize=7)
    panels[0][0].legend(fontsize=7, frameon=False)
    return figure


def draw_histograms(axes: Axes, chosen: Mapping[str, Row], target: str, prop: Property) -> None:
    """Outlines of the distributions; the tolerance is shaded."""
    histograms = {title: finite(shown(row, prop.name)) for title, row in chosen.items()}
    (part,) = asked(target, 1.0, [prop])
    allowed, value = tolerance(prop.name), part.low
    everything = np.concatenate([*histograms.values(), [value]])
    edges = np.linspace(*np.percentile(everything, [1, 99]), 16)
    if edges[0] == edges[-1]:
        edges = np.linspace(value - 1, value + 1, 16)
    half = max(allowed.absolute, allowed.relative * abs(value))
    axes.axvspan(value - half, value + half, color=ORANGE, alpha=0.2, linewidth=0)
    for (title, values), colour in zip(histograms.items(), SHADES, strict=False):
        weights = np.full(len(values), 1 / max(1, len(values)))
        inside = values.clip(edges[0], edges[-1])
        axes.hist(inside, edges, weights=weights, histtype="step", color=colour, label=title)
    axes.set_xlabel(f"{prop.name} ({prop.unit})" if prop.unit else prop.name, fontsize=8)
    axes.set_ylabel("share", fontsize=8)


def shown(row: Row, name: str) -> Values:
    """Values to draw: by composition if nothing else measures the property."""
    return column(row, name, "measured") or column(row, name, "by_composition") or ()


def draw_bars(axes: Axes, chosen: Mapping[str, Row], target: str, prop: Property) -> None:
    """Shares of the category."""
    rates = [hits(row, target, "measured", [prop]) for row in chosen.values()]
    axes.bar(range(len(rates)), rates, color=[SHADES[i % len(SHADES)] for i in range(len(rates))])
    axes.set_xticks(range(len(rates)), [title.split()[-1] for title in chosen], fontsize=7)
    axes.set_ylim(0, max(0.05, 1.1 * max(rates)))
    axes.set_xlabel("guidance", fontsize=8)
    axes.set_ylabel("share on target", fontsize=8)


# The command


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", default=DEFAULT_CHECKPOINT, help="name or folder")
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "--targets", nargs="*", default=list(TARGETS), help="values, such as band_gap=2"
    )
    parser.add_argument("--guidance", type=float, nargs="+", default=[1.0, 3.0])
    parser.add_argument("--num-samples", type=int, default=32, help="a target and guidance")
    parser.add_argument("--num-systems", type=int, default=0, help="held-out chemical systems")
    parser.add_argument("--system-samples", type=int, default=16, help="a system")
    parser.add_argument("--steps", type=int, default=SamplerOptions().steps)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0, help="of samples and systems")
    parser.add_argument("--num-workers", type=int, help="that judge; default one a core")
    parser.add_argument("--out", type=Path, default=Path("design.jsonl"), help="continued")
    parser.add_argument("--table", type=Path, help="markdown file to write")
    parser.add_argument("--figure", type=Path, help="PNG file to draw")
    parser.add_argument("--json", type=Path, help="also write the JSON line into this file")
    parser.add_argument("--ship", action="store_true", help="put the rates beside the weights")
    return parser.parse_args(arguments)


def cells_of(choice: argparse.Namespace, model: CrystalDiffusion) -> list[Cell]:
    """All cells: the control, targets by guidance, systems with and without their condition."""
    systems = held_out_systems(model, choice.num_systems, choice.seed)
    cells = [Cell(), *(Cell(t, w) for t in choice.targets for w in choice.guidance)]
    cells += [
        Cell(target, space_group=target.removeprefix("space_group="))
        for target in choice.targets
        if target.startswith("space_group=")
    ]
    cells += [Cell(system=system) for system in systems]
    if any(prop.name == "chemical_system" for prop in model.properties):
        cells += [Cell(f"chemical_system={system}", 1.0, system) for system in systems]
    return cells


def read_done(path: Path, settings: Mapping[str, object]) -> dict[Cell, Row]:
    """Cells of earlier launches with the same settings; a line cut short is left out."""
    done: dict[Cell, Row] = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        if settings.items() <= row.items():
            done[Cell(**row["cell"])] = row
    return done


def main(arguments: Sequence[str] | None = None) -> None:
    choice = parse(arguments)
    folder, device = find_checkpoint(choice.checkpoint), pick_device(choice.device)
    model = CrystalDiffusion.load(folder, device)
    settings = {
        name: getattr(choice, name) for name in ("num_samples", "system_samples", "steps", "seed")
    } | {"weights": weights_hash(folder)[:12]}
    for text in choice.targets:  # a slip is said before hours are spent
        if any(part.low != part.high for part in asked(text, 1.0, model.properties)):
            raise ValueError(f"target {text}: expected values, not ranges")
    done = read_done(choice.out, settings)
    workers = available_cores() if choice.num_workers is None else choice.num_workers
    with Pool(workers) as pool:
        tools = Tools(
            model=model,
            predictors=load_predictors(folder, model),
            judges=composition_judges(model),
            reference=Reference.embedded(),
            pool=pool,
            options=SamplerOptions(steps=choice.steps, batch_size=choice.batch_size),
            seed=choice.seed,
        )
        cells = cells_of(choice, model)
        for cell in tqdm([entry for entry in cells if entry not in done], desc="cells"):
            count = choice.system_samples if cell.system else choice.num_samples
            done[cell] = {"cell": asdict(cell), **settings, **run_cell(cell, count, tools)}
            append(choice.out, done[cell])
    rows = {cell: done[cell] for cell in cells}
    if choice.ship:
        ship(rows, folder)
    tables = [table_rows(rows, model.properties), system_rows(rows)]
    lines = ["\n".join(markdown(table)) for table in tables if table]
    text = "\n\n".join([*lines, "\n".join(footnotes(tools, settings))])
    print(text)
    if choice.table:
        choice.table.write_text(text + "\n")
    if choice.figure:
        draw(rows, model.properties).savefig(choice.figure, dpi=200)
    facts = {"benchmark": "design", **settings, "rows": tables[0], "systems": tables[1]}
    print(json.dumps(facts))
    if choice.json:
        choice.json.write_text(json.dumps(facts) + "\n")


if __name__ == "__main__":
    main()
