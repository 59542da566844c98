"""PyTorch modules to MLIR text in the `bitnet` dialect (`docs/contracts.md`, section 1).

A module is exported (`setun.exporting`) and its graph written operator by operator (`setun.aten`). There are two ways
in: `trace` writes a module that says itself what its entries are (`setun.models`), `trace_call` any module, from a call
of it. Tensors without memory (meta) are weights of the checkpoint's files; tensors with values are constants, which are
handed back to be written to a file of their own. Buffers that a session keeps become arguments, and what is written
into them becomes results.

Everything unsupported in a module is reported at once, with module path and source line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import sympy
import torch
from torch import Tensor, fx, nn

from setun.aten import REGISTRY
from setun.aten.registry import computed
from setun.diagnostics import SetunError
from setun.exporting import IGNORED, Argument, Call, Stage, export_call, export_method, state_buffers
from setun.folding import Folder
from setun.writer import (
    ELEMENTS,
    Function,
    Unsupported,
    Value,
    arithmetic,
    element_of,
    location,
    magnitude,
    named,
    sizes_of,
    solved,
    string_literal,
)

STARTED = "setun.started"
"""A state that tells whether the others hold what a run has left, or are to take their first values."""


@dataclass
class Traced:
    """A module as MLIR text.

    Attributes:
        mlir: the text.
        constants: values of the tensors that it names (`bitnet.weight`).
        places: for each weight, module path, file and line of its first use (no file where the source has no line).
    """

    mlir: str
    constants: dict[str, Tensor] = field(default_factory=dict)
    places: dict[str, tuple[str, str, int]] = field(default_factory=dict)


class _Writer:
    """Writes a stage's operations into a function, and gathers what cannot be written."""

    def __init__(self, f: Function, stage: Stage) -> None:
        self.f = f
        self.stage = stage
        self.problems: list[str] = []
        self.unforeseen: Exception | None = None
        self.buffers = {node: [node] for node in stage.states.values()}
        folder = Folder(stage.graph, stage.parameters)
        self.folded = folder.constants()
        f.source, f.prefix, f.parameters = stage.source, stage.prefix, stage.parameters | self.folded

    def write(self) -> None:
        """Writes every node.

        Raises:
            SetunError: lists every operation that cannot be written.
        """
        for node in self.stage.graph.nodes:
            if node.op != "call_function" or node.target in IGNORED or node.name in self.folded:
                continue
            if node.users and all(user.name in self.folded for user in node.users):
                continue
            self.f.at(node)
            self._node(node)
        if self.problems:
            unique = list(dict.fromkeys(self.problems))
            raise SetunError(
                f"entry {self.f.name!r} uses {len(unique)} unsupported operation{'s' if len(unique) > 1 else ''}:\n"
                + "\n".join(f"  {problem}" for problem in unique)
            ) from self.unforeseen

    def _node(self, node: fx.Node) -> None:
        f = self.f
        if node.target is torch.ops.aten.copy_.default:
            # Later reads of the buffer, by whichever of its nodes, see what was written.
            aliases = self.buffers[node.args[0]]
            aliases.append(node)
            self.buffers[node] = aliases
            f.env.update(dict.fromkeys(aliases, f.value(node.args[1])))
            return
        try:
            lower = REGISTRY.get(node.target)
            if lower is None:
                raise Unsupported(_unknown(node.target))
            value = lower(f, node)
            _check_element(node, value)
        except Exception as error:
            reason = f" with {error}" if str(error) else ""
            if not isinstance(error, Unsupported):  # a form of the operator that its lowering does not foresee
                reason = f" with a {type(error).__name__} in its lowering ({error})"
                self.unforeseen = self.unforeseen or error
            self.problems.append(f"{_name(node.target)}{reason} in {location(node, f.source, f.prefix)}")
            value = _stand_in(node)
        if isinstance(value, list):
            f.results[node] = value
        elif value is not None:
            f.env[node] = value


def _unknown(target: Any) -> str:
    """What is to be said of an operator without a lowering, beside its name."""
    if isinstance(target, torch._ops.HigherOrderOperator):
        return "control flow"
    if target is torch.ops.aten._local_scalar_dense.default:
        return "the value of a tensor as a number (item())"
    if target is torch.ops.aten.nonzero.default:
        return "a result whose size depends on values"
    return ""


def _name(target: Any) -> str:
    """What messages call an operator."""
    return str(target) if isinstance(target, torch._ops.OpOverload) else getattr(target, "__name__", str(target))


def _check_element(node: fx.Node, value: Any) -> None:
    """Refuses what would be computed in another precision than the module computes it in."""
    if isinstance(value, Value) and isinstance(node.meta.get("val"), Tensor) and value.element != element_of(node):
        computed(element_of(node))


def _stand_in(node: fx.Node) -> Value | list[Value] | None:
    """A value for what could not be written, so that the rest can be looked at."""

    def one(value: Any) -> Value:
        return named("%unsupported", ELEMENTS.get(value.dtype, "f32"), value.shape)

    value = node.meta.get("val")
    if isinstance(value, (list, tuple)):
        return [one(item) for item in value if isinstance(item, Tensor)]
    return one(value) if isinstance(value, Tensor) else None


def _write(
    f: Function, stage: Stage, inputs: Sequence[Value], states: dict[str, Value], sources: dict[str, tuple[Value, int]]
) -> list[Value]:
    """Writes a stage's operations; replaces the values of `states` by the new ones, and returns the results.

    `sources` says where each symbol can be read: an argument of the entry and its axis.

    Raises:
        SetunError: lists every operation that cannot be written.
    """

    def bound(node: fx.Node, value: Value) -> Value:
        # The same value, with its sizes in the symbols of this stage's graph.
        return value if value.sizes is None else replace(value, sizes=sizes_of(node))

    f.env = {node: bound(node, value) for node, value in zip(stage.inputs, inputs, strict=True)}
    f.env |= {node: bound(node, states[name]) for name, node in stage.states.items()}
    f.symbols = {size: sources[symbol] for size, symbol in stage.symbols.items()}
    _Writer(f, stage).write()
    for name, node in stage.states.items():
        states[name] = f.value(stage.mutated.get(node.name, node))
    return [f.value(node) for node in stage.outputs]


def _attributes(kind: str, name: str, argument: Argument) -> str:
    """Attributes of an argument or result: `bitnet.name` or `bitnet.state`, and `bitnet.dims`."""
    dims = ", ".join(string_literal(symbol) for symbol in argument.symbols if symbol is not None)
    return f"{{bitnet.{kind} = {string_literal(name)}" + (f", bitnet.dims = [{dims}]}}" if dims else "}")


class _Entry:
    """The declaration of an entry: its arguments and results, with their attributes."""

    def __init__(self, name: str) -> None:
        self.f = Function(name)
        self.arguments: list[str] = []
        self.results: list[tuple[Value, str]] = []
        self.sources: dict[str, tuple[Value, int]] = {}

    def declare(self, kind: str, name: str, argument: Argument) -> Value:
        """An argument. Its symbols can be read off it."""
        sizes = [
            sympy.Symbol(symbol) if symbol else size
            for size, symbol in zip(argument.shape, argument.symbols, strict=True)
        ]
        value = named(self.f.fresh(name), ELEMENTS[argument.dtype], sizes)
        self.arguments.append(f"{value.name}: {value.type} {_attributes(kind, name, argument)}")
        for axis, symbol in enumerate(argument.symbols):
            if symbol is not None:
                self.sources.setdefault(symbol, (value, axis))
        return value

    def give(self, value: Value, kind: str, name: str, argument: Argument) -> None:
        """A result."""
        self.results.append((value, _attributes(kind, name, argument)))

    def lines(self, flags: Sequence[str]) -> list[str]:
        """The whole function."""
        separator = ",\n      "
        declared = [f"{value.type} {attributes}" for value, attributes in self.results]
        header = (
            f"  func.func @{self.f.name}({separator.join(self.arguments)})\n"
            f"      -> ({f'{separator}    '.join(declared)})\n"
            f"      attributes {{{', '.join(['bitnet.entry', *flags])}}} {{"
        )
        names = ", ".join(value.name for value, _ in self.results)
        types = ", ".join(value.type for value, _ in self.results)
        return [header, *self.f.lines, f"    return {names} : {types}", "  }"]


def _trace_entry(module: nn.Module, entry: Any, context: int, exported: dict[Any, Stage]) -> tuple[Function, list[str]]:
    """Writes one entry. `exported` keeps the stages that entries share."""
    inputs = {name: Argument.of(dtype, dims) for name, (dtype, dims) in entry.inputs.items()}
    states, written = state_buffers(module), _Entry(entry.name)
    late = {}
    values = []
    for name, argument in inputs.items():
        value = written.declare("name", name, argument)
        if name in entry.late:
            late[name] = value
        else:
            values.append(value)
    if entry.position:
        values.append(Value(written.f.fresh("pos"), "i64"))
        written.arguments.append(f"{values[-1].name}: i64 {{bitnet.position}}")
    kept = {name: written.declare("state", name, argument) for name, argument in states.items()}

    passed, position = [argument for name, argument in inputs.items() if name not in entry.late], entry.position
    stages = entry.stages or (entry.name,)
    for method in stages:
        if method == stages[-1]:
            values += [late[name] for name in entry.late]
            passed += [inputs[name] for name in entry.late]
        key = (method, tuple(passed), position)
        if key not in exported:
            exported[key] = export_method(module, method, passed, position, context)
        values = _write(written.f, exported[key], values, kept, written.sources)
        passed, position = exported[key].arguments(), False

    for value, name, argument in zip(values, entry.outputs, passed, strict=True):
        written.give(value, "name", name, argument)
    for name, argument in states.items():
        written.give(kept[name], "state", name, argument)
    flags = [*(["bitnet.reset"] if entry.reset else []), f"bitnet.max_context = {context} : i64"]
    return written.f, written.lines(flags)


def _module(functions: Sequence[tuple[Function, list[str]]], provenance: Mapping[str, str] | None) -> Traced:
    """The text of all entries, and what belongs to it."""
    pairs = ", ".join(f"{key} = {string_literal(value)}" for key, value in (provenance or {}).items())
    traced = Traced("")
    lines = [f"module attributes {{bitnet.provenance = {{{pairs}}}}} {{"]
    for function, text in functions:
        lines += text
        traced.constants.update(function.constants)
        for name, place in function.places.items():
            traced.places.setdefault(name, place)
    traced.mlir = "\n".join([*lines, "}", ""])
    return traced


def trace(module: nn.Module, context: int, provenance: Mapping[str, str] | None = None) -> Traced:
    """A module with `entries` (`setun.models.layers.Entry`) as one MLIR module.

    Args:
        module: parameters on the meta device are weights by name.
        context: largest session, in tokens (`bitnet.max_context`).
        provenance: copied into the package.

    Raises:
        SetunError: lists every operation that cannot be written.
    """
    exported: dict[Any, Stage] = {}
    with torch.no_grad():
        return _module([_trace_entry(module, entry, context, exported) for entry in module.entries], provenance)


def _first_values(written: _Entry, call: Call, states: dict[str, Value]) -> bool:
    """Gives states that do not start as zeros their first values; says whether there are any."""
    initial = {name: tensor for name, tensor in call.initial.items() if bool((tensor != 0).any())}
    if not initial:
        return False
    f = written.f
    started = written.declare("state", STARTED, Argument.of(torch.int64, (1,)))
    flag = f.compare("ne", f.reshape(started, ()), f.filled(0, (), "i64"))
    for name, tensor in initial.items():
        first = f.constant(f"{name}.initial", tensor)
        state = replace(states[name], sizes=first.sizes)
        states[name] = f.select(f.broadcast(flag, first.sizes), state, first)
    return True


_LONGEST = 40
"""Sizes are at most 2 to this power, more than any machine has memory for."""


_PREDICATES = {
    sympy.Eq: ("eq", "=="),
    sympy.Ne: ("ne", "!="),
    sympy.Lt: ("lt", "<"),
    sympy.Le: ("le", "<="),
    sympy.Gt: ("gt", ">"),
    sympy.Ge: ("ge", ">="),
}
"""Relations of sizes, as `Scope.compare` and as messages call them."""


class _Conditions:
    """What the sizes of an entry's inputs have to be, written at its start: compiled code relies on it."""

    def __init__(self, written: _Entry, call: Call) -> None:
        self.f = written.f
        self.call = call
        self.given = call.stage.symbols
        self.names = self.given | call.derived
        self.sources = {expr: written.sources[name] for expr, name in self.names.items()}
        self.f.symbols = {expr: self.sources[expr] for expr in self.given}

    def write(self) -> None:
        """Writes limits first: they keep the arithmetic of what follows in 64 bits.

        Raises:
            SetunError: a size depends on something else than the sizes of arguments.
        """
        related = [expr for expr in self.names if not expr.is_Symbol or expr not in self.given]
        sides = [side for relation in self.call.relations for side in relation.args]
        try:
            limit = self._limit([*related, *sides]) if related or sides else 0
            for expr in self.given:
                self._limits(expr, limit)
            for expr in related:
                self._size(expr)
            for relation in self.call.relations:
                self._relation(relation)
        except Unsupported as error:
            raise SetunError(
                f"an argument or result of the module has the {error}, which no argument tells",
                "Give every size to an argument as a dimension of its own.",
            ) from error

    @staticmethod
    def _limit(related: Sequence[sympy.Expr]) -> int:
        """The largest size that arithmetic on sizes is sure not to overflow with."""
        for power in range(_LONGEST, 0, -1):
            # A symbol that is solved for is as large as the size that it is in, and a constant more.
            if all(magnitude(expr, 0) <= 1 << power and magnitude(expr, 2 << power) < 1 << 62 for expr in related):
                return 1 << power
        raise Unsupported(f"size {related[0]}")

    def _limits(self, expr: sympy.Expr, limit: int) -> None:
        smallest, largest = self.call.ranges.get(expr, (1, 0))
        bounds = [largest, limit]
        hidden = [symbol for symbol in expr.free_symbols if symbol not in self.given]
        if hidden and len(expr.free_symbols) == 1:
            low, high = self.call.ranges.get(hidden[0], (1, 0))
            smallest = max(smallest, int(expr.subs(hidden[0], low)))
            bounds.append(int(expr.subs(hidden[0], high)) if high else 0)
        largest = min((bound for bound in bounds if bound), default=0)
        size = self.f.index(expr)
        if smallest > 1:
            self.f.require("ge", size, sympy.Integer(smallest), f"{self._told(expr)} expects at least {smallest}")
        if largest:
            self.f.require("le", size, sympy.Integer(largest), f"{self._told(expr)} expects at most {largest}")

    def _size(self, expr: sympy.Expr) -> None:
        """The size that is `expr` of others is that."""
        message = f"{self._told(expr)} expects {self._named(expr)}, where {self._where(expr)}"
        self._divisors(expr, message)
        source, axis = self.sources[expr]
        size = self.f.cached_index("dim", f"tensor.dim {source.name}, {self.f.index(axis).name} : {source.type}")
        self.f.require("eq", size, expr, message)

    def _relation(self, relation: sympy.core.relational.Relational) -> None:
        predicate, sign = _PREDICATES[relation.func]
        text = f"{self._named(relation.lhs)} {sign} {self._named(relation.rhs)}"
        message = f"the module was compiled for {text}, where {self._where(relation)}"
        for side in relation.args:
            self._divisors(side, message)
        self.f.require(predicate, self.f.index(relation.lhs), relation.rhs, message)

    def _divisors(self, expr: sympy.Expr, message: str) -> None:
        """Of divisors only numbers and sizes of arguments are known to be positive."""
        for part in sympy.postorder_traversal(expr):
            if part.args and arithmetic(part)[0] in ("floordivsi", "remsi"):
                for divisor in arithmetic(part)[1][1:]:
                    if not divisor.is_Integer and divisor not in self.f.symbols:
                        self.f.require("ge", self.f.index(divisor), sympy.Integer(1), message)

    def _told(self, expr: sympy.Expr) -> str:
        """A size, and where it is: "size n (dimension 0 of 'x')"."""
        name = self.names[expr]
        if expr not in self.given:
            return f"size {name} (of a result, the length of {name!r})"
        return f"size {name} ({self._place(expr)})"

    def _place(self, expr: sympy.Expr) -> str:
        source, axis = self.sources[expr]
        return f"dimension {axis} of {source.name.removeprefix('%')!r}"

    def _named(self, expr: sympy.Basic) -> sympy.Basic:
        """An expression with the names of sizes in it."""
        return expr.xreplace({symbol: sympy.Symbol(self.given[symbol]) for symbol in expr.free_symbols & {*self.given}})

    def _where(self, expr: sympy.Basic) -> str:
        """What the sizes in an expression are."""
        where = []
        for symbol in sorted(expr.free_symbols, key=str):
            # A symbol that no argument has by itself is read off the first size that it is in.
            size = symbol if symbol in self.given else solved(symbol, self.given)[0]
            is_whole = f"{symbol} is a whole number"
            where.append(is_whole if size == expr else f"{self._named(size)} is {self._place(size)}")
        return " and ".join(where)


def _check_filled(what: str, node: fx.Node) -> None:
    """Refuses tensors without elements: every size of a package's tensor is at least 1."""
    sizes = sizes_of(node)
    if 0 in sizes:
        raise SetunError(f"{what} is empty: its shape is {list(sizes)}", "Leave it out, or make its sizes at least 1.")


def write_call(call: Call, provenance: Mapping[str, str] | None = None) -> Traced:
    """The one entry, `forward`, of an exported call. Results that are tensors are `output`, or `output0` and so on.

    Raises:
        SetunError: lists every operation that cannot be written.
    """
    stage, written = call.stage, _Entry("forward")
    told = {symbol for size in stage.symbols for symbol in size.free_symbols}
    by_values = [size for size in call.derived if not size.free_symbols <= told]
    if by_values:
        call = replace(call, derived={size: name for size, name in call.derived.items() if size not in by_values})
    for node in [*stage.inputs, *stage.states.values()]:
        try:
            element_of(node)
        except Unsupported as error:
            raise SetunError(f"tensor {node.name!r} has the {error}", "Convert it to float32 or int64.") from error
        _check_filled(f"argument {node.name!r}", node)
    values = [written.declare("name", node.name, stage.argument(node)) for node in stage.inputs]
    states = {name: written.declare("state", name, stage.argument(node)) for name, node in stage.states.items()}
    for name in call.derived.values():
        written.declare("name", name, Argument.of(torch.int8, (name,)))
    _Conditions(written, call).write()
    started = _first_values(written, call, states)
    results = [node for node in stage.outputs if isinstance(node, fx.Node)]
    for node in results:
        _check_filled("a result of the module", node)
    sized = replace(stage, symbols=stage.symbols | call.derived)
    with torch.no_grad():
        values = _write(written.f, replace(stage, outputs=results), values, states, written.sources)
    if by_values:
        raise SetunError(
            f"a result of the module has the size {by_values[0]}, which depends on values",
            "Return a tensor whose sizes are those of arguments, and a mask or a number that tells what counts.",
        )
    for number, (value, node) in enumerate(zip(values, results, strict=True)):
        name = "output" if len(results) == 1 else f"output{number}"
        written.give(value, "name", name, sized.argument(node))
    for name, node in stage.states.items():
        written.give(states[name], "state", name, stage.argument(node))
    if started:
        written.give(written.f.filled(1, (1,), "i64"), "state", STARTED, Argument.of(torch.int64, (1,)))
    return _module([(written.f, written.lines([]))], provenance)


def trace_call(
    module: nn.Module,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any] | None = None,
    dynamic_shapes: Any = None,
    names: Sequence[Mapping[int, str]] = (),
    provenance: Mapping[str, str] | None = None,
) -> tuple[Traced, Call]:
    """Any module as one MLIR module with the entry `forward`, from the arguments of a call.

    Args:
        dynamic_shapes: which sizes may differ from call to call, as for `torch.export.export`.
        names: names of dynamic dimensions by axis, for each argument in torch's order.
        provenance: copied into the package.

    Raises:
        SetunError: torch cannot export the module, or lists every operation that cannot be written.
    """
    call = export_call(module, args, kwargs or {}, dynamic_shapes, names)
    return write_call(call, provenance), call
