"""Lint: every defect of a checkpoint has its finding, and a sound checkpoint has none."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from setun import lint
from setun.checkpoint import open_checkpoint
from setun.random_checkpoint import SHAPES, Tensor, to_bfloat16, write_checkpoint, write_safetensors

GATE = "model.layers.1.mlp.gate_proj"


class Editor:
    """A checkpoint whose tensors are edited as raw bytes, since numpy has no bfloat16."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = json.loads((folder / "config.json").read_text())
        opened = open_checkpoint(folder)
        self.tensors: dict[str, tuple[str, tuple[int, ...], bytes]] = {}
        for name, tensor in opened.tensors.items():
            with tensor.file.open("rb") as file:
                file.seek(tensor.begin)
                self.tensors[name] = (tensor.dtype, tensor.shape, file.read(tensor.nbytes))

    def floats(self, name: str, values: np.ndarray) -> None:
        self.tensors[name] = ("BF16", values.shape, to_bfloat16(values).tobytes())

    def save(self) -> None:
        (self.folder / "config.json").write_text(json.dumps(self.config))
        items = [
            Tensor(name, dtype, shape, lambda data=data: iter([data]))
            for name, (dtype, shape, data) in self.tensors.items()
        ]
        write_safetensors(self.folder / "model.safetensors", items)

    def findings(self) -> lint.Import:
        self.save()
        return lint.check(open_checkpoint(self.folder))


@pytest.fixture
def edit(tmp_path: Path) -> Callable[..., Editor]:
    def make(config: str = "tiny-bitnet", masters: bool = False) -> Editor:
        write_checkpoint(tmp_path, SHAPES[config], masters=masters)
        return Editor(tmp_path)

    return make


@pytest.mark.parametrize("config", [name for name in SHAPES if name.startswith("tiny")])
@pytest.mark.parametrize("masters", [False, True])
def test_sound_checkpoints_have_no_findings(edit: Callable[..., Editor], config: str, masters: bool) -> None:
    result = edit(config, masters).findings()
    assert result.found.items == []
    assert len(result.linears) == 14
    assert {linear.storage for linear in result.linears.values()} == {"absmean" if masters else "packed"}
    if not masters:
        assert 0.3 < result.linears[GATE].zeros < 0.37


def only(result: lint.Import, code: str) -> tuple[str, str]:
    """Severity and tensor of the single kind of finding."""
    assert result.found.codes() == {code}, [str(item) for item in result.found]
    first = result.found.items[0]
    return first.severity, first.tensor


def test_code_3(edit: Callable[..., Editor]) -> None:
    editor = edit()
    dtype, shape, data = editor.tensors[f"{GATE}.weight"]
    editor.tensors[f"{GATE}.weight"] = (dtype, shape, data[:-3] + bytes([data[-3] | 0x30]) + data[-2:])
    result = editor.findings()
    assert only(result, "code-3") == ("error", f"{GATE}.weight")
    assert "has 1 codes 3" in result.found.items[0].message


def test_all_zero_weights_name_the_known_cause(edit: Callable[..., Editor]) -> None:
    editor = edit()
    dtype, shape, data = editor.tensors[f"{GATE}.weight"]
    editor.tensors[f"{GATE}.weight"] = (dtype, shape, b"\x55" * len(data))
    result = editor.findings()
    assert only(result, "all-zero") == ("warning", f"{GATE}.weight")
    assert "microsoft/BitNet#608" in result.found.items[0].cure


def test_all_zero_masters(edit: Callable[..., Editor]) -> None:
    editor = edit(masters=True)
    dtype, shape, data = editor.tensors[f"{GATE}.weight"]
    editor.tensors[f"{GATE}.weight"] = (dtype, shape, bytes(len(data)))
    assert only(editor.findings(), "all-zero") == ("warning", f"{GATE}.weight")


@pytest.mark.parametrize("value", [0.0, -1.5, float("inf"), float("nan")])
def test_bad_scale(edit: Callable[..., Editor], value: float) -> None:
    editor = edit()
    editor.floats(f"{GATE}.weight_scale", np.array([value], np.float32))
    result = editor.findings()
    assert "bad-scale" in result.found.codes()
    assert result.found.codes() <= {"bad-scale", "not-finite"}
    json.dumps(result.as_json(), allow_nan=False)


def test_missing_tensor(edit: Callable[..., Editor]) -> None:
    editor = edit()
    del editor.tensors[f"{GATE}.weight_scale"]
    assert only(editor.findings(), "missing-tensor") == ("error", f"{GATE}.weight_scale")


def test_sub_norms_that_the_family_does_not_know_are_unused(edit: Callable[..., Editor]) -> None:
    editor = edit()
    editor.config["architectures"] = ["LlamaForCausalLM"]
    editor.config["hidden_act"] = "silu"
    result = editor.findings()
    severity, tensor = only(result, "unused-tensor")
    assert (severity, len(result.found.errors)) == ("error", 4)
    assert "sub_norm" in tensor


def test_llama_read_as_bitnet_misses_its_sub_norms(edit: Callable[..., Editor]) -> None:
    editor = edit("tiny-llama-tied")
    editor.config |= {"architectures": ["BitNetForCausalLM"], "head_dim": 20, "hidden_act": "relu2"}
    codes = editor.findings().found.codes()
    assert "missing-tensor" in codes


def test_computed_tensors_are_not_unused(edit: Callable[..., Editor]) -> None:
    editor = edit()
    editor.floats("model.layers.0.self_attn.rotary_emb.inv_freq", np.ones(12, np.float32))
    assert editor.findings().found.items == []


def test_without_architectures_sub_norms_decide(edit: Callable[..., Editor]) -> None:
    editor = edit("tiny-onebit")
    del editor.config["architectures"]
    result = editor.findings()
    assert result.config.architecture == "BitnetForCausalLM"
    assert result.found.items == []


def test_model_type_llama_does_not_hide_sub_norms(edit: Callable[..., Editor]) -> None:
    editor = edit("tiny-onebit", masters=True)
    assert editor.config["model_type"] == "llama"
    result = editor.findings()
    assert result.config.architecture == "BitnetForCausalLM"
    assert result.config.quantization.online


@pytest.mark.parametrize("architecture", ["GPT2LMHeadModel", "Qwen3ForCausalLM"])
def test_unsupported_architecture(edit: Callable[..., Editor], architecture: str) -> None:
    editor = edit()
    editor.config["architectures"] = [architecture]
    result = editor.findings()
    assert only(result, "unsupported-architecture") == ("error", "config.json")
    assert architecture in result.found.items[0].message
    assert "BitNetForCausalLM, BitnetForCausalLM, LlamaForCausalLM" in result.found.items[0].cure


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"hidden_act": "gelu"}, "unsupported-activation"),
        ({"hidden_act": ["relu2"]}, "unsupported-activation"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "unsupported-rope"),
        ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}}, "unsupported-rope"),
        ({"quantization_config": None}, "no-quantization"),
        ({"quantization_config": {"quant_method": "gptq"}}, "unsupported-quantization"),
        ({"quantization_config": {"quant_method": "bitnet", "linear_class": "other"}}, "bad-config"),
        ({"quantization_config": {"quant_method": "bitnet", "quantization_mode": "online"}}, "bad-config"),
        ({"hidden_size": "96"}, "bad-config"),
        ({"hidden_size": -96}, "bad-config"),
        ({"hidden_size": 10**18}, "bad-config"),
        ({"intermediate_size": 10**18}, "bad-config"),
        ({"num_hidden_layers": 10**9}, "bad-config"),
        ({"max_position_embeddings": 10**15}, "bad-config"),
        ({"rms_norm_eps": "x"}, "bad-config"),
        ({"rms_norm_eps": -1}, "bad-config"),
        ({"rms_norm_eps": 10**400}, "bad-config"),
        ({"rope_theta": 10**400}, "bad-config"),
        ({"rope_theta": float("inf")}, "bad-config"),
        ({"tie_word_embeddings": "yes"}, "bad-config"),
        ({"rope_scaling": {"rope_type": "yarn"}, "rope_parameters": {"rope_theta": 10000.0}}, "unsupported-rope"),
        ({"num_attention_heads": 5}, "bad-config"),
        ({"num_key_value_heads": 3}, "bad-config"),
    ],
)
def test_bad_configurations(edit: Callable[..., Editor], change: dict[str, object], code: str) -> None:
    editor = edit()
    editor.config |= change
    result = editor.findings()
    assert code in {item.code for item in result.found.errors}, [str(item) for item in result.found]


def test_plain_rope_of_either_spelling(edit: Callable[..., Editor]) -> None:
    editor = edit()
    del editor.config["rope_theta"]
    editor.config["rope_parameters"] = {"rope_type": "default", "rope_theta": 250000.0}
    result = editor.findings()
    assert result.found.items == []
    assert result.config.rope_theta == 250000.0


def test_packed_weights_in_online_mode(edit: Callable[..., Editor]) -> None:
    editor = edit()
    editor.config["quantization_config"]["quantization_mode"] = "online"
    assert "mode-mismatch" in editor.findings().found.codes()


def test_masters_in_offline_mode(edit: Callable[..., Editor]) -> None:
    editor = edit(masters=True)
    editor.config["quantization_config"]["quantization_mode"] = "offline"
    for name in [name for name in editor.tensors if name.endswith("_proj.weight")]:
        editor.floats(f"{name}_scale", np.ones(1, np.float32))
    assert only(editor.findings(), "not-ternary")[0] == "error"


def test_unpacked_ternary_weights(edit: Callable[..., Editor]) -> None:
    editor = edit()
    shape = (232, 96)
    editor.floats(f"{GATE}.weight", np.random.default_rng(0).integers(-1, 2, shape).astype(np.float32))
    result = editor.findings()
    assert result.found.items == []
    assert result.linears[GATE].storage == "ternary"


def test_foreign_packings_are_refused(edit: Callable[..., Editor]) -> None:
    editor = edit()
    editor.tensors[f"{GATE}.weight"] = ("U8", (116, 48), bytes(116 * 48))
    assert "bad-packing" in editor.findings().found.codes()
    editor.tensors[f"{GATE}.weight"] = ("I8", (232, 96), bytes(232 * 96))
    assert "bad-dtype" in editor.findings().found.codes()


def test_wrong_shape_and_vocabulary(edit: Callable[..., Editor]) -> None:
    editor = edit()
    editor.floats("model.norm.weight", np.ones(95, np.float32))
    editor.config["vocab_size"] = 321
    assert editor.findings().found.codes() == {"bad-shape", "vocab-mismatch"}


def test_tokenizer_larger_than_the_table(edit: Callable[..., Editor]) -> None:
    editor = edit()
    path = editor.folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    tokenizer["added_tokens"][-1]["id"] = 4000
    path.write_text(json.dumps(tokenizer))
    assert only(editor.findings(), "vocab-mismatch") == ("warning", "tokenizer.json")
    tokenizer["model"]["vocab"] = {"a": "b"}
    tokenizer["added_tokens"] = []
    path.write_text(json.dumps(tokenizer))
    assert only(editor.findings(), "bad-tokenizer") == ("error", "tokenizer.json")
    path.unlink()
    assert only(editor.findings(), "no-tokenizer") == ("warning", "tokenizer.json")


@pytest.mark.parametrize(("config", "scale"), [("tiny-bitnet", 50.0), ("tiny-llama", 0.02)])
def test_scales_that_look_reciprocal_only_warn(edit: Callable[..., Editor], config: str, scale: float) -> None:
    editor = edit(config)
    for name in [name for name in editor.tensors if name.endswith(".weight_scale")]:
        editor.floats(name, np.array([scale], np.float32))
    result = editor.findings()
    assert only(result, "scale-direction")[0] == "warning"
    assert result.config.quantization.auto == (config == "tiny-bitnet")


def test_infinite_norms(edit: Callable[..., Editor]) -> None:
    editor = edit()
    editor.floats("model.norm.weight", np.full(96, np.inf, np.float32))
    assert only(editor.findings(), "not-finite") == ("error", "model.norm.weight")


def test_heads_tied_by_what_the_files_hold(edit: Callable[..., Editor]) -> None:
    editor = edit()
    editor.tensors["lm_head.weight"] = editor.tensors["model.embed_tokens.weight"]
    result = editor.findings()
    assert (result.found.items, result.model.lm_head) == ([], None)
    editor.floats("lm_head.weight", np.zeros((320, 96), np.float32))
    result = editor.findings()
    assert only(result, "untied-head")[0] == "warning"
    assert result.model.lm_head is not None
    del editor.tensors["lm_head.weight"]
    editor.config["tie_word_embeddings"] = False
    result = editor.findings()
    assert only(result, "tied-head")[0] == "warning"
    assert result.model.lm_head is None


def test_layers_left_dense(edit: Callable[..., Editor]) -> None:
    editor = edit()
    editor.config["quantization_config"]["modules_to_not_convert"] = ["lm_head", "layers.1.mlp.gate_proj"]
    editor.floats(f"{GATE}.weight", np.zeros((232, 96), np.float32))
    del editor.tensors[f"{GATE}.weight_scale"]
    result = editor.findings()
    assert result.found.items == []
    assert GATE not in result.linears
    assert len(result.linears) == 13


def test_context_is_at_most_the_models(edit: Callable[..., Editor]) -> None:
    opened = open_checkpoint(edit().folder)
    assert lint.load(opened, 64).config.context == 64
    assert only(lint.load(opened, 129), "bad-context")[0] == "error"


def test_everything_is_reported_at_once(edit: Callable[..., Editor]) -> None:
    editor = edit()
    editor.floats("model.norm.weight", np.ones(95, np.float32))
    del editor.tensors[f"{GATE}.weight_scale"]
    editor.floats("surplus", np.ones(3, np.float32))
    assert editor.findings().found.codes() == {"bad-shape", "missing-tensor", "unused-tensor"}


def test_random_checkpoints_are_reproducible(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_checkpoint(tmp_path / name, SHAPES["tiny-bitnet"], seed)
    a, b, c = ((tmp_path / name / "model.safetensors").read_bytes() for name in "abc")
    assert a == b
    assert a != c
    # The safetensors package agrees on the form of our files.
    with safe_open(tmp_path / "a" / "model.safetensors", "np") as file:
        assert file.get_tensor(f"{GATE}.weight").shape == (58, 96)
