"""Modules to graphs of operators, by `torch.export`: with symbolic sizes, functional, parameters lifted."""

from __future__ import annotations

import inspect
import io
import logging
import operator
import os
import re
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sympy
import torch
import torch.utils._pytree as pytree
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.export.graph_signature import ConstantArgument, InputKind, OutputKind
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

from setun.aten import REGISTRY
from setun.diagnostics import SetunError
from setun.remembering import AttributeWatch
from setun.whole import keep_whole
from setun.writer import PACKAGE_ROOT, TORCH_ROOT, expression, is_layer, shape_of, sizes_of

# Shape assertions of torch.export hold by the entry's declaration; arithmetic on sizes is read off their values.
IGNORED = {
    torch.ops.aten._assert_scalar.default,
    torch.ops.aten.sym_constrain_range_for_size.default,
    torch.ops.aten.sym_constrain_range.default,
    torch.ops.aten._assert_tensor_metadata.default,
    torch.ops.aten.sym_size.int,
    operator.ge, operator.le, operator.gt, operator.lt, operator.eq, operator.ne,
    operator.add, operator.sub, operator.mul, operator.floordiv, operator.mod, operator.neg,
    torch.sym_max, torch.sym_min, torch.sym_not, torch.sym_sum,
}  # fmt: skip


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
        outputs: nodes of the results; where a result is no tensor, its value.
        mutated: nodes of the states' new values, by placeholder, where functionalisation named them.
        symbols: names of the symbolic sizes of arguments.
        source: file and line of the method.
        prefix: path of the module in what was exported, with a dot.
    """

    graph: fx.Graph
    parameters: dict[str, tuple[str, Tensor]]
    inputs: list[fx.Node]
    states: dict[str, fx.Node]
    outputs: list[Any]
    mutated: dict[str, fx.Node]
    symbols: dict[sympy.Expr, str]
    source: tuple[str, int]
    prefix: str = ""

    def argument(self, node: fx.Node) -> Argument:
        """What a node is, as an argument or result of an entry.

        Raises:
            SetunError: it has a size that no argument has.
        """
        sizes = sizes_of(node)
        unknown = [size for size in sizes if not size.is_Integer and size not in self.symbols]
        if unknown:
            raise SetunError(
                f"result {node.name!r} ({self.source[0]}:{self.source[1]}) has the size {unknown[0]}, which no "
                "input has",
                "Give every size of a result to an input as a dimension of its own.",
            )
        shape = tuple(int(size) if size.is_Integer else None for size in sizes)
        return Argument(node.meta["val"].dtype, shape, tuple(self.symbols.get(size) for size in sizes))

    def arguments(self) -> list[Argument]:
        """The results, as the arguments of the next stage."""
        return [self.argument(node) for node in self.outputs]


class _WithState(nn.Module):
    """Calls a method of a module with its state buffers replaced by arguments, so that they may have symbolic sizes."""

    prefix = "module."

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
    """The buffers that a session keeps by a module's own word (`session_state`), by name, in module order."""
    states = {}
    for path, child in module.named_modules():
        for name, symbols in getattr(child, "session_state", {}).items():
            buffer = getattr(child, name)
            shape = tuple(size if symbol is None else None for size, symbol in zip(buffer.shape, symbols, strict=True))
            states[f"{path}.{name}" if path else name] = Argument(buffer.dtype, shape, tuple(symbols))
    return states


def user_place(error: BaseException) -> str:
    """`file:line: text` of the innermost frame of an exception that is neither torch's nor ours; empty if none is."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        own = Path(frame.filename).parent == PACKAGE_ROOT / "setun"
        if not own and not is_layer(frame.filename) and not frame.filename.startswith("<"):
            return f"{frame.filename}:{frame.lineno}: {frame.line}"
    return ""


_EXPORTING = threading.RLock()
"""One export at a time: it replaces methods of the module, and the process's standard output."""


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch logs and prints of a failed export: the error tells it. TORCH_LOGS asks for all of it.

    What a module prints is passed on where the export succeeds.
    """
    if "TORCH_LOGS" in os.environ:
        yield
        return
    disabled, printed = logging.root.manager.disable, io.StringIO()
    logging.disable(logging.ERROR)
    try:
        with redirect_stdout(printed), redirect_stderr(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
    if text := printed.getvalue():
        sys.stdout.write(text)


def _cure(text: str) -> str:
    """What helps against a failure of torch's export, by its message."""
    cures = {
        "Suggested fixes": "Change dynamic_shapes as suggested, or leave these sizes out of it.",
        "dynamic_shapes": "dynamic_shapes is built as the arguments are, with a dictionary or None for each tensor.",
        "not a known type": "Return tensors in tuples, lists and dictionaries (transformers: use_cache=False).",
        "Unsupported input type": "Pass tensors in tuples, lists and dictionaries.",
        "register it as buffer": "Keep it in a buffer (register_buffer).",
        "": "The module has to run for every length of its input and without branching on values.",
    }
    return next(cure for part, cure in cures.items() if part in text)


@contextmanager
def _exporting(module: nn.Module, what: str) -> Iterator[None]:
    """Around exports by torch: sees to their surroundings, and makes their failures errors of ours."""
    try:
        with _EXPORTING, keep_whole(module), torch.no_grad(), torch.autocast("cpu", enabled=False), _quiet():
            yield
    except SetunError:
        raise
    except GuardOnDataDependentSymNode as error:
        place = user_place(error) or "a place unknown"
        raise SetunError(
            f"{what} branches on a value that is known only when it runs\n  at {place}",
            "Choose between tensors by torch.where, or take the decision out of the module.",
        ) from error
    except Exception as error:  # torch raises many kinds here, each about the module rather than about us
        place = user_place(error)
        text = re.split(r"\n+(?:User Stack|The error above occurred|For more information)", str(error).strip())[0]
        raise SetunError(
            f"{what} cannot be exported by torch: {type(error).__name__}: {text}"
            + (f"\n  at {place}" if place else ""),
            _cure(text),
        ) from error


def _is_modules(file: str) -> bool:
    """Whether a file has code of modules, rather than of torch's insides."""
    path = Path(file)
    return not path.is_relative_to(TORCH_ROOT) or path.is_relative_to(TORCH_ROOT / "nn")


@contextmanager
def _branches() -> Iterator[list[tuple[sympy.Basic, bool]]]:
    """The questions about sizes that modules ask while they are exported, and the answers."""
    asked: list[tuple[sympy.Basic, bool]] = []
    ask = torch.SymBool.__bool__

    def answer(self: torch.SymBool) -> bool:
        question = getattr(self.node, "expr", None)
        answered = ask(self)
        if question is not None and _is_modules(sys._getframe(1).f_code.co_filename):
            asked.append((question, answered))
        return answered

    torch.SymBool.__bool__ = answer
    try:
        yield asked
    finally:
        torch.SymBool.__bool__ = ask


def _parts(expr: sympy.Basic) -> Iterator[sympy.Basic]:
    """The conditions that hold together where an expression is true."""
    if isinstance(expr, sympy.And):
        for part in expr.args:
            yield from _parts(part)
    else:
        yield expr


def _relations(
    program: torch.export.ExportedProgram, asked: Sequence[tuple[sympy.Basic, bool]]
) -> list[sympy.core.relational.Relational]:
    """What a graph relies on beside the range of each size.

    torch takes for granted that a size is not 1, and tells relations of sizes as guards. Those say how tensors lie in
    memory, too, as inequations; an inequation counts if the module asked for it.

    Raises:
        SetunError: a branch of the module depends on sizes in a way that cannot be told.
    """
    values = (node.meta.get("val") for node in program.graph.nodes)
    env = next((value.fake_mode.shape_env for value in values if isinstance(value, FakeTensor)), None)
    if env is None:
        return []
    guards = [guard.expr for guard in env.guards]
    guards = [expr for expr in guards if len(expr.free_symbols) > 1 and not isinstance(expr, sympy.Ne)]
    answers = [question if answer else sympy.Not(question) for question, answer in asked]
    found: dict[sympy.Basic, None] = {}
    for expr in (*guards, *answers):
        for part in _parts(env.replace(expr)):
            if isinstance(part, sympy.core.relational.Relational):
                found[part.canonical] = None
            elif part.free_symbols:
                raise SetunError(f"a branch of the module depends on sizes by {part}", "Compare two sizes at a time.")
    return list(found)


def _of_one(value: Any, sizes: Sequence[sympy.Expr], symbol: sympy.Symbol) -> Any:
    """An argument with the size `symbol` 1: floats at random, other elements of the example.

    Raises:
        ValueError: another size depends on it.
    """
    if not isinstance(value, Tensor):
        return value
    for axis, size in enumerate(sizes):
        if size == symbol:
            value = value.narrow(axis, 0, 1)
        elif size.has(symbol):
            raise ValueError(f"size {size}")
    return torch.randn(value.shape).to(value.dtype) if value.is_floating_point() else value.clone()


def _holds_for_one(
    module: nn.Module,
    program: torch.export.ExportedProgram,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    symbol: sympy.Symbol,
) -> bool:
    """Whether the graph gives what the module gives for a size of 1, though it was traced for more: many branches that
    ask for it only spare work. Tried with one call."""
    leaves, spec = pytree.tree_flatten((args, dict(kwargs)))
    nodes = {node.name: node for node in program.graph.nodes}
    sizes = [() if isinstance(arg, ConstantArgument) else sizes_of(nodes[arg.name]) for arg in _user_inputs(program)]
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            values = [_of_one(value, size, symbol) for value, size in zip(leaves, sizes, strict=True)]
            given = pytree.tree_unflatten(values, spec)
            wanted = pytree.tree_leaves(module(*given[0], **given[1]))
            found = pytree.tree_leaves(program.module(check_guards=False)(*given[0], **given[1]))
        pairs = list(zip(wanted, found, strict=True))
        for want, got in pairs:
            if isinstance(want, Tensor):
                torch.testing.assert_close(got, want, rtol=1e-3, atol=1e-4, equal_nan=True)
        return all(isinstance(want, Tensor) or want == got for want, got in pairs)
    except Exception:  # whatever the module raises for it, or the comparison
        return False


def _known(target: Any) -> bool:
    return target in REGISTRY or target in IGNORED


def _functional(program: torch.export.ExportedProgram, states: set[str]) -> torch.export.ExportedProgram:
    """The program without mutations, and with operators that have no lowering taken apart by torch.

    That is general and slow. A `copy_` onto a state that no view looks at only renames its value, so graphs of known
    operators and such copies, which all our own definitions make, do without.
    """
    aliases = {node for node in program.graph.nodes if node.op == "placeholder" and node.name in states}
    plain = True
    for node in program.graph.nodes:
        if node.op != "call_function":
            continue
        if node.target is torch.ops.aten.copy_.default and node.args[0] in aliases:
            aliases.add(node)
            continue
        views = aliases.intersection(node.all_input_nodes) and getattr(node.target, "namespace", "") != "setun"
        plain = plain and _known(node.target) and not views
    if plain:
        return program
    table = torch.export.default_decompositions()
    for target in REGISTRY:
        if isinstance(target, torch._ops.OpOverload) and target in table:
            table.pop(target)
    return program.run_decompositions(table)


def _parameters(program: torch.export.ExportedProgram, module: nn.Module, prefix: str) -> dict[str, tuple[str, Tensor]]:
    """Lifted parameters, buffers and constants, by placeholder: their name in the module and the tensor."""
    parameters: dict[str, tuple[str, Tensor]] = {}
    for spec in program.graph_signature.input_specs:
        if spec.kind in (InputKind.PARAMETER, InputKind.BUFFER):
            found = program.state_dict.get(spec.target)
            tensor = program.constants[spec.target] if found is None else found
            parameters[spec.arg.name] = (spec.target.removeprefix(prefix), tensor)
        elif spec.kind == InputKind.CONSTANT_TENSOR:
            parameters[spec.arg.name] = (f"constant.{spec.target}", program.constants[spec.target])
    return parameters


def _user_inputs(program: torch.export.ExportedProgram) -> list[Any]:
    """Arguments in order: names of placeholders, or what torch took for constants."""
    return [spec.arg for spec in program.graph_signature.input_specs if spec.kind == InputKind.USER_INPUT]


def export_method(module: nn.Module, method: str, inputs: Sequence[Argument], position: bool, context: int) -> Stage:
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
    count = len(made)
    wrapped = _WithState(module, method, list(states))
    with _exporting(wrapped, f"method {method!r}"):
        program = torch.export.export(
            wrapped,
            ([tensor for tensor, _ in made], [tensor for tensor, _ in pools]),
            dynamic_shapes=([dynamic for _, dynamic in made], [dynamic for _, dynamic in pools]),
            strict=False,
        )
        program = _functional(program, {arg.name for arg in _user_inputs(program)[count:]})
    nodes = {node.name: node for node in program.graph.nodes}
    placeholders = [nodes[arg.name] for arg in _user_inputs(program)]
    state_nodes = dict(zip(states, placeholders[count:], strict=True))
    sizes: dict[sympy.Expr, str] = {}
    for node, argument in zip([*placeholders[: len(inputs)], *state_nodes.values()], arguments, strict=True):
        for size, symbol in zip(shape_of(node), argument.symbols, strict=True):
            if symbol is not None and not expression(size).is_Integer:
                sizes[expression(size)] = symbol
    outputs, mutated = _outputs(program, OutputKind.USER_INPUT_MUTATION)
    return Stage(
        program.graph,
        _parameters(program, module, _WithState.prefix),
        placeholders[:count],
        state_nodes,
        outputs,
        mutated,
        sizes,
        _definition(getattr(module, method)),
        _WithState.prefix,
    )


def _definition(method: Callable[..., Any]) -> tuple[str, int]:
    """File and first line of a method."""
    code = getattr(inspect.unwrap(method), "__code__", None)
    return ("unknown", 0) if code is None else (code.co_filename, code.co_firstlineno)


def _outputs(program: torch.export.ExportedProgram, *mutations: OutputKind) -> tuple[list[Any], dict[str, fx.Node]]:
    """Results of the user, and what is written back, by the target of the mutation."""
    results = next(node for node in program.graph.nodes if node.op == "output").args[0]
    pairs = list(zip(program.graph_signature.output_specs, results, strict=True))
    outputs = [
        spec.arg.value if isinstance(spec.arg, ConstantArgument) else node
        for spec, node in pairs
        if spec.kind == OutputKind.USER_OUTPUT
    ]
    return outputs, {spec.target: node for spec, node in pairs if spec.kind in mutations}


@dataclass
class Call:
    """An exported call of a module.

    Attributes:
        stage: what it computes; its inputs are those arguments that are tensors.
        arguments: every argument in order: a node, or the constant that it was.
        in_spec, out_spec: torch's descriptions of the containers around arguments and results.
        ranges: smallest and largest of dynamic sizes (0: no limit), by expression.
        initial: first values of the states, by name.
        relations: of sizes, which the graph relies on.
        derived: names of sizes of results that no argument has. Callers compute them, and pass an empty argument of
            each size, for the sizes of an entry are those of its arguments.
    """

    stage: Stage
    arguments: list[Any]
    in_spec: Any
    out_spec: Any
    ranges: dict[sympy.Expr, tuple[int, int]]
    initial: dict[str, Tensor] = field(default_factory=dict)
    relations: list[sympy.core.relational.Relational] = field(default_factory=list)
    derived: dict[sympy.Expr, str] = field(default_factory=dict)


def export_call(
    module: nn.Module,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    dynamic_shapes: Any,
    names: Sequence[Mapping[int, str]],
) -> Call:
    """Exports a call of a module; buffers that it changes become states.

    Args:
        dynamic_shapes: as for `torch.export.export`.
        names: names of dynamic dimensions by axis, for each argument in torch's order.

    Raises:
        SetunError: torch cannot export it, or it changes one of its arguments.
    """
    with _exporting(module, f"the module {type(module).__qualname__}"), _branches() as asked:
        watch = AttributeWatch(module)
        with watch:
            program = torch.export.export(module, args, dict(kwargs), dynamic_shapes=dynamic_shapes, strict=False)
        program = _functional(program, set())
    if watch.changed:
        watch.check(args, kwargs)
    nodes = {node.name: node for node in program.graph.nodes}
    arguments = [arg.value if isinstance(arg, ConstantArgument) else nodes[arg.name] for arg in _user_inputs(program)]
    inputs = [item for item in arguments if isinstance(item, fx.Node)]
    for node in inputs:
        if not isinstance(node.meta["val"], Tensor):
            raise SetunError(f"argument {node.name!r} is a number that changes", "Pass it as a tensor.")
    outputs, mutated = _outputs(program, OutputKind.BUFFER_MUTATION, OutputKind.PARAMETER_MUTATION)
    numbers = (int, float, bool)
    for item in outputs:
        value = item.meta["val"] if isinstance(item, fx.Node) else item
        if not isinstance(value, (Tensor, str, type(None), *numbers)):
            raise SetunError("a result of the module is a number that depends on sizes", "Return a tensor.")
    _, changed = _outputs(program, OutputKind.USER_INPUT_MUTATION)
    if changed:
        raise SetunError(
            f"the module changes its argument {next(iter(changed))!r} in place",
            "Return the new value, or keep a buffer.",
        )
    parameters = _parameters(program, module, "")
    placeholders = {name: key for key, (name, _) in parameters.items()}
    states = {name: nodes[placeholders[name]] for name in mutated}
    initial = {name: parameters.pop(placeholders[name])[1] for name in mutated}
    stage = Stage(
        program.graph,
        parameters,
        inputs,
        states,
        outputs,
        {placeholders[name]: node for name, node in mutated.items()},
        _symbol_names(arguments, names),
        _definition(module.forward),
    )
    relations = _relations(program, asked)
    for symbol in {symbol for relation in relations for symbol in relation.free_symbols}:
        of_one = [r for r in relations if r.free_symbols == {symbol} and not r.subs(symbol, 1) and r.subs(symbol, 2)]
        # A module that changes is not called.
        if of_one and not (mutated or watch.changed) and _holds_for_one(module, program, args, kwargs, symbol):
            relations = [relation for relation in relations if relation not in of_one]
    spec = program.call_spec
    return Call(
        stage,
        arguments,
        spec.in_spec,
        spec.out_spec,
        _ranges(program),
        initial,
        relations,
        _derived_sizes(outputs, stage.symbols),
    )


def _derived_sizes(outputs: Sequence[Any], symbols: Mapping[sympy.Expr, str]) -> dict[sympy.Expr, str]:
    """A name for each size of a result that no argument has."""
    derived: dict[sympy.Expr, str] = {}
    for node in outputs:
        for size in sizes_of(node) if isinstance(node, fx.Node) else ():
            if not size.is_Integer and size not in symbols:
                derived.setdefault(size, f"setun.size{len(derived)}")
    return derived


def _symbol_names(arguments: Sequence[Any], names: Sequence[Mapping[int, str]]) -> dict[sympy.Expr, str]:
    """A name for each dynamic size: the one given, else made from the argument's and the axis."""
    symbols: dict[sympy.Expr, str] = {}
    for number, node in enumerate(arguments):
        given = names[number] if number < len(names) else {}
        for axis, size in enumerate(sizes_of(node) if isinstance(node, fx.Node) else ()):
            if not size.is_Integer and size not in symbols:
                own = f"{node.name}_{axis}"
                name = given.get(axis, own)
                symbols[size] = own if name in symbols.values() else name
    return symbols


def _ranges(program: torch.export.ExportedProgram) -> dict[sympy.Expr, tuple[int, int]]:
    """Smallest and largest of the sizes that have a limit. torch counts sizes from 2, which is no limit of the code."""
    ranges = {}
    for symbol, limits in program.range_constraints.items():
        smallest = int(limits.lower) if limits.lower.is_Integer else 1
        largest = int(limits.upper) if limits.upper.is_Integer and limits.upper < 2**48 else 0
        ranges[symbol] = (smallest if smallest > 2 else 1, largest)
    return ranges
