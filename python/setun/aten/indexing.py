"""Reading and writing at places that are computed.

A negative index counts from the end. An index outside, for which torch raises an error, reads or writes the nearest
place: compiled code never leaves a tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import sympy
import torch
from torch import Tensor, fx

from setun.aten.bitnet import embedding
from setun.aten.registry import argument, axis_of, lowers, operand
from setun.writer import FLOATS, Body, Function, Unsupported, Value, element_of, expression, sizes_of

aten = torch.ops.aten


def _dims(count: int, first: int = 0) -> list[str]:
    return [f"d{i}" for i in range(first, first + count)]


@lowers(aten.embedding.default)
def _embedding(f: Function, node: fx.Node) -> Value:
    table, tokens, sizes = node.args[0], f.cast(f.value(node.args[1]), "i64"), sizes_of(node)
    if not f.is_constant(table):
        return _read(f, node, 0)
    flat = f.reshape(tokens, [sympy.Mul(*tokens.sizes)], node.name)
    return f.reshape(embedding(f, f.weight(table), flat, node.name), sizes, node.name)


def _read(f: Function, node: fx.Node, axis: int) -> Value:
    """Slices along an axis, at the places of a tensor whose axes stand for it."""
    x, index = f.value(node.args[0]), f.cast(f.value(node.args[2 if len(node.args) > 2 else 1]), "i64")
    sizes = sizes_of(node)
    with f.generic(node.name, [(index, _dims(index.rank, axis))], sizes, x.element) as body:
        places = [body.position(i) for i in range(len(sizes))]
        chosen = body.place(body.elements[0], x.sizes[axis])
        body.result = body.extract(x, [*places[:axis], chosen, *places[axis + index.rank :]])
    return body.value


@lowers(aten.index_select.default)
def _index_select(f: Function, node: fx.Node) -> Value:
    return _read(f, node, axis_of(node, f.value(node.args[0]).rank))


@lowers(aten.gather.default)
def _gather(f: Function, node: fx.Node) -> Value:
    x, index = f.value(node.args[0]), f.cast(f.value(node.args[2]), "i64")
    axis, sizes = axis_of(node, x.rank), sizes_of(node)
    with f.generic(node.name, [(index, _dims(index.rank))], sizes, x.element) as body:
        places = [body.position(i) for i in range(len(sizes))]
        places[axis] = body.place(body.elements[0], x.sizes[axis])
        body.result = body.extract(x, places)
    return body.value


def _joint(f: Function, node: fx.Node, indices: Sequence[Any]) -> tuple[dict[int, Value], list[Any]]:
    """The index tensors of an advanced index by axis, and the shape that they have together.

    Raises:
        Unsupported: a mask, whose result has a size that depends on values.
    """
    given = {axis: index for axis, index in enumerate(indices) if index is not None}
    if any(index.meta["val"].dtype == torch.bool for index in given.values()):
        raise Unsupported("a mask as index (its result has a size that depends on values)")
    shape = torch.broadcast_shapes(*(index.meta["val"].shape for index in given.values()))
    return {axis: f.cast(f.value(index), "i64") for axis, index in given.items()}, [expression(n) for n in shape]


@lowers(aten.index.Tensor)
def _index(f: Function, node: fx.Node) -> Value:
    x, sizes = f.value(node.args[0]), sizes_of(node)
    indices, joint = _joint(f, node, node.args[1])
    axes = sorted(indices)
    # The joint axes stand where the indexed ones are if these are neighbours, else in front.
    neighbours = axes == list(range(axes[0], axes[-1] + 1))
    first = axes[0] if neighbours else 0
    inputs = []
    for axis in axes:
        offset = first + len(joint) - indices[axis].rank
        inputs.append((indices[axis], _broadcast_dims(indices[axis], offset)))
    with f.generic(node.name, inputs, sizes, x.element) as body:
        others = iter([i for i in range(len(sizes)) if not first <= i < first + len(joint)])
        places = []
        for axis in range(x.rank):
            if axis in indices:
                places.append(body.place(body.elements[axes.index(axis)], x.sizes[axis]))
            else:
                places.append(body.position(next(others)))
        body.result = body.extract(x, places)
    return body.value


def _broadcast_dims(index: Value, first: int) -> list[str]:
    """Index of a tensor whose axes of size 1 repeat."""
    return ["0" if n == 1 else f"d{first + i}" for i, n in enumerate(index.sizes)]


# Writing.

Places = Callable[[Body, Sequence[Value]], list[tuple[Value, Value]]]


def _scatter(
    f: Function,
    hint: str,
    into: Value,
    inputs: Sequence[tuple[Value, Sequence[str]]],
    walked: Sequence[Any],
    places: Places,
    combine: str | None,
) -> Value:
    """Every element of `into` takes, in order, what the sources on further axes (`walked`) send it.

    The first input is the source. `places` gives pairs of a position on the result and the place it is compared with.
    `combine` is an operation of `arith` without its type, None to replace.
    """
    with f.generic(hint, inputs, into.sizes, into.element, into, walked) as body:
        found: Value | None = None
        for here, there in places(body, body.elements[1:]):
            same = body.compare("eq", here, there)
            found = same if found is None else body.apply("arith.andi", found, same)
        assert found is not None
        value = body.elements[0]
        if combine is not None:
            value = body.apply(f"arith.{combine}{'f' if into.element in FLOATS else 'i'}", body.accumulator, value)
        body.result = body.select(found, value, body.accumulator)
    return body.value


def _run_of(f: Function, index: fx.Node, count: sympy.Expr) -> tuple[Any, Any] | None:
    """What an index tensor starts with, as (tensor of one element or None, number), if it counts up by one from there.

    A single index does; so do `arange(a, b)`, and sums of it and numbers or tensors of one element.
    """
    target, operands = index.target, index.args
    if count == 1:
        return index, 0
    if target in (aten.arange.default, aten.arange.start, aten.arange.start_step):
        return (None, argument(index, "start", 0)) if argument(index, "step", 1) == 1 else None
    if target in (aten.add.Tensor, aten.add.Scalar) and argument(index, "alpha", 1) == 1:
        for run, other in (operands, operands[::-1]):
            inner = _run_of(f, run, count) if isinstance(run, fx.Node) and _length(run) == count else None
            if inner is None:
                continue
            if isinstance(other, int) or (isinstance(other, fx.Node) and not isinstance(other.meta["val"], Tensor)):
                return inner[0], _plus(inner[1], other)
            if inner[0] is None and isinstance(other, fx.Node) and _length(other) == 1:
                return other, inner[1]
    same = (aten._to_copy.default, aten.to.dtype, aten.view.default, aten.reshape.default, aten.unsqueeze.default)
    return _run_of(f, operands[0], count) if target in (*same, aten.clone.default) else None


def _plus(a: Any, b: Any) -> Any:
    a, b = (n.meta["val"] if isinstance(n, fx.Node) else n for n in (a, b))
    return a + b


def _length(node: fx.Node) -> Any:
    value = node.meta.get("val")
    return sympy.Mul(*sizes_of(node)) if isinstance(value, Tensor) else None


def _write_run(f: Function, node: fx.Node, into: Value, index: fx.Node, source: Value, axis: int) -> Value | None:
    """Writes slices along an axis whose places follow one another as one block, in place where the tensor may be."""
    run = _run_of(f, index, source.sizes[axis])
    if run is None:
        return None
    tensor, number = run
    start = f.number(number, "i64")
    if tensor is not None:
        value = f.reshape(f.cast(f.value(tensor), "i64"), (), node.name)
        base = f.op("start", f"tensor.extract {value.name}[] : {value.type}", "i64")
        start = base if number == 0 else f.apply("arith.addi", base, start)
    at, size = f.convert("arith.index_cast", start, "index"), f.index(into.sizes[axis])
    at = f.select(f.compare("lt", at, f.index(0)), f.apply("arith.addi", at, size), at)
    last = f.apply("arith.subi", size, f.index(source.sizes[axis]))
    at = f.apply("arith.maxsi", f.apply("arith.minsi", at, last), f.index(0))
    return f.insert(source, into, {axis: at.name}, source.sizes, node.name)


@lowers(aten.index_copy.default, aten.index_add.default)
def _index_copy(f: Function, node: fx.Node) -> Value:
    into, index = f.value(node.args[0]), node.args[2]
    axis, source = axis_of(node, into.rank), f.cast(f.value(node.args[3]), into.element)
    replace = node.target is aten.index_copy.default
    if replace and (written := _write_run(f, node, into, index, source, axis)) is not None:
        return written
    if argument(node, "alpha", 1) != 1:
        raise Unsupported("alpha")
    walk = f"d{into.rank}"
    places = f.cast(f.value(index), "i64")
    inputs = [
        (source, [walk if i == axis else f"d{i}" for i in range(into.rank)]),
        (f.reshape(places, [source.sizes[axis]]), [walk]),
    ]

    def pairs(body: Body, elements: Sequence[Value]) -> list[tuple[Value, Value]]:
        return [(body.position(axis), body.place(elements[0], into.sizes[axis]))]

    return _scatter(f, node.name, into, inputs, [source.sizes[axis]], pairs, None if replace else "add")


@lowers(aten.index_put.default, aten._unsafe_index_put.default)
def _index_put(f: Function, node: fx.Node) -> Value:
    into, add = f.value(node.args[0]), bool(argument(node, "accumulate", False))
    given = [index for index in node.args[1] if index is not None]
    if len(given) == 1 and given[0].meta["val"].dtype == torch.bool:
        return _masked_put(f, node, into, given[0])
    indices, joint = _joint(f, node, node.args[1])
    axes = sorted(indices)
    if axes != list(range(axes[0], axes[-1] + 1)):
        raise Unsupported("an index_put whose indexed axes are not neighbours")
    first, walked = axes[0], [f"d{into.rank + i}" for i in range(len(joint))]
    rest = [axis for axis in range(into.rank) if axis not in indices]
    before, after = [a for a in rest if a < first], [a for a in rest if a > first]
    shape = [*(into.sizes[a] for a in before), *joint, *(into.sizes[a] for a in after)]
    source = operand(f, node.args[2], into.element, shape)
    if not add and len(axes) == 1 and len(joint) == 1:
        written = _write_run(f, node, into, given[0], source, first)
        if written is not None:
            return written
    inputs = [(source, [*(f"d{a}" for a in before), *walked, *(f"d{a}" for a in after)])]
    for axis in axes:
        offset = into.rank + len(joint) - indices[axis].rank
        inputs.append((indices[axis], _broadcast_dims(indices[axis], offset)))

    def pairs(body: Body, elements: Sequence[Value]) -> list[tuple[Value, Value]]:
        chosen = zip(axes, elements, strict=True)
        return [(body.position(axis), body.place(element, into.sizes[axis])) for axis, element in chosen]

    return _scatter(f, node.name, into, inputs, joint, pairs, "add" if add else None)


def _masked_put(f: Function, node: fx.Node, into: Value, mask: fx.Node) -> Value:
    value = node.args[2]
    if argument(node, "accumulate", False) or value.meta["val"].numel() != 1 or node.args[1][0] is None:
        raise Unsupported("a mask as index (what is written has a size that depends on values)")
    condition = f.value(mask)
    condition = f.reshape(condition, [*condition.sizes, *[1] * (into.rank - condition.rank)], node.name)
    chosen = f.broadcast(f.reshape(f.cast(f.value(value), into.element), ()), into.sizes)
    return f.select(f.broadcast(condition, into.sizes), chosen, into, node.name)


@lowers(aten.scatter.src, aten.scatter.value, aten.scatter_add.default)
def _scatter_along(f: Function, node: fx.Node) -> Value:
    into, index = f.value(node.args[0]), f.cast(f.value(node.args[2]), "i64")
    axis = axis_of(node, into.rank)
    if any(a != b for i, (a, b) in enumerate(zip(index.sizes, into.sizes, strict=True)) if i != axis):
        raise Unsupported("a scatter whose index is smaller than the tensor")
    source = operand(f, node.args[3], into.element, None if node.target is not aten.scatter.value else index.sizes)
    if source.sizes != index.sizes:
        source = f.slice(source, {}, index.sizes, node.name)
    dims = [f"d{into.rank}" if i == axis else f"d{i}" for i in range(into.rank)]

    def pairs(body: Body, elements: Sequence[Value]) -> list[tuple[Value, Value]]:
        return [(body.position(axis), body.place(elements[0], into.sizes[axis]))]

    combine = "add" if node.target is aten.scatter_add.default else None
    return _scatter(f, node.name, into, [(source, dims), (index, dims)], [index.sizes[axis]], pairs, combine)


@lowers(aten.one_hot.default)
def _one_hot(f: Function, node: fx.Node) -> Value:
    index, sizes = f.cast(f.value(node.args[0]), "i64"), sizes_of(node)
    with f.generic(node.name, [(index, _dims(index.rank))], sizes, element_of(node)) as body:
        here = body.number(body.position(index.rank), "i64")
        body.result = body.cast(body.compare("eq", here, body.elements[0]), element_of(node))
    return body.value
