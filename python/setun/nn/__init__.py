"""Layers and schedules to train 1-bit and 1.58-bit networks with. Needs torch."""

from setun.nn.functional import (
    EPS,
    QuantizedActivation,
    QuantizedWeight,
    fake_quantize_activation,
    fake_quantize_weight,
    quantize_activation,
    quantize_weight,
    quantize_weight_binary,
    quantize_weight_ternary,
    straight_through,
)
from setun.nn.linear import BitLinear, RMSNorm
from setun.nn.packing import pack_ternary, unpack_ternary
from setun.nn.schedule import lambda_schedule, two_stage, weight_decay

__all__ = [
    "EPS",
    "BitLinear",
    "QuantizedActivation",
    "QuantizedWeight",
    "RMSNorm",
    "fake_quantize_activation",
    "fake_quantize_weight",
    "lambda_schedule",
    "pack_ternary",
    "quantize_activation",
    "quantize_weight",
    "quantize_weight_binary",
    "quantize_weight_ternary",
    "straight_through",
    "two_stage",
    "unpack_ternary",
    "weight_decay",
]
