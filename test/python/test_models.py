"""The model definitions, run eagerly on real weights, against transformers' own models in float32."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from setun import lint, ops, verify
from setun.checkpoint import Checkpoint, open_checkpoint
from setun.huggingface import reference_logits
from setun.models.layers import CausalLM
from setun.random_checkpoint import SHAPES, write_checkpoint

CASES = [
    ("tiny-bitnet", False),
    ("tiny-bitnet", True),
    ("tiny-onebit", False),
    ("tiny-onebit", True),
    ("tiny-llama", False),
    ("tiny-llama-tied", False),
    ("tiny-llama", True),
]


def load_eager(checkpoint: Checkpoint, kv_cache: str = "f16") -> CausalLM:
    """The checkpoint's definition with its real weights and empty caches."""
    bound = lint.check(checkpoint, kv_cache=kv_cache)
    bound.found.raise_errors(str(checkpoint.directory))
    model = bound.model
    names = {name for name, _ in model.named_parameters()}
    weights = {name: t for file in checkpoint.files for name, t in load_file(file).items() if name in names}
    model.load_state_dict(weights, assign=True)
    for module in model.modules():
        for name in getattr(module, "session_state", {}):
            setattr(module, name, torch.zeros_like(getattr(module, name), device="cpu"))
    return model


def text(checkpoint: Checkpoint, length: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(3).integers(0, checkpoint.config["vocab_size"], length))


@pytest.mark.parametrize(("config", "masters"), CASES)
def test_logits_are_those_of_transformers(tmp_path: Path, config: str, masters: bool) -> None:
    write_checkpoint(tmp_path, SHAPES[config], seed=1, masters=masters)
    checkpoint = open_checkpoint(tmp_path)
    model, tokens = load_eager(checkpoint), text(checkpoint, 40)
    with torch.no_grad():
        ours = model(tokens, torch.tensor(0)).numpy()
    difference = verify.compare_logits(ours, reference_logits(checkpoint, tokens))
    assert difference.ok, difference
    assert ours.std() > 0.1
    # Token by token and in two pieces: the caches hold what the whole text would.
    with torch.no_grad():
        steps = [model.step(tokens[:9], torch.tensor(0)), model.step(tokens[9:25], torch.tensor(9))]
        steps += [model.step(tokens[i : i + 1], torch.tensor(i)) for i in range(25, 40)]
    assert verify.compare_logits(torch.cat(steps).numpy(), ours[[8, *range(24, 40)]]).ok


def test_the_cache_rounds_as_it_says(tmp_path: Path) -> None:
    """A cache of f32 equals transformers without rounding; one of f16 does not, and its limits are those of f16."""
    write_checkpoint(tmp_path, SHAPES["tiny-llama"], seed=5)
    checkpoint = open_checkpoint(tmp_path)
    tokens, found = text(checkpoint, 40), {}
    for ours in ("f32", "f16"):
        with torch.no_grad():
            logits = load_eager(checkpoint, ours)(tokens, torch.tensor(0)).numpy()
        for theirs in ("f32", "f16"):
            found[ours, theirs] = verify.compare_logits(logits, reference_logits(checkpoint, tokens, theirs)).mean
    assert max(found["f32", "f32"], found["f16", "f16"]) < 0.3 * min(found["f32", "f16"], found["f16", "f32"]), found
    rounded = ops.round_to_f16(torch.tensor([1e6, -torch.inf, torch.nan, 3e-8, 1 + 2**-11, 65519.0]))
    assert rounded.tolist() == [65504.0, -65504.0, -65504.0, 2**-24, 1.0, 65504.0]


def test_the_bundled_model(shakespeare_model: Path) -> None:
    if not (shakespeare_model / "model.safetensors").is_file():
        pytest.skip("the bundled model is not trained yet")
    checkpoint = open_checkpoint(shakespeare_model)
    assert lint.check(checkpoint).found.errors == []
    model, tokens = load_eager(checkpoint), text(checkpoint, 48)
    with torch.no_grad():
        ours = model(tokens, torch.tensor(0)).numpy()
    # On other processors torch may add in another order and move a code across a rounding boundary: be lenient here,
    # `setun verify` is exact.
    difference = verify.compare_logits(ours, reference_logits(checkpoint, tokens))
    assert difference.mean < 1e-2
    assert difference.argmax_differs_decided == 0


def test_biases_of_offline_autobitlinear_are_scaled_as_transformers_does(tmp_path: Path) -> None:
    check_biases(tmp_path, "tiny-bitnet")


def test_biases_of_bitlinear_are_not_scaled(tmp_path: Path) -> None:
    check_biases(tmp_path, "tiny-llama")


def check_biases(folder: Path, config: str) -> None:
    from safetensors.torch import save_file

    write_checkpoint(folder, SHAPES[config], seed=2)
    settings = json.loads((folder / "config.json").read_text()) | {"attention_bias": True}
    (folder / "config.json").write_text(json.dumps(settings))
    weights = load_file(folder / "model.safetensors")
    generator = torch.Generator().manual_seed(0)
    for name in [name for name in weights if "self_attn" in name and name.endswith("_proj.weight")]:
        rows = weights[name].shape[0] * 4
        bias = torch.randn(rows, generator=generator) * 0.1
        weights[name.replace(".weight", ".bias")] = bias.to(torch.bfloat16)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    checkpoint = open_checkpoint(folder)
    tokens = text(checkpoint, 24)
    with torch.no_grad():
        ours = load_eager(checkpoint)(tokens, torch.tensor(0)).numpy()
    difference = verify.compare_logits(ours, reference_logits(checkpoint, tokens))
    assert difference.ok, difference


def test_norms_inside_the_layers(tmp_path: Path) -> None:
    """`use_rms_norm`: each BitLinear normalises its own input."""
    from safetensors.torch import save_file

    write_checkpoint(tmp_path, SHAPES["tiny-llama"], seed=4)
    settings = json.loads((tmp_path / "config.json").read_text())
    settings["quantization_config"] |= {"use_rms_norm": True, "rms_norm_eps": 1e-4}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    weights = load_file(tmp_path / "model.safetensors")
    for name in [name for name in weights if name.endswith("_proj.weight")]:
        gains = torch.linspace(0.5, 1.5, weights[name].shape[1])
        weights[name.replace(".weight", ".rms_norm.weight")] = gains.to(torch.bfloat16)
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    checkpoint = open_checkpoint(tmp_path)
    tokens = text(checkpoint, 24)
    with torch.no_grad():
        ours = load_eager(checkpoint)(tokens, torch.tensor(0)).numpy()
    difference = verify.compare_logits(ours, reference_logits(checkpoint, tokens))
    assert difference.ok, difference


# Golden vectors: the matrices of the papers' worked example, and transformers' documented packing.
W = torch.tensor([[0.8, -0.5, 1.2], [-1.5, 0.4, -0.9], [1.3, -0.7, 0.2]])
X = torch.tensor([[1.0, -0.6, 0.7], [-0.9, 0.4, -1.2], [0.8, -0.5, 0.3]])


def linear(x: torch.Tensor, w: torch.Tensor, **options: object) -> torch.Tensor:
    settings = {
        "out_features": w.shape[0],
        "storage": "absmean",
        "activation": "per_token",
        "bits": 8,
        "eps": 1e-5,
        "divide": False,
        "norm": "none",
        "norm_eps": 0.0,
    } | options
    return torch.ops.setun.bit_linear(x, w, None, None, None, **settings)


def test_ternary_golden_vectors() -> None:
    codes, scale = ops.ternarize(W, 1e-5)
    assert codes.tolist() == [[1, -1, 1], [-1, 0, -1], [1, -1, 0]]
    assert scale.item() == pytest.approx(0.8333333)
    quantized, _ = ops.quantize_activations(X, "per_token", 8, 1e-5)
    assert quantized.tolist() == [[127, -76, 89], [-95, 42, -127], [127, -79, 48]]
    assert ops.product(quantized, codes).tolist() == [[292, -216, 203], [-264, 222, -137], [254, -175, 206]]
    wanted = [[1.91601, -1.417323, 1.332021], [-2.07874, 1.748031, -1.07874], [1.333333, -0.918635, 1.081365]]
    assert torch.allclose(linear(X, W), torch.tensor(wanted), atol=2e-6)


def test_binary_golden_vectors() -> None:
    codes, scale = ops.binarize(W)
    assert codes.tolist() == [[1, -1, 1], [-1, 1, -1], [1, -1, 1]]
    assert scale.item() == pytest.approx(0.8333333)
    assert torch.allclose(linear(X, W, storage="sign")[0], torch.tensor([1.91601, -1.91601, 1.91601]), atol=2e-6)


def test_unpacking_of_transformers_documentation() -> None:
    packed = torch.tensor([[0b10100001, 0b00011000], [0b10010000, 0b00001010]], dtype=torch.uint8)
    wanted = [[0, -1], [-1, 1], [-1, 1], [-1, 1], [1, 0], [0, -1], [1, -1], [1, -1]]
    assert ops.unpack_codes(packed, 8).tolist() == wanted


def test_activation_edge_cases() -> None:
    quantize = ops.quantize_activations
    codes, scale = quantize(torch.zeros(1, 4), "per_token", 8, 1e-5)
    assert codes.tolist() == [[0, 0, 0, 0]]
    assert scale.item() == pytest.approx(1.27e7)
    halves, _ = quantize(torch.tensor([[127.0, 0.5, 1.5, 2.5, -0.5, -1.5]]), "per_token", 8, 1e-5)
    assert halves.tolist() == [[127, 0, 2, 2, 0, -2]]
    small, _ = quantize(torch.tensor([[1e-6, -5e-6]]), "per_token", 8, 1e-5)
    assert small.tolist() == [[13, -64]]
    per_tensor, _ = quantize(torch.tensor([[1.0, 2.0], [0.5, 0.25]]), "per_tensor", 8, 1e-5)
    assert per_tensor.tolist() == [[64, 127], [32, 16]]


def test_wide_products_are_exact() -> None:
    wide = 1 << 18
    codes = torch.full((1, wide), 127.0)
    assert ops.product(codes, torch.ones(1, wide)).item() == 127 * wide


def test_every_storage_gives_the_same_layer() -> None:
    generator = torch.Generator().manual_seed(1)
    codes = torch.randint(-1, 2, (8, 12), generator=generator).float()
    fields = (codes + 1).to(torch.uint8).reshape(4, 2, 12)
    packed = fields[0] | fields[1] << 2 | fields[2] << 4 | fields[3] << 6
    x = torch.randn(5, 12, generator=generator)
    scale = torch.tensor([0.37])

    def run(weight: torch.Tensor, storage: str, stored: torch.Tensor, divide: bool) -> torch.Tensor:
        options = dataclasses.replace(BASE, storage=storage, divide=divide)
        return torch.ops.setun.bit_linear(x, weight, stored, None, None, **dataclasses.asdict(options))

    wanted = run(packed, "packed", scale, False)
    assert torch.equal(run(codes.to(torch.bfloat16), "ternary", scale, False), wanted)
    assert torch.allclose(run(packed, "packed", 1 / scale, True), wanted, rtol=1e-6)


@dataclasses.dataclass(frozen=True)
class Options:
    out_features: int = 8
    storage: str = "packed"
    activation: str = "per_token"
    bits: int = 8
    eps: float = 1e-5
    divide: bool = False
    norm: str = "none"
    norm_eps: float = 0.0


BASE = Options()


def test_operators_are_consistent_with_their_shape_functions() -> None:
    x = torch.randn(5, 12)
    pos = torch.tensor(2)
    cache, rows = torch.zeros(9, 2, 4), torch.randn(5, 2, 4)
    calls = [
        (torch.ops.setun.rms_norm.default, (x, torch.ones(12), 1e-5), {}),
        (torch.ops.setun.rotary.default, (torch.randn(5, 3, 4), torch.ones(9, 2), torch.ones(9, 2), pos), {}),
        (torch.ops.setun.cache_update.default, (cache, rows, pos), {}),
        (torch.ops.setun.attention.default, (torch.randn(5, 4, 4), cache, cache, pos, 0.5, True), {}),
        (torch.ops.setun.gated.default, (x, x, "relu2"), {}),
        (torch.ops.setun.embedding.default, (torch.randn(7, 3), torch.tensor([1, 6])), {}),
        (torch.ops.setun.dense.default, (x, torch.randn(7, 12), None), {}),
        (
            torch.ops.setun.bit_linear.default,
            (x, torch.randint(0, 2, (2, 12), dtype=torch.uint8), torch.ones(1), None, None),
            dataclasses.asdict(BASE),
        ),
    ]
    for function, arguments, options in calls:
        torch.library.opcheck(function, arguments, options, test_utils=("test_schema", "test_faketensor"))


def test_a_full_cache_is_refused() -> None:
    with pytest.raises(ValueError, match="at most 4 tokens"):
        torch.ops.setun.cache_update(torch.zeros(4, 1, 2), torch.zeros(2, 1, 2), torch.tensor(3))
