"""A small vision transformer with ternary weights that reads digits.

    .venv/bin/python examples/digits/vit.py --out digits-vit.setun

Every linear layer between the embedding of the patches and the output is a BitLinear: query, key and value together,
the projection after attention, and both layers of the perceptron.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from digits import CLASSES, SIZE, main
from setun.nn import BitLinear

Linear = Callable[[int, int], nn.Module]
"""Makes a linear layer of its numbers of input and output features."""


class Attention(nn.Module):
    """Every token looks at every token: `[B, T, dim]` to the same."""

    def __init__(self, dim: int, heads: int, linear: Linear) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = linear(dim, 3 * dim)
        self.project = linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, dim = x.shape
        q, k, v = self.qkv(x).reshape(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = F.scaled_dot_product_attention(q, k, v)
        return self.project(mixed.transpose(1, 2).reshape(batch, tokens, dim))


class Block(nn.Module):
    """Attention and perceptron, each on the normalised tokens and added to them."""

    def __init__(self, dim: int, heads: int, hidden: int, linear: Linear) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(dim)
        self.attention = Attention(dim, heads, linear)
        self.mlp_norm = nn.LayerNorm(dim)
        self.up = linear(dim, hidden)
        self.down = linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.attention_norm(x))
        return x + self.down(F.gelu(self.up(self.mlp_norm(x))))


class VisionTransformer(nn.Module):
    """`[B, channels, size, size]` to scores `[B, classes]`.

    Args:
        size: height and width of images, a multiple of `patch`.
        patch: height and width of a patch, which is a token.
        channels: of images.
        dim: features of a token, a multiple of `heads`.
        depth: number of blocks.
        heads: of attention.
        hidden: features within the perceptrons.
        classes: number of scores.
        linear: makes the layers within the blocks.
    """

    def __init__(
        self,
        size: int = SIZE,
        patch: int = 7,
        channels: int = 1,
        dim: int = 64,
        depth: int = 3,
        heads: int = 4,
        hidden: int = 128,
        classes: int = CLASSES,
        linear: Linear = BitLinear,
    ) -> None:
        super().__init__()
        self.patches = nn.Conv2d(channels, dim, patch, patch)
        self.summary = nn.Parameter(torch.zeros(1, 1, dim))
        self.positions = nn.Parameter(0.02 * torch.randn(1, 1 + (size // patch) ** 2, dim))
        self.blocks = nn.ModuleList(Block(dim, heads, hidden, linear) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)
        self.scores = nn.Linear(dim, classes)

    def forward(self, images: Tensor) -> Tensor:
        x = self.patches(images).flatten(2).transpose(1, 2)
        x = torch.cat([self.summary.expand(x.shape[0], -1, -1), x], dim=1) + self.positions
        for block in self.blocks:
            x = block(x)
        return self.scores(self.norm(x[:, 0]))


if __name__ == "__main__":
    main(__doc__, VisionTransformer, steps=1000)
