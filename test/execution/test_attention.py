"""Attention over its cache: compiled code gives the interpreter's bits for every kind of head, cache and session.

On each code section and number of threads; and a token's results do not depend on how the tokens before it came in.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from compiled import TARGETS, Arrays, Compiled, Source, differences

# Runs of a session: blocks of 16 and 64 rows and ranges of 256 begin and end within a run, at its ends and beyond them.
SHORT = (1, 15, 1, 16, 2, 33, 17, 1)
OTHER = (16, 1, 83, 1, 33)
LONG = (250, 1, 6, 1, 40, 1)
CAPACITY = sum(LONG) + 1  # no multiple of 16


@dataclass(frozen=True)
class Case:
    heads: int
    kv_heads: int
    size: int
    element: str = "f16"
    causal: bool = True
    cached: bool = True
    runs: tuple[int, ...] = SHORT

    @property
    def name(self) -> str:
        flags = ("" if self.causal else "_all") + ("" if self.cached else "_uncached")
        return f"attention_{self.heads}_{self.kv_heads}_{self.size}_{self.element}_{len(self.runs)}{flags}"


CASES = (
    Case(1, 1, 1),
    Case(4, 1, 24),
    Case(5, 1, 64),
    Case(10, 2, 80, runs=OTHER),
    Case(3, 3, 96),
    Case(20, 5, 128),
    Case(8, 2, 128, "f32", runs=LONG),
    Case(9, 1, 256, runs=OTHER),
    Case(17, 1, 40),
    Case(6, 3, 100, "f32"),
    Case(4, 1, 33, causal=False),
    Case(5, 5, 48, "f32", causal=False, runs=OTHER),
    Case(8, 2, 16, runs=LONG),
    Case(4, 2, 24, "f32", causal=False, cached=False, runs=(33, 1, 16)),
    Case(4, 4, 80, "f32", cached=False, runs=(300, 17)),
)


def source() -> Source:
    made = Source()
    for case in CASES:
        q = f"tensor<?x{case.heads}x{case.size}xf32>"
        rows = f"tensor<?x{case.kv_heads}x{case.size}xf32>"
        cache = f"{case.kv_heads}x{case.size}x{case.element}"
        attributes = f"{{{'causal, ' if case.causal else ''}scale = 0.125 : f32}}"
        inputs = {"q": f"Tx{case.heads}x{case.size}xf32"}
        inputs |= dict.fromkeys(("keys", "values"), f"Tx{case.kv_heads}x{case.size}xf32")
        outputs = {"o": f"Tx{case.heads}x{case.size}xf32"}
        if case.cached:
            body = "".join(
                f"%{letter}_new = bitnet.cache_update %{letter}, %{rows_name}, %pos : tensor<?x{cache}>, {rows}\n"
                for letter, rows_name in (("k", "keys"), ("v", "values"))
            )
            kv = f"tensor<?x{cache}>"
            body += f"%o = bitnet.attention %q, %k_new, %v_new, %pos {attributes} : {q}, {kv}, {kv}\n"
            inputs["pos"] = "i64"
            inputs |= {f"@{case.name}.{letter}={letter}": f"Cx{cache}" for letter in "kv"}
            outputs |= {f"@{case.name}.{letter}={letter}_new": f"Cx{cache}" for letter in "kv"}
        else:
            body = "%pos = arith.constant 0 : i64\n"
            body += f"%o = bitnet.attention %q, %keys, %values, %pos {attributes} : {q}, {rows}, {rows}\n"
        made.entry(case.name, inputs, outputs, body, f", bitnet.max_context = {CAPACITY} : i64")
    return made


def inputs_of(case: Case) -> list[Arrays]:
    """One object for each run: usual numbers, some large, so that weights of all sizes occur; keys beyond f16."""
    rng = np.random.default_rng([case.heads, case.kv_heads, case.size, *case.runs])

    def rows(t: int, heads: int) -> np.ndarray:
        x = rng.normal(size=(t, heads, case.size)).astype(np.float32)
        x *= rng.choice(np.array([0.0, 1e-6, 1.0, 4.0], np.float32), (t, 1, 1))
        return x

    result = []
    for t in case.runs:
        run = {"q": rows(t, case.heads), "keys": rows(t, case.kv_heads), "values": rows(t, case.kv_heads)}
        run["values"].flat[0] = 1e6
        run["keys"].flat[-1] = -3e-8
        result.append(run)
    return result


INPUTS = {case.name: inputs_of(case) for case in CASES}


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    return source().compiled(tmp_path_factory.mktemp("attention"), "x86-64", "--no-self-test")


@pytest.fixture(scope="module")
def reference(compiled: Compiled) -> dict[str, list[np.ndarray]]:
    """What the interpreter says of each run."""
    results = {}
    for case in CASES:
        dtype = np.float16 if case.element == "f16" else np.float32
        names = [f"{case.name}.{letter}" for letter in "kv"] if case.cached else []
        states = {name: np.zeros((CAPACITY, case.kv_heads, case.size), dtype) for name in names}
        position, results[case.name] = 0, []
        for run in INPUTS[case.name]:
            result = compiled.interpret(case.name, run, states, position, CAPACITY)
            states = {name: result[name] for name in names}
            results[case.name].append(result["o"])
            position += len(run["q"])
    return results


@pytest.mark.parametrize("target", TARGETS)
def test_bits_of_the_interpreter(compiled: Compiled, reference: dict, target: str):
    if not compiled.targets()[target]:
        pytest.skip(f"this CPU cannot run {target}")
    wrong = []
    for threads in (1, 2, 3, 5):
        session = compiled.session(target, threads, CAPACITY)
        for case in CASES:
            session.reset()
            for number, (run, want) in enumerate(zip(INPUTS[case.name], reference[case.name], strict=True)):
                found = differences({"o": want}, session.run(case.name, run))
                wrong += [f"{case.name}, {threads} threads, run {number}: {text}" for text in found]
    assert not wrong, f"{len(wrong)} results are not the interpreter's:\n" + "\n".join(wrong[:20])


def test_a_token_does_not_depend_on_how_it_came(compiled: Compiled):
    """All tokens at once, in the runs, and one by one: the same bits."""
    session = compiled.session(threads=2, context=CAPACITY)
    for case in CASES:
        if not (case.causal and case.cached):
            continue
        together = {key: np.concatenate([run[key] for run in INPUTS[case.name]]) for key in INPUTS[case.name][0]}
        session.reset()
        want = session.run(case.name, together)["o"]
        pieces = INPUTS[case.name], [{k: x[t : t + 1] for k, x in together.items()} for t in range(len(want))]
        for parts in pieces:
            session.reset()
            got = np.concatenate([session.run(case.name, part)["o"] for part in parts])
            assert not differences({"o": want}, {"o": got}), f"{case.name} in {len(parts)} runs"


def test_the_formula(compiled: Compiled):
    """Against a softmax in double precision over what the cache holds."""
    session = compiled.session(context=CAPACITY)
    for case in CASES:
        if not case.cached:
            continue
        session.reset()
        k, v = (np.zeros((0, case.kv_heads, case.size)) for _ in "kv")
        for run in INPUTS[case.name]:
            got = session.run(case.name, run)["o"]
            new = [run[name] for name in ("keys", "values")]
            if case.element == "f16":
                new = [np.clip(x, -65504, 65504).astype(np.float16) for x in new]
            first = len(k)
            k, v = (np.concatenate([old, x.astype(np.float64)]) for old, x in zip((k, v), new, strict=True))
            for t, h in np.ndindex(got.shape[:2]):
                length = first + t + 1 if case.causal else len(k)
                kv = h // (case.heads // case.kv_heads)
                s = k[:length, kv] @ (run["q"][t, h].astype(np.float64) * 0.125)
                p = np.exp(s - s.max())
                want = p @ v[:length, kv] / p.sum()
                scale = p @ np.abs(v[:length, kv]) / p.sum()
                assert (np.abs(got[t, h] - want) <= 1e-4 * scale + 1e-30).all(), (case.name, first + t, h)
