#!/usr/bin/env python
"""Setun beside other engines: prefill, decode and the machine's read bandwidth, measured in turn in one run.

Every round runs every engine once for each thread count and test, in rotating order, so that whatever the machine does
meanwhile happens to all of them. Before each engine the read bandwidth is measured. Two tests: prefill reads a prompt
of --prompt-tokens into an empty context at once; decode generates --gen-tokens one by one from an empty context.

    benchmarks/compare.py --package model.setun \\
        --peer llama.cpp=llama-bench:build/bin/llama-bench:model-tq2_0.gguf \\
        --peer bindings=llama-cpp-python:venv/bin/python:model-tq2_0.gguf \\
        --threads 1,2 --rounds 5 --output results

Writes DIR/compare.md (also printed), DIR/compare.json (every sample) and DIR/compare.png. A peer that is missing, fails
or hangs is named with the cause, and the others go on. Exit status: 0, 1 if anything failed, 2 for wrong usage.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import re
import resource
import selectors
import shlex
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
TESTS = ("prefill", "decode")
STACK_BYTES = 64 << 20
# Prints JSON with the GB/s that so many threads read.
BANDWIDTH = [str(ROOT / "build" / "bin" / "setun-bench"), "--limits", "--rounds", "1", "--json", "--threads"]


class Failure(Exception):
    """Why an engine has no figure, in words that help."""


@dataclass(frozen=True)
class Test:
    """One measurement: which test, on how many threads, how many tokens."""

    name: str
    threads: int
    tokens: int


def tail(text: str, lines: int = 3) -> str:
    """The last lines that say something, in one."""
    return " | ".join([line.strip() for line in text.splitlines() if line.strip()][-lines:])[-400:]


def ended(command: list[str], status: int, stderr: str) -> str:
    """What to say of a program that ended with a status other than 0."""
    how = f"exit status {status}"
    if status < 0:
        try:
            how = f"signal {-status} ({signal.Signals(-status).name})"
        except ValueError:
            how = f"signal {-status}"
        if -status in (signal.SIGSEGV, signal.SIGBUS):
            how += "; a small stack limit is a common cause: raise it with ulimit -s"
        elif -status == signal.SIGILL:
            how += "; it was built for another processor: build it on this one"
        elif -status == signal.SIGKILL:
            how += "; perhaps the system ran out of memory"
    said = tail(stderr)
    return f"ended with {how}{f'; it said: {said}' if said else ''}; by hand: {shlex.join(command)}"


def execute(command: list[str], timeout: float, environment: dict[str, str]) -> str:
    """What a program prints. It and its children are stopped after `timeout` seconds."""
    # A process group of its own, not a session: Linux gives each session a share of its own, whatever its priority.
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=environment, process_group=0
            )
        except OSError as error:
            raise Failure(f"cannot run {command[0]}: {error.strerror}") from None
        try:
            status = process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise Failure(
                f"did not end within {timeout:g} s and was stopped; give --timeout more seconds if it is only slow;"
                f" by hand: {shlex.join(command)}"
            ) from None
        finally:
            stop(process)
        out.seek(0)
        err.seek(0)
        stdout, stderr = (file.read().decode(errors="replace") for file in (out, err))
    if status != 0:
        raise Failure(ended(command, status, stderr or stdout))
    return stdout


def stop(process: subprocess.Popen[Any]) -> None:
    """Ends a process and those that it started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def environment_for(threads: int) -> dict[str, str]:
    """The environment of a peer: as many threads in every library it may use; a stack that big prompts need."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    stack = f"{STACK_BYTES >> 20}M"
    return {**os.environ, "OMP_STACKSIZE": stack, **dict.fromkeys(names, str(threads))}


def raise_stack_limit() -> None:
    """Programs started from here on get 64 MiB of stack: some engines keep a layer's activations there."""
    soft, hard = resource.getrlimit(resource.RLIMIT_STACK)
    wanted = STACK_BYTES if hard == resource.RLIM_INFINITY else min(STACK_BYTES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_STACK, (wanted, hard))


def require_file(path: Path, what: str, cure: str, executable: bool = False) -> None:
    if not path.exists():
        raise Failure(f"{what} {path} is missing; {cure}")
    if executable and (path.is_dir() or not os.access(path, os.X_OK)):
        raise Failure(f"{what} {path} is not a program that can be run; {cure}")


class Engine(ABC):
    """Something that runs a model: gives tokens/s for a test."""

    kind = ""

    def __init__(self, name: str, model: Path) -> None:
        self.name = name
        self.model = model
        self.facts: dict[str, Any] = {}  # what the engine says of itself and its model: version, model_bytes, ...

    @abstractmethod
    def check(self) -> None:
        """Fails early if a file is missing."""

    @abstractmethod
    def measure(self, test: Test, timeout: float) -> float:
        """Tokens/s of one run; Failure says why there was none."""

    def close(self) -> None:  # noqa: B027 - most engines hold nothing between runs
        """Ends what the engine keeps running."""


class Setun(Engine):
    """A package of ours, by `setun bench`."""

    kind = "setun"

    def __init__(self, name: str, model: Path, command: list[str]) -> None:
        super().__init__(name, model)
        self.command = command

    def check(self) -> None:
        require_file(self.model, "the package", "make it with: setun compile")

    def measure(self, test: Test, timeout: float) -> float:
        prompt, generated = (test.tokens, 0) if test.name == "prefill" else (0, test.tokens)
        command = [*self.command, str(self.model), "--threads", str(test.threads), "--prompt-tokens", str(prompt)]
        command += ["--gen-tokens", str(generated), "--rounds", "1", "--no-limits", "--json"]
        text = execute(command, timeout, dict(os.environ))
        speed, facts = read_setun(text, test)
        self.facts.update(facts)
        return speed


def read_setun(text: str, test: Test) -> tuple[float, dict[str, Any]]:
    """Tokens/s of `test` from the JSON of `setun bench`, and what a decoded token needs."""
    try:
        runs = [run for run in json.loads(text)["runs"] if run["threads"] == test.threads]
        speed = float(runs[0][f"{test.name}_tok_s"])
    except (ValueError, KeyError, IndexError, TypeError):
        raise Failure(
            f"printed no figure for {test.name} on {test.threads} threads: {tail(text) or 'nothing'}"
        ) from None
    known = test.name == "decode" and "bytes_per_token" in runs[0]
    return speed, {"model_bytes": runs[0]["bytes_per_token"]} if known else {}


class LlamaBench(Engine):
    """The llama-bench of llama.cpp and of its forks (ik_llama.cpp, bitnet.cpp)."""

    kind = "llama-bench"

    def __init__(self, name: str, model: Path, program: Path, arguments: list[str]) -> None:
        super().__init__(name, model)
        self.program = program
        self.arguments = arguments

    def check(self) -> None:
        require_file(self.program, "the program", "build the llama-bench of that project", executable=True)
        require_file(self.model, "the model", "convert or quantise one with that project's tools")
        # Not llama-bench's model_size, which some forks give with a tied embedding counted twice.
        self.facts["model_bytes"] = self.model.stat().st_size

    def measure(self, test: Test, timeout: float) -> float:
        # The flags that all forks share; each warms up by itself before it measures.
        prompt, generated = (test.tokens, 0) if test.name == "prefill" else (0, test.tokens)
        command = [str(self.program), "-m", str(self.model), "-p", str(prompt), "-n", str(generated)]
        command += ["-t", str(test.threads), "-r", "1", "-o", "json", *self.arguments]
        text = execute(command, timeout, environment_for(test.threads))
        speed, facts = read_llama_bench(text, test)
        self.facts.update(facts)
        return speed


def read_llama_bench(text: str, test: Test) -> tuple[float, dict[str, Any]]:
    """Tokens/s of `test` from `llama-bench -o json`, whatever a fork prints around the JSON."""
    array = None
    for found in re.finditer(r"^\[", text, re.MULTILINE):
        try:
            array, _ = json.JSONDecoder(strict=False).raw_decode(text, found.start())
        except ValueError:
            continue
        if isinstance(array, list) and array and isinstance(array[0], dict) and "avg_ts" in array[0]:
            break
        array = None
    if array is None:
        raise Failure(f"printed no JSON that llama-bench prints: {tail(text) or 'nothing'}")
    prompt, generated = (test.tokens, 0) if test.name == "prefill" else (0, test.tokens)
    rows = [row for row in array if (row.get("n_prompt"), row.get("n_gen")) == (prompt, generated)]
    if len(rows) != 1 or rows[0].get("n_threads") != test.threads:
        got = ", ".join(f"{row.get('n_prompt')}/{row.get('n_gen')} on {row.get('n_threads')}" for row in array)
        raise Failure(
            f"expects one result with prompt {prompt} and generated {generated} on {test.threads} threads, got {got}"
        )
    row = rows[0]
    try:
        speed = float(row["avg_ts"])
    except (TypeError, ValueError):
        speed = 0.0
    if not 0 < speed < float("inf"):
        raise Failure(f"printed {row['avg_ts']!r} tokens/s")
    facts = {"version": row.get("build_commit"), "model_type": row.get("model_type")}
    return speed, {key: value for key, value in facts.items() if value not in (None, "", "unknown")}


# Runs in the peer's interpreter and answers one line of JSON for each line of JSON. Only public functions.
DRIVER = """
import json, os, sys, time
kind, model, threads, context = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # what the library prints goes to stderr

if kind == "llama-cpp-python":
    import llama_cpp
    version = llama_cpp.__version__
    options = {"n_threads": threads, "n_threads_batch": threads, "n_batch": 512, "n_ctx": context}
    llama = llama_cpp.Llama(model, verbose=False, **options)
    vocabulary = llama.n_vocab()
    def prefill(tokens):
        llama.reset()
        begin = time.perf_counter()
        llama.eval(tokens)
        return time.perf_counter() - begin
    def decode(tokens):
        llama.reset()
        begin = time.perf_counter()
        for token in tokens:
            llama.eval([token])
        return time.perf_counter() - begin
else:
    import litespark_inference
    from litespark_inference.torchless import load_bitnet_2b
    from litespark_inference.torchless.runtime import forward_one, forward_prefill, init_state
    version = litespark_inference.__version__
    network = load_bitnet_2b(model)
    vocabulary = network.config.vocab_size
    def prefill(tokens):
        state = init_state(network, t_max=context)
        begin = time.perf_counter()
        for i in range(0, len(tokens), 64):  # its batched product leaves the output unset for more than 64 tokens
            forward_prefill(network, state, tokens[i : i + 64])
        return time.perf_counter() - begin
    def decode(tokens):
        state = init_state(network, t_max=context)
        begin = time.perf_counter()
        for token in tokens:
            forward_one(network, state, token)
        return time.perf_counter() - begin

def tokens(count):
    return [(i * 2654435761 + 12345) % min(vocabulary, 30000) for i in range(count)]

print(json.dumps({"version": version}), file=answers, flush=True)
warm = set()
for line in sys.stdin:
    ask = json.loads(line)
    run = {"prefill": prefill, "decode": decode}[ask["test"]]
    if ask["test"] not in warm:
        run(tokens(min(ask["tokens"], 8)))
        warm.add(ask["test"])
    print(json.dumps({"tok_s": ask["tokens"] / run(tokens(ask["tokens"]))}), file=answers, flush=True)
"""


class PythonPeer(Engine):
    """A peer that is a Python package: one process of its interpreter for each thread count, kept for all rounds."""

    def __init__(self, name: str, model: Path, interpreter: Path, kind: str, context: int) -> None:
        super().__init__(name, model)
        self.kind = kind
        self.interpreter = interpreter
        self.context = context
        self.processes: dict[int, tuple[subprocess.Popen[bytes], Any]] = {}

    def check(self) -> None:
        package = {"llama-cpp-python": "llama-cpp-python", "litespark": "litespark-inference"}[self.kind]
        cure = f"make a virtual environment and install {package} into it"
        require_file(self.interpreter, "the interpreter", cure, executable=True)
        if self.kind == "llama-cpp-python":
            require_file(self.model, "the model", "convert or quantise one with llama.cpp's tools")
            self.facts["model_bytes"] = self.model.stat().st_size

    def measure(self, test: Test, timeout: float) -> float:
        deadline = time.monotonic() + timeout
        if test.threads not in self.processes:
            self.start(test.threads)
            self.facts.update(self.answer(test.threads, deadline))
        process, _ = self.processes[test.threads]
        try:
            process.stdin.write(json.dumps({"test": test.name, "tokens": test.tokens}).encode() + b"\n")
            process.stdin.flush()
        except BrokenPipeError:
            pass  # answer() says why
        return float(self.answer(test.threads, deadline)["tok_s"])

    def start(self, threads: int) -> None:
        command = [str(self.interpreter), "-c", DRIVER, self.kind, str(self.model), str(threads), str(self.context)]
        errors = tempfile.TemporaryFile()  # noqa: SIM115 (drop() closes it)
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env={**environment_for(threads), "OMP_WAIT_POLICY": "passive"},
            process_group=0,
        )
        self.processes[threads] = (process, errors)

    def answer(self, threads: int, deadline: float) -> dict[str, Any]:
        """The next line that the process prints."""
        process, errors = self.processes[threads]
        line = b""
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while not line.endswith(b"\n"):
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    self.drop(threads)
                    raise Failure(
                        "did not answer in time and was stopped; give --timeout more seconds if it is only slow"
                    )
                part = os.read(process.stdout.fileno(), 65536)
                if not part:
                    status = process.wait()
                    errors.seek(0)
                    said = errors.read().decode(errors="replace")
                    self.drop(threads)
                    if "ModuleNotFoundError" in said:
                        raise Failure(f"{tail(said, 1)}; install the package for {self.interpreter}")
                    raise Failure(ended([str(self.interpreter), "..."], status, said))
                line += part
        return json.loads(line)

    def drop(self, threads: int) -> None:
        process, errors = self.processes.pop(threads)
        stop(process)
        for file in (process.stdin, process.stdout, errors):
            with contextlib.suppress(OSError):
                file.close()

    def close(self) -> None:
        for threads in list(self.processes):
            self.drop(threads)


@dataclass
class Cell:
    """The samples of one engine, test and thread count, by round (None where it was not measured)."""

    samples: list[float | None] = field(default_factory=list)
    failure: str | None = None

    def values(self) -> list[float]:
        return [value for value in self.samples if value is not None]

    def median(self) -> float | None:
        return statistics.median(self.values()) if self.values() and not self.failure else None

    def text(self) -> str:
        if self.failure:
            return "failed"
        if not self.values():
            return "-"
        low, high = min(self.values()), max(self.values())
        return f"{number(statistics.median(self.values()))} ({number(low)} to {number(high)})"


def number(value: float) -> str:
    return f"{value:.1f}" if value < 100 else f"{value:.0f}"


@dataclass
class Results:
    """All that was measured."""

    ours: list[str]
    peers: list[str]
    threads: list[int]
    tokens: dict[str, int]
    cells: dict[tuple[str, str, int], Cell]
    bandwidth: dict[int, list[float]]
    facts: dict[str, dict[str, Any]]
    about: dict[str, Any]

    def cell(self, engine: str, test: str, threads: int) -> Cell:
        return self.cells.setdefault((engine, test, threads), Cell())

    def ratio(self, ours: str, peer: str, test: str, threads: int) -> tuple[float, float, float] | None:
        """Median, least and greatest of ours / peer over the rounds that have both."""
        first, second = self.cell(ours, test, threads), self.cell(peer, test, threads)
        if first.failure or second.failure:
            return None
        pairs = zip(first.samples, second.samples, strict=False)
        ratios = [a / b for a, b in pairs if a is not None and b is not None]
        return (statistics.median(ratios), min(ratios), max(ratios)) if ratios else None

    def fastest(self, test: str, threads: int) -> str | None:
        """The peer with the greatest median."""
        medians = {peer: self.cell(peer, test, threads).median() for peer in self.peers}
        known = {peer: median for peer, median in medians.items() if median is not None}
        return max(known, key=known.__getitem__) if known else None

    def dram_fraction(self, engine: str, threads: int) -> float | None:
        """Decode's share of the read bandwidth, if every token reads the whole model."""
        median, size = self.cell(engine, "decode", threads).median(), self.facts.get(engine, {}).get("model_bytes")
        if not median or not size or not self.bandwidth.get(threads):
            return None
        return median * size / 1e9 / statistics.median(self.bandwidth[threads])


def run_rounds(
    engines: list[Engine],
    results: Results,
    rounds: int,
    timeout: float,
    bandwidth: Callable[[int], float],
    say: Callable[[str], None],
) -> None:
    """Fills `results`. A test that failed once is not tried again."""
    broken: dict[str, str] = {}
    for engine in engines:
        try:
            engine.check()
        except Failure as failure:
            broken[engine.name] = str(failure)
            say(f"{engine.name} failed: {failure}")
            for test in TESTS:
                for threads in results.threads:
                    results.cell(engine.name, test, threads).failure = str(failure)
    results.facts |= {engine.name: engine.facts for engine in engines}
    working = [engine for engine in engines if engine.name not in broken]
    total = rounds * len(results.threads) * len(working) * len(TESTS)
    done = 0
    for round_ in range(rounds):
        for threads in results.threads:
            shift = round_ % len(working) if working else 0
            for engine in working[shift:] + working[:shift]:
                gb_s = bandwidth(threads)
                results.bandwidth.setdefault(threads, []).append(gb_s)
                for name in TESTS:
                    done += 1
                    cell = results.cell(engine.name, name, threads)
                    value = None
                    where = f"[{done}/{total}] round {round_ + 1}, {count(threads, 'thread')}: {engine.name} {name}"
                    if not cell.failure:
                        try:
                            value = engine.measure(Test(name, threads, results.tokens[name]), timeout)
                            say(f"{where} {number(value)} tokens/s (memory {gb_s:.1f} GB/s)")
                        except Failure as failure:
                            cell.failure = str(failure)
                            say(f"{where} failed: {failure}")
                    cell.samples.append(value)


def count(number_: int, thing: str) -> str:
    return f"{number_} {thing}{'' if number_ == 1 else 's'}"


def table(header: list[str], rows: Iterable[list[str]]) -> str:
    """A Markdown table whose columns line up as text too."""
    lines = [header, *rows]
    widths = [max(len(row[i]) for row in lines) for i in range(len(header))]

    def line(row: list[str]) -> str:
        cells = [
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        return "| " + " | ".join(cells) + " |"

    rule = "|" + "|".join(["-" * (widths[0] + 2)] + ["-" * (width + 1) + ":" for width in widths[1:]]) + "|"
    return "\n".join([line(header), rule, *(line(row) for row in lines[1:])])


def markdown(results: Results) -> str:
    """The report: one table a test, then ratios, then what failed."""
    parts = []
    about = results.about
    parts.append(
        f"{about['cpu']}, {count(about['cores'], 'core')}; {count(about['rounds'], 'round')}, engines in turn;"
        " median (least to greatest)."
    )
    rows = []
    for threads in results.threads:
        samples = results.bandwidth.get(threads, [])
        rows.append([count(threads, "thread"), Cell(list(samples)).text()])
    parts.append("Memory read bandwidth in the same rounds, GB/s:\n\n" + table(["", "GB/s"], rows))
    for test in TESTS:
        what = "prompt at once" if test == "prefill" else "one after the other, empty context"
        header = ["engine", "model MB"]
        for threads in results.threads:
            header.append(f"{count(threads, 'thread')}")
            if test == "decode":
                header.append("of memory")
        rows = []
        for engine in [*results.ours, *results.peers]:
            size = results.facts.get(engine, {}).get("model_bytes")
            row = [engine, f"{size / 1e6:.0f}" if size else "-"]
            for threads in results.threads:
                row.append(results.cell(engine, test, threads).text())
                if test == "decode":
                    fraction = results.dram_fraction(engine, threads)
                    row.append(f"{fraction:.0%}" if fraction else "-")
            rows.append(row)
        title = f"{test.capitalize()}, {results.tokens[test]} tokens ({what}), tokens/s"
        parts.append(f"{title}:\n\n" + table(header, rows))
    for ours in results.ours:
        header = [f"{ours} is so many times as fast as"]
        header += [f"{test}, {count(threads, 'thread')}" for test in TESTS for threads in results.threads]
        rows = []
        for peer in results.peers:
            rows.append([peer, *(ratio_text(results, ours, peer, t, n) for t in TESTS for n in results.threads)])
        row = ["the fastest peer"]
        for test in TESTS:
            for threads in results.threads:
                peer = results.fastest(test, threads)
                row.append(f"{ratio_text(results, ours, peer, test, threads)} {peer}" if peer else "-")
        rows.append(row)
        if results.peers:
            parts.append("Ratios, from pairs of the same round (least to greatest):\n\n" + table(header, rows))
    failures: dict[tuple[str, str], list[str]] = {}
    for (engine, test, threads), cell in results.cells.items():
        if cell.failure:
            failures.setdefault((engine, cell.failure), []).append(f"{test} on {count(threads, 'thread')}")
    if failures:
        lines = [f"- {engine} ({', '.join(where)}): {why}" for (engine, why), where in failures.items()]
        parts.append("Failed:\n\n" + "\n".join(lines))
    return "\n\n".join(parts) + "\n"


def ratio_text(results: Results, ours: str, peer: str, test: str, threads: int) -> str:
    ratio = results.ratio(ours, peer, test, threads)
    return f"{ratio[0]:.2f} ({ratio[1]:.2f} to {ratio[2]:.2f})" if ratio else "-"


def to_json(results: Results) -> dict[str, Any]:
    """Every sample, and the figures of the report."""
    runs = []
    for engine in [*results.ours, *results.peers]:
        for test in TESTS:
            for threads in results.threads:
                cell = results.cell(engine, test, threads)
                run: dict[str, Any] = {"engine": engine, "test": test, "threads": threads}
                run |= {"tokens": results.tokens[test], "median_tok_s": cell.median(), "samples_tok_s": cell.samples}
                if cell.failure:
                    run["failure"] = cell.failure
                if test == "decode":
                    run["memory_fraction"] = results.dram_fraction(engine, threads)
                runs.append(run)
    ratios = []
    for ours in results.ours:
        for test in TESTS:
            for threads in results.threads:
                fastest = results.fastest(test, threads)
                for peer in results.peers:
                    ratio = results.ratio(ours, peer, test, threads)
                    if ratio:
                        entry = {"engine": ours, "peer": peer, "test": test, "threads": threads}
                        entry |= {"median": ratio[0], "least": ratio[1], "greatest": ratio[2]}
                        ratios.append({**entry, "fastest_peer": peer == fastest})
    return {
        "about": results.about,
        "engines": results.facts,
        "memory_read_gb_s": {str(threads): samples for threads, samples in results.bandwidth.items()},
        "runs": runs,
        "ratios": ratios,
    }


def plot(results: Results, path: Path) -> None:
    """Bars of the medians with their spread: a row a test, a column a thread count; ours are the dark ones."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    names = [*results.ours, *results.peers]
    dark, light, edge = "#1f5f8b", "#b8c4ce", "#444444"
    size = (1.2 + 4.4 * len(results.threads), 1.3 + 0.36 * len(names) * len(TESTS) + 0.9)
    figure, axes = plt.subplots(len(TESTS), len(results.threads), figsize=size, squeeze=False, sharey=True)
    for row, test in enumerate(TESTS):
        for column, threads in enumerate(results.threads):
            axis = axes[row][column]
            most = max((max(results.cell(name, test, threads).values(), default=0.0) for name in names), default=0.0)
            for place, name in enumerate(names):
                cell = results.cell(name, test, threads)
                median = cell.median()
                if median is None:
                    axis.text(most * 0.01, place, cell.text(), va="center", fontsize=8, color=edge)
                    continue
                spread = [[median - min(cell.values())], [max(cell.values()) - median]]
                color = dark if name in results.ours else light
                axis.barh(place, median, 0.7, xerr=spread, color=color, ecolor=edge, capsize=2)
                axis.text(max(cell.values()) + most * 0.02, place, number(median), va="center", fontsize=8)
            axis.set_yticks(range(len(names)), names, fontsize=8)
            axis.set_xlim(0, (most or 1.0) * 1.15)
            axis.tick_params(axis="x", labelsize=8)
            title = f"{test}, {results.tokens[test]} tokens, {count(threads, 'thread')}"
            if test == "decode" and results.bandwidth.get(threads):
                title += f" (memory: {statistics.median(results.bandwidth[threads]):.1f} GB/s)"
            axis.set_title(title, fontsize=9)
            for side in ("top", "right"):
                axis.spines[side].set_visible(False)
            if row == len(TESTS) - 1:
                axis.set_xlabel("tokens/s (longer is faster)", fontsize=8)
    axes[0][0].invert_yaxis()
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    plt.close(figure)


def cpu_name() -> str:
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found.group(1).strip() if found else platform.machine()


def bandwidth_by(command: list[str]) -> Callable[[int], float]:
    """Measures GB/s read from memory by so many threads."""

    def measure(threads: int) -> float:
        text = execute([*command, str(threads)], 120.0, dict(os.environ))
        try:
            found = json.loads(text)
            return float(found["limits"][0]["dram_read_gb_s"] if isinstance(found, dict) else found)
        except (ValueError, KeyError, IndexError, TypeError):
            raise Failure(f"{command[0]} printed no bandwidth: {tail(text) or 'nothing'}") from None

    return measure


def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expects a number from 1 up, got {text}")
    return value


def positives(text: str) -> list[int]:
    try:
        values = [int(part) for part in text.split(",")]
    except ValueError:
        values = []
    if not values or min(values) < 1 or len(set(values)) != len(values):
        raise argparse.ArgumentTypeError(f"expects different numbers from 1 up, separated by commas, got {text!r}")
    return values


def parse_package(text: str) -> tuple[str, Path]:
    name, equals, path = text.partition("=")
    return (name, Path(path)) if equals else ("setun", Path(text))


def parse_peer(text: str) -> tuple[str, str, Path, str]:
    """NAME=KIND:PROGRAM:MODEL"""
    name, equals, rest = text.partition("=")
    parts = rest.split(":", 2)
    if not equals or not name or len(parts) != 3 or not all(parts):
        raise argparse.ArgumentTypeError(f"expects NAME=KIND:PROGRAM:MODEL, got {text!r}")
    if parts[0] not in ("llama-bench", "llama-cpp-python", "litespark"):
        raise argparse.ArgumentTypeError(f"expects KIND llama-bench, llama-cpp-python or litespark, got {parts[0]!r}")
    return name, parts[0], Path(parts[1]), parts[2]


def parse_peer_arguments(text: str) -> tuple[str, list[str]]:
    name, equals, rest = text.partition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"expects NAME='FLAGS', got {text!r}")
    return name, shlex.split(rest)


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = result.add_argument
    add(
        "--package",
        type=parse_package,
        action="append",
        required=True,
        metavar="[NAME=]FILE",
        help="a package of ours; may be given several times, then with names (default name: setun)",
    )
    add(
        "--peer",
        type=parse_peer,
        action="append",
        default=[],
        metavar="NAME=KIND:PROGRAM:MODEL",
        help="another engine: llama-bench:/path/to/llama-bench:/path/to/model.gguf (llama.cpp and its forks), "
        "llama-cpp-python:/path/to/python:/path/to/model.gguf, or litespark:/path/to/python:REPOSITORY "
        "(as in the hub's cache); may be given several times",
    )
    add(
        "--peer-args",
        type=parse_peer_arguments,
        action="append",
        default=[],
        metavar="NAME='FLAGS'",
        help="more flags for that peer's llama-bench, say ik='-fa 1'",
    )
    add("--threads", type=positives, default=[1, 2], metavar="N,...", help="thread counts (default: 1,2)")
    add("--prompt-tokens", type=positive, default=512, metavar="N", help="prompt of the prefill test (default: 512)")
    add("--gen-tokens", type=positive, default=128, metavar="N", help="tokens of the decode test (default: 128)")
    add("--rounds", type=positive, default=5, metavar="N", help="how often everything runs (default: 5)")
    add("--timeout", type=float, default=600.0, metavar="S", help="seconds that one test may take (default: 600)")
    add("--output", type=Path, metavar="DIR", help="where to write compare.md, .json and .png (default: only print)")
    add(
        "--setun",
        default=shlex.join([sys.executable, "-m", "setun", "bench"]),
        metavar="COMMAND",
        help="the program that measures our packages (default: setun bench)",
    )
    add(
        "--bandwidth",
        default=shlex.join(BANDWIDTH),
        metavar="COMMAND",
        help="prints the GB/s that a number of threads, its last argument, reads (default: setun-bench --limits ...)",
    )
    return result


def make_engines(arguments: argparse.Namespace) -> list[Engine]:
    """Ours first. Exits with a message if names clash."""
    context = max(arguments.prompt_tokens, arguments.gen_tokens) + 16
    flags: dict[str, list[str]] = {}
    for name, more in arguments.peer_args:
        flags.setdefault(name, []).extend(more)
    engines: list[Engine] = []
    for name, path in arguments.package:
        engines.append(Setun(name, path, shlex.split(arguments.setun)))
    for name, kind, program, model in arguments.peer:
        if kind == "llama-bench":
            engines.append(LlamaBench(name, Path(model), program, flags.pop(name, [])))
        else:
            # A repository of the hub keeps its slashes.
            engines.append(PythonPeer(name, Path(model), program, kind, context))
    names = [engine.name for engine in engines]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise Failure(f"two engines are called {twice[0]!r}; give each a name of its own")
    if flags:
        raise Failure(f"--peer-args names {sorted(flags)[0]!r}, which is no llama-bench peer")
    return engines


def main(argv: list[str] | None = None) -> int:
    arguments = parser().parse_args(argv)
    try:
        engines = make_engines(arguments)
        bandwidth = shlex.split(arguments.bandwidth)
        if not bandwidth or shutil.which(bandwidth[0]) is None:
            raise Failure(f"{arguments.bandwidth} is missing; build it with: scripts/build")
        if arguments.output:
            arguments.output.mkdir(parents=True, exist_ok=True)
    except (Failure, OSError) as failure:
        print(f"compare.py: {failure}", file=sys.stderr)
        return 2
    raise_stack_limit()
    results = Results(
        ours=[name for name, _ in arguments.package],
        peers=[peer[0] for peer in arguments.peer],
        threads=arguments.threads,
        tokens={"prefill": arguments.prompt_tokens, "decode": arguments.gen_tokens},
        cells={},
        bandwidth={},
        facts={},
        about={
            "cpu": cpu_name(),
            "cores": len(os.sched_getaffinity(0)),
            "rounds": arguments.rounds,
            "date": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "engines": {engine.name: {"kind": engine.kind, "model": str(engine.model)} for engine in engines},
        },
    )

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    try:
        run_rounds(engines, results, arguments.rounds, arguments.timeout, bandwidth_by(bandwidth), say)
    except Failure as failure:
        print(f"compare.py: the read bandwidth was not measured: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        say("stopped; this is what was measured until now")
    finally:
        for engine in engines:
            engine.close()
    report = markdown(results)
    print(report, end="")
    if arguments.output:
        (arguments.output / "compare.md").write_text(report)
        (arguments.output / "compare.json").write_text(json.dumps(to_json(results), indent=1) + "\n")
        plot(results, arguments.output / "compare.png")
        say(f"wrote {arguments.output}/compare.md, compare.json and compare.png")
    return 1 if any(cell.failure for cell in results.cells.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
