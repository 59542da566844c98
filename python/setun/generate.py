"""Generation of text with a compiled language model."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from setun.diagnostics import SetunError
from setun.sampling import Sampler
from setun.session import Package, open_package
from setun.text import Text, TextStream

ENTRY = "step"
"""Tokens to the last one's logits."""
CHOICE = "choose"
"""Tokens and a number to so many of the likeliest next tokens, and their logits."""


@dataclass
class Timing:
    """Tokens and seconds of the two phases of a generation."""

    prompt_tokens: int = 0
    prompt_seconds: float = 0.0
    new_tokens: int = 0
    new_seconds: float = 0.0

    def describe(self) -> str:
        def rate(tokens: int, seconds: float) -> str:
            return f"{tokens} tokens in {seconds:.2f} s ({tokens / seconds if seconds > 0 else 0:.1f} tokens/s)"

        return (
            f"prompt: {rate(self.prompt_tokens, self.prompt_seconds)}; "
            f"generation: {rate(self.new_tokens, self.new_seconds)}"
        )


def generate(
    package: Package,
    prompt: Sequence[int],
    sampler: Sampler,
    *,
    max_new_tokens: int,
    stops: set[int] = frozenset(),  # type: ignore[assignment]
    limit: int | None = None,
    threads: int = 0,
    context: int = 0,
    chunk: int = 512,
    timing: Timing | None = None,
    warn: Callable[[str], None] = lambda text: None,
) -> Iterator[int]:
    """Yields the ids that the model adds to a prompt, stop token excluded.

    Args:
        package: a language model (entry `step`: tokens `[T]` to logits `[1, vocab]`).
        prompt: ids, at least one.
        stops: ids that end the text.
        limit: only ids below are chosen.
        threads: 0 takes one for each CPU, where that is faster.
        context: capacity of the session in tokens; 0 takes what is needed.
        chunk: the prompt is fed so many tokens at a time.
        timing: receives counts and seconds.
        warn: told when the context is full before the text ends.

    Raises:
        SetunError: the package is no language model, or the prompt does not fit.
    """
    entry = package.entry(ENTRY)
    if entry is None or [item["name"] for item in entry["inputs"]] != ["tokens"]:
        raise SetunError(f"the package has no entry {ENTRY!r} that takes tokens", "Only language models generate text.")
    if not prompt:
        raise SetunError("the prompt is empty and the model has no token that begins a text", "Give a --prompt.")
    if chunk < 1:
        raise SetunError(f"expects a chunk of 1 token or more, got {chunk}")
    rows = package.vocabulary(ENTRY)
    bad = [token for token in prompt if not 0 <= token < rows]
    if bad:
        raise SetunError(f"the prompt has token {bad[0]}, but the model's table has {rows} rows")
    longest = entry["max_context"] or len(prompt) + max_new_tokens
    if context > longest:
        raise SetunError(f"a context of {context} tokens was asked for, but the package allows {longest}")
    capacity = context or min(longest, len(prompt) + max(max_new_tokens, 1))
    if len(prompt) > capacity:
        raise SetunError(
            f"the prompt has {len(prompt)} tokens, but the context holds {capacity}",
            "Shorten the prompt" + (", or compile with a larger --context." if capacity == longest else "."),
        )
    timing = timing if timing is not None else Timing()
    session = package.session(threads=threads, context=capacity)
    count = sampler.likeliest(package.choices()) if limit is None or limit >= rows else None

    def run(tokens: np.ndarray) -> Callable[[], int]:
        """Feeds tokens; the result chooses the next one."""
        if count is None:
            logits = session.run(ENTRY, {"tokens": tokens})["logits"][-1]
            return lambda: sampler.choose(logits, limit)
        best = session.run(CHOICE, {"tokens": tokens, "k": np.array([count], dtype=np.int64)})
        return lambda: sampler.choose_among(best["ids"][:count], best["logits"][:count])

    tokens = np.asarray(prompt, dtype=np.int64)
    started = time.perf_counter()
    for begin in range(0, len(tokens), chunk):
        choose = run(tokens[begin : begin + chunk])
    timing.prompt_tokens, timing.prompt_seconds = len(tokens), time.perf_counter() - started
    used = len(tokens)
    for produced in range(max_new_tokens):
        token = choose()
        if token in stops:
            return
        yield token
        timing.new_tokens += 1
        if produced + 1 == max_new_tokens:
            return
        if used == capacity:
            warn(f"stopped: the context of {capacity} tokens is full")
            return
        started = time.perf_counter()
        choose = run(np.array([token], dtype=np.int64))
        timing.new_seconds += time.perf_counter() - started
        used += 1


def _prompt_ids(options: argparse.Namespace, text: Text | None) -> list[int]:
    if (options.prompt is None) == (options.prompt_ids is None):
        raise SetunError("expects one of --prompt and --prompt-ids")
    if options.prompt_ids is not None:
        if options.chat:
            raise SetunError("--chat needs a --prompt, not ids")
        try:
            return [int(part) for part in options.prompt_ids.replace(",", " ").split()]
        except ValueError:
            raise SetunError(f"expects token ids separated by commas, got {options.prompt_ids!r}") from None
    assert text is not None
    prompt = sys.stdin.buffer.read() if options.prompt == "-" else os.fsencode(options.prompt)
    try:
        prompt = prompt.decode("utf-8")
    except UnicodeDecodeError as error:
        raise SetunError(f"the prompt is not valid UTF-8: byte {prompt[error.start]:#04x} at {error.start}") from None
    if options.chat:
        messages = [{"role": "system", "content": options.system}] if options.system else []
        prompt = text.chat([*messages, {"role": "user", "content": prompt}])
    ids = text.encode(prompt)
    if not ids and text.bos is not None:
        ids = [text.bos]
    return ids


def run(options: argparse.Namespace) -> int:
    """The `generate` command: text (or ids) to standard output as it comes, timing to standard error."""
    if options.system is not None and not options.chat:
        raise SetunError("--system goes with --chat")
    sampler = Sampler(options.temperature, options.top_k, options.top_p, options.seed)
    package = open_package(options.package, options.target)
    files = package.files()
    text = Text(files) if "tokenizer.json" in files or options.prompt is not None or not options.ids else None
    prompt = _prompt_ids(options, text)
    timing = Timing()
    stream = TextStream(text.decode, prompt) if text is not None else None
    stops = set() if options.ignore_eos or text is None else text.stops()

    def warn(message: str) -> None:
        print(f"\nsetun: {message}", file=sys.stderr)

    for token in generate(
        package,
        prompt,
        sampler,
        max_new_tokens=options.max_new_tokens,
        stops=stops,
        limit=text.size if text is not None else None,
        threads=options.threads,
        context=options.context,
        chunk=options.chunk,
        timing=timing,
        warn=warn,
    ):
        if options.ids:
            sys.stdout.write(f"{token}\n")
        elif stream is not None:
            sys.stdout.write(stream.push(token))
        sys.stdout.flush()
    if stream is not None and not options.ids:
        sys.stdout.write(stream.flush() + "\n")
        sys.stdout.flush()
    if not options.quiet:
        print(timing.describe(), file=sys.stderr)
    return 0
