"""The network of this example: the architecture of ``BitNetForCausalLM``, written with Setun's BitLinear.

Module and parameter names are those of Hugging Face checkpoints, so that exporting is renaming nothing.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from setun.nn import BitLinear, RMSNorm


@dataclass(frozen=True)
class Config:
    """Shape of the network. Names are those of config.json."""

    vocab_size: int = 1000
    hidden_size: int = 288
    intermediate_size: int = 768
    num_hidden_layers: int = 5
    num_attention_heads: int = 6
    num_key_value_heads: int = 2
    max_position_embeddings: int = 512
    rope_theta: float = 10000.0
    rms_norm_eps: float = 1e-5
    dropout: float = 0.1
    """Training only: of embeddings and of what each block adds to the residual stream."""

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_attention_heads

    def to_dict(self) -> dict[str, int | float]:
        return asdict(self)


def rotary_tables(config: Config, length: int) -> tuple[Tensor, Tensor]:
    """Cosine and sine of positions 0..length-1, each ``[length, head_dim]``; pairs are (i, i + head_dim / 2)."""
    exponents = torch.arange(0, config.head_dim, 2).float() / config.head_dim
    angles = torch.arange(length).float()[:, None] / config.rope_theta**exponents
    angles = torch.cat([angles, angles], dim=-1)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding of ``x``, ``[..., length, head_dim]``."""
    low, high = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-high, low], dim=-1) * sin


class Attention(nn.Module):
    """Grouped-query attention, with a norm before the output projection."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        kv_size = config.num_key_value_heads * config.head_dim
        self.q_proj = BitLinear(config.hidden_size, config.hidden_size)
        self.k_proj = BitLinear(config.hidden_size, kv_size)
        self.v_proj = BitLinear(config.hidden_size, kv_size)
        self.o_proj = BitLinear(config.hidden_size, config.hidden_size)
        self.attn_sub_norm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        batch, length, _ = x.shape
        x = self.q_proj.quantize_input(x)
        q, k, v = (
            projection.multiply(x).view(batch, length, -1, self.config.head_dim).transpose(1, 2)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        groups = self.config.num_attention_heads // self.config.num_key_value_heads
        k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o_proj(self.attn_sub_norm(out.transpose(1, 2).reshape(batch, length, -1)))


class FeedForward(nn.Module):
    """``down(norm(relu(gate(x))^2 * up(x)))``."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.gate_proj = BitLinear(config.hidden_size, config.intermediate_size)
        self.up_proj = BitLinear(config.hidden_size, config.intermediate_size)
        self.down_proj = BitLinear(config.intermediate_size, config.hidden_size)
        self.ffn_sub_norm = RMSNorm(config.intermediate_size, config.rms_norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        x = self.gate_proj.quantize_input(x)
        hidden = F.relu(self.gate_proj.multiply(x)).square() * self.up_proj.multiply(x)
        return self.down_proj(self.ffn_sub_norm(hidden))


class Block(nn.Module):
    """One layer of the network."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = FeedForward(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, h: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        h = h + self.dropout(self.self_attn(self.input_layernorm(h), cos, sin))
        return h + self.dropout(self.mlp(self.post_attention_layernorm(h)))


class Body(nn.Module):
    """Everything but the head."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        nn.init.normal_(self.embed_tokens.weight, std=0.02)
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(Block(config) for _ in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        cos, sin = rotary_tables(config, config.max_position_embeddings)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        length = tokens.shape[1]
        h = self.dropout(self.embed_tokens(tokens))
        for layer in self.layers:
            h = layer(h, self.cos[:length], self.sin[:length])
        return self.norm(h)


class Network(nn.Module):
    """Language model; the embedding is the head, too.

    Args:
        config: shape; ``tokens`` may be at most ``max_position_embeddings`` long.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.model = Body(config)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits ``[batch, length, vocab]`` in float32 of ``tokens`` ``[batch, length]`` (int64)."""
        return F.linear(self.model(tokens), self.model.embed_tokens.weight)

    def num_ternary_weights(self) -> int:
        """Number of weights that are deployed as -1, 0 or +1."""
        return sum(m.weight.numel() for m in self.modules() if isinstance(m, BitLinear))
