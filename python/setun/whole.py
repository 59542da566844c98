"""Modules that stay whole in a trace: BitLinear layers and norms of known makes become one operator of `setun.ops`.
Those of `setun.nn` are such operators by themselves.

Their arithmetic could be traced and recognised, but their classes say more surely what they mean. The weight of a layer
that quantises masters is quantised here, by the make's own formula, so that the codes are those of its forward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from setun import ops as _ops  # noqa: F401  (registers torch.ops.setun)

Forward = Callable[..., Tensor]


@dataclass(frozen=True)
class Make:
    """A class of modules, and what stands for its forward pass.

    Attributes:
        name: qualified name of the class; one derived from it may compute something else.
        summary: for the documentation.
        prepare: gives the function that replaces `forward`, or None where the module's settings ask for arithmetic that
            no operator has. It may register buffers, which are taken away again.
    """

    name: str
    summary: str
    prepare: Callable[[nn.Module], Forward | None]

    def matches(self, module: nn.Module) -> bool:
        return f"{type(module).__module__}.{type(module).__qualname__}" == self.name


def _layer(
    weight: Tensor, scale: Tensor | None, bias: Tensor | None, rows: int, norm: Forward | None = None, **settings: Any
) -> Forward:
    """A forward pass by `setun.bit_linear`."""
    options = {"out_features": rows, "activation": "per_token", "bits": 8, "eps": 1e-5, "divide": False}
    options |= {"norm": "none", "norm_eps": 0.0} | settings

    def forward(x: Tensor) -> Tensor:
        x = x if norm is None else norm(x)
        return torch.ops.setun.bit_linear(x, weight, scale, bias, None, **options)

    return forward


def _is_float32(module: nn.Module) -> bool:
    return all(p.dtype == torch.float32 for p in module.parameters() if p.is_floating_point())


def _transformers_bit_linear(module: nn.Module) -> Forward | None:
    if module.dtype not in (None, torch.float32) or module.weight_scale.dtype != torch.float32:
        return None
    return _layer(
        module.weight,
        module.weight_scale,
        module.bias,
        module.out_features,
        module.rms_norm,
        storage="packed",
        divide=True,
    )


def _transformers_auto_bit_linear(module: nn.Module) -> Forward | None:
    if not _is_float32(module):
        return None
    bias = module.bias
    if module.online_quant:
        with torch.no_grad():
            scale = 1.0 / module.weight.abs().mean().clamp(min=1e-5)
            codes, scale = (module.weight * scale).round().clamp(-1, 1), (1.0 / scale).reshape(1)
    elif _is_ternary(module.weight):
        codes, scale = module.weight, module.weight_scale.reshape(1)
        # The whole of what the linear layer gives is scaled, its bias too.
        bias = None if bias is None else bias * scale
    else:
        return None
    module.register_buffer("weight_codes", codes.detach().to(torch.int8))
    module.register_buffer("weight_multiplier", scale.detach().float())
    if bias is not None:
        module.register_buffer("scaled_bias", bias.detach())
        bias = module.scaled_bias
    rows = module.out_features
    return _layer(module.weight_codes, module.weight_multiplier, bias, rows, module.rms_norm, storage="ternary")


def _is_ternary(weight: Tensor) -> bool:
    """Whether all values are -1, 0 or +1."""
    return bool(((weight == 0) | (weight.abs() == 1)).all())


def _rms_norm(module: nn.Module) -> Forward | None:
    eps = getattr(module, "variance_epsilon", getattr(module, "eps", None))
    if eps is None or not _is_float32(module) or module.weight.dim() != 1:
        return None

    def forward(x: Tensor) -> Tensor:
        return torch.ops.setun.rms_norm(x, module.weight, eps)

    return forward


MAKES = (
    Make(
        "transformers.integrations.bitnet.BitLinear",
        "packed ternary weights, `bitlinear` of Hugging Face.",
        _transformers_bit_linear,
    ),
    Make(
        "transformers.integrations.bitnet.AutoBitLinear",
        "`autobitlinear` of Hugging Face, quantised offline or online.",
        _transformers_auto_bit_linear,
    ),
    *(
        Make(
            f"transformers.models.{family}.modeling_{family}.{name}RMSNorm",
            "root mean square norm with a gain.",
            _rms_norm,
        )
        for family, name in (
            ("bitnet", "BitNet"),
            ("llama", "Llama"),
            ("mistral", "Mistral"),
            ("qwen2", "Qwen2"),
            ("qwen3", "Qwen3"),
            ("phi3", "Phi3"),
        )
    ),
)
"""The makes, most special first. Norms whose gain is added to 1 (Gemma) are traced as they are written."""


@contextmanager
def keep_whole(module: nn.Module) -> Iterator[None]:
    """Replaces the forward passes of modules of known makes, as long as the context lasts."""
    changed: list[tuple[nn.Module, set[str]]] = []
    try:
        for child in list(module.modules()):
            make = next((make for make in MAKES if make.matches(child)), None)
            if make is None or "forward" in vars(child):
                continue
            before = set(child._buffers)
            forward = make.prepare(child)
            changed.append((child, set(child._buffers) - before))
            if forward is not None:
                child.forward = forward
        yield
    finally:
        for child, added in changed:
            vars(child).pop("forward", None)
            for name in added:
                delattr(child, name)
