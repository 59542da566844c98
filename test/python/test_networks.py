"""Whole networks, compiled: they give what their modules give, for sizes that were not there at compile time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim
from torch.nn import functional as F

import setun
from setun import nn as setun_nn

BATCH, LENGTH = Dim("batch", max=64), Dim("length", max=48)


class Block(nn.Module):
    """Attention and MLP of BitLinear layers, as in a vision transformer or, causally, in a decoder."""

    def __init__(self, width: int, heads: int, causal: bool) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.RMSNorm(width)
        self.qkv, self.out = setun_nn.BitLinear(width, 3 * width, bias=True), setun_nn.BitLinear(width, width)
        self.up, self.down = setun_nn.BitLinear(width, 4 * width), setun_nn.BitLinear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        qkv = self.qkv(self.norm1(x)).reshape(batch, tokens, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        x = x + self.out(y.transpose(1, 2).reshape(batch, tokens, width))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class ViT(nn.Module):
    """A small vision transformer for images `[B, 3, 16, 16]`."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 32, 4, 4)
        self.first, self.positions = nn.Parameter(torch.randn(1, 1, 32)), nn.Parameter(torch.randn(1, 17, 32))
        self.blocks = nn.ModuleList(Block(32, 4, causal=False) for _ in range(2))
        self.head = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.first.expand(x.shape[0], -1, -1), x], 1) + self.positions
        for block in self.blocks:
            x = block(x)
        return self.head(x[:, 0])


class Decoder(nn.Module):
    """A causal language model without a cache, for ids `[B, T]`."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(50, 32), nn.Embedding(48, 32)
        self.blocks = nn.ModuleList(Block(32, 4, causal=True) for _ in range(2))

    def forward(self, ids: Tensor) -> Tensor:
        x = self.tokens(ids) + self.positions(torch.arange(ids.shape[1]))
        for block in self.blocks:
            x = block(x)
        return x @ self.tokens.weight.t()


class ConvNet(nn.Module):
    """Binary and depthwise convolutions, for images `[B, 3, 16, 16]`."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            setun_nn.BitConv2d(16, 32, 3, stride=2, padding=1, bias=True),
            nn.GroupNorm(4, 32),
            nn.Hardswish(),
            nn.Conv2d(32, 32, 3, padding=1, groups=32),
            nn.MaxPool2d(2),
            setun_nn.BitConv2d(32, 16, 1, codes="binary"),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(16, 10),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class Retention(nn.Module):
    """A RetNet-like layer in its parallel form: products weighted by the distance of tokens, for `[B, T, 32]`."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.gate = setun_nn.BitLinear(32, 96, norm="rms"), setun_nn.BitLinear(32, 32, norm="rms")
        self.register_buffer("decay", 1 - 2.0 ** (-5 - torch.arange(4.0)))

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, _ = x.shape
        q, k, v = self.qkv(x).reshape(batch, tokens, 3, 4, 8).permute(2, 0, 3, 1, 4)
        place = torch.arange(tokens)
        distance = (place[:, None] - place[None, :]).clamp(min=0).float()
        weights = (self.decay[:, None, None] ** distance).tril()
        y = (q @ k.transpose(-1, -2) * weights) @ v
        y = F.group_norm(y.transpose(1, 2).reshape(batch * tokens, 32), 4).reshape(batch, tokens, 32)
        return F.silu(self.gate(x)) * y


def images(batch: int) -> Tensor:
    return torch.randn(batch, 3, 16, 16)


NETWORKS: dict[str, tuple[Any, Any, Any, Any]] = {
    "vision transformer": (ViT, images, ({0: BATCH},), ((2,), (1,), (32,))),
    "decoder": (
        Decoder,
        lambda b, t: torch.randint(0, 50, (b, t)),
        ({0: BATCH, 1: LENGTH},),
        ((2, 7), (1, 1), (3, 40)),
    ),
    "convolutional network": (ConvNet, images, ({0: BATCH},), ((2,), (1,), (32,))),
    "retention": (Retention, lambda b, t: torch.randn(b, t, 32), ({0: BATCH, 1: LENGTH},), ((2, 7), (1, 1), (3, 40))),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_network(name: str) -> None:
    make, data, dynamic, shapes = NETWORKS[name]
    torch.manual_seed(0)
    module = make().eval()
    compiled = setun.compile(module, data(*shapes[0]), dynamic_shapes=dynamic, threads=2)
    assert not compiled.report().notes
    for shape in shapes:
        x = data(*shape)
        with torch.no_grad():
            wanted = module(x).numpy()
        found = compiled(x.numpy())
        assert found.shape == wanted.shape
        # A code on a rounding boundary may fall to the other side: PyTorch adds in another order. That moves few
        # results, and those by little.
        difference = np.abs(found - wanted) / np.abs(wanted).max()
        assert np.median(difference) < 1e-5
        assert difference.max() < 2e-2


class CachedAttention(nn.Module):
    """Attention of new tokens `[T, 32]` over a cache that the module keeps."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = setun_nn.BitLinear(32, 96), setun_nn.BitLinear(32, 32)
        self.register_buffer("keys", torch.zeros(24, 4, 8))
        self.register_buffer("values", torch.full((24, 4, 8), 0.5))

    def forward(self, x: Tensor, position: Tensor) -> Tensor:
        tokens = x.shape[0]
        q, k, v = self.qkv(x).reshape(tokens, 3, 4, 8).unbind(1)
        places = torch.arange(tokens) + position
        self.keys.index_copy_(0, places, k)
        self.values.index_copy_(0, places, v)
        seen = torch.arange(24)[None, :] <= places[:, None]
        y = F.scaled_dot_product_attention(
            q.transpose(0, 1), self.keys.transpose(0, 1), self.values.transpose(0, 1), attn_mask=seen
        )
        return self.out(y.transpose(0, 1).reshape(tokens, 32))


def test_a_cache_in_the_module() -> None:
    torch.manual_seed(0)
    module = CachedAttention().eval()
    given = [torch.randn(tokens, 32) for tokens in (5, 1, 1, 7)]
    compiled = setun.compile(module, (given[0], torch.tensor(0)), dynamic_shapes=({0: Dim("tokens", max=24)}, None))
    for _ in range(2):
        position = 0
        for x in given:
            with torch.no_grad():
                wanted = module(x, torch.tensor(position)).numpy()
            found = compiled(x.numpy(), np.array(position))
            difference = np.abs(found - wanted) / np.abs(wanted).max()
            assert np.median(difference) < 1e-5
            assert difference.max() < 2e-2
            position += len(x)
        compiled.reset()
        module.keys.zero_()
        module.values.fill_(0.5)


def test_a_model_of_transformers() -> None:
    """Whose masks are made of the sizes; its branches on sizes of 1 only spare work."""
    from transformers import LlamaConfig, LlamaModel

    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "num_key_value_heads": 2}
    torch.manual_seed(0)
    module = LlamaModel(LlamaConfig(vocab_size=64, num_hidden_layers=1, max_position_embeddings=64, **sizes)).eval()
    setun_nn.replace_linear(module, skip_head=False)
    ids = torch.randint(0, 64, (2, 7))
    dynamic = {"input_ids": {0: BATCH, 1: LENGTH}}
    compiled = setun.compile(module, (), {"input_ids": ids, "use_cache": False}, dynamic_shapes=dynamic)
    for shape in ((2, 7), (1, 1), (5, 12)):
        ids = torch.randint(0, 64, shape)
        with torch.no_grad():
            wanted = module(input_ids=ids, use_cache=False).last_hidden_state
        found = compiled(input_ids=ids, use_cache=False).last_hidden_state
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
