"""setun.nn: golden vectors, the traps of 1-bit quantisation, gradients and schedules."""

from __future__ import annotations

import copy
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from setun import ops
from setun.nn import (
    BitConv2d,
    BitLinear,
    QuantizationWarmup,
    RMSNorm,
    fake_quantize_activation,
    fake_quantize_weight,
    lambda_schedule,
    pack_ternary,
    quantize_activation,
    quantize_weight,
    quantize_weight_binary,
    quantize_weight_ternary,
    replace_linear,
    straight_through,
    two_stage,
    unpack_ternary,
    weight_decay,
)

# Numbers that can be worked out by hand (float32, half to even).
W = torch.tensor([[0.8, -0.5, 1.2], [-1.5, 0.4, -0.9], [1.3, -0.7, 0.2]])
X = torch.tensor([[1, -0.6, 0.7], [-0.9, 0.4, -1.2], [0.8, -0.5, 0.3]])
X_CODES = [[127, -76, 89], [-95, 42, -127], [127, -79, 48]]


def layer(codes: str = "ternary", **options: object) -> BitLinear:
    """A BitLinear with the golden weights."""
    linear = BitLinear(3, 3, codes=codes, **options)
    linear.weight.data.copy_(W)
    return linear


def test_golden_ternary() -> None:
    codes, scale = quantize_weight_ternary(W)
    assert codes.tolist() == [[1, -1, 1], [-1, 0, -1], [1, -1, 0]]
    assert scale.item() == pytest.approx(0.8333333)
    x_codes, x_scale = quantize_activation(X)
    assert x_codes.tolist() == X_CODES
    assert x_scale.flatten().tolist() == pytest.approx([127, 127 / 1.2, 127 / 0.8])
    assert (x_codes @ codes.T).tolist() == [[292, -216, 203], [-264, 222, -137], [254, -175, 206]]
    golden = [[1.91601, -1.417323, 1.332021], [-2.07874, 1.748031, -1.07874], [1.333333, -0.918635, 1.081365]]
    torch.testing.assert_close(layer()(X), torch.tensor(golden), atol=2e-6, rtol=2e-6)


def test_golden_binary() -> None:
    codes, scale = quantize_weight_binary(W)
    assert codes.tolist() == [[1, -1, 1], [-1, 1, -1], [1, -1, 1]]
    assert W.mean().item() == pytest.approx(0.0333333, abs=1e-6)
    assert scale.item() == pytest.approx(0.8333333)
    x_codes, x_scale = quantize_activation(X)
    accumulators = x_codes @ codes.T
    assert accumulators.tolist() == [[292, -292, 292], [-264, 264, -264], [254, -254, 254]]
    y = layer("binary")(X)
    torch.testing.assert_close(y, accumulators * scale / x_scale)
    assert y[0].tolist() == pytest.approx([1.91601, -1.91601, 1.91601], abs=2e-6)


def test_golden_unpack() -> None:
    packed = torch.tensor([[0b10100001, 0b00011000], [0b10010000, 0b00001010]], dtype=torch.uint8)
    rows = [[0, -1], [-1, 1], [-1, 1], [-1, 1], [1, 0], [0, -1], [1, -1], [1, -1]]
    assert unpack_ternary(packed).tolist() == rows
    assert pack_ternary(torch.tensor(rows)).equal(packed)


@pytest.mark.parametrize(
    ("kind", "k", "values"),
    [
        ("exponential", 4, {0.1: 0.3439, 0.25: 0.6836, 0.5: 0.9375}),
        ("exponential", 10, {0.1: 0.6513, 0.25: 0.9437, 0.5: 0.9990}),
        ("sigmoid", 15, {0: 0.000553, 0.25: 0.022977, 0.5: 0.5, 0.75: 0.977023}),
        ("sigmoid", 100, {0.5: 0.5}),
        ("linear", 2, {0: 0, 0.25: 0.5, 0.5: 1, 1: 1}),
        ("linear", 1, {0.25: 0.25}),
        ("constant", None, {0: 1, 1: 1}),
    ],
)
def test_golden_lambda(kind: str, k: float | None, values: dict[float, float]) -> None:
    for progress, value in values.items():
        assert lambda_schedule(kind, progress, k) == pytest.approx(value, abs=5e-5)


def test_rounding_is_half_to_even() -> None:
    # 0.5, -0.5, 1.5, 2.5 of a code: the largest element fixes the scale at exactly 1.
    x = torch.tensor([[0.5, -0.5, 1.5, 2.5, -2.5, 127.0]])
    assert quantize_activation(x).codes.tolist() == [[0, 0, 2, 2, -2, 127]]
    # Weights at exactly half the mean are zeros.
    weight = torch.tensor([[0.5, -0.5, 1.5, -1.5]])
    assert quantize_weight_ternary(weight).codes.tolist() == [[0, 0, 1, -1]]


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 70), st.integers(1, 9), st.floats(1e-4, 1e4), st.integers(0, 2**32 - 1))
def test_activation_codes_stay_within_127(features: int, tokens: int, size: float, seed: int) -> None:
    """In float32 the largest element is +-127, never -128; codes agree with the formula in numpy."""
    x = torch.randn(tokens, features, generator=torch.Generator().manual_seed(seed)) * size
    codes, _ = quantize_activation(x)
    assert codes.abs().max() <= 127
    values = x.numpy()
    scale = np.float32(127) * (np.float32(1) / np.maximum(np.abs(values).max(-1, keepdims=True), np.float32(1e-5)))
    assert np.array_equal(codes.numpy(), np.clip(np.round(values * scale), -128, 127))


def test_binary_tie_is_minus_one() -> None:
    """The paper's sign(0); a zero would be no binary code."""
    assert quantize_weight_binary(torch.zeros(2, 2)).codes.tolist() == [[-1, -1], [-1, -1]]
    assert quantize_weight_binary(torch.tensor([[1.0, 2.0, 3.0]])).codes.tolist() == [[-1, -1, 1]]


def test_binary_scale_is_of_the_uncentred_weights() -> None:
    weight = torch.tensor([[5.0, 7.0]])
    assert quantize_weight_binary(weight).scale.item() == 6.0
    assert quantize_weight_binary(weight).codes.tolist() == [[-1, 1]]


@pytest.mark.parametrize("codes", ["ternary", "binary"])
def test_zeros_give_zeros(codes: str) -> None:
    x = torch.zeros(2, 5)
    assert quantize_activation(x).scale.flatten().tolist() == pytest.approx([12_700_000] * 2)
    linear = BitLinear(5, 4, codes=codes)
    assert linear(x).tolist() == [[0] * 4] * 2
    linear.weight.data.zero_()
    assert quantize_weight(linear.weight, codes).scale.item() == pytest.approx(1e-5 if codes == "ternary" else 0)
    assert torch.isfinite(linear(torch.ones(1, 5))).all()


def test_eps_is_a_clamp_and_no_addition() -> None:
    weight = torch.full((1, 4), 2e-5)
    assert quantize_weight_ternary(weight).scale.item() == pytest.approx(2e-5)
    assert quantize_activation(torch.tensor([[2e-5]])).scale.item() == pytest.approx(127 / 2e-5)
    assert quantize_activation(torch.tensor([[2e-6]])).codes.item() == 25


def test_integers_are_exact_past_half_precision() -> None:
    """Extreme codes at the largest published depth: past float16's range, within float32's whole numbers."""
    depth = 14336
    weight = torch.ones(1, depth)
    x_codes, x_scale = quantize_activation(torch.ones(1, depth))
    codes, _ = quantize_weight_ternary(weight)
    assert (x_codes @ codes.T).item() == 127 * depth == 1_820_672
    assert x_scale.item() == 127


@pytest.mark.parametrize("tokens", range(1, 10))
def test_tokens_do_not_influence_each_other(tokens: int) -> None:
    x = torch.randn(tokens, 33, generator=torch.Generator().manual_seed(tokens))
    together = quantize_activation(x)
    for i in range(tokens):
        alone = quantize_activation(x[i : i + 1])
        assert alone.codes.equal(together.codes[i : i + 1])
        assert alone.scale.equal(together.scale[i : i + 1])


def test_straight_through_gradients() -> None:
    """Both operands get the gradient of the plain product of the quantised values."""
    linear = layer(bias=True)
    x = X.clone().requires_grad_()
    upstream = torch.tensor([[1.0, 2.0, -1.0], [0.5, 0.0, 3.0], [-2.0, 1.0, 1.0]])
    linear(x).backward(upstream)
    x_codes, x_scale = quantize_activation(X)
    codes, scale = quantize_weight_ternary(W)
    torch.testing.assert_close(x.grad, upstream @ (codes * scale))
    torch.testing.assert_close(linear.weight.grad, upstream.T @ (x_codes / x_scale))
    torch.testing.assert_close(linear.bias.grad, upstream.sum(0))


LINEAR_OPTIONS = [
    {},
    {"codes": "binary", "norm": "layer"},
    {"norm": "rms", "bias": True, "activation_bits": 4},
    {"activation": "per_tensor", "bias": True},
    {"activation": "none", "group_size": 4},
    {"codes": "binary", "group_size": 5},
    {"activation": "per_group", "group_size": 4, "bias": True},
]


@pytest.mark.parametrize("options", LINEAR_OPTIONS, ids=str)
def test_eval_is_one_integer_product_of_the_same_value(options: dict[str, object]) -> None:
    """The operator that a layer becomes in eval mode has the value and the gradients of the layer that trains."""
    torch.manual_seed(4)
    linear = BitLinear(12, 6, **options)
    for parameter in linear.parameters():
        parameter.data.uniform_(-1, 1)
    found = {}
    for training in (True, False):
        linear.train(training).zero_grad()
        x = torch.randn(2, 3, 12, generator=torch.Generator().manual_seed(1)).requires_grad_()
        y = linear(x)
        y.square().sum().backward()
        found[training] = [y.detach(), x.grad, *(parameter.grad for parameter in linear.parameters())]
    for trained, evaluated in zip(found[True], found[False], strict=True):
        torch.testing.assert_close(trained, evaluated, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("options", LINEAR_OPTIONS, ids=str)
def test_export_keeps_the_layer_whole(options: dict[str, object]) -> None:
    """torch.export sees integer operators and no arithmetic of quantisers, for any batch and length."""
    linear = BitLinear(12, 6, **options).eval()
    dims = ({0: torch.export.Dim("B"), 1: torch.export.Dim("T")},)
    exported = torch.export.export(linear, (torch.randn(2, 3, 12),), dynamic_shapes=dims).run_decompositions({})
    names = [str(node.target) for node in exported.graph.nodes if node.op == "call_function"]
    pieces = 3 if options.get("activation") == "per_group" else 1
    assert names.count("setun.bit_linear.default") == pieces
    assert not any(name in str(names) for name in ("round", "amax", "sign"))
    x = torch.randn(5, 4, 12)
    torch.testing.assert_close(exported.module()(x), linear(x))


@pytest.mark.parametrize(("bits", "top"), [(8, 127), (4, 7), (2, 1)])
@pytest.mark.parametrize("granularity", ["per_token", "per_tensor", "per_sample", "per_group"])
def test_activation_bits_and_granularity(bits: int, top: int, granularity: str) -> None:
    """Against the formula in numpy: what shares a scale, and the largest code."""
    x = torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(2)) * torch.arange(1, 9) ** 2
    values = x.numpy().reshape(3, 5, 2, 4)
    axes = {"per_token": (2, 3), "per_tensor": (0, 1, 2, 3), "per_sample": (1, 2, 3), "per_group": (3,)}[granularity]
    scale = np.float32(top) * (np.float32(1) / np.abs(values).max(axes, keepdims=True))
    wanted = np.clip(np.round(values * scale), -top - 1, top).reshape(3, 5, 8)
    quantized = quantize_activation(x, bits=bits, granularity=granularity, group=4)
    assert np.array_equal(quantized.codes.numpy(), wanted)
    assert wanted.max() == top or wanted.min() == -top
    fake = fake_quantize_activation(x, bits=bits, granularity=granularity, group=4)
    torch.testing.assert_close(fake, torch.from_numpy(wanted / np.broadcast_to(scale, values.shape).reshape(3, 5, 8)))


def test_weight_groups() -> None:
    """Group size 1 is the weight itself; larger groups are quantised each by its own mean (and the last is short)."""
    torch.testing.assert_close(fake_quantize_weight(W, group=1), W)
    assert not fake_quantize_weight(W, group=2).equal(W)
    for codes in ("ternary", "binary"):
        quantized = quantize_weight(W, codes, group=2)
        assert quantized.scale.shape == (3, 2)
        for row in range(3):
            for group, part in enumerate(W[row].split(2)):
                alone = quantize_weight(part, codes)
                assert quantized.codes[row].split(2)[group].equal(alone.codes)
                assert quantized.scale[row, group].equal(alone.scale)


@pytest.mark.parametrize("codes", ["ternary", "binary"])
@pytest.mark.parametrize("activation", ["per_sample", "per_tensor", "none"])
@pytest.mark.parametrize("window", [(1, 1, 1, 1), ((2, 1), (0, 1), (1, 2), 2)])
def test_convolution_is_the_linear_layer_of_its_patches(codes: str, activation: str, window: tuple) -> None:
    """Codes, then patches, then the product with the codes of the filters; equal while it trains and in eval mode."""
    torch.manual_seed(5)
    stride, padding, dilation, groups = window
    conv = BitConv2d(4, 6, (3, 2), *window, True, codes=codes, activation=activation)
    conv.bias.data.uniform_(-1, 1)
    x = torch.randn(2, 4, 7, 6)
    weight, scale = conv.quantized()
    quantized, x_scale = (x, 1.0) if activation == "none" else ops.quantize_activations(x, activation, 8, 1e-5)
    patches = F.unfold(quantized, (3, 2), dilation, padding, stride)
    per_group = patches.reshape(2, groups, -1, patches.shape[-1])
    filters = weight.reshape(groups, 6 // groups, -1)
    sums = torch.einsum("bgkp,gfk->bgfp", per_group, filters).reshape(2, 6, -1)
    assert activation == "none" or sums.equal(sums.round())
    for training in (True, False):
        y = conv.train(training)(x)
        wanted = sums.reshape(y.shape) * scale / x_scale + conv.bias[:, None, None]
        torch.testing.assert_close(y, wanted, atol=1e-5, rtol=1e-5)
    gradients = []
    for training in (True, False):
        conv.train(training).zero_grad()
        conv(x).square().sum().backward()
        gradients.append((conv.weight.grad, conv.bias.grad))
    torch.testing.assert_close(*gradients, atol=1e-3, rtol=1e-4)


def test_convolution_of_one_image_does_not_depend_on_the_batch() -> None:
    conv = BitConv2d(3, 4, 3, padding=1).eval()
    x = torch.randn(5, 3, 6, 6) * torch.arange(1, 6)[:, None, None, None]
    for i in range(5):
        assert conv(x[i : i + 1]).equal(conv(x)[i : i + 1])
    exported = torch.export.export(conv, (x,), dynamic_shapes=({0: torch.export.Dim("B")},))
    assert "setun.bit_conv2d.default" in str(exported.graph)
    torch.testing.assert_close(exported.module()(x[:2]), conv(x[:2]))


def test_wide_layers_sum_exactly() -> None:
    """Past 2^24 float32 sums would round; the operator changes to float64."""
    features = 2**18
    linear = BitLinear(features, 1).eval()
    linear.weight.data.fill_(1.0)
    linear.weight.data[0, 0] = 0.0
    # Codes 127, but for one that is 1, which a float32 sum of 33 million would lose.
    x = torch.full((1, features), 127.0)
    x[0, 1] = 1.0
    codes = quantize_activation(x).codes
    expected = int(codes.long()[0, 1:].sum())
    assert expected == 127 * (features - 2) + 1
    assert ops.product(codes, linear.quantized().codes).double().item() == float(np.float32(expected))


def test_half_precision_layers_compute_in_float32() -> None:
    linear = layer().eval().bfloat16()
    assert linear(X.bfloat16()).dtype == torch.bfloat16
    torch.testing.assert_close(linear(X.bfloat16()), linear.float()(X.bfloat16().float()).bfloat16())


def test_straight_through_has_the_value_itself() -> None:
    """``x + (q - x)`` in float32 is not always ``q``; here it is."""
    x = torch.randn(1000, generator=torch.Generator().manual_seed(0), requires_grad=True)
    value = x.detach().round()
    assert straight_through(x, value).equal(value)
    with pytest.raises(ValueError, match="one shape"):
        straight_through(x, value[:5])


def test_lambda_blends_from_float_to_quantised() -> None:
    linear = layer()
    linear.lam = 0.0
    torch.testing.assert_close(linear(X), F.linear(X, W))
    linear.lam = 1.0
    full = linear(X)
    for lam in (0.25, 0.5):
        linear.lam = lam
        x = X + lam * (fake_quantize_activation(X) - X)
        weight = W + lam * (fake_quantize_weight(W) - W)
        torch.testing.assert_close(linear(X), F.linear(x, weight))
    assert linear.quantized().codes.equal(quantize_weight_ternary(W).codes), "export is always fully quantised"
    assert "lam" not in linear.state_dict()
    assert not linear(X).equal(full)


@pytest.mark.parametrize(
    ("schedule", "k", "values"),
    [
        ("linear", 1, [0, 0.25, 0.5, 0.75, 1, 1]),
        ("linear", None, [0, 0.5, 1, 1, 1, 1]),
        ("exponential", 4, [0, 0.683594, 0.9375, 0.996094, 1, 1]),
        ("sigmoid", 15, [0.000553, 0.022977, 0.5, 0.977023, 1, 1]),
        ("constant", None, [1, 1, 1, 1, 1, 1]),
    ],
)
def test_warmup_ends_fully_quantised(schedule: str, k: float | None, values: list[float]) -> None:
    model = nn.Sequential(BitLinear(4, 4), nn.ReLU(), BitConv2d(1, 1, 1))
    warmup = QuantizationWarmup(model, 4, schedule, k)
    found = [warmup.lam]
    for _ in range(5):
        found.append(warmup.step())
        assert model[0].lam == model[2].lam == warmup.lam
    assert found == pytest.approx(values, abs=1e-6)
    assert model[0].eval().integer
    resumed = QuantizationWarmup(model, 4, schedule, k)
    resumed.load_state_dict({"done": 2})
    assert model[0].lam == pytest.approx(values[2], abs=1e-6)
    assert resumed.state_dict() == {"done": 2}


def test_warmup_trains_a_float_model_into_a_quantised_one() -> None:
    """At lambda 0 the replaced model is the float model; the warm-up ends with a layer that computes integers."""
    torch.manual_seed(6)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3))
    x = torch.randn(64, 8)
    target = model(x).argmax(-1)
    before = model(x)
    replace_linear(model)
    warmup = QuantizationWarmup(model, 60)
    torch.testing.assert_close(model(x), before)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(120):
        loss = F.cross_entropy(model(x), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        warmup.step()
    assert (model.eval()(x).argmax(-1) == target).float().mean() > 0.9


def test_warmup_names_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="BitLinear layers, got none"):
        QuantizationWarmup(nn.Linear(2, 2), 5)
    with pytest.raises(ValueError, match="at least one step, got 0"):
        QuantizationWarmup(layer(), 0)
    with pytest.raises(ValueError, match="got 'cosine'"):
        QuantizationWarmup(layer(), 5, "cosine")


@pytest.mark.parametrize("norm", ["none", "rms", "layer"])
def test_norm_comes_before_quantisation(norm: str) -> None:
    linear = layer(norm=norm)
    if norm == "rms":
        linear.norm.weight.data.copy_(torch.tensor([1.5, 0.5, -2.0]))
        x = X / (X.square().mean(-1, keepdim=True) + 1e-5).sqrt() * linear.norm.weight.detach()
    elif norm == "layer":
        centred = X - X.mean(-1, keepdim=True)
        x = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    else:
        x = X
    torch.testing.assert_close(linear(X), F.linear(fake_quantize_activation(x), fake_quantize_weight(W)))
    assert set(linear.state_dict()) == {"weight"} | ({"norm.weight"} if norm == "rms" else set())


def test_weight_only_layer() -> None:
    torch.testing.assert_close(layer(activation="none")(X), F.linear(X, fake_quantize_weight(W)))


def test_bias_is_added_last_and_unscaled() -> None:
    linear = layer(bias=True)
    plain = linear(X)
    linear.bias.data.copy_(torch.tensor([1.0, -2.0, 3.0]))
    torch.testing.assert_close(linear(X), plain + torch.tensor([1.0, -2.0, 3.0]))


def test_rms_norm_agrees_with_torch() -> None:
    norm = RMSNorm(7, eps=1e-6)
    norm.weight.data.uniform_(-2, 2)
    x = torch.randn(3, 7)
    torch.testing.assert_close(norm(x), F.rms_norm(x, (7,), norm.weight, 1e-6))


@pytest.mark.parametrize("bias", [False, True])
def test_agrees_with_transformers_online_layer(bias: bool) -> None:
    """The layer that Hugging Face trains with gives the same numbers, and the same gradients."""
    from transformers.integrations.bitnet import AutoBitLinear

    torch.manual_seed(3)
    ours = BitLinear(48, 20, bias=bias)
    theirs = AutoBitLinear(48, 20, bias=bias, online_quant=True)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(5, 48)
    inputs = [x.clone().requires_grad_() for _ in range(2)]
    outputs = [ours(inputs[0]), theirs(inputs[1])]
    torch.testing.assert_close(*outputs, atol=1e-6, rtol=1e-5)
    for output in outputs:
        output.square().sum().backward()
    torch.testing.assert_close(inputs[0].grad, inputs[1].grad, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad, atol=1e-5, rtol=1e-4)


def test_training_reduces_the_loss() -> None:
    torch.manual_seed(0)
    target = 0.05 * torch.randint(-1, 2, (8, 16)).float()
    x = torch.randn(256, 16)
    linear = BitLinear(16, 8)
    optimizer = torch.optim.Adam(linear.parameters(), lr=3e-3)
    losses = []
    for _ in range(200):
        loss = F.mse_loss(linear(x), F.linear(x, target))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.25 * losses[0]


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 12), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_packing_round_trip(quarter: int, columns: int, seed: int) -> None:
    codes = torch.randint(-1, 2, (4 * quarter, columns), generator=torch.Generator().manual_seed(seed))
    packed = pack_ternary(codes)
    assert packed.shape == (quarter, columns)
    assert unpack_ternary(packed).equal(codes.to(torch.int8))


def test_packing_agrees_with_transformers() -> None:
    from transformers.integrations.bitnet import unpack_weights

    codes = torch.randint(-1, 2, (20, 7))
    assert unpack_weights(pack_ternary(codes), dtype=torch.float32).equal(codes.float())


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="'ternary' or 'binary', got 'int4'"):
        BitLinear(4, 4, codes="int4")
    with pytest.raises(ValueError, match="'none', 'rms' or 'layer', got 'batch'"):
        BitLinear(4, 4, norm="batch")
    with pytest.raises(ValueError, match="'per_tensor', 'per_group' or 'none', got 'per_sample'"):
        BitLinear(4, 4, activation="per_sample")
    with pytest.raises(ValueError, match="'per_sample', 'per_tensor' or 'none', got 'per_token'"):
        BitConv2d(4, 4, 1, activation="per_token")
    with pytest.raises(ValueError, match=r"activation bits 2, 3, .* or 8, got 1"):
        BitLinear(4, 4, activation_bits=1)
    with pytest.raises(ValueError, match="group size of at least 1"):
        BitLinear(4, 4, activation="per_group")
    with pytest.raises(ValueError, match="divide 6 features, got 4"):
        BitLinear(6, 4, activation="per_group", group_size=4)
    with pytest.raises(ValueError, match="4 and 6 channels to be multiples of 4 groups"):
        BitConv2d(4, 6, 1, groups=4)
    with pytest.raises(ValueError, match="got 'int4'"):
        quantize_weight(W, "int4")
    with pytest.raises(ValueError, match="got 'cosine'"):
        lambda_schedule("cosine", 0.5)
    with pytest.raises(ValueError, match=r"multiple of 4 rows, got shape \(3, 3\)"):
        pack_ternary(torch.zeros(3, 3))
    with pytest.raises(ValueError, match="codes -1, 0 and"):
        pack_ternary(torch.full((4, 1), 2))
    with pytest.raises(ValueError, match="got 3"):
        unpack_ternary(torch.tensor([[0b11]], dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"uint8 matrix, got torch\.int64"):
        unpack_ternary(torch.zeros(2, 2, dtype=torch.int64))


def test_schedules() -> None:
    assert two_stage(0.0, 3.0, 2.0) == 0.0
    assert two_stage(0.01, 3.0, 2.0, warmup=0.02) == pytest.approx(3.0 * 0.99 / 2)
    assert two_stage(0.25, 3.0, 2.0) == pytest.approx(2.25)
    assert two_stage(0.5, 3.0, 2.0) == pytest.approx(1.0)
    assert two_stage(1.5, 3.0, 2.0) == 0.0
    assert two_stage(0.0, 3.0, 2.0, warmup=0.0) == 3.0
    assert [weight_decay(p) for p in (0.0, 0.49, 0.5, 1.0)] == [0.1, 0.1, 0.0, 0.0]


def test_layers_can_be_copied_and_saved() -> None:
    linear = layer(norm="rms")
    linear.lam = 0.5
    twin = copy.deepcopy(linear)
    assert twin.lam == 0.5
    torch.testing.assert_close(twin(X), linear(X))


def test_import_setun_is_cheap() -> None:
    """No torch, and little time: the best of three, for a busy machine."""
    script = (
        "import sys, time; t = time.perf_counter(); import setun; d = time.perf_counter() - t;"
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules; print(d)"
    )
    times = [float(subprocess.check_output([sys.executable, "-c", script])) for _ in range(3)]
    assert min(times) < 0.3
