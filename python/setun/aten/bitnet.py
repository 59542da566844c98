"""The operators of `setun.ops`: one operation of the `bitnet` dialect each."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any

import sympy
import torch
from torch import fx

from setun import ops as _ops  # noqa: F401  (registers torch.ops.setun)
from setun.aten.norms import rms_norm
from setun.aten.products import dense
from setun.aten.registry import lowers
from setun.writer import Function, Unsupported, Value, float_literal, named, shape_of, sizes_of, tensor_type

setun = torch.ops.setun


def _quantized(
    f: Function, masters: Value, name: str, options: Mapping[str, Any], scales: str, scale_shape: Sequence[int]
) -> tuple[Value, Value]:
    """Codes and scale of master weights, quantised by the compiler."""
    element = "i2" if options["storage"] == "absmean" else "i1"
    codes_type, scale_type = tensor_type(masters.sizes, element), tensor_type(scale_shape, "f32")
    group = f", scales = {scales}" if len(scale_shape) > 1 else ""

    def quantize() -> Value:
        codes, scale = f.fresh(f"{name}.codes"), f.fresh(f"{name}.scale")
        f.write(
            f"{codes}, {scale} = ",
            f"bitnet.quantize_weight {masters.name} {{method = #bitnet.weight_quant<{options['storage']}>, "
            f"eps = {float_literal(options['eps'])} : f32{group}}} : {masters.type} -> {codes_type}, {scale_type}",
        )
        f.cached(("scale", masters.name, group), lambda: named(scale, "f32", scale_shape))
        return named(codes, element, masters.sizes)

    codes = f.cached(("quantize", masters.name, group), quantize)
    return codes, f.cached(("scale", masters.name, group), lambda: codes)


def _weights(
    f: Function, weight: fx.Node, scale: fx.Node | None, shape: Sequence[int], options: Mapping[str, Any], scales: str
) -> tuple[Value, Value]:
    """Codes `[N, K]` of a weight of any storage, and its scale."""
    name, tensor = f.parameters.get(weight.name, ("", None))
    if tensor is None:
        raise Unsupported("a weight that is computed")
    group = options.get("group", 0)
    if options["storage"] in ("absmean", "sign"):
        masters = f.weight(weight) if tensor.dim() == 2 else f.derived(f"{name}.rows", tensor.detach().flatten(1))
        scale_shape = (shape[0], -(-shape[1] // group)) if group else (1,)
        return _quantized(f, masters, name, options, scales, scale_shape)
    if tensor.dim() != 2:
        raise Unsupported(f"codes of {tensor.dim()} axes")
    codes = f.weight(weight, "i2", shape)
    return codes, f.weight(scale, "f32") if scale is not None else f.derived(f"{name}.one", torch.ones(1))


def _layer_attributes(options: Mapping[str, Any], scales: str) -> list[str]:
    """Attributes that linear layers and convolutions have in common."""
    granularity = {"per_sample": "per_token"}.get(options["activation"], options["activation"])
    eps = float_literal(options["eps"])
    quantizer = f"activation = #bitnet.act_quant<{granularity}, bits = {options['bits']}, eps = {eps}>"
    divide = options["divide"] and options["storage"] not in ("absmean", "sign")
    return [
        *([quantizer] if granularity != "none" else []),
        f"scales = {scales}",
        f"direction = #bitnet.direction<{'divide' if divide else 'multiply'}>",
    ]


@lowers(setun.bit_linear.default)
def _bit_linear(f: Function, node: fx.Node) -> Value:
    x_node, weight, scale, bias, norm_weight = node.args
    options = {"group": 0, **node.kwargs}
    group, sizes = options["group"], sizes_of(node)
    if group % 4:
        raise Unsupported(f"a weight scale for each {group} inputs (expects a multiple of 4)")
    scales = f"#bitnet.scales<group = {group}>" if group else "#bitnet.scales<tensor>"
    x = f.value(x_node)
    flat = f.reshape(x, [sympy.Mul(*x.sizes[:-1]), x.sizes[-1]], node.name)
    shape = (int(options["out_features"]), int(x.sizes[-1]))
    operands = [flat, *_weights(f, weight, scale, shape, options, scales)]
    text = f"bitnet.linear {flat.name}, {operands[1].name} scale({operands[2].name})"
    for keyword, operand in (("bias", bias), ("norm_weight", norm_weight)):
        if operand is not None:
            operands.append(f.weight(operand, "f32"))
            text += f" {keyword}({operands[-1].name})"
    attributes = _layer_attributes(options, scales)
    if options["norm"] != "none":
        attributes.append(f"norm = #bitnet.norm<{options['norm']}, eps = {float_literal(options['norm_eps'])}>")
    result = (flat.sizes[0], shape[0])
    types = ", ".join(operand.type for operand in operands)
    text = f"{text} {{{', '.join(attributes)}}} : ({types}) -> {tensor_type(result, 'f32')}"
    return f.reshape(f.op(node.name, text, "f32", result), sizes, node.name)


@lowers(setun.bit_conv2d.default)
def _bit_conv2d(f: Function, node: fx.Node) -> Value:
    x_node, weight, scale, bias = node.args
    options, sizes = node.kwargs, sizes_of(node)
    x, shape = f.value(x_node), [int(n) for n in shape_of(weight)]
    if options["activation"] == "none":
        raise Unsupported("activations that are not quantised")
    if x.rank != 4 or not all(size.is_Integer for size in x.sizes[1:]):
        raise Unsupported(f"an image {x.type} (expects a batch of images whose sizes are known)")
    scales = "#bitnet.scales<tensor>"
    columns = shape[1] * shape[2] * shape[3]
    operands = [x, *_weights(f, weight, scale, (shape[0], columns), options, scales)]
    text = f"bitnet.conv2d {x.name}, {operands[1].name} scale({operands[2].name})"
    if bias is not None:
        operands.append(f.weight(bias, "f32"))
        text += f" bias({operands[-1].name})"
    pairs = {"kernel": shape[2:], "strides": options["stride"], "dilations": options["dilation"]}
    pairs["padding"] = [*options["padding"]] * 2
    attributes = _layer_attributes(options, scales)
    attributes += [f"{name} = array<i64: {', '.join(map(str, numbers))}>" for name, numbers in pairs.items()]
    attributes.append(f"groups = {options['groups']} : i64")
    types = ", ".join(operand.type for operand in operands)
    return f.op(
        node.name, f"{text} {{{', '.join(attributes)}}} : ({types}) -> {tensor_type(sizes, 'f32')}", "f32", sizes
    )


@lowers(setun.rms_norm.default)
def _rms_norm(f: Function, node: fx.Node) -> Value:
    x, gain = f.value(node.args[0]), None if node.args[1] is None else f.weight(node.args[1], "f32")
    flat = f.reshape(x, [sympy.Mul(*x.sizes[:-1]), x.sizes[-1]], node.name)
    return f.reshape(rms_norm(f, flat, gain, node.args[2], node.name), x.sizes, node.name)


@lowers(setun.rotary.default)
def _rotary(f: Function, node: fx.Node) -> Value:
    x, cos, sin, pos = (f.value(argument) for argument in node.args)
    text = f"bitnet.rotary {x.name}, {cos.name}, {sin.name}, {pos.name} : {x.type}, {cos.type}"
    return f.op(node.name, text, "f32", x.sizes)


@lowers(setun.cache_update.default)
def _cache_update(f: Function, node: fx.Node) -> Value:
    cache, rows, pos = (f.value(argument) for argument in node.args)
    text = f"bitnet.cache_update {cache.name}, {rows.name}, {pos.name} : {cache.type}, {rows.type}"
    return f.op(node.name, text, cache.element, cache.sizes)


@lowers(setun.attention.default)
def _attention(f: Function, node: fx.Node) -> Value:
    q, k, v, pos = (f.value(argument) for argument in node.args[:4])
    causal = "causal, " if node.args[5] else ""
    text = (
        f"bitnet.attention {q.name}, {k.name}, {v.name}, {pos.name} "
        f"{{{causal}scale = {float_literal(node.args[4])} : f32}} : {q.type}, {k.type}, {v.type}"
    )
    return f.op(node.name, text, "f32", q.sizes)


@lowers(setun.gated.default)
def _gated(f: Function, node: fx.Node) -> Value:
    gate, up = f.value(node.args[0]), f.value(node.args[1])
    text = f"bitnet.gated {gate.name}, {up.name} {{act = #bitnet.gate_act<{node.args[2]}>}} : {gate.type}"
    return f.op(node.name, text, "f32", gate.sizes)


@lowers(setun.embedding.default)
def _embedding(f: Function, node: fx.Node) -> Value:
    return embedding(f, f.weight(node.args[0]), f.value(node.args[1]), node.name)


def embedding(f: Function, table: Value, tokens: Value, hint: str) -> Value:
    """Rows of a weight `[V, H]` for tokens `[T]`."""
    sizes = (tokens.sizes[0], table.sizes[1])
    text = f"bitnet.embedding {table.name}, {tokens.name} : {table.type}, {tokens.type} -> {tensor_type(sizes, 'f32')}"
    return f.op(hint, text, "f32", sizes)


@lowers(setun.dense.default)
def _dense(f: Function, node: fx.Node) -> Value:
    x, weight, bias = node.args
    w = f.weight(weight)
    return dense(f, f.value(x), w, None if bias is None else f.weight(bias, "f32"), node.name)


@lowers(setun.top_k.default)
def _top_k(f: Function, node: fx.Node) -> list[Value]:
    x, w, k = f.value(node.args[0]), f.weight(node.args[1]), f.value(node.args[2])
    sizes = tuple(node.meta["val"][0].shape)
    ids, best = f.fresh("ids"), f.fresh("best")
    types = f"{tensor_type(sizes, 'i64')}, {tensor_type(sizes, 'f32')}"
    f.write(
        f"{ids}, {best} = ",
        f"bitnet.top_k {x.name}, {w.name}, {k.name} : ({x.type}, {w.type}, {k.type}) -> ({types})",
    )
    return [named(ids, "i64", sizes), named(best, "f32", sizes)]


@lowers(operator.getitem)
def _getitem(f: Function, node: fx.Node) -> Value:
    source, index = node.args
    if source not in f.results or index >= len(f.results[source]):
        raise Unsupported(f"result {index} of {source}")
    return f.results[source][index]
