"""The wheel: built from the programs that are built already, installed elsewhere, and used there."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

PROGRAM = """
import sys
from pathlib import Path
import numpy as np
import setun
from setun import cli, compiler
where = Path(setun.__file__).resolve()
assert where.is_relative_to(Path(sys.argv[1]).resolve()), where
assert compiler.find_tool("setun-compile").resolve().is_relative_to(Path(sys.argv[1]).resolve())
import torch
from setun import nn as setun_nn
torch.manual_seed(0)
module = torch.nn.Sequential(setun_nn.BitLinear(12, 8), setun_nn.BitLinear(8, 4)).eval()
x = torch.randn(3, 12)
compiled = setun.compile(module, x)
assert np.allclose(compiled(x), module(x).detach(), atol=1e-5)
compiled.save("m.setun")
assert np.array_equal(setun.load("m.setun")(x.numpy()), compiled(x).numpy())
with torch.no_grad():
    assert torch.allclose(torch.compile(module, backend="setun")(x), module(x), atol=1e-5)
"""


def run(command: list[str | Path], folder: Path, **environment: str) -> str:
    """Runs a command without what points into the source tree."""
    inherited = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "SETUN_BIN", "TORCHDYNAMO_DISABLE")}
    done = subprocess.run(
        list(map(str, command)), cwd=folder, env=inherited | environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_wheel_works_outside_the_source_tree(root: Path, tmp_path: Path) -> None:
    if not (root / "build" / "bin" / "setun-compile").exists():
        pytest.skip("nothing is built")
    wheels, venv = tmp_path / "wheels", tmp_path / "venv"
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    options = [f"--config-settings=cmake.define.SETUN_PREBUILT={root / 'build'}"]
    options += [f"--config-settings=build-dir={tmp_path / 'cmake'}", "--no-build-isolation", "--no-deps"]
    run([*pip, "wheel", *options, "--wheel-dir", wheels, root], tmp_path)
    (wheel,) = wheels.glob("setun-*.whl")
    run([sys.executable, "-m", "venv", "--without-pip", venv], tmp_path)
    python = venv / "bin" / "python"
    run([*pip, "--python", python, "install", "--no-deps", wheel], tmp_path)
    (installed,) = venv.glob("lib/python*/site-packages")
    names = {path.relative_to(installed).as_posix() for path in installed.rglob("*") if path.is_file()}
    assert {"setun/py.typed", "setun/_setun.pyi"} <= names
    assert sum(name.endswith(".so") for name in names) == 2
    # The module that runs packages needs nothing of the compiler.
    (runtime,) = installed.glob("setun/_setun*.so")
    assert b"libMLIR" not in runtime.read_bytes()
    # Other packages are those of this environment; its .pth files, one of which finds the source tree, are not read.
    (installed / "others.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
    work = tmp_path / "work"
    work.mkdir()
    run([python, "-c", PROGRAM, installed], work)
    for program in ("setun", "setun-compile", "setun-run"):
        assert run([venv / "bin" / program, "--version"], work).startswith(f"{program} ")
    assert "--setun-cpu-pipeline" in run([venv / "bin" / "setun-opt", "--help"], work)
