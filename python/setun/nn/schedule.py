"""Schedules of training: learning rate and weight decay of BitNet b1.58, and lambda of gradual quantisation."""

from __future__ import annotations

import math


def two_stage(progress: float, peak: float, second_peak: float, warmup: float = 0.02) -> float:
    """Learning rate of b1.58: warm-up, linear decay to zero, and a lower line from half way on.

    ``peak * (1 - p)`` before ``p = 0.5`` and ``second_peak * (1 - p)`` after it, with a linear start. Source: "The Era
    of 1-bit LLMs: Training Tips, Code and FAQ", section 2.

    Args:
        progress: share of the training that is done, 0 to 1.
        peak: learning rate that the first line starts from.
        second_peak: the same for the second line.
        warmup: share of the training for the linear start.
    """
    progress = min(max(progress, 0.0), 1.0)
    rate = (peak if progress < 0.5 else second_peak) * (1.0 - progress)
    return rate * min(1.0, progress / warmup) if warmup > 0 else rate


def weight_decay(progress: float, decay: float = 0.1) -> float:
    """Weight decay of b1.58: ``decay`` in the first half, none in the second, where it would keep codes flipping."""
    return decay if progress < 0.5 else 0.0


def lambda_schedule(kind: str, progress: float, k: float | None = None) -> float:
    """Share of quantisation when a float model is fine-tuned to ternary weights.

    ======================  =========================================  =========
    kind                    lambda                                     default k
    ======================  =========================================  =========
    ``"constant"``          1                                          --
    ``"linear"``            ``min(k * p, 1)``                          2
    ``"exponential"``       ``1 - (1 - p)^k``                          4
    ``"sigmoid"``           ``1 / (1 + exp(-k * (p - 0.5)))``          15
    ======================  =========================================  =========

    Source: the Hugging Face article on fine-tuning Llama 3 to 1.58 bit (2024).

    Args:
        kind: a name of the table.
        progress: ``p``, share of the training that is done, 0 to 1.
        k: steepness.

    Raises:
        ValueError: on an unknown kind.
    """
    p = min(max(progress, 0.0), 1.0)
    if kind == "constant":
        return 1.0
    if kind == "linear":
        return min((2.0 if k is None else k) * p, 1.0)
    if kind == "exponential":
        return 1.0 - (1.0 - p) ** (4.0 if k is None else k)
    if kind == "sigmoid":
        return 1.0 / (1.0 + math.exp(-(15.0 if k is None else k) * (p - 0.5)))
    raise ValueError(f"expects kind 'constant', 'linear', 'exponential' or 'sigmoid', got {kind!r}")
