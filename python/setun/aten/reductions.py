"""Reductions, and what is made of them: means, norms, softmax, prefix sums."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import sympy
import torch
from torch import fx

from setun.aten.registry import argument, axes_of, axis_of, computed, lowers, result_element
from setun.writer import FLOATS, Function, Unsupported, Value, element_of, sizes_of

aten = torch.ops.aten


def kept(x: Value, axes: Sequence[int]) -> list[Any]:
    """The sizes with those of `axes` 1."""
    return [1 if axis in axes else n for axis, n in enumerate(x.sizes)]


def lowest(element: str) -> float:
    """The number that is below all others of an element type."""
    widths = {"i1": 0, "i8": -(2**7), "i32": -(2**31), "i64": -(2**63)}
    return -math.inf if element in FLOATS else widths[element]


def highest(element: str) -> float:
    """The number that is above all others of an element type."""
    return math.inf if element in FLOATS else (1 if element == "i1" else -lowest(element) - 1)


def total(f: Function, x: Value, axes: Sequence[int], hint: str = "") -> Value:
    """Sum over axes."""
    return f.reduce(x, "arith.addf" if x.element in FLOATS else "arith.addi", 0, axes, hint)


def extreme(f: Function, x: Value, axes: Sequence[int], largest: bool, hint: str = "") -> Value:
    """Largest or smallest over axes; NaN where there is one."""
    name = "max" if largest else "min"
    kind = "imumf" if x.element in FLOATS else ("ui" if x.element == "i1" else "si")
    return f.reduce(x, f"arith.{name}{kind}", lowest(x.element) if largest else highest(x.element), axes, hint)


def count(f: Function, x: Value, axes: Sequence[int], less: float = 0) -> Value:
    """The number of elements along axes, less a correction, as an f32 scalar."""
    number = sympy.Mul(*(x.sizes[axis] for axis in axes)) - sympy.sympify(less)
    return f.scalar(float(number), "f32") if number.is_number else f.number(number, "f32")


def mean(f: Function, x: Value, axes: Sequence[int], hint: str = "") -> Value:
    """Mean over axes, as f32."""
    summed = total(f, x, axes)
    return f.apply("arith.divf", summed, f.broadcast(count(f, x, axes), summed.sizes), hint=hint)


def variance(f: Function, x: Value, axes: Sequence[int], less: float, hint: str = "") -> Value:
    """Mean square distance from the mean, over the number of elements less a correction."""
    centred = f.apply("arith.subf", x, f.broadcast(f.reshape(mean(f, x, axes), kept(x, axes)), x.sizes))
    summed = total(f, f.apply("arith.mulf", centred, centred), axes)
    return f.apply("arith.divf", summed, f.broadcast(count(f, x, axes, less), summed.sizes), hint=hint)


def _input(f: Function, node: fx.Node, element: str | None = None) -> tuple[Value, list[int]]:
    """The operand in an element type (the result's if None), and the axes of `dim`."""
    x = f.cast(f.value(node.args[0]), computed(element or element_of(node)))
    return x, axes_of(argument(node, "dim"), x.rank)


def _result(f: Function, node: fx.Node, x: Value) -> Value:
    return f.reshape(x, sizes_of(node), node.name)


@lowers(aten.sum.default, aten.sum.dim_IntList)
def _sum(f: Function, node: fx.Node) -> Value:
    return _result(f, node, total(f, *_input(f, node), node.name))


@lowers(aten.mean.default, aten.mean.dim)
def _mean(f: Function, node: fx.Node) -> Value:
    return _result(f, node, mean(f, *_input(f, node), node.name))


@lowers(aten.prod.default, aten.prod.dim_int)
def _prod(f: Function, node: fx.Node) -> Value:
    x, axes = _input(f, node)
    return _result(f, node, f.reduce(x, "arith.mulf" if x.element in FLOATS else "arith.muli", 1, axes, node.name))


@lowers(aten.amax.default, aten.amin.default, aten.max.default, aten.min.default)
def _amax(f: Function, node: fx.Node) -> Value:
    return _result(
        f, node, extreme(f, *_input(f, node), node.target in (aten.amax.default, aten.max.default), node.name)
    )


@lowers(aten.any.default, aten.any.dim, aten.any.dims, aten.all.default, aten.all.dim, aten.all.dims)
def _any(f: Function, node: fx.Node) -> Value:
    x, axes = _input(f, node, "i1")
    some = node.target in (aten.any.default, aten.any.dim, aten.any.dims)
    return _result(f, node, f.reduce(x, "arith.ori" if some else "arith.andi", 0 if some else 1, axes, node.name))


def _position(f: Function, x: Value, axis: int, largest: bool, hint: str) -> Value:
    """Where the first of the largest (smallest) is along an axis, as i64; the axis is gone."""
    best = f.broadcast(f.reshape(extreme(f, x, [axis], largest), kept(x, [axis])), x.sizes)
    found = f.compare("eq", x, best)
    if x.element in FLOATS:
        # The extreme is NaN where there is one, and then that is the place.
        found = f.apply("arith.ori", found, f.compare("ne", x, x))
    never = f.filled(highest("i64"), x.sizes, "i64")
    places = f.select(found, f.iota(x.sizes, axis), never)
    return f.reduce(places, "arith.minsi", highest("i64"), [axis], hint)


@lowers(aten.argmax.default, aten.argmin.default)
def _argmax(f: Function, node: fx.Node) -> Value:
    x = f.value(node.args[0])
    computed(x.element)
    if argument(node, "dim") is None:
        x, axis = f.reshape(x, [sympy.Mul(*x.sizes)]), 0
    else:
        axis = axis_of(node, x.rank)
    return _result(f, node, _position(f, x, axis, node.target is aten.argmax.default, node.name))


@lowers(aten.max.dim, aten.min.dim)
def _max_dim(f: Function, node: fx.Node) -> list[Value]:
    x = f.value(node.args[0])
    computed(x.element)
    axis, largest = axis_of(node, x.rank), node.target is aten.max.dim
    used = {user.args[1] for user in node.users if len(user.args) > 1}
    sizes = tuple(node.meta["val"][0].shape)
    best = f.reshape(extreme(f, x, [axis], largest, node.name), sizes)
    if 1 not in used:
        return [best]
    return [best, f.reshape(_position(f, x, axis, largest, f"{node.name}.indices"), sizes)]


def _correction(node: fx.Node) -> float:
    if "correction" in (a.name for a in node.target._schema.arguments):
        given = argument(node, "correction")
        return 1 if given is None else given
    return 1 if argument(node, "unbiased", True) else 0


@lowers(aten.var.default, aten.var.dim, aten.var.correction, aten.std.default, aten.std.dim, aten.std.correction)
def _var(f: Function, node: fx.Node) -> Value:
    x, axes = _input(f, node)
    result = _result(f, node, variance(f, x, axes, _correction(node), node.name))
    return f.apply("math.sqrt", result, hint=node.name) if "std" in str(node.target) else result


@lowers(aten.var_mean.correction, aten.var_mean.default, aten.var_mean.dim)
def _var_mean(f: Function, node: fx.Node) -> list[Value]:
    x = f.cast(f.value(node.args[0]), "f32")
    axes, sizes = axes_of(argument(node, "dim"), x.rank), tuple(node.meta["val"][0].shape)
    return [
        f.reshape(variance(f, x, axes, _correction(node), node.name), sizes),
        f.reshape(mean(f, x, axes, node.name), sizes),
    ]


@lowers(aten.linalg_vector_norm.default, aten.norm.ScalarOpt_dim, aten.norm.Scalar)
def _norm(f: Function, node: fx.Node) -> Value:
    order = argument(node, "ord", argument(node, "p", 2))
    x, axes = _input(f, node)
    if order == 2:
        result = f.apply("math.sqrt", total(f, f.apply("arith.mulf", x, x), axes), hint=node.name)
    elif order == 1:
        result = total(f, f.apply("math.absf", x), axes, node.name)
    elif order in (math.inf, -math.inf):
        result = extreme(f, f.apply("math.absf", x), axes, order > 0, node.name)
    else:
        raise Unsupported(f"the norm of order {order}")
    return _result(f, node, result)


def _exponentials(f: Function, x: Value, axes: Sequence[int]) -> tuple[Value, Value, Value]:
    """`x - max`, its exponential, and the sum of that, repeated to the shape of `x`."""
    best = f.broadcast(f.reshape(extreme(f, x, axes, True), kept(x, axes)), x.sizes)
    shifted = f.apply("arith.subf", x, best)
    powers = f.apply("math.exp", shifted)
    return shifted, powers, f.broadcast(f.reshape(total(f, powers, axes), kept(x, axes)), x.sizes)


def softmax(f: Function, x: Value, axis: int, hint: str = "") -> Value:
    """`exp(x - max) / sum(exp(x - max))` along an axis."""
    if axis == x.rank - 1 and x.element == "f32":
        return f.apply("bitnet.softmax", x, hint=hint)
    _, powers, summed = _exponentials(f, x, [axis])
    return f.apply("arith.divf", powers, summed, hint=hint)


@lowers(aten.softmax.int, aten._softmax.default, aten._safe_softmax.default)
def _softmax(f: Function, node: fx.Node) -> Value:
    x = f.cast(f.value(node.args[0]), result_element(node))
    return softmax(f, x, axis_of(node, x.rank), node.name)


@lowers(aten.log_softmax.int, aten._log_softmax.default)
def _log_softmax(f: Function, node: fx.Node) -> Value:
    x = f.cast(f.value(node.args[0]), result_element(node))
    shifted, _, summed = _exponentials(f, x, [axis_of(node, x.rank)])
    return f.apply("arith.subf", shifted, f.apply("math.log", summed), hint=node.name)


@lowers(aten.logsumexp.default)
def _logsumexp(f: Function, node: fx.Node) -> Value:
    x, axes = _input(f, node)
    best = extreme(f, x, axes, True)
    shifted = f.apply("arith.subf", x, f.broadcast(f.reshape(best, kept(x, axes)), x.sizes))
    summed = f.apply("math.log", total(f, f.apply("math.exp", shifted), axes))
    return _result(f, node, f.apply("arith.addf", summed, best, hint=node.name))


@lowers(aten.cumsum.default)
def _cumsum(f: Function, node: fx.Node) -> Value:
    """Element by element: the sum of what is not behind it, in order."""
    x = f.cast(f.value(node.args[0]), result_element(node))
    axis, last = axis_of(node, x.rank), f"d{x.rank}"
    index = [last if i == axis else f"d{i}" for i in range(x.rank)]
    into, zero = f.filled(0, x.sizes, x.element), f.scalar(0, x.element)
    with f.generic(node.name, [(x, index)], x.sizes, x.element, into, [x.sizes[axis]]) as body:
        here, there = body.position(axis), body.position(x.rank)
        added = body.select(body.compare("le", there, here), body.elements[0], zero)
        body.result = body.apply("arith.addf" if x.element in FLOATS else "arith.addi", body.accumulator, added)
    return body.value
