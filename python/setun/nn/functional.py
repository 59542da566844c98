"""Quantisers of BitNet (2023) and BitNet b1.58 with straight-through gradients, in float32.

Rounding is half to even everywhere (``torch.round``). A scale that multiplies is called *multiplicative*: a float
tensor is close to ``codes * scale``. ``eps`` bounds a mean or a maximum from below (a clamp, never an addition), so an
all-zero row or matrix gives zeros and not NaN.

Sources: Wang et al., "BitNet: Scaling 1-bit Transformers for Large Language Models" (2310.11453), section 2.1; Ma et
al., "The Era of 1-bit LLMs" (2402.17764), section 2, and its companion "Training Tips, Code and FAQ"; the
``AutoBitLinear`` of Hugging Face transformers, whose numbers these functions reproduce bit for bit.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

EPS = 1e-5
"""Lower bound of every absolute mean and absolute maximum."""

ACTIVATION_MAX = 127.0
"""Code of a token's largest activation (8 bits, symmetric)."""


class QuantizedWeight(NamedTuple):
    """Codes and multiplicative scale of a weight matrix."""

    codes: Tensor
    """Float32 ``[out, in]``: -1, 0, +1 (ternary) or -1, +1 (binary)."""
    scale: Tensor
    """Float32, no dimensions: mean absolute weight, at least ``eps``."""


class QuantizedActivation(NamedTuple):
    """Codes and the multiplier that made them: ``codes = round(x * scale)``."""

    codes: Tensor
    """Float32 of the input's shape: whole numbers in [-128, 127]."""
    scale: Tensor
    """Float32, last dimension 1: ``127 / max(|x|)`` of each token. Divide by it to return to floats."""


def quantize_weight_ternary(weight: Tensor, eps: float = EPS) -> QuantizedWeight:
    """Absmean quantisation of b1.58: ``codes = clamp(round(W / mean|W|), -1, 1)``, one scale per matrix.

    The quotient is computed as ``W * (1 / mean|W|)``, as training code does; the two roundings can differ from a
    division by one unit in the last place, which matters next to +-0.5.

    Args:
        weight: floating point ``[out, in]``.
        eps: lower bound of ``mean|W|``.
    """
    weight = weight.float()
    mean = weight.abs().mean().clamp(min=eps)
    codes = (weight * (1.0 / mean)).round().clamp(-1, 1)
    return QuantizedWeight(codes, mean)


def quantize_weight_binary(weight: Tensor, eps: float = EPS) -> QuantizedWeight:
    """Mean-centred sign of BitNet (2023): ``codes = sign(W - mean(W))``, scale ``mean|W|`` of the uncentred weights.

    An exact tie, ``W == mean(W)``, is -1 as in the paper (the companion code's ``torch.sign`` would give 0, which is no
    binary code).

    Args:
        weight: floating point ``[out, in]``.
        eps: lower bound of the scale.
    """
    weight = weight.float()
    codes = torch.where(weight - weight.mean() > 0, 1.0, -1.0)
    return QuantizedWeight(codes, weight.abs().mean().clamp(min=eps))


def quantize_activation(x: Tensor, eps: float = EPS) -> QuantizedActivation:
    """Absmax int8 quantisation per token: ``scale = 127 / max(|x|)``, ``codes = clamp(round(x * scale), -128, 127)``.

    ``127 / t`` is evaluated by torch as ``reciprocal(t) * 127``: two roundings, kept on purpose.

    Args:
        x: floating point ``[..., features]``; a token is one row of the last axis.
        eps: lower bound of ``max|x|``.
    """
    x = x.float()
    scale = ACTIVATION_MAX / x.abs().amax(dim=-1, keepdim=True).clamp(min=eps)
    codes = (x * scale).round().clamp(-128, 127)
    return QuantizedActivation(codes, scale)


class _StraightThrough(torch.autograd.Function):
    """Value of the second argument, gradient to the first as if nothing had happened."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, source: Tensor, value: Tensor) -> Tensor:
        return value.view_as(value)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0], None


def straight_through(source: Tensor, value: Tensor) -> Tensor:
    """Returns ``value``; gradients flow to ``source`` unchanged (the straight-through estimator).

    Equal to ``source + (value - source).detach()``, without the rounding error of that sum.

    Raises:
        ValueError: if the shapes differ.
    """
    if source.shape != value.shape:
        raise ValueError(f"expects tensors of one shape, got {tuple(source.shape)} and {tuple(value.shape)}")
    return _StraightThrough.apply(source, value.detach())


def fake_quantize_activation(x: Tensor, lam: float = 1.0, eps: float = EPS) -> Tensor:
    """``codes / scale`` of :func:`quantize_activation`, with a straight-through gradient.

    Args:
        x: floating point ``[..., features]``.
        lam: share of quantisation, 0 (none) to 1 (full): ``x + lam * (quantised - x)``.
        eps: lower bound of ``max|x|``.
    """
    with torch.no_grad():
        codes, scale = quantize_activation(x, eps)
        value = (codes / scale).to(x.dtype)
        if lam != 1.0:
            value = x + lam * (value - x)
    return straight_through(x, value)


def fake_quantize_weight(weight: Tensor, codes: str = "ternary", lam: float = 1.0, eps: float = EPS) -> Tensor:
    """``codes * scale`` of a weight quantiser, with a straight-through gradient.

    Args:
        weight: floating point ``[out, in]``.
        codes: ``"ternary"`` or ``"binary"``.
        lam: share of quantisation, 0 (none) to 1 (full).
        eps: lower bound of the scale.

    Raises:
        ValueError: if ``codes`` is neither name.
    """
    with torch.no_grad():
        value, scale = quantize_weight(weight, codes, eps)
        value = (value * scale).to(weight.dtype)
        if lam != 1.0:
            value = weight + lam * (value - weight)
    return straight_through(weight, value)


def quantize_weight(weight: Tensor, codes: str = "ternary", eps: float = EPS) -> QuantizedWeight:
    """:func:`quantize_weight_ternary` or :func:`quantize_weight_binary`, by name.

    Raises:
        ValueError: if ``codes`` is neither ``"ternary"`` nor ``"binary"``.
    """
    if codes == "ternary":
        return quantize_weight_ternary(weight, eps)
    if codes == "binary":
        return quantize_weight_binary(weight, eps)
    raise ValueError(f"expects weight codes 'ternary' or 'binary', got {codes!r}")
