"""What a decoder's config.json says, read and checked. Needs no torch."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from setun.diagnostics import Diagnostics

MAX_LAYERS = 1000
MAX_CONTEXT = 1 << 24
MAX_VOCABULARY = 1 << 24
MAX_SIZE = 1 << 20
"""Far above every published model: what is larger comes from a damaged file and would fill the memory."""

MAX_FLOAT = sys.float_info.max

KV_CACHES = ("f16", "f32")

GATE_ACTIVATIONS = {"relu2": "relu2", "silu": "silu", "swish": "silu"}


@dataclass(frozen=True)
class Quantization:
    """How the linear layers of a checkpoint were quantised (Hugging Face `quantization_config`).

    Attributes:
        auto: `linear_class` is `autobitlinear`: the stored scale is mean|W| and multiplies; otherwise it is
            1 / mean|W| and divides. The configuration decides, never the value.
        online: the files hold masters, which are quantised per tensor (absmean).
        dense: patterns of the module names that stay in full precision; `lm_head` always does.
        norm_eps: epsilon of an RMSNorm inside each layer, or None.
        bits: width of the activation codes.
        eps: lower bound of max|x| and of mean|W|.
    """

    auto: bool = False
    online: bool = False
    dense: tuple[str, ...] = ("lm_head",)
    norm_eps: float | None = None
    bits: int = 8
    eps: float = 1e-5

    def converts(self, module: str) -> bool:
        """Whether the linear layer `module` is a BitLinear, by the matching rules of transformers."""
        boundary = r"(?:(?<=\.)|(?=\.|$))"
        return not any(re.match(rf"(?:{key}){boundary}", module) or module.endswith(key) for key in self.dense)


@dataclass(frozen=True)
class DecoderConfig:
    """Shapes and numbers of a decoder-only transformer. Sizes are in elements, `context` in tokens.

    `kv_cache` is the element type of the key and value cache, one of `KV_CACHES`; the checkpoint says nothing about it.
    """

    architecture: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    gate_act: str
    context: int
    rope_theta: float
    norm_eps: float
    tied: bool
    attention_bias: bool
    mlp_bias: bool
    quantization: Quantization
    kv_cache: str = "f16"


def _positive(
    config: Mapping[str, Any], key: str, found: Diagnostics, default: int | None = None, most: int | None = None
) -> int:
    value = config.get(key)
    if value is None and default is not None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
        found.error("bad-config", "config.json", f"expects a positive integer for {key!r}, got {value!r}")
        return 1
    if most is not None and value > most:
        found.error("bad-config", "config.json", f"expects at most {most} for {key!r}, got {value}")
        return 1
    return value


def _epsilon(config: Mapping[str, Any], key: str, found: Diagnostics, default: float) -> float:
    value = config.get(key)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MAX_FLOAT:
        found.error("bad-config", "config.json", f"expects a number of 0 or more for {key!r}, got {value!r}")
        return default
    return float(value)


def _flag(config: Mapping[str, Any], key: str, found: Diagnostics, default: bool) -> bool:
    value = config.get(key)
    if value is None:
        return default
    if not isinstance(value, bool):
        found.error("bad-config", "config.json", f"expects true or false for {key!r}, got {value!r}")
        return default
    return value


def _rope(config: Mapping[str, Any], found: Diagnostics, default_theta: float) -> float:
    """Base of the rotary embedding; scaled variants are refused, since ignoring them gives fluent nonsense."""
    parameters = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if not isinstance(parameters, Mapping):
        found.error("bad-config", "config.json", f"expects an object for rope parameters, got {parameters!r}")
        parameters = {}
    for section in (parameters, config.get("rope_scaling")):  # where both are given, neither may be passed over
        if not isinstance(section, Mapping):
            continue
        kind = section.get("rope_type", section.get("type", "default"))
        if kind == "default":
            continue
        found.error(
            "unsupported-rope",
            "config.json",
            f"rope scaling {kind!r} is not supported, only plain rotary embeddings are",
        )
        break
    theta = parameters.get("rope_theta", config.get("rope_theta", default_theta))
    if isinstance(theta, bool) or not isinstance(theta, int | float) or not 0 < theta <= MAX_FLOAT:
        found.error("bad-config", "config.json", f"expects a positive number for 'rope_theta', got {theta!r}")
        return default_theta
    partial = parameters.get("partial_rotary_factor", config.get("partial_rotary_factor", 1.0))
    if partial != 1.0:
        found.error("unsupported-rope", "config.json", f"partial rotary embedding ({partial}) is not supported")
    return float(theta)


def read_quantization(config: Mapping[str, Any], found: Diagnostics) -> Quantization | None:
    """`quantization_config` of config.json, or None where there is none."""
    section = config.get("quantization_config")
    if section is None:
        return None
    if not isinstance(section, Mapping):
        found.error("bad-config", "config.json", f"expects an object for 'quantization_config', got {section!r}")
        return Quantization()
    method = section.get("quant_method")
    if method != "bitnet":
        found.error(
            "unsupported-quantization",
            "config.json",
            f"quantisation method {method!r} is not supported, only 'bitnet' is",
            "Setun compiles 1-bit and 1.58-bit checkpoints; this one was quantised in another way.",
        )
    linear_class = section.get("linear_class", "bitlinear")
    mode = section.get("quantization_mode", "offline")
    if linear_class not in ("bitlinear", "autobitlinear"):
        message = f"expects linear_class bitlinear or autobitlinear, got {linear_class!r}"
        found.error("bad-config", "config.json", message)
    if mode not in ("online", "offline"):
        found.error("bad-config", "config.json", f"expects quantization_mode online or offline, got {mode!r}")
    if mode == "online" and linear_class != "autobitlinear":
        found.error(
            "bad-config",
            "config.json",
            "quantization_mode online needs linear_class autobitlinear: masters are only quantised by that class",
        )
    skipped = section.get("modules_to_not_convert")
    if skipped is not None and not (isinstance(skipped, list) and all(isinstance(name, str) for name in skipped)):
        message = f"expects a list of names for 'modules_to_not_convert', got {skipped!r}"
        found.error("bad-config", "config.json", message)
        skipped = None
    for pattern in skipped or ():
        try:
            re.compile(pattern)
        except re.error as error:
            found.error("bad-config", "config.json", f"modules_to_not_convert: {pattern!r} is no pattern ({error})")
            skipped = None
            break
    return Quantization(
        auto=linear_class == "autobitlinear",
        online=mode == "online",
        dense=tuple(dict.fromkeys([*(skipped or ()), "lm_head"])),
        norm_eps=_epsilon(section, "rms_norm_eps", found, 1e-6) if section.get("use_rms_norm") else None,
    )


def read_decoder(
    config: Mapping[str, Any],
    architecture: str,
    quantization: Quantization,
    found: Diagnostics,
    *,
    default_theta: float,
    default_act: str,
    default_norm_eps: float,
    default_tied: bool = False,
) -> DecoderConfig:
    """The shape of a Llama-like decoder. What is wrong is added to `found`; the result is then not to be used."""
    hidden = _positive(config, "hidden_size", found, most=MAX_SIZE)
    heads = _positive(config, "num_attention_heads", found, most=MAX_SIZE)
    kv_heads = _positive(config, "num_key_value_heads", found, heads, most=MAX_SIZE)
    head_dim = _positive(config, "head_dim", found, max(hidden // heads, 1), most=MAX_SIZE)
    if config.get("head_dim") is None and hidden % heads:
        found.error("bad-config", "config.json", f"hidden_size {hidden} is no multiple of {heads} attention heads")
    if heads % kv_heads:
        found.error("bad-config", "config.json", f"{heads} attention heads are no multiple of {kv_heads} key heads")
    if head_dim % 2:
        found.error("bad-config", "config.json", f"expects an even head_dim for rotary embeddings, got {head_dim}")
    act = config.get("hidden_act", default_act)
    if not isinstance(act, str) or act not in GATE_ACTIVATIONS:
        found.error(
            "unsupported-activation",
            "config.json",
            f"activation {act!r} is not supported, only {', '.join(sorted(set(GATE_ACTIVATIONS.values())))} are",
        )
    return DecoderConfig(
        architecture=architecture,
        vocab_size=_positive(config, "vocab_size", found, most=MAX_VOCABULARY),
        hidden_size=hidden,
        intermediate_size=_positive(config, "intermediate_size", found, most=MAX_SIZE),
        layers=_positive(config, "num_hidden_layers", found, most=MAX_LAYERS),
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        gate_act=GATE_ACTIVATIONS.get(str(act), "silu"),
        context=_positive(config, "max_position_embeddings", found, 2048, MAX_CONTEXT),
        rope_theta=_rope(config, found, default_theta),
        norm_eps=_epsilon(config, "rms_norm_eps", found, default_norm_eps),
        tied=_flag(config, "tie_word_embeddings", found, default_tied),
        attention_bias=_flag(config, "attention_bias", found, False),
        mlp_bias=_flag(config, "mlp_bias", found, False),
        quantization=quantization,
    )
