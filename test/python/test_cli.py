"""The command line: what it prints, its exit status, and that users never see a traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from setun import cli, compiler
from setun.inspection import describe, size
from setun.random_checkpoint import SHAPES, write_checkpoint
from setun.random_checkpoint import main as random_checkpoint


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    status = cli.main([str(word) for word in words])
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    return status, out, err


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    write_checkpoint(tmp_path / "tiny", SHAPES["tiny-bitnet"])
    return tmp_path / "tiny"


@pytest.mark.parametrize("words", [["--help"], *([command, "--help"] for command in ("compile", "lint", "generate"))])
def test_help(capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    status, out, _ = run(capsys, *words)
    assert status == 0
    assert "usage: setun" in out


def test_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys)[0] == 2
    assert run(capsys, "frobnicate")[0] == 2
    assert run(capsys, "compile")[0] == 2
    status, _, err = run(capsys, "compile", "x", "--context", "0")
    assert status == 2
    assert "expects an integer of 1 or more, got '0'" in err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize("words", [["--help"], ["lint", "."], ["compile", ".", "--emit=mlir"]])
def test_results_that_cannot_be_written(tiny: Path, words: list[str]) -> None:
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "setun", *words]
        done = subprocess.run(command, cwd=tiny, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "setun: cannot read or write: No space left on device\n")


def test_readers_that_stop_reading(tiny: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "setun", "compile", tiny, "--emit=mlir"]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (2, "")


def test_lint_of_a_sound_checkpoint(capsys: pytest.CaptureFixture[str], tiny: Path) -> None:
    status, out, err = run(capsys, "lint", tiny)
    assert (status, err) == (0, "")
    assert "BitNetForCausalLM: 14 ternary layers (packed), 0.2 million weights, 33." in out
    assert out.endswith("no findings\n")


def test_lint_as_json(capsys: pytest.CaptureFixture[str], tiny: Path) -> None:
    (tiny / "tokenizer.json").unlink()
    status, out, _ = run(capsys, "lint", tiny, "--json")
    report = json.loads(out)
    assert (status, report["ok"], len(report["linears"])) == (0, True, 14)
    assert [item["code"] for item in report["diagnostics"]] == ["no-tokenizer"]


def test_lint_of_a_bad_checkpoint(capsys: pytest.CaptureFixture[str], tiny: Path) -> None:
    config = json.loads((tiny / "config.json").read_text())
    (tiny / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
    status, out, _ = run(capsys, "lint", tiny)
    assert status == 1
    assert "error: model.layers.2.input_layernorm.weight: is missing from the files [missing-tensor]" in out
    assert "12 more of these" in out
    (tiny / "model.safetensors").write_bytes(b"\xff" * 100)
    status, _, err = run(capsys, "lint", tiny)
    assert status == 2
    assert err.startswith("setun: model.safetensors: its header claims 18446744073709551615 bytes")
    status, out, _ = run(capsys, "lint", tiny, "--json")
    assert (status, json.loads(out)["ok"]) == (1, False)


def test_compile_refuses_bad_input(capsys: pytest.CaptureFixture[str], tiny: Path, tmp_path: Path) -> None:
    status, _, err = run(capsys, "compile", tmp_path / "nothing", "--emit=mlir")
    assert status == 2
    assert "is no directory" in err
    status, _, err = run(capsys, "compile", tiny, "-o", tmp_path)
    assert (status, err.splitlines()[0]) == (2, f"setun: {tmp_path}: is a directory")
    status, _, err = run(capsys, "compile", tiny, "--emit=mlir", "--keep-mlir", tiny / "config.json")
    assert (status, err.splitlines()[0]) == (2, f"setun: {tiny / 'config.json'}: is no directory")
    config = json.loads((tiny / "config.json").read_text())
    (tiny / "config.json").write_text(json.dumps(config | {"architectures": ["OtherForCausalLM"]}))
    status, _, err = run(capsys, "compile", tiny, "--emit=mlir")
    assert status == 2
    assert "architecture 'OtherForCausalLM' is not supported" in err
    assert "Supported: BitNetForCausalLM" in err


def test_compile_to_text(capsys: pytest.CaptureFixture[str], tiny: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    status, out, _ = run(capsys, "compile", tiny, "--emit=mlir", "--context", 64, "--keep-mlir", kept)
    assert status == 0
    assert "bitnet.max_context = 64" in out
    assert (kept / "model.mlir").read_text() == out
    assert (kept / "constants.safetensors").stat().st_size > 2 * 64 * 12 * 4
    status, out, err = run(capsys, "compile", tiny, "--emit=mlir", "-o", tmp_path / "m.mlir", "--context", 64)
    assert (status, out) == (0, "")
    assert (tmp_path / "m.mlir").read_text() == (kept / "model.mlir").read_text()
    assert "m.mlir: " in err


def test_context_larger_than_the_models(capsys: pytest.CaptureFixture[str], tiny: Path) -> None:
    status, _, err = run(capsys, "compile", tiny, "--emit=mlir", "--context", 4096)
    assert status == 2
    assert "a context of 4096 tokens was asked for, but the model was trained for 128" in err


def test_a_missing_tool_is_said(
    capsys: pytest.CaptureFixture[str], tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find(name: str) -> Path:
        raise compiler.SetunError(f"the program {name} is not found", "Build it with scripts/build.")

    monkeypatch.setattr(compiler, "find_tool", find)
    status, _, err = run(capsys, "compile", tiny, "-o", tmp_path / "m.setun")
    assert status == 2
    assert err == "setun: the program setun-compile is not found\n  Build it with scripts/build.\n"


@pytest.mark.parametrize(
    ("module", "cure"), [("torch", "'setun[compile]'"), ("jinja2", "'setun[text]'"), ("matplotlib", "matplotlib")]
)
def test_a_missing_python_package_is_said(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, cure: str
) -> None:
    def fail(options: object) -> int:
        raise ModuleNotFoundError(f"No module named '{module}.part'", name=f"{module}.part")

    monkeypatch.setattr(cli, "_inspect", fail)
    status, _, err = run(capsys, "inspect", tmp_path)
    assert (status, err.splitlines()[0]) == (2, f"setun: the Python package '{module}' is missing")
    assert err.rstrip().endswith(f"pip install {cure}")


def test_tools_are_found_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "setun-compile"
    tool.write_text("#!/bin/sh\nexit 3\n")
    tool.chmod(0o755)
    monkeypatch.setenv("SETUN_BIN", str(tmp_path))
    assert compiler.find_tool("setun-compile") == tool
    with pytest.raises(compiler.SetunError, match=r"the tool failed .exit status 3."):
        compiler.run_tool([tool, "a b"], "the tool")
    tool.write_text("#!/bin/sh\nexit 127\n")  # as the dynamic linker does
    with pytest.raises(compiler.SetunError, match="the tool needs the shared libraries of LLVM and MLIR 22"):
        compiler.run_tool([tool], "the tool", "Try again.")


def test_the_command_line_of_the_compiler(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `setun compile` hands to `setun-compile`: the text, every weight file, the tokenizer's files, the flags."""
    tool = tmp_path / "setun-compile"
    tool.write_text(f'#!/bin/sh\nfor word; do echo "$word"; done > {tmp_path}/words\ntouch "$3"\n')
    tool.chmod(0o755)
    monkeypatch.setenv("SETUN_BIN", str(tmp_path))
    output = tmp_path / "m.setun"
    assert cli.main(["compile", str(tiny), "-o", str(output), "--target", "x86-64-v3,x86-64-v4", "--timing"]) == 0
    words = (tmp_path / "words").read_text().splitlines()
    assert words[0].endswith("model.mlir")
    assert words[1:4] == ["-o", str(output), "--target=x86-64-v3,x86-64-v4"]
    weights = [words[i + 1] for i, word in enumerate(words) if word == "--weights"]
    assert [Path(path).name for path in weights] == ["model.safetensors", "constants.safetensors"]
    files = [words[i + 1].partition("=")[0] for i, word in enumerate(words) if word == "--file"]
    assert files == ["tokenizer.json", "tokenizer_config.json", "config.json", "generation_config.json"]
    assert words[-1] == "--timing"


def test_packages_that_are_none(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pytest.importorskip("setun._setun", reason="the runtime module is not built")
    (tmp_path / "m.setun").write_bytes(b"no package" * 1000)
    for command in (["inspect"], ["generate", "--prompt", "x"], ["verify", tmp_path]):
        words = [command[0], tmp_path / "m.setun", *command[1:]]
        status, _, err = run(capsys, *words)
        assert (status, err[:7]) == (2, "setun: ")
    status, _, err = run(capsys, "inspect", tmp_path)
    assert (status, err.splitlines()[0]) == (2, f"setun: {tmp_path}: is no regular file")
    status, _, err = run(capsys, "inspect", tmp_path / "none.setun")
    assert status == 2
    assert "no such file" in err


def test_torch_is_only_imported_to_read_checkpoints(tmp_path: Path) -> None:
    code = (
        "import sys; from setun import cli; import setun.generate, setun.session, setun.text, setun.inspection; "
        f"status = cli.main(['generate', {str(tmp_path / 'none')!r}, '--prompt', 'x']); "
        "assert 'torch' not in sys.modules; sys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr


def test_random_checkpoint_command(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert random_checkpoint(["--list"]) == 0
    listed = capsys.readouterr().out
    assert "bitnet-b1.58-2b4t    1.179 GB" in listed
    assert random_checkpoint([str(tmp_path), "--config", "tiny-llama", "--layers", "1", "--seed", "5"]) == 0
    assert json.loads((tmp_path / "config.json").read_text())["num_hidden_layers"] == 1
    capsys.readouterr()
    assert cli.main(["lint", str(tmp_path)]) == 0
    with pytest.raises(SystemExit):
        random_checkpoint([str(tmp_path)])
    capsys.readouterr()
    with pytest.raises(SystemExit):
        random_checkpoint([str(tmp_path), "--config", "tiny-llama", "--seed", "-1"])
    assert "expects a seed of 0 or more, got -1" in capsys.readouterr().err
    assert random_checkpoint([str(tmp_path / "config.json"), "--config", "tiny-llama"]) == 2
    assert capsys.readouterr().err == f"random-checkpoint: {tmp_path / 'config.json'}: File exists\n"


def test_published_shapes_have_the_published_size() -> None:
    """542 tensors of 1 178 562 980 bytes: the packed repository of microsoft/bitnet-b1.58-2B-4T."""
    from setun.random_checkpoint import tensors

    items = list(tensors(SHAPES["bitnet-b1.58-2b4t"], False, 0))
    assert len(items) == 542
    assert sum(item.nbytes for item in items) == 1_178_562_980


def test_description_of_a_package() -> None:
    layer = {"rows": 8, "cols": 16, "format": "ternary 2 bit", "scale": "tensor", "bytes": 32}
    kernels = [{"target": "x86-64-v3", "kernel": "avx2"}]
    state = {"name": "k", "dtype": "f32", "shape": ["C", 2, 24]}
    data = {
        "bytes": 123456,
        "weights_bytes": 64,
        "entries": [
            {
                "name": "step",
                "inputs": [{"name": "tokens", "dtype": "i64", "shape": ["T"]}],
                "outputs": [{"name": "logits", "dtype": "f32", "shape": [1, 320]}],
                "states": [state, state],
                "resets_session": False,
                "max_context": 128,
            }
        ],
        "targets": [
            {"name": "x86-64-v3", "arch": "x86_64", "features": ["avx2"], "bytes": 4096, "runnable": True}
            | {"selected": True}
        ],
        "layers": [{"name": "a", "kernels": kernels} | layer, {"name": "b", "kernels": kernels} | layer],
        "files": [{"name": "tokenizer.json", "bytes": 10}],
        "provenance": {"source": "tiny"},
    }
    text = describe(data, Path("m.setun"))
    assert "m.setun: 123 kB, of which weights 64 bytes" in text
    assert "  step(tokens i64[T]) -> logits f32[1, 320]" in text
    assert "    2 states [C, 2, 24]; context up to 128 tokens" in text
    assert "* x86-64-v3: x86_64 (avx2), 4.1 kB" in text
    assert (
        "    2 x 8 x 16, ternary 2 bit, scale per tensor: 32 bytes each, 64 bytes in all (2.00 bits a weight)" in text
    )
    assert "        x86-64-v3: avx2" in text
    assert "  source: tiny" in text


def test_sizes() -> None:
    sizes = [size(n) for n in (0, 999, 1000, 999_499, 1_178_562_980, 5_000_000_000_000)]
    assert sizes == ["0 bytes", "999 bytes", "1 kB", "999 kB", "1.18 GB", "5000 GB"]
