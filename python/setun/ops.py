"""The `bitnet` operations as PyTorch operators: `torch.ops.setun.*`.

The model definitions under `setun.models` are written with these, so that `torch.export` keeps each one whole and the
tracer emits one operation of the `bitnet` dialect for it. Each operator has a float32 CPU implementation of reference
quality (slow, obvious; the formulas of `dialects/BitNet/BitNetOps.td`) and a shape function. They compute in float32
whatever the dtype of the parameters. None works on a batch: `x` is `[T, features]`, the tokens of one sequence.

Integer parts are exact: products of int8 codes and ternary weights are summed as float32 integers, which is exact
while `127 * K < 2**24`; a wider layer is summed in float64.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

STORAGES = ("packed", "ternary", "absmean", "sign")
"""How a weight tensor holds its codes: four rows a byte (Hugging Face); floats or int8 of -1, 0, +1; masters that the
absmean (b1.58) or sign (b1) quantiser turns into codes."""

_LIBRARY = torch.library.Library("setun", "DEF")


def unpack_codes(packed: Tensor, rows: int) -> Tensor:
    """Hugging Face packing to codes: uint8 `[R, K]` to float32 `[rows, K]` of -1, 0, +1 (`rows <= 4 * R`).

    Byte `(r, c)` holds rows `r, r+R, r+2R, r+3R` from the low bits up, each as code + 1.
    """
    fields = [((packed >> (2 * i)) & 3).to(torch.int8) for i in range(4)]
    return torch.cat(fields)[:rows].float() - 1


def ternarize(masters: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """absmean quantiser (arXiv 2402.17764): codes float32 `[N, K]` and the multiplying scale `[1]`."""
    wide = masters.float()
    mean = wide.abs().double().mean().float().clamp(min=eps)
    return (wide * (1.0 / mean)).round().clamp(-1, 1), mean.reshape(1)


def binarize(masters: Tensor) -> tuple[Tensor, Tensor]:
    """Mean-centred sign quantiser (arXiv 2310.11453), Sign(0) = -1: codes float32 `[N, K]`, multiplying scale `[1]`."""
    wide = masters.double()
    codes = torch.where(wide - wide.mean() > 0, 1.0, -1.0).float()
    return codes, wide.abs().mean().float().reshape(1)


def weight_codes(weight: Tensor, storage: str, out_features: int, eps: float) -> tuple[Tensor, Tensor | None]:
    """Codes float32 `[out_features, K]` of a stored weight, and its own scale where the storage defines one."""
    if storage == "packed":
        return unpack_codes(weight, out_features), None
    if storage == "ternary":
        return weight.float(), None
    if storage == "absmean":
        return ternarize(weight, eps)
    if storage == "sign":
        return binarize(weight)
    raise ValueError(f"expects weight storage one of {', '.join(STORAGES)}, got {storage!r}")


def quantize_activations(x: Tensor, granularity: str, bits: int, eps: float) -> tuple[Tensor, Tensor]:
    """absmax quantiser: codes (float32 integers, shape of `x`) and the scale `s` that they were multiplied by.

    Rounds half to even; `granularity` is `per_token` (maximum over the last axis) or `per_tensor`.
    """
    top = float(2 ** (bits - 1) - 1)
    absmax = x.abs().amax(-1, keepdim=True) if granularity == "per_token" else x.abs().amax()
    scale = (1.0 / absmax.clamp(min=eps)) * top
    return (x * scale).round().clamp(-top - 1, top), scale


def product(codes: Tensor, weight: Tensor) -> Tensor:
    """Exact integer product `codes . weight^T` of two float32 tensors of integers, as float32 `[T, N]`."""
    if 128 * codes.shape[-1] < 2**24:
        return F.linear(codes, weight)
    return F.linear(codes.double(), weight.double()).float()


_LIBRARY.define(
    "bit_linear(Tensor x, Tensor weight, Tensor? scale, Tensor? bias, Tensor? norm_weight, *, SymInt out_features, "
    "str storage, str activation, int bits, float eps, bool divide, str norm, float norm_eps) -> Tensor"
)


def _bit_linear(
    x: Tensor,
    weight: Tensor,
    scale: Tensor | None,
    bias: Tensor | None,
    norm_weight: Tensor | None,
    *,
    out_features: int,
    storage: str,
    activation: str,
    bits: int,
    eps: float,
    divide: bool,
    norm: str,
    norm_eps: float,
) -> Tensor:
    """BitLinear: `[T, K]` to `[T, N]`. `activation`: per_token, per_tensor or none; `norm`: rms, layer or none."""
    x = x.float()
    if norm == "rms":
        x = _rms_norm(x, norm_weight, norm_eps)
    elif norm == "layer":
        x = F.layer_norm(x, x.shape[-1:], None if norm_weight is None else norm_weight.float(), None, norm_eps)
    codes, own_scale = weight_codes(weight, storage, out_features, eps)
    scale = own_scale if own_scale is not None else (torch.ones(1) if scale is None else scale.float())
    if divide:
        scale = 1.0 / scale
    if activation == "none":
        y = F.linear(x, codes) * scale
    else:
        quantized, input_scale = quantize_activations(x, activation, bits, eps)
        y = product(quantized, codes) * ((1.0 / input_scale) * scale)
    return y if bias is None else y + bias.float()


def _bit_linear_fake(x: Tensor, weight: Tensor, *_: object, out_features: int, **__: object) -> Tensor:
    return x.new_empty((x.shape[0], out_features), dtype=torch.float32)


_LIBRARY.define("rms_norm(Tensor x, Tensor? weight, float eps) -> Tensor")


def _rms_norm(x: Tensor, weight: Tensor | None, eps: float) -> Tensor:
    """`x * rsqrt(mean(x^2) + eps) * weight` over the last axis (arXiv 1910.07467)."""
    x = x.float()
    x = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)
    return x if weight is None else weight.float() * x


_LIBRARY.define("rotary(Tensor x, Tensor cos, Tensor sin, Tensor pos) -> Tensor")


def _rotary(x: Tensor, cos: Tensor, sin: Tensor, pos: Tensor) -> Tensor:
    """Rotary embedding, rotate-half pairs `(i, i + D/2)` (arXiv 2104.09864): `x` is `[T, H, D]`, tables `[rows, D/2]`.

    Token `t` uses table row `pos + t`.
    """
    start = int(pos)
    cos = cos[start : start + x.shape[0], None, :]
    sin = sin[start : start + x.shape[0], None, :]
    low, high = x.chunk(2, dim=-1)
    return torch.cat((low * cos - high * sin, high * cos + low * sin), dim=-1)


_LIBRARY.define("cache_update(Tensor cache, Tensor rows, Tensor pos) -> Tensor")


def _cache_update(cache: Tensor, rows: Tensor, pos: Tensor) -> Tensor:
    """`cache` `[C, H, D]` with rows `pos .. pos+T-1` replaced by `rows` `[T, H, D]`, as a new tensor.

    A cache of float16 takes rows clamped to its finite range.

    Raises:
        ValueError: when the rows do not fit.
    """
    start = int(pos)
    if start + rows.shape[0] > cache.shape[0]:
        raise ValueError(f"expects at most {cache.shape[0]} tokens in the cache, got {start + rows.shape[0]}")
    result = cache.clone()
    if cache.dtype == torch.float16:
        rows = round_to_f16(rows)
    result[start : start + rows.shape[0]] = rows
    return result


def round_to_f16(x: Tensor) -> Tensor:
    """The float16 that a cache takes for `x`: the nearest, ties to even, of the finite ones."""
    limit = torch.finfo(torch.float16).max
    return x.float().nan_to_num(nan=-limit).clamp(-limit, limit).half()


_LIBRARY.define("attention(Tensor q, Tensor k, Tensor v, Tensor pos, float scale, bool causal) -> Tensor")


def _attention(q: Tensor, k: Tensor, v: Tensor, pos: Tensor, scale: float, causal: bool) -> Tensor:
    """Grouped-query attention: `q` `[T, H, D]`, `k` and `v` `[C, HKV, D]` with `pos + T` rows in use.

    Query head `h` reads key head `h // (H // HKV)`; token `t` sees rows `0 .. pos+t` if causal.
    """
    start, tokens, heads = int(pos), q.shape[0], q.shape[1]
    used, repeat = start + tokens, heads // k.shape[1]
    k = k[:used].float().repeat_interleave(repeat, dim=1)
    v = v[:used].float().repeat_interleave(repeat, dim=1)
    scores = torch.einsum("thd,chd->htc", q, k) * scale
    if causal:
        visible = torch.arange(used)[None, :] <= start + torch.arange(tokens)[:, None]
        scores = scores.masked_fill(~visible, float("-inf"))
    return torch.einsum("htc,chd->thd", scores.softmax(-1), v).contiguous()


_LIBRARY.define("gated(Tensor gate, Tensor up, str act) -> Tensor")


def _gated(gate: Tensor, up: Tensor, act: str) -> Tensor:
    """`act(gate) * up`, elementwise; `act` is `relu2` (squared ReLU) or `silu`."""
    if act == "relu2":
        return F.relu(gate).square() * up
    if act == "silu":
        return F.silu(gate) * up
    raise ValueError(f"expects gate activation relu2 or silu, got {act!r}")


_LIBRARY.define("embedding(Tensor table, Tensor tokens) -> Tensor")


def _embedding(table: Tensor, tokens: Tensor) -> Tensor:
    """Rows of `table` `[V, H]` for `tokens` int64 `[T]`, as float32 `[T, H]`."""
    return table[tokens].float()


_LIBRARY.define("dense(Tensor x, Tensor weight, Tensor? bias) -> Tensor")


def _dense(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Full-precision linear layer: `[T, K]` by `[N, K]` gives `[T, N]`, accumulated in float32."""
    return F.linear(x.float(), weight.float(), None if bias is None else bias.float())


TOP_K = 64
"""Length of the results of `top_k`."""

_LIBRARY.define("top_k(Tensor x, Tensor weight, Tensor k) -> (Tensor, Tensor)")


def _top_k(x: Tensor, weight: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    """The `k` (int64 `[1]`) largest of the logits of one row `[1, K]`, by logit and then by id: ids int64 and logits
    float32, both `[64]`, with -1 and -inf beyond `k`."""
    logits = _dense(x, weight, None)[0].nan_to_num(nan=float("-inf"), posinf=float("inf"), neginf=float("-inf"))
    values, ids = logits.sort(descending=True, stable=True)
    count = min(max(int(k), 0), TOP_K, len(logits))
    best, chosen = torch.full((TOP_K,), float("-inf")), torch.full((TOP_K,), -1)
    best[:count], chosen[:count] = values[:count], ids[:count]
    return chosen, best


def _top_k_fake(x: Tensor, weight: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    return x.new_empty((TOP_K,), dtype=torch.int64), x.new_empty((TOP_K,), dtype=torch.float32)


def _like_first(x: Tensor, *_: object) -> Tensor:
    return torch.empty_like(x, dtype=torch.float32)


def _cache_update_fake(cache: Tensor, *_: object) -> Tensor:
    return torch.empty_like(cache)


def _embedding_fake(table: Tensor, tokens: Tensor) -> Tensor:
    return table.new_empty((tokens.shape[0], table.shape[1]), dtype=torch.float32)


def _dense_fake(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return x.new_empty((x.shape[0], weight.shape[0]), dtype=torch.float32)


for _name, _eager, _fake in (
    ("bit_linear", _bit_linear, _bit_linear_fake),
    ("rms_norm", _rms_norm, _like_first),
    ("rotary", _rotary, _like_first),
    ("cache_update", _cache_update, _cache_update_fake),
    ("attention", _attention, _like_first),
    ("gated", _gated, _like_first),
    ("embedding", _embedding, _embedding_fake),
    ("dense", _dense, _dense_fake),
    ("top_k", _top_k, _top_k_fake),
):
    _LIBRARY.impl(_name, _eager, "CPU")
    torch.library.register_fake(f"setun::{_name}", _fake, lib=_LIBRARY)
