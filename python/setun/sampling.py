"""Choice of the next token from logits: greedy, or random with a seed, the same on every machine."""

from __future__ import annotations

import numpy as np

from setun.diagnostics import SetunError


class Sampler:
    """Chooses tokens. With the same seed and the same logits it makes the same choices.

    Candidates are ordered by logit, ties by id, and cut to the `top_k` likeliest, then to the shortest run of them
    that holds `top_p` of the probability (after Holtzman et al., 1904.09751); the random number comes from PCG64.

    Args:
        temperature: divides the logits; 0 takes the likeliest token, the lowest id if several are.
        top_k: 0 keeps all.
        top_p: above 0, at most 1.
        seed: of the random choice.

    Raises:
        SetunError: on a value outside these ranges.
    """

    def __init__(self, temperature: float = 0.0, top_k: int = 0, top_p: float = 1.0, seed: int = 0) -> None:
        if not (np.isfinite(temperature) and temperature >= 0):
            raise SetunError(f"expects a temperature of 0 or more, got {temperature}")
        if top_k < 0:
            raise SetunError(f"expects a top-k of 0 or more, got {top_k}")
        if not 0 < top_p <= 1:
            raise SetunError(f"expects a top-p above 0 and at most 1, got {top_p}")
        if seed < 0:
            raise SetunError(f"expects a seed of 0 or more, got {seed}")
        self.temperature = temperature
        self.top_k = top_k
        self.top_p = top_p
        self.random = np.random.Generator(np.random.PCG64(seed))

    def choose(self, logits: np.ndarray, limit: int | None = None) -> int:
        """Id of the next token.

        Args:
            logits: float32 `[vocab]`.
            limit: only ids below are candidates: tables may have more rows than the tokenizer has tokens.

        Raises:
            SetunError: the logits are not finite.
        """
        logits = logits[:limit]
        _check(logits.max(initial=-np.inf))
        if self.temperature == 0:
            return int(np.argmax(logits))
        count = len(logits) if self.top_k == 0 else min(self.top_k, len(logits))
        if count < len(logits):
            # Everything that ties with the last of the k stays in, then the stable sort settles it by id.
            bound = np.partition(logits, len(logits) - count)[len(logits) - count]
            candidates = np.flatnonzero(logits >= bound)
        else:
            candidates = np.arange(len(logits))
        order = candidates[np.argsort(-logits[candidates], kind="stable")][:count]
        return self._draw(order, logits[order])

    def likeliest(self, most: int) -> int | None:
        """How many of the likeliest tokens suffice for a choice; None if it takes more than `most`."""
        count = 1 if self.temperature == 0 else self.top_k
        return count if 0 < count <= most else None

    def choose_among(self, ids: np.ndarray, logits: np.ndarray) -> int:
        """Id of the next token, from the `likeliest` ones: the same as `choose` from all logits.

        Args:
            ids: int64, ordered by logit, ties by id; -1 where a vocabulary has fewer.
            logits: theirs.

        Raises:
            SetunError: the logits are not finite.
        """
        ids = ids[ids >= 0]
        logits = logits[: len(ids)]
        _check(logits.max(initial=-np.inf))
        return int(ids[0]) if self.temperature == 0 else self._draw(ids, logits)

    def _draw(self, order: np.ndarray, logits: np.ndarray) -> int:
        """One of the ids `order`, whose logits fall."""
        scaled = logits.astype(np.float64) / self.temperature
        weights = np.exp(scaled - scaled[0])
        cumulative = np.cumsum(weights / weights.sum())
        kept = int(np.searchsorted(cumulative, self.top_p, side="left")) + 1 if self.top_p < 1 else len(order)
        kept = min(kept, len(order))
        draw = self.random.random() * cumulative[kept - 1]
        return int(order[min(int(np.searchsorted(cumulative[:kept], draw, side="right")), kept - 1)])


def _check(largest: np.floating) -> None:
    if not np.isfinite(largest):
        raise SetunError("the model's logits are not finite", "Check the package with setun verify.")
