"""Every operation, compiled, gives the bits of the reference interpreter: on each code section that this CPU can run,
on 1, 2 and 3 threads, in sessions of several runs, and on numbers at the edges of f32.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest

from compiled import TARGETS, Arrays, Compiled, Source, differences

CONTEXT = 40


@dataclass
class Case:
    """An entry and the inputs of the runs of one session."""

    name: str
    runs: list[Arrays]
    # State tensors at the start: shapes, with C for the capacity.
    states: dict[str, tuple] = field(default_factory=dict)
    # Whether a token's results depend on that token (and on those before it) alone.
    by_token: bool = True


SOURCE = Source()
CASES: dict[str, Case] = {}
RNG = np.random.default_rng(1958)


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def edgy(*shape: int) -> np.ndarray:
    """Rows of usual numbers, of zeros, of denormals, of small and of huge ones; a -0."""
    x = normal(*shape)
    for row, factor in zip(range(1, shape[0]), (0.0, 1e-42, 1e18, 1e-20, 1e37), strict=False):
        x[row] *= np.float32(factor)
    x.flat[-1] = -0.0
    return x


def entry(
    name: str,
    body: str,
    outputs: dict[str, str],
    inputs: dict[str, tuple | Callable[[int], np.ndarray]],
    *,
    position: bool = False,
    states: dict[str, str] | None = None,
    tokens: tuple[int, ...] = (1, 7),
    by_token: bool = True,
) -> None:
    """Adds an entry and its case.

    inputs: the shape after T of an f32 tensor, or (shape and type in text, function of T that makes one).
    """
    types, makers = {}, {}
    for key, what in inputs.items():
        if callable(what[-1]):
            types[key], makers[key] = what
        else:
            types[key] = "x".join(["T", *map(str, what), "f32"])
            makers[key] = lambda t, shape=what: edgy(t, *shape)
    if position:
        types["pos"] = "i64"
    # States of one name are one state of the package; each case has its own.
    types |= {f"@{name}.{key}={key}": shape for key, shape in (states or {}).items()}
    outputs = {
        f"@{name}.{key[1:]}" + ("" if "=" in key else f"={key[1:]}") if key.startswith("@") else key: shape
        for key, shape in outputs.items()
    }
    SOURCE.entry(name, types, outputs, body, f", bitnet.max_context = {CONTEXT} : i64" if position or states else "")
    shapes = {
        f"{name}.{key}": tuple("C" if axis == "C" else int(axis) for axis in shape.split("x")[:-1])
        for key, shape in (states or {}).items()
    }
    runs = [{key: make(t) for key, make in makers.items()} for t in tokens]
    CASES[name] = Case(name, runs, shapes, by_token)


def norms() -> None:
    for k in (1, 15, 16, 17, 66):
        g, b = SOURCE.weight(f"gain{k}", normal(k)), SOURCE.weight(f"shift{k}", normal(k))
        x, v = f"tensor<?x{k}xf32>", f"tensor<{k}xf32>"
        y = {"y": f"Tx{k}xf32"}
        entry(f"rms_{k}", f"%y = bitnet.rms_norm %x {{eps = 1.0e-5 : f32}} : {x}\n", y, {"x": (k,)})
        entry(
            f"rms_gain_{k}", g + f"%y = bitnet.rms_norm %x, %gain{k} {{eps = 0.0 : f32}} : {x}, {v}\n", y, {"x": (k,)}
        )
        entry(
            f"layer_{k}",
            f"%y = bitnet.layer_norm %x {{eps = 1.0e-5 : f32}} : ({x}) -> {x}\n",
            y,
            {"x": (k,)},
        )
        entry(
            f"layer_gain_shift_{k}",
            f"{g}{b}%y = bitnet.layer_norm %x weight(%gain{k}) bias(%shift{k}) {{eps = 1.0e-6 : f32}}"
            f" : ({x}, {v}, {v}) -> {x}\n",
            y,
            {"x": (k,)},
        )


def quantizers() -> None:
    for k in (1, 5, 16, 66):
        for granularity in ("per_token", "per_tensor"):
            for bits in (8, 4):
                scale = "?" if granularity == "per_token" else "1"
                body = f"""%codes, %scale, %sums = bitnet.quantize %x
  {{activation = #bitnet.act_quant<{granularity}, bits = {bits}, eps = 1.0e-5>}}
  : tensor<?x{k}xf32> -> tensor<?x{k}xi8>, tensor<{scale}xf32>, tensor<?xi32>
"""
                outputs = {"codes": f"Tx{k}xi8", "scale": scale.replace("?", "T") + "xf32", "sums": "Txi32"}
                alone = granularity == "per_token"
                entry(f"quantize_{k}_{granularity}_{bits}", body, outputs, {"x": (k,)}, by_token=alone)


def gates() -> None:
    for k in (1, 16, 33):
        for act in ("relu2", "silu"):
            body = f"%y = bitnet.gated %gate, %up {{act = #bitnet.gate_act<{act}>}} : tensor<?x{k}xf32>\n"
            entry(f"gated_{act}_{k}", body, {"y": f"Tx{k}xf32"}, {"gate": (k,), "up": (k,)})
    # Where the exponential is clamped, and beyond.
    body = "%y = bitnet.gated %gate, %gate {act = #bitnet.gate_act<silu>} : tensor<?x40xf32>\n"
    steps = np.linspace(-100, 100, 40, dtype=np.float32)
    entry("silu_steps", body, {"y": "Tx40xf32"}, {"gate": ("Tx40xf32", lambda t: np.tile(steps, (t, 1)))})


def stored(name: str, array: np.ndarray, element: str) -> str:
    """A weight in f32, f16 or bf16 with subnormal elements of either."""
    array = array.copy()
    array.flat[:: array.size // 3 + 1] = np.float32(3e-7)
    array.flat[1 :: array.size // 3 + 1] = np.float32(-1e-39)
    if element == "f16":
        return SOURCE.weight(name, array.astype(np.float16), element)
    if element == "bf16":
        return SOURCE.weight(name, (array.view(np.uint32) >> 16).astype(np.uint16), element)
    return SOURCE.weight(name, array, element)


NEGATED = """%c0 = arith.constant 0 : index
%t = tensor.dim %x, %c0 : tensor<?xi64>
%e = tensor.empty(%t) : tensor<?xi64>
%tokens = linalg.generic {indexing_maps = [affine_map<(i) -> (i)>, affine_map<(i) -> (i)>],
  iterator_types = ["parallel"]} ins(%x : tensor<?xi64>) outs(%e : tensor<?xi64>) {
^bb0(%token: i64, %o: i64):
  %zero = arith.constant 0 : i64
  %negated = arith.subi %zero, %token : i64
  linalg.yield %negated : i64
} -> tensor<?xi64>
"""


def tables() -> None:
    for element in ("f32", "f16", "bf16"):
        for v, h in ((1, 1), (64, 16), (130, 33)):
            name = f"table_{element}_{v}"
            table = stored(name, normal(v, h), element)
            body = f"{table}%y = bitnet.embedding %{name}, %tokens"
            body += f" : tensor<{v}x{h}x{element}>, tensor<?xi64> -> tensor<?x{h}xf32>\n"

            def tokens(t: int, v: int = v) -> np.ndarray:
                return np.concatenate([[v - 1], RNG.integers(0, v, t - 1)])

            def any_number(t: int, v: int = v) -> np.ndarray:
                wanted = RNG.integers(0, v, t)
                wanted[: min(t, 4)] = np.array([v - 1, -1, v, -(2**62)])[: min(t, 4)]  # outside: row 0
                return wanted

            outputs = {"y": f"Tx{h}xf32"}
            entry(f"embedding_{element}_{v}", body, outputs, {"tokens": ("Txi64", tokens)})
            # The runtime refuses inputs outside the table; what is computed from an input may be outside.
            inputs = {"x": ("Txi64", lambda t, make=any_number: -make(t))}
            entry(f"embedding_computed_{element}_{v}", NEGATED + body, outputs, inputs)
        for n, k in ((1, 1), (63, 5), (64, 16), (65, 33), (130, 7), (6, 83)):
            name = f"dense_{element}_{n}"
            lines = stored(name, normal(n, k), element) + SOURCE.weight(f"bias_{name}", normal(n))
            types = f"tensor<?x{k}xf32>, tensor<{n}x{k}x{element}>"
            body = f"{lines}%y = bitnet.dense %x, %{name} : ({types}) -> tensor<?x{n}xf32>\n"
            body += f"%z = bitnet.dense %x, %{name} bias(%bias_{name}) : ({types}, tensor<{n}xf32>)"
            body += f" -> tensor<?x{n}xf32>\n"
            outputs = {"y": f"Tx{n}xf32", "z": f"Tx{n}xf32"}
            entry(f"dense_{element}_{n}_{k}", body, outputs, {"x": (k,)}, tokens=(1, 5, 9))


def transforms() -> None:
    for k, block in ((1, 1), (24, 8), (128, 2), (128, 16), (128, 32), (192, 64), (12, 4)):
        body = f"%y = bitnet.hadamard %x {{block = {block}}} : tensor<?x{k}xf32>\n"
        entry(f"hadamard_{k}_{block}", body, {"y": f"Tx{k}xf32"}, {"x": (k,)})
    for heads, size in ((1, 2), (3, 24), (2, 48), (1, 100), (3, 128), (1, 34)):
        angles = np.arange(CONTEXT)[:, None] * 0.37 / (1 + np.arange(size // 2))
        name = f"{heads}_{size}"
        body = SOURCE.weight(f"cos_{name}", np.cos(angles).astype(np.float32))
        body += SOURCE.weight(f"sin_{name}", np.sin(angles).astype(np.float32))
        body += f"%y = bitnet.rotary %x, %cos_{name}, %sin_{name}, %pos"
        body += f" : tensor<?x{heads}x{size}xf32>, tensor<{CONTEXT}x{size // 2}xf32>\n"
        shape = (heads, size)
        entry(f"rotary_{name}", body, {"y": f"Tx{heads}x{size}xf32"}, {"x": shape}, position=True, tokens=(5, 1, 17))


def attentions() -> None:
    for causal in (True, False):
        for heads, kv_heads, size in ((1, 1, 1), (4, 2, 24), (3, 3, 48), (6, 1, 100), (2, 1, 128), (5, 5, 16)):
            q, kv = f"tensor<?x{heads}x{size}xf32>", f"tensor<?x{kv_heads}x{size}xf32>"
            body = f"""%k_new = bitnet.cache_update %k, %keys, %pos : {kv}, {kv}
%v_new = bitnet.cache_update %v, %values, %pos : {kv}, {kv}
%o = bitnet.attention %q, %k_new, %v_new, %pos {{{"causal, " if causal else ""}scale = 0.25 : f32}} : {q}, {kv}, {kv}
"""
            cache, new = f"Cx{kv_heads}x{size}xf32", (kv_heads, size)
            entry(
                f"attention_{heads}_{kv_heads}_{size}{'_causal' if causal else ''}",
                body,
                {"o": f"Tx{heads}x{size}xf32", "@k=k_new": cache, "@v=v_new": cache},
                {name: (spread(shape)) for name, shape in {"q": (heads, size), "keys": new, "values": new}.items()},
                position=True,
                states={"k": cache, "v": cache},
                tokens=(5, 1, 17, 1),
                by_token=causal,
            )


def spread(shape: tuple[int, ...]) -> tuple:
    """Inputs of attention: usual numbers, some large, so that weights of all sizes occur."""

    def make(t: int) -> np.ndarray:
        return normal(t, *shape) * RNG.choice(np.array([0.0, 1.0, 8.0], np.float32), (t, *[1] * len(shape)))

    return "x".join(["T", *map(str, shape), "f32"]), make


def upstream() -> None:
    """Arithmetic and reshapes around our operations, as the tracer writes them."""
    x = "tensor<?x20xf32>"
    body = SOURCE.weight("row", normal(20))
    body += f"""%c0 = arith.constant 0 : index
%c1 = arith.constant 1 : index
%t = tensor.dim %x, %c0 : {x}
%half = arith.constant dense<0.5> : tensor<20xf32>
%e = tensor.empty(%t) : {x}
%a = linalg.generic {{indexing_maps = [
    affine_map<(i, j) -> (i, j)>, affine_map<(i, j) -> (j)>, affine_map<(i, j) -> (i, j)>],
  iterator_types = ["parallel", "parallel"]}} ins(%x, %row : {x}, tensor<20xf32>) outs(%e : {x}) {{
^bb0(%l: f32, %r: f32, %o: f32):
  %p = arith.mulf %l, %r : f32
  linalg.yield %p : f32
}} -> {x}
%b = arith.divf %a, %z : {x}
%s = arith.subf %b, %x : {x}
%n = arith.negf %s : {x}
%m = arith.maximumf %n, %z : {x}
%q = math.absf %m : {x}
%y = math.sqrt %q : {x}
%u = linalg.add ins(%x, %z : {x}, {x}) outs(%e : {x}) -> {x}
"""
    entry("arithmetic", body, {"y": "Tx20xf32", "u": "Tx20xf32"}, {"x": (20,), "z": (20,)}, tokens=(1, 6, 9))

    body = f"""%c0 = arith.constant 0 : index
%c1 = arith.constant 1 : index
%t = tensor.dim %x, %c0 : {x}
%h = tensor.expand_shape %x [[0], [1, 2]] output_shape [%t, 4, 5] : {x} into tensor<?x4x5xf32>
%e = tensor.empty(%t) : tensor<4x?x5xf32>
%p = linalg.transpose ins(%h : tensor<?x4x5xf32>) outs(%e : tensor<4x?x5xf32>) permutation = [1, 0, 2]
%f = tensor.extract_slice %p[1, 0, 2] [2, %t, 3] [1, 1, 1] : tensor<4x?x5xf32> to tensor<2x?x3xf32>
%g = tensor.empty(%t) : tensor<?x2x3xf32>
%k = linalg.transpose ins(%f : tensor<2x?x3xf32>) outs(%g : tensor<?x2x3xf32>) permutation = [1, 0, 2]
%y = tensor.collapse_shape %k [[0], [1, 2]] : tensor<?x2x3xf32> into tensor<?x6xf32>
%last = arith.subi %t, %c1 : index
%z = tensor.extract_slice %x[%last, 0] [1, 20] [1, 1] : {x} to tensor<1x20xf32>
"""
    entry("reshapes", body, {"y": "Tx6xf32", "z": "1x20xf32"}, {"x": (20,)}, by_token=False)

    body = f"""%c0 = arith.constant 0 : index
%zero = arith.constant 0.0 : f32
%t = tensor.dim %x, %c0 : {x}
%e = tensor.empty(%t) : tensor<?xf32>
%f = linalg.fill ins(%zero : f32) outs(%e : tensor<?xf32>) -> tensor<?xf32>
%rows = linalg.reduce ins(%x : {x}) outs(%f : tensor<?xf32>) dimensions = [1]
  (%l: f32, %a: f32) {{
    %s = arith.addf %l, %a : f32
    linalg.yield %s : f32
  }}
%e2 = tensor.empty() : tensor<20xf32>
%f2 = linalg.fill ins(%zero : f32) outs(%e2 : tensor<20xf32>) -> tensor<20xf32>
%columns = linalg.reduce ins(%x : {x}) outs(%f2 : tensor<20xf32>) dimensions = [0]
  (%l: f32, %a: f32) {{
    %s = arith.addf %l, %a : f32
    linalg.yield %s : f32
  }}
%e3 = tensor.empty() : tensor<f32>
%f3 = linalg.fill ins(%zero : f32) outs(%e3 : tensor<f32>) -> tensor<f32>
%all = linalg.reduce ins(%rows : tensor<?xf32>) outs(%f3 : tensor<f32>) dimensions = [0]
  (%l: f32, %a: f32) {{
    %s = arith.addf %l, %a : f32
    linalg.yield %s : f32
  }}
"""
    outputs = {"rows": "Txf32", "columns": "20xf32", "all": "f32"}
    entry("reductions", body, outputs, {"x": (20,)}, by_token=False)

    # A kernel whose body reads a tensor that is none of its operands.
    body = f"""%c0 = arith.constant 0 : index
%t = tensor.dim %x, %c0 : {x}
%table = arith.addf %x, %x : {x}
%e = tensor.empty(%t) : tensor<?xf32>
%y = linalg.generic {{indexing_maps = [affine_map<(i) -> (i)>, affine_map<(i) -> (i)>], iterator_types = ["parallel"]}}
  ins(%which : tensor<?xi64>) outs(%e : tensor<?xf32>) {{
^bb0(%w: i64, %o: f32):
  %j = arith.index_cast %w : i64 to index
  %i = linalg.index 0 : index
  %last = tensor.dim %table, %c0 : {x}
  %one = arith.constant 1 : index
  %n = arith.subi %last, %one : index
  %r = arith.subi %n, %i : index
  %v = tensor.extract %table[%r, %j] : {x}
  linalg.yield %v : f32
}} -> tensor<?xf32>
"""
    which = ("Txi64", lambda t: RNG.integers(0, 20, t))
    entry("gather", body, {"y": "Txf32"}, {"x": (20,), "which": which}, tokens=(1, 7, 30), by_token=False)

    # One element of a tensor that a kernel made, as a scalar of the next kernel.
    body = f"""%c0 = arith.constant 0 : index
%t = tensor.dim %x, %c0 : {x}
%d = arith.addf %x, %x : {x}
%s = tensor.extract %d[%c0, %c0] : {x}
%e = tensor.empty(%t) : {x}
%y = linalg.fill ins(%s : f32) outs(%e : {x}) -> {x}
"""
    entry("scalar", body, {"y": "Tx20xf32"}, {"x": (20,)}, tokens=(1, 7, 30), by_token=False)


def states() -> None:
    cache, rows = "Cx2x3xf32", "tensor<?x2x3xf32>"
    update = f"%k_new = bitnet.cache_update %k, %x, %pos : {rows}, {rows}\n"
    options = {"position": True, "tokens": (2, 3, 1), "by_token": False}
    # What a state was before the run and is after it, as outputs.
    outputs = {"@k=k_new": cache, "before=k": cache, "after=k_new": cache}
    entry("before_and_after", update, outputs, {"x": (2, 3)}, states={"k": cache}, **options)
    # Two states change places; the one that was written in place is what the other becomes.
    outputs = {"@a=b": cache, "@b=k_new": cache, "second=b": cache}
    swap = update.replace("%k,", "%a,")
    entry("swap", swap, outputs, {"x": (2, 3)}, states={"a": cache, "b": cache}, **options)
    # A state that only changes by arithmetic, and one that is only read.
    body = f"%sum = arith.addf %a, %b : {rows}\n%k_new = bitnet.cache_update %sum, %x, %pos : {rows}, {rows}\n"
    outputs = {"@a=k_new": cache, "@b": cache, "seen=a": cache, "sum": cache}
    entry("sums", body, outputs, {"x": (2, 3)}, states={"a": cache, "b": cache}, **options)
    # Outputs that are inputs, and one value twice.
    x = "tensor<?x5xf32>"
    body = f"%y = arith.addf %x, %z : {x}\n"
    outputs = {"same=x": "Tx5xf32", "y": "Tx5xf32", "again=y": "Tx5xf32"}
    entry("aliases", body, outputs, {"x": (5,), "z": (5,)})


for build in (norms, quantizers, gates, tables, transforms, attentions, upstream, states):
    build()


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    return SOURCE.compiled(tmp_path_factory.mktemp("operations"), "x86-64", "--no-self-test")


@pytest.fixture(scope="module")
def reference(compiled: Compiled) -> dict[str, list[Arrays]]:
    """What the interpreter says of each run of a case, each state handed on to the next run."""

    class Results(dict):
        def __missing__(self, name: str) -> list[Arrays]:
            case, results, position = CASES[name], [], 0
            shapes = {
                key: tuple(CONTEXT if axis == "C" else axis for axis in shape) for key, shape in case.states.items()
            }
            states = {key: np.zeros(shape, np.float32) for key, shape in shapes.items()}
            for inputs in case.runs:
                result = compiled.interpret(name, inputs, states, position, CONTEXT)
                states = {key: result.pop(key) for key in states}
                results.append(result)
                position += len(next(iter(inputs.values())))
            self[name] = results
            return results

    return Results()


def run(compiled: Compiled, target: str | None, threads: int, name: str) -> list[Arrays]:
    session = compiled.session(target, threads, CONTEXT)
    results = []
    for inputs in CASES[name].runs:
        given = {key: array.copy() for key, array in inputs.items()}
        results.append(session.run(name, given))
        assert not differences(inputs, given), f"{name} writes to its inputs"
    return results


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("target", TARGETS)
def test_bits_of_the_interpreter(compiled: Compiled, reference: dict, target: str, threads: int):
    if not compiled.targets()[target]:
        pytest.skip(f"this CPU cannot run {target}")
    wrong = []
    for name in CASES:
        for number, (want, got) in enumerate(zip(reference[name], run(compiled, target, threads, name), strict=True)):
            assert want.keys() == got.keys()
            wrong += [f"{name}, run {number}: {text}" for text in differences(want, got)]
    assert not wrong, f"{len(wrong)} results are not the interpreter's:\n" + "\n".join(wrong[:20])


def test_a_token_does_not_depend_on_the_others(compiled: Compiled):
    """All tokens at once, and one after the other: the same bits."""
    for name, case in CASES.items():
        if not case.by_token:
            continue
        inputs = {key: np.concatenate([run[key] for run in case.runs]) for key in case.runs[0]}
        together = compiled.session(context=CONTEXT).run(name, inputs)
        session = compiled.session(context=CONTEXT)
        for token in range(len(next(iter(inputs.values())))):
            alone = session.run(name, {key: array[token : token + 1] for key, array in inputs.items()})
            row = {key: value[token : token + 1] for key, value in together.items()}
            assert not differences(row, alone), f"{name}, token {token}"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3.4e38, -3.4e38])
def test_no_input_crashes(compiled: Compiled, value: float):
    """Values that no model produces: the same result on every target and number of threads."""
    runnable = [target for target, runs in compiled.targets().items() if runs]
    for name, case in CASES.items():
        inputs = {key: array.copy() for key, array in case.runs[-1].items()}
        for array in inputs.values():
            if array.dtype == np.float32:
                array.flat[:: max(1, array.size // 3)] = value
        results = [
            compiled.session(target, threads, CONTEXT).run(name, inputs) for target in runnable for threads in (1, 2)
        ]
        for other in results[1:]:
            assert not differences(results[0], other), name


def test_tokens_outside_the_table_are_refused(compiled: Compiled):
    from setun import _setun

    for token in (-1, 64):
        with pytest.raises(_setun.ArgumentError, match="expects values from 0 to 63"):
            compiled.session(context=CONTEXT).run("embedding_f32_64", {"tokens": np.array([3, token])})
