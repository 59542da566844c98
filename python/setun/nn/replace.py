"""Linear layers of a model that is there already become BitLinear layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from setun.nn.linear import BitLinear


@dataclass(frozen=True)
class Replacement:
    """What :func:`replace_linear` did: names of layers, as in ``named_modules()``."""

    replaced: tuple[str, ...] = ()
    kept: dict[str, str] = field(default_factory=dict)
    """Linear layers that were left as they are, with the reason."""

    def __str__(self) -> str:
        lines = [f"{len(self.replaced)} linear layers replaced"]
        return "\n".join(lines + [f"kept {name}: {reason}" for name, reason in self.kept.items()])


def output_head(model: nn.Module) -> nn.Module | None:
    """The layer that gives the logits: what a transformers model says it is, else the last linear layer there is."""
    if callable(getattr(model, "get_output_embeddings", None)):
        head = model.get_output_embeddings()
        if head is not None:
            return head
    linears = [module for module in model.modules() if isinstance(module, nn.Linear | BitLinear)]
    return linears[-1] if linears else None


def _reason_to_keep(
    name: str, module: nn.Linear, skip: Sequence[str], head: nn.Module | None, embeddings: set[int]
) -> str | None:
    if any(fnmatchcase(name, pattern) or name.rpartition(".")[2] == pattern for pattern in skip):
        return "named in skip"
    if module is head:
        return "output head"
    if id(module.weight) in embeddings:
        return "shares its weight with an embedding"
    if type(module) is not nn.Linear:
        return f"is a {type(module).__name__}, whose owner may use the weight itself"
    return None


def _bit_linear(linear: nn.Linear, options: dict[str, Any]) -> BitLinear:
    layer = BitLinear(linear.in_features, linear.out_features, linear.bias is not None, **options)
    layer.to(device=linear.weight.device, dtype=linear.weight.dtype)
    layer.weight, layer.bias = linear.weight, linear.bias
    return layer.train(linear.training)


def replace_linear(
    model: nn.Module, *, skip: Sequence[str] = (), skip_head: bool = True, **options: Any
) -> Replacement:
    """Puts a :class:`BitLinear` in the place of each ``nn.Linear`` of a model, in place.

    Weights and biases are taken over: the new layers have the parameters of the old ones, so an optimiser or a tied
    weight stays valid. Left alone are the output head, layers that share their weight with an embedding, and
    subclasses of ``nn.Linear`` (the output projection of ``nn.MultiheadAttention``, which that module multiplies by
    itself).

    Args:
        model: changed in place; may not be an ``nn.Linear`` itself.
        skip: names of layers to leave alone: full names, their last part (``"lm_head"``), or patterns (``"*.o_proj"``).
        skip_head: leave the output head alone, see :func:`output_head`.
        options: of every BitLinear, as its constructor's.

    Raises:
        ValueError: a name in ``skip`` fits no linear layer, the model is a linear layer, or there is none to replace.
    """
    if isinstance(model, nn.Linear):
        raise ValueError("expects a model that holds linear layers, got a linear layer; make a BitLinear of it instead")
    linears = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    for pattern in skip:
        if not any(fnmatchcase(name, pattern) or name.rpartition(".")[2] == pattern for name in linears):
            raise ValueError(f"expects names of linear layers in skip, got {pattern!r}; there are {', '.join(linears)}")
    head = output_head(model) if skip_head else None
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}

    replaced, kept = [], {}
    made: dict[nn.Linear, BitLinear] = {}
    # Modules that several parents hold are named once, but have to be replaced in each.
    for name, module in model.named_modules(remove_duplicate=False):
        if not isinstance(module, nn.Linear):
            continue
        reason = _reason_to_keep(name, module, skip, head, embeddings)
        if reason is not None:
            kept[name] = reason
            continue
        if module not in made:
            made[module] = _bit_linear(module, options)
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, made[module])
        replaced.append(name)
    if not replaced:
        raise ValueError(f"expects linear layers to replace, got none; {Replacement((), kept)}")
    return Replacement(tuple(replaced), kept)
