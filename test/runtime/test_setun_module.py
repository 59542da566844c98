"""The module setun._setun on the package of the runtime's tests (path in SETUN_TEST_PACKAGE)."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import numpy as np
import pytest

from setun import _setun

PATH = os.environ["SETUN_TEST_PACKAGE"]
FACTORS = np.array([0.5, 1.0, 2.0, 1.0, 0.5], dtype=np.float32)


def expected_logits(tokens: list[int]) -> np.ndarray:
    """Logits [len(tokens), 5] of the package's entry ``forward``."""
    sums = [sum(2.0 * (token % 7 * 3 + j - 10) for j in range(3)) for token in tokens]
    return np.cumsum(sums, dtype=np.float32)[:, None] * FACTORS


@pytest.fixture
def package() -> _setun.Package:
    return _setun.Package(PATH)


def test_inspect(package: _setun.Package) -> None:
    assert [entry["name"] for entry in package.entries] == ["forward", "step", "mlp", "fence"]
    assert package.entries[0]["inputs"] == [{"name": "tokens", "dtype": "i64", "shape": ["T"], "below": 7}]
    assert package.entries[0]["max_context"] == 64
    assert package.targets[0]["name"] == "base" and package.targets[0]["selected"]
    kernel = package.layers[0]["kernels"][0]
    assert (kernel["target"], kernel["kernel"], kernel["format"]) == ("base", "plain", "f32")
    assert (kernel["tokens"], kernel["staged"], kernel["predicted_decode"]) == (2, 16, 2000)
    assert package.provenance["source"] == "line one\nline two"
    assert package.files == {"tokenizer.json": b"{}", "empty.txt": b""}
    assert package.file("tokenizer.json") == b"{}"
    with pytest.raises(LookupError, match="no file 'x'"):
        package.file("x")
    assert json.loads(package.json())["weights_bytes"] == package.weights_bytes == 160
    package.verify()


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_forward_and_step(package: _setun.Package, threads: int) -> None:
    session = _setun.Session(package, threads=threads)
    assert session.threads == threads and session.capacity == 64
    tokens = [3, 1, 6, 2]
    logits = session.run("forward", {"tokens": np.array(tokens)})["logits"]
    assert logits.dtype == np.float32
    np.testing.assert_array_equal(logits, expected_logits(tokens))
    assert session.position == 4
    logits = session.run("step", {"tokens": np.array([5])})["logits"]
    np.testing.assert_array_equal(logits, expected_logits([*tokens, 5])[-1:])
    session.reset()
    assert session.position == 0


def test_sessions_outlive_packages(package: _setun.Package) -> None:
    session = _setun.Session(package)
    del package
    assert session.run("mlp", {"x": np.zeros((2, 8), np.float32)})["y"].shape == (2, 8)


def test_arrays_need_not_be_contiguous(package: _setun.Package) -> None:
    session = _setun.Session(package)
    x = np.arange(48, dtype=np.float32).reshape(8, 6).T[::2]
    expected = 2 * x + np.arange(8, dtype=np.float32) * np.float32(0.25)
    np.testing.assert_array_equal(session.run("mlp", {"x": x})["y"], expected)
    frozen = x.copy()
    frozen.flags.writeable = False
    np.testing.assert_array_equal(session.run("mlp", {"x": frozen})["y"], expected)


def test_errors(package: _setun.Package, tmp_path: Path) -> None:
    session = _setun.Session(package, context=4)
    tokens = np.array([1, 2, 3])
    with pytest.raises(_setun.ArgumentError, match="expects i64, got f32"):
        session.run("forward", {"tokens": tokens.astype(np.float32)})
    with pytest.raises(ValueError, match="expects rank 1"):
        session.run("forward", {"tokens": tokens[None]})
    with pytest.raises(_setun.ArgumentError, match="complex"):
        session.run("forward", {"tokens": tokens.astype(np.complex64)})
    with pytest.raises(_setun.ArgumentError, match="needs the input 'tokens'"):
        session.run("forward", {})
    with pytest.raises(_setun.ArgumentError, match="no input 'more'"):
        session.run("forward", {"tokens": tokens, "more": tokens})
    with pytest.raises(_setun.ArgumentError, match="at least 1, got 0"):
        session.run("forward", {"tokens": tokens[:0]})
    with pytest.raises(_setun.NotFoundError, match="no entry 'nothing'"):
        session.run("nothing", {})
    session.run("step", {"tokens": tokens})
    with pytest.raises(_setun.CapacityError, match="context of 4"):
        session.run("step", {"tokens": tokens})
    assert session.position == 3
    with pytest.raises(_setun.ArgumentError, match="at most 64"):
        _setun.Session(package, context=65)

    for kind in (_setun.Error, OSError):
        with pytest.raises(kind, match="cannot open"):
            _setun.Package(tmp_path / "missing.setun")
    damaged = bytearray(Path(PATH).read_bytes())
    damaged[200] ^= 1
    (tmp_path / "damaged.setun").write_bytes(damaged)
    with pytest.raises(_setun.Error, match="damaged"):
        _setun.Package(tmp_path / "damaged.setun")
    with pytest.raises(_setun.NotFoundError, match="'v9'"):
        _setun.Package(PATH, target="v9")


def test_paths_need_not_be_text(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/model-\xff.setun"
    with pytest.raises(_setun.IoError, match=r"model-\\xff\.setun"):
        _setun.Package(path)
    with open(path, "wb") as file:
        file.write(Path(PATH).read_bytes())
    assert _setun.Package(path).weights_bytes == _setun.Package(os.fsdecode(path)).weights_bytes == 160


def test_run_releases_the_interpreter(package: _setun.Package) -> None:
    session = _setun.Session(package, threads=2)

    def turns(rounds: int) -> int:
        """What this thread counts while another one runs."""
        done = threading.Event()

        def work() -> None:
            session.run("fence", {"rounds": np.array(rounds)})
            done.set()

        thread = threading.Thread(target=work)
        thread.start()
        counted = 0
        while not done.is_set():
            counted += 1
        thread.join()
        return counted

    # A short run may be over before this thread comes to count; on a busy machine one barrier can take milliseconds.
    assert any(turns(200 * 4**attempt) for attempt in range(9))


def test_cpu_features() -> None:
    assert {"sse2", "neon"} & set(_setun.cpu_features())


def test_profile(package: _setun.Package) -> None:
    operations = package.operations("step")
    assert [item["kind"] for item in operations] == ["embed", "total", "head"]
    assert operations[0]["rows"] == "T" and operations[2]["rows"] == 1
    assert operations[0]["row_bytes"] == operations[1]["context_bytes"] == 12 and operations[2]["float_macs"] == 5
    assert package.operations("fence") == []
    with pytest.raises(LookupError, match="no entry 'x'"):
        package.operations("x")
    session = _setun.Session(package, threads=2)
    session.profile(True)
    session.run("step", {"tokens": np.array([1, 2])})
    session.run("step", {"tokens": np.array([3])})
    times = session.times("step")
    assert times["runs"] == 2 and times["seconds"] > 0
    assert [[count for count, _ in threads] for threads in times["operations"]] == [[2, 2]] * 3
    for thread in range(2):
        assert sum(threads[thread][1] for threads in times["operations"]) <= times["seconds"]
    assert session.times("forward")["runs"] == 0
    with pytest.raises(LookupError, match="no entry 'x'"):
        session.times("x")
