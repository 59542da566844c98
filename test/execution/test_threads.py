"""Chains of operations, on several threads, many times over: a missing barrier, or a buffer that two operations use at
once, shows as other bits than those of the reference interpreter, sooner or later.

Runs of 1 token, where every thread quantises for itself, alternate with runs of 2 and 17 in one session.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from compiled import Arrays, Compiled, Source, differences

CONTEXT = 64
RUNS = (17, 1, 1, 2, 1, 17, 1, 2)
REPEATS = 25
HIDDEN, INNER, WIDE, HEADS, SIZE, VOCAB = 66, 139, 1024, 3, 22, 50
QUANT = "activation = #bitnet.act_quant<{}, bits = 8, eps = 1.0e-5>, scales = #bitnet.scales<tensor>"


class Chain:
    """Lines of an entry; values are numbered."""

    def __init__(self, source: Source, name: str) -> None:
        self.source, self.name, self.count = source, name, 0
        self.rng = np.random.default_rng(len(name))
        self.lines = ""

    def new(self, line: str) -> str:
        self.count += 1
        self.lines += f"%v{self.count} = {line}\n"
        return f"%v{self.count}"

    def weight(self, *shape: int, element: str = "f32") -> str:
        self.count += 1
        name = f"{self.name}_w{self.count}"
        array = np.abs(self.rng.normal(size=shape)).astype(np.float32) + np.float32(0.1)  # scales are positive
        if element == "i2":
            array = self.rng.integers(-1, 2, shape).astype(np.int8)
        self.lines += self.source.weight(name, array, element)
        return f"%{name}"

    def linear(self, x: str, n: int, k: int, *, norm: bool = True, granularity: str = "per_token") -> str:
        w, s = self.weight(n, k, element="i2"), self.weight(1)
        g = self.weight(k) if norm else ""
        norm_text = ", norm = #bitnet.norm<rms, eps = 1.0e-5>" if norm else ""
        return self.new(
            f"bitnet.linear {x}, {w} scale({s}){f' norm_weight({g})' if norm else ''}"
            f" {{{QUANT.format(granularity)}{norm_text}}}"
            f" : (tensor<?x{k}xf32>, tensor<{n}x{k}xi2>, tensor<1xf32>{f', tensor<{k}xf32>' if norm else ''})"
            f" -> tensor<?x{n}xf32>"
        )

    def add(self, x: str, y: str, k: int) -> str:
        return self.new(f"arith.addf {x}, {y} : tensor<?x{k}xf32>")

    def norm(self, x: str, k: int) -> str:
        return self.new(
            f"bitnet.rms_norm {x}, {self.weight(k)} {{eps = 1.0e-5 : f32}} : tensor<?x{k}xf32>, tensor<{k}xf32>"
        )


def mlp(c: Chain, x: str, granularity: str = "per_token", fused: bool = True) -> str:
    n = c.norm(x, HIDDEN)
    gate, up = (c.linear(n, INNER, HIDDEN, norm=False, granularity=granularity) for _ in range(2))
    if not fused:  # the gate is an operation of its own if something else reads what it takes
        gate = c.add(gate, up, INNER)
    g = c.new(f"bitnet.gated {gate}, {up} {{act = #bitnet.gate_act<relu2>}} : tensor<?x{INNER}xf32>")
    return c.add(x, c.linear(g, HIDDEN, INNER, granularity=granularity), HIDDEN)


def decoder(source: Source) -> None:
    """A small language model: embedding, three layers, norm, logits of the last token."""
    c = Chain(source, "decoder")
    layers, kv = 3, f"tensor<?x1x{SIZE}xf32>"
    table = c.weight(VOCAB, HIDDEN)
    x = c.new(
        f"bitnet.embedding {table}, %tokens : tensor<{VOCAB}x{HIDDEN}xf32>, tensor<?xi64> -> tensor<?x{HIDDEN}xf32>"
    )
    zero = c.new("arith.constant 0 : index")
    one = c.new("arith.constant 1 : index")
    t = c.new(f"tensor.dim %tokens, {zero} : tensor<?xi64>")
    cos, sin = c.weight(CONTEXT, SIZE // 2), c.weight(CONTEXT, SIZE // 2)
    states = {}
    for layer in range(layers):
        n = c.norm(x, HIDDEN)
        parts = []
        for heads in (HEADS, 1, 1):
            p = c.linear(n, heads * SIZE, HIDDEN, norm=False)
            p = c.new(
                f"tensor.expand_shape {p} [[0], [1, 2]] output_shape [{t}, {heads}, {SIZE}]"
                f" : tensor<?x{heads * SIZE}xf32> into tensor<?x{heads}x{SIZE}xf32>"
            )
            parts.append(p)
        for i, heads in ((0, HEADS), (1, 1)):
            parts[i] = c.new(
                f"bitnet.rotary {parts[i]}, {cos}, {sin}, %pos"
                f" : tensor<?x{heads}x{SIZE}xf32>, tensor<{CONTEXT}x{SIZE // 2}xf32>"
            )
        k = c.new(f"bitnet.cache_update %k{layer}, {parts[1]}, %pos : {kv}, {kv}")
        v = c.new(f"bitnet.cache_update %v_{layer}, {parts[2]}, %pos : {kv}, {kv}")
        states |= {f"@k{layer}={k[1:]}": (f"k{layer}", k), f"@v_{layer}={v[1:]}": (f"v_{layer}", v)}
        o = c.new(
            f"bitnet.attention {parts[0]}, {k}, {v}, %pos {{causal, scale = 0.25 : f32}}"
            f" : tensor<?x{HEADS}x{SIZE}xf32>, {kv}, {kv}"
        )
        o = c.new(
            f"tensor.collapse_shape {o} [[0], [1, 2]] : tensor<?x{HEADS}x{SIZE}xf32> into tensor<?x{HEADS * SIZE}xf32>"
        )
        x = mlp(c, c.add(x, c.linear(o, HIDDEN, HEADS * SIZE), HIDDEN))
    x = c.norm(x, HIDDEN)
    last = c.new(f"arith.subi {t}, {one} : index")
    row = c.new(
        f"tensor.extract_slice {x}[{last}, 0] [1, {HIDDEN}] [1, 1] : tensor<?x{HIDDEN}xf32> to tensor<1x{HIDDEN}xf32>"
    )
    logits = c.new(
        f"bitnet.dense {row}, {table} : (tensor<1x{HIDDEN}xf32>, tensor<{VOCAB}x{HIDDEN}xf32>) -> tensor<1x{VOCAB}xf32>"
    )
    cache = f"Cx1x{SIZE}xf32"
    source.entry(
        "decoder",
        {"tokens": "Txi64", "pos": "i64", **{f"@{name}": cache for name, _ in states.values()}},
        {f"logits={logits[1:]}": f"1x{VOCAB}xf32", **dict.fromkeys(states, cache)},
        c.lines,
        f", bitnet.max_context = {CONTEXT} : i64",
    )


def chain(source: Source, name: str, build: Callable[[Chain], str | list[str]], width: int = HIDDEN) -> None:
    c = Chain(source, name)
    results = build(c)
    results = [results] if isinstance(results, str) else results
    source.entry(
        name,
        {"x": f"Tx{width}xf32"},
        {f"y{i}={value[1:]}": f"Tx{width}xf32" for i, value in enumerate(results)},
        c.lines,
    )


def three(c: Chain, **options) -> str:
    x = "%x"
    for _ in range(3):
        x = mlp(c, x, **options)
    return x


def long_lives(c: Chain) -> list[str]:
    """Products that stay alive over many others, and normalised rows with several readers."""
    a = c.linear("%x", HIDDEN, HIDDEN)
    n = c.norm(a, HIDDEN)
    b = c.linear(n, HIDDEN, HIDDEN, norm=False)
    d = c.linear(b, HIDDEN, HIDDEN, granularity="per_tensor")
    e = c.add(c.linear(n, HIDDEN, HIDDEN), d, HIDDEN)
    f = c.add(c.linear(e, HIDDEN, HIDDEN), n, HIDDEN)
    return [c.add(f, b, HIDDEN), c.norm(c.add(e, n, HIDDEN), HIDDEN), n]


def plain(c: Chain) -> str:
    """Nothing but operations that each thread makes for itself where there is one token. The transform overwrites its
    result many times, so threads that shared it would see each other's work.
    """
    x = "%x"
    for _ in range(4):
        n = c.norm(x, WIDE)
        h = c.new(f"bitnet.hadamard {n} {{block = {WIDE}}} : tensor<?x{WIDE}xf32>")
        g = c.new(f"bitnet.gated {h}, {n} {{act = #bitnet.gate_act<silu>}} : tensor<?x{WIDE}xf32>")
        x = c.add(g, h, WIDE)
    return x


def streams(c: Chain) -> str:
    """Matrices so large that threads take of one another's shares of one token. Where there are more threads than CPUs
    some are always late, so their shares are done by others.
    """
    x = c.linear(c.linear("%x", 1411, WIDE), WIDE, 1411)
    gate, up = (c.linear(x, 1155, WIDE) for _ in range(2))
    g = c.new(f"bitnet.gated {gate}, {up} {{act = #bitnet.gate_act<relu2>}} : tensor<?x1155xf32>")
    return c.add(x, c.linear(g, WIDE, 1155), WIDE)


def all_chains() -> Source:
    source = Source()
    decoder(source)
    chain(source, "tokens", three)
    chain(source, "tensor", lambda c: three(c, granularity="per_tensor"))
    chain(source, "gate", lambda c: three(c, fused=False))
    chain(source, "lives", long_lives)
    chain(source, "plain", plain, WIDE)
    chain(source, "streams", streams, WIDE)
    return source


SOURCE = all_chains()


def inputs_of(name: str) -> list[Arrays]:
    rng = np.random.default_rng(7)
    if name == "decoder":
        return [{"tokens": rng.integers(0, VOCAB, t)} for t in RUNS]
    return [
        {"x": rng.normal(size=(t, WIDE if name in ("plain", "streams") else HIDDEN)).astype(np.float32)} for t in RUNS
    ]


@pytest.fixture(scope="module", params=["", "--probe"], ids=["plain", "probes"])
def compiled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    flags = ["--no-self-test", *filter(None, [request.param])]
    return SOURCE.compiled(tmp_path_factory.mktemp("threads"), "host", *flags)


@pytest.fixture(scope="module")
def reference(compiled: Compiled) -> dict[str, list[Arrays]]:
    """The interpreter's outputs, each state handed on to the next run."""
    results: dict[str, list[Arrays]] = {}
    for name in SOURCE.entries:
        position, states = 0, {}
        if name == "decoder":
            states = {f"{kind}{i}": np.zeros((CONTEXT, 1, SIZE), np.float32) for i in range(3) for kind in ("k", "v_")}
        results[name] = []
        for inputs in inputs_of(name):
            result = compiled.interpret(name, inputs, states, position, CONTEXT)
            states = {key: result.pop(key) for key in states}
            results[name].append(result)
            position += len(next(iter(inputs.values())))
    return results


@pytest.mark.parametrize("threads", [1, 2, 3, 5])
def test_every_run_gives_the_bits_of_the_interpreter(compiled: Compiled, reference: dict, threads: int):
    session = compiled.session(threads=threads, context=CONTEXT)
    for repeat in range(REPEATS if threads > 1 else 1):
        for name in SOURCE.entries:
            session.reset()
            for number, (inputs, want) in enumerate(zip(inputs_of(name), reference[name], strict=True)):
                got = session.run(name, inputs)
                # Probes are not among the interpreter's outputs.
                wrong = differences(want, {key: got[key] for key in want})
                assert not wrong, f"{name}, repeat {repeat}, run {number} of {len(inputs_of(name))}: {wrong}"
