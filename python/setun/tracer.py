"""PyTorch modules to MLIR text in the `bitnet` dialect (`docs/contracts.md`, section 1), by `torch.export`.

Each entry of a module is exported with symbolic sequence length and session capacity, and written operator by operator
(`setun.emitter`). Tensors without memory (meta) are weights of the checkpoint's files; tensors with values are
constants, which are handed back to be written to a file of their own. Buffers that a module names in `session_state`
become arguments, and what is copied into them becomes results.

Everything unsupported in a module is reported at once, with module path and source line.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sympy
import torch
from torch import Tensor, fx, nn

from setun.diagnostics import SetunError
from setun.emitter import (
    ELEMENTS,
    REGISTRY,
    Function,
    Unsupported,
    Value,
    expression,
    location,
    shape_of,
    string_literal,
    tensor_type,
)

# Shape assertions of torch.export hold by the entry's declaration; arithmetic on sizes is read off their values.
_IGNORED = {
    torch.ops.aten._assert_scalar.default,
    torch.ops.aten.sym_constrain_range_for_size.default,
    torch.ops.aten.sym_constrain_range.default,
    torch.ops.aten._assert_tensor_metadata.default,
    operator.ge, operator.le, operator.gt, operator.lt, operator.eq, operator.ne,
    operator.add, operator.sub, operator.mul, operator.floordiv, operator.neg,
}  # fmt: skip


@dataclass
class Traced:
    """A module as MLIR text, and the values of the constants that it names (`bitnet.weight`)."""

    mlir: str
    constants: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Argument:
    """A tensor that a method takes: its dtype, its shape, and the symbols of the dynamic dimensions (None: fixed)."""

    dtype: torch.dtype
    shape: tuple[int | None, ...]
    symbols: tuple[str | None, ...]

    @staticmethod
    def of(dtype: torch.dtype, dims: Sequence[int | str]) -> Argument:
        """From dimensions that are sizes or symbols."""
        sizes = tuple(None if isinstance(dim, str) else dim for dim in dims)
        return Argument(dtype, sizes, tuple(dim if isinstance(dim, str) else None for dim in dims))


@dataclass
class Stage:
    """One exported method.

    Attributes:
        graph: what it computes.
        parameters: lifted parameters and buffers by placeholder: their name in the module and the tensor.
        inputs: placeholders of the arguments, the position last if there is one.
        states: placeholders of the state buffers, by name.
        outputs: nodes of the results.
        mutated: nodes of the states' new values, by placeholder, where functionalisation named them.
        symbols: names of the symbolic sizes.
        source: file and line of the method.
    """

    graph: fx.Graph
    parameters: dict[str, tuple[str, Tensor]]
    inputs: list[fx.Node]
    states: dict[str, fx.Node]
    outputs: list[fx.Node]
    mutated: dict[str, fx.Node]
    symbols: dict[sympy.Symbol, str]
    source: tuple[str, int]

    def arguments(self) -> list[Argument]:
        """The results, as the arguments of the next stage.

        Raises:
            SetunError: a result has a size that no argument has.
        """
        results = []
        for node in self.outputs:
            sizes = [expression(size) for size in shape_of(node)]
            unknown = [size for size in sizes if not size.is_Integer and size not in self.symbols]
            if unknown:
                raise SetunError(
                    f"result {node.name!r} ({self.source[0]}:{self.source[1]}) has the size {unknown[0]}, which no "
                    "input has"
                )
            shape = tuple(int(size) if size.is_Integer else None for size in sizes)
            symbols = tuple(self.symbols.get(size) for size in sizes)
            results.append(Argument(node.meta["val"].dtype, shape, symbols))
        return results


class _WithState(nn.Module):
    """Calls a method of a module with its state buffers replaced by arguments, so that they may have symbolic sizes."""

    def __init__(self, module: nn.Module, method: str, states: Sequence[str]) -> None:
        super().__init__()
        self.module = module
        self.method = method
        self.states = tuple(states)

    def forward(self, inputs: list[Tensor], states: list[Tensor]) -> Any:
        original = self.module.forward
        self.module.forward = getattr(self.module, self.method)
        try:
            return torch.func.functional_call(self.module, dict(zip(self.states, states, strict=True)), tuple(inputs))
        finally:
            self.module.forward = original


def state_buffers(module: nn.Module) -> dict[str, Argument]:
    """The buffers that a session keeps, by name, in module order."""
    states = {}
    for path, child in module.named_modules():
        for name, symbols in getattr(child, "session_state", {}).items():
            buffer = getattr(child, name)
            shape = tuple(size if symbol is None else None for size, symbol in zip(buffer.shape, symbols, strict=True))
            states[f"{path}.{name}" if path else name] = Argument(buffer.dtype, shape, tuple(symbols))
    return states


def _export(
    module: nn.Module, method: str, inputs: Sequence[Argument], position: bool, context: int
) -> torch.export.ExportedProgram:
    """Exports a method, with symbolic sizes where its inputs and the module's states name symbols."""
    states = state_buffers(module)
    arguments = [*inputs, *states.values()]
    names = list(dict.fromkeys(symbol for argument in arguments for symbol in argument.symbols if symbol))
    # Example sizes only have to differ from 0, 1 and each other: torch would take equal ones for one symbol.
    example = {name: 7 + 4 * i for i, name in enumerate(names)}
    symbols = {name: torch.export.Dim(name, min=1, max=max(context, 2)) for name in names}

    def make(argument: Argument) -> tuple[Tensor, dict[int, Any]]:
        pairs = list(zip(argument.shape, argument.symbols, strict=True))
        shape = [size if symbol is None else example[symbol] for size, symbol in pairs]
        dynamic = {axis: symbols[symbol] for axis, (_, symbol) in enumerate(pairs) if symbol is not None}
        return torch.zeros(shape, dtype=argument.dtype, device="meta"), dynamic

    made = [make(argument) for argument in inputs]
    if position:
        made.append((torch.zeros((), dtype=torch.int64, device="meta"), {}))
    pools = [make(argument) for argument in states.values()]
    try:
        return torch.export.export(
            _WithState(module, method, list(states)),
            ([tensor for tensor, _ in made], [tensor for tensor, _ in pools]),
            dynamic_shapes=([dynamic for _, dynamic in made], [dynamic for _, dynamic in pools]),
            strict=False,
        )
    except Exception as error:  # torch raises many kinds here, each about the module rather than about us
        raise SetunError(
            f"method {method!r} cannot be exported by torch: {type(error).__name__}: {str(error).strip()}",
            "The module has to run for every length of its input and without branching on values.",
        ) from error


def _needs_functionalization(graph: fx.Graph, states: set[str]) -> bool:
    """Whether the graph mutates more than whole state buffers by `copy_`.

    The exporter's own functionalisation is general and slow. A `copy_` onto a state that no view looks at only renames
    its value, so such graphs, which all our definitions make, do without.
    """
    aliases = {node for node in graph.nodes if node.op == "placeholder" and node.name in states}
    for node in graph.nodes:
        if node.op != "call_function":
            continue
        if node.target is torch.ops.aten.copy_.default and node.args[0] in aliases:
            aliases.add(node)
            continue
        views = aliases.intersection(node.all_input_nodes) and getattr(node.target, "namespace", "") != "setun"
        schema = getattr(node.target, "_schema", None)
        if views or (schema is not None and schema.is_mutable):
            return True
    return False


def _stage(module: nn.Module, method: str, inputs: Sequence[Argument], position: bool, context: int) -> Stage:
    """Exports a method and sorts out what its graph takes and gives."""
    from torch.export.graph_signature import InputKind, OutputKind

    def user_inputs(program: torch.export.ExportedProgram) -> list[str]:
        return [spec.arg.name for spec in program.graph_signature.input_specs if spec.kind == InputKind.USER_INPUT]

    states = state_buffers(module)
    count = len(inputs) + position
    program = _export(module, method, inputs, position, context)
    if _needs_functionalization(program.graph, set(user_inputs(program)[count:])):
        program = program.run_decompositions({})
    signature = program.graph_signature
    nodes = {node.name: node for node in program.graph.nodes}
    placeholders = [nodes[name] for name in user_inputs(program)]
    state_nodes = dict(zip(states, placeholders[count:], strict=True))

    parameters: dict[str, tuple[str, Tensor]] = {}
    for spec in signature.input_specs:
        if spec.kind in (InputKind.PARAMETER, InputKind.BUFFER):
            name = spec.target.removeprefix("module.")
            owner, _, leaf = name.rpartition(".")
            parameters[spec.arg.name] = (name, getattr(module.get_submodule(owner), leaf))
        elif spec.kind == InputKind.CONSTANT_TENSOR:
            parameters[spec.arg.name] = (f"constant.{spec.target}", program.constants[spec.target])

    symbols: dict[sympy.Symbol, str] = {}
    for node, argument in zip(
        [*placeholders[: len(inputs)], *state_nodes.values()], [*inputs, *states.values()], strict=True
    ):
        for size, symbol in zip(shape_of(node), argument.symbols, strict=True):
            if symbol is not None and expression(size).is_Symbol:
                symbols[expression(size)] = symbol

    results = next(node for node in program.graph.nodes if node.op == "output").args[0]
    pairs = list(zip(signature.output_specs, results, strict=True))
    code = getattr(module, method).__code__
    return Stage(
        program.graph,
        parameters,
        placeholders[:count],
        state_nodes,
        [node for spec, node in pairs if spec.kind == OutputKind.USER_OUTPUT],
        {spec.target: node for spec, node in pairs if spec.kind == OutputKind.USER_INPUT_MUTATION},
        symbols,
        (code.co_filename, code.co_firstlineno),
    )


def _write(
    f: Function, stage: Stage, inputs: Sequence[Value], states: dict[str, Value], sources: dict[str, tuple[Value, int]]
) -> list[Value]:
    """Writes a stage's operations; replaces the values of `states` by the new ones, and returns the results.

    `sources` says where each symbol can be read: an argument of the entry and its axis.

    Raises:
        SetunError: lists every operation that cannot be written.
    """
    f.source, f.parameters = stage.source, stage.parameters
    f.env = dict(zip(stage.inputs, inputs, strict=True))
    f.env |= {node: states[name] for name, node in stage.states.items()}
    f.symbols = {size: sources[symbol] for size, symbol in stage.symbols.items()}
    buffers = {node: [node] for node in stage.states.values()}
    problems: list[str] = []
    for node in stage.graph.nodes:
        if node.op != "call_function" or node.target in _IGNORED:
            continue
        f.at(node)
        if node.target is torch.ops.aten.copy.default:
            f.env[node] = f.value(node.args[1])
            continue
        if node.target is torch.ops.aten.copy_.default:
            # Later reads of the buffer, by whichever of its nodes, see what was written.
            aliases = buffers[node.args[0]]
            aliases.append(node)
            buffers[node] = aliases
            f.env.update(dict.fromkeys(aliases, f.value(node.args[1])))
            continue
        lower = REGISTRY.get(node.target)
        try:
            if lower is None:
                raise Unsupported("")
            value = lower(f, node)
        except Unsupported as error:
            path, file, line = location(node, f.source)
            reason = f" with {error}" if str(error) else ""
            problems.append(f"{node.target}{reason} in {path or 'the module itself'} ({file}:{line})")
            value = Value("%unsupported", _type_or_unknown(node))
        if value is not None:
            f.env[node] = value
    if problems:
        unique = list(dict.fromkeys(problems))
        raise SetunError(
            f"entry {f.name!r} uses {len(unique)} unsupported operation{'s' if len(unique) > 1 else ''}:\n"
            + "\n".join(f"  {problem}" for problem in unique)
        )
    for name, node in stage.states.items():
        states[name] = f.value(stage.mutated.get(node.name, node))
    return [f.value(node) for node in stage.outputs]


def _type_or_unknown(node: fx.Node) -> str:
    value = node.meta.get("val")
    if isinstance(value, Tensor):
        return tensor_type(value.shape, ELEMENTS.get(value.dtype, "f32"))
    return "index"


def _attributes(kind: str, name: str, argument: Argument) -> str:
    """Attributes of an argument or result: `bitnet.name` or `bitnet.state`, and `bitnet.dims`."""
    dims = ", ".join(string_literal(symbol) for symbol in argument.symbols if symbol is not None)
    return f"{{bitnet.{kind} = {string_literal(name)}" + (f", bitnet.dims = [{dims}]}}" if dims else "}")


def _mlir_type(argument: Argument) -> str:
    sizes = ["?" if size is None else str(size) for size in argument.shape]
    return f"tensor<{'x'.join([*sizes, ELEMENTS[argument.dtype]])}>"


def _trace_entry(module: nn.Module, entry: Any, context: int, exported: dict[Any, Stage]) -> Function:
    """Writes one entry. `exported` keeps the stages that entries share."""
    inputs = {name: Argument.of(dtype, dims) for name, (dtype, dims) in entry.inputs.items()}
    states = state_buffers(module)
    f = Function(entry.name)
    arguments: list[str] = []
    sources: dict[str, tuple[Value, int]] = {}

    def declare(kind: str, name: str, argument: Argument) -> Value:
        value = Value(f.fresh(name), _mlir_type(argument))
        arguments.append(f"{value.name}: {value.type} {_attributes(kind, name, argument)}")
        for axis, symbol in enumerate(argument.symbols):
            if symbol is not None:
                sources.setdefault(symbol, (value, axis))
        return value

    named = {name: declare("name", name, argument) for name, argument in inputs.items()}
    late = {name: named.pop(name) for name in entry.late}
    values = list(named.values())
    if entry.position:
        values.append(Value(f.fresh("pos"), "i64"))
        arguments.append(f"{values[-1].name}: i64 {{bitnet.position}}")
    kept = {name: declare("state", name, argument) for name, argument in states.items()}

    passed, position = [argument for name, argument in inputs.items() if name not in entry.late], entry.position
    stages = entry.stages or (entry.name,)
    for method in stages:
        if method == stages[-1]:
            values += [late[name] for name in entry.late]
            passed += [inputs[name] for name in entry.late]
        key = (method, tuple(passed), position)
        if key not in exported:
            exported[key] = _stage(module, method, passed, position, context)
        values = _write(f, exported[key], values, kept, sources)
        passed, position = exported[key].arguments(), False

    results = [
        f"{value.type} {_attributes('name', name, argument)}"
        for value, name, argument in zip(values, entry.outputs, passed, strict=True)
    ]
    results += [f"{kept[name].type} {_attributes('state', name, argument)}" for name, argument in states.items()]
    values = [*values, *kept.values()]
    separator = ",\n      "
    reset = ", bitnet.reset" if entry.reset else ""
    header = (
        f"  func.func @{entry.name}({separator.join(arguments)})\n"
        f"      -> ({f'{separator}    '.join(results)})\n"
        f"      attributes {{bitnet.entry{reset}, bitnet.max_context = {context} : i64}} {{"
    )
    names, types = ", ".join(value.name for value in values), ", ".join(value.type for value in values)
    f.lines = [header, *f.lines, f"    return {names} : {types}", "  }"]
    return f


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
        functions = [_trace_entry(module, entry, context, exported) for entry in module.entries]
    constants: dict[str, Tensor] = {}
    for function in functions:
        constants.update(function.constants)
    pairs = ", ".join(f"{key} = {string_literal(value)}" for key, value in (provenance or {}).items())
    lines = [f"module attributes {{bitnet.provenance = {{{pairs}}}}} {{"]
    for function in functions:
        lines += function.lines
    return Traced("\n".join([*lines, "}", ""]), constants)
