"""Pooling over windows of images and sequences."""

from __future__ import annotations

import math
from typing import Any

import sympy
import torch
from torch import fx

from setun.aten.reductions import mean
from setun.aten.registry import argument, computed, lowers, pair
from setun.writer import Function, Unsupported, Value, sizes_of

aten = torch.ops.aten


def _image(f: Function, node: fx.Node, axes: int) -> Value:
    """The operand as `[N, C, H, W]`; a sequence is an image of one row."""
    x = f.value(node.args[0])
    if computed(x.element) != "f32" or x.rank != axes + 2:
        raise Unsupported(f"pooling of {x.type} (expects a batch of float32)")
    return x if axes == 2 else f.reshape(x, [*x.sizes[:2], 1, x.sizes[2]], node.name)


def _form(node: fx.Node, axes: int) -> tuple[list[int], list[int], list[int], list[int]]:
    """Kernel, stride, padding and dilation for two axes."""
    kernel = pair(argument(node, "kernel_size"))
    stride = pair(argument(node, "stride") or kernel)
    padding, dilation = pair(argument(node, "padding", 0)), pair(argument(node, "dilation", 1), 1)
    if axes == 2:
        return kernel, stride, padding, dilation
    return [1, kernel[-1]], [1, stride[-1]], [0, padding[-1]], [1, dilation[-1]]


def _pooled(f: Function, node: fx.Node, x: Value, form: Any, combine: str, start: float) -> Value:
    kernel, stride, padding, dilation = form
    if argument(node, "ceil_mode", False):
        raise Unsupported("pooling with ceil_mode")
    x = f.pad(x, [0, 0, *padding], [0, 0, *padding], f.scalar(start, "f32"), node.name)
    out = [sympy.Integer(1)] * (4 - len(_shape(node))) + list(_shape(node)[2:])
    sizes = [*x.sizes[:2], *out[-2:]]
    index = ["d0", "d1", *(f"d{2 + i} * {stride[i]} + d{4 + i} * {dilation[i]}" for i in (0, 1))]
    # The window has no elements of its own; it tells the sizes of the axes that are walked.
    window = f.empty(kernel, "f32")
    inputs = [(x, index), (window, ["d4", "d5"])]
    with f.generic(node.name, inputs, sizes, "f32", f.filled(start, sizes, "f32"), kernel) as body:
        body.result = body.apply(combine, body.accumulator, body.elements[0])
    return body.value


def _shape(node: fx.Node) -> Any:
    value = node.meta["val"]
    first = value[0] if isinstance(value, (list, tuple)) else value
    return [sympy.Integer(n) if isinstance(n, int) else n.node.expr for n in first.shape]


def _max_pool(f: Function, node: fx.Node, axes: int) -> Value:
    pooled = _pooled(f, node, _image(f, node, axes), _form(node, axes), "arith.maximumf", -math.inf)
    return f.reshape(pooled, _shape(node), node.name)


@lowers(aten.max_pool2d.default, aten.max_pool1d.default)
def _max_pool_plain(f: Function, node: fx.Node) -> Value:
    return _max_pool(f, node, 2 if node.target is aten.max_pool2d.default else 1)


@lowers(aten.max_pool2d_with_indices.default)
def _max_pool_with_indices(f: Function, node: fx.Node) -> list[Value]:
    return [_max_pool(f, node, 2)]


@lowers(aten.avg_pool2d.default, aten.avg_pool1d.default)
def _avg_pool(f: Function, node: fx.Node) -> Value:
    axes = 2 if node.target is aten.avg_pool2d.default else 1
    form = _form(node, axes)
    if argument(node, "divisor_override") is not None or (
        any(form[2]) and not argument(node, "count_include_pad", True)
    ):
        raise Unsupported("an average over a count of its own")
    summed = _pooled(f, node, _image(f, node, axes), form, "arith.addf", 0.0)
    size = f.filled(float(math.prod(form[0])), summed.sizes, "f32")
    return f.reshape(f.apply("arith.divf", summed, size, hint=node.name), _shape(node), node.name)


@lowers(aten.adaptive_avg_pool2d.default, aten._adaptive_avg_pool2d.default, aten.adaptive_avg_pool1d.default)
def _adaptive_avg_pool(f: Function, node: fx.Node) -> Value:
    x, sizes = f.value(node.args[0]), sizes_of(node)
    axes = 1 if node.target is aten.adaptive_avg_pool1d.default else 2
    split: list[Any] = list(x.sizes[: x.rank - axes])
    reduced = []
    for size, out in zip(x.sizes[-axes:], sizes[-axes:], strict=True):
        if out != 1 and not (size.is_Integer and int(size) % int(out) == 0):
            raise Unsupported(f"adaptive pooling of {size} places to {out}")
        reduced.append(len(split) + 1)
        split += [out, size / out]
    return f.reshape(mean(f, f.reshape(x, split, node.name), reduced, node.name), sizes, node.name)
