"""`setun bench`: what it reports is there and fits together. Nothing here depends on how fast the machine is."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from setun import bench, cli, compiler
from setun.diagnostics import SetunError
from setun.session import open_package

_setun = pytest.importorskip("setun._setun", reason="the runtime module is not built")
try:
    compiler.find_tool("setun-compile")
    compiler.find_tool("setun-opt")
except SetunError:
    pytest.skip("the compiler is not built", allow_module_level=True)

LAYERS, HIDDEN, VOCABULARY = 5, 288, 1000
FIGURES = ["prefill_tok_s", "decode_tok_s", "dram_read_gb_s", "int8_peak_gops"]
FRACTIONS = ["decode_dram_fraction", "prefill_int8_fraction"]


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    capsys.readouterr()
    status = cli.main([str(word) for word in words])
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    return status, out, err


@pytest.fixture(scope="module")
def package(shakespeare_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bench") / "shakespeare.setun"
    compiler.compile_checkpoint(shakespeare_model, path)
    return path


@pytest.fixture(scope="module")
def layer(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package that is no language model."""
    path = tmp_path_factory.mktemp("bench") / "layer.setun"
    command = [compiler.find_tool("setun-compile"), root / "examples" / "layer" / "layer.mlir", "-o", path]
    subprocess.run(command, check=True, capture_output=True)
    return path


def test_json(capsys: pytest.CaptureFixture[str], package: Path) -> None:
    words = ["--prompt-tokens", 7, "--gen-tokens", 5, "--threads", "1,2,1", "--rounds", 3, "--json"]
    status, out, err = run(capsys, "bench", package, *words)
    assert (status, err) == (0, "")
    result = json.loads(out)
    assert (result["prompt_tokens"], result["gen_tokens"], result["depth"], result["rounds"]) == (7, 5, 0, 3)
    assert [one["threads"] for one in result["runs"]] == [1, 2]
    assert all(result["load"][name] > 0 for name in ("open_s", "first_session_s", "first_token_s"))
    memory = result["memory"]
    assert 0 < memory["weights_bytes"] < memory["package_bytes"] <= package.stat().st_size
    assert memory["peak_rss_bytes"] > memory["state_bytes"] > 0
    for one in result["runs"]:
        for name in FIGURES:
            assert 0 < one[f"{name}_min"] <= one[name] <= one[f"{name}_max"]
            assert isinstance(one[name], float)
        for name in ("prefill", "decode", "dram", "int8"):
            assert len(one[f"{name}_samples"]) == 3
        assert one["decode_tok_s"] == sorted(one["decode_samples"])[1]
        assert one["bytes_per_token"] == one["weight_bytes_per_token"] + one["cache_bytes_per_token"]
        gb_s = one["decode_tok_s"] * one["bytes_per_token"] / 1e9
        assert one["decode_dram_fraction"] == pytest.approx(gb_s / one["dram_read_gb_s"])
        gop_s = one["prefill_tok_s"] * one["int8_ops_per_token"] / 1e9
        assert one["prefill_int8_fraction"] == pytest.approx(gop_s / one["int8_peak_gops"])
        assert all(one[f"{name}_min"] <= one[f"{name}_max"] for name in FRACTIONS)
        assert "profile" not in one


def test_bytes_and_operations_of_a_token(package: Path) -> None:
    """The needs, counted by hand from the model's shapes."""
    plan = bench.Plan(prompt_tokens=8, gen_tokens=4, depth=3, limits=False, rounds=1)
    tested = bench.Bench(package, plan)
    tested.prepare()
    tested.measure()
    [one] = tested.as_json()["runs"]
    linears = [(480, HIDDEN), (HIDDEN, HIDDEN), (1536, HIDDEN), (HIDDEN, 768)]
    weights = LAYERS * sum(n * k for n, k in linears)
    assert one["int8_ops_per_token"] == 2 * weights
    # Of a tied embedding the head needs all rows and the look-up one: the table counts once.
    small = one["weight_bytes_per_token"] - VOCABULARY * HIDDEN * 2 if tested.entry == "step" else None
    if small is not None:
        assert weights / 5 < small < weights / 3, "1.6 to 2 bits a weight, scales and norms"
    # Keys and values of 2 heads of 48; a decoded token reads those before it and its own: after 3 tokens 4, 5, 6, 7.
    assert one["cache_bytes_per_token"] / 5.5 in (LAYERS * 2 * 2 * 48 * 4, LAYERS * 2 * 2 * 48 * 2)
    for name in ("dram_read_gb_s", "int8_peak_gops", *FRACTIONS):
        assert one[name] is None, "limits were not asked for"
    assert one["prefill_tok_s"] > 0 and one["decode_tok_s"] > 0


def test_profile(capsys: pytest.CaptureFixture[str], package: Path, tmp_path: Path) -> None:
    picture = tmp_path / "picture.png"
    words = ["--prompt-tokens", 6, "--gen-tokens", 4, "--depth", 2, "--threads", "2", "--rounds", 1]
    status, out, err = run(capsys, "bench", package, *words, "--profile", "--plot", picture, "--json")
    assert (status, err) == (0, f"{picture}: written\n")
    assert picture.read_bytes().startswith(b"\x89PNG")
    [one] = json.loads(out)["runs"]
    assert one["prefill_matmul_int8_fraction"] > 0
    decode, prefill = one["profile"]["decode"], one["profile"]["prefill"]
    assert (decode["runs"], prefill["runs"]) == (4, 1), "the tokens before a test are not in its profile"
    for profile in (decode, prefill):
        shares = [row["share"] for row in profile["operations"]]
        assert sum(shares) + profile["waiting_share"] == pytest.approx(1)
        assert shares == sorted(shares, reverse=True)
        matmuls = [row for row in profile["operations"] if row["kind"] == "matmul"]
        assert sum(row["count"] for row in matmuls) == 4 * LAYERS
        assert all(row["gb_s"] > 0 and row["int8_gops"] > 0 for row in matmuls)
        assert any(row["kind"] == "attention" and row["gb_s"] > 0 for row in profile["operations"])

    status, out, err = run(capsys, "bench", package, *words, "--profile", "--no-limits")
    assert (status, err) == (0, "")
    for title in ("decode, 2 threads: ", "prefill, 2 threads: "):
        assert title in out
    assert out.count("barriers and waiting") == 2
    assert "medians of 1 rounds (least to most), after 2 tokens" in out


def test_a_profile_changes_no_result(package: Path) -> None:
    opened = open_package(package)
    tokens = np.arange(9, dtype=np.int64)
    results = []
    for on in (False, True):
        session = opened.session(threads=2, context=32)
        session.profile(on)
        logits = session.run("step", {"tokens": tokens})["logits"]
        results.append((logits.tobytes(), session.decode("step", 5, 8).tolist()))
    assert results[0] == results[1]
    assert session.times("step")["runs"] == 9


@pytest.mark.parametrize("weights", ["map", "copy"])
def test_the_place_of_the_weights_changes_no_result(package: Path, weights: str) -> None:
    opened = open_package(package, weights=weights)
    assert not opened.weights_copied
    session = opened.session(context=16)
    assert opened.weights_copied == (weights == "copy")
    assert (
        session.decode("step", 3, 8).tolist() == open_package(package).session(context=16).decode("step", 3, 8).tolist()
    )


def test_decode_takes_the_likeliest(package: Path) -> None:
    opened = open_package(package)
    first, second = opened.session(context=16), opened.session(context=16)
    chosen = first.decode("step", 3, 16)
    token, expected = 3, []
    for _ in range(16):
        logits = second.run("step", {"tokens": np.array([token], dtype=np.int64)})["logits"]
        token = int(logits[-1].argmax())
        expected.append(token)
    assert chosen.tolist() == expected
    with pytest.raises(SetunError, match=r"entry 'step': .*exceed its context of 16"):
        first.decode("step", 3, 1)


def test_one_test_alone(capsys: pytest.CaptureFixture[str], package: Path) -> None:
    words = ["--threads", 1, "--rounds", 1, "--no-limits"]
    status, out, _ = run(capsys, "bench", package, "--prompt-tokens", 0, "--gen-tokens", 3, *words, "--json")
    [one] = json.loads(out)["runs"]
    assert status == 0
    assert one["prefill_tok_s"] is None and one["decode_tok_s"] > 0 and one["int8_ops_per_token"] > 0
    status, out, _ = run(capsys, "bench", package, "--prompt-tokens", 3, "--gen-tokens", 0, *words)
    assert status == 0
    assert "prefill 3" in out and "decode 0" not in out


def test_wrong_use(capsys: pytest.CaptureFixture[str], package: Path, layer: Path, tmp_path: Path) -> None:
    for words, message in [
        ([layer], "no language model: none of its entries (forward) continues a text token by token"),
        ([package, "--prompt-tokens", 0, "--gen-tokens", 0], "nothing to measure"),
        ([package, "--depth", 10**6], "the tests need a context of 1000512 tokens, but the package allows "),
        ([package, "--weights", "none"], "invalid choice: 'none'"),
        ([package, "--target", "nothing"], "no code section for target 'nothing'"),
        ([package, "--plot", tmp_path / "no" / "picture.png"], "no such directory"),
        ([tmp_path / "none.setun"], "no such file"),
        ([package, "--threads", "1,0"], "expects numbers from 1 to 1024 with commas between, got '1,0'"),
        ([package, "--threads", "1,"], "got '1,'"),
        ([package, "--threads", "1025"], "got '1025'"),
        ([package, "--rounds", 0], "expects an integer of 1 or more, got '0'"),
        ([package, "--gen-tokens", -1], "expects an integer of 0 or more"),
    ]:
        status, out, err = run(capsys, "bench", *words)
        assert (status, out) == (2, ""), words
        assert message in err


def test_limits() -> None:
    limits = _setun.Limits(2, 8 << 20)
    assert limits.bytes == 8 << 20
    assert limits.read_bandwidth() > 0 and limits.int8_peak() > 0
    assert "stream" in limits.read_method and limits.int8_method
    # A smaller CPU has fewer ways.
    assert "zmm" not in _setun.Limits(1, 1 << 20, "avx2").int8_method


def test_setun_bench(layer: Path) -> None:
    tool = compiler.find_tool("setun-bench")

    def call(*words: object) -> tuple[int, str]:
        done = subprocess.run([tool, *map(str, words)], capture_output=True, text=True, check=False)
        return done.returncode, done.stdout or done.stderr

    fast = ["--rounds", 2, "--seconds", 0.001]
    status, out = call(layer, "--dim", "T=1,16", "--threads", "1,2", *fast, "--json", "--profile")
    assert status == 0, out
    result = json.loads(out)
    assert [limit["threads"] for limit in result["limits"]] == [1, 2]
    assert [(case["threads"], case["dims"]["T"]) for case in result["cases"]] == [(1, 1), (1, 16), (2, 1), (2, 16)]
    for case in result["cases"]:
        assert case["int8_ops"] == 2 * 6 * 8 * case["dims"]["T"]
        assert 0 < case["seconds_min"] <= case["seconds"] <= case["seconds_max"]
        assert case["gop_s"] == pytest.approx(case["int8_ops"] / case["seconds"] / 1e9, rel=1e-3)
        assert case["gb_s"] == pytest.approx(case["weight_bytes"] / case["seconds"] / 1e9, rel=1e-3)
        assert "matmul" in [operation["kind"] for operation in case["operations"]]
    status, out = call(layer, "--cold", *fast)
    assert status == 0 and "weights from memory" in out and "T=1" in out
    status, out = call("--limits", "--rounds", 1, "--json")
    assert status == 0 and json.loads(out)["limits"][0]["int8_peak_gops"] > 0

    for words, code, message in [
        ([], 2, "expects a package, or --limits"),
        ([layer, "--limits"], 2, "--limits goes without a package"),
        ([layer, "--dim", "T=0"], 2, "--dim expects SYMBOL=N,... with numbers of at least 1, got 'T=0'"),
        ([layer, "--dim", "U=1"], 1, "entry 'forward' has no dimension 'U' to choose"),
        ([layer, "--dim", "T=1", "--dim", "T=2"], 1, "--dim T is given twice"),
        ([layer, "--entry", "none"], 1, "no entry 'none'"),
        ([layer, "--target", "none"], 1, "no code section for target 'none'"),
        ([layer, "--threads", "0"], 2, "--threads expects numbers from 1 to 1024, got '0'"),
        ([layer, "--seconds", "-1"], 2, "--seconds expects a time above 0"),
        ([layer, "--frob", "1"], 2, "unknown option --frob"),
        (["/nowhere.setun"], 1, "cannot open"),
        (["/nowhere.setun", "--cold"], 1, "cannot open"),
    ]:
        status, out = call(*words)
        assert status == code, words
        assert message in out


def test_cli_runs_as_a_program(package: Path) -> None:
    command = [sys.executable, "-m", "setun", "bench", str(package), "--prompt-tokens", "2", "--gen-tokens", "2"]
    done = subprocess.run([*command, "--rounds", "1", "--no-limits"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "tokens/s" in done.stdout
