"""From a checkpoint directory to text: compile, inspect, generate and verify, with the tools and the runtime."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from setun import cli, compiler
from setun.diagnostics import SetunError
from setun.generate import generate
from setun.random_checkpoint import SHAPES, write_checkpoint
from setun.sampling import Sampler
from setun.session import open_package
from setun.text import Text

pytest.importorskip("setun._setun", reason="the runtime module is not built")
try:
    compiler.find_tool("setun-compile")
    compiler.find_tool("setun-opt")
except SetunError:
    pytest.skip("the compiler is not built", allow_module_level=True)

LEVELS = "x86-64-v2,x86-64-v3,x86-64-v4"
CASES = [
    ("tiny-bitnet", False),
    ("tiny-bitnet", True),
    ("tiny-onebit", False),
    ("tiny-llama", False),
    ("tiny-llama-tied", False),
]


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> object:
    """Compiles a random checkpoint of a shape, once a session: gives the directory and the package."""
    made: dict[tuple[str, bool, str], tuple[Path, Path]] = {}

    def make(config: str, masters: bool = False, target: str = "host") -> tuple[Path, Path]:
        key = (config, masters, target)
        if key not in made:
            folder = tmp_path_factory.mktemp(config)
            write_checkpoint(folder / "checkpoint", SHAPES[config], seed=1, masters=masters)
            compiler.compile_checkpoint(folder / "checkpoint", folder / "m.setun", target=target)
            made[key] = folder / "checkpoint", folder / "m.setun"
        return made[key]

    return make


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    capsys.readouterr()
    status = cli.main([str(word) for word in words])
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    return status, out, err


@pytest.mark.parametrize(("config", "masters"), CASES)
def test_verify(capsys: pytest.CaptureFixture[str], compiled, config: str, masters: bool) -> None:
    directory, package = compiled(config, masters)
    status, out, err = run(capsys, "verify", package, directory, "--tokens", 24, "--json")
    report = json.loads(out)
    assert status == 0, (report, err)
    assert report["integers"]["layers"] == 14
    assert report["integers"]["codes_off_by_one"] == 0
    assert report["integers"]["interpreter_logits_equal"]
    assert report["logits"]["tokens"] == 24


def test_verify_of_every_level(capsys: pytest.CaptureFixture[str], compiled) -> None:
    directory, package = compiled("tiny-bitnet", target=LEVELS)
    for target in runnable(package):
        words = ["verify", package, directory, "--target", target, "--only", "integers", "--tokens", 17]
        status, out, err = run(capsys, *words)
        assert status == 0, out + err
        assert f"({target})" in out
        assert out.endswith("verified\n")


def test_verify_notices_another_checkpoint(capsys: pytest.CaptureFixture[str], compiled, tmp_path: Path) -> None:
    _, package = compiled("tiny-bitnet")
    write_checkpoint(tmp_path, SHAPES["tiny-llama"])
    status, _, err = run(capsys, "verify", package, tmp_path)
    assert status == 2
    assert "was not compiled from" in err


def runnable(package: Path) -> list[str]:
    return [target["name"] for target in open_package(package).description["targets"] if target["runnable"]]


def ids(package: Path, prompt: list[int], count: int = 20, target: str | None = None, **options: int) -> list[int]:
    return list(generate(open_package(package, target), prompt, Sampler(), max_new_tokens=count, **options))


def test_greedy_text_depends_on_nothing_but_the_model(compiled) -> None:
    _, package = compiled("tiny-bitnet", target=LEVELS)
    prompt = [int(n) for n in np.random.default_rng(0).integers(0, 320, 33)]
    wanted = ids(package, prompt, threads=1)
    assert len(wanted) == 20
    for target in runnable(package):
        for threads in (1, 2, 3):
            for chunk in (512, 7, 1):
                assert ids(package, prompt, target=target, threads=threads, chunk=chunk) == wanted


def test_logits_are_the_same_bits_however_the_text_is_fed(compiled) -> None:
    _, path = compiled("tiny-llama")
    package = open_package(path)
    tokens = np.random.default_rng(1).integers(0, 320, 21)
    whole = package.session(threads=1).run("forward", {"tokens": tokens})["logits"]
    session = package.session(threads=2, context=32)
    steps = [session.run("step", {"tokens": tokens[i : i + 1]})["logits"] for i in range(21)]
    assert np.concatenate(steps).tobytes() == whole.tobytes()
    assert session.position == 21


def test_generate_prints_text_as_it_comes(capsys: pytest.CaptureFixture[str], compiled) -> None:
    _, package = compiled("tiny-bitnet")
    words = ["generate", package, "--prompt", "abc", "--max-new-tokens", 12, "--temperature", 0.9, "--seed", 3]
    status, out, err = run(capsys, *words)
    assert status == 0, err
    assert out.endswith("\n")
    assert "prompt: 3 tokens in" in err
    assert run(capsys, *words, "--threads", 2)[1] == out
    status, out, _ = run(capsys, *words, "--ids", "--quiet")
    assert status == 0
    assert 0 < len(out.split()) <= 12
    assert max(int(word) for word in out.split()) < 258


def test_prompts_as_ids(capsys: pytest.CaptureFixture[str], compiled) -> None:
    _, package = compiled("tiny-bitnet")
    words = ["generate", package, "--ids", "--quiet", "--ignore-eos", "--max-new-tokens", 5]
    by_text = run(capsys, *words, "--prompt", "Hi")
    assert by_text[0] == 0
    assert run(capsys, *words, "--prompt-ids", "72,105") == by_text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--prompt", "x" * 200], "the prompt has 200 tokens, but the context holds 128"),
        (["--prompt", "x" * 20, "--context", 16], "the prompt has 20 tokens, but the context holds 16"),
        (["--prompt", "x", "--context", 4096], "a context of 4096 tokens was asked for, but the package allows 128"),
        (["--prompt-ids", "1,320"], "token 320, but the model's table has 320 rows"),
        (["--prompt-ids", "1,b"], "expects token ids"),
        (["--prompt", "x", "--prompt-ids", "1"], "one of --prompt and --prompt-ids"),
        ([], "one of --prompt and --prompt-ids"),
        (["--prompt", "x", "--chat"], "no chat template"),
        (["--prompt", "x", "--top-p", 2], "top-p above 0"),
        (["--prompt", "x", "--target", "z80"], "z80"),
        (["--prompt", "x", "--system", "y"], "--system goes with --chat"),
        (["--prompt", "a\udcff"], "not valid UTF-8: byte 0xff at 1"),
        (["--prompt", "x", "--threads", -1], "expects an integer of 0 or more, got '-1'"),
        (["--prompt", "x", "--threads", 10**12], "expects at most 1024 threads"),
        (["--prompt", "x", "--seed", -1], "expects an integer of 0 or more"),
        (["--prompt", "x", "--chunk", 0], "expects an integer of 1 or more"),
        (["--prompt", "x", "--max-new-tokens", -1], "expects an integer of 0 or more"),
    ],
)
def test_generate_refuses_what_cannot_be(
    capsys: pytest.CaptureFixture[str], compiled, words: list[object], message: str
) -> None:
    _, package = compiled("tiny-bitnet")
    status, _, err = run(capsys, "generate", package, *words)
    assert status == 2
    assert message in err


def test_prompts_from_standard_input(compiled) -> None:
    _, package = compiled("tiny-bitnet")
    words = [sys.executable, "-m", "setun", "generate", package, "--quiet", "--prompt", "-"]
    done = subprocess.run(words, input=b"a\xff", capture_output=True)
    assert (done.returncode, done.stderr.decode().splitlines()) == (
        2,
        ["setun: the prompt is not valid UTF-8: byte 0xff at 1"],
    )
    done = subprocess.run(words, input="ß".encode(), capture_output=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--threads", -1], "expects an integer of 0 or more"),
        (["--threads", 1025], "expects at most 1024 threads"),
        (["--seed", -1], "expects an integer of 0 or more"),
        (["--tokens", 0], "expects an integer of 1 or more"),
        (["--tokens", 129], "a text of 129 tokens was asked for, but the context holds 128"),
    ],
)
def test_verify_refuses_what_cannot_be(
    capsys: pytest.CaptureFixture[str], compiled, words: list[object], message: str
) -> None:
    directory, package = compiled("tiny-bitnet")
    status, _, err = run(capsys, "verify", package, directory, *words)
    assert status == 2
    assert message in err


def test_generation_stops_where_the_context_ends(capsys: pytest.CaptureFixture[str], compiled) -> None:
    _, package = compiled("tiny-bitnet")
    words = ["--prompt", "x" * 120, "--max-new-tokens", 50, "--ids", "--ignore-eos"]
    status, out, err = run(capsys, "generate", package, *words)
    assert status == 0
    assert len(out.split()) == 9  # the last token needs no room of its own
    assert "the context of 128 tokens is full" in err


def test_inspect(capsys: pytest.CaptureFixture[str], compiled) -> None:
    directory, package = compiled("tiny-bitnet", target=LEVELS)
    status, out, _ = run(capsys, "inspect", package)
    assert status == 0
    assert "forward(tokens i64[T]) -> logits f32[T, 320]" in out
    assert "step(tokens i64[T]) -> logits f32[1, 320]" in out
    assert "empties the session first; context up to 128 tokens" in out
    assert "x86-64-v2" in out
    assert "tokenizer.json" in out
    status, out, _ = run(capsys, "inspect", package, "--json")
    data = json.loads(out)
    assert {"forward", "step"} <= {entry["name"] for entry in data["entries"]}
    assert len([layer for layer in data["layers"] if layer["name"].endswith("_proj.weight")]) == 14
    assert data["provenance"]["source"] == directory.name


def test_damaged_packages_are_refused(capsys: pytest.CaptureFixture[str], compiled, tmp_path: Path) -> None:
    directory, package = compiled("tiny-bitnet")
    whole = package.read_bytes()

    def flip(at: int) -> bytes:
        data = bytearray(whole)
        data[at] ^= 4
        return bytes(data)

    for name, data in (("short", whole[: len(whole) // 2]), ("header", flip(9)), ("empty", b"")):
        path = tmp_path / f"{name}.setun"
        path.write_bytes(data)
        status, _, err = run(capsys, "generate", path, "--prompt", "x")
        assert (status, err[:7]) == (2, "setun: "), name
    # Weights are not read when a package is opened; verify does.
    path = tmp_path / "weights.setun"
    path.write_bytes(flip(len(whole) // 3))
    status, _, err = run(capsys, "verify", path, directory)
    assert status == 2
    assert str(path) in err


@pytest.fixture(scope="module")
def bundled(shakespeare_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Package of the bundled model with the portable set of code sections."""
    package = tmp_path_factory.mktemp("bundled") / "shakespeare.setun"
    compiler.compile_checkpoint(shakespeare_model, package, target="x86-64")
    return package


def test_the_bundled_model(capsys: pytest.CaptureFixture[str], shakespeare_model: Path, bundled: Path) -> None:
    status, out, err = run(capsys, "verify", bundled, shakespeare_model, "--tokens", 64, "--json")
    assert status == 0, out + err
    integers = json.loads(out)["integers"]
    assert (integers["layers"], integers["codes_off_by_one"], integers["interpreter_logits_equal"]) == (35, 0, True)
    words = ["generate", bundled, "--prompt", "ROMEO:\n", "--max-new-tokens", 40, "--quiet"]
    status, out, err = run(capsys, *words)
    assert (status, err) == (0, "")
    assert len(out.split()) >= 4
    assert run(capsys, *words, "--threads", 2)[1] == out


def test_the_bundled_models_logits_depend_on_nothing_but_the_text(bundled: Path, root: Path) -> None:
    """The same bits on every code section, on one and two threads, and at once, in pieces or token by token."""
    targets = [target["name"] for target in open_package(bundled).description["targets"]]
    levels = ["x86-64", "x86-64-v2", "x86-64-v3", "x86-64-v3+avxvnni", "x86-64-v4", "x86-64-v4+avx512vnni"]
    assert targets == levels
    text = (root / "examples" / "shakespeare" / "data" / "tinyshakespeare.txt").read_text(encoding="utf-8")
    tokens = np.array(Text(open_package(bundled).files()).encode(text[1000:1200])[:48], dtype=np.int64)
    assert len(tokens) == 48
    wanted: np.ndarray | None = None
    for target in runnable(bundled):
        for threads in (1, 2):
            package = open_package(bundled, target)
            assert package.target() == target
            whole = package.session(threads).run("forward", {"tokens": tokens})["logits"]
            wanted = whole if wanted is None else wanted
            assert whole.shape == (48, 1000)
            assert whole.tobytes() == wanted.tobytes(), (target, threads, "at once")
            for piece in (1, 7):
                session = package.session(threads)
                for begin in range(0, len(tokens), piece):
                    part = tokens[begin : begin + piece]
                    last = session.run("step", {"tokens": part})["logits"]
                    at = begin + len(part) - 1
                    assert last.tobytes() == wanted[at : at + 1].tobytes(), (target, threads, piece, at)


def test_modules_of_ones_own(tmp_path: Path) -> None:
    """A module that is no language model: real parameters, one entry, no state."""
    import torch
    from torch import Tensor, nn

    from setun.models.config import Quantization
    from setun.models.layers import BitLinear, Entry, RMSNorm

    class Block(nn.Module):
        entries = (Entry("forward", True, {"x": (torch.float32, ("T", 20))}, ("y",), position=False),)

        def __init__(self) -> None:
            super().__init__()
            quantization = Quantization(auto=True, online=True)
            self.norm = RMSNorm(20, 1e-5)
            self.up = BitLinear(20, 33, quantization)
            self.down = BitLinear(33, 20, quantization)
            for parameter in self.parameters():
                nn.init.normal_(parameter)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.down(self.up(self.norm(x)))

    torch.manual_seed(0)
    module = Block()
    compiler.compile_module(module, tmp_path / "m.setun", context=64)
    x = torch.randn(7, 20)
    with torch.no_grad():
        wanted = module(x).numpy()
    got = open_package(tmp_path / "m.setun").session().run("forward", {"x": x.numpy()})["y"]
    assert np.allclose(got, wanted, atol=1e-5)


@pytest.fixture(scope="module")
def exact_head(shakespeare_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    package = tmp_path_factory.mktemp("exact") / "shakespeare.setun"
    compiler.compile_checkpoint(shakespeare_model, package, target="x86-64", head="exact")
    return package


def test_heads_are_described(capsys: pytest.CaptureFixture[str], bundled: Path, exact_head: Path) -> None:
    heads = {}
    for package in (bundled, exact_head):
        layers = open_package(package).description["layers"]
        heads[package] = {item["format"]: item for item in layers if item["name"] == "model.embed_tokens.weight"}
    assert {name: item["bytes"] for name, item in heads[exact_head].items()} == {"bf16": 1000 * 288 * 2}
    # The rows are there once, for embedding, logits and exact scores; 1024 padded rows of four bits and a quarter, and
    # two blocks of 256 columns in two bits.
    assert {name: item["bytes"] for name, item in heads[bundled].items()} == {
        "bf16": 1000 * 288 * 2,
        "scan4": 1024 * (144 + 9 + 12),
        "scan2": 1000 * (128 + 8 * 4),
    }
    assert "scan4" in run(capsys, "inspect", bundled)[1]


@pytest.mark.parametrize(
    "options", [{}, {"temperature": 0.8, "top_k": 40, "seed": 5}, {"temperature": 1.0, "top_k": 64, "top_p": 0.9}]
)
def test_every_head_writes_the_same_text(
    monkeypatch: pytest.MonkeyPatch, bundled: Path, exact_head: Path, options: dict[str, float]
) -> None:
    def write(package: Path) -> list[int]:
        sampler = Sampler(**options)  # type: ignore[arg-type]
        return list(generate(open_package(package), [5, 17, 200], sampler, max_new_tokens=60, chunk=2))

    text = write(bundled)
    assert len(text) == 60
    assert write(exact_head) == text
    monkeypatch.setattr("setun.session.Package.choices", lambda package: 0)  # from all logits
    assert write(bundled) == text


def test_head_of_eight_bits(
    capsys: pytest.CaptureFixture[str], shakespeare_model: Path, tmp_path: Path, bundled: Path
) -> None:
    package = tmp_path / "int8.setun"
    compiler.compile_checkpoint(shakespeare_model, package, target="x86-64", head="int8")
    layers = open_package(package).description["layers"]
    heads = {item["format"]: item for item in layers if item["name"] == "model.embed_tokens.weight"}
    assert {name: (item["bytes"], item["scale"]) for name, item in heads.items()} == {
        "bf16": (1000 * 288 * 2, "none"),
        "r16k4i8": (1008 * 288, "row"),
    }
    status, out, err = run(capsys, "verify", package, shakespeare_model, "--tokens", 40, "--json")
    assert status == 0, out + err
    report = json.loads(out)
    assert report["integers"]["interpreter_logits_equal"]
    assert (
        report["integers"]["layers"]
        == json.loads(
            run(capsys, "verify", bundled, shakespeare_model, "--tokens", 8, "--only", "integers", "--json")[1]
        )["integers"]["layers"]
        + 1
    )
    assert report["choices"]["ok"]
    text = list(generate(open_package(package), [5, 17, 200], Sampler(), max_new_tokens=30))
    assert len(text) == 30


def test_choices_are_verified(bundled: Path, shakespeare_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from setun import session, verify

    package = open_package(bundled)
    tokens = np.arange(20, dtype=np.int64)
    logits = package.session(1, 20).run("forward", {"tokens": tokens})["logits"]
    report = verify.compare_choices(package, tokens, logits, 2)
    assert report.ok
    assert report.compared == 3 * 20
    run = session.Session.run

    def wrong(self: session.Session, entry: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        found = run(self, entry, inputs)
        found["ids"][0] += self.position == 7
        return found

    monkeypatch.setattr(session.Session, "run", wrong)
    report = verify.compare_choices(package, tokens, logits, 2)
    assert not report.ok
    assert (report.different, report.first) == (3, "at token 6 for the 1 likeliest")
