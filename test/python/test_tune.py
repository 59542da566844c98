"""`setun compile --tune`: what it measures, what it makes of it, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from setun import cli, tune
from setun.session import open_package
from setun.tune import Candidate, Matrix, copies, module_text, select, write_weights


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    status = cli.main([str(word) for word in words])
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    return status, out, err


def candidate(row: str, form: str, tokens: int, staged: int, cost: int) -> Candidate:
    return Candidate(row, form, tokens, staged, cost, cost)


def test_select() -> None:
    listed = [
        candidate("a", "x", 4, 0, 10),
        candidate("a", "x", 5, 16, 10),
        candidate("a", "x", 3, 0, 11),
        candidate("a", "x", 6, 16, 11),
        candidate("b", "y", 2, 16, 20),
        candidate("b", "y", 2, 0, 21),
        candidate("c", "x", 1, 0, 31),
    ]
    chosen = select(listed, 8)
    # The predicted tiles, best first; staging or not; neighbours; nothing without hope.
    assert chosen == [listed[0], listed[4], listed[1], listed[5], listed[2]]
    assert select(listed, 3) == [listed[0], listed[4], listed[1]]


def test_copies() -> None:
    def matrix(rows: int, cols: int, matrices: int, candidates: int = 4, binary: bool = False) -> Matrix:
        return Matrix("host", rows, cols, binary, False, 0, matrices, [candidate("a", "x", 1, 0, 1)] * candidates)

    assert copies(matrix(64, 64, 5), 1 << 25) == 5  # never more than the model has
    assert copies(matrix(4096, 4096, 100), 1 << 25) == 8
    assert copies(matrix(4096, 4096, 100), 1 << 10) == 1
    assert copies(matrix(4096, 4096, 100, binary=True), 1 << 25) == 13


SHAPES = [
    Matrix("host", 132, 68, False, False, 0, 2, []),
    Matrix("host", 33, 20, False, False, 0, 2, []),
    Matrix("host", 264, 68, False, True, 0, 2, []),
    Matrix("host", 24, 96, True, False, 32, 2, []),
]


@pytest.mark.parametrize("matrix", SHAPES, ids=str)
def test_modules_hold_the_matrix(matrix: Matrix, tmp_path: Path) -> None:
    """What is measured is the matrix that was asked for: the compiler refuses kernels for others."""
    tool = tune.find_tool("setun-compile")
    source, weights, kernels, output = (tmp_path / name for name in ("m.mlir", "w.safetensors", "k.json", "p.setun"))
    source.write_text(module_text(matrix, 2))
    write_weights(matrix, 2, weights)
    chosen = candidate("generic", "r16k4f8" if matrix.binary else "r16k4t5", 2, 0, 1)
    kernels.write_text(json.dumps([matrix.kernel(chosen, False) | {"target": "x86-64-v2"}]))
    tune.run_tool(
        [tool, source, "-o", output, "--target=x86-64-v2", "--weights", weights, "--kernels", kernels], "setun-compile"
    )
    for layer in open_package(output).description["layers"]:
        (kernel,) = layer["kernels"]
        assert (kernel["kernel"], kernel["format"], kernel["tokens"]) == ("generic", chosen.format, 2)
        assert kernel["staged"] == 0
        assert kernel["predicted_decode"] > 0


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tune, "CANDIDATES", 3)
    monkeypatch.setattr(tune, "DECODE_ROUNDS", 3)
    monkeypatch.setattr(tune, "PREFILL_ROUNDS", 1)
    monkeypatch.setattr(tune, "SAMPLE_SECONDS", 1e-4)


@pytest.mark.usefixtures("quick")
def test_tune(capsys: pytest.CaptureFixture[str], shakespeare_model: Path, tmp_path: Path) -> None:
    plain, tuned = tmp_path / "plain.setun", tmp_path / "tuned.setun"
    assert run(capsys, "compile", shakespeare_model, "-o", plain)[0] == 0
    status, out, err = run(capsys, "compile", shakespeare_model, "-o", tuned, "--tune", "--tune-threads", "1,2")
    assert status == 0, err
    assert out.startswith("kernels on 1, 2 threads;")
    assert out.count("\n *") == 4, out  # a choice for each shape
    assert out.count("(the model's choice)") == 4
    package = open_package(tuned)
    assert package.provenance()["compiler.kernels"] == "4 chosen by measurement"
    kernels = [kernel for layer in package.description["layers"] for kernel in layer["kernels"] if "tokens" in kernel]
    assert len(kernels) == 35
    for kernel in kernels:
        assert kernel["measured_decode"] > 0
        assert kernel["measured_prefill"] > 0
    text = run(capsys, "inspect", tuned)[1]
    assert " ns measured" in text
    assert " cycles predicted" in text
    tokens = {"tokens": np.arange(40, dtype=np.int64) % 1000}
    logits = [open_package(path).session(2).run("forward", tokens)["logits"] for path in (plain, tuned)]
    assert np.array_equal(logits[0].view(np.uint32), logits[1].view(np.uint32))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["plain.setun", "tuned.setun"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--tune-threads", "1"], "only --tune does"),
        (["--tune", "--emit", "asm"], "not for --emit=asm"),
        (["--tune", "--tune-threads", "0"], "expects numbers from 1"),
        (["--format", "dense", "--tune"], "invalid choice: 'dense'"),
    ],
)
def test_wrong_usage(
    capsys: pytest.CaptureFixture[str], shakespeare_model: Path, tmp_path: Path, words: list[str], message: str
) -> None:
    status, _, err = run(capsys, "compile", shakespeare_model, "-o", tmp_path / "m.setun", *words)
    assert status == 2
    assert message in err
    assert not list(tmp_path.iterdir())


def test_targets_that_do_not_run_here(
    capsys: pytest.CaptureFixture[str], shakespeare_model: Path, tmp_path: Path
) -> None:
    # No CPU has all of these.
    target = "x86-64-v4+avx512vp2intersect+sse4a+amx-int8+xop"
    status, _, err = run(capsys, "compile", shakespeare_model, "-o", tmp_path / "m.setun", "--tune", "--target", target)
    assert status == 2
    assert "does not run on this CPU, so --tune cannot measure it" in err
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("quick")
def test_an_interruption_leaves_nothing(
    capsys: pytest.CaptureFixture[str], shakespeare_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))

    def interrupted(*_: object) -> float:
        raise KeyboardInterrupt

    monkeypatch.setattr(tune.Measurement, "sample", interrupted)
    status, _, err = run(capsys, "compile", shakespeare_model, "-o", tmp_path / "m.setun", "--tune")
    assert (status, "interrupted" in err) == (130, True)
    assert [path.name for path in tmp_path.iterdir()] == ["tmp"]
    assert not list(folder.iterdir())
