"""What the networks of this folder share: the digits, the training, and the comparison with the compiled network.

`data/` has the 10,000 test digits of MNIST in their published form (idx files, gzip). The first 8,000 are for
training, the last 2,000 are held out.
"""

from __future__ import annotations

import argparse
import gzip
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

DATA = Path(__file__).resolve().parent / "data"
SIZE = 28
CLASSES = 10
TRAINING = 8000


def read_idx(path: Path) -> Tensor:
    """Uint8 tensor of a gzipped idx file: two zeros, the type 8 (bytes), the rank, big-endian sizes, the bytes.

    Raises:
        ValueError: it is no such file.
    """
    with gzip.open(path) as file:
        data = file.read()
    if len(data) < 4 or data[:3] != b"\0\0\x08" or len(data) < 4 + 4 * data[3]:
        raise ValueError(f"expects an idx file of bytes, got {path}")
    sizes = struct.unpack_from(f">{data[3]}I", data, 4)
    values = torch.frombuffer(bytearray(data), dtype=torch.uint8, offset=4 + 4 * data[3])
    if values.numel() != torch.Size(sizes).numel():
        raise ValueError(f"expects {torch.Size(sizes).numel()} bytes of values, got {values.numel()} in {path}")
    return values.reshape(sizes)


@dataclass(frozen=True)
class Digits:
    """Images float32 `[N, 1, 28, 28]`, 0 (paper) to 1 (ink), and labels int64 `[N]`."""

    images: Tensor
    labels: Tensor


def load_digits() -> tuple[Digits, Digits]:
    """The digits to train with, and those held out."""
    images = read_idx(DATA / "t10k-images-idx3-ubyte.gz").float().div(255)[:, None]
    labels = read_idx(DATA / "t10k-labels-idx1-ubyte.gz").long()
    return Digits(images[:TRAINING], labels[:TRAINING]), Digits(images[TRAINING:], labels[TRAINING:])


def train(model: nn.Module, digits: Digits, steps: int, batch: int = 100, rate: float = 3e-3, seed: int = 0) -> None:
    """Trains with Adam, a linear start and a linear end of the learning rate; leaves the model in eval mode."""
    order = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t: min(1.0, (t + 1) / 50) * (1 - t / steps))
    model.train()
    waiting = torch.empty(0, dtype=torch.long)
    started = time.perf_counter()
    for step in range(1, steps + 1):
        if len(waiting) < batch:
            waiting = torch.randperm(len(digits.labels), generator=order)
        chosen, waiting = waiting[:batch], waiting[batch:]
        loss = F.cross_entropy(model(digits.images[chosen]), digits.labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 100 == 0 or step == steps:
            print(f"step {step:5d}  loss {loss.item():.3f}  {time.perf_counter() - started:5.1f} s", flush=True)
    model.eval()


@torch.no_grad()
def scores(model: Callable[[Tensor], Tensor], images: Tensor, batch: int) -> Tensor:
    """Float32 `[N, 10]`, computed `batch` images at a time."""
    return torch.cat([model(part) for part in images.split(batch)])


@dataclass(frozen=True)
class Comparison:
    """How a compiled network does beside the module that it was made from, on the held-out digits.

    Attributes:
        accuracy: share of right digits, by the module.
        different: digits on which the two disagree, in all batch sizes together.
        error: largest difference of scores, over the largest score.
    """

    accuracy: float
    different: int
    error: float


def compare(model: nn.Module, compiled: Callable[[Tensor], Tensor], digits: Digits) -> Comparison:
    """Every held-out digit one at a time, in batches of 32 (the last one is shorter), and all at once."""
    wanted = scores(model, digits.images, len(digits.images))
    different, error = 0, 0.0
    for batch in (1, 32, len(digits.images)):
        found = scores(compiled, digits.images, batch)
        different += int((found.argmax(-1) != wanted.argmax(-1)).sum())
        error = max(error, ((found - wanted).abs().max() / wanted.abs().max()).item())
    return Comparison((wanted.argmax(-1) == digits.labels).double().mean().item(), different, error)


def main(description: str, build: Callable[[], nn.Module], steps: int) -> None:
    """The program of each network: trains it, compiles it, compares the two."""
    import setun

    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=steps, help="of training, 100 digits each (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of weights and of the order of digits (default 0)")
    parser.add_argument("--threads", type=int, default=1, help="of training (default 1)")
    parser.add_argument("--out", type=Path, help="file to save the compiled network in")
    arguments = parser.parse_args()
    if min(arguments.steps, arguments.threads) < 1:
        parser.error("expects 1 or more --steps and --threads")
    if arguments.out and not arguments.out.absolute().parent.is_dir():
        parser.error(f"expects --out in a folder that is there, got {arguments.out}")

    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    training, held_out = load_digits()
    model = build()
    train(model, training, arguments.steps, seed=arguments.seed)
    batch = torch.export.Dim("batch", min=1)
    compiled = setun.compile(model, (held_out.images[:2],), dynamic_shapes=({0: batch},))
    result = compare(model, compiled, held_out)
    print(compiled.report())
    print(f"accuracy on {len(held_out.labels)} held-out digits: {result.accuracy:.2%}")
    print(f"digits that the compiled network reads otherwise: {result.different}; scores differ by {result.error:.1e}")
    if arguments.out:
        compiled.save(arguments.out)
        print(f"saved in {arguments.out}")
    if result.different:
        raise SystemExit(1)
