"""Llama decoders whose projections are BitLinear: Llama3-8B-1.58, Falcon3-1.58bit, Falcon-E.

No sub-norms: the output and down projections quantise what they are given. The head may be tied; `head_dim` may differ
from `hidden_size / heads`.
Sources: transformers `models/llama` and `integrations/bitnet`; the model cards of HF1BitLLM/Llama3-8B-1.58-100B-tokens
and tiiuae/Falcon3-1B-Instruct-1.58bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from setun.diagnostics import Diagnostics
from setun.models.config import DecoderConfig, Quantization, read_decoder
from setun.models.layers import BitLinear, CausalAttention, CausalLM, Decoder, DecoderLayer, RotaryTable

ARCHITECTURES = ("LlamaForCausalLM",)


def recognizes(tensor: str, architecture: str) -> bool:
    """Whether a tensor name can only belong to this architecture: none can, its names are everybody's."""
    return False


class Attention(nn.Module):
    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        quantization, bias = config.quantization, config.attention_bias
        self.heads, self.kv_heads, self.head_dim = config.heads, config.kv_heads, config.head_dim
        width, kv_width = self.heads * self.head_dim, self.kv_heads * self.head_dim
        self.q_proj = BitLinear(config.hidden_size, width, quantization, bias)
        self.k_proj = BitLinear(config.hidden_size, kv_width, quantization, bias)
        self.v_proj = BitLinear(config.hidden_size, kv_width, quantization, bias)
        self.o_proj = BitLinear(width, config.hidden_size, quantization, bias)
        self.attend = CausalAttention(config)

    def forward(self, x: Tensor, rotary: RotaryTable, pos: Tensor) -> Tensor:
        q = rotary(self.q_proj(x).unflatten(-1, (self.heads, self.head_dim)), pos)
        k = rotary(self.k_proj(x).unflatten(-1, (self.kv_heads, self.head_dim)), pos)
        v = self.v_proj(x).unflatten(-1, (self.kv_heads, self.head_dim))
        return self.o_proj(self.attend(q, k, v, pos).flatten(-2))


class MLP(nn.Module):
    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        quantization, bias = config.quantization, config.mlp_bias
        self.gate_proj = BitLinear(config.hidden_size, config.intermediate_size, quantization, bias)
        self.up_proj = BitLinear(config.hidden_size, config.intermediate_size, quantization, bias)
        self.down_proj = BitLinear(config.intermediate_size, config.hidden_size, quantization, bias)
        self.act = config.gate_act

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(torch.ops.setun.gated(self.gate_proj(x), self.up_proj(x), self.act))


class Llama(CausalLM):
    """Llama language model with ternary projections."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__(config)
        layers = (DecoderLayer(config, Attention(config), MLP(config)) for _ in range(config.layers))
        self.model = Decoder(config, layers)


def configure(
    config: Mapping[str, Any], architecture: str, quantization: Quantization | None, found: Diagnostics
) -> DecoderConfig:
    """Reads config.json. A Llama that does not say that it is quantised is dense, and is refused."""
    if quantization is None:
        found.error(
            "no-quantization",
            "config.json",
            "has no 'quantization_config': this is an ordinary full-precision Llama",
            "Setun compiles networks trained with ternary or binary weights; it does not quantise dense ones.",
        )
        quantization = Quantization()
    return read_decoder(
        config, architecture, quantization, found, default_theta=10000.0, default_act="silu", default_norm_eps=1e-6
    )


def build(config: DecoderConfig) -> Llama:
    return Llama(config)
