"""Quantisers of BitNet (2023) and BitNet b1.58 with straight-through gradients, in float32.

Rounding is half to even everywhere (``torch.round``). A scale that multiplies is called *multiplicative*: a float
tensor is close to ``codes * scale``. ``eps`` bounds a mean or a maximum from below (a clamp, never an addition), so an
all-zero row or matrix gives zeros and not NaN.

The formulas are those of the compiled code (:mod:`setun.ops`). Means of weights are taken in float64 and rounded once:
float32 sums of other implementations (the ``AutoBitLinear`` of Hugging Face transformers) may differ from them in the
last place.

Sources: Wang et al., "BitNet: Scaling 1-bit Transformers for Large Language Models" (2310.11453), section 2.1; Ma et
al., "The Era of 1-bit LLMs" (2402.17764), section 2, and its companion "Training Tips, Code and FAQ".
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from setun import ops

EPS = 1e-5
"""Lower bound of every absolute mean and absolute maximum."""


class QuantizedWeight(NamedTuple):
    """Codes and multiplicative scale of a weight."""

    codes: Tensor
    """Float32 of the weight's shape: -1, 0, +1 (ternary) or -1, +1 (binary)."""
    scale: Tensor
    """Float32, mean absolute weight: no dimensions, or ``[out, ceil(in / group)]`` with groups."""


class QuantizedActivation(NamedTuple):
    """Codes and the multiplier that made them: ``codes = round(x * scale)``."""

    codes: Tensor
    """Float32 of the input's shape: whole numbers in [-2^(bits-1), 2^(bits-1) - 1]."""
    scale: Tensor
    """Float32, ``(2^(bits-1) - 1) / max(|x|)``, of a shape that combines with the input's (``[..., 1]`` per token).
    Divide by it to return to floats."""


def _quantized_weight(codes: Tensor, scale: Tensor, group: int) -> QuantizedWeight:
    return QuantizedWeight(codes, scale if group else scale.reshape(()))


def quantize_weight_ternary(weight: Tensor, eps: float = EPS, group: int = 0) -> QuantizedWeight:
    """Absmean quantisation of b1.58: ``codes = clamp(round(W / mean|W|), -1, 1)``.

    The quotient is computed as ``W * (1 / mean|W|)``, as training code does; the two roundings can differ from a
    division by one unit in the last place, which matters next to +-0.5.

    Args:
        weight: floating point ``[out, in]``, or of any shape without groups.
        eps: lower bound of ``mean|W|``.
        group: consecutive inputs that share a scale; 0: one scale for the whole weight. A group of one weight is that
            weight exactly (but for ``eps``).
    """
    return _quantized_weight(*ops.ternarize(weight, eps, group), group)


def quantize_weight_binary(weight: Tensor, group: int = 0) -> QuantizedWeight:
    """Mean-centred sign of BitNet (2023): ``codes = sign(W - mean(W))``, scale ``mean|W|`` of the uncentred weights.

    An exact tie, ``W == mean(W)``, is -1 as in the paper (the companion code's ``torch.sign`` would give 0, which is no
    binary code).

    Args:
        weight: floating point ``[out, in]``, or of any shape without groups.
        group: consecutive inputs that share mean and scale; 0: the whole weight.
    """
    return _quantized_weight(*ops.binarize(weight, group), group)


def quantize_activation(
    x: Tensor, eps: float = EPS, bits: int = 8, granularity: str = "per_token", group: int = 0
) -> QuantizedActivation:
    """Absmax quantisation: ``codes = clamp(round(x * scale), -q - 1, q)``, ``scale = q / max(|x|)``.

    ``q = 2^(bits-1) - 1`` is the largest code, 127 for 8 bits.
    ``127 / t`` is evaluated by torch as ``reciprocal(t) * 127``: two roundings, kept on purpose.

    Args:
        x: floating point ``[..., features]``; a token is one row of the last axis.
        eps: lower bound of ``max|x|``.
        bits: 2 to 8.
        granularity: what shares a scale: ``"per_token"``; ``"per_tensor"``; ``"per_sample"``, all of ``x[i]``;
            ``"per_group"``, each ``group`` consecutive features of a token.
        group: for ``"per_group"``: a divisor of ``features``.

    Raises:
        ValueError: unknown granularity.
    """
    x = x.float()
    if granularity != "per_group":
        return QuantizedActivation(*ops.quantize_activations(x, granularity, bits, eps))
    codes, scale = ops.quantize_activations(x.unflatten(-1, (-1, group)), "per_token", bits, eps)
    return QuantizedActivation(codes.flatten(-2), scale.expand(codes.shape).flatten(-2))


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


def fake_quantize_activation(
    x: Tensor, lam: float = 1.0, eps: float = EPS, bits: int = 8, granularity: str = "per_token", group: int = 0
) -> Tensor:
    """``codes / scale`` of :func:`quantize_activation`, with a straight-through gradient.

    Args:
        x: floating point ``[..., features]``.
        lam: share of quantisation, 0 (none) to 1 (full): ``x + lam * (quantised - x)``.
        eps: lower bound of ``max|x|``.
        bits, granularity, group: as in :func:`quantize_activation`.
    """
    with torch.no_grad():
        codes, scale = quantize_activation(x, eps, bits, granularity, group)
        value = (codes / scale).to(x.dtype)
        if lam != 1.0:
            value = x + lam * (value - x)
    return straight_through(x, value)


def fake_quantize_weight(
    weight: Tensor, codes: str = "ternary", lam: float = 1.0, eps: float = EPS, group: int = 0
) -> Tensor:
    """``codes * scale`` of a weight quantiser, with a straight-through gradient.

    Args:
        weight: floating point ``[out, in]``, or of any shape without groups.
        codes: ``"ternary"`` or ``"binary"``.
        lam: share of quantisation, 0 (none) to 1 (full).
        eps: lower bound of the scale (of ternary codes).
        group: consecutive inputs that share a scale; 0: the whole weight.

    Raises:
        ValueError: if ``codes`` is neither name.
    """
    with torch.no_grad():
        quantized, scale = quantize_weight(weight, codes, eps, group)
        value = (quantized * ops.spread_groups(scale, group, weight.shape[-1])).to(weight.dtype)
        if lam != 1.0:
            value = weight + lam * (value - weight)
    return straight_through(weight, value)


def quantize_weight(weight: Tensor, codes: str = "ternary", eps: float = EPS, group: int = 0) -> QuantizedWeight:
    """:func:`quantize_weight_ternary` or :func:`quantize_weight_binary`, by name.

    Raises:
        ValueError: if ``codes`` is neither ``"ternary"`` nor ``"binary"``.
    """
    if codes == "ternary":
        return quantize_weight_ternary(weight, eps, group)
    if codes == "binary":
        return quantize_weight_binary(weight, group)
    raise ValueError(f"expects weight codes 'ternary' or 'binary', got {codes!r}")
