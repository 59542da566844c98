"""BitLinear: a linear layer that trains with the integers it will run with."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from setun.nn.functional import EPS, QuantizedWeight, fake_quantize_activation, fake_quantize_weight, quantize_weight


class RMSNorm(nn.Module):
    """Root mean square norm: ``weight * (x * rsqrt(mean(x^2) + eps))`` over the last axis, inside in float32.

    Source: Zhang and Sennrich (1910.07467), in the order of operations of the Llama family.

    Args:
        features: size of the last axis.
        eps: added to the mean square.
    """

    def __init__(self, features: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(features))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()
        wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        return self.weight * wide.to(x.dtype)

    def extra_repr(self) -> str:
        return f"{self.weight.shape[0]}, eps={self.eps}"


class BitLinear(nn.Module):
    """Linear layer with ternary (b1.58) or binary (b1) weights and int8 activations, trained straight through.

    ``y = fake_quantize(norm(x)) @ fake_quantize(W).T + bias``. The parameters are float masters; the codes are derived
    from them at every step. The bias is added last and is not scaled.

    Args:
        in_features: size of the input's last axis.
        out_features: size of the output's last axis.
        bias: add a learned bias.
        codes: ``"ternary"``: absmean, {-1, 0, +1}; ``"binary"``: mean-centred sign, {-1, +1}.
        norm: before activation quantisation: ``"none"``; ``"rms"``: RMSNorm with a learned weight; ``"layer"``:
            LayerNorm without parameters (the SubLN of the 2023 paper).
        quantize_activations: int8 per token; false gives a weight-only layer.
        eps: lower bound of ``mean|W|`` and ``max|x|``.
        norm_eps: epsilon of the norm.

    Attributes:
        lam: share of quantisation, from 0 (a float layer) to 1 (the layer that will be deployed). Fine-tuning of a
            float model raises it step by step, see :func:`setun.nn.schedule.lambda_schedule`. Part of no state dict.

    Raises:
        ValueError: on an unknown ``codes`` or ``norm``.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = False,
        *,
        codes: str = "ternary",
        norm: str = "none",
        quantize_activations: bool = True,
        eps: float = EPS,
        norm_eps: float = 1e-5,
    ) -> None:
        super().__init__()
        if codes not in ("ternary", "binary"):
            raise ValueError(f"expects weight codes 'ternary' or 'binary', got {codes!r}")
        if norm not in ("none", "rms", "layer"):
            raise ValueError(f"expects norm 'none', 'rms' or 'layer', got {norm!r}")
        self.in_features = in_features
        self.out_features = out_features
        self.codes = codes
        self.quantize_activations = quantize_activations
        self.eps = eps
        self.lam = 1.0
        self.weight = nn.Parameter(torch.empty(out_features, in_features))
        self.bias = nn.Parameter(torch.zeros(out_features)) if bias else None
        self.norm: nn.Module | None
        if norm == "rms":
            self.norm = RMSNorm(in_features, norm_eps)
        elif norm == "layer":
            self.norm = nn.LayerNorm(in_features, norm_eps, elementwise_affine=False)
        else:
            self.norm = None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws the masters from N(0, 0.02^2). Their size cancels in the codes; it sets how fast codes can flip."""
        nn.init.normal_(self.weight, std=0.02)

    def quantize_input(self, x: Tensor) -> Tensor:
        """Norm and activation quantisation of ``x``: the left operand of the product, ``[..., in_features]``."""
        if self.norm is not None:
            x = self.norm(x)
        if self.quantize_activations:
            x = fake_quantize_activation(x, self.lam, self.eps)
        return x

    def multiply(self, x: Tensor) -> Tensor:
        """Product with the quantised weight, and the bias, for an ``x`` that :meth:`quantize_input` has returned.

        Layers that read one input (query, key and value, say) may quantise it once and share it, if they have no norm
        of their own.
        """
        return F.linear(x, fake_quantize_weight(self.weight, self.codes, self.lam, self.eps), self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """``[..., in_features]`` to ``[..., out_features]``, in the dtype of the parameters."""
        return self.multiply(self.quantize_input(x))

    @torch.no_grad()
    def quantized(self) -> QuantizedWeight:
        """Codes and scale for export. Ignores ``lam``: what is deployed is always fully quantised."""
        return quantize_weight(self.weight, self.codes, self.eps)

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}, "
            f"codes={self.codes!r}, quantize_activations={self.quantize_activations}, lam={self.lam}"
        )
