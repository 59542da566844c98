"""Layers that the model definitions share, written with the `setun` operators. One sequence, no batch axis.

Parameters are named as in the checkpoints. A definition is built without memory (`torch.device("meta")`) to be traced,
or on the CPU to be run; only the rotary tables always hold real values.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from setun import ops as _ops  # noqa: F401  (registers torch.ops.setun)
from setun.models.config import DecoderConfig, Quantization


@dataclass(frozen=True)
class Entry:
    """An entry point of a module: the method `name`, called with its inputs and then the position.

    Attributes:
        name: of the method and of the entry.
        reset: the session is emptied before the entry runs.
        inputs: dtype and dimensions, by name: an int, or a symbol, which is shared by all inputs and states.
        outputs: names of the results, in order.
        position: the method takes the number of tokens already in the session, an int64 scalar, as last argument.
        stages: methods that, one after another on each other's results, do what the method does. Entries that begin
            with the same stages have them exported once.
        late: inputs that only the last stage takes, after the results of the one before it.
    """

    name: str
    reset: bool
    inputs: Mapping[str, tuple[torch.dtype, tuple[int | str, ...]]]
    outputs: tuple[str, ...]
    position: bool = True
    stages: tuple[str, ...] = ()
    late: tuple[str, ...] = ()


def parameter(*shape: int, dtype: torch.dtype | None = None) -> nn.Parameter:
    """An empty parameter without gradient, on the default device."""
    return nn.Parameter(torch.empty(*shape, dtype=dtype), requires_grad=False)


class BitLinear(nn.Module):
    """Linear layer with ternary weights, `[T, in_features]` to `[T, out_features]`.

    The checkpoint decides how the weight is stored (`store`): packed, unpacked codes, masters, or `dense` for a layer
    that was left in full precision.

    Attributes:
        storage: one of `setun.ops.STORAGES`, or `dense`.
        scaled_bias: the bias in units of the output where the checkpoint's own is scaled together with the product
            (offline `autobitlinear`), else None.
    """

    def __init__(self, in_features: int, out_features: int, quantization: Quantization, bias: bool = False) -> None:
        super().__init__()
        self.in_features = in_features
        self.out_features = out_features
        self.quantization = quantization
        self.bias = parameter(out_features) if bias else None
        self.register_buffer("scaled_bias", None, persistent=False)
        self.rms_norm: RMSNorm | None = None
        if quantization.norm_eps is not None:
            self.rms_norm = RMSNorm(in_features, quantization.norm_eps)
        self.storage = ""
        self.weight: nn.Parameter
        self.weight_scale: nn.Parameter | None
        self.store("absmean" if quantization.online else "packed")

    def store(self, storage: str, dtype: torch.dtype | None = None) -> None:
        """Declares how the weight is stored; `dtype` is the file's, for all but packed weights."""
        self.storage = storage
        rows = (self.out_features + 3) // 4 if storage == "packed" else self.out_features
        self.weight = parameter(rows, self.in_features, dtype=torch.uint8 if storage == "packed" else dtype)
        self.weight_scale = parameter(1) if storage in ("packed", "ternary") else None
        if storage == "dense":
            self.rms_norm = None

    def forward(self, x: Tensor) -> Tensor:
        bias = self.bias if self.scaled_bias is None else self.scaled_bias
        if self.storage == "dense":
            return torch.ops.setun.dense(x, self.weight, bias)
        quantization, norm = self.quantization, self.rms_norm
        return torch.ops.setun.bit_linear(
            x,
            self.weight,
            self.weight_scale,
            bias,
            None if norm is None else norm.weight,
            out_features=self.out_features,
            storage=self.storage,
            activation="per_token",
            bits=quantization.bits,
            eps=quantization.eps,
            divide=not quantization.auto,
            norm="none" if norm is None else "rms",
            norm_eps=0.0 if norm is None else norm.eps,
        )


class RMSNorm(nn.Module):
    """Root mean square norm over the last axis, with a learned gain."""

    def __init__(self, features: int, eps: float) -> None:
        super().__init__()
        self.weight = parameter(features)
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.setun.rms_norm(x, self.weight, self.eps)


class Embedding(nn.Module):
    """Token embedding, `[T]` to `[T, hidden]`."""

    def __init__(self, rows: int, features: int) -> None:
        super().__init__()
        self.weight = parameter(rows, features)

    def forward(self, tokens: Tensor) -> Tensor:
        return torch.ops.setun.embedding(self.weight, tokens)


class Head(nn.Module):
    """Full-precision output layer, `[T, hidden]` to `[T, vocab]`."""

    def __init__(self, rows: int, features: int) -> None:
        super().__init__()
        self.weight = parameter(rows, features)

    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.setun.dense(x, self.weight, None)


class RotaryTable(nn.Module):
    """Cosines and sines of the rotary embedding, float32 `[context, head_dim / 2]`, computed as transformers does."""

    def __init__(self, head_dim: int, context: int, theta: float) -> None:
        super().__init__()
        with torch.device("cpu"):
            inverse = 1.0 / (theta ** (torch.arange(0, head_dim, 2, dtype=torch.float) / head_dim))
            angles = torch.arange(context, dtype=torch.float)[:, None] * inverse[None, :]
            self.register_buffer("cos", angles.cos(), persistent=False)
            self.register_buffer("sin", angles.sin(), persistent=False)

    def forward(self, x: Tensor, pos: Tensor) -> Tensor:
        return torch.ops.setun.rotary(x, self.cos, self.sin, pos)


class CausalAttention(nn.Module):
    """Grouped-query attention over a key and a value cache, which are the session's state.

    `q` is `[T, heads, head_dim]`, `k` and `v` are `[T, kv_heads, head_dim]`; the caches are
    `[C, kv_heads, head_dim]` with a capacity C that each session chooses, in the element type that the configuration
    says.

    Attributes:
        session_state: names of the buffers that a session keeps, each with the symbols of its dynamic dimensions.
    """

    session_state: ClassVar = {"k": ("C", None, None), "v": ("C", None, None)}

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        shape = (config.context, config.kv_heads, config.head_dim)
        dtype = torch.float16 if config.kv_cache == "f16" else torch.float32
        self.register_buffer("k", torch.zeros(shape, dtype=dtype), persistent=False)
        self.register_buffer("v", torch.zeros(shape, dtype=dtype), persistent=False)
        self.scale = config.head_dim**-0.5

    def forward(self, q: Tensor, k: Tensor, v: Tensor, pos: Tensor) -> Tensor:
        self.k.copy_(torch.ops.setun.cache_update(self.k, k, pos))
        self.v.copy_(torch.ops.setun.cache_update(self.v, v, pos))
        return torch.ops.setun.attention(q, self.k, self.v, pos, self.scale, True)


class DecoderLayer(nn.Module):
    """Attention and feed-forward, each on the normalised hidden states `[T, hidden]` and added to them."""

    def __init__(self, config: DecoderConfig, attention: nn.Module, mlp: nn.Module) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config.norm_eps)
        self.self_attn = attention
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.norm_eps)
        self.mlp = mlp

    def forward(self, x: Tensor, rotary: RotaryTable, pos: Tensor) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), rotary, pos)
        return x + self.mlp(self.post_attention_layernorm(x))


class Decoder(nn.Module):
    """Embedding, layers, last norm and the table of the rotary embedding, by the names of Hugging Face's files."""

    def __init__(self, config: DecoderConfig, layers: Iterable[DecoderLayer]) -> None:
        super().__init__()
        self.embed_tokens = Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(layers)
        self.norm = RMSNorm(config.hidden_size, config.norm_eps)
        self.rotary = RotaryTable(config.head_dim, config.context, config.rope_theta)


class CausalLM(nn.Module):
    """A decoder with its output head: what every language model definition returns.

    Subclasses set `model`. Without `lm_head` the head is the embedding table.
    """

    model: Decoder

    entries = (
        Entry("forward", True, {"tokens": (torch.int64, ("T",))}, ("logits",), stages=("body", "head")),
        Entry("step", False, {"tokens": (torch.int64, ("T",))}, ("logits",), stages=("body", "last")),
        Entry(
            "choose",
            False,
            {"tokens": (torch.int64, ("T",)), "k": (torch.int64, (1,))},
            ("ids", "logits"),
            stages=("body", "best"),
            late=("k",),
        ),
    )

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.lm_head: Head | None = None if config.tied else Head(config.vocab_size, config.hidden_size)

    def body(self, tokens: Tensor, pos: Tensor) -> Tensor:
        """Hidden states `[T, hidden]` after the last norm."""
        x = self.model.embed_tokens(tokens)
        for layer in self.model.layers:
            x = layer(x, self.model.rotary, pos)
        return self.model.norm(x)

    def head(self, x: Tensor) -> Tensor:
        if self.lm_head is not None:
            return self.lm_head(x)
        return torch.ops.setun.dense(x, self.model.embed_tokens.weight, None)

    def last(self, x: Tensor) -> Tensor:
        return self.head(x[-1:])

    def best(self, x: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        weight = self.model.embed_tokens.weight if self.lm_head is None else self.lm_head.weight
        return torch.ops.setun.top_k(x[-1:], weight, k)

    def forward(self, tokens: Tensor, pos: Tensor) -> Tensor:
        """Logits of every token, `[T, vocab]`. `tokens` is int64 `[T]`, `pos` the tokens already in the session."""
        return self.head(self.body(tokens, pos))

    def step(self, tokens: Tensor, pos: Tensor) -> Tensor:
        """Logits of the last token only, `[1, vocab]`."""
        return self.last(self.body(tokens, pos))

    def choose(self, tokens: Tensor, k: Tensor, pos: Tensor) -> tuple[Tensor, Tensor]:
        """Ids int64 `[64]` and logits of the `k` (int64 `[1]`, at most 64) largest of the last token's logits, the
        largest first, of equal ones the lowest id first; -1 and -inf beyond."""
        return self.best(self.body(tokens, pos), k)
