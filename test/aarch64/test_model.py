"""benchmarks/arm_model.py: what it takes for an inner loop, what it counts, and that its figures add up."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from compiled import BIN, ROOT

SCRIPT = ROOT / "benchmarks" / "arm_model.py"
spec = importlib.util.spec_from_file_location("arm_model", SCRIPT)
arm_model = importlib.util.module_from_spec(spec)
sys.modules["arm_model"] = arm_model
spec.loader.exec_module(arm_model)

NESTED = """
f:
.LBB0_1:
  mov x3, xzr
.LBB0_2:
  sdot v0.4s, v1.16b, v2.16b
  smlal v3.8h, v4.8b, v5.8b // a comment
  add x3, x3, #1
  b.ne .LBB0_2
.LBB0_3:
  cbnz x4, .LBB0_3
  b.ne .LBB0_1
"""


def test_inner_loops_are_found():
    loops = list(arm_model.inner_loops(NESTED))
    assert [len(loop) for loop in loops] == [4, 1]
    assert arm_model.hottest(NESTED, 0) == loops[0]
    with pytest.raises(arm_model.Failure, match="no loop with products"):
        arm_model.hottest("f:\n  ret\n", 0)


@pytest.mark.parametrize(
    ("line", "count"),
    [
        ("sdot v0.4s, v1.16b, v2.4b[1]", 16),
        ("sdot z0.s, z1.b, z2.b", 32),
        ("usmmla v0.4s, v1.16b, v2.16b", 32),
        ("smlal2 v0.8h, v1.16b, v2.16b", 8),
        ("smull v0.8h, v1.8b, v2.8b", 8),
        ("smlal v0.4s, v1.4h, v2.4h", 0),
        ("and v0.16b, v1.16b, v2.16b", 0),
    ],
)
def test_products_are_counted(line: str, count: int):
    assert arm_model.products(line, 256) == count


def test_x18_is_left_to_the_system(tmp_path: Path):
    """Android and macOS own the register; the same code runs there."""
    if not (BIN / "setun-compile").exists():
        pytest.skip(f"the compiler is not built: no {BIN / 'setun-compile'}")
    text = arm_model.compiled("dotprod", frozenset({"neon", "dotprod"}), "r16k4f4", 64, tmp_path)
    used = set(re.findall(r"\b[wx](\d+)\b", text))
    assert {"17", "19", "28"} <= used, "the function is short of registers, or this shows nothing"
    assert "18" not in used


@pytest.fixture(scope="module")
def figures() -> dict:
    if not (BIN / "setun-compile").exists():
        pytest.skip(f"the compiler is not built: no {BIN / 'setun-compile'}")
    done = subprocess.run([sys.executable, SCRIPT, "--json"], capture_output=True, text=True, check=False)
    if "needs llvm-mca" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_every_row_has_figures(figures: dict):
    """Each row on each CPU that has its features."""
    rows = dict(arm_model.arm_rows())
    wanted = {(cpu.name, row) for cpu in arm_model.CPUS for row, needs in rows.items() if needs <= cpu.features}
    assert wanted == {(kernel["cpu"], kernel["row"]) for kernel in figures["kernels"]}
    for kernel in figures["kernels"]:
        for loop in (kernel["decode"], kernel["prefill"]):
            # No instruction does more than 64 products on vectors of 256 bits.
            assert 1 <= loop["vector"] < loop["instructions"]
            assert loop["cycles"] > 0


def test_the_other_method_is_as_published(figures: dict):
    """The loop that stands for it has the instructions that its projects' loops have."""
    published = figures["published_vector_instructions"]
    for loop in figures["shift_and_mask"].values():
        assert loop["vector"] == published["bitnet.cpp I2_S"]


def test_dot_products_need_fewer_instructions_than_other_engines(figures: dict):
    least = min(kernel["decode"]["vector"] for kernel in figures["kernels"] if kernel["row"] == "dotprod")
    assert least <= 0.75 * min(figures["published_vector_instructions"].values())


def test_predictions_are_the_lower_limit(figures: dict):
    for prediction in figures["predictions"]:
        assert prediction["bound"] == ("memory" if prediction["memory"] < prediction["cores"] else "cores")
    bounds = {(p["machine"], p["row"], p["layout"]): p["bound"] for p in figures["predictions"]}
    assert bounds["Raspberry Pi 5", "dotprod", "r16k4f4"] == "memory"
