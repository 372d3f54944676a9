"""The transformer that predicts templates token by token."""

import math

import torch
from torch import Tensor, nn

from mattergen_lite.chemistry.elements import MAX_ATOMIC_NUMBER, element_descriptors
from mattergen_lite.symmetry.orbits import NUM_ROTATION_TYPES
from mattergen_lite.symmetry.space_groups import NUM_SPACE_GROUPS
from mattergen_lite.symmetry.wyckoff import wyckoff_positions
from mattergen_lite.templates.tokens import MAX_POSITIONS, TemplateConditions, TokenBatch
from mattergen_lite.tensors.shapes import Float, Int

MAX_ATOMS = 52
MAX_TOKENS = 64
_ENERGY_FEATURES = 16  # bumps on the square root of e_above_hull from 0 to 1 eV/atom


class TemplateNetwork(nn.Module):
    """A causal transformer with a head for each kind of token."""

    def __init__(
        self, dim: int = 128, depth: int = 5, num_heads: int = 4, dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.kind = nn.Embedding(5, dim)
        self.place = nn.Embedding(MAX_TOKENS, dim)
        self.size = nn.Embedding(MAX_ATOMS + 1, dim)
        self.remaining = nn.Embedding(MAX_ATOMS + 1, dim)
        self.element = nn.Embedding(MAX_ATOMIC_NUMBER + 1, dim)
        self.descriptor = nn.Linear(element_descriptors().shape[1], dim)
        self.group = nn.Embedding(NUM_SPACE_GROUPS + 1, dim)
        self.position = nn.Embedding((NUM_SPACE_GROUPS + 1) * MAX_POSITIONS, dim)
        self.position_kind = nn.Linear(2 + 4 + NUM_ROTATION_TYPES, dim)
        self.last = nn.Embedding(MAX_ATOMS + 1, dim)
        self.num_atoms = nn.Embedding(MAX_ATOMS + 1, dim)
        self.energy = nn.Linear(_ENERGY_FEATURES, dim)
        layer = nn.TransformerEncoderLayer(
            dim, num_heads, 4 * dim, dropout, "gelu", batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(dim)
        self.to_size = nn.Linear(dim, MAX_ATOMS + 1)
        self.to_element = nn.Sequential(
            nn.Linear(2 * dim, dim), nn.GELU(), nn.Linear(dim, MAX_ATOMIC_NUMBER + 1)
        )
        self.to_group = nn.Linear(dim, NUM_SPACE_GROUPS + 1)
        self.to_query = nn.Linear(dim, dim)
        nn.init.normal_(self.position.weight, std=0.02)
        self.register_buffer("descriptors", element_descriptors().float(), persistent=False)
        self.register_buffer("position_features", _position_features(), persistent=False)

    def forward(self, tokens: TokenBatch, conditions: TemplateConditions) -> Float[Tensor, "B T D"]:
        """Hidden states, from which the heads predict what comes next."""
        hidden = (
            self.kind(tokens.kind)
            + self.place.weight[: tokens.kind.shape[1]]
            + self.size(tokens.size)
            + self.remaining(tokens.remaining)
            + self.element(tokens.element)
            + self.descriptor(self.descriptors[tokens.element])
            + self.group(tokens.space_group)
            + self._positions(tokens.space_group, tokens.position)
            * (tokens.kind == 3).unsqueeze(-1)
            + self.last(tokens.last)
            + self._conditions(conditions).unsqueeze(1)
        )
        mask = nn.Transformer.generate_square_subsequent_mask(hidden.shape[1]).to(hidden.device)
        return self.norm(self.blocks(hidden, mask=mask, is_causal=True))

    def size_logits(self, hidden: Float[Tensor, "*B D"]) -> Float[Tensor, "*B S"]:
        """Atoms of the next class; 0: there is none."""
        return self.to_size(hidden)

    def element_logits(
        self, hidden: Float[Tensor, "*B D"], size: Int[Tensor, "*B"]
    ) -> Float[Tensor, "*B Z"]:
        """Element of the next class, whose number of atoms is known."""
        return self.to_element(torch.cat([hidden, self.size(size)], -1))

    def group_logits(self, hidden: Float[Tensor, "*B D"]) -> Float[Tensor, "*B G"]:
        """Space group."""
        return self.to_group(hidden)

    def position_logits(
        self, hidden: Float[Tensor, "*B D"], space_group: Int[Tensor, "*B"]
    ) -> Float[Tensor, "*B W"]:
        """Wyckoff position of the next orbit, among those of the group."""
        slots = torch.arange(MAX_POSITIONS, device=hidden.device)
        keys = self._positions(space_group.unsqueeze(-1), slots)
        query = self.to_query(hidden).unsqueeze(-1)
        return (keys @ query).squeeze(-1) / math.sqrt(hidden.shape[-1])

    def _positions(
        self, space_group: Int[Tensor, "*#B"], position: Int[Tensor, "*#B"]
    ) -> Float[Tensor, "*B D"]:
        index = space_group * MAX_POSITIONS + position
        return self.position(index) + self.position_kind(self.position_features[index])

    def _conditions(self, conditions: TemplateConditions) -> Float[Tensor, "B D"]:
        energy = conditions.e_above_hull.nan_to_num(0.0).clamp(0, 1).sqrt()
        centres = torch.linspace(0, 1, _ENERGY_FEATURES, device=energy.device)
        bumps = torch.exp(-(((energy.unsqueeze(-1) - centres) * _ENERGY_FEATURES) ** 2) / 2)
        known = ~conditions.e_above_hull.isnan()
        return (
            self.num_atoms(conditions.num_atoms)
            + self.group(conditions.space_group)
            + self.energy(bumps) * known.unsqueeze(-1)
        )


def _position_features() -> Float[Tensor, "P F"]:
    """Multiplicity, freedom and site symmetry of all Wyckoff positions of all groups."""
    features = torch.zeros(NUM_SPACE_GROUPS + 1, MAX_POSITIONS, 2 + 4 + NUM_ROTATION_TYPES)
    for number in range(1, NUM_SPACE_GROUPS + 1):
        table = wyckoff_positions(number)
        rows = features[number, : len(table)]
        multiplicity = torch.from_numpy(table.multiplicity)
        rows[:, 0] = multiplicity.log() / 4
        rows[:, 1] = multiplicity / 48
        rows[torch.arange(len(table)), 2 + torch.from_numpy(table.freedom)] = 1
        kinds = torch.from_numpy(table.rotation_types).float()
        rows[:, 6:] = kinds / kinds.sum(-1, keepdim=True)
    return features.flatten(0, 1)
