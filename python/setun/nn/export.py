"""Trained layers as a packed Hugging Face checkpoint, which transformers and `setun compile` read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from setun.nn.conv import BitConv2d
from setun.nn.functional import EPS
from setun.nn.layer import BitLayer
from setun.nn.linear import BitLinear, RMSNorm
from setun.nn.packing import pack_ternary

WEIGHTS_FILE = "model.safetensors"


def _obstacle(layer: BitLayer) -> str | None:
    """What a layer does that the packed form cannot say."""
    if isinstance(layer, BitConv2d):
        return "is a convolution"
    assert isinstance(layer, BitLinear)
    if layer.out_features % 4:
        return f"has {layer.out_features} output features, no multiple of 4"
    if layer.activation != "per_token" or layer.activation_bits != 8 or layer.eps != EPS:
        return f"quantises activations {layer.activation}, {layer.activation_bits} bits, eps {layer.eps}"
    if layer.group_size:
        return f"has a weight scale for each {layer.group_size} inputs"
    if isinstance(layer.norm, nn.LayerNorm):
        return "has a LayerNorm"
    return None


def _norm_fields(layers: Mapping[str, BitLinear]) -> dict[str, Any]:
    """`use_rms_norm` and its epsilon.

    Raises:
        ValueError: the layers do not agree.
    """
    found = {layer.norm.eps if isinstance(layer.norm, RMSNorm) else None for layer in layers.values()}
    if len(found) != 1:
        raise ValueError(f"expects layers that all have the same norm, got RMSNorms of eps {sorted(map(str, found))}")
    (eps,) = found
    return {} if eps is None else {"use_rms_norm": True, "rms_norm_eps": eps}


def quantization_config(model: nn.Module) -> dict[str, Any]:
    """The `quantization_config` of config.json for a model with BitLinear layers (transformers' `BitNetQuantConfig`).

    Raises:
        ValueError: the model has no BitLinear layer, or some that the form has no words for; all are named.
    """
    layers = {name: module for name, module in model.named_modules() if isinstance(module, BitLayer)}
    if not layers:
        raise ValueError("expects a model with BitLinear layers, got none; setun.nn.replace_linear makes them")
    obstacles = {name: obstacle for name, layer in layers.items() if (obstacle := _obstacle(layer))}
    if obstacles:
        lines = "\n".join(f"  {name or type(model).__name__} {obstacle}" for name, obstacle in obstacles.items())
        raise ValueError(f"the packed form holds ternary layers with int8 activations of each token, but\n{lines}")
    dense = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    return {
        "quant_method": "bitnet",
        "linear_class": "autobitlinear",
        "quantization_mode": "offline",
        **_norm_fields(layers),
        **({"modules_to_not_convert": dense} if dense else {}),
    }


def packed_tensors(model: nn.Module, dtype: torch.dtype = torch.bfloat16) -> dict[str, Tensor]:
    """The tensors of a checkpoint: packed weights, their scales, and everything else in ``dtype``.

    Scales multiply. transformers multiplies the bias with them, too (``AutoBitLinear``, offline), so it is divided
    first. Of parameters that are one tensor by two names, the first name is kept.
    """
    tensors: dict[str, Tensor] = {}
    written: set[str] = set()
    for name, module in model.named_modules():
        if isinstance(module, BitLinear):
            prefix = f"{name}." if name else ""
            codes, scale = module.quantized()
            scale = scale.reshape(1).to(dtype)
            tensors |= {f"{prefix}weight": pack_ternary(codes), f"{prefix}weight_scale": scale}
            if module.bias is not None:
                tensors[f"{prefix}bias"] = (module.bias.detach().float() / scale.float()).to(dtype)
            if isinstance(module.norm, RMSNorm):
                tensors[f"{prefix}rms_norm.weight"] = module.norm.weight.detach().to(dtype)
            written |= {f"{prefix}weight", f"{prefix}bias", f"{prefix}norm.weight"}
    seen: set[tuple[int, torch.Size]] = set()
    for name, tensor in model.state_dict().items():
        key = (tensor.data_ptr(), tensor.shape)
        if name not in written and key not in seen:
            tensors[name] = tensor.to(dtype) if tensor.is_floating_point() else tensor
            seen.add(key)
    return {name: tensor.contiguous().cpu() for name, tensor in tensors.items()}


def save_packed(
    model: nn.Module,
    directory: str | Path,
    config: Mapping[str, Any] | None = None,
    dtype: torch.dtype = torch.bfloat16,
) -> Path:
    """Writes ``model.safetensors`` and ``config.json``: ternary weights in uint8, four a byte, one scale a matrix.

    What is written is what the layers compute when they are fully quantised, whatever their ``lam``.

    Args:
        model: with :class:`BitLinear` layers, its parameters named as in the checkpoints of its architecture.
        directory: made if it is not there.
        config: contents of config.json but for ``quantization_config``; ``model.config`` of a transformers model if
            None.
        dtype: of scales, embeddings, norms and dense layers. transformers wants one dtype for all of them.

    Returns:
        The file with the weights.

    Raises:
        ValueError: there is no configuration, or a layer has no packed form.
    """
    from safetensors.torch import save_file

    if config is None:
        if not callable(getattr(getattr(model, "config", None), "to_dict", None)):
            raise ValueError("expects config=, the contents of config.json, for a model that is not of transformers")
        config = {**model.config.to_dict(), "architectures": [type(model).__name__]}
    name = str(dtype).removeprefix("torch.")
    # The first is what transformers 4 reads, the second what transformers 5 does.
    fields = {**config, "torch_dtype": name, "dtype": name, "quantization_config": quantization_config(model)}
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    weights = directory / WEIGHTS_FILE
    save_file(packed_tensors(model, dtype), weights, metadata={"format": "pt"})
    # save_file leaves the file readable by its owner only.
    weights.chmod(0o644)
    (directory / "config.json").write_text(json.dumps(fields, indent=2) + "\n", encoding="utf-8")
    return weights
