"""A Llama-like network with ternary weights that writes text, character by character.

    .venv/bin/python examples/text/llama.py --out text-llama.setun

Grouped-query attention with rotary positions over a key and a value cache, which the forward pass writes with
`index_copy_`: compiled, the caches are the state of a session, and a call with one character costs one character.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from characters import CONTEXT, Reader, main
from setun.nn import BitLinear, RMSNorm


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions of `x` `[B, H, T, D]`, pairs (i, i + D/2); `cos` and `sin` are `[T, D/2]`."""
    low, high = x.chunk(2, dim=-1)
    return torch.cat([low * cos - high * sin, high * cos + low * sin], dim=-1)


class Attention(nn.Module):
    """`[B, T, dim]` to the same; looks back on everything in the caches `[batch, kv_heads, context, head_dim]`."""

    def __init__(self, dim: int, heads: int, kv_heads: int, batch: int) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_dim = heads, kv_heads, dim // heads
        self.q_proj = BitLinear(dim, dim)
        self.k_proj = BitLinear(dim, kv_heads * self.head_dim)
        self.v_proj = BitLinear(dim, kv_heads * self.head_dim)
        self.o_proj = BitLinear(dim, dim, norm="rms")
        for name in ("keys", "values"):
            cache = torch.zeros(batch, kv_heads, CONTEXT, self.head_dim)
            self.register_buffer(name, cache, persistent=False)

    def split(self, x: Tensor, heads: int) -> Tensor:
        """`[B, T, heads * D]` to `[B, heads, T, D]`."""
        return x.unflatten(-1, (heads, self.head_dim)).transpose(1, 2)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, positions: Tensor) -> Tensor:
        q = rotate(self.split(self.q_proj(x), self.heads), cos, sin)
        k = rotate(self.split(self.k_proj(x), self.kv_heads), cos, sin)
        v = self.split(self.v_proj(x), self.kv_heads)
        places = positions
        if not self.training:
            k = self.keys.index_copy_(2, positions, k)
            v = self.values.index_copy_(2, positions, v)
            places = torch.arange(CONTEXT)
        visible = places[None, :] <= positions[:, None]
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=visible, enable_gqa=True)
        return self.o_proj(mixed.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Attention and a gated perceptron, each on the normalised tokens and added to them."""

    def __init__(self, dim: int, hidden: int, heads: int, kv_heads: int, batch: int) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(dim)
        self.attention = Attention(dim, heads, kv_heads, batch)
        self.mlp_norm = RMSNorm(dim)
        self.gate_proj = BitLinear(dim, hidden)
        self.up_proj = BitLinear(dim, hidden)
        self.down_proj = BitLinear(hidden, dim, norm="rms")

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, positions: Tensor) -> Tensor:
        x = x + self.attention(self.attention_norm(x), cos, sin, positions)
        y = self.mlp_norm(x)
        return x + self.down_proj(F.silu(self.gate_proj(y)) * self.up_proj(y))


class Llama(Reader):
    """`tokens` int64 `[B, T]` and their `positions` int64 `[T]` to logits `[B, T, alphabet]`.

    Args:
        alphabet: number of characters.
        dim: features of a token.
        hidden: features within the perceptrons.
        depth: number of blocks.
        heads: of queries.
        kv_heads: of keys and values.
        batch: number of texts that the caches have room for, in eval mode.
    """

    STATE: ClassVar = ("keys", "values")

    def __init__(
        self,
        alphabet: int,
        dim: int = 96,
        hidden: int = 256,
        depth: int = 3,
        heads: int = 4,
        kv_heads: int = 2,
        batch: int = 1,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(alphabet, dim)
        self.blocks = nn.ModuleList(Block(dim, hidden, heads, kv_heads, batch) for _ in range(depth))
        self.norm = RMSNorm(dim)
        self.logits = nn.Linear(dim, alphabet, bias=False)
        half = dim // heads // 2
        angles = torch.arange(CONTEXT)[:, None] / 10000 ** (torch.arange(half) / half)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def inputs(self, tokens: Tensor, start: int) -> tuple[Tensor, ...]:
        return tokens, torch.arange(start, start + tokens.shape[1])

    def forward(self, tokens: Tensor, positions: Tensor) -> Tensor:
        x = self.embedding(tokens)
        cos, sin = self.cos[positions], self.sin[positions]
        for block in self.blocks:
            x = block(x, cos, sin, positions)
        return self.logits(self.norm(x))


if __name__ == "__main__":
    main(__doc__, Llama, steps=400)
