"""The kernel matrix: every row of Kernels.def, packed layout and shape, on random and extreme codes.

Accumulators are compared with exact integer products. A row is compiled for the least target that has its features. If
this CPU lacks some, it is the least target with the rest of them, and the instructions in question are emulated.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compiled import LEVELS, Compiled, kernel_rows, target_of

TOKENS = (1, 2, 3, 7, 8, 9, 15, 16, 17, 33, 128)
ROWS = (1, 3, 16, 31, 33, 1152)
COLUMNS = (4, 5, 31, 32, 33, 516, 4096, 14336)
SHAPES = tuple((n, k) for n in ROWS for k in COLUMNS)
# Tokens of the runs on two threads.
SPLIT = (1, 9, 33)
# Emulation takes longer. Tiles begin at 16 tokens and hold 16 of them and 64 columns; pieces are 256 to 512 columns.
EMULATED_TOKENS, EMULATED_SPLIT = (1, 15, 16, 17, 33, 128), (1, 33)
EMULATED_SHAPES = ((1, 4), (31, 516), (33, 33), (33, 4096), (16, 14336), (1152, 32), (1152, 516))

KERNELS = kernel_rows()
# Element type of the weights, and --format, of each packed layout.
KINDS = {
    "ternary": ("i2", "r16k4f4"),
    "base3": ("i2", "r16k4t5"),
    "binary": ("i1", "auto"),
    "bytes": ("i8", "auto"),
    "signed": ("i2", "r16k4s4"),
}
LAYOUTS = {"binary": "r16k4f8", "bytes": "r16k4i8"}
# The values of weights that give the largest sums of either sign.
EXTREMES = {"i2": (1, -1), "i1": (1, -1), "i8": (127, -128)}


def entry_name(n: int, k: int, fill: str) -> str:
    return f"n{n}k{k}_{fill}"


def entry(n: int, k: int, fill: str, bits: str) -> str:
    weight = f"tensor<{n}x{k}x{bits}>"
    if fill != "random":
        extreme = EXTREMES[bits][fill == "minus"]
        constant = str(extreme > 0).lower() if bits == "i1" else extreme
        lines = f"%w = arith.constant dense<{constant}> : {weight}"
    elif bits == "i8":  # masters whose scale is 1
        lines = f"""%m = bitnet.weight "n{n}k{k}" : tensor<{n}x{k}xf32>
  %w, %s = bitnet.quantize_weight %m {{method = #bitnet.weight_quant<absmax>, eps = 1.0e-30 : f32,
    scales = #bitnet.scales<rows>}} : tensor<{n}x{k}xf32> -> {weight}, tensor<{n}xf32>"""
    else:
        lines = f'%w = bitnet.weight "n{n}k{k}" : {weight}'
    return f"""
func.func @{entry_name(n, k, fill)}(%x: tensor<?x{k}xi8> {{bitnet.name = "x", bitnet.dims = ["T"]}},
    %sums: tensor<?xi32> {{bitnet.name = "sums", bitnet.dims = ["T"]}})
    -> (tensor<?x{n}xi32> {{bitnet.name = "acc", bitnet.dims = ["T"]}}) attributes {{bitnet.entry}} {{
  {lines}
  %acc = bitnet.matmul %x, %w sums(%sums)
    : (tensor<?x{k}xi8>, tensor<{n}x{k}x{bits}>, tensor<?xi32>) -> tensor<?x{n}xi32>
  return %acc : tensor<?x{n}xi32>
}}
"""


class Matrix:
    """Weights, codes and exact products of one kind, and a module with an entry for each shape and filling."""

    def __init__(self, kind: str, folder: Path, shapes: Collection[tuple[int, int]] = SHAPES) -> None:
        self.kind, self.shapes = kind, shapes
        bits, self.format = KINDS[kind]
        values = {"i2": [-1, 0, 1], "i1": [-1, 1], "i8": np.arange(-127, 128)}[bits]
        rng = np.random.default_rng(1958)
        weights = {f"n{n}k{k}": rng.choice(np.array(values, np.int8), (n, k)) for n, k in shapes}
        if bits == "i8":
            for (n, k), array in zip(shapes, weights.values(), strict=True):
                array[np.arange(n), rng.integers(0, k, n)] = rng.choice([-127, 127], n)
            weights = {name: array.astype(np.float32) for name, array in weights.items()}
        text = "".join(entry(n, k, fill, bits) for n, k in shapes for fill in ("random", "plus", "minus"))
        self.module = Compiled(folder, text, weights)
        self.codes = {}
        for k in dict.fromkeys(k for _, k in shapes):
            random = rng.integers(-128, 128, (max(TOKENS), k), np.int8)
            # Whole rows of the largest codes of either sign, and both in turn.
            extreme = np.empty((max(TOKENS), k), np.int8)
            extreme[0::3] = 127
            extreme[1::3] = -128
            extreme[2::3] = np.where(np.arange(k) % 2, 127, -128)
            self.codes[k] = {"random": random, "plus": extreme, "minus": extreme}
        # Below 2^53 all partial sums are exact in f64, whatever their order.
        self.products = {
            (n, k): self.codes[k]["random"].astype(np.float64) @ weights[f"n{n}k{k}"].T.astype(np.float64)
            for n, k in shapes
        }

    def expected(self, n: int, k: int, fill: str) -> np.ndarray:
        if fill == "random":
            return self.products[n, k].astype(np.int32)
        sums = self.codes[k][fill].sum(axis=1, dtype=np.int32)
        return np.repeat((sums * EXTREMES[KINDS[self.kind][0]][fill == "minus"])[:, None], n, axis=1)


@pytest.fixture(scope="module", params=list(KINDS))
def matrix(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Matrix:
    # The signed field is made for ARM, whose tests run all of it; here an addition makes it r16k4f4.
    shapes = EMULATED_SHAPES if request.param in ("bytes", "signed") else SHAPES
    return Matrix(request.param, tmp_path_factory.mktemp(request.param), shapes)


@pytest.fixture(scope="module", params=KERNELS, ids=[name for name, _ in KERNELS])
def row(request: pytest.FixtureRequest) -> tuple[str, str, bool]:
    """Name and target of a kernel row, and whether the target lacks some of its features, as this CPU does."""
    from setun import _setun

    name, features = request.param
    here = features & set(_setun.cpu_features())
    return name, target_of(here), here != features


@pytest.fixture(scope="module")
def compiled(matrix: Matrix, row: tuple[str, str, bool], tmp_path_factory: pytest.TempPathFactory) -> Matrix:
    name, target, emulated = row
    if emulated:
        matrix = Matrix(matrix.kind, tmp_path_factory.mktemp(f"{matrix.kind}_{name}"), EMULATED_SHAPES)
    flags = [f"--force-kernel={name}", f"--format={matrix.format}", "--no-self-test", *["--emulate"] * emulated]
    matrix.module.compile(target, *flags)
    return matrix


def run_all(session: Any, matrix: Matrix, fill: str, tokens: Collection[int]) -> tuple[int, list[str]]:
    """Number of runs, and the shapes whose accumulators are wrong. session: of the matrix's package."""
    runs, wrong = 0, []
    for n, k in matrix.shapes:
        expected = matrix.expected(n, k, fill)
        codes = matrix.codes[k][fill]
        for m in tokens:
            # Not always the first rows: the last one has others above it in every run.
            x = codes[-m:]
            result = session.run(entry_name(n, k, fill), {"x": x, "sums": x.sum(axis=1, dtype=np.int32)})
            runs += 1
            if not np.array_equal(result["acc"], expected[-m:]):
                wrong.append(f"M={m} N={n} K={k}")
    return runs, wrong


@pytest.mark.parametrize("fill", ["random", "plus", "minus"])
@pytest.mark.parametrize("threads", [1, 2])
def test_accumulators_are_exact(compiled: Matrix, row: tuple[str, str, bool], fill: str, threads: int, record_property):
    tokens = TOKENS if threads == 1 else SPLIT
    if row[2]:
        tokens = EMULATED_TOKENS if threads == 1 else EMULATED_SPLIT
    runs, wrong = run_all(compiled.module.session(threads=threads), compiled, fill, tokens)
    record_property("runs", runs)
    assert runs == len(tokens) * len(compiled.shapes)
    assert not wrong, f"{row[0]}: {len(wrong)} of {runs} runs are wrong: {', '.join(wrong[:8])}"


def test_every_row_has_a_target_of_its_own():
    """A row's least target has the row's features and none that a better row needs, unless it needs just the same."""
    targets = [target_of(features) for features in dict.fromkeys(features for _, features in KERNELS)]
    assert len(set(targets)) == len(targets)
    assert targets[-1] == next(iter(LEVELS)), "the last row needs nothing"


def test_the_forced_row_is_what_runs(compiled: Matrix, row: tuple[str, str, bool]):
    """Every layer of the package that was tested uses the row that is named in the test."""
    from setun import _setun

    package = _setun.Package(str(compiled.module.package))
    assert ("compiler.emulate" in package.provenance) == row[2]
    layers = package.layers
    assert len(layers) == len(compiled.shapes)
    assert {kernel["kernel"] for layer in layers for kernel in layer["kernels"]} == {row[0]}
    layout = LAYOUTS.get(compiled.kind, compiled.format)
    assert {layer["format"] for layer in layers} == {layout}
