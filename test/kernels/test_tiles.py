"""The instructions of AMX, executed: code for CPUs with tiles runs as it was emitted, and what this CPU does not know
is done by tiles.c when it traps. Configurations and shapes are checked as the instructions would check them.

Run as a program: test_tiles.py PACKAGE TARGET THREADS LIBRARY INPUTS.npz OUTPUTS.npz runs every entry on every input.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).resolve().parent
TARGET = "x86-64-v4+amx-int8+avx512vbmi+avx512vnni"
TOKENS = (15, 16, 17, 33, 128, 130)
SHAPES = ((1, 4), (31, 516), (33, 33), (33, 64), (33, 4096), (150, 132))


def run(package: str, target: str, threads: str, library: str, inputs: str, outputs: str) -> None:
    from setun import _setun

    features = {*_setun.cpu_features(), "amx-tile", "amx-int8"}
    opened = _setun.Package(package, target, cpu_features=",".join(sorted(features)))
    session = _setun.Session(opened, threads=int(threads))
    results = {}
    with np.load(inputs) as arrays:
        for name in arrays.files:
            x = arrays[name]
            entry = name.rsplit("_", 1)[0]
            results[name] = session.run(entry, {"x": x, "sums": x.sum(axis=1, dtype=np.int32)})["acc"]
    count = ctypes.CDLL(library).tiles_executed
    count.restype = ctypes.c_ulong
    np.savez(outputs, executed=np.uint64(count()), **results)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from setun import _setun

    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("there is no C compiler")
    features = set(_setun.cpu_features())
    if missing := {"avx512f", "avx512bw", "avx512vl", "avx512vbmi", "avx512vnni"} - features:
        pytest.skip(f"this CPU has no {', '.join(sorted(missing))}")
    if "amx-int8" in features:
        pytest.skip("this CPU has tiles, and the kernel matrix uses them")
    path = tmp_path_factory.mktemp("tiles") / "tiles.so"
    subprocess.run([compiler, "-O2", "-Wall", "-shared", "-fPIC", "-o", path, HERE / "tiles.c"], check=True)
    return path


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("kind", ["ternary", "base3", "binary"])
def test_tiles(kind: str, threads: int, library: Path, tmp_path: Path):
    sys.path.insert(0, str(HERE))
    from test_matrix import Matrix, entry_name

    matrix = Matrix(kind, tmp_path, SHAPES)
    # With self-tests, which pass through the tiles as well.
    matrix.module.compile(TARGET, "--force-kernel=amxint8", f"--format={matrix.format}")
    cases = {
        f"{entry_name(n, k, fill)}_{m}": (n, k, fill, m)
        for n, k in SHAPES
        for fill in ("random", "plus", "minus")
        for m in TOKENS
        if fill == "random" or m == 33
    }
    codes = {name: np.resize(matrix.codes[k][fill], (m, k)) for name, (_, k, fill, m) in cases.items()}
    np.savez(tmp_path / "inputs.npz", **codes)
    command = [sys.executable, __file__, matrix.module.package, TARGET, str(threads), library]
    command += [tmp_path / "inputs.npz", tmp_path / "outputs.npz"]
    environment = {**os.environ, "LD_PRELOAD": str(library), "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "outputs.npz") as results:
        assert results["executed"] > 1000
        wrong = [
            name
            for name, (n, k, fill, m) in cases.items()
            if not np.array_equal(results[name], np.resize(matrix.expected(n, k, fill), (m, n)))
        ]
    assert not wrong, f"{len(wrong)} of {len(cases)} are wrong: {', '.join(wrong[:8])}"


if __name__ == "__main__":
    run(*sys.argv[1:])
