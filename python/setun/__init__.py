"""Setun: ahead-of-time compiler and runtime for 1-bit and 1.58-bit neural networks.

    compiled = setun.compile(module, example_args)     # any PyTorch module (needs torch)
    compiled.save("model.setun")
    compiled = setun.load("model.setun")               # needs NumPy only
    y = compiled(x)
    setun.nn.BitLinear(64, 32)                         # layers to train with (needs torch)

Importing this package is cheap and needs neither torch nor the native modules; what is used is loaded then.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from setun.diagnostics import SetunError

if TYPE_CHECKING:
    from setun import nn
    from setun.api import Compiled, CompileError, compile, export, load

__version__ = "0.1.0"
__all__ = ["CompileError", "Compiled", "SetunError", "compile", "export", "load", "nn"]


def __getattr__(name: str) -> Any:
    if name == "nn":
        return importlib.import_module("setun.nn")
    if name in __all__:
        from setun import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
