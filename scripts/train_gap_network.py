"""Train the network that confirms band gaps, on the gaps of the embedded table.

    python scripts/train_gap_network.py --epochs 10

Writes the weights into the package and a card beside them. Crystals that are or may be in MP-20's
test split are left out. The split `val` is not trained on; the test split decides nothing.
"""

import argparse
import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc
import torch
from ase import Atoms
from torch.nn.functional import binary_cross_entropy_with_logits, pad

from mattergen_lite.data.table import EMBEDDED, read_crystal_table
from mattergen_lite.scoring.confirmation.gap_network import (
    CUTOFF,
    NUM_LAYERS,
    WEIGHTS,
    CrystalGraphs,
    GapNetwork,
    crystal_graph,
)
from mattergen_lite.scoring.energy.potentials.neighbors import neighbor_edges

BATCH_SIZE, RATE, DECAY, AVERAGE = 128, 3e-3, 0.02, 0.995
FITTED = ("train", "extra", "unknown")
COLUMNS = ["formula", "split", "band_gap", "atomic_numbers", "frac_coords", "lattice"]


@dataclass(frozen=True)
class Example:
    """A graph with its gap in eV."""

    graph: CrystalGraphs
    gap: float
    formula: str


def read_examples(splits: Sequence[str]) -> list[Example]:
    """Crystals of some splits that have a gap, but those with an isolated atom."""
    table = read_crystal_table(EMBEDDED, COLUMNS)
    table = table.filter(pc.is_valid(table["band_gap"]))
    examples = []
    for row in table.to_pylist():
        if row["split"] in splits:
            try:
                examples.append(Example(graph_of(row), row["band_gap"], row["formula"]))
            except ValueError:
                continue
    return examples


def graph_of(row: dict) -> CrystalGraphs:
    """Graph of a row of the table, equal atoms merged."""
    lattice = np.array(row["lattice"]).reshape(3, 3)
    positions = np.array(row["frac_coords"]).reshape(-1, 3)
    atoms = Atoms(row["atomic_numbers"], scaled_positions=positions, cell=lattice, pbc=True)
    return merged_graph(atoms)


def merged_graph(atoms: Atoms) -> CrystalGraphs:
    """Graph of a crystal with one node for atoms that no message can tell apart.

    Predictions are the same, training is cheaper.
    """
    graph = crystal_graph(atoms)
    _, first, node = np.unique(environments(atoms), return_index=True, return_inverse=True)
    rows = graph.radial[:, first]
    radial = torch.zeros(*rows.shape[:3], len(first))
    return CrystalGraphs(
        elements=graph.elements[:, first],
        weights=torch.from_numpy(np.bincount(node) / len(atoms)).float()[None],
        radial=radial.index_add(3, torch.from_numpy(node), rows),
        electrons=graph.electrons,
    )


def environments(atoms: Atoms) -> np.ndarray:
    """Numbers of atoms, equal in equal environments (to some 1e-3 Å), [N].

    Colour refinement (Weisfeiler and Leman 1968) with sums of smooth functions of the lengths.
    """
    edges, _, lengths = neighbor_edges(atoms, CUTOFF)
    colours = np.sqrt(2.0 + atoms.numbers)
    weights = np.cos(2.0 * lengths) * np.exp(-lengths / 2)
    for _ in range(NUM_LAYERS):
        sent = np.sin(colours[edges[:, 1]]) * weights
        colours = colours + np.bincount(edges[:, 0], sent, minlength=len(atoms))
    return np.round(colours, 2) + 1000.0 * atoms.numbers


def concatenate(graphs: Sequence[CrystalGraphs]) -> CrystalGraphs:
    """One batch of all graphs, padded to the largest."""
    missing = [max(g.elements.shape[1] for g in graphs) - g.elements.shape[1] for g in graphs]
    pairs = list(zip(graphs, missing, strict=True))
    return CrystalGraphs(
        elements=torch.cat([pad(graph.elements, (0, more)) for graph, more in pairs]),
        weights=torch.cat([pad(graph.weights, (0, more)) for graph, more in pairs]),
        radial=torch.cat([pad(graph.radial, (0, more, 0, 0, 0, more)) for graph, more in pairs]),
        electrons=torch.cat([graph.electrons for graph in graphs]),
    )


def batch_of(examples: Sequence[Example]) -> tuple[CrystalGraphs, torch.Tensor]:
    """One batch and its gaps."""
    gaps = torch.tensor([example.gap for example in examples])
    return concatenate([example.graph for example in examples]), gaps


def loss_of(network: GapNetwork, examples: Sequence[Example]) -> torch.Tensor:
    """Cross entropy of having a gap, and absolute error in eV of those that have one."""
    graphs, gaps = batch_of(examples)
    logits, widths = network(graphs).unbind(-1)
    has_gap = gaps > 0
    missed = (widths - gaps).abs()[has_gap].sum() / len(gaps)
    return binary_cross_entropy_with_logits(logits, has_gap.float()) + missed


def batches(examples: Sequence[Example], order: np.random.Generator) -> list[np.ndarray]:
    """Rows of batches of similar size, shuffled."""
    sizes = np.array([example.graph.elements.shape[1] for example in examples])
    rows = np.argsort(sizes + order.uniform(0, 1, len(sizes)))
    parts = [rows[start : start + BATCH_SIZE] for start in range(0, len(rows), BATCH_SIZE)]
    return [parts[index] for index in order.permutation(len(parts))]


def train(examples: Sequence[Example], epochs: int, seed: int) -> GapNetwork:
    """A network with averaged weights."""
    torch.manual_seed(seed)
    order = np.random.default_rng(seed)
    network = GapNetwork()
    average = copy.deepcopy(network)
    optimiser = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=DECAY)
    steps = epochs * (len(examples) // BATCH_SIZE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps)
    for epoch in range(epochs):
        started = time.process_time()
        for rows in batches(examples, order)[: steps // epochs]:
            optimiser.zero_grad()
            loss = loss_of(network, [examples[row] for row in rows])
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            with torch.no_grad():
                for mean, now in zip(average.parameters(), network.parameters(), strict=True):
                    mean.lerp_(now, 1 - AVERAGE)
        seconds = time.process_time() - started
        print(f"epoch {epoch}: last loss {loss.item():.3f}, {seconds:.0f} core s", flush=True)
    return average.eval()


def predictions(network: GapNetwork, examples: Sequence[Example]) -> np.ndarray:
    """Gaps in eV."""
    parts = [examples[start : start + 256] for start in range(0, len(examples), 256)]
    return np.concatenate([network.predict(batch_of(part)[0]).numpy() for part in parts])


def errors(predicted: np.ndarray, examples: Sequence[Example]) -> list[str]:
    """Cells of the card: crystals, MAE, MAE where a gap is, of the median, right about a gap."""
    gaps = np.array([example.gap for example in examples])
    missed, has_gap = np.abs(predicted - gaps), gaps > 0
    right = np.mean((predicted > 0) == has_gap)
    figures = (missed.mean(), missed[has_gap].mean(), np.abs(gaps - np.median(gaps)).mean())
    return [f"{len(gaps):,}", *(f"{figure:.3f}" for figure in figures), f"{right:.1%}"]


CARD = """# Network of band gaps

Confirms the band gap of a crystal that the generator was asked for. A crystal graph network on
elements, distances up to 6 Å, and on whether charges balance and the number of electrons is odd
(`mattergen_lite/scoring/confirmation/gap_network.py`), trained by
`python scripts/train_gap_network.py --epochs {epochs}` on {number:,} PBE and PBE+U gaps of the
Materials Project (CC BY 4.0) outside MP-20's validation and test splits, in {minutes:.0f} core
minutes. It shares no features and no training with the generator and its regressions.

## Errors

| crystals | number | MAE, eV | MAE where a gap is | MAE of the median | gap or not, right |
|---|---|---|---|---|---|
{lines}

Published networks, trained end to end on the Materials Project, have MAEs of 0.2 to 0.4 eV. Gaps
are those of PBE, which are some 40% below experiment. Errors for generated crystals are larger than
for known ones.
"""


def main() -> None:
    """Train, measure, and write weights and card."""
    from safetensors.torch import save_file

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    choice = parser.parse_args()
    fitted = read_examples(FITTED)
    print(f"{len(fitted):,} crystals", flush=True)
    started = time.process_time()
    network = train(fitted, choice.epochs, choice.seed)
    minutes = (time.process_time() - started) / 60
    formulas = {example.formula for example in fitted}
    val, test = read_examples(("val",)), read_examples(("test",))
    new = [example for example in test if example.formula not in formulas]
    sets = {"MP-20 validation": val, "MP-20 test": test, "of it, new compositions": new}
    rows = [[name, *errors(predictions(network, subset), subset)] for name, subset in sets.items()]
    lines = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    save_file(
        {name: value.half().contiguous() for name, value in network.state_dict().items()}, WEIGHTS
    )
    WEIGHTS.chmod(0o644)  # safetensors makes it private to its owner
    card = CARD.format(epochs=choice.epochs, number=len(fitted), minutes=minutes, lines=lines)
    WEIGHTS.with_suffix(".md").write_text(card, encoding="utf-8")
    print(card)


if __name__ == "__main__":
    main()
