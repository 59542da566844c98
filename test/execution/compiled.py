"""Compiles modules, runs them by the runtime, and runs the same modules by the reference interpreter."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(os.environ.get("SETUN_BIN", ROOT / "build" / "bin"))

# Code sections of a package for `x86-64`.
TARGETS = ("x86-64", "x86-64-v2", "x86-64-v3", "x86-64-v3+avxvnni", "x86-64-v4", "x86-64-v4+avx512vnni")
# What of the features that kernel rows ask for comes with a level; each level has those before it, too.
LEVELS = {"x86-64-v2": set(), "x86-64-v3": {"avx2"}, "x86-64-v4": {"avx512f", "avx512bw", "avx512vl"}}

Arrays = dict[str, np.ndarray]


class ToolError(Exception):
    """A tool of the compiler ended with an error; the text is what it wrote."""


def tool(name: str, *arguments: str | Path) -> str:
    """Standard output of a tool of the build folder."""
    done = subprocess.run([BIN / name, *map(str, arguments)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ToolError(f"{name} ended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def kernel_rows(arch: str = "x86_64") -> list[tuple[str, frozenset[str]]]:
    """Name and features of each row of the kernel table for an architecture."""
    text = (ROOT / "lib" / "Target" / "Kernels.def").read_text()
    rows = re.findall(r'^SETUN_KERNEL\("(\w+)", "([^"]*)", "(\w*)"', text, re.MULTILINE)
    return [(name, frozenset(filter(None, features.split(",")))) for name, features, of in rows if of in ("", arch)]


def target_of(features: frozenset[str]) -> str:
    """The least target that has the features."""
    have: set[str] = set()
    target = ""
    for target, adds in LEVELS.items():
        have |= adds
        if features <= have:
            return target
    return "+".join([target, *sorted(features - have)])


def write_safetensors(path: Path, tensors: Mapping[str, np.ndarray]) -> Path:
    """uint16 arrays are bf16 patterns."""
    names = {"int8": "I8", "uint8": "U8", "float16": "F16", "uint16": "BF16", "float32": "F32"}
    header, offset = {}, 0
    for name, array in tensors.items():
        header[name] = {
            "dtype": names[array.dtype.name],
            "shape": list(array.shape),
            "data_offsets": [offset, offset + array.nbytes],
        }
        offset += array.nbytes
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for array in tensors.values():
            file.write(np.ascontiguousarray(array).tobytes())
    return path


class Source:
    """Text of a module under construction, and its weights."""

    def __init__(self) -> None:
        self.entries: dict[str, str] = {}
        self.weights: Arrays = {}

    def weight(self, name: str, array: np.ndarray, element: str = "f32") -> str:
        """Defines a weight; the line that makes it the value %name of an entry."""
        self.weights[name] = array
        shape = "x".join(map(str, array.shape))
        return f'%{name} = bitnet.weight "{name}" : tensor<{shape}x{element}>\n'

    def entry(
        self, name: str, inputs: Mapping[str, str], outputs: Mapping[str, str], body: str, flags: str = ""
    ) -> None:
        """Adds an entry.

        inputs, outputs: name to type; capitals are symbols, as in TxNxf32. A name with @ is a state, i64 the position.
        An output is the value of its name; `name=value` is another value's.
        """

        def typed(name: str, shape: str) -> str:
            name = name.split("=")[0]
            if shape == "i64":
                return "i64 {bitnet.position}"
            symbols = [f'"{axis}"' for axis in shape.split("x") if axis.isupper()]
            dims = f", bitnet.dims = [{', '.join(symbols)}]" if symbols else ""
            kind = "state" if name.startswith("@") else "name"
            return f'{tensor(shape)} {{bitnet.{kind} = "{name.removeprefix("@")}"{dims}}}'

        def value(name: str) -> str:
            return "%" + name.split("=")[-1].removeprefix("@")

        def tensor(shape: str) -> str:
            return "tensor<" + "x".join("?" if axis.isupper() else axis for axis in shape.split("x")) + ">"

        arguments = ", ".join(f"{value(name)}: {typed(name, shape)}" for name, shape in inputs.items())
        results = ", ".join(typed(name, shape) for name, shape in outputs.items())
        text = f"func.func @{name}({arguments}) -> ({results}) attributes {{bitnet.entry{flags}}} {{\n{body}"
        text += f"return {', '.join(map(value, outputs))} : {', '.join(map(tensor, outputs.values()))}\n}}\n"
        self.entries[name] = text

    def compiled(self, folder: Path, target: str, *flags: str, only: Collection[str] = ()) -> Compiled:
        """The package of these entries, or of all."""
        text = "".join(text for name, text in self.entries.items() if not only or name in only)
        return Compiled(folder, text, self.weights).compile(target, *flags)


class Compiled:
    """A module, its weights and, once compiled, its package."""

    def __init__(self, folder: Path, text: str, weights: Mapping[str, np.ndarray] | None = None) -> None:
        self.folder = folder
        self.module = folder / "module.mlir"
        self.module.write_text(text)
        self.package = folder / "module.setun"
        self.weights = ["--weights", write_safetensors(folder / "w.safetensors", weights)] if weights else []

    def compile(self, target: str = "x86-64", *flags: str) -> Compiled:
        tool("setun-compile", self.module, "-o", self.package, f"--target={target}", *self.weights, *flags)
        return self

    def session(self, target: str | None = None, threads: int = 1, context: int = 0):
        """A fresh session on one code section."""
        from setun import _setun

        return _setun.Session(_setun.Package(str(self.package), target), threads=threads, context=context)

    def targets(self) -> dict[str, bool]:
        """Code sections, and whether this CPU can run them."""
        from setun import _setun

        return {target["name"]: target["runnable"] for target in _setun.Package(str(self.package)).targets}

    def interpret(
        self,
        entry: str,
        inputs: Arrays,
        states: Arrays | None = None,
        position: int = 0,
        context: int = 0,
        pipeline: str = "",
    ) -> Arrays:
        """Outputs and new states of an entry, from the reference interpreter, after `pipeline` of setun-opt."""
        module = self.module
        if pipeline:
            module = self.folder / f"{pipeline}.mlir"
            tool("setun-opt", f"--{pipeline}", self.module, "-o", module)
        folder = self.folder / "reference"
        folder.mkdir(exist_ok=True)
        for old in folder.glob("*.npy"):
            old.unlink()
        flags: list[str | Path] = ["--entry", entry, "--output-dir", folder, "--position", str(position), *self.weights]
        if context:
            flags += ["--context", str(context)]
        for kind, arrays in (("--input", inputs), ("--state", states or {})):
            for name, array in arrays.items():
                path = self.folder / f"{name}.npy"
                np.save(path, array)
                flags += [kind, f"{name}={path}"]
        tool("setun-opt", "--interpret", module, *flags)
        return {path.stem: np.load(path) for path in folder.glob("*.npy")}


def differences(expected: Arrays, actual: Arrays) -> list[str]:
    """What is not equal bit for bit, of the tensors in `actual`; a NaN equals every NaN."""
    found = []
    for name, value in actual.items():
        want = expected[name]
        if want.shape != value.shape or want.dtype != value.dtype:
            found.append(f"{name}: {value.dtype}{list(value.shape)} in place of {want.dtype}{list(want.shape)}")
            continue
        bits = np.dtype(f"u{value.itemsize}")
        wrong = np.ascontiguousarray(want).view(bits) != np.ascontiguousarray(value).view(bits)
        if value.dtype.kind == "f":
            wrong &= ~(np.isnan(want) & np.isnan(value))
        if wrong.any():
            at = tuple(int(i) for i in np.argwhere(wrong)[0])
            found.append(f"{name}: {wrong.sum()} of {wrong.size} differ, first at {at}: {value[at]} for {want[at]}")
    return found
