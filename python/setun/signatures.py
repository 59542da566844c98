"""From a module and example arguments to a trace and the signature that the package is called by."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import sympy
import torch
import torch.utils._pytree as pytree
from torch import Tensor, fx, nn

from setun.calling import Signature, Size
from setun.diagnostics import SetunError
from setun.exporting import Call
from setun.structure import CONSTANTS, Leaf, describe
from setun.tracer import Traced, trace_call
from setun.writer import Unsupported, arithmetic, solved


def check_module(module: nn.Module) -> None:
    """Refuses modules that are trained, or whose values are not in memory.

    Raises:
        SetunError: says what to do.
    """
    if not isinstance(module, nn.Module):
        raise SetunError(f"expects a torch.nn.Module, got a {type(module).__name__}")
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if tensor.device.type == "meta":
            raise SetunError(f"{name} has no values (device meta)", "Load the weights first.")
        if tensor.device.type != "cpu":
            raise SetunError(f"{name} is on the device {tensor.device}", "Copy the module first: module.cpu().")
    if module.training:
        raise SetunError("the module is in training mode", "Call module.eval() first.")


def _example(value: Any) -> Any:
    """An array as a tensor: a copy, for torch takes neither negative strides nor memory that is only to be read."""
    if not isinstance(value, np.ndarray):
        return value
    try:
        return torch.from_numpy(np.array(value))
    except TypeError as error:
        raise SetunError(f"an example argument is no tensor: {error}", "Convert it to float32 or int64.") from error


def _bound(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> inspect.BoundArguments:
    try:
        return inspect.signature(module.forward).bind(*args, **kwargs)
    except TypeError as error:
        raise SetunError(f"the example arguments do not fit {type(module).__qualname__}.forward: {error}") from error


def _dims(value: Any, spec: Any) -> Iterator[dict[int, Any]]:
    """The dynamic dimensions of each tensor (and other leaf) of an argument, in torch's order, as far as they say."""
    if isinstance(value, Tensor):
        pairs = enumerate(spec) if isinstance(spec, (tuple, list)) else ()
        yield dict(spec) if isinstance(spec, Mapping) else dict(pairs)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _dims(item, spec.get(key) if isinstance(spec, Mapping) else None)
    elif isinstance(value, (tuple, list)):
        for number, item in enumerate(value):
            fits = isinstance(spec, (tuple, list)) and len(spec) == len(value)
            yield from _dims(item, spec[number] if fits else None)
    else:
        for _ in pytree.tree_leaves(value):
            yield {}


def _complete(bound: inspect.BoundArguments, dynamic_shapes: Any) -> Any:
    """`dynamic_shapes` with an entry for each argument, by name: None where it has none.

    Raises:
        SetunError: it has more than there are arguments.
    """
    names = list(bound.arguments)
    cure = f"The example has the arguments {', '.join(names)}."
    if isinstance(dynamic_shapes, (tuple, list)):
        if len(dynamic_shapes) > len(names):
            raise SetunError(f"dynamic_shapes has {len(dynamic_shapes)} entries for {len(names)} arguments", cure)
        dynamic_shapes = dict(zip(names, dynamic_shapes, strict=False))
    if not isinstance(dynamic_shapes, Mapping):
        return dynamic_shapes
    unknown = [name for name in dynamic_shapes if name not in names]
    if unknown:
        raise SetunError(f"dynamic_shapes has an entry for {unknown[0]!r}, which is no argument of the example", cure)
    return {name: dynamic_shapes.get(name) for name in names}


def _names(bound: inspect.BoundArguments, dynamic_shapes: Any) -> list[dict[int, str]]:
    """Names of the dynamic dimensions of each leaf of the arguments."""
    if not isinstance(dynamic_shapes, Mapping):
        return []
    found = [dims for name, value in bound.arguments.items() for dims in _dims(value, dynamic_shapes[name])]
    return [
        {axis: dim.__name__ for axis, dim in dims.items() if getattr(dim, "__name__", "").isidentifier()}
        for dims in found
    ]


def _sizes(call: Call) -> dict[str, Size]:
    """What the dynamic sizes of a call have to be.

    Raises:
        SetunError: a size depends on others in a way that no caller could be held to.
    """
    sizes = {}
    for expr, name in call.stage.symbols.items():
        smallest, largest = call.ranges.get(expr, (1, 0))
        if expr.is_Symbol:
            sizes[name] = Size(smallest, largest)
            continue
        symbols = sorted(expr.free_symbols, key=str)
        times = expr.coeff(symbols[0])
        plus = sympy.expand(expr - times * symbols[0])
        if len(symbols) != 1 or not (times.is_Integer and plus.is_Integer and times > 0):
            raise SetunError(
                f"the size {name} of an argument is {expr}", "Sizes may be multiples of another, and more."
            )
        base = call.stage.symbols.get(symbols[0], "")
        sizes[name] = Size(smallest, largest, base, int(times), int(plus))
    return sizes


def _tree(expr: sympy.Expr, call: Call) -> Any:
    """A size as a tree of arithmetic on named sizes (`Signature.derived`).

    Raises:
        SetunError: it depends on more than the sizes of arguments.
    """
    if expr.is_Integer:
        return int(expr)
    if expr in call.stage.symbols:
        return call.stage.symbols[expr]
    try:
        if expr.is_Symbol:
            size, times, plus = solved(expr, call.stage.symbols)
            return ["floordivsi", ["addi", call.stage.symbols[size], -plus], times]
        operation, operands = arithmetic(expr)
    except Unsupported as error:
        raise SetunError(
            f"a result of the module has the size {expr}, which no argument tells",
            "Give every size of a result to an argument as a dimension of its own.",
        ) from error
    return [operation, *(_tree(operand, call) for operand in operands)]


def _signature(bound: inspect.BoundArguments, call: Call, traced: Traced) -> Signature:
    """How the package is called."""
    inputs = {node: number for number, node in enumerate(call.stage.inputs)}
    leaves = [Leaf(inputs[item]) if isinstance(item, fx.Node) else item for item in call.arguments]
    args, kwargs = pytree.tree_unflatten(leaves, call.in_spec)
    arguments = bound.signature.bind(*args, **kwargs).arguments
    count = 0
    results: list[Any] = []
    for item in call.stage.outputs:
        results.append(Leaf(count) if isinstance(item, fx.Node) else item)
        count += isinstance(item, fx.Node)
    outputs = ["output"] if count == 1 else [f"output{number}" for number in range(count)]
    return Signature(
        [(name, int(parameter.kind)) for name, parameter in bound.signature.parameters.items()],
        {name: describe(value) for name, value in arguments.items()},
        describe(pytree.tree_unflatten(results, call.out_spec)),
        [node.name for node in call.stage.inputs],
        outputs,
        _sizes(call),
        {name: _tree(expr, call) for expr, name in call.derived.items()},
        {name: list(place) for name, place in traced.places.items()},
        bool(call.stage.states),
        {
            name: parameter.default
            for name, parameter in bound.signature.parameters.items()
            if type(parameter.default) in CONSTANTS
        },
    )


def trace_module(
    module: nn.Module, example_args: Any, example_kwargs: Mapping[str, Any], dynamic_shapes: Any
) -> tuple[Traced, Signature]:
    """Traces a call of a module.

    Raises:
        SetunError: the module cannot be compiled; says all that stands against it.
    """
    check_module(module)
    args = tuple(example_args) if isinstance(example_args, (tuple, list)) else (example_args,)
    args = pytree.tree_map(_example, args)
    bound = _bound(module, args, pytree.tree_map(_example, dict(example_kwargs)))
    for tensor in pytree.tree_leaves((bound.args, bound.kwargs)):
        if isinstance(tensor, Tensor) and tensor.device.type != "cpu":
            raise SetunError(f"an example argument is on the device {tensor.device}", "Copy it first: tensor.cpu().")
    provenance = {"source": f"{type(module).__module__}.{type(module).__qualname__}"}
    dynamic_shapes = _complete(bound, dynamic_shapes)
    names = _names(bound, dynamic_shapes)
    traced, call = trace_call(module, bound.args, bound.kwargs, dynamic_shapes, names, provenance)
    return traced, _signature(bound, call, traced)
