"""The layers of setun.nn, compiled: every option gives what the layer gives in eval mode."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import setun
from setun.nn import BitConv2d, BitLinear, RMSNorm, replace_linear

LINEAR = [
    {},
    {"codes": "binary", "norm": "layer"},
    {"norm": "rms", "bias": True, "activation_bits": 4},
    {"activation": "per_tensor", "bias": True},
    {"activation": "none"},
    {"group_size": 8},
    {"codes": "binary", "group_size": 12, "bias": True},
    {"activation": "per_group", "group_size": 4, "bias": True},
]
CONVOLUTIONS = [
    {"kernel_size": 3},
    {"kernel_size": (3, 2), "stride": (2, 1), "padding": (0, 1), "dilation": (1, 2), "groups": 2, "bias": True},
    {"kernel_size": 1, "codes": "binary", "bias": True},
    {"kernel_size": 3, "padding": 1, "groups": 4, "activation_bits": 4},
    {"kernel_size": 2, "stride": 2, "activation": "per_tensor"},
]


def randomized(module: nn.Module) -> nn.Module:
    for parameter in module.parameters():
        parameter.data.uniform_(-1, 1)
    return module.eval()


def check(module: nn.Module, shape: tuple[int, ...], others: list[tuple[int, ...]], packed: int) -> None:
    """Compiled for dynamic leading sizes, the module gives what it gives eagerly; so many matrices are packed codes."""
    dynamic = [axis for axis, size in enumerate(others[0]) if size != shape[axis]]
    dims = {axis: torch.export.Dim(f"size{axis}", min=1) for axis in dynamic}
    compiled = setun.compile(module, (numbers(*shape),), dynamic_shapes=(dims,))
    for other in [shape, *others]:
        x = numbers(*other)
        with torch.no_grad():
            torch.testing.assert_close(compiled(x), module(x), atol=2e-5, rtol=1e-4)
    formats = [layer.format for layer in compiled.report().layers]
    assert sum(name.startswith("r16k") for name in formats) == packed, formats


def numbers(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize("options", LINEAR, ids=str)
def test_linear_layers(options: dict[str, Any]) -> None:
    torch.manual_seed(1)
    layer = randomized(BitLinear(36, 20, **options))
    pieces = 9 if options.get("activation") == "per_group" else 1
    check(layer, (2, 3, 36), [(1, 1, 36), (32, 5, 36)], pieces)


@pytest.mark.parametrize("options", CONVOLUTIONS, ids=str)
def test_convolutions(options: dict[str, Any]) -> None:
    torch.manual_seed(2)
    layer = randomized(BitConv2d(4, 8, **options))
    check(layer, (2, 4, 7, 6), [(1, 4, 7, 6), (32, 4, 7, 6)], 1)


def test_a_replaced_model() -> None:
    """Layers of a model that was not written with them; the head stays in floats."""
    torch.manual_seed(3)
    model = nn.Sequential(RMSNorm(24), nn.Linear(24, 40), nn.GELU(), nn.Linear(40, 24), nn.Linear(24, 6))
    replace_linear(model, norm="rms")
    check(randomized(model), (2, 5, 24), [(1, 1, 24), (32, 9, 24)], 2)
