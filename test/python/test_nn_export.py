"""setun.nn.replace_linear and setun.nn.save_packed: models of others become ternary, and checkpoints that load."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from setun import lint
from setun.checkpoint import open_checkpoint
from setun.nn import BitConv2d, BitLinear, RMSNorm, replace_linear, save_packed, unpack_ternary


def small_llama(bias: bool = False, tied: bool = False) -> nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=32, attention_bias=bias, tie_word_embeddings=tied,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            parameter.data.normal_()
    return model


class Other(nn.Module):
    """Linear layers in a list, shared, tied, a subclass, and a head that is not called so."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(10, 8)
        self.blocks = nn.ModuleList(nn.Linear(8, 8) for _ in range(2))
        self.again = self.blocks[0]
        self.attention = nn.MultiheadAttention(8, 2)
        self.tied = nn.Linear(8, 10, bias=False)
        self.tied.weight = self.table.weight
        self.scores = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        for block in (*self.blocks, self.again):
            x = block(x)
        return self.scores(x)


def test_replacement_takes_weights_over_and_leaves_heads_alone() -> None:
    model = Other()
    parameters = {name: id(parameter) for name, parameter in model.named_parameters()}
    done = replace_linear(model, norm="none", codes="binary")
    assert done.replaced == ("blocks.0", "blocks.1", "again")
    assert set(done.kept) == {"attention.out_proj", "tied", "scores"}
    assert done.kept["scores"] == "output head"
    assert done.kept["tied"] == "shares its weight with an embedding"
    assert "NonDynamicallyQuantizableLinear" in done.kept["attention.out_proj"]
    assert {name: id(parameter) for name, parameter in model.named_parameters()} == parameters, "the same parameters"
    assert model.again is model.blocks[0] and isinstance(model.again, BitLinear)
    assert model.again.codes == "binary"
    assert str(done).startswith("3 linear layers replaced\nkept attention.out_proj: ")
    x = torch.randn(2, 8)
    model.eval()
    wanted = nn.functional.linear(model.blocks[0].quantize_input(x), model.again.quantized_weight(), model.again.bias)
    torch.testing.assert_close(model.again(x), wanted)


def test_replacement_skips_what_is_named() -> None:
    assert replace_linear(Other(), skip=["blocks.1"]).replaced == ("blocks.0", "again")
    assert replace_linear(Other(), skip=["blocks.*"]).replaced == ("again",)
    assert "scores" in replace_linear(Other(), skip_head=False).replaced
    with pytest.raises(ValueError, match=r"got 'block\.1'; there are blocks\.0, blocks\.1, "):
        replace_linear(Other(), skip=["block.1"])
    with pytest.raises(ValueError, match="make a BitLinear of it"):
        replace_linear(nn.Linear(2, 2))
    with pytest.raises(ValueError, match=r"got none; 0 linear layers replaced\nkept 0: output head"):
        replace_linear(nn.Sequential(nn.Linear(2, 2)))


def test_replacement_keeps_dtype_and_mode() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 2)).bfloat16().eval()
    replace_linear(model, norm="rms")
    assert model[0].norm.weight.dtype == torch.bfloat16
    assert not model[0].training and not model[0].norm.training


@pytest.mark.parametrize(
    ("bias", "tied", "norm"), [(False, False, "none"), (True, True, "none"), (False, False, "rms")]
)
def test_transformers_loads_what_was_saved(tmp_path: Path, bias: bool, tied: bool, norm: str) -> None:
    """A Llama of transformers, replaced, saved, loaded by transformers: the same logits; and read by our reader."""
    from transformers import AutoModelForCausalLM

    model = small_llama(bias, tied)
    done = replace_linear(model, norm=norm)
    assert len(done.replaced) == 14 and list(done.kept) == ["lm_head"]
    if norm == "rms":
        for module in model.modules():
            if isinstance(module, RMSNorm):
                module.weight.data.uniform_(0.5, 1.5)
    save_packed(model, tmp_path, dtype=torch.float32)
    loaded, info = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32, output_loading_info=True)
    assert not any(info.values()), info
    tokens = torch.randint(64, (2, 9))
    with torch.no_grad():
        got, expected = loaded.eval()(tokens).logits, model(tokens).logits
    # Codes on a rounding boundary may differ between two orders of summation.
    assert (got - expected).abs().mean() < 1e-3 * expected.std()

    fields = json.loads((tmp_path / "config.json").read_text())
    assert fields["quantization_config"]["modules_to_not_convert"] == ["lm_head"]
    bound = lint.check(open_checkpoint(tmp_path))
    bound.found.raise_errors(str(tmp_path))


def test_what_is_saved_is_the_codes(tmp_path: Path) -> None:
    model = nn.Sequential(BitLinear(12, 8, bias=True), nn.ReLU(), nn.Linear(8, 4))
    model[0].bias.data.normal_()
    model[0].lam = 0.25
    weights = save_packed(model, tmp_path, {"model_type": "other"})
    tensors = load_file(weights)
    codes, scale = model[0].quantized()
    assert unpack_ternary(tensors["0.weight"]).float().equal(codes)
    assert tensors["0.weight_scale"].equal(scale.reshape(1).bfloat16())
    # The bias comes back by the multiplication with the scale that transformers does.
    restored = tensors["0.bias"].float() * tensors["0.weight_scale"].float()
    torch.testing.assert_close(restored, model[0].bias.detach(), atol=0, rtol=2**-8)
    assert tensors["2.weight"].equal(model[2].weight.bfloat16())
    assert set(tensors) == {"0.weight", "0.weight_scale", "0.bias", "2.weight", "2.bias"}
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "other"


def test_layers_without_a_packed_form_are_all_named(tmp_path: Path) -> None:
    model = nn.ModuleDict({
        "odd": BitLinear(8, 6),
        "four": BitLinear(8, 8, activation_bits=4),
        "groups": BitLinear(8, 8, group_size=4),
        "layer": BitLinear(8, 8, norm="layer"),
        "conv": BitConv2d(1, 1, 1),
        "good": BitLinear(8, 8),
    })  # fmt: skip
    with pytest.raises(ValueError) as caught:
        save_packed(model, tmp_path, {})
    lines = str(caught.value).splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["odd", "four", "groups", "layer", "conv"]
    assert "6 output features" in lines[1] and "4 bits" in lines[2]
    with pytest.raises(ValueError, match="the same norm, got RMSNorms of eps"):
        save_packed(nn.Sequential(BitLinear(4, 4), BitLinear(4, 4, norm="rms")), tmp_path, {})
    with pytest.raises(ValueError, match="BitLinear layers, got none"):
        save_packed(nn.Linear(2, 2), tmp_path, {})
    with pytest.raises(ValueError, match="expects config="):
        save_packed(nn.Sequential(BitLinear(4, 4)), tmp_path)
    assert not list(tmp_path.iterdir())
