"""BitConv2d: a convolution with the quantisers of BitLinear."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.utils import _pair

from setun.nn.functional import EPS
from setun.nn.layer import BitLayer


class BitConv2d(BitLayer):
    """Two-dimensional convolution with ternary or binary weights and int8 activations, trained straight through.

    ``[B, C, H, W]`` to ``[B, F, H', W']`` as :class:`torch.nn.Conv2d`, padded with zeros. The weight has one scale.

    Args:
        in_channels: channels ``C`` of the input.
        out_channels: filters ``F``.
        kernel_size: height and width of a filter; one number is both.
        stride, padding, dilation: a number, or a pair (height, width).
        groups: of channels, each with ``F / groups`` filters of its own.
        bias: add a learned bias of each filter, unscaled.
        codes: ``"ternary"`` (absmean) or ``"binary"`` (mean-centred sign).
        activation: what shares a scale of activations: ``"per_sample"``, one image with all its channels;
            ``"per_tensor"``, the whole batch; ``"none"``.
        activation_bits: 2 to 8.
        eps: lower bound of ``mean|W|`` and ``max|x|``.

    Raises:
        ValueError: on an option that there is not, or channels that are no multiple of ``groups``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = False,
        *,
        codes: str = "ternary",
        activation: str = "per_sample",
        activation_bits: int = 8,
        eps: float = EPS,
    ) -> None:
        super().__init__(codes, activation, ("per_sample", "per_tensor"), activation_bits, 0, eps)
        if groups < 1 or in_channels % groups or out_channels % groups:
            raise ValueError(f"expects {in_channels} and {out_channels} channels to be multiples of {groups} groups")
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = _pair(kernel_size)
        self.stride, self.padding, self.dilation = _pair(stride), _pair(padding), _pair(dilation)
        self.groups = groups
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels // groups, *self.kernel_size))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        self.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W]`` to ``[B, F, H', W']``, in the dtype of the parameters."""
        window = (self.stride, self.padding, self.dilation, self.groups)
        if not self.integer:
            return F.conv2d(self.fake_quantize(x), self.quantized_weight(), self.bias, *window)
        names = ("stride", "padding", "dilation", "groups")
        options = self.operator_options() | dict(zip(names, window, strict=True))
        return torch.ops.setun.bit_conv2d(x, self.weight, None, self.bias, **options).to(self.weight.dtype)

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}, "
            f"padding={self.padding}, dilation={self.dilation}, groups={self.groups}, bias={self.bias is not None}, "
            f"{self.quantization_repr()}"
        )
