"""examples/digits and examples/text: their data, their networks, and their programs, trained for a moment only."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import characters
import conv
import digits
import llama
import mlp
import retnet
import setun
import vit
from compiled import Compiled
from setun import ops, tracer
from setun.nn import BitConv2d, BitLayer, BitLinear

SMALL_IDX = b"\0\0\x08\x02" + b"\0\0\0\x02" + b"\0\0\0\x03" + bytes(range(6))


def test_digits_are_those_of_mnist() -> None:
    training, held_out = digits.load_digits()
    assert training.images.shape == (8000, 1, 28, 28) and held_out.images.shape == (2000, 1, 28, 28)
    assert held_out.images.dtype == torch.float32 and held_out.images.max() == 1 and held_out.images.min() == 0
    # How often each digit is among the published 10,000.
    counts = torch.bincount(torch.cat([training.labels, held_out.labels])).tolist()
    assert counts == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "expects an idx file of bytes"),
        (b"\0\0\x0d\x02" + bytes(20), "expects an idx file of bytes"),
        (SMALL_IDX[:8], "expects an idx file of bytes"),
        (SMALL_IDX[:-1], "expects 6 bytes of values, got 5"),
    ],
)
def test_damaged_idx_files_are_named(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "digits.gz"
    path.write_bytes(gzip.compress(SMALL_IDX))
    assert digits.read_idx(path).tolist() == [[0, 1, 2], [3, 4, 5]]
    path.write_bytes(gzip.compress(data))
    with pytest.raises(ValueError, match=message):
        digits.read_idx(path)


@pytest.mark.parametrize("build", [llama.Llama, retnet.RetNet])
def test_readers_remember(build: type[characters.Reader]) -> None:
    """A text in pieces gives the logits of the text at once, which are those of training; resetting forgets."""
    torch.manual_seed(0)
    model = build(65, dim=32, hidden=40, depth=2, batch=3)
    tokens = torch.randint(65, (3, 30))
    with torch.no_grad():
        trained = model.train()(*model.inputs(tokens, 0))
        at_once = characters.read(model.eval(), model, tokens, [30])
        model.reset()
        pieces = characters.read(model, model, tokens, [7, 1, 1, 21])
        again = model(*model.inputs(tokens[:, :7], 30))
        model.reset()
        first = model(*model.inputs(tokens[:, :7], 0))
    torch.testing.assert_close(at_once, trained, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(pieces, at_once, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(first, at_once[:, :7], atol=1e-4, rtol=1e-4)
    assert (again - first).abs().max() > 1e-3


def test_networks_are_ternary() -> None:
    """All linear layers and convolutions but the first and the last one are ternary."""
    for build in (mlp.Perceptron, vit.VisionTransformer, conv.ConvolutionalNetwork):
        model = build()
        ternary = sum(m.weight.numel() for m in model.modules() if isinstance(m, BitLinear | BitConv2d))
        dense = [m for m in model.modules() if isinstance(m, torch.nn.Linear | torch.nn.Conv2d)]
        assert len(dense) <= 2
        assert ternary > 5 * sum(m.weight.numel() for m in dense)


# Compiled, with probes: codes and accumulators of every layer.


class Integers:
    """Codes `[rows, inputs]` and accumulators `[rows, outputs]` of a module's ternary layers in a call, by name."""

    def __init__(self, model: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        self.found: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        hooks = [
            module.register_forward_pre_hook(lambda module, inputs, name=name: self.note(name, module, inputs[0]))
            for name, module in model.named_modules()
            if isinstance(module, BitLayer)
        ]
        with torch.no_grad():
            self.output = model(*arguments).numpy()
        for hook in hooks:
            hook.remove()

    def note(self, name: str, layer: BitLayer, x: Tensor) -> None:
        norm = getattr(layer, "norm", None)
        x = x if norm is None else norm(x)
        codes, _ = ops.quantize_activations(x, layer.activation, layer.activation_bits, layer.eps)
        weight = layer.quantized().codes
        if isinstance(layer, BitConv2d):
            # A row for each pixel of the output: what its window sees.
            windows = nn.functional.unfold(codes, layer.kernel_size, layer.dilation, layer.padding, layer.stride)
            codes, weight = windows.mT, weight.flatten(1)
        codes = codes.flatten(0, -2)
        self.found[name] = (codes.numpy(), ops.product(codes, weight).numpy())


NETWORKS = {
    "mlp": lambda batch: mlp.Perceptron(hidden=40),
    "vit": lambda batch: vit.VisionTransformer(dim=32, depth=2, heads=2, hidden=48),
    "conv": lambda batch: conv.ConvolutionalNetwork(width=4),
    "llama": lambda batch: llama.Llama(65, dim=32, hidden=40, depth=2, batch=batch),
    "retnet": lambda batch: retnet.RetNet(65, dim=32, hidden=40, depth=2, batch=batch),
}


def call_of(name: str, model: nn.Module, batch: int, length: int) -> tuple[Tensor, ...]:
    if isinstance(model, characters.Reader):
        tokens = torch.randint(65, (batch, length), generator=torch.Generator().manual_seed(length))
        return model.inputs(tokens, 0)
    return (digits.load_digits()[1].images[length : length + batch],)


@pytest.mark.parametrize("batch", [1, 32])
@pytest.mark.parametrize("name", NETWORKS)
def test_compiled_integers_are_the_modules_own(tmp_path: Path, name: str, batch: int) -> None:
    """Codes and accumulators of every layer, and the output; with probes, and without them for a batch or length that
    the network was not traced with. Probes have a row for each token, which has to be a size of the input."""
    torch.manual_seed(2)
    model = NETWORKS[name](batch).eval()
    reader = isinstance(model, characters.Reader)
    arguments = call_of(name, model, batch, 9)
    own = Integers(model, arguments)

    def run(folder: Path, traced_with: tuple[Tensor, ...], dynamic: bool, *flags: str) -> dict[str, np.ndarray]:
        size = torch.export.Dim("size", min=1, max=characters.CONTEXT)
        dims = tuple({x.dim() - 1 if reader else 0: size} for x in traced_with) if dynamic else None
        if reader:
            model.reset()
        traced, call = tracer.trace_call(model, traced_with, None, dims)
        weights = {key: tensor.detach().numpy() for key, tensor in traced.constants.items()}
        folder.mkdir()
        package = Compiled(folder, traced.mlir, weights).compile("host", "--no-self-test", *flags)
        inputs = {node.name: x.numpy() for node, x in zip(call.stage.inputs, arguments, strict=True)}
        return package.session(context=1 if reader else 0).run("forward", inputs)

    rows_are_sizes = name == "mlp" or (reader and batch == 1)
    other = call_of(name, model, batch if reader else 2, 5)
    found = run(tmp_path / "probed", other if rows_are_sizes else arguments, rows_are_sizes, "--probe")
    unseen = found if rows_are_sizes else run(tmp_path / "unseen", other, True)
    assert np.array_equal(unseen["output"], found["output"])
    same = np.ones(len(own.output), bool)
    assert len(own.found) >= 2
    for layer, (codes, accumulators) in own.found.items():
        # The tracer calls the filters of a convolution, as a matrix, by a name of its own.
        probe = f"probe.{layer}" if f"probe.{layer}.acc" in found else f"probe.{layer}.weight.rows"
        got, products = found[f"{probe}.codes"], found[f"{probe}.acc"]
        assert got.shape == codes.shape and products.shape == accumulators.shape
        # A code next to a rounding boundary may fall to its other side: floats are summed in another order.
        assert np.abs(got - codes).max() <= 1
        differs = (got != codes).reshape(len(same), -1).any(1)
        same &= ~differs
        rows = np.repeat(~differs, len(accumulators) // len(same))
        assert np.array_equal(products[rows], accumulators[rows])
    assert same.mean() > 0.8
    error = np.abs(found["output"] - own.output)[same].max()
    assert error < 1e-4 * np.abs(own.output).max()


PROGRAMS = {"digits/mlp": 60, "digits/vit": 25, "digits/conv": 25, "text/llama": 15, "text/retnet": 15}
"""The programs, and how many steps to train."""


def run_program(*command: str | Path) -> str:
    words = [sys.executable, *map(str, command)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


@pytest.mark.parametrize("program", PROGRAMS)
def test_programs(root: Path, tmp_path: Path, program: str) -> None:
    """Trained for a moment, compiled, compared: the program itself fails if one digit or character is another."""
    package = tmp_path / "network.setun"
    steps = PROGRAMS[program]
    options = ["--characters", "40"] if program.startswith("text/") else []
    told = run_program(root / "examples" / f"{program}.py", "--steps", str(steps), "--out", package, *options)
    assert f"step {steps:5d}" in told and " layers, " in told
    if program.startswith("digits/"):
        assert "the compiled network reads otherwise: 0;" in told
        compiled = setun.load(package)
        images = digits.load_digits()[1].images[:3].numpy()
        assert compiled(images).shape == (3, 10)
    else:
        assert "the compiled network goes on:\nROMEO:\n" in told


def test_programs_have_help(root: Path) -> None:
    for program in ("digits/vit", "text/llama"):
        text = run_program(root / "examples" / f"{program}.py", "--help")
        assert "--steps" in text and "--out" in text


def test_benchmark_of_a_vision_transformer(root: Path, tmp_path: Path) -> None:
    """On a small shape: each engine is timed in each setting, and all samples are written."""
    shape = {"size": 16, "patch": 8, "dim": 16, "depth": 1, "heads": 2, "hidden": 24, "classes": 5}
    flags = [text for name, value in shape.items() for text in (f"--{name}", str(value))]
    output = tmp_path / "vit.json"
    settings = ["--engines", "setun,eager,float", "--batch", "1,3", "--seconds", "0", "--json", output]
    told = run_program(root / "benchmarks" / "vit.py", *settings, *flags)
    cells = json.loads(output.read_text())["cells"]
    assert [(cell["engine"], cell["batch"]) for cell in cells] == [
        (engine, batch) for batch in (1, 3) for engine in ("setun", "eager", "float")
    ]
    assert all(len(cell["times_s"]) == 3 and cell["median_ms"] > 0 for cell in cells)
    assert len(told.splitlines()) == 7
