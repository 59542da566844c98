"""BitLinear layers of every form: compiled code gives the bits of the reference interpreter.

Each form runs on every code section that this CPU can run, on 1, 2 and 3 threads, for several numbers of tokens; and
on the widest target with each kernel row.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
import pytest

from compiled import TARGETS, Arrays, Compiled, Source, differences, kernel_rows, tool

TOKENS = (1, 7, 9)
TERNARY, BINARY, BYTES = "i2", "i1", "i8"


def act(granularity: str = "per_token", bits: int = 8, eps: str = "1.0e-5") -> str:
    return f"activation = #bitnet.act_quant<{granularity}, bits = {bits}, eps = {eps}>"


def ones(n: int) -> str:
    return f"#bitnet.scales<rows = [{', '.join(['1'] * n)}]>"


class Forms:
    """A module with an entry for each form of layer."""

    def __init__(self) -> None:
        self.source = Source()
        self.rng = np.random.default_rng(1958)
        self.columns: dict[str, int] = {}
        self.count = 0

    def floats(self, *shape: int, positive: bool = False) -> np.ndarray:
        values = self.rng.normal(size=shape).astype(np.float32)
        return np.abs(values) + np.float32(0.01) if positive else values

    def codes(self, n: int, k: int, element: str) -> np.ndarray:
        return self.rng.choice(np.array([-1, 0, 1] if element == TERNARY else [-1, 1], np.int8), (n, k))

    def linear(
        self,
        x: str,
        y: str,
        n: int,
        k: int,
        element: str = TERNARY,
        activation: str = act(),
        scales: str = "#bitnet.scales<tensor>",
        scale_shape: tuple[int, ...] = (1,),
        extra: str = "",
        bias: bool = False,
        norm: str = "",
        gain: bool = False,
        shift: bool = False,
    ) -> str:
        """Lines of one bitnet.linear from %x to %y, with weights of its own."""
        self.count += 1
        w, s, b, g, h = (f"{letter}{self.count}" for letter in "wsbgh")
        if element == BYTES:
            lines = self.source.weight(f"m{w}", self.floats(n, k))
            lines += f"""%{w}, %r{w} = bitnet.quantize_weight %m{w} {{method = #bitnet.weight_quant<absmax>,
  eps = 1.0e-30 : f32, scales = #bitnet.scales<rows>}} : tensor<{n}x{k}xf32> -> tensor<{n}x{k}xi8>, tensor<{n}xf32>
"""
        else:
            lines = self.source.weight(w, self.codes(n, k, element), element)
        lines += self.source.weight(s, self.floats(*scale_shape, positive=True))
        call = f"%{y} = bitnet.linear %{x}, %{w} scale(%{s})"
        types = [f"tensor<?x{k}xf32>", f"tensor<{n}x{k}x{element}>", f"tensor<{'x'.join(map(str, scale_shape))}xf32>"]
        for wanted, name, size, word in ((bias, b, n, "bias"), (gain, g, k, "norm_weight"), (shift, h, k, "norm_bias")):
            if wanted:
                lines += self.source.weight(name, self.floats(size))
                call += f" {word}(%{name})"
                types.append(f"tensor<{size}xf32>")
        attributes = [part for part in (activation, f"scales = {scales}", norm and f"norm = {norm}", extra) if part]
        return lines + f"{call} {{{', '.join(attributes)}}} : ({', '.join(types)}) -> tensor<?x{n}xf32>\n"

    def form(self, name: str, n: int, k: int, **options) -> None:
        """An entry of one layer."""
        self.add(name, k, {"y": f"Tx{n}xf32"}, self.linear("x", "y", n, k, **options))

    def add(self, name: str, k: int, outputs: dict[str, str], body: str) -> None:
        self.columns[name] = k
        self.source.entry(name, {"x": f"Tx{k}xf32"}, outputs, body)


def all_forms() -> Forms:
    forms = Forms()
    for element, kind in ((TERNARY, "ternary"), (BINARY, "binary")):
        plain_forms(forms, element, kind)
        fused_forms(forms, element, kind)
        accumulator_forms(forms, element, kind)
        wide_forms(forms, element, kind)
    byte_forms(forms)
    # What follows does not depend on the weights' bits.
    activation_forms(forms)
    mixed_forms(forms)
    return forms


def plain_forms(forms: Forms, element: str, kind: str) -> None:
    """Shapes, scales and groups."""

    def form(name: str, n: int, k: int, **options) -> None:
        forms.form(f"{kind}_{name}", n, k, element=element, **options)

    # Shapes: below, at and above the panel (64 or 128 rows), the step (4 columns) and the vector (16 lanes).
    for n, k in ((1, 4), (3, 5), (16, 31), (63, 64), (65, 66), (127, 130), (130, 33)):
        form(f"shape_{n}_{k}", n, k)
    form("per_tensor", 70, 66, activation=act("per_tensor"), extra=DIVIDE)
    form("bits4", 70, 66, activation=act(bits=4))
    form("floats", 70, 66, activation="")
    form("scales_ranges", 136, 40, scales="#bitnet.scales<rows = [5, 60, 1, 70]>", scale_shape=(4,))
    form("scales_rows_divide", 136, 40, scales=ones(136), scale_shape=(136,), extra=DIVIDE)
    form("bias", 70, 48, bias=True)
    form("bias_before", 70, 48, bias=True, extra=BEFORE)
    # Groups that divide K, that leave a rest, whose rest has no whole step, and larger than K.
    for group, k in ((128, 256), (64, 200), (32, 101), (4, 10), (64, 33)):
        options = {"scales": f"#bitnet.scales<group = {group}>", "scale_shape": (70, (k + group - 1) // group)}
        form(f"group_{group}_{k}", 70, k, **options)
        form(f"group_{group}_{k}_floats", 70, k, activation="", **options)
    form("group_bias", 70, 101, bias=True, extra=DIVIDE, activation=act("per_tensor"), **GROUPS_OF_32)


def byte_forms(forms: Forms) -> None:
    """Weights of 8 bits: shapes below, at and above the panel (16 rows), and what kernels do differently."""
    for n, k in ((1, 4), (16, 31), (17, 66), (70, 130)):
        forms.form(f"bytes_shape_{n}_{k}", n, k, element=BYTES, scales="#bitnet.scales<rows>", scale_shape=(n,))
    for name, activation in (("", act()), ("_floats", "")):
        options = {"element": BYTES, "activation": activation}
        forms.form(f"bytes_bias{name}", 70, 48, bias=True, **options)
        forms.form(f"bytes_groups{name}", 70, 101, **options, **GROUPS_OF_32)
        forms.add(f"bytes_gate{name}", 66, {"y": "Tx33xf32"}, gate_and_up(forms, "silu", 33, options))


def activation_forms(forms: Forms) -> None:
    """Activation quantisers, norms and places of the bias."""
    for name, activation in (
        ("per_tensor", act("per_tensor")),
        ("bits4", act(bits=4)),
        ("bits2", act(bits=2)),
        ("per_tensor_bits4", act("per_tensor", 4)),
        ("large_eps", act(eps="2.0")),
        ("floats", ""),
    ):
        forms.form(f"{name}_bias", 70, 48, activation=activation, bias=True)
        forms.form(f"{name}_bias_before", 70, 48, activation=activation, bias=True, extra=BEFORE)
        forms.form(f"{name}_rms", 70, 66, activation=activation, norm="#bitnet.norm<rms, eps = 1.0e-6>", gain=True)
    for name, norm in (("rms", "#bitnet.norm<rms, eps = 1.0e-5>"), ("layer", "#bitnet.norm<layer, eps = 1.0e-5>")):
        for k in (16, 66, 7):
            forms.form(f"{name}_{k}", 20, k, norm=norm)
            forms.form(f"{name}_gain_{k}", 20, k, norm=norm, gain=True)
    forms.form("layer_shift", 20, 66, norm="#bitnet.norm<layer, eps = 0.0>", gain=True, shift=True)
    forms.form("layer_shift_only", 20, 66, norm="#bitnet.norm<layer, eps = 1.0e-5>", shift=True, bias=True)
    forms.form("no_norm", 20, 66, norm="#bitnet.norm<none, eps = 0.0>")


GROUPS_OF_32 = {"scales": "#bitnet.scales<group = 32>", "scale_shape": (70, 4)}
DIVIDE = "direction = #bitnet.direction<divide>"
BEFORE = "bias_place = #bitnet.bias_place<before_scale>"


def fused_forms(forms: Forms, element: str, kind: str) -> None:
    """Layers that the compiler puts together: projections of one input, gates, residuals."""
    for name, activation in (("", act()), ("_floats", "")):
        options = {"element": element, "activation": activation}
        group = {"scales": "#bitnet.scales<group = 32>"}
        body = forms.linear("x", "q", 70, 66, **options)
        body += forms.linear("x", "k", 5, 66, scales=ones(5), scale_shape=(5,), **options)
        body += forms.linear("x", "v", 64, 66, extra=DIVIDE, **options)
        body += forms.linear("x", "z", 9, 66, bias=True, **options)
        forms.add(f"{kind}_projections{name}", 66, {n: f"Tx{s}xf32" for n, s in QKVZ.items()}, body)
        body = forms.linear("x", "q", 70, 66, scale_shape=(70, 3), **options, **group)
        body += forms.linear("x", "k", 3, 66, scale_shape=(3, 3), extra=DIVIDE, **options, **group)
        forms.add(f"{kind}_projections_groups{name}", 66, {"q": "Tx70xf32", "k": "Tx3xf32"}, body)
        # Gates below, at and above half a panel of either kind.
        for gate, n in (("relu2", 3), ("silu", 33)) if name else (("relu2", 32), ("silu", 33), ("relu2", 100)):
            forms.add(f"{kind}_{gate}_{n}{name}", 66, {"y": f"Tx{n}xf32"}, gate_and_up(forms, gate, n, options))
        body = gate_and_up(forms, "silu", 40, {**options, **group, "scale_shape": (40, 3)})
        forms.add(f"{kind}_gate_groups{name}", 66, {"y": "Tx40xf32"}, body)
        body = gate_and_up(forms, "relu2", 66, options) + "%r = arith.addf %x, %y : tensor<?x66xf32>\n"
        forms.add(f"{kind}_residual_gated{name}", 66, {"r": "Tx66xf32"}, body)
    body = forms.linear("x", "y", 66, 66, bias=True, element=element) + "%r = arith.addf %y, %x : tensor<?x66xf32>\n"
    forms.add(f"{kind}_residual", 66, {"r": "Tx66xf32"}, body)


def wide_forms(forms: Forms, element: str, kind: str) -> None:
    """So many columns that one token's results may wait in registers for the next panel's steps: whole and ragged
    panels, several and one, steps that do and do not come out even, each epilogue."""
    for n, k in ((5, 640), (160, 640), (250, 516), (513, 523)):
        forms.form(f"{kind}_wide_{n}_{k}", n, k, element=element)
    forms.form(f"{kind}_wide_bias", 200, 516, element=element, bias=True)
    forms.form(f"{kind}_wide_bias_before", 200, 516, element=element, bias=True, extra=BEFORE)
    for gate, n in (("relu2", 70), ("silu", 200)):
        body = gate_and_up(forms, gate, n, {"element": element}, 516)
        forms.add(f"{kind}_wide_{gate}", 516, {"y": f"Tx{n}xf32"}, body)
    body = forms.linear("x", "y", 516, 516, bias=True, element=element) + "%r = arith.addf %y, %x : tensor<?x516xf32>\n"
    forms.add(f"{kind}_wide_residual", 516, {"r": "Tx516xf32"}, body)


def mixed_forms(forms: Forms) -> None:
    """Layers that must not be put together, and layers one after the other."""
    # Ternary and binary weights on one input.
    body = forms.linear("x", "q", 20, 34) + forms.linear("x", "k", 20, 34, element=BINARY)
    forms.add("mixed_projections", 34, {"q": "Tx20xf32", "k": "Tx20xf32"}, body)
    # A gate that something else reads.
    body = gate_and_up(forms, "silu", 20, {}) + "%other = arith.addf %gate, %up : tensor<?x20xf32>\n"
    forms.add("gate_with_other_use", 66, {"y": "Tx20xf32", "other": "Tx20xf32"}, body)
    # The same codes under two activation scales, and accumulators that are read before the sum with a residual.
    body = forms.source.weight("w_twice", forms.codes(20, 20, TERNARY), TERNARY)
    body += forms.source.weight("s_twice", forms.floats(1, positive=True))
    body += f"""
%codes, %scale, %sums = bitnet.quantize %x {{{act()}}}
  : tensor<?x20xf32> -> tensor<?x20xi8>, tensor<?xf32>, tensor<?xi32>
%other = arith.addf %scale, %scale : tensor<?xf32>
%acc = bitnet.matmul %codes, %w_twice sums(%sums)
  : (tensor<?x20xi8>, tensor<20x20xi2>, tensor<?xi32>) -> tensor<?x20xi32>
%y = bitnet.dequantize %acc scale(%s_twice) act_scale(%scale) {{scales = #bitnet.scales<tensor>}}
  : (tensor<?x20xi32>, tensor<1xf32>, tensor<?xf32>) -> tensor<?x20xf32>
%z = bitnet.dequantize %acc scale(%s_twice) act_scale(%other) {{scales = #bitnet.scales<tensor>}}
  : (tensor<?x20xi32>, tensor<1xf32>, tensor<?xf32>) -> tensor<?x20xf32>
"""
    forms.add("two_activation_scales", 20, {"y": "Tx20xf32", "z": "Tx20xf32"}, body)
    body = body[: body.index("%z =")]
    body += "%f = arith.sitofp %acc : tensor<?x20xi32> to tensor<?x20xf32>\n%r = arith.addf %f, %y : tensor<?x20xf32>\n"
    forms.add("accumulators_as_residual", 20, {"r": "Tx20xf32"}, body)
    # A chain: norm, quantise, product, norm, product, residual.
    body = forms.linear("x", "h", 48, 34, norm="#bitnet.norm<rms, eps = 1.0e-5>", gain=True)
    body += forms.linear("h", "z", 34, 48, norm="#bitnet.norm<layer, eps = 1.0e-5>", gain=True, shift=True)
    body += "%y = arith.addf %x, %z : tensor<?x34xf32>\n"
    forms.add("chain", 34, {"y": "Tx34xf32"}, body)


QKVZ = {"q": 70, "k": 5, "v": 64, "z": 9}


def gate_and_up(forms: Forms, gate: str, n: int, options: dict, k: int = 66) -> str:
    body = forms.linear("x", "gate", n, k, **options) + forms.linear("x", "up", n, k, **options)
    return body + f"%y = bitnet.gated %gate, %up {{act = #bitnet.gate_act<{gate}>}} : tensor<?x{n}xf32>\n"


def accumulator_forms(forms: Forms, element: str, kind: str) -> None:
    """Codes, scales, sums and accumulators as outputs, beside the scaled result."""
    for k, group, activation in (
        (34, 0, "per_token"),
        (64, 0, "per_tensor"),
        (101, 32, "per_token"),
        (128, 64, "per_tensor"),
    ):
        n, name = 70, f"{kind}_acc_{k}_{group}"
        groups = (k + group - 1) // group if group else 1
        scales = f"#bitnet.scales<group = {group}>" if group else "#bitnet.scales<tensor>"
        shape = (n, groups) if group else (1,)
        accumulators = f"?x{n}x{groups}xi32" if group else f"?x{n}xi32"
        scale = "?" if activation == "per_token" else "1"
        body = forms.source.weight(f"w_{name}", forms.codes(n, k, element), element)
        body += forms.source.weight(f"s_{name}", forms.floats(*shape, positive=True))
        body += f"""
%codes, %scale, %sums = bitnet.quantize %x {{{act(activation)}}}
  : tensor<?x{k}xf32> -> tensor<?x{k}xi8>, tensor<{scale}xf32>, tensor<?xi32>
%acc = bitnet.matmul %codes, %w_{name} sums(%sums) {f"{{group = {group}}}" if group else ""}
  : (tensor<?x{k}xi8>, tensor<{n}x{k}x{element}>, tensor<?xi32>) -> tensor<{accumulators}>
%y = bitnet.dequantize %acc scale(%s_{name}) act_scale(%scale) {{scales = {scales}}}
  : (tensor<{accumulators}>, tensor<{"x".join(map(str, shape))}xf32>, tensor<{scale}xf32>) -> tensor<?x{n}xf32>
"""
        outputs = {"y": f"Tx{n}xf32", "acc": "T" + accumulators[1:], "codes": f"Tx{k}xi8", "sums": "Txi32"}
        outputs["scale"] = scale.replace("?", "T") + "xf32"
        forms.add(name, k, outputs, body)


def inputs(name: str, tokens: int, columns: int) -> Arrays:
    """Rows of usual size among rows of zeros, of denormal, of small and of huge numbers."""
    rng = np.random.default_rng([tokens, columns, *name.encode()])
    x = rng.normal(size=(tokens, columns)).astype(np.float32)
    if tokens > 2:
        for row, factor in zip(range(1, tokens), (0.0, 1e-42, 1e-20, 1e20, 1e-6), strict=False):
            # 1e20 squared is infinite, and so are sums of squares.
            x[row] *= np.float32(factor)
    # Halves, which round to even, and both zeros.
    x[0, : columns // 2] = np.round(x[0, : columns // 2] * 4) / np.float32(8)
    x[-1, -1] = -0.0
    return {"x": x}


FORMS = all_forms()
# Rows that the widest target runs, with the layouts of ternary weights.
WIDEST = "x86-64-v4+avx512vbmi+avx512vnni"
WIDEST_ROWS = [
    (name, layout)
    for name, features in kernel_rows()
    if name != "avx512vbmi" and features.isdisjoint({"amx-int8", "avxvnni"})
    for layout in ("r16k4f4", "r16k4t5")
]
# Rows whose own instructions are emulated, on targets that lack them.
EMULATED = {"amxint8": WIDEST, "avxvnni": "x86-64-v3"}
EMULATED_FORMS = (
    *(f"{kind}_{form}" for kind in ("ternary", "binary") for form in ("shape_130_33", "per_tensor", "bias_before")),
    *(f"{kind}_{form}" for kind in ("ternary", "binary") for form in ("group_32_101", "relu2_100", "residual_gated")),
    *(f"{kind}_acc_{k}_{group}" for kind in ("ternary", "binary") for k, group in ((34, 0), (101, 32))),
)
# For rows that the compiler would not choose on a target: some forms of each sort.
SOME = tuple(name for i, name in enumerate(FORMS.columns) if i % 5 == 0)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    return FORMS.source.compiled(tmp_path_factory.mktemp("layers"), "x86-64", "--no-self-test")


@pytest.fixture(scope="module")
def forced(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Compiled:
    """The widest target with one kernel row and one layout throughout."""
    row, layout = request.param
    flags = (f"--force-kernel={row}", f"--format={layout}", "--no-self-test")
    return FORMS.source.compiled(tmp_path_factory.mktemp("forced"), WIDEST, *flags, only=SOME)


@pytest.fixture(scope="module")
def reference(compiled: Compiled) -> dict[tuple[str, int], Arrays]:
    """What the interpreter says; each case is computed once."""

    class Cases(dict):
        def __missing__(self, key: tuple[str, int]) -> Arrays:
            name, tokens = key
            self[key] = compiled.interpret(name, inputs(name, tokens, FORMS.columns[name]))
            return self[key]

    return Cases()


def by_itself(name: str) -> bool:
    """Whether a token's results are its own: one activation scale for all tokens depends on all."""
    return "per_tensor" not in FORMS.source.entries[name]


def check(compiled: Compiled, reference: dict, target: str | None, threads: int, names: Collection[str]) -> None:
    session = compiled.session(target, threads)
    wrong = []
    for name in names:
        for tokens in TOKENS:
            found = differences(reference[name, tokens], session.run(name, inputs(name, tokens, FORMS.columns[name])))
            wrong += [f"{name} of {tokens} tokens: {text}" for text in found]
    assert not wrong, f"{len(wrong)} results are not the interpreter's:\n" + "\n".join(wrong[:20])


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("target", TARGETS)
def test_bits_of_the_interpreter(compiled: Compiled, reference: dict, target: str, threads: int):
    if not compiled.targets()[target]:
        pytest.skip(f"this CPU cannot run {target}")
    check(compiled, reference, target, threads, FORMS.columns)


@pytest.mark.parametrize("forced", WIDEST_ROWS, ids="-".join, indirect=True)
def test_every_row_on_the_widest_target(forced: Compiled, reference: dict):
    if not forced.targets()[WIDEST]:
        pytest.skip(f"this CPU cannot run {WIDEST}")
    check(forced, reference, WIDEST, 2, SOME)


@pytest.mark.parametrize("layout", ["r16k4f4", "r16k4t5"])
@pytest.mark.parametrize("row", EMULATED)
def test_emulated_rows(row: str, layout: str, tmp_path: Path):
    """Rows with other instructions than their own: tiles, staging, tails and epilogues of many tokens."""
    flags = (f"--force-kernel={row}", "--emulate", f"--format={layout}", "--no-self-test")
    package = FORMS.source.compiled(tmp_path, EMULATED[row], *flags, only=EMULATED_FORMS)
    if not package.targets()[EMULATED[row]]:
        pytest.skip(f"this CPU cannot run {EMULATED[row]}")
    session, wrong = package.session(threads=2), []
    for name in EMULATED_FORMS:
        for tokens in (7, 21, 33):
            x = inputs(name, tokens, FORMS.columns[name])
            found = differences(package.interpret(name, x), session.run(name, x))
            wrong += [f"{name} of {tokens} tokens: {text}" for text in found]
    assert not wrong, f"{len(wrong)} results are not the interpreter's:\n" + "\n".join(wrong[:20])


@pytest.mark.parametrize("layout", ["r16k4f4", "r16k4t5"])
def test_look_ups(layout: str, tmp_path: Path):
    """Whole and partial blocks of tokens, what dots are left with, each epilogue; threads share rows or tokens."""
    flags = ("--force-kernel=avx512lut", f"--format={layout}", "--no-self-test")
    package = FORMS.source.compiled(tmp_path, WIDEST, *flags, only=EMULATED_FORMS)
    if not package.targets()[WIDEST]:
        pytest.skip(f"this CPU cannot run {WIDEST}")
    sessions, wrong = [package.session(threads=threads) for threads in (1, 2, 3)], []
    for i, name in enumerate(EMULATED_FORMS):
        for tokens in (53, 300) if i % 5 == 0 else (53,):  # interpreting takes its time
            x = inputs(name, tokens, FORMS.columns[name])
            expected = package.interpret(name, x)
            for session in sessions:
                found = differences(expected, session.run(name, x))
                wrong += [f"{name} of {tokens} tokens: {text}" for text in found]
    assert not wrong, f"{len(wrong)} results are not the interpreter's:\n" + "\n".join(wrong[:20])


def test_all_forms_in_base_3(reference: dict, tmp_path: Path):
    """The best row of the widest target in 1.6 bits, on one thread and on three."""
    package = FORMS.source.compiled(tmp_path, WIDEST, "--format=r16k4t5", "--no-self-test")
    if not package.targets()[WIDEST]:
        pytest.skip(f"this CPU cannot run {WIDEST}")
    check(package, reference, WIDEST, 1, FORMS.columns)
    check(package, reference, WIDEST, 3, SOME)


def test_a_token_does_not_depend_on_the_others(compiled: Compiled):
    """Rows computed alone equal rows computed together; with one scale for all tokens they cannot."""
    session = compiled.session()
    for name, columns in FORMS.columns.items():
        if not by_itself(name):
            continue
        x = inputs(name, 9, columns)["x"]
        together = session.run(name, {"x": x})
        for token in range(len(x)):
            alone = session.run(name, {"x": x[token : token + 1]})
            row = {key: value[token : token + 1] for key, value in together.items()}
            assert not differences(row, alone), f"{name}, token {token}"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3.4e38, -3.4e38])
def test_no_input_crashes(compiled: Compiled, value: float):
    """Values that no model produces: defined results, the same on every target, and the other tokens untouched."""
    sessions = [compiled.session(target) for target, runnable in compiled.targets().items() if runnable]
    for name, columns in FORMS.columns.items():
        clean = np.random.default_rng(3).normal(size=(4, columns)).astype(np.float32)
        dirty = clean.copy()
        dirty[2, columns // 3] = value
        results = [session.run(name, {"x": dirty}) for session in sessions]
        for other in results[1:]:
            assert not differences(results[0], other), name
        if not by_itself(name):
            continue
        expected = sessions[0].run(name, {"x": clean})
        for key, array in results[0].items():
            kept = [0, 1, 3]
            assert not differences({key: expected[key][kept]}, {key: array[kept]}), name


def test_forms_use_what_they_are_named_after(compiled: Compiled, tmp_path: Path):
    """Layers that go together are fused: otherwise the tests above would not see gated layouts and shared panels."""
    text = tool("setun-compile", compiled.module, "-o", "-", "--emit=ternary", "--target=x86-64-v2", *compiled.weights)
    for fragment in (
        "order = gated",
        "epilogue = #ternary.epilogue<relu2>",
        "epilogue = #ternary.epilogue<silu>",
        "residual(",
        "norm_weight(",
        "row_counts = array<i64: 70, 5, 64>",
    ):
        assert fragment in text, fragment
