"""MLIR text, operation by operation: values with types and symbolic sizes, and the function that is being written."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import sympy
import torch
from torch import Tensor, fx
from torch.utils._sympy import functions as symbolic

ELEMENTS = {
    torch.float32: "f32",
    torch.float16: "f16",
    torch.bfloat16: "bf16",
    torch.int64: "i64",
    torch.int32: "i32",
    torch.int8: "i8",
    torch.bool: "i1",
}
"""Element types by torch's dtypes."""

FLOATS = ("f32", "f16", "bf16")

PACKAGE_ROOT = Path(__file__).resolve().parent.parent
TORCH_ROOT = Path(torch.__file__).resolve().parent
_LAYERS = (TORCH_ROOT, PACKAGE_ROOT / "setun" / "nn")
_OWN_FRAMES = {PACKAGE_ROOT / "setun" / name for name in ("exporting.py", "whole.py")}

Sizes = tuple[sympy.Expr, ...]


class Unsupported(Exception):
    """An operator, or a form of it, that the tracer cannot write."""


@dataclass(frozen=True)
class Value:
    """An SSA value: its name with `%`, its element type, and its sizes; None for what is no tensor."""

    name: str
    element: str
    sizes: Sizes | None = None

    @property
    def type(self) -> str:
        return self.element if self.sizes is None else tensor_type(self.sizes, self.element)

    @property
    def rank(self) -> int:
        assert self.sizes is not None
        return len(self.sizes)


def named(name: str, element: str, sizes: Sequence[Any]) -> Value:
    """A tensor that is written already."""
    return Value(name, element, expressions(sizes))


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


def scalar_literal(value: float, element: str) -> str:
    """A number as MLIR writes it in a constant of an element type; infinities and NaN of f32 as their bits."""
    if element == "i1":
        return "true" if value else "false"
    if element not in FLOATS:
        return str(int(value))
    if element == "f32" and not math.isfinite(np.float32(value)):
        return f"0x{np.float32(value).view(np.uint32):08X}"
    return float_literal(value)


def string_literal(text: str) -> str:
    """MLIR string: printable ASCII as it is, everything else as escaped UTF-8 bytes."""
    data = text.encode("utf-8")
    return '"' + "".join(chr(b) if 32 <= b < 127 and b not in (34, 92) else f"\\{b:02X}" for b in data) + '"'


def expression(size: int | torch.SymInt | sympy.Expr) -> sympy.Expr:
    """A size as an expression of symbols."""
    if isinstance(size, torch.SymInt):
        return size.node.expr
    return sympy.sympify(size)


def expressions(sizes: Sequence[int | torch.SymInt | sympy.Expr]) -> Sizes:
    return tuple(expression(size) for size in sizes)


def is_one(size: sympy.Expr) -> bool:
    return size == 1


def tensor_type(sizes: Sequence[int | torch.SymInt | sympy.Expr], element: str) -> str:
    """MLIR tensor type; symbolic sizes are `?`."""
    dims = [str(int(n)) if n.is_Integer else "?" for n in expressions(sizes)]
    return f"tensor<{'x'.join([*dims, element])}>"


def shape_of(node: fx.Node) -> Sequence[int | torch.SymInt]:
    return node.meta["val"].shape


def sizes_of(node: fx.Node) -> Sizes:
    return expressions(shape_of(node))


def element_of(node: fx.Node) -> str:
    """Element type of a node's result.

    Raises:
        Unsupported: there is none for its dtype.
    """
    dtype = node.meta["val"].dtype
    if dtype not in ELEMENTS:
        raise Unsupported(f"dtype {str(dtype).removeprefix('torch.')}")
    return ELEMENTS[dtype]


class Location(NamedTuple):
    """Where a node comes from.

    Attributes:
        path: of the module; empty for the outermost.
        file, line: of the source. Files of this package are named from its root, for reproducible text.
        layer: the line is in the definition of a layer of torch or of `setun.nn`, for want of one of the user's.
    """

    path: str
    file: str
    line: int
    layer: bool

    def __str__(self) -> str:
        return f"{self.path or 'the module itself'} ({self.file}:{self.line})"


@cache
def _resolved(file: str) -> Path:
    return Path(file).resolve()


def is_layer(file: str) -> bool:
    """Whether a file defines layers that a user's source uses; the user's own lines tell more."""
    return any(_resolved(file).is_relative_to(root) for root in _LAYERS)


def location(node: fx.Node, fallback: tuple[str, int] = ("unknown", 0), prefix: str = "") -> Location:
    """Where a node comes from.

    torch records the frames of `forward` methods only; `fallback` stands for code outside any. Frames inside layers
    count only where there is no other. `prefix` is the path of the outermost module in what was exported, with a dot.
    """
    path = ""
    for name, _ in (node.meta.get("nn_module_stack") or {}).values():
        # torch.compile calls the outermost module L['self'], or whatever its name is there.
        path = re.sub(r"^L\['\w+'\]\.?", "", str(name))
        path = "" if f"{path}." == prefix else path.removeprefix(prefix)
    frames = re.findall(r'File "([^"]+)", line (\d+)', node.meta.get("stack_trace") or "")
    frames = [frame for frame in frames if not frame[0].startswith("<") and _resolved(frame[0]) not in _OWN_FRAMES]
    file, line = ([frame for frame in frames if not is_layer(frame[0])] or frames or [fallback])[-1]
    inside = _resolved(file).is_relative_to(PACKAGE_ROOT)
    name = str(_resolved(file).relative_to(PACKAGE_ROOT)) if inside else file
    return Location(path, name, int(line), is_layer(file))


def reassociation(source: Sizes, target: Sizes) -> list[tuple[list[int], list[int]]]:
    """Splits two shapes of one size into runs of axes with equal products, the smallest that the symbols tell.

    Raises:
        Unsupported: the products of all axes are not equal.
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
                return _one_group(source, target)
        groups.append((left, right))
    if groups and all(is_one(n) for n in [*source[i:], *target[j:]]):
        groups[-1][0].extend(range(i, len(source)))
        groups[-1][1].extend(range(j, len(target)))
        return groups
    return _one_group(source, target)


def _one_group(source: Sizes, target: Sizes) -> list[tuple[list[int], list[int]]]:
    if sympy.simplify(sympy.Mul(*source) - sympy.Mul(*target)) != 0:
        raise Unsupported(f"reshape from {list(source)} to {list(target)}")
    return [(list(range(len(source))), list(range(len(target))))] if source and target else []


_ARITHMETIC = {
    sympy.Add: "addi",
    sympy.Mul: "muli",
    symbolic.Max: "maxsi",
    symbolic.Min: "minsi",
    sympy.Max: "maxsi",
    sympy.Min: "minsi",
    symbolic.FloorDiv: "floordivsi",
    symbolic.CleanDiv: "floordivsi",
    symbolic.Mod: "remsi",
    symbolic.PythonMod: "remsi",
    sympy.Mod: "remsi",
}


def arithmetic(expr: sympy.Expr) -> tuple[str, list[sympy.Expr]]:
    """How a size is computed: the operation of `arith` that folds its operands, from the left.

    Raises:
        Unsupported: it is no arithmetic on sizes.
    """
    if isinstance(expr, sympy.Pow) and expr.exp.is_Integer and expr.exp > 0:
        return "muli", [expr.base] * int(expr.exp)
    if type(expr) in _ARITHMETIC:
        return _ARITHMETIC[type(expr)], list(expr.args)
    raise Unsupported(f"size {expr}")


def solved(symbol: sympy.Symbol, given: Iterable[sympy.Expr]) -> tuple[sympy.Expr, int, int]:
    """A size `a * symbol + b` among given ones that tells a symbol, with `a` and `b`.

    Raises:
        Unsupported: there is none.
    """
    for expr in given:
        a = expr.coeff(symbol)
        b = sympy.expand(expr - a * symbol)
        if a.is_Integer and b.is_Integer and a != 0:
            return expr, int(a), int(b)
    raise Unsupported(f"size {symbol}, which no argument has")


def magnitude(expr: sympy.Expr, size: int) -> int:
    """What no step of computing a size (`Function.index`) exceeds, either way, if its symbols are at most `size`."""
    if expr.is_Integer:
        return abs(int(expr))
    if expr.is_Symbol:
        return size
    mnemonic, operands = arithmetic(expr)
    parts = [magnitude(operand, size) for operand in operands]
    return {"addi": sum, "muli": math.prod}.get(mnemonic, max)(parts)


class Scope:
    """Where operations are written: a function, or the body of a structured operation in one."""

    def __init__(self, names: set[str], indent: str) -> None:
        self.lines: list[str] = []
        self._names = names
        self._indent = indent
        self._loc = ""

    def fresh(self, hint: str) -> str:
        """A new SSA name."""
        hint = re.sub(r"[^A-Za-z0-9_.$]", "_", hint)
        # A name that starts with a digit would have to be a number.
        hint = f"_{hint}" if hint[:1].isdigit() else hint
        name, count = hint, 0
        while name in self._names:
            count += 1
            name = f"{hint}_{count}"
        self._names.add(name)
        return f"%{name}"

    def write(self, results: str, text: str) -> None:
        self.lines.append(f"{self._indent}{results}{text}{self._loc}")

    def op(self, hint: str, text: str, element: str, sizes: Sequence[Any] | None = None) -> Value:
        """Writes `%hint = text` and gives its value."""
        value = Value(self.fresh(hint), element, None if sizes is None else expressions(sizes))
        self.write(f"{value.name} = ", text)
        return value

    def apply(self, mnemonic: str, *operands: Value, hint: str = "") -> Value:
        """An elementwise operation whose operands and result have one type; scalars or tensors."""
        x = operands[0]
        names = ", ".join(operand.name for operand in operands)
        return self.op(hint or mnemonic.rpartition(".")[2], f"{mnemonic} {names} : {x.type}", x.element, x.sizes)

    def compare(self, predicate: str, a: Value, b: Value, hint: str = "") -> Value:
        """A comparison, as i1: `predicate` is eq, ne, lt, le, gt or ge; integers are signed, NaN is unequal to all."""
        if a.element in FLOATS:
            kind, predicate = "arith.cmpf", "une" if predicate == "ne" else f"o{predicate}"
        else:
            kind = "arith.cmpi"
            if predicate not in ("eq", "ne"):
                predicate = ("u" if a.element == "i1" else "s") + predicate
        return self.op(hint or "compare", f"{kind} {predicate}, {a.name}, {b.name} : {a.type}", "i1", a.sizes)

    def select(self, condition: Value, a: Value, b: Value, hint: str = "") -> Value:
        """`a` where the condition holds, else `b`."""
        types = a.type if condition.sizes is None else f"{condition.type}, {a.type}"
        text = f"arith.select {condition.name}, {a.name}, {b.name} : {types}"
        return self.op(hint or "select", text, a.element, a.sizes)

    def convert(self, mnemonic: str, x: Value, element: str, hint: str = "") -> Value:
        """A conversion of element types by one operation."""
        result = Value("", element, x.sizes)
        text = f"{mnemonic} {x.name} : {x.type} to {result.type}"
        return self.op(hint or mnemonic.rpartition(".")[2], text, element, x.sizes)


class Function(Scope):
    """One entry being written: its lines, and the SSA value of each node."""

    def __init__(self, name: str) -> None:
        super().__init__(set(), "    ")
        self.name = name
        self.source = ("unknown", 0)
        """File and line of the method being written."""
        self.prefix = ""
        """Path of the outermost module in what was exported, with a dot."""
        self.parameters: dict[str, tuple[str, Tensor]] = {}
        """Lifted parameters and buffers by placeholder, and folded constants by node: their name and the tensor."""
        self.env: dict[fx.Node, Value] = {}
        """The value of each node of the graph being written."""
        self.results: dict[fx.Node, list[Value]] = {}
        """The values of nodes with several results."""
        self.symbols: dict[sympy.Expr, tuple[Value, int]] = {}
        """Where each symbolic size can be read: a value and its axis."""
        self.constants: dict[str, Tensor] = {}
        self.places: dict[str, tuple[str, str, int]] = {}
        """Module path, file and line where each weight is first used; no file where the user's source has no line."""
        self._cache: dict[tuple[str, ...], Value] = {}
        self._place = Location("", "unknown", 0, False)

    def at(self, node: fx.Node) -> None:
        """Sets the location of the operations that follow."""
        self._place = location(node, self.source, self.prefix)
        place = f"{string_literal(self._place.file)}:{self._place.line}:0"
        self._loc = f" loc({string_literal(self._place.path)}({place}))" if self._place.path else f" loc({place})"

    def cached(self, key: tuple[str, ...], make: Callable[[], Value]) -> Value:
        if key not in self._cache:
            self._cache[key] = make()
        return self._cache[key]

    # Operands.

    def value(self, node: Any) -> Value:
        """The value of an operand. A floating-point parameter used as an ordinary tensor is read as float32."""
        if not isinstance(node, fx.Node):
            raise Unsupported(f"operand {node!r}")
        if node in self.env:
            return self.env[node]
        if node.name in self.parameters:
            return self.constant(*self.parameters[node.name])
        raise Unsupported(f"operand {node.name}, which has no value")

    def constant(self, name: str, tensor: Tensor) -> Value:
        """A tensor that is known now: a weight if it is floating point, else a constant of the text."""
        if tensor.dtype.is_floating_point and tensor.dim() > 0:
            return self._weight(name, tensor, "f32", tensor.shape)
        element = "f32" if tensor.dtype.is_floating_point else ELEMENTS.get(tensor.dtype, "")
        if not element or tensor.is_meta:
            raise Unsupported(f"constant {name} of dtype {str(tensor.dtype).removeprefix('torch.')}")
        return self.cached(("constant", name), lambda: self._dense(name, tensor, element))

    def _dense(self, name: str, tensor: Tensor, element: str) -> Value:
        def nested(items: Any) -> str:
            if isinstance(items, list):
                return f"[{', '.join(map(nested, items))}]"
            return scalar_literal(items, element)

        items = tensor.tolist()
        if tensor.numel() > 1 and bool((tensor == tensor.flatten()[0]).all()):
            items = tensor.flatten()[0].item()
        text = f"arith.constant dense<{nested(items)}> : {tensor_type(tensor.shape, element)}"
        return self.op(name, text, element, tensor.shape)

    def is_constant(self, node: Any) -> bool:
        """Whether an operand is a parameter or a constant."""
        return isinstance(node, fx.Node) and node not in self.env and node.name in self.parameters

    def tensor(self, node: fx.Node) -> Tensor | None:
        """The values of a constant, if they are known now."""
        if not self.is_constant(node):
            return None
        tensor = self.parameters[node.name][1]
        return None if tensor.is_meta else tensor

    def weight(self, node: fx.Node, element: str | None = None, shape: Sequence[int] | None = None) -> Value:
        """A parameter or constant as a weight. `element` is the type to read it as (its own if None)."""
        if node.name not in self.parameters:
            raise Unsupported(f"operand {node.name} as a weight")
        name, tensor = self.parameters[node.name]
        if element is None:
            element = ELEMENTS.get(tensor.dtype, "")
        return self._weight(name, tensor, element, tensor.shape if shape is None else shape)

    def derived(self, name: str, tensor: Tensor, element: str = "f32") -> Value:
        """A weight of our own making, from others whose values are known now."""
        return self._weight(name, tensor, element, tensor.shape)

    def _weight(self, name: str, tensor: Tensor, element: str, shape: Sequence[int]) -> Value:
        if element not in ("f32", "f16", "bf16", "i1", "i2"):
            raise Unsupported(f"weight {name} of dtype {str(tensor.dtype).removeprefix('torch.')}")
        if not tensor.is_meta:
            self.constants[name] = tensor
        path, file, line, layer = self._place
        self.places.setdefault(name, (path, "", 0) if layer else (path, file, line))
        type = tensor_type(shape, element)
        text = f"bitnet.weight {string_literal(name)} : {type}"
        return self.cached(("weight", name, type), lambda: self.op(name, text, element, shape))

    # Sizes.

    def index(self, size: int | torch.SymInt | sympy.Expr) -> Value:
        """A size as an `index` value: constants, symbols read off an argument, and arithmetic on them."""
        expr = expression(size)
        if expr.is_Integer:
            number = int(expr)
            hint = f"c{number}".replace("-", "m")
            return self.cached_index(hint, f"arith.constant {number} : index")
        if expr in self.symbols:
            source, axis = self.symbols[expr]
            return self.cached_index("dim", f"tensor.dim {source.name}, {self.index(axis).name} : {source.type}")
        if expr.is_Symbol:
            return self._solved(expr)
        return self._arithmetic(expr)

    def cached_index(self, hint: str, text: str) -> Value:
        return self.cached(("index", text), lambda: self.op(hint, text, "index"))

    def _solved(self, symbol: sympy.Expr) -> Value:
        """A symbol that only occurs in a size `a * symbol + b` of an argument."""
        expr, a, b = solved(symbol, self.symbols)
        size = self.index(expr)
        rest = self.cached_index("size", f"arith.subi {size.name}, {self.index(b).name} : index")
        return self.cached_index("size", f"arith.divsi {rest.name}, {self.index(a).name} : index")

    def _arithmetic(self, expr: sympy.Expr) -> Value:
        mnemonic, operands = arithmetic(expr)
        parts = [self.index(operand) for operand in operands]
        total = parts[0]
        for part in parts[1:]:
            total = self.cached_index("size", f"arith.{mnemonic} {total.name}, {part.name} : index")
        return total

    def require(self, predicate: str, size: Value, expr: sympy.Expr, message: str) -> None:
        """Writes that a size compares to another in a way, else the entry fails with the message."""
        holds = self.compare(predicate, size, self._computed(expr))
        self.write("", f"cf.assert {holds.name}, {string_literal(message)}")

    def _computed(self, expr: sympy.Expr) -> Value:
        """A size from others, even if an argument has it."""
        return self._arithmetic(expr) if expr in self.symbols and not expr.is_Symbol else self.index(expr)

    def size(self, size: int | torch.SymInt | sympy.Expr) -> str:
        """A size as a number or an SSA name, as lists of sizes are written."""
        expr = expression(size)
        return str(int(expr)) if expr.is_Integer else self.index(expr).name

    # Scalars and tensors from nothing.

    def scalar(self, value: float, element: str) -> Value:
        """A scalar constant."""
        literal = scalar_literal(value, element)
        type = "" if element == "i1" else f" : {element}"
        return self.cached(
            ("scalar", literal, element), lambda: self.op("cst", f"arith.constant {literal}{type}", element)
        )

    def number(self, value: Any, element: str) -> Value:
        """A Python or symbolic number as a scalar of an element type."""
        if isinstance(value, fx.Node):
            value = value.meta["val"]
        if isinstance(value, (torch.SymInt, sympy.Expr)) and not expression(value).is_Integer:
            return self.from_index(self.index(value), element)
        if isinstance(value, (torch.SymFloat, torch.SymBool)):
            raise Unsupported(f"the number {value}")
        return self.scalar(int(value) if isinstance(value, torch.SymInt) else value, element)

    def from_index(self, x: Value, element: str) -> Value:
        """An index as a scalar of an element type."""
        integer = x if element == "index" else self.convert("arith.index_cast", x, "i64")
        return integer if element in ("i64", "index") else self.cast(integer, element)

    def empty(self, sizes: Sequence[Any], element: str) -> Value:
        """A tensor whose elements are all to be written."""
        exprs = expressions(sizes)
        dynamic = ", ".join(self.index(n).name for n in exprs if not n.is_Integer)
        type = tensor_type(exprs, element)
        text = f"tensor.empty({dynamic}) : {type}"
        return self.cached(("empty", text), lambda: self.op("empty", text, element, exprs))

    def filled(self, value: Any, sizes: Sequence[Any], element: str) -> Value:
        """A tensor of one value: a number, or a scalar of the element type."""
        exprs = expressions(sizes)
        if not isinstance(value, (Value, fx.Node)) and all(n.is_Integer for n in exprs):
            text = f"arith.constant dense<{scalar_literal(value, element)}> : {tensor_type(exprs, element)}"
            return self.cached(("splat", text), lambda: self.op("cst", text, element, exprs))
        scalar = value if isinstance(value, Value) else self.number(value, element)
        into = self.empty(exprs, element)
        text = f"linalg.fill ins({scalar.name} : {element}) outs({into.name} : {into.type}) -> {into.type}"
        return self.cached(("fill", text), lambda: self.op("fill", text, element, exprs))

    def iota(self, sizes: Sequence[Any], axis: int, element: str = "i64") -> Value:
        """The position along an axis."""
        with self.generic("iota", [], sizes, element) as body:
            body.result = body.number(body.position(axis), element)
        return body.value

    # Types and shapes.

    def cast(self, x: Value, element: str) -> Value:
        """A tensor or scalar in another element type, as torch converts: towards zero, anything but 0 is true."""
        return cast(self, self, x, element)

    def reshape(self, x: Value, target: Sequence[Any], hint: str = "") -> Value:
        """The same elements, in the same order, in another shape."""
        assert x.sizes is not None
        sizes, hint = expressions(target), hint or "reshape"
        if x.sizes == sizes:
            return x
        groups = reassociation(x.sizes, sizes)
        middle = [sympy.Mul(*(x.sizes[i] for i in left)) for left, _ in groups]

        def indices(side: Sequence[Sequence[int]]) -> str:
            return "[" + ", ".join(f"[{', '.join(map(str, group))}]" for group in side) + "]"

        if len(middle) < x.rank:
            type = tensor_type(middle, x.element)
            text = f"tensor.collapse_shape {x.name} {indices([left for left, _ in groups])} : {x.type} into {type}"
            x = self.op(hint, text, x.element, middle)
        if len(middle) < len(sizes):
            shape = ", ".join(self.size(n) for n in sizes)
            text = (
                f"tensor.expand_shape {x.name} {indices([right for _, right in groups])} output_shape [{shape}] : "
                f"{x.type} into {tensor_type(sizes, x.element)}"
            )
            x = self.op(hint, text, x.element, sizes)
        return x

    def broadcast(self, x: Value, target: Sequence[Any], hint: str = "") -> Value:
        """A tensor (or scalar) repeated to a shape by torch's rules: axes align at the end, those of size 1 repeat."""
        sizes = expressions(target)
        if x.sizes is None:
            return self.filled(x, sizes, x.element)
        offset = len(sizes) - x.rank
        kept = [axis for axis, n in enumerate(x.sizes) if not (is_one(n) and not is_one(sizes[offset + axis]))]
        x = self.reshape(x, [x.sizes[axis] for axis in kept], hint)
        added = [axis for axis in range(len(sizes)) if axis - offset not in kept]
        if not added:
            return x
        into = self.empty(sizes, x.element)
        text = (
            f"linalg.broadcast ins({x.name} : {x.type}) outs({into.name} : {into.type}) "
            f"dimensions = [{', '.join(map(str, added))}]"
        )
        return self.op(hint or "broadcast", text, x.element, sizes)

    def transpose(self, x: Value, order: Sequence[int], hint: str = "") -> Value:
        """Axes in another order: axis `i` of the result is axis `order[i]`."""
        assert x.sizes is not None
        if list(order) == list(range(x.rank)):
            return x
        into = self.empty([x.sizes[axis] for axis in order], x.element)
        text = (
            f"linalg.transpose ins({x.name} : {x.type}) outs({into.name} : {into.type}) "
            f"permutation = [{', '.join(map(str, order))}]"
        )
        return self.op(hint or "transpose", text, x.element, into.sizes)

    def _box(self, x: Value, offsets: Mapping[int, str], box: Sequence[Any], steps: Mapping[int, int]) -> str:
        """`[offsets] [sizes] [strides]`: 0 and 1 for axes that are not named."""
        starts = ", ".join(offsets.get(axis, "0") for axis in range(x.rank))
        strides = ", ".join(str(steps.get(axis, 1)) for axis in range(x.rank))
        return f"[{starts}] [{', '.join(map(self.size, box))}] [{strides}]"

    def slice(
        self,
        x: Value,
        offsets: Mapping[int, str],
        box: Sequence[Any],
        hint: str = "",
        steps: Mapping[int, int] | None = None,
        dropped: int | None = None,
    ) -> Value:
        """The part of a tensor of the sizes `box` that starts at the given offsets.

        Args:
            offsets: by axis, as numbers or SSA names.
            steps: by axis.
            dropped: an axis of size 1 that the result does not have.
        """
        sizes = [n for axis, n in enumerate(expressions(box)) if axis != dropped]
        place = self._box(x, offsets, box, steps or {})
        text = f"tensor.extract_slice {x.name}{place} : {x.type} to {tensor_type(sizes, x.element)}"
        return self.op(hint or "slice", text, x.element, sizes)

    def insert(
        self,
        source: Value,
        into: Value,
        offsets: Mapping[int, str],
        box: Sequence[Any],
        hint: str = "",
        steps: Mapping[int, int] | None = None,
    ) -> Value:
        """`into` with its part of the sizes `box` replaced by `source`, which may lack axes of size 1."""
        place = self._box(into, offsets, box, steps or {})
        text = f"tensor.insert_slice {source.name} into {into.name}{place} : {source.type} into {into.type}"
        return self.op(hint or "insert", text, into.element, into.sizes)

    def concat(self, parts: Sequence[Value], axis: int, target: Sequence[Any], hint: str = "") -> Value:
        """Tensors one after another along an axis."""
        if len(parts) == 1:
            return parts[0]
        exprs, at = expressions(target), sympy.Integer(0)
        dynamic = ", ".join(self.index(n).name for n in exprs if not n.is_Integer)
        type = tensor_type(exprs, parts[0].element)
        joined = self.op("empty", f"tensor.empty({dynamic}) : {type}", parts[0].element, exprs)
        for part in parts:
            joined = self.insert(part, joined, {axis: self.size(at)}, part.sizes, hint or "concat")
            at = at + part.sizes[axis]
        return joined

    def pad(self, x: Value, low: Sequence[Any], high: Sequence[Any], value: Value, hint: str = "") -> Value:
        """A tensor with a border of `value`, a scalar."""
        assert x.sizes is not None
        lows, highs = expressions(low), expressions(high)
        if all(n == 0 for n in [*lows, *highs]):
            return x
        sizes = [sympy.expand(a + n + b) for a, n, b in zip(lows, x.sizes, highs, strict=True)]
        into = self.filled(value, sizes, x.element)
        return self.insert(x, into, {axis: self.size(n) for axis, n in enumerate(lows)}, x.sizes, hint or "pad")

    def reduce(self, x: Value, combiner: str, initial: Any, axes: Sequence[int], hint: str = "") -> Value:
        """A reduction over axes, by an operation of `arith`, from an initial value; the axes are gone."""
        assert x.sizes is not None
        into = self.filled(initial, [n for axis, n in enumerate(x.sizes) if axis not in axes], x.element)
        text = (
            f"linalg.reduce {{ {combiner} }} ins({x.name} : {x.type}) outs({into.name} : {into.type}) "
            f"dimensions = [{', '.join(map(str, sorted(axes)))}]"
        )
        return self.op(hint or "reduce", text, x.element, into.sizes)

    @contextmanager
    def generic(
        self,
        hint: str,
        inputs: Sequence[tuple[Value, Sequence[str]]],
        sizes: Sequence[Any],
        element: str,
        into: Value | None = None,
        reduced: Sequence[Any] = (),
    ) -> Iterator[Body]:
        """A `linalg.generic` whose body the context writes; it sets `body.result`, and `body.value` is the tensor.

        Args:
            inputs: tensors, each with the index of every one of its axes as an affine expression of `d0, d1, ...`.
            sizes: of the result, whose axes are the first `d`.
            into: what is accumulated into; `body.accumulator` is its element. None: every element is written.
            reduced: sizes of further axes, over which the body is repeated.
        """
        body = Body(self, [value for value, _ in inputs], element)
        yield body
        assert body.result is not None
        exprs, count = expressions(sizes), len(sizes) + len(reduced)
        dims = ", ".join(f"d{i}" for i in range(count))
        axes = [*(", ".join(index) for _, index in inputs), ", ".join(f"d{i}" for i in range(len(sizes)))]
        maps = ", ".join(f"affine_map<({dims}) -> ({index})>" for index in axes)
        kinds = ", ".join(['"parallel"'] * len(sizes) + ['"reduction"'] * len(reduced))
        target = into if into is not None else self.empty(exprs, element)
        names, types = ", ".join(v.name for v, _ in inputs), ", ".join(v.type for v, _ in inputs)
        ins = f"ins({names} : {types}) " if inputs else ""
        arguments = ", ".join(f"{v.name}: {v.element}" for v in [*body.elements, body.accumulator])
        lines = "\n".join([*body.lines, f"      linalg.yield {body.result.name} : {element}"])
        text = (
            f"linalg.generic {{indexing_maps = [{maps}], iterator_types = [{kinds}]}} {ins}"
            f"outs({target.name} : {target.type}) {{\n    ^bb0({arguments}):\n{lines}\n    }} -> {target.type}"
        )
        body.value = self.op(hint, text, element, exprs)


class Body(Scope):
    """The body of a `linalg.generic`: the elements of its inputs, and the scalar that it gives.

    Attributes:
        elements: of the inputs.
        accumulator: the element of the result before.
        result: to be set by whoever writes the body.
        value: the whole tensor, once the body is written.
    """

    def __init__(self, function: Function, inputs: Sequence[Value], element: str) -> None:
        super().__init__(function._names, "      ")
        self._loc = function._loc
        self.function = function
        self.elements = [Value(self.fresh("in"), x.element) for x in inputs]
        self.accumulator = Value(self.fresh("out"), element)
        self.result: Value | None = None
        self.value = self.accumulator

    def position(self, axis: int) -> Value:
        """The position along an axis, as an index."""
        return self.op("i", f"linalg.index {axis} : index", "index")

    def number(self, x: Value, element: str) -> Value:
        """An index as a scalar of an element type."""
        integer = self.convert("arith.index_cast", x, "i64")
        return integer if element == "i64" else self.cast(integer, element)

    def place(self, x: Value, size: int | torch.SymInt | sympy.Expr) -> Value:
        """An i64 that counts from the end if it is negative, as an index within [0, size)."""
        length = self.function.index(size)
        at = self.convert("arith.index_cast", x, "index")
        wrapped = self.apply("arith.addi", at, length)
        at = self.select(self.compare("lt", at, self.function.index(0)), wrapped, at)
        last = self.function.index(expression(size) - 1)
        return self.apply("arith.maxsi", self.apply("arith.minsi", at, last), self.function.index(0))

    def cast(self, x: Value, element: str) -> Value:
        return cast(self, self.function, x, element)

    def extract(self, x: Value, places: Sequence[Value]) -> Value:
        """An element of a tensor."""
        names = ", ".join(place.name for place in places)
        return self.op("element", f"tensor.extract {x.name}[{names}] : {x.type}", x.element)


def cast(scope: Scope, function: Function, x: Value, element: str) -> Value:
    """A tensor or scalar in another element type, as torch converts: towards zero, anything but 0 is true."""
    if x.element == element:
        return x
    if element == "i1":
        zero = function.scalar(0, x.element) if x.sizes is None else function.filled(0, x.sizes, x.element)
        return scope.compare("ne", x, zero, hint="nonzero")
    if x.element in FLOATS and element in FLOATS:
        return _cast_float(scope, x, element)
    if x.element in FLOATS:
        return scope.convert("arith.fptosi", x, element)
    if element in FLOATS:
        return scope.convert("arith.uitofp" if x.element == "i1" else "arith.sitofp", x, element)
    widths = {"i1": 1, "i8": 8, "i32": 32, "i64": 64}
    if widths[element] < widths[x.element]:
        return scope.convert("arith.trunci", x, element)
    return scope.convert("arith.extui" if x.element == "i1" else "arith.extsi", x, element)


def _cast_float(scope: Scope, x: Value, element: str) -> Value:
    if element == "f32":
        return scope.convert("arith.extf", x, element)
    wide = x if x.element == "f32" else scope.convert("arith.extf", x, "f32")
    return scope.convert("arith.truncf", wide, element)
