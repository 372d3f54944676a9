"""Measure a generated set and write the figures into a model card.

    mattergen-lite generate --num-samples 1024 --no-relax --out card/
    python benchmarks/model_card.py card/ checkpoints/mp/model_card.md

Everything between the two `metrics` markers of the card is replaced. Raw samples, not relaxed.
"""

import argparse
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa

from mattergen_lite.config import DataConfig
from mattergen_lite.data.crystals import CrystalDataset
from mattergen_lite.data.table import read_crystal_table, select_rows
from mattergen_lite.io.read import read_structures
from mattergen_lite.processes import Pool, available_cores
from mattergen_lite.runs.folder import RunFolder
from mattergen_lite.sampling.sampler import STRENGTH_FROM_CRYSTALS
from mattergen_lite.scoring.execution.result_cache import ResultCache
from mattergen_lite.scoring.known.reference import Reference
from mattergen_lite.scoring.metrics.distributions import distances
from mattergen_lite.scoring.score import Score, score

BINS = ((1, 52), (1, 20), (1, 4), (5, 8), (9, 12), (13, 16), (17, 20), (21, 52))
START, END = "<!-- metrics -->", "<!-- /metrics -->"

EVERY_SIZE = DataConfig(max_orbits=1000)  # MP-20 has crystals of up to 20 atoms


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path, help="folder that `generate` wrote")
    parser.add_argument("card", type=Path, help="model card to update")
    arguments = parser.parse_args()
    table = read_crystal_table("embedded")
    train = select_rows(table, ["train"], EVERY_SIZE)
    test = CrystalDataset.from_table(select_rows(table, ["test"], EVERY_SIZE))
    scores = judged_against(train, arguments.results)
    record = RunFolder(arguments.results).record()
    section = "\n".join([protocol(record, scores), "", *table_lines(scores, test)])
    card = arguments.card.read_text()
    pattern = re.compile(f"{START}.*{END}", re.DOTALL)
    arguments.card.write_text(pattern.sub(f"{START}\n{section}\n{END}", card))
    print(section)


def judged_against(train: pa.Table, results: Path) -> list[Score]:
    """The samples judged again, with the training split as the set of what is known."""
    records = list(read_structures(RunFolder(results).frames))
    known = Reference.from_table(train, name="MP-20 training split")
    with Pool(available_cores()) as pool:
        return score(records, reference=known, result_cache=ResultCache(pool))


def protocol(record: dict, scores: Sequence[Score]) -> str:
    asked = record["arguments"]
    settings = (
        f"seed {asked['seed']}, {asked['solver']} solver, {asked['steps']} steps, "
        f"strength {asked.get('strength') or STRENGTH_FROM_CRYSTALS:g}, "
        f"template bias {asked.get('template_bias', 0):g}, "
        f"eta {asked['eta']}, s_noise {asked['s_noise']}, "
        f"stability guidance {asked['stability_guidance']}"
    )
    return (
        f"{len(scores)} raw samples (not relaxed), unconditional, {settings}; "
        f"weights `{record['weights_sha256'][:12]}`. Structural validity: no two atoms within "
        "0.5 Å, volume above 0.1 Å³. Composition validity: smact. Physical: no overlapping "
        "covalent spheres, void or impossible density. Unique and novel: pymatgen's "
        "StructureMatcher (ltol 0.2, stol 0.3, angle 5), novel against MP-20's training split. "
        "W1: Wasserstein distance to MP-20's test split of density (g/cm³) and number of "
        "elements, over all samples of a bin."
    )


def table_lines(scores: Sequence[Score], test: CrystalDataset) -> list[str]:
    """A Markdown table, one row an atom-count bin."""
    header = (
        "| atoms | samples | struct. valid | comp. valid | physical | above P1 | unique | novel "
        "| unique + novel | W1 density | W1 n-ary |"
    )
    return [header, "|---" * 11 + "|", *(table_row(low, high, scores, test) for low, high in BINS)]


def table_row(low: int, high: int, scores: Sequence[Score], test: CrystalDataset) -> str:
    inside = [s for s in scores if low <= s.num_atoms <= high]
    if not inside:
        return f"| {low}-{high} | 0 |" + " - |" * 9

    def share(passes: Callable[[Score], bool]) -> str:
        return f"{sum(map(passes, inside)) / len(inside):.1%}"

    known = (test.num_atoms >= low) & (test.num_atoms <= high)
    w1_cells = ["-", "-"]  # MP-20 has no crystals of that size
    if known.any():
        densities = [s.validity.density for s in inside]
        num_elements = [s.chemical_system.count("-") + 1 for s in inside]
        w1 = distances(densities, num_elements, test, known)
        w1_cells = [f"{w1.density:.3f}", f"{w1.n_ary:.3f}"]
    cells = [
        f"{low}-{high}",
        str(len(inside)),
        share(lambda s: s.validity.structure_valid),
        share(lambda s: s.neutrality.composition_valid),
        share(lambda s: not s.validity.physical_problem),
        share(lambda s: s.symmetry is not None and s.symmetry.space_group > 1),
        share(lambda s: s.novelty.is_unique),
        share(lambda s: bool(s.novelty.is_novel)),
        share(lambda s: s.novelty.is_unique and bool(s.novelty.is_novel)),
        *w1_cells,
    ]
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
