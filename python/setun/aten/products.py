"""Matrix products, convolutions and attention, in float32.

A product with a parameter is a `bitnet.dense`; a convolution is one too, over the windows of its input.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import sympy
import torch
from torch import fx

from setun.aten.reductions import softmax
from setun.aten.registry import argument, computed, lowers, operand, pair, result_element
from setun.writer import Function, Unsupported, Value, expression, float_literal, sizes_of, tensor_type

aten = torch.ops.aten


def _float(f: Function, node: Any) -> Value:
    x = f.value(node)
    if computed(x.element) != "f32":
        raise Unsupported(f"a product of {x.element}")
    return x


def dense(f: Function, x: Value, w: Value, bias: Value | None, hint: str) -> Value:
    """`x [.., K]` by a weight `w [N, K]`, as `[.., N]`."""
    rows, columns = w.sizes
    flat = f.reshape(x, [sympy.Mul(*x.sizes[:-1]), columns], hint)
    operands = [flat, w] if bias is None else [flat, w, bias]
    sizes = (flat.sizes[0], rows)
    text = f"bitnet.dense {flat.name}, {w.name}" + ("" if bias is None else f" bias({bias.name})")
    types = ", ".join(value.type for value in operands)
    y = f.op(hint, f"{text} : ({types}) -> {tensor_type(sizes, 'f32')}", "f32", sizes)
    return f.reshape(y, [*x.sizes[:-1], rows], hint)


def matmul(f: Function, a: Value, b: Value, hint: str = "") -> Value:
    """`[.., M, K]` by `[.., K, N]`, with the leading axes repeated to each other by torch's rules."""
    batch = _together(a.sizes[:-2], b.sizes[:-2])
    rows, inner, columns = a.sizes[-2], a.sizes[-1], b.sizes[-1]
    if not batch:
        return _product(f, "matmul", a, b, (rows, columns), hint)
    if b.rank == 2:
        flat = f.reshape(a, [sympy.Mul(*a.sizes[:-1]), inner], hint)
        y = _product(f, "matmul", flat, b, (flat.sizes[0], columns), hint)
        return f.reshape(y, [*a.sizes[:-1], columns], hint)
    count = sympy.Mul(*batch)
    a = f.reshape(f.broadcast(a, [*batch, rows, inner], hint), [count, rows, inner], hint)
    b = f.reshape(f.broadcast(b, [*batch, inner, columns], hint), [count, inner, columns], hint)
    y = _product(f, "batch_matmul", a, b, (count, rows, columns), hint)
    return f.reshape(y, [*batch, rows, columns], hint)


def _together(a: Sequence[sympy.Expr], b: Sequence[sympy.Expr]) -> list[sympy.Expr]:
    """The shape that two repeat to."""
    rank = max(len(a), len(b))
    one = sympy.Integer(1)
    a, b = [one] * (rank - len(a)) + list(a), [one] * (rank - len(b)) + list(b)
    return [y if x == 1 else x for x, y in zip(a, b, strict=True)]


def _product(f: Function, name: str, a: Value, b: Value, sizes: Sequence[Any], hint: str) -> Value:
    into = f.filled(0.0, sizes, "f32")
    text = f"linalg.{name} ins({a.name}, {b.name} : {a.type}, {b.type}) outs({into.name} : {into.type}) -> {into.type}"
    return f.op(hint or name, text, "f32", sizes)


@lowers(aten.linear.default)
def _linear(f: Function, node: fx.Node) -> Value:
    x_node, w_node, *rest = node.args
    x, bias_node = _float(f, x_node), rest[0] if rest else None
    constant = f.is_constant(w_node) and (bias_node is None or f.is_constant(bias_node))
    x = f.reshape(x, [1, *x.sizes], node.name) if x.rank == 1 else x
    if constant:
        bias = None if bias_node is None else f.weight(bias_node, "f32")
        return f.reshape(dense(f, x, f.weight(w_node, "f32"), bias, node.name), sizes_of(node), node.name)
    y = matmul(f, x, f.transpose(_float(f, w_node), [1, 0], node.name), node.name)
    if bias_node is not None:
        y = f.apply("arith.addf", y, f.broadcast(_float(f, bias_node), y.sizes), hint=node.name)
    return f.reshape(y, sizes_of(node), node.name)


@lowers(aten.matmul.default, aten.mm.default, aten.bmm.default, aten.mv.default, aten.dot.default)
def _matmul(f: Function, node: fx.Node) -> Value:
    weight = f.tensor(node.args[1])
    if weight is not None and weight.dim() == 2 and weight.dtype == torch.float32 and f.tensor(node.args[0]) is None:
        x, name = _float(f, node.args[0]), f.parameters[node.args[1].name][0]
        if x.rank > 1:
            return dense(f, x, f.derived(f"{name}.transposed", weight.t().contiguous()), None, node.name)
    a, b = _float(f, node.args[0]), _float(f, node.args[1])
    a = f.reshape(a, [1, *a.sizes], node.name) if a.rank == 1 else a
    b = f.reshape(b, [*b.sizes, 1], node.name) if b.rank == 1 else b
    return f.reshape(matmul(f, a, b, node.name), sizes_of(node), node.name)


@lowers(aten.addmm.default, aten.baddbmm.default)
def _addmm(f: Function, node: fx.Node) -> Value:
    if argument(node, "alpha", 1) != 1 or argument(node, "beta", 1) != 1:
        raise Unsupported("alpha and beta")
    y = matmul(f, _float(f, node.args[1]), _float(f, node.args[2]), node.name)
    return f.apply("arith.addf", y, f.broadcast(_float(f, node.args[0]), y.sizes), hint=node.name)


# Convolutions.


def _windows(f: Function, x: Value, kernel: Sequence[int], stride: Any, dilation: Any, out: Any, hint: str) -> Value:
    """The windows of an image `[N, C, H, W]`, one a row: `[N * OH * OW, C * kh * kw]`."""
    batch, channels = x.sizes[:2]
    sizes = [batch, *out, channels, *kernel]
    index = ["d0", "d3"]
    index += [f"d{1 + i} * {stride[i]} + d{4 + i} * {dilation[i]}" for i in (0, 1)]
    with f.generic(f"{hint}.windows", [(x, index)], sizes, "f32") as body:
        body.result = body.elements[0]
    return f.reshape(body.value, [sympy.Mul(*sizes[:3]), sympy.Mul(*sizes[3:])], hint)


def _grouped(f: Function, x: Value, w: Value, groups: int, stride: Any, dilation: Any, out: Any, hint: str) -> Value:
    """Convolution in groups of channels, summed over channels and then the window, in order."""
    batch, channels, height, width = x.sizes
    filters, inner, *kernel = w.sizes
    x = f.reshape(x, [batch, groups, channels / groups, height, width], hint)
    w = f.reshape(w, [groups, filters / groups, inner, *kernel], hint)
    # d0 .. d4 are image, group, filter, row and column; d5, d6 and d7 channel, row and column of the window.
    windows = ["d0", "d1", "d5", *(f"d{3 + i} * {stride[i]} + d{6 + i} * {dilation[i]}" for i in (0, 1))]
    sizes = [batch, groups, filters / groups, *out]
    inputs = [(x, windows), (w, ["d1", "d2", "d5", "d6", "d7"])]
    with f.generic(hint, inputs, sizes, "f32", f.filled(0.0, sizes, "f32"), [inner, *kernel]) as body:
        body.result = body.apply("arith.addf", body.accumulator, body.apply("arith.mulf", *body.elements))
    return f.reshape(body.value, [batch, filters, *out], hint)


def _padding(node: fx.Node, kernel: Sequence[int], dilation: Sequence[int]) -> tuple[list[int], list[int]]:
    """What is added before and after each of the two last axes."""
    padding = argument(node, "padding", 0)
    if padding == "same":
        whole = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        return [n // 2 for n in whole], [n - n // 2 for n in whole]
    low = pair(0 if padding == "valid" else padding)
    return low, low


@lowers(
    aten.conv2d.default, aten.conv2d.padding, aten.conv1d.default, aten.conv1d.padding, aten.convolution.default
)  # fmt: skip
def _convolution(f: Function, node: fx.Node) -> Value:
    x, w, bias = _float(f, node.args[0]), _float(f, node.args[1]), argument(node, "bias")
    if argument(node, "transposed", False):
        raise Unsupported("a transposed convolution")
    rank = x.rank
    if rank not in (3, 4) or w.rank != rank:
        raise Unsupported(f"a convolution of {rank} axes (expects a batch of sequences or images)")
    # A convolution along one axis is one of images with a single row.
    stride, dilation = pair(argument(node, "stride"), 1), pair(argument(node, "dilation"), 1)
    out = list(sizes_of(node)[2:])
    kernel = [int(n) for n in w.sizes[2:]]
    if rank == 3:
        x, w = (f.reshape(v, [*v.sizes[:2], 1, v.sizes[2]], node.name) for v in (x, w))
        stride, dilation, out, kernel = [1, stride[-1]], [1, dilation[-1]], [sympy.Integer(1), *out], [1, *kernel]
    low, high = _padding(node, kernel, dilation)
    if rank == 3:
        low, high = [0, low[-1]], [0, high[-1]]
    x = f.pad(x, [0, 0, *low], [0, 0, *high], f.scalar(0.0, "f32"), node.name)
    groups = argument(node, "groups", 1)
    if groups == 1 and f.is_constant(node.args[1]):
        bias_value = None if bias is None else f.weight(bias, "f32")
        y = _by_windows(f, node, x, w, bias_value, (stride, dilation, kernel, out))
    else:
        y = _grouped(f, x, w, groups, stride, dilation, out, node.name)
        if bias is not None:
            added = f.broadcast(f.reshape(_float(f, bias), [w.sizes[0], 1, 1]), y.sizes)
            y = f.apply("arith.addf", y, added, hint=node.name)
    return f.reshape(y, sizes_of(node), node.name)


def _by_windows(f: Function, node: fx.Node, x: Value, w: Value, bias: Value | None, form: Any) -> Value:
    """A convolution with a parameter as one product over windows."""
    stride, dilation, kernel, out = form
    name, tensor = f.parameters[node.args[1].name]
    if tensor.is_meta:
        raise Unsupported(f"a convolution with the weight {name}, whose values are not known")
    matrix = f.derived(f"{name}.rows", tensor.detach().float().flatten(1))
    rows = dense(f, _windows(f, x, kernel, stride, dilation, out, node.name), matrix, bias, node.name)
    y = f.reshape(rows, [x.sizes[0], *out, w.sizes[0]], node.name)
    return f.transpose(y, [0, 3, 1, 2], node.name)


# Attention.


@lowers(aten.scaled_dot_product_attention.default)
def _attention(f: Function, node: fx.Node) -> Value:
    q, k, v = (_float(f, x) for x in node.args[:3])
    if argument(node, "dropout_p", 0.0):
        raise Unsupported("dropout (call module.eval() first)")
    scale = argument(node, "scale")
    scale = 1.0 / math.sqrt(int(q.sizes[-1])) if scale is None else scale
    grouped = argument(node, "enable_gqa", False)
    result_element(node)
    if _has_operation(q, k, v, grouped):
        return _zero_unseen(f, node, _batch_attention(f, node, q, k, v, scale))
    if grouped and q.sizes[-3] != k.sizes[-3]:
        k, v = (_repeat_heads(f, x, q.sizes[-3], node.name) for x in (k, v))
    order = [*range(k.rank - 2), k.rank - 1, k.rank - 2]
    scores = matmul(f, q, f.transpose(k, order, node.name), f"{node.name}.scores")
    scores = f.apply("arith.mulf", scores, f.filled(scale, scores.sizes, "f32"))
    weights = softmax(f, _masked(f, node, scores), scores.rank - 1, f"{node.name}.weights")
    return _zero_unseen(f, node, matmul(f, weights, v, node.name))


def _zero_unseen(f: Function, node: fx.Node, y: Value) -> Value:
    """`y`, with zeros for tokens that the mask lets see nothing: PyTorch defines them so."""
    mask = argument(node, "attn_mask")
    if mask is None:
        return y
    known = f.tensor(mask)
    if known is not None and bool((known if known.dtype == torch.bool else known > -math.inf).any(-1).all()):
        return y
    seen = f.value(mask)
    if seen.element != "i1":
        seen = f.compare("gt", seen, f.filled(-math.inf, seen.sizes, seen.element))
    some = f.reshape(f.reduce(seen, "arith.ori", 0, [seen.rank - 1]), [*seen.sizes[:-1], 1], node.name)
    return f.select(f.broadcast(some, y.sizes), y, f.filled(0.0, y.sizes, "f32"), node.name)


def _has_operation(q: Value, k: Value, v: Value, grouped: bool) -> bool:
    """Whether `bitnet.batch_attention` computes it: heads and widths known, and nothing repeated but heads."""
    if not q.rank == k.rank == v.rank or q.rank not in (3, 4) or k.sizes != v.sizes or q.sizes[-1] != k.sizes[-1]:
        return False
    heads = [x.sizes[-3] if x.rank == 4 else sympy.Integer(1) for x in (q, k)]
    known = all(size.is_Integer for size in (*heads, q.sizes[-1]))
    return known and q.sizes[0] == k.sizes[0] and (heads[0] == heads[1] or (grouped and heads[0] % heads[1] == 0))


def _batch_attention(f: Function, node: fx.Node, q: Value, k: Value, v: Value, scale: float) -> Value:
    """Attention of `[B, H, T, D]` as the operation on `[B, T, H, D]`; without the axis of heads, of one head."""
    order = [0, 2, 1, 3]

    def by_tokens(x: Value) -> Value:
        if x.rank == 3:
            return f.reshape(x, [*x.sizes[:2], 1, x.sizes[2]], node.name)
        return f.transpose(x, order, node.name)

    operands = [by_tokens(x) for x in (q, k, v)]
    text = f"bitnet.batch_attention {', '.join(x.name for x in operands)}"
    if argument(node, "attn_mask") is not None:
        operands.append(_added(f, node, q, k))
        text += f" mask({operands[-1].name})"
    causal = "causal, " if argument(node, "is_causal", False) else ""
    types = ", ".join(x.type for x in operands)
    text += f" {{{causal}scale = {float_literal(scale)} : f32}} : ({types}) -> {operands[0].type}"
    y = f.op(node.name, text, "f32", operands[0].sizes)
    return f.reshape(y, q.sizes, node.name) if q.rank == 3 else f.transpose(y, order, node.name)


def _added(f: Function, node: fx.Node, q: Value, k: Value) -> Value:
    """The mask as what is added to scores: `[B or 1, H or 1, T, S]`."""
    mask = f.value(argument(node, "attn_mask"))
    if mask.element == "i1":
        zero, never = (f.filled(number, mask.sizes, "f32") for number in (0.0, -math.inf))
        mask = f.select(mask, zero, never)
    mask = f.cast(mask, "f32")
    leading = [sympy.Integer(1)] * (q.rank - mask.rank) + list(mask.sizes[:-2])
    mask = f.broadcast(mask, [*mask.sizes[:-2], q.sizes[-2], k.sizes[-2]], node.name)
    leading = leading if q.rank == 4 else [leading[0], sympy.Integer(1)]
    return f.reshape(mask, [*leading, q.sizes[-2], k.sizes[-2]], node.name)


def _masked(f: Function, node: fx.Node, scores: Value) -> Value:
    """Scores with those that may not be seen lowered, by the mask or causally."""
    mask = argument(node, "attn_mask")
    never = f.scalar(-math.inf, "f32")
    if mask is not None:
        value = f.value(mask)
        if value.element != "i1":
            return f.apply("arith.addf", scores, operand(f, mask, "f32", scores.sizes))
        never = f.broadcast(never, scores.sizes)
        return f.select(f.broadcast(value, scores.sizes), scores, never)
    if not argument(node, "is_causal", False):
        return scores
    dims = [f"d{i}" for i in range(scores.rank)]
    with f.generic(f"{node.name}.causal", [(scores, dims)], scores.sizes, "f32") as body:
        seen = body.compare("le", body.position(scores.rank - 1), body.position(scores.rank - 2))
        body.result = body.select(seen, body.elements[0], never)
    return body.value


def _repeat_heads(f: Function, x: Value, heads: sympy.Expr, hint: str) -> Value:
    """Keys or values `[.., HKV, T, D]` with each head repeated next to itself, `[.., H, T, D]`."""
    *batch, own, tokens, width = x.sizes
    single = f.reshape(x, [*batch, own, 1, tokens, width], hint)
    wide = f.broadcast(single, [*batch, own, expression(heads) / own, tokens, width], hint)
    return f.reshape(wide, [*batch, heads, tokens, width], hint)
