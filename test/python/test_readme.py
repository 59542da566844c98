"""The commands and programs of README.md, run as they stand there, from a folder that looks like the repository; and
the files that other README.md name."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from setun import compiler
from setun.diagnostics import SetunError

pytest.importorskip("setun._setun", reason="the runtime module is not built")
try:
    compiler.find_tool("setun-compile")
except SetunError:
    pytest.skip("the compiler is not built", allow_module_level=True)

README = Path(__file__).resolve().parents[2] / "README.md"
BLOCKS = re.findall(r"^```(sh|python)\n(.*?)^```$", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Path:
    """The repository by links, with a `build` of its own, which holds the tools: what commands write stays here."""
    made = tmp_path_factory.mktemp("readme")
    for item in root.iterdir():
        if item.name != "build":
            (made / item.name).symlink_to(item)
    (made / "build").mkdir()
    (made / "build" / "bin").symlink_to(root / "build" / "bin")
    return made


FOLDERS = [
    "examples/digits",
    "examples/shakespeare",
    "examples/text",
    "lib",
    "lib/Reference",
    "python/setun",
    "runtime",
    "test",
]


@pytest.mark.parametrize("name", FOLDERS)
def test_tables_of_files_are_right(root: Path, name: str) -> None:
    """What the first column of a folder's README.md names is there; `Name` without an ending stands for `Name.*`."""
    text = (root / name / "README.md").read_text(encoding="utf-8")
    names = [part for row in re.findall(r"^\| (`.*?) \|", text, re.MULTILINE) for part in re.findall(r"`(.*?)`", row)]
    assert names
    assert [part for part in names if not any((root / name).glob(f"{part.rstrip('/')}*"))] == []


def test_there_are_commands() -> None:
    assert [kind for kind, _ in BLOCKS].count("sh") >= 2
    assert "python" in [kind for kind, _ in BLOCKS]


@pytest.mark.parametrize(("kind", "text"), BLOCKS, ids=[f"{kind}-{i}" for i, (kind, _) in enumerate(BLOCKS)])
def test_block(folder: Path, kind: str, text: str) -> None:
    """Every command of a block succeeds; variables hold to the end of the block."""
    command = ["bash", "-euxo", "pipefail", "-c", text] if kind == "sh" else [".venv/bin/python", "-c", text]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert "Traceback" not in done.stderr
