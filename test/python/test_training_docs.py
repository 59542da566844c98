"""The programs of docs/training.md run as they stand there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "training.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("program", BLOCKS, ids=range(len(BLOCKS)))
def test_block(program: str) -> None:
    exec(compile(program, str(PAGE), "exec"), {"__name__": "page"})


def test_there_are_programs() -> None:
    assert len(BLOCKS) == 3
