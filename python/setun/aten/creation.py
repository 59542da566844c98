"""Operators that make tensors from nothing but sizes and numbers."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from setun.aten.registry import argument, computed, lowers, operand, result_element
from setun.writer import FLOATS, Function, Unsupported, Value, element_of, sizes_of

aten = torch.ops.aten

_FIXED = {"zeros": 0, "ones": 1, "empty": 0}


@lowers(
    aten.zeros.default,
    aten.zeros_like.default,
    aten.new_zeros.default,
    aten.ones.default,
    aten.ones_like.default,
    aten.new_ones.default,
    aten.empty.memory_format,
    aten.empty_like.default,
    aten.new_empty.default,
    aten.full.default,
    aten.full_like.default,
    aten.new_full.default,
    aten.fill.Scalar,
    aten.fill.Tensor,
)
def _filled(f: Function, node: fx.Node) -> Value:
    name = node.target._schema.name.removeprefix("aten::").removeprefix("new_").removesuffix("_like")
    value = _FIXED[name] if name in _FIXED else argument(node, "value" if name == "fill" else "fill_value")
    return operand(f, value, result_element(node), sizes_of(node))


def progression(f: Function, start: Any, step: Any, sizes: Any, element: str, hint: str = "") -> Value:
    """`start + i * step` for each position."""
    first, distance = f.number(start, element), f.number(step, element)
    kind = "f" if element in FLOATS else "i"
    with f.generic(hint or "arange", [], sizes, element) as body:
        place = body.number(body.position(0), element)
        place = body.apply(f"arith.mul{kind}", place, distance) if step != 1 else place
        body.result = body.apply(f"arith.add{kind}", place, first) if start != 0 else place
    return body.value


@lowers(aten.arange.default, aten.arange.start, aten.arange.start_step)
def _arange(f: Function, node: fx.Node) -> Value:
    start, step = argument(node, "start", 0), argument(node, "step", 1)
    return progression(f, start, step, sizes_of(node), result_element(node), node.name)


@lowers(aten.linspace.default)
def _linspace(f: Function, node: fx.Node) -> Value:
    start, end, steps = node.args[:3]
    if not all(isinstance(n, (int, float)) for n in (start, end, steps)):
        raise Unsupported("a linspace of computed numbers")
    values = torch.linspace(start, end, steps)
    return f.derived(f"{node.name}.values", values)


def _triangle(f: Function, node: fx.Node, predicate: str) -> Value:
    """Keeps what lies on one side of a diagonal of the last two axes, and makes the rest zero."""
    x, diagonal = f.value(node.args[0]), argument(node, "diagonal", 0)
    computed(x.element)
    zero, shift = f.scalar(0, x.element), f.index(diagonal)
    with f.generic(node.name, [(x, [f"d{i}" for i in range(x.rank)])], x.sizes, x.element) as body:
        row, column = body.position(x.rank - 2), body.position(x.rank - 1)
        inside = body.compare(predicate, column, body.apply("arith.addi", row, shift))
        body.result = body.select(inside, body.elements[0], zero)
    return body.value


@lowers(aten.tril.default)
def _tril(f: Function, node: fx.Node) -> Value:
    return _triangle(f, node, "le")


@lowers(aten.triu.default)
def _triu(f: Function, node: fx.Node) -> Value:
    return _triangle(f, node, "ge")


@lowers(aten.eye.default, aten.eye.m)
def _eye(f: Function, node: fx.Node) -> Value:
    element = element_of(node)
    with f.generic(node.name, [], sizes_of(node), element) as body:
        same = body.compare("eq", body.position(0), body.position(1))
        body.result = body.cast(same, element)
    return body.value


@lowers(aten.diagonal.default)
def _diagonal(f: Function, node: fx.Node) -> Value:
    x = f.value(node.args[0])
    if argument(node, "offset", 0) != 0:
        raise Unsupported("a diagonal beside the main one")
    a, b = (int(argument(node, name, default)) % x.rank for name, default in (("dim1", 0), ("dim2", 1)))
    sizes = sizes_of(node)
    others = iter(f"d{i}" for i in range(len(sizes) - 1))
    index = [f"d{len(sizes) - 1}" if axis in (a, b) else next(others) for axis in range(x.rank)]
    if x.sizes[a] != x.sizes[b]:
        size = sizes[-1]
        x = f.slice(x, {}, [size if axis in (a, b) else n for axis, n in enumerate(x.sizes)], node.name)
    with f.generic(node.name, [(x, index)], sizes, x.element) as body:
        body.result = body.elements[0]
    return body.value
