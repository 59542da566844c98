"""Scripts: wrong use is a message and exit status 2 before anything is done; setup does without what is optional."""

from __future__ import annotations

import os
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


def test_setup_does_without_arm_packages(root: Path, tmp_path: Path) -> None:
    """No archive within reach: it says what is skipped and why, succeeds, and does not try again the same day."""
    system = Path("/etc/os-release")
    if not system.exists() or 'VERSION_ID="12"' not in system.read_text():
        pytest.skip("setup installs system packages on Debian 12 only")
    programs = {
        "apt-get": f"echo called >>{tmp_path}/calls; echo no archive here >&2; exit 100",
        "dpkg-query": 'case "${@: -1}" in *aarch64*) exit 1 ;; *) echo -n installed ;; esac',
        "dpkg": "echo amd64",
        "sudo": "exec true",
    }
    for name, body in programs.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{body}\n")
        (tmp_path / name).chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SETUN_CACHE": str(tmp_path / "cache")}
    environment.pop("SETUN_SYSTEM_PACKAGES", None)

    def setup() -> str:
        done = subprocess.run(
            [root / "scripts" / "setup", "--system-only"],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    first = setup()
    assert "arm-packages: could not be had; tests of ARM code are skipped" in first
    assert "emulator: could not be had; tests of SME2 and of newer ARM CPUs are skipped" in first
    calls = (tmp_path / "calls").read_text()
    assert calls
    assert setup().count("could not be had within the last day") == 2
    assert (tmp_path / "calls").read_text() == calls
