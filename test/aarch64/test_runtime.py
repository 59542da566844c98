"""The runtime itself, cross-built for 64-bit ARM: its unit tests, its tools, the features that it finds."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from compiled import BIN
from emulator import Machine, RemoteError, build, emulate, emulated_cpus
from setun.diagnostics import SetunError
from setun.session import Package

# What the runtime must find on each CPU, and must not.
FEATURES = {
    "cortex-a53": ({"neon", "crc"}, {"dotprod", "i8mm", "sve"}),
    "cortex-a76": ({"neon", "dotprod", "lse"}, {"i8mm", "sve"}),
    "neoverse-v1": ({"dotprod", "i8mm", "sve"}, {"sve2", "sme"}),
    "max": ({"dotprod", "i8mm", "sve", "sve2", "sme"}, set()),
}


@pytest.mark.parametrize("cpu", FEATURES)
def test_features_of_cpus(machine, cpu: str):
    if cpu not in emulated_cpus():
        pytest.skip(f"this emulator has no {cpu}; scripts/setup gets a newer one where it can")
    found = machine(cpu).features()
    present, absent = FEATURES[cpu]
    assert present <= found
    assert not absent & found


def test_units(monkeypatch: pytest.MonkeyPatch):
    """Writer, reader, loader, sessions and threads; hostile packages and code, fewer rounds than on the host."""
    monkeypatch.setenv("SETUN_FUZZ_ROUNDS", "400")
    # What starts programs of the target by itself would need an emulator registered with the system.
    done = emulate("cortex-a53", build() / "setun-runtime-tests", "--gtest_filter=-SetunRunTest.*:Embed.*")
    assert done.returncode == 0, done.stdout
    assert "[  PASSED  ]" in done.stdout


@pytest.fixture(scope="module")
def fixture_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package of the runtime's unit tests, with code of the cross compiler."""
    path = tmp_path_factory.mktemp("fixture") / "fixture.setun"
    done = emulate("cortex-a53", build() / "setun-test-package", path)
    assert done.returncode == 0, done.stderr
    return path


def test_static_tool(fixture_package: Path, tmp_path: Path):
    """setun-run is one file without shared libraries, and runs entries."""
    x = np.arange(16, dtype=np.float32).reshape(2, 8)
    np.save(tmp_path / "x.npy", x)
    program = build() / "setun-run"
    assert b"libsetun_runtime.so" not in program.read_bytes()
    arguments = ["--entry=mlp", f"--input=x={tmp_path / 'x.npy'}", f"--output-dir={tmp_path}"]
    done = emulate("cortex-a53", program, fixture_package, *arguments)
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), 2 * x + np.arange(8, dtype=np.float32) / 4)
    listed = emulate("cortex-a53", program, fixture_package, "--list", "--check")
    assert "target base (aarch64" in listed.stdout and "used on this machine" in listed.stdout


def test_limits():
    """setun-bench tries the products of all instructions that the CPU has; which is fastest an emulator cannot tell."""
    done = emulate("max", build() / "setun-bench", "--limits", "--rounds=1", "--seconds=0.01", "--json")
    assert done.returncode == 0, done.stderr
    (limits,) = json.loads(done.stdout)["limits"]
    assert limits["int8_peak_gops"] > 0
    assert limits["int8_method"].split(",")[0] in ("smmla", "sdot", "16-bit products")


def test_shared_library(fixture_package: Path):
    """A C program with the shared library: the example of embedding."""
    done = emulate("cortex-a53", build() / "embed", fixture_package, "3", "6")
    assert (done.returncode, done.stdout) == (0, "2\n"), done.stderr


def test_server_answers_as_the_runtime_does(machine, fixture_package: Path):
    """Sessions of the emulated runtime keep their state, and mistakes come back as its messages."""
    session = machine("cortex-a53").session(fixture_package, threads=2)
    assert session.target == "base"
    both = session.run("forward", {"tokens": np.array([3, 6])})["logits"]
    session.run("forward", {"tokens": np.array([3])})
    last = session.run("step", {"tokens": np.array([6])})["logits"]
    np.testing.assert_array_equal(last[0], both[1])
    with pytest.raises(RemoteError, match="no entry 'nothing'"):
        session.run("nothing", {})
    with pytest.raises(RemoteError, match="no code section for target 'other'"):
        machine("cortex-a53").session(fixture_package, target="other")
    session.close()


def test_packages_without_code_for_the_cpu(machine, fixture_package: Path, tmp_path: Path):
    """Python, setun-run and the C interface name what the package holds, and the command that adds what is missing."""
    from setun import _setun

    holds = "the package holds code for 'base' (aarch64); this CPU is x86_64 with "
    with pytest.raises(RuntimeError, match=re.escape(holds)) as raised:
        _setun.Session(_setun.Package(str(fixture_package)))
    added = f"to add code for it: setun compile MODEL -o '{fixture_package}' --target base,x86-64"
    assert added in str(raised.value)
    with pytest.raises(SetunError, match=re.escape(added)):
        Package(fixture_package).target()

    package = tmp_path / "host.setun"
    subprocess.run([BIN / "setun-test-package", package], check=True)
    added = f"to add code for it: setun compile MODEL -o '{package}' --target base,aarch64-dotprod, where MODEL is"
    with pytest.raises(RemoteError, match=re.escape(added)):
        machine("cortex-a76").session(package)
    np.save(tmp_path / "rounds.npy", np.int64(1))
    fence = ["--entry=fence", f"--input=rounds={tmp_path / 'rounds.npy'}"]
    done = emulate("cortex-a76", build() / "setun-run", package, *fence)
    assert done.returncode == 1
    assert added in done.stderr
    listed = emulate("cortex-a76", build() / "setun-run", package, "--list")
    assert "target base (x86_64" in listed.stdout and "does not run on this machine" in listed.stdout


def test_a_missing_emulated_program_is_an_error():
    """A CPU that the emulator does not know ends in a message, not in a wait."""
    with pytest.raises(RemoteError, match="ended in the middle"):
        Machine("no-such-cpu").features()
