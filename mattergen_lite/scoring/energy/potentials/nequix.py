"""Nequix (Koker, Kotak, Smidt, arXiv:2508.16067), of which the weights are a file.

nequix-oam-1 was trained on OMat24, sAlex and MPtrj; where to get it is in docs/howto/potentials.md.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from pymatgen.core import Element, Structure

from mattergen_lite.scoring.energy.potentials.base import SinglePoint, check_elements
from mattergen_lite.scoring.energy.potentials.mp2020 import mp2020_correction
from mattergen_lite.scoring.energy.potentials.nequix_network import NequixNetwork, read_network

if TYPE_CHECKING:
    from ase import Atoms

# Models that the package knows, by SHA-256 of their files.
MODELS = {"6a43475eaeb32a7a049f36c1306d78aa1e7a17e8af37aeda7901c8fec0ca845c": "nequix-oam-1"}


def load(model: str, device: str) -> "NequixPotential":
    """Load a network by the path of its file.

    Raises:
        ValueError: If it is no file of a Nequix model.
    """
    path = Path(model)
    network = read_network(path, device)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return NequixPotential(network, MODELS.get(digest, f"nequix:{model}"), digest)


class NequixPotential:
    """A Nequix model of PBE and PBE+U energies, with MP2020 corrections."""

    def __init__(self, network: NequixNetwork, name: str, digest: str) -> None:
        self.network, self.name, self.digest = network, name, digest
        self.supported_elements = frozenset(
            Element.from_Z(number).symbol for number in network.config.atomic_numbers
        )

    def energy(self, atoms: "Atoms") -> float:
        """Energy in eV."""
        check_elements(self, atoms.symbols)
        with torch.inference_mode():
            return float(self.network.energies(self.network.graph([atoms])).sum())

    def single_points(self, batch: Sequence["Atoms"]) -> list[SinglePoint]:
        """Energy, forces and stress of some crystals from one backward pass.

        Raises:
            ValueError: If an element is unknown, two atoms coincide or one has no neighbour.
        """
        for atoms in batch:
            check_elements(self, atoms.symbols)
        graph = self.network.graph(batch)
        graph.vectors.requires_grad_()
        energies = self.network.energies(graph)
        [gradient] = torch.autograd.grad(energies.sum(), graph.vectors)
        slopes = torch.where(graph.is_real[..., None], gradient, 0.0).double()
        forces = slopes.sum(dim=1)
        forces.index_add_(0, graph.neighbors.flatten(), -slopes.flatten(0, 1))
        virials = torch.einsum("ndi,ndj->nij", graph.vectors.detach().double(), slopes)
        sizes = [len(atoms) for atoms in batch]
        parts = zip(
            batch,
            energies.detach().split(sizes),
            forces.split(sizes),
            virials.split(sizes),
            strict=True,
        )
        return [
            SinglePoint(
                energy=float(energy.sum()),
                forces=force.cpu().numpy(),
                stress=_symmetric(virial.sum(dim=0)).cpu().numpy() / atoms.get_volume(),
            )
            for atoms, energy, force, virial in parts
        ]

    def correction(self, structure: Structure) -> float:
        """MP2020 corrections: the energies are of raw PBE and PBE+U."""
        return mp2020_correction(structure)


def _symmetric(matrix: torch.Tensor) -> torch.Tensor:
    return (matrix + matrix.T) / 2
