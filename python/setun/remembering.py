"""Modules that remember: Python attributes that a forward pass changes, which compiled code cannot."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any

import torch
import torch.utils._pytree as pytree
from torch import Tensor, nn

from setun.diagnostics import SetunError
from setun.structure import CONSTANTS

_OF_EVERY_MODULE = {*vars(nn.Module()), "forward"}


def _snapshot(value: Any) -> Any:
    """Containers copied, what is in them kept."""
    if type(value) in (list, tuple, set):
        return type(value)(map(_snapshot, value)) if type(value) is not set else set(value)
    if type(value) is dict:
        return {key: _snapshot(item) for key, item in value.items()}
    return value


def _same(a: Any, b: Any) -> bool:
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    if type(a) in (list, tuple):
        return len(a) == len(b) and all(map(_same, a, b))
    if type(a) is dict:
        return a.keys() == b.keys() and all(_same(item, b[key]) for key, item in a.items())
    return isinstance(a, (*CONSTANTS, set, torch.Size, torch.dtype, torch.device)) and a == b


def _attributes(module: nn.Module) -> dict[str, Any]:
    """Attributes of a module and those in it, other than parameters, buffers and modules, by their path."""
    return {
        f"{path}.{name}" if path else name: _snapshot(value)
        for path, child in module.named_modules()
        for name, value in vars(child).items()
        if name not in _OF_EVERY_MODULE
    }


class AttributeWatch:
    """Sees which attributes a module changes when it is called. A context around the call.

    Attributes:
        changed: their names, as `named_modules` and dots give them.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.changed: list[str] = []

    def __enter__(self) -> AttributeWatch:
        before = _attributes(self.module)

        def compare(module: nn.Module, inputs: Any, output: Any) -> None:
            after = _attributes(module)
            names = [*before, *(name for name in after if name not in before)]
            self.changed = [name for name in names if not _same(before.get(name), after.get(name))]

        # A hook, because torch takes the changes back after it has exported a module.
        self._hook = self.module.register_forward_hook(compare)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._hook.remove()

    def check(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Calls a copy of the module twice, with the same buffers, to see whether the attributes matter.

        Attributes that are only written, or that hold what would be computed again, do not. A module that cannot be
        copied is taken at its word.

        Raises:
            SetunError: they do.
        """
        try:
            twin = copy.deepcopy(self.module)
        except Exception:  # whatever its parts raise
            return
        first = {name: tensor.clone() for name, tensor in _tensors(twin)}

        def call() -> list[Any]:
            for name, tensor in _tensors(twin):
                if name in first:
                    tensor.copy_(first[name])
            return pytree.tree_leaves(twin(*_cloned(args), **_cloned(dict(kwargs))))

        with torch.no_grad():
            results = call()
            try:
                again = call()
            except Exception:  # what it remembers does not even fit
                again = []
        if len(results) != len(again) or not all(map(_equal, results, again)):
            raise SetunError(
                f"the module remembers from call to call what it keeps in the attribute {self.changed[0]}, which "
                "compiled code cannot",
                "Keep it in a buffer (register_buffer), and change that in place.",
            )


def _tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.named_parameters()
    yield from module.named_buffers()


def _cloned(values: Any) -> Any:
    return pytree.tree_map(lambda value: value.clone() if isinstance(value, Tensor) else value, values)


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.shape == b.shape and a.dtype == b.dtype and bool(((a == b) | ((a != a) & (b != b))).all())
    return type(a) is type(b) and a == b
