"""What the quantised layers have in common: their options, and their share of quantisation."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from setun.nn.functional import QuantizedWeight, fake_quantize_activation, fake_quantize_weight, quantize_weight

STORAGES = {"ternary": "absmean", "binary": "sign"}
"""How `setun.ops` calls masters of each kind of codes."""


def check_option(name: str, value: object, choices: tuple[object, ...]) -> None:
    """Raises ValueError if `value` is none of the choices."""
    if value not in choices:
        *most, last = (repr(choice) for choice in choices)
        raise ValueError(f"expects {name} {', '.join(most)} or {last}, got {value!r}")


class BitLayer(nn.Module):
    """A layer with ternary (b1.58) or binary (b1) weights and quantised activations: :class:`setun.nn.BitLinear` and
    :class:`setun.nn.BitConv2d`.

    The parameters are float masters; the codes are derived from them at every step. While it trains, and while ``lam``
    is not 1, a layer computes with floats that have the values of the codes, straight through for gradients. In eval
    mode it is one operator of :mod:`setun.ops`, which multiplies integers, and which :func:`torch.export.export` keeps
    whole: what the compiler sees.

    Attributes:
        lam: share of quantisation, from 0 (a float layer) to 1 (the layer that will be deployed). Fine-tuning of a
            float model raises it step by step, see :class:`setun.nn.QuantizationWarmup`. Part of no state dict.
    """

    weight: nn.Parameter
    bias: nn.Parameter | None

    def __init__(
        self,
        codes: str,
        activation: str,
        granularities: tuple[str, ...],
        activation_bits: int,
        group_size: int,
        eps: float,
    ) -> None:
        super().__init__()
        check_option("weight codes", codes, tuple(STORAGES))
        check_option("activation", activation, (*granularities, "none"))
        check_option("activation bits", activation_bits, tuple(range(2, 9)))
        if group_size < 0 or (activation == "per_group" and not group_size):
            raise ValueError(f"expects a group size of at least 1 (0: no groups), got {group_size}")
        self.codes = codes
        self.activation = activation
        self.activation_bits = activation_bits
        self.group_size = group_size
        self.eps = eps
        self.lam = 1.0

    def reset_parameters(self) -> None:
        """Draws the masters from N(0, 0.02^2). Their size cancels in the codes; it sets how fast codes can flip."""
        nn.init.normal_(self.weight, std=0.02)

    @property
    def integer(self) -> bool:
        """Whether the layer computes as it will when it is deployed."""
        return not self.training and self.lam == 1.0

    def fake_quantize(self, x: Tensor) -> Tensor:
        """``x`` with the values of its codes, straight through for gradients."""
        if self.activation == "none":
            return x
        return fake_quantize_activation(x, self.lam, self.eps, self.activation_bits, self.activation, self.group_size)

    def quantized_weight(self) -> Tensor:
        """The weight with the values of its codes, straight through for gradients."""
        return fake_quantize_weight(self.weight, self.codes, self.lam, self.eps, self.group_size)

    @torch.no_grad()
    def quantized(self) -> QuantizedWeight:
        """Codes and scale for export. Ignores ``lam``: what is deployed is always fully quantised."""
        return quantize_weight(self.weight, self.codes, self.eps, self.group_size)

    def operator_options(self) -> dict[str, object]:
        """Options that the operators of both layers share."""
        return {
            "storage": STORAGES[self.codes],
            "activation": self.activation,
            "bits": self.activation_bits,
            "eps": self.eps,
            "divide": False,
        }

    def quantization_repr(self) -> str:
        groups = f", group_size={self.group_size}" if self.group_size else ""
        bits = "" if self.activation == "none" else f", activation_bits={self.activation_bits}"
        return f"codes={self.codes!r}, activation={self.activation!r}{bits}{groups}, lam={self.lam}"
