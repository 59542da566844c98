"""Hugging Face checkpoint directories: configuration, tokenizer files and tensors by name. Needs no torch.

Nothing is loaded whole: a tensor is a place in a file, read in pieces. File headers are checked before they are used:
a length or an offset that lies is an error with a name, never a crash or a read outside the file.
Format: https://github.com/huggingface/safetensors (8 bytes little-endian header length, JSON, data).
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from setun.diagnostics import SetunError

DTYPE_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "U16": 2, "I16": 2, "F16": 2, "BF16": 2,
    "U32": 4, "I32": 4, "F32": 4, "U64": 8, "I64": 8, "F64": 8,
}  # fmt: skip
FLOAT_DTYPES = ("F32", "F16", "BF16")
MAX_HEADER_BYTES = 100_000_000
CHUNK_BYTES = 1 << 20

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "chat_template.json",
    "config.json",
    "generation_config.json",
)
"""Files that travel in the package, so that text can be generated from it alone."""


@dataclass(frozen=True)
class TensorInfo:
    """A tensor in a .safetensors file: `begin` and `end` are byte offsets from the start of the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: Path
    begin: int
    end: int

    @property
    def nbytes(self) -> int:
        return self.end - self.begin

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    def describe(self) -> str:
        return f"{self.dtype} {list(self.shape)}"


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise ValueError(f"key {key!r} occurs twice")
        result[key] = value
    return result


def read_header(path: Path) -> dict[str, TensorInfo]:
    """Tensors of a .safetensors file, by name. Every number in the header is checked against the file's real size.

    Raises:
        SetunError: the file cannot be read, or its header is damaged, and where.
    """
    cure = "The file is damaged or incomplete: download it again and compare its checksum."

    def bad(what: str) -> SetunError:
        return SetunError(f"{path.name}: {what}", cure)

    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            if size < 8:
                raise bad(f"expects at least 8 bytes, has {size}")
            length = int.from_bytes(file.read(8), "little")
            if length > size - 8:
                raise bad(f"its header claims {length} bytes, but only {size - 8} follow")
            if length > MAX_HEADER_BYTES:
                raise bad(f"its header claims {length} bytes, more than {MAX_HEADER_BYTES}")
            text = file.read(length)
    except OSError as error:
        raise SetunError(f"{path}: cannot be read ({error.strerror or error})") from error
    try:
        header = json.loads(text.decode("utf-8"), object_pairs_hook=_no_duplicates)
    except (ValueError, RecursionError) as error:
        raise bad(f"its header is not valid JSON ({error})") from error
    if not isinstance(header, dict):
        raise bad("its header is not a JSON object")
    header.pop("__metadata__", None)

    start, room = 8 + length, size - 8 - length
    tensors: dict[str, TensorInfo] = {}
    for name, entry in header.items():
        if not isinstance(entry, dict):
            raise bad(f"tensor {name!r} is not described by an object")
        dtype, shape, offsets = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
        if not isinstance(dtype, str) or dtype not in DTYPE_BYTES:
            raise bad(f"tensor {name!r} has the unknown dtype {dtype!r}")
        if not isinstance(shape, list) or not all(type(n) is int and n >= 0 for n in shape):
            raise bad(f"tensor {name!r} has the impossible shape {shape!r}")
        if not isinstance(offsets, list) or len(offsets) != 2 or not all(type(n) is int for n in offsets):
            raise bad(f"tensor {name!r} has the impossible data_offsets {offsets!r}")
        begin, end = offsets
        if not 0 <= begin <= end <= room:
            raise bad(f"tensor {name!r} claims bytes {begin} to {end} of {room}")
        expected = math.prod(shape) * DTYPE_BYTES[dtype]
        if end - begin != expected:
            raise bad(f"tensor {name!r} is {dtype} {shape}, which takes {expected} bytes, but claims {end - begin}")
        tensors[name] = TensorInfo(name, dtype, tuple(shape), path, start + begin, start + end)

    reached = start
    for tensor in sorted(tensors.values(), key=lambda t: (t.begin, t.end)):
        if tensor.begin < reached:
            raise bad(f"tensor {tensor.name!r} overlaps the tensor before it")
        if tensor.begin > reached:
            raise bad(f"{tensor.begin - reached} bytes before tensor {tensor.name!r} belong to no tensor")
        reached = tensor.end
    if reached != size:
        raise bad(f"{size - reached} bytes at its end belong to no tensor")
    return tensors


def chunks(tensor: TensorInfo, size: int = CHUNK_BYTES) -> Iterator[np.ndarray]:
    """The tensor's bytes in file order, as uint8 views of one buffer of at most `size` bytes (a multiple of 8).

    Each view is overwritten by the next. Reading, not mapping: mapped pages would count as the process's memory.
    """
    buffer = np.empty(min(size, max(tensor.nbytes, 1)), dtype=np.uint8)
    with tensor.file.open("rb", buffering=0) as file:
        file.seek(tensor.begin)
        left = tensor.nbytes
        while left > 0:
            view = buffer[: min(left, len(buffer))]
            filled = 0
            while filled < len(view):
                count = file.readinto(memoryview(view)[filled:])
                if not count:
                    raise SetunError(f"{tensor.file.name}: ended while tensor {tensor.name!r} was read")
                filled += count
            yield view
            left -= filled


def to_float32(raw: np.ndarray, dtype: str) -> np.ndarray:
    """Float elements of a piece of a tensor (uint8 bytes, little-endian) as float32.

    Raises:
        ValueError: `dtype` is not one of F32, F16, BF16.
    """
    if dtype == "F32":
        return raw.view("<f4").astype(np.float32)
    if dtype == "F16":
        return raw.view("<f2").astype(np.float32)
    if dtype == "BF16":
        return (raw.view("<u2").astype(np.uint32) << 16).view(np.float32)
    raise ValueError(f"expects a float dtype, got {dtype}")


def read_floats(tensor: TensorInfo) -> np.ndarray:
    """A small float tensor as float32, whole."""
    pieces = [to_float32(piece, tensor.dtype) for piece in chunks(tensor)]
    return np.concatenate(pieces).reshape(tensor.shape) if pieces else np.empty(tensor.shape, np.float32)


def load_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file. A key that occurs twice keeps its last value, as published config.json files need.

    Raises:
        SetunError: the file cannot be read, or holds no JSON object.
    """
    try:
        value = json.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise SetunError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ValueError, RecursionError) as error:
        raise SetunError(f"{path.name}: is not valid JSON ({error})", "Download the file again.") from error
    if not isinstance(value, dict):
        raise SetunError(f"{path.name}: expects a JSON object, got {type(value).__name__}")
    return value


@dataclass
class Checkpoint:
    """An opened checkpoint directory.

    Attributes:
        directory: where it lies.
        config: config.json.
        tensors: every tensor of its weight files, by name.
        files: the weight files, in order.
    """

    directory: Path
    config: dict[str, Any]
    tensors: dict[str, TensorInfo]
    files: list[Path] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.directory.resolve().name

    def tokenizer_files(self) -> dict[str, Path]:
        """Files of `TOKENIZER_FILES` that the directory has."""
        return {name: self.directory / name for name in TOKENIZER_FILES if (self.directory / name).is_file()}

    def provenance(self) -> dict[str, str]:
        """Where a package came from: names, sizes, and hashes of what decides its meaning (config, tensor tables)."""
        table = hashlib.sha256()
        for name in sorted(self.tensors):
            table.update(f"{name} {self.tensors[name].describe()}\n".encode())
        result = {
            "source": self.name,
            "architecture": ", ".join(str(name) for name in self.config.get("architectures") or []),
            "weights": ", ".join(f"{path.name} ({path.stat().st_size} bytes)" for path in self.files),
            "config_sha256": hashlib.sha256((self.directory / "config.json").read_bytes()).hexdigest(),
            "tensor_table_sha256": table.hexdigest(),
        }
        revision = self.directory.resolve()
        if revision.parent.name == "snapshots" and re.fullmatch(r"[0-9a-f]{40}", revision.name):
            result["revision"] = revision.name
            result["source"] = revision.parent.parent.name.removeprefix("models--").replace("--", "/")
        return result


def _weight_files(directory: Path) -> list[Path]:
    single, index = directory / "model.safetensors", directory / "model.safetensors.index.json"
    if index.is_file():
        weight_map = load_json(index).get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map:
            raise SetunError(f"{index.name}: has no 'weight_map'", "Download the file again.")
        names = sorted({str(name) for name in weight_map.values()})
        for name in names:
            if not re.fullmatch(r"[\w][\w.-]*", name) or not name.endswith(".safetensors"):
                raise SetunError(f"{index.name}: names the shard {name!r}, which is no plain file name")
        missing = [name for name in names if not (directory / name).is_file()]
        if missing:
            raise SetunError(
                f"{len(missing)} of {len(names)} shards are missing: {', '.join(missing[:4])}",
                "Download the whole repository.",
            )
        return [directory / name for name in names]
    if single.is_file():
        return [single]
    if any(directory.glob("*.gguf")):
        raise SetunError(
            f"{directory}: holds a GGUF file, which this version does not read",
            "Use the repository with model.safetensors of the same model.",
        )
    if any(directory.glob("pytorch_model*.bin")):
        raise SetunError(
            f"{directory}: holds only pytorch_model.bin, a pickle, which is not read",
            "Load it with transformers and save it again: save_pretrained writes model.safetensors.",
        )
    raise SetunError(
        f"{directory}: has no model.safetensors and no model.safetensors.index.json",
        "Give the directory of a Hugging Face checkpoint.",
    )


def open_checkpoint(directory: str | Path) -> Checkpoint:
    """Opens a checkpoint directory and reads the headers of its weight files.

    Raises:
        SetunError: no such directory, no weights, or a damaged file.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise SetunError(f"{directory}: is no directory", "Give the directory of a Hugging Face checkpoint.")
    if not (directory / "config.json").is_file():
        raise SetunError(f"{directory}: has no config.json", "Give the directory of a Hugging Face checkpoint.")
    config = load_json(directory / "config.json")
    declared = config.get("architectures")
    if declared is not None and not (isinstance(declared, list) and all(isinstance(name, str) for name in declared)):
        raise SetunError(f"config.json: expects a list of names for 'architectures', got {declared!r}")
    if (directory / "quantize_config.json").is_file():
        raise SetunError(
            "quantize_config.json: this is a BitBLAS checkpoint, whose weights are permuted for one GPU kernel",
            "Use the repository that it was converted from.",
        )
    files = _weight_files(directory)
    tensors: dict[str, TensorInfo] = {}
    for file in files:
        for name, tensor in read_header(file).items():
            if name in tensors:
                raise SetunError(f"tensor {name!r} is in {tensors[name].file.name} and in {file.name}")
            tensors[name] = tensor
    if any(name.endswith(".qweight") for name in tensors):
        raise SetunError(
            "the tensors are called 'qweight': a GPTQ or BitBLAS layout, which is permuted for GPU kernels",
            "Use the repository that it was converted from.",
        )
    index = directory / "model.safetensors.index.json"
    if index.is_file():
        for name, file_name in load_json(index)["weight_map"].items():
            if name not in tensors or tensors[name].file.name != file_name:
                raise SetunError(
                    f"{index.name}: says that tensor {name!r} is in {file_name}, which is not so",
                    "The shards belong to different downloads: fetch the whole repository again.",
                )
    return Checkpoint(directory, config, tensors, files)
