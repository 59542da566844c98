"""The Shakespeare example: its network, training and export, and the checkpoint that is bundled."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

import train
from export import export, generate, load
from network import Config, Network
from setun.nn import BitLinear, unpack_ternary
from text import END_OF_TEXT, encode, split_text, windows

SMALL = Config(vocab_size=260, hidden_size=36, intermediate_size=52, num_hidden_layers=2, max_position_embeddings=40)


@pytest.fixture(scope="module")
def tokenizer(shakespeare_model: Path) -> Tokenizer:
    return Tokenizer.from_file(str(shakespeare_model / "tokenizer.json"))


@pytest.fixture
def small(tmp_path: Path, tokenizer: Tokenizer) -> tuple[Network, Path]:
    """A small random network and where it was exported to. Norms are not all ones."""
    torch.manual_seed(7)
    network = Network(SMALL).eval()
    for name, parameter in network.named_parameters():
        if "norm" in name:
            parameter.data.uniform_(0.5, 1.5)
        if "embed" in name:
            parameter.data.normal_()
    # Values that bfloat16 holds exactly, so that nothing but packing is between the two networks; the scales are
    # rounded by the export itself.
    for name, parameter in network.named_parameters():
        if not name.endswith("_proj.weight"):
            parameter.data.copy_(parameter.data.bfloat16().float())
    export(network, tokenizer, tmp_path)
    return network, tmp_path


def test_export_round_trip(small: tuple[Network, Path]) -> None:
    network, directory = small
    tensors = load_file(directory / "model.safetensors")
    for name, module in network.named_modules():
        if isinstance(module, BitLinear):
            codes, scale = module.quantized()
            assert tensors[f"{name}.weight"].shape == (module.out_features // 4, module.in_features)
            assert unpack_ternary(tensors[f"{name}.weight"]).float().equal(codes)
            assert tensors[f"{name}.weight_scale"].equal(scale.reshape(1).bfloat16())
    assert len(tensors) == 2 + 18 * SMALL.num_hidden_layers

    tokens = torch.randint(SMALL.vocab_size, (3, 17))
    with torch.no_grad():
        expected, got = network(tokens), load(directory)(tokens)
    # bfloat16 scales are off by at most 2^-9.
    assert (got - expected).abs().mean() < 0.02 * expected.std()
    assert torch.corrcoef(torch.stack([got.flatten(), expected.flatten()]))[0, 1] > 0.999


def load_in_transformers(directory: Path) -> torch.nn.Module:
    from transformers import BitNetForCausalLM

    model, info = BitNetForCausalLM.from_pretrained(directory, dtype=torch.float32, output_loading_info=True)
    assert not any(info.values()), info
    # transformers leaves the tensors of a quantised checkpoint in the dtype of the file, and refuses model.float().
    return torch.nn.Module.float(model).eval()


@pytest.mark.parametrize("bundled", [False, True])
def test_transformers_computes_the_same(
    bundled: bool, small: tuple[Network, Path], shakespeare_model: Path, tokenizer: Tokenizer
) -> None:
    directory = shakespeare_model if bundled else small[1]
    tokens = encode(tokenizer, split_text()[1][:200])[None, :40] if bundled else torch.randint(260, (2, 33))
    with torch.no_grad():
        expected, got = load_in_transformers(directory)(tokens).logits, load(directory)(tokens)
    difference = (got - expected).abs()
    assert difference.mean() < 1e-3 and difference.max() < 2e-2


def test_transformers_runs_the_bundled_model_in_its_own_dtype(shakespeare_model: Path, tokenizer: Tokenizer) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(shakespeare_model)
    theirs = AutoTokenizer.from_pretrained(shakespeare_model)
    prompt = "ROMEO:\nO, she doth"
    inputs = theirs(prompt, return_tensors="pt")
    assert inputs.input_ids[0].tolist() == tokenizer.encode(prompt).ids
    with torch.no_grad():
        out = model.generate(**inputs, max_new_tokens=5, do_sample=False)
    assert model.dtype == torch.bfloat16
    assert theirs.decode(out[0]).startswith(prompt)


def test_load_names_missing_and_odd_tensors(small: tuple[Network, Path]) -> None:
    _, directory = small
    tensors = load_file(directory / "model.safetensors")
    tensors["model.extra.weight"] = tensors.pop("model.norm.weight")
    save_file(tensors, directory / "model.safetensors")
    with pytest.raises(ValueError, match=r"model\.extra\.weight.*model\.norm\.weight"):
        load(directory)


def test_network_is_causal(small: tuple[Network, Path]) -> None:
    network, _ = small
    tokens = torch.randint(SMALL.vocab_size, (1, 20))
    changed = tokens.clone()
    changed[0, 12:] = (changed[0, 12:] + 1) % SMALL.vocab_size
    with torch.no_grad():
        a, b = network(tokens), network(changed)
    torch.testing.assert_close(a[:, :12], b[:, :12])
    assert not torch.allclose(a[:, 12:], b[:, 12:])


def test_tokenizer(tokenizer: Tokenizer) -> None:
    """Every byte can be written, nothing is added, and the end of text is one token."""
    for text in ("ROMEO:\nWhat light?", "  two  spaces\n\n", "naïve Ω 三 \u0000", split_text()[1][:5000]):
        assert tokenizer.decode(tokenizer.encode(text).ids) == text
    assert tokenizer.encode("").ids == []
    assert tokenizer.encode(f"a{END_OF_TEXT}").ids[-1] == 0 == tokenizer.token_to_id(END_OF_TEXT)


def test_windows_cover_every_target_once() -> None:
    tokens = torch.arange(103)
    pieces = list(windows(tokens, 10, batch=3))
    assert torch.cat([t.flatten() for _, t in pieces]).tolist() == list(range(1, 103))
    assert all((t == i + 1).all() for i, t in pieces)


def test_bundled_model(shakespeare_model: Path, tokenizer: Tokenizer) -> None:
    """Its size, its shapes, and about the loss that is stated, on every sixth piece of the validation text."""
    assert sum(f.stat().st_size for f in shakespeare_model.iterdir()) < 4_000_000
    results = json.loads((shakespeare_model / "results.json").read_text())
    network = load(shakespeare_model)
    assert 3e6 < results["ternary_weights"] < 8e6
    assert network.config.vocab_size == tokenizer.get_vocab_size()
    assert abs(results["validation_nats_per_token"] - results["validation_nats_per_token_before_export"]) < 0.01

    pieces = list(windows(encode(tokenizer, split_text()[1]), 512, batch=1))[::6]
    with torch.no_grad():
        losses = [train.loss_of(network, inputs, targets).item() for inputs, targets in pieces]
    assert abs(sum(losses) / len(losses) - results["validation_nats_per_token"]) < 0.03
    text = generate(network, tokenizer, "ROMEO:\n", 20, 0.8, 0)
    assert text.startswith("ROMEO:\n") and text.isascii()


def test_readme_states_the_results(root: Path, shakespeare_model: Path) -> None:
    results = json.loads((shakespeare_model / "results.json").read_text())
    text = " ".join((root / "README.md").read_text().split())
    assert f"{results['validation_nats_per_token']:.2f} nats per token" in text
    assert f"{results['validation_bits_per_byte']:.2f} bits per byte" in text
    assert f"{results['ternary_weights'] / 1e6:.1f} million ternary weights" in text


def test_training_can_be_stopped_and_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run that is interrupted after its first save ends with the very network of one that is not."""
    texts = tuple(text[:4000] for text in split_text())
    monkeypatch.setattr(train, "split_text", lambda: texts)
    options = [
        "--steps",
        "5",
        "--every",
        "2",
        "--tokens",
        "32",
        "--lengths",
        "16",
        "32",
        "--layers",
        "1",
        "--dropout",
        "0",
    ]

    train.main(["--out", str(tmp_path / "whole"), *options])
    assert "bits per byte, after 160 tokens" in capsys.readouterr().out
    assert (tmp_path / "whole" / "loss.png").stat().st_size > 0

    with monkeypatch.context() as interrupted:

        def interrupt(*_: object) -> None:
            raise KeyboardInterrupt

        interrupted.setattr(train, "draw_curve", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train.main(["--out", str(tmp_path / "parts"), *options])
    assert torch.load(tmp_path / "parts" / "state.pt", weights_only=True)["step"] == 2
    train.main(["--out", str(tmp_path / "parts"), *options])

    states = [torch.load(tmp_path / run / "state.pt", weights_only=True) for run in ("whole", "parts")]
    assert [state["step"] for state in states] == [5, 5]
    for name, tensor in states[0]["network"].items():
        assert tensor.equal(states[1]["network"][name]), name
