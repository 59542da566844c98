"""The kernel matrix of 64-bit ARM, under emulation: every row on every packed layout, compared with exact products.

The emulator's best CPU runs every row on most shapes, CPUs that are sold run what is theirs on a few. With
SETUN_TEST_WHOLE=1 in the environment, each runs the whole matrix of test/kernels/test_matrix.py, which takes long.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from compiled import Compiled, Source, differences, kernel_rows, tool
from emulator import Machine, emulated_cpus

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "kernels"))

import test_matrix as whole  # noqa: E402
from test_layers import EMULATED_FORMS, FORMS, inputs  # noqa: E402  (by the path above)
from test_matrix import KINDS, Matrix, entry_name, run_all  # noqa: E402

ROWS = [name for name, _ in kernel_rows("aarch64")]
# Levels with the features of each row.
TARGETS = {
    "neon": "aarch64+neon",  # without a feature the name stands for a set
    "generic": "aarch64+neon",
    "dotprod": "aarch64-dotprod",
    "sve": "aarch64+sve",
    "i8mm": "aarch64-i8mm",
    "sme": "aarch64+dotprod+i8mm+sme",
}
# Ends of panels, steps of K odd and even, more than 16 bits hold, several pieces of a panel on stage.
SHAPES = ((1, 4), (3, 5), (31, 516), (33, 33), (16, 4096), (150, 132))
TOKENS, SPLIT = (1, 2, 3, 7, 8, 15, 16, 17, 33, 128), (1, 9, 33)
FEW_SHAPES = ((3, 5), (150, 132))
if os.environ.get("SETUN_TEST_WHOLE"):
    SHAPES = FEW_SHAPES = whole.SHAPES
    TOKENS, SPLIT = whole.TOKENS, whole.SPLIT
# CPU for the emulator: the rows that it would choose.
CPUS = {
    "cortex-a53": ("neon",),
    "cortex-a76": ("dotprod",),
    "neoverse-v1": ("i8mm", "sve"),
    # Lengths of vectors: a quarter of a step, half, three quarters, all of it. The best CPU's are longer.
    **{f"max,{length}=on": ("sve",) for length in ("sve128", "sve256", "sve384", "sve512")},
    # Tiles of 4 x 4 to 64 x 64 sums; the best CPU's are 8 x 8.
    **{f"max,{length}=on": ("sme",) for length in ("sme128", "sme512", "sme1024", "sme2048")},
}
CASES = [("max", row, kind) for row in ROWS for kind in KINDS]
CASES += [(cpu, row, kind) for cpu, rows in CPUS.items() for row in rows for kind in ("ternary", "binary")]

# Linear layers, and the section that each CPU takes of a package with several.
LAYERS = tuple(name for name in EMULATED_FORMS if name.startswith("ternary"))
LAYER_CPUS = {"cortex-a53": "aarch64", "cortex-a76": "aarch64-dotprod", "neoverse-v1": "aarch64-i8mm"}


def start(machine: Callable[[str], Machine], cpu: str) -> Machine:
    """The emulated CPU, by the fixture; skips the test where the emulator is too old for it."""
    if cpu.split(",")[0] not in emulated_cpus():
        pytest.skip(f"this emulator has no {cpu}; scripts/setup gets a newer one where it can")
    return machine(cpu)


@pytest.mark.parametrize(("cpu", "row", "kind"), CASES)
def test_accumulators_are_exact(machine: Callable[[str], Machine], cpu: str, row: str, kind: str, tmp_path: Path):
    # Chains of remainders for single products take long to compile.
    few = cpu != "max" or (kind == "base3" and row in ("neon", "generic"))
    matrix = Matrix(kind, tmp_path, FEW_SHAPES if few else SHAPES)
    flags = [f"--force-kernel={row}", f"--format={matrix.format}", "--no-self-test"]
    matrix.module.compile(TARGETS[row], *flags)
    for threads, tokens in ((1, TOKENS), (2, SPLIT)):
        session = start(machine, cpu).session(matrix.module.package, threads=threads)
        for fill in ("random", "plus", "minus"):
            runs, wrong = run_all(session, matrix, fill, tokens)
            assert runs == len(tokens) * len(matrix.shapes)
            assert not wrong, f"{fill}: {len(wrong)} of {runs} runs are wrong: {', '.join(wrong[:8])}"
        session.close()
    assert {kernel["kernel"] for layer in session.package["layers"] for kernel in layer["kernels"]} == {row}


@pytest.mark.parametrize("length", ["sme128", "sme512"])
def test_callers_tiles_are_saved(machine: Callable[[str], Machine], length: str, tmp_path: Path):
    """Outer products save tiles that a caller left to be saved, a single token leaves them alone."""
    matrix = Matrix("ternary", tmp_path, FEW_SHAPES)
    matrix.module.compile(TARGETS["sme"], "--force-kernel=sme", f"--format={matrix.format}", "--no-self-test")
    session = start(machine, f"max,{length}=on").session(matrix.module.package)
    n, k = FEW_SHAPES[-1]
    for tokens in (1, 33):
        x = matrix.codes[k]["random"][:tokens]
        saves = session.saves_tiles(entry_name(n, k, "random"), {"x": x, "sums": x.sum(axis=1, dtype=np.int32)})
        assert saves == (tokens > 1)
    session.close()


def test_every_row_has_a_target():
    assert set(TARGETS) == set(ROWS)


def assembly(folder: Path, target: str, staged: int, tokens: int, row: str, layout: str) -> str:
    """Assembly of a product by a 64 x 256 matrix with a given kernel."""
    source = Source()
    types = "(tensor<?x256xi8>, tensor<64x256xi2>, tensor<?xi32>) -> tensor<?x64xi32>"
    weights = np.random.default_rng(1).integers(-1, 2, (64, 256)).astype(np.int8)
    body = source.weight("w", weights, "i2") + f"%acc = bitnet.matmul %x, %w sums(%sums) : {types}\n"
    source.entry("main", {"x": "Tx256xi8", "sums": "Txi32"}, {"acc": "Tx64xi32"}, body)
    made = Compiled(folder, source.entries["main"], source.weights)
    kernel = {"rows": 64, "cols": 256, "row": row, "format": layout, "tokens": tokens, "staged": staged}
    (folder / "kernels.json").write_text(json.dumps([kernel]))
    flags = ["--emit=asm", "--no-self-test", f"--kernels={folder / 'kernels.json'}", f"--target={target}"]
    return tool("setun-compile", made.module, "-o", "-", *flags, *made.weights)


def loops(text: str) -> list[list[str]]:
    """Instructions of the innermost loops, which end in a branch to their own label."""
    found, body, label = [], [], ""
    for line in map(str.strip, text.splitlines()):
        if start := re.match(r"(\.L\w+):", line):
            label, body = start[1], []
        elif line and not line.startswith((".", "//")):
            body.append(line)
            if re.match(rf"(b\.\w+|cbn?z|tbn?z)\b.*{re.escape(label)}$", line) and label:
                found.append(list(body))
    return found


def count(body: list[str], names: str) -> int:
    return sum(bool(re.match(rf"({names})\b", line)) for line in body)


VECTORS = "and|orr|eor|bic|add|sub|ushr|shl|mul|movi|mov|dup|zip[12]|uzp[12]|trn[12]|ext|u?s?dot|u?smmla|smlal2?"


def vector_instructions(body: list[str]) -> int:
    """Instructions on vector registers that are neither loads nor stores."""
    return count([line for line in body if re.search(r"\bv\d+\.", line)], VECTORS)


@pytest.mark.parametrize(("row", "target"), [("dotprod", "aarch64-dotprod"), ("i8mm", "aarch64-i8mm")])
@pytest.mark.parametrize(("layout", "most"), [("r16k4s4", 7.5), ("r16k4f4", 8)])
def test_instructions_of_decode(row: str, target: str, layout: str, most: float, tmp_path: Path):
    """One token: at most 7.5 vector instructions for 64 weights, 16 dots of which each has 16 products.

    A token that is alone has a loop of its own, one that a tile of several leaves over another.
    """
    bodies = loops(assembly(tmp_path, target, 0, 6, row, layout))
    alone = [body for body in bodies if count(body, "ldp") and count(body, "u?sdot") == 16]
    assert len(alone) == 2
    for body in alone:
        per64 = vector_instructions(body) / (count(body, "u?sdot") * 16 / 64)
        assert 4 < per64 <= most


def test_products_per_instruction_of_prefill(tmp_path: Path):
    """Many tokens: smmla does at least 1.8 times the products of an instruction of sdot, unpacked once both."""

    def products(row: str, target: str, dots: str, each: int) -> float:
        folder = tmp_path / row
        folder.mkdir()
        tokens = 4 if row == "i8mm" else 6  # as the cost model has them
        body = max(loops(assembly(folder, target, 16, tokens, row, "r16k4s4")), key=lambda body: count(body, dots))
        assert count(body, dots) >= 12
        return count(body, dots) * each / vector_instructions(body)

    assert products("i8mm", "aarch64-i8mm", "u?smmla", 32) >= 1.8 * products("dotprod", "aarch64-dotprod", "sdot", 16)


@pytest.mark.parametrize(("layout", "name"), [("r16k4s4", "smopa"), ("r16k4f4", "sumopa"), ("r16k4t5", "sumopa")])
def test_outer_products_of_prefill(layout: str, name: str, tmp_path: Path):
    """Many tokens: four vectors of operands make four outer products. Fewer use matrix dots in the same function."""
    text = assembly(tmp_path, "aarch64-sme2", 16, 4, "sme", layout)
    (body,) = [body for body in loops(text) if count(body, "su?mopa|usmopa|umopa")]
    assert count(body, name) == count(body, "ld1b") == 4
    assert sum(bool(re.search(r"\b[vz]\d+\.", line)) for line in body) == 8
    assert re.search(r"\tu?smmla\tv", text)
    # Without libraries: nobody is called but by what is here.
    called = set(re.findall(r"\tbl\t(\S+)", text))
    assert called <= set(re.findall(r"^(\w+):", text, re.MULTILINE))


@pytest.fixture(scope="module")
def layers(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    """Linear layers of all sorts for this machine and for ARM, in one package over the same weights."""
    targets = ",".join(["host", *LAYER_CPUS.values()])
    return FORMS.source.compiled(tmp_path_factory.mktemp("layers"), targets, only=LAYERS)


@pytest.mark.parametrize(("cpu", "target"), LAYER_CPUS.items())
def test_layers_have_the_bits_of_this_machine(
    machine: Callable[[str], Machine], cpu: str, target: str, layers: Compiled
):
    """Scales, groups, norms, epilogues: products and sums are rounded as on x86-64, where the interpreter agrees."""
    emulated, here, wrong = start(machine, cpu).session(layers.package, threads=2), layers.session(), []
    assert emulated.target == target
    for name in LAYERS:
        for tokens in (1, 7, 21):
            x = inputs(name, tokens, FORMS.columns[name])
            found = differences(here.run(name, x), emulated.run(name, x))
            wrong += [f"{name} of {tokens} tokens: {text}" for text in found]
    emulated.close()
    assert not wrong, f"{len(wrong)} results differ:\n" + "\n".join(wrong[:20])
