#!/usr/bin/env python
"""A vision transformer with ternary weights, compiled by Setun, beside PyTorch with float32 weights.

Engines: `setun`, the ternary network compiled; `eager`, the ternary module itself; `float`, the network of the same
shapes with float32 weights, eager; `inductor`, that network through torch.compile. Every round runs each engine once,
in rotating order, so that whatever the machine does meanwhile happens to all of them.

    .venv/bin/python benchmarks/vit.py --threads 1 --batch 1 --json vit.json

The default is the shape of ViT-small with patches of 16: 12 layers, 384 features, 6 heads, 1536 features within the
perceptrons, 197 tokens, 1000 classes. The embedding of patches and the output layer are float32 in both networks.
Needs a C++ compiler for `inductor`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import setun

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "examples" / "digits"))
from vit import VisionTransformer

ENGINES = ("setun", "eager", "float", "inductor")
PAUSE = 0.02
"""Seconds before each call, in which the threads of the engine before it stop to wait busily."""


@dataclass
class Engine:
    """Something that runs the network: `prepare` makes it for a number of threads and an example."""

    name: str
    prepare: Callable[[int, Tensor], Callable[[Tensor], Any]]


@dataclass
class Cell:
    """The times of one engine in one setting, in seconds, and how long it took to get ready."""

    engine: str
    batch: int
    threads: int
    ready_s: float
    times_s: list[float] = field(default_factory=list)

    @property
    def median_ms(self) -> float:
        return 1e3 * statistics.median(self.times_s)


def networks(arguments: argparse.Namespace) -> tuple[nn.Module, nn.Module]:
    """The ternary network and the one with float32 weights, of the same shapes, in eval mode."""
    shape = {name: getattr(arguments, name) for name in ("size", "patch", "dim", "depth", "heads", "hidden", "classes")}
    torch.manual_seed(0)
    ternary = VisionTransformer(channels=3, **shape).eval()
    dense = VisionTransformer(channels=3, linear=partial(nn.Linear, bias=False), **shape).eval()
    return ternary, dense


def engines(arguments: argparse.Namespace) -> list[Engine]:
    """The engines that were asked for."""
    ternary, dense = networks(arguments)

    def compiled(threads: int, images: Tensor) -> Callable[[Tensor], Any]:
        # For every batch; traced with two images, for torch.export takes a size of one as it is.
        batch = torch.export.Dim("batch", min=1)
        example = torch.zeros(2, *images.shape[1:])
        return setun.compile(ternary, (example,), dynamic_shapes=({0: batch},), threads=threads)

    def inductor(threads: int, images: Tensor) -> Callable[[Tensor], Any]:
        # Its code is made for a number of threads and for the shape of the example.
        torch._dynamo.reset()
        optimized = torch.compile(dense, dynamic=False)
        optimized(images)
        return optimized

    every = {
        "setun": compiled,
        "eager": lambda threads, images: ternary,
        "float": lambda threads, images: dense,
        "inductor": inductor,
    }
    return [Engine(name, every[name]) for name in ENGINES if name in arguments.engines]


@torch.no_grad()
def measure(listed: list[Engine], images: Tensor, threads: int, seconds: float) -> list[Cell]:
    """Rounds of one call each, for at least so many seconds and three rounds."""
    torch.set_num_threads(threads)
    cells, calls = [], []
    for engine in listed:
        started = time.perf_counter()
        call = engine.prepare(threads, images)
        cells.append(Cell(engine.name, len(images), threads, time.perf_counter() - started))
        call(images)
        calls.append(call)
    end, rounds = time.perf_counter() + seconds, 0
    while rounds < 3 or time.perf_counter() < end:
        for i in range(len(calls)):
            at = (i + rounds) % len(calls)
            time.sleep(PAUSE)
            started = time.perf_counter()
            calls[at](images)
            cells[at].times_s.append(time.perf_counter() - started)
        rounds += 1
    return cells


def table(cells: list[Cell]) -> str:
    """The medians as text, each with its ratio to Setun's."""
    lines = [f"{'batch':>5} {'threads':>7} {'engine':>9} {'median ms':>10} {'/ setun':>8} {'rounds':>6} {'ready s':>8}"]
    for cell in cells:
        setting = (cell.batch, cell.threads)
        ours = [c.median_ms for c in cells if c.engine == "setun" and (c.batch, c.threads) == setting]
        ratio = f"{cell.median_ms / ours[0]:8.2f}" if ours else f"{'-':>8}"
        lines.append(
            f"{cell.batch:5d} {cell.threads:7d} {cell.engine:>9} {cell.median_ms:10.2f} {ratio} "
            f"{len(cell.times_s):6d} {cell.ready_s:8.1f}"
        )
    return "\n".join(lines)


def numbers(text: str) -> list[int]:
    """Positive whole numbers, separated by commas."""
    values = [int(part) for part in text.split(",")]
    if min(values) < 1:
        raise argparse.ArgumentTypeError(f"expects positive numbers, got {text}")
    return values


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--batch", type=numbers, default=[1, 32], help="images a call (default 1,32)")
    made.add_argument("--threads", type=numbers, default=[1], help="numbers of threads (default 1)")
    made.add_argument("--seconds", type=float, default=10.0, help="of rounds for each setting (default 10)")
    made.add_argument("--engines", type=lambda text: text.split(","), default=list(ENGINES), help="default: all")
    made.add_argument("--json", type=Path, help="file for every sample")
    shape = made.add_argument_group("shape of the network")
    defaults = {"size": 224, "patch": 16, "dim": 384, "depth": 12, "heads": 6, "hidden": 1536, "classes": 1000}
    for name, value in defaults.items():
        shape.add_argument(f"--{name}", type=int, default=value, help=f"default {value}")
    return made


def main(argv: list[str] | None = None) -> int:
    made = parser()
    arguments = made.parse_args(argv)
    unknown = set(arguments.engines) - set(ENGINES)
    if unknown:
        made.error(f"expects engines among {', '.join(ENGINES)}, got {', '.join(sorted(unknown))}")
    listed, cells = engines(arguments), []
    for threads in arguments.threads:
        for batch in arguments.batch:
            images = torch.randn(batch, 3, arguments.size, arguments.size, generator=torch.Generator().manual_seed(1))
            cells += measure(listed, images, threads, arguments.seconds)
    print(table(cells))
    if arguments.json:
        shape = {name: getattr(arguments, name) for name in ("size", "patch", "dim", "depth", "heads", "hidden")}
        results = {
            "torch": torch.__version__,
            "cpus": os.cpu_count(),
            "shape": shape,
            "cells": [{**vars(cell), "median_ms": cell.median_ms} for cell in cells],
        }
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
