"""Constant folding: what a graph computes from parameters alone is computed now, by PyTorch, in the module's own order.

So the weight of a quantiser that is written out as arithmetic is the very weight that its forward pass multiplies by.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

aten = torch.ops.aten

LARGEST_NEW = 1 << 16
"""Elements of a constant that is larger than what it is made from; a larger one is computed at run time."""

_RANDOM = {torch.Tag.nondeterministic_seeded}


def _straight_through(node: fx.Node) -> fx.Node | None:
    """`q` of `x + (q - x)`, the straight-through estimator of a quantiser, whose rounding noise is not meant."""
    if node.target is not aten.add.Tensor or node.kwargs:
        return None
    for x, difference in (node.args, node.args[::-1]):
        difference = _undetached(difference)
        if not isinstance(difference, fx.Node) or difference.target is not aten.sub.Tensor or difference.kwargs:
            continue
        if _undetached(difference.args[1]) is _undetached(x):
            return difference.args[0]
    return None


def _undetached(node: Any) -> Any:
    while isinstance(node, fx.Node) and node.target in (aten.detach.default, aten.alias.default, aten.detach_.default):
        node = node.args[0]
    return node


class Folder:
    """Finds and computes the constants of a graph.

    Args:
        graph: functional.
        parameters: by placeholder: name in the module, and the tensor; on the meta device if its values are not known.
    """

    def __init__(self, graph: fx.Graph, parameters: dict[str, tuple[str, Tensor]]) -> None:
        self.parameters = parameters
        self.known: dict[fx.Node, Any] = {}
        self._made: set[fx.Node] = set()
        """Tensors made from nothing but numbers; the compiled code makes them itself, if it needs them."""
        self.source: dict[fx.Node, str] = {}
        """The parameter that a constant is made from, if it is one."""
        for node in graph.nodes:
            if node.op == "placeholder" and node.name in parameters and not parameters[node.name][1].is_meta:
                name, tensor = parameters[node.name]
                self.known[node], self.source[node] = tensor.detach(), name
            elif node.op == "call_function":
                self._fold(node)

    def _fold(self, node: fx.Node) -> None:
        inputs = node.all_input_nodes
        if any(item not in self.known for item in inputs):
            return
        if isinstance(node.target, torch._ops.OpOverload):
            schema = node.target._schema
            if node.target.namespace not in ("aten", "prims") or schema.is_mutable or _RANDOM & set(node.target.tags):
                return
        elif getattr(node.target, "__name__", "") != "getitem":
            return
        exact = _straight_through(node)
        if exact is not None and exact in self.known:
            value = self.known[exact]
        else:
            arguments = fx.map_arg(node.args, self.known.__getitem__)
            options = fx.map_arg(node.kwargs, self.known.__getitem__)
            if "device" in options:
                options = {name: option for name, option in options.items() if name != "device"}
            with torch.no_grad():
                value = node.target(*arguments, **options)
        if not inputs:
            self._made.add(node)
        elif isinstance(value, Tensor):
            given = sum(self.known[item].numel() for item in inputs if isinstance(self.known[item], Tensor))
            if value.numel() > max(given, LARGEST_NEW):
                return
        self.known[node] = value
        sources = {self.source[item] for item in inputs if item in self.source}
        if len(sources) == 1:
            self.source[node] = sources.pop()

    def constants(self) -> dict[str, tuple[str, Tensor]]:
        """The folded tensors, by node: name and value. Parameters are not among them."""
        folded = {}
        for node, value in self.known.items():
            if node.op == "call_function" and isinstance(value, Tensor) and node not in self._made:
                stem = self.source.get(node, "constant")
                folded[node.name] = (f"{stem}.{node.name}", value)
        return folded
