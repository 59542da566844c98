"""Choice of tokens: greedy, cut to k and p, and the same with the same seed."""

from __future__ import annotations

import numpy as np
import pytest

from setun.diagnostics import SetunError
from setun.sampling import Sampler

LOGITS = np.log(np.array([0.5, 0.1, 0.25, 0.05, 0.1], np.float32))


def draw(count: int = 4000, **options: float) -> np.ndarray:
    sampler = Sampler(**options)  # type: ignore[arg-type]
    return np.bincount([sampler.choose(LOGITS) for _ in range(count)], minlength=5) / count


def test_greedy_takes_the_first_of_equals() -> None:
    assert Sampler().choose(np.array([1.0, 3.0, 3.0, 2.0], np.float32)) == 1
    assert Sampler().choose(np.array([1.0, 3.0, 9.0], np.float32), limit=2) == 1


def test_frequencies_are_the_probabilities() -> None:
    assert draw(temperature=1.0) == pytest.approx([0.5, 0.1, 0.25, 0.05, 0.1], abs=0.03)
    squared = np.array([0.5, 0.1, 0.25, 0.05, 0.1]) ** 2
    assert draw(temperature=0.5) == pytest.approx(squared / squared.sum(), abs=0.03)


def test_top_k_breaks_ties_by_id() -> None:
    frequencies = draw(temperature=1.0, top_k=3)
    assert frequencies[3] == 0
    assert frequencies[4] == 0  # ties with token 1, which comes first
    assert frequencies[[0, 1, 2]] == pytest.approx(np.array([0.5, 0.1, 0.25]) / 0.85, abs=0.03)


def test_top_p_keeps_the_shortest_sufficient_run() -> None:
    assert draw(temperature=1.0, top_p=0.7)[[0, 2]] == pytest.approx([2 / 3, 1 / 3], abs=0.03)
    assert draw(temperature=1.0, top_p=0.3)[0] == 1
    assert draw(temperature=1.0, top_p=1e-9)[0] == 1


def test_seeds_decide() -> None:
    logits = np.random.default_rng(0).standard_normal(500).astype(np.float32)

    def run(seed: int) -> list[int]:
        sampler = Sampler(0.8, 40, 0.95, seed)
        return [sampler.choose(logits) for _ in range(20)]

    assert run(7) == run(7)
    assert run(7) != run(8)
    # Recorded: the choices are part of what users rely on when they give a seed.
    assert run(1958) == RECORDED


RECORDED = [219, 475, 219, 47, 48, 244, 233, 219, 430, 424, 430, 164, 47, 270, 270, 403, 219, 247, 351, 79]


def test_a_large_temperature_and_tiny_logits_stay_finite() -> None:
    sampler = Sampler(temperature=1e-6, top_p=0.5)
    assert sampler.choose(np.array([-1e30, 1e30, 0.0], np.float32)) == 1


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": -1.0},
        {"temperature": float("nan")},
        {"top_k": -1},
        {"top_p": 0.0},
        {"top_p": 1.5},
        {"seed": -1},
    ],
)
def test_values_out_of_range_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(SetunError, match="expects a"):
        Sampler(**options)  # type: ignore[arg-type]


def test_logits_that_are_not_numbers_are_refused() -> None:
    with pytest.raises(SetunError, match="not finite"):
        Sampler().choose(np.array([np.nan, 1.0], np.float32))


@pytest.mark.parametrize(
    "options", [{}, {"temperature": 0.7, "top_k": 5}, {"temperature": 1.3, "top_k": 3, "top_p": 0.8}]
)
def test_the_likeliest_suffice(options: dict[str, float]) -> None:
    random = np.random.default_rng(3)
    whole, cut = Sampler(**options, seed=9), Sampler(**options, seed=9)  # type: ignore[arg-type]
    count = cut.likeliest(64)
    assert count == options.get("top_k", 1)
    for _ in range(200):
        logits = random.integers(0, 6, 40).astype(np.float32)  # many ties
        ids = np.argsort(-logits, kind="stable")[:count]
        assert whole.choose(logits) == cut.choose_among(ids, logits[ids])


def test_the_likeliest_do_not_suffice() -> None:
    assert Sampler(temperature=1.0).likeliest(64) is None
    assert Sampler(temperature=1.0, top_k=65).likeliest(64) is None
    assert Sampler(temperature=1.0, top_k=64).likeliest(64) == 64
    assert Sampler().likeliest(0) is None
    with pytest.raises(SetunError, match="not finite"):
        Sampler().choose_among(np.array([0, -1]), np.array([-np.inf, -np.inf], np.float32))
    # A vocabulary smaller than what was asked for.
    assert Sampler(temperature=1.0, top_k=9).choose_among(np.array([2, -1]), np.array([1, -np.inf], np.float32)) == 2
