"""The text, its tokenizer, and batches of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor

TEXT = Path(__file__).parent / "data" / "tinyshakespeare.txt"
END_OF_TEXT = "<|end_of_text|>"
TRAINING_SHARE = 0.9


def split_text() -> tuple[str, str]:
    """The first 90 % of the characters, for training, and the rest, for validation."""
    text = TEXT.read_text(encoding="utf-8")
    border = int(len(text) * TRAINING_SHARE)
    return text[:border], text[border:]


def train_tokenizer(text: str, vocab_size: int) -> Tokenizer:
    """Byte-level BPE with an end-of-text token (id 0) that it never adds by itself."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([text], trainer)
    return tokenizer


def encode(tokenizer: Tokenizer, text: str) -> Tensor:
    """Token ids, int64 ``[length]``, between two end-of-text tokens."""
    end = tokenizer.token_to_id(END_OF_TEXT)
    return torch.tensor([end, *tokenizer.encode(text).ids, end])


def random_batch(tokens: Tensor, batch: int, length: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Inputs and targets, ``[batch, length]`` each, from random places."""
    starts = torch.randint(len(tokens) - length, (batch,), generator=generator)
    windows = torch.stack([tokens[s : s + length + 1] for s in starts.tolist()])
    return windows[:, :-1], windows[:, 1:]


def windows(tokens: Tensor, length: int, batch: int = 8) -> Iterator[tuple[Tensor, Tensor]]:
    """All of ``tokens`` once: inputs and targets in pieces of at most ``length``, no token a target twice."""
    whole = (len(tokens) - 1) // length
    inputs = tokens[: whole * length].view(whole, length)
    targets = tokens[1 : whole * length + 1].view(whole, length)
    yield from zip(inputs.split(batch), targets.split(batch), strict=True)
    if whole * length < len(tokens) - 1:
        yield tokens[None, whole * length : -1], tokens[None, whole * length + 1 :]
