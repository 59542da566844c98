"""What the networks of this folder share: the text, the training, and the comparison with the compiled network.

The text is Shakespeare's plays (`../shakespeare/data`), read character by character. The last tenth is held out.

A network remembers what it has read in buffers that its forward pass changes in place. Compiled, these are the state of
a session, which each call goes on from.
"""

from __future__ import annotations

import argparse
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

TEXT = Path(__file__).resolve().parents[1] / "shakespeare" / "data" / "tinyshakespeare.txt"
CONTEXT = 256
"""Most characters that a network can look back on."""


class Alphabet:
    """The characters of a text, as numbers."""

    def __init__(self, text: str) -> None:
        self.characters = sorted(set(text))
        self.numbers = {character: number for number, character in enumerate(self.characters)}

    def __len__(self) -> int:
        return len(self.characters)

    def encode(self, text: str) -> Tensor:
        """Int64 `[T]`."""
        return torch.tensor([self.numbers[character] for character in text])

    def decode(self, tokens: Sequence[int] | Tensor) -> str:
        return "".join(self.characters[int(token)] for token in tokens)


class Reader(nn.Module, ABC):
    """A network that reads characters and says what might come next; subclasses write `forward` and `inputs`.

    Attributes:
        STATE: last parts of the names of the buffers that it remembers in.
    """

    STATE: ClassVar[tuple[str, ...]]

    @abstractmethod
    def inputs(self, tokens: Tensor, start: int) -> tuple[Tensor, ...]:
        """Arguments of `forward` for int64 `tokens` `[B, T]`, of which the first is character number `start`."""

    def reset(self) -> None:
        """Forgets everything."""
        for name, buffer in self.named_buffers():
            if name.rpartition(".")[2] in self.STATE:
                buffer.zero_()


def load_text() -> tuple[Alphabet, Tensor, Tensor]:
    """The alphabet, and int64 characters to train with and held out."""
    text = TEXT.read_text(encoding="utf-8")
    alphabet = Alphabet(text)
    tokens, end = alphabet.encode(text), len(text) * 9 // 10
    return alphabet, tokens[:end], tokens[end:]


def train(
    model: Reader, tokens: Tensor, steps: int, batch: int = 16, length: int = 64, rate: float = 3e-3, seed: int = 0
) -> None:
    """Trains with Adam on windows of the text, each read from an empty memory; leaves the model in eval mode."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t: min(1.0, (t + 1) / 50) * (1 - t / steps))
    model.train()
    started = time.perf_counter()
    for step in range(1, steps + 1):
        starts = torch.randint(len(tokens) - length, (batch,), generator=generator)
        windows = tokens[starts[:, None] + torch.arange(length + 1)]
        logits = model(*model.inputs(windows[:, :-1], 0))
        loss = F.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 50 == 0 or step == steps:
            print(f"step {step:5d}  loss {loss.item():.3f}  {time.perf_counter() - started:5.1f} s", flush=True)
    model.eval()


@torch.no_grad()
def read(model: Reader, forward: Callable[..., Tensor], tokens: Tensor, lengths: Sequence[int]) -> Tensor:
    """Logits float32 `[B, T, alphabet]` of int64 `tokens` `[B, T]`, read in pieces of these lengths from the start.

    `forward` is the model, or what it was compiled to; its memory must be empty.
    """
    pieces, start = [], 0
    for length in lengths:
        pieces.append(forward(*model.inputs(tokens[:, start : start + length], start)))
        start += length
    return torch.cat(pieces, dim=1)


@torch.no_grad()
def write(model: Reader, forward: Callable[..., Tensor], prompt: Tensor, count: int) -> list[int]:
    """The likeliest `count` characters after int64 `prompt` `[T]`, one after another, with an empty memory before."""
    tokens = prompt.tolist()
    logits = forward(*model.inputs(prompt[None], 0))
    for _ in range(count):
        tokens.append(int(logits[0, -1].argmax()))
        logits = forward(*model.inputs(torch.tensor([tokens[-1:]]), len(tokens) - 1))
    return tokens


def compile_reader(model: Reader, tokens: Tensor) -> Callable[..., Tensor]:
    """The model compiled for any length, and for the batch of `tokens`, which its memory has, too."""
    import setun

    model.reset()
    length = torch.export.Dim("length", min=1, max=CONTEXT)
    arguments = model.inputs(tokens[:, :5], 0)
    # The last axis of each argument is the text.
    dims = tuple({argument.dim() - 1: length} for argument in arguments)
    compiled = setun.compile(model, arguments, dynamic_shapes=dims)
    model.reset()
    return compiled


def main(description: str, build: Callable[[int], Reader], steps: int) -> None:
    """The program of each network: trains it, compiles it, lets both read and write.

    Args:
        description: of the program.
        build: makes the network from the size of the alphabet.
        steps: of training, unless the user says otherwise.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=steps, help="steps of training (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of weights and of the order of the text (default 0)")
    parser.add_argument("--threads", type=int, default=1, help="of training (default 1)")
    parser.add_argument("--prompt", default="ROMEO:\n", help="what to go on from")
    parser.add_argument("--characters", type=int, default=160, help="how many to write (default 160)")
    parser.add_argument("--out", type=Path, help="file to save the compiled network in")
    arguments = parser.parse_args()
    if min(arguments.steps, arguments.threads) < 1:
        parser.error("expects 1 or more --steps and --threads")
    if arguments.out and not arguments.out.absolute().parent.is_dir():
        parser.error(f"expects --out in a folder that is there, got {arguments.out}")

    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    alphabet, training, held_out = load_text()
    unknown = sorted(set(arguments.prompt) - set(alphabet.characters))
    if unknown or not 0 < len(arguments.prompt) <= CONTEXT - arguments.characters:
        parser.error(f"expects a prompt of the text's characters that leaves room in {CONTEXT}; unknown: {unknown}")
    model = build(len(alphabet))
    train(model, training, arguments.steps, seed=arguments.seed)

    tokens = held_out[None, :CONTEXT]
    compiled = compile_reader(model, tokens)
    print(compiled.report())
    wanted = read(model, model, tokens, [CONTEXT])
    found = read(model, compiled, tokens, [100, 1, 60, CONTEXT - 161])
    loss = F.cross_entropy(wanted[0, :-1], tokens[0, 1:]).item()
    error = ((found - wanted).abs().max() / wanted.abs().max()).item()
    print(f"held-out text: {loss:.3f} nats a character; logits of the compiled network differ by {error:.1e}")
    prompt = alphabet.encode(arguments.prompt)
    texts = []
    for forward in (model, compiled):
        model.reset()
        if forward is compiled:
            compiled.reset()
        texts.append(alphabet.decode(write(model, forward, prompt, arguments.characters)))
    print(f"--- the compiled network goes on:\n{texts[1]}")
    if arguments.out:
        compiled.save(arguments.out)
        print(f"saved in {arguments.out}")
    if texts[0] != texts[1]:
        raise SystemExit(f"the module itself goes on otherwise:\n{texts[0]}")
