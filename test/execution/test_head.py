"""The choice of the largest logits: always that of all exact logits, on every code section and on 1, 2 and 3 threads,
and within the bounds that it rests on.
"""

from __future__ import annotations

import numpy as np
import pytest

from compiled import Arrays, Compiled, Source, differences

LONGEST = 64
RNG = np.random.default_rng(1729)


def bf16(values: np.ndarray) -> np.ndarray:
    """Patterns, rounded to nearest even; NaN stays one."""
    bits = np.asarray(values, np.float32).view(np.uint32)
    rounded = ((bits.astype(np.uint64) + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return np.where(np.isnan(values), np.uint16(0x7FC0), rounded)


def floats(patterns: np.ndarray) -> np.ndarray:
    """What stored weights are: bf16 patterns, f16 or f32 as float32."""
    if patterns.dtype == np.uint16:
        return (patterns.astype(np.uint32) << 16).view(np.float32)
    return patterns.astype(np.float32)


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def step_apart(n: int, k: int) -> np.ndarray:
    """Rows that differ from one another by one unit in the last place of single bf16 elements."""
    rows = np.tile(bf16(np.abs(normal(1, k)) + 0.5), (n, 1))
    rows[np.arange(1, n), RNG.integers(0, k, n - 1)] += RNG.choice([1, 0xFFFF], n - 1).astype(np.uint16)
    return rows


def aligned(n: int, k: int, signs: np.ndarray) -> np.ndarray:
    """Rows whose residual points where `signs` do: each element lies nearly half a step off, and each group of 16
    has an element at the end of the range, which fixes the step."""
    codes = RNG.integers(-6, 7, (n, k)).astype(np.float32) + np.float32(0.49) * signs
    codes[:, ::16] = 8.0 * RNG.choice([1, -1], codes[:, ::16].shape)
    codes[:, 0] = 8.0
    return codes.astype(np.float32)


def mixed(n: int, k: int) -> np.ndarray:
    """Rows of zeros, of denormals, tiny and huge ones, and outliers within a row."""
    rows = normal(n, k)
    for row, factor in zip(range(0, n, 3), (0.0, 1e-42, 1e-30, 1e-12, 1e6, 1e19, 1e30) * n, strict=False):
        rows[row] *= np.float32(factor)
    rows[1::5, :: max(1, k // 3)] *= 1000
    return rows


SIGNS = RNG.choice([1.0, -1.0], 96).astype(np.float32)
MATRICES: dict[str, tuple[np.ndarray, str]] = {
    "random": (bf16(normal(700, 288)), "bf16"),
    "half": (normal(70, 50).astype(np.float16), "f16"),
    "single": (normal(65, 37), "f32"),
    "one": (bf16(normal(1, 1)), "bf16"),
    "few": (bf16(normal(5, 3)), "bf16"),
    "narrow": (bf16(normal(33, 2)), "bf16"),
    # Fine codes in several blocks: three, in stages of which some are empty, and five.
    "wide": (bf16(normal(150, 1300)), "bf16"),
    "wider": (bf16(normal(40, 2307)), "bf16"),
    # So much alike that most rows of a block are in question, and not all of the next one.
    "crowded": (bf16(normal(1, 1100) + np.repeat([[0.52], [0.7]], (2048, 301), axis=0) * normal(2349, 1100)), "bf16"),
    "ties": (bf16(normal(3, 40)[RNG.integers(0, 3, 250)]), "bf16"),
    "close": (step_apart(300, 66), "bf16"),
    "aligned": (aligned(160, 96, SIGNS), "f32"),
    "mixed": (mixed(130, 70), "f32"),
    "broken": (np.where(RNG.random((90, 40)) < 0.005, np.float32("nan"), normal(90, 40)), "f32"),
    # So many panels that candidates come one from each.
    "panels": (bf16(normal(8300, 20)), "bf16"),
    "sorted": (bf16(np.sort(normal(8300, 1), axis=0) + 0.01 * normal(8300, 18)), "bf16"),
}


def vectors(k: int) -> list[np.ndarray]:
    found = [normal(1, k) for _ in range(4)]
    found += [np.ones((1, k), np.float32), np.resize(SIGNS, (1, k)).astype(np.float32), np.zeros((1, k), np.float32)]
    found += [np.float32(factor) * normal(1, k) for factor in (1e-42, 1e-38, 1e-31, 1e-20, 1e18, 1e28, 1e37)]
    found += [np.round(normal(1, k)), normal(1, k) * np.float32(10.0) ** RNG.integers(-8, 8, (1, k))]
    for bad in ("inf", "-inf", "nan"):
        x = normal(1, k)
        x[0, k // 2] = np.float32(bad)
        found.append(x)
    return [x.astype(np.float32) for x in found]


SOURCE = Source()
for _name, (_weights, _element) in MATRICES.items():
    _n, _k = _weights.shape
    _w = SOURCE.weight(_name, _weights, _element)
    _types = f"tensor<1x{_k}xf32>, tensor<{_n}x{_k}x{_element}>"
    _groups, _panels, _blocks = (_k + 15) // 16, (_n + 31) // 32, (_k + 511) // 512
    SOURCE.entry(
        f"choose_{_name}",
        {"x": f"1x{_k}xf32", "k": "1xi64"},
        {"ids": f"{LONGEST}xi64", "logits": f"{LONGEST}xf32"},
        f"{_w}%ids, %logits = bitnet.top_k %x, %{_name}, %k : ({_types}, tensor<1xi64>)"
        f" -> (tensor<{LONGEST}xi64>, tensor<{LONGEST}xf32>)\n",
    )
    SOURCE.entry(
        f"all_{_name}",
        {"x": f"1x{_k}xf32"},
        {"y": f"1x{_n}xf32"},
        f"{_w}%y = bitnet.dense %x, %{_name} : ({_types}) -> tensor<1x{_n}xf32>\n",
    )
    # The stages by themselves.
    _sizes = {
        "q": f"{512 * _blocks}xi8",
        "sums": f"{_groups + 1}xi32",
        "params": "4xf32",
        "approx": f"1x{32 * _panels}xf32",
        "upper": f"1x{32 * _panels}xf32",
        "maxima": f"{_panels}xf32",
        "candidates": f"{LONGEST}xf32",
        "exact": f"1x{32 * _panels}xf32",
        "largest": f"{_panels}xf32",
    }
    _planes = {
        "codes": f"{_panels * _groups * 256}xi8",
        "scales": f"{_panels * _groups * 16}xi8",
        "rows": f"{_panels}x3x32xf32",
        "fine": f"2x{_n}x{64 * _blocks}xi8",
        "finerows": f"{_n}x8xf32",
    }
    _t = {key: f"tensor<{size}>" for key, size in (_sizes | _planes).items()}
    _body = _w + "".join(f"%{key}0 = tensor.empty() : {_t[key]}\n" for key in _sizes)
    _body += f"""%codes, %scales, %rows, %fine, %finerows = ternary.pack_head %{_name} : tensor<{_n}x{_k}x{_element}>
  -> {_t["codes"]}, {_t["scales"]}, {_t["rows"]}, {_t["fine"]}, {_t["finerows"]}
%q, %sums, %params = ternary.head_quantize %x outs(%q0, %sums0, %params0)
  : (tensor<1x{_k}xf32>, {_t["q"]}, {_t["sums"]}, {_t["params"]}) -> ({_t["q"]}, {_t["sums"]}, {_t["params"]})
%approx, %upper, %maxima = ternary.head_scan %q, %sums, %params, %codes, %scales, %rows
  outs(%approx0, %upper0, %maxima0) {{rows = {_n}, cols = {_k}}}
  : ({_t["q"]}, {_t["sums"]}, {_t["params"]}, {_t["codes"]}, {_t["scales"]}, {_t["rows"]}, {_t["approx"]},
     {_t["upper"]}, {_t["maxima"]}) -> ({_t["approx"]}, {_t["upper"]}, {_t["maxima"]})
%candidates = ternary.head_candidates %x, %{_name}, %approx, %maxima, %k outs(%candidates0)
  : ({_types}, {_t["approx"]}, {_t["maxima"]}, tensor<1xi64>, {_t["candidates"]}) -> {_t["candidates"]}
%exact, %largest = ternary.head_rescore %x, %{_name}, %q, %sums, %params, %approx, %upper, %candidates, %k, %fine,
  %finerows outs(%exact0, %largest0)
  : ({_types}, {_t["q"]}, {_t["sums"]}, {_t["params"]}, {_t["approx"]}, {_t["upper"]}, {_t["candidates"]},
     tensor<1xi64>, {_t["fine"]}, {_t["finerows"]}, {_t["exact"]}, {_t["largest"]}) -> ({_t["exact"]}, {_t["largest"]})
"""
    # Of the candidates, only so many as are asked for are written.
    _outputs = {key: size for key, size in (_sizes | _planes).items() if key != "candidates"}
    SOURCE.entry(f"stages_{_name}", {"x": f"1x{_k}xf32", "k": "1xi64"}, _outputs, _body)


@pytest.fixture(scope="module", params=["certified", "exact"])
def package(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    head = request.param
    only = [name for name in SOURCE.entries if head == "certified" or not name.startswith("stages_")]
    return SOURCE.compiled(tmp_path_factory.mktemp(head), "x86-64", f"--head={head}", only=only)


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    return SOURCE.compiled(tmp_path_factory.mktemp("stages"), "x86-64")


def best_of(y: np.ndarray, k: int) -> Arrays:
    """The choice from all logits."""
    y = np.where(np.isnan(y), np.float32("-inf"), y)
    order = np.argsort(-y, kind="stable")[:k]
    ids, logits = np.full(LONGEST, -1), np.full(LONGEST, np.float32("-inf"))
    ids[: len(order)], logits[: len(order)] = order, y[order]
    return {"ids": ids, "logits": logits}


@pytest.mark.parametrize("name", MATRICES)
def test_choice_is_that_of_all_logits(package: Compiled, name: str) -> None:
    targets = [target for target, runs in package.targets().items() if runs]
    for i, x in enumerate(vectors(MATRICES[name][0].shape[1])):
        y = package.session(targets[-1]).run(f"all_{name}", {"x": x})["y"][0]
        for k in (1, 7, LONGEST):
            want = best_of(y, k)
            for j, target in enumerate(targets):
                session = package.session(target, threads=1 + (i + j) % 3)
                found = session.run(f"choose_{name}", {"x": x, "k": np.array([k])})
                assert not differences(want, found), (target, i, k)


@pytest.mark.parametrize("name", ["few", "ties", "mixed", "broken"])
def test_choice_of_the_interpreter(package: Compiled, name: str) -> None:
    x = normal(1, MATRICES[name][0].shape[1])
    y = package.session().run(f"all_{name}", {"x": x})["y"][0]
    for k in (0, 3, LONGEST):
        inputs = {"x": x, "k": np.array([k])}
        assert not differences(best_of(y, k), package.interpret(f"choose_{name}", inputs))
        assert not differences(best_of(y, k), package.session().run(f"choose_{name}", inputs))


def test_numbers_that_the_runtime_refuses(package: Compiled) -> None:
    x = normal(1, 3)
    for k in (-1, LONGEST + 1):
        with pytest.raises(Exception, match="k"):
            package.session().run("choose_few", {"x": x, "k": np.array([k])})


@pytest.mark.parametrize("name", MATRICES)
def test_stages_are_those_of_the_interpreter(certified: Compiled, name: str) -> None:
    everything = vectors(MATRICES[name][0].shape[1])
    for x in (everything[0], everything[5], everything[9], everything[-1]):
        inputs = {"x": x, "k": np.array([3])}
        want = certified.interpret(f"stages_{name}", inputs)
        for target, runs in certified.targets().items():
            for threads in (1, 2, 3) if runs else ():
                session = certified.session(target, threads=threads)
                session.run(f"stages_{name}", inputs | {"x": 1 - x})  # leaves nothing behind
                found = session.run(f"stages_{name}", inputs)
                assert not differences(want, found), (target, threads)


def fine_codes(found: Arrays) -> tuple[np.ndarray, np.ndarray]:
    """The first bits of each row, and its codes of both."""
    n = found["fine"].shape[1]
    planes = found["fine"].view(np.uint8).reshape(2, n, -1, 64)  # byte j of a block: columns j, 64 + j, ...
    first, second = np.stack([planes >> f & 1 for f in range(8)], axis=3).reshape(2, n, -1).astype(np.int64)
    return first, 2 * first + second


def in_stages(k: int) -> np.ndarray:
    """Which columns of K each of the five stages has."""
    blocks = -(-k // 512)
    return np.arange(k) < 512 * -(-blocks * np.arange(1, 6)[:, None] // 5)


def bounds(name: str, x: np.ndarray, found: Arrays) -> tuple[np.ndarray, ...]:
    """How much of its bound the error of each row takes: in the coarse plane, with the first bits of each stage, with
    both bits of all columns."""
    w = floats(MATRICES[name][0])
    n = len(w)
    truth = w.astype(np.float64) @ x[0].astype(np.float64)
    a, alpha, beta, eta = found["params"].astype(np.float64)
    approx = found["approx"][0, :n].astype(np.float64)
    k = w.shape[1]
    q, (first, both) = found["q"][:k].astype(np.int64), (codes[:, :k] for codes in fine_codes(found))
    rows = found["finerows"].astype(np.float64)
    sums = [2 * ((2 * first - 1) * columns) @ q for columns in in_stages(k)] + [(2 * both - 3) @ q]
    coarse = found["upper"][0, :n].astype(np.float64) - approx
    used = [np.abs(truth - approx) / coarse]
    with np.errstate(invalid="ignore"):
        for what, more in enumerate(sums, start=1):
            better = approx + more * rows[:, 0] * a
            used.append(np.abs(truth - better) / (alpha * rows[:, what] + (beta * rows[:, 7] + eta)))
    return tuple(used)


@pytest.mark.parametrize("name", [name for name in MATRICES if name != "broken"])
def test_no_error_exceeds_its_bound(certified: Compiled, name: str) -> None:
    for x in vectors(MATRICES[name][0].shape[1]):
        if not np.isfinite(x).all() or np.abs(x).max() > 1e29:
            continue
        found = certified.session().run(f"stages_{name}", {"x": x, "k": np.array([1])})
        y = certified.session().run(f"all_{name}", {"x": x})["y"][0]
        for used in bounds(name, x, found):
            assert np.nanmax(used, initial=0.0) <= 1
        # The exact logit in its own order of roundings, too.
        assert not (found["upper"][0, : len(y)] < y).any()


def residuals(name: str, found: Arrays) -> tuple[np.ndarray, ...]:
    """What is left of each row by the coarse plane, with the first bits of each stage, and with both of all columns."""
    w = floats(MATRICES[name][0]).astype(np.float64)
    n, k = w.shape
    groups = (k + 15) // 16
    # [panel][group][step][lane][kk] of bytes, a row in each half of them.
    codes = found["codes"].view(np.uint8).reshape(-1, groups, 4, 16, 4)
    codes = np.stack([codes & 15, codes >> 4], axis=1).astype(np.int64) - 8
    codes = codes.transpose(0, 1, 4, 2, 3, 5).reshape(-1, groups, 16)[:n]
    scales = found["scales"].view(np.uint8).reshape(-1, groups, 16)
    scales = np.stack([scales & 15, scales >> 4], axis=1).astype(np.int64)
    scales = np.where(scales < 8, scales, scales - 16).transpose(0, 1, 3, 2).reshape(-1, groups)[:n]
    steps = found["rows"][:, 0].reshape(-1)[:n].astype(np.float64)
    coarse = w - steps[:, None] * (codes * scales[:, :, None]).reshape(n, -1)[:, :k]
    first, both = (codes[:, :k] for codes in fine_codes(found))
    delta = found["finerows"][:, :1].astype(np.float64)
    stages = (coarse - delta * (4 * first - 2) * columns for columns in in_stages(k))
    return coarse, *stages, coarse - delta * (2 * both - 3)


@pytest.mark.parametrize("name", ["random", "half", "single", "mixed", "wide", "wider"])
def test_planes_describe_themselves(certified: Compiled, name: str) -> None:
    n, k = MATRICES[name][0].shape
    found = certified.session().run(f"stages_{name}", {"x": normal(1, k), "k": np.array([1])})
    coarse_bound, fine_bounds = found["rows"][:, 1].reshape(-1)[:n], found["finerows"][:, 1:7].T
    for rest, bound in zip(residuals(name, found), (coarse_bound, *fine_bounds), strict=True):
        norm = np.linalg.norm(rest, axis=1)
        assert (norm <= bound).all()
        assert (bound[np.isfinite(bound)] <= norm[np.isfinite(bound)] * 1.00001 + 1e-30).all()


@pytest.mark.parametrize("name", ["random", "wide"])
def test_bounds_are_nearly_attained(certified: Compiled, name: str) -> None:
    # A vector that points where a row's residual does. Bounds half as large would not hold, so errors in them show.
    n, k = MATRICES[name][0].shape
    found = certified.session().run(f"stages_{name}", {"x": normal(1, k), "k": np.array([1])})
    rests = residuals(name, found)
    worst = [0.0] * len(rests)
    for row in range(0, n, n // 10):
        for i, rest in enumerate(rests):
            x = rest[row : row + 1].astype(np.float32)
            found = certified.session().run(f"stages_{name}", {"x": x, "k": np.array([1])})
            used = bounds(name, x, found)[i]
            assert used.max() <= 1
            worst[i] = max(worst[i], used[row])
    assert worst[0] > 0.8
    assert min(worst[1:-1]) > 0.7
    assert worst[-1] > 0.6


def test_choice_against_aligned_residuals(package: Compiled) -> None:
    # The row whose residual the vector follows is underestimated by as much as it can be.
    name, element = "random", MATRICES["random"]
    rows = floats(element[0])
    for row in (3, 350, 699):
        for sign in (1, -1):
            step = np.abs(rows[row]).max() / 64
            x = (sign * (rows[row] - step * np.round(rows[row] / step)))[None].astype(np.float32)
            y = package.session().run(f"all_{name}", {"x": x})["y"][0]
            for k in (1, 7):
                found = package.session(threads=2).run(f"choose_{name}", {"x": x, "k": np.array([k])})
                assert not differences(best_of(y, k), found)


def test_few_rows_are_scored(certified: Compiled) -> None:
    x = normal(1, 288)
    found = certified.session().run("stages_random", {"x": x, "k": np.array([1])})
    assert np.isfinite(found["exact"]).sum() < 40
    # What nothing is known about has to be scored exactly.
    x[0, 3] = np.inf
    found = certified.session().run("stages_random", {"x": x, "k": np.array([1])})
    assert np.isposinf(found["upper"][0, :700]).all()


def test_a_crowded_block_is_asked_at_once(certified: Compiled) -> None:
    # What the matrix is there for: most rows of a whole block are in question, and not all of them are scored.
    for seed in range(4):
        x = np.random.default_rng(seed).normal(size=(1, 1100)).astype(np.float32)
        found = certified.session().run("stages_crowded", {"x": x, "k": np.array([1])})
        in_question = found["upper"][0, :2349] >= found["exact"].max()
        assert in_question[:2048].sum() > 1024
        assert 0 < np.isfinite(found["exact"]).sum() < 1024


@pytest.fixture(scope="module")
def int8(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    only = [f"{kind}_{name}" for name in INT8 for kind in ("choose", "all")]
    return SOURCE.compiled(tmp_path_factory.mktemp("int8"), "x86-64", "--head=int8", only=only)


INT8 = ("random", "half", "single", "one", "few", "narrow", "ties", "mixed")


@pytest.mark.parametrize("name", INT8)
def test_head_of_eight_bits(int8: Compiled, name: str) -> None:
    """The interpreter's bits on every code section and number of threads, and close to the head in full precision."""
    weights = floats(MATRICES[name][0])
    everything = vectors(weights.shape[1])
    for x in (everything[0], everything[5], everything[9]):
        inputs = {"x": x, "k": np.array([7])}
        want = int8.interpret(f"all_{name}", {"x": x}, pipeline="quantize-head-pipeline")
        choice = int8.interpret(f"choose_{name}", inputs, pipeline="quantize-head-pipeline")
        assert not differences(best_of(want["y"][0], 7), choice)
        for target, runs in int8.targets().items():
            for threads in (1, 2, 3) if runs else ():
                session = int8.session(target, threads=threads)
                assert not differences(want, session.run(f"all_{name}", {"x": x})), (target, threads)
                assert not differences(choice, session.run(f"choose_{name}", inputs)), (target, threads)
    # Half a step of each factor, for each product.
    x, want = everything[0], int8.session().run(f"all_{name}", {"x": everything[0]})["y"][0]
    w, size = weights.astype(np.float64), np.abs(x[0]).max() / 127
    steps = np.abs(w).max(axis=1) / 127
    error = (np.abs(w) * size / 2 + steps[:, None] * (np.abs(x) + size) / 2).sum(axis=1)
    assert (np.abs(want - w @ x[0]) <= error * 1.001 + 1e-30).all()
