"""What a make computes, by its `Spec`: codes in float32 as the make rounds them, and everything after them exactly."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn

from published import Spec


@dataclass(frozen=True)
class Parts:
    """`y = (accumulators + before) * multiplier + after`, in float64.

    Attributes:
        whole: the accumulators are whole numbers: activations are codes.
        sure: tokens whose codes do not hang on the last place of a norm.
    """

    accumulators: np.ndarray
    multiplier: np.ndarray
    before: np.ndarray | float
    after: np.ndarray | float
    whole: bool
    sure: np.ndarray

    @property
    def y(self) -> np.ndarray:
        return (self.accumulators + self.before) * self.multiplier + self.after

    def accumulators_of(self, y: Tensor | np.ndarray) -> np.ndarray:
        """The accumulators that an output stands for."""
        return (np.asarray(y, np.float64) - self.after) / self.multiplier - self.before


def rounded(values: np.ndarray, rounding: str) -> np.ndarray:
    return np.round(values) if rounding == "even" else np.floor(values + np.float32(0.5))


def normed(spec: Spec, module: nn.Module, x: np.ndarray) -> np.ndarray:
    """`x` after the norm, float32."""
    wide = x.astype(np.float64)
    if spec.norm == "rms":
        gain = module.rms_norm.weight.detach().double().numpy()
        wide = wide / np.sqrt((wide**2).mean(-1, keepdims=True) + module.rms_norm.eps) * gain
    elif spec.norm == "unit":
        wide = wide / np.maximum(np.sqrt((wide**2).sum(-1, keepdims=True)), 1e-12) * np.sqrt(x.shape[-1])
    elif spec.norm == "layer":
        wide = wide - wide.mean(-1, keepdims=True)
        wide = wide / np.sqrt((wide**2).mean(-1, keepdims=True) + 1e-5)
    return wide.astype(np.float32)


def weight_codes(spec: Spec, module: nn.Module) -> tuple[np.ndarray, float]:
    """Codes and multiplying scale of the weight."""
    weight = module.weight.detach().float().numpy()
    if spec.weight == "codes":
        scale = float(getattr(module, "weight_scale", 1.0))
        return weight, 1.0 / scale if spec.divide else scale
    sizes = np.abs(weight).astype(np.float64)
    if spec.weight == "sign":
        return np.sign(weight - weight.astype(np.float64).mean()), float(sizes.mean())
    # torch takes the lower of the two middle values.
    middle = np.sort(sizes.ravel())[(sizes.size - 1) // 2]
    scale = np.float32(max(middle if spec.weight == "absmedian" else sizes.mean(), 1e-5))
    scaled = weight / scale if spec.quotient else weight * (np.float32(1) / scale)
    return np.clip(rounded(scaled, spec.rounding), -1, 1), float(scale)


def parts(spec: Spec, module: nn.Module, x: Tensor) -> Parts:
    """The formula of a make, for its weights and an input `[..., K]`."""
    values = normed(spec, module, x.numpy())
    weight, scale = weight_codes(spec, module)
    multiplier = np.full((*values.shape[:-1], 1), scale)
    sure = np.ones(values.shape[:-1], bool)
    if spec.largest is not None:
        largest = np.maximum(np.abs(values).max(-1, keepdims=True), np.float32(spec.eps))
        up = (np.float32(1) / largest) * np.float32(spec.largest)
        scaled = values * up
        if spec.norm != "none":
            sure = (np.abs(scaled - np.floor(scaled) - 0.5) > 1e-6 * spec.largest).all(-1)
        values = np.clip(rounded(scaled, spec.rounding), *spec.codes)
        multiplier = multiplier * (largest.astype(np.float64) / spec.largest)
    accumulators = values.astype(np.float64) @ weight.astype(np.float64).T
    bias = module.bias.detach().double().numpy() if spec.bias != "none" else 0.0
    after = {"none": 0.0, "before": 0.0, "after": bias, "scaled": bias * scale}[spec.bias]
    before = bias if spec.bias == "before" else 0.0
    return Parts(accumulators, multiplier, before, after, spec.largest is not None, sure)
