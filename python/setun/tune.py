"""`setun compile --tune`: measures kernels on this machine in place of the cost model's predictions.

The compiler lists the matrices of a model after fusion, and what is worth measuring for each (`--emit=kernels`). Every
candidate becomes a small package with random weights that runs on the real runtime. All candidates of a matrix take
turns, so that what else happens on the machine meets all of them, and so that each finds its weights pushed out of the
caches by the others, as in a model. What is measured is what the model predicts: the time of a core for a weight, of
one token with weights from memory and of each of many tokens.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from setun.compiler import FrontEnd, find_tool, run_tool
from setun.diagnostics import SetunError
from setun.progress import Progress
from setun.session import Package, Session, open_package

CANDIDATES = 8
"""Kernels that are measured for a matrix, at most."""
HOPELESS = 3.0
"""Kernels that are predicted to take this many times the best's time are not measured."""
CLEAR = 0.98
"""The cost model's choice stays unless another takes less than this share of its time: less is noise."""
DECODE_ROUNDS, PREFILL_ROUNDS = 25, 5
PREFILL_TOKENS = 64
SAMPLE_SECONDS = 2e-3
"""Shorter runs are repeated until this much has passed."""
LARGEST_CACHE = 256 << 20
ENTRY = "forward"


@dataclass
class Candidate:
    """A kernel for a matrix. Costs are of a core: cycles (predicted) or nanoseconds (measured) a million weights."""

    row: str
    format: str
    tokens: int
    staged: int
    predicted_decode: int
    predicted_prefill: int
    decode: list[float] = field(default_factory=list)
    prefill: list[float] = field(default_factory=list)

    @property
    def measured_decode(self) -> float:
        return statistics.fmean(self.decode)

    @property
    def measured_prefill(self) -> float:
        return statistics.fmean(self.prefill)

    @property
    def predicted(self) -> int:
        return self.predicted_decode + self.predicted_prefill

    @property
    def measured(self) -> float:
        return self.measured_decode + self.measured_prefill

    def __str__(self) -> str:
        tokens = f"{self.tokens} token{'s' if self.tokens > 1 else ''}"
        return f"{self.row} {self.format} {tokens}{', staged' if self.staged else ''}"


@dataclass
class Matrix:
    """Equal matrices of a model, after fusion: `rows` counts the rows of all that are fused."""

    target: str
    rows: int
    cols: int
    binary: bool
    gated: bool
    group: int
    matrices: int
    candidates: list[Candidate]
    best: Candidate | None = None

    @property
    def bytes(self) -> float:
        """Of the packed weights of one, at least."""
        return self.rows * self.cols * (0.125 if self.binary else 0.2)

    def __str__(self) -> str:
        words = ["binary"] * self.binary + ["gated"] * self.gated + [f"group {self.group}"] * (self.group > 0)
        return " ".join([f"{self.rows} x {self.cols}", *words])

    def kernel(self, candidate: Candidate, measured: bool) -> dict[str, Any]:
        """An entry of the file for `setun-compile --kernels`."""
        entry: dict[str, Any] = {
            "target": self.target,
            "rows": self.rows,
            "cols": self.cols,
            "binary": self.binary,
            "gated": self.gated,
            "group": self.group,
            "row": candidate.row,
            "format": candidate.format,
            "tokens": candidate.tokens,
            "staged": candidate.staged,
        }
        if measured:
            entry["measured_decode"] = max(1, round(candidate.measured_decode))
            entry["measured_prefill"] = max(1, round(candidate.measured_prefill))
        return entry


def select(listed: Sequence[Candidate], limit: int) -> list[Candidate]:
    """Of the compiler's list (best first, by rows and layouts) what is measured: of each row and layout that has a
    chance the predicted tile and its counterpart with or without staging, then neighbours of the best tiles."""
    groups: dict[tuple[str, str], list[Candidate]] = {}
    for candidate in listed:
        groups.setdefault((candidate.row, candidate.format), []).append(candidate)
    best = min(candidate.predicted for candidate in listed)
    hopeful = [group for group in groups.values() if group[0].predicted <= HOPELESS * best]
    chosen = [group[0] for group in hopeful]
    for group in hopeful:
        chosen += [other for other in group[1:] if bool(other.staged) != bool(group[0].staged)][:1]
    for group in hopeful:
        chosen += [other for other in group[1:] if other not in chosen and bool(other.staged) == bool(group[0].staged)]
    return chosen[:limit]


def last_cache() -> int:
    """Bytes of the largest cache of this machine; a guess where it does not say."""
    largest = 0
    for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        text = path.read_text().strip()
        if text.endswith(("K", "M")) and text[:-1].isdigit():
            largest = max(largest, int(text[:-1]) << (10 if text.endswith("K") else 20))
    return min(largest or 32 << 20, LARGEST_CACHE)


def copies(matrix: Matrix, cache: int) -> int:
    """Matrices a candidate's package holds: as many as the model, at most what all candidates need to overflow the
    caches three times."""
    needed = 3 * cache / (matrix.bytes * max(len(matrix.candidates), 1))
    return max(1, min(matrix.matrices, int(needed) + 1))


def module_text(matrix: Matrix, count: int) -> str:
    """A module with `count` matrices of a kind, each with an input and an output of its own."""
    rows = matrix.rows // 2 if matrix.gated else matrix.rows
    cols, element = matrix.cols, "i1" if matrix.binary else "i2"
    groups = -(-cols // matrix.group) if matrix.group else 0
    weight, scale = f"tensor<{rows}x{cols}x{element}>", f"tensor<{rows}x{groups}xf32>" if groups else "tensor<1xf32>"
    x, y = f"tensor<?x{cols}xf32>", f"tensor<?x{rows}xf32>"
    granularity = f"group = {matrix.group}" if groups else "tensor"

    def linear(result: str, name: str, index: int) -> list[str]:
        return [
            f'  %w_{name} = bitnet.weight "{name}" : {weight}',
            f"  %{result} = bitnet.linear %x{index}, %w_{name} scale(%s) {{activation = #bitnet.act_quant<per_token, "
            f"bits = 8, eps = 1.0e-5>, scales = #bitnet.scales<{granularity}>}} : ({x}, {weight}, {scale}) -> {y}",
        ]

    named = 'bitnet.dims = ["T"]}'
    arguments = ", ".join(f'%x{i}: {x} {{bitnet.name = "x{i}", {named}' for i in range(count))
    results = ", ".join(f'{y} {{bitnet.name = "y{i}", {named}' for i in range(count))
    lines = [f"func.func @{ENTRY}({arguments}) -> ({results}) attributes {{bitnet.entry}} {{"]
    lines.append(f"  %s = arith.constant dense<0.01> : {scale}")
    for i in range(count):
        if matrix.gated:
            lines += [*linear(f"g{i}", f"gate{i}", i), *linear(f"u{i}", f"up{i}", i)]
            lines.append(f"  %y{i} = bitnet.gated %g{i}, %u{i} {{act = #bitnet.gate_act<relu2>}} : {y}")
        else:
            lines += linear(f"y{i}", f"w{i}", i)
    returned = ", ".join(f"%y{i}" for i in range(count))
    lines += [f"  return {returned} : {', '.join([y] * count)}", "}"]
    return "\n".join(lines) + "\n"


def write_weights(matrix: Matrix, count: int, path: Path) -> None:
    """Random codes for `module_text`, packed as Hugging Face packs them where four rows make a byte."""
    from safetensors.numpy import save_file

    numbers = np.random.default_rng(0)
    rows = matrix.rows // 2 if matrix.gated else matrix.rows
    if matrix.binary:
        table, shape = np.array([-1, 1], np.int8), (rows, matrix.cols)
    elif rows % 4:
        table, shape = np.array([-1, 0, 1], np.int8), (rows, matrix.cols)
    else:
        codes = np.arange(81)
        table = sum((codes // 3**i % 3) << (2 * i) for i in range(4)).astype(np.uint8)
        shape = (rows // 4, matrix.cols)
    names = [f"{part}{i}" for i in range(count) for part in (("gate", "up") if matrix.gated else ("w",))]
    save_file({name: table[numbers.integers(0, len(table), shape, np.uint8)] for name in names}, path)


class Measurement:
    """A candidate's package and what it runs on.

    Args:
        cached: the model fits the caches, so that a token finds its weights there; others must not be given the chance
            by runs that are repeated.
    """

    def __init__(self, package: Package, count: int, candidate: Candidate, matrix: Matrix, cached: bool) -> None:
        self.package = package
        self.candidate = candidate
        self.weights = count * matrix.rows * matrix.cols / 1e6
        self.matmuls = [i for i, operation in enumerate(package.operations(ENTRY)) if operation["int8_macs"] > 0]
        self.inputs = {
            tokens: {f"x{i}": self._numbers(tokens, matrix.cols, i) for i in range(count)}
            for tokens in (1, PREFILL_TOKENS)
        }
        self.repeats = dict.fromkeys(self.inputs, 1)
        self.repeatable = {1: cached, PREFILL_TOKENS: True}

    @staticmethod
    def _numbers(tokens: int, cols: int, seed: int) -> np.ndarray:
        return np.random.default_rng(seed).standard_normal((tokens, cols), np.float32)

    def sample(self, session: Session, tokens: int) -> float:
        """Nanoseconds of a core a million weights and token."""
        session.profile(True)
        for _ in range(self.repeats[tokens]):
            session.run(ENTRY, self.inputs[tokens])
        times = session.times(ENTRY)
        session.profile(False)
        if self.repeatable[tokens] and times["seconds"] < SAMPLE_SECONDS:
            per_run = max(times["seconds"] / self.repeats[tokens], 1e-7)
            self.repeats[tokens] = int(SAMPLE_SECONDS / per_run) + 1
        seconds = sum(time for i in self.matmuls for _, time in times["operations"][i])
        return 1e9 * seconds / (times["runs"] * tokens * self.weights)


class Tuner:
    """Measures the candidates of each matrix of a traced model.

    Args:
        made: the traced model.
        target: as for the compiler; every target must run on this machine.
        threads: numbers of threads to measure with; all count the same.
        flags: of the compiler, which the choice of candidates depends on.
    """

    def __init__(self, made: FrontEnd, target: str, threads: Sequence[int], flags: Sequence[str] = ()) -> None:
        self.made, self.target, self.threads, self.flags = made, target, list(threads), list(flags)
        self.matrices: list[Matrix] = []

    def run(self, folder: Path) -> Path:
        """Measures; returns a file for `setun-compile --kernels` in `folder`.

        Raises:
            SetunError: a target does not run here, or a tool failed.
        """
        command = self.made.command(Path("-"), self.target, "kernels", *self.flags)
        for item in json.loads(run_tool(command, "setun-compile")):
            item.pop("chosen", None)
            candidates = [Candidate(**candidate) for candidate in item.pop("candidates")]
            self.matrices.append(Matrix(**item, candidates=select(candidates, CANDIDATES)))
        targets = {matrix.target for matrix in self.matrices}
        total = sum(matrix.bytes * matrix.matrices for matrix in self.matrices) / max(len(targets), 1)
        self.cached = total < last_cache() / 2
        self._check_targets(folder)
        steps = sum(len(matrix.candidates) for matrix in self.matrices)
        steps *= 1 + len(self.threads) * (DECODE_ROUNDS + PREFILL_ROUNDS)
        with Progress("tuning") as progress:
            self._done, self._steps, self._progress = 0, steps, progress
            for matrix in self.matrices:
                with tempfile.TemporaryDirectory(prefix="tune-", dir=folder) as work:
                    self._tune(matrix, Path(work))
        path = folder / "kernels.json"
        chosen = [matrix.kernel(matrix.best, True) for matrix in self.matrices if matrix.best is not None]
        path.write_text(json.dumps(chosen, indent=1), encoding="utf-8")
        return path

    def _step(self, title: str) -> None:
        self._progress.title = f"tuning {title}"
        self._progress.update(self._done, self._steps)
        self._done += 1

    def _compile(self, matrix: Matrix, candidate: Candidate, source: Path, weights: Path, output: Path) -> None:
        kernels = output.with_suffix(".json")
        kernels.write_text(json.dumps([matrix.kernel(candidate, False)]), encoding="utf-8")
        tool = find_tool("setun-compile")
        flags = [
            f"--target={matrix.target}",
            "--weights",
            weights,
            "--kernels",
            kernels,
            "--no-self-test",
            "--no-progress",
        ]
        run_tool([tool, source, "-o", output, *flags], "setun-compile")

    def _check_targets(self, folder: Path) -> None:
        """A small package for each target: what does not run here cannot be measured here."""
        tiny = Matrix("", 16, 16, False, False, 0, 1, [Candidate("generic", "r16k4f4", 1, 0, 0, 0)])
        for target in sorted({matrix.target for matrix in self.matrices}):
            with tempfile.TemporaryDirectory(prefix="tune-", dir=folder) as work:
                source, weights, output = (Path(work) / name for name in ("m.mlir", "w.safetensors", "p.setun"))
                tiny.target = target
                source.write_text(module_text(tiny, 1), encoding="utf-8")
                write_weights(tiny, 1, weights)
                self._compile(tiny, tiny.candidates[0], source, weights, output)
                if not all(section["runnable"] for section in open_package(output).description["targets"]):
                    raise SetunError(
                        f"target '{target}' does not run on this CPU, so --tune cannot measure it",
                        "Compile on a machine that runs it, or leave --tune out: the cost model chooses then.",
                    )

    def _tune(self, matrix: Matrix, folder: Path) -> None:
        count = copies(matrix, last_cache())
        source, weights = folder / "module.mlir", folder / "weights.safetensors"
        source.write_text(module_text(matrix, count), encoding="utf-8")
        self._step(f"{matrix}: weights")
        self._done -= 1
        write_weights(matrix, count, weights)
        paths = [folder / f"{i}.setun" for i in range(len(matrix.candidates))]

        def build(i: int) -> None:
            self._compile(matrix, matrix.candidates[i], source, weights, paths[i])

        with ThreadPoolExecutor(max_workers=min(os.cpu_count() or 1, 4)) as pool:
            try:
                for candidate, _ in zip(matrix.candidates, pool.map(build, range(len(paths))), strict=True):
                    self._step(f"{matrix}: compiling {candidate}")
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        runs = [
            Measurement(open_package(path), count, candidate, matrix, self.cached)
            for path, candidate in zip(paths, matrix.candidates, strict=True)
        ]
        for threads in self.threads:
            sessions = [run.package.session(threads) for run in runs]
            for tokens, rounds in ((1, DECODE_ROUNDS), (PREFILL_TOKENS, PREFILL_ROUNDS)):
                for run, session in zip(runs, sessions, strict=True):
                    run.sample(session, tokens)  # brings weights into memory, and says how often to repeat
                samples: list[list[float]] = [[] for _ in runs]
                for _ in range(rounds):
                    for run, session, taken in zip(runs, sessions, samples, strict=True):
                        self._step(f"{matrix}: {run.candidate}, {threads} threads, {tokens} tokens")
                        taken.append(run.sample(session, tokens))
                for run, taken in zip(runs, samples, strict=True):
                    into = run.candidate.decode if tokens == 1 else run.candidate.prefill
                    into.append(sorted(taken)[len(taken) // 4])  # disturbances only ever add
        matrix.best = min(matrix.candidates, key=lambda candidate: candidate.measured)
        if matrix.best.measured > CLEAR * matrix.candidates[0].measured:
            matrix.best = matrix.candidates[0]

    def describe(self) -> str:
        """A table of what was measured beside what was predicted."""
        threads = ", ".join(map(str, self.threads))
        lines = [f"kernels on {threads} threads; of a core, for a thousand weights: decode + prefill"]
        for matrix in self.matrices:
            lines.append(f"{matrix} for {matrix.target}, {matrix.matrices} in the model")
            for candidate in sorted(matrix.candidates, key=lambda candidate: candidate.measured):
                mark = "*" if candidate is matrix.best else " "
                first = "  (the model's choice)" if candidate is matrix.candidates[0] else ""
                measured, predicted = (
                    f"{decode / 1000:6.2f} + {prefill / 1000:6.2f}"
                    for decode, prefill in (
                        (candidate.measured_decode, candidate.measured_prefill),
                        (candidate.predicted_decode, candidate.predicted_prefill),
                    )
                )
                lines.append(f" {mark} {candidate!s:42} measured {measured} ns, predicted {predicted} cycles{first}")
        return "\n".join(lines)
