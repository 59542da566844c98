"""PyTorch modules to MLIR text in the `bitnet` dialect (`docs/contracts.md`, section 1), by `torch.export`.

Each entry of a module is exported on its own with symbolic sequence length and session capacity; one registry says how
an operator is written, by overload. Tensors without memory (meta) are weights of the checkpoint's files; tensors with
values are constants, which are handed back to be written to a file of their own. Buffers that the module names in
`session_state` become arguments, and what is copied into them becomes results.

Everything unsupported in a module is reported at once, with module path and source line.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import sympy
import torch
from torch import Tensor, fx, nn

from setun import ops as _ops  # noqa: F401  (registers torch.ops.setun)
from setun.diagnostics import SetunError

ELEMENTS = {
    torch.float32: "f32",
    torch.float16: "f16",
    torch.bfloat16: "bf16",
    torch.int64: "i64",
    torch.int32: "i32",
    torch.bool: "i1",
}

PACKAGE_ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Value:
    """An SSA value: its name with `%`, and its type as MLIR text."""

    name: str
    type: str


@dataclass
class Traced:
    """A module as MLIR text, and the values of the constants that it names (`bitnet.weight`)."""

    mlir: str
    constants: dict[str, Tensor] = field(default_factory=dict)


class Unsupported(Exception):
    """An operator, or a form of it, that the tracer cannot write."""


def float_literal(value: float) -> str:
    """Shortest decimal that reads back as the same float32, in MLIR's form (with a point).

    Raises:
        Unsupported: for infinities and NaN.
    """
    if not math.isfinite(value):
        raise Unsupported(f"constant {value}")
    text = str(np.float32(value))
    mantissa, exponent, power = text.partition("e")
    return (mantissa if "." in mantissa else f"{mantissa}.0") + exponent + power


def string_literal(text: str) -> str:
    """MLIR string: printable ASCII as it is, everything else as escaped UTF-8 bytes."""
    data = text.encode("utf-8")
    return '"' + "".join(chr(b) if 32 <= b < 127 and b not in (34, 92) else f"\\{b:02X}" for b in data) + '"'


def _expr(size: int | torch.SymInt) -> sympy.Expr:
    return size.node.expr if isinstance(size, torch.SymInt) else sympy.Integer(size)


def tensor_type(shape: Sequence[int | torch.SymInt], element: str) -> str:
    """MLIR tensor type; symbolic sizes are `?`."""
    dims = ["?" if isinstance(n, torch.SymInt) and not _expr(n).is_Integer else str(int(_expr(n))) for n in shape]
    return f"tensor<{'x'.join([*dims, element])}>"


def _location(node: fx.Node, fallback: tuple[str, int] = ("unknown", 0)) -> tuple[str, str, int]:
    """Module path, file and line of a node. Files of this package are named from its root, for reproducible text.

    torch records the frames of `forward` methods only; `fallback` stands for code outside any.
    """
    path = ""
    for name, _ in (node.meta.get("nn_module_stack") or {}).values():
        path = re.sub(r"^(L\['self'\]\.?|self\.?)?module\.?", "", str(name))
    frames = re.findall(r'File "([^"]+)", line (\d+)', node.meta.get("stack_trace") or "")
    frames = [frame for frame in frames if Path(frame[0]).resolve() != Path(__file__).resolve()]
    file, line = frames[-1] if frames else fallback
    resolved = Path(file).resolve()
    if resolved.is_relative_to(PACKAGE_ROOT):
        file = str(resolved.relative_to(PACKAGE_ROOT))
    return path, file, int(line)


Lowering = Callable[["Function", fx.Node], Value | None]
REGISTRY: dict[Any, Lowering] = {}


def lowers(*overloads: Any) -> Callable[[Lowering], Lowering]:
    """Registers how operators are written. The function returns the value of the node's result."""

    def register(function: Lowering) -> Lowering:
        for overload in overloads:
            REGISTRY[overload] = function
        return function

    return register


class Function:
    """One entry being written: its lines, and the SSA value of each node."""

    def __init__(self, name: str, parameters: dict[str, tuple[str, Tensor]], source: tuple[str, int]) -> None:
        self.name = name
        self.source = source
        """File and line of the entry's method."""
        self.parameters = parameters
        """Lifted parameters and buffers by placeholder: their name in the module and the tensor."""
        self.lines: list[str] = []
        self.env: dict[fx.Node, Value] = {}
        self.symbols: dict[sympy.Symbol, tuple[Value, int]] = {}
        """Where each symbolic size can be read: an argument and its axis."""
        self.constants: dict[str, Tensor] = {}
        self._cache: dict[tuple[str, ...], Value] = {}
        self._taken: set[str] = set()
        self._loc = ""

    def at(self, node: fx.Node) -> None:
        """Sets the location of the operations that follow."""
        path, file, line = _location(node, self.source)
        place = f"{string_literal(file)}:{line}:0"
        self._loc = f" loc({string_literal(path)}({place}))" if path else f" loc({place})"

    def fresh(self, hint: str) -> str:
        hint = re.sub(r"[^A-Za-z0-9_.$]", "_", hint)
        name, count = hint, 0
        while name in self._taken:
            count += 1
            name = f"{hint}_{count}"
        self._taken.add(name)
        return f"%{name}"

    def write(self, results: str, text: str) -> None:
        self.lines.append(f"    {results}{text}{self._loc}")

    def op(self, hint: str, text: str, type: str) -> Value:
        """Writes `%hint = text` and gives its value."""
        value = Value(self.fresh(hint), type)
        self.write(f"{value.name} = ", text)
        return value

    def cached(self, key: tuple[str, ...], make: Callable[[], Value]) -> Value:
        if key not in self._cache:
            self._cache[key] = make()
        return self._cache[key]

    def value(self, node: Any) -> Value:
        """The value of an operand. A parameter used as an ordinary tensor is read as float32."""
        if not isinstance(node, fx.Node):
            raise Unsupported(f"operand {node!r}")
        if node in self.env:
            return self.env[node]
        return self.weight(node, "f32")

    def weight(self, node: fx.Node, element: str | None = None, shape: Sequence[int] | None = None) -> Value:
        """A parameter or constant. `element` is the type to read it as (its own if None)."""
        if node.name not in self.parameters:
            raise Unsupported(f"operand {node.name} as a weight")
        name, tensor = self.parameters[node.name]
        if element is None:
            element = ELEMENTS.get(tensor.dtype, "")
        if element not in ("f32", "f16", "bf16", "i1", "i2"):
            raise Unsupported(f"weight {name} of dtype {tensor.dtype}")
        if not tensor.is_meta:
            self.constants[name] = tensor
        type = tensor_type(tensor.shape if shape is None else shape, element)
        return self.cached(
            ("weight", name, type), lambda: self.op(name, f"bitnet.weight {string_literal(name)} : {type}", type)
        )

    def index(self, size: int | torch.SymInt | sympy.Expr) -> Value:
        """A size as an `index` value: constants, symbols read off an argument, sums and products of them."""
        expr = size if isinstance(size, sympy.Expr) else _expr(size)
        if expr.is_Integer:
            number = int(expr)
            hint, text = f"c{number}".replace("-", "m"), f"arith.constant {number} : index"
            return self.cached(("index", str(number)), lambda: self.op(hint, text, "index"))
        if expr.is_Symbol:
            if expr not in self.symbols:
                raise Unsupported(f"size {expr}, which no argument has")
            source, axis = self.symbols[expr]
            position = self.index(axis)
            return self.cached(
                ("dim", str(expr)),
                lambda: self.op("dim", f"tensor.dim {source.name}, {position.name} : {source.type}", "index"),
            )
        if expr.is_Add or expr.is_Mul:
            operation = "arith.addi" if expr.is_Add else "arith.muli"
            parts = [self.index(part) for part in expr.args]
            total = parts[0]
            for part in parts[1:]:
                total = self.op("size", f"{operation} {total.name}, {part.name} : index", "index")
            return total
        raise Unsupported(f"size {expr}")


def _shape(node: fx.Node) -> Sequence[int | torch.SymInt]:
    return node.meta["val"].shape


def _argument(node: fx.Node, name: str, position: int, default: Any = None) -> Any:
    if name in node.kwargs:
        return node.kwargs[name]
    return node.args[position] if position < len(node.args) else default


# The setun operators: one operation each.


def _sizes(node: fx.Node) -> list[int]:
    return [int(n) for n in _shape(node)]


@lowers(torch.ops.setun.bit_linear.default)
def _bit_linear(f: Function, node: fx.Node) -> Value:
    x_node, weight, scale, bias, norm_weight = node.args
    options = node.kwargs
    rows, columns = int(options["out_features"]), _sizes(weight)[1]
    storage, eps = options["storage"], float_literal(options["eps"])
    x = f.value(x_node)
    if storage in ("absmean", "sign"):
        masters = f.weight(weight)
        codes_type = tensor_type((rows, columns), "i2" if storage == "absmean" else "i1")
        name = f.parameters[weight.name][0]

        def quantize() -> Value:
            codes = f.fresh(f"{name}.codes")
            f._taken.add(f"{name}.scale")
            f.write(
                f"{codes}, %{name}.scale = ",
                f"bitnet.quantize_weight {masters.name} {{method = #bitnet.weight_quant<{storage}>, eps = {eps} : f32}}"
                f" : {masters.type} -> {codes_type}, tensor<1xf32>",
            )
            return Value(codes, codes_type)

        w = f.cached(("quantize", name), quantize)
        s = Value(f"%{name}.scale", "tensor<1xf32>")
    else:
        w = f.weight(weight, "i2", (rows, columns))
        s = f.weight(scale, "f32")
    operands, text = [x, w, s], f"bitnet.linear {x.name}, {w.name} scale({s.name})"
    for keyword, operand in (("bias", bias), ("norm_weight", norm_weight)):
        if operand is not None:
            operands.append(f.weight(operand, "f32"))
            text += f" {keyword}({operands[-1].name})"
    divide = options["divide"] and storage not in ("absmean", "sign")
    attributes = [] if options["activation"] == "none" else [
        f"activation = #bitnet.act_quant<{options['activation']}, bits = {options['bits']}, eps = {eps}>"
    ]  # fmt: skip
    attributes.append("scales = #bitnet.scales<tensor>")
    attributes.append(f"direction = #bitnet.direction<{'divide' if divide else 'multiply'}>")
    if options["norm"] != "none":
        attributes.append(f"norm = #bitnet.norm<{options['norm']}, eps = {float_literal(options['norm_eps'])}>")
    result = tensor_type(_shape(node), "f32")
    types = ", ".join(operand.type for operand in operands)
    return f.op(node.name, f"{text} {{{', '.join(attributes)}}} : ({types}) -> {result}", result)


@lowers(torch.ops.setun.rms_norm.default)
def _rms_norm(f: Function, node: fx.Node) -> Value:
    x, gain = f.value(node.args[0]), node.args[1]
    weights = [] if gain is None else [f.weight(gain, "f32")]
    names = ", ".join(value.name for value in [x, *weights])
    types = ", ".join(value.type for value in [x, *weights])
    return f.op(node.name, f"bitnet.rms_norm {names} {{eps = {float_literal(node.args[2])} : f32}} : {types}", x.type)


@lowers(torch.ops.setun.rotary.default)
def _rotary(f: Function, node: fx.Node) -> Value:
    x, cos, sin, pos = (f.value(argument) for argument in node.args)
    text = f"bitnet.rotary {x.name}, {cos.name}, {sin.name}, {pos.name} : {x.type}, {cos.type}"
    return f.op(node.name, text, x.type)


@lowers(torch.ops.setun.cache_update.default)
def _cache_update(f: Function, node: fx.Node) -> Value:
    cache, rows, pos = (f.value(argument) for argument in node.args)
    text = f"bitnet.cache_update {cache.name}, {rows.name}, {pos.name} : {cache.type}, {rows.type}"
    return f.op(node.name, text, cache.type)


@lowers(torch.ops.setun.attention.default)
def _attention(f: Function, node: fx.Node) -> Value:
    q, k, v, pos = (f.value(argument) for argument in node.args[:4])
    causal = "causal, " if node.args[5] else ""
    text = (
        f"bitnet.attention {q.name}, {k.name}, {v.name}, {pos.name} "
        f"{{{causal}scale = {float_literal(node.args[4])} : f32}} : {q.type}, {k.type}, {v.type}"
    )
    return f.op(node.name, text, q.type)


@lowers(torch.ops.setun.gated.default)
def _gated(f: Function, node: fx.Node) -> Value:
    gate, up = f.value(node.args[0]), f.value(node.args[1])
    text = f"bitnet.gated {gate.name}, {up.name} {{act = #bitnet.gate_act<{node.args[2]}>}} : {gate.type}"
    return f.op(node.name, text, gate.type)


@lowers(torch.ops.setun.embedding.default)
def _embedding(f: Function, node: fx.Node) -> Value:
    table, tokens = f.weight(node.args[0]), f.value(node.args[1])
    result = tensor_type(_shape(node), "f32")
    text = f"bitnet.embedding {table.name}, {tokens.name} : {table.type}, {tokens.type} -> {result}"
    return f.op(node.name, text, result)


@lowers(torch.ops.setun.dense.default)
def _dense(f: Function, node: fx.Node) -> Value:
    x, w, bias = f.value(node.args[0]), f.weight(node.args[1]), node.args[2]
    operands, text = [x, w], f"bitnet.dense {x.name}, {w.name}"
    if bias is not None:
        operands.append(f.weight(bias, "f32"))
        text += f" bias({operands[-1].name})"
    result = tensor_type(_shape(node), "f32")
    types = ", ".join(operand.type for operand in operands)
    return f.op(node.name, f"{text} : ({types}) -> {result}", result)


# ATen operators between them.


def _binary(mnemonic: str) -> Lowering:
    def lower(f: Function, node: fx.Node) -> Value:
        if node.kwargs.get("alpha", 1) != 1:
            raise Unsupported(f"alpha = {node.kwargs['alpha']}")
        a, b = f.value(node.args[0]), f.value(node.args[1])
        if a.type != b.type or not a.type.endswith("f32>"):
            raise Unsupported(f"operands {a.type} and {b.type}")
        return f.op(node.name, f"{mnemonic} {a.name}, {b.name} : {a.type}", a.type)

    return lower


lowers(torch.ops.aten.add.Tensor)(_binary("arith.addf"))
lowers(torch.ops.aten.sub.Tensor)(_binary("arith.subf"))
lowers(torch.ops.aten.mul.Tensor)(_binary("arith.mulf"))
lowers(torch.ops.aten.div.Tensor)(_binary("arith.divf"))


@lowers(
    torch.ops.aten.alias.default,
    torch.ops.aten.detach.default,
    torch.ops.aten.contiguous.default,
    torch.ops.aten.clone.default,
    torch.ops.aten.lift_fresh_copy.default,
)
def _same(f: Function, node: fx.Node) -> Value:
    return f.value(node.args[0])


@lowers(torch.ops.aten.sym_size.int)
def _sym_size(f: Function, node: fx.Node) -> Value:
    return f.index(node.meta["val"])


def _groups(source: Sequence[sympy.Expr], target: Sequence[sympy.Expr]) -> list[tuple[list[int], list[int]]]:
    """Splits two shapes of one size into the smallest runs of axes with equal products.

    Raises:
        Unsupported: where the symbolic sizes do not tell which axes belong together.
    """
    groups: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(source) and j < len(target):
        left, right, a, b = [i], [j], source[i], target[j]
        i, j = i + 1, j + 1
        while a != b:
            ratio = sympy.cancel(a / b)
            if i < len(source) and (sympy.numer(ratio) == 1 or (ratio.is_Rational and ratio < 1)):
                left.append(i)
                a, i = a * source[i], i + 1
            elif j < len(target) and (sympy.denom(ratio) == 1 or (ratio.is_Rational and ratio > 1)):
                right.append(j)
                b, j = b * target[j], j + 1
            else:
                raise Unsupported(f"reshape from {list(source)} to {list(target)}")
        groups.append((left, right))
    if groups and all(n == 1 for n in [*source[i:], *target[j:]]):
        groups[-1][0].extend(range(i, len(source)))
        groups[-1][1].extend(range(j, len(target)))
        return groups
    raise Unsupported(f"reshape from {list(source)} to {list(target)}")


@lowers(
    torch.ops.aten.view.default,
    torch.ops.aten.reshape.default,
    torch.ops.aten._unsafe_view.default,
    torch.ops.aten.unflatten.int,
    torch.ops.aten.flatten.using_ints,
    torch.ops.aten.unsqueeze.default,
    torch.ops.aten.squeeze.dim,
)
def _reshape(f: Function, node: fx.Node) -> Value:
    x = f.value(node.args[0])
    element = x.type.rpartition("x")[2].rstrip(">")
    source = [_expr(n) for n in _shape(node.args[0])]
    target = [_expr(n) for n in _shape(node)]
    result = tensor_type(_shape(node), element)
    if source == target:
        return x
    groups = _groups(source, target)

    def indices(side: Sequence[Sequence[int]]) -> str:
        return "[" + ", ".join(f"[{', '.join(map(str, group))}]" for group in side) + "]"

    middle = [sympy.Mul(*(source[i] for i in left)) for left, _ in groups]
    if any(len(left) > 1 for left, _ in groups):
        type = "tensor<" + "x".join(str(n) if n.is_Integer else "?" for n in middle) + f"x{element}>"
        text = f"tensor.collapse_shape {x.name} {indices([left for left, _ in groups])} : {x.type} into {type}"
        x = f.op(node.name, text, type)
    if any(len(right) > 1 for _, right in groups):
        sizes = ", ".join(str(n) if n.is_Integer else f.index(n).name for n in target)
        text = (
            f"tensor.expand_shape {x.name} {indices([right for _, right in groups])} output_shape [{sizes}] : "
            f"{x.type} into {result}"
        )
        x = f.op(node.name, text, result)
    return x


def _extract(f: Function, node: fx.Node, axis: int, start: str, size: str, result: str) -> Value:
    """One contiguous range along an axis. `start` and `size` are integers or SSA names."""
    x, shape = f.value(node.args[0]), _shape(node.args[0])
    offsets = ["0"] * len(shape)
    sizes = [
        size if i == axis else str(int(e)) if (e := _expr(n)).is_Integer else f.index(n).name
        for i, n in enumerate(shape)
    ]
    offsets[axis] = start
    text = (
        f"tensor.extract_slice {x.name}[{', '.join(offsets)}] [{', '.join(sizes)}] [{', '.join('1' for _ in shape)}] : "
        f"{x.type} to {result}"
    )
    return f.op(node.name, text, result)


def _start(f: Function, start: int | fx.Node, length: int | torch.SymInt) -> str:
    """A start index, counted from the end if negative, as an integer or an SSA name."""
    if isinstance(start, fx.Node):
        raise Unsupported("a slice whose start is computed")
    if start >= 0:
        return str(start)
    expr = _expr(length)
    if expr.is_Integer:
        return str(max(int(expr) + start, 0))
    # A sequence has at least one token, so the last element exists; further back the start is clamped as Python does.
    begin = f.op("start", f"arith.subi {f.index(expr).name}, {f.index(-start).name} : index", "index")
    if start < -1:
        begin = f.op("start", f"arith.maxsi {begin.name}, {f.index(0).name} : index", "index")
    return begin.name


@lowers(torch.ops.aten.slice.Tensor)
def _slice(f: Function, node: fx.Node) -> Value:
    shape = _shape(node.args[0])
    axis = _argument(node, "dim", 1, 0) % len(shape)
    if _argument(node, "step", 4, 1) != 1:
        raise Unsupported("a slice with a step")
    start = _argument(node, "start", 2)
    size = _expr(_shape(node)[axis])
    x = f.value(node.args[0])
    element = x.type.rpartition("x")[2].rstrip(">")
    if size == _expr(shape[axis]):
        return x
    begin = _start(f, 0 if start is None else start, shape[axis])
    length = str(int(size)) if size.is_Integer else f.index(size).name
    return _extract(f, node, axis, begin, length, tensor_type(_shape(node), element))


@lowers(torch.ops.aten.select.int)
def _select(f: Function, node: fx.Node) -> Value:
    shape = _shape(node.args[0])
    axis = node.args[1] % len(shape)
    element = f.value(node.args[0]).type.rpartition("x")[2].rstrip(">")
    begin = _start(f, node.args[2], shape[axis])
    return _extract(f, node, axis, begin, "1", tensor_type(_shape(node), element))


# Shape assertions of torch.export hold by the entry's declaration; arithmetic on sizes is read off their values.
_IGNORED = {
    torch.ops.aten._assert_scalar.default,
    torch.ops.aten.sym_constrain_range_for_size.default,
    torch.ops.aten.sym_constrain_range.default,
    torch.ops.aten._assert_tensor_metadata.default,
    operator.ge, operator.le, operator.gt, operator.lt, operator.eq, operator.ne,
    operator.add, operator.sub, operator.mul, operator.floordiv, operator.neg,
}  # fmt: skip


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


def state_buffers(module: nn.Module) -> dict[str, tuple[str | None, ...]]:
    """Names of the buffers that a session keeps, with the symbols of their dimensions, in module order."""
    return {
        f"{path}.{name}" if path else name: symbols
        for path, child in module.named_modules()
        for name, symbols in getattr(child, "session_state", {}).items()
    }


def _export(
    module: nn.Module, entry: Any, states: Mapping[str, Sequence[str | None]], context: int
) -> torch.export.ExportedProgram:
    """Exports one entry, with symbolic sizes where its inputs and the states name symbols."""
    symbols: dict[str, Any] = {}

    def dynamic(names: Sequence[str | None]) -> dict[int, Any]:
        for name in names:
            if name is not None and name not in symbols:
                symbols[name] = torch.export.Dim(name, min=1, max=max(context, 2))
        return {axis: symbols[name] for axis, name in enumerate(names) if name is not None}

    buffers = dict(module.named_buffers())
    # Example sizes only have to differ from 0, 1 and each other: torch would take equal ones for one symbol.
    example = {name: 7 + 4 * i for i, name in enumerate(dict.fromkeys(
        [s for _, names in entry.inputs.values() for s in names if s] + [s for n in states.values() for s in n if s]
    ))}  # fmt: skip
    inputs = [
        torch.zeros([example[name] for name in names], dtype=dtype, device="meta")
        for dtype, names in entry.inputs.values()
    ]
    pools = [
        buffers[name].new_empty(
            [n if symbol is None else example[symbol] for n, symbol in zip(buffers[name].shape, names, strict=True)],
            device="meta",
        )
        for name, names in states.items()
    ]
    shapes = ([dynamic(names) for _, names in entry.inputs.values()], [dynamic(names) for names in states.values()])
    if entry.position:
        inputs.append(torch.zeros((), dtype=torch.int64, device="meta"))
        shapes[0].append({})
    wrapped = _WithState(module, entry.name, list(states))
    try:
        return torch.export.export(wrapped, (inputs, pools), dynamic_shapes=shapes, strict=False)
    except Exception as error:  # torch raises many kinds here, each about the module rather than about us
        if isinstance(error, SetunError):
            raise
        raise SetunError(
            f"entry {entry.name!r} cannot be exported by torch: {type(error).__name__}: {str(error).strip()}",
            "The module has to run for every length of its input and without branching on values.",
        ) from error


def _is_mutating(target: Any) -> bool:
    schema = getattr(target, "_schema", None)
    return schema is not None and schema.is_mutable


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
        if views or _is_mutating(node.target):
            return True
    return False


def _trace_entry(module: nn.Module, entry: Any, context: int) -> Function:
    from torch.export.graph_signature import InputKind, OutputKind

    states = state_buffers(module)
    program = _export(module, entry, states, context)
    placeholders = [spec.arg.name for spec in program.graph_signature.input_specs if spec.kind == InputKind.USER_INPUT]
    count = len(entry.inputs) + bool(entry.position)
    if _needs_functionalization(program.graph, set(placeholders[count:])):
        program = program.run_decompositions({})
    signature = program.graph_signature
    placeholders = [spec.arg.name for spec in signature.input_specs if spec.kind == InputKind.USER_INPUT]
    parameters: dict[str, tuple[str, Tensor]] = {}
    for spec in signature.input_specs:
        if spec.kind in (InputKind.PARAMETER, InputKind.BUFFER):
            name = spec.target.removeprefix("module.")
            owner, _, leaf = name.rpartition(".")
            parameters[spec.arg.name] = (name, getattr(module.get_submodule(owner), leaf))
        elif spec.kind == InputKind.CONSTANT_TENSOR:
            parameters[spec.arg.name] = (f"constant.{spec.target}", program.constants[spec.target])

    code = getattr(module, entry.name).__code__
    f = Function(entry.name, parameters, (code.co_filename, code.co_firstlineno))
    nodes = {node.name: node for node in program.graph.nodes}
    arguments: list[str] = []
    symbol_names: dict[sympy.Symbol, str] = {}

    def declare(node: fx.Node, hint: str, names: Sequence[str | None], attribute: str) -> Value:
        shape = _shape(node)
        value = Value(f.fresh(hint), tensor_type(shape, ELEMENTS[node.meta["val"].dtype]))
        for axis, (size, name) in enumerate(zip(shape, names, strict=True)):
            expr = _expr(size)
            if name is not None and expr.is_Symbol:
                f.symbols.setdefault(expr, (value, axis))
                symbol_names[expr] = name
        dims = ", ".join(string_literal(name) for name in names if name is not None)
        dims = f", bitnet.dims = [{dims}]" if dims else ""
        arguments.append(f"{value.name}: {value.type} {{{attribute}{dims}}}")
        f.env[node] = value
        return value

    for name, (input_name, (_, names)) in zip(placeholders, entry.inputs.items(), strict=False):
        declare(nodes[name], input_name, names, f"bitnet.name = {string_literal(input_name)}")
    if entry.position:
        value = Value(f.fresh("pos"), "i64")
        arguments.append(f"{value.name}: i64 {{bitnet.position}}")
        f.env[nodes[placeholders[count - 1]]] = value
    state_nodes = {name: nodes[node] for name, node in zip(states, placeholders[count:], strict=True)}
    for name, node in state_nodes.items():
        declare(node, name, states[name], f"bitnet.state = {string_literal(name)}")

    buffers = {node: [node] for node in state_nodes.values()}
    problems: list[str] = []
    outputs: Sequence[Any] = ()
    for node in program.graph.nodes:
        if node.op == "output":
            outputs = node.args[0]
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
        path, file, line = _location(node, f.source)
        place = f"{path or 'the module itself'} ({file}:{line})"
        if lower is None:
            problems.append(f"{node.target} in {place}")
            f.env[node] = Value("%unsupported", _type_or_unknown(node))
            continue
        try:
            value = lower(f, node)
        except Unsupported as error:
            problems.append(f"{node.target} with {error} in {place}")
            value = Value("%unsupported", _type_or_unknown(node))
        if value is not None:
            f.env[node] = value
    if problems:
        unique = list(dict.fromkeys(problems))
        raise SetunError(
            f"entry {entry.name!r} uses {len(unique)} unsupported operation{'s' if len(unique) > 1 else ''}:\n"
            + "\n".join(f"  {problem}" for problem in unique)
        )

    mutated = {
        spec.target: node
        for spec, node in zip(signature.output_specs, outputs, strict=True)
        if spec.kind == OutputKind.USER_INPUT_MUTATION
    }
    results: list[str] = []
    values: list[Value] = []
    returned = [
        node for spec, node in zip(signature.output_specs, outputs, strict=True) if spec.kind == OutputKind.USER_OUTPUT
    ]
    for name, node in zip(entry.outputs, returned, strict=True):
        dims = [symbol_names.get(expr) for n in _shape(node) if not (expr := _expr(n)).is_Integer]
        if None in dims:
            raise SetunError(f"output {name!r} of entry {entry.name!r} has a size that no input has: {_shape(node)}")
        listed = ", ".join(string_literal(dim) for dim in dims if dim)
        values.append(f.value(node))
        suffix = f", bitnet.dims = [{listed}]" if listed else ""
        results.append(f"{values[-1].type} {{bitnet.name = {string_literal(name)}{suffix}}}")
    for name, node in state_nodes.items():
        values.append(f.value(mutated.get(node.name, node)))
        listed = ", ".join(string_literal(dim) for dim in states[name] if dim is not None)
        suffix = f", bitnet.dims = [{listed}]" if listed else ""
        results.append(f"{values[-1].type} {{bitnet.state = {string_literal(name)}{suffix}}}")

    reset = ", bitnet.reset" if entry.reset else ""
    header = (
        f"  func.func @{entry.name}({f',{chr(10)}      '.join(arguments)})\n"
        f"      -> ({f',{chr(10)}          '.join(results)})\n"
        f"      attributes {{bitnet.entry{reset}, bitnet.max_context = {context} : i64}} {{"
    )
    returned_names, returned_types = ", ".join(v.name for v in values), ", ".join(v.type for v in values)
    f.lines = [header, *f.lines, f"    return {returned_names} : {returned_types}", "  }"]
    return f


def _type_or_unknown(node: fx.Node) -> str:
    value = node.meta.get("val")
    if isinstance(value, Tensor):
        return tensor_type(value.shape, ELEMENTS.get(value.dtype, "f32"))
    return "index"


def trace(module: nn.Module, context: int, provenance: Mapping[str, str] | None = None) -> Traced:
    """A module with `entries` as one MLIR module.

    Args:
        module: has the attribute `entries`; parameters on the meta device are weights by name.
        context: largest session, in tokens (`bitnet.max_context`).
        provenance: copied into the package.

    Raises:
        SetunError: lists every operation that cannot be written.
    """
    with torch.no_grad():
        functions = [_trace_entry(module, entry, context) for entry in module.entries]
    constants: dict[str, Tensor] = {}
    for function in functions:
        constants.update(function.constants)
    pairs = ", ".join(f"{key} = {string_literal(value)}" for key, value in (provenance or {}).items())
    lines = [f"module attributes {{bitnet.provenance = {{{pairs}}}}} {{"]
    for function in functions:
        lines += function.lines
    return Traced("\n".join([*lines, "}", ""]), constants)
