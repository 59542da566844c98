"""Writes a trained network as a packed Hugging Face checkpoint, reads it back, and measures what was written.

    .venv/bin/python examples/shakespeare/export.py build-train/shakespeare examples/shakespeare/model

The checkpoint is what transformers' BitNetForCausalLM loads: ternary weights in uint8, four a byte, one scale for each
matrix; scales, embeddings and norms are bfloat16.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F

from network import Config, Network
from setun.nn import BitLinear, quantize_activation, save_packed, unpack_ternary
from text import END_OF_TEXT, encode, split_text
from train import validation_loss


class PackedLinear(nn.Module):
    """A BitLinear as it is deployed: whole numbers in, one multiplication by both scales out."""

    def __init__(self, packed: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("codes", unpack_ternary(packed).float())
        self.register_buffer("scale", scale.float())

    def quantize_input(self, x: Tensor) -> Tensor:
        codes, scale = quantize_activation(x)
        return codes / scale

    def multiply(self, x: Tensor) -> Tensor:
        return F.linear(x, self.codes) * self.scale

    def forward(self, x: Tensor) -> Tensor:
        return self.multiply(self.quantize_input(x))


def config_json(config: Config, end_of_text: int) -> dict[str, object]:
    """Contents of config.json, but for the quantisation."""
    return {
        "architectures": ["BitNetForCausalLM"],
        "model_type": "bitnet",
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads,
        "num_key_value_heads": config.num_key_value_heads,
        "hidden_act": "relu2",
        "max_position_embeddings": config.max_position_embeddings,
        "rms_norm_eps": config.rms_norm_eps,
        # The first is what transformers 4 reads, the second what transformers 5 does.
        "rope_theta": config.rope_theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
        "attention_bias": False,
        "attention_dropout": 0.0,
        "initializer_range": 0.02,
        "tie_word_embeddings": True,
        "use_cache": True,
        "bos_token_id": end_of_text,
        "eos_token_id": end_of_text,
    }


def export(network: Network, tokenizer: Tokenizer, directory: Path) -> None:
    """Writes weights, configuration and tokenizer into ``directory``."""
    end = tokenizer.token_to_id(END_OF_TEXT)
    save_packed(network, directory, config_json(network.config, end))
    files: dict[str, dict[str, object]] = {
        "generation_config.json": {
            "bos_token_id": end,
            "eos_token_id": end,
            "do_sample": True,
            "temperature": 0.8,
            "top_k": 40,
        },
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": network.config.max_position_embeddings,
            "eos_token": END_OF_TEXT,
            "add_bos_token": False,
            "add_prefix_space": False,
            "clean_up_tokenization_spaces": False,
        },
    }
    for file, contents in files.items():
        (directory / file).write_text(json.dumps(contents, indent=2) + "\n")
    tokenizer.save(str(directory / "tokenizer.json"))


def load(directory: Path) -> Network:
    """Reads an exported checkpoint back, without transformers, for evaluation.

    Raises:
        ValueError: if tensors are missing or left over.
    """
    fields = json.loads((directory / "config.json").read_text())
    names = Config.__dataclass_fields__
    network = Network(Config(**{k: v for k, v in fields.items() if k in names}))
    tensors = load_file(directory / "model.safetensors")
    for name, module in list(network.named_modules()):
        if isinstance(module, BitLinear):
            linear = PackedLinear(tensors.pop(f"{name}.weight"), tensors.pop(f"{name}.weight_scale"))
            parent, _, child = name.rpartition(".")
            setattr(network.get_submodule(parent), child, linear)
    state = {k: v for k, v in network.state_dict().items() if not k.endswith((".codes", ".scale"))}
    if state.keys() != tensors.keys():
        raise ValueError(
            f"expects the tensors of the network, got other names: {sorted(state.keys() ^ tensors.keys())}"
        )
    network.load_state_dict({k: v.float() for k, v in tensors.items()}, strict=False)
    return network.eval()


@torch.no_grad()
def generate(network: Network, tokenizer: Tokenizer, prompt: str, count: int, temperature: float, seed: int) -> str:
    """Samples ``count`` tokens after ``prompt``; recomputes the whole context for each."""
    generator = torch.Generator().manual_seed(seed)
    tokens = tokenizer.encode(prompt).ids
    for _ in range(count):
        context = torch.tensor([tokens[-network.config.max_position_embeddings :]])
        logits = network(context)[0, -1] / temperature
        best, ids = logits.topk(40)
        tokens.append(int(ids[torch.multinomial(best.softmax(-1), 1, generator=generator)]))
    return tokenizer.decode(tokens)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("training", type=Path, help="folder that train.py has written")
    parser.add_argument("checkpoint", type=Path, help="folder to write")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    state = torch.load(arguments.training / "state.pt", weights_only=True)
    tokenizer = Tokenizer.from_file(str(arguments.training / "tokenizer.json"))
    trained = Network(Config(**state["config"])).eval()
    trained.load_state_dict(state["network"])
    export(trained, tokenizer, arguments.checkpoint)
    shutil.copyfile(arguments.training / "loss.png", arguments.checkpoint / "loss.png")

    exported = load(arguments.checkpoint)
    _, text = split_text()
    tokens = encode(tokenizer, text)
    with torch.no_grad():
        difference = (exported(tokens[None, :256]) - trained(tokens[None, :256])).abs()
    length = trained.config.max_position_embeddings
    results = {
        "steps": state["step"],
        "training_tokens": state["seen"],
        "training_minutes": round(state["seconds"] / 60, 1),
        "ternary_weights": trained.num_ternary_weights(),
        "validation_nats_per_token": round(validation_loss(exported, tokens, length), 4),
        "validation_nats_per_token_before_export": round(validation_loss(trained, tokens, length), 4),
        "mean_logit_difference_of_export": float(f"{difference.mean().item():.3g}"),
    }
    per_byte = (len(tokens) - 1) / len(text.encode()) / math.log(2)
    results["validation_bits_per_byte"] = round(results["validation_nats_per_token"] * per_byte, 4)
    (arguments.checkpoint / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(results, indent=2))
    print(f"{sum(f.stat().st_size for f in arguments.checkpoint.iterdir()) / 1e6:.2f} MB in {arguments.checkpoint}")
    print("---\n" + generate(exported, tokenizer, "ROMEO:\n", 120, 0.8, 1958))


if __name__ == "__main__":
    main()
