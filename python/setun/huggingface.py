"""Hugging Face transformers' own model of a checkpoint, in float32 on the CPU: what logits are compared with."""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from setun.checkpoint import Checkpoint, load_json
from setun.diagnostics import SetunError

ONEBIT_KEYS = {r"\.inner_attn_ln\.": ".attn_sub_norm.", r"\.ffn_layernorm\.": ".ffn_sub_norm."}


def load_reference(checkpoint: Checkpoint) -> Any:
    """The checkpoint as transformers reads it: a causal language model in evaluation mode.

    Scales are kept and applied in float32 (bfloat16 arithmetic of scales would move activation codes), and nothing is
    fetched. 1bitLLM's architecture, which transformers does not have, is read as BitNetForCausalLM: the same graph
    under other names.
    """
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    logging.getLogger("transformers").setLevel(logging.ERROR)
    keywords: dict[str, Any] = {"dtype": torch.float32, "attn_implementation": "eager", "local_files_only": True}
    if "BitnetForCausalLM" not in (checkpoint.config.get("architectures") or []):
        return _widen(AutoModelForCausalLM.from_pretrained(checkpoint.directory, **keywords))
    with tempfile.TemporaryDirectory() as folder:
        config = load_json(checkpoint.directory / "config.json")
        config |= {"architectures": ["BitNetForCausalLM"], "model_type": "bitnet"}
        config.setdefault("hidden_act", "silu")
        config.setdefault(
            "quantization_config",
            {"quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": "online"},
        )
        Path(folder, "config.json").write_text(json.dumps(config), encoding="utf-8")
        for file in checkpoint.files:
            Path(folder, file.name).symlink_to(file.resolve())
        index = checkpoint.directory / "model.safetensors.index.json"
        if index.is_file():
            Path(folder, index.name).symlink_to(index.resolve())
        return _widen(AutoModelForCausalLM.from_pretrained(folder, key_mapping=ONEBIT_KEYS, **keywords))


def _widen(model: Any) -> Any:
    """Floats to float32: quantised checkpoints keep the files' dtype whatever was asked for. Widening is exact."""
    import torch

    for tensor in [*model.parameters(), *model.buffers()]:
        if tensor.is_floating_point():
            tensor.data = tensor.data.float()
    for module in model.modules():
        if isinstance(getattr(module, "dtype", None), torch.dtype) and "dtype" in vars(module):
            module.dtype = torch.float32
    return model.eval()


@dataclass
class CodeComparison:
    """Activation codes of transformers beside given ones.

    Attributes:
        codes: how many were compared.
        at_boundary: differ by one where transformers' float lies on a rounding boundary.
        different: differ otherwise.
        first: where the first of these is.
    """

    codes: int = 0
    at_boundary: int = 0
    different: int = 0
    first: str = ""


# Half a code is a rounding boundary; floats of two exact implementations differ by a few units in the last place.
BOUNDARY = 1e-3


@contextmanager
def aligned_codes(model: Any, codes: Mapping[str, np.ndarray]) -> Iterator[CodeComparison]:
    """Lets a transformers model compute with given activation codes where its own lie on a rounding boundary.

    Two correct implementations add floats in different orders. Where the result falls on either side of a rounding
    boundary, one code differs by one, and from there on both compute something slightly different. To compare the rest,
    the model takes the given code in these places, and nowhere else: any other difference is only counted.

    Args:
        model: from `load_reference`.
        codes: int8 `[T, K]` by layer.
    """
    import torch
    from transformers.integrations import bitnet

    result = CodeComparison()
    current = [""]

    def quantize(x: Any) -> tuple[Any, Any]:
        """Codes as floats and their scale, as both classes of transformers compute them."""
        wide = x.float()
        scale = 127 / wide.abs().max(dim=-1, keepdim=True).values.clamp(min=1e-5)
        exact = wide * scale
        own = exact.round().clamp(-128, 127)
        given = torch.from_numpy(codes[current[0]].astype(np.float32)).reshape(own.shape)
        boundary = ((given - own).abs() == 1) & ((exact - (given + own) / 2).abs() <= BOUNDARY)
        other = (given != own) & ~boundary
        result.codes += own.numel()
        result.at_boundary += int(boundary.sum())
        if other.any():
            if not result.different:
                place = other.nonzero()[0].tolist()
                result.first = f"{current[0]}, token {place[-2]}, input {place[-1]}"
            result.different += int(other.sum())
        return torch.where(boundary, given, own), scale

    def activation_quant(self: Any, x: Any, num_bits: int = 8) -> tuple[Any, Any]:
        own, scale = quantize(x)
        return own.to(torch.int8), scale

    def fake_quant(context: Any, x: Any) -> Any:
        own, scale = quantize(x)
        return own / scale

    def enter(name: str) -> Any:
        return lambda module, inputs: current.__setitem__(0, name)

    hooks = [model.get_submodule(name).register_forward_pre_hook(enter(name)) for name in codes]
    saved = bitnet.BitLinear.activation_quant, bitnet.ActQuant.forward
    bitnet.BitLinear.activation_quant, bitnet.ActQuant.forward = activation_quant, staticmethod(fake_quant)
    try:
        yield result
    finally:
        bitnet.BitLinear.activation_quant, bitnet.ActQuant.forward = saved[0], staticmethod(saved[1])
        for hook in hooks:
            hook.remove()


def int8_codes(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Codes int8 `[N, K]` and scales float32 `[N]` of a float32 head, as the compiler's `absmax` makes them."""
    scale = np.maximum(np.abs(weight).max(axis=1), np.float32(1e-30)) / np.float32(127)
    codes = np.rint(weight * (np.float32(1) / scale)[:, None])
    return np.clip(codes, -127, 127).astype(np.int8), scale


def quantize_head(model: Any) -> None:
    """Gives a transformers model the head of `--head int8`: 8-bit weights by row, 8-bit activations by token."""
    import torch
    from transformers.integrations import bitnet

    class Int8Head(torch.nn.Module):
        def __init__(self, weight: np.ndarray) -> None:
            super().__init__()
            codes, scale = int8_codes(weight)
            self.codes, self.scale = torch.from_numpy(codes), torch.from_numpy(scale)

        def forward(self, x: Any) -> Any:
            codes, scale = bitnet.BitLinear.activation_quant(self, x)  # what `aligned_codes` replaces
            return (codes.float() @ self.codes.float().T) * (self.scale / scale)

    model.lm_head = Int8Head(model.lm_head.weight.detach().numpy())


@contextmanager
def rounded_cache(model: Any, kv_cache: str) -> Iterator[None]:
    """Lets the attention of a transformers model see keys and values as a cache of `kv_cache` (f16 or f32) holds them.

    They are rounded where they enter the cache: after the rotary embedding, and without scale.
    """
    from setun.ops import round_to_f16

    modules = {sys.modules[type(module).__module__] for module in model.modules()}
    modules = {module for module in modules if hasattr(module, "eager_attention_forward")}
    if kv_cache == "f32":
        modules = set()
    elif not modules:
        raise SetunError("transformers has no attention function for this model whose keys could be rounded to f16")

    def rounding(attend: Any) -> Any:
        def attend_rounded(module: Any, query: Any, key: Any, value: Any, *rest: Any, **keywords: Any) -> Any:
            return attend(module, query, round_to_f16(key).float(), round_to_f16(value).float(), *rest, **keywords)

        return attend_rounded

    saved = {module: module.eager_attention_forward for module in modules}
    for module, attend in saved.items():
        module.eager_attention_forward = rounding(attend)
    try:
        yield
    finally:
        for module, attend in saved.items():
            module.eager_attention_forward = attend


def logits(model: Any, tokens: Any) -> np.ndarray:
    """Logits float32 `[T, vocab]` of a transformers model for int64 `tokens` `[T]`.

    Functions that transformers compiles run uncompiled, as they are written.
    """
    import torch

    with torch.no_grad(), torch.compiler.set_stance("force_eager"):
        return model(torch.as_tensor(tokens)[None], use_cache=False).logits[0].float().numpy()


def reference_logits(checkpoint: Checkpoint, tokens: Any, kv_cache: str = "f16") -> np.ndarray:
    """Logits float32 `[T, vocab]` of transformers for int64 `tokens` `[T]`, keys and values as a cache has them."""
    model = load_reference(checkpoint)
    with rounded_cache(model, kv_cache):
        return logits(model, tokens)
