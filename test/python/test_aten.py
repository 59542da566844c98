"""Every lowering: what is written for an operator gives what PyTorch gives, run by the reference interpreter, and the
same bits when it is compiled."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.utils._pytree as pytree
from torch import Tensor, nn
from torch.export import Dim
from torch.nn import functional as F

from compiled import Compiled, differences
from setun import aten, tracer
from setun import nn as setun_nn
from setun.diagnostics import SetunError


class Call(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *arguments: Tensor) -> Any:
        return self.function(*arguments)


def module_of(function: Callable[..., Any]) -> nn.Module:
    torch.manual_seed(1)
    module = function if isinstance(function, nn.Module) else Call(function)
    return module.eval()


def harness(folder: Path, traced: tracer.Traced) -> Compiled:
    return Compiled(folder, traced.mlir, {name: tensor.detach().numpy() for name, tensor in traced.constants.items()})


def named(call: Any, inputs: tuple[Tensor, ...]) -> dict[str, np.ndarray]:
    return {node.name: x.numpy() for node, x in zip(call.stage.inputs, inputs, strict=True)}


def interpret(folder: Path, traced: tracer.Traced, call: Any, inputs: tuple[Tensor, ...], states: Any = None) -> Any:
    """Results of the entry by name, from the reference interpreter."""
    return harness(folder, traced).interpret("forward", named(call, inputs), states)


def check(folder: Path, function: Any, inputs: tuple[Tensor, ...], dynamic: Any = None, raised: bool = False) -> None:
    """Traced with `dynamic` sizes, the module gives the dtypes, shapes and values that it gives eagerly. What is
    `raised` to a BitLinear is computed otherwise than it is written, so the bits are the interpreter's only nearly."""
    module = module_of(function)
    traced, call = tracer.trace_call(module, inputs, None, dynamic)
    made = harness(folder, traced)
    found = made.interpret("forward", named(call, inputs))
    session = made.compile("host", "--no-self-test").session(threads=2)
    compiled = session.run("forward", named(call, inputs))
    assert raised or not differences(found, compiled)
    with torch.no_grad():
        wanted = pytree.tree_leaves(module(*inputs))
    for number, want in enumerate(wanted):
        for got in (results["output" if len(wanted) == 1 else f"output{number}"] for results in (found, compiled)):
            assert got.shape == tuple(want.shape)
            assert got.dtype == want.numpy().dtype
            np.testing.assert_allclose(got, want.numpy(), rtol=1e-5, atol=1e-5)


def numbers(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


X, Y, B, IMAGE = numbers(3, 5), numbers(5), numbers(2, 3, 4), numbers(2, 4, 8, 8)
I = torch.tensor([2, 0, -1, 1])  # noqa: E741
N, T = Dim("n"), Dim("t")


def write_in_place(x: Tensor) -> Tensor:
    z = torch.zeros(3, 5)
    z[:, 1:3] = x[:, :2]
    z[0] = 7
    return z.add_(1).relu_()


CASES: dict[str, tuple[Any, ...]] = {
    "add": (lambda a, b: a + b * 2 - 1 / b, (X, Y)),
    "alpha": (lambda a, b: torch.add(a, b, alpha=3) - torch.sub(2, a), (X, Y)),
    "integers": (
        lambda a: (a // 3) + (a % 3) + torch.div(a, 2, rounding_mode="trunc") - a.abs(),
        (torch.arange(-7, 8),),
    ),
    "remainder": (lambda a: torch.remainder(a, 1.5) + torch.fmod(a, 0.7), (X,)),
    "bits": (lambda a: (a >> 1) + (a << 2) + (a & 3) + ~a, (torch.arange(8),)),
    "comparisons": (lambda a, b: torch.where((a > b) & (a < 1) | (b == 0), a, b * 0.5), (X, Y)),
    "clamp": (lambda a: a.clamp(-0.5, 0.5).clamp(min=0) + F.relu(a) + F.hardtanh(a), (X,)),
    "round": (lambda a: a.round() + a.abs() + a.neg() + a.sign() + a.square() + a**3, (X,)),
    "fused": (lambda a, b: torch.addcmul(a, b, b, value=2) + torch.lerp(a, b, 0.3) - torch.addcdiv(a, a, b), (X, Y)),
    "special values": (
        lambda a: (torch.isnan(a), torch.isinf(a), torch.nan_to_num(a)),
        (X / 0 * torch.tensor([0.0, 1, 1, -1, 1]),),
    ),
    "silu": (lambda a: F.silu(a) + torch.sigmoid(a) + F.glu(a.repeat(1, 2)), (X,)),
    "leaky": (lambda a: F.leaky_relu(a) + F.hardswish(a) + F.hardsigmoid(a) + F.relu6(a), (X,)),
    "functions": (
        lambda a: tuple(
            getattr(torch, name)(a)
            for name in ("sin", "cos", "tan", "tanh", "sinh", "cosh", "erf", "expm1", "atan", "trunc")
        ),
        (X,),
    ),
    "logarithms": (lambda a: (a.log(), a.log2(), a.log10(), a.log1p(), a.rsqrt()), (X.abs() + 0.1,)),
    "powers": (lambda a: (a.abs() ** 1.7, 2.0**a, a.abs() ** a, a.abs() ** -0.5, (a.abs() + 1) ** -1), (X,)),
    "activations": (
        lambda a: (
            *(activation(a) for activation in (F.gelu, F.elu, F.softplus, F.mish, F.logsigmoid, F.selu)),
            F.celu(a, 0.5),
            F.gelu(a, approximate="tanh"),
            F.prelu(a, torch.tensor([0.2])),
        ),
        (X,),
    ),
    "logarithms of sums": (lambda a: (a.log_softmax(0), a.logsumexp(1)), (X,)),
    "recurrent cell": (nn.GRUCell(5, 5), (X, numbers(3, 5))),
    "roots": (lambda a: torch.exp(a) + torch.sqrt(a.abs()) + a.abs() ** 0.5 + torch.floor(a) + torch.ceil(a), (X,)),
    "conversions": (lambda a: (a * 3).to(torch.int64) + (a > 0).long() + a.bool().int(), (X,)),
    "permute": (lambda a: a.permute(2, 0, 1).transpose(0, 1).reshape(-1, 2).t(), (B,)),
    "view": (lambda a: a.view(6, 4).view(2, 12).unsqueeze(1).flatten(), (B,)),
    "expand": (lambda a: a[:, None, :].expand(3, 4, 5) + a.repeat(2, 3).view(6, 3, 5).sum(0)[:, None], (X,)),
    "repeat_interleave": (lambda a: torch.repeat_interleave(a, 3, dim=1), (X,)),
    "slices": (lambda a: (a[:, 1:4:2], a[-1], a[..., -2:], a.narrow(1, 1, 2)), (X,)),
    "parts": (lambda a: (a.split(2, 1)[1], a.chunk(2, 0)[0], a.unbind(1)[2]), (X,)),
    "joined": (lambda a, b: (torch.cat([a, a * 2], 1), torch.stack([b, b], -1)), (X, Y)),
    "joined to what is not known": (
        lambda a: (torch.cat([a[:, :1], a], 1).sum(1), torch.diff(a, prepend=a[:, :1] - 1)),
        (X,),
        (({0: N, 1: T},),),
    ),
    "pad": (lambda a: (F.pad(a, (1, 2)), F.pad(a, (-1, 2, 0, 1), value=3.0)), (X,)),
    "pad by elements": (
        lambda a: tuple(F.pad(a[None], (1, 2), mode=mode) for mode in ("reflect", "replicate", "circular")),
        (X,),
    ),
    "flip and roll": (lambda a: (a.flip(0, 1), a.roll(2, 1), a.roll((1, -1), (0, 1))), (X,)),
    "pixel_shuffle": (lambda a: F.pixel_shuffle(a, 2), (IMAGE,)),
    "sums": (lambda a: (a.sum(), a.sum(1), a.mean(0, keepdim=True), a.prod(1), a.cumsum(1), (a > 0).cumsum(0)), (X,)),
    "extremes": (
        lambda a: (a.amax((0, 1)), a.max(1)[0], a.min(0).values, a.max(1)[1], a.argmin(), a.argmax(0, True)),
        (X,),
    ),
    "spreads": (lambda a: (a.var(1), a.std(), a.var(0, unbiased=False), a.norm(dim=1), F.normalize(a, dim=-1)), (X,)),
    "any": (lambda a: ((a > 1).any(1), (a > -9).all(), (a > 0).sum(1)), (X,)),
    "softmax": (lambda a: (a.softmax(-1), a.softmax(0)), (X,)),
    "matmul": (lambda a, b: (a @ b, a @ b[:, 0], torch.einsum("bij,jk->bik", a, b)), (B, numbers(4, 6))),
    "bmm": (lambda a: (a @ a.mT, torch.bmm(a, a.transpose(1, 2)), torch.baddbmm(a @ a.mT, a, a.mT)), (B,)),
    "outer": (lambda a: torch.outer(a, a), (Y,)),
    "attention": (
        lambda a: (F.scaled_dot_product_attention(a, a, a), F.scaled_dot_product_attention(a, a, a, is_causal=True)),
        (numbers(2, 3, 5, 4),),
    ),
    "masked attention": (
        lambda a, m: F.scaled_dot_product_attention(a, a, a, attn_mask=m),
        (numbers(2, 3, 5, 4), torch.ones(5, 5).tril().bool()),
    ),
    "tokens that see nothing": (
        lambda a, m: (
            F.scaled_dot_product_attention(a, a, a, attn_mask=m),
            F.scaled_dot_product_attention(a, a, a, attn_mask=torch.where(m, 0.5, -torch.inf)),
            F.scaled_dot_product_attention(a[0], a[:1], a[:1], attn_mask=m),
        ),
        (numbers(2, 3, 5, 4), torch.ones(5, 5).tril(-1).bool()),
    ),
    "grouped attention": (
        lambda a, k: F.scaled_dot_product_attention(a, k, k, enable_gqa=True),
        (numbers(2, 4, 5, 4), numbers(2, 2, 5, 4)),
    ),
    "multi-head attention": (nn.MultiheadAttention(8, 2, batch_first=True), (numbers(2, 5, 8),) * 3),
    "encoder layer": (nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), (numbers(2, 5, 8),)),
    "gather": (
        lambda a, i: (
            a[i],
            a[:, i],
            a[1][i],
            torch.gather(a, 0, i[None].abs().expand(2, 4)),
            a.index_select(1, i.abs()),
        ),
        (X, I),
    ),
    "index by two": (lambda a, i: (a[i[:, None], i[None]], a[:, i, i], a[i, :, i]), (numbers(4, 4, 4), I)),
    "scatter": (
        lambda a, i: (
            a.index_copy(0, i, torch.ones(4, 5)),
            a.index_add(0, i, torch.ones(4, 5)),
            a.scatter(1, i[None].expand(4, 4), 7.0),
            a.scatter_add(0, i[:, None].expand(4, 5).contiguous(), a),
        ),
        (numbers(4, 5), torch.tensor([2, 0, 3, 1])),
    ),
    "index_put": (
        lambda a, i: (a.index_put((i,), torch.zeros(5)), a.index_put((i, i), torch.ones(2), accumulate=True)),
        (numbers(4, 5), torch.tensor([2, 0])),
    ),
    "masks": (lambda a: a.masked_fill(a > 0, -1.0), (X,)),
    "creation": (
        lambda a: (
            torch.arange(5) + a.sum().long(),
            torch.zeros(3, 5) + a,
            torch.full_like(a, 2.0),
            torch.eye(5) + a[0],
        ),
        (X,),
    ),
    "triangles": (lambda a: (a.tril(), a.triu(1), a.tril(-1), torch.diagonal(a), torch.ones(5, 5).triu() + a[0]), (X,)),
    "one_hot": (lambda i: F.one_hot(i.abs(), 4).float(), (I,)),
    "in place": (write_in_place, (X,)),
    "convolution of sequences": (nn.Conv1d(4, 6, 3, padding=1, stride=2), (numbers(2, 4, 9),)),
    "convolution": (nn.Conv2d(4, 6, 3, padding=1, stride=2), (IMAGE,)),
    "dilated convolution": (nn.Conv2d(4, 6, 3, padding="same", dilation=2), (IMAGE,)),
    "grouped convolution": (nn.Conv2d(4, 8, 3, padding=1, groups=4), (IMAGE,)),
    "patches": (nn.Sequential(nn.Conv2d(4, 6, 4, stride=4), nn.Flatten(2)), (IMAGE,), ({0: N},)),
    "pooling": (
        lambda a: (
            F.max_pool2d(a, 3, 2, 1),
            F.avg_pool2d(a, 3, 1, 1),
            F.adaptive_avg_pool2d(a, 1),
            F.max_pool1d(a[0], 2),
        ),
        (IMAGE,),
    ),
    "batch and group norm": (nn.Sequential(nn.BatchNorm2d(4), nn.GroupNorm(2, 4)), (IMAGE,)),
    "instance norm": (nn.InstanceNorm2d(4, affine=True), (IMAGE,), ({0: N, 2: Dim("h"), 3: Dim("w")},)),
    "layer norm": (nn.LayerNorm((3, 4)), (B,)),
    "layer norm of what is not known": (lambda a: F.layer_norm(a, a.shape[-1:]), (X,), (({1: T},),)),
    "roll of what is not known": (lambda a: a.roll(2, 1), (X,), (({1: T},),)),
    "rms norm": (nn.RMSNorm(5), (X,)),
    "embedding": (nn.Embedding(10, 6), (torch.tensor([[1, 2], [3, 9]]),)),
    "linear": (nn.Linear(4, 7), (B,), ({0: N},)),
    "linear of a vector": (nn.Linear(5, 7), (Y,)),
    "what is given back": (lambda a: (a, a + 1, a), (X,)),
}


@pytest.mark.parametrize("name", CASES)
def test_lowering(tmp_path: Path, name: str) -> None:
    check(tmp_path, *CASES[name])


class Attention(nn.Module):
    """A causal block of a decoder."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out, self.norm = nn.Linear(16, 48), setun_nn.BitLinear(16, 16), nn.LayerNorm(16)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(batch, tokens, 3, 4, 4).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return x + self.out(y.transpose(1, 2).reshape(batch, tokens, width))


class Positions(nn.Module):
    """Learned positions, a class token, and a mask made of the length."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(12, 8)
        self.positions, self.first = nn.Parameter(numbers(1, 20, 8)), nn.Parameter(numbers(1, 1, 8))

    def forward(self, i: Tensor) -> tuple[Tensor, Tensor]:
        batch, length = i.shape
        x = self.tokens(i) + self.positions[:, :length]
        x = torch.cat([self.first.expand(batch, -1, -1), x], 1)
        seen = torch.tril(torch.ones(length + 1, length + 1, dtype=torch.bool))
        scores = (x @ x.transpose(1, 2)).masked_fill(~seen, float("-inf"))
        return (scores.softmax(-1) @ x)[:, 1:], x.mean(1)


@pytest.mark.parametrize("module", [Attention(), Positions()])
def test_sizes_that_were_not_there_when_it_was_traced(tmp_path: Path, module: nn.Module) -> None:
    module = module_of(module)
    make = (lambda *n: torch.randint(0, 12, n)) if isinstance(module, Positions) else (lambda *n: numbers(*n, 16))
    traced, call = tracer.trace_call(module, (make(3, 7),), None, ({0: N, 1: Dim("t", max=20)},))
    for shape in ((3, 7), (1, 2), (2, 12)):
        inputs = (make(*shape),)
        found = interpret(tmp_path, traced, call, inputs)
        with torch.no_grad():
            wanted = pytree.tree_leaves(module(*inputs))
        for want, got in zip(wanted, [found[name] for name in sorted(found)], strict=True):
            np.testing.assert_allclose(got, want.numpy(), rtol=1e-5, atol=1e-5)


class Cache(nn.Module):
    """Keeps rows and counts them; its buffers do not start as zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("rows", torch.full((16, 4), 0.5))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        self.linear = nn.Linear(4, 4)

    def forward(self, x: Tensor, pos: Tensor) -> Tensor:
        self.rows.index_copy_(0, torch.arange(x.shape[0]) + pos, self.linear(x))
        self.count += x.shape[0]
        return self.rows.sum(0) + self.count


def test_buffers_are_states(tmp_path: Path) -> None:
    module = module_of(Cache())
    given = [(numbers(3, 4), torch.tensor(0)), (numbers(2, 4), torch.tensor(3)), (numbers(1, 4), torch.tensor(9))]
    traced, call = tracer.trace_call(module, given[0], None, ({0: Dim("t", max=16)}, None))
    # A run of rows is written in place, without a loop over the whole buffer.
    assert "tensor.insert_slice" in traced.mlir
    states = {
        "rows": np.zeros((16, 4), np.float32),
        "count": np.zeros((), np.int64),
        tracer.STARTED: np.zeros(1, np.int64),
    }
    for inputs in given:
        found = interpret(tmp_path, traced, call, inputs, states)
        with torch.no_grad():
            np.testing.assert_allclose(found.pop("output"), module(*inputs).numpy(), rtol=1e-5)
        states = found
    assert np.array_equal(states["count"], module.count.numpy())


def test_constants_are_folded(tmp_path: Path) -> None:
    """Also those that are changed in place; a straight-through estimator gives its codes."""

    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(numbers(6, 8))

        def forward(self, x: Tensor) -> Tensor:
            scale = self.weight.abs().mean().clamp(min=1e-5)
            codes = (self.weight / scale).round().clamp(-1, 1) * scale
            weight = self.weight + (codes - self.weight).detach()
            shift = torch.zeros(6)
            shift[1::2] = 2.0
            return F.linear(x, weight, shift)

    module = module_of(Layer())
    check(tmp_path, module, (numbers(2, 8),), raised=True)
    traced, _ = tracer.trace_call(module, (numbers(2, 8),))
    weight = next(tensor for tensor in traced.constants.values() if tensor.dim() == 2)
    assert len(weight.abs().unique()) == 2
    assert traced.mlir.count("bitnet.dense") == 1
    assert "math." not in traced.mlir


def test_products_with_a_constant_are_layers(tmp_path: Path) -> None:
    """Whichever way the constant is turned; a product of two constants, or with one on the left, is none."""

    class Products(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(numbers(6, 4))

        def forward(self, x: Tensor) -> tuple[Tensor, ...]:
            return x @ self.weight.t(), torch.mm(x[0], self.weight.abs().t()), self.weight[:, :3] @ x[0]

    check(tmp_path, Products(), (numbers(2, 3, 4),), ({0: N},))
    traced, _ = tracer.trace_call(module_of(Products()), (numbers(2, 3, 4),))
    assert traced.mlir.count("bitnet.dense") == 2
    assert traced.mlir.count("linalg.matmul") == 1


def test_known_makes_stay_whole(tmp_path: Path) -> None:
    from transformers.integrations.bitnet import AutoBitLinear, BitLinear

    online = AutoBitLinear(12, 8, bias=True, online_quant=True)
    offline = AutoBitLinear(12, 8, bias=True)
    offline.weight.data = torch.randint(-1, 2, (8, 12)).float()
    offline.weight_scale.fill_(0.3)
    packed = BitLinear(12, 8, bias=True, dtype=torch.float32, use_rms_norm=True)
    packed.weight = torch.randint(0, 3, (2, 12), dtype=torch.uint8)
    packed.weight_scale.fill_(2.5)
    for module in (online, offline, packed):
        traced, _ = tracer.trace_call(module_of(module), (numbers(2, 5, 12),))
        assert traced.mlir.count("bitnet.linear") == 1
        check(tmp_path, module, (numbers(2, 5, 12),))
        assert "forward" not in vars(module)
    assert not [name for name, _ in online.named_buffers()]


def test_branches_on_values_are_refused_with_their_line(capfd: pytest.CaptureFixture[str]) -> None:
    class Branch(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            if x.sum() > 0:
                return x
            return -x

    with pytest.raises(SetunError, match=r"test_aten\.py:\d+: if x\.sum\(\) > 0:"):
        tracer.trace_call(Branch(), (X,))
    assert capfd.readouterr() == ("", "")


def test_half_precision_is_refused_with_a_cure() -> None:
    with pytest.raises(SetunError, match=r"arithmetic in bf16 \(convert the module by module.float\(\), and"):
        tracer.trace_call(Call(lambda a: a + a), (X.bfloat16(),))


def test_the_page_of_operators_is_current(root: Path) -> None:
    printed = subprocess.run([sys.executable, "-m", "setun.aten"], capture_output=True, text=True, check=True).stdout
    assert printed == (root / "docs" / "generated" / "operators.md").read_text(), (
        "regenerate it: .venv/bin/python -m setun.aten >docs/generated/operators.md"
    )
    assert all(hasattr(target, "_schema") or target.__name__ == "getitem" for target in aten.REGISTRY)
