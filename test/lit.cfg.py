# ruff: noqa: F821 - lit defines `config` before it runs this file.
"""Configuration of the lit tests; test/lit.site.cfg.py in the build folder fills in the paths and loads this file."""

import os
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
config.environment["FILECHECK_OPTS"] = "--enable-var-scope"

config.substitutions += [
    ("%python", config.python),
    ("%source", config.setun_source_dir),
    ("%build", config.setun_build_dir),
    ("%llvm_include", config.llvm_include_dir),
]
