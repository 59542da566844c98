"""BitLinear: a linear layer that trains with the integers it will run with."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from setun.nn.functional import EPS
from setun.nn.layer import BitLayer, check_option


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
        if self.training:
            wide = x.float()
            wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
            return self.weight * wide.to(x.dtype)
        return torch.ops.setun.rms_norm(x, self.weight, self.eps).to(x.dtype)

    def extra_repr(self) -> str:
        return f"{self.weight.shape[0]}, eps={self.eps}"


class BitLinear(BitLayer):
    """Linear layer with ternary (b1.58) or binary (b1) weights and int8 activations, trained straight through.

    ``y = fake_quantize(norm(x)) @ fake_quantize(W).T + bias``. The bias is added last and is not scaled.

    Args:
        in_features: size of the input's last axis.
        out_features: size of the output's last axis.
        bias: add a learned bias.
        codes: ``"ternary"``: absmean, {-1, 0, +1}; ``"binary"``: mean-centred sign, {-1, +1}.
        norm: before activation quantisation: ``"none"``; ``"rms"``: RMSNorm with a learned weight; ``"layer"``:
            LayerNorm without parameters (the SubLN of the 2023 paper).
        activation: what shares a scale of activations: ``"per_token"``; ``"per_tensor"``, the whole input (the 2023
            paper while it trains); ``"per_group"``, ``group_size`` consecutive features of a token; ``"none"`` gives a
            weight-only layer.
        activation_bits: 2 to 8.
        group_size: consecutive inputs that share a weight scale (and, in a binary layer, a mean); 0: one scale for the
            whole matrix. The last group of a row may be shorter, but not with ``"per_group"``. Compiled code takes
            multiples of 4.
        eps: lower bound of ``mean|W|`` and ``max|x|``.
        norm_eps: epsilon of the norm.

    Raises:
        ValueError: on an option that there is not, or activation groups that do not divide ``in_features``.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = False,
        *,
        codes: str = "ternary",
        norm: str = "none",
        activation: str = "per_token",
        activation_bits: int = 8,
        group_size: int = 0,
        eps: float = EPS,
        norm_eps: float = 1e-5,
    ) -> None:
        super().__init__(codes, activation, ("per_token", "per_tensor", "per_group"), activation_bits, group_size, eps)
        check_option("norm", norm, ("none", "rms", "layer"))
        if activation == "per_group" and in_features % group_size:
            raise ValueError(f"expects activation groups that divide {in_features} features, got {group_size}")
        self.in_features = in_features
        self.out_features = out_features
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

    def quantize_input(self, x: Tensor) -> Tensor:
        """Norm and activation quantisation of ``x``: the left operand of the product, ``[..., in_features]``."""
        return self.fake_quantize(x if self.norm is None else self.norm(x))

    def multiply(self, x: Tensor) -> Tensor:
        """Product with the quantised weight, and the bias, for an ``x`` that :meth:`quantize_input` has returned.

        Layers that read one input (query, key and value, say) may quantise it once and share it, if they have no norm
        of their own.
        """
        return F.linear(x, self.quantized_weight(), self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """``[..., in_features]`` to ``[..., out_features]``, in the dtype of the parameters."""
        if not self.integer:
            return self.multiply(self.quantize_input(x))
        if self.norm is not None:
            x = self.norm(x)
        if self.activation != "per_group":
            return self._operator(x, self.weight, self.bias, self.activation).to(self.weight.dtype)
        # Each group of features is a layer of its own, whose tokens have their own scale.
        pieces = zip(x.split(self.group_size, -1), self.weight.split(self.group_size, -1), strict=True)
        parts = [self._operator(part, weight, None, "per_token") for part, weight in pieces]
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        return (total if self.bias is None else total + self.bias).to(self.weight.dtype)

    def _operator(self, x: Tensor, weight: Tensor, bias: Tensor | None, activation: str) -> Tensor:
        options = self.operator_options() | {"activation": activation, "group": self.group_size}
        return torch.ops.setun.bit_linear(
            x, weight, None, bias, None, out_features=self.out_features, norm="none", norm_eps=0.0, **options
        )

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}, "
            f"{self.quantization_repr()}"
        )
