"""Trains the ternary Shakespeare network on a CPU, in about an hour on one core.

    .venv/bin/python examples/shakespeare/train.py --out build-train/shakespeare

The schedules follow the share of --minutes (or --steps) that is done. Training may be stopped and resumed at any time
with the same command; export.py turns the folder into a checkpoint.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from network import Config, Network
from setun.nn import two_stage, weight_decay
from text import encode, random_batch, split_text, train_tokenizer, windows


def loss_of(network: Network, inputs: Tensor, targets: Tensor, reduction: str = "mean") -> Tensor:
    """Cross entropy in nats a token."""
    return F.cross_entropy(network(inputs).flatten(0, 1), targets.flatten(), reduction=reduction)


@torch.no_grad()
def validation_loss(network: Network, tokens: Tensor, length: int, max_batches: int | None = None) -> float:
    """Mean cross entropy over ``tokens`` in pieces of ``length``, in nats a token; dropout is off."""
    training = network.training
    network.eval()
    total, count = 0.0, 0
    for i, (inputs, targets) in enumerate(windows(tokens, length)):
        if max_batches is not None and i == max_batches:
            break
        total += loss_of(network, inputs, targets, "sum").item()
        count += targets.numel()
    network.train(training)
    return total / count


def make_optimizer(network: Network) -> torch.optim.AdamW:
    """Adam as for b1.58; only matrices decay."""
    matrices = [p for p in network.parameters() if p.dim() == 2]
    vectors = [p for p in network.parameters() if p.dim() < 2]
    groups = [{"params": matrices, "decays": True}, {"params": vectors, "weight_decay": 0.0, "decays": False}]
    return torch.optim.AdamW(groups, betas=(0.9, 0.95), fused=True)


def draw_curve(history: dict[str, list[tuple[float, float]]], path: Path) -> None:
    """Draws the losses over the number of tokens seen into ``path``."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4), dpi=110)
    for name, label, style in (
        ("training", "training, with dropout", {"color": "#9ecae1"}),
        ("validation", "validation, first quarter of the text", {"color": "#d94801"}),
        ("final", "validation, whole text", {"color": "#7f2704", "marker": "o"}),
    ):
        if history[name]:
            x, y = zip(*history[name], strict=True)
            axes.plot([t / 1e6 for t in x], y, label=label, **style)
    axes.set_xlabel("tokens seen (millions)")
    axes.set_ylabel("loss (nats per token)")
    axes.set_ylim(top=min(axes.get_ylim()[1], 6.0))
    axes.grid(alpha=0.3)
    axes.legend()
    axes.set_title("Ternary network on Tiny Shakespeare")
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the state, the tokenizer and the curve")
    parser.add_argument("--minutes", type=float, default=55.0, help="wall time to train for (default: 55)")
    parser.add_argument("--steps", type=int, help="train for this many steps instead")
    parser.add_argument("--tokens", type=int, default=1536, help="tokens in a step (default: 1536)")
    parser.add_argument("--lengths", type=int, nargs=2, default=(256, 512), help="sequence length in each half")
    parser.add_argument("--peaks", type=float, nargs=2, default=(3e-3, 2e-3), help="learning rates of the halves")
    parser.add_argument("--layers", type=int, default=Config.num_hidden_layers)
    parser.add_argument("--dropout", type=float, default=Config.dropout)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1958)
    parser.add_argument("--every", type=int, default=100, help="steps between validations and saves (default: 100)")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    arguments = parse_arguments(argv)
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    arguments.out.mkdir(parents=True, exist_ok=True)

    training_text, validation_text = split_text()
    tokenizer_path = arguments.out / "tokenizer.json"
    if tokenizer_path.exists():
        tokenizer = Tokenizer.from_file(str(tokenizer_path))
    else:
        tokenizer = train_tokenizer(training_text, Config.vocab_size)
        tokenizer.save(str(tokenizer_path))
    training, validation = encode(tokenizer, training_text), encode(tokenizer, validation_text)
    bytes_per_token = len(validation_text.encode()) / (len(validation) - 1)

    config = Config(
        vocab_size=tokenizer.get_vocab_size(), num_hidden_layers=arguments.layers, dropout=arguments.dropout
    )
    network = Network(config)
    optimizer = make_optimizer(network)
    generator = torch.Generator().manual_seed(arguments.seed)
    step, seconds, seen = 0, 0.0, 0
    history: dict[str, list[tuple[float, float]]] = {"training": [], "validation": [], "final": []}

    state_path = arguments.out / "state.pt"
    if state_path.exists():
        state = torch.load(state_path, weights_only=True)
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        generator.set_state(state["generator"])
        step, seconds, seen, history = state["step"], state["seconds"], state["seen"], state["history"]

    def save() -> None:
        state = {
            "config": config.to_dict(),
            "network": network.state_dict(),
            "optimizer": optimizer.state_dict(),
            "generator": generator.get_state(),
            "step": step,
            "seconds": seconds,
            "seen": seen,
            "history": history,
        }
        # Written beside and renamed: a reader, or a run that is stopped here, finds a whole file.
        torch.save(state, state_path.with_suffix(".tmp"))
        state_path.with_suffix(".tmp").replace(state_path)
        (arguments.out / "history.json").write_text(json.dumps(history))
        draw_curve(history, arguments.out / "loss.png")

    print(
        f"{network.num_ternary_weights():,} ternary weights, {len(training):,} training tokens, "
        f"{len(validation):,} validation tokens of {bytes_per_token:.3f} bytes",
        flush=True,
    )
    network.train()
    bar = tqdm(total=1.0, bar_format="{percentage:5.1f}% |{bar:24}| {desc}", mininterval=5.0)
    running: list[float] = []
    while True:
        progress = step / arguments.steps if arguments.steps else seconds / (60 * arguments.minutes)
        if progress >= 1.0:
            break
        began = time.monotonic()
        half = int(progress >= 0.5)
        length = arguments.lengths[half]
        for group in optimizer.param_groups:
            group["lr"] = two_stage(progress, *arguments.peaks)
            group["weight_decay"] = weight_decay(progress) if group["decays"] else 0.0
        inputs, targets = random_batch(training, arguments.tokens // length, length, generator)
        loss = loss_of(network, inputs, targets)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()

        step += 1
        seen += targets.numel()
        running.append(loss.item())
        seconds += time.monotonic() - began
        bar.n = min(progress, 1.0)
        bar.set_description_str(f"step {step}  {seen / seconds:,.0f} tokens/s  loss {running[-1]:.3f}")
        if step % arguments.every == 0:
            history["training"].append((seen, sum(running) / len(running)))
            # A quarter of the text is enough for the curve.
            history["validation"].append((seen, validation_loss(network, validation, 256, max_batches=6)))
            running.clear()
            bar.clear()
            print(
                f"step {step}  {seconds / 60:.1f} min  training {history['training'][-1][1]:.4f}  "
                f"validation {history['validation'][-1][1]:.4f}",
                flush=True,
            )
            save()
    bar.close()
    final = validation_loss(network, validation, config.max_position_embeddings)
    history["final"] = [(seen, final)]
    save()
    print(
        f"validation loss {final:.4f} nats per token, {final / bytes_per_token / math.log(2):.4f} bits per byte, "
        f"after {seen:,} tokens in {seconds / 60:.1f} minutes"
    )


if __name__ == "__main__":
    main()
