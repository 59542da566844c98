"""Packages with code for x86-64 and ARM: the same bits and the same text on every CPU.

The bundled trained model, compiled once, runs on the host and on emulated CPUs, by the section that each CPU takes by
itself and by others that it can run.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from compiled import BIN, ROOT
from emulator import Machine, emulated_cpus
from setun import compiler
from setun.session import Package
from setun.text import Text

LEVELS = ("aarch64", "aarch64-dotprod", "aarch64-i8mm", "aarch64-sve2", "aarch64-sme2")
PROMPT = "ROMEO:\nBut soft, what light through yonder window breaks?"  # many enough tokens for matrix tiles
TOKENS = 24


@dataclass(frozen=True)
class Run:
    """A CPU of the emulator, the section that it is told to use (None: the runtime's choice), and what that must be."""

    cpu: str
    target: str | None
    takes: str
    threads: int = 1

    def __str__(self) -> str:
        return f"{self.cpu}-{self.takes}"


def scalable(bits: int) -> str:
    """The emulator's largest CPU with vectors of so many bits, streaming or not."""
    return f"max,sve-default-vector-length={bits // 8},sme-default-vector-length={bits // 8}"


RUNS = (
    Run("cortex-a53", None, "aarch64"),
    Run("cortex-a76", None, "aarch64-dotprod", threads=2),
    Run("neoverse-v1", None, "aarch64-i8mm"),
    Run("max", "aarch64", "aarch64"),
    Run(scalable(128), "aarch64-sve2", "aarch64-sve2"),
    Run(scalable(256), "aarch64-sve2", "aarch64-sve2", threads=2),
    Run(scalable(512), "aarch64-sve2", "aarch64-sve2"),
    Run(scalable(128), "aarch64-sme2", "aarch64-sme2"),
    Run(scalable(512), "aarch64-sme2", "aarch64-sme2"),
)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not (BIN / "setun-compile").exists():
        pytest.skip(f"the compiler is not built: no {BIN / 'setun-compile'}")
    path = tmp_path_factory.mktemp("shakespeare") / "shakespeare.setun"
    targets = ",".join(["x86-64-v2", *LEVELS])
    compiler.compile_checkpoint(ROOT / "examples" / "shakespeare" / "model", path, target=targets)
    return path


def generate(session, prompt: np.ndarray) -> tuple[list[int], list[np.ndarray]]:
    """The likeliest tokens after the prompt, and the logits of the prompt and of every step."""
    logits = [session.run("forward", {"tokens": prompt})["logits"]]
    tokens = [int(logits[-1][-1].argmax())]
    while len(tokens) < TOKENS:
        logits.append(session.run("step", {"tokens": np.array([tokens[-1]])})["logits"])
        tokens.append(int(logits[-1][-1].argmax()))
    return tokens, logits


@pytest.fixture(scope="module")
def expected(package: Path) -> tuple[np.ndarray, list[int], list[np.ndarray]]:
    """Prompt, tokens and logits on this machine."""
    from setun import _setun

    prompt = np.array(Text(Package(package).files()).encode(PROMPT))
    return prompt, *generate(_setun.Session(_setun.Package(str(package)), threads=1), prompt)


def machine_for(machine, run: Run) -> Machine:
    """The machine of a run; skips the test where the emulator is too old for it."""
    if run.cpu.split(",")[0] not in emulated_cpus():
        pytest.skip(f"this emulator has no {run.cpu}; scripts/setup gets a newer one where it can")
    started = machine(run.cpu)
    if run.takes == "aarch64-sme2" and "sme2" not in started.features():
        pytest.skip("this emulator has no SME2 (QEMU 10.1 or newer has); scripts/setup gets one where it can")
    return started


@pytest.mark.parametrize("run", RUNS, ids=str)
def test_logits_and_text_are_those_of_the_host(machine, package: Path, expected, run: Run):
    prompt, tokens, logits = expected
    session = machine_for(machine, run).session(package, run.target, run.threads)
    assert session.target == run.takes
    found_tokens, found_logits = generate(session, prompt)
    for step, (want, got) in enumerate(zip(logits, found_logits, strict=True)):
        np.testing.assert_array_equal(got.view(np.uint32), want.view(np.uint32), f"logits after {step} steps")
    assert found_tokens == tokens


@pytest.mark.parametrize("run", RUNS[:2], ids=str)
def test_choices_are_those_of_the_host(machine, package: Path, expected, run: Run):
    """The certified choice of the likeliest tokens, which scans the head's int4 codes."""
    from setun import _setun

    prompt = expected[0]
    inputs = {"tokens": prompt, "k": np.array([5])}
    want = _setun.Session(_setun.Package(str(package)), threads=1).run("choose", inputs)
    got = machine_for(machine, run).session(package).run("choose", inputs)
    for name in ("ids", "logits"):
        np.testing.assert_array_equal(got[name][:5], want[name][:5])


def test_the_text_is_text(package: Path, expected):
    """What is compared is a sentence of the model and not a constant."""
    text = Text(Package(package).files()).decode(expected[1])
    assert len(set(expected[1])) >= TOKENS // 3, text
    assert any(letter.isalpha() for letter in text)


def test_sections_of_both_architectures(package: Path):
    """The host takes its own section and lists the others."""
    targets = {target["name"]: target for target in Package(package).description["targets"]}
    assert set(targets) == {"x86-64-v2", *LEVELS}
    assert targets["x86-64-v2"]["selected"]
    assert not any(targets[name]["runnable"] for name in LEVELS)
