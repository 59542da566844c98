"""Finds the harness and the runtime's Python module; without a built compiler there is nothing to run."""

import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "execution"), str(HERE.parents[1] / "python")]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    from compiled import BIN

    if not (BIN / "setun-compile").exists():
        for item in items:
            if HERE in item.path.parents:
                item.add_marker(pytest.mark.skip(reason=f"the compiler is not built: no {BIN / 'setun-compile'}"))
