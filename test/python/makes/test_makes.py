"""The published makes of BitLinear: each is its formula, and compiled it is that, too."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import setun
from formula import Parts, parts
from published import MAKES

K, N = 52, 24


def build(name: str) -> nn.Module:
    torch.manual_seed(11)
    return MAKES[name][0](K, N).eval()


def inputs(*shape: int) -> Tensor:
    """Tokens of different sizes; where there are several, one of them is all zeros."""
    x = torch.randn(*shape, K, generator=torch.Generator().manual_seed(len(shape) + sum(shape)))
    x = x * torch.logspace(-1, 1, x.numel() // K).reshape(*shape, 1)
    if x.numel() > K:
        x.view(-1, K)[shape[-1] // 2] = 0
    return x


def shapes(name: str) -> list[tuple[int, ...]]:
    """Leading dimensions to try. The norm of one make mixes the tokens of a batch of sequences."""
    return [(1,), (32,)] if name.startswith("schneiderkamplab") else [(1,), (32,), (1, 7), (32, 5)]


def check(found: np.ndarray, wanted: Parts) -> None:
    """The integers that an output stands for are those of the formula; outputs agree to 1e-4."""
    assert wanted.sure.mean() > 0.8
    if wanted.whole:
        assert np.array_equal(wanted.accumulators, np.round(wanted.accumulators))
        difference = np.abs(wanted.accumulators_of(found) - wanted.accumulators)
        # What the float32 of an output can tell; all of it is the bias where a token is all zeros.
        resolution = 2e-7 * np.abs(found) / wanted.multiplier
        assert (difference < 0.01 + resolution)[wanted.sure].all()
    error = np.abs(found - wanted.y) / np.abs(wanted.y).max(-1, keepdims=True, initial=1e-3)
    assert error[wanted.sure].max() < 1e-4


@pytest.mark.parametrize("name", MAKES)
def test_each_make_is_its_formula(name: str) -> None:
    module, spec = build(name), MAKES[name][1]
    for shape in shapes(name):
        x = inputs(*shape)
        with torch.no_grad():
            check(module(x).numpy(), parts(spec, module, x))


def test_makes_differ_where_they_say_so() -> None:
    """Ties and largest codes: the same weights and activations, another make, other integers."""
    x = torch.zeros(1, K)
    # Scaled to 127, these are 127, 0.5, -0.5 and 2.5.
    x[0, :4] = torch.tensor([127.0, 0.5, -0.5, 2.5])
    found = {}
    for name in ("1bitllm", "onebitllms"):
        module = build(name)
        module.weight.data = torch.eye(N, K)
        found[name] = parts(MAKES[name][1], module, x).accumulators[0, :4].tolist()
    assert found == {"1bitllm": [127, 0, 0, 2], "onebitllms": [127, 1, 0, 3]}
    # 128 instead of 127: the largest activation is clipped to 127, but comes out as -128 if it is negative.
    module = build("schneiderkamplab-absmean")
    module.weight.data = torch.eye(N, K)
    for sign, code in ((1, 127), (-1, -128)):
        accumulators = parts(MAKES["schneiderkamplab-absmean"][1], module, sign * x).accumulators
        assert accumulators[0, 0] == code


def test_transformers_modules_are_the_rebuilt_ones() -> None:
    """Against the classes of transformers themselves."""
    from transformers.integrations.bitnet import AutoBitLinear, BitLinear

    x = inputs(3, 4)
    ours = build("transformers-bitlinear-norm-bias")
    theirs = BitLinear(K, N, bias=True, dtype=torch.float32, use_rms_norm=True)
    state = {**ours.state_dict(), "weight": ours.packed}
    del state["packed"]
    theirs.load_state_dict(state)
    for name in ("transformers-auto-offline-norm-bias", "transformers-auto-online-norm-bias"):
        auto = build(name)
        twin = AutoBitLinear(K, N, bias=True, online_quant=auto.online, use_rms_norm=True)
        twin.load_state_dict(auto.state_dict())
        torch.testing.assert_close(auto(x), twin(x))
    torch.testing.assert_close(ours(x), theirs(x))


@pytest.mark.parametrize("name", MAKES)
def test_compiled_makes_multiply_integers(name: str) -> None:
    """Compiled from its arithmetic, each make is its formula, for batches and lengths that it was not compiled with;
    the report has packed codes, and nothing that stayed in floats."""
    module, spec = build(name), MAKES[name][1]
    rank = len(shapes(name)[-1])
    sizes = {axis: torch.export.Dim(f"size{axis}", min=1) for axis in range(rank)}
    compiled = setun.compile(module, (inputs(*range(2, 2 + rank)),), dynamic_shapes=(sizes,))
    for shape in shapes(name):
        if len(shape) == rank:
            x = inputs(*shape)
            output = compiled(x)
            check(output.numpy(), parts(spec, module, x))
            with torch.no_grad():
                torch.testing.assert_close(output, module(x), atol=1e-4, rtol=1e-4)
    report = compiled.report()
    matrices = [layer for layer in report.layers if layer.shape == f"{N} x {K}"]
    assert len(matrices) == 1 and matrices[0].format.startswith("r16k4"), report
    assert any("activations in floats" in note for note in report.notes) == (spec.largest is None), report
    assert not any("computed in floats" in note for note in report.notes), report
