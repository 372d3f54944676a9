"""Networks of the sizes that peers publish, to be timed: random weights cost what trained ones do.

Written from the papers and from the settings that their authors publish; widths, depths and inputs
are theirs, so that a call costs what one of theirs does. They are checked by their numbers of
parameters. Everything else that their samplers do is left out.

Crystalite: arXiv 2604.02270. 14 transformer blocks of width 512 with 16 heads, a token for each of
20 atoms (padded) and one for the cell, pair geometry of nearest images as a bias of the attention.
DiffCSP: arXiv 2309.04475. 6 layers of messages of width 512 between all pairs of atoms of a cell.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn


def perceptron(*widths: int) -> nn.Sequential:
    """Linear layers with SiLU between them."""
    layers: list[nn.Module] = []
    for inside, outside in pairwise(widths):
        layers += [nn.Linear(inside, outside), nn.SiLU()]
    return nn.Sequential(*layers[:-1])


def waves(values: Tensor, num_frequencies: int) -> Tensor:
    """Sines and cosines of whole multiples of an angle of 2π times each value; last axis flat."""
    multiples = torch.arange(1, num_frequencies + 1, device=values.device)
    angles = 2 * torch.pi * (values.unsqueeze(-1) * multiples).flatten(-2)
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


class PairBiasedBlock(nn.Module):
    """Transformer block with adaptive layer norm and a bias of its attention."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm = nn.LayerNorm(dim, elementwise_affine=False)
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))
        self.modulation = nn.Linear(dim, 6 * dim)

    def forward(self, x: Tensor, context: Tensor, bias: Tensor) -> Tensor:
        """x [B N D], context [B D], bias [B h N N], minus infinity at padding."""
        scale_a, shift_a, gate_a, scale_m, shift_m, gate_m = (
            self.modulation(nn.functional.silu(context)).unsqueeze(1).chunk(6, dim=-1)
        )
        x = x + gate_a * self._attend(self.norm(x) * (1 + scale_a) + shift_a, bias)
        return x + gate_m * self.mlp(self.norm(x) * (1 + scale_m) + shift_m)

    def _attend(self, x: Tensor, bias: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        weights = (q @ k.mT * q.shape[-1] ** -0.5 + bias).softmax(-1)
        return self.out((weights @ v).transpose(1, 2).flatten(-2))


class Crystalite(nn.Module):
    """De novo network of Crystalite."""

    calls = 299  # EDM's Heun sampler with 150 steps
    published_millions = 67.6
    batch_size = 128  # of its sampling command
    dim, depth, num_heads, max_atoms = 512, 14, 16, 20
    element_dim, coordinate_waves, time_dim = 16, 32, 256
    pair_waves, pair_shells, pair_dim = 12, 32, 256

    def __init__(self) -> None:
        super().__init__()
        dim = self.dim
        self.types = perceptron(self.element_dim, dim, dim)
        self.coordinates = perceptron(6 * self.coordinate_waves, dim, dim)
        self.cell = perceptron(6, dim, dim)
        self.segments = nn.Embedding(2, dim)
        self.time = perceptron(self.time_dim, dim, dim)
        self.pairs = perceptron(
            6 * self.pair_waves + self.pair_shells, self.pair_dim, self.pair_dim, self.num_heads
        )
        self.blocks = nn.ModuleList(PairBiasedBlock(dim, self.num_heads) for _ in range(self.depth))
        self.norm = nn.LayerNorm(dim, elementwise_affine=False)
        self.to_types, self.to_coordinates = nn.Linear(dim, self.element_dim), nn.Linear(dim, 3)
        self.to_cell = nn.Linear(dim, 6)
        steps = torch.cartesian_prod(*[torch.arange(-1.0, 2.0)] * 3)
        self.register_buffer("images", steps, persistent=False)

    @classmethod
    def noise(cls, num_atoms: Sequence[int], device: torch.device) -> tuple[Tensor, ...]:
        """Arguments of a call on cells of these sizes."""
        batch, width = len(num_atoms), cls.max_atoms
        counts = torch.tensor(num_atoms, device=device)
        return (
            torch.randn(batch, width, cls.element_dim, device=device),
            torch.rand(batch, width, 3, device=device),
            torch.randn(batch, 6, device=device),
            torch.arange(width, device=device) < counts[:, None],
            torch.rand(batch, device=device),
        )

    def forward(
        self, types: Tensor, coordinates: Tensor, cell: Tensor, mask: Tensor, sigma: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """types [B N 16], coordinates [B N 3], cell [B 6], mask [B N], sigma [B]."""
        atoms = self.types(types) + self.coordinates(waves(coordinates, self.coordinate_waves))
        tokens = [atoms + self.segments.weight[0]]
        tokens.append((self.cell(cell) + self.segments.weight[1]).unsqueeze(1))
        x, bias = torch.cat(tokens, dim=1), self._bias(coordinates, cell, mask)
        context = self.time(waves(sigma[:, None], self.time_dim // 2))
        for block in self.blocks:
            x = block(x, context, bias)
        x = self.norm(x)
        return self.to_types(x[:, :-1]), self.to_coordinates(x[:, :-1]), self.to_cell(x[:, -1])

    def _bias(self, coordinates: Tensor, cell: Tensor, mask: Tensor) -> Tensor:
        """Bias of the attention [B h N+1 N+1] from nearest images, found among 27."""
        lattice = torch.zeros(*cell.shape[:-1], 3, 3, device=cell.device)
        rows, columns = torch.tril_indices(3, 3, device=cell.device)
        lattice[:, rows, columns] = cell
        difference = coordinates[:, None] - coordinates[:, :, None]
        difference = difference - difference.round()
        steps = (difference.unsqueeze(-2) + self.images) @ lattice[:, None, None]
        distance = steps.square().sum(-1).amin(-1).sqrt()
        centres = torch.linspace(0, 2, self.pair_shells, device=cell.device)
        shells = torch.exp(-(((distance.unsqueeze(-1) - centres) * self.pair_shells / 2) ** 2))
        features = torch.cat([waves(difference, self.pair_waves), shells], dim=-1)
        bias = nn.functional.pad(self.pairs(features).permute(0, 3, 1, 2), (0, 1, 0, 1))
        seen = nn.functional.pad(mask, (0, 1), value=True)
        return bias.masked_fill(~seen[:, None, None], -torch.inf)


class MessageLayer(nn.Module):
    """Messages between all pairs of atoms of a cell, and what they do to the atoms."""

    def __init__(self, dim: int, pair_features: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.messages = nn.Sequential(perceptron(2 * dim + pair_features, dim, dim), nn.SiLU())
        self.update = nn.Sequential(perceptron(2 * dim, dim, dim), nn.SiLU())

    def forward(self, x: Tensor, source: Tensor, target: Tensor, pairs: Tensor) -> Tensor:
        """x [N D], source and target [E], pairs [E P]."""
        h = self.norm(x)
        messages = self.messages(torch.cat([h[target], h[source], pairs], dim=-1))
        return x + self.update(torch.cat([h, mean_by(messages, target, len(x))], dim=-1))


def mean_by(values: Tensor, owner: Tensor, number: int) -> Tensor:
    """Mean of the rows of each owner."""
    sums = values.new_zeros(number, values.shape[-1]).index_add_(0, owner, values)
    return sums / owner.bincount(minlength=number).clamp(min=1).unsqueeze(-1)


class DiffCsp(nn.Module):
    """De novo network of DiffCSP."""

    calls = 2000  # 1,000 steps of a predictor and a corrector
    published_millions = 12.3
    batch_size = 500  # of its sampling script
    dim, depth, num_elements, time_dim, pair_waves = 512, 6, 100, 256, 128

    def __init__(self) -> None:
        super().__init__()
        dim = self.dim
        self.types = nn.Linear(self.num_elements, dim)
        self.with_time = nn.Linear(dim + self.time_dim, dim)
        features = 9 + 6 * self.pair_waves
        self.layers = nn.ModuleList(MessageLayer(dim, features) for _ in range(self.depth))
        self.norm = nn.LayerNorm(dim)
        self.to_coordinates = nn.Linear(dim, 3, bias=False)
        self.to_lattice = nn.Linear(dim, 9, bias=False)
        self.to_types = nn.Linear(dim, self.num_elements)

    @classmethod
    def noise(cls, num_atoms: Sequence[int], device: torch.device) -> tuple[Tensor, ...]:
        """Arguments of a call on cells of these sizes."""
        counts = torch.tensor(num_atoms, device=device)
        total = int(counts.sum())
        return (
            torch.randn(total, cls.num_elements, device=device),
            torch.rand(total, 3, device=device),
            torch.randn(len(num_atoms), 3, 3, device=device),
            counts,
            torch.rand(len(num_atoms), device=device),
        )

    def forward(
        self, types: Tensor, coordinates: Tensor, lattice: Tensor, counts: Tensor, time: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """types [N 100], coordinates [N 3], lattice [B 3 3], counts [B], time [B]; N of all."""
        owner = torch.arange(len(counts), device=counts.device).repeat_interleave(counts)
        source, target = (owner[:, None] == owner).nonzero().T
        difference = (coordinates[source] - coordinates[target]) % 1
        metric = (lattice @ lattice.mT).flatten(-2)
        pairs = torch.cat([metric[owner[source]], waves(difference, self.pair_waves)], dim=-1)
        context = waves(time[:, None], self.time_dim // 2)[owner]
        x = self.with_time(torch.cat([self.types(types), context], dim=-1))
        for layer in self.layers:
            x = layer(x, source, target, pairs)
        x = self.norm(x)
        cell = self.to_lattice(mean_by(x, owner, len(counts))).unflatten(-1, (3, 3)) @ lattice
        return self.to_types(x), self.to_coordinates(x), cell


PEERS = (Crystalite, DiffCsp)
