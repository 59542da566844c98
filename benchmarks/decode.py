#!/usr/bin/env python
"""Decode and prefill of a language-model package beside the machine's own DRAM read bandwidth.

Read bandwidth, decode and prefill are measured in turn, several rounds; medians are printed. Bytes a token are those of
the weights section: a decoded token reads all of it (a tied head is also the embedding).

    ninja -C build benchmarks
    .venv/bin/python benchmarks/decode.py model.setun [--threads 1,2] [--prompt-tokens 128] [--gen-tokens 32] [--json]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from setun import _setun

ROOT = Path(__file__).resolve().parent.parent


def read_bandwidth(tool: Path, threads: int) -> float:
    """GB/s that `threads` threads read from memory."""
    return float(subprocess.run([tool, str(threads)], check=True, capture_output=True, text=True).stdout)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=Path)
    parser.add_argument("--threads", default="1,2", help="thread counts, separated by commas (default: 1,2)")
    parser.add_argument("--prompt-tokens", type=int, default=128)
    parser.add_argument("--gen-tokens", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    tool = ROOT / "build" / "bin" / "read_bandwidth"
    if not tool.exists():
        print(f"{tool} is missing; build it with: ninja -C build benchmarks", file=sys.stderr)
        return 2

    begin = time.perf_counter()
    package = _setun.Package(str(arguments.package))
    open_seconds = time.perf_counter() - begin
    rng = np.random.default_rng(0)
    runs = []
    for threads in [int(n) for n in arguments.threads.split(",")]:
        context = arguments.prompt_tokens + arguments.gen_tokens
        begin = time.perf_counter()
        session = _setun.Session(package, threads=threads, context=context)
        session_seconds = time.perf_counter() - begin
        prompt = rng.integers(0, 256, arguments.prompt_tokens)
        session.run("step", {"tokens": prompt[:16]})  # brings the weights in: memory is touched for the first time
        bandwidth, decode, prefill = [], [], []
        for _ in range(arguments.rounds):
            bandwidth.append(read_bandwidth(tool, threads))
            session.reset()
            begin = time.perf_counter()
            logits = session.run("step", {"tokens": prompt})["logits"]
            prefill.append(len(prompt) / (time.perf_counter() - begin))
            begin = time.perf_counter()
            for _ in range(arguments.gen_tokens):
                logits = session.run("step", {"tokens": np.array([int(logits[-1].argmax())])})["logits"]
            decode.append(arguments.gen_tokens / (time.perf_counter() - begin))
        size = package.weights_bytes
        run = {
            "threads": threads,
            "prefill_tok_s": statistics.median(prefill),
            "decode_tok_s": statistics.median(decode),
            "bytes_per_token": size,
            "dram_read_gb_s": statistics.median(bandwidth),
            "open_s": open_seconds,
            "session_s": session_seconds,
        }
        run["decode_dram_fraction"] = run["decode_tok_s"] * size / 1e9 / run["dram_read_gb_s"]
        runs.append(run)
    if arguments.json:
        print(json.dumps({"runs": runs}))
        return 0
    print(f"{arguments.package.name}: {size / 1e6:.1f} MB a token; opened in {open_seconds * 1e3:.1f} ms")
    for run in runs:
        print(
            f"{run['threads']} threads: decode {run['decode_tok_s']:.1f} tokens/s"
            f" ({run['decode_tok_s'] * size / 1e9:.1f} of {run['dram_read_gb_s']:.1f} GB/s,"
            f" {run['decode_dram_fraction']:.0%} of DRAM), prefill {run['prefill_tok_s']:.1f} tokens/s,"
            f" first session in {run['session_s'] * 1e3:.0f} ms"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
