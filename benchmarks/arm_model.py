#!/usr/bin/env python3
"""Predicts the speed of our kernels on ARM CPUs that are not at hand, from the code that the compiler emits.

For each kernel row and layout it compiles one 2560 x 2560 matrix product, finds the inner loop in the assembly, counts
its instructions, and asks llvm-mca for the cycles that LLVM's model of each CPU gives for it. From these and from the
bytes of a model it predicts decoding on whole machines: the lower of what memory and what the cores allow.

These are predictions. llvm-mca takes every load to hit the first-level cache and knows no prefetcher; its models of
Cortex-A76 and Apple M1 are those of older cores of the makers (Cortex-A57, Cyclone), which lack their width.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(os.environ.get("SETUN_BIN", ROOT / "build" / "bin"))

SIZE = 2560  # rows and columns of the matrix: the width of BitNet b1.58 2B4T
PREFILL_TOKENS = 64
BYTES_PER_64_WEIGHTS = {"r16k4f4": 16.0, "r16k4s4": 16.0, "r16k4t5": 12.8}


@dataclass(frozen=True)
class Cpu:
    """A CPU that llvm-mca has a model of. vector: bits of its SVE registers, 0 without SVE."""

    name: str
    features: frozenset[str]
    vector: int = 0


CPUS = (
    Cpu("cortex-a76", frozenset({"neon", "dotprod"})),
    Cpu("neoverse-n1", frozenset({"neon", "dotprod"})),
    Cpu("neoverse-v1", frozenset({"neon", "dotprod", "i8mm", "sve"}), 256),
    Cpu("apple-m1", frozenset({"neon", "dotprod"})),
)


@dataclass(frozen=True)
class Machine:
    """A whole machine. memory: peak of its memory in GB/s (published); ghz: clock of its large cores."""

    name: str
    cpu: str
    cores: int
    ghz: float
    memory: float


MACHINES = (
    Machine("Raspberry Pi 5", "cortex-a76", 4, 2.4, 17.1),
    Machine("AWS Graviton 3", "neoverse-v1", 64, 2.6, 307.2),
    Machine("Apple M2", "apple-m1", 4, 3.5, 102.4),
)

# BitNet b1.58 2B4T: weights of its ternary layers, and bytes of its head's int4 scan, read for each token.
TERNARY_WEIGHTS = 2_084_044_800
HEAD_BYTES = 174_000_000

# Inner loops of other engines as published, in vector instructions other than loads per 64 weights of one token.
PUBLISHED = (
    ("bitnet.cpp I2_S", "3 shifts, 3 ands, 4 sdot", 10.0),
    ("llama.cpp TQ2_0", "3 shifts, 4 ands, 4 sdot, and a scale every 256 weights", 11.0),
)
# The method of both, written for llvm-mca: one row of weights, four accumulators.
SHIFT_AND_MASK = """
.Lloop:
  ldr q0, [x0], #16
  ldp q4, q5, [x1], #64
  ldp q6, q7, [x1, #-32]
  ushr v1.16b, v0.16b, #2
  ushr v2.16b, v0.16b, #4
  ushr v3.16b, v0.16b, #6
  and v0.16b, v0.16b, v31.16b
  and v1.16b, v1.16b, v31.16b
  and v2.16b, v2.16b, v31.16b
  sdot v16.4s, v0.16b, v4.16b
  sdot v17.4s, v1.16b, v5.16b
  sdot v18.4s, v2.16b, v6.16b
  sdot v19.4s, v3.16b, v7.16b
  subs x2, x2, #1
  b.ne .Lloop
"""


class Failure(Exception):
    """Something that the model needs is missing or failed; the text says what."""


def run(command: Sequence[str | Path], text: str = "") -> str:
    words = [str(word) for word in command]
    done = subprocess.run(words, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failure(f"{words[0]} ended with {done.returncode}: {done.stderr.strip()[-500:]}")
    return done.stdout


# ----------------------------------------------------------------------------------------------------------------------
# Inner loops
# ----------------------------------------------------------------------------------------------------------------------


def products(line: str, vector: int) -> int:
    """Multiply-adds of bytes (or of their widened forms) that an instruction does. vector: bits of an SVE register."""
    wide = vector if re.search(r"\bz\d", line) else 128
    name = line.split(None, 1)[0]
    if name in ("sdot", "udot", "usdot", "sudot"):
        return wide // 8
    if name in ("smmla", "ummla", "usmmla"):
        return wide // 4
    if re.match(r"[su]ml[as]l2?$|[su]mull2?$", name) and ".8h" in line.split(",")[0]:
        return 8
    if name in ("mla", "mul") and ".8h" in line.split(",")[0]:
        return 8
    return 0


def inner_loops(assembly: str) -> Iterator[list[str]]:
    """Instructions of each loop without a loop inside, its branch back included."""
    lines: list[str] = []
    labels: dict[str, int] = {}
    loops: list[tuple[int, int]] = []
    for raw in assembly.splitlines():
        line = raw.split("//")[0].strip()
        if label := re.match(r"(\.L\w+):$", line):
            labels[label[1]] = len(lines)
        elif line and not line.startswith((".", "#")) and not line.endswith(":"):
            lines.append(line)
            target = re.search(r"(\.L\w+)$", line)
            if target and re.match(r"(b|cb|tb)", line) and target[1] in labels:
                loops.append((labels[target[1]], len(lines)))
    for begin, end in loops:
        if not any((begin, end) != other and begin <= other[0] and other[1] <= end for other in loops):
            yield lines[begin:end]


def hottest(assembly: str, vector: int) -> list[str]:
    """The inner loop with most products a turn; the product of a matrix spends its time there."""
    loops = [(sum(products(line, vector) for line in loop), loop) for loop in inner_loops(assembly)]
    most, loop = max(loops, key=lambda item: item[0], default=(0, []))
    if not most:
        raise Failure("no loop with products in the assembly")
    return loop


def is_vector(line: str) -> bool:
    """Computes on vectors: neither a load, a store, nor work on addresses."""
    return bool(re.search(r"\b[vqz]\d", line)) and not re.match(r"(ld|st|prfm)", line)


@dataclass
class Loop:
    """Figures of an inner loop for 64 products: 64 weights of one token."""

    instructions: float
    vector: float
    cycles: float


def measure(cpu: Cpu, loop: Sequence[str]) -> Loop:
    macs = sum(products(line, cpu.vector) for line in loop)
    label = ".Lloop"
    body = [re.sub(r"\.L\w+$", label, line) for line in loop]
    features = ",".join(f"+{feature}" for feature in sorted(cpu.features))
    turns = 200
    command = [mca(), "-mtriple=aarch64", f"-mcpu={cpu.name}", f"-mattr={features}", "-json", f"-iterations={turns}"]
    summary = json.loads(run(command, f"{label}:\n" + "\n".join(body) + "\n"))["CodeRegions"][0]["SummaryView"]
    scale = 64 / macs
    return Loop(len(loop) * scale, sum(map(is_vector, loop)) * scale, summary["TotalCycles"] / turns * scale)


def mca() -> str:
    found = shutil.which("llvm-mca-22") or shutil.which("llvm-mca")
    if not found:
        raise Failure("needs llvm-mca of LLVM 22 (package llvm-22)")
    return found


# ----------------------------------------------------------------------------------------------------------------------
# Our kernels
# ----------------------------------------------------------------------------------------------------------------------


def arm_rows() -> list[tuple[str, frozenset[str]]]:
    """Name and features of the kernel rows that an ARM CPU with vectors can run, from the kernel table."""
    text = (ROOT / "lib" / "Target" / "Kernels.def").read_text()
    rows = re.findall(r'^SETUN_KERNEL\("(\w+)", "([^"]*)", "aarch64"', text, re.MULTILINE)
    return [(name, frozenset(filter(None, features.split(",")))) for name, features in rows]


def module(tokens: int) -> str:
    return f"""
func.func @forward(%x: tensor<{tokens}x{SIZE}xi8> {{bitnet.name = "x"}},
    %sums: tensor<{tokens}xi32> {{bitnet.name = "sums"}})
    -> (tensor<{tokens}x{SIZE}xi32> {{bitnet.name = "acc"}}) attributes {{bitnet.entry}} {{
  %w = arith.constant dense<1> : tensor<{SIZE}x{SIZE}xi2>
  %acc = bitnet.matmul %x, %w sums(%sums)
    : (tensor<{tokens}x{SIZE}xi8>, tensor<{SIZE}x{SIZE}xi2>, tensor<{tokens}xi32>) -> tensor<{tokens}x{SIZE}xi32>
  return %acc : tensor<{tokens}x{SIZE}xi32>
}}
"""


def compiled(row: str, features: frozenset[str], layout: str, tokens: int, folder: Path) -> str:
    """Assembly of the product of `tokens` rows of codes with the matrix."""
    source, output = folder / "matmul.mlir", folder / "matmul.s"
    source.write_text(module(tokens))
    target = "+".join(["aarch64", *sorted(features)])  # without a feature the name stands for a set
    command = [BIN / "setun-compile", source, "-o", output, "--emit=asm", f"--target={target}"]
    run([*command, f"--force-kernel={row}", f"--format={layout}"])
    return output.read_text()


@dataclass
class Kernel:
    """A row on a CPU: its loops for one token (decode) and for many (prefill)."""

    cpu: str
    row: str
    layout: str
    decode: Loop
    prefill: Loop


def kernels() -> list[Kernel]:
    if not (BIN / "setun-compile").exists():
        raise Failure(f"needs the compiler: no {BIN / 'setun-compile'} (SETUN_BIN names another folder)")
    found: list[Kernel] = []
    with tempfile.TemporaryDirectory() as folder:
        for row, features in arm_rows():
            cpus = [cpu for cpu in CPUS if features <= cpu.features]
            for layout in BYTES_PER_64_WEIGHTS if cpus else ():
                texts = [compiled(row, features, layout, tokens, Path(folder)) for tokens in (1, PREFILL_TOKENS)]
                for cpu in cpus:
                    decode, prefill = (measure(cpu, hottest(text, cpu.vector)) for text in texts)
                    found.append(Kernel(cpu.name, row, layout, decode, prefill))
    return found


# ----------------------------------------------------------------------------------------------------------------------
# Machines
# ----------------------------------------------------------------------------------------------------------------------


@dataclass
class Prediction:
    """Decoding of 2B4T by one kernel on a machine, tokens/s; the lower limit holds."""

    machine: str
    row: str
    layout: str
    memory: float
    cores: float

    @property
    def bound(self) -> str:
        return "memory" if self.memory < self.cores else "cores"


def predictions(found: Sequence[Kernel], sustained: float) -> list[Prediction]:
    """sustained: part of the memory's peak that reading reaches."""
    result = []
    for machine in MACHINES:
        for kernel in found:
            if kernel.cpu != machine.cpu:
                continue
            bytes_per_token = TERNARY_WEIGHTS / 64 * BYTES_PER_64_WEIGHTS[kernel.layout] + HEAD_BYTES
            cycles_per_token = TERNARY_WEIGHTS / 64 * kernel.decode.cycles
            memory = machine.memory * 1e9 * sustained / bytes_per_token
            cores = machine.cores * machine.ghz * 1e9 / cycles_per_token
            result.append(Prediction(machine.name, kernel.row, kernel.layout, memory, cores))
    return result


# ----------------------------------------------------------------------------------------------------------------------
# Output
# ----------------------------------------------------------------------------------------------------------------------


def table(head: Sequence[str], rows: Sequence[Sequence[str | float]]) -> str:
    lines = [[cell if isinstance(cell, str) else f"{cell:.2f}" for cell in row] for row in [head, *rows]]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    padded = [[cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines]
    return "\n".join("  ".join(line).rstrip() for line in padded)


def report(found: Sequence[Kernel], others: dict[str, Loop], predicted: Sequence[Prediction], sustained: float) -> str:
    head = ("CPU", "row", "layout", "instructions", "vector", "cycles", "vector, prefill", "cycles, prefill")
    rows: list[tuple[str | float, ...]] = []
    for kernel in found:
        decode, prefill = kernel.decode, kernel.prefill
        figures = (decode.instructions, decode.vector, decode.cycles, prefill.vector, prefill.cycles)
        rows.append((kernel.cpu, kernel.row, kernel.layout, *figures))
    for cpu, loop in others.items():
        rows.append((cpu, "shift and mask", "I2_S, TQ2_0", loop.instructions, loop.vector, loop.cycles, "", ""))
    parts = ["For 64 weights of one token (decode), and for 64 products where many tokens share weights (prefill):", ""]
    parts += [table(head, rows), "", "Published, vector instructions for 64 weights:"]
    parts += [f"  {name}: {count:g} ({what})" for name, what, count in PUBLISHED]
    parts += ["", f"Decoding BitNet b1.58 2B4T, tokens/s; memory at {sustained:.0%} of its peak, all large cores:", ""]
    rows = [(p.machine, p.row, p.layout, p.memory, p.cores, min(p.memory, p.cores), p.bound) for p in predicted]
    return "\n".join([*parts, table(("machine", "row", "layout", "memory", "cores", "predicted", "bound by"), rows)])


def plot(found: Sequence[Kernel], others: dict[str, Loop], path: Path) -> None:
    """Bars of cycles for 64 weights in decode, a panel for each CPU; the light bar is the method of other engines."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(CPUS), figsize=(3.2 * len(CPUS), 3.6), squeeze=False)
    for axis, cpu in zip(axes[0], CPUS, strict=True):
        bars = [(f"{k.row} {k.layout}", k.decode.cycles) for k in found if k.cpu == cpu.name]
        bars.append(("shift and mask", others[cpu.name].cycles))
        names, cycles = zip(*bars, strict=True)
        axis.barh(names, cycles, color=["#1f5f8b"] * (len(bars) - 1) + ["#b8c4ce"])
        axis.invert_yaxis()
        axis.set_title(cpu.name, fontsize=9)
        axis.tick_params(labelsize=7)
        axis.set_xlabel("cycles for 64 weights (shorter is faster)", fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    plt.close(figure)


def fraction(text: str) -> float:
    value = float(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"expects a number above 0 and at most 1, got {text}")
    return value


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], epilog=__doc__.split("\n\n", 1)[1])
    parser.add_argument("--json", action="store_true", help="print all figures as JSON")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="draw the cycles of every row on every CPU")
    parser.add_argument(
        "--sustained",
        type=fraction,
        default=0.75,
        metavar="PART",
        help="part of the memory's peak that reading reaches (default: 0.75, as measured on x86-64 machines)",
    )
    arguments = parser.parse_args()
    try:
        found = kernels()
        others = {cpu.name: measure(cpu, hottest(SHIFT_AND_MASK, cpu.vector)) for cpu in CPUS}
        predicted = predictions(found, arguments.sustained)
        if arguments.plot:
            plot(found, others, arguments.plot)
    except Failure as failure:
        print(f"arm_model: {failure}", file=sys.stderr)
        return 1
    if arguments.json:
        data = {
            "kernels": [asdict(kernel) for kernel in found],
            "shift_and_mask": {cpu: asdict(loop) for cpu, loop in others.items()},
            "published_vector_instructions": {name: count for name, _, count in PUBLISHED},
            "predictions": [asdict(p) | {"bound": p.bound} for p in predicted],
        }
        print(json.dumps(data, indent=2))
    else:
        print(report(found, others, predicted, arguments.sustained))
    return 0


if __name__ == "__main__":
    sys.exit(main())
