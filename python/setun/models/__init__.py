"""Model definitions, one file per family. A new family is one more file with these four names:

* `ARCHITECTURES`: the names in config.json's `architectures` that it serves;
* `recognizes(tensor, architecture)`: whether a tensor name can only be that architecture's;
* `configure(config, architecture, quantization, diagnostics)`: config.json to the family's configuration;
* `build(configuration)`: the module, on the default device.

Definitions need torch; importing this package does not.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import Any

SHARED = {"config", "layers"}


def families() -> dict[str, ModuleType]:
    """Family modules by name, in alphabetical order. Imports torch."""
    names = sorted(info.name for info in pkgutil.iter_modules(__path__) if info.name not in SHARED)
    return {name: importlib.import_module(f"{__name__}.{name}") for name in names}


def architectures() -> list[str]:
    """Every architecture that some family serves."""
    return sorted(name for family in families().values() for name in family.ARCHITECTURES)


def find(config: Mapping[str, Any], tensors: Iterable[str]) -> tuple[ModuleType | None, str]:
    """The family of a checkpoint and the architecture that it is to be read as.

    In this order: `architectures` names it; a tensor that only one family has; `quantization_config` of the bitnet
    kind over Llama's tensor names. `model_type` comes last, since 1bitLLM's models say `llama` there and are not.
    """
    known = families()
    declared = config.get("architectures") or []
    for architecture in declared:
        for family in known.values():
            if architecture in family.ARCHITECTURES:
                return family, architecture
    if declared:
        return None, str(declared[0])
    names = list(tensors)
    for family in known.values():
        for architecture in family.ARCHITECTURES:
            if any(family.recognizes(name, architecture) for name in names):
                return family, architecture
    llama_like = any(name.endswith("self_attn.q_proj.weight") for name in names)
    if llama_like and (isinstance(config.get("quantization_config"), Mapping) or config.get("model_type") == "llama"):
        return known["llama"], "LlamaForCausalLM"
    return None, str(config.get("model_type", ""))
