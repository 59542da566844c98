"""Compares the interpreter with the formulas of the dialect description, written again in NumPy, on random inputs.

The interpreter is given the module as it is, or after passes; with --target, compiled code runs in its place. All
arithmetic is on float32 arrays, one rounding an operation, in the stated order. Prints how many results are equal bit
for bit and the operations of those that are not; exits with 1 if there are any.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np

F = np.float32
LOWEST = np.finfo(F).min
rng = np.random.default_rng(1958)


def sum16(v: np.ndarray) -> np.ndarray:
    """Sum over the last axis: 16 lanes, then lanes 8, 4, 2, 1 apart."""
    n = v.shape[-1]
    padded = np.zeros((*v.shape[:-1], (n + 15) // 16 * 16), F)
    padded[..., :n] = v
    lanes = np.zeros((*v.shape[:-1], 16), F)
    for begin in range(0, padded.shape[-1], 16):
        lanes = lanes + padded[..., begin : begin + 16]
    return tree(lanes)


def tree(lanes: np.ndarray) -> np.ndarray:
    """Adds 16 lanes."""
    for distance in (8, 4, 2, 1):
        lanes = lanes[..., :distance] + lanes[..., distance : 2 * distance]
    return lanes[..., 0]


def seq(v: np.ndarray) -> np.ndarray:
    """Sum over the last axis, one after the other."""
    total = np.zeros(v.shape[:-1], F)
    for i in range(v.shape[-1]):
        total = total + v[..., i]
    return total


def exp(x: np.ndarray) -> np.ndarray:
    """The polynomial of include/setun/Exp.h."""
    x = np.minimum(np.maximum(x.astype(F), F(-87)), F(88))
    n = np.rint(x * F(1.44269502))
    r = (x - n * F(0.693359375)) - n * F(-2.12194440e-4)
    p = np.full_like(r, F(1.9875691500e-4))
    for c in (1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1):
        p = p * r + F(c)
    y = (p * (r * r) + r) + F(1)
    return y * np.ldexp(F(1), n.astype(np.int32)).astype(F)


def norm(kind: str, eps: float, x: np.ndarray, gain: np.ndarray | None, shift: np.ndarray | None) -> np.ndarray:
    """Over the last axis."""
    k = F(x.shape[-1])
    d = x - (sum16(x) / k)[..., None] if kind == "layer" else x
    y = d * (F(1) / np.sqrt(sum16(d * d) / k + F(eps)))[..., None]
    y = y * gain if gain is not None else y
    return y + shift if shift is not None else y


def quantize(x: np.ndarray, per_token: bool, bits: int, eps: float) -> tuple[np.ndarray, np.ndarray]:
    """Codes and dequantising scales."""
    top = F(2 ** (bits - 1) - 1)
    absmax = np.abs(x).max(-1, keepdims=True) if per_token else np.abs(x).max().reshape(1, 1)
    s = (F(1) / np.maximum(absmax, F(eps))) * top
    return np.clip(np.rint(x * s), -top - F(1), top).astype(np.int8), (F(1) / s)[:, 0]


def linear(x: np.ndarray, w: np.ndarray, scale: np.ndarray, group: int, act: np.ndarray | None, bias, before: bool):
    """x: codes, or floats without `act`; scale: [N][G]. `bias` may be None."""
    k, groups = w.shape[1], scale.shape[1]
    span = group or k
    acc = []
    for g in range(groups):
        part = slice(g * span, min(k, (g + 1) * span))
        if act is None:
            acc.append(seq(x[:, None, part] * w[None, :, part].astype(F)))
        else:
            acc.append((x[:, part].astype(np.int64) @ w[:, part].astype(np.int64).T).astype(F))
    a = np.stack(acc, -1)
    if group:
        y = seq(a * scale)
        y = y * act[:, None] if act is not None else y
    else:
        y = a[..., 0] + bias if before else a[..., 0]
        y = y * (act[:, None] * scale[:, 0] if act is not None else scale[:, 0])
    return y if bias is None or before else y + bias


def cache_f16(x: np.ndarray) -> np.ndarray:
    """What a cache of f16 holds, as float32."""
    return np.clip(x, F(-65504), F(65504)).astype(np.float16).astype(F)


def softmax_range(q, k, v) -> tuple[np.float32, np.ndarray, np.ndarray]:
    """Maximum, lanes of weights and weighted sum of one query's range of rows, by blocks of 64."""
    m, lanes, acc = LOWEST, np.zeros(16, F), np.zeros(q.size, F)
    for begin in range(0, len(k), 64):
        rows = slice(begin, min(len(k), begin + 64))
        s = seq(q * k[rows])
        m, f = rescale(m, s.max())
        p = np.zeros(64, F)
        p[: len(s)] = exp(s - m)
        lanes = lanes * f
        for part in p.reshape(4, 16):
            lanes = lanes + part
        acc = acc * f
        for weight, row in zip(p, v[rows], strict=False):
            acc = acc + weight * row
    return m, lanes, acc


def rescale(old: np.float32, other: np.float32) -> tuple[np.float32, np.float32]:
    """The larger maximum, and the factor of what belongs to the old one."""
    new = max(old, other)
    with np.errstate(over="ignore"):
        return new, exp(np.array([old - new], F))[0]


def attention(q, k, v, pos: int, causal: bool, scale: float) -> np.ndarray:
    """Online softmax by ranges of 256 rows."""
    tokens, heads, size = q.shape
    out = np.zeros_like(q)
    for t in range(tokens):
        for h in range(heads):
            j = h // (heads // k.shape[1])
            length = pos + (t + 1 if causal else tokens)
            m, lanes, acc = LOWEST, np.zeros(16, F), np.zeros(size, F)
            for begin in range(0, length, 256):
                rows = slice(begin, min(length, begin + 256))
                part, part_lanes, part_acc = softmax_range(q[t, h] * F(scale), k[rows, j], v[rows, j])
                (new, f), (_, g) = rescale(m, part), rescale(part, m)
                m, lanes, acc = new, lanes * f + part_lanes * g, acc * f + part_acc * g
            out[t, h] = (acc + F(0)) * (F(1) / tree(lanes))
    return out


def hadamard(x: np.ndarray, block: int) -> np.ndarray:
    """Butterflies at distance 1, 2, 4, ..."""
    y, distance = x.copy(), 1
    while distance < block:
        pairs = y.reshape(len(y), -1, 2, distance)
        y = np.stack([pairs[:, :, 0] + pairs[:, :, 1], pairs[:, :, 0] - pairs[:, :, 1]], 2).reshape(y.shape)
        distance *= 2
    return y * F(1 / np.sqrt(block))


def type_of(value: np.ndarray) -> str:
    """Type in MLIR."""
    kind = {"float32": "f32", "int64": "i64", "int8": "i8", "bool": "i1", "float16": "f16"}[value.dtype.name]
    return "tensor<" + "".join(f"{d}x" for d in value.shape) + kind + ">"


class Module:
    """Collects inputs, operations and expected results of one function."""

    def __init__(self) -> None:
        self.inputs, self.body, self.outputs = {}, [], []

    def input(self, value: np.ndarray) -> tuple[str, str]:
        """A new argument; its name and type."""
        name = f"i{len(self.inputs)}"
        self.inputs[name] = value
        return f"%{name}", type_of(value)

    def constant(self, value: np.ndarray) -> tuple[str, str]:
        """A new constant (int8 as i2); its name and type."""
        name, kind = f"%c{len(self.body)}", type_of(value)
        if value.dtype == np.int8:
            kind = kind.replace("xi8>", "xi2>")
        items = value.ravel()
        if value.dtype.kind == "f":
            bits = items.view(np.uint32 if value.dtype == F else np.uint16)
            texts = [f"0x{b:0{2 * value.dtype.itemsize}X}" for b in bits]
        else:
            texts = [str(i).lower() for i in items.tolist()]
        for size in reversed(value.shape):
            texts = ["[" + ", ".join(texts[i : i + size]) + "]" for i in range(0, len(texts), size)]
        self.body.append(f"  {name} = arith.constant dense<{texts[0]}> : {kind}")
        return name, kind

    def op(self, text: str, result: str, expected: np.ndarray) -> None:
        """An operation of which the result must equal `expected`."""
        name = f"o{len(self.outputs)}"
        self.body.append(f"  %{name} = {text}")
        self.outputs.append((name, result, expected))

    def text(self) -> str:
        """The module."""
        arguments = ", ".join(f'%{n}: {type_of(v)} {{bitnet.name = "{n}"}}' for n, v in self.inputs.items())
        results = ", ".join(f'{kind} {{bitnet.name = "{name}"}}' for name, kind, _ in self.outputs)
        values = ", ".join(f"%{name}" for name, _, _ in self.outputs)
        kinds = ", ".join(kind for _, kind, _ in self.outputs)
        body = "\n".join(self.body)
        attributes = "attributes {bitnet.entry, bitnet.reset}"
        return (
            f"func.func @forward({arguments}) -> ({results}) {attributes} {{\n{body}\n  return {values} : {kinds}\n}}\n"
        )


def normal(*shape: int, spread: float = 1.0) -> np.ndarray:
    """Random float32 values."""
    return (rng.standard_normal(shape) * spread).astype(F)


def add_linears(m: Module) -> None:
    """Layers of all kinds at awkward shapes."""
    for t, n, k in ((1, 1, 4), (2, 3, 5), (3, 17, 33), (9, 31, 100), (2, 200, 66)):
        x = normal(t, k, spread=3)
        xs, xt = m.input(x)
        binary = rng.integers(0, 2, (n, k)).astype(bool)
        ternary = rng.integers(-1, 2, (n, k)).astype(np.int8)
        (bs, bt), (ws, _) = m.constant(binary), m.constant(ternary)
        bias, gain, shift = normal(n), normal(k), normal(k)
        (bias_s, bias_t), (gain_s, gain_t), (shift_s, _) = m.constant(bias), m.constant(gain), m.constant(shift)
        for per_token, bits in ((True, 8), (False, 8), (True, 4)):
            act = f"#bitnet.act_quant<{'per_token' if per_token else 'per_tensor'}, bits = {bits}, eps = 1.0e-5>"
            for group in (0, 4, 12):
                scale = np.abs(normal(n, (k + group - 1) // group if group else 1))
                stored = scale if group else scale[:1, 0]
                ss, st = m.constant(stored)
                full = scale if group else np.repeat(scale[:1], n, 0)
                scales = f"#bitnet.scales<group = {group}>" if group else "#bitnet.scales<tensor>"
                for codes, name, wt in ((ternary, ws, f"tensor<{n}x{k}xi2>"), (binary * 2 - 1, bs, bt)):
                    q, s = quantize(x, per_token, bits, 1e-5)
                    m.op(
                        f"bitnet.linear {xs}, {name} scale({ss}) bias({bias_s}) {{activation = {act}, scales ="
                        f" {scales}}} : ({xt}, {wt}, {st}, {bias_t}) -> tensor<{t}x{n}xf32>",
                        f"tensor<{t}x{n}xf32>",
                        linear(q, codes, full, group, s, bias, False),
                    )
                    if per_token and bits == 8:
                        m.op(
                            f"bitnet.linear {xs}, {name} scale({ss}) {{scales = {scales}}}"
                            f" : ({xt}, {wt}, {st}) -> tensor<{t}x{n}xf32>",
                            f"tensor<{t}x{n}xf32>",
                            linear(x, codes, full, group, None, None, False),
                        )
                    if group:
                        continue
                    q, s = quantize(norm("layer", 1e-5, x, gain, shift), per_token, bits, 1e-5)
                    m.op(
                        f"bitnet.linear {xs}, {name} scale({ss}) bias({bias_s}) norm_weight({gain_s})"
                        f" norm_bias({shift_s}) {{activation = {act}, scales = {scales}, norm = #bitnet.norm<layer,"
                        " eps = 1.0e-5>, direction = #bitnet.direction<divide>,"
                        " bias_place = #bitnet.bias_place<before_scale>}"
                        f" : ({xt}, {wt}, {st}, {bias_t}, {gain_t}, {gain_t}) -> tensor<{t}x{n}xf32>",
                        f"tensor<{t}x{n}xf32>",
                        linear(q, codes, F(1) / full, group, s, bias, True),
                    )
                    q, s = quantize(norm("rms", 1e-6, x, gain, None), per_token, bits, 1e-5)
                    m.op(
                        f"bitnet.linear {xs}, {name} scale({ss}) norm_weight({gain_s}) {{activation = {act},"
                        f" scales = {scales}, norm = #bitnet.norm<rms, eps = 1.0e-6>}}"
                        f" : ({xt}, {wt}, {st}, {gain_t}) -> tensor<{t}x{n}xf32>",
                        f"tensor<{t}x{n}xf32>",
                        linear(q, codes, full, group, s, None, False),
                    )


def add_others(m: Module) -> None:
    """The other operations."""
    for t, k in ((1, 1), (3, 15), (2, 16), (4, 77)):
        x, g, b = normal(t, k, spread=5), normal(k), normal(k)
        (xs, xt), (gs, gt), (bs, _) = m.input(x), m.constant(g), m.constant(b)
        m.op(f"bitnet.rms_norm {xs}, {gs} {{eps = 1.0e-5 : f32}} : {xt}, {gt}", xt, norm("rms", 1e-5, x, g, None))
        m.op(
            f"bitnet.layer_norm {xs} weight({gs}) bias({bs}) {{eps = 1.0e-5 : f32}} : ({xt}, {gt}, {gt}) -> {xt}",
            xt,
            norm("layer", 1e-5, x, g, b),
        )
        u = normal(t, k)
        us, _ = m.input(u)
        relu = np.maximum(x, F(0))
        m.op(f"bitnet.gated {xs}, {us} {{act = #bitnet.gate_act<relu2>}} : {xt}", xt, (relu * relu) * u)
        m.op(f"bitnet.gated {xs}, {us} {{act = #bitnet.gate_act<silu>}} : {xt}", xt, (x / (F(1) + exp(-x))) * u)
        w = normal(9, k).astype(np.float16)
        ws, wt = m.constant(w)
        m.op(
            f"bitnet.dense {xs}, {ws} : ({xt}, {wt}) -> tensor<{t}x9xf32>",
            f"tensor<{t}x9xf32>",
            sum16(x[:, None] * w[None].astype(F)),
        )
    x = normal(3, 96)
    xs, xt = m.input(x)
    for block in (1, 2, 8, 32):
        m.op(f"bitnet.hadamard {xs} {{block = {block}}} : {xt}", xt, hadamard(x, block))
    shapes = (
        (1, 0, 1, 1, 2, 1),
        (5, 0, 6, 3, 20, 40),
        (3, 30, 4, 1, 16, 40),
        (1, 99, 2, 2, 8, 128),
        (3, 510, 5, 1, 6, 520),
    )
    for t, pos, heads, kv, size, capacity in shapes:
        q, k, v = normal(t, heads, size, spread=3), normal(capacity, kv, size, spread=3), normal(capacity, kv, size)
        (qs, qt), (ks, kt), (vs, _) = m.input(q), m.input(k), m.input(v)
        p = f"%p{len(m.body)}"
        m.body.append(f"  {p} = arith.constant {pos} : i64")
        for causal in (True, False):
            attributes = f"{{{'causal, ' if causal else ''}scale = 0.3 : f32}}"
            m.op(
                f"bitnet.attention {qs}, {ks}, {vs}, {p} {attributes} : {qt}, {kt}, {kt}",
                qt,
                attention(q, k, v, pos, causal, 0.3),
            )
        # Caches of f16: rows of all sizes, subnormal and too large ones among them.
        half = f"tensor<{capacity}x{kv}x{size}xf16>"
        rows = normal(capacity, kv, size) * F(10) ** rng.integers(-9, 6, (capacity, kv, size)).astype(F)
        (rs, _), zero = m.input(rows), f"%z{len(m.body)}"
        m.body.append(f"  {zero} = arith.constant 0 : i64")
        m.body.append(f"  %e{len(m.body)} = tensor.empty() : {half}")
        empty = m.body[-1].split()[0]
        narrow = cache_f16(rows)
        update = f"bitnet.cache_update {empty}, {rs}, {zero} : {half}, {kt}"
        m.op(update, half, narrow.astype(np.float16))
        cache = f"%o{len(m.outputs) - 1}"
        m.op(
            f"bitnet.attention {qs}, {cache}, {cache}, {p} {{causal, scale = 0.01 : f32}} : {qt}, {half}, {half}",
            qt,
            attention(q, narrow, narrow, pos, True, 0.01),
        )
        cos, sin = normal(capacity, size // 2), normal(capacity, size // 2)
        (cs, ct), (ss, _) = m.constant(cos), m.constant(sin)
        c, s = cos[pos : pos + t, None], sin[pos : pos + t, None]
        a, b = q[..., : size // 2], q[..., size // 2 :]
        turned = np.concatenate([a * c - b * s, b * c + a * s], -1)
        m.op(f"bitnet.rotary {qs}, {cs}, {ss}, {p} : {qt}, {ct}", qt, turned)


def main() -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("passes", nargs="*", help="arguments of setun-opt, run before the interpreter")
    parser.add_argument("--target", help="compile for this target and run the package instead of interpreting")
    options = parser.parse_intermixed_args()
    folder, outputs = options.folder, options.folder / "out"
    folder.mkdir(parents=True, exist_ok=True)
    module = Module()
    add_linears(module)
    add_others(module)
    (folder / "module.mlir").write_text(module.text())
    if options.target:
        subprocess.run(
            ["setun-compile", folder / "module.mlir", "-o", folder / "module.setun", f"--target={options.target}"],
            check=True,
        )
        command = ["setun-run", folder / "module.setun"]
    else:
        lowered = folder / "lowered.mlir"
        subprocess.run(["setun-opt", *options.passes, folder / "module.mlir", "-o", lowered], check=True)
        command = ["setun-opt", "--interpret", lowered]
    command += ["--entry", "forward", "--output-dir", outputs]
    for name, value in module.inputs.items():
        np.save(folder / f"{name}.npy", value)
        command += ["--input", f"{name}={folder / name}.npy"]
    subprocess.run(command, check=True)
    texts = [line for line in module.body if " = bitnet." in line]
    wrong = 0
    for (name, _, expected), text in zip(module.outputs, texts, strict=True):
        got = np.load(outputs / f"{name}.npy")
        if got.dtype != expected.dtype or got.shape != expected.shape or got.tobytes() != expected.tobytes():
            wrong += 1
            print(f"{text}\n  got {got.ravel()[:8]}, expected {expected.ravel()[:8]}; {(got != expected).sum()} differ")
    print(f"{len(module.outputs) - wrong} results equal, {wrong} differ")
    return 1 if wrong else 0


sys.exit(main())
