"""BitNet b1.58 decoders with sub-norms: `BitNetForCausalLM` of transformers, `BitnetForCausalLM` of 1bitLLM.

Both normalise the input of the output and down projections; they differ in the names of these norms, in the gate's
activation and in what their config.json leaves out.
Sources: arXiv 2402.17764; transformers `models/bitnet`; the model cards of microsoft/bitnet-b1.58-2B-4T and
1bitLLM/bitnet_b1_58-3B.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from setun.diagnostics import Diagnostics
from setun.models.config import DecoderConfig, Quantization, read_decoder
from setun.models.layers import BitLinear, CausalAttention, CausalLM, Decoder, DecoderLayer, RMSNorm, RotaryTable

# Names of the two sub-norms by architecture: before the output projection, before the down projection.
SUB_NORMS = {
    "BitNetForCausalLM": ("attn_sub_norm", "ffn_sub_norm"),
    "BitnetForCausalLM": ("inner_attn_ln", "ffn_layernorm"),
}

ARCHITECTURES = tuple(SUB_NORMS)


def recognizes(tensor: str, architecture: str) -> bool:
    """Whether a tensor name can only belong to this architecture."""
    return any(f".{norm}." in tensor for norm in SUB_NORMS[architecture])


class Attention(nn.Module):
    def __init__(self, config: DecoderConfig, sub_norm: str) -> None:
        super().__init__()
        quantization, bias = config.quantization, config.attention_bias
        self.heads, self.kv_heads, self.head_dim = config.heads, config.kv_heads, config.head_dim
        width, kv_width = self.heads * self.head_dim, self.kv_heads * self.head_dim
        self.q_proj = BitLinear(config.hidden_size, width, quantization, bias)
        self.k_proj = BitLinear(config.hidden_size, kv_width, quantization, bias)
        self.v_proj = BitLinear(config.hidden_size, kv_width, quantization, bias)
        self.o_proj = BitLinear(width, config.hidden_size, quantization, bias)
        self.attend = CausalAttention(config)
        self.sub_norm = sub_norm
        self.add_module(sub_norm, RMSNorm(width, config.norm_eps))

    def forward(self, x: Tensor, rotary: RotaryTable, pos: Tensor) -> Tensor:
        q = rotary(self.q_proj(x).unflatten(-1, (self.heads, self.head_dim)), pos)
        k = rotary(self.k_proj(x).unflatten(-1, (self.kv_heads, self.head_dim)), pos)
        v = self.v_proj(x).unflatten(-1, (self.kv_heads, self.head_dim))
        o = self.attend(q, k, v, pos).flatten(-2)
        return self.o_proj(self.get_submodule(self.sub_norm)(o))


class MLP(nn.Module):
    def __init__(self, config: DecoderConfig, sub_norm: str) -> None:
        super().__init__()
        quantization, bias = config.quantization, config.mlp_bias
        self.gate_proj = BitLinear(config.hidden_size, config.intermediate_size, quantization, bias)
        self.up_proj = BitLinear(config.hidden_size, config.intermediate_size, quantization, bias)
        self.down_proj = BitLinear(config.intermediate_size, config.hidden_size, quantization, bias)
        self.act = config.gate_act
        self.sub_norm = sub_norm
        self.add_module(sub_norm, RMSNorm(config.intermediate_size, config.norm_eps))

    def forward(self, x: Tensor) -> Tensor:
        gated = torch.ops.setun.gated(self.gate_proj(x), self.up_proj(x), self.act)
        return self.down_proj(self.get_submodule(self.sub_norm)(gated))


class BitNet(CausalLM):
    """BitNet b1.58 language model: pre-norm layers, each with two sub-norms."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__(config)
        attention_norm, mlp_norm = SUB_NORMS[config.architecture]
        layers = (
            DecoderLayer(config, Attention(config, attention_norm), MLP(config, mlp_norm)) for _ in range(config.layers)
        )
        self.model = Decoder(config, layers)


def configure(
    config: Mapping[str, Any], architecture: str, quantization: Quantization | None, found: Diagnostics
) -> DecoderConfig:
    """Reads config.json. 1bitLLM's has no `quantization_config`: `weight_bits` 1 means absmean masters, as its code."""
    if architecture == "BitnetForCausalLM":
        if quantization is None:
            if config.get("weight_bits", 1) != 1 or config.get("input_bits", 8) != 8:
                found.error(
                    "unsupported-quantization",
                    "config.json",
                    f"expects weight_bits 1 and input_bits 8, got {config.get('weight_bits')} and "
                    f"{config.get('input_bits')}",
                )
            quantization = Quantization(auto=True, online=True)
        defaults = {"default_theta": 10000.0, "default_act": "silu", "default_norm_eps": 1e-6, "default_tied": True}
        return read_decoder(config, architecture, quantization, found, **defaults)
    if quantization is None:
        found.error(
            "no-quantization",
            "config.json",
            "has no 'quantization_config', so how its weights are to be read is unknown",
            "Take config.json from the checkpoint's own repository: without that section it runs as a dense model and "
            "gives nonsense.",
        )
        quantization = Quantization(auto=True)
    decoder = read_decoder(
        config, architecture, quantization, found, default_theta=500000.0, default_act="relu2", default_norm_eps=1e-5
    )
    if decoder.heads * decoder.head_dim != decoder.hidden_size:
        found.error(
            "bad-config",
            "config.json",
            f"expects heads x head_dim = hidden_size {decoder.hidden_size}, got {decoder.heads} x {decoder.head_dim}",
        )
    return decoder


def build(config: DecoderConfig) -> BitNet:
    return BitNet(config)
