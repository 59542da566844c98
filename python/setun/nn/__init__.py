"""Layers and schedules to train 1-bit and 1.58-bit networks with. Needs torch."""

from setun.nn.conv import BitConv2d
from setun.nn.export import packed_tensors, quantization_config, save_packed
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
from setun.nn.layer import BitLayer
from setun.nn.linear import BitLinear, RMSNorm
from setun.nn.packing import pack_ternary, unpack_ternary
from setun.nn.replace import Replacement, replace_linear
from setun.nn.schedule import QuantizationWarmup, lambda_schedule, two_stage, weight_decay

__all__ = [
    "EPS",
    "BitConv2d",
    "BitLayer",
    "BitLinear",
    "QuantizationWarmup",
    "QuantizedActivation",
    "QuantizedWeight",
    "RMSNorm",
    "Replacement",
    "fake_quantize_activation",
    "fake_quantize_weight",
    "lambda_schedule",
    "pack_ternary",
    "packed_tensors",
    "quantization_config",
    "quantize_activation",
    "quantize_weight",
    "quantize_weight_binary",
    "quantize_weight_ternary",
    "replace_linear",
    "save_packed",
    "straight_through",
    "two_stage",
    "unpack_ternary",
    "weight_decay",
]
