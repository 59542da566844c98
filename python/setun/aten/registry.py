"""The registry of lowerings: how the operators of a traced graph are written, by overload.

A lowering gets the function that is being written and the node, writes what the node means, and returns the value of
its result (or a list of values where there are several); what it cannot write, it raises `Unsupported` for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import fx

from setun.writer import ELEMENTS, Function, Unsupported, Value, element_of, sizes_of

Lowering = Callable[[Function, fx.Node], Value | list[Value] | None]
REGISTRY: dict[Any, Lowering] = {}

COMPUTED = ("f32", "i64", "i32", "i8", "i1")
"""Element types that arithmetic is written in. Half-precision tensors may only be converted."""


def lowers(*overloads: Any) -> Callable[[Lowering], Lowering]:
    """Registers how operators are written."""

    def register(function: Lowering) -> Lowering:
        for overload in overloads:
            REGISTRY[overload] = function
        return function

    return register


def argument(node: fx.Node, name: str, default: Any = None) -> Any:
    """An argument by its name in the operator's schema, whether it was given by position, by name or not at all."""
    if name in node.kwargs:
        return node.kwargs[name]
    for position, described in enumerate(node.target._schema.arguments):
        if described.name == name:
            if position < len(node.args):
                return node.args[position]
            return described.default_value if described.has_default_value() else default
    return default


def computed(element: str) -> str:
    """An element type that arithmetic can be written in.

    Raises:
        Unsupported: it is not.
    """
    if element not in COMPUTED:
        raise Unsupported(f"arithmetic in {element} (convert the module by module.float(), and leave autocast out)")
    return element


def axes_of(dims: Any, rank: int) -> list[int]:
    """Axes counted from the front, in order; None or nothing means all."""
    if dims is None or (isinstance(dims, (list, tuple)) and not dims):
        return list(range(rank))
    return sorted({int(dim) % max(rank, 1) for dim in (dims if isinstance(dims, (list, tuple)) else [dims])})


def axis_of(node: fx.Node, rank: int, name: str = "dim", default: int = 0) -> int:
    """An axis that an argument gives, counted from the front."""
    return int(argument(node, name, default)) % max(rank, 1)


def pair(values: Any, default: int = 0) -> list[int]:
    """One number for both axes, or two."""
    if values is None or (isinstance(values, (list, tuple)) and not values):
        return [default, default]
    values = [values] if isinstance(values, int) else list(values)
    return values * 2 if len(values) == 1 else values


def promoted(node: fx.Node, *operands: Any) -> str:
    """Element type that operands are brought to before an operation, by torch's rules."""
    values = [x.meta["val"] if isinstance(x, fx.Node) else x for x in operands]
    values = [1 if isinstance(x, torch.SymInt) else x for x in values]
    dtype = torch.result_type(values[0], values[-1])
    if dtype not in ELEMENTS:
        raise Unsupported(f"dtype {str(dtype).removeprefix('torch.')}")
    return computed(ELEMENTS[dtype])


def operand(f: Function, x: Any, element: str, sizes: Sequence[Any] | None = None) -> Value:
    """An operand that is a tensor or a number, in an element type and repeated to a shape."""
    if isinstance(x, fx.Node) and isinstance(x.meta.get("val"), torch.Tensor):
        value = f.cast(f.value(x), element)
        return value if sizes is None else f.broadcast(value, sizes)
    if isinstance(x, (bool, int, float, fx.Node, torch.SymInt)):
        return f.filled(x, () if sizes is None else sizes, element)
    raise Unsupported(f"operand {x!r}")


def elementwise_operands(f: Function, node: fx.Node, *operands: Any, element: str | None = None) -> list[Value]:
    """Operands of an elementwise operation in the result's shape, and in `element` or the type torch promotes to."""
    element = promoted(node, *operands) if element is None else computed(element)
    return [operand(f, x, element, sizes_of(node)) for x in operands]


def result_element(node: fx.Node) -> str:
    """Element type of the result, in which arithmetic must be possible."""
    return computed(element_of(node))
