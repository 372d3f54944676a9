"""CHGNet 0.3.0 (Deng et al., Nat. Mach. Intell. 2023, 5, 1031), weights inside its wheel."""

import warnings
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from pymatgen.core import Structure

from mattergen_lite.scoring.energy.potentials.base import COMMON_ELEMENTS, SinglePoint
from mattergen_lite.scoring.energy.potentials.neighbors import neighbor_edges
from mattergen_lite.tensors.shapes import Float, Int

if TYPE_CHECKING:
    from ase import Atoms
    from chgnet.graph.crystalgraph import CrystalGraph
    from chgnet.model import CHGNet

CHGNET_VERSION = "0.3.0"
_CHGNET_WEIGHTS = "pretrained/0.3.0/chgnet_0.3.0_e29f68s314m37.pth.tar"


def load(model: str, device: str) -> "ChgnetPotential":
    """Load CHGNet 0.3.0.

    Raises:
        ValueError: If another model is asked for.
    """
    if model:
        raise ValueError(f"unknown CHGNet model {model!r}: expected chgnet alone")
    return ChgnetPotential(device)


@dataclass(frozen=True)
class _Graph:
    """Bonds of a crystal: directed edges, each half of an undirected bond, and angles."""

    edges: Int[np.ndarray, "E 2"]  # centre, neighbour
    images: Int[np.ndarray, "E 3"]  # cell of the neighbour
    bond_of_edge: Int[np.ndarray, "E"]
    edge_of_bond: Int[np.ndarray, "E_half"]
    angles: Int[np.ndarray, "A 5"]  # centre, bond 1, edge 1, bond 2, edge 2


def _bonds(edges: np.ndarray, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pair each edge with its reverse: the bond of each edge, and one edge of each bond."""
    rows = np.concatenate([edges, images], axis=1)
    reverse = np.concatenate([edges[:, ::-1], -images], axis=1)
    # Of an edge and its reverse the lexicographically smaller row stands for the bond.
    first_difference = (rows != reverse).argmax(axis=1)[:, None]
    is_smaller = np.take_along_axis(rows < reverse, first_difference, axis=1)
    canonical = np.where(is_smaller, rows, reverse)
    span = np.abs(canonical).max(axis=0) + 1
    keys = np.zeros(len(rows), dtype=np.int64)
    for column, size in zip(canonical.T, span, strict=True):
        keys = keys * (2 * size) + column + size
    _, edge_of_bond, bond_of_edge = np.unique(keys, return_index=True, return_inverse=True)
    return bond_of_edge, edge_of_bond


def _angles(edges: np.ndarray, bond_of_edge: np.ndarray, is_short: np.ndarray) -> np.ndarray:
    """All ordered pairs of different short edges that leave the same atom."""
    short = np.flatnonzero(is_short)
    short = short[np.argsort(edges[short, 0], kind="stable")]
    _, start, count = np.unique(edges[short, 0], return_index=True, return_counts=True)
    group_size = np.repeat(count, count)
    first = np.repeat(np.arange(len(short)), group_size)
    position = np.arange(len(first)) - np.repeat(np.cumsum(group_size) - group_size, group_size)
    second = np.repeat(np.repeat(start, count), group_size) + position
    edge, other = short[first[first != second]], short[second[first != second]]
    return np.stack([edges[edge, 0], bond_of_edge[edge], edge, bond_of_edge[other], other], axis=1)


def _graph(atoms: "Atoms", cutoff: float, angle_cutoff: float) -> _Graph:
    """Bonds within `cutoff` and angles between those within `angle_cutoff`, in Å."""
    edges, images, lengths = neighbor_edges(atoms, cutoff)
    bond_of_edge, edge_of_bond = _bonds(edges, images)
    angles = _angles(edges, bond_of_edge, lengths < angle_cutoff)
    return _Graph(edges, images, bond_of_edge, edge_of_bond, angles)


class ChgnetPotential:
    """CHGNet 0.3.0 for inference: vectorised graphs, and no graph of the gradients is kept.

    Twice as fast in a relaxation as the calculator it comes with, see
    `benchmarks/relaxation_speed.py`. Its energies are with MP2020 corrections already.
    """

    name = "chgnet"
    supported_elements = COMMON_ELEMENTS  # those of MPtrj

    def __init__(self, device: str = "cpu") -> None:
        self.device = device
        self.model = _load_chgnet().to(device)

    def energy(self, atoms: "Atoms") -> float:
        """Energy in eV."""
        return self.energies([atoms])[0]

    def energies(self, batch: Sequence["Atoms"]) -> list[float]:
        """Energies in eV from one forward pass."""
        graphs = [self._crystal_graph(atoms) for atoms in batch]
        with torch.no_grad():
            per_atom = self.model(graphs, task="e")["e"].tolist()
        return [energy * len(atoms) for energy, atoms in zip(per_atom, batch, strict=True)]

    def single_points(self, batch: Sequence["Atoms"]) -> list[SinglePoint]:
        """Energy, forces and stress from one backward pass."""
        from chgnet.model.model import BatchedGraph

        graphs = [self._crystal_graph(atoms) for atoms in batch]
        bases = (self.model.bond_basis_expansion, self.model.angle_basis_expansion)
        with warnings.catch_warnings(action="ignore"):  # that volumes lose their gradients
            together = BatchedGraph.from_graphs(graphs, *bases, compute_stress=True)
        # `forward` would build the graph of second derivatives, needed for training only.
        energies = self.model._compute(together)["e"]  # eV/atom, without the atomic references
        num_atoms = torch.tensor([len(atoms) for atoms in batch], device=self.device)
        inputs = [*together.atom_positions, *together.strains]
        gradients = torch.autograd.grad((energies * num_atoms).sum(), inputs)
        with torch.no_grad():
            totals = (energies + self.model.composition_model(graphs)) * num_atoms
        arrays = [gradient.double().cpu().numpy() for gradient in gradients]
        return [
            SinglePoint(
                energy=energy,
                forces=-gradient,
                stress=(virial + virial.T) / (2 * atoms.get_volume()),
            )
            for atoms, energy, gradient, virial in zip(
                batch, totals.tolist(), arrays[: len(batch)], arrays[len(batch) :], strict=True
            )
        ]

    def moments(self, atoms: "Atoms") -> Float[np.ndarray, "N"]:
        """Magnitude of the magnetic moment of every atom in µB."""
        with torch.no_grad():
            (moments,) = self.model([self._crystal_graph(atoms)], task="em")["m"]
        return moments.double().cpu().numpy()

    def correction(self, structure: Structure) -> float:
        """Zero: CHGNet was trained on corrected energies."""
        return 0.0

    def _crystal_graph(self, atoms: "Atoms") -> "CrystalGraph":
        from chgnet.graph.crystalgraph import CrystalGraph

        converter = self.model.graph_converter
        cutoff, angle_cutoff = converter.atom_graph_cutoff, converter.bond_graph_cutoff
        graph = _graph(atoms, float(cutoff), float(angle_cutoff))

        def indices(array: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(array.astype(np.int32))

        def reals(array: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(array.astype(np.float32))

        return CrystalGraph(
            atomic_number=indices(atoms.numbers),
            atom_frac_coord=reals(atoms.get_scaled_positions(wrap=False)).requires_grad_(),
            atom_graph=indices(graph.edges),
            neighbor_image=reals(graph.images),
            directed2undirected=indices(graph.bond_of_edge),
            undirected2directed=indices(graph.edge_of_bond),
            bond_graph=indices(graph.angles),
            lattice=reals(atoms.cell.array).requires_grad_(),
            atom_graph_cutoff=cutoff,
            bond_graph_cutoff=angle_cutoff,
        ).to(self.device)


@cache
def _load_chgnet() -> "CHGNet":
    """The model with the weights of the installed wheel, read without unpickling code."""
    import chgnet
    from chgnet.model import CHGNet

    path = Path(chgnet.__file__).parent / _CHGNET_WEIGHTS
    state = torch.load(path, map_location="cpu", weights_only=True)["model"]
    with redirect_stdout(None):
        model = CHGNet.from_dict(state, version=CHGNET_VERSION, mlp_out_bias=False)
    return model.eval().requires_grad_(False)
