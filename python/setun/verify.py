"""Comparison of a package with its checkpoint: integers exactly, logits within a tolerance.

Integers: the checkpoint is traced again and compiled with probes, which give out the activation codes and the i32
accumulators of every BitLinear; the probed package must give the package's own logits bit by bit, and its codes and
accumulators must equal those of the reference interpreter on the same text. A code may differ by one where a float
falls on the other side of a rounding boundary: such codes are counted, and their accumulators must then differ by
exactly the weights concerned.

Choices: after every token of the text, the entry `choose` must give the ids and the logits that sorting all logits
gives, bit by bit, for several numbers of likeliest tokens.

Logits: Hugging Face transformers' own model of the directory, in float32, is given the same text; its keys and values
are rounded to the element type of the package's cache, as the package's are. Its activation codes are compared, too.
Where its float lies on a rounding boundary, it may round to the other side: such codes are counted, and the model goes
on with the package's code, so that the rest can be compared; the difference without this is reported beside it. Every
other code must be equal. Where the package's head has 8 bits, the interpreter's and transformers' have them, too, and
the head is compared like a layer.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from setun.checkpoint import FLOAT_DTYPES, Checkpoint, chunks, open_checkpoint, to_float32
from setun.compiler import HEADS, FrontEnd, find_tool, front_end, run_tool
from setun.diagnostics import SetunError
from setun.progress import Progress
from setun.session import Package, open_package

MEAN_TOLERANCE = 1e-3
MAX_TOLERANCE = 2e-2


@dataclass
class Integers:
    """Comparison of codes and accumulators. `problems` lists what differs and may not."""

    layers: int = 0
    codes: int = 0
    codes_off_by_one: int = 0
    accumulators: int = 0
    probe_logits_equal: bool = False
    interpreter_logits_equal: bool = False
    problems: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return self.layers > 0 and self.probe_logits_equal and not self.problems


@dataclass
class Logits:
    """Comparison of logits with transformers. `decided` tokens have a clear winner there.

    Attributes:
        codes_at_boundary: activation codes that transformers rounds to the other side, and was given.
        codes_different: activation codes that differ otherwise; `first_difference` names the first.
        kv_cache: element type that keys and values were rounded to, in transformers as in the package.
        unaligned_mean: mean difference when transformers keeps its own codes; likewise `unaligned_max`.
    """

    mean: float = 0.0
    max: float = 0.0
    tokens: int = 0
    decided: int = 0
    argmax_differs: int = 0
    argmax_differs_decided: int = 0
    codes: int = 0
    codes_at_boundary: int = 0
    codes_different: int = 0
    first_difference: str = ""
    kv_cache: str = "f32"
    unaligned_mean: float | None = None
    unaligned_max: float | None = None

    @property
    def ok(self) -> bool:
        close = self.mean <= MEAN_TOLERANCE and self.max <= MAX_TOLERANCE
        return close and self.argmax_differs_decided == 0 and self.codes_different == 0


@dataclass
class Choices:
    """Comparison of the entry `choose` with all logits, at every position and for each of some numbers k.

    Attributes:
        compared: positions times numbers.
        different: where ids or logits were not those of all logits, sorted.
        first: says where that was first.
    """

    compared: int = 0
    different: int = 0
    first: str = ""

    @property
    def ok(self) -> bool:
        return self.compared > 0 and self.different == 0


@dataclass
class Verification:
    """The comparisons; one that was not asked for, or that the package has no entry for, is None."""

    package: str
    target: str
    tokens: int
    integers: Integers | None = None
    logits: Logits | None = None
    choices: Choices | None = None

    @property
    def ok(self) -> bool:
        return all(part.ok for part in (self.choices, self.integers, self.logits) if part is not None)

    def as_json(self) -> dict[str, Any]:
        result: dict[str, Any] = {"package": self.package, "target": self.target, "tokens": self.tokens, "ok": self.ok}
        for name, part in (("choices", self.choices), ("integers", self.integers), ("logits", self.logits)):
            result[name] = None if part is None else asdict(part) | {"ok": part.ok}
        return result

    def describe(self) -> str:
        lines = [f"{self.package} ({self.target}), {self.tokens} tokens"]
        if self.choices is not None:
            lines.append(
                f"choices: {'equal' if self.choices.ok else 'DIFFERENT'} to those from all logits; "
                f"{self.choices.compared} compared"
                + (f", {self.choices.different} different, first {self.choices.first}" if self.choices.first else "")
            )
        part = self.integers
        if part is not None:
            lines.append(
                f"integers: {'equal' if part.ok else 'DIFFERENT'}; {part.layers} layers, {part.codes} codes "
                f"({part.codes_off_by_one} off by one at a rounding boundary), {part.accumulators} accumulators"
            )
            if not part.probe_logits_equal:
                lines.append("  the probed package gives other logits than the package")
            lines.append(
                "  logits of the interpreter: " + ("the same bits" if part.interpreter_logits_equal else "other bits")
            )
            lines += [f"  {problem}" for problem in part.problems[:10]]
            if len(part.problems) > 10:
                lines.append(f"  {len(part.problems) - 10} more")
        if self.logits is not None:
            difference = self.logits
            lines.append(
                f"logits: {'equal' if difference.ok else 'DIFFERENT'} to transformers; mean difference "
                f"{difference.mean:.2e} (at most {MEAN_TOLERANCE:g}), largest {difference.max:.2e} (at most "
                f"{MAX_TOLERANCE:g}), other choice at {difference.argmax_differs} of {difference.tokens} tokens, "
                f"{difference.argmax_differs_decided} of {difference.decided} clear ones"
            )
            lines.append(
                f"  codes of transformers: {difference.codes}, of which {difference.codes_at_boundary} lie on a "
                f"rounding boundary and were taken from the package, {difference.codes_different} differ otherwise"
                + (f" (first: {difference.first_difference})" if difference.first_difference else "")
            )
            if difference.kv_cache != "f32":
                lines.append(
                    f"  keys and values of transformers were rounded to {difference.kv_cache}, as the package's"
                )
            if difference.unaligned_max is not None:
                lines.append(
                    f"  with its own codes everywhere: mean difference {difference.unaligned_mean:.2e}, largest "
                    f"{difference.unaligned_max:.2e}"
                )
        lines.append("verified" if self.ok else "NOT verified")
        return "\n".join(lines)


def compare_choices(package: Package, tokens: np.ndarray, logits: np.ndarray, threads: int) -> Choices:
    """Compares what `choose` gives after each token with the logits of all tokens, float32 `[T, vocab]`."""
    report = Choices()
    order = np.argsort(-logits, axis=-1, kind="stable")
    for k in sorted({1, min(40, package.choices()), package.choices()}):
        session = package.session(threads, len(tokens))
        for position, token in enumerate(tokens):
            found = session.run("choose", {"tokens": np.array([token]), "k": np.array([k], dtype=np.int64)})
            ids = order[position, :k]
            best = logits[position, ids]
            count = len(ids)
            equal = np.array_equal(found["ids"][:count], ids) and found["logits"][:count].tobytes() == best.tobytes()
            report.compared += 1
            if not equal:
                report.different += 1
                report.first = report.first or f"at token {position} for the {k} likeliest"
    return report


def ternary_weight(checkpoint: Checkpoint, layer: str, rows: int, eps: float = 1e-5) -> np.ndarray:
    """Codes int8 `[rows, K]` of a layer, from its file: packed, unpacked, or absmean of masters."""
    tensor = checkpoint.tensors[f"{layer}.weight"]
    data = np.concatenate([piece.copy() for piece in chunks(tensor)])
    if tensor.dtype == "U8":
        packed = data.reshape(tensor.shape)
        fields = [((packed >> (2 * i)) & 3).astype(np.int8) - 1 for i in range(4)]
        return np.concatenate(fields)[:rows]
    if tensor.dtype not in FLOAT_DTYPES:
        raise SetunError(f"{tensor.name}: expects a ternary weight, got {tensor.describe()}")
    values = to_float32(data, tensor.dtype).reshape(tensor.shape)
    if f"{layer}.weight_scale" in checkpoint.tensors:
        return values.astype(np.int8)
    mean = np.maximum(np.float32(np.abs(values).mean(dtype=np.float64)), np.float32(eps))
    return np.clip(np.rint(values * (np.float32(1) / mean)), -1, 1).astype(np.int8)


def head_weight(checkpoint: Checkpoint, layer: str) -> np.ndarray:
    """Codes int8 `[vocab, K]` of a head of 8 bits."""
    from setun.huggingface import int8_codes

    tensor = checkpoint.tensors[f"{layer}.weight"]
    data = np.concatenate([piece.copy() for piece in chunks(tensor)])
    return int8_codes(to_float32(data, tensor.dtype).reshape(tensor.shape))[0]


def compare_layer(
    layer: str,
    codes: tuple[np.ndarray, np.ndarray],
    accumulators: tuple[np.ndarray, np.ndarray],
    weight: Callable[[], np.ndarray],
    report: Integers,
) -> None:
    """Compares one layer: pairs are (package, interpreter), codes int8 `[T, K]`, accumulators int32 `[T, N]`.

    Args:
        weight: reads the layer's codes `[N, K]`, where they are needed.
    """
    ours, theirs = codes
    if ours.shape != theirs.shape or accumulators[0].shape != accumulators[1].shape:
        report.problems.append(f"{layer}: shapes differ: {ours.shape} and {theirs.shape}")
        return
    report.layers += 1
    report.codes += ours.size
    report.accumulators += accumulators[0].size
    moved = ours.astype(np.int16) - theirs.astype(np.int16)
    report.codes_off_by_one += int(np.count_nonzero(np.abs(moved) == 1))
    wrong = np.argwhere(np.abs(moved) > 1)
    if len(wrong):
        token, column = wrong[0]
        report.problems.append(
            f"{layer}: {len(wrong)} codes differ by more than one, first at token {token}, input {column}: "
            f"{ours[token, column]} instead of {theirs[token, column]}"
        )
    expected = accumulators[1].astype(np.int64)
    rows = np.flatnonzero(np.any(moved != 0, axis=1))
    if len(rows):
        expected[rows] += moved[rows].astype(np.int64) @ weight().astype(np.int64).T
    wrong = np.argwhere(accumulators[0] != expected)
    if len(wrong):
        token, row = wrong[0]
        report.problems.append(
            f"{layer}: {len(wrong)} accumulators differ, first at token {token}, output {row}: "
            f"{accumulators[0][token, row]} instead of {expected[token, row]}"
        )


def _head_layer(made: FrontEnd) -> str:
    """Name of the head's layer in probes: that of the embedding table if they are tied."""
    assert made.imported is not None and made.imported.config is not None
    return "model.embed_tokens" if made.imported.config.tied else "lm_head"


def _integers(
    made: FrontEnd, folder: Path, tokens: np.ndarray, probed: dict[str, np.ndarray], logits: np.ndarray, head: str
) -> Integers:
    """Compares the probed run with the interpreter; `logits` are the package's own, `head` its 8-bit head."""
    report = Integers()
    module = made.mlir
    if head:
        module = folder / "quantized.mlir"
        run_tool([find_tool("setun-opt"), "--quantize-head-pipeline", made.mlir, "-o", module], "setun-opt")
    np.save(folder / "tokens.npy", tokens)
    outputs = folder / "interpreted"
    outputs.mkdir()
    command: list[str | Path] = [find_tool("setun-opt"), "--interpret", module, "--entry", "forward"]
    command += ["--input", f"tokens={folder / 'tokens.npy'}", "--output-dir", outputs, "--probe"]
    for weights in made.weights:
        command += ["--weights", weights]
    with Progress("interpreting the model"):
        run_tool(command, "the reference interpreter")
    report.probe_logits_equal = logits.tobytes() == probed["logits"].tobytes()
    report.interpreter_logits_equal = np.load(outputs / "logits.npy").tobytes() == logits.tobytes()
    assert made.imported is not None
    checkpoint = made.imported.checkpoint
    for layer in [*made.imported.linears, *filter(None, [head])]:
        names = [f"probe.{layer}.{part}" for part in ("codes", "acc")]
        missing = [name for name in names if name not in probed or not (outputs / f"{name}.npy").is_file()]
        if missing:
            report.problems.append(f"{layer}: no {' and no '.join(missing)}")
            continue
        codes, accumulators = ((probed[name], np.load(outputs / f"{name}.npy")) for name in names)
        rows = accumulators[0].shape[1]
        weight = partial(head_weight, checkpoint, layer) if layer == head else None
        compare_layer(layer, codes, accumulators, weight or partial(ternary_weight, checkpoint, layer, rows), report)
    return report


def _logits(
    made: FrontEnd, tokens: np.ndarray, probed: dict[str, np.ndarray], ours: np.ndarray, kv_cache: str, head: str
) -> Logits:
    """Compares the package's logits with transformers', with and without the package's codes at the boundaries."""
    from setun import huggingface

    assert made.imported is not None
    codes = {layer: probed[f"probe.{layer}.codes"] for layer in made.imported.linears}
    with Progress("running transformers"):
        model = huggingface.load_reference(made.imported.checkpoint)
        if head:
            huggingface.quantize_head(model)
            codes["lm_head"] = probed[f"probe.{head}.codes"]
        with huggingface.rounded_cache(model, kv_cache):
            own = compare_logits(ours, huggingface.logits(model, tokens))
            with huggingface.aligned_codes(model, codes) as comparison:
                result = compare_logits(ours, huggingface.logits(model, tokens))
    result.kv_cache = kv_cache
    result.codes, result.codes_at_boundary = comparison.codes, comparison.at_boundary
    result.codes_different, result.first_difference = comparison.different, comparison.first
    result.unaligned_mean, result.unaligned_max = own.mean, own.max
    return result


def compare_logits(ours: np.ndarray, theirs: np.ndarray) -> Logits:
    """Compares logits float32 `[T, vocab]` with those of the reference."""
    difference = np.abs(ours.astype(np.float64) - theirs)
    top = np.partition(theirs, -2, axis=-1)[:, -2:]
    decided = top[:, 1] - top[:, 0] > MAX_TOLERANCE
    other = ours.argmax(-1) != theirs.argmax(-1)
    return Logits(
        mean=float(difference.mean()),
        max=float(difference.max()),
        tokens=len(ours),
        decided=int(decided.sum()),
        argmax_differs=int(other.sum()),
        argmax_differs_decided=int((other & decided).sum()),
    )


def verify(
    package_path: Path,
    directory: Path,
    *,
    tokens: int = 64,
    seed: int = 0,
    threads: int = 0,
    target: str | None = None,
    only: str | None = None,
) -> Verification:
    """Compares a language-model package with the checkpoint directory that it was compiled from.

    Args:
        tokens: length of the text, which is random with `seed`.
        threads: 0 takes one for each CPU, where that is faster.
        target: code section to verify; the best for this CPU if None.
        only: `integers` or `logits`; both if None.

    Raises:
        SetunError: the package comes from another checkpoint, or something cannot be read or built.
    """
    package = open_package(package_path, target)
    package.check_weights()
    checkpoint = open_checkpoint(directory)
    entry = package.entry("forward")
    if entry is None:
        raise SetunError("the package has no entry 'forward'", "Only language models can be verified.")
    provenance = package.provenance()
    for key, value in checkpoint.provenance().items():
        if key.endswith("_sha256") and provenance.get(key) != value:
            raise SetunError(
                f"{package_path} was not compiled from {directory}: {key} is {provenance.get(key)}, not {value}",
                "Compile the checkpoint again, or give the directory that the package was made from.",
            )
    context = entry["max_context"] or None
    if context is not None and tokens > context:
        raise SetunError(f"a text of {tokens} tokens was asked for, but the context holds {context}")
    rows = package.vocabulary("forward")
    text = np.random.Generator(np.random.PCG64(seed)).integers(0, rows, tokens, dtype=np.int64)
    result = Verification(str(package_path), package.target(), tokens)
    kv_cache = "f16" if any(state["dtype"] == "f16" for state in entry["states"]) else "f32"
    mode = provenance.get("compiler.head", HEADS[0])
    with tempfile.TemporaryDirectory(prefix="setun-") as name, front_end(directory, context, kv_cache=kv_cache) as made:
        probe = Path(name) / "probe.setun"
        run_tool(made.command(probe, package.target(), "package", "--probe", f"--head={mode}"), "setun-compile")
        head = _head_layer(made) if mode == "int8" else ""
        with Progress("running the package"):
            ours = package.session(threads, tokens).run("forward", {"tokens": text})["logits"]
            probed = open_package(probe, package.target()).session(threads, tokens).run("forward", {"tokens": text})
            if package.choices():
                result.choices = compare_choices(package, text, ours, threads)
        if only != "logits":
            result.integers = _integers(made, Path(name), text, probed, ours, head)
        if only != "integers":
            result.logits = _logits(made, text, probed, ours, kv_cache, head)
    return result
