"""A RetNet-like network with ternary weights that writes text, character by character.

    .venv/bin/python examples/text/retnet.py --out text-retnet.setun

Retention (Sun et al., 2307.08621) in its chunkwise form: a chunk of any length is computed at once, and what came
before it is a matrix for each head, which fades by a factor with every character. Compiled, these matrices are the
state of a session. A chunk of one character is the recurrent form, a chunk of everything the parallel one.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from characters import Reader, main
from setun.nn import BitLinear, RMSNorm


class Retention(nn.Module):
    """`[B, T, dim]` to the same; its memory is `[batch, heads, head_dim, head_dim]`.

    Attributes:
        log_decay: logarithm of what a character's share is multiplied with at each character that follows, by head.
    """

    def __init__(self, dim: int, heads: int, batch: int) -> None:
        super().__init__()
        self.heads, self.head_dim = heads, dim // heads
        self.qkv = BitLinear(dim, 3 * dim)
        self.gate = BitLinear(dim, dim)
        self.out = BitLinear(dim, dim)
        self.norm = nn.LayerNorm(self.head_dim, elementwise_affine=False)
        self.register_buffer("log_decay", torch.log1p(-(2.0 ** -(3.0 + torch.arange(heads)))), persistent=False)
        self.register_buffer("memory", torch.zeros(batch, heads, self.head_dim, self.head_dim), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, _ = x.shape
        q, k, v = self.qkv(x).reshape(batch, length, 3, self.heads, self.head_dim).permute(2, 0, 3, 1, 4).unbind(0)
        k = k * self.head_dim**-0.5
        steps = torch.arange(length, dtype=torch.float32)
        # Within the chunk: character t sees s <= t, faded by t - s characters.
        distance = steps[:, None] - steps[None, :]
        faded = torch.exp(self.log_decay[:, None, None] * distance.clamp(min=0))
        fading = torch.where(distance >= 0, faded, torch.zeros(()))
        y = (q @ k.transpose(-1, -2) * fading) @ v
        if not self.training:
            # What came before fades by t + 1 characters; what is new by those that follow it in the chunk.
            since = torch.exp(self.log_decay[:, None] * (steps + 1))[:, :, None]
            y = y + (q * since) @ self.memory
            until = torch.exp(self.log_decay[:, None] * (length - 1 - steps))[:, :, None]
            self.memory.copy_(self.memory * since[:, -1:] + (k * until).transpose(-1, -2) @ v)
        y = self.norm(y).transpose(1, 2).flatten(2)
        return self.out(F.silu(self.gate(x)) * y)


class Block(nn.Module):
    """Retention and a perceptron, each on the normalised tokens and added to them."""

    def __init__(self, dim: int, hidden: int, heads: int, batch: int) -> None:
        super().__init__()
        self.retention_norm = RMSNorm(dim)
        self.retention = Retention(dim, heads, batch)
        self.mlp_norm = RMSNorm(dim)
        self.up = BitLinear(dim, hidden)
        self.down = BitLinear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.retention(self.retention_norm(x))
        return x + self.down(F.gelu(self.up(self.mlp_norm(x))))


class RetNet(Reader):
    """`tokens` int64 `[B, T]` to logits `[B, T, alphabet]`.

    Args:
        alphabet: number of characters.
        dim: features of a token.
        hidden: features within the perceptrons.
        depth: number of blocks.
        heads: of retention, each with its own decay.
        batch: number of texts that the memory has room for, in eval mode.
    """

    STATE: ClassVar = ("memory",)

    def __init__(
        self, alphabet: int, dim: int = 96, hidden: int = 192, depth: int = 3, heads: int = 4, batch: int = 1
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(alphabet, dim)
        self.blocks = nn.ModuleList(Block(dim, hidden, heads, batch) for _ in range(depth))
        self.norm = RMSNorm(dim)
        self.logits = nn.Linear(dim, alphabet, bias=False)

    def inputs(self, tokens: Tensor, start: int) -> tuple[Tensor, ...]:
        return (tokens,)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x)
        return self.logits(self.norm(x))


if __name__ == "__main__":
    main(__doc__, RetNet, steps=400)
