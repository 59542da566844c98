"""`setun bench`: how fast a language model runs, beside what the machine can do at best.

Decoding reads all of a model's weights for each token, so it is compared with how fast memory can be read; prefill
multiplies, so it is compared with how fast the CPU multiplies bytes. The limits and the model are measured in turn,
round by round: what else happens on the machine then meets all of them.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from setun.diagnostics import SetunError
from setun.inspection import size
from setun.progress import Progress
from setun.session import Package, Session, open_package

ENTRIES = ("choose", "step")
WARM_UP_TOKENS = 4
# The operations that prefill is compared with the int8 peak by: a head's scan multiplies bytes, too, once a prompt.
MATMUL = "matmul"


@dataclass(frozen=True)
class Plan:
    """What is measured.

    Attributes:
        prompt_tokens: of the prefill test, given at once; 0 leaves the test out.
        gen_tokens: of the decode test, one after the other; 0 leaves the test out.
        depth: tokens that are in the session before either test.
        threads: numbers of threads.
        rounds: how often everything is measured.
        limits: measure the machine's limits, too.
        profile: take the time of each operation, too (in runs of their own).
    """

    prompt_tokens: int = 512
    gen_tokens: int = 128
    depth: int = 0
    threads: tuple[int, ...] = (1,)
    rounds: int = 5
    limits: bool = True
    profile: bool = False

    def context(self) -> int:
        return self.depth + max(self.prompt_tokens, self.gen_tokens, WARM_UP_TOKENS)


@dataclass
class Needs:
    """What one run of an entry needs, by the package's table of operations."""

    weight_bytes: int = 0
    context_bytes: int = 0  # of states, for each token in the session
    int8_macs: int = 0
    float_macs: int = 0


def needs(operation: Mapping[str, Any], tokens: int) -> Needs:
    """What an operation needs when its entry is run on `tokens` tokens."""
    rows = tokens if isinstance(operation["rows"], str) else operation["rows"]
    return Needs(
        operation["weight_bytes"] + rows * operation["row_bytes"],
        operation["context_bytes"],
        rows * operation["int8_macs"],
        rows * operation["float_macs"],
    )


def total(operations: Sequence[Mapping[str, Any]], tokens: int) -> Needs:
    """What all operations of an entry need together."""
    sums = Needs()
    for operation in operations:
        one = needs(operation, tokens)
        sums.weight_bytes += one.weight_bytes
        sums.context_bytes += one.context_bytes
        sums.int8_macs += one.int8_macs
        sums.float_macs += one.float_macs
    return sums


@dataclass
class Row:
    """Operations of one kind, kernel and shape, in one run of an entry on average."""

    kind: str
    detail: str
    shape: str
    count: int = 0
    seconds: float = 0.0
    bytes: float = 0.0
    int8_ops: float = 0.0
    float_ops: float = 0.0

    def as_json(self, whole: float) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "detail": self.detail,
            "shape": self.shape,
            "count": self.count,
            "seconds": self.seconds,
            "share": self.seconds / whole if whole else 0.0,
            "gb_s": self.bytes / self.seconds / 1e9 if self.seconds else 0.0,
            "int8_gops": self.int8_ops / self.seconds / 1e9 if self.seconds else 0.0,
            "float_gops": self.float_ops / self.seconds / 1e9 if self.seconds else 0.0,
        }


@dataclass
class Profile:
    """Where the time of a test goes: rows, largest first, and what no operation took."""

    runs: int
    seconds: float  # of one run
    rows: list[Row]

    @property
    def waiting(self) -> float:
        """Seconds of a run that threads spent at barriers, on average."""
        return max(0.0, self.seconds - sum(row.seconds for row in self.rows))

    def int8_gops(self) -> float:
        """Gop/s of the ternary and binary matmuls, in their own time."""
        rows = [row for row in self.rows if row.kind == MATMUL]
        seconds = sum(row.seconds for row in rows)
        return sum(row.int8_ops for row in rows) / seconds / 1e9 if seconds else 0.0

    def as_json(self) -> dict[str, Any]:
        return {
            "runs": self.runs,
            "seconds": self.seconds,
            "operations": [row.as_json(self.seconds) for row in self.rows],
            "waiting_seconds": self.waiting,
            "waiting_share": self.waiting / self.seconds if self.seconds else 0.0,
        }


def make_profile(
    operations: Sequence[Mapping[str, Any]], times: Mapping[str, Any], tokens: int, context: float
) -> Profile:
    """Groups the times of an entry's operations.

    Args:
        operations: the package's table.
        times: what the session took (`Session.times`).
        tokens: that each run was given.
        context: tokens in the session, the new ones included, on average.
    """
    runs = max(times["runs"], 1)
    rows: dict[tuple[str, str, str], Row] = {}
    for operation, threads in zip(operations, times["operations"], strict=True):
        key = (operation["kind"], operation["detail"], operation["shape"])
        row = rows.setdefault(key, Row(*key))
        one = needs(operation, tokens)
        row.count += 1
        row.seconds += sum(seconds for _, seconds in threads) / len(threads) / runs
        row.bytes += one.weight_bytes + one.context_bytes * context
        row.int8_ops += 2 * one.int8_macs
        row.float_ops += 2 * one.float_macs
    ordered = sorted(rows.values(), key=lambda row: -row.seconds)
    return Profile(times["runs"], times["seconds"] / runs, ordered)


@dataclass
class Run:
    """One number of threads: samples of every round, and profiles."""

    threads: int
    session: Session
    session_seconds: float
    limits: Any = None
    prefill: list[float] = field(default_factory=list)  # tokens/s
    decode: list[float] = field(default_factory=list)  # tokens/s
    dram: list[float] = field(default_factory=list)  # GB/s
    int8: list[float] = field(default_factory=list)  # Gop/s
    profiles: dict[str, list[Profile]] = field(default_factory=dict)

    def add_profile(self, name: str, profile: Profile) -> None:
        self.profiles.setdefault(name, []).append(profile)

    def profile(self, name: str) -> Profile:
        """That of the round in the middle."""
        return sorted(self.profiles[name], key=lambda profile: profile.seconds)[len(self.profiles[name]) // 2]


def spread(name: str, samples: Sequence[float]) -> dict[str, float | None]:
    """Median, least and most; None without samples."""
    if not samples:
        return dict.fromkeys((name, f"{name}_min", f"{name}_max"))
    return {name: statistics.median(samples), f"{name}_min": min(samples), f"{name}_max": max(samples)}


def peak_rss() -> int:
    """Most memory that the process had at once, in bytes; pages of the package that are in use count."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


class Bench:
    """Measures a language-model package.

    Raises:
        SetunError: the package is no language model, or the plan does not fit it.
    """

    def __init__(self, path: Path, plan: Plan, target: str | None = None, weights: str = "auto") -> None:
        self.plan = plan
        started = time.perf_counter()
        self.package: Package = open_package(path, target, weights)
        self.open_seconds = time.perf_counter() - started
        self.entry = self._find_entry()
        described = self.package.entry(self.entry)
        assert described is not None
        longest = described["max_context"]
        if longest and plan.context() > longest:
            raise SetunError(
                f"the tests need a context of {plan.context()} tokens, but the package allows {longest}",
                "Give fewer --prompt-tokens, --gen-tokens or --depth, or compile with a larger --context.",
            )
        tokens = next(item for item in described["inputs"] if item["name"] == "tokens")
        self.more_inputs = {"k": np.ones(1, dtype=np.int64)} if len(described["inputs"]) > 1 else {}
        random = np.random.default_rng(0)
        self.tokens = random.integers(0, tokens.get("below") or 2, max(plan.context(), 1), dtype=np.int64)
        self.target = self.package.target()
        self.operations = self.package.operations(self.entry)
        self.state_bytes = sum(_bytes(state, plan.context()) for state in described["states"])
        self.peak_rss = 0
        self.first_token_seconds = 0.0
        self.runs: list[Run] = []

    def _find_entry(self) -> str:
        for name in ENTRIES:
            entry = self.package.entry(name)
            if entry is None or not entry["uses_position"]:
                continue
            inputs = [item["name"] for item in entry["inputs"]]
            outputs = {item["name"] for item in entry["outputs"]}
            if "tokens" in inputs and set(inputs) <= {"tokens", "k"} and outputs and outputs <= {"ids", "logits"}:
                return name
        names = ", ".join(
            entry["name"] for entry in self.package.description["entries"] if not entry["name"].startswith("__")
        )
        raise SetunError(
            f"{self.package.path}: no language model: none of its entries ({names}) continues a text token by token",
            "setun-bench times any entry of any package.",
        )

    def _run(self, session: Session, tokens: np.ndarray) -> None:
        session.run(self.entry, {"tokens": tokens, **self.more_inputs})

    def _begin(self, session: Session, profile: bool) -> None:
        """An emptied session with the tokens before the tests, which no profile counts."""
        session.reset()
        if self.plan.depth:
            self._run(session, self.tokens[: self.plan.depth])
        if profile:
            session.profile(True)

    def prefill(self, run: Run, profile: bool = False) -> float:
        """Tokens/s of the prompt."""
        self._begin(run.session, profile)
        prompt = self.tokens[: self.plan.prompt_tokens]
        started = time.perf_counter()
        self._run(run.session, prompt)
        return len(prompt) / (time.perf_counter() - started)

    def decode(self, run: Run, profile: bool = False) -> float:
        """Tokens/s of the tokens that follow each other."""
        self._begin(run.session, profile)
        started = time.perf_counter()
        run.session.decode(self.entry, int(self.tokens[0]), self.plan.gen_tokens)
        return self.plan.gen_tokens / (time.perf_counter() - started)

    def prepare(self) -> None:
        """Makes the sessions; brings weights, caches and workspaces in."""
        from setun import _setun

        for threads in self.plan.threads:
            started = time.perf_counter()
            session = self.package.session(threads=threads, context=self.plan.context())
            run = Run(threads, session, time.perf_counter() - started)
            started = time.perf_counter()
            self._run(session, self.tokens[:1])
            if not self.runs:
                self.first_token_seconds = time.perf_counter() - started
            session.decode(self.entry, int(self.tokens[0]), WARM_UP_TOKENS - 1)
            if self.plan.prompt_tokens:
                self.prefill(run)
            if not self.runs:
                self.peak_rss = peak_rss()  # one session; before the limits take memory of their own
            self.runs.append(run)
        if self.plan.limits:
            for run in self.runs:
                try:
                    run.limits = _setun.Limits(run.threads)
                except MemoryError as error:
                    raise SetunError("out of memory for the measurement of memory reads", "See --no-limits.") from error

    def measure(self, step: Callable[[], None] = lambda: None) -> None:
        """All rounds; `step` is called after each of `steps()` measurements."""
        for _ in range(self.plan.rounds):
            for run in self.runs:
                if run.limits is not None:
                    run.dram.append(run.limits.read_bandwidth())
                if self.plan.gen_tokens:
                    run.decode.append(self.decode(run))
                    if self.plan.profile:
                        self.decode(run, profile=True)
                        run.add_profile("decode", self._profile(run, 1, self.mean_context()))
                step()
                if run.limits is not None:
                    run.int8.append(run.limits.int8_peak())
                if self.plan.prompt_tokens:
                    run.prefill.append(self.prefill(run))
                    if self.plan.profile:
                        self.prefill(run, profile=True)
                        tokens = self.plan.prompt_tokens
                        run.add_profile("prefill", self._profile(run, tokens, self.plan.depth + tokens))
                step()

    def _profile(self, run: Run, tokens: int, context: float) -> Profile:
        run.session.profile(False)
        return make_profile(self.operations, run.session.times(self.entry), tokens, context)

    def steps(self) -> int:
        return 2 * len(self.runs) * self.plan.rounds

    def mean_context(self) -> float:
        """Tokens that a decoded token reads of the caches, itself included, on average."""
        return self.plan.depth + (self.plan.gen_tokens + 1) / 2

    def as_json(self) -> dict[str, Any]:
        """Everything; `runs` has one object for each number of threads."""
        token = total(self.operations, 1)
        prompt_tokens = self.plan.prompt_tokens or 1
        prompt = total([item for item in self.operations if item["kind"] == MATMUL], prompt_tokens)
        cache_bytes = token.context_bytes * self.mean_context()
        bytes_per_token = token.weight_bytes + cache_bytes
        prompt_ops = 2 * prompt.int8_macs / prompt_tokens
        runs = []
        for run in self.runs:
            data: dict[str, Any] = {"threads": run.threads}
            data |= spread("prefill_tok_s", run.prefill) | spread("decode_tok_s", run.decode)
            data |= {
                "bytes_per_token": bytes_per_token,
                "weight_bytes_per_token": token.weight_bytes,
                "cache_bytes_per_token": cache_bytes,
                "int8_ops_per_token": prompt_ops,
            }
            data |= spread("dram_read_gb_s", run.dram) | spread("int8_peak_gops", run.int8)

            def fraction(of: str, factor: float, limit: str, data: dict[str, Any] = data) -> float | None:
                return data[of] * factor / 1e9 / data[limit] if data[of] and data[limit] else None

            def pairs_of(samples: Sequence[float], factor: float, limits: Sequence[float]) -> list[float]:
                return [one * factor / 1e9 / limit for one, limit in zip(samples, limits, strict=False)]

            # Of medians; least and most are those of rounds, in which both were measured one after the other.
            data |= spread("decode_dram_fraction", pairs_of(run.decode, bytes_per_token, run.dram))
            data |= spread("prefill_int8_fraction", pairs_of(run.prefill, prompt_ops, run.int8))
            data["decode_dram_fraction"] = fraction("decode_tok_s", bytes_per_token, "dram_read_gb_s")
            data["prefill_int8_fraction"] = fraction("prefill_tok_s", prompt_ops, "int8_peak_gops")
            if run.limits is not None:
                data |= {"dram_read_method": run.limits.read_method, "int8_method": run.limits.int8_method}
            data |= {
                "prefill_samples": run.prefill,
                "decode_samples": run.decode,
                "dram_samples": run.dram,
                "int8_samples": run.int8,
                "session_s": run.session_seconds,
            }
            if run.profiles:
                data["profile"] = {name: run.profile(name).as_json() for name in run.profiles}
                # Pairs of one round: what the machine did to both cancels.
                pairs = zip(run.profiles.get("prefill", []), run.int8, strict=False)
                data |= spread("prefill_matmul_int8_fraction", [profile.int8_gops() / peak for profile, peak in pairs])
            runs.append(data)
        return {
            "package": str(self.package.path),
            "target": self.target,
            "entry": self.entry,
            "prompt_tokens": self.plan.prompt_tokens,
            "gen_tokens": self.plan.gen_tokens,
            "depth": self.plan.depth,
            "rounds": self.plan.rounds,
            "load": {
                "open_s": self.open_seconds,
                "first_session_s": self.runs[0].session_seconds,
                "first_token_s": self.first_token_seconds,
            },
            "memory": {
                "package_bytes": self.package.description["bytes"],
                "weights_bytes": self.package.description["weights_bytes"],
                "weights_copied": self.package.weights_copied,
                "state_bytes": self.state_bytes,
                "peak_rss_bytes": self.peak_rss,
            },
            "runs": runs,
        }


ITEM_BYTES = {"bool": 1, "i8": 1, "u8": 1, "i16": 2, "i32": 4, "i64": 8, "f16": 2, "bf16": 2, "f32": 4, "f64": 8}


def _bytes(tensor: Mapping[str, Any], capacity: int) -> int:
    """Size of a state whose symbols are the capacity."""
    count = ITEM_BYTES[tensor["dtype"]]
    for dim in tensor["shape"]:
        count *= capacity if isinstance(dim, str) else dim
    return count


# ---------------------------------------------------------------------------------------------------------------------
# Text
# ---------------------------------------------------------------------------------------------------------------------


def table(rows: Sequence[Sequence[str]], left: int = 1) -> list[str]:
    """Lines of columns; the first `left` are aligned to the left, the others to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def duration(seconds: float) -> str:
    for unit, factor in (("s", 1.0), ("ms", 1e3)):
        if seconds * factor >= 1:
            return f"{seconds * factor:.2f} {unit}"
    return f"{seconds * 1e6:.1f} µs"


def _with_spread(data: Mapping[str, Any], name: str, digits: int) -> list[str]:
    if data[name] is None:
        return ["-", ""]
    least, most = data[f"{name}_min"], data[f"{name}_max"]
    return [f"{data[name]:.{digits}f}", f"({least:.{digits}f} to {most:.{digits}f})"]


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}%"


def describe(result: Mapping[str, Any]) -> str:
    """The result as text: model, speeds beside the limits, profiles."""
    load, memory = result["load"], result["memory"]
    first = result["runs"][0]
    token, weights, caches = (
        size(round(first[name])) for name in ("bytes_per_token", "weight_bytes_per_token", "cache_bytes_per_token")
    )
    held = size(memory["package_bytes"]) + (" (weights copied)" if memory["weights_copied"] else "")
    operations = f"{first['int8_ops_per_token'] / 1e6:.4g} million int8 operations"
    lines = [
        f"{Path(result['package']).name}: target {result['target']}, entry {result['entry']}; package {held}, caches"
        f" {size(memory['state_bytes'])}, peak memory {size(memory['peak_rss_bytes'])}",
        f"opened in {duration(load['open_s'])}, first session in {duration(load['first_session_s'])}, first token in"
        f" {duration(load['first_token_s'])}",
        f"a decoded token needs {token} ({weights} weights, {caches} caches), a prompt's token {operations}",
        "",
    ]
    rows = [["test", "threads", "tokens/s", "", "limit", "", "of it"]]
    for run in result["runs"]:
        if run["decode_tok_s"] is not None:
            limit = _with_spread(run, "dram_read_gb_s", 1)
            limit[0] += " GB/s" if run["dram_read_gb_s"] else ""
            speed = _with_spread(run, "decode_tok_s", 1)
            share = _percent(run["decode_dram_fraction"])
            rows.append([f"decode {result['gen_tokens']}", str(run["threads"]), *speed, *limit, share])
        if run["prefill_tok_s"] is not None:
            limit = _with_spread(run, "int8_peak_gops", 0)
            limit[0] += " Gop/s" if run["int8_peak_gops"] else ""
            speed = _with_spread(run, "prefill_tok_s", 1)
            share = _percent(run["prefill_int8_fraction"])
            rows.append([f"prefill {result['prompt_tokens']}", str(run["threads"]), *speed, *limit, share])
    lines += table(rows)
    depth = f", after {result['depth']} tokens" if result["depth"] else ""
    lines.append(f"medians of {result['rounds']} rounds (least to most){depth}")
    for run in result["runs"]:
        for name, profile in run.get("profile", {}).items():
            lines += ["", *describe_profile(name, run, profile)]
    return "\n".join(lines)


def describe_profile(name: str, run: Mapping[str, Any], profile: Mapping[str, Any]) -> list[str]:
    """A profile as a table."""
    title = f"{name}, {run['threads']} thread{'s' if run['threads'] > 1 else ''}: {duration(profile['seconds'])} a run"
    rows = [["operation", "shape", "kernel", "count", "time", "share", "GB/s", "Gop/s"]]
    for row in profile["operations"]:
        speed = row["int8_gops"] or row["float_gops"]
        rows.append(
            [
                row["kind"],
                row["shape"],
                row["detail"],
                str(row["count"]),
                duration(row["seconds"]),
                _percent(row["share"]),
                f"{row['gb_s']:.1f}" if row["gb_s"] >= 0.05 else "",
                f"{speed:.1f}" if speed >= 0.05 else "",
            ]
        )
    waiting = duration(profile["waiting_seconds"])
    rows.append(["barriers and waiting", "", "", "", waiting, _percent(profile["waiting_share"]), "", ""])
    lines = [title, *table(rows, left=3)]
    if name == "prefill" and run.get("prefill_matmul_int8_fraction") is not None:
        lines.append(f"matmuls alone: {_percent(run['prefill_matmul_int8_fraction'])} of the int8 peak")
    return lines


# ---------------------------------------------------------------------------------------------------------------------
# Picture
# ---------------------------------------------------------------------------------------------------------------------


def plot(result: Mapping[str, Any], path: Path) -> None:
    """Draws where a token's time goes, and how far each test is from the machine's limit.

    Raises:
        SetunError: the file cannot be written.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    tests = [name for name in ("decode", "prefill") if result["runs"][0].get("profile", {}).get(name)]
    figure, axes = pyplot.subplots(
        1, len(tests) + 1, figsize=(4.2 * len(tests) + 4.6, 4.8), layout="constrained", squeeze=False
    )
    kinds: dict[str, float] = {}
    for run in result["runs"]:
        for name in tests:
            for row in run["profile"][name]["operations"]:
                kinds[row["kind"]] = kinds.get(row["kind"], 0.0) + row["share"]
    shown = sorted((kind for kind in kinds if kinds[kind] > 0.005), key=lambda kind: -kinds[kind])
    palette = pyplot.get_cmap("tab10").colors
    colours = {kind: palette[i % len(palette)] for i, kind in enumerate(shown)}
    colours |= {"others": "#9a9a9a", "barriers and waiting": "#dddddd"}
    handles: dict[str, Any] = {}
    for axis, name in zip(axes[0], tests, strict=False):
        tokens = 1 if name == "decode" else result["prompt_tokens"]
        tallest = max(run["profile"][name]["seconds"] for run in result["runs"])
        for position, run in enumerate(result["runs"]):
            profile = run["profile"][name]
            parts = dict.fromkeys(shown, 0.0) | {"others": 0.0}
            for row in profile["operations"]:
                parts[row["kind"] if row["kind"] in shown else "others"] += row["seconds"]
            parts["barriers and waiting"] = profile["waiting_seconds"]
            bottom = 0.0
            for kind, seconds in parts.items():
                value = seconds / tokens * 1e3
                bar = axis.bar(position, value, 0.6, bottom=bottom, color=colours[kind], label=kind)
                if seconds / tallest > 0.05:  # else the bar has no room for it
                    share = f"{100 * seconds / profile['seconds']:.0f}%"
                    axis.text(position, bottom + value / 2, share, ha="center", va="center", fontsize=8)
                bottom += value
                if seconds > 0:
                    handles.setdefault(kind, bar)
            axis.text(position, bottom, f"{run[f'{name}_tok_s']:.0f} tokens/s", ha="center", va="bottom", fontsize=9)
        axis.set_xticks(range(len(result["runs"])), [_threads_text(run["threads"]) for run in result["runs"]])
        axis.margins(x=0.25, y=0.08)
        axis.set_ylabel("ms a token")
        axis.set_title(name + (f" of {tokens}" if name == "prefill" else f" ({result['gen_tokens']} tokens)"))
    _plot_fractions(axes[0][-1], result)
    order = [kind for kind in [*shown, "others", "barriers and waiting"] if kind in handles]
    if order:
        figure.legend([handles[kind] for kind in order], order, loc="outside lower center", ncols=5, frameon=False)
    figure.suptitle(f"{Path(result['package']).name}, {result['target']}")
    try:
        figure.savefig(path, dpi=130)
    except (OSError, ValueError) as error:
        raise SetunError(f"cannot write {path}: {error}", "Give a name that ends with .png, .svg or .pdf.") from error
    finally:
        pyplot.close(figure)


def _threads_text(threads: int) -> str:
    return f"{threads} thread{'s' if threads > 1 else ''}"


def _plot_fractions(axis: Any, result: Mapping[str, Any]) -> None:
    """Bars of the fractions of the limits."""
    names = {
        "decode_dram_fraction": "decode, of memory reads",
        "prefill_int8_fraction": "prefill, of int8 peak",
        "prefill_matmul_int8_fraction": "its matmuls, of int8 peak",
    }
    bars = [
        (f"{text}\n{_threads_text(run['threads'])}", run[key])
        for key, text in names.items()
        for run in result["runs"]
        if run.get(key) is not None
    ]
    axis.set_title("of the machine's limit")
    if not bars:
        axis.text(0.5, 0.5, "not measured", ha="center", va="center", transform=axis.transAxes)
        axis.set_axis_off()
        return
    places = list(range(len(bars)))[::-1]
    axis.barh(places, [100 * value for _, value in bars], color="#4c78a8")
    for place, (_, value) in zip(places, bars, strict=True):
        axis.text(2, place, f"{100 * value:.0f}%", va="center", fontsize=9, color="white" if value > 0.15 else "black")
    axis.set_yticks(places, [text for text, _ in bars], fontsize=8)
    axis.axvline(100, color="black", linewidth=1)
    axis.set_xlim(0, max(105.0, 105 * max(value for _, value in bars)))
    axis.set_xlabel("%")


# ---------------------------------------------------------------------------------------------------------------------
# Command
# ---------------------------------------------------------------------------------------------------------------------


def run(options: argparse.Namespace) -> int:
    """The `bench` command: the result to standard output, progress to standard error."""
    if not options.prompt_tokens and not options.gen_tokens:
        raise SetunError("nothing to measure: --prompt-tokens and --gen-tokens are both 0")
    if options.plot is not None and not options.plot.absolute().parent.is_dir():
        raise SetunError(f"{options.plot.absolute().parent}: no such directory", "Make it first, or name another file.")
    if options.plot is not None:
        import matplotlib  # noqa: F401  (if it is missing, that is said before minutes of measuring)
    plan = Plan(
        prompt_tokens=options.prompt_tokens,
        gen_tokens=options.gen_tokens,
        depth=options.depth,
        threads=tuple(dict.fromkeys(options.threads)),
        rounds=options.rounds,
        limits=not options.no_limits,
        profile=options.profile or options.plot is not None,
    )
    bench = Bench(options.package, plan, options.target, options.weights)
    with Progress("warming up"):
        bench.prepare()
    done = 0
    with Progress("measuring", "measurements") as progress:

        def step() -> None:
            nonlocal done
            done += 1
            progress.update(done, bench.steps())

        bench.measure(step)
    result = bench.as_json()
    print(json.dumps(result, indent=1) if options.json else describe(result))
    if options.plot is not None:
        plot(result, options.plot)
        print(f"{options.plot}: written", file=sys.stderr)
    return 0
