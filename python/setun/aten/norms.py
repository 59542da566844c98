"""Normalisations. Those over the last axes are operations of `bitnet` where the size is known now."""

from __future__ import annotations

from typing import Any

import sympy
import torch
from torch import fx

from setun.aten.reductions import kept, mean, variance
from setun.aten.registry import argument, computed, lowers
from setun.writer import Function, Unsupported, Value, float_literal

aten = torch.ops.aten


def _rows(f: Function, x: Value, count: int, hint: str) -> Value:
    """The last `count` axes as one, and all before them as the other."""
    split = x.rank - count
    return f.reshape(x, [sympy.Mul(*x.sizes[:split]), sympy.Mul(*x.sizes[split:])], hint)


def _float(f: Function, node: fx.Node) -> Value:
    x = f.value(node)
    if computed(x.element) != "f32":
        raise Unsupported(f"a norm of {x.element}")
    return x


def _parameter(f: Function, node: Any) -> Value | None:
    """A gain or shift as a vector."""
    if node is None:
        return None
    if not f.is_constant(node):
        raise Unsupported("a gain or shift that is computed")
    tensor = f.tensor(node)
    if tensor is not None and tensor.dim() != 1:
        return f.derived(f"{f.parameters[node.name][0]}.flat", tensor.detach().flatten())
    return f.weight(node, "f32")


def layer_norm(f: Function, x: Value, gain: Value | None, shift: Value | None, eps: float, hint: str) -> Value:
    """`bitnet.layer_norm` of `[T, K]`, or its parts where `K` is not known (then without gain and shift)."""
    if not x.sizes[1].is_Integer:
        return _layer_norm_by_parts(f, x, eps)
    operands, text = [x], f"bitnet.layer_norm {x.name}"
    for keyword, value in (("weight", gain), ("bias", shift)):
        if value is not None:
            operands.append(value)
            text += f" {keyword}({value.name})"
    types = ", ".join(value.type for value in operands)
    return f.op(hint, f"{text} {{eps = {float_literal(eps)} : f32}} : ({types}) -> {x.type}", "f32", x.sizes)


def _layer_norm_by_parts(f: Function, rows: Value, eps: float) -> Value:
    centre = f.broadcast(f.reshape(mean(f, rows, [1]), kept(rows, [1])), rows.sizes)
    spread = f.reshape(variance(f, rows, [1], 0), kept(rows, [1]))
    spread = f.apply("math.rsqrt", f.apply("arith.addf", spread, f.filled(eps, spread.sizes, "f32")))
    return f.apply("arith.mulf", f.apply("arith.subf", rows, centre), f.broadcast(spread, rows.sizes))


def rms_norm(f: Function, x: Value, gain: Value | None, eps: float, hint: str) -> Value:
    """`bitnet.rms_norm` of `[T, K]`."""
    operands = [x] if gain is None else [x, gain]
    names, types = ", ".join(v.name for v in operands), ", ".join(v.type for v in operands)
    return f.op(hint, f"bitnet.rms_norm {names} {{eps = {float_literal(eps)} : f32}} : {types}", "f32", x.sizes)


@lowers(aten.layer_norm.default, aten.native_layer_norm.default)
def _layer_norm(f: Function, node: fx.Node) -> Value | list[Value]:
    x = _float(f, node.args[0])
    rows = _rows(f, x, len(argument(node, "normalized_shape")), node.name)
    gain, shift = (_parameter(f, argument(node, name)) for name in ("weight", "bias"))
    y = f.reshape(layer_norm(f, rows, gain, shift, argument(node, "eps"), node.name), x.sizes, node.name)
    return [y] if node.target is aten.native_layer_norm.default else y


@lowers(aten.rms_norm.default)
def _rms_norm(f: Function, node: fx.Node) -> Value:
    x = _float(f, node.args[0])
    rows = _rows(f, x, len(argument(node, "normalized_shape")), node.name)
    eps = argument(node, "eps")
    gain = _parameter(f, argument(node, "weight"))
    eps = float(torch.finfo(torch.float32).eps) if eps is None else eps
    return f.reshape(rms_norm(f, rows, gain, eps, node.name), x.sizes, node.name)


def _per_channel(f: Function, x: Value, vector: Value, combine: str, hint: str = "") -> Value:
    """Combines a number a channel (axis 1) with every element of it."""
    column = f.reshape(vector, [vector.sizes[0], *[1] * (x.rank - 2)], hint)
    return f.apply(combine, x, f.broadcast(column, x.sizes), hint=hint)


@lowers(aten.group_norm.default)
def _group_norm(f: Function, node: fx.Node) -> Value:
    return _grouped(f, node, _float(f, node.args[0]), int(argument(node, "num_groups")))


@lowers(aten.instance_norm.default)
def _instance_norm(f: Function, node: fx.Node) -> Value:
    if not argument(node, "use_input_stats"):
        raise Unsupported("running statistics")
    x = _float(f, node.args[0])
    return _grouped(f, node, x, int(x.sizes[1]))


def _grouped(f: Function, node: fx.Node, x: Value, groups: int) -> Value:
    """A norm over groups of channels (axis 1) and all places, with a gain and a shift a channel."""
    batch, channels = x.sizes[:2]
    rows = f.reshape(x, [batch * groups, sympy.Mul(channels / groups, *x.sizes[2:])], node.name)
    y = f.reshape(layer_norm(f, rows, None, None, argument(node, "eps"), node.name), x.sizes, node.name)
    for name, combine in (("weight", "arith.mulf"), ("bias", "arith.addf")):
        if (given := argument(node, name)) is not None:
            y = _per_channel(f, y, f.value(given), combine, node.name)
    return y


@lowers(aten.batch_norm.default, aten._native_batch_norm_legit_no_training.default)
def _batch_norm(f: Function, node: fx.Node) -> Value | list[Value]:
    if argument(node, "training", False):
        raise Unsupported("training (call module.eval() first)")
    x = f.value(node.args[0])
    given = {name: argument(node, name) for name in ("weight", "bias", "running_mean", "running_var")}
    known = {name: f.tensor(value) for name, value in given.items() if value is not None}
    if any(tensor is None for tensor in known.values()) or "running_mean" not in known:
        raise Unsupported("statistics that are not known now")
    # With fixed statistics it is one product and one sum a channel.
    values = {name: tensor.detach().float() for name, tensor in known.items()}
    scale = 1.0 / torch.sqrt(values["running_var"] + argument(node, "eps"))
    scale = scale * values["weight"] if "weight" in values else scale
    shift = -values["running_mean"] * scale
    shift = shift + values["bias"] if "bias" in values else shift
    stem = f.parameters[given["running_mean"].name][0].removesuffix("running_mean")
    y = _per_channel(f, x, f.derived(f"{stem}scale", scale), "arith.mulf", node.name)
    y = _per_channel(f, y, f.derived(f"{stem}shift", shift), "arith.addf", node.name)
    return y if node.target is aten.batch_norm.default else [y]
