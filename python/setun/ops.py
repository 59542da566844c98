"""The `bitnet` operations as PyTorch operators: `torch.ops.setun.*`.

The model definitions under `setun.models` and the layers of `setun.nn` are written with these, so that `torch.export`
keeps each one whole and the tracer emits one operation of the `bitnet` dialect for it. Each operator has a float32
implementation of reference quality (slow, obvious; the formulas of `dialects/BitNet/BitNetOps.td`) and a shape
function. They compute in float32 whatever the dtype of the parameters.

`bit_linear`, `bit_conv2d` and `rms_norm` take any number of leading dimensions, run on every device, and have
gradients (straight through the quantisers). The others work on the tokens of one sequence, `[T, features]`, on the CPU.

Integer parts are exact: products of int8 codes and ternary weights are summed as float32 integers, which is exact
while `128 * K < 2**24`; a wider layer is summed in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

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


def group_means(values: Tensor, group: int) -> Tensor:
    """Means over the whole tensor, `[1]`, or over each group of `group` columns of a row: `[N, K]` to
    `[N, ceil(K / group)]`, the last group being shorter where K is no multiple."""
    if not group:
        return values.mean().reshape(1)
    return torch.stack([part.mean(-1) for part in values.split(group, dim=-1)], dim=-1)


def spread_groups(means: Tensor, group: int, columns: int) -> Tensor:
    """The result of `group_means`, in a shape that combines with the `[N, columns]` that it came from."""
    return means.repeat_interleave(group, dim=-1)[:, :columns] if group else means


def ternarize(masters: Tensor, eps: float, group: int = 0) -> tuple[Tensor, Tensor]:
    """absmean quantiser (arXiv 2402.17764): codes float32 of the masters' shape, and the scale that multiplies them.

    The scale is `[1]`, or `[N, ceil(K / group)]` for `[N, K]` with a scale for each group of inputs. Means are taken in
    float64 and rounded once, so that they depend on no order of summation.
    """
    wide = masters.float()
    scale = group_means(wide.abs().double(), group).float().clamp(min=eps)
    codes = (wide * spread_groups(1.0 / scale, group, masters.shape[-1])).round().clamp(-1, 1)
    return codes, scale


def binarize(masters: Tensor, group: int = 0) -> tuple[Tensor, Tensor]:
    """Mean-centred sign quantiser (arXiv 2310.11453), Sign(0) = -1: codes float32 of the masters' shape, and the scale
    that multiplies them, mean|W| of the masters as they are; shapes and means as in `ternarize`."""
    wide = masters.double()
    centres = spread_groups(group_means(wide, group), group, masters.shape[-1])
    codes = torch.where(wide > centres, 1.0, -1.0).float()
    return codes, group_means(wide.abs(), group).float()


def weight_codes(
    weight: Tensor, storage: str, out_features: int, eps: float, group: int = 0
) -> tuple[Tensor, Tensor | None]:
    """Codes float32 `[out_features, ...]` of a stored weight, and its own scale where the storage defines one.

    Raises:
        ValueError: unknown storage.
    """
    if storage == "packed":
        return unpack_codes(weight, out_features), None
    if storage == "ternary":
        return weight.float(), None
    if storage == "absmean":
        return ternarize(weight, eps, group)
    if storage == "sign":
        return binarize(weight, group)
    raise ValueError(f"expects weight storage one of {', '.join(STORAGES)}, got {storage!r}")


def largest_code(bits: int) -> float:
    """Code of the largest activation: 127 for 8 bits. The smallest code is one less than its negative."""
    return float(2 ** (bits - 1) - 1)


def quantize_activations(x: Tensor, granularity: str, bits: int, eps: float) -> tuple[Tensor, Tensor]:
    """absmax quantiser: codes (float32 integers, shape of `x`) and the scale `s` that they were multiplied by.

    Rounds half to even. `granularity` says what shares a scale: `per_token` (the last axis), `per_sample` (all axes but
    the first), or `per_tensor`; the first two keep the axes, with size 1.

    Raises:
        ValueError: unknown granularity.
    """
    if granularity == "per_token":
        absmax = x.abs().amax(-1, keepdim=True)
    elif granularity == "per_sample":
        absmax = x.abs().amax(tuple(range(1, x.dim())), keepdim=True)
    elif granularity == "per_tensor":
        absmax = x.abs().amax()
    else:
        raise ValueError(f"expects granularity per_token, per_sample or per_tensor, got {granularity!r}")
    top = largest_code(bits)
    scale = (1.0 / absmax.clamp(min=eps)) * top
    return (x * scale).round().clamp(-top - 1, top), scale


def exact(product: Callable[[Tensor, Tensor], Tensor], codes: Tensor, weight: Tensor) -> Tensor:
    """`product` of two float32 tensors of integers, summed over all axes of `weight` but the first, as float32."""
    if 128 * weight[0].numel() < 2**24:
        return product(codes, weight)
    return product(codes.double(), weight.double()).float()


def product(codes: Tensor, weight: Tensor) -> Tensor:
    """Exact integer product `codes . weight^T` of two float32 tensors of integers, as float32 `[..., N]`."""
    return exact(F.linear, codes, weight)


def _grouped_product(codes: Tensor, weight: Tensor, scale: Tensor, group: int) -> Tensor:
    """Sum over groups of inputs, in order: the exact product of each, times its scale `[N, G]`."""
    total = torch.zeros((), device=codes.device)
    pairs = zip(codes.split(group, dim=-1), weight.split(group, dim=-1), strict=True)
    for i, (part, rows) in enumerate(pairs):
        total = total + product(part, rows) * scale[:, i]
    return total


def _normed(x: Tensor, norm: str, norm_weight: Tensor | None, eps: float) -> Tensor:
    if norm == "rms":
        return _rms_norm(x, norm_weight, eps)
    if norm == "layer":
        return F.layer_norm(x, x.shape[-1:], None if norm_weight is None else norm_weight.float(), None, eps)
    return x


def _scale(own: Tensor | None, given: Tensor | None, divide: bool, like: Tensor) -> Tensor:
    """The multiplying scale of a weight: its quantiser's, or the stored one, or one."""
    if own is not None:
        return own
    if given is None:
        return torch.ones(1, device=like.device)
    return 1.0 / given.float() if divide else given.float()


_LIBRARY.define(
    "bit_linear(Tensor x, Tensor weight, Tensor? scale, Tensor? bias, Tensor? norm_weight, *, SymInt out_features, "
    "str storage, str activation, int bits, float eps, bool divide, str norm, float norm_eps, int group=0) -> Tensor"
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
    group: int = 0,
) -> Tensor:
    """BitLinear: `[..., K]` to `[..., N]`.

    `activation`: per_token, per_tensor or none; `norm`: rms, layer or none; `divide`: the given scale divides (that of
    a quantiser of masters multiplies always); `group`: inputs that share a weight scale, 0 for one scale in all.
    """
    x = _normed(x.float(), norm, norm_weight, norm_eps)
    codes, own_scale = weight_codes(weight, storage, out_features, eps, group)
    scale = _scale(own_scale, scale, divide, x)
    if activation != "none":
        x, input_scale = quantize_activations(x, activation, bits, eps)
    if group:
        y = _grouped_product(x, codes, scale, group)
        y = y if activation == "none" else y * (1.0 / input_scale)
    elif activation == "none":
        y = F.linear(x, codes) * scale
    else:
        y = product(x, codes) * ((1.0 / input_scale) * scale)
    return y if bias is None else y + bias.float()


def _straight(source: Tensor, value: Tensor) -> Tensor:
    """`value`, with the gradient going to `source`; good to a rounding error, as backward passes need it."""
    return source + (value - source).detach()


def _dequantized_weight(weight: Tensor, scale: Tensor | None, rows: int, options: dict[str, Any]) -> Tensor:
    """Weight of a layer in floats, with the gradient going to masters, if those it has."""
    storage, group = options["storage"], options.get("group", 0)
    codes, own_scale = weight_codes(weight.detach(), storage, rows, options["eps"], group)
    scale = _scale(own_scale, None if scale is None else scale.detach(), options["divide"], codes)
    value = codes * spread_groups(scale, group, codes.shape[-1])
    return _straight(weight.float(), value) if storage in ("absmean", "sign") else value


def _dequantized_input(x: Tensor, options: dict[str, Any]) -> Tensor:
    if options["activation"] == "none":
        return x
    codes, scale = quantize_activations(x.detach(), options["activation"], options["bits"], options["eps"])
    return _straight(x, codes / scale)


def _bit_linear_train(
    x: Tensor, weight: Tensor, scale: Tensor | None, bias: Tensor | None, norm_weight: Tensor | None, **options: Any
) -> Tensor:
    """`_bit_linear` in differentiable floats: what its gradient is taken of."""
    x = _dequantized_input(_normed(x.float(), options["norm"], norm_weight, options["norm_eps"]), options)
    weight = _dequantized_weight(weight, scale, options["out_features"], options)
    return F.linear(x, weight, None if bias is None else bias.float())


def _bit_linear_fake(x: Tensor, weight: Tensor, *_: object, out_features: int, **__: object) -> Tensor:
    if x.shape[-1] != weight.shape[1]:
        raise ValueError(f"expects {weight.shape[1]} input features, got {x.shape[-1]}")
    return x.new_empty((*x.shape[:-1], out_features), dtype=torch.float32)


_LIBRARY.define(
    "bit_conv2d(Tensor x, Tensor weight, Tensor? scale, Tensor? bias, *, str storage, str activation, int bits, "
    "float eps, bool divide, int[] stride, int[] padding, int[] dilation, int groups) -> Tensor"
)


def _bit_conv2d(
    x: Tensor,
    weight: Tensor,
    scale: Tensor | None,
    bias: Tensor | None,
    *,
    storage: str,
    activation: str,
    bits: int,
    eps: float,
    divide: bool,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Tensor:
    """Convolution of codes: `x` `[B, C, H, W]`, `weight` `[F, C / groups, kh, kw]` (masters or float codes), one scale.

    `y = acc * ((1/s) * sw) + bias`, `acc` being exact integers. `activation`: per_sample, per_tensor or none. Padding
    is zeros, whose code is 0. `stride`, `padding` and `dilation` are pairs (height, width).
    """
    x = x.float()
    codes, own_scale = weight_codes(weight, storage, weight.shape[0], eps)
    scale = _scale(own_scale, scale, divide, x)
    convolve = partial(F.conv2d, stride=stride, padding=padding, dilation=dilation, groups=groups)
    if activation == "none":
        y = convolve(x, codes) * scale
    else:
        quantized, input_scale = quantize_activations(x, activation, bits, eps)
        y = exact(convolve, quantized, codes) * ((1.0 / input_scale) * scale)
    return y if bias is None else y + bias.float()[:, None, None]


def _bit_conv2d_train(x: Tensor, weight: Tensor, scale: Tensor | None, bias: Tensor | None, **options: Any) -> Tensor:
    """`_bit_conv2d` in differentiable floats: what its gradient is taken of, and what has its shape."""
    x, weight = _dequantized_input(x.float(), options), _dequantized_weight(weight, scale, weight.shape[0], options)
    window = [options[name] for name in ("stride", "padding", "dilation", "groups")]
    return F.conv2d(x, weight, None if bias is None else bias.float(), *window)


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


def _recompute(reference: Callable[..., Tensor]) -> tuple[Callable[..., None], Callable[..., tuple[Any, ...]]]:
    """`setup_context` and `backward` of an operator whose gradient is that of `reference`, computed anew."""

    def setup_context(
        ctx: Any, inputs: tuple[Any, ...], output: Tensor, keyword_only_inputs: dict[str, Any] | None = None
    ) -> None:
        ctx.tensors = [isinstance(value, Tensor) for value in inputs]
        ctx.rest = [value for value in inputs if not isinstance(value, Tensor)]
        ctx.options = keyword_only_inputs or {}
        ctx.save_for_backward(*(value for value in inputs if isinstance(value, Tensor)))

    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        tensors, rest = iter(ctx.saved_tensors), iter(ctx.rest)
        values = [next(tensors) if is_tensor else next(rest) for is_tensor in ctx.tensors]
        wanted = [i for i, needed in enumerate(ctx.needs_input_grad[: len(values)]) if needed]
        with torch.enable_grad():
            for i in wanted:
                values[i] = values[i].detach().requires_grad_()
            output = reference(*values, **ctx.options)
            found = torch.autograd.grad(output, [values[i] for i in wanted], gradient)
        gradients: list[Any] = [None] * len(values)
        for i, value in zip(wanted, found, strict=True):
            gradients[i] = value
        return tuple(gradients)

    return setup_context, backward


for _name, _eager, _fake, _key in (
    ("bit_linear", _bit_linear, _bit_linear_fake, "CompositeExplicitAutograd"),
    ("bit_conv2d", _bit_conv2d, _bit_conv2d_train, "CompositeExplicitAutograd"),
    ("rms_norm", _rms_norm, _like_first, "CompositeExplicitAutograd"),
    ("rotary", _rotary, _like_first, "CPU"),
    ("cache_update", _cache_update, _cache_update_fake, "CPU"),
    ("attention", _attention, _like_first, "CPU"),
    ("gated", _gated, _like_first, "CPU"),
    ("embedding", _embedding, _embedding_fake, "CPU"),
    ("dense", _dense, _dense_fake, "CPU"),
    ("top_k", _top_k, _top_k_fake, "CPU"),
):
    _LIBRARY.impl(_name, _eager, _key)
    torch.library.register_fake(f"setun::{_name}", _fake, lib=_LIBRARY)

for _name, _reference in (
    ("bit_linear", _bit_linear_train),
    ("bit_conv2d", _bit_conv2d_train),
    ("rms_norm", _rms_norm),
):
    _setup, _backward = _recompute(_reference)
    torch.library.register_autograd(f"setun::{_name}", _backward, setup_context=_setup, lib=_LIBRARY)
