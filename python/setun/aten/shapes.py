"""Operators that arrange elements anew: views, slices, concatenation, padding, repetition."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import sympy
import torch
from torch import fx

from setun.aten.registry import argument, axes_of, axis_of, lowers
from setun.writer import Function, Unsupported, Value, element_of, expression, sizes_of

aten = torch.ops.aten


@lowers(
    aten.view.default,
    aten.reshape.default,
    aten._unsafe_view.default,
    aten.unflatten.int,
    aten.flatten.using_ints,
    aten.unsqueeze.default,
    aten.view_as.default,
    aten.reshape_as.default,
)
def _reshape(f: Function, node: fx.Node) -> Value:
    return f.reshape(f.value(node.args[0]), sizes_of(node), node.name)


@lowers(aten.squeeze.default, aten.squeeze.dim, aten.squeeze.dims)
def _squeeze(f: Function, node: fx.Node) -> Value:
    x = f.value(node.args[0])
    for axis in axes_of(node.args[1] if len(node.args) > 1 else None, x.rank):
        if not x.sizes[axis].is_Integer:
            # The axis would go where the size is 1, and the result have another rank.
            message = f"{node.target} of {x.name.removeprefix('%')!r} expects at least 2 in dimension {axis}"
            f.require("ge", f.index(x.sizes[axis]), sympy.Integer(2), message)
    return f.reshape(x, sizes_of(node), node.name)


@lowers(
    aten.permute.default,
    aten.transpose.int,
    aten.t.default,
    aten.numpy_T.default,
    aten.mT.default,
    aten.swapaxes.default,
)
def _permute(f: Function, node: fx.Node) -> Value:
    x = f.value(node.args[0])
    order = list(range(x.rank))
    if node.target is aten.permute.default:
        order = [int(dim) % x.rank for dim in node.args[1]]
    elif node.target is aten.numpy_T.default:
        order.reverse()
    elif x.rank > 1:
        a, b = (int(dim) % x.rank for dim in (node.args[1:] or (-2, -1)))
        order[a], order[b] = order[b], order[a]
    return f.transpose(x, order, node.name)


@lowers(aten.movedim.int)
def _movedim(f: Function, node: fx.Node) -> Value:
    x = f.value(node.args[0])
    source, target = (int(dim) % x.rank for dim in node.args[1:])
    order = [axis for axis in range(x.rank) if axis != source]
    order.insert(target, source)
    return f.transpose(x, order, node.name)


@lowers(aten.expand.default, aten.expand_as.default, aten.broadcast_to.default)
def _expand(f: Function, node: fx.Node) -> Value:
    return f.broadcast(f.value(node.args[0]), sizes_of(node), node.name)


@lowers(aten.repeat.default, aten.tile.default)
def _repeat(f: Function, node: fx.Node) -> Value:
    x = f.value(node.args[0])
    repeats = [expression(n.meta["val"] if isinstance(n, fx.Node) else n) for n in node.args[1]]
    rank = max(len(repeats), x.rank)
    repeats = [sympy.Integer(1)] * (rank - len(repeats)) + repeats
    sizes = [sympy.Integer(1)] * (rank - x.rank) + list(x.sizes)
    return _repeated(f, x, repeats, sizes, inner=False, target=sizes_of(node), hint=node.name)


def _repeated(
    f: Function, x: Value, repeats: Sequence[Any], sizes: Sequence[Any], inner: bool, target: Sequence[Any], hint: str
) -> Value:
    """Repeats whole axes, or each element where it is (`inner`)."""
    single: list[Any] = []
    wanted: list[Any] = []
    for count, size in zip(repeats, sizes, strict=True):
        if count == 1:
            single, wanted = [*single, size], [*wanted, size]
        elif inner:
            single, wanted = [*single, size, 1], [*wanted, size, count]
        else:
            single, wanted = [*single, 1, size], [*wanted, count, size]
    return f.reshape(f.broadcast(f.reshape(x, single, hint), wanted, hint), target, hint)


@lowers(aten.repeat_interleave.self_int)
def _repeat_interleave(f: Function, node: fx.Node) -> Value:
    x, count = f.value(node.args[0]), node.args[1]
    if isinstance(count, fx.Node):
        raise Unsupported("a computed number of repetitions")
    if argument(node, "dim") is None:
        x, axis = f.reshape(x, [sympy.Mul(*x.sizes)], node.name), 0
    else:
        axis = axis_of(node, x.rank)
    repeats = [count if i == axis else 1 for i in range(x.rank)]
    return _repeated(f, x, repeats, x.sizes, inner=True, target=sizes_of(node), hint=node.name)


# Slices.


def start_of(f: Function, start: Any, length: sympy.Expr, hint: str = "start") -> str:
    """A start index, counted from the end if negative and at most the length, as an integer or an SSA name."""
    if isinstance(start, fx.Node):
        start = start.meta["val"]
    if not isinstance(start, (int, torch.SymInt)):
        raise Unsupported("a slice whose start is computed from values")
    expr = expression(start)
    if not expr.is_Integer:
        return _computed_start(f, expr, length, hint)
    if expr >= 0:
        return str(min(int(expr), int(length)) if length.is_Integer else int(expr))
    if length.is_Integer:
        return str(max(int(length + expr), 0))
    # An axis has at least one element, so the last one exists; further back the start is clamped as Python does.
    begin = f.op(hint, f"arith.subi {f.index(length).name}, {f.index(-expr).name} : index", "index")
    if expr < -1:
        begin = f.op(hint, f"arith.maxsi {begin.name}, {f.index(0).name} : index", "index")
    return begin.name


def _computed_start(f: Function, expr: sympy.Expr, length: sympy.Expr, hint: str) -> str:
    """A start that depends on sizes. Relations of them that torch relied on are conditions of the entry."""
    if expr.is_nonnegative:
        return f.size(expr)
    if expr.is_negative:
        return f.size(sympy.expand(length + expr))
    at, end = f.index(expr), f.index(length)
    wrapped = f.op(hint, f"arith.addi {at.name}, {end.name} : index", "index")
    at = f.select(f.compare("lt", at, f.index(0)), wrapped, at, hint)
    at = f.op(hint, f"arith.maxsi {at.name}, {f.index(0).name} : index", "index")
    return f.op(hint, f"arith.minsi {at.name}, {end.name} : index", "index").name


@lowers(aten.slice.Tensor)
def _slice(f: Function, node: fx.Node) -> Value:
    x, sizes = f.value(node.args[0]), sizes_of(node)
    axis, step = axis_of(node, x.rank), argument(node, "step", 1)
    if sizes[axis] == x.sizes[axis]:
        return x
    if not isinstance(step, int):
        raise Unsupported("a slice with a computed step")
    begin = start_of(f, argument(node, "start") or 0, x.sizes[axis])
    return f.slice(x, {axis: begin}, sizes, node.name, {axis: step})


@lowers(aten.narrow.default)
def _narrow(f: Function, node: fx.Node) -> Value:
    x, sizes = f.value(node.args[0]), sizes_of(node)
    axis = axis_of(node, x.rank)
    return f.slice(x, {axis: start_of(f, node.args[2], x.sizes[axis])}, sizes, node.name)


@lowers(aten.select.int)
def _select(f: Function, node: fx.Node) -> Value:
    x = f.value(node.args[0])
    axis = axis_of(node, x.rank)
    box = [1 if i == axis else n for i, n in enumerate(x.sizes)]
    return f.slice(x, {axis: start_of(f, node.args[2], x.sizes[axis])}, box, node.name, dropped=axis)


def _parts(f: Function, node: fx.Node, single: bool) -> list[Value]:
    """Consecutive slices along an axis, of the shapes of the results; `single`: without the axis."""
    x, values, at = f.value(node.args[0]), [], sympy.Integer(0)
    axis = axis_of(node, x.rank)
    for number, part in enumerate(node.meta["val"]):
        size = 1 if single else expression(part.shape[axis])
        box = [size if i == axis else n for i, n in enumerate(x.sizes)]
        name = f"{node.name}.{number}"
        values.append(f.slice(x, {axis: f.size(at)}, box, name, dropped=axis if single else None))
        at = at + size
    return values


@lowers(
    aten.split.Tensor,
    aten.split.sizes,
    aten.split_with_sizes.default,
    aten.chunk.default,
    aten.tensor_split.sections,
    aten.unsafe_chunk.default,
    aten.unsafe_split.Tensor,
)
def _split(f: Function, node: fx.Node) -> list[Value]:
    return _parts(f, node, single=False)


@lowers(aten.unbind.int)
def _unbind(f: Function, node: fx.Node) -> list[Value]:
    return _parts(f, node, single=True)


def _written(f: Function, node: fx.Node) -> tuple[Value, Value, int]:
    """The tensor that is written into, what is written, and the axis."""
    into = f.value(node.args[0])
    return into, f.cast(f.value(node.args[1]), into.element), axis_of(node, into.rank)


@lowers(aten.slice_scatter.default)
def _slice_scatter(f: Function, node: fx.Node) -> Value:
    into, source, axis = _written(f, node)
    step = argument(node, "step", 1)
    if source.sizes == into.sizes and step == 1:
        return source
    begin = start_of(f, argument(node, "start") or 0, into.sizes[axis])
    return f.insert(source, into, {axis: begin}, source.sizes, node.name, {axis: step})


@lowers(aten.select_scatter.default)
def _select_scatter(f: Function, node: fx.Node) -> Value:
    into, source, axis = _written(f, node)
    begin = start_of(f, argument(node, "index"), into.sizes[axis])
    box = [1 if i == axis else n for i, n in enumerate(into.sizes)]
    return f.insert(source, into, {axis: begin}, box, node.name)


# Several tensors.


def _listed(f: Function, node: fx.Node) -> list[Value]:
    """The tensors of a list, in the result's element type."""
    element = element_of(node)
    return [f.cast(f.value(item), element) for item in node.args[0]]


@lowers(aten.cat.default, aten.concat.default, aten.concatenate.default)
def _cat(f: Function, node: fx.Node) -> Value:
    sizes = sizes_of(node)
    # torch lets empty tensors of one axis join anything.
    parts = [part for part in _listed(f, node) if part.sizes != (sympy.Integer(0),)]
    return f.concat(parts, axis_of(node, len(sizes)), sizes, node.name)


@lowers(aten.stack.default)
def _stack(f: Function, node: fx.Node) -> Value:
    sizes = sizes_of(node)
    axis = axis_of(node, len(sizes))
    single = [*sizes[:axis], 1, *sizes[axis + 1 :]]
    parts = [f.reshape(part, single, node.name) for part in _listed(f, node)]
    return f.concat(parts, axis, sizes, node.name)


def _amounts(f: Function, node: fx.Node, rank: int) -> tuple[list[sympy.Expr], list[sympy.Expr]]:
    """What padding adds before and after each axis; below zero it takes away. Arguments start with the last axis."""
    amounts = [expression(n.meta["val"] if isinstance(n, fx.Node) else n) for n in node.args[1]]
    low, high = [sympy.Integer(0)] * rank, [sympy.Integer(0)] * rank
    for number in range(len(amounts) // 2):
        low[rank - 1 - number], high[rank - 1 - number] = amounts[2 * number : 2 * number + 2]
    return low, high


@lowers(aten.constant_pad_nd.default, aten.pad.default)
def _pad(f: Function, node: fx.Node) -> Value:
    x, mode = f.value(node.args[0]), argument(node, "mode", "constant")
    low, high = _amounts(f, node, x.rank)
    if mode in ("reflect", "replicate", "circular"):
        return _wrapped(f, node, low, mode)
    if mode not in (None, "constant"):
        raise Unsupported(f"padding by {mode}")

    def below(n: sympy.Expr) -> sympy.Expr:
        return -n if n.is_Integer and n < 0 else sympy.Integer(0)

    rest = [size - below(a) - below(b) for size, a, b in zip(x.sizes, low, high, strict=True)]
    if tuple(rest) != x.sizes:
        x = f.slice(x, {axis: str(below(n)) for axis, n in enumerate(low)}, rest, node.name)
    border = f.number(argument(node, "value") or 0, x.element)
    return f.pad(x, [n + below(n) for n in low], [n + below(n) for n in high], border, node.name)


def _wrapped(f: Function, node: fx.Node, low: Sequence[sympy.Expr], mode: str) -> Value:
    """Padding with elements of the tensor: mirrored at the edge, the edge's own, or from the other end."""
    x, sizes = f.value(node.args[0]), sizes_of(node)
    zero = f.index(0)
    with f.generic(node.name, [], sizes, x.element) as body:
        places = []
        for axis, size in enumerate(x.sizes):
            place, last = body.apply("arith.subi", body.position(axis), f.index(low[axis])), f.index(size - 1)
            if mode == "circular":
                length = f.index(size)
                rest = body.apply("arith.remsi", body.apply("arith.addi", place, length), length)
                places.append(rest)
                continue
            if mode == "reflect":
                place = body.apply("arith.maxsi", place, body.apply("arith.subi", zero, place))
                beyond = body.apply("arith.subi", place, last)
                beyond = body.apply("arith.maxsi", beyond, body.apply("arith.subi", zero, beyond))
                place = body.apply("arith.subi", last, beyond)
            places.append(body.apply("arith.minsi", body.apply("arith.maxsi", place, zero), last))
        body.result = body.extract(x, places)
    return body.value


def _gathered(f: Function, node: fx.Node, mirrored: Collection[int], shifts: dict[int, Any]) -> Value:
    """Copies elements from other places: axes read backwards, and axes moved around by a number of places."""
    x = f.value(node.args[0])
    with f.generic(node.name, [], x.sizes, x.element) as body:
        places = []
        for axis in range(x.rank):
            place = body.position(axis)
            if axis in mirrored:
                place = body.apply("arith.subi", f.index(x.sizes[axis] - 1), place)
            if axis in shifts:
                moved = body.apply("arith.subi", place, f.index(shifts[axis]))
                around = body.apply("arith.addi", moved, f.index(x.sizes[axis]))
                place = body.select(body.compare("lt", moved, f.index(0)), around, moved)
            places.append(place)
        body.result = body.extract(x, places)
    return body.value


@lowers(aten.flip.default)
def _flip(f: Function, node: fx.Node) -> Value:
    x = f.value(node.args[0])
    return _gathered(f, node, {int(dim) % x.rank for dim in node.args[1]}, {})


@lowers(aten.roll.default)
def _roll(f: Function, node: fx.Node) -> Value:
    x = f.value(node.args[0])
    shifts, dims = argument(node, "shifts"), argument(node, "dims") or []
    if not dims:
        raise Unsupported("a roll over all axes")
    moves = {}
    for shift, dim in zip(shifts, dims, strict=True):
        axis = int(dim) % x.rank
        size = x.sizes[axis]
        if not isinstance(shift, int) or (not size.is_Integer and shift < 0):
            raise Unsupported("a roll by a computed number")
        moves[axis] = shift % int(size) if size.is_Integer else sympy.Mod(shift, size)
    return _gathered(f, node, (), moves)


@lowers(aten.pixel_shuffle.default)
def _pixel_shuffle(f: Function, node: fx.Node) -> Value:
    x, factor = f.value(node.args[0]), int(node.args[1])
    *batch, channels, height, width = x.sizes
    split = f.reshape(x, [*batch, channels / factor**2, factor, factor, height, width], node.name)
    n = len(batch)
    order = [*range(n), n, n + 3, n + 1, n + 4, n + 2]
    return f.reshape(f.transpose(split, order, node.name), sizes_of(node), node.name)
