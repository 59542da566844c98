"""The tracer: the MLIR text of models, and what it says about modules that it cannot write."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from setun import lint, tracer, writer
from setun.checkpoint import open_checkpoint
from setun.diagnostics import SetunError
from setun.models.layers import Entry
from setun.random_checkpoint import SHAPES, write_checkpoint


def trace_checkpoint(folder: Path, config: str, masters: bool = False, context: int | None = None) -> tracer.Traced:
    write_checkpoint(folder, SHAPES[config], masters=masters)
    bound = lint.load(open_checkpoint(folder), context)
    bound.found.raise_errors(config)
    return tracer.trace(bound.model, bound.config.context, {"source": 'a "b"\n\u00e9'})


def without_locations(text: str) -> str:
    return re.sub(r' loc\((?:"[^"]*"\()?"[^"]*":\d+:\d+\)*', "", text)


def check(text: str, *patterns: str) -> None:
    """Each pattern occurs, in this order; runs of blanks are one."""
    text, at = re.sub(r"\s+", " ", text), 0
    for pattern in patterns:
        found = text.find(pattern, at)
        assert found >= 0, f"expects {pattern!r} after {text[max(0, at - 200) : at]!r}"
        at = found + len(pattern)


K0, V0 = "model.layers.0.self_attn.attend.k", "model.layers.0.self_attn.attend.v"


def test_bitnet_language_model(tmp_path: Path) -> None:
    traced = trace_checkpoint(tmp_path, "tiny-bitnet")
    text = without_locations(traced.mlir)
    check(
        text,
        r'module attributes {bitnet.provenance = {source = "a \22b\22\0A\C3\A9"}} {',
        'func.func @forward(%tokens: tensor<?xi64> {bitnet.name = "tokens", bitnet.dims = ["T"]}, %pos: i64 '
        "{bitnet.position}, ",
        f'%{K0}: tensor<?x2x24xf16> {{bitnet.state = "{K0}", bitnet.dims = ["C"]}}, ',
        f'%{V0}: tensor<?x2x24xf16> {{bitnet.state = "{V0}", bitnet.dims = ["C"]}}, ',
        '-> (tensor<?x320xf32> {bitnet.name = "logits", bitnet.dims = ["T"]}, ',
        f'tensor<?x2x24xf16> {{bitnet.state = "{K0}", bitnet.dims = ["C"]}}, ',
        "attributes {bitnet.entry, bitnet.reset, bitnet.max_context = 128 : i64} {",
        '%model.embed_tokens.weight = bitnet.weight "model.embed_tokens.weight" : tensor<320x96xbf16>',
        "%embedding = bitnet.embedding %model.embed_tokens.weight, %tokens : tensor<320x96xbf16>, tensor<?xi64> -> "
        "tensor<?x96xf32>",
        "%rms_norm = bitnet.rms_norm %embedding, %model.layers.0.input_layernorm.weight {eps = 1.0e-05 : f32} : "
        "tensor<?x96xf32>, tensor<96xf32>",
        'bitnet.weight "model.layers.0.self_attn.q_proj.weight" : tensor<96x96xi2>',
        'bitnet.weight "model.layers.0.self_attn.q_proj.weight_scale" : tensor<1xf32>',
        "%bit_linear = bitnet.linear %rms_norm, %model.layers.0.self_attn.q_proj.weight "
        "scale(%model.layers.0.self_attn.q_proj.weight_scale) {activation = #bitnet.act_quant<per_token, bits = 8, "
        "eps = 1.0e-05>, scales = #bitnet.scales<tensor>, direction = #bitnet.direction<multiply>} : "
        "(tensor<?x96xf32>, tensor<96x96xi2>, tensor<1xf32>) -> tensor<?x96xf32>",
        "%dim = tensor.dim %tokens, %c0 : tensor<?xi64>",
        "= tensor.expand_shape %bit_linear [[0], [1, 2]] output_shape [%dim, 4, 24] : tensor<?x96xf32> into "
        "tensor<?x4x24xf32>",
        'bitnet.weight "model.rotary.cos" : tensor<128x12xf32>',
        "%rotary = bitnet.rotary %unflatten, %model.rotary.cos, %model.rotary.sin, %pos : tensor<?x4x24xf32>, "
        "tensor<128x12xf32>",
        f"%cache_update = bitnet.cache_update %{K0}, %rotary_1, %pos : tensor<?x2x24xf16>, tensor<?x2x24xf32>",
        f"%cache_update_1 = bitnet.cache_update %{V0}, %unflatten_2, %pos : tensor<?x2x24xf16>, tensor<?x2x24xf32>",
        "%attention = bitnet.attention %rotary, %cache_update, %cache_update_1, %pos {causal, scale = 0.20412415 : f32}"
        " : tensor<?x4x24xf32>, tensor<?x2x24xf16>, tensor<?x2x24xf16>",
        "tensor.collapse_shape %attention [[0], [1, 2]] : tensor<?x4x24xf32> into tensor<?x96xf32>",
        "arith.addf %embedding, %bit_linear_3 : tensor<?x96xf32>",
        "bitnet.gated %bit_linear_4, %bit_linear_5 {act = #bitnet.gate_act<relu2>} : tensor<?x232xf32>",
        "bitnet.dense %rms_norm_8, %model.embed_tokens.weight : (tensor<?x96xf32>, tensor<320x96xbf16>) -> "
        "tensor<?x320xf32>",
        "return %dense, %cache_update, %cache_update_1, %cache_update_2, %cache_update_3 : tensor<?x320xf32>,",
        "func.func @step(",
        '-> (tensor<1x320xf32> {bitnet.name = "logits"}, ',
        "attributes {bitnet.entry, bitnet.max_context = 128 : i64} {",
        "%start = arith.subi %dim, %c1 : index",
        "tensor.extract_slice %rms_norm_8[%start, 0] [1, 96] [1, 1] : tensor<?x96xf32> to tensor<1x96xf32>",
        "-> tensor<1x320xf32>",
        "func.func @choose(",
        '%k: tensor<1xi64> {bitnet.name = "k"}, %pos: i64',
        '-> (tensor<64xi64> {bitnet.name = "ids"}, tensor<64xf32> {bitnet.name = "logits"}, ',
        "%slice_1 = tensor.extract_slice %rms_norm_8[%start, 0] [1, 96] [1, 1] : tensor<?x96xf32> to tensor<1x96xf32>",
        "%ids, %best = bitnet.top_k %slice_1, %model.embed_tokens.weight, %k : (tensor<1x96xf32>, tensor<320x96xbf16>, "
        "tensor<1xi64>) -> (tensor<64xi64>, tensor<64xf32>)",
        "return %ids, %best, %cache_update,",
    )
    assert text.count("bitnet.linear") == 3 * 14
    assert sorted(traced.constants) == ["model.rotary.cos", "model.rotary.sin"]
    assert traced.constants["model.rotary.cos"].shape == (128, 12)


def test_llama_with_its_own_head_and_dividing_scales(tmp_path: Path) -> None:
    text = without_locations(trace_checkpoint(tmp_path, "tiny-llama").mlir)
    check(
        text,
        "direction = #bitnet.direction<divide>} : (tensor<?x80xf32>, tensor<96x80xi2>, tensor<1xf32>)",
        "#bitnet.gate_act<silu>",
        'bitnet.weight "lm_head.weight" : tensor<320x80xbf16>',
    )
    assert "eps = 1.0e-06 : f32" in text
    assert "multiply" not in text


def test_masters_are_quantised_in_the_text(tmp_path: Path) -> None:
    text = without_locations(trace_checkpoint(tmp_path, "tiny-bitnet", masters=True).mlir)
    name = "%model.layers.0.self_attn.q_proj.weight"
    check(
        text,
        f'{name} = bitnet.weight "{name[1:]}" : tensor<96x96xbf16>',
        f"{name}.codes, {name}.scale = bitnet.quantize_weight {name} {{method = #bitnet.weight_quant<absmean>, "
        "eps = 1.0e-05 : f32} : tensor<96x96xbf16> -> tensor<96x96xi2>, tensor<1xf32>",
        f"bitnet.linear %rms_norm, {name}.codes scale({name}.scale)",
    )


def test_context_bounds_the_tables(tmp_path: Path) -> None:
    traced = trace_checkpoint(tmp_path, "tiny-bitnet", context=48)
    assert "bitnet.max_context = 48 : i64" in traced.mlir
    assert traced.constants["model.rotary.sin"].shape == (48, 12)


def test_operations_carry_module_path_and_line(tmp_path: Path) -> None:
    text = trace_checkpoint(tmp_path, "tiny-bitnet").mlir
    assert re.search(r'loc\("model\.layers\.1\.mlp\.down_proj"\("setun/models/layers\.py":\d+:0\)\)', text)
    assert re.search(r'arith\.addf .* loc\("model\.layers\.0"\("setun/models/layers\.py":\d+:0\)\)', text)
    assert re.search(r'bitnet\.gated .* loc\("model\.layers\.0\.mlp"\("setun/models/bitnet\.py":\d+:0\)\)', text)
    assert "tracer.py" not in text


def test_text_is_reproducible(tmp_path: Path) -> None:
    first = trace_checkpoint(tmp_path / "a", "tiny-llama").mlir
    assert trace_checkpoint(tmp_path / "b", "tiny-llama").mlir == first


ENTRY = Entry("forward", True, {"x": (torch.float32, ("T", "D"))}, ("y",), position=False)


class Module(nn.Module):
    """A module with one entry, `x [T, D]` to `y`."""

    entries = (ENTRY,)


def trace(module: nn.Module) -> str:
    return without_locations(tracer.trace(module, 32).mlir)


def test_real_parameters_become_constants() -> None:
    class Scaled(Module):
        entries = (Entry("forward", True, {"x": (torch.float32, ("T",))}, ("y",), position=False),)

        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.Parameter(torch.ones(1))

        def forward(self, x: Tensor) -> Tensor:
            return torch.ops.setun.rms_norm(x[:, None].reshape(-1, 1), self.norm, 1e-6).flatten()

    traced = tracer.trace(Scaled(), 32)
    check(
        without_locations(traced.mlir),
        "tensor.expand_shape %x [[0, 1]] output_shape [%dim, 1] : tensor<?xf32> into tensor<?x1xf32>",
        'bitnet.weight "norm" : tensor<1xf32>',
        "tensor.collapse_shape %rms_norm [[0, 1]] : tensor<?x1xf32> into tensor<?xf32>",
    )
    assert list(traced.constants) == ["norm"]


def test_elementwise_arithmetic_and_slices() -> None:
    class Arithmetic(Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x * x - x)[0] / x[-1, :]

    check(
        trace(Arithmetic()),
        "arith.mulf %x, %x : tensor<?x?xf32>",
        "arith.subf %mul, %x : tensor<?x?xf32>",
        "tensor.extract_slice %sub[0, 0] [1, %dim] [1, 1] : tensor<?x?xf32> to tensor<?xf32>",
        "tensor.extract_slice %x[%start, 0] [1, %dim] [1, 1] : tensor<?x?xf32> to tensor<?xf32>",
        "arith.divf %select, %select_1 : tensor<?xf32>",
    )


def test_modules_that_do_not_fit_every_length_are_refused() -> None:
    class Long(Module):
        def forward(self, x: Tensor) -> Tensor:
            return x[:3] + x[1:4]

    with pytest.raises(SetunError, match="method 'forward' cannot be exported by torch"):
        tracer.trace(Long(), 32)


def test_the_last_tokens() -> None:
    class Last(Module):
        entries = (Entry("forward", True, {"x": (torch.float32, ("T",))}, ("y",), position=False),)

        def forward(self, x: Tensor) -> Tensor:
            return x.view(-1, 1)[-1]

    check(
        trace(Last()),
        "tensor.expand_shape %x",
        "%start = arith.subi %dim, %c1 : index",
        "tensor.extract_slice %view[%start, 0] [1, 1] [1, 1] : tensor<?x1xf32> to tensor<1xf32>",
    )


def test_state_that_is_viewed_is_functionalised() -> None:
    class Counter(nn.Module):
        session_state = {"seen": (None,)}  # noqa: RUF012
        entries = (ENTRY,)

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("seen", torch.zeros(4), persistent=False)

        def forward(self, x: Tensor) -> Tensor:
            self.seen.add_(self.seen.view(4))
            return x + x

    check(
        trace(Counter()),
        '%seen: tensor<4xf32> {bitnet.state = "seen"})',
        '-> (tensor<?x?xf32> {bitnet.name = "y", bitnet.dims = ["T", "D"]}, tensor<4xf32> {bitnet.state = "seen"})',
        "%add = arith.addf %seen, %seen : tensor<4xf32>",
        "return %add_",
        ", %add : ",
    )


def test_every_unsupported_operation_is_reported_with_its_place() -> None:
    class Inner(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.sort(x, 0)[0]

    class Outer(Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Inner()

        def forward(self, x: Tensor) -> Tensor:
            return torch.cummax(self.inner(x), 0)[0] + torch.logcumsumexp(x, 0)

    with pytest.raises(SetunError) as caught:
        tracer.trace(Outer(), 32)
    message = str(caught.value)
    assert "entry 'forward' uses 3 unsupported operations" in message
    assert re.search(r"aten\.sort\.default in inner \(.*test_tracer\.py:\d+\)", message)
    assert re.search(r"aten\.cummax\.default in the module itself \(.*test_tracer\.py:\d+\)", message)
    assert re.search(r"aten\.logcumsumexp\.default in the module itself \(.*test_tracer\.py:\d+\)", message)


def test_literals() -> None:
    assert [writer.float_literal(v) for v in (1e-5, 0.1, 1.0, 3e38, 2.0**-149)] == [
        "1.0e-05",
        "0.1",
        "1.0",
        "3.0e+38",
        "1.0e-45",
    ]
    with pytest.raises(writer.Unsupported):
        writer.float_literal(float("inf"))
