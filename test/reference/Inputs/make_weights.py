"""Writes the .safetensors file of weights.mlir. Usage: make_weights.py FILE"""

import json
import struct
import sys

TENSORS = {
    # Packed by four: the example of transformers' unpack_weights.
    "packed.weight": ("U8", [2, 2], bytes([0b10100001, 0b00011000, 0b10010000, 0b00001010])),
    "binary": ("I8", [2, 2], struct.pack("<4b", 1, -1, -1, 1)),
    "table": ("F32", [2, 2], struct.pack("<4f", 1.0, -2.0, 0.5, 3.0)),
    "vector": ("F32", [3], struct.pack("<3f", 1.5, -2.5, 0.0)),
}

header, data = {}, b""
for name, (dtype, shape, value) in TENSORS.items():
    header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(value)]}
    data += value
text = json.dumps(header).encode()
with open(sys.argv[1], "wb") as file:
    file.write(struct.pack("<Q", len(text)) + text + data)
