"""`torch.compile(module, backend="setun")`: graphs that can be compiled are, others run eagerly with a warning.

The backend is for inference. A graph is compiled when it is first called; parameters and buffers are constants of it,
and when one has been changed in place, it is compiled again.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from setun.api import Compiled, compile
from setun.diagnostics import SetunError


class SetunWarning(UserWarning):
    """A graph runs eagerly; says because of what."""


class _Graph(nn.Module):
    """A graph of `torch.compile` with its parameters bound, called with what is left: the tensors of the call.

    Symbolic sizes, which the graph takes as numbers, are read off the tensors.
    """

    def __init__(self, graph: fx.GraphModule, examples: Sequence[Any]) -> None:
        super().__init__()
        self.graph = graph
        placeholders = [node for node in graph.graph.nodes if node.op == "placeholder"]
        described = [node.meta.get("example_value", value) for node, value in zip(placeholders, examples, strict=True)]
        self.constants = {i: value for i, value in enumerate(examples) if _is_parameter(value)}
        for i, value in self.constants.items():
            self.register_buffer(f"constant_{i}", value.detach(), persistent=False)
        self.places = _places_of_sizes(described, self.constants)
        self.tensors = [i for i in range(len(examples)) if i not in self.constants and i not in self.places]
        self.examples = [_example(described[i]) for i in self.tensors]
        """A tensor to export with for each of `tensors`, and which of its sizes are dynamic."""
        self.count = len(examples)
        self.versions = self.current_versions()

    def current_versions(self) -> list[int]:
        """Counts of changes in place, of every constant."""
        inner = [*self.graph.parameters(), *self.graph.buffers()]
        return [tensor._version for tensor in (*self.constants.values(), *inner)]

    def pick(self, arguments: Sequence[Any]) -> tuple[Tensor, ...]:
        return tuple(arguments[i] for i in self.tensors)

    def forward(self, *tensors: Tensor) -> Any:
        given: dict[int, Any] = dict(zip(self.tensors, tensors, strict=True))
        given |= {i: getattr(self, f"constant_{i}") for i in self.constants}
        given |= {i: given[source].shape[axis] for i, (source, axis) in self.places.items()}
        # Node by node, so that each keeps the place in the user's source that torch.compile has for it.
        with fx.traceback.preserve_node_meta():
            return fx.Interpreter(self.graph).run(*(given[i] for i in range(self.count)))


def _is_parameter(value: Any) -> bool:
    """Whether torch.compile passes a parameter or buffer of the module."""
    return isinstance(value, nn.Parameter) or getattr(value, "_dynamo_static_input_type", None) is not None


def _places_of_sizes(described: Sequence[Any], constants: dict[int, Any]) -> dict[int, tuple[int, int]]:
    """Argument and axis that tell each number among the arguments.

    Raises:
        SetunError: a number is no size of an argument.
    """
    axes: dict[Any, tuple[int, int]] = {}
    for i, value in enumerate(described):
        if isinstance(value, Tensor) and i not in constants:
            for axis, size in enumerate(value.shape):
                if isinstance(size, torch.SymInt):
                    axes.setdefault(size.node.expr, (i, axis))
    places = {}
    for i, value in enumerate(described):
        if isinstance(value, Tensor):
            continue
        expr = value.node.expr if isinstance(value, torch.SymInt) else value
        if expr not in axes:
            raise SetunError(f"the graph takes the number {value}", "Pass it as a tensor.")
        places[i] = axes[expr]
    return places


def _example(value: Tensor) -> tuple[Tensor, dict[int, Any]]:
    """A tensor to export with, and which of its sizes are dynamic."""
    dynamic = {axis: torch.export.Dim.AUTO for axis, n in enumerate(value.shape) if isinstance(n, torch.SymInt)}
    sizes = [n.node.hint if isinstance(n, torch.SymInt) else n for n in value.shape]
    # Not under the mode that makes tensors without memory, which torch.compile may have on.
    with torch._subclasses.fake_tensor.unset_fake_temporarily():
        return torch.zeros(sizes, dtype=value.dtype, device=value.device), dynamic


def _compiled(graph: _Graph) -> Compiled:
    dynamic = tuple(dims for _, dims in graph.examples)
    compiled = compile(graph.eval(), tuple(x for x, _ in graph.examples), dynamic_shapes=(dynamic,))
    if compiled.signature.stateful:
        raise SetunError("the graph changes a buffer or parameter of the module", "setun.compile keeps it as a state.")
    return compiled


class _Runner:
    """Runs a graph compiled, or eagerly if it cannot be. It is compiled when it is first called: while torch.compile
    traces, nothing else may be traced."""

    def __init__(self, graph: fx.GraphModule, bound: _Graph) -> None:
        self._graph = graph
        self._bound = bound
        self._compiled: Compiled | None = None
        self._eager = False

    def __call__(self, *arguments: Any) -> Any:
        versions = self._bound.current_versions()
        if not self._eager and (self._compiled is None or versions != self._bound.versions):
            self._bound.versions = versions
            try:
                self._compiled = _compiled(self._bound)
            except SetunError as error:
                _warn(str(error))
                self._eager = True
        if self._compiled is None or self._eager:
            return self._graph(*arguments)
        return self._compiled(*self._bound.pick(arguments))


def _warn(reason: str) -> None:
    warnings.warn(f"setun: a graph runs eagerly: {reason}", SetunWarning, stacklevel=3)


def setun_backend(graph: fx.GraphModule, examples: Sequence[Any]) -> Callable[..., Any]:
    """What `torch.compile` calls for each graph, with examples of its arguments; gives what runs in its place."""
    if torch.is_grad_enabled() and any(isinstance(x, Tensor) and x.requires_grad for x in examples):
        _warn("it needs gradients (call the module under torch.no_grad())")
        return graph.forward
    try:
        return torch._dynamo.disable(_Runner(graph, _Graph(graph, examples)))
    except SetunError as error:
        _warn(str(error))
        return graph.forward
