"""The comparisons behind `setun verify`: what they count, what they forgive and what they never do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from setun import huggingface, ops, verify
from setun.checkpoint import Checkpoint, open_checkpoint
from setun.random_checkpoint import SHAPES, write_checkpoint

LAYER = "model.layers.0.mlp.gate_proj"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    folder = tmp_path_factory.mktemp("checkpoint")
    write_checkpoint(folder, SHAPES["tiny-bitnet"])
    return open_checkpoint(folder)


@pytest.fixture
def layer(checkpoint: Checkpoint) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Codes `[T, K]`, accumulators `[T, N]` and weight `[N, K]` of a layer."""
    weight = verify.ternary_weight(checkpoint, LAYER, 232)
    codes = np.random.default_rng(0).integers(-127, 128, (5, 96)).astype(np.int8)
    return codes, codes.astype(np.int32) @ weight.astype(np.int32).T, weight


def compare(
    checkpoint: Checkpoint, codes: tuple[np.ndarray, np.ndarray], accumulators: tuple[np.ndarray, np.ndarray]
) -> verify.Integers:
    report = verify.Integers(probe_logits_equal=True)
    verify.compare_layer(LAYER, codes, accumulators, lambda: verify.ternary_weight(checkpoint, LAYER, 232), report)
    return report


def test_equal_integers(checkpoint: Checkpoint, layer) -> None:
    codes, accumulators, _ = layer
    report = compare(checkpoint, (codes, codes), (accumulators, accumulators))
    assert report.ok
    assert (report.layers, report.codes, report.accumulators) == (1, 480, 1160)


def test_one_code_off_by_one_must_move_its_accumulators(checkpoint: Checkpoint, layer) -> None:
    codes, accumulators, weight = layer
    moved = codes.copy()
    moved[2, 7] -= 1
    consistent = accumulators.copy()
    consistent[2] -= weight[:, 7]
    report = compare(checkpoint, (moved, codes), (consistent, accumulators))
    assert report.ok
    assert report.codes_off_by_one == 1
    report = compare(checkpoint, (moved, codes), (accumulators, accumulators))
    assert not report.ok
    assert "accumulators differ, first at token 2" in report.problems[0]


def test_other_differences_fail(checkpoint: Checkpoint, layer) -> None:
    codes, accumulators, _ = layer
    moved = codes.copy()
    moved[1, 3] = 0 if abs(int(codes[1, 3])) > 1 else 5
    report = compare(checkpoint, (moved, codes), (accumulators, accumulators))
    assert "1 codes differ by more than one, first at token 1, input 3" in report.problems[0]
    wrong = accumulators.copy()
    wrong[4, 200] += 1
    report = compare(checkpoint, (codes, codes), (wrong, accumulators))
    assert report.problems == [
        f"{LAYER}: 1 accumulators differ, first at token 4, output 200: {wrong[4, 200]} instead of "
        f"{accumulators[4, 200]}"
    ]
    report = compare(checkpoint, (codes[:4], codes), (accumulators, accumulators))
    assert "shapes differ" in report.problems[0]


def test_nothing_compared_is_not_equal() -> None:
    assert not verify.Integers(probe_logits_equal=True).ok


def test_weights_of_every_storage(tmp_path: Path) -> None:
    for masters in (False, True):
        write_checkpoint(tmp_path, SHAPES["tiny-bitnet"], masters=masters)
        opened = open_checkpoint(tmp_path)
        from safetensors.torch import load_file

        stored = load_file(tmp_path / "model.safetensors")[f"{LAYER}.weight"]
        codes, _ = ops.weight_codes(stored, "absmean" if masters else "packed", 232, 1e-5)
        assert np.array_equal(verify.ternary_weight(opened, LAYER, 232), codes.numpy())


def test_logits_within_tolerance() -> None:
    theirs = np.random.default_rng(0).standard_normal((6, 50)).astype(np.float32)
    assert verify.compare_logits(theirs, theirs).ok
    assert verify.compare_logits(theirs + np.float32(5e-4), theirs).ok
    assert not verify.compare_logits(theirs + np.float32(2e-3), theirs).ok
    far = theirs.copy()
    far[3, 4] += 0.03
    assert not verify.compare_logits(far, theirs).ok
    close = np.zeros((1, 3), np.float32)
    close[0, 1] = 0.01
    other = np.zeros((1, 3), np.float32)
    other[0, 2] = 0.001
    difference = verify.compare_logits(close, other)
    assert (difference.argmax_differs, difference.argmax_differs_decided, difference.decided) == (1, 0, 0)


def test_reports_can_be_read() -> None:
    result = verify.Verification("m.setun", "x86-64-v3", 4, verify.Integers(), verify.Logits())
    assert not result.ok
    text = result.describe()
    assert "integers: DIFFERENT" in text
    assert text.endswith("NOT verified")
    assert result.as_json()["logits"]["ok"] is True


class OneLayer(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        from transformers.integrations.bitnet import AutoBitLinear, BitLinear

        if kind == "auto":
            self.layer = AutoBitLinear(4, 4, bias=False)
            self.layer.weight.data = torch.eye(4)
        else:
            self.layer = BitLinear(4, 4, bias=False, dtype=torch.float32)
            self.layer.weight = torch.tensor([[0b01010110, 0b01011001, 0b01100101, 0b10010101]], dtype=torch.uint8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)


@pytest.mark.parametrize("kind", ["auto", "packed"])
def test_codes_are_taken_over_at_boundaries_only(kind: str) -> None:
    """The weight is the identity: the outputs are the codes."""
    torch.compiler.set_stance("force_eager")
    model = OneLayer(kind)
    x = torch.tensor([[127.0, 0.50001, 2.3, -7.4999]])

    def run(*codes: int) -> tuple[list[int], huggingface.CodeComparison]:
        given = {"layer": np.array([codes], np.int8)}
        with torch.no_grad(), huggingface.aligned_codes(model, given) as comparison:
            return model(x).round().int().reshape(-1).tolist(), comparison

    with torch.no_grad():
        assert model(x).round().int().tolist() == [[127, 1, 2, -7]]
    codes, comparison = run(127, 1, 2, -7)
    assert (codes, comparison.at_boundary, comparison.different) == ([127, 1, 2, -7], 0, 0)
    codes, comparison = run(127, 0, 2, -8)
    assert (codes, comparison.at_boundary, comparison.different) == ([127, 0, 2, -8], 2, 0)
    codes, comparison = run(127, 1, 3, -7)
    assert (codes, comparison.at_boundary, comparison.different) == ([127, 1, 2, -7], 0, 1)
    assert comparison.first == "layer, token 0, input 2"
    codes, comparison = run(127, 1, 2, -9)
    assert comparison.different == 1
    with torch.no_grad():
        assert model(x).round().int().tolist() == [[127, 1, 2, -7]]
