"""write_weights.py FILE: a .safetensors file with small weights of every kind that ternary-pack-weights.mlir names."""

import json
import struct
import sys

TENSORS = {
    "t": ("I8", [2, 4], bytes([1, 0, 255, 1, 0, 0, 1, 255])),
    "zero": ("I8", [2, 4], bytes(8)),
    "bad": ("I8", [2, 4], bytes([2] * 8)),
    "b": ("U8", [2, 4], bytes([1, 0, 1, 1, 0, 0, 1, 0])),
    "scale": ("F32", [1], struct.pack("<f", 0.5)),
    "negative": ("F32", [1], struct.pack("<f", -0.5)),
    "m": ("F32", [2, 4], struct.pack("<8f", 1, 0, -1, 1, 0, 0, 1, -1)),
}

header, data = {}, b""
for name, (dtype, shape, content) in TENSORS.items():
    header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(content)]}
    data += content
text = json.dumps(header).encode()
with open(sys.argv[1], "wb") as file:
    file.write(len(text).to_bytes(8, "little") + text + data)
