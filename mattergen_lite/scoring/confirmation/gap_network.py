"""Predicts band gaps from structure by a crystal graph network.

The network shares neither features nor training with the generator. It reads elements, interatomic
distances within `CUTOFF` and what the number of electrons says. Its convolutions are
continuous filters (SchNet, Schütt et al. 2017, arXiv 1706.08566), expanded in Gaussians of the
distance. Two outputs say whether a crystal has a gap and how wide it is, in eV, as PBE has it.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import spglib
import torch
from pymatgen.core import Structure
from pymatgen.io.ase import AseAtomsAdaptor
from torch import Tensor, nn

from mattergen_lite.scoring.criteria.neutrality import neutrality
from mattergen_lite.scoring.energy.potentials.neighbors import neighbor_edges
from mattergen_lite.tensors.shapes import Float, Int

if TYPE_CHECKING:
    from ase import Atoms

CUTOFF = 6.0  # Å; messages vanish smoothly there
CENTRES = np.linspace(1.0, CUTOFF, 12)  # Å, of the Gaussians
SPREAD = 0.45  # Å, of each
WIDTH = 64
NUM_LAYERS = 3
MAX_ELEMENT = 100
NUM_COUNTS = 5  # of `electron_count`
SYMPREC = 0.01  # Å, of the primitive cell
WEIGHTS = Path(__file__).parents[2] / "assets" / "band_gap.safetensors"


@dataclass(frozen=True, kw_only=True)
class CrystalGraphs:
    """Graphs of B crystals with up to N nodes, seen through R Gaussians of the distance.

    A node is an atom, or atoms that no message can tell apart.
    """

    elements: Int[Tensor, "B N"]  # atomic numbers; 0 = padding
    weights: Float[Tensor, "B N"]  # share of the atoms of the crystal
    radial: Float[Tensor, "B N R N"]  # of each neighbour kind around a node, summed over its atoms
    electrons: Float[Tensor, "B E"]  # see `electron_count`


def crystal_graph(atoms: "Atoms") -> CrystalGraphs:
    """Graph of one ordered crystal, every atom a node.

    Raises:
        ValueError: If two atoms coincide, or one has no neighbour within `CUTOFF`.
    """
    edges, _, lengths = neighbor_edges(atoms, CUTOFF)
    fade = (np.cos(np.pi * lengths / CUTOFF) + 1) / 2
    gaussians = np.exp(-(((lengths[:, None] - CENTRES) / SPREAD) ** 2) / 2) * fade[:, None]
    count = len(atoms)
    radial = np.zeros((count, count, len(CENTRES)))
    np.add.at(radial, tuple(edges.T), gaussians)
    return CrystalGraphs(
        elements=torch.from_numpy(atoms.numbers.astype(np.int64))[None],
        weights=torch.full((1, count), 1 / count),
        radial=torch.from_numpy(radial.transpose(0, 2, 1)).float()[None],
        electrons=torch.tensor([electron_count(atoms)]),
    )


def electron_count(atoms: "Atoms") -> tuple[float, ...]:
    """What the number of electrons says of a gap, as numbers of 0 or 1.

    Odd in the primitive cell (a metal unless it has moments); charges balance with one state a
    site; with two states on sites that do not differ; not at all; charges are unassigned.
    """
    charges = neutrality(AseAtomsAdaptor.get_structure(atoms))
    verdict, is_told = charges.charge_verdict, charges.site_oxidation_states != ""
    return (
        float(has_odd_electrons(atoms)),
        float(verdict == "neutral" and is_told),
        float(verdict == "neutral" and not is_told),
        float(verdict == "charged"),
        float(verdict == "unassigned"),
    )


def has_odd_electrons(atoms: "Atoms") -> bool:
    """Tell whether the primitive cell has an odd number of electrons."""
    given = (atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers)
    primitive = spglib.find_primitive(given, symprec=SYMPREC)
    numbers = atoms.numbers if primitive is None else primitive[2]
    return bool(np.sum(numbers) % 2)


class GapNetwork(nn.Module):
    """Crystal graph network with two outputs a crystal."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(MAX_ELEMENT + 1, WIDTH, padding_idx=0)
        self.layers = nn.ModuleList(_Convolution() for _ in range(NUM_LAYERS))
        self.attention = nn.Linear(WIDTH, WIDTH)
        self.head = nn.Sequential(
            nn.Linear(3 * WIDTH + NUM_COUNTS, WIDTH), nn.SiLU(), nn.Linear(WIDTH, 2)
        )

    def forward(self, graphs: CrystalGraphs) -> Float[Tensor, "B 2"]:
        """Log-odds of a gap above zero, and the gap in eV where it is."""
        hidden = self.embedding(graphs.elements)
        for layer in self.layers:
            hidden = layer(hidden, graphs.radial)
        share = graphs.weights[:, :, None]
        mean = (share * hidden).sum(1)
        spread = (share * (hidden - mean[:, None]).square()).sum(1)
        weight = share * self.attention(hidden).clamp(-15, 15).exp()
        attended = (weight * hidden).sum(1) / weight.sum(1)
        parts = [mean, (spread + 1e-6).sqrt(), attended, graphs.electrons]
        return self.head(torch.cat(parts, dim=-1))

    def predict(self, graphs: CrystalGraphs) -> Float[Tensor, "B"]:
        """Band gaps in eV; exactly 0 of what is more likely a metal."""
        with torch.no_grad():
            logits, gaps = self(graphs).unbind(-1)
        return torch.where(logits > 0, gaps.clamp(min=0), 0.0)


class _Convolution(nn.Module):
    """Sum of the filtered neighbours of every atom, and an update by it."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.own = nn.Linear(WIDTH, WIDTH)
        self.filter = nn.Linear(len(CENTRES) * WIDTH, WIDTH, bias=False)
        self.update = nn.Sequential(
            nn.SiLU(), nn.Linear(WIDTH, 2 * WIDTH), nn.GLU(), nn.Linear(WIDTH, WIDTH)
        )

    def forward(
        self, hidden: Float[Tensor, "B N D"], radial: Float[Tensor, "B N R N"]
    ) -> Float[Tensor, "B N D"]:
        """Hidden states after the messages."""
        batch, nodes, width = hidden.shape
        normed = self.norm(hidden)
        summed = radial.reshape(batch, -1, nodes) @ normed
        messages = self.filter(summed.reshape(batch, nodes, len(CENTRES) * width))
        return hidden + self.update(self.own(normed) + messages)


@cache
def load_gap_network() -> GapNetwork:
    """Read the shipped network."""
    from safetensors.torch import load_file

    network = GapNetwork()
    network.load_state_dict({name: value.float() for name, value in load_file(WEIGHTS).items()})
    return network.eval().requires_grad_(False)


def predict_band_gap(structure: Structure) -> float:
    """Band gap of an ordered crystal in eV, as PBE has it.

    Raises:
        ValueError: If two atoms coincide, or one has no neighbour within `CUTOFF`.
    """
    graph = crystal_graph(structure.to_ase_atoms(msonable=False))
    return float(load_gap_network().predict(graph))
