"""run.py PACKAGE TARGET...: runs `forward` of two-layers.mlir by setun-run on each target's code and compares the bytes
with those of the layers written out in NumPy. A target that this CPU cannot run is passed over."""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np


def linear(x: np.ndarray, columns: int, rows: int) -> np.ndarray:
    """All weights +1, weight scale 0.5; x: f32 [T, columns] -> f32 [T, rows]."""
    one = np.float32(1)
    scale = (one / np.maximum(np.abs(x).max(axis=1, keepdims=True), np.float32(1e-5))) * np.float32(127)
    codes = np.clip(np.rint(x * scale), -128, 127)
    sums = codes.sum(axis=1, keepdims=True).astype(np.float32)
    y = sums * ((one / scale) * np.float32(0.5))
    return np.repeat(y, rows, axis=1).astype(np.float32)


def main() -> int:
    package, targets = sys.argv[1], sys.argv[2:]
    x = np.random.default_rng(1).normal(size=(7, 66)).astype(np.float32)
    expected = linear(linear(x, 66, 131), 131, 70)
    ran = 0
    for target in targets:
        with tempfile.TemporaryDirectory() as folder:
            np.save(Path(folder) / "x.npy", x)
            command = ["setun-run", package, "--entry", "forward", "--input", f"x={folder}/x.npy"]
            command += ["--output-dir", folder, "--target", target]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode and "CPU" in done.stderr:
                print(f"{target}: passed over: {done.stderr.strip()}")
                continue
            if done.returncode:
                print(done.stderr)
                return 1
            y = np.load(Path(folder) / "y.npy")
            if y.tobytes() != expected.tobytes():
                print(f"{target}: {np.abs(y - expected).max()} from {expected.flat[0]}")
                return 1
            ran += 1
            print(f"{target}: exact")
    return 0 if ran else 1


if __name__ == "__main__":
    sys.exit(main())
