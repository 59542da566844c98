# ruff: noqa: F821 - lit defines `config` before it runs this file.
"""Configuration of the lit tests; test/lit.site.cfg.py in the build folder fills in the paths and loads this file."""

import os
import platform
import subprocess

import lit.formats

config.name = "Setun"
config.test_format = lit.formats.ShTest(execute_external=False)
config.suffixes = [".mlir", ".test"]
# Folders of tests that other runners run, and what tests read.
config.excludes = ["Inputs", "python", "runtime", "unit"]
config.test_source_root = os.path.dirname(__file__)
config.test_exec_root = os.path.join(config.setun_build_dir, "test")

config.environment["PATH"] = os.pathsep.join(
    [os.path.join(config.setun_build_dir, "bin"), config.llvm_tools_dir, config.environment.get("PATH", "")]
)
# Some tests compare with NumPy.
if subprocess.run([config.python, "-c", "import numpy"], capture_output=True).returncode == 0:
    config.available_features.add("numpy")
# Some look at packages through the runtime's module.
config.environment["PYTHONPATH"] = os.path.join(config.setun_source_dir, "python")
if any(name.startswith("_setun.") for name in os.listdir(os.path.join(config.setun_source_dir, "python", "setun"))):
    config.available_features.add("setun-module")
# What this machine can run, for tests that execute compiled code.
TARGETS = {
    "x86-64-v2": "ssse3 sse4_1 sse4_2 popcnt cx16",
    "x86-64-v3": "ssse3 sse4_2 popcnt avx avx2 bmi1 bmi2 f16c fma abm movbe",
    "x86-64-v4": "avx2 bmi2 fma avx512f avx512bw avx512cd avx512dq avx512vl",
    "avx512vnni": "avx512f avx512_vnni",
    "amx": "amx_tile amx_int8",
}
if platform.machine() == "x86_64" and os.path.exists("/proc/cpuinfo"):
    with open("/proc/cpuinfo") as file:
        flags = next((set(line.split()) for line in file if line.startswith("flags")), set())
    config.available_features.update(name for name, needs in TARGETS.items() if flags.issuperset(needs.split()))
config.environment["FILECHECK_OPTS"] = "--enable-var-scope"

config.substitutions += [
    ("%python", config.python),
    ("%source", config.setun_source_dir),
    ("%build", config.setun_build_dir),
    ("%llvm_include", config.llvm_include_dir),
]
