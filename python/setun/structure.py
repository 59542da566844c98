"""Containers around the tensors of a call, as JSON: so that a package is called as the module was, without torch."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from setun.diagnostics import SetunError

Structure = dict[str, Any]
"""`{"tensor": i}`, `{"constant": value}`, or a container: `kind` (tuple, list, dict, object), `items`, `class`."""

CONSTANTS = (type(None), bool, int, float, str)
"""Types of values that a module is compiled for as they are."""


class Leaf:
    """Stands for tensor number `index` of a call."""

    def __init__(self, index: int) -> None:
        self.index = index


def describe(value: Any) -> Structure:
    """The structure of containers with leaves and constants in them.

    Raises:
        SetunError: a value is none of these.
    """
    if isinstance(value, Leaf):
        return {"tensor": value.index}
    if isinstance(value, CONSTANTS):
        return {"constant": value}
    name = f"{type(value).__module__}:{type(value).__qualname__}"
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise SetunError("a dictionary of the call has keys that are no strings")
        kind = "dict" if type(value) is dict else "object"
        return {"kind": kind, "class": name, "items": {key: describe(item) for key, item in value.items()}}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return {"kind": "object", "class": name, "items": {key: describe(getattr(value, key)) for key in value._fields}}
    if isinstance(value, (tuple, list)):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {"kind": kind, "items": [describe(item) for item in value]}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: describe(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {"kind": "object", "class": name, "items": fields}
    raise SetunError(f"the call has a {type(value).__name__}, which is neither a tensor nor a container of them")


def rebuild(structure: Structure, tensor: Callable[[int], Any]) -> Any:
    """The containers again, with `tensor(i)` for its leaves.

    An object becomes one of its class if the program has that loaded, else a namespace of its fields.
    """
    if "tensor" in structure:
        return tensor(structure["tensor"])
    if "constant" in structure:
        return structure["constant"]
    items = structure["items"]
    if structure["kind"] in ("tuple", "list"):
        values = [rebuild(item, tensor) for item in items]
        return tuple(values) if structure["kind"] == "tuple" else values
    fields = {key: rebuild(item, tensor) for key, item in items.items()}
    if structure["kind"] == "dict":
        return fields
    module, _, name = structure["class"].partition(":")
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found(**fields) if isinstance(found, type) else SimpleNamespace(**fields)


def take(structure: Structure, value: Any, path: str, into: dict[int, tuple[str, Any]]) -> None:
    """Takes a value apart by a structure: its tensors go to `into`, by number, with their path in the call.

    Raises:
        SetunError: it is built otherwise, or a constant has another value.
    """
    if "tensor" in structure:
        into[structure["tensor"]] = (path, value)
        return
    if "constant" in structure:
        wanted = structure["constant"]
        if type(value) is not type(wanted) or value != wanted:
            raise SetunError(
                f"argument {path} was {wanted!r} when the module was compiled, got {_told(value)}",
                "Compile the module once for each value.",
            )
        return
    items = structure["items"]
    if structure["kind"] in ("tuple", "list"):
        if not isinstance(value, Sequence) or len(value) != len(items):
            raise SetunError(f"argument {path} expects a {structure['kind']} of {len(items)}, got {_kind(value)}")
        for number, item in enumerate(items):
            take(item, value[number], f"{path}[{number}]", into)
        return
    if isinstance(value, Mapping):
        more = [key for key in value if key not in items]
        if more:
            raise SetunError(
                f"argument {path} had no key {more[0]!r} when the module was compiled", "Compile the module with it."
            )
    for key, item in items.items():
        if isinstance(value, Mapping):
            if key not in value:
                raise SetunError(f"argument {path} lacks the key {key!r}")
            take(item, value[key], f"{path}[{key!r}]", into)
        elif hasattr(value, key):
            take(item, getattr(value, key), f"{path}.{key}", into)
        else:
            raise SetunError(f"argument {path} expects {', '.join(items)}, got {_kind(value)}")


def _told(value: Any) -> str:
    return repr(value) if isinstance(value, CONSTANTS) else _kind(value)


def _kind(value: Any) -> str:
    return f"a {type(value).__name__}" + (f" of {len(value)}" if isinstance(value, (tuple, list)) else "")
