"""Hugging Face transformers' own model of a checkpoint, in float32 on the CPU: what logits are compared with."""

from __future__ import annotations

import json
import logging
import os
import tempfile
from pathlib import Path
from typing import Any

from setun.checkpoint import Checkpoint, load_json

ONEBIT_KEYS = {r"\.inner_attn_ln\.": ".attn_sub_norm.", r"\.ffn_layernorm\.": ".ffn_sub_norm."}


def load_reference(checkpoint: Checkpoint) -> Any:
    """The checkpoint as transformers reads it: a causal language model in evaluation mode.

    Scales are kept and applied in float32 (bfloat16 arithmetic of scales would move activation codes), functions that
    transformers compiles run uncompiled, and nothing is fetched. 1bitLLM's architecture, which transformers does not
    have, is read as BitNetForCausalLM: the same graph under other names.
    """
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    logging.getLogger("transformers").setLevel(logging.ERROR)
    torch.compiler.set_stance("force_eager")
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


def reference_logits(checkpoint: Checkpoint, tokens: Any) -> Any:
    """Logits float32 `[T, vocab]` of transformers for int64 `tokens` `[T]`, as numpy."""
    import torch

    model = load_reference(checkpoint)
    with torch.no_grad():
        return model(torch.as_tensor(tokens)[None], use_cache=False).logits[0].float().numpy()
