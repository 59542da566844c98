"""Schedules of training: learning rate and weight decay of BitNet b1.58, and lambda of gradual quantisation."""

from __future__ import annotations

import math

from torch import nn

from setun.nn.layer import BitLayer


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


class QuantizationWarmup:
    """Raises the share of quantisation of a model's layers step by step, from a float model to a quantised one.

    Called like a learning rate scheduler: make it before the first step, call :meth:`step` after each. Activations and
    weights have one lambda. Source: the Hugging Face article on fine-tuning Llama 3 to 1.58 bit (2024), whose best run
    was ``QuantizationWarmup(model, 1000, "linear", k=1)``: ``min(t / 1000, 1)``.

    Args:
        model: with :class:`setun.nn.BitLinear` or :class:`setun.nn.BitConv2d` layers; layers that it gets later follow
            from the next step on.
        steps: after so many steps quantisation is full, whatever the schedule's own end (a sigmoid never reaches 1).
        schedule: a kind of :func:`lambda_schedule`.
        k: its steepness.

    Attributes:
        lam: of the layers at the moment.

    Raises:
        ValueError: no such layers, no steps, or no such schedule.
    """

    def __init__(self, model: nn.Module, steps: int, schedule: str = "linear", k: float | None = None) -> None:
        if steps < 1:
            raise ValueError(f"expects at least one step, got {steps}")
        if not any(isinstance(module, BitLayer) for module in model.modules()):
            raise ValueError("expects a model with BitLinear layers, got none; setun.nn.replace_linear makes them")
        self.model = model
        self.steps = steps
        self.schedule = schedule
        self.k = k
        self._set(0)

    def _set(self, done: int) -> None:
        self.done = done
        self.lam = 1.0 if done >= self.steps else lambda_schedule(self.schedule, done / self.steps, self.k)
        for module in self.model.modules():
            if isinstance(module, BitLayer):
                module.lam = self.lam

    def step(self) -> float:
        """To be called after each step of the optimiser. Returns the lambda of the next."""
        self._set(self.done + 1)
        return self.lam

    def state_dict(self) -> dict[str, int]:
        """Number of steps done: lambda is part of no model's state dict."""
        return {"done": self.done}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Goes on where :meth:`state_dict` was taken."""
        self._set(int(state["done"]))
