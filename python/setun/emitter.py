"""Operators of a traced graph to operations of MLIR text: one registry, by overload.

A `Function` is one entry point being written. A lowering gets it and the node, writes what the node means, and returns
the value of its result; what it cannot write, it raises `Unsupported` for.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import sympy
import torch
from torch import Tensor, fx

from setun import ops as _ops  # noqa: F401  (registers torch.ops.setun)

ELEMENTS = {
    torch.float32: "f32",
    torch.float16: "f16",
    torch.bfloat16: "bf16",
    torch.int64: "i64",
    torch.int32: "i32",
    torch.bool: "i1",
}

PACKAGE_ROOT = Path(__file__).resolve().parent.parent
TRACER = PACKAGE_ROOT / "setun" / "tracer.py"


@dataclass(frozen=True)
class Value:
    """An SSA value: its name with `%`, and its type as MLIR text."""

    name: str
    type: str


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


def expression(size: int | torch.SymInt) -> sympy.Expr:
    return size.node.expr if isinstance(size, torch.SymInt) else sympy.Integer(size)


def tensor_type(shape: Sequence[int | torch.SymInt], element: str) -> str:
    """MLIR tensor type; symbolic sizes are `?`."""
    dims = [
        "?" if isinstance(n, torch.SymInt) and not expression(n).is_Integer else str(int(expression(n))) for n in shape
    ]
    return f"tensor<{'x'.join([*dims, element])}>"


def location(node: fx.Node, fallback: tuple[str, int] = ("unknown", 0)) -> tuple[str, str, int]:
    """Module path, file and line of a node. Files of this package are named from its root, for reproducible text.

    torch records the frames of `forward` methods only; `fallback` stands for code outside any.
    """
    path = ""
    for name, _ in (node.meta.get("nn_module_stack") or {}).values():
        path = re.sub(r"^(L\['self'\]\.?|self\.?)?module\.?", "", str(name))
    frames = re.findall(r'File "([^"]+)", line (\d+)', node.meta.get("stack_trace") or "")
    frames = [frame for frame in frames if Path(frame[0]).resolve() != TRACER]
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

    def __init__(self, name: str) -> None:
        self.name = name
        self.source = ("unknown", 0)
        """File and line of the method being written."""
        self.parameters: dict[str, tuple[str, Tensor]] = {}
        """Lifted parameters and buffers by placeholder: their name in the module and the tensor."""
        self.lines: list[str] = []
        self.env: dict[fx.Node, Value] = {}
        """The value of each node of the graph being written."""
        self.results: dict[fx.Node, list[Value]] = {}
        """The values of nodes with several results."""
        self.symbols: dict[sympy.Symbol, tuple[Value, int]] = {}
        """Where each symbolic size can be read: a value and its axis."""
        self.constants: dict[str, Tensor] = {}
        self._cache: dict[tuple[str, ...], Value] = {}
        self._taken: set[str] = set()
        self._loc = ""

    def at(self, node: fx.Node) -> None:
        """Sets the location of the operations that follow."""
        path, file, line = location(node, self.source)
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
        expr = size if isinstance(size, sympy.Expr) else expression(size)
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
                ("dim", source.name, str(axis)),
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


def shape_of(node: fx.Node) -> Sequence[int | torch.SymInt]:
    return node.meta["val"].shape


def _argument(node: fx.Node, name: str, position: int, default: Any = None) -> Any:
    if name in node.kwargs:
        return node.kwargs[name]
    return node.args[position] if position < len(node.args) else default


# The setun operators: one operation each.


def _sizes(node: fx.Node) -> list[int]:
    return [int(n) for n in shape_of(node)]


@lowers(torch.ops.setun.bit_linear.default)
def _bit_linear(f: Function, node: fx.Node) -> Value:
    x_node, weight, scale, bias, norm_weight = node.args
    options = node.kwargs
    rows, columns = int(options["out_features"]), _sizes(weight)[1]
    storage, eps, group = options["storage"], float_literal(options["eps"]), options.get("group", 0)
    scales = f"#bitnet.scales<group = {group}>" if group else "#bitnet.scales<tensor>"
    scale_type = tensor_type((rows, -(-columns // group)) if group else (1,), "f32")
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
                f"bitnet.quantize_weight {masters.name} {{method = #bitnet.weight_quant<{storage}>, eps = {eps} : f32"
                f"{f', scales = {scales}' if group else ''}}} : {masters.type} -> {codes_type}, {scale_type}",
            )
            return Value(codes, codes_type)

        w = f.cached(("quantize", name), quantize)
        s = Value(f"%{name}.scale", scale_type)
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
    attributes.append(f"scales = {scales}")
    attributes.append(f"direction = #bitnet.direction<{'divide' if divide else 'multiply'}>")
    if options["norm"] != "none":
        attributes.append(f"norm = #bitnet.norm<{options['norm']}, eps = {float_literal(options['norm_eps'])}>")
    result = tensor_type(shape_of(node), "f32")
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
    result = tensor_type(shape_of(node), "f32")
    text = f"bitnet.embedding {table.name}, {tokens.name} : {table.type}, {tokens.type} -> {result}"
    return f.op(node.name, text, result)


@lowers(torch.ops.setun.dense.default)
def _dense(f: Function, node: fx.Node) -> Value:
    x, w, bias = f.value(node.args[0]), f.weight(node.args[1]), node.args[2]
    operands, text = [x, w], f"bitnet.dense {x.name}, {w.name}"
    if bias is not None:
        operands.append(f.weight(bias, "f32"))
        text += f" bias({operands[-1].name})"
    result = tensor_type(shape_of(node), "f32")
    types = ", ".join(operand.type for operand in operands)
    return f.op(node.name, f"{text} : ({types}) -> {result}", result)


@lowers(torch.ops.setun.top_k.default)
def _top_k(f: Function, node: fx.Node) -> None:
    x, w, k = f.value(node.args[0]), f.weight(node.args[1]), f.value(node.args[2])
    length = int(node.meta["val"][0].shape[0])
    names, types = [f.fresh("ids"), f.fresh("best")], [f"tensor<{length}xi64>", f"tensor<{length}xf32>"]
    f.write(
        f"{', '.join(names)} = ",
        f"bitnet.top_k {x.name}, {w.name}, {k.name} : ({x.type}, {w.type}, {k.type}) -> ({', '.join(types)})",
    )
    f.results[node] = [Value(name, type) for name, type in zip(names, types, strict=True)]


@lowers(operator.getitem)
def _getitem(f: Function, node: fx.Node) -> Value:
    source, index = node.args
    if source not in f.results:
        raise Unsupported(f"one of the results of {source}")
    return f.results[source][index]


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
    source = [expression(n) for n in shape_of(node.args[0])]
    target = [expression(n) for n in shape_of(node)]
    result = tensor_type(shape_of(node), element)
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
    x, shape = f.value(node.args[0]), shape_of(node.args[0])
    offsets = ["0"] * len(shape)
    sizes = [
        size if i == axis else str(int(e)) if (e := expression(n)).is_Integer else f.index(n).name
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
    expr = expression(length)
    if expr.is_Integer:
        return str(max(int(expr) + start, 0))
    # A sequence has at least one token, so the last element exists; further back the start is clamped as Python does.
    begin = f.op("start", f"arith.subi {f.index(expr).name}, {f.index(-start).name} : index", "index")
    if start < -1:
        begin = f.op("start", f"arith.maxsi {begin.name}, {f.index(0).name} : index", "index")
    return begin.name


@lowers(torch.ops.aten.slice.Tensor)
def _slice(f: Function, node: fx.Node) -> Value:
    shape = shape_of(node.args[0])
    axis = _argument(node, "dim", 1, 0) % len(shape)
    if _argument(node, "step", 4, 1) != 1:
        raise Unsupported("a slice with a step")
    start = _argument(node, "start", 2)
    size = expression(shape_of(node)[axis])
    x = f.value(node.args[0])
    element = x.type.rpartition("x")[2].rstrip(">")
    if size == expression(shape[axis]):
        return x
    begin = _start(f, 0 if start is None else start, shape[axis])
    length = str(int(size)) if size.is_Integer else f.index(size).name
    return _extract(f, node, axis, begin, length, tensor_type(shape_of(node), element))


@lowers(torch.ops.aten.select.int)
def _select(f: Function, node: fx.Node) -> Value:
    shape = shape_of(node.args[0])
    axis = node.args[1] % len(shape)
    element = f.value(node.args[0]).type.rpartition("x")[2].rstrip(">")
    begin = _start(f, node.args[2], shape[axis])
    return _extract(f, node, axis, begin, "1", tensor_type(shape_of(node), element))
