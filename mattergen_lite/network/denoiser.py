"""The denoiser: noisy crystals in, a prediction of what is clean out.

Tokens are orbits. Invariances hold by construction, not by augmentation: orbits are a set
(permutations), coordinates enter only as wrapped differences (translations, images), the cell as
its rotation-free numbers.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mattergen_lite.chemistry.elements import DESCRIPTOR_DIM, MAX_ATOMIC_NUMBER
from mattergen_lite.network.attention import AttentionBlock
from mattergen_lite.network.embeddings import GlobalEmbedding, SiteEmbedding
from mattergen_lite.network.pairs import PairEmbedding
from mattergen_lite.properties import Conditions, Property
from mattergen_lite.symmetry.templates import Templates
from mattergen_lite.tensors.crystal import Prediction
from mattergen_lite.tensors.shapes import Float


@dataclass(frozen=True, kw_only=True)
class NoisyCrystals:
    """What the network sees of B noisy crystals, scaled to unit size."""

    templates: Templates
    types: Float[Tensor, "B O D"]  # noisy element descriptors
    guess: Float[Tensor, "B O D"]  # what each orbit's own descriptor says of its element
    geometry: Float[Tensor, "B O O F"]  # `pairs.pair_features`
    cell: Float[Tensor, "B 6"]  # free numbers of the cell
    noise_level: Float[Tensor, "B"]  # ln(sigma) / 4


class Denoiser(nn.Module):
    """Transformer over the orbits of a crystal, conditioned on noise level, cell and properties."""

    def __init__(
        self,
        *,
        dim: int,
        depth: int,
        num_heads: int,
        pair_dim: int,
        mlp_ratio: int,
        properties: Sequence[Property],
    ) -> None:
        super().__init__()
        self.embed_types = nn.Linear(DESCRIPTOR_DIM, dim)
        self.embed_guess = nn.Linear(DESCRIPTOR_DIM, dim)
        self.embed_site = SiteEmbedding(dim)
        self.embed_global = GlobalEmbedding(dim, properties)
        self.embed_pairs = PairEmbedding(dim, pair_dim)
        self.blocks = nn.ModuleList(
            AttentionBlock(dim, num_heads, pair_dim, mlp_ratio) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(dim)
        self.modulation = _zero_linear(dim, 2 * dim)
        self.drop_types = nn.Dropout(0.0)  # training sets its share: elements overfit first
        self.to_elements = _zero_linear(dim, MAX_ATOMIC_NUMBER + 1)
        self.to_coords = _zero_linear(dim, 3)
        self.to_cell = nn.Sequential(nn.Linear(2 * dim, dim), nn.SiLU(), _zero_linear(dim, 6))

    def forward(self, noisy: NoisyCrystals, conditions: Conditions | None) -> Prediction:
        """Predict from unit-size noisy inputs; `conditions` None is unconditional."""
        x, context = self._hidden(noisy, conditions, len(self.blocks))
        # The last scale lets evidence grow as noise vanishes: logits of order 1 / sigma² are needed
        # to overrule an atom's own likelihood in favour of what its neighbours leave for it.
        scale, shift = self.modulation(nn.functional.silu(context)).unsqueeze(1).chunk(2, dim=-1)
        x = self.norm(x) * (1 + scale) + shift
        return Prediction(
            element_logits=self.to_elements(self.drop_types(x)).float(),
            coords=self.to_coords(x).float(),
            cell=self.to_cell(torch.cat([_atom_mean(x, noisy.templates), context], dim=-1)).float(),
        )

    def features(self, noisy: NoisyCrystals) -> Float[Tensor, "B D"]:
        """What the network has understood of each crystal: its unconditional hidden state, pooled.

        The mean over atoms after half of the blocks: the later ones specialise in denoising, and a
        linear probe reads properties less well from them.
        """
        x, _ = self._hidden(noisy, None, (len(self.blocks) + 1) // 2)
        return _atom_mean(x, noisy.templates).float()

    def _hidden(
        self, noisy: NoisyCrystals, conditions: Conditions | None, depth: int
    ) -> tuple[Float[Tensor, "B O D"], Float[Tensor, "B D"]]:
        """State of every orbit after the first `depth` blocks, and the crystal's global state."""
        templates = noisy.templates
        context = self.embed_global(noisy.noise_level, noisy.cell, templates, conditions)
        pairs = self.embed_pairs(noisy.geometry, context)
        x = self.embed_types(noisy.types) + self.embed_guess(noisy.guess)
        x = x + self.embed_site(templates)
        for block in self.blocks[:depth]:
            x = block(x, context, pairs, templates.mask)
        return x, context


def _atom_mean(x: Float[Tensor, "B O D"], templates: Templates) -> Float[Tensor, "B D"]:
    """Mean over the atoms of each crystal: an orbit counts as often as it has atoms."""
    weights = templates.multiplicity / templates.num_atoms.unsqueeze(-1)
    return (x * weights.unsqueeze(-1)).sum(1)


def _zero_linear(inputs: int, outputs: int) -> nn.Linear:
    """A head that starts by predicting zero."""
    layer = nn.Linear(inputs, outputs)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
