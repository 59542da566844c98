"""Checks of a checkpoint, and its binding to a model definition: what `setun lint` prints and `setun compile` needs.

`load` decides the family, builds its definition without memory, and matches it with the files tensor by tensor; `scan`
reads the tensors' values in pieces. Findings are collected, not raised: one run tells everything that is wrong.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from setun.checkpoint import FLOAT_DTYPES, Checkpoint, TensorInfo, chunks, load_json, read_floats, to_float32
from setun.diagnostics import Diagnostics, SetunError
from setun.models.config import DecoderConfig, read_quantization

if TYPE_CHECKING:
    from setun.models.layers import BitLinear, CausalLM

IGNORED_TENSORS = (".rotary_emb.inv_freq",)
"""Suffixes of tensors that old checkpoints carry and nobody reads: they are computed."""

# A stored scale beyond these makes mean|W| of the masters implausible: above 5 for a scale that multiplies, below
# 1/5 for one that divides (known models: 0.01 to 3). Only a warning: the configuration decides.
IMPLAUSIBLE_SCALE = 5.0


@dataclass
class LinearReport:
    """One BitLinear of a checkpoint: shape, storage, and what the scan found (`zeros` is a share of the weights)."""

    name: str
    out_features: int
    in_features: int
    storage: str
    zeros: float | None = None
    scale: float | None = None


@dataclass
class Import:
    """A checkpoint bound to a model definition.

    Attributes:
        model: the definition on the meta device, or None where the family is unknown.
        linears: its BitLinears by name, once bound.
        found: everything noticed so far.
    """

    checkpoint: Checkpoint
    found: Diagnostics
    config: DecoderConfig | None = None
    model: CausalLM | None = None
    linears: dict[str, LinearReport] = field(default_factory=dict)

    def as_json(self) -> dict[str, object]:
        return {
            "checkpoint": str(self.checkpoint.directory),
            "architecture": self.config.architecture if self.config else None,
            "config": dataclasses.asdict(self.config) if self.config else None,
            "tensors": len(self.checkpoint.tensors),
            "bytes": sum(tensor.nbytes for tensor in self.checkpoint.tensors.values()),
            "linears": [dataclasses.asdict(linear) for linear in self.linears.values()],
            "diagnostics": self.found.as_json(),
            "ok": not self.found.errors,
        }


def load(checkpoint: Checkpoint, context: int | None = None, kv_cache: str = "f16") -> Import:
    """Finds the family of a checkpoint, builds its definition on the meta device and binds it to the tensors.

    Args:
        context: largest session in tokens; the model's own maximum if None.
        kv_cache: element type of the key and value cache, `f16` or `f32`.
    """
    import torch

    from setun import models

    found = Diagnostics()
    result = Import(checkpoint, found)
    family, architecture = models.find(checkpoint.config, checkpoint.tensors)
    if family is None:
        found.error(
            "unsupported-architecture",
            "config.json",
            f"architecture {architecture or 'unknown'!r} is not supported",
            f"Supported: {', '.join(models.architectures())}.",
        )
        return result
    quantization = read_quantization(checkpoint.config, found)
    config = family.configure(checkpoint.config, architecture, quantization, found)
    if context is not None:
        if context > config.context:
            found.error(
                "bad-context",
                "",
                f"a context of {context} tokens was asked for, but the model was trained for {config.context}",
                f"Use --context {config.context} or less.",
            )
        config = dataclasses.replace(config, context=min(context, config.context))
    config = _tie_head(checkpoint, dataclasses.replace(config, kv_cache=kv_cache), found)
    result.config = config
    if found.errors:
        return result
    with torch.device("meta"):
        result.model = family.build(config)
    _bind(result)
    _check_tokenizer(result)
    return result


def _tie_head(checkpoint: Checkpoint, config: DecoderConfig, found: Diagnostics) -> DecoderConfig:
    """Decides whether the head is the embedding table, from the tensors rather than from the configuration."""
    head = checkpoint.tensors.get("lm_head.weight")
    table = checkpoint.tensors.get("model.embed_tokens.weight")
    if head is None:
        if not config.tied:
            found.warning(
                "tied-head",
                "lm_head.weight",
                "is missing although the configuration does not tie it; the embedding table is used as the head",
            )
        return dataclasses.replace(config, tied=True)
    alike = table is not None and (head.dtype, head.shape) == (table.dtype, table.shape)
    if alike and all(np.array_equal(a, b) for a, b in zip(chunks(head), chunks(table), strict=True)):
        return dataclasses.replace(config, tied=True)
    if config.tied:
        found.warning(
            "untied-head",
            "lm_head.weight",
            "differs from the embedding table although the configuration ties them; it is used as it is",
        )
    return dataclasses.replace(config, tied=False)


def _storage(name: str, layer: BitLinear, tensor: TensorInfo, found: Diagnostics) -> str | None:
    """How the weight of a layer is stored, by the file's dtype and shape; None (and an error) if in no known way."""
    rows, online = layer.out_features, layer.quantization.online
    if not layer.quantization.converts(name):
        return "dense"
    if tensor.dtype == "U8":
        if len(tensor.shape) == 2 and tensor.shape[0] == (rows + 3) // 4:
            if not online:
                return "packed"
            found.error(
                "mode-mismatch",
                tensor.name,
                "is packed, but the configuration says quantization_mode online, which has masters",
                "Set quantization_mode to offline in config.json, if this is the packed repository.",
            )
            return None
        found.error(
            "bad-packing",
            tensor.name,
            f"expects U8 [{(rows + 3) // 4}, {layer.in_features}] (four rows a byte), got {tensor.describe()}",
            "Other packings (GPU layouts, TL1, TL2) are not read.",
        )
        return None
    if tensor.dtype in FLOAT_DTYPES:
        return "absmean" if online else "ternary"
    found.error("bad-dtype", tensor.name, f"expects U8 or a float dtype for a ternary weight, got {tensor.describe()}")
    return None


def _bind(result: Import) -> None:
    """Gives every parameter of the definition the dtype and shape of its tensor, and reports what does not match."""
    import torch

    from setun.models.layers import BitLinear, parameter

    assert result.model is not None
    found, tensors = result.found, result.checkpoint.tensors
    dtypes = {"U8": torch.uint8, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
    with torch.device("meta"):
        for name, module in result.model.named_modules():
            tensor = tensors.get(f"{name}.weight")
            if not isinstance(module, BitLinear) or tensor is None:
                continue
            storage = _storage(name, module, tensor, found)
            if storage is not None:
                module.store(storage, dtypes[tensor.dtype])
                if storage != "dense":
                    result.linears[name] = LinearReport(name, module.out_features, module.in_features, storage)
        expected: set[str] = set()
        for name, wanted in list(result.model.named_parameters()):
            expected.add(name)
            tensor = tensors.get(name)
            if tensor is None:
                found.error(
                    "missing-tensor",
                    name,
                    "is missing from the files",
                    "The checkpoint is incomplete, or belongs to another family than its config.json says.",
                )
                continue
            if tensor.shape != tuple(wanted.shape):
                code = "vocab-mismatch" if name in ("model.embed_tokens.weight", "lm_head.weight") else "bad-shape"
                found.error(code, name, f"expects shape {list(wanted.shape)} by config.json, got {list(tensor.shape)}")
            if wanted.dtype != torch.uint8:
                if tensor.dtype not in FLOAT_DTYPES:
                    found.error("bad-dtype", name, f"expects one of {', '.join(FLOAT_DTYPES)}, got {tensor.dtype}")
                    continue
                owner, _, leaf = name.rpartition(".")
                setattr(result.model.get_submodule(owner), leaf, parameter(*wanted.shape, dtype=dtypes[tensor.dtype]))
    if "lm_head.weight" in tensors and result.model.lm_head is None:
        expected.add("lm_head.weight")
    for name in tensors:
        if name not in expected and not name.endswith(IGNORED_TENSORS):
            found.error(
                "unused-tensor",
                name,
                f"is not used by {result.config.architecture if result.config else 'this family'}",
                "A norm or a scale left out would change the result: config.json names the wrong family or mode.",
            )
    if found.errors:
        return
    _scale_biases(result)


def _scale_biases(result: Import) -> None:
    """Offline autobitlinear multiplies the bias by the weight scale too: keep the product, in float32."""
    import torch

    tensors = result.checkpoint.tensors
    for name in result.linears:
        layer = result.model.get_submodule(name)
        if layer.bias is None or not layer.quantization.auto or layer.quantization.online:
            continue
        bias, scale = read_floats(tensors[f"{name}.bias"]), read_floats(tensors[f"{name}.weight_scale"])
        layer.scaled_bias = torch.from_numpy(bias * scale)


def _check_tokenizer(result: Import) -> None:
    """The tokenizer's ids must be rows of the table."""
    path = result.checkpoint.directory / "tokenizer.json"
    if not path.is_file():
        result.found.warning(
            "no-tokenizer",
            "tokenizer.json",
            "is missing: the package will take token ids, but no text",
            "Convert the tokenizer with transformers (AutoTokenizer, save_pretrained) if text is wanted.",
        )
        return
    try:
        tokenizer = load_json(path)
        vocabulary = tokenizer.get("model", {}).get("vocab", {})
        ids = list(vocabulary.values()) if isinstance(vocabulary, dict) else list(range(len(vocabulary)))
        ids += [token["id"] for token in tokenizer.get("added_tokens") or []]
        largest = int(max(ids, default=-1))
    except (SetunError, AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        result.found.error("bad-tokenizer", "tokenizer.json", f"cannot be read ({error})")
        return
    rows = result.config.vocab_size
    if largest >= rows:
        result.found.warning(
            "vocab-mismatch",
            "tokenizer.json",
            f"has ids up to {largest}, but the embedding table has {rows} rows; text with the ids above is refused",
        )


def scan(result: Import, progress: Callable[[int, int], None] | None = None) -> None:
    """Reads the values of every used tensor, in pieces, and reports what cannot be right.

    Args:
        progress: called with the bytes read so far and in all.
    """
    checkpoint, found = result.checkpoint, result.found
    if result.model is None:
        return
    names = [name for name, _ in result.model.named_parameters() if name in checkpoint.tensors]
    total = sum(checkpoint.tensors[name].nbytes for name in names)
    done = 0
    linears = {f"{name}.weight": report for name, report in result.linears.items()}
    for name in names:
        tensor = checkpoint.tensors[name]
        if name in linears and tensor.shape[1:] == (linears[name].in_features,):
            _scan_linear(tensor, linears[name], found)
        elif tensor.dtype in FLOAT_DTYPES:
            _scan_floats(tensor, found)
        done += tensor.nbytes
        if progress is not None:
            progress(done, total)
    _scan_scales(result)


def _scan_linear(tensor: TensorInfo, report: LinearReport, found: Diagnostics) -> None:
    if report.storage == "packed":
        invalid, zeros = _scan_packed(tensor)
    elif report.storage == "ternary":
        invalid, zeros = _scan_codes(tensor)
    else:
        _scan_floats(tensor, found, all_zero=True)
        return
    elements = report.out_features * report.in_features
    report.zeros = zeros / elements
    if invalid and report.storage == "packed":
        found.error(
            "code-3",
            tensor.name,
            f"has {invalid} codes 3, which stand for no ternary value",
            "The bytes are damaged, or were packed in another way.",
        )
    elif invalid:
        found.error(
            "not-ternary",
            tensor.name,
            f"has {invalid} values other than -1, 0 and +1",
            "These are masters or dense weights: config.json should say quantization_mode online (autobitlinear).",
        )
    if zeros == elements:
        found.warning(
            "all-zero",
            tensor.name,
            "has only zeros",
            "Known cause: a re-upload with emptied tensors (microsoft/BitNet#608); earlier revisions are intact.",
        )


def _scan_packed(tensor: TensorInfo) -> tuple[int, int]:
    """Counts of code 3 and of zeros (code 1) in packed bytes."""
    low = np.uint64(0x5555555555555555)
    one = np.uint64(1)
    invalid = zeros = 0
    for piece in chunks(tensor):
        whole = len(piece) // 8 * 8
        parts = [piece[:whole].view(np.uint64)]
        if whole != len(piece):
            rest = np.zeros(8, np.uint8)
            rest[: len(piece) - whole] = piece[whole:]
            parts.append(rest.view(np.uint64))
        for words in parts:
            high = words >> one
            invalid += int(np.bitwise_count(words & high & low).sum())
            zeros += int(np.bitwise_count(words & ~high & low).sum())
    return invalid, zeros


def _scan_codes(tensor: TensorInfo) -> tuple[int, int]:
    """Counts of values that are not -1, 0 or +1, and of zeros, in a float tensor."""
    invalid = zeros = 0
    for piece in chunks(tensor):
        values = to_float32(piece, tensor.dtype)
        zero = values == 0
        zeros += int(np.count_nonzero(zero))
        invalid += int(np.count_nonzero(~(zero | (np.abs(values) == 1))))
    return invalid, zeros


def _scan_floats(tensor: TensorInfo, found: Diagnostics, all_zero: bool = False) -> None:
    kind, exponent = {"F32": ("<u4", 0x7F800000), "F16": ("<u2", 0x7C00), "BF16": ("<u2", 0x7F80)}[tensor.dtype]
    magnitude = {"<u4": 0x7FFFFFFF, "<u2": 0x7FFF}[kind]
    bad = nonzero = 0
    for piece in chunks(tensor):
        bits = piece.view(kind)
        bad += int(np.count_nonzero((bits & exponent) == exponent))
        if all_zero:
            nonzero += int(np.count_nonzero(bits & magnitude))
    if bad:
        found.error(
            "not-finite", tensor.name, f"has {bad} infinities or NaNs", "The file is damaged, or the training diverged."
        )
    if all_zero and not nonzero:
        found.warning(
            "all-zero",
            tensor.name,
            "has only zeros",
            "Known cause: a re-upload with emptied tensors (microsoft/BitNet#608); earlier revisions are intact.",
        )


def _scan_scales(result: Import) -> None:
    """Weight scales are finite and positive; a value that fits the other direction better is pointed out."""
    found = result.found
    odd: list[tuple[str, float]] = []
    for name, report in result.linears.items():
        tensor = result.checkpoint.tensors.get(f"{name}.weight_scale")
        if tensor is None or tensor.elements != 1 or tensor.dtype not in FLOAT_DTYPES:
            continue
        value = float(read_floats(tensor).reshape(-1)[0])
        if not (np.isfinite(value) and value > 0):
            found.error("bad-scale", tensor.name, f"expects a finite scale above 0, got {value}")
            continue
        report.scale = value
        multiplies = result.config.quantization.auto
        if (multiplies and value > IMPLAUSIBLE_SCALE) or (not multiplies and value < 1 / IMPLAUSIBLE_SCALE):
            odd.append((tensor.name, value))
    if odd:
        auto = result.config.quantization.auto
        found.warning(
            "scale-direction",
            odd[0][0],
            f"is {odd[0][1]:.4g}, which would be usual for a scale that {'divides' if auto else 'multiplies'} "
            f"({len(odd)} of {len(result.linears)} layers)",
            f"linear_class says {'autobitlinear: it multiplies' if auto else 'bitlinear: it divides'}, and that is "
            "what is done. If the text makes no sense, check linear_class in config.json.",
        )


def check(
    checkpoint: Checkpoint,
    context: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    kv_cache: str = "f16",
) -> Import:
    """`load` and `scan` together."""
    result = load(checkpoint, context, kv_cache)
    scan(result, progress)
    return result
