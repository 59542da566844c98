"""Wrong use of the scripts: a message and exit status 2, before anything is installed or built."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["demo", "to", "be"], 2, "usage: scripts/demo [PROMPT]"),
        (["demo", "--help"], 0, "usage: scripts/demo [PROMPT]"),
        (["format", "--fix"], 2, "format: expects --check or nothing, got '--fix'"),
        (["random-checkpoint"], 2, "expects --config NAME and a directory"),
    ],
)
def test_wrong_use(root: Path, words: list[str], status: int, message: str) -> None:
    command = [root / "scripts" / words[0], *words[1:]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (status, "")
    assert message in done.stderr
