"""Reading of checkpoint directories: tensors by name, and every way in which a file can lie."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from setun import checkpoint
from setun.diagnostics import SetunError


def write(path: Path, header: Any, data: bytes = b"", length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


def entry(dtype: str = "F32", shape: Any = (2, 3), offsets: Any = (0, 24)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def test_header_gives_places_in_the_file(tmp_path: Path) -> None:
    data = np.arange(6, dtype=np.float32).tobytes() + bytes([1, 2])
    path = write(
        tmp_path / "m.safetensors",
        {"__metadata__": {"format": "pt"}, "a": entry(), "b": entry("U8", (2, 1), (24, 26))},
        data,
    )
    tensors = checkpoint.read_header(path)
    assert sorted(tensors) == ["a", "b"]
    assert tensors["b"].shape == (2, 1)
    assert checkpoint.read_floats(tensors["a"]).tolist() == [[0, 1, 2], [3, 4, 5]]
    assert [piece.tolist() for piece in checkpoint.chunks(tensors["b"])] == [[1, 2]]


def test_pieces_cover_a_tensor_once(tmp_path: Path) -> None:
    values = np.arange(1001, dtype=np.uint8)
    path = write(tmp_path / "m.safetensors", {"a": entry("U8", (1001,), (0, 1001))}, values.tobytes())
    pieces = [piece.copy() for piece in checkpoint.chunks(checkpoint.read_header(path)["a"], 128)]
    assert [len(piece) for piece in pieces] == [128] * 7 + [105]
    assert np.array_equal(np.concatenate(pieces), values)


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
def test_floats_of_every_width(tmp_path: Path, dtype: str) -> None:
    wanted = np.array([0.0, -1.5, 2.0**-14, 65504.0 if dtype == "F16" else 1.0e30], np.float32)
    raw = {
        "F32": wanted.tobytes,
        "F16": lambda: wanted.astype(np.float16).tobytes(),
        "BF16": lambda: (wanted.view(np.uint32) >> 16).astype(np.uint16).tobytes(),
    }[dtype]()
    path = write(tmp_path / "m.safetensors", {"a": entry(dtype, (4,), (0, len(raw)))}, raw)
    got = checkpoint.read_floats(checkpoint.read_header(path)["a"])
    assert np.allclose(got, wanted, rtol=2**-7)
    assert got.dtype == np.float32


LIES = {
    "too short": (b"1234567", "at least 8 bytes"),
    "header longer than the file": (struct.pack("<Q", 1 << 40) + b"{}", "claims 1099511627776 bytes"),
    "header length of all ones": (b"\xff" * 8 + b"{}", "claims"),
    "no JSON": (struct.pack("<Q", 4) + b"{{{{", "not valid JSON"),
    "no UTF-8": (struct.pack("<Q", 4) + b"\xff\xfe\xfd\xfc", "not valid JSON"),
    "nested too deep": (struct.pack("<Q", 100000) + b"[" * 100000, "not valid JSON"),
    "a list": (struct.pack("<Q", 2) + b"[]", "not a JSON object"),
}


@pytest.mark.parametrize("case", LIES)
def test_broken_files_are_refused(tmp_path: Path, case: str) -> None:
    data, message = LIES[case]
    path = tmp_path / "m.safetensors"
    path.write_bytes(data)
    with pytest.raises(SetunError, match=message):
        checkpoint.read_header(path)


LYING_TENSORS = {
    "end after the file": (entry(offsets=(0, 48), shape=(4, 3)), "claims bytes 0 to 48 of 24"),
    "negative offset": (entry(offsets=(-24, 0)), "claims bytes -24 to 0"),
    "end before begin": (entry(offsets=(24, 0)), "claims bytes 24 to 0"),
    "shape larger than data": (entry(shape=(2, 4)), "takes 32 bytes, but claims 24"),
    "product that wraps 64 bits": (entry(shape=(1 << 33, 1 << 33)), "but claims 24"),
    "negative size": (entry(shape=(-2, -3)), "impossible shape"),
    "size that is a bool": (entry(shape=(True, 6)), "impossible shape"),
    "size that is a float": (entry(shape=(2.0, 3)), "impossible shape"),
    "unknown dtype": (entry(dtype="F31"), "unknown dtype 'F31'"),
    "one offset": ({"dtype": "F32", "shape": [2, 3], "data_offsets": [0]}, "impossible data_offsets"),
    "no object": ([1, 2], "not described by an object"),
    "hole": (entry(offsets=(4, 24), shape=(5,)), "4 bytes before tensor 'a' belong to no tensor"),
    "rest": (entry(offsets=(0, 20), shape=(5,)), "4 bytes at its end"),
}


@pytest.mark.parametrize("case", LYING_TENSORS)
def test_lying_headers_are_refused(tmp_path: Path, case: str) -> None:
    item, message = LYING_TENSORS[case]
    path = write(tmp_path / "m.safetensors", {"a": item}, bytes(24))
    with pytest.raises(SetunError, match=message):
        checkpoint.read_header(path)


def test_overlapping_and_doubled_tensors_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "m.safetensors", {"a": entry(), "b": entry("U8", (8,), (16, 24))}, bytes(24))
    with pytest.raises(SetunError, match="'b' overlaps"):
        checkpoint.read_header(path)
    doubled = (
        b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}'
    )
    path = write(tmp_path / "n.safetensors", doubled, bytes(1))
    with pytest.raises(SetunError, match="occurs twice"):
        checkpoint.read_header(path)


def test_every_truncation_is_refused_or_read(tmp_path: Path) -> None:
    whole = write(tmp_path / "m.safetensors", {"a": entry()}, bytes(24)).read_bytes()
    for length in range(len(whole)):
        path = tmp_path / "t.safetensors"
        path.write_bytes(whole[:length])
        with pytest.raises(SetunError):
            checkpoint.read_header(path)


def directory(tmp_path: Path, config: Any = None) -> Path:
    (tmp_path / "config.json").write_text(json.dumps(config or {"architectures": ["LlamaForCausalLM"]}))
    return tmp_path


def test_shards_are_joined_and_checked(tmp_path: Path) -> None:
    directory(tmp_path)
    write(tmp_path / "one.safetensors", {"a": entry()}, bytes(24))
    write(tmp_path / "two.safetensors", {"b": entry()}, bytes(24))
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}))
    opened = checkpoint.open_checkpoint(tmp_path)
    assert {name: tensor.file.name for name, tensor in opened.tensors.items()} == {
        "a": "one.safetensors",
        "b": "two.safetensors",
    }
    index.write_text(json.dumps({"weight_map": {"a": "two.safetensors", "b": "two.safetensors"}}))
    with pytest.raises(SetunError, match="which is not so"):
        checkpoint.open_checkpoint(tmp_path)
    index.write_text(json.dumps({"weight_map": {"a": "../one.safetensors"}}))
    with pytest.raises(SetunError, match="no plain file name"):
        checkpoint.open_checkpoint(tmp_path)
    index.write_text(json.dumps({"weight_map": {"a": "three.safetensors"}}))
    with pytest.raises(SetunError, match="1 of 1 shards are missing"):
        checkpoint.open_checkpoint(tmp_path)


def test_doubled_keys_of_config_keep_the_last(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"hidden_size": 1, "hidden_size": 2}')
    assert checkpoint.load_json(tmp_path / "config.json") == {"hidden_size": 2}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "has no config.json"),
        ({"config.json": "{}"}, "has no model.safetensors"),
        ({"config.json": "[]"}, "expects a JSON object"),
        ({"config.json": "{"}, "is not valid JSON"),
        ({"config.json": '{"architectures": "Llama"}'}, "expects a list of names for 'architectures'"),
        ({"config.json": "{}", "pytorch_model.bin": ""}, "only pytorch_model.bin"),
        ({"config.json": "{}", "m.gguf": ""}, "GGUF"),
        ({"config.json": "{}", "quantize_config.json": "{}"}, "BitBLAS"),
    ],
)
def test_what_is_no_checkpoint_is_refused(tmp_path: Path, files: dict[str, str], message: str) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(SetunError, match=message):
        checkpoint.open_checkpoint(tmp_path)


def test_a_missing_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SetunError, match="is no directory"):
        checkpoint.open_checkpoint(tmp_path / "nothing")
