"""Runs packages on 64-bit ARM CPUs that are not at hand: a cross-build of the runtime under qemu-user.

The runtime and its test server are built into build/aarch64 when a test first asks for them. One emulator process with
one server serves all runs of a test module on one CPU (starting it takes longer than most runs).
"""

from __future__ import annotations

import fcntl
import functools
import json
import os
import shutil
import struct
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "aarch64"
SYSROOT = Path("/usr/aarch64-linux-gnu")
COMPILER = "aarch64-linux-gnu-g++"
PROGRAMS = ("setun-run", "setun-bench", "setun-test-server", "setun-test-package", "setun-runtime-tests", "embed")
# In the order of setun_dtype; uint16 stands for bf16, which NumPy does not have.
DTYPES = ("bool", "int8", "uint8", "int16", "int32", "int64", "float16", "uint16", "float32", "float64")

Arrays = dict[str, np.ndarray]


class RemoteError(Exception):
    """The runtime under the emulator refused something; the text is its message."""


def cache_folder() -> Path:
    """Where scripts/setup keeps an emulator newer than the system's."""
    if folder := os.environ.get("SETUN_CACHE"):
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "setun"


@functools.cache
def find_emulator() -> Path | None:
    """qemu-aarch64: SETUN_QEMU, the one that scripts/setup keeps (which knows SME2), or the system's."""
    for candidate in (os.environ.get("SETUN_QEMU"), cache_folder() / "qemu" / "qemu-aarch64"):
        if candidate and os.access(candidate, os.X_OK):
            return Path(candidate)
    found = shutil.which("qemu-aarch64") or shutil.which("qemu-aarch64-static")
    return Path(found) if found else None


@functools.cache
def emulated_cpus() -> set[str]:
    """CPUs that the emulator knows."""
    done = subprocess.run([str(find_emulator()), "-cpu", "help"], capture_output=True, text=True, check=False)
    return set(done.stdout.split())


def missing() -> str | None:
    """Why nothing can be run on an emulated CPU here, or None."""
    if not shutil.which(COMPILER):
        return f"no ARM cross compiler ({COMPILER}); scripts/setup installs it"
    if not find_emulator():
        return "no emulator (qemu-aarch64 of qemu-user); scripts/setup installs it"
    return None


def run_checked(*command: str | Path) -> None:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{command[0]} ended with {done.returncode}:\n{done.stdout}{done.stderr}")


@functools.cache
def build() -> Path:
    """The folder with PROGRAMS of the cross-build, up to date."""
    BUILD.parent.mkdir(exist_ok=True)
    # Tests run in several processes.
    with open(BUILD.parent / "aarch64.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (BUILD / "build.ninja").exists():
            options = {
                "CMAKE_TOOLCHAIN_FILE": ROOT / "runtime" / "cmake" / "aarch64-linux-gnu.cmake",
                "CMAKE_BUILD_TYPE": "Release",
                "SETUN_BUILD_COMPILER": "OFF",
                "SETUN_BUILD_PYTHON": "OFF",
                "SETUN_STATIC_TOOLS": "ON",
            }
            definitions = [f"-D{name}={value}" for name, value in options.items()]
            run_checked("cmake", "-S", ROOT, "-B", BUILD, "-G", "Ninja", *definitions)
        run_checked("cmake", "--build", BUILD, "--target", *PROGRAMS)
    return BUILD / "bin"


def emulate(cpu: str, *command: str | Path, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    """Runs a program of the cross-build; shared libraries are the cross compiler's."""
    words = [find_emulator(), "-L", SYSROOT, "-cpu", cpu, *command]
    return subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False, timeout=timeout)


class Machine:
    """An emulated CPU with the runtime's test server. cpu: as for qemu's -cpu, as in max,sve128=on."""

    def __init__(self, cpu: str) -> None:
        self.cpu = cpu
        command = [find_emulator(), "-cpu", cpu, build() / "setun-test-server"]
        self.process = subprocess.Popen([str(word) for word in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def close(self) -> None:
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(timeout=60)

    def features(self) -> set[str]:
        """Features of the CPU as the runtime sees them."""
        return set(read_text(self.ask(b"f")).split(","))

    def session(self, package: Path, target: str | None = None, threads: int = 1, context: int = 0) -> Session:
        """A fresh session on one code section, by default the best that the CPU can run."""
        answer = self.ask(b"o" + text(str(package)) + text(target or "") + struct.pack("<Iq", threads, context))
        (number,) = read_numbers(answer, "<I")
        return Session(self, number, json.loads(read_text(answer)))

    def ask(self, request: bytes) -> BinaryIO:
        """Sends a request; the stream holds the answer."""
        try:
            self.process.stdin.write(request)
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # the answer is missing, too
        (status,) = read_numbers(self.process.stdout, "<B")
        if status:
            raise RemoteError(read_text(self.process.stdout))
        return self.process.stdout


class Session:
    """What a session of the Python module does, on an emulated CPU."""

    def __init__(self, machine: Machine, number: int, package: dict) -> None:
        self.machine, self.number, self.package = machine, number, package
        self.inputs = {entry["name"]: [tensor["name"] for tensor in entry["inputs"]] for entry in package["entries"]}

    def run(self, entry: str, inputs: Mapping[str, np.ndarray]) -> Arrays:
        answer = self.ask(b"r", entry, inputs)
        (count,) = read_numbers(answer, "<I")
        return {read_text(answer): read_tensor(answer) for _ in range(count)}

    def saves_tiles(self, entry: str, inputs: Mapping[str, np.ndarray]) -> bool:
        """Runs with the caller's matrix tiles waiting to be saved: whether they were. Raises if not as they were."""
        (state,) = read_numbers(self.ask(b"z", entry, inputs), "<B")
        if state > 1:
            raise RemoteError("the caller's tiles were not saved as they were")
        return state == 1

    def ask(self, request: bytes, entry: str, inputs: Mapping[str, np.ndarray]) -> BinaryIO:
        order = self.inputs.get(entry, sorted(inputs))
        request += struct.pack("<I", self.number) + text(entry) + struct.pack("<I", len(order))
        return self.machine.ask(request + b"".join(tensor(inputs[name]) for name in order))

    @property
    def target(self) -> str:
        """Name of the code section in use."""
        return next(target["name"] for target in self.package["targets"] if target["selected"])

    def close(self) -> None:
        self.machine.ask(b"c" + struct.pack("<I", self.number))


def text(value: str) -> bytes:
    return struct.pack("<I", len(value.encode())) + value.encode()


def tensor(array: np.ndarray) -> bytes:
    head = struct.pack(f"<BB{array.ndim}q", DTYPES.index(array.dtype.name), array.ndim, *array.shape)
    return head + np.ascontiguousarray(array).tobytes()


def read_bytes(stream: BinaryIO, count: int) -> bytes:
    data = stream.read(count)
    if len(data) != count:
        raise RemoteError("the emulated runtime ended in the middle of an answer")
    return data


def read_numbers(stream: BinaryIO, layout: str) -> tuple[int, ...]:
    return struct.unpack(layout, read_bytes(stream, struct.calcsize(layout)))


def read_text(stream: BinaryIO) -> str:
    return read_bytes(stream, *read_numbers(stream, "<I")).decode()


def read_tensor(stream: BinaryIO) -> np.ndarray:
    kind, rank = read_numbers(stream, "<BB")
    shape = read_numbers(stream, f"<{rank}q")
    dtype = np.dtype(DTYPES[kind])
    return np.frombuffer(read_bytes(stream, dtype.itemsize * int(np.prod(shape))), dtype).reshape(shape)
