"""The packed form of ternary weights in Hugging Face checkpoints: four codes a byte.

This is the exchange format, read and written by transformers. The layouts that compiled models use are another matter
(``include/setun/Packing.h``).
"""

from __future__ import annotations

import torch
from torch import Tensor


def pack_ternary(codes: Tensor) -> Tensor:
    """``[out, in]`` of -1, 0, +1 to uint8 ``[out / 4, in]``.

    With ``R = out / 4``, byte (r, c) holds rows r, R + r, 2R + r and 3R + r of column c, the first in the lowest two
    bits, each as code + 1.

    Raises:
        ValueError: if ``codes`` is not a matrix, its rows are no multiple of 4 (transformers cannot load such a
            layer), or it holds anything but -1, 0, +1.
    """
    if codes.dim() != 2 or codes.shape[0] % 4 != 0:
        raise ValueError(f"expects a matrix with a multiple of 4 rows, got shape {tuple(codes.shape)}")
    if not bool(((codes == 0) | (codes.abs() == 1)).all()):
        raise ValueError("expects codes -1, 0 and +1 only")
    fields = (codes.to(torch.int8) + 1).to(torch.uint8).view(4, codes.shape[0] // 4, codes.shape[1])
    return fields[0] | fields[1] << 2 | fields[2] << 4 | fields[3] << 6


def unpack_ternary(packed: Tensor) -> Tensor:
    """Uint8 ``[out / 4, in]`` to int8 ``[out, in]``: the inverse of :func:`pack_ternary`.

    Raises:
        ValueError: if ``packed`` is no uint8 matrix, or holds the code 3, which no valid file has.
    """
    if packed.dim() != 2 or packed.dtype != torch.uint8:
        raise ValueError(f"expects a uint8 matrix, got {packed.dtype} of shape {tuple(packed.shape)}")
    fields = torch.cat([packed >> shift & 3 for shift in (0, 2, 4, 6)])
    if bool((fields == 3).any()):
        raise ValueError("expects two-bit codes 0, 1 and 2 only, got 3")
    return fields.to(torch.int8) - 1
