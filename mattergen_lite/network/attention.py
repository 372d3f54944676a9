"""Transformer block whose attention is biased by, and carries, periodic pair geometry.

Adaptive layer norm with zero-initialised gates (DiT: Peebles and Xie 2023, arXiv 2212.09748).
"""

import torch
from torch import Tensor, nn

from mattergen_lite.tensors.shapes import Bool, Float


class PairAttention(nn.Module):
    """Attention over the orbits of a crystal, aware of where their atoms and images are.

    Pair features act twice: one scalar a head biases the attention logits, and the attended mean of
    the features themselves joins the values, so that an orbit learns where its neighbours are
    and not only what they are.
    """

    def __init__(self, dim: int, num_heads: int, pair_dim: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.bias = nn.Linear(pair_dim, num_heads, bias=False)
        self.out = nn.Linear(dim + num_heads * pair_dim, dim)

    def forward(
        self, x: Float[Tensor, "B O D"], pairs: Float[Tensor, "B O O P"], mask: Bool[Tensor, "B O"]
    ) -> Float[Tensor, "B O D"]:
        """Padding is never attended to; outputs at padding are meaningless."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        logits = q @ k.mT * q.shape[-1] ** -0.5 + self.bias(pairs).permute(0, 3, 1, 2)
        logits = logits.masked_fill(~mask[:, None, None], -torch.inf)
        # Autocast would take logits that are already rounded to float32 and back.
        with torch.autocast(x.device.type, enabled=False):
            weights = logits.softmax(-1)  # [B, h, i, j]
        values = (weights @ v).transpose(1, 2).flatten(-2)
        geometry = (weights.transpose(1, 2) @ pairs).flatten(-2)
        return self.out(torch.cat([values, geometry], dim=-1))


class AttentionBlock(nn.Module):
    """Attention and feed-forward, each scaled, shifted and gated by the crystal's global state."""

    def __init__(self, dim: int, num_heads: int, pair_dim: int, mlp_ratio: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim, elementwise_affine=False)
        self.attention = PairAttention(dim, num_heads, pair_dim)
        self.mlp = nn.Sequential(
            nn.Linear(dim, mlp_ratio * dim), nn.GELU(), nn.Linear(mlp_ratio * dim, dim)
        )
        self.modulation = nn.Linear(dim, 6 * dim)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(
        self,
        x: Float[Tensor, "B O D"],
        context: Float[Tensor, "B D"],
        pairs: Float[Tensor, "B O O P"],
        mask: Bool[Tensor, "B O"],
    ) -> Float[Tensor, "B O D"]:
        """Residual update of every orbit."""
        scale_a, shift_a, gate_a, scale_m, shift_m, gate_m = (
            self.modulation(nn.functional.silu(context)).unsqueeze(1).chunk(6, dim=-1)
        )
        x = x + gate_a * self.attention(self.norm(x) * (1 + scale_a) + shift_a, pairs, mask)
        return x + gate_m * self.mlp(self.norm(x) * (1 + scale_m) + shift_m)
