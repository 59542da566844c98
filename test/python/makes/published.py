"""The published makes of BitLinear, each rebuilt in plain PyTorch from its own published definition.

What matters here is how each is *written*: which operations in which order its forward pass has, in eval mode and in
float32, straight-through estimators and all. `MAKES` has them with a `Spec` of what they compute.

Sources: the companion of arXiv 2402.17764, "The Era of 1-bit LLMs: Training Tips, Code and FAQ" (microsoft/unilm);
transformers `integrations/bitnet.py`; tiiuae/onebitllms; 1bitLLM's `utils_quant.py` and its copy in microsoft/BitBLAS
`integration/BitNet`; kyegomez/BitNet `bit_linear_new.py`; schneiderkamplab/bitlinear; pytorch/ao
`prototype/quantized_training`; wbrickner/noise_step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Spec:
    """What a make computes.

    Attributes:
        weight: `absmean`, `absmedian`, `sign` (mean-centred, a tie is 0) or `codes` (ternary already, scale `scale`).
        norm: `none`, `rms` (gain `rms_norm.weight`), `unit` (SimpleRMSNorm) or `layer`, before activations are
            quantised.
        largest: what the largest activation is scaled to; None: activations stay floats.
        codes: smallest and largest code.
        eps: lower bound of the largest activation.
        rounding: `even`, or `up` for floor(x + 0.5).
        bias: `none`, `after` the scales, or `before` them.
        divide: the stored scale is the reciprocal.
        quotient: weights are divided by their mean, not multiplied with its reciprocal.
    """

    weight: str
    norm: str = "none"
    largest: float | None = 127.0
    codes: tuple[int, int] = (-128, 127)
    eps: float = 1e-5
    rounding: str = "even"
    bias: str = "none"
    divide: bool = False
    quotient: bool = False


def straight(source: Tensor, value: Tensor) -> Tensor:
    """The straight-through estimator as it is commonly written."""
    return source + (value - source).detach()


def fake_absmax(x: Tensor, largest: float = 127.0, smallest: float = -128.0) -> Tensor:
    """Activations with the values of their codes."""
    scale = largest / x.abs().max(dim=-1, keepdim=True).values.clamp_(min=1e-5)
    return (x * scale).round().clamp_(smallest, largest) / scale


def fake_absmean(weight: Tensor) -> Tensor:
    """Ternary weights with the values of their codes."""
    scale = 1.0 / weight.abs().mean().clamp_(min=1e-5)
    return (weight * scale).round().clamp_(-1, 1) / scale


def fake_sign(weight: Tensor) -> Tensor:
    """Binary weights with the values of their codes."""
    return (weight - weight.mean()).sign() * weight.abs().mean()


class RMSNorm(nn.Module):
    """As transformers has it for Llama."""

    def __init__(self, features: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(features).uniform_(0.5, 1.5))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        dtype = x.dtype
        x = x.to(torch.float32)
        variance = x.pow(2).mean(-1, keepdim=True)
        return self.weight * (x * torch.rsqrt(variance + self.eps)).to(dtype)


class MicrosoftReference(nn.Linear):
    """FAQ, figure 2: RMSNorm inside, both operands straight through."""

    def __init__(self, k: int, n: int, quantize_weight: Callable[[Tensor], Tensor]) -> None:
        super().__init__(k, n, bias=False)
        self.rms_norm = RMSNorm(k)
        self.quantize_weight = quantize_weight

    def forward(self, x: Tensor) -> Tensor:
        normed = self.rms_norm(x)
        return F.linear(straight(normed, fake_absmax(normed)), straight(self.weight, self.quantize_weight(self.weight)))


class MicrosoftInference(nn.Module):
    """FAQ, figure 3: ternary weights from offline, the product of integers, then a division by each scale."""

    def __init__(self, k: int, n: int) -> None:
        super().__init__()
        self.rms_norm = RMSNorm(k)
        masters = torch.randn(n, k)
        scale = 1.0 / masters.abs().mean().clamp(min=1e-5)
        self.register_buffer("weight", (masters * scale).round().clamp(-1, 1))
        self.register_buffer("weight_scale", scale)

    def forward(self, x: Tensor) -> Tensor:
        normed = self.rms_norm(x)
        scale = 127.0 / normed.abs().max(dim=-1, keepdim=True).values.clamp_(min=1e-5)
        codes = (normed * scale).round().clamp_(-128, 127)
        return codes @ self.weight.t() / self.weight_scale / scale


class TransformersBitLinear(nn.Module):
    """transformers, `linear_class` bitlinear: packed weights, unpacked in the forward pass, and int8 codes."""

    def __init__(self, k: int, n: int, bias: bool = False, norm: bool = False) -> None:
        super().__init__()
        self.rms_norm = RMSNorm(k) if norm else None
        codes = torch.randint(0, 3, (4, n // 4, k), dtype=torch.uint8)
        self.register_buffer("packed", codes[0] | codes[1] << 2 | codes[2] << 4 | codes[3] << 6)
        self.register_buffer("weight_scale", torch.tensor([37.5]))
        self.register_buffer("bias", torch.randn(n) if bias else None)

    @property
    def weight(self) -> Tensor:
        rows = self.packed.shape[0]
        unpacked = torch.zeros((4 * rows, self.packed.shape[1]), dtype=torch.uint8)
        for i in range(4):
            unpacked[i * rows : (i + 1) * rows] = (self.packed & (3 << (2 * i))) >> (2 * i)
        return unpacked.to(torch.float32) - 1

    def forward(self, x: Tensor) -> Tensor:
        if self.rms_norm is not None:
            x = self.rms_norm(x)
        weight = self.weight
        scale = 127 / x.abs().max(dim=-1, keepdim=True).values.clamp(min=1e-5)
        codes = (x * scale).round().clamp(-128, 127).to(torch.int8)
        y = F.linear(codes.to(torch.float32), weight)
        y = y / (self.weight_scale * scale)
        if self.bias is not None:
            y += self.bias.view(1, -1).expand_as(y)
        return y


class _PassGradients(torch.autograd.Function):
    """Gradients go through as they come."""

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient.clone()


class _WeightQuant(_PassGradients):
    @staticmethod
    def forward(ctx: Any, weight: Tensor) -> Tensor:
        return fake_absmean(weight.float()).to(weight.dtype)


class _ActQuant(_PassGradients):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        wide = x.float()
        scale = 127 / wide.abs().max(dim=-1, keepdim=True).values.clamp_(min=1e-5)
        return ((wide * scale).round().clamp(-128, 127) / scale).to(x.dtype)


class TransformersAutoBitLinear(nn.Linear):
    """transformers, `linear_class` autobitlinear. Offline, the scale multiplies the bias, too."""

    def __init__(self, k: int, n: int, bias: bool, online: bool, norm: bool = False) -> None:
        super().__init__(k, n, bias)
        self.rms_norm = RMSNorm(k) if norm else None
        self.online = online
        if not online:
            self.weight.data = torch.randint(-1, 2, (n, k)).float()
            self.register_buffer("weight_scale", torch.tensor([1.375]))

    def forward(self, x: Tensor) -> Tensor:
        if self.rms_norm is not None:
            x = self.rms_norm(x)
        weight = _WeightQuant.apply(self.weight) if self.online else self.weight
        y = F.linear(_ActQuant.apply(x), weight, self.bias)
        return y if self.online else y * self.weight_scale


class OneBitLLMs(nn.Linear):
    """onebitllms: what its Triton kernels compute; they round by floor(x + 0.5)."""

    def forward(self, x: Tensor) -> Tensor:
        scale = 127.0 / x.abs().amax(dim=-1, keepdim=True).clamp(min=1e-5)
        quantized = torch.clamp(torch.floor(x * scale + 0.5), -128, 127) / scale
        weight_scale = 1.0 / self.weight.abs().mean().clamp(min=1e-5)
        ternary = torch.clamp(torch.floor(self.weight * weight_scale + 0.5), -1, 1) / weight_scale
        return F.linear(straight(x, quantized), straight(self.weight, ternary), self.bias)


class OneBitLLM(nn.Linear):
    """1bitLLM: any number of activation bits, the norm outside, the bias added in place."""

    def __init__(self, k: int, n: int, bias: bool = False, input_bits: int = 8) -> None:
        super().__init__(k, n, bias)
        self.input_bits = input_bits

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()
        smallest, largest = -(2 ** (self.input_bits - 1)), 2 ** (self.input_bits - 1) - 1
        scale = largest / wide.abs().max(dim=-1, keepdim=True).values.clamp(min=1e-5)
        quantized = ((wide * scale).round().clamp(smallest, largest) / scale).type(x.dtype)
        masters = self.weight.float()
        weight_scale = 1 / masters.abs().mean().clamp(min=1e-5)
        ternary = ((masters * weight_scale).round().clamp(-1, 1) / weight_scale).type(self.weight.dtype)
        y = F.linear(straight(x, quantized), straight(self.weight, ternary))
        if self.bias is not None:
            y += self.bias.view(1, -1).expand_as(y)
        return y


class BitBLASSimulated(nn.Linear):
    """The copy of 1bitLLM's layer in BitBLAS: int8 codes of both, one division after the other."""

    def forward(self, x: Tensor) -> Tensor:
        scale = 127 / x.abs().max(dim=-1, keepdim=True).values.clamp(min=1e-5)
        codes = (x * scale).round().clamp(-128, 127).type(torch.int8).detach()
        weight_scale = 1 / self.weight.abs().mean().clamp(min=1e-5)
        ternary = (self.weight * weight_scale).round().clamp(-1, 1).type(torch.int8).detach()
        y = F.linear(codes.float(), ternary.float()) / scale
        y = y / weight_scale
        return y if self.bias is None else y + self.bias


class Kyegomez(nn.Linear):
    """kyegomez/BitNet: binary in spite of the name; there is a bias, which the forward pass does not use."""

    def __init__(self, k: int, n: int, norm: str) -> None:
        super().__init__(k, n)
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        if self.norm == "layer":
            x = F.layer_norm(x, (self.in_features,))
        else:
            x = F.normalize(x, dim=-1) * self.in_features**0.5
        return F.linear(straight(x, fake_absmax(x)), straight(self.weight, fake_sign(self.weight)))


class Schneiderkamp(nn.Linear):
    """schneiderkamplab/bitlinear: codes straight through, the bias added to the accumulators, 128 for 8 bits.

    The norm is over all axes but the first, so an input of more than two axes mixes its tokens.
    """

    def __init__(self, k: int, n: int, bias: bool, measure: str = "median", activation_bits: int = 8) -> None:
        super().__init__(k, n, bias)
        self.measure = measure
        self.range = (-(2 ** (activation_bits - 1)), 2 ** (activation_bits - 1) - 1)

    def forward(self, x: Tensor) -> Tensor:
        normed = torch.layer_norm(x, x.size()[1:])
        largest = max(abs(code) for code in self.range)
        x_scale = largest / normed.detach().abs().max(dim=-1, keepdim=True).values.clamp_(min=1e-5)
        scaled = normed * x_scale
        codes = 1 * (scaled.round().clamp(*self.range) - scaled).detach() + scaled
        sizes = self.weight.detach().abs()
        w_scale = 1 / (sizes.median() if self.measure == "median" else sizes.mean()).clamp_(min=1e-5)
        scaled_weight = self.weight * w_scale
        ternary = 1 * (scaled_weight.round().clamp(-1, 1) - scaled_weight).detach() + scaled_weight
        return F.linear(codes, ternary, self.bias) / (w_scale * x_scale)


class TorchAO(nn.Linear):
    """torchao's quantised training: scales are steps (the largest activation / 127); weights are divided by theirs."""

    def forward(self, x: Tensor) -> Tensor:
        rows = x.view(-1, self.in_features)
        step = rows.abs().amax(1) / 127
        inverse = 1.0 / step.float().clip(1e-5)
        codes = (rows.float() * inverse.view(-1, 1)).round().clip(-128, 127).to(torch.int8)
        mean = self.weight.float().abs().mean()
        ternary = (self.weight.float() / mean.clip(1e-5)).round().clip(-1, 1).to(torch.int8)
        y = codes.float() @ ternary.float().T * mean * step.view(-1, 1)
        y = y.view(*x.shape[:-1], self.out_features)
        return y + self.bias if self.bias is not None else y


class NoiseStep(nn.Module):
    """noise_step's perceptron layer: ternary weights without a scale, activations in floats, LayerNorm before them."""

    def __init__(self, k: int, n: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.randint(-1, 2, (n, k)).float())

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(F.layer_norm(x, x.shape[-1:]), self.weight)


Builder = Callable[[int, int], nn.Module]

MAKES: dict[str, tuple[Builder, Spec]] = {
    "microsoft-b1.58": (lambda k, n: MicrosoftReference(k, n, fake_absmean), Spec("absmean", "rms")),
    "microsoft-b1": (lambda k, n: MicrosoftReference(k, n, fake_sign), Spec("sign", "rms")),
    "microsoft-inference": (MicrosoftInference, Spec("codes", "rms", divide=True)),
    "transformers-bitlinear": (TransformersBitLinear, Spec("codes", divide=True)),
    "transformers-bitlinear-norm-bias": (
        lambda k, n: TransformersBitLinear(k, n, bias=True, norm=True),
        Spec("codes", "rms", bias="after", divide=True),
    ),
    "transformers-auto-offline": (
        lambda k, n: TransformersAutoBitLinear(k, n, bias=False, online=False),
        Spec("codes"),
    ),
    "transformers-auto-offline-norm-bias": (
        lambda k, n: TransformersAutoBitLinear(k, n, bias=True, online=False, norm=True),
        Spec("codes", "rms", bias="scaled"),
    ),
    "transformers-auto-online": (
        lambda k, n: TransformersAutoBitLinear(k, n, bias=False, online=True),
        Spec("absmean"),
    ),
    "transformers-auto-online-norm-bias": (
        lambda k, n: TransformersAutoBitLinear(k, n, bias=True, online=True, norm=True),
        Spec("absmean", "rms", bias="after"),
    ),
    "onebitllms": (lambda k, n: OneBitLLMs(k, n, bias=False), Spec("absmean", rounding="up")),
    "onebitllms-bias": (lambda k, n: OneBitLLMs(k, n, bias=True), Spec("absmean", rounding="up", bias="after")),
    "1bitllm": (OneBitLLM, Spec("absmean")),
    "1bitllm-bias": (lambda k, n: OneBitLLM(k, n, bias=True), Spec("absmean", bias="after")),
    "1bitllm-4-bits": (
        lambda k, n: OneBitLLM(k, n, input_bits=4),
        Spec("absmean", largest=7.0, codes=(-8, 7)),
    ),
    "bitblas": (lambda k, n: BitBLASSimulated(k, n, bias=True), Spec("absmean", bias="after")),
    "kyegomez": (lambda k, n: Kyegomez(k, n, "unit"), Spec("sign", "unit")),
    "kyegomez-layer-norm": (lambda k, n: Kyegomez(k, n, "layer"), Spec("sign", "layer")),
    "schneiderkamplab": (
        lambda k, n: Schneiderkamp(k, n, bias=True),
        Spec("absmedian", "layer", largest=128.0, bias="before"),
    ),
    "schneiderkamplab-absmean": (
        lambda k, n: Schneiderkamp(k, n, bias=False, measure="mean"),
        Spec("absmean", "layer", largest=128.0),
    ),
    "schneiderkamplab-4-bits": (
        lambda k, n: Schneiderkamp(k, n, bias=True, activation_bits=4),
        Spec("absmedian", "layer", largest=8.0, codes=(-8, 7), bias="before"),
    ),
    "torchao": (lambda k, n: TorchAO(k, n, bias=True), Spec("absmean", eps=127e-5, bias="after", quotient=True)),
    "noise-step": (NoiseStep, Spec("codes", "layer", largest=None)),
}
