"""benchmarks/compare.py: what it reads from the engines, its tables, and peers that are missing, fail or hang."""

from __future__ import annotations

import importlib.util
import json
import os
import shlex
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

# What the peers' own llama-bench prints with -o json, shortened; each fork has fields that others lack.
LLAMA_CPP = """[
  {
    "build_commit": "0c1e57098",
    "build_number": 6543,
    "cpu_info": "CPU with a \\"name\\"",
    "backends": "CPU",
    "model_filename": "/models/2b4t-tq2_0.gguf",
    "model_type": "bitnet ?B TQ2_0 - 2.06 bpw ternary",
    "model_size": 808346880,
    "n_threads": 2,
    "flash_attn": -1,
    "n_prompt": 512,
    "n_gen": 0,
    "n_depth": 0,
    "avg_ns": 6918918918,
    "stddev_ns": 0,
    "avg_ts": 74.000000,
    "stddev_ts": 0.000000,
    "samples_ns": [ 6918918918 ],
    "samples_ts": [ 74 ]
  }
]
"""
IK_LLAMA_CPP = """======================================= HAVE_FANCY_SIMD is defined
[INFO] one line
[
  {
    "build_commit": "unknown", "build_number": 0, "cuda": false, "cpu_info": "CPU",
    "model_type": "bitnet 2B IQ2_BN_R4 - 2.00 bpw Bitnet", "model_size": 794812032,
    "n_threads": 1, "use_mmap": true, "n_prompt": 0, "n_gen": 128, "test": "tg128", "avg_ts": 24.750000
  }
]
"""


@pytest.fixture(scope="module")
def compare(root: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("compare", root / "benchmarks" / "compare.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["compare"] = module
    spec.loader.exec_module(module)
    return module


def test_reads_llama_bench(compare: ModuleType) -> None:
    speed, facts = compare.read_llama_bench(LLAMA_CPP, compare.Test("prefill", 2, 512))
    assert speed == 74.0
    assert facts["version"] == "0c1e57098"
    assert facts["model_type"] == "bitnet ?B TQ2_0 - 2.06 bpw ternary"
    speed, facts = compare.read_llama_bench(IK_LLAMA_CPP, compare.Test("decode", 1, 128))
    assert speed == 24.75
    assert "version" not in facts


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "printed no JSON that llama-bench prints: nothing"),
        ("error: unknown model\n", "printed no JSON that llama-bench prints: error: unknown model"),
        (LLAMA_CPP[:200], "printed no JSON that llama-bench prints"),
        ("[]", "printed no JSON that llama-bench prints"),
        (IK_LLAMA_CPP, "expects one result with prompt 512 and generated 0 on 2 threads, got 0/128 on 1"),
        (LLAMA_CPP.replace("74.000000", "0.000000"), "printed 0.0 tokens/s"),
        (LLAMA_CPP.replace("74.000000", "NaN"), "printed nan tokens/s"),
        (LLAMA_CPP.replace('"n_threads": 2', '"n_threads": 4'), "on 2 threads, got 512/0 on 4"),
    ],
)
def test_refuses_what_is_no_figure(compare: ModuleType, text: str, message: str) -> None:
    with pytest.raises(compare.Failure) as failure:
        compare.read_llama_bench(text, compare.Test("prefill", 2, 512))
    assert message in str(failure.value)


def test_reads_setun_bench(compare: ModuleType) -> None:
    runs = [
        {"threads": 1, "prefill_tok_s": 91.0, "decode_tok_s": 20.5, "bytes_per_token": 1000},
        {"threads": 2, "prefill_tok_s": 173.0, "decode_tok_s": 25.5, "bytes_per_token": 1000},
    ]
    text = json.dumps({"runs": runs})
    assert compare.read_setun(text, compare.Test("decode", 2, 128)) == (25.5, {"model_bytes": 1000})
    assert compare.read_setun(text, compare.Test("prefill", 1, 512))[0] == 91.0
    with pytest.raises(compare.Failure, match="printed no figure for decode on 4 threads"):
        compare.read_setun(text, compare.Test("decode", 4, 128))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("llama.cpp", "expects NAME=KIND:PROGRAM:MODEL"),
        ("a=llama-bench:program", "expects NAME=KIND:PROGRAM:MODEL"),
        ("a=llama-bench::model", "expects NAME=KIND:PROGRAM:MODEL"),
        ("a=other:program:model", "expects KIND llama-bench, llama-cpp-python or litespark, got 'other'"),
    ],
)
def test_wrong_peers(compare: ModuleType, capsys: pytest.CaptureFixture[str], text: str, message: str) -> None:
    with pytest.raises(SystemExit) as exit_:
        compare.main(["--package", "x.setun", "--peer", text])
    assert exit_.value.code == 2
    assert message in capsys.readouterr().err


# A program that answers like llama-bench; the model's name says what goes wrong.
FAKE_LLAMA_BENCH = """
import json, os, signal, sys, time
words = dict(zip(sys.argv[1::2], sys.argv[2::2]))
model, prompt, generated, threads = words["-m"], int(words["-p"]), int(words["-n"]), int(words["-t"])
assert words["-r"] == "1" and words["-o"] == "json"
if "hangs" in model:
    time.sleep(60)
if "crashes" in model and prompt:
    os.kill(os.getpid(), signal.SIGSEGV)
if "refuses" in model:
    print("error: unknown model architecture: 'bitnet'", file=sys.stderr)
    sys.exit(3)
speed = (100 if prompt else 20) * threads * (2 if words.get("-fa") == "1" else 1)
print("hello")
row = {"n_prompt": prompt, "n_gen": generated, "n_threads": threads, "avg_ts": speed}
print("[" + json.dumps(row) + "]")
"""

# A program that answers like `setun bench`.
FAKE_SETUN = """
import json, sys
words = dict(zip(sys.argv[2::2], sys.argv[3::2]))
assert words["--rounds"] == "1" and sys.argv[-1] == "--json"
tokens = int(words["--prompt-tokens"]), int(words["--gen-tokens"])
threads = int(words["--threads"])
run = {"threads": threads, "prefill_tok_s": tokens[0] * threads / 2, "decode_tok_s": 50.0, "bytes_per_token": 5 * 10**8}
print(json.dumps({"runs": [run]}))
"""

FAKE_BINDINGS = """
import time
__version__ = "0.9"
class Llama:
    def __init__(self, model, n_ctx, n_batch, n_threads, n_threads_batch, verbose):
        print("noise on standard output")
        self.model = model
        assert n_threads == n_threads_batch
        self.seen = 0
    def n_vocab(self):
        return 1000
    def reset(self):
        self.seen = 0
    def eval(self, tokens):
        assert all(0 <= token < 1000 for token in tokens)
        if "crashes" in self.model and self.seen > 0:
            raise RuntimeError("llama_decode returned -1")
        if "hangs" in self.model:
            time.sleep(60)
        self.seen += len(tokens)
        time.sleep(0.001)
"""


class Bench:
    """A folder with fake engines, and a way to run compare.py on them."""

    def __init__(self, compare: ModuleType, folder: Path) -> None:
        self.compare = compare
        self.folder = folder
        self.program("llama-bench", FAKE_LLAMA_BENCH)
        self.program("bandwidth", "import sys; print(10.0 * int(sys.argv[1]))")
        (folder / "setun.py").write_text(FAKE_SETUN)
        (folder / "package.setun").touch()
        modules = folder / "modules" / "llama_cpp"
        modules.mkdir(parents=True)
        (modules / "__init__.py").write_text(FAKE_BINDINGS)
        for name in ("sound", "hangs", "crashes", "refuses"):
            (folder / f"{name}.gguf").touch()
            os.truncate(folder / f"{name}.gguf", 10**8)

    def program(self, name: str, text: str) -> None:
        path = self.folder / name
        path.write_text(f"#!{sys.executable}\n{text}")
        path.chmod(0o755)

    def run(self, *words: str) -> tuple[int, str, dict]:
        output = self.folder / "output"
        command = f"{shlex.quote(sys.executable)} {shlex.quote(str(self.folder / 'setun.py'))}"
        fixed = ["--package", str(self.folder / "package.setun"), "--setun", command, "--output", str(output)]
        fixed += ["--bandwidth", str(self.folder / "bandwidth"), "--prompt-tokens", "300", "--gen-tokens", "20"]
        status = self.compare.main([*fixed, *words])
        return status, (output / "compare.md").read_text(), json.loads((output / "compare.json").read_text())

    def llama(self, name: str, model: str) -> list[str]:
        return ["--peer", f"{name}=llama-bench:{self.folder}/llama-bench:{self.folder}/{model}.gguf"]

    def bindings(self, name: str, model: str) -> list[str]:
        return ["--peer", f"{name}=llama-cpp-python:{sys.executable}:{self.folder}/{model}.gguf"]


@pytest.fixture
def bench(compare: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(compare, "raise_stack_limit", lambda: None)  # it is for the whole process
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "modules"))
    return Bench(compare, tmp_path)


def test_all_engines_in_turn(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    flash = ["--peer-args", "flash=-fa 1"]
    peers = [*bench.llama("plain", "sound"), *bench.llama("flash", "sound"), *flash, *bench.bindings("py", "sound")]
    status, report, data = bench.run(*peers, "--threads", "1,2", "--rounds", "3")
    assert status == 0
    runs = {(run["engine"], run["test"], run["threads"]): run for run in data["runs"]}
    assert len(runs) == 4 * 2 * 2
    assert runs["setun", "prefill", 2]["median_tok_s"] == 300.0
    assert runs["setun", "decode", 1]["samples_tok_s"] == [50.0] * 3
    assert runs["plain", "prefill", 2]["median_tok_s"] == 200.0
    assert runs["flash", "decode", 2]["median_tok_s"] == 80.0
    assert 0 < runs["py", "decode", 1]["median_tok_s"] < 1000  # 1 ms a token
    assert runs["py", "prefill", 1]["median_tok_s"] > runs["py", "decode", 1]["median_tok_s"]
    # 5e8 bytes a token, 50 tokens/s, 10 GB/s; measured before each of 4 engines in 3 rounds.
    assert runs["setun", "decode", 1]["memory_fraction"] == pytest.approx(2.5)
    assert runs["plain", "decode", 2]["memory_fraction"] == pytest.approx(0.2)  # 1e8 bytes, 40 tokens/s, 20 GB/s
    assert runs["py", "decode", 2]["memory_fraction"] > 0
    assert data["memory_read_gb_s"] == {"1": [10.0] * 12, "2": [20.0] * 12}
    assert data["engines"]["py"]["version"] == "0.9"
    ratios = {(ratio["peer"], ratio["test"], ratio["threads"]): ratio for ratio in data["ratios"]}
    assert ratios["plain", "prefill", 1]["median"] == pytest.approx(1.5)
    assert ratios["flash", "decode", 2]["median"] == pytest.approx(50 / 80)
    assert [ratio["peer"] for ratio in data["ratios"] if ratio["fastest_peer"] and ratio["test"] == "prefill"]
    assert "| plain" in report
    assert "1.50 (1.50 to 1.50)" in report
    assert "Failed" not in report
    assert (bench.folder / "output" / "compare.png").stat().st_size > 10_000
    # The order rotates: another engine is the first in each round.
    lines = [line for line in capsys.readouterr().err.splitlines() if "1 thread:" in line and "prefill" in line]
    orders = [[line.split(": ")[1].split()[0] for line in lines[i : i + 4]] for i in (0, 4, 8)]
    assert [order[0] for order in orders] == ["setun", "plain", "flash"]
    assert all(sorted(order) == ["flash", "plain", "py", "setun"] for order in orders)


def test_failures_are_named_and_the_rest_goes_on(bench: Bench) -> None:
    peers = [*bench.llama("sound", "sound"), *bench.llama("slow", "hangs"), *bench.llama("weak", "crashes")]
    peers += [*bench.llama("old", "refuses"), *bench.llama("gone", "nowhere")]
    peers += ["--peer", f"unbuilt=llama-bench:{bench.folder}/nowhere:{bench.folder}/sound.gguf"]
    peers += ["--peer", f"text=llama-bench:{bench.folder}/setun.py:{bench.folder}/sound.gguf"]
    begin = time.monotonic()
    status, report, data = bench.run(*peers, "--threads", "1", "--rounds", "3", "--timeout", "3")
    assert status == 1
    assert time.monotonic() - begin < 30  # a test that hung is not tried again
    failures = {(run["engine"], run["test"]): run["failure"] for run in data["runs"] if "failure" in run}
    assert "did not end within 3 s and was stopped; give --timeout more seconds" in failures["slow", "prefill"]
    assert "signal 11 (SIGSEGV); a small stack limit is a common cause" in failures["weak", "prefill"]
    assert "exit status 3; it said: error: unknown model architecture: 'bitnet'" in failures["old", "decode"]
    assert "nowhere.gguf is missing; convert or quantise one" in failures["gone", "prefill"]
    assert "nowhere is missing; build the llama-bench" in failures["unbuilt", "prefill"]
    assert "setun.py is not a program that can be run" in failures["text", "prefill"]
    medians = {(run["engine"], run["test"]): run["median_tok_s"] for run in data["runs"]}
    assert medians["sound", "prefill"] == 100.0
    assert medians["weak", "decode"] == 20.0  # only its prefill fails
    assert medians["weak", "prefill"] is None
    assert "- weak (prefill on 1 thread): ended with signal 11" in report
    assert not any(ratio["peer"] in ("slow", "old", "gone") for ratio in data["ratios"])


def test_python_peers_that_fail(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    peers = [*bench.bindings("weak", "crashes"), *bench.bindings("slow", "hangs")]
    status, _, data = bench.run(*peers, "--threads", "1", "--rounds", "1", "--timeout", "2")
    assert status == 1
    failures = {(run["engine"], run["test"]): run["failure"] for run in data["runs"] if "failure" in run}
    assert "llama_decode returned -1" in failures["weak", "decode"]
    assert ("weak", "prefill") not in failures
    assert "did not answer in time and was stopped" in failures["slow", "prefill"]
    monkeypatch.setenv("PYTHONPATH", os.devnull)
    status, report, _ = bench.run(*bench.bindings("none", "sound"), "--threads", "1", "--rounds", "1")
    assert status == 1
    assert "ModuleNotFoundError: No module named 'llama_cpp'; install the package for" in report


def test_wrong_use(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    package = ["--package", str(bench.folder / "package.setun")]
    bandwidth = ["--bandwidth", str(bench.folder / "bandwidth")]
    twice = [*bench.llama("a", "sound"), *bench.llama("a", "sound")]
    for words, message in [
        ([*package, *bandwidth, *twice], "two engines are called 'a'"),
        ([*package, *bandwidth, "--peer-args", "b=-fa 1"], "--peer-args names 'b', which is no llama-bench peer"),
        ([*package, "--bandwidth", "/nowhere"], "/nowhere is missing; build it with: scripts/build"),
    ]:
        assert bench.compare.main(words) == 2
        assert message in capsys.readouterr().err
    for words, message in [
        ([*package, "--threads", "1,1"], "expects different numbers from 1 up"),
        ([*package, "--rounds", "0"], "expects a number from 1 up, got 0"),
        ([*package, "--peer-args", "b"], "expects NAME='FLAGS', got 'b'"),
        ([], "required: --package"),
    ]:
        with pytest.raises(SystemExit) as exit_:
            bench.compare.main(words)
        assert exit_.value.code == 2
        assert message in capsys.readouterr().err


def test_bandwidth(compare: ModuleType) -> None:
    def by(text: str) -> float:
        return compare.bandwidth_by([sys.executable, "-c", f"print({text!r})"])(1)

    assert by("12.5") == 12.5
    assert by('{"limits": [{"threads": 1, "dram_read_gb_s": 31.5}]}') == 31.5
    for text in ("", "{}", "none"):
        with pytest.raises(compare.Failure, match="printed no bandwidth"):
            by(text)


def test_table(compare: ModuleType) -> None:
    rows = [["ours", "100 (90.0 to 110)"], ["a peer", "-"]]
    assert compare.table(["engine", "1 thread"], rows) == "\n".join(
        [
            "| engine |          1 thread |",
            "|--------|------------------:|",
            "| ours   | 100 (90.0 to 110) |",
            "| a peer |                 - |",
        ]
    )
