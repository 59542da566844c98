"""Checkpoints of published shapes with random ternary weights, to measure and test at full size.

The files have the form of the published ones: Hugging Face packed uint8 (or masters), scales in each family's own
direction, bfloat16 embeddings and norms. Gains and scales are chosen so that activations neither vanish nor explode:
a projection of random ternary weights multiplies a unit input by sqrt(2 K / 3), which either the weight scale (Llama)
or the norm before it (BitNet, whose masters have mean|W| above 1) takes back. Tensors are written one piece after
another; memory does not grow with the model.
"""

from __future__ import annotations

import argparse
import json
import struct
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from setun.checkpoint import DTYPE_BYTES
from setun.progress import Progress

PIECE = 1 << 20


@dataclass(frozen=True)
class Shape:
    """A published shape. Fields as in config.json; `kind` is bitnet, onebit (1bitLLM) or llama."""

    kind: str
    hidden: int
    ffn: int
    layers: int
    heads: int
    kv_heads: int
    vocab: int
    context: int
    theta: float
    eps: float = 1e-5
    head_dim: int = 0
    tied: bool = False
    auto: bool = False

    @property
    def width(self) -> int:
        return self.head_dim or self.hidden // self.heads


SHAPES = {
    "bitnet-b1.58-2b4t": Shape("bitnet", 2560, 6912, 30, 20, 5, 128256, 4096, 5e5, tied=True, auto=True),
    "llama3-8b-1.58": Shape("llama", 4096, 14336, 32, 32, 8, 128256, 8192, 5e5),
    "falcon3-1b-1.58": Shape("llama", 2048, 8192, 18, 8, 4, 131072, 8192, 1000042.0, 1e-6, 256),
    "falcon3-10b-1.58": Shape("llama", 3072, 23040, 40, 12, 4, 131072, 32768, 1000042.0, 1e-6, 256),
    "bitnet-700m": Shape("onebit", 1536, 4096, 24, 16, 16, 32002, 2048, 1e4, tied=True, auto=True),
    "bitnet-1.3b": Shape("onebit", 2048, 5460, 24, 32, 32, 32002, 2048, 1e4, tied=True, auto=True),
    "bitnet-3b": Shape("onebit", 3200, 8640, 26, 32, 32, 32002, 2048, 1e4, tied=True, auto=True),
    "tiny-bitnet": Shape("bitnet", 96, 232, 2, 4, 2, 320, 128, 1e4, tied=True, auto=True),
    "tiny-onebit": Shape("onebit", 96, 200, 2, 4, 4, 320, 128, 1e4, tied=True, auto=True),
    "tiny-llama": Shape("llama", 80, 216, 2, 4, 2, 320, 128, 1e4, 1e-6, 24),
    "tiny-llama-tied": Shape("llama", 80, 216, 2, 4, 2, 320, 128, 1e4, 1e-6, 24, tied=True),
}

BOS, EOS = 256, 257


def config_json(shape: Shape, masters: bool) -> dict[str, Any]:
    """config.json as the family's published one, with the token ids of the byte-level tokenizer."""
    architecture = {"bitnet": "BitNetForCausalLM", "onebit": "BitnetForCausalLM", "llama": "LlamaForCausalLM"}
    config: dict[str, Any] = {
        "architectures": [architecture[shape.kind]],
        "model_type": "bitnet" if shape.kind == "bitnet" else "llama",
        "hidden_size": shape.hidden,
        "intermediate_size": shape.ffn,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "hidden_act": "relu2" if shape.kind == "bitnet" else "silu",
        "max_position_embeddings": shape.context,
        "rms_norm_eps": shape.eps,
        "rope_theta": shape.theta,
        "tie_word_embeddings": shape.tied,
        "vocab_size": shape.vocab,
        "bos_token_id": BOS,
        "eos_token_id": EOS,
        "torch_dtype": "bfloat16",
    }
    if shape.head_dim:
        config["head_dim"] = shape.head_dim
    if shape.kind == "onebit" and masters:
        return config | {"weight_bits": 1, "input_bits": 8}
    quantization: dict[str, Any] = {"quant_method": "bitnet", "modules_to_not_convert": ["lm_head"]}
    if shape.auto or masters:
        quantization["linear_class"] = "autobitlinear"
        quantization["quantization_mode"] = "online" if masters else "offline"
    return config | {"quantization_config": quantization}


def tokenizer_json() -> dict[str, Any]:
    """A byte-level tokenizer without merges: ids 0 to 255 are bytes, then the two special tokens."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    alphabet = {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(others)}
    special = [(BOS, "<|begin_of_text|>"), (EOS, "<|end_of_text|>")]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": number, "content": text, **flags} for number, text in special],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {alphabet[byte]: byte for byte in range(256)},
            "merges": [],
        },
    }


def to_bfloat16(values: np.ndarray) -> np.ndarray:
    """float32 to bfloat16 bits (uint16), rounded to nearest even."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


@dataclass(frozen=True)
class Tensor:
    """A tensor to be written: `pieces` yields its bytes in order."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    pieces: Callable[[], Iterator[bytes]]

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64)) * DTYPE_BYTES[self.dtype]


class Generator:
    """Random tensors of one checkpoint, each a function of the seed and its place alone."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.Generator(np.random.PCG64(seed))
        quarter = np.array([[0], [1], [2]], np.uint8)
        codes = quarter
        for shift in (2, 4, 6):
            codes = (codes[:, None, :] | (quarter << shift)[None, :, :]).reshape(-1, 1)
        self.bytes = np.resize(codes.reshape(-1), 81 * 3).copy()  # indexed by a byte below 243
        self.normal = self.random.standard_normal(1 << 16, np.float32)

    def packed(self, name: str, rows: int, columns: int) -> Tensor:
        """Ternary codes in Hugging Face packing, a third of them zero."""

        def pieces() -> Iterator[bytes]:
            left = rows // 4 * columns
            while left > 0:
                count = min(left, PIECE)
                yield self.bytes[self.random.integers(0, 243, count, np.uint8)].tobytes()
                left -= count

        if rows % 4:
            raise ValueError(f"expects a multiple of 4 rows for packing, got {rows}")
        return Tensor(name, "U8", (rows // 4, columns), pieces)

    def gaussian(self, name: str, shape: tuple[int, ...], deviation: float) -> Tensor:
        """bfloat16 values of a normal distribution."""
        table = to_bfloat16(self.normal * np.float32(deviation))

        def pieces() -> Iterator[bytes]:
            left = int(np.prod(shape, dtype=np.int64))
            while left > 0:
                count = min(left, PIECE)
                yield table[self.random.integers(0, 1 << 16, count, np.uint16)].tobytes()
                left -= count

        return Tensor(name, "BF16", shape, pieces)

    def gains(self, name: str, size: int, mean: float) -> Tensor:
        """Norm gains within a quarter of `mean`."""
        values = to_bfloat16(np.float32(mean) * self.random.uniform(0.75, 1.25, size).astype(np.float32))
        return Tensor(name, "BF16", (size,), lambda: iter([values.tobytes()]))

    def scalar(self, name: str, value: float) -> Tensor:
        values = to_bfloat16(np.array([value], np.float32))
        return Tensor(name, "BF16", (1,), lambda: iter([values.tobytes()]))


def tensors(shape: Shape, masters: bool, seed: int) -> Iterator[Tensor]:
    """Every tensor of a checkpoint, in the order of its layers."""
    generator = Generator(seed)
    attention_norm, ffn_norm = {
        "bitnet": ("attn_sub_norm", "ffn_sub_norm"),
        "onebit": ("inner_attn_ln", "ffn_layernorm"),
        "llama": ("", ""),
    }[shape.kind]
    # mean|W|: above 1 where a norm before each projection takes it back, else what keeps the variance.
    normed = bool(attention_norm)
    branch = 0.02  # what a layer adds to the residual stream, beside embeddings of 0.02

    def linear(name: str, rows: int, columns: int, output: float) -> Iterator[Tensor]:
        spread = float(np.sqrt(2 * columns / 3))
        mean = float(generator.random.uniform(1.2, 1.9)) if normed else output / spread
        if masters:
            yield generator.gaussian(f"{name}.weight", (rows, columns), mean * float(np.sqrt(np.pi / 2)))
            return
        yield generator.packed(f"{name}.weight", rows, columns)
        yield generator.scalar(f"{name}.weight_scale", mean if shape.auto else 1.0 / mean)

    def norm(name: str, size: int, output: float) -> Tensor:
        """Gain before projections whose outputs are to have the deviation `output`."""
        return generator.gains(f"{name}.weight", size, output / float(1.55 * np.sqrt(2 * size / 3)) if normed else 1.0)

    yield generator.gaussian("model.embed_tokens.weight", (shape.vocab, shape.hidden), 0.02)
    width, kv_width = shape.heads * shape.width, shape.kv_heads * shape.width
    for layer in range(shape.layers):
        prefix = f"model.layers.{layer}"
        yield norm(f"{prefix}.input_layernorm", shape.hidden, 1.0)
        yield from linear(f"{prefix}.self_attn.q_proj", width, shape.hidden, 1.0)
        yield from linear(f"{prefix}.self_attn.k_proj", kv_width, shape.hidden, 1.0)
        yield from linear(f"{prefix}.self_attn.v_proj", kv_width, shape.hidden, 1.0)
        if normed:
            yield norm(f"{prefix}.self_attn.{attention_norm}", width, branch)
        yield from linear(f"{prefix}.self_attn.o_proj", shape.hidden, width, branch)
        yield norm(f"{prefix}.post_attention_layernorm", shape.hidden, 1.0)
        yield from linear(f"{prefix}.mlp.gate_proj", shape.ffn, shape.hidden, 1.0)
        yield from linear(f"{prefix}.mlp.up_proj", shape.ffn, shape.hidden, 1.0)
        if normed:
            yield norm(f"{prefix}.mlp.{ffn_norm}", shape.ffn, branch)
        yield from linear(f"{prefix}.mlp.down_proj", shape.hidden, shape.ffn, branch)
    yield generator.gains("model.norm.weight", shape.hidden, 1.0)
    if not shape.tied:
        yield generator.gaussian("lm_head.weight", (shape.vocab, shape.hidden), 0.02)


def write_safetensors(path: Path, items: list[Tensor], progress: Callable[[int, int], None] | None = None) -> None:
    """Writes a .safetensors file tensor by tensor."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for item in items:
        header[item.name] = {
            "dtype": item.dtype,
            "shape": list(item.shape),
            "data_offsets": [offset, offset + item.nbytes],
        }
        offset += item.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    done = 0
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for item in items:
            for piece in item.pieces():
                file.write(piece)
                done += len(piece)
                if progress is not None:
                    progress(done, offset)


def write_checkpoint(
    directory: Path,
    shape: Shape,
    seed: int = 0,
    masters: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Writes config.json, the tokenizer and model.safetensors into `directory`, which is made if need be."""
    directory.mkdir(parents=True, exist_ok=True)
    files = {
        "config.json": config_json(shape, masters),
        "generation_config.json": {"bos_token_id": BOS, "eos_token_id": EOS},
        "tokenizer.json": tokenizer_json(),
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": "<|begin_of_text|>",
            "eos_token": "<|end_of_text|>",
            "model_max_length": shape.context,
        },
    }
    for name, content in files.items():
        (directory / name).write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    write_safetensors(directory / "model.safetensors", list(tensors(shape, masters, seed)), progress)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="random-checkpoint", description="Write a checkpoint of a published shape with random ternary weights."
    )
    parser.add_argument("directory", nargs="?", type=Path, help="where to write it")
    parser.add_argument("--config", choices=sorted(SHAPES), help="the shape")
    parser.add_argument("--layers", type=int, help="number of layers, if not the published one")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same files (default 0)")
    parser.add_argument("--masters", action="store_true", help="bfloat16 masters, quantised online, instead of packed")
    parser.add_argument("--list", action="store_true", help="list the shapes and exit")
    options = parser.parse_args(arguments)
    if options.list:
        for name, shape in SHAPES.items():
            size = sum(item.nbytes for item in tensors(shape, False, 0))
            print(
                f"{name:18} {size / 1e9:7.3f} GB  hidden {shape.hidden}, ffn {shape.ffn}, {shape.layers} layers, "
                f"{shape.heads}/{shape.kv_heads} heads of {shape.width}, vocabulary {shape.vocab}"
            )
        return 0
    if options.directory is None or options.config is None:
        parser.error("expects --config NAME and a directory (or --list)")
    if options.layers is not None and options.layers < 1:
        parser.error(f"expects at least 1 layer, got {options.layers}")
    if options.seed < 0:
        parser.error(f"expects a seed of 0 or more, got {options.seed}")
    shape = SHAPES[options.config]
    if options.layers is not None:
        shape = replace(shape, layers=options.layers)
    try:
        with Progress(f"writing {options.config}", "bytes") as progress:
            write_checkpoint(options.directory, shape, options.seed, options.masters, progress.update)
    except OSError as error:
        what = f"{error.filename}: {error.strerror}" if error.filename else error
        print(f"random-checkpoint: {what}", file=sys.stderr)
        return 2
    size = (options.directory / "model.safetensors").stat().st_size
    print(f"{options.directory}: {options.config}, {shape.layers} layers, {size / 1e9:.3f} GB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
