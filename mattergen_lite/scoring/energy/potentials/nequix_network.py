"""Evaluates Nequix networks in PyTorch, and reads their weights from the files of their makers.

The network (Koker, Kotak, Smidt, arXiv:2508.16067) is a NequIP (Batzner et al., Nat. Commun. 2022,
13, 2453) whose layers end in an equivariant RMS norm and a gate. Features of degree l have the
parity of l and are arrays of atoms, 2l + 1 components and channels. Neighbours are padded to the
largest number of an atom; what pads lies at the cutoff, where weights vanish.
"""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np
import torch
from pydantic import ConfigDict, TypeAdapter, ValidationError
from torch import Tensor
from torch.nn.functional import silu

from mattergen_lite.scoring.energy.potentials.neighbors import neighbor_edges
from mattergen_lite.tensors.shapes import Float, Int

if TYPE_CHECKING:
    from ase import Atoms

MAX_FILE = 2**28  # bytes
MAX_DEGREE = 4
EPSILON = 1e-12  # of the norm


@dataclass(frozen=True, kw_only=True)
class NequixConfig:
    """The shape of a network, as the first line of its file says."""

    __pydantic_config__ = ConfigDict(allow_inf_nan=False)

    atomic_numbers: list[int]
    cutoff: float  # Å
    hidden_irreps: str  # such as 128x0e + 64x1o
    lmax: int  # of the spherical harmonics
    n_layers: int
    radial_basis_size: int
    radial_mlp_size: int
    radial_mlp_layers: int
    radial_polynomial_p: float
    avg_n_neighbors: float
    scale: float  # eV
    shift: float  # eV
    index_weights: bool = True
    layer_norm: bool = False

    @property
    def channels(self) -> dict[int, int]:
        """Number of hidden features of each degree.

        Raises:
            ValueError: If a degree stands twice or has another parity than its own.
        """
        from e3nn.o3 import Irreps

        irreps = Irreps(self.hidden_irreps)
        channels = {irrep.l: number for number, irrep in irreps}
        natural = all(irrep.p == (-1) ** irrep.l for _, irrep in irreps)
        if not natural or len(channels) < len(irreps) or list(channels) != sorted(channels):
            raise ValueError(f"hidden_irreps {self.hidden_irreps!r}: expected 0e, 1o, 2e... once")
        return channels

    def check(self) -> None:
        """Refuse networks of another kind.

        Raises:
            ValueError: Naming the setting and what is accepted.
        """
        if self.index_weights or not self.layer_norm:
            raise ValueError("index_weights or no layer_norm: expected neither")
        degrees = [*self.channels, self.lmax]
        if 0 not in self.channels or max(degrees) > MAX_DEGREE or min(degrees) < 0:
            raise ValueError(f"degrees {degrees}: expected 0 to at most {MAX_DEGREE}")
        positive = (self.cutoff, self.avg_n_neighbors, self.n_layers, self.radial_basis_size)
        if not min(positive) > 0 or not self.atomic_numbers:
            raise ValueError("a cutoff, number of neighbours, layers or elements is not positive")


@dataclass(frozen=True)
class Layer:
    """Weights of one convolution, scaled by the square roots of their numbers of inputs."""

    paths: Sequence[tuple[int, int, int]]  # degrees of feature, harmonic and message
    radial: Sequence[Tensor]  # matrices of the network of the distance
    before: dict[int, Tensor]  # by degree, applied to features of neighbours
    after: dict[int, Tensor]  # applied to sums of messages
    skip: dict[int, Tensor]  # applied to features of the atom itself
    norm: dict[int, Tensor]  # factors of the norm


@dataclass(frozen=True)
class Graph:
    """Neighbours of the atoms of one or more crystals, padded to the same number."""

    species: Int[Tensor, "N"]
    neighbors: Int[Tensor, "N D"]
    vectors: Float[Tensor, "N D 3"]  # Å, to the neighbours
    is_real: Tensor  # N D: not a pad


class NequixNetwork:
    """Energies of atoms in eV."""

    def __init__(self, config: NequixConfig, leaves: Sequence[np.ndarray], device: str) -> None:
        from e3nn.o3 import wigner_3j

        self.config, self.device = config, device
        arrays = iter([torch.from_numpy(leaf).to(device) for leaf in leaves])
        self.atom_energies = next(arrays).double()
        self.layers = [_layer(config, number, arrays) for number in range(config.n_layers)]
        self.readout = _scaled(next(arrays))
        self.species_of = torch.zeros(max(config.atomic_numbers) + 1, dtype=torch.long)
        self.species_of[config.atomic_numbers] = torch.arange(len(config.atomic_numbers))
        self.gate_factor = _gate_factor()
        paths = {path for layer in self.layers for path in layer.paths}
        self.couplings = {  # harmonics, then feature and message
            (a, b, c): (math.sqrt(2 * c + 1) * wigner_3j(a, b, c)).permute(1, 0, 2).to(device)
            for a, b, c in sorted(paths)
        }

    def graph(self, batch: Sequence["Atoms"]) -> Graph:
        """Neighbours of the atoms of some crystals.

        Raises:
            ValueError: If two atoms coincide or one has no neighbour.
        """
        cutoff, first = self.config.cutoff, 0
        centres, neighbors, vectors = [], [], []
        for atoms in batch:
            edges, images, _ = neighbor_edges(atoms, cutoff)
            order = np.argsort(edges[:, 0], kind="stable")
            start, end = atoms.positions[edges[order].T]
            vectors.append(end + images[order] @ atoms.cell.array - start)
            centres.append(edges[order, 0] + first)
            neighbors.append(edges[order, 1] + first)
            first += len(atoms)
        centre = np.concatenate(centres)
        counts = np.bincount(centre)
        slot = np.arange(len(centre)) - np.repeat(np.cumsum(counts) - counts, counts)
        shape = (first, int(counts.max()))
        padded = np.zeros(shape, dtype=np.int64)
        padded[centre, slot] = np.concatenate(neighbors)
        vector = np.full((*shape, 3), [cutoff, 0.0, 0.0])
        vector[centre, slot] = np.concatenate(vectors)
        is_real = np.zeros(shape, dtype=bool)
        is_real[centre, slot] = True
        numbers = torch.from_numpy(np.concatenate([atoms.numbers for atoms in batch]))
        return Graph(
            species=self.species_of[numbers].to(self.device),
            neighbors=torch.from_numpy(padded).to(self.device),
            vectors=torch.from_numpy(vector).float().to(self.device),
            is_real=torch.from_numpy(is_real).to(self.device),
        )

    def energies(self, graph: Graph) -> Float[Tensor, "N"]:
        """Energies of atoms in eV."""
        lengths = graph.vectors.norm(dim=-1, keepdim=True)
        basis = self._radial_basis(lengths)
        products = self._products(graph.vectors / lengths)
        features = None
        for layer in self.layers:
            features = self._convolve(layer, features, graph, basis, products)
        energies = (features[0][:, 0] @ self.readout)[:, 0].double()
        return energies * self.config.scale + self.config.shift + self.atom_energies[graph.species]

    def _radial_basis(self, lengths: Float[Tensor, "N D 1"]) -> Float[Tensor, "N D B"]:
        """Bessel functions under a polynomial envelope (Gasteiger et al., arXiv:2003.03123)."""
        p, size = self.config.radial_polynomial_p, self.config.radial_basis_size
        x = lengths / self.config.cutoff
        frequencies = math.pi * torch.arange(1, size + 1, device=self.device)
        envelope = (
            1
            - (p + 1) * (p + 2) / 2 * x**p
            + p * (p + 2) * x ** (p + 1)
            - p * (p + 1) / 2 * x ** (p + 2)
        )
        envelope = torch.where(x < 1, envelope, 0.0)
        return 2 / self.config.cutoff * torch.sin(frequencies * x) / lengths * envelope

    def _products(self, directions: Float[Tensor, "N D 3"]) -> dict[tuple[int, int, int], Tensor]:
        """What turns features of neighbours into messages, by path: atoms, inputs, components."""
        from e3nn.o3 import spherical_harmonics

        degrees = {path[1] for path in self.couplings}
        harmonics = {
            degree: spherical_harmonics(degree, directions, False, "component")
            for degree in sorted(degrees)
        }
        num_atoms = len(directions)
        return {
            path: (harmonics[path[1]] @ coupling.flatten(1)).view(num_atoms, -1, coupling.shape[2])
            for path, coupling in self.couplings.items()
        }

    def _convolve(
        self,
        layer: Layer,
        features: dict[int, Tensor] | None,
        graph: Graph,
        basis: Tensor,
        products: dict[tuple[int, int, int], Tensor],
    ) -> dict[int, Tensor]:
        """Apply one layer to features by degree; without any, the species stand for them."""
        radial = basis
        for matrix in layer.radial[:-1]:
            radial = silu(radial @ matrix)
        radial = radial @ layer.radial[-1]
        if features is None:
            before = {0: layer.before[0][graph.species][:, None]}
            own = {0: layer.skip[0][graph.species][:, None]}
        else:
            before = {degree: features[degree] @ layer.before[degree] for degree in features}
            own = {degree: features[degree] @ matrix for degree, matrix in layer.skip.items()}
        neighbors, shape = graph.neighbors.flatten(), graph.neighbors.shape
        sent = {  # by index_select, which has the faster gradient
            degree: values.index_select(0, neighbors).unflatten(0, shape)
            for degree, values in before.items()
        }
        received: dict[int, list[Tensor]] = {degree: [] for degree in layer.after}
        weights = radial.split([sent[path[0]].shape[-1] for path in layer.paths], dim=-1)
        for path, weight in zip(layer.paths, weights, strict=True):
            weighted = (sent[path[0]] * weight[:, :, None]).flatten(1, 2)
            received[path[2]].append(torch.bmm(products[path].transpose(1, 2), weighted))
        after = {
            degree: torch.cat(received[degree], dim=-1) @ matrix
            for degree, matrix in layer.after.items()
        }
        after = {d: after[d] + own[d] if d in own else after[d] for d in after}
        return self._gated(_normalized(after, layer.norm))

    def _gated(self, features: dict[int, Tensor]) -> dict[int, Tensor]:
        """Pass scalars through a SiLU; the last of them are factors of the other features."""
        scalars = self.gate_factor * silu(features[0])
        others = {degree: values for degree, values in features.items() if degree}
        sizes = [values.shape[-1] for values in others.values()]
        kept, *gates = scalars.split([scalars.shape[-1] - sum(sizes), *sizes], dim=-1)
        gated = {
            degree: values * gate
            for (degree, values), gate in zip(others.items(), gates, strict=True)
        }
        return {0: kept, **gated}


def _normalized(features: dict[int, Tensor], factors: dict[int, Tensor]) -> dict[int, Tensor]:
    """Divide features by their root mean square, in which every degree counts the same."""
    squares = [
        values.square().sum(dim=(1, 2)) / (values.shape[1] ** 2 * len(features))
        for values in features.values()
    ]
    inverse = (sum(squares) + EPSILON).rsqrt()[:, None, None]
    return {degree: values * inverse * factors[degree] for degree, values in features.items()}


def _gate_factor() -> float:
    """What gives SiLU of a normal variable a mean square of 1."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(120)
    squares = (nodes / (1 + np.exp(-nodes))) ** 2
    return float((weights.sum() / (weights * squares).sum()) ** 0.5)


def read_network(path: Path, device: str = "cpu") -> NequixNetwork:
    """Read a network: a line of JSON, then arrays in NumPy's format. Nothing is unpickled.

    Raises:
        ValueError: If it is none, or of another kind or length.
    """
    if not path.is_file() or path.stat().st_size > MAX_FILE:
        raise ValueError(f"{path} is no Nequix model: expected a file of at most {MAX_FILE} bytes")
    with path.open("rb") as file:
        try:
            config = TypeAdapter(NequixConfig).validate_python(json.loads(file.readline(2**20)))
            config.check()
            leaves = _read_leaves(file, leaf_shapes(config))
        except ValidationError as error:
            first = error.errors()[0]
            problem = f"{'.'.join(str(key) for key in first['loc'])}: {first['msg']}"
            raise ValueError(f"{path} is no Nequix model: {problem}") from None
        except (ValueError, EOFError) as error:
            raise ValueError(f"{path} is no Nequix model: {error}") from None
    return NequixNetwork(config, leaves, device)


def _read_leaves(file: IO[bytes], shapes: Sequence[tuple[int, ...]]) -> list[np.ndarray]:
    """Arrays of expected shapes; what follows in the file are single numbers, left unread."""
    leaves = []
    for number, shape in enumerate(shapes):
        try:
            leaf = np.lib.format.read_array(file, allow_pickle=False)
        except ValueError as error:
            raise ValueError(f"{number} of {len(shapes)} arrays, then {error}") from None
        if leaf.shape != shape:
            raise ValueError(f"array {number} has the shape {leaf.shape}: expected {shape}")
        leaves.append(leaf.astype(np.float32))
        if not np.isfinite(leaves[-1]).all():
            raise ValueError(f"array {number} is not finite")
    if file.read(1) and np.lib.format.read_array(_back(file), allow_pickle=False).shape:
        raise ValueError(f"more than {len(shapes)} arrays: expected those of its first line")
    return leaves


def _back(file: IO[bytes]) -> IO[bytes]:
    file.seek(-1, 1)
    return file


def leaf_shapes(config: NequixConfig) -> list[tuple[int, ...]]:
    """Shapes of the arrays of weights in the order of the file."""
    shapes: list[tuple[int, ...]] = [(len(config.atomic_numbers),)]
    for number in range(config.n_layers):
        inputs, outputs, paths = _widths(config, number)
        hidden = [config.radial_mlp_size] * config.radial_mlp_layers
        sizes = [config.radial_basis_size, *hidden, sum(inputs[path[0]] for path in paths)]
        shapes += pairwise(sizes)
        shapes += [(width, width) for width in inputs.values()]
        messages = {d: sum(inputs[path[0]] for path in paths if path[2] == d) for d in outputs}
        shapes += [(messages[degree], width) for degree, width in outputs.items()]
        shapes += [(inputs[degree], outputs[degree]) for degree in inputs if degree in outputs]
        shapes += [(width,) for width in outputs.values()]
    return [*shapes, (config.channels[0], 1)]


def _widths(
    config: NequixConfig, number: int
) -> tuple[dict[int, int], dict[int, int], list[tuple[int, int, int]]]:
    """Channels of a layer's input and output by degree, gates among the latter, and its paths."""
    channels = config.channels
    inputs = channels if number else {0: len(config.atomic_numbers)}
    is_last = number == config.n_layers - 1
    outputs = {0: channels[0]} if is_last else dict(channels)
    outputs[0] = sum(outputs.values())
    paths = [
        (feature, harmonic, message)
        for feature in inputs
        for harmonic in range(config.lmax + 1)
        for message in range(abs(feature - harmonic), feature + harmonic + 1)
        if message in outputs and (feature + harmonic + message) % 2 == 0
    ]
    return inputs, outputs, sorted(paths, key=lambda path: path[2])


def _layer(config: NequixConfig, number: int, arrays: Iterator[Tensor]) -> Layer:
    inputs, outputs, paths = _widths(config, number)
    radial = [next(arrays) for _ in range(config.radial_mlp_layers + 1)]
    before = {degree: _scaled(next(arrays)) for degree in inputs}
    neighbors = math.sqrt(config.avg_n_neighbors)
    after = {degree: _scaled(next(arrays)) / neighbors for degree in outputs}
    skip = {degree: _scaled(next(arrays)) for degree in inputs if degree in outputs}
    norm = {degree: next(arrays) for degree in outputs}
    return Layer(paths, radial, before, after, skip, norm)


def _scaled(matrix: Tensor) -> Tensor:
    return matrix / math.sqrt(matrix.shape[0])
