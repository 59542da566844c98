"""Upstream operations on whole tensors, softmax, attention of a batch and convolutions, compiled, give the bits of the
reference interpreter: on each code section that this CPU can run, on 1 and 2 threads, for sizes not known beforehand.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from compiled import TARGETS, Arrays, Compiled, Source, differences

SOURCE = Source()
RNG = np.random.default_rng(1958)
DTYPES = {"f32": np.float32, "i64": np.int64, "i32": np.int32, "i8": np.int8, "i1": np.bool_}


@dataclass
class Case:
    """Runs of an entry, and its states at the start."""

    runs: list[Arrays]
    states: Arrays = field(default_factory=dict)


CASES: dict[str, Case] = {}


def values(shape: list[int], dtype: str) -> np.ndarray:
    """Random elements; floats with infinities, zeros of either sign and NaN among them."""
    if dtype == "f32":
        x = (RNG.normal(size=shape) * 3).astype(np.float32)
        edges = np.float32([0.0, -0.0, 1e-41, 1e30, -1e30, 88.5, -104.0, 0.5, 1.0, -1.0])
        places = RNG.permutation(x.size)[: min(len(edges), x.size // 4)]
        x.flat[places] = edges[: len(places)]
        return x
    if dtype == "i1":
        return RNG.random(shape) < 0.5
    return RNG.integers(-100, 100, shape).astype(DTYPES[dtype])


def case(
    name: str,
    body: str,
    outputs: dict[str, str],
    inputs: dict[str, str],
    sizes: tuple[dict[str, int], ...] = ({},),
    states: dict[str, str] | None = None,
    **given: np.ndarray,
) -> None:
    """An entry, run once with each of `sizes`: values of the symbols. `given` inputs are not random."""

    def make(what: str, symbols: dict[str, int]) -> np.ndarray:
        *shape, dtype = what.split("x")
        return values([symbols.get(axis) or int(axis) for axis in shape], dtype)

    states = states or {}
    SOURCE.entry(name, inputs | {f"@{key}": what for key, what in states.items()}, outputs, body)
    runs = [{key: given.get(key, make(what, symbols)) for key, what in inputs.items()} for symbols in sizes]
    zeros = {key: np.zeros_like(make(what, {})) for key, what in states.items()}
    CASES[name] = Case(runs, zeros)


def tensor(what: str) -> str:
    return "tensor<" + "x".join("?" if axis.isupper() else axis for axis in what.split("x")) + ">"


def sizes_of(value: str, what: str, *axes: int) -> str:
    """Lines that define %<value>_<axis>."""
    lines = ""
    for axis in axes:
        lines += f"%{value}_i{axis} = arith.constant {axis} : index\n"
        lines += f"%{value}_{axis} = tensor.dim %{value}, %{value}_i{axis} : {tensor(what)}\n"
    return lines


def generic(result: str, maps: list[str], loops: str, ins: dict[str, str], outs: dict[str, str], body: str) -> str:
    """A linalg.generic; `loops` has a letter for each: p or r. `ins` and `outs`: value to type."""
    kinds = ", ".join({"p": '"parallel"', "r": '"reduction"'}[loop] for loop in loops)
    dims = ", ".join(f"d{i}" for i in range(len(loops)))
    maps_text = ", ".join(f"affine_map<({dims}) -> ({to})>" for to in maps)
    given = f"ins({', '.join('%' + v for v in ins)} : {', '.join(map(tensor, ins.values()))}) " if ins else ""
    arguments = ", ".join(
        f"%{name}: {what.split('x')[-1]}"
        for name, what in zip(
            [*"abc"[: len(ins)], *["old", "before"][: len(outs)]], [*ins.values(), *outs.values()], strict=True
        )
    )
    types = ", ".join(map(tensor, outs.values()))
    results = types if len(outs) == 1 else f"({types})"
    return (
        f"{result} = linalg.generic {{indexing_maps = [{maps_text}], iterator_types = [{kinds}]}}\n  {given}"
        f"outs({', '.join('%' + v for v in outs)} : {types}) {{\n^bb0({arguments}):\n{body}}} -> {results}\n"
    )


def elementwise() -> None:
    sizes = ({"T": 1}, {"T": 5})
    functions = "exp exp2 expm1 log log2 log10 log1p sin cos tan atan sinh cosh tanh erf rsqrt floor ceil trunc round"
    for name in [*functions.split(), "roundeven", "absf", "sqrt"]:
        x = np.concatenate([values([30], "f32"), np.float32([np.inf, -np.inf, np.nan, 2.5, -2.5, 8388609.0, 1e-7])])
        body = f"%y = math.{name} %x : tensor<37xf32>\n"
        case(f"math_{name}", body, {"y": "37xf32"}, {"x": "37xf32"}, x=x)
    for name in ["relu", "sigmoid", "silu", "gelu", "gelu_tanh"]:
        body = f"%y = bitnet.math <{name}> %x : tensor<?x37xf32>\n"
        case(f"math_{name}", body, {"y": "Tx37xf32"}, {"x": "Tx37xf32"}, sizes)
    x = np.repeat(np.float32([0, -0.0, 1, -1, 2, -2, 0.5, -0.5, 3, np.inf, -np.inf, np.nan]), 12)
    body = "%y = math.powf %x, %e : tensor<144xf32>\n"
    case("pow", body, {"y": "144xf32"}, {"x": "144xf32", "e": "144xf32"}, x=x, e=np.tile(x[::12], 12))
    body = """%0 = arith.addf %x, %z : tensor<?x3x7xf32>
%1 = arith.mulf %0, %z : tensor<?x3x7xf32>
%2 = arith.divf %1, %x : tensor<?x3x7xf32>
%3 = arith.maximumf %2, %z : tensor<?x3x7xf32>
%less = arith.cmpf olt, %x, %z : tensor<?x3x7xf32>
%both = arith.andi %less, %m : tensor<?x3x7xi1>
%y = arith.select %both, %3, %x : tensor<?x3x7xi1>, tensor<?x3x7xf32>
"""
    operands = {"x": "Tx3x7xf32", "z": "Tx3x7xf32", "m": "Tx3x7xi1"}
    case("floats_and_truth", body, {"y": "Tx3x7xf32", "both": "Tx3x7xi1"}, operands, sizes)
    body = """%ten = arith.constant dense<10> : tensor<21xi64>
%0 = arith.muli %x, %z : tensor<21xi64>
%1 = arith.floordivsi %0, %ten : tensor<21xi64>
%2 = arith.remsi %1, %ten : tensor<21xi64>
%y = arith.trunci %2 : tensor<21xi64> to tensor<21xi8>
%f = arith.sitofp %1 : tensor<21xi64> to tensor<21xf32>
%c = arith.cmpi sge, %x, %z : tensor<21xi64>
%i = arith.extui %c : tensor<21xi1> to tensor<21xi32>
"""
    outputs = {"y": "21xi8", "f": "21xf32", "c": "21xi1", "i": "21xi32"}
    case("integers", body, outputs, {"x": "21xi64", "z": "21xi64"})


def moves() -> None:
    sizes = ({"B": 1, "T": 1}, {"B": 2, "T": 19})
    body = sizes_of("x", "BxTx5xf32", 0, 1)
    body += """%e = tensor.empty(%x_1, %x_0) : tensor<?x5x?xf32>
%y = linalg.transpose ins(%x : tensor<?x?x5xf32>) outs(%e : tensor<?x5x?xf32>) permutation = [1, 2, 0]
%row = tensor.collapse_shape %r [[0, 1]] : tensor<1x5xf32> into tensor<5xf32>
%e2 = tensor.empty(%x_0, %x_1) : tensor<?x?x5xf32>
%wide = linalg.broadcast ins(%row : tensor<5xf32>) outs(%e2 : tensor<?x?x5xf32>) dimensions = [0, 1]
%z = arith.mulf %x, %wide : tensor<?x?x5xf32>
"""
    outputs = {"y": "Tx5xBxf32", "z": "BxTx5xf32"}
    case("transpose_and_broadcast", body, outputs, {"x": "BxTx5xf32", "r": "1x5xf32"}, sizes)
    body = """%zero = arith.constant 0.0 : f32
%padded = tensor.pad %x low[0, 2] high[1, 3] {
^bb0(%i: index, %j: index):
  tensor.yield %zero : f32
} : tensor<4x6xf32> to tensor<5x11xf32>
%part = tensor.extract_slice %padded[1, 0] [2, 6] [2, 2] : tensor<5x11xf32> to tensor<2x6xf32>
%both = tensor.concat dim(0) %x, %part, %x : (tensor<4x6xf32>, tensor<2x6xf32>, tensor<4x6xf32>) -> tensor<10x6xf32>
%y = tensor.insert_slice %part into %both[3, 0] [2, 6] [1, 1] : tensor<2x6xf32> into tensor<10x6xf32>
"""
    case("pad_slice_concat", body, {"y": "10x6xf32", "both": "10x6xf32"}, {"x": "4x6xf32"})
    pick = """%i = arith.index_cast %a : i64 to index
%j = linalg.index 1 : index
%v = tensor.extract %x[%i, %j] : tensor<9x20xf32>
linalg.yield %v : f32
"""
    count = "%r = linalg.index 0 : index\n%q = arith.index_cast %r : index to i64\nlinalg.yield %q : i64\n"
    body = sizes_of("k", "Txi64", 0) + "%e = tensor.empty(%k_0) : tensor<?x20xf32>\n"
    body += generic("%y", ["d0", "d0, d1"], "pp", {"k": "Txi64"}, {"e": "Tx20xf32"}, pick)
    body += "%e2 = tensor.empty(%k_0) : tensor<?xi64>\n" + generic("%n", ["d0"], "p", {}, {"e2": "Txi64"}, count)
    given = np.array([8, 0, 3, 3, 7])
    case(
        "gather_and_iota", body, {"y": "Tx20xf32", "n": "Txi64"}, {"k": "Txi64", "x": "9x20xf32"}, ({"T": 5},), k=given
    )
    # Rows of a state at a place that data gives.
    body = """%zero = arith.constant 0 : index
%at = tensor.extract %k[%zero] : tensor<1xi64>
%place = arith.index_cast %at : i64 to index
%next = tensor.insert_slice %x into %s[%place, 0] [2, 3] [1, 1] : tensor<2x3xf32> into tensor<6x3xf32>
%y = arith.addf %next, %next : tensor<6x3xf32>
"""
    inputs = {"k": "1xi64", "x": "2x3xf32"}
    case(
        "state_slice", body, {"y": "6x3xf32", "@s=next": "6x3xf32"}, inputs, ({}, {}), {"s": "6x3xf32"}, k=np.array([3])
    )


def reductions() -> None:
    sizes = ({"T": 1}, {"T": 18}, {"T": 35})
    kinds = {"sum": ("addf", "0.0"), "product": ("mulf", "1.0"), "largest": ("maximumf", "0xFF800000")}
    kinds["least"] = ("minimumf", "0x7F800000")
    for name, (op, start) in kinds.items():
        for axes, result in (
            ((0,), "5xTxf32"),
            ((1,), "TxTxf32"),
            ((2,), "Tx5xf32"),
            ((0, 2), "5xf32"),
            ((0, 1, 2), "f32"),
        ):
            dynamic = result.count("T")
            body = sizes_of("x", "Tx5xTxf32", 0) + f"%c = arith.constant {start} : f32\n"
            body += f"%e = tensor.empty({', '.join(['%x_0'] * dynamic)}) : {tensor(result)}\n"
            body += f"%f = linalg.fill ins(%c : f32) outs(%e : {tensor(result)}) -> {tensor(result)}\n"
            body += f"%y = linalg.reduce {{ arith.{op} }} ins(%x : tensor<?x5x?xf32>) outs(%f : {tensor(result)}) "
            body += f"dimensions = [{', '.join(map(str, axes))}]\n"
            case(f"{name}_{'_'.join(map(str, axes))}", body, {"y": result}, {"x": "Tx5xTxf32"}, sizes)
    # Work on the elements becomes part of the reduction, in the same order.
    body = sizes_of("x", "Tx40xf32", 0)
    body += """%c = arith.constant 0.0 : f32
%e = tensor.empty(%x_0) : tensor<?xf32>
%f = linalg.fill ins(%c : f32) outs(%e : tensor<?xf32>) -> tensor<?xf32>
%square = arith.mulf %x, %x : tensor<?x40xf32>
%y = linalg.reduce { arith.addf } ins(%square : tensor<?x40xf32>) outs(%f : tensor<?xf32>) dimensions = [1]
%false = arith.constant false
%eb = tensor.empty(%x_0) : tensor<?xi1>
%fb = linalg.fill ins(%false : i1) outs(%eb : tensor<?xi1>) -> tensor<?xi1>
%zeros = arith.constant dense<5.0> : tensor<40xf32>
%ez = tensor.empty(%x_0) : tensor<?x40xf32>
%wide = linalg.broadcast ins(%zeros : tensor<40xf32>) outs(%ez : tensor<?x40xf32>) dimensions = [0]
%over = arith.cmpf ogt, %x, %wide : tensor<?x40xf32>
%any = linalg.reduce { arith.ori } ins(%over : tensor<?x40xi1>) outs(%fb : tensor<?xi1>) dimensions = [1]
"""
    case("square_sum_and_any", body, {"y": "Txf32", "any": "Txi1"}, {"x": "Tx40xf32"}, sizes)
    best = """%i = linalg.index 1 : index
%at = arith.index_cast %i : index to i64
%more = arith.cmpf ogt, %a, %old : f32
%v = arith.select %more, %a, %old : f32
%k = arith.select %more, %at, %before : i64
linalg.yield %v, %k : f32, i64
"""
    body = sizes_of("x", "TxTxf32", 0)
    body += """%c = arith.constant 0xFF800000 : f32
%none = arith.constant -1 : i64
%e = tensor.empty(%x_0) : tensor<?xf32>
%ei = tensor.empty(%x_0) : tensor<?xi64>
%f = linalg.fill ins(%c : f32) outs(%e : tensor<?xf32>) -> tensor<?xf32>
%g = linalg.fill ins(%none : i64) outs(%ei : tensor<?xi64>) -> tensor<?xi64>
"""
    body += generic("%y:2", ["d0, d1", "d0", "d0"], "pr", {"x": "TxTxf32"}, {"f": "Txf32", "g": "Txi64"}, best)
    case("argmax", body, {"largest=y#0": "Txf32", "at=y#1": "Txi64"}, {"x": "TxTxf32"}, sizes)


def products() -> None:
    sizes = ({"B": 1, "T": 1}, {"B": 2, "T": 37})
    body = sizes_of("x", "BxTx21xf32", 0, 1)
    body += """%c = arith.constant 0.0 : f32
%e = tensor.empty(%x_0, %x_1) : tensor<?x?x40xf32>
%f = linalg.fill ins(%c : f32) outs(%e : tensor<?x?x40xf32>) -> tensor<?x?x40xf32>
%y = linalg.batch_matmul ins(%x, %w : tensor<?x?x21xf32>, tensor<?x21x40xf32>)
  outs(%f : tensor<?x?x40xf32>) -> tensor<?x?x40xf32>
"""
    case("batch_matmul", body, {"y": "BxTx40xf32"}, {"x": "BxTx21xf32", "w": "Bx21x40xf32"}, sizes)
    # Keys as rows: the transpose becomes part of the product. More than a block of columns to sum.
    body = sizes_of("x", "Tx150xf32", 0) + sizes_of("k", "Tx150xf32", 0)
    body += """%c = arith.constant 0.0 : f32
%e = tensor.empty(%x_0, %k_0) : tensor<?x?xf32>
%f = linalg.fill ins(%c : f32) outs(%e : tensor<?x?xf32>) -> tensor<?x?xf32>
%et = tensor.empty(%k_0) : tensor<150x?xf32>
%t = linalg.transpose ins(%k : tensor<?x150xf32>) outs(%et : tensor<150x?xf32>) permutation = [1, 0]
%y = linalg.matmul ins(%x, %t : tensor<?x150xf32>, tensor<150x?xf32>) outs(%f : tensor<?x?xf32>) -> tensor<?x?xf32>
"""
    case("matmul_transposed", body, {"y": "TxTxf32"}, {"x": "Tx150xf32", "k": "Tx150xf32"}, sizes)
    multiply = "%p = arith.mulf %a, %b : f32\n%s = arith.addf %old, %p : f32\nlinalg.yield %s : f32\n"
    window = ["d0, d4, d2 * 2 + d5, d3 + d6", "d1, d4, d5, d6", "d0, d1, d2, d3"]
    body = sizes_of("x", "Bx3x9x22xf32", 0)
    body += """%c = arith.constant 0.0 : f32
%e = tensor.empty(%x_0) : tensor<?x4x4x20xf32>
%f = linalg.fill ins(%c : f32) outs(%e : tensor<?x4x4x20xf32>) -> tensor<?x4x4x20xf32>
"""
    weights = {"x": "Bx3x9x22xf32", "w": "4x3x3x3xf32"}
    body += generic("%y", window, "pppprrr", weights, {"f": "Bx4x4x20xf32"}, multiply)
    body += """%low = arith.constant 0xFF800000 : f32
%w2 = tensor.empty() : tensor<2x2xf32>
%e2 = tensor.empty(%x_0) : tensor<?x4x2x10xf32>
%f2 = linalg.fill ins(%low : f32) outs(%e2 : tensor<?x4x2x10xf32>) -> tensor<?x4x2x10xf32>
%z = linalg.pooling_nchw_max {dilations = dense<1> : vector<2xi64>, strides = dense<2> : vector<2xi64>}
  ins(%y, %w2 : tensor<?x4x4x20xf32>, tensor<2x2xf32>) outs(%f2 : tensor<?x4x2x10xf32>) -> tensor<?x4x2x10xf32>
"""
    case("convolution_and_pooling", body, {"y": "Bx4x4x20xf32", "z": "Bx4x2x10xf32"}, weights, sizes)
    # Channels last: but for the window a product of matrices.
    last = {"x": "Bx9x22x3xf32", "w": "3x3x3x17xf32"}
    maps = ["d0, d1 * 2 + d4, d2 + d5, d6", "d4, d5, d6, d3", "d0, d1, d2, d3"]
    body = sizes_of("x", "Bx9x22x3xf32", 0)
    body += """%c = arith.constant 0.0 : f32
%e = tensor.empty(%x_0) : tensor<?x4x20x17xf32>
%f = linalg.fill ins(%c : f32) outs(%e : tensor<?x4x20x17xf32>) -> tensor<?x4x20x17xf32>
"""
    body += generic("%y", maps, "pppprrr", last, {"f": "Bx4x20x17xf32"}, multiply)
    case("convolution_channels_last", body, {"y": "Bx4x20x17xf32"}, last, sizes)


def attention() -> None:
    sizes = ({"B": 1, "T": 1, "S": 1}, {"B": 2, "T": 70, "S": 83})
    for rank, what in ((1, "Txf32"), (3, "Bx3xSxf32")):
        case(f"softmax_{rank}", f"%y = bitnet.softmax %x : {tensor(what)}\n", {"y": what}, {"x": what}, sizes)
    q, k = "BxTx4x20xf32", "BxSx2x20xf32"
    for name, mask, flags in (
        ("plain", "", ""),
        ("causal", "", "causal, "),
        ("mask", "1x4xTxSxf32", ""),
        ("each", "Bx1xTxSxf32", ""),
    ):
        operands = {"q": q, "k": k, "v": k} | ({"m": mask} if mask else {})
        types = ", ".join(map(tensor, operands.values()))
        body = f"%o = bitnet.batch_attention %q, %k, %v {'mask(%m) ' if mask else ''}"
        body += f"{{{flags}scale = 0.25 : f32}} : ({types}) -> {tensor(q)}\n"
        case(f"attention_{name}", body, {"o": q}, operands, sizes)


def convolutions() -> None:
    sizes = ({"B": 1}, {"B": 3})
    codes = RNG.integers(-1, 2, (8, 54)).astype(np.int8)
    weight, scale = SOURCE.weight("conv", codes, "i2"), SOURCE.weight("conv_scale", np.float32([0.7]))
    quantizer = "activation = #bitnet.act_quant<{}, bits = 8, eps = 1.0e-5>"
    for granularity in ("per_token", "per_tensor"):
        body = weight + scale
        body += f"""%y = bitnet.conv2d %x, %conv scale(%conv_scale) {{{quantizer.format(granularity)},
  scales = #bitnet.scales<tensor>, kernel = array<i64: 3, 3>, strides = array<i64: 2, 1>,
  padding = array<i64: 1, 0, 2, 1>, dilations = array<i64: 1, 2>}}
  : (tensor<?x6x7x9xf32>, tensor<8x54xi2>, tensor<1xf32>) -> tensor<?x8x4x6xf32>
"""
        case(f"conv2d_{granularity}", body, {"y": "Bx8x4x6xf32"}, {"x": "Bx6x7x9xf32"}, sizes)
    grouped = SOURCE.weight("grouped", RNG.integers(0, 2, (6, 8)).astype(np.int8) * 2 - 1, "i1")
    scales = SOURCE.weight("row_scales", np.float32([0.5, 2.0, 3.0]))
    bias = SOURCE.weight("conv_bias", RNG.normal(size=6).astype(np.float32))
    body = grouped + scales + bias
    body += f"""%y = bitnet.conv2d %x, %grouped scale(%row_scales) bias(%conv_bias) {{{quantizer.format("per_token")},
  scales = #bitnet.scales<rows = [1, 3, 2]>, kernel = array<i64: 2, 2>, groups = 2 : i64}}
  : (tensor<?x4x5x5xf32>, tensor<6x8xi1>, tensor<3xf32>, tensor<6xf32>) -> tensor<?x6x4x4xf32>
"""
    case("conv2d_groups", body, {"y": "Bx6x4x4xf32"}, {"x": "Bx4x5x5xf32"}, sizes)
    # A layer with an activation and a residual, under a third axis.
    layer = SOURCE.weight("layer", RNG.integers(-1, 2, (20, 12)).astype(np.int8), "i2")
    body = layer + scale + sizes_of("x", "Bx3x12xf32", 0)
    body += f"""%flat = tensor.collapse_shape %x [[0, 1], [2]] : tensor<?x3x12xf32> into tensor<?x12xf32>
%l = bitnet.linear %flat, %layer scale(%conv_scale) {{{quantizer.format("per_token")}, scales = #bitnet.scales<tensor>}}
  : (tensor<?x12xf32>, tensor<20x12xi2>, tensor<1xf32>) -> tensor<?x20xf32>
%e = tensor.expand_shape %l [[0, 1], [2]] output_shape [%x_0, 3, 20] : tensor<?x20xf32> into tensor<?x3x20xf32>
%g = bitnet.math <gelu> %e : tensor<?x3x20xf32>
%y = arith.addf %r, %g : tensor<?x3x20xf32>
"""
    case("epilogue", body, {"y": "Bx3x20xf32"}, {"x": "Bx3x12xf32", "r": "Bx3x20xf32"}, sizes)


def division() -> None:
    """What the interpreter refuses: by 0, and quotients that do not fit."""
    operations = ("divsi", "remsi", "floordivsi", "ceildivsi", "divui", "remui")
    body = "".join(f"%{name} = arith.{name} %a, %b : tensor<40xi32>\n" for name in operations)
    SOURCE.entry("division", {"a": "40xi32", "b": "40xi32"}, dict.fromkeys(operations, "40xi32"), body)


for make in (elementwise, moves, reductions, products, attention, convolutions, division):
    make()


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    return SOURCE.compiled(tmp_path_factory.mktemp("structured"), "x86-64")


@pytest.fixture(scope="module")
def reference(compiled: Compiled) -> dict[str, list[Arrays]]:
    found: dict[str, list[Arrays]] = {}
    for name, one in CASES.items():
        states, found[name] = one.states, []
        for inputs in one.runs:
            result = compiled.interpret(name, inputs, states)
            states = {key: result.pop(key) for key in one.states}
            found[name].append(result)
    return found


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("target", TARGETS)
def test_bits_of_the_interpreter(compiled: Compiled, reference: dict, target: str, threads: int):
    if not compiled.targets()[target]:
        pytest.skip(f"this CPU cannot run {target}")
    wrong = []
    for name, one in CASES.items():
        session = compiled.session(target, threads)
        for number, (inputs, want) in enumerate(zip(one.runs, reference[name], strict=True)):
            got = session.run(name, {key: array.copy() for key, array in inputs.items()})
            assert want.keys() == got.keys()
            wrong += [f"{name}, run {number}: {text}" for text in differences(want, got)]
    assert not wrong, f"{len(wrong)} results are not the interpreter's:\n" + "\n".join(wrong[:20])


@pytest.mark.parametrize("target", TARGETS)
def test_division_never_traps(compiled: Compiled, target: str):
    """By 0 is as by 1, by -1 the negative: on vectors of 16 and on the numbers that are left."""
    if not compiled.targets()[target]:
        pytest.skip(f"this CPU cannot run {target}")
    a = np.resize(np.int32([7, -7, -(2**31), 0, 2**31 - 1]), 40)
    b = np.resize(np.int32([0, -1, 3, -4]), 40)
    got = compiled.session(target).run("division", {"a": a, "b": b})
    x, y = a.astype(object), np.where(b == 0, 1, b).astype(object)
    truncated = np.array([int(n / d) if abs(d) > 1 else n * d for n, d in zip(x, y, strict=True)], object)
    ux, uy = x % 2**32, y % 2**32
    want = {
        "divsi": truncated,
        "remsi": x - truncated * y,
        "floordivsi": x // y,
        "ceildivsi": -(-x // y),
        "divui": ux // uy,
        "remui": ux % uy,
    }
    for name, numbers in want.items():
        assert np.array_equal(got[name], (numbers % 2**32).astype(np.uint32).view(np.int32)), name
